//! `llb`.

mod compare;

use super::{
    arguments::GlobalArguments,
    build::BuildArguments,
    environment::Environment,
    execute::Surroundings,
    failure::{uncompiled, usage},
    imagined::ImaginedArguments,
};
use crate::{
    compile::Build,
    config::Config,
    diagnostic::{Diagnostic, Exit, Format, Printer},
    llb::print,
    pipeline::{Wanted, imagined::Looked},
};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::{
    fs,
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
};

const EXAMPLES: &str = "Examples:
  bk-sync llb .                                      the graph as JSON
  bk-sync llb --as dot . | dot -Tsvg > graph.svg     a picture of it
  bk-sync llb --images images.json .                 without any builder
  bk-sync llb --as pb --out graphs --platform linux/amd64,linux/arm64 .
  bk-sync llb --compare daemon .                     is it what the builder's own frontend makes?";

/// Print the build graph of a Dockerfile
///
/// Nothing is built. Takes all of build's flags; with `--frontend daemon` it is the graph that the
/// builder's own frontend makes.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct LlbArguments {
    #[command(flatten)]
    build: BuildArguments,
    #[command(flatten)]
    imagined: ImaginedArguments,
    /// What the graph is written as
    #[arg(
        long = "as",
        value_name = "FORM",
        default_value = "json",
        help_heading = "Graph options"
    )]
    form: Form,
    /// Write one file for each platform into DIR, named like `linux-arm64.llb.pb`
    #[arg(long, value_name = "DIR", help_heading = "Graph options")]
    out: Option<PathBuf>,
    /// Print the first op that differs from what the builder's own frontend makes of the same; end
    /// with 1 where one does
    #[arg(long, value_name = "WITH", help_heading = "Graph options",
        conflicts_with_all = ["images", "assume", "out", "form"])]
    compare: Option<With>,
}

/// `--compare`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum With {
    /// The builder's own frontend
    Daemon,
}

/// `--as`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Form {
    /// Readable: ops, metadata, places, the image config
    Json,
    /// For Graphviz
    Dot,
    /// The marshalled `pb.Definition`
    Pb,
}

impl Form {
    fn extension(self) -> &'static str {
        match self {
            Self::Json => "llb.json",
            Self::Dot => "dot",
            Self::Pb => "llb.pb",
        }
    }
}

impl LlbArguments {
    /// Compiles, and writes the graph.
    pub(super) fn run(
        self,
        global: &GlobalArguments,
        config: Option<&Config>,
        environment: &Environment,
        printer: Printer,
    ) -> Result<Exit, Box<Diagnostic>> {
        let Self { build, imagined, form, out, compare } = self;
        let is_theirs = build.wants_builder_to_compile();
        if is_theirs && imagined.is_imagined() {
            return Err(usage(
                "a builder that is only imagined has no frontend",
                "leave out `--frontend daemon`, or `--images` and `--assume`",
            ));
        }
        if is_theirs && compare.is_some() {
            return Err(usage(
                "the graph of the builder's frontend would be compared with itself",
                "leave out `--frontend daemon`",
            ));
        }
        if out.is_none() && form != Form::Json && printer.format() == Format::Json {
            return Err(usage(
                "a graph that is no JSON cannot go into a JSON object",
                "add `--out DIR`",
            ));
        }
        if out.is_none() && form == Form::Pb && io::stdout().is_terminal() {
            return Err(usage(
                "bytes would go to the terminal",
                "redirect stdout, or add `--out DIR`",
            ));
        }
        let surroundings = Surroundings { global, config, environment, printer };
        let wanted = if compare.is_some() { Wanted::Comparison } else { Wanted::Graphs };
        let graphs = match imagined.look(build, surroundings, wanted)? {
            Looked::Graphs(compiled) => compiled.outcome,
            Looked::BuilderGraphs(graphs) => graphs,
            Looked::Compared(compared) => return compare::written(&compared, printer),
            Looked::Wrong(wrong) => {
                return Err(uncompiled(&wrong.outcome, &wrong.file, &wrong.text).into());
            }
            Looked::Checked(_) => {
                let message = "a check came back in the place of a graph";
                return Err(Diagnostic::new("INTERNAL", Exit::Internal, message).into());
            }
        };
        match (&out, graphs.targets.as_slice()) {
            (Some(directory), _) => written(&graphs, form, directory, printer),
            (None, [_]) => printed(&graphs, form, printer),
            (None, _) if form == Form::Json => printed(&graphs, form, printer),
            (None, _) => Err(usage("there is a graph for each platform", "add `--out DIR`")),
        }
    }
}

/// Writes graphs to stdout.
fn printed(graphs: &Build, form: Form, printer: Printer) -> Result<Exit, Box<Diagnostic>> {
    let written = match form {
        Form::Json if printer.format() == Format::Json => {
            printer.success("llb", "", &graphs.to_json(), &[], &[])
        }
        Form::Json => Printer::bytes(&pretty(&graphs.to_json())),
        Form::Dot | Form::Pb => {
            let bytes: Vec<u8> = graphs
                .targets
                .iter()
                .flat_map(|target| encoded(&target.definition, form))
                .collect();
            Printer::bytes(&bytes)
        }
    };
    written.map_err(|error| failed("cannot write to stdout", &error))?;
    Ok(Exit::Done)
}

/// Writes a file for each platform.
fn written(
    graphs: &Build,
    form: Form,
    directory: &Path,
    printer: Printer,
) -> Result<Exit, Box<Diagnostic>> {
    let cannot = |path: &Path, error: &io::Error| {
        let message = format!("cannot write `{}`: {error}", path.display());
        Box::new(Diagnostic::new("FILE_FAILED", Exit::Usage, message))
    };
    fs::create_dir_all(directory).map_err(|error| cannot(directory, &error))?;
    let mut files = Vec::new();
    for (at, target) in graphs.targets.iter().enumerate() {
        let name = format!("{}.{}", target.id().replace('/', "-"), form.extension());
        let path = directory.join(name);
        let bytes = match form {
            Form::Json => pretty(&target.to_json(graphs.warnings_at(at))),
            Form::Dot | Form::Pb => encoded(&target.definition, form),
        };
        fs::write(&path, bytes).map_err(|error| cannot(&path, &error))?;
        files.push(path.display().to_string());
    }
    let lines = files.join("\n");
    printer
        .success("llb", &lines, &json!({ "files": files }), &[], &[])
        .map_err(|error| failed("cannot write to stdout", &error))?;
    Ok(Exit::Done)
}

fn encoded(definition: &crate::llb::Definition, form: Form) -> Vec<u8> {
    match form {
        Form::Dot => print::dot(definition).into_bytes(),
        Form::Json | Form::Pb => definition.to_bytes(),
    }
}

fn pretty(json: &Value) -> Vec<u8> {
    let mut text = format!("{json:#}").into_bytes();
    text.push(b'\n');
    text
}

fn failed(what: &str, error: &io::Error) -> Box<Diagnostic> {
    Diagnostic::new("INTERNAL", Exit::Internal, format!("{what}: {error}")).into()
}
