//! Whether a rollout is done: kubectl's rules as a function of what was observed, and the traps that
//! they leave open closed. Pure.
//!
//! The numbers of a workload's status count only once its controller has seen the change; the
//! condition `Progressing` is old news where the revision existed before (kubernetes#124264), so it
//! counts only where it differs from what it was at the time of the change; and another change of
//! the image in the middle is no success of ours.

use super::{
    observed::Observed,
    patch::FIELD_MANAGER,
    workload::{Condition, Kind, Strategy, Workload},
};
use jiff::Timestamp;
use std::{collections::BTreeMap, time::Duration};

/// What a rollout goes for: fixed when the change was made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Aim {
    /// The workload's identity.
    pub uid: String,
    /// The number that its wanted state got by the change.
    pub generation: i64,
    /// The images that were set, by container.
    pub images: BTreeMap<String, String>,
    /// The condition `Progressing` at the time of the change.
    pub stale: Option<Condition>,
    /// When the change was made, by the API server's clock; none where nothing was changed.
    pub since: Option<Timestamp>,
}

/// How a rollout stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Stand {
    /// All that should be new is new and available, as far as numbers tell.
    Done {
        /// What was left as it was, by the workload's own settings.
        partial: Option<String>,
    },
    /// It goes on.
    Waiting {
        /// Pods of the new revision that are available.
        ready: i64,
        /// Pods that it should have.
        wanted: i64,
        /// What is waited for, in words.
        message: String,
    },
    /// It will not come about any more.
    Over(End),
}

/// Why a rollout will not come about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum End {
    /// The controller gave it up.
    DeadlineExceeded(String),
    /// The workload is gone.
    Deleted,
    /// A workload of the same name was made anew.
    Replaced,
    /// Somebody set another image.
    Superseded {
        /// The container.
        container: String,
        /// The image that it has now.
        image: String,
        /// The field manager that set it, where it is known.
        by: Option<String>,
    },
}

/// Whether the workload's controller has seen the change.
pub fn is_observed(workload: &Workload, aim: &Aim) -> bool {
    workload.generation >= aim.generation && workload.observed_generation >= workload.generation
}

/// The pods that should be of the new revision.
pub fn wanted(workload: &Workload) -> i64 {
    match workload.strategy {
        Strategy::Rolling { partition, .. } if partition > 0 => {
            workload.replicas.saturating_sub(partition).max(0)
        }
        _ => workload.replicas,
    }
}

/// How the rollout stands, `elapsed` after the change.
pub fn judge(observed: &Observed, aim: &Aim, elapsed: Duration) -> Stand {
    let Some(workload) = &observed.workload else { return Stand::Over(End::Deleted) };
    if workload.uid != aim.uid {
        return Stand::Over(End::Replaced);
    }
    if workload.deleting {
        return Stand::Over(End::Deleted);
    }
    if workload.generation >= aim.generation
        && let Some(end) = superseded(workload, aim)
    {
        return Stand::Over(end);
    }
    let wanted = wanted(workload);
    let waiting =
        |ready: i64, message: String| Stand::Waiting { ready: ready.min(wanted), wanted, message };
    if !is_observed(workload, aim) {
        let message = "for the controller to see the change".to_owned();
        return waiting(0, message);
    }
    let counts = &workload.counts;
    let new = counts.updated.min(counts.available);
    match workload.name.kind {
        Kind::CronJob | Kind::Job => Stand::Done { partial: None },
        _ if workload.strategy == Strategy::OnDelete => Stand::Done {
            partial: Some("pods are replaced when they are deleted (OnDelete)".to_owned()),
        },
        Kind::Deployment => {
            if workload.paused {
                return waiting(new, "the Deployment is paused".to_owned());
            }
            if let Some(end) = deadline(workload, aim, elapsed) {
                return Stand::Over(end);
            }
            let Some(revision) = observed.target().and_then(|target| target.revision) else {
                return waiting(0, "for the ReplicaSet that carries the image".to_owned());
            };
            if counts.updated < workload.replicas {
                let message = format!("{} of {wanted} pods are new", counts.updated);
                waiting(revision.available, message)
            } else if counts.total > counts.updated {
                let old = counts.total - counts.updated;
                let are = if old == 1 { "pod is" } else { "pods are" };
                waiting(revision.available, format!("{old} old {are} on the way out"))
            } else if counts.available < counts.updated || revision.available < wanted {
                let available = counts.available.min(revision.available);
                waiting(available, format!("{available} of {wanted} new pods are available"))
            } else {
                Stand::Done { partial: None }
            }
        }
        Kind::StatefulSet => {
            let partition = match workload.strategy {
                Strategy::Rolling { partition, .. } => partition,
                _ => 0,
            };
            // updatedReplicas counts only while the revisions differ.
            let whole = workload.update_revision.is_some()
                && workload.update_revision == workload.current_revision;
            let updated = if whole { workload.replicas } else { counts.updated };
            if counts.ready < workload.replicas || counts.available < workload.replicas {
                let ready = counts.ready.min(counts.available);
                waiting(
                    ready.min(updated),
                    format!("{ready} of {} pods are available", workload.replicas),
                )
            } else if updated < wanted {
                waiting(updated, format!("{updated} of {wanted} pods are new"))
            } else if partition > 0 {
                let kept = workload.replicas.min(partition);
                let partial = format!("{kept} pods stay as they are (partition {partition})");
                Stand::Done { partial: Some(partial) }
            } else if !whole && workload.replicas > 0 {
                waiting(updated, "for the controller to end the update".to_owned())
            } else {
                Stand::Done { partial: None }
            }
        }
        Kind::DaemonSet => {
            if counts.updated < counts.total {
                waiting(new, format!("{} of {wanted} pods are new", counts.updated))
            } else if counts.available < counts.total {
                waiting(new, format!("{} of {wanted} new pods are available", counts.available))
            } else {
                Stand::Done { partial: None }
            }
        }
    }
}

/// Another image than ours in one of the containers.
fn superseded(workload: &Workload, aim: &Aim) -> Option<End> {
    aim.images.iter().find_map(|(container, ours)| {
        let image = workload.image(container).unwrap_or_default();
        if image == ours {
            return None;
        }
        let writers = workload.image_writers.get(container).map(Vec::as_slice).unwrap_or_default();
        let last = writers.iter().max_by(|a, b| a.time.cmp(&b.time));
        let by = last.map(|writer| {
            if writer.manager == FIELD_MANAGER {
                "another bk-sync".to_owned()
            } else {
                writer.manager.clone()
            }
        });
        Some(End::Superseded { container: container.clone(), image: image.to_owned(), by })
    })
}

/// The controller's own verdict, where it is about this change.
fn deadline(workload: &Workload, aim: &Aim, elapsed: Duration) -> Option<End> {
    let condition = workload.progressing.as_ref()?;
    if condition.reason != "ProgressDeadlineExceeded" {
        return None;
    }
    let is_old = aim.stale.as_ref() == Some(condition);
    // A verdict that was there before may be repeated without a trace; not before its time, though.
    let could_be_repeated = workload
        .progress_deadline
        .and_then(|seconds| u64::try_from(seconds).ok())
        .is_some_and(|seconds| elapsed >= Duration::from_secs(seconds));
    (!is_old || could_be_repeated).then(|| End::DeadlineExceeded(condition.message.clone()))
}

#[cfg(test)]
mod tests;
