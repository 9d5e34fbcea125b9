//! Runs a build that was asked for: reaches the builder, shows the progress, heeds signals, and
//! says how it ended.

use super::{
    arguments::GlobalArguments,
    build::{self, Request, named_builder},
    credentials,
    environment::Environment,
    push, screen, several,
    signal::Signals,
    tls, trace,
};
use crate::{
    buildkit::{
        dial::{self, Connection},
        discover::{self, Found, discover},
    },
    cluster::AccessSettings,
    config::{Config, Origin, Setting},
    credential::{Chain, Secret},
    diagnostic::{Diagnostic, Exit, Printer, render_warning},
    engine,
    event::{Event, Events, Stage, Warning},
    pipeline::{self, Built, login::Login, push::PushSettings},
    plan::{BuildPlan, Context, ListedBuilder, SecretSource, SigningPlan, listed_builders},
    progress::{Reporter, Summary},
    registry::token::TokenClient,
    why::{self, Record},
};
use std::{
    collections::BTreeMap,
    io::{self, IsTerminal as _},
    path::PathBuf,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// How long tasks that nobody waits for may take to end with the process. A read from stdin never
/// does.
const LAST_CALL: Duration = Duration::from_millis(200);

/// What a build runs in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings<'a> {
    /// The global flags.
    pub(super) global: &'a GlobalArguments,
    /// The config file.
    pub(super) config: Option<&'a Config>,
    /// The environment.
    pub(super) environment: &'a Environment,
    /// Who writes the result.
    pub(super) printer: Printer,
}

/// Builds what `request` asks for, and writes the result.
///
/// # Errors
/// The failure, which is not written yet.
pub(super) fn build(
    request: &Request,
    surroundings: Surroundings<'_>,
) -> Result<Exit, Box<Diagnostic>> {
    let listed = listed(request.builder.value.as_deref())?;
    let (built, summary) = match listed {
        Some(listed) => several::run(request, &listed, surroundings)?,
        None => run(request, surroundings, pipeline::build)?,
    };
    written(&built, &summary, request, surroundings)
}

/// The builders that `builder` lists; none where it names one or nobody.
///
/// # Errors
/// What stands where a platform belongs is none.
pub(super) fn listed(builder: Option<&str>) -> Result<Option<Vec<ListedBuilder>>, Box<Diagnostic>> {
    listed_builders(builder.unwrap_or_default()).map_err(|text| {
        let message = format!("`--builder`: `{text}` is no platform");
        Box::new(
            Diagnostic::new("USAGE", Exit::Usage, message)
                .with_fix("write `PLATFORM=ADDRESS,…`, such as `linux/arm64=ssh://host`"),
        )
    })
}

/// Reaches the builder and does `work` there, while the progress is shown.
///
/// # Errors
/// The failure, which is not written yet.
pub(super) fn run<T, E>(
    request: &Request,
    surroundings: Surroundings<'_>,
    work: impl AsyncFnOnce(&BuildPlan, pipeline::Inputs) -> Result<T, E>,
) -> Result<(T, Summary), Box<Diagnostic>>
where
    Diagnostic: From<E>,
{
    attended(request, surroundings, async |run, login, push| {
        let began = Instant::now();
        let found = reach(&request.builder, surroundings, &run.events, &run.cancel).await?;
        let inputs = run.inputs(found.connection, began.elapsed(), login, push);
        work(&request.plan, inputs).await.map_err(|error| Box::new(Diagnostic::from(error)))
    })
}

/// Does the `work` of a build while its progress is shown; gives back what was lent for it.
///
/// # Errors
/// The failure, which is not written yet.
pub(super) fn attended<T>(
    request: &Request,
    surroundings: Surroundings<'_>,
    work: impl AsyncFnOnce(Run<'_>, Login, PushSettings) -> Result<T, Box<Diagnostic>>,
) -> Result<(T, Summary), Box<Diagnostic>> {
    let Surroundings { global, config, environment, .. } = surroundings;
    let budget = (request.retry_budget, request.hold);
    let push = push::settings(&request.plan, budget, config, environment)?;
    let reads_stdin = request.plan.reads_stdin();
    if reads_stdin && io::stdin().is_terminal() {
        return Err(Diagnostic::new("USAGE", Exit::Usage, "stdin is a terminal")
            .with_fix("pipe a tar archive or a Dockerfile in: `tar -c . | bk-sync build -`")
            .into());
    }
    let (chain, warnings) = credentials::chain(&request.plan, config, environment)?;
    supervised(global, environment, warnings, async |events, cancel| {
        let login = login(chain, &events);
        let lent = login.clone();
        let run = Run { plan: &request.plan, environment, events, cancel, reads_stdin };
        let done = work(run, login, push).await;
        // Whatever the ending: what was lent is given back.
        lent.release().await;
        done
    })
}

/// Who we are at registries, by `chain`.
pub(super) fn login(chain: Chain, events: &Events) -> Login {
    let tokens = TokenClient::new(concat!("bk-sync/", env!("CARGO_PKG_VERSION")));
    Login::new(chain, tokens, events.clone())
}

/// Does `work` while its progress is shown and signals are heeded.
///
/// # Errors
/// The failure, which is not written yet.
pub(super) fn supervised<T>(
    global: &GlobalArguments,
    environment: &Environment,
    warnings: Vec<Warning>,
    work: impl AsyncFnOnce(Events, CancellationToken) -> Result<T, Box<Diagnostic>>,
) -> Result<(T, Summary), Box<Diagnostic>> {
    let (mode, out) = screen::mode(global, environment)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| internal(&error))?;

    let (reporter, events) = Reporter::start(&mode, out);
    for warning in warnings {
        events.emit(Event::Warning(warning));
    }
    let outcome = runtime.block_on(async {
        let cancel = CancellationToken::new();
        let signals =
            Signals::watch(cancel.clone(), events.clone()).map_err(|error| internal(&error))?;
        work(events, cancel).await.map_err(|mut diagnostic| {
            if diagnostic.exit == Exit::Interrupted {
                diagnostic.exit = signals.exit();
            }
            diagnostic
        })
    });
    runtime.shutdown_timeout(LAST_CALL);
    let mut summary = reporter.finish(outcome.is_ok());
    let untold = trace::export(&summary.timeline, global, environment);
    for warning in &untold {
        let text = render_warning(&warning.message, None, warning.hint.as_deref());
        global.printer().aside(text.trim_end());
    }
    summary.notices.extend(untold);
    Ok((outcome?, summary))
}

/// Writes the result.
fn written(
    built: &Built,
    summary: &Summary,
    request: &Request,
    surroundings: Surroundings<'_>,
) -> Result<Exit, Box<Diagnostic>> {
    let printer = surroundings.printer;
    // An archive on stdout leaves no room for a line.
    let line = built.reference().filter(|_| !request.stdout_taken).unwrap_or_default();
    let mut result = serde_json::to_value(built).map_err(|error| internal(&error))?;
    if request.why
        && let Some((last, before)) = remembered(&request.plan, surroundings.environment)
    {
        let explained = why::explain(&last, before.as_ref());
        printer.aside(&explained.text(None));
        if let Some(fields) = result.as_object_mut() {
            fields.insert("why".to_owned(), explained.to_json(None));
        }
    }
    printer.success("build", &line, &result, &summary.warnings(), &[]).map_err(|error| {
        let message = format!("the build is done, and its result cannot be written: {error}");
        Diagnostic::new("STDOUT_FAILED", Exit::Internal, message)
    })?;
    Ok(Exit::Done)
}

/// The build that has just ended and the one before it, as they are remembered.
fn remembered(plan: &BuildPlan, environment: &Environment) -> Option<(Record, Option<Record>)> {
    let Context::Directory(context) = &plan.context else { return None };
    let file = plan.file.as_deref().unwrap_or("Dockerfile");
    let is_meant = |record: &Record| record.dockerfile == file && record.target == plan.target;
    pipeline::remember::last_build(&state(environment)?, context, is_meant).ok().flatten()
}

/// A build on its way.
#[derive(Clone, Debug)]
pub(super) struct Run<'a> {
    plan: &'a BuildPlan,
    environment: &'a Environment,
    pub(super) events: Events,
    pub(super) cancel: CancellationToken,
    reads_stdin: bool,
}

impl Run<'_> {
    /// Puts together what the work on a builder needs.
    pub(super) fn inputs(
        self,
        connection: Connection,
        connect_time: Duration,
        login: Login,
        push: PushSettings,
    ) -> pipeline::Inputs {
        pipeline::Inputs {
            connection,
            connect_time: Some(connect_time),
            docker: loading_docker(&docker(self.environment)),
            login,
            push,
            cache_defaults: build::cache_defaults(self.plan, self.environment),
            variables: variables(self.plan, self.environment),
            ssh_agent: self.environment.path("SSH_AUTH_SOCK"),
            directory: PathBuf::from("."),
            state: state(self.environment),
            is_remembered: true,
            stdin: self.reads_stdin.then(|| Box::new(tokio::io::stdin()) as _),
            events: self.events,
            cancel: self.cancel,
        }
    }
}

/// Connects to a builder.
///
/// # Errors
/// None is reached, or the user wants no more of it.
pub(super) async fn reach(
    builder: &Setting<Option<String>>,
    surroundings: Surroundings<'_>,
    events: &Events,
    cancel: &CancellationToken,
) -> Result<Found, Box<Diagnostic>> {
    let Surroundings { global, environment, .. } = surroundings;
    let options = dial_options(global, environment)?;
    let inputs = discovery(builder, environment);
    let named = [&inputs.flag, &inputs.bk_sync_builder, &inputs.buildkit_host, &inputs.config];
    let named = named.into_iter().flatten().next();
    let subject = named.map_or("looking for a builder", String::as_str).to_owned();
    events.emit(Event::StageStarted { stage: Stage::Connect, subject });
    let found = tokio::select! {
        found = discover(&inputs, &options) => found.map_err(|miss| Box::new(miss.into())),
        () = cancel.cancelled() => Err(Box::new(pipeline::Error::Interrupted.into())),
    };
    events.emit(Event::StageEnded { stage: Stage::Connect, ok: found.is_ok() });
    found
}

/// Which builder a command means that builds nothing: the flag's, else the one at `address`, else
/// as for a build.
pub(super) fn builder(
    surroundings: Surroundings<'_>,
    address: Option<&str>,
) -> Setting<Option<String>> {
    let Surroundings { global, environment, .. } = surroundings;
    if let Some(given) = global.builder.as_deref().or(address) {
        return Setting { value: Some(given.to_owned()), origin: Origin::Flag("--builder") };
    }
    match named_builder(global, environment) {
        Some(Setting { value, origin }) => Setting { value: Some(value), origin },
        None => Setting { value: None, origin: Origin::Default },
    }
}

/// The variables that the secrets of `plan` are taken from, and the key that signs.
pub(super) fn variables(plan: &BuildPlan, environment: &Environment) -> BTreeMap<String, Secret> {
    let names = plan.secrets.iter().filter_map(|secret| match &secret.source {
        SecretSource::Env(name) => Some(name.as_str()),
        SecretSource::File(_) => None,
    });
    let signing = plan.signing.iter().flat_map(SigningPlan::variables);
    names
        .chain(signing)
        .filter_map(|name| {
            let value = environment.raw(name)?;
            Some((name.to_owned(), Secret::new(value.into_encoded_bytes())))
        })
        .collect()
}

/// The Docker that `--load` loads into. It is not dialled before an image comes.
pub(super) fn loading_docker(settings: &engine::Settings) -> Option<engine::Client> {
    let target = settings.resolve(None, &|path| std::fs::read(path)).ok()?;
    engine::Client::new(target.endpoint, &target.tls).ok()
}

/// How builders are reached.
///
/// # Errors
/// The flags for TLS do not go together.
pub(super) fn dial_options(
    global: &GlobalArguments,
    environment: &Environment,
) -> Result<dial::Options, Box<Diagnostic>> {
    Ok(dial::Options {
        tls: tls::files(global)?,
        docker: docker(environment),
        cluster: cluster(environment),
        ..dial::Options::default()
    })
}

/// What decides which cluster is meant where no flag says it.
fn cluster(environment: &Environment) -> AccessSettings {
    AccessSettings {
        kubeconfig_list: environment.raw("KUBECONFIG"),
        home: environment.home(),
        ..AccessSettings::default()
    }
}

/// What decides which Docker is meant.
pub(super) fn docker(environment: &Environment) -> engine::Settings {
    engine::Settings {
        host: environment.non_empty("DOCKER_HOST"),
        context: environment.non_empty("DOCKER_CONTEXT"),
        config_dir: environment
            .path("DOCKER_CONFIG")
            .or_else(|| environment.home().map(|home| home.join(".docker"))),
        tls_verify: environment.non_empty("DOCKER_TLS_VERIFY").is_some(),
        cert_path: environment.path("DOCKER_CERT_PATH"),
    }
}

/// What decides which builder is used.
pub(super) fn discovery(
    builder: &Setting<Option<String>>,
    environment: &Environment,
) -> discover::Inputs {
    let mut inputs = discover::Inputs {
        docker: docker(environment),
        home: environment.home(),
        runtime_dir: environment.path("XDG_RUNTIME_DIR"),
        uid: rustix::process::getuid().as_raw(),
        ..discover::Inputs::default()
    };
    let place = match &builder.origin {
        Origin::Environment("BK_SYNC_BUILDER") => &mut inputs.bk_sync_builder,
        Origin::Environment(_) => &mut inputs.buildkit_host,
        Origin::File { .. } => &mut inputs.config,
        Origin::Default | Origin::Flag(_) => &mut inputs.flag,
    };
    place.clone_from(&builder.value);
    inputs
}

/// Where what speeds up the next build, and what finishes a push, is kept.
pub(super) fn state(environment: &Environment) -> Option<PathBuf> {
    let base = environment
        .path("XDG_STATE_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| environment.home().map(|home| home.join(".local/state")))?;
    Some(base.join("bk-sync"))
}

pub(super) fn internal(error: &dyn std::error::Error) -> Box<Diagnostic> {
    Diagnostic::new("INTERNAL", Exit::Internal, error.to_string()).with_sources(error).into()
}
