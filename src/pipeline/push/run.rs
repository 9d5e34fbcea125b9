//! The push itself: notes what is to be done, does it, and tells what came of it.

use super::{
    builder::BuilderBlobs,
    files::{ImageFiles, ImageFilesError},
    held::{self, Held, HeldSource},
    keep::keep,
};
use crate::{
    buildkit::{control::Control, dial::Connection},
    credential::{RegistryHost, Secret},
    event::{Event, Events, Stage, Warning},
    image::{
        document::{Descriptor, Document},
        reference::Reference,
    },
    pipeline::{
        built::{Pushed, PushedBlobs, PushedBytes},
        error::{Error, PushFailure, Refusal},
        login::{Login, LoginFailure},
        sign::Signing,
    },
    plan::BuildPlan,
    registry::{
        BlobSource, Graph, ImagePush, ImagePushError, MAX_MANIFEST, Outcome, Places, Reach,
        Repository, RetryBudget, Server, SourceError, Target, read_whole,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use tokio_util::sync::CancellationToken;

/// How registries are pushed to.
#[derive(Clone, Debug, Default)]
pub struct PushSettings {
    /// How they are reached.
    pub reach: Reach,
    /// What failures may cost.
    pub budget: RetryBudget,
    /// Whether an image that could not be pushed is kept in our state directory, and not only where
    /// it lies.
    pub keeps_layout: bool,
}

/// The repositories and tags that references mean, each registry reached once.
#[derive(Clone, Debug)]
pub(crate) struct Targets(pub(crate) Vec<Target>);

impl Targets {
    /// For `references`, of which those of one repository are one target. `by_digest` leaves the
    /// tags out.
    pub(crate) fn new(
        references: &[Reference],
        by_digest: bool,
        login: &Login,
        reach: &Reach,
    ) -> Self {
        let mut servers: BTreeMap<RegistryHost, Arc<Server>> = BTreeMap::new();
        let mut targets: Vec<Target> = Vec::new();
        for reference in references {
            let host = RegistryHost::new(reference.domain());
            let server = servers
                .entry(host.clone())
                .or_insert_with(|| login.server(host, reach.clone()))
                .clone();
            let tag = reference.tag().filter(|_| !by_digest).map(str::to_owned);
            let same = targets.iter_mut().find(|target| {
                target.repository.name() == reference.path()
                    && target.repository.server().host() == server.host()
            });
            match same {
                Some(target) => target.tags.extend(tag),
                None => targets.push(Target {
                    repository: Repository::new(server, reference.path()),
                    tags: tag.into_iter().collect(),
                }),
            }
        }
        Self(targets)
    }

    pub(crate) fn repositories(&self) -> Vec<Repository> {
        self.0.iter().map(|target| target.repository.clone()).collect()
    }

    fn servers(&self) -> Vec<&Arc<Server>> {
        let mut servers: Vec<&Arc<Server>> = Vec::new();
        for target in &self.0 {
            let server = target.repository.server();
            if !servers.iter().any(|known| Arc::ptr_eq(known, server)) {
                servers.push(server);
            }
        }
        servers
    }
}

/// A push to be done.
pub(crate) struct Job<'a> {
    /// Where the blobs are read.
    pub(crate) source: &'a dyn BlobSource,
    /// What is pushed, where from, and to where.
    pub(crate) held: Held,
    /// The same, as repositories.
    pub(crate) targets: &'a Targets,
    /// What became already of blobs of the first target.
    pub(crate) delivered: BTreeMap<String, Outcome>,
    /// Images that this one starts from.
    pub(crate) bases: BTreeSet<Reference>,
    pub(crate) budget: RetryBudget,
    /// Whether an image that could not be pushed is kept here.
    pub(crate) keeps_layout: bool,
    pub(crate) login: &'a Login,
    /// Our state directory.
    pub(crate) state: Option<&'a Path>,
    pub(crate) events: &'a Events,
    pub(crate) cancel: &'a CancellationToken,
}

impl Job<'_> {
    /// Pushes. Before the first byte goes, the push is noted; when it is done, it is forgotten.
    ///
    /// # Errors
    /// A registry refuses or cannot be reached, the image cannot be read, or the user wants no
    /// more of it.
    pub(crate) async fn run(mut self) -> Result<Pushed, Error> {
        let subject = self.held.references.join(", ");
        self.events.emit(Event::StageStarted { stage: Stage::Push, subject });
        let noted = self.note();
        let outcome = tokio::select! {
            outcome = self.push() => outcome,
            () = self.cancel.cancelled() => Err(Error::Interrupted),
        };
        self.events.emit(Event::StageEnded { stage: Stage::Push, ok: outcome.is_ok() });
        for server in self.targets.servers() {
            for text in server.warnings() {
                self.events.emit(Event::Warning(Warning {
                    code: "REGISTRY_WARNING",
                    message: format!("`{}` says: {text}", server.host()),
                    hint: None,
                }));
            }
        }
        match (outcome, self.state) {
            (Ok(pushed), Some(state)) => {
                self.held.remove(state);
                Ok(pushed)
            }
            (Err(Error::Push(failure)), Some(state)) if noted => {
                if self.keeps_layout && failure.code != "PUSH_SOURCE" {
                    self.keep_layout(state).await;
                }
                Err(Error::Push(Box::new(failure.resumable(&self.held.id))))
            }
            (outcome, _) => outcome,
        }
    }

    /// Only notes the push, to be gone on with; its id, where it could be noted.
    pub(crate) fn hold(self) -> Option<String> {
        self.note().then_some(self.held.id)
    }

    async fn push(&self) -> Result<Pushed, Error> {
        let reference = self.held.references.first().map(String::as_str);
        let graph = Graph::load(&self.held.root(), self.source).await;
        let graph = graph.map_err(|error| unreadable(reference, &error))?;
        let before = self.places();
        let places = Mutex::new(before.clone());
        let mut bases: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for base in &self.bases {
            let host = RegistryHost::new(base.domain()).to_string();
            bases.entry(host).or_default().push(base.path().to_owned());
        }
        let push = ImagePush {
            graph: &graph,
            source: self.source,
            delivered: &self.delivered,
            bases: &bases,
            places: &places,
            budget: self.budget,
            events: self.events,
        };
        let done = push.run(&self.targets.0).await;
        let tally = done.map_err(|failed| self.failure(&failed))?;
        self.keep(&before, &places);
        let servers = self.targets.servers();
        let traffic = servers.iter().map(|server| server.traffic());
        let (requests, bytes) = traffic.fold((0, 0), |(requests, bytes), traffic| {
            (requests + traffic.requests, bytes + traffic.bytes)
        });
        let copies = u64::try_from(self.targets.0.len()).unwrap_or(1);
        Ok(Pushed {
            registry: servers.first().map(|server| server.host().to_string()).unwrap_or_default(),
            via: "client",
            blobs: PushedBlobs {
                uploaded: Some(tally.uploaded),
                mounted: Some(tally.mounted),
                existing: Some(tally.existing),
            },
            bytes: PushedBytes {
                uploaded: Some(bytes),
                total: Some(graph.size().saturating_mul(copies)),
            },
            requests: Some(requests),
            signatures: Vec::new(),
        })
    }

    /// Keeps the image here. Where it cannot be kept, it is still where it lies.
    async fn keep_layout(&mut self, state: &Path) {
        let (directory, root) = (self.held.layout(state), self.held.root());
        let kept = tokio::select! {
            kept = keep(&root, self.source, &directory) => kept,
            () = self.cancel.cancelled() => return,
        };
        let noted = kept.and_then(|()| {
            self.held.source = HeldSource::Path(directory.clone());
            self.held.write(state)
        });
        if let Err(error) = noted {
            self.events.emit(Event::Warning(Warning {
                code: "IMAGE_NOT_KEPT",
                message: format!("the image cannot be kept in `{}`: {error}", directory.display()),
                hint: Some("go on while the builder still has it".to_owned()),
            }));
        }
    }

    /// Notes the push, where we may; whether it is noted.
    fn note(&self) -> bool {
        let Some(state) = self.state else { return false };
        match self.held.write(state) {
            Ok(()) => true,
            Err(error) => {
                self.events.emit(Event::Warning(Warning {
                    code: "PUSH_NOT_NOTED",
                    message: format!(
                        "the push cannot be gone on with later: `{}` cannot be written: {error}",
                        state.display()
                    ),
                    hint: None,
                }));
                false
            }
        }
    }

    /// Where blobs were seen before.
    fn places(&self) -> Places {
        self.state.map(held::read_places).unwrap_or_default()
    }

    /// Keeps the memory. That it cannot be kept costs a later push some bytes.
    fn keep(&self, before: &Places, places: &Mutex<Places>) {
        let Some(state) = self.state else { return };
        let mut places = places.lock().unwrap_or_else(PoisonError::into_inner);
        if *places == *before {
            return;
        }
        places.trim();
        let path = held::places(state);
        let write = || {
            let folder = path.parent().unwrap_or(state);
            let file = tempfile::Builder::new().prefix(".places-").tempfile_in(folder)?;
            fs::write(file.path(), places.to_json())?;
            file.persist(&path).map(drop).map_err(|error| error.error)
        };
        if let Err(error) = write() {
            tracing::debug!(%error, "what was pushed where is not remembered");
        }
    }

    fn failure(&self, failed: &ImagePushError) -> Error {
        let mut failure = PushFailure::of_registry(&failed.reference, &failed.error);
        if failure.code == "PUSH_DENIED"
            && let Some(login @ LoginFailure::Source { .. }) =
                self.login.explanation(&failed.error.host)
        {
            failure = failure.explained_by(&login);
        }
        Error::Push(Box::new(failure))
    }
}

fn unreadable(reference: Option<&str>, error: &SourceError) -> Error {
    let subject = reference.unwrap_or("the image");
    Error::Push(Box::new(PushFailure {
        code: "PUSH_SOURCE",
        message: format!("the push of {subject} failed: it cannot be read"),
        reference: reference.map(str::to_owned),
        cause: Some(error.to_string()),
        fix: Some("build it again: what was built is cached".to_owned()),
        resume: None,
    }))
}

/// Where a push that is no build's takes the image from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PushSource {
    /// The store of a builder.
    Builder {
        /// The digest of the manifest or index.
        digest: String,
        /// The builder's address, where it is known.
        address: Option<String>,
    },
    /// An OCI layout, or an archive.
    Path(PathBuf),
}

impl PushSource {
    /// Where an unfinished push is held.
    pub fn of(held: &Held) -> Self {
        match &held.source {
            HeldSource::Builder(address) => {
                Self::Builder { digest: held.digest.clone(), address: Some(address.clone()) }
            }
            HeldSource::Path(path) => Self::Path(path.clone()),
        }
    }
}

/// A push of an image that was built before.
pub struct PushRequest<'a> {
    /// Where the image lies.
    pub source: PushSource,
    /// The builder, reached, where it lies there.
    pub connection: Option<&'a Connection>,
    /// The names that it gets.
    pub names: Vec<Reference>,
    /// The unfinished push that is gone on with.
    pub held: Option<Held>,
    /// How registries are pushed to.
    pub settings: &'a PushSettings,
    /// How it is signed.
    pub plan: &'a BuildPlan,
    /// Values of the variables that the key is taken from, by name.
    pub variables: BTreeMap<String, Secret>,
    /// Who we are there.
    pub login: &'a Login,
    /// Our state directory.
    pub state: Option<&'a Path>,
    /// Who hears of the progress.
    pub events: &'a Events,
    /// Cancelled when the user wants no more of it.
    pub cancel: &'a CancellationToken,
}

/// An image that was pushed without a build.
#[derive(Clone, Debug)]
pub struct PushedAlone {
    /// The digest of its manifest or index.
    pub digest: String,
    /// Its names, in full.
    pub references: Vec<String>,
    /// The push.
    pub pushed: Pushed,
}

/// Pushes an image that was built before.
///
/// # Errors
/// See [`Error`].
pub async fn push(request: PushRequest<'_>) -> Result<PushedAlone, Error> {
    let PushRequest { source, connection, names, held, settings, .. } = request;
    let signed = request.plan.signing.as_ref();
    let signing = Signing::load(request.plan, Path::new("."), &request.variables)?;
    let references: Vec<String> = names.iter().map(Reference::to_string).collect();
    let began = jiff::Timestamp::now().to_string();
    let (store, held): (Box<dyn BlobSource>, Held) = match source {
        PushSource::Path(path) => {
            let files = ImageFiles::open(&path, &references).map_err(|error| no_image(&error))?;
            let path = path.canonicalize().unwrap_or(path);
            let new = || {
                let source = HeldSource::Path(path);
                Held::new(&files.root, source, references.clone(), false, began)
                    .signed(signed, Path::new("."))
            };
            let held = held.unwrap_or_else(new);
            (Box::new(files), held)
        }
        PushSource::Builder { digest, .. } => {
            let connection = connection.ok_or_else(|| Error::Builder {
                message: "none is reached, and the image lies there".to_owned(),
            })?;
            let blobs = BuilderBlobs::new(Control::new(connection.channel.clone()));
            let held = if let Some(held) = held {
                held
            } else {
                let root = root_in(&blobs, digest).await?;
                let source = HeldSource::Builder(connection.address.to_string());
                Held::new(&root, source, references.clone(), false, began)
                    .signed(signed, Path::new("."))
            };
            (Box::new(blobs), held)
        }
    };
    let targets = Targets::new(&names, held.by_digest, request.login, &settings.reach);
    let digest = held.digest.clone();
    let job = Job {
        source: &*store,
        held,
        targets: &targets,
        delivered: BTreeMap::new(),
        bases: BTreeSet::new(),
        budget: settings.budget,
        // What lies in files is kept already.
        keeps_layout: settings.keeps_layout && connection.is_some(),
        login: request.login,
        state: request.state,
        events: request.events,
        cancel: request.cancel,
    };
    let mut pushed = job.run().await?;
    if let Some(signing) = signing {
        let (events, cancel) = (request.events, request.cancel);
        pushed.signatures = signing.sign(&targets, &digest, settings, events, cancel).await?;
    }
    Ok(PushedAlone { digest, references, pushed })
}

/// What the image `digest` in a builder is.
async fn root_in(blobs: &BuilderBlobs, digest: String) -> Result<Descriptor, Error> {
    let bytes = read_whole(blobs, &digest, MAX_MANIFEST).await;
    let bytes = bytes.map_err(|error| unreadable(None, &error))?;
    let document = Document::read(&bytes, None, &digest).ok_or_else(|| {
        let words = format!("`{digest}` is neither a manifest nor an index");
        unreadable(None, &SourceError::new(words))
    })?;
    Ok(Descriptor {
        media_type: document.media_type.as_str().to_owned(),
        digest,
        size: u64::try_from(bytes.len()).unwrap_or_default(),
        ..Descriptor::default()
    })
}

fn no_image(error: &ImageFilesError) -> Error {
    let fix = match error {
        ImageFilesError::Unreadable { .. } => "name a layout or an archive that can be read",
        ImageFilesError::NoImage { .. } => {
            "write one with `bk-sync build -o type=oci,dest=FILE` or `docker save`"
        }
        ImageFilesError::Several { .. } => "give the image the name that it has there",
    };
    Refusal::new("NO_IMAGE", error.to_string()).with_fix(fix).into()
}
