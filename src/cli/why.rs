//! `why`.

use super::{environment::Environment, execute, failure::unwritable};
use crate::{
    config::{BuildOverrides, BuildSettings, Config},
    diagnostic::{Diagnostic, Exit, Format, NextAction, Printer},
    pipeline::remember,
    why::{self, Record},
};
use clap::Args;
use std::{
    fs,
    path::{Path, PathBuf},
};

const EXAMPLES: &str = "Examples:
  bk-sync why                 every step that ran in the last build, and why
  bk-sync why 4               the step with that number
  bk-sync why 'npm ci'        the steps whose name has that in it
  bk-sync why :12             the step of that line of the Dockerfile
  bk-sync why --html why.html the graph and the time line, for a browser";

/// Say why steps of the last build were not cached
///
/// Compares the last build from this directory's context with the one before it: the instruction,
/// the value of an ARG, the base image, or the files that a COPY takes in, and which later steps
/// that cost. Names files that a COPY takes in for nothing.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct WhyArguments {
    /// A step: its number, a part of its name, or `:LINE` [default: all that ran]
    #[arg(value_name = "STEP")]
    step: Option<String>,
    /// Write a page for a browser to FILE: the graph, the time line, the reasons
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// The context of the build [default: that of bk-sync.toml, else `.`]
    #[arg(long, value_name = "DIR")]
    context: Option<PathBuf>,
    /// Only builds of this Dockerfile
    #[arg(short, long, value_name = "FILE")]
    file: Option<String>,
    /// Only builds of this stage
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
}

impl WhyArguments {
    /// Writes why the last build went as it did.
    ///
    /// # Errors
    /// No build is remembered, or no step is meant.
    pub(super) fn run(
        &self,
        config: Option<&Config>,
        environment: &Environment,
        printer: Printer,
    ) -> Result<Exit, Box<Diagnostic>> {
        let context = self
            .context
            .clone()
            .or_else(|| config.and_then(|config| configured(config, environment)));
        let context = context.unwrap_or_else(|| PathBuf::from("."));
        let is_meant = |record: &Record| {
            self.file.as_ref().is_none_or(|file| *file == record.dockerfile)
                && self.target.as_ref().is_none_or(|target| Some(target) == record.target.as_ref())
        };
        let state = execute::state(environment).ok_or_else(|| unknown(&context))?;
        let (last, before) = remember::last_build(&state, &context, is_meant)
            .map_err(|error| {
                let message = format!("what is remembered of builds cannot be read: {error}");
                Diagnostic::new("FILE_FAILED", Exit::Usage, message)
                    .with_fix(format!("see whether `{}` can be read", state.display()))
            })?
            .ok_or_else(|| unknown(&context))?;
        if last.steps.is_empty() {
            let message = format!(
                "nothing is known of the last build's steps: `{}` compiled them, not bk-sync",
                last.frontend
            );
            return Err(Diagnostic::new("GRAPH_UNKNOWN", Exit::Usage, message)
                .with_fix("build with `--frontend native`")
                .into());
        }
        let explained = why::explain(&last, before.as_ref());
        if let Some(path) = &self.html {
            fs::write(path, explained.page().html()).map_err(|error| unwritable(path, &error))?;
        }
        let wanted = self.step.as_deref();
        if explained.chosen(wanted).is_empty() {
            let wanted = wanted.unwrap_or_default();
            let mut diagnostic = Diagnostic::new(
                "STEP_UNKNOWN",
                Exit::Usage,
                format!("the last build has no step `{wanted}`"),
            )
            .with_fix("name a step by its number, a part of its name, or `:LINE`");
            let names = last.steps.iter().filter(|step| step.line > 0).map(|step| &step.name);
            diagnostic.notes.extend(names.take(20).cloned());
            return Err(diagnostic.into());
        }
        let text = match printer.format() {
            Format::Text => explained.text(wanted),
            Format::Json => String::new(),
        };
        let result = explained.to_json(wanted);
        printer
            .success("why", &text, &result, &[], &next(&explained))
            .map_err(|error| Diagnostic::new("STDOUT_FAILED", Exit::Internal, error.to_string()))?;
        Ok(Exit::Done)
    }
}

/// What could come next: a look at the step that cost most.
fn next(explained: &why::Explained<'_>) -> Vec<NextAction> {
    let costly = explained.steps.iter().max_by_key(|report| report.cost_milliseconds);
    let line = costly
        .filter(|report| !report.cost.is_empty())
        .and_then(|report| explained.record.step(report.step))
        .map(|step| step.line);
    line.map(|line| NextAction {
        command: format!("bk-sync why :{line}"),
        description: "the step whose change cost most".to_owned(),
    })
    .into_iter()
    .collect()
}

/// The context that the config names.
fn configured(config: &Config, environment: &Environment) -> Option<PathBuf> {
    let settings = BuildSettings::resolve(BuildOverrides::default(), Some(config), |name| {
        environment.text(name)
    });
    settings.ok().map(|settings| PathBuf::from(settings.context.value))
}

fn unknown(context: &Path) -> Box<Diagnostic> {
    let message = format!("no build of the context `{}` is remembered", context.display());
    let mut diagnostic = Diagnostic::new("BUILD_UNKNOWN", Exit::Usage, message)
        .with_fix("build it first, or name another context with `--context`");
    diagnostic.next_actions.push(NextAction {
        command: "bk-sync build".to_owned(),
        description: "build, and remember what it was made of".to_owned(),
    });
    diagnostic.into()
}
