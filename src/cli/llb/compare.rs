//! `llb --compare`: two graphs of the same Dockerfile, and where they part.

use crate::{
    cli::failure::uncompiled,
    compile::Compiled,
    diagnostic::{Diagnostic, Exit, Format, Printer},
    llb::print,
    pipeline::imagined::Compared,
};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// The first thing that is not the same on both sides.
#[derive(Debug, PartialEq)]
struct Difference {
    /// The platform.
    platform: String,
    /// What it is: `op 3`, `image config`, `result`.
    what: String,
    /// What it is here; nothing where it is not there at all.
    here: Value,
    /// What it is in the builder's graph.
    there: Value,
}

/// Says where the graphs part, or that they are equal.
///
/// # Errors
/// They are not equal.
pub(super) fn written(compared: &Compared, printer: Printer) -> Result<Exit, Box<Diagnostic>> {
    let here = &compared.here;
    let difference = match (&here.outcome, &compared.there) {
        (Ok(ours), Ok(theirs)) => match first(&ours.targets, &theirs.targets) {
            None => return equal(&ours.targets, printer),
            Some(difference) => difference,
        },
        (Ok(_), Err(message)) => {
            let message = format!("the Dockerfile is compiled here, and refused there: {message}");
            return Err(Diagnostic::new("GRAPHS_DIFFER", Exit::Internal, message).into());
        }
        (Err(error), _) => {
            let mut diagnostic = uncompiled(error, &here.file, &here.text);
            let message = &diagnostic.message;
            diagnostic.message =
                format!("the builder's frontend compiles what is refused here: {message}");
            (diagnostic.code, diagnostic.exit) = ("GRAPHS_DIFFER", Exit::Internal);
            return Err(diagnostic.into());
        }
    };
    if printer.format() == Format::Text {
        Printer::text(&difference.render()).map_err(|error| unwritten(&error))?;
    }
    let Difference { platform, what, here, there } = difference;
    let message = format!("the graphs differ: {platform}, {what}");
    let diagnostic = Diagnostic::new("GRAPHS_DIFFER", Exit::Internal, message)
        .with_detail("platform", platform)
        .with_detail("what", what)
        .with_detail("here", here)
        .with_detail("there", there)
        .with_fix(
            "`--frontend daemon` lets the builder compile; graphs are those of BuildKit v0.32",
        );
    Err(diagnostic.into())
}

fn equal(targets: &[Compiled], printer: Printer) -> Result<Exit, Box<Diagnostic>> {
    let count = |target: &Compiled| target.definition.ops().len();
    let lines: Vec<String> = targets
        .iter()
        .map(|target| format!("{}: {} ops, all equal", target.id(), count(target)))
        .collect();
    let platforms: Vec<Value> = targets
        .iter()
        .map(|target| {
            json!({
                "platform": target.id(),
                "ops": count(target),
                "head": target.definition.head(),
            })
        })
        .collect();
    let result = json!({ "equal": true, "platforms": platforms });
    printer
        .success("llb", &lines.join("\n"), &result, &[], &[])
        .map_err(|error| unwritten(&error))?;
    Ok(Exit::Done)
}

fn unwritten(error: &std::io::Error) -> Box<Diagnostic> {
    let message = format!("cannot write to stdout: {error}");
    Diagnostic::new("INTERNAL", Exit::Internal, message).into()
}

/// The first difference: of the ops, in order, then of the image configs.
fn first(ours: &[Compiled], theirs: &[Compiled]) -> Option<Difference> {
    let ids = |targets: &[Compiled]| -> Vec<String> { targets.iter().map(Compiled::id).collect() };
    let (here, there) = (ids(ours), ids(theirs));
    if here != there {
        let platform = here.join(",");
        let what = "result".to_owned();
        return Some(Difference { platform, what, here: here.into(), there: there.into() });
    }
    ours.iter().zip(theirs).find_map(|(ours, theirs)| of_one_platform(ours, theirs))
}

fn of_one_platform(ours: &Compiled, theirs: &Compiled) -> Option<Difference> {
    let difference =
        |what: String, here, there| Some(Difference { platform: ours.id(), what, here, there });
    let (here, there) = (ours.definition.ops(), theirs.definition.ops());
    let count = here.len().max(there.len());
    for at in 0..count {
        let (one, other) = (here.get(at), there.get(at));
        let bytes = [one, other].map(|op| op.map(|op| op.bytes.as_slice()));
        let [Some(one), Some(other)] = bytes else {
            let [one, other] = bytes.map(|bytes| bytes.map_or(Value::Null, print::op_json));
            return difference(format!("op {} of {count}", at + 1), one, other);
        };
        if one != other {
            let (one, other) = (print::op_json(one), print::op_json(other));
            return difference(format!("op {} of {count}", at + 1), one, other);
        }
    }
    let config = |target: &Compiled| serde_json::to_value(&target.config).unwrap_or_default();
    let (one, other) = (config(ours), config(theirs));
    if one == other { None } else { difference("image config".to_owned(), one, other) }
}

impl Difference {
    /// Both sides, one after the other, lines that only one of them has being marked.
    fn render(&self) -> String {
        let side = |value: &Value| -> Vec<String> {
            if value.is_null() {
                vec!["(none)".to_owned()]
            } else {
                format!("{value:#}").lines().map(str::to_owned).collect()
            }
        };
        let (here, there) = (side(&self.here), side(&self.there));
        let mut text = format!("{}: {}\n", self.platform, self.what);
        for (name, lines, others) in
            [("here", &here, &there), ("the builder's frontend", &there, &here)]
        {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "--- {name}");
            for line in lines {
                let mark = if others.contains(line) { ' ' } else { '>' };
                let _ = writeln!(text, "{mark} {line}");
            }
        }
        text
    }
}
