//! `rollback`.

use super::{
    arguments::GlobalArguments,
    cluster::{ClusterArguments, internal},
    environment::Environment,
    rollout::{HowArguments, Ran, lines, run},
};
use crate::{
    config::Config,
    diagnostic::{Diagnostic, Exit, Printer},
    pipeline,
    rollout::WorkloadName,
};
use clap::Args;

const EXAMPLES: &str = "Examples:
  bk-sync rollback deployment/web -n shop   go back, and wait until that is proven";

/// Go back to the image before the last one that bk-sync set
///
/// It is waited for and verified like a rollout.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct RollbackArguments {
    /// What runs the image
    #[arg(value_name = "KIND/NAME")]
    workload: String,
    #[command(flatten)]
    how: HowArguments,
    #[command(flatten)]
    cluster: ClusterArguments,
}

impl RollbackArguments {
    /// Goes back, and writes how it ended.
    pub(super) fn run(
        self,
        global: &GlobalArguments,
        config: Option<&Config>,
        environment: &Environment,
        printer: Printer,
    ) -> Result<Exit, Box<Diagnostic>> {
        let name: WorkloadName = self.workload.parse().map_err(|error| {
            let message = format!("{error}");
            Diagnostic::new("USAGE", Exit::Usage, message).with_fix("write `deployment/NAME`")
        })?;
        let waiting = self.how.waiting()?;
        let settings = self.cluster.settings(config, environment)?;
        let Ran { value: report, warnings } =
            run(global, environment, &settings, async |inputs| {
                pipeline::rollout::rollback(&name, &waiting, inputs).await
            })?;
        let result = serde_json::to_value(&report).map_err(|error| internal(&error))?;
        printer
            .success("rollback", &lines(&report), &result, &warnings, &[])
            .map_err(|error| internal(&error))?;
        Ok(Exit::Done)
    }
}
