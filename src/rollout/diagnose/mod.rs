//! What stands in the way of a rollout: from what the cluster reports to typed diagnoses, each with
//! a sentence, the evidence and the fix. Only pods of the new revision are looked at. Pure.
//!
//! A diagnosis is fatal where waiting cannot help: nothing but another image, another setting or
//! another cluster would change it. What the cluster may get over by itself is told, and waited out.

mod container;
mod log;
mod pod;
mod pull;
mod revision;

pub use log::refine;
pub use pod::hopeless_blockers;

use super::{
    observed::{Note, Observed, Pod},
    report::Diagnosis,
    status::{Aim, is_observed},
    workload::Strategy,
};
use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

/// How many pods a diagnosis names.
const NAMED_PODS: usize = 3;

/// Something that stands in the way of one pod, or of the revision as a whole.
#[derive(Clone, Debug, PartialEq)]
struct Finding {
    diagnosis: Diagnosis,
    /// How long it must stand before it is fatal: what may pass within moments is no verdict.
    grace: Duration,
}

/// A diagnosis and how long it must stand before it is a verdict.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnosed {
    /// The diagnosis.
    pub diagnosis: Diagnosis,
    /// How long it must stand, where it is fatal.
    pub grace: Duration,
}

/// What stands in the way of the revision that `observed`'s workload goes to: the gravest first.
pub fn diagnose(observed: &Observed, aim: &Aim) -> Vec<Diagnosed> {
    let mut findings = Vec::new();
    // Before the controller has seen the change, what it calls the new revision may be the old one.
    if !observed.workload.as_ref().is_some_and(|workload| is_observed(workload, aim)) {
        return Vec::new();
    }
    let keeps_all = observed.workload.as_ref().is_some_and(|workload| {
        matches!(workload.strategy, Strategy::Rolling { keeps_all: true, .. })
    });
    if let Some(target) = observed.target() {
        findings.extend(revision::findings(observed, target.revision, aim, keeps_all));
        for pod in observed.pods_of(&target) {
            if pod.ready || pod.deleting {
                continue;
            }
            findings.extend(pod::findings(pod, &notes(observed, pod)));
        }
        findings.extend(pod::blocking(observed, &target));
    } else {
        findings.extend(revision::findings(observed, None, aim, keeps_all));
    }
    grouped(findings)
}

/// What was said of a pod, the last first.
fn notes<'o>(observed: &'o Observed, pod: &Pod) -> Vec<&'o Note> {
    observed.notes_of(&pod.uid)
}

/// One diagnosis for all pods that have the same trouble.
fn grouped(findings: Vec<Finding>) -> Vec<Diagnosed> {
    let mut groups: BTreeMap<_, Diagnosed> = BTreeMap::new();
    for Finding { diagnosis, grace } in findings {
        let key = (diagnosis.code, diagnosis.container.clone());
        match groups.get_mut(&key) {
            None => drop(groups.insert(key, Diagnosed { diagnosis, grace })),
            Some(group) => {
                let into = &mut group.diagnosis;
                into.pod_count += diagnosis.pod_count;
                if diagnosis.fatal && !into.fatal {
                    let (count, mut pods) = (into.pod_count, into.pods.clone());
                    pods.splice(0..0, diagnosis.pods.clone());
                    *into = Diagnosis { pod_count: count, pods, ..diagnosis };
                    group.grace = grace;
                } else {
                    into.pods.extend(diagnosis.pods);
                }
                into.pods.truncate(NAMED_PODS);
            }
        }
    }
    let mut all: Vec<Diagnosed> = groups.into_values().collect();
    all.sort_by_key(|one| (Reverse(one.diagnosis.fatal), Reverse(one.diagnosis.pod_count)));
    all
}

#[cfg(test)]
mod tests;
