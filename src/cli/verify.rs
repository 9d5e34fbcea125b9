//! `verify`, and what `[verify]` in bk-sync.toml asks for.

use super::{
    arguments::GlobalArguments,
    cluster::{ClusterArguments, internal},
    environment::Environment,
    failure::usage,
    rollout::{Ran, run, text},
};
use crate::{
    config::{self, Config, Functions, InngestSync, Located, StaleApps, Template},
    diagnostic::{Diagnostic, Exit, Printer},
    pipeline::{
        self,
        rollout::RolloutFailure,
        verify::{Checks, VerifyInputs, read_sources},
    },
    rollout::WorkloadName,
    verify::{
        expect::Expectation,
        http::{ExecCheck, HttpCheck},
        inngest::{
            checks::{Expected, InngestCheck, Sync},
            runs::WhileRunning,
            source::unindexed,
        },
        pods::Pods,
        report::{CheckedPod, VerifyReport},
    },
};
use clap::Args;
use serde_json::json;
use std::{fmt::Write as _, time::Duration};

const EXAMPLES: &str = "Examples:
  bk-sync verify
  bk-sync verify deployment/app -n web";

/// How long a check may take that says nothing else.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long everything about Inngest may take that says nothing else: servers with a backlog are
/// slow.
const INNGEST_TIMEOUT: Duration = Duration::from_mins(2);
/// How often a registration is tried that says nothing else.
const ATTEMPTS: u16 = 5;

/// Check what runs: the post-deploy checks alone
///
/// The checks are those of `[verify]` in bk-sync.toml. They ask pods of the present revision, through
/// the API server; whatever they find, nothing is rolled out or back.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct VerifyArguments {
    /// What runs the image [default: that of bk-sync.toml]
    #[arg(value_name = "KIND/NAME")]
    workload: Option<String>,
    #[command(flatten)]
    cluster: ClusterArguments,
}

impl VerifyArguments {
    /// Checks, and writes what was found.
    pub(super) fn run(
        self,
        global: &GlobalArguments,
        config: Option<&Config>,
        environment: &Environment,
        printer: Printer,
    ) -> Result<Exit, Box<Diagnostic>> {
        let Some(config) = config else {
            return Err(usage(
                "there is no bk-sync.toml, and so there are no checks",
                "write one with `bk-sync init`, and add `[[verify.http]]`",
            ));
        };
        let checks = checks(config, environment)?;
        if checks.is_empty() {
            return Err(usage(
                "bk-sync.toml has no checks",
                "add `[[verify.http]]`, `[[verify.exec]]` or `[verify.inngest]`",
            ));
        }
        let section = config.sections.rollout.as_ref();
        let configured = section.and_then(|section| section.workload.as_ref());
        let Some(name) = self.workload.or_else(|| configured.map(|name| name.value.clone())) else {
            return Err(usage(
                "it is not said what runs the image",
                "name it: `bk-sync verify deployment/NAME`",
            ));
        };
        let name: WorkloadName =
            name.parse().map_err(|error: crate::rollout::workload::NameError| {
                usage(error.to_string(), "write `deployment/NAME`")
            })?;
        let settings = self.cluster.settings(Some(config), environment)?;
        let Ran { value: report, warnings } =
            run(global, environment, &settings, async |inputs| {
                let status = pipeline::rollout::status(Some(&name), &inputs).await?;
                let pods = status.workloads.into_iter().flat_map(|workload| workload.pods);
                let new = pods
                    .filter(|pod| pod.ready)
                    .map(|pod| CheckedPod { name: pod.name, uid: pod.uid })
                    .collect();
                let verify = VerifyInputs {
                    pods: Pods::new(inputs.cluster.client.clone(), &inputs.cluster.namespace),
                    new,
                    events: inputs.events.clone(),
                    cancel: inputs.cancel.clone(),
                };
                pipeline::verify::verify(&checks, verify)
                    .await
                    .map_err(|_| RolloutFailure::Interrupted(None))
            })?;
        if !report.ok() {
            return Err(failed(&report));
        }
        let result = serde_json::to_value(&report).map_err(|error| internal(&error))?;
        printer
            .success("verify", &lines(&report), &result, &warnings, &[])
            .map_err(|error| internal(&error))?;
        Ok(Exit::Done)
    }
}

/// A line for each check.
fn lines(report: &VerifyReport) -> String {
    let mut text = String::new();
    for check in &report.checks {
        let pod = check.pod.as_ref().map(|pod| format!(" of {}", pod.name)).unwrap_or_default();
        let end = if text.is_empty() { "" } else { "\n" };
        let _cannot_fail = write!(text, "{end}{}: {}{pod}: good", check.kind, check.subject);
    }
    text
}

/// A report in which something is wrong.
pub(super) fn failed(report: &VerifyReport) -> Box<Diagnostic> {
    let failures: Vec<_> = report.failures().collect();
    let (message, fix) = match failures.split_first() {
        Some(((check, finding), rest)) => {
            let more = match rest.len() {
                0 => String::new(),
                1 => " (and one finding more)".to_owned(),
                count => format!(" (and {count} findings more)"),
            };
            (format!("{}: {}{more}", check.subject, finding.message), finding.fix.clone())
        }
        None => ("a check failed".to_owned(), None),
    };
    let mut diagnostic = Diagnostic::new("VERIFY_FAILED", Exit::Verify, message)
        .with_detail("checks", json!(report.checks));
    diagnostic.fix = fix;
    for (check, finding) in failures.iter().skip(1) {
        diagnostic = diagnostic.with_note(format!("{}: {}", check.subject, finding.message));
    }
    diagnostic.into()
}

/// The checks that `config` asks for.
///
/// # Errors
/// A value of the config cannot be had.
pub(super) fn checks(
    config: &Config,
    environment: &Environment,
) -> Result<Checks, Box<Diagnostic>> {
    let section = &config.sections.verify;
    let filled = |template: Option<&Template>| text(template, Some(config), environment);
    let limit = |own: &Option<Located<Duration>>, default: Duration| {
        let own = own.as_ref().or(section.timeout.as_ref());
        own.map_or(default, |time| time.value)
    };
    let mut checks = Checks::default();
    for check in &section.http {
        checks.http.push(HttpCheck {
            port: check.port.value,
            path: filled(check.path.as_ref())?.unwrap_or_else(|| "/".to_owned()),
            expect: Expectation {
                status: check.status.as_ref().map(|status| status.value),
                json: check.json.as_ref().map(|json| json.value.clone()),
            },
            timeout: limit(&check.timeout, TIMEOUT),
        });
    }
    for check in &section.exec {
        checks.exec.push(ExecCheck {
            command: check.command.iter().map(|word| word.value.clone()).collect(),
            container: filled(check.container.as_ref())?,
            exit: check.exit.as_ref().map_or(0, |exit| i32::from(exit.value)),
            output: check.stdout.as_ref().map(|text| text.value.clone()),
            timeout: limit(&check.timeout, TIMEOUT),
        });
    }
    if let Some(check) = &section.inngest {
        checks.inngest = Some(inngest(check, config, environment)?);
    }
    Ok(checks)
}

fn inngest(
    check: &config::InngestCheck,
    config: &Config,
    environment: &Environment,
) -> Result<InngestCheck, Box<Diagnostic>> {
    let filled = |template: Option<&Template>| text(template, Some(config), environment);
    let needed = |template: Option<&Template>, key: &str| {
        filled(template)?.ok_or_else(|| missing(check, config, key))
    };
    let signing_key = match &check.signing_key_env {
        None => None,
        Some(name) => {
            let Some(key) = environment.secret(&name.value) else {
                let message =
                    format!("the variable `{}` with the signing key is not set", name.value);
                return Err(Diagnostic::new("CONFIG_INVALID", Exit::Usage, message)
                    .with_excerpt(config.excerpt(name.span.clone()))
                    .with_fix("set it, or leave `signing_key_env` out")
                    .into());
            };
            Some(key)
        }
    };
    let serve = match &check.serve {
        Some((port, path)) => {
            let path = filled(path.as_ref())?.unwrap_or_else(|| "/api/inngest".to_owned());
            Some((port.value, path))
        }
        None => None,
    };
    let sync = match (check.sync.as_ref().map(|sync| sync.value), &serve) {
        (Some(InngestSync::Server), _) => Sync::Server(None),
        (Some(InngestSync::Pod), None) => return Err(missing(check, config, "serve")),
        (_, Some((port, path))) => Sync::Worker { port: *port, path: path.clone() },
        (None, None) => Sync::Nobody,
    };
    let expected = match (&check.functions, &serve) {
        (Some(Functions::Ids(ids)), _) => {
            Expected::Ids(ids.iter().map(|id| id.value.clone()).collect())
        }
        (_, Some((port, _))) => Expected::Worker { port: *port, path: "/".to_owned() },
        (_, None) => return Err(missing(check, config, "serve")),
    };
    let list = |templates: Option<&Vec<Template>>| -> Result<Vec<String>, Box<Diagnostic>> {
        let each = templates.into_iter().flatten();
        let each = each.map(|template| Ok(filled(Some(template))?.unwrap_or_default()));
        each.collect()
    };
    let read = |templates: Option<&Vec<Template>>| {
        let found = read_sources(config.directory(), &list(templates)?);
        found.map_err(|error| usage(error.to_string(), "mend the globs of `[verify.inngest]`"))
    };
    let (sources, indexes) = (read(check.sources.as_ref())?, read(check.indexes.as_ref())?);
    let unindexed = if indexes.is_empty() { Vec::new() } else { unindexed(&sources, &indexes) };
    let timeout = check.timeout.as_ref().or(config.sections.verify.timeout.as_ref());
    Ok(InngestCheck {
        url: needed(check.url.as_ref(), "url")?,
        app: needed(check.app.as_ref(), "app")?,
        sync,
        expected,
        signing_key,
        stale_match: check.stale_match.iter().map(|text| text.value.clone()).collect(),
        delete: check.stale_apps.as_ref().is_some_and(|stale| stale.value == StaleApps::Delete),
        running: check.running.as_ref().map(|running| match running.value {
            config::WhileRunning::Refuse => WhileRunning::Refuse,
            config::WhileRunning::Report => WhileRunning::Report,
        }),
        cron_age: check.cron_age.as_ref().map(|times| u32::from(times.value)),
        unindexed,
        attempts: usize::from(check.attempts.as_ref().map_or(ATTEMPTS, |count| count.value)),
        timeout: timeout.map_or(INNGEST_TIMEOUT, |time| time.value),
    })
}

fn missing(check: &config::InngestCheck, config: &Config, key: &str) -> Box<Diagnostic> {
    let message = format!("`[verify.inngest]` has no `{key}`");
    Diagnostic::new("CONFIG_INVALID", Exit::Usage, message)
        .with_excerpt(config.excerpt(check.span.clone()))
        .with_fix(format!("add `{key}`"))
        .into()
}
