//! The flags that say which cluster is meant, spelled as kubectl spells them.

use super::environment::Environment;
use crate::{
    cluster::{AccessSettings, Cluster},
    config::Config,
    diagnostic::{Diagnostic, Exit},
    event::Events,
    pipeline::rollout::{RolloutFailure, RolloutInputs},
};
use clap::Args;
use std::path::PathBuf;
use tokio_util::sync::CancellationToken;

/// Which cluster, and as whom.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Cluster options")]
pub(super) struct ClusterArguments {
    /// The namespace [default: that of bk-sync.toml, else the context's]
    #[arg(short, long, value_name = "NAME")]
    pub(super) namespace: Option<String>,
    /// The kubeconfig's context [default: that of bk-sync.toml, else the current one]
    #[arg(long = "context", id = "kube_context", value_name = "NAME")]
    pub(super) context: Option<String>,
    /// The kubeconfig [default: `$KUBECONFIG`, else `~/.kube/config`, else the pod's account]
    #[arg(long, value_name = "FILE")]
    pub(super) kubeconfig: Option<PathBuf>,
    /// Act as this user
    #[arg(long = "as", value_name = "USER")]
    pub(super) act_as: Option<String>,
    /// Act as a member of this group
    #[arg(long = "as-group", value_name = "GROUP", requires = "act_as")]
    pub(super) act_as_groups: Vec<String>,
}

impl ClusterArguments {
    /// What decides which cluster is meant: flags, the config, the environment.
    ///
    /// # Errors
    /// Where a value of the config cannot be had.
    pub(super) fn settings(
        &self,
        config: Option<&Config>,
        environment: &Environment,
    ) -> Result<AccessSettings, Box<Diagnostic>> {
        let section = config.and_then(|config| config.sections.rollout.as_ref());
        let context = match &self.context {
            Some(context) => Some(context.clone()),
            None => super::rollout::text(
                section.and_then(|section| section.context.as_ref()),
                config,
                environment,
            )?,
        };
        let namespace = match &self.namespace {
            Some(namespace) => Some(namespace.clone()),
            None => super::rollout::text(
                section.and_then(|section| section.namespace.as_ref()),
                config,
                environment,
            )?,
        };
        Ok(AccessSettings {
            kubeconfig: self.kubeconfig.clone(),
            kubeconfig_list: environment.raw("KUBECONFIG"),
            home: environment.home(),
            context,
            namespace,
            impersonate: self.act_as.clone(),
            impersonate_groups: self.act_as_groups.clone(),
        })
    }
}

/// What a rollout needs from its surroundings.
///
/// # Errors
/// Where no cluster is known.
pub(super) async fn inputs(
    settings: &AccessSettings,
    environment: &Environment,
    events: Events,
    cancel: CancellationToken,
) -> Result<RolloutInputs, RolloutFailure> {
    let cluster = Cluster::connect(settings).await?;
    Ok(RolloutInputs { cluster, holder: holder(environment), events, cancel, registry: None })
}

/// Who we are to those who find our lock: a user, a host and what tells two runs apart.
pub(super) fn holder(environment: &Environment) -> String {
    let user = environment.non_empty("USER").or_else(|| environment.non_empty("LOGNAME"));
    // Where the system keeps it in neither place, a variable may name it.
    let host = ["/proc/sys/kernel/hostname", "/etc/hostname"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok())
        .map(|host| host.trim().to_owned())
        .filter(|host| !host.is_empty())
        .or_else(|| environment.non_empty("HOSTNAME"))
        .unwrap_or_else(|| "localhost".to_owned());
    let run: u32 = rand::random();
    format!("{}@{host}/{}-{run:08x}", user.as_deref().unwrap_or("somebody"), std::process::id())
}

impl From<RolloutFailure> for Diagnostic {
    fn from(failure: RolloutFailure) -> Self {
        super::rollout::failure::diagnostic(failure)
    }
}

/// An error that should not happen.
pub(super) fn internal(error: &dyn std::error::Error) -> Box<Diagnostic> {
    Diagnostic::new("INTERNAL", Exit::Internal, error.to_string()).with_sources(error).into()
}
