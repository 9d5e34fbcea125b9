//! `build`, with the rollout that may follow it.

use super::{HowArguments, failure, next_actions, usage};
use crate::{
    cli::{
        build::{self, BuildArguments, Request as BuildRequest},
        cluster::{self, ClusterArguments, internal},
        execute, images,
    },
    config::Git,
    diagnostic::{Diagnostic, Exit, Format},
    image::reference::Reference,
    pipeline::{
        self, Built, CacheExports,
        rollout::{RolloutFailure, RolloutInputs},
    },
    plan::Context,
    rollout::{PinnedImage, Request, RolloutReport, request::PlatformManifest},
};
use clap::Args;
use std::{
    io::{self, IsTerminal as _},
    path::Path,
    pin::pin,
};

/// Build an image from a Dockerfile
///
/// The context is a directory, `-` (a tar archive or a bare Dockerfile on stdin), a git URL, or the
/// http(s) URL of an archive. Without one it is the context of bk-sync.toml, else `.`.
#[derive(Args, Debug)]
#[command(after_help = build::EXAMPLES)]
pub(in crate::cli) struct BuildCommand {
    #[command(flatten)]
    pub(in crate::cli) build: BuildArguments,
    /// Roll the pushed image out to this workload, and wait until its pods are proven
    #[arg(long = "rollout", value_name = "KIND/NAME", help_heading = "Rollout options")]
    workloads: Vec<String>,
    #[command(flatten)]
    how: HowArguments,
    #[command(flatten)]
    cluster: ClusterArguments,
}

/// Why a build with a rollout did not do what was asked.
enum Failure {
    /// Nothing was rolled out.
    Build(pipeline::Error),
    /// The rollout, before the build or after it.
    Rollout {
        /// Why.
        failure: RolloutFailure,
        /// The image that was built, where one was.
        image: Option<String>,
    },
}

impl From<Failure> for Diagnostic {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Build(error) => error.into(),
            Failure::Rollout { failure, image: None } => failure::diagnostic(failure),
            Failure::Rollout { failure, image: Some(image) } => {
                failure::diagnostic(failure).with_detail("image", image)
            }
        }
    }
}

impl BuildCommand {
    /// What is asked in the place of a build.
    pub(in crate::cli) fn call(&self) -> build::Call {
        self.build.call()
    }

    /// The build alone.
    pub(in crate::cli) fn into_build(self) -> BuildArguments {
        self.build
    }

    /// Builds, rolls out where that is asked for, and writes how it ended.
    pub(in crate::cli) fn run(
        self,
        surroundings: execute::Surroundings<'_>,
    ) -> Result<Exit, Box<Diagnostic>> {
        let Self { build, workloads, how, cluster } = self;
        let execute::Surroundings { global, config, environment, printer } = surroundings;
        let within = build::Surroundings {
            environment,
            stdout_is_terminal: io::stdout().is_terminal(),
            stdout_is_json: printer.format() == Format::Json,
        };
        let ids = build.images(config)?;
        if ids.len() > 1 && workloads.is_empty() {
            return images::run(&ids, &build, surroundings, within);
        }
        let mut request = build.request(global, config, within)?;
        build::tell_checkout(&mut request.plan, environment)?;
        if workloads.is_empty() {
            return execute::build(&request, surroundings);
        }
        let image = repository(&request)?;
        let mut wish = how.request(&workloads, image, config, environment)?;
        wish.provenance.commit = commit(&request);
        let settings = cluster.settings(config, environment)?;
        let work = async |plan: &crate::plan::BuildPlan, inputs: pipeline::Inputs| {
            let (events, cancel) = (inputs.events.clone(), inputs.cancel.clone());
            let rollout = cluster::inputs(&settings, environment, events, cancel)
                .await
                .map_err(|failure| Failure::Rollout { failure, image: None })?;
            Box::pin(roll(plan, inputs, wish.clone(), rollout)).await
        };
        let ((built, report), summary) = execute::run(&request, surroundings, work)?;
        let line = built.reference().filter(|_| !request.stdout_taken).unwrap_or_default();
        let mut result = serde_json::to_value(&built).map_err(|error| internal(&error))?;
        let rolled = serde_json::to_value(&report).map_err(|error| internal(&error))?;
        if let Some(result) = result.as_object_mut() {
            result.insert("rollout".to_owned(), rolled);
        }
        let next = next_actions(&report);
        printer
            .success("build", &line, &result, &summary.warnings(), &next)
            .map_err(|error| internal(&error))?;
        Ok(Exit::Done)
    }
}

/// Looks whether the rollout can come about, builds, and rolls out.
async fn roll(
    plan: &crate::plan::BuildPlan,
    inputs: pipeline::Inputs,
    mut wish: Request,
    rollout: RolloutInputs,
) -> Result<(Built, RolloutReport), Failure> {
    if let Err(failure) = pipeline::rollout::preflight(&wish, &rollout).await {
        return Err(Failure::Rollout { failure, image: None });
    }
    let (built, caches) = pipeline::build_image(plan, inputs).await.map_err(Failure::Build)?;
    let image = built.image.clone().unwrap_or_default();
    let Some(digest) = image.digest else {
        let message = "the builder named no digest of what it pushed".to_owned();
        return Err(Failure::Build(pipeline::Error::Builder { message }));
    };
    wish.image.digest = digest;
    wish.image.manifests = image
        .manifests
        .into_iter()
        .filter_map(|manifest| {
            Some(PlatformManifest { platform: manifest.platform?, digest: manifest.digest })
        })
        .collect();
    match Box::pin(beside(caches, pipeline::rollout::rollout(&wish, rollout))).await {
        Ok(report) => Ok((built, report)),
        Err(failure) => {
            let image = Some(built.reference().unwrap_or_default());
            Err(Failure::Rollout { failure, image })
        }
    }
}

/// Rolls out while the caches are written. After a rollout that failed nobody waits for them.
async fn beside<T, E>(
    caches: Option<CacheExports>,
    rollout: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let Some(caches) = caches else { return rollout.await };
    // Failures are told as warnings, and of an interrupt the rollout tells.
    let mut writing = pin!(caches.write());
    let mut rollout = pin!(rollout);
    tokio::select! {
        rolled = &mut rollout => {
            if rolled.is_ok() {
                drop(writing.await);
            }
            rolled
        }
        _ = &mut writing => rollout.await,
    }
}

/// The repository that the image is pushed to. Its digest is not known before the build.
fn repository(request: &BuildRequest) -> Result<PinnedImage, Box<Diagnostic>> {
    let plan = &request.plan;
    let pushes = plan.push
        || plan.outputs.iter().any(|output| {
            let push = output.attributes.get("push");
            push.is_some_and(|push| push == "true" || push == "1")
        });
    let Some(name) = plan.tags.first().filter(|_| pushes) else {
        return Err(usage(
            "a rollout needs an image that the cluster can pull",
            "add `--push` and `--tag REGISTRY/REPOSITORY[:TAG]`",
        ));
    };
    let reference = Reference::parse(name)
        .map_err(|error| usage(format!("`{name}` is no image: {error}"), "mend `--tag`"))?;
    Ok(PinnedImage {
        repository: reference.name(),
        digest: String::new(),
        tag: reference.tag().map(str::to_owned),
        manifests: plan
            .platforms
            .iter()
            .map(|platform| PlatformManifest { platform: platform.clone(), digest: String::new() })
            .collect(),
    })
}

/// The commit of the checkout that is built, where it is one.
fn commit(request: &BuildRequest) -> Option<String> {
    let Context::Directory(directory) = &request.plan.context else { return None };
    Git::new(Path::new(directory)).sha().ok()
}
