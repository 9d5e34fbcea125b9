//! `check`.

use super::{
    arguments::GlobalArguments, build::BuildArguments, environment::Environment,
    execute::Surroundings, failure::uncompiled, imagined::ImaginedArguments,
};
use crate::{
    compile::Fault,
    config::Config,
    diagnostic::{Diagnostic, Excerpt, Exit, Format, Printer, Range},
    dockerfile::lint::Warning,
    pipeline::imagined::{CompiledHere, Looked},
    progress::Lint,
};
use clap::Args;
use serde_json::{Value, json};

const EXAMPLES: &str = "Examples:
  bk-sync check .
  bk-sync check --error --skip JSONArgsRecommended .
  bk-sync check --images images.json .     without any builder";

/// Look for mistakes in a Dockerfile
///
/// The rules are those of BuildKit's build checks, and so are `# check=` lines. Nothing is built.
/// Takes all of build's flags.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct CheckArguments {
    #[command(flatten)]
    build: BuildArguments,
    #[command(flatten)]
    imagined: ImaginedArguments,
    /// End with 2 where there are warnings
    #[arg(long, help_heading = "Check options")]
    error: bool,
    /// Keep silent about RULE
    #[arg(long, value_name = "RULE", value_delimiter = ',', help_heading = "Check options")]
    skip: Vec<String>,
}

impl CheckArguments {
    /// A check that warnings fail.
    pub(super) fn strict(build: BuildArguments) -> Self {
        Self { build, imagined: ImaginedArguments::default(), error: true, skip: Vec::new() }
    }

    /// Checks, and writes what was found.
    pub(super) fn run(
        self,
        global: &GlobalArguments,
        config: Option<&Config>,
        environment: &Environment,
        printer: Printer,
    ) -> Result<Exit, Box<Diagnostic>> {
        let Self { build, imagined, error, skip } = self;
        let internal = |error: std::io::Error| {
            Box::new(Diagnostic::new("INTERNAL", Exit::Internal, error.to_string()))
        };
        let surroundings = Surroundings { global, config, environment, printer };
        let CompiledHere { outcome, file, text } = match imagined.look(build, surroundings, true)? {
            Looked::Checked(checked) => checked,
            Looked::Wrong(wrong) => {
                return Err(uncompiled(&wrong.outcome, &wrong.file, &wrong.text).into());
            }
            Looked::Graphs(_) => {
                let message = "a graph came back in the place of a check";
                return Err(Diagnostic::new("INTERNAL", Exit::Internal, message).into());
            }
        };

        let is_skipped = |warning: &Warning| skip.iter().any(|rule| rule == warning.rule);
        let lints: Vec<Lint> = outcome
            .warnings
            .iter()
            .filter(|warning| !is_skipped(warning))
            .map(|warning| lint(warning, &file, &text))
            .collect();
        let warnings: Vec<Value> = lints.iter().map(Lint::to_json).collect();
        if printer.format() == Format::Text {
            let shown: String = lints.iter().map(Lint::render).collect();
            Printer::text(&shown).map_err(internal)?;
        }
        match outcome.error {
            Some(error) if !matches!(*error.fault, Fault::Lint(_)) => {
                let diagnostic = uncompiled(&error, &file, &text);
                return Err(diagnostic.with_detail("warnings", warnings).into());
            }
            Some(_) if !lints.is_empty() => return Err(violations(&warnings)),
            _ if error && !lints.is_empty() => return Err(violations(&warnings)),
            _ => {}
        }
        let line = if lints.is_empty() { "no warnings" } else { "" };
        let result = json!({ "warnings": warnings });
        printer.success("check", line, &result, &[], &[]).map_err(internal)?;
        Ok(Exit::Done)
    }
}

fn violations(warnings: &[Value]) -> Box<Diagnostic> {
    let message = match warnings.len() {
        1 => "there is a warning, and it counts as an error".to_owned(),
        count => format!("there are {count} warnings, and they count as errors"),
    };
    Diagnostic::new("LINT_VIOLATIONS", Exit::Usage, message)
        .with_detail("warnings", warnings)
        .with_fix("mend the Dockerfile, or keep a rule silent with `--skip RULE`")
        .into()
}

fn lint(warning: &Warning, file: &str, text: &[u8]) -> Lint {
    let line = |line: u32| usize::try_from(line).unwrap_or(usize::MAX);
    // A place without columns: each of its lines is marked as a whole.
    let ranges =
        warning.lines.each().map(|at| Range { start: (line(at), 0), end: (line(at), 0) }).collect();
    Lint {
        rule: warning.rule.to_owned(),
        message: warning.message.clone(),
        url: warning.url.to_owned(),
        excerpt: Some(Excerpt {
            file: file.to_owned(),
            text: String::from_utf8_lossy(text).into_owned(),
            ranges,
            label: None,
        }),
    }
}
