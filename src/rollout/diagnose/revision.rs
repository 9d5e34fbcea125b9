//! What keeps a controller from making pods at all: quotas, admission, missing accounts.

use super::Finding;
use crate::rollout::{
    code::Code,
    observed::{Observed, Revision},
    report::Diagnosis,
    status::Aim,
};
use std::time::Duration;

/// A controller that failed tries again at once; numbers of quotas lag behind deleted pods.
const GRACE: Duration = Duration::from_secs(2);

/// Why the controller makes no pods. `keeps_all` is whether it lets no old pod go before.
pub(super) fn findings(
    observed: &Observed,
    revision: Option<&Revision>,
    aim: &Aim,
    keeps_all: bool,
) -> Vec<Finding> {
    let Some(workload) = &observed.workload else { return Vec::new() };
    // ReplicaSets have a condition, which goes when it is mended; the others only say it.
    if let Some(revision) = revision.filter(|revision| revision.uid != workload.uid)
        && let Some(words) = &revision.failure
    {
        return vec![read(words, keeps_all)];
    }
    let is_of_ours = |at: Option<jiff::Timestamp>| match (aim.since, at) {
        (Some(since), Some(at)) => at >= since,
        (Some(_), None) => false,
        (None, _) => true,
    };
    let note = observed
        .notes_of(&workload.uid)
        .into_iter()
        .find(|note| {
            matches!(
                note.reason.as_str(),
                "FailedCreate" | "FailedDaemonPod" | "ReplicaSetCreateError"
            )
        })
        .filter(|note| is_of_ours(note.last));
    note.map(|note| read(&note.message, keeps_all)).into_iter().collect()
}

fn read(words: &str, keeps_all: bool) -> Finding {
    let has = |needle: &str| words.contains(needle);
    let (code, fatal, message, fix) = if has("exceeded quota") {
        (
            Code::QuotaExceeded,
            keeps_all,
            "the namespace's quota has no room for another pod".to_owned(),
            "raise the quota, ask for less, or let an old pod go first (maxUnavailable: 1)",
        )
    } else if has("failed calling webhook") {
        (
            Code::WebhookUnreachable,
            false,
            "a webhook of the API server does not answer".to_owned(),
            "see whether the webhook's service runs",
        )
    } else if has("error looking up service account") {
        (
            Code::ConfigMissing,
            true,
            "the pod's service account does not exist".to_owned(),
            "make the ServiceAccount in the namespace",
        )
    } else if has("denied the request") || has("violates PodSecurity") {
        (
            Code::AdmissionRefused,
            true,
            "a policy of the cluster takes no such pods".to_owned(),
            "mend what the policy names in the pod template",
        )
    } else {
        (
            Code::AdmissionRefused,
            has("forbidden") || has("is invalid"),
            "the API server takes no such pods".to_owned(),
            "mend what the API server names in the pod template",
        )
    };
    Finding {
        diagnosis: Diagnosis {
            code,
            message,
            fatal,
            container: None,
            pods: Vec::new(),
            pod_count: 0,
            node: None,
            evidence: vec![words.to_owned()],
            exit_code: None,
            signal: None,
            log: Vec::new(),
            fix: fix.to_owned(),
        },
        grace: GRACE,
    }
}
