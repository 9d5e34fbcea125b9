//! `sync`, and `plan`, which is `sync --dry-run`.

use super::{
    arguments::GlobalArguments,
    build::{self, BuildArguments, Request},
    cluster::{self, ClusterArguments},
    credentials,
    environment::Environment,
    execute, push, verify,
};
use crate::{
    config::{Config, CredentialSource, Dirty, OnFailure, SyncOverrides, sync_plan},
    credential::{PASSWORD_VARIABLE, Secret},
    diagnostic::{Diagnostic, Exit, NextAction, Printer},
    event::{Event, Events, Warning},
    pipeline::{
        self,
        login::Login,
        several,
        sync::{ClusterParts, Deploy, Ended, Parts, Real, Resume},
    },
    plan::{BuildPlan, ListedBuilder, SigningPlan, SyncPlan},
    record::{History, Outcome, Receipt},
    registry::token::TokenClient,
};
use clap::{Args, ValueEnum};
use serde_json::Value;
use std::{collections::BTreeMap, path::PathBuf, time::Duration};
use tokio_util::sync::CancellationToken;

const EXAMPLES: &str = "Examples:
  bk-sync plan                       what a sync would do; nothing is touched
  bk-sync sync                       preflight, build, push, rollout, verify, record
  bk-sync sync --reason 'fix #12'    say why; the receipt keeps it
  bk-sync sync --resume              go on where the last deploy was ended
  bk-sync sync --format json         the receipt, for scripts

A deploy is written down after each stage, in the state directory (see `bk-sync history`).
It can be ended at any time: what runs in the cluster is the old or the new image.

Exit codes:
  0 done, or nothing to do   2 wrong arguments or config   10 no builder   11 build failed
  12 push failed   13 rollout failed and was rolled back   14 rollout failed and was not
  15 a check failed   16 another deploy holds the lock   17 refused before anything changed
  130/143 interrupted, after clean-up";

/// Deploy what bk-sync.toml says: preflight, build, push, rollout, verify, record
///
/// Everything is looked at before anything changes. The commit is fixed at the start. A stage that
/// fails ends the deploy with its own exit code; `--resume` goes on from there. Where the image is
/// deployed already and was verified, nothing is done. Takes all of build's flags.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct SyncArguments {
    #[command(flatten)]
    deploy: DeployArguments,
    /// Go on where the last deploy was ended, with the image that it pushed
    #[arg(long, help_heading = "Deploy options")]
    resume: bool,
    /// Say what would be done, and touch nothing: the same as `plan`
    #[arg(long, help_heading = "Deploy options", conflicts_with = "resume")]
    dry_run: bool,
}

const PLAN_EXAMPLES: &str = "Examples:
  bk-sync plan                        each stage, and who chose each value
  bk-sync plan --format json          the same for scripts
  bk-sync plan --platform linux/amd64 with any flag of `sync`";

/// Say what `sync` would do, and touch nothing
///
/// Nothing is solved, leased, pushed, locked or written, and no byte leaves this process: only the
/// config file, the environment and the checkout are read. Takes all of sync's flags.
#[derive(Args, Debug)]
#[command(after_help = PLAN_EXAMPLES)]
pub(super) struct PlanArguments {
    #[command(flatten)]
    deploy: DeployArguments,
}

/// A deploy that is planned, and what it is planned with.
pub(super) struct Planned {
    /// The deploy.
    pub(super) plan: SyncPlan,
    /// Its build, as it was asked for.
    pub(super) request: Request,
    /// The config file.
    pub(super) config: Config,
    /// What decides where images run.
    pub(super) cluster: ClusterParts,
    /// The builders, where several make the image together.
    pub(super) listed: Option<Vec<ListedBuilder>>,
}

/// The flags that decide what a deploy does.
#[derive(Args, Debug)]
pub(super) struct DeployArguments {
    #[command(flatten)]
    build: BuildArguments,
    /// The workload: `KIND/NAME`
    #[arg(long, value_name = "KIND/NAME", help_heading = "Deploy options")]
    workload: Option<String>,
    /// The namespace of the workload
    #[arg(short, long, value_name = "NAME", help_heading = "Deploy options")]
    namespace: Option<String>,
    /// The kubeconfig context
    #[arg(
        id = "kube-context",
        long = "context",
        value_name = "NAME",
        help_heading = "Deploy options"
    )]
    kube_context: Option<String>,
    /// The kubeconfig [default: `$KUBECONFIG`, else `~/.kube/config`, else the pod's account]
    #[arg(long, value_name = "FILE", help_heading = "Deploy options")]
    kubeconfig: Option<PathBuf>,
    /// How long to wait for another deploy's lock [default: not at all]
    #[arg(long, value_name = "TIME", help_heading = "Deploy options", value_parser = crate::config::parse_time)]
    lock_wait: Option<Duration>,
    /// Take another deploy's lock away
    #[arg(long, help_heading = "Deploy options")]
    lock_takeover: bool,
    /// The container whose image is set
    #[arg(long, value_name = "NAME", help_heading = "Deploy options")]
    container: Option<String>,
    /// How long the rollout may take, such as `240s`
    #[arg(long, value_name = "TIME", help_heading = "Deploy options", value_parser = crate::config::parse_time)]
    timeout: Option<Duration>,
    /// What becomes of a rollout that fails
    #[arg(long, value_name = "WHAT", help_heading = "Deploy options")]
    on_failure: Option<OnFailureChoice>,
    /// What becomes of a rollout whose checks fail
    #[arg(long, value_name = "WHAT", help_heading = "Deploy options")]
    on_verify_failure: Option<OnFailureChoice>,
    /// What becomes of changes that are not committed
    #[arg(long, value_name = "WHAT", help_heading = "Deploy options")]
    dirty: Option<DirtyChoice>,
    /// Why this deploy is made [default: the commit's subject]
    #[arg(long, value_name = "TEXT", help_heading = "Deploy options")]
    reason: Option<String>,
}

/// `--on-failure` and `--on-verify-failure`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum OnFailureChoice {
    /// The image before it comes back
    Rollback,
    /// It stays as it is
    Keep,
}

/// `--dirty`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum DirtyChoice {
    /// Nothing is deployed
    Refuse,
    /// Git tags end in `-dirty`
    Suffix,
    /// They are deployed all the same
    Allow,
}

/// What a deploy runs in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings<'a> {
    pub(super) global: &'a GlobalArguments,
    pub(super) config: Option<&'a Config>,
    pub(super) environment: &'a Environment,
    pub(super) printer: Printer,
}

impl PlanArguments {
    /// Writes what a deploy would do.
    pub(super) fn run(self, surroundings: Surroundings<'_>) -> Result<Exit, Box<Diagnostic>> {
        let planned = self.deploy.plan(surroundings)?;
        print_plan("plan", &planned.plan, surroundings.printer)
    }
}

impl SyncArguments {
    /// Deploys, and writes the receipt.
    pub(super) fn run(self, surroundings: Surroundings<'_>) -> Result<Exit, Box<Diagnostic>> {
        let Self { deploy, resume, dry_run } = self;
        let planned = deploy.plan(surroundings)?;
        if dry_run {
            return print_plan("sync", &planned.plan, surroundings.printer);
        }
        let resume = if resume { Resume::FromLast } else { Resume::Anew };
        run(&planned, resume, surroundings)
    }
}

impl DeployArguments {
    /// The same, with changes that are not committed allowed where no flag says otherwise.
    pub(super) fn with_dirty_allowed(self) -> Self {
        Self { dirty: self.dirty.or(Some(DirtyChoice::Allow)), ..self }
    }

    /// The plan that flags, config file and environment make together.
    pub(super) fn plan(self, surroundings: Surroundings<'_>) -> Result<Planned, Box<Diagnostic>> {
        let Surroundings { global, config, environment, .. } = surroundings;
        let mut config = config.cloned().ok_or_else(|| {
            Diagnostic::new(
                "CONFIG_MISSING",
                Exit::Usage,
                "there is no `bk-sync.toml` here or above",
            )
            .with_fix("write one with `bk-sync init`, or name one with `--config FILE`")
        })?;
        let dirty = self.dirty.map(|dirty| match dirty {
            DirtyChoice::Refuse => Dirty::Refuse,
            DirtyChoice::Suffix => Dirty::Suffix,
            DirtyChoice::Allow => Dirty::Allow,
        });
        if let Some(dirty) = dirty {
            config.override_dirty(dirty);
        }
        let on_failure = |choice: OnFailureChoice| match choice {
            OnFailureChoice::Rollback => OnFailure::Rollback,
            OnFailureChoice::Keep => OnFailure::Keep,
        };
        let file = config.clone();
        if let Some(chosen) = self.build.chosen(&config)? {
            config = chosen;
        }
        let within =
            build::Surroundings { environment, stdout_is_terminal: false, stdout_is_json: false };
        let request = self.build.request(global, Some(&file), within)?;
        refuse(&request.plan)?;
        let mut build = BuildPlan { push: true, ..request.plan.clone() };
        // An attestation names the moment of its build: with one, nothing is ever unchanged. The
        // receipt says what an attestation of our own would.
        build.attestations.entry("provenance".to_owned()).or_insert(None);
        let listed = execute::listed(request.builder.value.as_deref())?;
        if let Some(listed) = &listed {
            let failed = |refusal| Diagnostic::from(pipeline::Error::from(refusal));
            several::refuse(&build).map_err(failed)?;
            build.platforms = several::platforms(&build, listed).map_err(failed)?;
        }
        let overrides = SyncOverrides {
            context: self.kube_context,
            namespace: self.namespace,
            workload: self.workload,
            container: self.container,
            timeout: self.timeout,
            on_failure: self.on_failure.map(on_failure),
            on_verify_failure: self.on_verify_failure.map(on_failure),
            dirty,
            reason: self.reason,
        };
        let variable = |name: &str| environment.text(name);
        let plan = sync_plan(&config, &request.settings, build, overrides, variable)?;
        let cluster = ClusterArguments {
            namespace: plan.rollout.as_ref().and_then(|rollout| rollout.namespace.clone()),
            context: plan.rollout.as_ref().and_then(|rollout| rollout.context.clone()),
            kubeconfig: self.kubeconfig,
            ..ClusterArguments::default()
        };
        let cluster = ClusterParts {
            access: cluster.settings(Some(&config), environment)?,
            holder: cluster::holder(environment),
            lock_wait: self.lock_wait.unwrap_or_default(),
            lock_takeover: self.lock_takeover,
            checks: verify::checks(&config, environment)?,
        };
        Ok(Planned { plan, request, config, cluster, listed })
    }
}

/// Refuses flags of `build` that a deploy has no use for.
fn refuse(plan: &BuildPlan) -> Result<(), Box<Diagnostic>> {
    let refused = |message: &str, fix: &str| {
        Err(Box::new(Diagnostic::new("USAGE", Exit::Usage, message).with_fix(fix)))
    };
    if !plan.outputs.is_empty() || plan.load {
        return refused(
            "a deploy has one output: the image that it pushes",
            "leave `--output` and `--load` out, or use `bk-sync build`",
        );
    }
    if plan.iid_file.is_some() || plan.metadata_file.is_some() {
        return refused(
            "a deploy writes a receipt, and no `--iidfile` or `--metadata-file`",
            "read the receipt with `--format json`, or use `bk-sync build`",
        );
    }
    if plan.reads_stdin() {
        return refused(
            "a deploy builds more than once, and stdin can be read once",
            "name a directory, or use `bk-sync build`",
        );
    }
    if plan.tags.is_empty() {
        return refused(
            "there is nothing to push to: the image has no name",
            "add `[image]` with `name = \"REGISTRY/REPOSITORY\"` to bk-sync.toml, or give `--tag`",
        );
    }
    Ok(())
}

fn print_plan(command: &str, plan: &SyncPlan, printer: Printer) -> Result<Exit, Box<Diagnostic>> {
    let json = plan.to_json();
    let next = [NextAction {
        command: "bk-sync sync".to_owned(),
        description: "do what the plan says".to_owned(),
    }];
    printer
        .success(command, &plan.to_text(), &json, &[], &next)
        .map_err(|error| internal(&error))?;
    Ok(Exit::Done)
}

/// Runs the deploy, and writes its receipt.
fn run(
    planned: &Planned,
    resume: Resume,
    surroundings: Surroundings<'_>,
) -> Result<Exit, Box<Diagnostic>> {
    let Surroundings { global, environment, printer, .. } = surroundings;
    let Planned { plan, request, config, cluster, listed } = planned;
    let (chain, warnings) = credentials::chain(&plan.build, Some(config), environment)?;
    let tokens = TokenClient::new(concat!("bk-sync/", env!("CARGO_PKG_VERSION")));
    let options = execute::dial_options(global, environment)?;
    let discovery = execute::discovery(&request.builder, environment);
    let state = execute::state(environment);
    let history = state.as_deref().map(History::new);
    let push = push::settings(&plan.build, push::DEFAULTS, Some(config), environment)?;
    let parts = |events: &Events| Parts {
        discovery,
        docker: execute::loading_docker(&options.docker),
        options,
        login: Login::new(chain, tokens, events.clone()),
        push,
        cache_defaults: build::cache_defaults(&plan.build, environment),
        variables: variables(plan, environment),
        secrets: secret_variables(plan, config),
        ssh_agent: environment.path("SSH_AUTH_SOCK"),
        directory: PathBuf::from("."),
        listed: listed.clone(),
        state: state.clone(),
        events: events.clone(),
    };
    let work = async |events: Events, cancel: CancellationToken| {
        let secrets = secret_variables(plan, config);
        let parts = parts(&events);
        let mut stages = Real::new(plan, parts, cluster.clone());
        let deploy = Deploy {
            plan,
            history: history.as_ref(),
            secrets: &secrets,
            events: &events,
            cancel,
            now,
            id: id(),
        };
        let ended = Box::pin(deploy.run(&mut stages, resume)).await;
        moved(plan, config, &events);
        ended_well(ended)
    };
    let (receipt, summary) = execute::supervised(global, environment, warnings, work)?;
    let line = line(&receipt);
    let result = serde_json::to_value(&receipt).map_err(|error| internal(&error))?;
    let next = [NextAction {
        command: format!("bk-sync history {}", receipt.id),
        description: "read the receipt of this deploy".to_owned(),
    }];
    let next = if receipt.outcome == Outcome::Unchanged { &[][..] } else { &next };
    printer
        .success("sync", &line, &result, &summary.warnings(), next)
        .map_err(|error| internal(&error))?;
    Ok(Exit::Done)
}

/// The receipt of a deploy that ended well; else the failure, with the receipt in its details.
fn ended_well(ended: Ended) -> Result<Receipt, Box<Diagnostic>> {
    let Ended { receipt, failure } = ended;
    let Some(failure) = failure else { return Ok(receipt) };
    let mut failure =
        failure.with_detail("receipt", serde_json::to_value(&receipt).unwrap_or(Value::Null));
    failure.next_actions.push(NextAction {
        command: format!("bk-sync history {}", receipt.id),
        description: "read what was done".to_owned(),
    });
    if receipt.can_resume() {
        failure.next_actions.push(NextAction {
            command: "bk-sync sync --resume".to_owned(),
            description: "go on with the image that is pushed".to_owned(),
        });
    }
    Err(failure.into())
}

/// What a user reads of a deploy that ended well.
fn line(receipt: &Receipt) -> String {
    let image = receipt.image.as_ref().map_or("", |image| image.reference.as_str());
    let place = receipt
        .rollout
        .as_ref()
        .map(|rollout| format!("{}/{}", rollout.namespace, rollout.workload));
    match (receipt.outcome, place) {
        (Outcome::Unchanged, Some(place)) => {
            format!("unchanged: {image} runs in {place} and was verified")
        }
        (Outcome::Unchanged, None) => format!("unchanged: {image} is pushed"),
        (_, Some(place)) => format!("deployed {image} to {place}"),
        (_, None) => format!("pushed {image}"),
    }
}

/// Warns where another commit came to be checked out while the deploy ran.
fn moved(plan: &SyncPlan, config: &Config, events: &Events) {
    let (Some(git), Ok(now)) = (&plan.git, config.checkout().now()) else { return };
    if now != git.commit {
        events.emit(Event::Warning(Warning {
            code: "CHECKOUT_MOVED",
            message: format!("`{now}` came to be checked out while `{}` was deployed", git.commit),
            hint: Some("what was built may hold files of both: deploy again".to_owned()),
        }));
    }
}

/// Values of variables that hold secrets: for the build, and for those who are told.
fn variables(plan: &SyncPlan, environment: &Environment) -> BTreeMap<String, Secret> {
    let mut variables = execute::variables(&plan.build, environment);
    let token = plan.record.http.as_ref().and_then(|http| http.token_env.clone());
    if let Some(name) = token
        && let Some(value) = environment.secret(&name)
    {
        variables.insert(name, value);
    }
    variables
}

/// The variables that hold secrets, by name: children that need none do not get them.
fn secret_variables(plan: &SyncPlan, config: &Config) -> Vec<String> {
    let mut names = vec![PASSWORD_VARIABLE.to_owned()];
    for section in config.sections.registries.values() {
        if let CredentialSource::Env(name) = &section.source {
            names.push(name.value.clone());
        }
    }
    names.extend(plan.record.http.as_ref().and_then(|http| http.token_env.clone()));
    let inngest = config.sections.verify.inngest.as_ref();
    names.extend(inngest.and_then(|check| check.signing_key_env.as_ref()).map(|n| n.value.clone()));
    let signing = plan.build.signing.iter().flat_map(SigningPlan::variables);
    names.extend(signing.map(str::to_owned));
    for secret in &plan.build.secrets {
        if let crate::plan::SecretSource::Env(name) = &secret.source {
            names.push(name.clone());
        }
    }
    names
}

/// The time, as RFC 3339 has it.
fn now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

/// An id that sorts by time and that no other deploy has.
fn id() -> String {
    let now = jiff::Timestamp::now();
    // To the millisecond: two deploys in one second are still in their order.
    let compact: String =
        format!("{now:.3}").chars().filter(|c| !matches!(c, '-' | ':' | '.')).collect();
    format!("{compact}-{:06x}", rand::random::<u32>() & 0x00ff_ffff)
}

fn internal(error: &dyn std::error::Error) -> Box<Diagnostic> {
    Diagnostic::new("INTERNAL", Exit::Internal, error.to_string()).with_sources(error).into()
}
