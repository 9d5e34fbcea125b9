//! What keeps a pod from its node, or its containers from being made.

use super::{Finding, container};
use crate::rollout::{
    code::Code,
    observed::{Note, Observed, Pod, Role, State, Target},
    report::Diagnosis,
    workload::Strategy,
};
use std::time::Duration;

/// A new pod may be seen before the volumes and claims that were made together with it.
const VOLUME_GRACE: Duration = Duration::from_secs(2);
/// Terminating pods and nodes that come up may make room within moments.
const SCHEDULING_GRACE: Duration = Duration::from_secs(2);

/// What is wrong with a pod that is not ready.
pub(super) fn findings(pod: &Pod, notes: &[&Note]) -> Vec<Finding> {
    if let Some(finding) = gone(pod) {
        return vec![finding];
    }
    if let Some(words) = &pod.unschedulable {
        return vec![unschedulable(pod, words)];
    }
    if is_lost(pod, notes) {
        let node = pod.node.as_deref().unwrap_or("its node");
        return vec![of_pod(
            pod,
            Code::NodeLost,
            false,
            format!("the node {node} of {} answers no more", pod.name),
            vec![pod.message.clone()],
            "see whether the node is up; its pods are moved after some minutes".to_owned(),
        )];
    }
    let found: Vec<Finding> = pod
        .containers
        .iter()
        .filter_map(|container| container::finding(pod, container, notes))
        .collect();
    if !found.is_empty() {
        return found;
    }
    let unmade = pod.containers.iter().all(|container| {
        matches!(&container.state, State::Unknown)
            || matches!(&container.state, State::Waiting { reason, .. }
                if matches!(reason.as_str(), "ContainerCreating" | "PodInitializing" | ""))
    });
    if unmade {
        return notes.iter().find_map(|note| unmade_by(pod, note)).into_iter().collect();
    }
    if !pod.closed_gates.is_empty() && pod.containers.iter().all(|container| container.ready) {
        let gates = pod.closed_gates.join(", ");
        return vec![of_pod(
            pod,
            Code::ReadinessGate,
            false,
            format!("{} runs, and waits for the readiness gate {gates}", pod.name),
            Vec::new(),
            "see whether what opens that gate (often a load balancer's controller) runs".to_owned(),
        )];
    }
    Vec::new()
}

/// Whether the node of a pod answers no more. The cluster then calls the pod unready without a
/// reason, whatever its containers were last seen to do, and says why in an event.
fn is_lost(pod: &Pod, notes: &[&Note]) -> bool {
    let ready = pod.containers.iter().all(|one| one.ready || one.role == Role::Init);
    pod.phase == "Unknown"
        || pod.unready_reason == "NodeNotReady"
        || (ready && notes.iter().any(|note| note.reason == "NodeNotReady"))
}

/// The pod ended as a whole.
fn gone(pod: &Pod) -> Option<Finding> {
    if pod.phase != "Failed" {
        return None;
    }
    let words = vec![format!("{}: {}", pod.reason, pod.message)];
    let (code, message, fix) = match pod.reason.as_str() {
        "Evicted" | "Preempting" | "OutOfcpu" | "OutOfmemory" | "OutOfpods" => (
            Code::NodePressure,
            format!("the node {} sent {} away", pod.node.as_deref().unwrap_or("?"), pod.name),
            "free what the node lacks, or ask for less",
        ),
        "NodeShutdown" | "NodeLost" | "Terminated" => (
            Code::NodeLost,
            format!("{} ended with its node", pod.name),
            "see whether the node is up; its pods are made anew elsewhere",
        ),
        _ => (
            Code::PodFailed,
            format!("{} ended", pod.name),
            "see what the node says of it: `kubectl describe pod`",
        ),
    };
    // The controller makes another one in its place.
    Some(of_pod(pod, code, false, message, words, fix.to_owned()))
}

/// No node takes the pod: which constraint stands in the way, and whether it may pass.
fn unschedulable(pod: &Pod, words: &str) -> Finding {
    let has = |needle: &str| words.contains(needle);
    let claim =
        words.split("persistentvolumeclaim \"").nth(1).and_then(|rest| rest.split('"').next());
    let finding = |code, fatal, message: String, fix: &str| {
        let mut finding = of_pod(pod, code, fatal, message, vec![words.to_owned()], fix.to_owned());
        finding.grace = SCHEDULING_GRACE;
        finding
    };
    if let (Some(claim), true) = (claim, has("is being deleted")) {
        return finding(
            Code::VolumeClaimPending,
            true,
            format!("the claim `{claim}` of {} is being deleted", pod.name),
            "see who deletes it; it goes with the last pod that has it, and must be made anew",
        );
    }
    if let (Some(claim), true) = (claim, has("not found")) {
        return finding(
            Code::VolumeClaimPending,
            true,
            format!("the claim `{claim}` of {} does not exist", pod.name),
            "make the PersistentVolumeClaim in the namespace",
        );
    }
    if has("unbound immediate PersistentVolumeClaims") || has("PersistentVolumeClaim is not bound")
    {
        return finding(
            Code::VolumeClaimPending,
            false,
            format!("a claim of {} is bound to no volume", pod.name),
            "see whether its StorageClass exists and provisions: `kubectl describe pvc`",
        );
    }
    if ["disk-pressure", "memory-pressure", "pid-pressure"].iter().any(|taint| has(taint)) {
        return finding(
            Code::NodePressure,
            false,
            format!("nodes lack disk, memory or process ids, and take no {}", pod.name),
            "free what the nodes lack",
        );
    }
    // In the order in which they are worth telling; what may pass by itself is waited for.
    let constraints = [
        ("Insufficient", "requests more than any node has free", "ask for less, or add nodes"),
        ("Too many pods", "finds every node full of pods", "add nodes"),
        ("didn't have free ports", "needs a host port that is taken", "let the old pod go first"),
        (
            "anti-affinity",
            "may not run beside pods that are everywhere already",
            "relax the anti-affinity, or let old pods go first (maxUnavailable)",
        ),
        (
            "topology spread",
            "would break a topology spread constraint",
            "relax the constraint, or add nodes",
        ),
        (
            "volume node affinity",
            "needs a volume that no fitting node reaches",
            "see in which zone the volume lies",
        ),
        (
            "affinity/selector",
            "asks for labels that no node has",
            "mend nodeSelector or nodeAffinity, or label a node",
        ),
        (
            "untolerated taint",
            "tolerates no node's taints",
            "add a toleration, or take the taint off",
        ),
        ("unschedulable", "finds every node cordoned", "uncordon a node"),
    ];
    let first = constraints.iter().find(|(needle, ..)| has(needle));
    let may_pass = [
        "Insufficient",
        "Too many pods",
        "free ports",
        "anti-affinity",
        "topology spread",
        "node.kubernetes.io/",
        "node(s) were unschedulable",
        "no nodes available",
    ];
    let fatal = first.is_some() && !may_pass.iter().any(|needle| has(needle));
    let (why, fix) = first
        .map_or(("is taken by no node", "see what the scheduler says"), |(_, why, fix)| {
            (*why, *fix)
        });
    finding(Code::Unschedulable, fatal, format!("{} {why}", pod.name), fix)
}

/// What was said of a pod whose containers are not made yet.
fn unmade_by(pod: &Pod, note: &Note) -> Option<Finding> {
    let words = vec![format!("{}: {}", note.reason, note.message)];
    match note.reason.as_str() {
        "FailedMount" if note.message.contains("not found") && is_config(&note.message) => {
            let mut finding = of_pod(
                pod,
                Code::ConfigMissing,
                true,
                format!("a volume of {} cannot be filled: what it names does not exist", pod.name),
                words,
                "make what is missing in the namespace, or take the volume out".to_owned(),
            );
            finding.grace = VOLUME_GRACE;
            Some(finding)
        }
        "FailedMount" | "FailedAttachVolume" | "FailedMapVolume" => Some(of_pod(
            pod,
            Code::VolumeMountFailed,
            false,
            format!("a volume of {} cannot be mounted", pod.name),
            words,
            "see whether another node still holds the volume".to_owned(),
        )),
        "FailedCreatePodSandBox" | "FailedCreatePodContainer" => Some(of_pod(
            pod,
            Code::SandboxFailed,
            false,
            format!("the node cannot set {} up", pod.name),
            words,
            "see whether the node's network plugin runs".to_owned(),
        )),
        _ => None,
    }
}

fn is_config(words: &str) -> bool {
    let words = words.to_ascii_lowercase();
    words.contains("secret")
        || words.contains("configmap")
        || words.contains("references non-existent")
}

/// Pods of another revision that hold the new one up: a StatefulSet that goes in order replaces no
/// pod while another is not ready.
pub(super) fn blocking(observed: &Observed, target: &Target<'_>) -> Option<Finding> {
    let workload = observed.workload.as_ref()?;
    if !workload.ordered {
        return None;
    }
    let new: Vec<&Pod> = observed.pods_of(target).collect();
    if new.iter().any(|pod| !pod.ready) {
        return None;
    }
    let old = observed
        .own_pods()
        .find(|pod| !pod.ready && !pod.deleting && !new.iter().any(|other| other.uid == pod.uid))?;
    let why = findings(old, &observed.notes_of(&old.uid));
    let evidence = why.first().map(|finding| finding.diagnosis.message.clone());
    let mut finding = of_pod(
        old,
        Code::OldPodBlocks,
        false,
        format!(
            "{} of the old revision is not ready, and is replaced by nothing until then",
            old.name
        ),
        evidence.into_iter().collect(),
        format!("delete it: `kubectl delete pod {}`", old.name),
    );
    finding.diagnosis.fatal = false;
    Some(finding)
}

/// The pods that `blocking` would name and that no waiting would make ready. On the way back no
/// pod of another revision is waited for: what it waits for is what was gone back from.
pub fn hopeless_blockers(observed: &Observed, goes_back: bool) -> Vec<&Pod> {
    let Some(workload) = &observed.workload else { return Vec::new() };
    let Some(target) = observed.target().filter(|_| workload.ordered) else { return Vec::new() };
    // Below a partition another revision is what is wanted.
    let is_whole = !matches!(workload.strategy, Strategy::Rolling { partition: 1.., .. });
    let new: Vec<&str> = observed.pods_of(&target).map(|pod| pod.uid.as_str()).collect();
    observed
        .own_pods()
        .filter(|pod| !pod.ready && !pod.deleting && !new.contains(&pod.uid.as_str()))
        .filter(|pod| {
            let why = findings(pod, &observed.notes_of(&pod.uid));
            (goes_back && is_whole) || why.iter().any(|finding| finding.diagnosis.fatal)
        })
        .collect()
}

fn of_pod(
    pod: &Pod,
    code: Code,
    fatal: bool,
    message: String,
    evidence: Vec<String>,
    fix: String,
) -> Finding {
    let is_said = |words: &String| !words.trim().trim_matches(':').trim().is_empty();
    Finding {
        diagnosis: Diagnosis {
            code,
            message,
            fatal,
            container: None,
            pods: vec![pod.name.clone()],
            pod_count: 1,
            node: pod.node.clone(),
            evidence: evidence.into_iter().filter(is_said).collect(),
            exit_code: None,
            signal: None,
            log: Vec::new(),
            fix,
        },
        grace: Duration::ZERO,
    }
}
