//! `reproduce`.

use super::{
    build::named_builder,
    credentials,
    environment::Environment,
    execute::{self, Surroundings, reach},
    history, push,
};
use crate::{
    config::{BuildOverrides, BuildSettings, Dirty, Git, Origin, Setting, values},
    diagnostic::{Diagnostic, Exit, NextAction},
    event::Events,
    image::reference::Reference,
    pipeline::{
        self,
        reproduce::{ReproduceError, Reproduced, plan, reproduce},
    },
    plan::{BuildPlan, Context},
    record::{BuildRecord, ImageRecord, Receipt},
};
use clap::Args;
use serde_json::json;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use tokio_util::sync::CancellationToken;

const EXAMPLES: &str = "Examples:
  bk-sync reproduce 20260301T10                     by the begin of a deploy's id
  bk-sync reproduce ghcr.io/me/app@sha256:…         by an image that was deployed
  bk-sync reproduce ghcr.io/me/app:latest           the last deploy that gave it this tag
  bk-sync reproduce 20260301T10 --builder ssh://b   on another builder

Images are the same every time where they were deployed with `bk-sync sync --reproducible`.

Exit codes:
  0 the same image   2 no receipt, or one that is not enough   10 no builder
  11 another image, or none   130/143 interrupted, after clean-up";

/// Build a deployed image again from its receipt, and say where the two part
///
/// The recorded commit is built with the recorded options and base images, without any cache, and
/// the result is held against the image in its registry: equal, or the first layer, file and byte
/// that are not, with the step that wrote them. Run it in a checkout that has the commit. What is
/// checked out stays as it is, nothing is pushed, and nothing is left behind.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct ReproduceArguments {
    /// The begin of a deploy's id, or an image that was deployed: `REPO@DIGEST`, `DIGEST`, `REPO:TAG`
    #[arg(value_name = "REF")]
    reference: String,
    /// The value of a build argument that the receipt does not keep; without one, from the environment
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    build_args: Vec<String>,
}

/// What is built again, and from what.
struct Recorded<'r> {
    receipt: &'r Receipt,
    record: &'r BuildRecord,
    image: &'r ImageRecord,
    reference: Reference,
}

impl ReproduceArguments {
    /// Builds, compares, and writes what came of it.
    ///
    /// # Errors
    /// It is not the same image, or none came of it.
    pub(super) fn run(self, surroundings: Surroundings<'_>) -> Result<Exit, Box<Diagnostic>> {
        let Surroundings { global, config, environment, printer } = surroundings;
        let receipt = find(&self.reference, environment)?;
        let recorded = Recorded::of(&receipt)?;
        let now = settings(surroundings);
        let hidden = self.hidden(&recorded, now.as_ref(), environment)?;
        let checkout = recorded.checkout()?;
        let scratch = tempfile::Builder::new().prefix("bk-sync-reproduce-").tempdir();
        let scratch = scratch.map_err(|error| unwritable(&error))?;
        let platforms = recorded.platforms();
        let layout = scratch.path().join("image");
        let plan = plan(recorded.record, hidden, platforms, &layout);

        // The image is read from where it was pushed, with the rights that pushed it.
        let named = BuildPlan { tags: vec![recorded.reference.name()], push: true, ..plan.clone() };
        let push = push::settings(&named, push::DEFAULTS, config, environment)?;
        let (chain, warnings) = credentials::chain(&named, config, environment)?;
        let builder = builder(surroundings, now.as_ref());
        let work = async |events: Events, cancel: CancellationToken| {
            let login = execute::login(chain, &events);
            let lent = login.clone();
            let done = async {
                let directory = match &checkout {
                    Some(checkout) => checkout.files(scratch.path(), &cancel)?,
                    None => PathBuf::from("."),
                };
                let began = std::time::Instant::now();
                let found = reach(&builder, surroundings, &events, &cancel).await?;
                let inputs = pipeline::Inputs {
                    connection: found.connection,
                    connect_time: Some(began.elapsed()),
                    docker: None,
                    login,
                    push: push.clone(),
                    cache_defaults: Vec::new(),
                    variables: execute::variables(&plan, environment),
                    ssh_agent: environment.path("SSH_AUTH_SOCK"),
                    directory,
                    state: None,
                    is_remembered: false,
                    stdin: None,
                    events,
                    cancel,
                };
                let image = (&recorded.reference, recorded.image.digest.as_str());
                reproduce(&plan, inputs, &layout, image, &push.reach).await.map_err(failed)
            };
            let done = Box::pin(done).await;
            // Whatever the ending: what was lent is given back.
            lent.release().await;
            done
        };
        let (reproduced, summary) = execute::supervised(global, environment, warnings, work)?;
        let Reproduced { digest, parting } = reproduced;
        if let Some(parting) = parting {
            return Err(recorded.differs(&digest, &parting));
        }
        let line = format!("equal: {}@{digest}", recorded.reference.name());
        let result = json!({
            "receipt": receipt.id,
            "commit": receipt.git.as_ref().map(|git| &git.commit),
            "image": { "reference": recorded.image.reference, "digest": digest },
            "equal": true,
        });
        printer.success("reproduce", &line, &result, &summary.warnings(), &[]).map_err(
            |error| {
                let message = format!("the images are equal, and that cannot be written: {error}");
                Diagnostic::new("STDOUT_FAILED", Exit::Internal, message)
            },
        )?;
        Ok(Exit::Done)
    }

    /// Values of the arguments that the receipt does not keep: as given, else as the config has them
    /// now.
    fn hidden(
        &self,
        recorded: &Recorded<'_>,
        now: Option<&BuildSettings>,
        environment: &Environment,
    ) -> Result<BTreeMap<String, String>, Box<Diagnostic>> {
        let variable = |name: &str| environment.text(name);
        let mut given = values::key_values(&self.build_args, variable).map_err(|error| {
            let message = format!("`--build-arg`: {}", error.problem);
            Diagnostic::new("USAGE", Exit::Usage, message).with_fix(error.hint)
        })?;
        let names = &recorded.record.hidden_args;
        if let Some(other) = given.keys().find(|name| !names.contains(*name)) {
            let message = format!("the receipt keeps the build argument `{other}`, or has none");
            return Err(Diagnostic::new("USAGE", Exit::Usage, message)
                .with_fix("leave it out: another value would give another image")
                .into());
        }
        for name in names {
            if let (false, Some(setting)) =
                (given.contains_key(name), now.and_then(|now| now.args.get(name)))
            {
                given.insert(name.clone(), setting.value.clone());
            }
        }
        match names.iter().find(|name| !given.contains_key(*name)) {
            None => Ok(given),
            Some(missing) => {
                let message = format!(
                    "the receipt does not keep the value of the build argument `{missing}`, since it \
                     may be a secret"
                );
                Err(Diagnostic::new("BUILD_ARG_NOT_KEPT", Exit::Usage, message)
                    .with_detail("argument", missing.as_str())
                    .with_fix(format!("give it: `--build-arg {missing}=VALUE`"))
                    .into())
            }
        }
    }
}

/// The receipt that is meant.
fn find(text: &str, environment: &Environment) -> Result<Receipt, Box<Diagnostic>> {
    let receipts = history::kept(environment)?;
    let digest = text.rsplit_once('@').map_or(text, |(_, digest)| digest);
    let is_digest = digest.contains(':') && crate::image::reference::check_digest(digest).is_ok();
    let is_named = text.contains(['/', ':']);
    if !is_digest && !is_named {
        return history::one(text, receipts.find(text).map_err(history::unreadable)?);
    }
    let name = Reference::parse(text).ok().map(Reference::or_latest);
    let is_meant = |receipt: &Receipt| {
        let Some(image) = &receipt.image else { return false };
        if is_digest {
            return image.digest == digest
                || image.manifests.iter().any(|manifest| manifest.digest == digest);
        }
        let same = |tag: &String| Reference::parse(tag).ok() == name;
        image.tags.iter().any(same)
    };
    let mut all = receipts.list(None).map_err(history::unreadable)?.into_iter();
    all.find(is_meant).ok_or_else(|| {
        let message = format!("no receipt here is of a deploy of `{text}`");
        Diagnostic::new("RECEIPT_NOT_FOUND", Exit::Usage, message)
            .with_fix("see `bk-sync history`: receipts stay where a deploy was made")
            .into()
    })
}

/// The builder that is used: any may be, so the one of the receipt is not asked for.
fn builder(surroundings: Surroundings<'_>, now: Option<&BuildSettings>) -> Setting<Option<String>> {
    let Surroundings { global, environment, .. } = surroundings;
    if let Some(Setting { value, origin }) = named_builder(global, environment) {
        return Setting { value: Some(value), origin };
    }
    let nobody = || Setting { value: None, origin: Origin::Default };
    now.map_or_else(nobody, |now| now.builder.clone())
}

/// What the config says of builds now; none where there is none, or where it cannot say it. What is
/// checked out has no say in what is built, so it may have changes.
fn settings(surroundings: Surroundings<'_>) -> Option<BuildSettings> {
    let mut config = surroundings.config?.clone();
    config.override_dirty(Dirty::Allow);
    let variable = |name: &str| surroundings.environment.text(name);
    BuildSettings::resolve(BuildOverrides::default(), Some(&config), variable).ok()
}

impl<'r> Recorded<'r> {
    /// What `receipt` says of the build.
    fn of(receipt: &'r Receipt) -> Result<Self, Box<Diagnostic>> {
        let lacking = |message: String, fix: &str| {
            Diagnostic::new("RECEIPT_INCOMPLETE", Exit::Usage, message)
                .with_detail("receipt", receipt.id.as_str())
                .with_fix(fix)
        };
        let id = &receipt.id;
        let image = receipt.image.as_ref().ok_or_else(|| {
            lacking(format!("no image came of the deploy `{id}`"), "name a deploy that made one")
        })?;
        let record = receipt.build.as_ref().ok_or_else(|| {
            lacking(
                format!("the receipt `{id}` does not say how its image was built"),
                "deploy once more: this bk-sync records it, where all files come from the checkout",
            )
        })?;
        if receipt.git.as_ref().is_some_and(|git| git.dirty)
            && matches!(record.plan.context, Context::Directory(_))
        {
            return Err(lacking(
                format!("the deploy `{id}` was made of changes that no commit has"),
                "name a deploy of a clean checkout",
            )
            .into());
        }
        let reference = Reference::parse(&image.reference).map_err(|error| {
            lacking(
                format!("the receipt `{id}` names no image in a registry: {error}"),
                "name a deploy that was pushed",
            )
        })?;
        Ok(Self { receipt, record, image, reference })
    }

    /// The platforms that the image is for.
    fn platforms(&self) -> Vec<String> {
        self.image.manifests.iter().filter_map(|manifest| manifest.platform.clone()).collect()
    }

    /// Where the files come from; none where the builder fetches them.
    fn checkout(&self) -> Result<Option<Checkout<'r>>, Box<Diagnostic>> {
        if self.record.plan.context.is_remote() {
            return Ok(None);
        }
        let Some(facts) = &self.receipt.git else { return Ok(None) };
        let commit = facts.commit.as_str();
        let git = Git::new(".");
        if !git.has(commit) {
            let message = format!("there is no commit `{commit}` here");
            return Err(Diagnostic::new("COMMIT_MISSING", Exit::Usage, message)
                .with_detail("commit", commit)
                .with_fix("run it in a checkout of that repository, after `git fetch`")
                .into());
        }
        Ok(Some(Checkout { git, commit }))
    }

    /// That another image came of it.
    fn differs(&self, digest: &str, parting: &pipeline::reproduce::Parting) -> Box<Diagnostic> {
        let mut diagnostic = Diagnostic::new(
            "IMAGE_DIFFERS",
            Exit::Build,
            format!("another image came of it: {parting}"),
        )
        .with_detail("receipt", self.receipt.id.as_str())
        .with_detail("recorded", self.image.digest.as_str())
        .with_detail("built", digest)
        .with_detail("difference", serde_json::to_value(parting).unwrap_or_default());
        for note in parting.notes() {
            diagnostic = diagnostic.with_note(note);
        }
        diagnostic.next_actions.push(NextAction {
            command: format!("bk-sync history {}", self.receipt.id),
            description: "read how the image was made".to_owned(),
        });
        let fix = if self.record.plan.reproducible.is_some() {
            "mend the step, so that it writes the same every time"
        } else {
            "deploy with `bk-sync sync --reproducible`: then times, modes and owners are pinned"
        };
        diagnostic.with_fix(fix).into()
    }
}

/// The files of a commit.
struct Checkout<'r> {
    git: Git,
    commit: &'r str,
}

impl Checkout<'_> {
    /// The top of a directory with the commit's files: the checkout itself where it is at the commit
    /// and clean, else one below `scratch`.
    fn files(
        &self,
        scratch: &Path,
        cancel: &CancellationToken,
    ) -> Result<PathBuf, Box<Diagnostic>> {
        let failed = |error: crate::config::GitError| {
            let message = format!("the files of `{}` cannot be had: {error}", self.commit);
            Diagnostic::new("GIT_FAILED", Exit::Usage, message).with_sources(&error)
        };
        let is_here = self.git.sha().map_err(failed)? == self.commit;
        if is_here && !self.git.is_dirty().map_err(failed)? {
            return Ok(self.git.top().map_err(failed)?);
        }
        let tree = scratch.join("tree");
        std::fs::create_dir(&tree).map_err(|error| unwritable(&error))?;
        let top = Git::new(self.git.top().map_err(failed)?);
        let written = top.write_files(self.commit, &tree, &scratch.join("index"));
        if cancel.is_cancelled() {
            return Err(Box::new(pipeline::Error::Interrupted.into()));
        }
        written.map_err(failed)?;
        Ok(tree)
    }
}

fn unwritable(error: &std::io::Error) -> Box<Diagnostic> {
    let place = std::env::temp_dir();
    let message = format!("cannot write to `{}`: {error}", place.display());
    Diagnostic::new("FILE_FAILED", Exit::Build, message)
        .with_fix("make room there, or set `TMPDIR`")
        .into()
}

fn failed(error: ReproduceError) -> Box<Diagnostic> {
    match error {
        ReproduceError::Build(error) => Box::new(error.into()),
        ReproduceError::Unreadable { .. } => {
            Diagnostic::new("IMAGE_UNREADABLE", Exit::Build, error.to_string())
                .with_fix("see whether the registry still has it, and lets you read it")
                .into()
        }
    }
}
