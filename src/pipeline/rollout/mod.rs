//! A rollout from its request to its report: look, lock, change, wait, and go back where it fails.

mod back;
mod failure;
mod one;
mod platforms;
mod status;
mod steps;

pub use back::{Waiting, rollback};
pub use failure::RolloutFailure;
pub use platforms::RegistryAccess;
pub use status::{StatusReport, WorkloadStatus, status};

use crate::{
    cluster::Cluster,
    event::{Event, Events, Warning},
    rollout::{
        RolloutReport,
        lock::{Lock, LockError, Wish},
        preflight::{self, Checked, Refusal},
        report::{Outcome, RollbackOutcome, WorkloadReport},
        request::Request,
        workload::WorkloadName,
    },
};
use futures::future::join_all;
use one::One;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// What a rollout needs from its surroundings. Nothing here is looked up: who calls says it.
#[derive(Clone, Debug)]
pub struct RolloutInputs {
    /// The cluster, with the namespace of all workloads.
    pub cluster: Cluster,
    /// Who holds the lock, for those who find it taken: a user and a host.
    pub holder: String,
    /// Who hears of the progress.
    pub events: Events,
    /// Cancelled when the user wants no more of it.
    pub cancel: CancellationToken,
    /// How an image's platforms are read that are not known; none where nobody asks for them.
    pub registry: Option<RegistryAccess>,
}

/// Looks whether a rollout can come about. Changes nothing.
///
/// # Errors
/// [`RolloutFailure::Refused`] with everything that stands against it, or
/// [`RolloutFailure::Interrupted`].
pub async fn preflight(
    request: &Request,
    inputs: &RolloutInputs,
) -> Result<Vec<Checked>, RolloutFailure> {
    Ok(look(request, inputs).await?.1)
}

/// The request with what its registry tells of the image, and what was found in the cluster.
async fn look(
    request: &Request,
    inputs: &RolloutInputs,
) -> Result<(Request, Vec<Checked>), RolloutFailure> {
    let mut request = request.clone();
    let looked = async {
        let checks =
            request.workloads.iter().map(|name| preflight::check(&inputs.cluster, &request, name));
        let is_unknown = request.image.manifests.is_empty() && !request.image.digest.is_empty();
        let registry = inputs.registry.as_ref().filter(|_| is_unknown);
        let manifests = async {
            match registry {
                Some(access) => Some(platforms::manifests(access, &request.image).await),
                None => None,
            }
        };
        futures::join!(join_all(checks), manifests)
    };
    let (mut results, manifests) = tokio::select! {
        looked = looked => looked,
        () = inputs.cancel.cancelled() => return Err(RolloutFailure::Interrupted(None)),
    };
    match manifests {
        Some(Ok(manifests)) => {
            request.image.manifests = manifests;
            for result in &mut results {
                fit_nodes(inputs, &request, result).await;
            }
        }
        Some(Err(doubt)) => {
            if let Some(Ok(checked)) = results.iter_mut().find(|result| result.is_ok()) {
                checked.doubts.push(doubt);
            }
        }
        None => {}
    }
    let mut checked = Vec::new();
    let mut refusals: Vec<Refusal> = Vec::new();
    for result in results {
        match result {
            Ok(one) => checked.push(one),
            Err(more) => {
                for refusal in more {
                    if !refusals.contains(&refusal) {
                        refusals.push(refusal);
                    }
                }
            }
        }
    }
    if refusals.is_empty() {
        Ok((request, checked))
    } else {
        Err(RolloutFailure::Refused(refusals))
    }
}

/// Holds the image's platforms, which came later than the rest, against the nodes.
async fn fit_nodes(
    inputs: &RolloutInputs,
    request: &Request,
    result: &mut Result<Checked, Vec<Refusal>>,
) {
    let Ok(checked) = result else { return };
    match preflight::platforms(&inputs.cluster, request, &checked.workload).await {
        Some(Ok(doubt)) => checked.doubts.push(doubt),
        Some(Err(refusal)) => *result = Err(vec![refusal]),
        None => {}
    }
}

/// Sets the image of all workloads, and waits until their pods are proven or the end is known.
///
/// # Errors
/// See [`RolloutFailure`]. Whatever the ending, no lock is kept.
pub async fn rollout(
    request: &Request,
    inputs: RolloutInputs,
) -> Result<RolloutReport, RolloutFailure> {
    let began = Instant::now();
    let (request, checked) = look(request, &inputs).await?;
    let request = &request;
    let preflight_time = began.elapsed();
    for doubt in checked.iter().flat_map(|one| &one.doubts) {
        inputs.events.emit(Event::Warning(Warning {
            code: doubt.code,
            message: doubt.message.clone(),
            hint: doubt.hint.clone(),
        }));
    }
    let locking = Instant::now();
    let locks = locks(request, &inputs).await?;
    let lock_time = locking.elapsed();
    let work = Work { request, inputs: &inputs, preflight_time, lock_time };
    let reports = work.all(&locks).await;
    join_all(locks.into_iter().map(|(_, lock)| lock.release())).await;
    finished(request, &inputs, reports, began.elapsed())
}

/// The locks of all workloads, taken in the order of their names, so that two who want the same ones
/// do not wait for each other.
async fn locks(
    request: &Request,
    inputs: &RolloutInputs,
) -> Result<Vec<(WorkloadName, Lock)>, RolloutFailure> {
    let mut names = request.workloads.clone();
    names.sort();
    names.dedup();
    let mut locks: Vec<(WorkloadName, Lock)> = Vec::new();
    for name in names {
        let wish = Wish {
            workload: &name,
            holder: &inputs.holder,
            wait: request.lock_wait,
            takeover: request.lock_takeover,
        };
        match Lock::take(&inputs.cluster, &wish, &inputs.cancel).await {
            Ok(lock) => locks.push((name, lock)),
            Err(error) => {
                join_all(locks.into_iter().map(|(_, lock)| lock.release())).await;
                return Err(match error {
                    LockError::Cancelled => RolloutFailure::Interrupted(None),
                    other => RolloutFailure::Lock(other),
                });
            }
        }
    }
    Ok(locks)
}

/// A rollout whose locks are held.
struct Work<'w> {
    request: &'w Request,
    inputs: &'w RolloutInputs,
    preflight_time: Duration,
    lock_time: Duration,
}

impl Work<'_> {
    async fn all(&self, locks: &[(WorkloadName, Lock)]) -> Vec<WorkloadReport> {
        let lost = |name: &WorkloadName| {
            let lock = locks.iter().find(|(other, _)| other == name);
            lock.map(|(_, lock)| lock.lost().clone()).unwrap_or_default()
        };
        let one = async |name: &WorkloadName| {
            let lost = lost(name);
            let one = One { request: self.request, inputs: self.inputs, name, lost: &lost };
            let mut report = one.run().await;
            report.timings.preflight = Some(self.preflight_time);
            report.timings.lock = Some(self.lock_time);
            report
        };
        if self.request.together {
            return join_all(self.request.workloads.iter().map(one)).await;
        }
        let mut reports: Vec<WorkloadReport> = Vec::new();
        for name in &self.request.workloads {
            if reports.iter().all(|report| report.outcome.is_ok()) {
                reports.push(one(name).await);
            } else {
                let namespace = &self.inputs.cluster.namespace;
                let image = self.request.image.to_string();
                reports.push(WorkloadReport::new(name.clone(), namespace, &image));
            }
        }
        reports
    }
}

fn finished(
    request: &Request,
    inputs: &RolloutInputs,
    workloads: Vec<WorkloadReport>,
    total: Duration,
) -> Result<RolloutReport, RolloutFailure> {
    let report = RolloutReport {
        image: request.image.to_string(),
        digest: request.image.digest.clone(),
        context: inputs.cluster.context.clone(),
        namespace: inputs.cluster.namespace.clone(),
        workloads,
        total,
    };
    if report.is_ok() {
        return Ok(report);
    }
    // Whoever ends us on the way back wants no verdict of ours either.
    let is_interrupted = report.workloads.iter().any(|workload| {
        let back = workload.rollback.as_ref().map(|back| back.outcome);
        workload.outcome == Outcome::Interrupted
            || (inputs.cancel.is_cancelled() && back == Some(RollbackOutcome::Failed))
    });
    let report = Box::new(report);
    if is_interrupted {
        return Err(RolloutFailure::Interrupted(Some(report)));
    }
    Err(RolloutFailure::Failed(report))
}
