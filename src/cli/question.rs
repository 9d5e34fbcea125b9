//! `build --call`: a question about a Dockerfile in the place of a build.

use super::{
    arguments::GlobalArguments,
    build::{self, BuildArguments, Call},
    check::CheckArguments,
    environment::Environment,
    execute::{self, Surroundings},
};
use crate::{
    config::Config,
    diagnostic::{Diagnostic, Exit, Format, Printer},
    pipeline::{self, Asked},
    plan::BuildPlan,
};

/// Answers what `--call` asks.
///
/// # Errors
/// The failure, which is not written yet.
pub(super) fn answer(
    build: BuildArguments,
    global: &GlobalArguments,
    config: Option<&Config>,
    environment: &Environment,
    printer: Printer,
) -> Result<Exit, Box<Diagnostic>> {
    let request = match build.call() {
        Call::Outline => "frontend.outline",
        Call::Targets => "frontend.targets",
        Call::Build | Call::Check => {
            return CheckArguments::strict(build).run(global, config, environment, printer);
        }
    };
    let surroundings = Surroundings { global, config, environment, printer };
    // No output is made, so that none can be in the way.
    let asked = build.request(
        global,
        config,
        build::Surroundings { environment, stdout_is_terminal: false, stdout_is_json: false },
    )?;
    let ask = async |plan: &BuildPlan, inputs| pipeline::ask(plan, inputs, request).await;
    let (Asked { text, json }, summary) = execute::run(&asked, surroundings, ask)?;
    let internal = |error: std::io::Error| {
        Box::new(Diagnostic::new("INTERNAL", Exit::Internal, error.to_string()))
    };
    if printer.format() == Format::Text {
        Printer::text(&text).map_err(internal)?;
    }
    printer.success("build", "", &json, &summary.warnings(), &[]).map_err(internal)?;
    Ok(Exit::Done)
}
