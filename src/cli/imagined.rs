//! Commands that compile and build nothing: for a builder that is reached, or for one that is only
//! imagined.

use super::{
    build::{BuildArguments, Request, Surroundings},
    execute,
};
use crate::{
    diagnostic::{Diagnostic, Exit},
    pipeline::{
        self, Look, Wanted,
        imagined::{self, Assumptions, Failed, Images, Imagined, Looked},
    },
    plan::{BuildPlan, Context, FrontendChoice, Pinning},
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
    /// `source_metadata`, `frontend_attrs`) [default: linux/amd64 and linux/arm64, all of v0.32];
    /// no builder is contacted then, and there are no base images but those of `--images`
    #[arg(long, value_name = "FILE")]
    assume: Option<PathBuf>,
    /// The session's id, which local sources carry [default: a new one]
    #[arg(long, value_name = "ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    session_id: Option<String>,
}

impl ImaginedArguments {
    /// Whether no builder is contacted.
    pub(super) fn is_imagined(&self) -> bool {
        self.images.is_some() || self.assume.is_some()
    }

    /// Compiles what `build` describes.
    pub(super) fn look(
        &self,
        build: BuildArguments,
        surroundings: execute::Surroundings<'_>,
        wanted: Wanted,
    ) -> Result<Looked, Box<Diagnostic>> {
        let request = request(build, surroundings)?;
        if !self.is_imagined() {
            let look = Look { wanted, session_id: self.session_id.clone() };
            let look = async |plan: &BuildPlan, inputs| pipeline::look(plan, inputs, look).await;
            return execute::run(&request, surroundings, look).map(|(looked, _)| looked);
        }
        let builder = self.builder()?;
        let plan = &request.plan;
        let compiled = run(plan, |stdin| async {
            let here = Path::new(".");
            if wanted == Wanted::Checks {
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
    fn builder(&self) -> Result<Imagined, Box<Diagnostic>> {
        let images = match &self.images {
            Some(path) => read("--images", path)?,
            None => Images::default(),
        };
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
    // A frontend on the builder does not tell which images it asked for.
    request.plan.frontend = FrontendChoice::Native;
    let look = Look { wanted: Wanted::Graphs, session_id: None };
    let look = async |plan: &BuildPlan, inputs| pipeline::look(plan, inputs, look).await;
    execute::run(&request, surroundings, look).map(|(looked, _)| looked)
}

/// What `build` asks for. No output is made of it, so that none can be in the way.
fn request(
    build: BuildArguments,
    surroundings: execute::Surroundings<'_>,
) -> Result<Request, Box<Diagnostic>> {
    let execute::Surroundings { global, config, environment, .. } = surroundings;
    let within = Surroundings { environment, stdout_is_terminal: false, stdout_is_json: false };
    let mut request = build.request(global, config, within)?;
    // All that are listed would compile the same graph: the first is asked.
    if let Some(listed) = execute::listed(request.builder.value.as_deref())? {
        request.builder.value = listed.into_iter().next().map(|first| first.address);
    }
    Ok(request)
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
