//! The calls that a rollout makes of the API server: reading and changing a workload.

use super::{
    patch::FIELD_MANAGER,
    workload::{Kind, MalformedWorkload, Workload, WorkloadName},
};
use crate::cluster::{Cluster, api_words, reaches_server};
use futures::AsyncReadExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{ApiResource, DeleteParams, DynamicObject, LogParams, Patch, PatchParams, Preconditions},
    core::GroupVersionKind,
};
use serde_json::Value;

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// The API server refused it.
    #[error("{action}: {}", api_words(source))]
    Refused {
        /// What was tried.
        action: String,
        /// What was said.
        #[source]
        source: kube::Error,
    },
    /// The API server was not reached, or does not answer as one does.
    #[error("{action}: the API server does not answer: {}", api_words(source))]
    Unreachable {
        /// What was tried.
        action: String,
        /// What was seen.
        #[source]
        source: kube::Error,
    },
    /// It answered with something else than was asked for.
    #[error(transparent)]
    Malformed(#[from] MalformedWorkload),
}

impl ApiError {
    /// An error of `action`, such as `cannot read deployment/web`.
    pub fn new(action: impl Into<String>, source: kube::Error) -> Self {
        let action = action.into();
        if reaches_server(&source) {
            Self::Refused { action, source }
        } else {
            Self::Unreachable { action, source }
        }
    }

    /// The status that the API server answered with.
    pub fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Refused { source: kube::Error::Api(status), .. } => Some(status),
            _ => None,
        }
    }

    /// Whether a change came in between.
    pub fn is_conflict(&self) -> bool {
        self.status().is_some_and(|status| status.code == 409)
    }

    /// Whether there is no such thing.
    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(|status| status.code == 404)
    }
}

/// The API of a kind of workload.
pub fn resource(kind: Kind) -> ApiResource {
    let kind_name = GroupVersionKind::gvk(kind.group(), "v1", kind.name());
    ApiResource::from_gvk_with_plural(&kind_name, kind.plural())
}

/// The API of the revisions of a kind of workload.
pub fn revisions(kind: Kind) -> ApiResource {
    let (name, plural) = match kind {
        Kind::Deployment => ("ReplicaSet", "replicasets"),
        _ => ("ControllerRevision", "controllerrevisions"),
    };
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("apps", "v1", name), plural)
}

/// The kind of the revisions of a kind of workload.
pub fn revision_kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Deployment => "ReplicaSet",
        _ => "ControllerRevision",
    }
}

/// An object as the API writes it.
pub fn value(object: &DynamicObject) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

fn workloads(cluster: &Cluster, kind: Kind) -> Api<DynamicObject> {
    Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &resource(kind))
}

/// Reads a workload.
///
/// # Errors
/// [`ApiError`].
pub async fn read(cluster: &Cluster, name: &WorkloadName) -> Result<Workload, ApiError> {
    let object = workloads(cluster, name.kind)
        .get(&name.name)
        .await
        .map_err(|source| ApiError::new(format!("cannot read {name}"), source))?;
    Ok(Workload::read(name.kind, &value(&object))?)
}

/// A workload after a change, and when the API server made it.
#[derive(Debug)]
pub struct Changed {
    /// The workload.
    pub workload: Workload,
    /// When it was changed, by the API server's clock.
    pub at: Option<Timestamp>,
}

/// Changes a workload by a strategic merge, or only asks whether it could be.
///
/// # Errors
/// [`ApiError`].
pub async fn change(
    cluster: &Cluster,
    name: &WorkloadName,
    body: &Value,
    dry_run: bool,
) -> Result<Changed, ApiError> {
    let parameters = PatchParams {
        dry_run,
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let object = workloads(cluster, name.kind)
        .patch(&name.name, &parameters, &Patch::Strategic(body))
        .await
        .map_err(|source| ApiError::new(format!("cannot change {name}"), source))?;
    let value = value(&object);
    let entries = value.pointer("/metadata/managedFields").and_then(Value::as_array);
    let at = entries
        .into_iter()
        .flatten()
        .filter(|entry| entry.get("manager").and_then(Value::as_str) == Some(FIELD_MANAGER))
        .filter_map(|entry| entry.get("time")?.as_str()?.parse::<Timestamp>().ok())
        .max();
    Ok(Changed { workload: Workload::read(name.kind, &value)?, at })
}

/// The last lines of a container: of the one before where it was started again, else of what runs.
/// None where there is no log to be had.
pub async fn last_lines(
    cluster: &Cluster,
    pod: &str,
    container: &str,
    previous: bool,
    lines: i64,
) -> Option<Vec<String>> {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let parameters = LogParams {
        container: Some(container.to_owned()),
        previous,
        tail_lines: Some(lines),
        limit_bytes: Some(64 << 10),
        ..LogParams::default()
    };
    // What a program writes need not be text.
    let read = async {
        let mut bytes = Vec::new();
        let mut log = pods.log_stream(pod, &parameters).await.map_err(|error| error.to_string())?;
        log.read_to_end(&mut bytes).await.map_err(|error| error.to_string())?;
        Ok::<_, String>(bytes)
    };
    match read.await {
        Ok(bytes) => Some(String::from_utf8_lossy(&bytes).lines().map(shown).collect()),
        Err(error) => {
            tracing::debug!(%error, pod, container, "the log cannot be had");
            None
        }
    }
}

/// A line of a log without what would steer a terminal.
fn shown(line: &str) -> String {
    let plain = anstream::adapter::strip_str(line).to_string();
    plain.chars().filter(|c| *c == '\t' || !c.is_control()).collect()
}

/// Deletes a pod, if it still is the one that `uid` names.
///
/// # Errors
/// [`ApiError`]; a pod that is gone is no error.
pub async fn delete_pod(cluster: &Cluster, pod: &str, uid: &str) -> Result<(), ApiError> {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let only = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    match pods.delete(pod, &DeleteParams::default().preconditions(only)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(source) => Err(ApiError::new(format!("cannot delete pod/{pod}"), source)),
    }
}
