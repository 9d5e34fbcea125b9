//! Values that the kubeconfig and the cluster know: contexts, namespaces, workloads.

use super::engine::Asked;
use crate::{
    cli::environment::Environment,
    cluster::{AccessSettings, Cluster, candidates},
};
use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment, StatefulSet},
    core::v1::Namespace,
};
use kube::{Api, Resource, ResourceExt, api::ListParams, config::Kubeconfig};
use serde::de::DeserializeOwned;
use std::{fmt::Debug, path::PathBuf, time::Duration};

/// Whoever presses the tab key waits no longer than this.
const LIMIT: Duration = Duration::from_secs(2);
/// More than this nobody reads.
const MOST: u32 = 200;

/// What decides which cluster is meant, by what was typed before.
fn settings(asked: &Asked<'_>, environment: &Environment) -> AccessSettings {
    let given = |name: &str| asked.given.get(name).cloned();
    AccessSettings {
        kubeconfig: given("kubeconfig").map(PathBuf::from),
        kubeconfig_list: environment.raw("KUBECONFIG"),
        home: environment.home(),
        context: given("kube_context"),
        namespace: given("namespace"),
        ..AccessSettings::default()
    }
}

/// The contexts of the kubeconfig.
pub(super) fn contexts(asked: &Asked<'_>, environment: &Environment) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for path in candidates(&settings(asked, environment)) {
        let Ok(read) = Kubeconfig::read_from(path) else { continue };
        for named in read.contexts {
            let cluster = named.context.map(|context| context.cluster).unwrap_or_default();
            found.push((named.name, format!("cluster {cluster}")));
        }
    }
    found
}

/// The namespaces of the cluster.
pub(super) fn namespaces(asked: &Asked<'_>, environment: &Environment) -> Vec<(String, String)> {
    ask(&settings(asked, environment), async |cluster| {
        names(&Api::<Namespace>::all(cluster.client)).await
    })
    .into_iter()
    .map(|name| (name, String::new()))
    .collect()
}

/// The workloads of the namespace, as `KIND/NAME`.
pub(super) fn workloads(asked: &Asked<'_>, environment: &Environment) -> Vec<(String, String)> {
    ask(&settings(asked, environment), async |cluster| {
        let Cluster { client, namespace, .. } = cluster;
        let deployments = Api::<Deployment>::namespaced(client.clone(), &namespace);
        let sets = Api::<StatefulSet>::namespaced(client.clone(), &namespace);
        let daemons = Api::<DaemonSet>::namespaced(client, &namespace);
        let (deployments, sets, daemons) =
            tokio::join!(names(&deployments), names(&sets), names(&daemons));
        let kinds = [("deployment", deployments), ("statefulset", sets), ("daemonset", daemons)];
        kinds
            .into_iter()
            .flat_map(|(kind, names)| names.into_iter().map(move |name| format!("{kind}/{name}")))
            .collect()
    })
    .into_iter()
    .map(|name| (name, String::new()))
    .collect()
}

/// Asks the cluster; nothing where it does not answer in time.
fn ask(
    settings: &AccessSettings,
    question: impl AsyncFnOnce(Cluster) -> Vec<String>,
) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return Vec::new() };
    let answer = runtime.block_on(async {
        let answer = async {
            match Cluster::connect(settings).await {
                Ok(cluster) => question(cluster).await,
                Err(_) => Vec::new(),
            }
        };
        tokio::time::timeout(LIMIT, answer).await.unwrap_or_default()
    });
    // A lookup of names that nobody waits for any more.
    runtime.shutdown_background();
    answer
}

async fn names<K>(api: &Api<K>) -> Vec<String>
where
    K: Resource + Clone + DeserializeOwned + Debug,
    K::DynamicType: Default,
{
    match api.list_metadata(&ListParams::default().limit(MOST)).await {
        Ok(list) => list.items.iter().map(ResourceExt::name_any).collect(),
        Err(_) => Vec::new(),
    }
}
