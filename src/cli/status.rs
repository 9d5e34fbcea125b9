//! `status`.

use super::{
    arguments::GlobalArguments,
    cluster::{ClusterArguments, internal},
    environment::Environment,
    rollout::{Ran, run},
};
use crate::{
    config::Config,
    diagnostic::{Diagnostic, Exit, Printer},
    pipeline::{self, rollout::WorkloadStatus},
    rollout::WorkloadName,
};
use clap::Args;
use std::fmt::Write as _;

const EXAMPLES: &str = "Examples:
  bk-sync status                            what bk-sync rolled out here
  bk-sync status deployment/web -n shop     one workload";

/// Say what runs now, and whether it is what was last rolled out
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct StatusArguments {
    /// What runs the image [default: that of bk-sync.toml, else all that bk-sync rolled out]
    #[arg(value_name = "KIND/NAME")]
    workload: Option<String>,
    #[command(flatten)]
    cluster: ClusterArguments,
}

impl StatusArguments {
    /// Looks, and writes what there is.
    pub(super) fn run(
        self,
        global: &GlobalArguments,
        config: Option<&Config>,
        environment: &Environment,
        printer: Printer,
    ) -> Result<Exit, Box<Diagnostic>> {
        let section = config.and_then(|config| config.sections.rollout.as_ref());
        let configured = section.and_then(|section| section.workload.as_ref());
        let name = self.workload.or_else(|| configured.map(|name| name.value.clone()));
        let name: Option<WorkloadName> = name.map(|name| name.parse()).transpose().map_err(
            |error: crate::rollout::workload::NameError| {
                Diagnostic::new("USAGE", Exit::Usage, error.to_string())
                    .with_fix("write `deployment/NAME`")
            },
        )?;
        let settings = self.cluster.settings(config, environment)?;
        let Ran { value: report, warnings } =
            run(global, environment, &settings, async |inputs| {
                pipeline::rollout::status(name.as_ref(), &inputs).await
            })?;
        let lines: Vec<String> = report.workloads.iter().map(lines).collect();
        let line = if lines.is_empty() {
            format!("bk-sync has rolled nothing out in {}", report.namespace)
        } else {
            lines.join("\n")
        };
        let result = serde_json::to_value(&report).map_err(|error| internal(&error))?;
        printer
            .success("status", &line, &result, &warnings, &[])
            .map_err(|error| internal(&error))?;
        Ok(Exit::Done)
    }
}

fn lines(one: &WorkloadStatus) -> String {
    let ready = one.pods.iter().filter(|pod| pod.ready).count();
    let mut text = format!(
        "{}  {}  {ready}/{} pods ready",
        one.workload,
        one.image.as_deref().unwrap_or("no image"),
        one.pods.len(),
    );
    let mut add = |words: &str| {
        let _cannot_fail = write!(text, "\n  {words}");
    };
    match one.is_recorded {
        Some(true) => add("it is what was last rolled out"),
        Some(false) => {
            add(&format!("last rolled out was {}", one.recorded.as_deref().unwrap_or_default()));
        }
        None => add("bk-sync has not rolled it out"),
    }
    if let Some(commit) = &one.commit {
        add(&format!("commit {commit}"));
    }
    if let Some(waiting) = one.waiting.as_ref().filter(|_| !one.settled) {
        add(&format!("not settled: {waiting}"));
    }
    if one.old_pods > 0 {
        add(&format!("{} pods of other revisions", one.old_pods));
    }
    for pod in &one.pods {
        let node = pod.node.as_deref().unwrap_or("no node");
        let since = pod.started_at.as_deref().unwrap_or("not started");
        let state = if pod.ready { "ready" } else { "not ready" };
        add(&format!("{}  {node}  since {since}  {state}  {} restarts", pod.name, pod.restarts));
    }
    for diagnosis in &one.diagnoses {
        add(&format!("{}: {}", diagnosis.code, diagnosis.message));
    }
    text
}
