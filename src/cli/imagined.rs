//! The flags of commands that compile for a builder that is only imagined.

use super::{
    arguments::GlobalArguments,
    build::{BuildArguments, Surroundings},
    environment::Environment,
};
use crate::{
    config::Config,
    diagnostic::{Diagnostic, Exit},
    pipeline::imagined::{Assumptions, Images, Imagined},
    plan::{BuildPlan, Context},
};
use clap::Args;
use serde::de::DeserializeOwned;
use std::{
    fs, io,
    path::{Path, PathBuf},
};
use tokio::io::AsyncRead;

/// What the builder is imagined to be like.
#[derive(Args, Debug)]
#[command(next_help_heading = "Builder options")]
pub(super) struct ImaginedArguments {
    /// Base images out of FILE (JSON: `{"REF": {"digest": "…", "platforms": {"OS/ARCH": CONFIG}}}`);
    /// no builder is contacted
    #[arg(long, value_name = "FILE")]
    images: PathBuf,
    /// What the builder is like, out of FILE (JSON: `worker_platforms`, `unsupported_caps`,
    /// `source_metadata`, `frontend_attrs`) [default: linux/amd64 and linux/arm64, all of v0.32]
    #[arg(long, value_name = "FILE")]
    assume: Option<PathBuf>,
    /// The session's id, which local sources carry [default: a new one]
    #[arg(long, value_name = "ID")]
    session_id: Option<String>,
}

impl ImaginedArguments {
    /// The builder that the flags describe.
    pub(super) fn read(&self) -> Result<Imagined, Box<Diagnostic>> {
        let images: Images = read("--images", &self.images)?;
        let assumptions: Assumptions = match &self.assume {
            Some(path) => read("--assume", path)?,
            None => Assumptions::default(),
        };
        let session_id =
            self.session_id.clone().unwrap_or_else(crate::buildkit::session::random_id);
        Ok(Imagined { images, assumptions, session_id })
    }
}

fn read<T: DeserializeOwned>(flag: &'static str, path: &Path) -> Result<T, Box<Diagnostic>> {
    let wrong = |problem: String| {
        let message = format!("`{flag}`: cannot read `{}`: {problem}", path.display());
        Box::new(
            Diagnostic::new("USAGE", Exit::Usage, message)
                .with_detail("flag", flag)
                .with_fix("see `bk-sync llb --help` for what the file holds"),
        )
    };
    let text = fs::read(path).map_err(|error| wrong(error.to_string()))?;
    serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))
}

/// The plan of a command that compiles and builds nothing.
pub(super) fn plan(
    build: BuildArguments,
    global: &GlobalArguments,
    config: Option<&Config>,
    environment: &Environment,
) -> Result<BuildPlan, Box<Diagnostic>> {
    // No output is made, so that none can be in the way.
    let surroundings =
        Surroundings { environment, stdout_is_terminal: false, stdout_is_json: false };
    Ok(build.request(global, config, surroundings)?.plan)
}

/// Runs what compiles `plan`, with stdin where the plan reads it.
pub(super) fn run<T, F: Future<Output = T>>(
    plan: &BuildPlan,
    work: impl FnOnce(Option<Box<dyn AsyncRead + Send + Unpin>>) -> F,
) -> io::Result<T> {
    let reads_stdin = plan.context == Context::Stdin || plan.file.as_deref() == Some("-");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let stdin = reads_stdin.then(|| Box::new(tokio::io::stdin()) as _);
        work(stdin).await
    });
    runtime.shutdown_background();
    Ok(outcome)
}
