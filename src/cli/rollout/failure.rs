//! What a failed rollout means to a user: its code, its exit, its fix.

use crate::{
    diagnostic::{Diagnostic, Exit, NextAction, Step},
    pipeline::rollout::RolloutFailure,
    rollout::{
        RolloutReport, WorkloadReport,
        lock::LockError,
        preflight::Refusal,
        report::{self, Outcome, RollbackOutcome},
    },
};
use serde_json::json;

/// The failure as a diagnostic.
pub(in crate::cli) fn diagnostic(failure: RolloutFailure) -> Diagnostic {
    match failure {
        RolloutFailure::Access(error) => {
            Diagnostic::new("CLUSTER_UNKNOWN", Exit::Preflight, error.to_string())
                .with_fix(error.fix())
        }
        RolloutFailure::Api(error) => {
            let code =
                if error.status().is_some() { "CLUSTER_FAILED" } else { "CLUSTER_UNREACHABLE" };
            Diagnostic::new(code, Exit::Preflight, error.to_string())
                .with_fix("see whether `kubectl get namespaces` works with the same context")
        }
        RolloutFailure::Failed(report) => failed(&report),
        RolloutFailure::Interrupted(report) => interrupted(report.as_deref()),
        RolloutFailure::Lock(error) => locked(error),
        RolloutFailure::Refused(refusals) => refused(&refusals),
    }
}

fn refused(refusals: &[Refusal]) -> Diagnostic {
    let Some((first, rest)) = refusals.split_first() else {
        return Diagnostic::new("INTERNAL", Exit::Internal, "refused without a reason");
    };
    let mut diagnostic = Diagnostic::new(first.code, Exit::Preflight, first.message.clone())
        .with_fix(first.fix.clone())
        .with_note("nothing was changed");
    diagnostic.causes.extend(first.cause.clone());
    for refusal in rest {
        diagnostic = diagnostic.with_note(format!("{}: {}", refusal.code, refusal.message));
    }
    let all: Vec<_> = refusals
        .iter()
        .map(|one| json!({"code": one.code, "message": one.message, "fix": one.fix}))
        .collect();
    diagnostic.with_detail("refusals", all)
}

fn locked(error: LockError) -> Diagnostic {
    match error {
        LockError::Held { ref holder, ref since, ref renewed, .. } => {
            let mut diagnostic = Diagnostic::new("LOCKED", Exit::Locked, error.to_string())
                .with_detail("holder", holder.as_str())
                .with_detail("since", since.clone())
                .with_detail("renewed", renewed.clone())
                .with_fix("wait for it with `--lock-wait 5m`; a deploy that was killed lets go within a minute");
            if let Some(since) = since {
                diagnostic = diagnostic.with_note(format!("it was taken at {since}"));
            }
            diagnostic
        }
        LockError::Cancelled => interrupted(None),
        LockError::Api(error) => {
            let code = match error.status() {
                Some(status) if status.code == 403 => "RIGHTS_MISSING",
                Some(_) => "CLUSTER_FAILED",
                None => "CLUSTER_UNREACHABLE",
            };
            Diagnostic::new(code, Exit::Preflight, error.to_string())
                .with_fix("give us the Role that bk-sync's README lists")
        }
    }
}

fn interrupted(report: Option<&RolloutReport>) -> Diagnostic {
    let Some(report) = report else {
        return Diagnostic::new(
            "INTERRUPTED",
            Exit::Interrupted,
            "interrupted; nothing was changed",
        );
    };
    let goes_back = |one: &WorkloadReport| one.rollback.is_some();
    let message = if report.workloads.iter().any(goes_back) {
        "interrupted on the way back; the lock is free, and the cluster goes on with the image before"
    } else {
        "interrupted; the lock is free, and the cluster goes on with the new image"
    };
    let mut diagnostic = Diagnostic::new("INTERRUPTED", Exit::Interrupted, message);
    let set = report.workloads.iter().filter(|one| !one.containers.is_empty());
    for one in set.filter(|one| !goes_back(one)) {
        diagnostic.next_actions.push(back(report, one));
    }
    with_report(diagnostic, report)
}

/// A rollout that failed: told by the first workload that did.
fn failed(report: &RolloutReport) -> Diagnostic {
    let Some(one) = report.workloads.iter().find(|one| !one.outcome.is_ok()) else {
        return Diagnostic::new("INTERNAL", Exit::Internal, "failed without a failure");
    };
    let mut diagnostic = if let Some(cause) = one.cause() {
        told_by(one, cause)
    } else {
        let message = one.message.as_deref().unwrap_or("it failed");
        let told =
            Diagnostic::new(code(one), Exit::Rollout, format!("{}: {message}", one.workload))
                .with_fix(fix(one));
        match one.diagnoses.first() {
            Some(seen) => told.with_note(format!("seen before that: {}", seen.message)),
            None => told,
        }
    };
    diagnostic.exit = exit(report, one);
    match &one.rollback {
        Some(back) => {
            let image = back.image.as_deref().unwrap_or("nothing");
            let words = back.message.as_deref().unwrap_or("it failed");
            diagnostic = diagnostic.with_note(match back.outcome {
                RollbackOutcome::Verified => {
                    format!(
                        "{} runs {image} again ({}, verified)",
                        one.workload,
                        counted(back.pods.len())
                    )
                }
                RollbackOutcome::Nothing => format!("not rolled back: {words}"),
                RollbackOutcome::Failed => format!("the rollback to {image} failed: {words}"),
            });
            for words in &back.not_restored {
                diagnostic = diagnostic.with_note(format!("not as before: {words}"));
            }
        }
        None if one.outcome != Outcome::Deleted => {
            diagnostic = diagnostic.with_note(format!("{} stays as it is", one.workload));
            if one.outcome == Outcome::Failed {
                diagnostic.next_actions.push(back(report, one));
            }
        }
        None => {}
    }
    for other in &report.workloads {
        if other.workload == one.workload {
            continue;
        }
        let words = match other.outcome {
            Outcome::Untouched => "was not touched",
            outcome if outcome.is_ok() => "runs the new image",
            _ => "failed too",
        };
        diagnostic = diagnostic.with_note(format!("{} {words}", other.workload));
    }
    with_report(diagnostic, report)
}

/// A count of pods.
pub(super) fn counted(pods: usize) -> String {
    if pods == 1 { "1 pod".to_owned() } else { format!("{pods} pods") }
}

/// The command that goes back to the image before, in the same cluster.
pub(super) fn back(report: &RolloutReport, one: &WorkloadReport) -> NextAction {
    let context = report.context.as_ref().map(|name| format!(" --context {name}"));
    NextAction {
        command: format!(
            "bk-sync rollback {} -n {}{}",
            one.workload,
            one.namespace,
            context.unwrap_or_default()
        ),
        description: "go back to the image before".to_owned(),
    }
}

fn told_by(one: &WorkloadReport, first: &report::Diagnosis) -> Diagnostic {
    let message = format!("{}: {}", one.workload, first.message);
    let mut diagnostic =
        Diagnostic::new(first.code.as_str(), Exit::Rollout, message).with_fix(first.fix.clone());
    // That a container ended with this code is said already.
    let exited = first.exit_code.map(|code| format!("Error: exit code {code}"));
    let evidence = first.evidence.iter().filter(|words| Some(*words) != exited.as_ref());
    diagnostic.causes.extend(evidence.cloned());
    if let Some(message) = &one.message {
        diagnostic = diagnostic.with_note(message.clone());
    }
    let place: Vec<String> = [
        first.pods.first().map(|pod| format!("pod {pod}")),
        first.node.as_ref().map(|node| format!("node {node}")),
        (first.pod_count > 1).then(|| format!("{} pods alike", first.pod_count)),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !place.is_empty() {
        diagnostic = diagnostic.with_note(place.join(", "));
    }
    if !first.log.is_empty() {
        diagnostic.step = Some(Step {
            name: format!("the container `{}`", first.container.as_deref().unwrap_or_default()),
            command: None,
            exit_code: first.exit_code.map(i64::from),
            log: first.log.clone(),
        });
    }
    diagnostic
}

fn exit(report: &RolloutReport, first: &WorkloadReport) -> Exit {
    if first.outcome == Outcome::LockLost {
        return Exit::Locked;
    }
    let failed = || report.workloads.iter().filter(|one| !one.outcome.is_ok());
    let all_back = failed().filter(|one| one.outcome != Outcome::Untouched).all(|one| {
        one.rollback.as_ref().is_some_and(|back| back.outcome == RollbackOutcome::Verified)
    });
    if all_back { Exit::RolledBack } else { Exit::Rollout }
}

/// The code of a failure that no diagnosis tells of.
fn code(one: &WorkloadReport) -> &'static str {
    match one.outcome {
        Outcome::Deleted => "WORKLOAD_DELETED",
        Outcome::LockLost => "LOCKED",
        Outcome::Lost => "CLUSTER_LOST",
        Outcome::Superseded => "SUPERSEDED",
        Outcome::TimedOut => "ROLLOUT_TIMEOUT",
        _ => "ROLLOUT_FAILED",
    }
}

fn fix(one: &WorkloadReport) -> String {
    match one.outcome {
        Outcome::Deleted => "see who deleted it, and make it anew".to_owned(),
        Outcome::Superseded => {
            "see who else sets the image, and let one of the two do it".to_owned()
        }
        Outcome::TimedOut => {
            format!("see `kubectl describe {}`; give it longer with `--timeout`", one.workload)
        }
        _ => format!("see `kubectl describe {}`", one.workload),
    }
}

fn with_report(diagnostic: Diagnostic, report: &RolloutReport) -> Diagnostic {
    match serde_json::to_value(report) {
        Ok(value) => diagnostic.with_detail("rollout", value),
        Err(_) => diagnostic,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::{
        code::Code,
        workload::{Kind, WorkloadName},
    };

    fn told(outcome: Outcome) -> Diagnostic {
        let name = WorkloadName { kind: Kind::StatefulSet, name: "web".to_owned() };
        let mut one = WorkloadReport::new(name, "shop", "app@sha256:00");
        one.outcome = outcome;
        one.message = Some("`kubectl` set the container `app` to another meanwhile".to_owned());
        one.diagnoses = vec![report::Diagnosis {
            code: Code::OldPodBlocks,
            message: "web-1 of the old revision is not ready".to_owned(),
            fatal: false,
            container: None,
            pods: vec!["web-1".to_owned()],
            pod_count: 1,
            node: None,
            evidence: Vec::new(),
            exit_code: None,
            signal: None,
            log: Vec::new(),
            fix: "delete it".to_owned(),
        }];
        failed(&RolloutReport { workloads: vec![one], ..RolloutReport::default() })
    }

    #[test]
    fn what_others_did_is_the_cause_whatever_the_pods_look_like() {
        let by_others = [
            (Outcome::Deleted, "WORKLOAD_DELETED"),
            (Outcome::Superseded, "SUPERSEDED"),
            (Outcome::LockLost, "LOCKED"),
            (Outcome::Lost, "CLUSTER_LOST"),
        ];
        for (outcome, code) in by_others {
            let told = told(outcome);
            assert_eq!(told.code, code);
            assert!(told.message.contains("kubectl"), "{}", told.message);
            assert!(told.notes.iter().any(|note| note.contains("web-1")), "{:?}", told.notes);
        }
        for outcome in [Outcome::Failed, Outcome::TimedOut] {
            assert_eq!(told(outcome).code, "OLD_POD_BLOCKS");
        }
    }
}
