//! The proof after the numbers: each pod of the new revision is ready and runs our digest. Pure.

use super::{
    code::Code,
    observed::{Observed, Pod, digest_of},
    report::{Diagnosis, PodReport, RevisionReport},
    status::wanted,
};
use std::collections::BTreeMap;

/// What the containers should run: digests that count as the image, by container. A container with
/// none is not looked at: what it ran before was not known by a digest.
pub type Expected = BTreeMap<String, Vec<String>>;

/// What is not proven.
#[derive(Clone, Debug, PartialEq)]
pub enum Unproven {
    /// Pods are missing or not ready yet, or the node has not told what they run.
    NotYet(String),
    /// A pod runs something else.
    Wrong(Box<Diagnosis>),
}

/// The pods of the revision, each of them proven.
///
/// # Errors
/// [`Unproven`].
pub fn prove(observed: &Observed, expected: &Expected) -> Result<Vec<PodReport>, Unproven> {
    let not_yet = |words: String| Err(Unproven::NotYet(words));
    let Some(workload) = &observed.workload else {
        return not_yet("the workload is gone".to_owned());
    };
    let wanted = usize::try_from(wanted(workload)).unwrap_or_default();
    let Some(target) = observed.target() else {
        return if wanted == 0 {
            Ok(Vec::new())
        } else {
            not_yet("its revision is not seen yet".to_owned())
        };
    };
    let mut proven = Vec::new();
    for pod in observed.pods_of(&target).filter(|pod| !pod.deleting && pod.phase != "Failed") {
        if !pod.ready {
            return not_yet(format!("{} is not ready", pod.name));
        }
        for (container, digests) in expected.iter().filter(|(_, digests)| !digests.is_empty()) {
            let Some(container) = pod.container(container) else { continue };
            let Some(running) = digest_of(&container.image_id) else {
                return not_yet(format!("the node has not told what {} runs", pod.name));
            };
            if !digests.iter().any(|digest| digest == running) {
                return Err(Unproven::Wrong(Box::new(wrong(
                    pod,
                    &container.name,
                    running,
                    digests,
                ))));
            }
        }
        proven.push(report(pod, expected.keys().next().map(String::as_str)));
    }
    if proven.len() < wanted {
        return not_yet(format!("{} of {wanted} pods are seen", proven.len()));
    }
    Ok(proven)
}

fn wrong(pod: &Pod, container: &str, running: &str, digests: &[String]) -> Diagnosis {
    let asked = digests.first().map(String::as_str).unwrap_or_default();
    Diagnosis {
        code: Code::ImageMismatch,
        message: format!(
            "the container `{container}` runs another image than the one that was set"
        ),
        fatal: true,
        container: Some(container.to_owned()),
        pods: vec![pod.name.clone()],
        pod_count: 1,
        node: pod.node.clone(),
        evidence: vec![format!("the node says that it runs {running}; {asked} was set")],
        exit_code: None,
        signal: None,
        log: Vec::new(),
        fix: "see what changes images on their way: an admission webhook, or a mirror of the node"
            .to_owned(),
    }
}

/// The pods of the revision as they are, proven or not.
pub fn pods(observed: &Observed, container: Option<&str>) -> Vec<PodReport> {
    let Some(target) = observed.target() else { return Vec::new() };
    observed.pods_of(&target).map(|pod| report(pod, container)).collect()
}

/// The revision that the workload goes to.
pub fn revision(observed: &Observed, kind: &'static str) -> Option<RevisionReport> {
    let revision = observed.target()?.revision?;
    Some(RevisionReport {
        kind,
        name: revision.name.clone(),
        uid: revision.uid.clone(),
        number: revision.number,
    })
}

fn report(pod: &Pod, container: Option<&str>) -> PodReport {
    let main = container.and_then(|name| pod.container(name)).or_else(|| pod.containers.last());
    PodReport {
        name: pod.name.clone(),
        uid: pod.uid.clone(),
        node: pod.node.clone(),
        image_id: main.and_then(|main| digest_of(&main.image_id)).map(str::to_owned),
        started_at: pod.started_at.clone(),
        ready: pod.ready,
        restarts: pod.restarts(),
    }
}
