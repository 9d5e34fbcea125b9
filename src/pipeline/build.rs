//! A build from its plan to its result: reach, compile, solve, export.

use super::{
    attributes::{Attributes, attributes, check, entitlements, is_true},
    builder::Builder,
    built::{self, BuildFacts, Built, Timings},
    error::{BuildFailure, Error},
    frontend::{DaemonFrontend, Frontend as _, FrontendError, FrontendInput},
    journal::Journal,
    login::Login,
    outputs::{Outputs, outputs},
    sources::{Here, Sources, Stdin, sources},
};
use crate::{
    buildkit::{
        control::Control,
        errors::Failure,
        gateway::Gateway,
        session::{
            Auth, ContextCounts, FileSync, OpenSession, SessionBuilder, SessionError, random_id,
        },
        solve::{self, BuildError},
    },
    event::{Event, Events, Stage, Warning},
    plan::{BuildPlan, CacheEntry},
    proto::moby::buildkit::v1::{
        CacheOptions, CacheOptionsEntry, SolveRequest, frontend::Result as BuildResult,
    },
};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// What a build needs from its surroundings. Nothing here is looked up: who calls says it.
pub struct Inputs {
    /// The connection to the builder.
    pub channel: Channel,
    /// How the builder is called, for messages.
    pub address: String,
    /// How long it took to reach it.
    pub connect_time: Option<Duration>,
    /// Credentials for registries.
    pub login: Login,
    /// Where the plan's paths are meant.
    pub here: Here,
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
            .field("address", &self.address)
            .field("here", &self.here)
            .finish_non_exhaustive()
    }
}

/// Builds `plan`. On cancellation the builder is told and given time to end the build.
///
/// # Errors
/// See [`Error`].
pub async fn build(plan: &BuildPlan, inputs: Inputs) -> Result<Built, Error> {
    let began = Instant::now();
    let cancel = inputs.cancel.clone();
    let prepared = tokio::select! {
        prepared = Prepared::new(plan, inputs) => prepared?,
        () = cancel.cancelled() => return Err(Error::Interrupted),
    };
    let mut built = prepared.run(plan).await?;
    built.timings.total = Some(began.elapsed() + built.timings.connect.unwrap_or_default());
    if let Some(path) = &plan.iid_file {
        built.write_iid_file(path)?;
    }
    if let Some(path) = &plan.metadata_file {
        built.write_metadata_file(path)?;
    }
    Ok(built)
}

/// A build whose parts are known and checked, and that has not begun.
struct Prepared {
    channel: Channel,
    control: Control,
    address: String,
    connect_time: Option<Duration>,
    builder: Builder,
    outputs: Outputs,
    sources: Sources,
    session: Mutex<Option<SessionBuilder>>,
    counts: ContextCounts,
    events: Events,
    cancel: CancellationToken,
}

impl Prepared {
    async fn new(plan: &BuildPlan, inputs: Inputs) -> Result<Self, Error> {
        let Inputs { channel, address, connect_time, login, here, stdin, events, cancel } = inputs;
        let sources = sources(plan, &here, stdin).await?;
        let control = Control::new(channel.clone());
        let workers = control.workers().await.map_err(no_builder)?;
        let builder = Builder::new(&workers);
        let outputs = outputs(plan, &builder, false)?;
        if outputs.is_cache_only_by_default {
            events.emit(Event::Warning(Warning {
                code: "NO_OUTPUT",
                message: "no output is asked for, so the result stays in the builder's cache"
                    .to_owned(),
                hint: Some("add --push, --load or -o/--output".to_owned()),
            }));
        }
        let files = FileSync::new(sources.directories.clone());
        let counts = files.counts();
        let session = SessionBuilder::new(sources.shared_key.clone())
            .attach(Auth::new(login.clone()))
            .attach(files);
        Ok(Self {
            channel,
            control,
            address,
            connect_time,
            builder,
            outputs,
            sources,
            session: Mutex::new(Some(session)),
            counts,
            events,
            cancel,
        })
    }

    async fn run(self, plan: &BuildPlan) -> Result<Built, Error> {
        let Self { channel, control, address, connect_time, builder, outputs, .. } = &self;
        let build_id = random_id();
        let mut attributes = attributes(plan, builder)?;
        attributes.extend(self.sources.attributes.clone());
        let session = self.open_session().await?;

        let input = FrontendInput {
            attributes: attributes.clone(),
            cache_imports: entries(&plan.cache_from).collect(),
            dockerfile: self.sources.dockerfile.clone(),
            session_id: session.id().to_owned(),
            directories: self.sources.directories.clone(),
        };
        let request = self.request(plan, &build_id, session.id(), attributes);
        let frontend = DaemonFrontend::new(plan.frontend);
        let journal = Mutex::new(Journal::default());
        let compilation = Mutex::new(None);
        let drive = async |gateway: &Gateway| -> Result<BuildResult, FrontendError> {
            check(plan, outputs.exporters.len(), gateway.capabilities())?;
            let began = Instant::now();
            self.stage(Stage::Compile, || input.dockerfile.as_ref().map(|file| file.name.clone()));
            let compiled = frontend.compile(gateway, &input).await;
            self.events.emit(Event::StageEnded { stage: Stage::Compile, ok: compiled.is_ok() });
            let compiled = compiled?;
            let facts = (compiled.frontend, compiled.llb_digest, began.elapsed());
            *lock(&compilation) = Some(facts);
            Ok(compiled.result)
        };
        let observe = |status| {
            lock(&journal).observe(&status);
            self.events.emit(Event::Build(status));
        };

        self.stage(Stage::Build, || Some(address.clone()));
        let began = Instant::now();
        let solved =
            solve::run(channel.clone(), session, request, drive, observe, &self.cancel).await;
        let solve_time = began.elapsed();
        self.events.emit(Event::StageEnded { stage: Stage::Build, ok: solved.is_ok() });
        let journal = journal.into_inner().unwrap_or_else(PoisonError::into_inner);
        let response = solved.map_err(|error| self.explain(error, &journal))?;

        let compilation = compilation.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (frontend, llb_digest, compile_time) = match compilation {
            Some((frontend, digest, time)) => (Some(frontend), digest, Some(time)),
            None => (None, None, None),
        };
        Ok(Built {
            image: built::image(control, outputs, &response).await,
            push: built::pushed(outputs),
            build: BuildFacts { llb_digest, ..built::facts(&journal, &self.counts, frontend) },
            timings: Timings {
                connect: *connect_time,
                compile: compile_time,
                context: journal.span("[internal] load build context"),
                solve: Some(solve_time),
                export: journal.span("exporting to "),
                push: journal.push_time(),
                total: None,
            },
            exporter_response: response,
            build_id,
        })
    }

    /// Opens the session, or gives up when the user does.
    async fn open_session(&self) -> Result<OpenSession, Error> {
        let session = lock(&self.session).take().ok_or(Error::Interrupted)?;
        tokio::select! {
            session = session.open(self.channel.clone()) => session.map_err(no_session),
            () = self.cancel.cancelled() => Err(Error::Interrupted),
        }
    }

    fn request(
        &self,
        plan: &BuildPlan,
        build_id: &str,
        session_id: &str,
        attributes: Attributes,
    ) -> SolveRequest {
        let first = self.outputs.exporters.first();
        let mut exports: Vec<CacheOptionsEntry> = entries(&plan.cache_to)
            .map(|(kind, attrs)| CacheOptionsEntry { r#type: kind, attrs })
            .collect();
        if plan.args.get("BUILDKIT_INLINE_CACHE").is_some_and(|value| is_true(value)) {
            let kind = "inline".to_owned();
            exports.push(CacheOptionsEntry { r#type: kind, attrs: BTreeMap::new() });
        }
        SolveRequest {
            r#ref: build_id.to_owned(),
            session: session_id.to_owned(),
            exporter_deprecated: first.map(|one| one.r#type.clone()).unwrap_or_default(),
            exporter_attrs_deprecated: first.map(|one| one.attrs.clone()).unwrap_or_default(),
            exporters: self.outputs.exporters.clone(),
            frontend_attrs: attributes,
            cache: Some(CacheOptions { exports, imports: Vec::new() }),
            entitlements: entitlements(plan),
            ..SolveRequest::default()
        }
    }

    /// Reports the begin of a stage.
    fn stage(&self, stage: Stage, subject: impl FnOnce() -> Option<String>) {
        let subject = subject().unwrap_or_default();
        self.events.emit(Event::StageStarted { stage, subject });
    }

    /// What a failed build means for the user.
    fn explain(&self, error: BuildError<FrontendError>, journal: &Journal) -> Error {
        match error {
            BuildError::Builder(failure)
            | BuildError::Frontend(FrontendError::Builder(failure)) => {
                if self.cancel.is_cancelled() && failure.is_cancelled() {
                    return Error::Interrupted;
                }
                Error::from_failure(&failure, journal)
            }
            BuildError::Cancelled => Error::Interrupted,
            BuildError::Frontend(FrontendError::Dockerfile { message, sources }) => {
                let code = "DOCKERFILE_INVALID";
                Error::Dockerfile(Box::new(BuildFailure {
                    code,
                    message,
                    sources,
                    ..BuildFailure::default()
                }))
            }
            BuildError::Frontend(FrontendError::Refused(refusal)) => refusal.into(),
            BuildError::Session(error) => Error::Session(error),
        }
    }
}

fn entries(list: &[CacheEntry]) -> impl Iterator<Item = (String, BTreeMap<String, String>)> {
    list.iter().map(|entry| (entry.kind.clone(), entry.attributes.clone()))
}

fn no_builder(failure: Failure) -> Error {
    Error::Builder { message: failure.message }
}

fn no_session(error: SessionError) -> Error {
    Error::Session(error)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
