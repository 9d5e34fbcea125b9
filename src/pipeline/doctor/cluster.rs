//! What can be found in the cluster: whether it lets us roll out, and what runs there now.

use super::Check;
use crate::{
    cluster::Cluster,
    config::FoundWorkload,
    diagnostic::Diagnostic,
    pipeline::{
        rollout::RolloutFailure,
        sync::{ClusterParts, Target},
    },
    plan::SyncPlan,
};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{DaemonSet, Deployment, StatefulSet},
        core::v1::{Node, PodTemplateSpec},
    },
};
use kube::{Api, Resource, ResourceExt as _, api::ListParams};
use serde::de::DeserializeOwned;
use std::{fmt::Debug, time::Duration};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long the cluster may take to answer all that is asked.
const PATIENCE: Duration = Duration::from_secs(20);

/// Looks at the cluster that a deploy would roll out to.
pub async fn cluster(
    plan: &SyncPlan,
    parts: ClusterParts,
    cancel: &CancellationToken,
) -> Vec<Check> {
    let events = crate::event::Events::discard();
    let Some(mut target) = Target::new(plan, parts, events) else {
        let finding = "no `[rollout]` is configured: a deploy ends with the push";
        return vec![Check::skipped("cluster", "answers", finding)];
    };
    match timeout(PATIENCE, look(&mut target, cancel)).await {
        Ok(checks) => checks,
        Err(_) => vec![Check::failed(
            "cluster",
            "answers",
            format!("it did not answer within {} s", PATIENCE.as_secs()),
            "see whether the API server runs and can be reached from here",
        )],
    }
}

async fn look(target: &mut Target<'_>, cancel: &CancellationToken) -> Vec<Check> {
    let cluster = match target.cluster(cancel).await {
        Ok(cluster) => cluster,
        Err(error) => return vec![of_diagnostic("answers", *error)],
    };
    let version = match cluster.client.apiserver_version().await {
        Ok(version) => version.git_version,
        Err(error) => {
            let failure = RolloutFailure::Api(crate::rollout::api::ApiError::new(
                format!("{} does not answer", cluster.server),
                error,
            ));
            return vec![of_diagnostic("answers", failure.into())];
        }
    };
    let mut checks = vec![Check::ok(
        "cluster",
        "answers",
        format!("{} ({version}), namespace {}", cluster.server, cluster.namespace),
    )];
    checks.extend(rollout(target, cancel).await);
    if let Err(error) = target.check_rights(cancel).await {
        checks.push(of_diagnostic("checks", *error));
    }
    checks.push(nodes(&cluster).await);
    checks
}

/// Rights, workload, platforms of the nodes, pull secrets: what a rollout looks at first.
async fn rollout(target: &mut Target<'_>, cancel: &CancellationToken) -> Vec<Check> {
    let mut checks = Vec::new();
    match target.look(cancel).await {
        Ok(Ok(doubts)) => {
            let finding = "rights, workload, node platforms and pull secrets allow a rollout";
            checks.push(Check::ok("cluster", "rollout", finding));
            for doubt in doubts {
                let hint = doubt.hint.unwrap_or_else(|| "see the workload".to_owned());
                checks.push(Check::warning("cluster", "rollout", doubt.message, hint));
            }
        }
        Ok(Err(RolloutFailure::Refused(refusals))) => {
            for refusal in refusals {
                let finding = match &refusal.cause {
                    Some(cause) => format!("{}: {cause}", refusal.message),
                    None => refusal.message,
                };
                checks.push(Check::failed("cluster", "rollout", finding, refusal.fix));
            }
            return checks;
        }
        Ok(Err(failure)) => return vec![of_diagnostic("rollout", failure.into())],
        Err(error) => return vec![of_diagnostic("rollout", *error)],
    }
    match target.status(cancel).await {
        Ok(Some(status)) => {
            let image = status.image.as_deref().unwrap_or("no image").to_owned();
            if status.settled {
                checks.push(Check::ok("cluster", "workload", format!("{image} runs")));
            } else {
                let words = status.diagnoses.first().map(|one| one.message.clone());
                let words = words.or(status.waiting).unwrap_or_default();
                checks.push(Check::warning(
                    "cluster",
                    "workload",
                    format!("a rollout of {image} is half-finished: {words}"),
                    "deploy again, or go back with `bk-sync rollback`",
                ));
            }
            if status.digest.is_none() && status.image.is_some() {
                checks.push(Check::warning(
                    "cluster",
                    "pinned",
                    format!("{image} is a tag, and what it names can change under running pods"),
                    "the next `bk-sync sync` pins the digest",
                ));
            }
        }
        Ok(None) => {}
        Err(error) => checks.push(of_diagnostic("workload", *error)),
    }
    checks
}

/// Nodes that are out of disk take no pods and throw out those that they have.
async fn nodes(cluster: &Cluster) -> Check {
    let api: Api<Node> = Api::all(cluster.client.clone());
    let nodes = match api.list(&ListParams::default()).await {
        Ok(nodes) => nodes.items,
        Err(error) => {
            return Check::skipped("cluster", "nodes", format!("they cannot be listed: {error}"));
        }
    };
    let under_pressure: Vec<String> = nodes
        .iter()
        .filter(|node| {
            let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
            conditions.into_iter().flatten().any(|one| {
                one.status == "True"
                    && matches!(
                        one.type_.as_str(),
                        "DiskPressure" | "MemoryPressure" | "PIDPressure"
                    )
            })
        })
        .map(kube::ResourceExt::name_any)
        .collect();
    if under_pressure.is_empty() {
        return Check::ok(
            "cluster",
            "nodes",
            format!("{} nodes, none under pressure", nodes.len()),
        );
    }
    Check::failed(
        "cluster",
        "nodes",
        format!("under pressure, so that pods are thrown out: {}", under_pressure.join(", ")),
        "free their disk or memory; a builder on the same machine is often what fills it: \
         `bk-sync builder prune`",
    )
}

fn of_diagnostic(name: &'static str, diagnostic: Diagnostic) -> Check {
    let mut finding = diagnostic.message;
    for cause in diagnostic.causes {
        finding = format!("{finding}: {cause}");
    }
    let mend = diagnostic.fix.unwrap_or_else(|| "see `kubectl` for more".to_owned());
    Check::failed("cluster", name, finding, mend)
}

/// The workloads of a cluster: of all namespaces where we may list them, else of our own.
///
/// # Errors
/// Why they cannot be listed, in words.
pub async fn workloads(cluster: &Cluster) -> Result<Vec<FoundWorkload>, String> {
    let look = async {
        let mut found = list::<Deployment>(cluster, "deployment", |one| {
            Some(one.spec.as_ref()?.template.clone())
        })
        .await?;
        let of = |one: &StatefulSet| Some(one.spec.as_ref()?.template.clone());
        found.extend(list::<StatefulSet>(cluster, "statefulset", of).await?);
        let of = |one: &DaemonSet| Some(one.spec.as_ref()?.template.clone());
        found.extend(list::<DaemonSet>(cluster, "daemonset", of).await?);
        Ok(found)
    };
    match timeout(PATIENCE, look).await {
        Ok(found) => found,
        Err(_) => Err(format!("{} did not answer", cluster.server)),
    }
}

async fn list<K>(
    cluster: &Cluster,
    kind: &str,
    template: impl Fn(&K) -> Option<PodTemplateSpec>,
) -> Result<Vec<FoundWorkload>, String>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + Debug,
{
    let everywhere: Api<K> = Api::all(cluster.client.clone());
    let here: Api<K> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let all = if let Ok(list) = everywhere.list(&ListParams::default()).await {
        list.items
    } else {
        let list = here.list(&ListParams::default()).await;
        list.map_err(|error| error.to_string())?.items
    };
    let found = |one: &K| {
        let namespace = one.namespace()?;
        // What the cluster runs for itself is nobody's project.
        if namespace.starts_with("kube-") {
            return None;
        }
        let containers = template(one)?.spec?.containers;
        let containers =
            containers.into_iter().map(|one| (one.name, one.image.unwrap_or_default()));
        Some(FoundWorkload {
            namespace,
            kind: kind.to_owned(),
            name: one.name_any(),
            containers: containers.collect(),
        })
    };
    Ok(all.iter().filter_map(found).collect())
}
