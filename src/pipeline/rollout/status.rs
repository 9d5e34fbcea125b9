//! What runs now, and whether it is what was last rolled out. Reads, and changes nothing.

use super::{RolloutFailure, RolloutInputs};
use crate::rollout::{
    api::{self, ApiError, resource},
    diagnose::diagnose,
    observed::digest_of,
    patch::annotation,
    proof,
    report::{Diagnosis, PodReport, RevisionReport},
    request::PinnedImage,
    status::{Aim, Stand, judge},
    watch::Watch,
    workload::{Kind, WorkloadName},
};
use kube::{
    Api,
    api::{DynamicObject, ListParams},
};
use serde::Serialize;
use std::time::Duration;

/// How long a look may take.
const LOOK: Duration = Duration::from_secs(30);

/// What runs in a namespace.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StatusReport {
    /// The kubeconfig's context.
    pub context: Option<String>,
    /// The namespace.
    pub namespace: String,
    /// The workloads that were asked for, or all that bk-sync rolled out.
    pub workloads: Vec<WorkloadStatus>,
}

/// What runs of a workload.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WorkloadStatus {
    /// `KIND/NAME`.
    pub workload: WorkloadName,
    /// The image of its template: of the container that bk-sync set last, else of the first.
    pub image: Option<String>,
    /// The image's digest, where it is pinned.
    pub digest: Option<String>,
    /// The git commit that was recorded with it.
    pub commit: Option<String>,
    /// The image that bk-sync set last.
    pub recorded: Option<String>,
    /// Whether the template's image and the pods' are that one; null where nothing is recorded.
    pub is_recorded: Option<bool>,
    /// Whether all pods are of the template, and ready.
    pub settled: bool,
    /// What it waits for otherwise.
    pub waiting: Option<String>,
    /// The revision of the template.
    pub revision: Option<RevisionReport>,
    /// The pods of that revision.
    pub pods: Vec<PodReport>,
    /// Pods of other revisions.
    pub old_pods: usize,
    /// What stands in the way.
    pub diagnoses: Vec<Diagnosis>,
}

/// What runs of `name`, or of everything in the namespace that bk-sync rolled out.
///
/// # Errors
/// [`RolloutFailure::Api`], [`RolloutFailure::Interrupted`].
pub async fn status(
    name: Option<&WorkloadName>,
    inputs: &RolloutInputs,
) -> Result<StatusReport, RolloutFailure> {
    let names = match name {
        Some(name) => vec![name.clone()],
        None => known(inputs).await?,
    };
    let looks = futures::future::try_join_all(names.iter().map(|name| look(name, inputs)));
    let workloads = tokio::select! {
        workloads = looks => workloads?,
        () = inputs.cancel.cancelled() => return Err(RolloutFailure::Interrupted(None)),
    };
    let cluster = &inputs.cluster;
    Ok(StatusReport {
        context: cluster.context.clone(),
        namespace: cluster.namespace.clone(),
        workloads,
    })
}

/// The workloads of the namespace that carry our annotation.
async fn known(inputs: &RolloutInputs) -> Result<Vec<WorkloadName>, RolloutFailure> {
    let cluster = &inputs.cluster;
    let mut names = Vec::new();
    for kind in [Kind::Deployment, Kind::StatefulSet, Kind::DaemonSet, Kind::CronJob] {
        let api: Api<DynamicObject> =
            Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &resource(kind));
        let list = api
            .list_metadata(&ListParams::default())
            .await
            .map_err(|source| ApiError::new(format!("cannot list {}", kind.plural()), source))?;
        for object in list.items {
            let annotations = object.metadata.annotations.unwrap_or_default();
            if let Some(name) = object.metadata.name
                && annotations.contains_key(annotation::IMAGE)
            {
                names.push(WorkloadName { kind, name });
            }
        }
    }
    Ok(names)
}

async fn look(
    name: &WorkloadName,
    inputs: &RolloutInputs,
) -> Result<WorkloadStatus, RolloutFailure> {
    let cluster = &inputs.cluster;
    let workload = api::read(cluster, name).await?;
    let mut watch = Watch::begin(cluster, name, &workload.selector);
    let seen = async {
        while !watch.is_complete() {
            watch.next().await;
        }
    };
    let is_seen = tokio::time::timeout(LOOK, seen).await.is_ok();
    let observed = watch.observed();
    let recorded = workload.annotations.get(annotation::IMAGE).cloned();
    let ours = workload.annotations.get(annotation::CONTAINERS);
    let container =
        ours.and_then(|names| names.split(',').next()).map(str::to_owned).or_else(|| {
            let mut containers = crate::rollout::workload::containers(&workload.template);
            Some(containers.next()?.1.get("name")?.as_str()?.to_owned())
        });
    let image = container.as_deref().and_then(|name| workload.image(name)).map(str::to_owned);
    let digest =
        image.as_deref().and_then(|image| PinnedImage::parse(image).ok()).map(|image| image.digest);
    let aim = Aim {
        uid: workload.uid.clone(),
        generation: workload.generation,
        images: container.iter().cloned().zip(image.clone()).collect(),
        ..Aim::default()
    };
    let (settled, waiting) = match judge(observed, &aim, Duration::ZERO) {
        _ if !is_seen => (false, Some("the API server does not tell of its pods".to_owned())),
        Stand::Done { partial } => (true, partial),
        Stand::Waiting { message, .. } => (false, Some(message)),
        Stand::Over(_) => (false, Some("its controller gave the rollout up".to_owned())),
    };
    let pods = proof::pods(observed, container.as_deref());
    let runs = |digest: &str| {
        pods.iter().all(|pod| {
            pod.image_id.as_deref().and_then(digest_of).is_none_or(|running| running == digest)
        })
    };
    let is_recorded = recorded
        .as_ref()
        .map(|recorded| image.as_ref() == Some(recorded) && (digest.as_deref().is_none_or(runs)));
    let all = observed.own_pods().filter(|pod| !pod.deleting).count();
    Ok(WorkloadStatus {
        workload: name.clone(),
        image,
        digest,
        // The commit is that of the recorded image, and says nothing of another.
        commit: workload
            .annotations
            .get(annotation::COMMIT)
            .filter(|_| is_recorded == Some(true))
            .cloned(),
        recorded,
        is_recorded,
        settled,
        waiting,
        revision: proof::revision(observed, api::revision_kind(name.kind)),
        old_pods: all.saturating_sub(pods.len()),
        diagnoses: diagnose(observed, &aim).into_iter().map(|one| one.diagnosis).collect(),
        pods,
    })
}
