//! `doctor`.

use super::{credentials, execute, push, sync::Surroundings};
use crate::{
    buildkit::discover::Inputs,
    diagnostic::{Diagnostic, Exit, Format, Printer},
    pipeline::{
        Error,
        doctor::{self, Check, Local, State},
    },
    plan::ListedBuilder,
};
use clap::Args;
use serde_json::json;
use std::ffi::OsString;

use super::{
    arguments::GlobalArguments,
    sync::{DeployArguments, Planned},
};

const EXAMPLES: &str = "Examples:
  bk-sync doctor                    one screen: each check with its finding and what mends it
  bk-sync doctor --format json      the same for scripts
  bk-sync doctor || bk-sync doctor --format json | jq '.error.details.checks[]|select(.state==\"failed\")'

Ends with 17 where a deploy would fail, else with 0.";

/// Look for what a deploy would fail at, and say what mends it
///
/// Config, checkout, builder, registry, cluster and Inngest server are looked at. Nothing is changed
/// or written: a lease that is taken is given back, an upload that is opened is cancelled. Takes all of
/// sync's flags.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct DoctorArguments {
    #[command(flatten)]
    deploy: DeployArguments,
}

impl DoctorArguments {
    /// Looks, and writes what was found.
    pub(super) fn run(self, surroundings: Surroundings<'_>) -> Result<Exit, Box<Diagnostic>> {
        let Surroundings { global, environment, printer, .. } = surroundings;
        // What is not committed is a finding here, and no reason to stop.
        let planned = self.deploy.with_dirty_allowed().plan(surroundings)?;
        let Planned { plan, request, config, cluster, listed } = planned;
        let (chain, warnings) = credentials::chain(&plan.build, Some(&config), environment)?;
        let options = execute::dial_options(global, environment)?;
        let push = push::settings(&plan.build, push::DEFAULTS, Some(&config), environment)?;
        let discovery = execute::discovery(&request.builder, environment);
        let named = |one: ListedBuilder| Inputs { flag: Some(one.address), ..discovery.clone() };
        let places: Vec<Inputs> = match listed {
            Some(listed) => listed.into_iter().map(named).collect(),
            None => vec![discovery],
        };
        let search: OsString = environment.raw("PATH").unwrap_or_default();
        let quiet = GlobalArguments { quiet: true, ..global.clone() };
        let (checks, _) =
            execute::supervised(&quiet, environment, warnings, async |events, cancel| {
                let login = execute::login(chain, &events);
                let look = async {
                    let local = Local { config: &config, plan: &plan, search: &search };
                    let mut checks = doctor::local(&local);
                    for place in &places {
                        checks.extend(doctor::builder(&plan, place, &options).await);
                    }
                    checks.extend(doctor::registry(&plan, &login, &push.reach).await);
                    let inngest = cluster.checks.inngest.clone();
                    checks.extend(doctor::cluster(&plan, cluster, &cancel).await);
                    checks.extend(doctor::inngest(inngest.as_ref()).await);
                    checks
                };
                let looked = tokio::select! {
                    checks = look => Ok(checks),
                    () = cancel.cancelled() => Err(Box::new(Error::Interrupted.into())),
                };
                login.release().await;
                looked
            })?;
        written(&checks, printer)
    }
}

fn written(checks: &[Check], printer: Printer) -> Result<Exit, Box<Diagnostic>> {
    let internal = |error: std::io::Error| {
        Box::new(Diagnostic::new("INTERNAL", Exit::Internal, error.to_string()))
    };
    let screen = doctor::screen(checks);
    let failed = checks.iter().filter(|check| check.state == State::Failed).count();
    if failed == 0 {
        let result = json!({ "checks": checks });
        printer.success("doctor", &screen, &result, &[], &[]).map_err(internal)?;
        return Ok(Exit::Done);
    }
    if printer.format() == Format::Text {
        Printer::text(&format!("{screen}\n")).map_err(internal)?;
    }
    let message = match failed {
        1 => "a deploy would fail at one thing".to_owned(),
        several => format!("a deploy would fail at {several} things"),
    };
    Err(Diagnostic::new("DOCTOR_FOUND", Exit::Preflight, message)
        .with_detail("checks", serde_json::to_value(checks).unwrap_or_default())
        .with_fix("do what stands beside `mend:`")
        .into())
}
