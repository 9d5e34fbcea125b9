//! The stages of a deploy as they are: on a builder, at a registry, in a cluster.

use super::{ClusterParts, Outcome, Stages, Target, preflight::preflight, refer::refer};
use crate::{
    buildkit::{
        dial::{self, Connection},
        discover::{self, discover},
    },
    credential::Secret,
    diagnostic::{Diagnostic, Exit},
    engine,
    event::{Event, Events, Stage, Warning},
    pipeline::{
        self, Built, CacheDefault, CacheExports, Error, Inputs,
        login::Login,
        push::PushSettings,
        remember::Memory,
        reproduce::recorded,
        several::{self, Share},
    },
    plan::{BuildPlan, Context, ListedBuilder, Output, OutputKind, SyncPlan},
    record::{self, FileDigest, History, ImageRecord, LayerRecord, ManifestRecord, Receipt},
    registry, why,
};
use futures::{
    FutureExt as _,
    future::{LocalBoxFuture, try_join_all},
};
use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};
use tokio_util::sync::CancellationToken;

/// What the stages need from their surroundings. Nothing here is looked up: who calls says it.
#[derive(Debug)]
pub struct Parts {
    /// What decides which builder is used.
    pub discovery: discover::Inputs,
    /// How builders are reached.
    pub options: dial::Options,
    /// The Docker that `--load` loads into.
    pub docker: Option<engine::Client>,
    /// Credentials for registries.
    pub login: Login,
    /// How registries are pushed to.
    pub push: PushSettings,
    /// Values of the variables that the build's secrets and the sinks' tokens are taken from.
    pub variables: BTreeMap<String, Secret>,
    /// What the build's plan does not say of its caches.
    pub cache_defaults: Vec<CacheDefault>,
    /// Variables of the environment that hold secrets: children do not get them.
    pub secrets: Vec<String>,
    /// The socket of the user's SSH agent.
    pub ssh_agent: Option<PathBuf>,
    /// What the plan's relative paths start from.
    pub directory: PathBuf,
    /// The builders, where several make the image together.
    pub listed: Option<Vec<ListedBuilder>>,
    /// Where we may keep what speeds up the next build.
    pub state: Option<PathBuf>,
    /// Who hears of the progress.
    pub events: Events,
}

/// The stages of one deploy.
#[derive(Debug)]
pub struct Real<'a> {
    pub(super) plan: &'a SyncPlan,
    pub(super) parts: Parts,
    reached: Vec<(Connection, Duration)>,
    pub(super) target: Option<Target<'a>>,
    caches: Caches,
}

/// Caches that are written while the deploy goes on.
#[derive(Default)]
struct Caches(Option<LocalBoxFuture<'static, ()>>);

impl fmt::Debug for Caches {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Caches").field(&self.0.is_some()).finish()
    }
}

impl Caches {
    /// Begins to write `exports`.
    fn begin(&mut self, exports: Option<CacheExports>) {
        // Failures are told as warnings, and of an interrupt the deploy tells.
        self.0 = exports.map(|exports| exports.write().map(drop).boxed_local());
    }

    /// Does `work`, and goes on with the caches meanwhile.
    async fn beside<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = Box::pin(work);
        if let Some(writing) = &mut self.0 {
            tokio::select! {
                done = &mut work => return done,
                () = writing => self.0 = None,
            }
        }
        work.await
    }

    /// Waits for them.
    async fn end(&mut self) {
        if let Some(writing) = self.0.take() {
            writing.await;
        }
    }
}

impl<'a> Real<'a> {
    /// The stages of `plan`, in these surroundings.
    pub fn new(plan: &'a SyncPlan, parts: Parts, cluster: ClusterParts) -> Self {
        let target = Target::new(plan, cluster, parts.events.clone());
        Self { plan, parts, reached: Vec::new(), target, caches: Caches::default() }
    }

    /// The workload, and the caches that are written meanwhile.
    fn target(&mut self) -> Outcome<(&mut Target<'a>, &mut Caches)> {
        let Self { target, caches, .. } = self;
        let target = target.as_mut().ok_or_else(|| {
            let message = "there is no workload to roll out";
            Box::new(Diagnostic::new("INTERNAL", Exit::Internal, message))
        })?;
        Ok((target, caches))
    }

    /// Reaches the builder, or all that are listed; once.
    pub(super) async fn connect(
        &mut self,
        cancel: &CancellationToken,
    ) -> Outcome<Vec<(Connection, Duration)>> {
        if !self.reached.is_empty() {
            return Ok(self.reached.clone());
        }
        let subject = self.plan.builder.as_deref().unwrap_or("looking for a builder").to_owned();
        let events = &self.parts.events;
        events.emit(Event::StageStarted { stage: Stage::Connect, subject });
        let began = Instant::now();
        let named = |one: &ListedBuilder| discover::Inputs {
            flag: Some(one.address.clone()),
            ..self.parts.discovery.clone()
        };
        let inputs: Vec<discover::Inputs> = match &self.parts.listed {
            Some(listed) => listed.iter().map(named).collect(),
            None => vec![self.parts.discovery.clone()],
        };
        let each = inputs.iter().map(|inputs| discover(inputs, &self.parts.options));
        let found = tokio::select! {
            found = try_join_all(each) => {
                found.map_err(|miss| Box::new(Diagnostic::from(miss)))
            }
            () = cancel.cancelled() => Err(Box::new(Error::Interrupted.into())),
        };
        events.emit(Event::StageEnded { stage: Stage::Connect, ok: found.is_ok() });
        let took = began.elapsed();
        self.reached = found?.into_iter().map(|found| (found.connection, took)).collect();
        Ok(self.reached.clone())
    }

    /// Who builds what of `plan`: each builder with its platforms, where several are listed.
    pub(super) fn divided(
        &self,
        plan: &BuildPlan,
        cancel: &CancellationToken,
        events: &Events,
    ) -> Outcome<Option<(BuildPlan, Vec<Share>)>> {
        let Some(listed) = &self.parts.listed else { return Ok(None) };
        let inputs = |one| self.inputs(one, cancel);
        let divided = several::divided(plan, listed, self.reached.clone(), inputs, events);
        divided.map(Some).map_err(|refusal| Box::new(Diagnostic::from(Error::from(refusal))))
    }

    /// What a build on `reached` needs.
    pub(super) fn inputs(
        &self,
        (connection, connect_time): (Connection, Duration),
        cancel: &CancellationToken,
    ) -> Inputs {
        let parts = &self.parts;
        Inputs {
            connection,
            connect_time: Some(connect_time),
            docker: parts.docker.clone(),
            login: parts.login.clone(),
            cache_defaults: parts.cache_defaults.clone(),
            variables: parts.variables.clone(),
            ssh_agent: parts.ssh_agent.clone(),
            directory: parts.directory.clone(),
            state: parts.state.clone(),
            is_remembered: true,
            push: parts.push.clone(),
            stdin: None,
            events: parts.events.clone(),
            cancel: cancel.clone(),
        }
    }

    async fn solve(
        &mut self,
        plan: &BuildPlan,
        is_remembered: bool,
        cancel: &CancellationToken,
    ) -> Outcome<(Built, Option<CacheExports>)> {
        let mut reached = self.connect(cancel).await?;
        let failed = |error: Error| Box::new(Diagnostic::from(error));
        // Who is emulated was said before the build.
        let pushed = BuildPlan { push: true, ..plan.clone() };
        if let Some((divided, mut shares)) = self.divided(&pushed, cancel, &Events::discard())? {
            for share in &mut shares {
                share.inputs.is_remembered = is_remembered;
            }
            let plan = BuildPlan { push: plan.push, ..divided };
            let built = if plan.push {
                Box::pin(several::build_on_several(&plan, shares)).await
            } else {
                Box::pin(several::build_apart(&plan, shares)).await
            };
            return built.map(|built| (built, None)).map_err(failed);
        }
        let only = reached
            .pop()
            .ok_or_else(|| failed(Error::Builder { message: "none is reached".to_owned() }))?;
        let inputs = Inputs { is_remembered, ..self.inputs(only, cancel) };
        let built = Box::pin(pipeline::build_image(plan, inputs)).await;
        built.map_err(failed)
    }

    /// Keeps what the build that began at `began` did, step by step, for the page of the receipt. A
    /// failure to do so is logged, and no failure of the deploy.
    fn keep_build(&self, receipt: &Receipt, began: SystemTime) {
        let Some(state) = &self.parts.state else { return };
        let memory = Memory::of(state, &self.plan.build, &self.parts.directory);
        let Ok(Some((last, before))) = memory.map_or(Ok(None), |memory| memory.last()) else {
            return;
        };
        let began = began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        // A build that ended before anything ran leaves the record of the one before it.
        if u64::try_from(last.at).unwrap_or_default() < began {
            return;
        }
        let page = why::explain(&last, before.as_ref()).page();
        if let Err(error) = History::new(state).save_build(receipt, &page) {
            tracing::warn!(%error, "the build's steps cannot be kept");
        }
    }

    fn warn(&self, code: &'static str, message: String, hint: &str) {
        let hint = Some(hint.to_owned());
        self.parts.events.emit(Event::Warning(Warning { code, message, hint }));
    }
}

impl Stages for Real<'_> {
    async fn preflight(&mut self, resumed: bool, cancel: &CancellationToken) -> Outcome<()> {
        Box::pin(preflight(self, resumed, cancel)).await
    }

    async fn build(&mut self, receipt: &mut Receipt, cancel: &CancellationToken) -> Outcome<()> {
        receipt.dockerfile = dockerfile(&self.plan.build, &self.parts.directory);
        let mut plan = BuildPlan { push: false, ..self.plan.build.clone() };
        // Other caches are written once there is an image that is deployed.
        plan.cache_to.retain(|entry| entry.kind == "inline");
        // The image stays with the builder: what follows pushes exactly this one.
        plan.outputs.push(Output {
            kind: OutputKind::Image,
            attributes: BTreeMap::new(),
            target: None,
        });
        let began = SystemTime::now();
        let built = self.solve(&plan, true, cancel).await;
        self.keep_build(receipt, began);
        let (built, _) = built?;
        receipt.llb_digest.clone_from(&built.build.llb_digest);
        receipt.image = image(&built);
        receipt.build = recorded(self.plan, built.bases, &self.parts.directory);
        Ok(())
    }

    async fn push(&mut self, receipt: &mut Receipt, cancel: &CancellationToken) -> Outcome<()> {
        let plan = BuildPlan { push: true, ..self.plan.build.clone() };
        let (built, caches) = self.solve(&plan, false, cancel).await?;
        self.caches.begin(caches);
        let pushed = Receipt { image: image(&built), ..Receipt::default() };
        let (before, after) = (receipt.content(), pushed.content());
        if !before.is_empty() && !after.is_empty() && before != after {
            self.warn(
                "IMAGE_CHANGED",
                format!("what was pushed ({}) is not what was built before it", after.join(", ")),
                "the context changed between build and push; what was pushed is deployed",
            );
        }
        let pushed = pushed.image;
        if pushed.is_none() {
            let message = "the image was pushed, and its digest is not known";
            return Err(Diagnostic::new("DIGEST_UNKNOWN", Exit::Push, message)
                .with_fix("use a builder that tells digests, or a newer Docker")
                .into());
        }
        receipt.image = pushed;
        receipt.push = serde_json::to_value(&built.push).ok();
        Ok(())
    }

    async fn is_current(
        &mut self,
        receipt: &mut Receipt,
        cancel: &CancellationToken,
    ) -> Outcome<bool> {
        let (target, caches) = self.target()?;
        caches.beside(target.is_current(receipt, cancel)).await
    }

    async fn rollout(&mut self, receipt: &mut Receipt, cancel: &CancellationToken) -> Outcome<()> {
        let (target, caches) = self.target()?;
        Box::pin(caches.beside(target.rollout(receipt, cancel))).await
    }

    async fn verify(&mut self, receipt: &mut Receipt, cancel: &CancellationToken) -> Outcome<()> {
        let (target, caches) = self.target()?;
        caches.beside(target.verify(receipt, cancel)).await
    }

    async fn roll_back(&mut self, _: &mut Receipt, cancel: &CancellationToken) -> Outcome<()> {
        let (target, caches) = self.target()?;
        caches.beside(target.roll_back(cancel)).await
    }

    async fn record(&mut self, receipt: &Receipt, cancel: &CancellationToken) {
        let plan = &self.plan.record;
        let limit = Duration::from_secs(plan.timeout_seconds);
        let mut failures = Vec::new();
        if let Some(target) = &mut self.target {
            failures.extend(target.annotate(receipt, cancel).await.err());
        }
        if let Some(command) = &plan.command {
            let told = record::run(command, receipt, &self.parts.secrets, limit);
            failures.extend(heeding(cancel, told).await);
        }
        if let Some(http) = &plan.http {
            let token = http.token_env.as_ref().and_then(|name| self.parts.variables.get(name));
            let told = record::post(&http.url, token, receipt, limit);
            failures.extend(heeding(cancel, told).await);
        }
        if plan.referrer {
            let referred = refer(receipt, &self.parts.login, &self.parts.push);
            let told = tokio::select! {
                referred = tokio::time::timeout(limit, referred) => match referred {
                    Ok(told) => told,
                    Err(_) => Err(format!("it took longer than {} s", limit.as_secs())),
                },
                () = cancel.cancelled() => Err("interrupted".to_owned()),
            };
            let failed = |words| format!("the receipt was not pushed beside the image: {words}");
            failures.extend(told.map_err(failed).err());
        }
        for message in failures {
            let hint = "the deploy stands, and its receipt is in `bk-sync history`";
            self.warn("RECORD_FAILED", message, hint);
        }
    }

    async fn settle(&mut self) {
        self.caches.end().await;
    }

    async fn release(&mut self) {
        // What is not written by now belongs to a deploy that came to nothing.
        self.caches.begin(None);
        self.parts.login.release().await;
    }
}

/// What went wrong with telling somebody, in one line.
async fn heeding(
    cancel: &CancellationToken,
    told: impl Future<Output = Result<(), record::SinkError>>,
) -> Option<String> {
    let error = tokio::select! {
        told = told => told.err()?,
        () = cancel.cancelled() => return Some("interrupted before everybody was told".to_owned()),
    };
    Some(match std::error::Error::source(&error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    })
}

/// The image that a build made, as receipts have it.
fn image(built: &Built) -> Option<ImageRecord> {
    let image = built.image.as_ref()?;
    let digest = image.digest.clone()?;
    let layer = |layer: &pipeline::built::Layer| LayerRecord {
        digest: layer.digest.clone(),
        size: layer.size,
    };
    let manifest = |manifest: &pipeline::built::Manifest| ManifestRecord {
        platform: manifest.platform.clone(),
        digest: manifest.digest.clone(),
        size: manifest.size,
        layers: manifest.layers.iter().map(layer).collect(),
    };
    Some(ImageRecord {
        reference: match &image.name {
            Some(name) => format!("{name}@{digest}"),
            None => digest.clone(),
        },
        config_digest: image.config_digest.clone(),
        manifests: image.manifests.iter().map(manifest).collect(),
        tags: image.tags.clone(),
        digest,
    })
}

/// The Dockerfile by its content. None where the builder fetches it.
fn dockerfile(plan: &BuildPlan, directory: &Path) -> Option<FileDigest> {
    let path = match (&plan.file, &plan.context) {
        (Some(file), Context::Directory(_)) if file != "-" => PathBuf::from(file),
        (None, Context::Directory(context)) => context.join("Dockerfile"),
        _ => return None,
    };
    let bytes = std::fs::read(directory.join(&path)).ok()?;
    Some(FileDigest { path: path.display().to_string(), digest: registry::digest(&bytes) })
}
