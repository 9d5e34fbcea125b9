//! Commands that compile and build nothing: for a builder that is reached, or for one that is only
//! imagined.

use super::{
    build::{BuildArguments, Request, Surroundings},
    execute,
};
use crate::{
    diagnostic::{Diagnostic, Exit},
    pipeline::{
        self,
        imagined::{self, Assumptions, Failed, Images, Imagined, Looked},
    },
    plan::{BuildPlan, Context, Pinning},
};
use clap::Args;
use serde::de::DeserializeOwned;
use std::{
    fs, io,
    path::{Path, PathBuf},
};
use tokio::io::AsyncRead;

/// What the builder is imagined to be like.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Builder options")]
pub(super) struct ImaginedArguments {
    /// Base images out of FILE (JSON: `{"REF": {"digest": "…", "platforms": {"OS/ARCH": CONFIG}}}`);
    /// no builder is contacted then
    #[arg(long, value_name = "FILE")]
    images: Option<PathBuf>,
    /// What the builder is like, out of FILE (JSON: `worker_platforms`, `unsupported_caps`,
    /// `source_metadata`, `frontend_attrs`) [default: linux/amd64 and linux/arm64, all of v0.32]
    #[arg(long, value_name = "FILE", requires = "images")]
    assume: Option<PathBuf>,
    /// The session's id, which local sources carry [default: a new one]
    #[arg(long, value_name = "ID", requires = "images")]
    session_id: Option<String>,
}

impl ImaginedArguments {
    /// Compiles what `build` describes. `checks` is for the lint rules instead of the graphs.
    pub(super) fn look(
        &self,
        build: BuildArguments,
        surroundings: execute::Surroundings<'_>,
        checks: bool,
    ) -> Result<Looked, Box<Diagnostic>> {
        let request = request(build, surroundings)?;
        let Some(images) = &self.images else {
            let look = async |plan: &BuildPlan, inputs| pipeline::look(plan, inputs, checks).await;
            return execute::run(&request, surroundings, look).map(|(looked, _)| looked);
        };
        let builder = self.builder(images)?;
        let plan = &request.plan;
        let compiled = run(plan, |stdin| async {
            let here = Path::new(".");
            if checks {
                imagined::check(plan, here, stdin, &builder).await.map(Looked::Checked)
            } else {
                imagined::compile(plan, here, stdin, &builder).await.map(Looked::Graphs)
            }
        });
        let compiled = compiled.map_err(|error| {
            Diagnostic::new("INTERNAL", Exit::Internal, format!("cannot compile: {error}"))
        })?;
        compiled.or_else(|failed| match failed {
            Failed::Dockerfile(wrong) => Ok(Looked::Wrong(wrong)),
            Failed::Other(error) => Err(Box::new(error.into())),
        })
    }

    /// The builder that the flags describe.
    fn builder(&self, images: &Path) -> Result<Imagined, Box<Diagnostic>> {
        let images: Images = read("--images", images)?;
        let assumptions: Assumptions = match &self.assume {
            Some(path) => read("--assume", path)?,
            None => Assumptions::default(),
        };
        let session_id =
            self.session_id.clone().unwrap_or_else(crate::buildkit::session::random_id);
        Ok(Imagined { images, assumptions, session_id })
    }
}

/// Makes the graphs of what `build` describes on a real builder, with each image held by its digest.
pub(super) fn look_pinned(
    build: BuildArguments,
    surroundings: execute::Surroundings<'_>,
) -> Result<Looked, Box<Diagnostic>> {
    let mut request = request(build, surroundings)?;
    request.plan.pinning = Pinning::Open;
    request.plan.reproducible = None;
    let look = async |plan: &BuildPlan, inputs| pipeline::look(plan, inputs, false).await;
    execute::run(&request, surroundings, look).map(|(looked, _)| looked)
}

/// What `build` asks for. No output is made of it, so that none can be in the way.
fn request(
    build: BuildArguments,
    surroundings: execute::Surroundings<'_>,
) -> Result<Request, Box<Diagnostic>> {
    let execute::Surroundings { global, config, environment, .. } = surroundings;
    build.request(
        global,
        config,
        Surroundings { environment, stdout_is_terminal: false, stdout_is_json: false },
    )
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

/// Runs what compiles `plan`, with stdin where the plan reads it.
fn run<T, F: Future<Output = T>>(
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
