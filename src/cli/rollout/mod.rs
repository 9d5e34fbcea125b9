//! `rollout`, and what it shares with `rollback`, `status` and `build --rollout`.

mod after_build;
pub(super) mod failure;
mod run;

pub(super) use after_build::BuildCommand;
pub(super) use run::{Ran, run};

use super::{
    arguments::GlobalArguments,
    cluster::{self, ClusterArguments},
    credentials,
    environment::Environment,
    execute,
    failure::usage,
    reach::reach,
};
use crate::{
    config::{self, Config, Template},
    credential::RegistryHost,
    diagnostic::{Diagnostic, Exit, NextAction, Printer},
    event::Event,
    pipeline::{self, rollout::RegistryAccess},
    rollout::{
        Code, OnFailure, PinnedImage, Provenance, Request, RolloutReport, WorkloadName,
        report::{Outcome, WorkloadReport},
    },
};
use clap::{Args, ValueEnum};
use std::time::Duration;

const EXAMPLES: &str = "Examples:
  bk-sync rollout deployment/web --image ghcr.io/me/app@sha256:…
  bk-sync rollout deployment/web statefulset/worker -n shop --image ghcr.io/me/app:1@sha256:…
  bk-sync rollout deploy/web --image … --on-failure keep --tolerate UNSCHEDULABLE --timeout 10m

Exit codes:
  0 done   13 failed, rolled back and verified   14 failed, not rolled back   16 locked by another
  17 refused before anything changed   130/143 interrupted: the cluster goes on with it";

/// Set an image by its digest, and wait until its pods are proven
///
/// What stands in the way is named as soon as the cluster reports it; the image that ran before
/// comes back, and is waited for too.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct RolloutArguments {
    /// What runs the image: deployment, statefulset, daemonset, cronjob or job
    #[arg(value_name = "KIND/NAME")]
    workloads: Vec<String>,
    /// The image: `REPOSITORY[:TAG]@DIGEST`
    #[arg(long, value_name = "REF@DIGEST")]
    image: String,
    #[command(flatten)]
    how: HowArguments,
    #[command(flatten)]
    cluster: ClusterArguments,
}

/// How a rollout is done: the flags that `build --rollout` takes too.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Rollout options")]
pub(super) struct HowArguments {
    /// The container [default: the one that runs this repository, or the only one]
    #[arg(long, value_name = "NAME")]
    container: Option<String>,
    /// How long a workload may take, such as `240s` or `4m` [default: 4m]
    #[arg(long, value_name = "TIME")]
    timeout: Option<String>,
    /// What becomes of a rollout that fails [default: rollback]
    #[arg(long, value_name = "WHAT")]
    on_failure: Option<OnFailureChoice>,
    /// How long pods must stay ready [default: their minReadySeconds, else 3s]
    #[arg(long, value_name = "TIME")]
    settle: Option<String>,
    /// Wait out this diagnosis instead of ending at once, such as `CRASH_LOOP`
    #[arg(long, value_name = "CODE", value_delimiter = ',')]
    tolerate: Vec<String>,
    /// How long to wait for another deploy's lock [default: not at all]
    #[arg(long, value_name = "TIME")]
    lock_wait: Option<String>,
    /// Take another deploy's lock away
    #[arg(long)]
    lock_takeover: bool,
    /// Roll several workloads out at the same time
    #[arg(long)]
    together: bool,
}

/// `--on-failure`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum OnFailureChoice {
    /// It stays as it is
    Keep,
    /// The image before comes back
    Rollback,
}

impl HowArguments {
    /// The request that flags and config make together.
    ///
    /// # Errors
    /// A value that is none.
    pub(super) fn request(
        &self,
        workloads: &[String],
        image: PinnedImage,
        config: Option<&Config>,
        environment: &Environment,
    ) -> Result<Request, Box<Diagnostic>> {
        let section = config.and_then(|config| config.sections.rollout.as_ref());
        let configured = section.and_then(|section| section.workload.as_ref());
        let names = if workloads.is_empty() {
            configured.map(|name| name.value.clone()).into_iter().collect()
        } else {
            workloads.to_vec()
        };
        if names.is_empty() {
            return Err(usage(
                "no workload is named",
                "name it as `KIND/NAME`, such as `deployment/web`, or as `rollout.workload` in bk-sync.toml",
            ));
        }
        let mut parsed: Vec<WorkloadName> = Vec::new();
        for name in names {
            let name: WorkloadName = name
                .parse()
                .map_err(|error| usage(format!("{error}"), "write `deployment/NAME`"))?;
            if !parsed.contains(&name) {
                parsed.push(name);
            }
        }
        let mut request = Request::new(parsed, image);
        request.container = match &self.container {
            Some(container) => Some(container.clone()),
            None => {
                text(section.and_then(|section| section.container.as_ref()), config, environment)?
            }
        };
        let configured = section.and_then(|section| section.timeout.as_ref());
        if let Some(timeout) = duration("--timeout", self.timeout.as_deref())? {
            request.timeout = timeout;
        } else if let Some(timeout) = configured {
            request.timeout = timeout.value;
        }
        let configured = section.and_then(|section| section.on_failure.as_ref());
        request.on_failure = match (self.on_failure, configured.map(|one| one.value)) {
            (Some(OnFailureChoice::Keep), _) | (None, Some(config::OnFailure::Keep)) => {
                OnFailure::Keep
            }
            _ => OnFailure::Rollback,
        };
        request.settle = duration("--settle", self.settle.as_deref())?;
        for text in &self.tolerate {
            let code: Code = text.parse().map_err(|error| {
                let known: Vec<&str> =
                    crate::rollout::code::ALL.iter().map(|code| code.as_str()).collect();
                usage(format!("{error}"), format!("there are {}", known.join(", ")))
            })?;
            request.tolerate.insert(code);
        }
        request.lock_wait = self.lock_wait()?;
        request.lock_takeover = self.lock_takeover;
        request.together = self.together;
        let tag = request.image.tag.clone();
        request.provenance = Provenance { commit: None, tag };
        Ok(request)
    }

    /// How a rollback is waited for.
    ///
    /// # Errors
    /// A value that is none.
    pub(super) fn waiting(&self) -> Result<pipeline::rollout::Waiting, Box<Diagnostic>> {
        Ok(pipeline::rollout::Waiting {
            timeout: duration("--timeout", self.timeout.as_deref())?
                .unwrap_or(crate::rollout::request::DEFAULT_TIMEOUT),
            settle: duration("--settle", self.settle.as_deref())?,
            lock_wait: self.lock_wait()?,
            lock_takeover: self.lock_takeover,
        })
    }

    fn lock_wait(&self) -> Result<Duration, Box<Diagnostic>> {
        Ok(duration("--lock-wait", self.lock_wait.as_deref())?.unwrap_or_default())
    }
}

/// A time with its unit.
fn duration(flag: &str, text: Option<&str>) -> Result<Option<Duration>, Box<Diagnostic>> {
    let Some(text) = text else { return Ok(None) };
    match time(text) {
        Some(duration) => Ok(Some(duration)),
        None => Err(usage(
            format!("`{flag}` cannot be `{text}`"),
            "write a time with its unit, such as `240s` or `4m`",
        )),
    }
}

/// `90s`, `4m`, `500ms`, `0s`.
fn time(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(unit)?;
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number.checked_mul(60)?)),
        "h" => Some(Duration::from_secs(number.checked_mul(3600)?)),
        _ => None,
    }
}

/// A text of the config with its variables filled in.
///
/// # Errors
/// A variable that cannot be had.
pub(super) fn text(
    template: Option<&Template>,
    config: Option<&Config>,
    environment: &Environment,
) -> Result<Option<String>, Box<Diagnostic>> {
    let (Some(template), Some(config)) = (template, config) else { return Ok(None) };
    config::fill(template, config, |name| environment.text(name))
        .map(|text| Some(text).filter(|text| !text.is_empty()))
        .map_err(Into::into)
}

/// The image that `--image` names.
///
/// # Errors
/// It is none, or can change.
fn pinned(text: &str) -> Result<PinnedImage, Box<Diagnostic>> {
    PinnedImage::parse(text).map_err(|error| {
        let fix = "name the image by its digest, as `bk-sync build --push` prints it";
        let error =
            Diagnostic::new("IMAGE_NOT_PINNED", Exit::Usage, error.to_string()).with_fix(fix);
        error.into()
    })
}

impl RolloutArguments {
    /// Rolls out, and writes how it ended.
    pub(super) fn run(
        self,
        global: &GlobalArguments,
        config: Option<&Config>,
        environment: &Environment,
        printer: Printer,
    ) -> Result<Exit, Box<Diagnostic>> {
        let image = pinned(&self.image)?;
        let request = self.how.request(&self.workloads, image, config, environment)?;
        let settings = self.cluster.settings(config, environment)?;
        let registry = RegistryHost::new(request.image.registry());
        let (chain, untold) = credentials::reading(&registry, config, environment)?;
        let reach = reach([registry].into(), config, environment)?;
        let Ran { value: report, warnings } =
            run(global, environment, &settings, async |mut inputs| {
                for warning in untold {
                    inputs.events.emit(Event::Warning(warning));
                }
                let login = execute::login(chain, &inputs.events);
                inputs.registry = Some(RegistryAccess { login: login.clone(), reach });
                let rolled = pipeline::rollout::rollout(&request, inputs).await;
                // Whatever the ending: what was lent is given back.
                login.release().await;
                rolled
            })?;
        let line = lines(&report);
        let result = serde_json::to_value(&report).map_err(|error| cluster::internal(&error))?;
        let next = next_actions(&report);
        printer
            .success("rollout", &line, &result, &warnings, &next)
            .map_err(|error| cluster::internal(&error))?;
        Ok(Exit::Done)
    }
}

/// The result as lines: one for each workload.
pub(super) fn lines(report: &RolloutReport) -> String {
    let lines: Vec<String> = report.workloads.iter().map(line).collect();
    lines.join("\n")
}

fn line(workload: &WorkloadReport) -> String {
    let WorkloadReport { workload: name, namespace, image, pods, .. } = workload;
    let pods = failure::counted(pods.len());
    match workload.outcome {
        Outcome::Unchanged => format!("{name} in {namespace} runs {image} already ({pods})"),
        Outcome::Set => format!("{name} in {namespace} is set to {image}"),
        _ => format!("{name} in {namespace} runs {image} ({pods})"),
    }
}

pub(super) fn next_actions(report: &RolloutReport) -> Vec<NextAction> {
    let rolled = report.workloads.iter().filter(|one| one.outcome == Outcome::RolledOut);
    rolled.map(|one| failure::back(report, one)).collect()
}
