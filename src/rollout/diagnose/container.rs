//! What keeps a container from running and being ready.

use super::{Finding, log::is_refusal, pull};
use crate::rollout::{
    code::Code,
    observed::{Container, Ended, Note, Pod, Role, State},
    report::Diagnosis,
};
use std::time::Duration;

/// The node says of a missing pull secret in an event, which may come after the container's state.
const SECRET_GRACE: Duration = Duration::from_millis(1500);
/// A container that ended this often is not seen to be well because it happens to run.
const RESTARTS_OF_A_LOOP: i32 = 3;

/// What is wrong with a container of a pod, if anything.
pub(super) fn finding(pod: &Pod, container: &Container, notes: &[&Note]) -> Option<Finding> {
    match &container.state {
        State::Waiting { reason, message } => waiting(pod, container, notes, reason, message),
        State::Ended(ended) => {
            if container.role == Role::Init && ended.exit_code == 0 {
                return None;
            }
            Some(crash(pod, container, notes, ended, is_hopeless(ended)))
        }
        State::Running if container.role == Role::Init => None,
        State::Running => {
            if let Some(last) = &container.last
                && container.restarts >= RESTARTS_OF_A_LOOP
                && !container.ready
            {
                return Some(crash(pod, container, notes, last, true));
            }
            unready(pod, container, notes)
        }
        State::Unknown => None,
    }
}

fn waiting(
    pod: &Pod,
    container: &Container,
    notes: &[&Note],
    reason: &str,
    message: &str,
) -> Option<Finding> {
    match reason {
        "ErrImagePull"
        | "ImagePullBackOff"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "RegistryUnavailable"
        | "ImageInspectError"
        | "SignatureValidationFailed" => Some(unpulled(pod, container, notes, reason, message)),
        "CrashLoopBackOff" => {
            let last = container.last.clone().unwrap_or_default();
            Some(crash(pod, container, notes, &last, true))
        }
        "CreateContainerConfigError" => Some(misconfigured(pod, container, message)),
        "RunContainerError" | "StartError" => Some(unstartable(pod, container, message)),
        "CreateContainerError"
        | "PreCreateHookError"
        | "PreStartHookError"
        | "PostStartHookError" => {
            if message.contains("no command specified") {
                return Some(unstartable(pod, container, message));
            }
            Some(new(
                pod,
                container,
                Code::ContainerRefused,
                true,
                format!("the node cannot make {}", name(container)),
                vec![message.to_owned()],
                "mend what the node names in the container's settings".to_owned(),
            ))
        }
        _ => None,
    }
}

/// The image cannot be pulled.
fn unpulled(
    pod: &Pod,
    container: &Container,
    notes: &[&Note],
    reason: &str,
    message: &str,
) -> Finding {
    // While the node backs off it may only say that it does; what failed was said before.
    let said = notes.iter().find(|note| {
        matches!(note.reason.as_str(), "Failed" | "InspectFailed" | "ErrImageNeverPull")
            && note.message.contains(&container.image)
            && note.message.len() > message.len()
    });
    let missing_secret = notes.iter().find(|note| note.reason == "FailedToRetrieveImagePullSecret");
    let words = said.map_or(message, |note| note.message.as_str());
    let pull = pull::read(reason, words, missing_secret.is_some());
    let image = &container.image;
    let registry = image.split('/').next().unwrap_or_default();
    let (message, fix) = match pull.code {
        Code::ArchMismatch => (
            format!("{image} has no image for the architecture of the node"),
            "build it for the node's platform: `bk-sync build --platform`".to_owned(),
        ),
        Code::ImageNameInvalid => {
            (format!("`{image}` is no image's name"), "mend the name of the image".to_owned())
        }
        Code::ImageNotFound if reason == "ErrImageNeverPull" => (
            format!("{image} is not on the node, and the node may not pull it"),
            "set imagePullPolicy to IfNotPresent, or load the image into the node".to_owned(),
        ),
        Code::ImageNotFound => (
            format!("the registry has no {image}"),
            "push the image, or roll out a digest that the registry has".to_owned(),
        ),
        Code::ImagePullDenied => (
            format!("{registry} gives the node no access to {image}"),
            match pod.pull_secrets.as_slice() {
                [] => "give the pod an imagePullSecret for that registry".to_owned(),
                secrets => {
                    format!("see whether the pull secret {} may read it", secrets.join(", "))
                }
            },
        ),
        Code::ImagePullRateLimited => (
            format!("{registry} lets the node pull no more for now"),
            "wait, or pull with credentials that have a higher limit".to_owned(),
        ),
        Code::PullSecretMissing => (
            match pod.pull_secrets.as_slice() {
                [] => "a pull secret of the pod does not exist".to_owned(),
                secrets => format!("the pull secret {} does not exist", secrets.join(", ")),
            },
            format!("make the secret in the namespace, with credentials for {registry}"),
        ),
        _ => (
            format!("the node cannot pull {image}"),
            format!("see whether the node reaches {registry} and trusts its certificate"),
        ),
    };
    let mut evidence = vec![format!("{reason}: {words}")];
    evidence.extend(missing_secret.map(|note| note.message.clone()));
    let mut finding = new(pod, container, pull.code, pull.fatal, message, evidence, fix);
    if pull.code == Code::ImagePullDenied {
        finding.grace = SECRET_GRACE;
    }
    finding
}

/// A Secret, a ConfigMap or a key is missing.
fn misconfigured(pod: &Pod, container: &Container, message: &str) -> Finding {
    let missing = message.contains("not found") || message.contains("couldn't find key");
    if missing {
        return new(
            pod,
            container,
            Code::ConfigMissing,
            true,
            format!("{} cannot be configured: {message}", name(container)),
            vec![format!("CreateContainerConfigError: {message}")],
            "make what is missing in the namespace, or take the reference out".to_owned(),
        );
    }
    new(
        pod,
        container,
        Code::ContainerRefused,
        true,
        format!("{} cannot be configured", name(container)),
        vec![format!("CreateContainerConfigError: {message}")],
        "mend what the node names in the container's settings".to_owned(),
    )
}

/// The process cannot be started.
fn unstartable(pod: &Pod, container: &Container, message: &str) -> Finding {
    let (code, sentence, fix) = start_failure(message);
    new(
        pod,
        container,
        code,
        true,
        format!("{} cannot be started: {sentence}", name(container)),
        vec![message.to_owned()],
        fix.to_owned(),
    )
}

/// What a runtime's words about a failed start mean.
fn start_failure(message: &str) -> (Code, &'static str, &'static str) {
    let has = |needles: &[&str]| needles.iter().any(|needle| message.contains(needle));
    if is_refusal(message) {
        (
            Code::ExecFormatError,
            "the program is for another architecture than the node",
            "build the image for the node's platform: `bk-sync build --platform`",
        )
    } else if has(&[
        "executable file not found",
        "no such file or directory",
        "no command specified",
    ]) {
        (
            Code::CommandNotFound,
            "its command is not in the image",
            "mend ENTRYPOINT or CMD, or the container's `command`",
        )
    } else if has(&["permission denied"]) {
        (
            Code::CommandNotFound,
            "its command may not be executed",
            "make the command executable in the image (`chmod +x`)",
        )
    } else {
        (
            Code::ContainerRefused,
            "the runtime refuses it",
            "mend what the runtime names in the container's settings",
        )
    }
}

/// Whether no second try can end otherwise.
fn is_hopeless(ended: &Ended) -> bool {
    matches!(ended.reason.as_str(), "StartError" | "ContainerCannotRun")
        || is_refusal(&ended.message)
}

/// The container ended though it should run on, or an init container ended badly.
fn crash(pod: &Pod, container: &Container, notes: &[&Note], ended: &Ended, fatal: bool) -> Finding {
    if is_hopeless(ended) {
        let mut finding = unstartable(pod, container, &ended.message);
        finding.diagnosis.exit_code = Some(ended.exit_code);
        return finding;
    }
    let times = match container.restarts {
        0 => String::new(),
        1 => ", and was started again once".to_owned(),
        count => format!(", and was started again {count} times"),
    };
    let probe = |kind: &str| {
        let start = format!("{kind} probe failed");
        notes.iter().find(|note| note.reason == "Unhealthy" && note.message.starts_with(&start))
    };
    let (code, message, fix) = if ended.reason == "OOMKilled" {
        (
            Code::OomKilled,
            format!("{} was killed for its use of memory{times}", name(container)),
            "raise the container's memory limit, or make the process use less".to_owned(),
        )
    } else if container.role == Role::Init {
        (
            Code::InitFailed,
            format!("{} ended with {ended}{times}", name(container)),
            "read its log; the pod does not start before it succeeds".to_owned(),
        )
    } else if let Some(note) = probe("Startup").filter(|_| ended.signal().is_some()) {
        (
            Code::NotStarted,
            format!("{} was killed because its startup probe failed{times}", name(container)),
            format!("let the probe wait longer, or mend the start ({})", note.message),
        )
    } else if let Some(note) = probe("Liveness").filter(|_| container.restarts > 0) {
        (
            Code::ProbeFailing,
            format!("{} is killed because its liveness probe fails{times}", name(container)),
            format!("mend what the probe asks for ({})", note.message),
        )
    } else if ended.exit_code == 0 {
        (
            Code::CrashLoop,
            format!("{} ends by itself with exit code 0{times}", name(container)),
            "the container's process must go on running: see its command".to_owned(),
        )
    } else {
        (
            Code::CrashLoop,
            format!("{} ended with {ended}{times}", name(container)),
            "read its log; run the image by hand with the same settings".to_owned(),
        )
    };
    let mut evidence = Vec::new();
    if !ended.reason.is_empty() {
        evidence.push(format!("{}: {ended}", ended.reason));
    }
    if !ended.message.is_empty() {
        evidence.push(format!("termination message: {}", ended.message));
    }
    evidence.extend(
        notes.iter().find(|note| note.reason == "Unhealthy").map(|note| note.message.clone()),
    );
    let mut finding = new(pod, container, code, fatal, message, evidence, fix);
    finding.diagnosis.exit_code = Some(ended.exit_code);
    finding.diagnosis.signal = ended.signal();
    finding
}

/// The process runs, and is not ready.
fn unready(pod: &Pod, container: &Container, notes: &[&Note]) -> Option<Finding> {
    if container.ready {
        return None;
    }
    let said = |kind: &str| {
        let start = format!("{kind} probe ");
        let note = notes
            .iter()
            .find(|note| note.reason == "Unhealthy" && note.message.starts_with(&start));
        note.map(|note| note.message.clone())
    };
    if container.has_startup_probe && !container.started {
        let evidence = said("Startup");
        return Some(new(
            pod,
            container,
            Code::NotStarted,
            false,
            format!("{} runs, and its startup probe has not succeeded", name(container)),
            evidence.into_iter().collect(),
            "see its log for what it waits for".to_owned(),
        ));
    }
    let evidence = said("Readiness").or_else(|| said("Liveness"));
    (container.has_readiness_probe || evidence.is_some()).then(|| {
        new(
            pod,
            container,
            Code::ProbeFailing,
            false,
            format!("{} runs, and its readiness probe does not succeed", name(container)),
            evidence.into_iter().collect(),
            "see its log, and whether the probe asks for the right port and path".to_owned(),
        )
    })
}

fn name(container: &Container) -> String {
    match container.role {
        Role::Init => format!("the init container `{}`", container.name),
        Role::Main => format!("the container `{}`", container.name),
        Role::Sidecar => format!("the sidecar `{}`", container.name),
    }
}

fn new(
    pod: &Pod,
    container: &Container,
    code: Code,
    fatal: bool,
    message: String,
    evidence: Vec<String>,
    fix: String,
) -> Finding {
    let evidence = evidence.into_iter().filter(|words| !words.trim().is_empty()).collect();
    Finding {
        diagnosis: Diagnosis {
            code,
            message,
            fatal,
            container: Some(container.name.clone()),
            pods: vec![pod.name.clone()],
            pod_count: 1,
            node: pod.node.clone(),
            evidence,
            exit_code: None,
            signal: None,
            log: Vec::new(),
            fix,
        },
        grace: Duration::ZERO,
    }
}
