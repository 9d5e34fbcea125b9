//! What is kept of a pod: a rollout of hundreds must fit in little memory.

use k8s_openapi::{
    api::core::v1::{
        self as api, ContainerState, ContainerStateTerminated, ContainerStatus, PodCondition,
    },
    apimachinery::pkg::apis::meta::v1::{OwnerReference, Time},
};
use std::fmt;

/// What is kept of a pod.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub uid: String,
    /// The uid of what controls it.
    pub owner: Option<String>,
    /// The label with which StatefulSets and DaemonSets mark the pods of a revision.
    pub revision: Option<String>,
    /// The node that it runs on.
    pub node: Option<String>,
    /// Such as `Running`.
    pub phase: String,
    /// Why it is in that phase, such as `Evicted`.
    pub reason: String,
    /// The same in words.
    pub message: String,
    /// Whether it is on its way out.
    pub deleting: bool,
    /// Whether it is ready, and since when.
    pub ready: bool,
    /// When it last turned ready or unready, as the API says it.
    pub ready_changed: Option<String>,
    /// Why it is not ready, where the condition says so, such as `NodeNotReady`.
    pub unready_reason: String,
    /// When the node took it, as the API says it.
    pub started_at: Option<String>,
    /// Why no node takes it.
    pub unschedulable: Option<String>,
    /// Readiness gates that are not open.
    pub closed_gates: Vec<String>,
    /// Its containers, init containers first.
    pub containers: Vec<Container>,
    /// The names of the secrets that the node pulls with.
    pub pull_secrets: Vec<String>,
}

/// What a container is for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Role {
    /// It runs before the others and ends.
    Init,
    /// It is what the pod is for.
    #[default]
    Main,
    /// An init container that keeps running beside the others.
    Sidecar,
}

/// What is kept of a container.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// The image that is asked for.
    pub image: String,
    /// The image that runs, in the runtime's words; empty where none does.
    pub image_id: String,
    /// Whether its readiness probe succeeds.
    pub ready: bool,
    /// Whether its startup probe has succeeded.
    pub started: bool,
    /// How often it was started again.
    pub restarts: i32,
    /// What it does now.
    pub state: State,
    /// How it ended before, where it did.
    pub last: Option<Ended>,
    /// Whether it has a startup probe.
    pub has_startup_probe: bool,
    /// Whether it has a readiness probe.
    pub has_readiness_probe: bool,
}

/// What a container does.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum State {
    /// It ended.
    Ended(Ended),
    /// It runs.
    Running,
    /// The node has not reported on it.
    #[default]
    Unknown,
    /// It waits to be started.
    Waiting {
        /// Such as `ImagePullBackOff`.
        reason: String,
        /// In words.
        message: String,
    },
}

/// How a container ended.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Ended {
    /// What it exited with; 128 and more is a signal's death, as shells have it.
    pub exit_code: i32,
    /// The signal that killed it, where the runtime says so.
    pub signal: Option<i32>,
    /// Such as `OOMKilled`.
    pub reason: String,
    /// Its termination message.
    pub message: String,
}

impl Ended {
    /// The signal that killed it, by what the runtime says or by the exit code.
    pub fn signal(&self) -> Option<i32> {
        self.signal
            .filter(|signal| *signal > 0)
            .or_else(|| (129..=159).contains(&self.exit_code).then(|| self.exit_code - 128))
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "exit code {}", self.exit_code)?;
        if let Some(signal) = self.signal() {
            write!(formatter, ", signal {signal}")?;
            if let Some(name) = signal_name(signal) {
                write!(formatter, " ({name})")?;
            }
        }
        Ok(())
    }
}

/// The name of a signal that ends processes.
fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        _ => return None,
    })
}

impl Pod {
    /// Reads a pod.
    pub fn read(pod: &api::Pod) -> Self {
        let spec = pod.spec.as_ref();
        let status = pod.status.as_ref();
        let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let condition = |kind: &str| conditions.iter().find(|condition| condition.type_ == kind);
        let ready = condition("Ready");
        let is_true = |condition: Option<&PodCondition>| {
            condition.is_some_and(|condition| condition.status == "True")
        };
        let gates = spec.and_then(|spec| spec.readiness_gates.as_deref()).unwrap_or_default();
        let labels = pod.metadata.labels.as_ref();
        Self {
            name: pod.metadata.name.clone().unwrap_or_default(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            owner: controller(pod.metadata.owner_references.as_deref()),
            revision: labels.and_then(|labels| labels.get("controller-revision-hash").cloned()),
            node: spec.and_then(|spec| spec.node_name.clone()),
            phase: status.and_then(|status| status.phase.clone()).unwrap_or_default(),
            reason: status.and_then(|status| status.reason.clone()).unwrap_or_default(),
            message: status.and_then(|status| status.message.clone()).unwrap_or_default(),
            deleting: pod.metadata.deletion_timestamp.is_some(),
            ready: is_true(ready),
            ready_changed: ready.and_then(|ready| ready.last_transition_time.as_ref()).map(text),
            unready_reason: ready.and_then(|ready| ready.reason.clone()).unwrap_or_default(),
            started_at: status.and_then(|status| status.start_time.as_ref()).map(text),
            unschedulable: condition("PodScheduled")
                .filter(|scheduled| {
                    scheduled.status == "False"
                        && scheduled.reason.as_deref() == Some("Unschedulable")
                })
                .map(|scheduled| scheduled.message.clone().unwrap_or_default()),
            closed_gates: gates
                .iter()
                .filter(|gate| !is_true(condition(&gate.condition_type)))
                .map(|gate| gate.condition_type.clone())
                .collect(),
            containers: containers(pod),
            pull_secrets: spec
                .and_then(|spec| spec.image_pull_secrets.as_deref())
                .unwrap_or_default()
                .iter()
                .map(|secret| secret.name.clone())
                .collect(),
        }
    }

    /// The container `name`.
    pub fn container(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// How often its containers were started again.
    pub fn restarts(&self) -> i32 {
        self.containers.iter().map(|container| container.restarts).sum()
    }
}

fn containers(pod: &api::Pod) -> Vec<Container> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let status = pod.status.as_ref();
    let init_statuses = status.and_then(|status| status.init_container_statuses.as_deref());
    let main_statuses = status.and_then(|status| status.container_statuses.as_deref());
    let init = spec.init_containers.as_deref().unwrap_or_default().iter().map(|container| {
        let keeps_running = container.restart_policy.as_deref() == Some("Always");
        let role = if keeps_running { Role::Sidecar } else { Role::Init };
        (container, role, init_statuses)
    });
    let main = spec.containers.iter().map(|container| (container, Role::Main, main_statuses));
    init.chain(main)
        .map(|(container, role, statuses)| {
            let statuses = statuses.unwrap_or_default();
            let status = statuses.iter().find(|status| status.name == container.name);
            Container {
                name: container.name.clone(),
                role,
                image: container.image.clone().unwrap_or_default(),
                has_startup_probe: container.startup_probe.is_some(),
                has_readiness_probe: container.readiness_probe.is_some(),
                ..status.map(reported).unwrap_or_default()
            }
        })
        .collect()
}

/// What the node reports of a container.
fn reported(status: &ContainerStatus) -> Container {
    Container {
        image_id: status.image_id.clone(),
        ready: status.ready,
        started: status.started.unwrap_or(false),
        restarts: status.restart_count,
        state: status.state.as_ref().map(state).unwrap_or_default(),
        last: status.last_state.as_ref().and_then(|last| Some(ended(last.terminated.as_ref()?))),
        ..Container::default()
    }
}

fn state(state: &ContainerState) -> State {
    match (&state.waiting, &state.running, &state.terminated) {
        (Some(waiting), _, _) => State::Waiting {
            reason: waiting.reason.clone().unwrap_or_default(),
            message: waiting.message.clone().unwrap_or_default(),
        },
        (None, Some(_), _) => State::Running,
        (None, None, Some(terminated)) => State::Ended(ended(terminated)),
        (None, None, None) => State::Unknown,
    }
}

fn ended(terminated: &ContainerStateTerminated) -> Ended {
    Ended {
        exit_code: terminated.exit_code,
        signal: terminated.signal,
        reason: terminated.reason.clone().unwrap_or_default(),
        message: terminated.message.clone().unwrap_or_default().trim().to_owned(),
    }
}

/// The uid of the controller among `owners`.
fn controller(owners: Option<&[OwnerReference]>) -> Option<String> {
    let owners = owners.unwrap_or_default();
    owners.iter().find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.clone())
}

fn text(time: &Time) -> String {
    time.0.to_string()
}

/// The digest in what a runtime calls a running image: `repo@sha256:…`, with or without a scheme,
/// or the digest alone.
pub fn digest_of(image_id: &str) -> Option<&str> {
    let digest = image_id.rsplit_once('@').map_or(image_id, |(_, digest)| digest);
    let digest = digest.rsplit_once("://").map_or(digest, |(_, digest)| digest);
    digest.split_once(':').filter(|(algorithm, hex)| {
        matches!(*algorithm, "sha256" | "sha512") && hex.bytes().all(|b| b.is_ascii_hexdigit())
    })?;
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::{Ended, digest_of};

    #[test]
    fn the_digest_is_found_in_every_runtimes_words() {
        for text in [
            "sha256:ab12",
            "r.example/a@sha256:ab12",
            "docker-pullable://r.example/a@sha256:ab12",
            "docker://sha256:ab12",
        ] {
            assert_eq!(digest_of(text), Some("sha256:ab12"), "{text}");
        }
        for text in ["", "r.example:5000/a", "r.example/a:1", "sha256:xyz"] {
            assert_eq!(digest_of(text), None, "{text}");
        }
    }

    #[test]
    fn a_signals_death_is_told_by_its_name() {
        let ended = |exit_code, signal| Ended { exit_code, signal, ..Ended::default() }.to_string();
        assert_eq!(ended(137, None), "exit code 137, signal 9 (SIGKILL)");
        assert_eq!(ended(1, None), "exit code 1");
        assert_eq!(ended(0, Some(15)), "exit code 0, signal 15 (SIGTERM)");
        assert_eq!(ended(255, Some(0)), "exit code 255");
    }
}
