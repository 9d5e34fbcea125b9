//! A build from its plan to its result: reach, compile, solve, export.

mod caches_after;
mod hold;

use super::{
    attributes::{attributes, check, entitlements, is_true},
    builder::Builder,
    built::{self, BuildFacts, Built, Timings},
    caches::{CacheDefault, Caches, caches},
    docker,
    error::{BuildFailure, Error},
    frontend::{Frontend, FrontendError, FrontendInput, frontend},
    imagined::Looked,
    inspect,
    journal::Journal,
    login::Login,
    metadata,
    native::{Looking, Wanted},
    outputs::{Outputs, Push, outputs},
    policy::policy,
    preflight_push,
    push::{BuilderBlobs, Held, HeldSource, Job, Offers, PushSettings, Targets, repositories_in},
    receive::{Takers, destinations, output_failure},
    remember::{self, Memory},
    services::{agents, secrets},
    sign::Signing,
    signed_bases::SignedBases,
    sources::{Stdin, sources},
};
use crate::{
    buildkit::{
        control::Control,
        dial::Connection,
        gateway::Gateway,
        session::{
            Auth, ContextCounts, ContextIndex, ContextMemory, FileSend, FileSync, Layouts,
            OutputFailure, SessionBuilder, Upload, random_id,
        },
        solve::{self, BuildError},
    },
    compile,
    credential::{RegistryHost, Secret},
    engine,
    event::{Event, Events, Stage, Warning},
    plan::{BuildPlan, ImageLock, Output, OutputKind},
    proto::moby::buildkit::v1::{
        CacheOptions, CacheOptionsEntry, SolveRequest, frontend::Result as BuildResult,
    },
    registry::Repository,
};
pub use caches_after::CacheExports;
use hold::Hold;
use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// What a build needs from its surroundings. Nothing here is looked up: who calls says it.
pub struct Inputs {
    /// The builder, reached.
    pub connection: Connection,
    /// How long it took to reach it.
    pub connect_time: Option<Duration>,
    /// The Docker that `--load` loads into, where the builder is not part of one.
    pub docker: Option<engine::Client>,
    /// Credentials for registries.
    pub login: Login,
    /// What the plan does not say of its caches.
    pub cache_defaults: Vec<CacheDefault>,
    /// Values of the variables that the plan's secrets are taken from, by name.
    pub variables: BTreeMap<String, Secret>,
    /// The socket of the user's SSH agent.
    pub ssh_agent: Option<PathBuf>,
    /// What the plan's relative paths start from.
    pub directory: PathBuf,
    /// Where we may keep what speeds up the next build and what finishes a push; without it
    /// contexts are sent whole, and a push that failed cannot be gone on with.
    pub state: Option<PathBuf>,
    /// Whether the build is remembered (see [`super::remember`]). One that only hands on what an
    /// earlier one made says nothing of why steps ran.
    pub is_remembered: bool,
    /// How registries are pushed to.
    pub push: PushSettings,
    /// What comes on stdin, where the plan reads it.
    pub stdin: Option<Stdin>,
    /// Who hears of the progress.
    pub events: Events,
    /// Cancelled when the user wants no more of it.
    pub cancel: CancellationToken,
}

impl fmt::Debug for Inputs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Inputs")
            .field("connection", &self.connection)
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

/// Builds `plan`, and writes its caches when the image is where it belongs. On cancellation the builder
/// is told and given time to end the build.
///
/// # Errors
/// See [`Error`].
pub async fn build(plan: &BuildPlan, inputs: Inputs) -> Result<Built, Error> {
    let (mut built, caches) = build_image(plan, inputs).await?;
    if let Some(caches) = caches {
        let began = Instant::now();
        built.exporter_response.extend(Box::pin(caches.write()).await?);
        let took = began.elapsed();
        built.timings.cache = Some(took);
        built.timings.total = built.timings.total.map(|total| total + took);
        built.write_files(plan)?;
    }
    Ok(built)
}

/// Builds `plan`, less the caches that are written after it: whoever calls writes them when it suits.
///
/// # Errors
/// See [`Error`].
pub async fn build_image(
    plan: &BuildPlan,
    inputs: Inputs,
) -> Result<(Built, Option<CacheExports>), Error> {
    let began = Instant::now();
    let (plan, caches) = caches_after::apart(plan, &inputs)?;
    let cancel = inputs.cancel.clone();
    let again = inputs.again();
    let prepared = tokio::select! {
        prepared = Prepared::new(&plan, inputs, None) => prepared?,
        () = cancel.cancelled() => return Err(Error::Interrupted),
    };
    let is_builders = prepared.outputs.push == Push::Exporter;
    let frontend = frontend(plan.frontend);
    let mut built = match Box::pin(prepared.run(&plan, frontend.as_ref())).await {
        Err(Error::Push(failure)) if is_builders => {
            return Err(Box::pin(hold::held(&plan, again, failure)).await);
        }
        built => built?,
    };
    built.timings.total = Some(began.elapsed() + built.timings.connect.unwrap_or_default());
    built.write_files(&plan)?;
    Ok((built, caches))
}

/// What to compile without building it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Look {
    /// What is wanted of it.
    pub wanted: Wanted,
    /// The id of the session, for graphs that must come out the same twice; a random one where it
    /// is none.
    pub session_id: Option<String>,
}

/// Compiles `plan` for the builder that is reached, and builds nothing.
///
/// # Errors
/// As [`build`], but for what is wrong with the Dockerfile where it is compiled here: that is an
/// answer.
pub async fn look(plan: &BuildPlan, inputs: Inputs, look: Look) -> Result<Looked, Error> {
    let frontend = Looking::new(look.wanted, plan.frontend);
    asking(plan, inputs, &frontend, look.session_id).await?;
    frontend.into_found().ok_or_else(|| Error::Builder {
        message: "it ended the build before anything was compiled".to_owned(),
    })
}

/// Lets `frontend` do what it does for `plan`, in a session of this id where one is given, and builds
/// nothing.
///
/// # Errors
/// As [`build`].
pub(super) async fn asking(
    plan: &BuildPlan,
    inputs: Inputs,
    frontend: &dyn Frontend,
    session_id: Option<String>,
) -> Result<(), Error> {
    let nothing = Output { kind: OutputKind::CacheOnly, attributes: BTreeMap::new(), target: None };
    let plan = BuildPlan {
        push: false,
        load: false,
        outputs: vec![nothing],
        annotations: Vec::new(),
        cache_to: Vec::new(),
        signing: None,
        base_keys: Vec::new(),
        ..plan.clone()
    };
    let cancel = inputs.cancel.clone();
    let mut prepared = tokio::select! {
        prepared = Prepared::new(&plan, inputs, None) => prepared?,
        () = cancel.cancelled() => return Err(Error::Interrupted),
    };
    if let Some(id) = session_id {
        prepared.session = prepared.session.with_id(id.clone());
        prepared.input.session_id = id;
    }
    Box::pin(prepared.run(&plan, frontend)).await.map(drop)
}

/// A build whose parts are known and checked, and that has not begun.
struct Prepared {
    connection: Connection,
    connect_time: Option<Duration>,
    outputs: Outputs,
    input: FrontendInput,
    cache_exports: Vec<(String, BTreeMap<String, String>)>,
    directory: PathBuf,
    session: SessionBuilder,
    /// What serves the directories of builds that this one is made of.
    linked: Vec<SessionBuilder>,
    counts: ContextCounts,
    index: ContextIndex,
    memory: Option<Memory>,
    takers: Takers,
    output_failure: OutputFailure,
    login: Login,
    /// Where the image goes; nowhere where it is not pushed.
    targets: Targets,
    client_push: Option<ClientPush>,
    /// Who signs the image once it is pushed.
    signing: Option<(Signing, PushSettings)>,
    /// By whom the images that it starts from have to be signed.
    signed_bases: Option<SignedBases>,
    /// Where the image is only held, for a push that failed: nobody is asked and nothing is sent.
    hold: Option<Hold>,
    state: Option<PathBuf>,
    events: Events,
    cancel: CancellationToken,
}

/// A push by this process, which is prepared while the image is not there yet.
struct ClientPush {
    offers: Offers,
    settings: PushSettings,
}

impl ClientPush {
    fn new(
        connection: &Connection,
        repositories: Vec<Repository>,
        settings: PushSettings,
        events: &Events,
    ) -> Self {
        // While the image is built there is time to say hello.
        for repository in repositories.clone() {
            tokio::spawn(async move { repository.get_ready().await });
        }
        let blobs = BuilderBlobs::new(Control::new(connection.channel.clone()));
        let offers = Offers::new(blobs, repositories, settings.budget, events.clone());
        Self { offers, settings }
    }
}

/// Where the image of `outputs` goes, as far as it is pushed.
fn targets(outputs: &Outputs, settings: &PushSettings, login: &Login) -> Targets {
    let mut reach = settings.reach.clone();
    if outputs.is_insecure {
        let hosts = outputs.names.iter().map(|name| RegistryHost::new(name.domain()));
        reach.insecure.extend(hosts);
    }
    let names = if outputs.push == Push::None { &[][..] } else { &outputs.names };
    Targets::new(names, outputs.by_digest, login, &reach)
}

impl Prepared {
    async fn new(plan: &BuildPlan, inputs: Inputs, hold: Option<Hold>) -> Result<Self, Error> {
        let Inputs { connection, connect_time, directory, login, events, cancel, .. } = inputs;
        let builder = Builder::reached(&connection);
        let outputs = outputs(plan, &builder, inputs.docker.is_some())?;
        let mut attributes = attributes(plan, &builder)?;
        let Caches { exports, imports, directories: caches, warnings } =
            caches(plan, &builder, &directory, &inputs.cache_defaults)?;
        for warning in warnings {
            events.emit(Event::Warning(warning));
        }
        let sources = sources(plan, &directory, inputs.stdin).await?;
        attributes.extend(sources.attributes);

        let secrets = secrets(plan, &directory, &inputs.variables)?;
        let agents = agents(plan, &directory, inputs.ssh_agent.as_deref())?;
        let pushes = outputs.push != Push::None && hold.is_none();
        let signing =
            if pushes { Signing::load(plan, &directory, &inputs.variables)? } else { None };
        let signing = signing.map(|signing| (signing, inputs.push.clone()));
        let signed_bases = match &hold {
            Some(_) => None,
            None => SignedBases::load(plan, &directory, &login, &inputs.push.reach)?,
        };
        let upload = Upload::new();
        if let Some(archive) = sources.upload {
            attributes.insert("context".to_owned(), upload.add(archive));
        }
        let state = inputs.state.as_deref();
        let remembered = state
            .filter(|_| inputs.is_remembered)
            .and_then(|state| Memory::of(state, plan, &directory));
        let memory = ContextMemory::open(state, &sources.directories);
        let session = SessionBuilder::new(memory.shared_key());
        let files = FileSync::new(sources.directories.clone(), memory);
        let files = match plan.reproducible {
            Some(epoch) => files.alike(epoch),
            None => files,
        };
        let (counts, index) = (files.counts(), files.index());
        let (destinations, takers) =
            destinations(&outputs.receivers, &directory, inputs.docker.as_ref());
        let file_send = FileSend::new(destinations);
        let output_failure = file_send.failure();
        let targets = targets(&outputs, &inputs.push, &login);
        let client_push = (outputs.push == Push::Client).then(|| {
            let repositories = if hold.is_some() { Vec::new() } else { targets.repositories() };
            ClientPush::new(&connection, repositories, inputs.push, &events)
        });
        let mut stores = Layouts::new(sources.layouts, caches);
        if let Some(push) = &client_push {
            stores = stores.with_export(Arc::new(push.offers.clone()));
        }
        let session = session
            .attach(Auth::new(login.clone()))
            .attach(files)
            .attach(file_send)
            .attach(secrets)
            .attach(agents)
            .attach(upload)
            .attach(stores);
        if outputs.is_left_to_docker {
            events.emit(Event::Warning(Warning {
                code: "PUSH_VIA_DOCKER",
                message: "this Docker gives no blobs out, so it pushes itself, through its Engine \
                          API"
                .to_owned(),
                hint: Some("turn on Docker's containerd image store".to_owned()),
            }));
        }
        if outputs.is_cache_only_by_default {
            events.emit(Event::Warning(Warning {
                code: "NO_OUTPUT",
                message: "no output is asked for, so the result stays in the builder's cache"
                    .to_owned(),
                hint: Some("add --push, --load or -o/--output".to_owned()),
            }));
        }
        let input = FrontendInput {
            attributes,
            cache_imports: imports,
            dockerfile: sources.dockerfile,
            session_id: session.id().to_owned(),
            directories: sources.directories,
            pinning: plan.pinned(),
            inputs: BTreeMap::new(),
        };
        let mut linked = Vec::new();
        let input = with_inputs(input, plan, (&builder, &directory, state), &mut linked).await?;
        Ok(Self {
            connection,
            connect_time,
            outputs,
            input,
            cache_exports: exports,
            directory,
            session,
            linked,
            counts,
            index,
            memory: remembered,
            takers,
            output_failure,
            login,
            targets,
            client_push,
            signing,
            signed_bases,
            hold,
            state: inputs.state,
            events,
            cancel,
        })
    }

    async fn run(self, plan: &BuildPlan, frontend: &dyn Frontend) -> Result<Built, Error> {
        let Self { connection, outputs, input, events, cancel, .. } = self;
        let channel = connection.channel.clone();
        let session = tokio::select! {
            session = self.session.open(channel.clone()) => session.map_err(Error::Session)?,
            () = cancel.cancelled() => return Err(Error::Interrupted),
        };
        let mut linked = Vec::new();
        for session in self.linked {
            linked.push(session.open(channel.clone()).await.map_err(Error::Session)?);
        }
        let build_id = random_id();
        let request = request(plan, &outputs, &input, &self.cache_exports, &build_id);
        let journal = Mutex::new(Journal::default());
        let compilation = Mutex::new(None);
        let drive = async |gateway: &Gateway| -> Result<BuildResult, FrontendError> {
            check(plan, outputs.exporters.len(), gateway.capabilities())?;
            let began = Instant::now();
            let subject = input.attributes.get("filename").cloned().unwrap_or_default();
            events.emit(Event::StageStarted { stage: Stage::Compile, subject });
            // Nothing runs before a result is returned, so a refusal costs no build.
            let allowed = async {
                if self.hold.is_some() {
                    return Ok(());
                }
                let (is_ours, state) = (outputs.push == Push::Client, self.state.as_deref());
                preflight_push::check(&self.targets, is_ours, &self.login, &events, state)
                    .await
                    .map_err(FrontendError::Preflight)
            };
            let compiled = tokio::try_join!(frontend.compile(gateway, &input), allowed);
            let compiled = compiled.map(|(compiled, ())| compiled);
            // A push that is refused says nothing against the Dockerfile.
            let ok = matches!(compiled, Ok(_) | Err(FrontendError::Preflight(_)));
            events.emit(Event::StageEnded { stage: Stage::Compile, ok });
            let compiled = compiled?;
            if let Some(bases) = &self.signed_bases {
                Box::pin(bases.check(compiled.graphs.as_deref()))
                    .await
                    .map_err(FrontendError::Unverified)?;
            }
            let warnings = if self.hold.is_some() {
                Vec::new()
            } else {
                inspect::look(gateway, &compiled, &input, &outputs, &journal, plan.strict).await
            };
            if plan.strict
                && let Some(refusal) = inspect::refusal(&warnings)
            {
                return Err(FrontendError::Unfit(refusal));
            }
            for warning in warnings {
                events.emit(Event::Warning(warning));
            }
            if let Some(push) = &self.client_push {
                push.offers.note_bases(repositories_in(&compiled.result));
            }
            let facts = (compiled.frontend, compiled.llb_digest, began.elapsed());
            *lock(&compilation) = Some((facts, compiled.graphs));
            Ok(compiled.result)
        };
        let observe = |status| {
            lock(&journal).observe(&status);
            events.emit(Event::Build(status));
        };

        let subject = connection.address.to_string();
        events.emit(Event::StageStarted { stage: Stage::Build, subject });
        let began = Instant::now();
        let solved = solve::run(channel.clone(), session, request, drive, observe, &cancel).await;
        let solve_time = began.elapsed();
        events.emit(Event::StageEnded { stage: Stage::Build, ok: solved.is_ok() });
        for session in linked {
            if let Err(error) = session.close().await {
                tracing::debug!(%error, "the session of a linked build ended early");
            }
        }

        let journal = journal.into_inner().unwrap_or_else(PoisonError::into_inner);
        let compilation = compilation.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let (Some(memory), Some(((frontend, ..), graphs))) = (&self.memory, &compilation) {
            let of_build = remember::Build {
                plan,
                builder: connection.address.to_string(),
                frontend,
                graphs: graphs.as_deref(),
                ok: solved.is_ok(),
            };
            memory.keep(&of_build, &journal, self.index.take());
        }
        let mut response = match solved {
            Ok(response) => response,
            Err(error) => {
                let own_failure = self.takers.wind_up().await;
                let error = explain(error, &journal, &connection, &cancel).await;
                if matches!(error, Error::Interrupted) {
                    return Err(error);
                }
                let unwritten = self.output_failure.get().map(|words| output_failure(&words));
                let error = explain_login(error, &self.login);
                return Err(own_failure.or(unwritten).unwrap_or(error));
            }
        };
        tokio::select! {
            taken = self.takers.finish() => taken?,
            () = cancel.cancelled() => return Err(Error::Interrupted),
        }
        Caches::name_written(&self.cache_exports, &self.directory, &response)?;
        let (frontend, llb_digest, compile_time, graphs) = match compilation {
            Some(((frontend, digest, time), graphs)) => {
                (Some(frontend), digest, Some(time), graphs)
            }
            None => (None, None, None, None),
        };
        let bases = graphs.as_deref().map(bases).unwrap_or_default();
        let mut timings = Timings {
            connect: self.connect_time,
            compile: compile_time,
            context: journal.span("[internal] load build context"),
            solve: Some(solve_time),
            export: journal.span("exporting to "),
            push: journal.push_time(),
            cache: None,
            total: None,
        };
        let control = Control::new(channel);
        let mut image = built::image(&control, &outputs, &response).await;
        let mut pushed = built::pushed(&outputs);
        if let Some(push) = &self.client_push {
            let began = Instant::now();
            let root = built::root(&response)
                .ok_or_else(|| Error::Builder { message: "it exported no image".to_owned() })?;
            let references = outputs.names.iter().map(ToString::to_string).collect();
            let source = HeldSource::Builder(connection.address.to_string());
            let began_at = jiff::Timestamp::now().to_string();
            let job = Job {
                source: &push.offers,
                held: Held::new(&root, source, references, outputs.by_digest, began_at)
                    .signed(plan.signing.as_ref(), &self.directory),
                targets: &self.targets,
                delivered: push.offers.delivered().await,
                bases: push.offers.bases(),
                budget: push.settings.budget,
                keeps_layout: push.settings.keeps_layout,
                login: &self.login,
                state: self.state.as_deref(),
                events: &events,
                cancel: &cancel,
            };
            if let Some(hold) = &self.hold {
                // Set once, since one image is exported.
                job.hold().into_iter().for_each(|id| drop(hold.set(id)));
            } else {
                pushed = Some(job.run().await?);
                timings.push = Some(began.elapsed());
            }
        }
        if let (Push::Docker, Some(engine)) = (outputs.push, &connection.engine) {
            let names = &outputs.names;
            let made =
                docker::push(engine, names, &self.login, &events, &cancel, &mut timings).await?;
            if let Some(made) = made {
                built::add_docker_push(made, &mut image, &mut pushed, &mut response);
            }
        }
        if let (Some((signing, settings)), Some(pushed)) = (&self.signing, &mut pushed) {
            let digest = image.as_ref().and_then(|image| image.digest.as_deref());
            let digest =
                digest.or_else(|| response.get("containerimage.digest").map(String::as_str));
            let digest = digest.ok_or_else(|| Error::Builder {
                message: "it does not say which image it pushed, so none is signed".to_owned(),
            })?;
            pushed.signatures =
                Box::pin(signing.sign(&self.targets, digest, settings, &events, &cancel)).await?;
        }
        let metadata = match &plan.metadata_file {
            Some(_) => {
                metadata::entries(&control, &build_id, plan.metadata, journal.warnings()).await
            }
            None => BTreeMap::new(),
        };
        Ok(Built {
            image,
            push: pushed,
            build: BuildFacts { llb_digest, ..built::facts(&journal, &self.counts, frontend) },
            timings,
            exporter_response: response,
            metadata,
            bases,
            build_id,
        })
    }
}

/// What a frontend works from, with what it works from of the builds that `plan` is made of. Sessions
/// that serve their directories are added to `sessions`.
async fn with_inputs(
    mut input: FrontendInput,
    plan: &BuildPlan,
    place: (&Builder, &Path, Option<&Path>),
    sessions: &mut Vec<SessionBuilder>,
) -> Result<FrontendInput, Error> {
    let (builder, directory, state) = place;
    for (name, plan) in &plan.linked {
        let mut attributes = attributes(plan, builder)?;
        let sources = sources(plan, directory, None).await?;
        attributes.extend(sources.attributes);
        let memory = ContextMemory::open(state, &sources.directories);
        let session = SessionBuilder::new(memory.shared_key());
        let files = FileSync::new(sources.directories.clone(), memory);
        let files = match plan.reproducible {
            Some(epoch) => files.alike(epoch),
            None => files,
        };
        let stores = Layouts::new(sources.layouts, Vec::new());
        let session = session.attach(files).attach(stores);
        let linked = FrontendInput {
            attributes,
            cache_imports: Vec::new(),
            dockerfile: sources.dockerfile,
            session_id: session.id().to_owned(),
            directories: sources.directories,
            pinning: plan.pinned(),
            inputs: BTreeMap::new(),
        };
        sessions.push(session);
        let linked = Box::pin(with_inputs(linked, plan, place, sessions)).await?;
        input.inputs.insert(name.clone(), linked);
    }
    Ok(input)
}

/// The images that graphs start from.
fn bases(graphs: &compile::Build) -> ImageLock {
    let ops = graphs.targets.iter().flat_map(|target| target.definition.ops());
    ImageLock::of_graph(ops.map(|op| op.bytes.as_slice()))
}

/// What the builder is asked for.
fn request(
    plan: &BuildPlan,
    outputs: &Outputs,
    input: &FrontendInput,
    cache_exports: &[(String, BTreeMap<String, String>)],
    build_id: &str,
) -> SolveRequest {
    let first = outputs.exporters.first();
    let mut exports: Vec<CacheOptionsEntry> = cache_exports
        .iter()
        .map(|(kind, attrs)| CacheOptionsEntry { r#type: kind.clone(), attrs: attrs.clone() })
        .collect();
    if plan.args.get("BUILDKIT_INLINE_CACHE").is_some_and(|value| is_true(value)) {
        let kind = "inline".to_owned();
        exports.push(CacheOptionsEntry { r#type: kind, attrs: BTreeMap::new() });
    }
    SolveRequest {
        r#ref: build_id.to_owned(),
        session: input.session_id.clone(),
        exporter_deprecated: first.map(|one| one.r#type.clone()).unwrap_or_default(),
        exporter_attrs_deprecated: first.map(|one| one.attrs.clone()).unwrap_or_default(),
        exporters: outputs.exporters.clone(),
        // Recorded in the builder's history, and read by its attesters.
        frontend_attrs: input.attributes.clone(),
        cache: Some(CacheOptions { exports, imports: Vec::new() }),
        entitlements: entitlements(plan),
        source_policy: plan.source_policy.as_ref().map(policy),
        ..SolveRequest::default()
    }
}

/// What a failed build means for the user.
async fn explain(
    error: BuildError<FrontendError>,
    journal: &Journal,
    connection: &Connection,
    cancel: &CancellationToken,
) -> Error {
    let failure = match error {
        BuildError::Builder(failure) | BuildError::Frontend(FrontendError::Builder(failure)) => {
            failure
        }
        BuildError::Cancelled => return Error::Interrupted,
        BuildError::Frontend(FrontendError::Dockerfile { message, sources, fix }) => {
            let failure = BuildFailure::dockerfile(message, sources, fix);
            return Error::Dockerfile(Box::new(failure));
        }
        BuildError::Frontend(FrontendError::Preflight(failure)) => {
            return Error::Preflight(failure);
        }
        BuildError::Frontend(FrontendError::Refused(refusal)) => return refusal.into(),
        BuildError::Frontend(FrontendError::Unfit(refusal)) => return Error::Unfit(refusal),
        BuildError::Frontend(FrontendError::Unverified(refusal)) => {
            return Error::Unverified(refusal);
        }
        BuildError::Session(error) => return Error::Session(error),
    };
    if cancel.is_cancelled() && failure.is_cancelled() {
        return Error::Interrupted;
    }
    match (Error::from_failure(&failure, journal), connection.last_words().await) {
        // What carried the connection knows better why it broke.
        (Error::Builder { message }, Some(words)) => {
            Error::Builder { message: format!("{message}: {words}") }
        }
        (error, _) => error,
    }
}

/// A refused push, told by what stood in the way of the login.
fn explain_login(error: Error, login: &Login) -> Error {
    let Error::Push(failure) = error else { return error };
    let host = failure.reference.as_deref().map(RegistryHost::new);
    match host.and_then(|host| login.explanation(&host)) {
        Some(login) => Error::Push(Box::new(failure.explained_by(&login))),
        None => Error::Push(failure),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
