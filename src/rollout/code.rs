//! The codes of what can stand in the way of a rollout.

use serde::{Serialize, Serializer};
use std::{fmt, str::FromStr};

/// What stands in the way of a rollout. Stable; scripts and `--tolerate` name it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Code {
    /// The API server or a webhook of it takes no such pods.
    AdmissionRefused,
    /// The image is for another architecture than the node.
    ArchMismatch,
    /// The container's command cannot be started: it is not there or not executable.
    CommandNotFound,
    /// A Secret, a ConfigMap or a key of one is missing.
    ConfigMissing,
    /// The container cannot be made from its settings.
    ContainerRefused,
    /// A container ends again and again.
    CrashLoop,
    /// The kernel refuses to run the program: it was built for another architecture.
    ExecFormatError,
    /// A pod runs another image than the one that was set.
    ImageMismatch,
    /// The image's name is none.
    ImageNameInvalid,
    /// The registry has no such image.
    ImageNotFound,
    /// The registry gives the node no access.
    ImagePullDenied,
    /// The node cannot pull the image.
    ImagePullFailed,
    /// The registry's limit of pulls is reached.
    ImagePullRateLimited,
    /// An init container fails.
    InitFailed,
    /// The node of a pod answers no more.
    NodeLost,
    /// A node lacks memory, disk or process ids, and sent pods away.
    NodePressure,
    /// The process runs and its startup probe has not succeeded.
    NotStarted,
    /// The kernel killed a container for its use of memory.
    OomKilled,
    /// A pod of the old revision holds the new one up.
    OldPodBlocks,
    /// A pod ended and its owner starts it no more.
    PodFailed,
    /// The process runs and is not ready: its readiness probe or a liveness probe fails.
    ProbeFailing,
    /// A pod waits for a condition that something outside sets.
    ReadinessGate,
    /// The secret with which the node should pull is missing.
    PullSecretMissing,
    /// The namespace's quota has no room for another pod.
    QuotaExceeded,
    /// The node cannot make the pod's sandbox, mostly its network.
    SandboxFailed,
    /// No node takes the pod.
    Unschedulable,
    /// The claim for a volume is missing or bound to nothing.
    VolumeClaimPending,
    /// A volume cannot be attached or mounted.
    VolumeMountFailed,
    /// A webhook of the API server does not answer.
    WebhookUnreachable,
}

/// All codes, in the order of their texts.
pub const ALL: [Code; 29] = [
    Code::AdmissionRefused,
    Code::ArchMismatch,
    Code::CommandNotFound,
    Code::ConfigMissing,
    Code::ContainerRefused,
    Code::CrashLoop,
    Code::ExecFormatError,
    Code::ImageMismatch,
    Code::ImageNameInvalid,
    Code::ImageNotFound,
    Code::ImagePullDenied,
    Code::ImagePullFailed,
    Code::ImagePullRateLimited,
    Code::InitFailed,
    Code::NodeLost,
    Code::NodePressure,
    Code::NotStarted,
    Code::OldPodBlocks,
    Code::OomKilled,
    Code::PodFailed,
    Code::ProbeFailing,
    Code::PullSecretMissing,
    Code::QuotaExceeded,
    Code::ReadinessGate,
    Code::SandboxFailed,
    Code::Unschedulable,
    Code::VolumeClaimPending,
    Code::VolumeMountFailed,
    Code::WebhookUnreachable,
];

impl Code {
    /// Its text, `SCREAMING_SNAKE`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AdmissionRefused => "ADMISSION_REFUSED",
            Self::ArchMismatch => "ARCH_MISMATCH",
            Self::CommandNotFound => "COMMAND_NOT_FOUND",
            Self::ConfigMissing => "CONFIG_MISSING",
            Self::ContainerRefused => "CONTAINER_REFUSED",
            Self::CrashLoop => "CRASH_LOOP",
            Self::ExecFormatError => "EXEC_FORMAT_ERROR",
            Self::ImageMismatch => "IMAGE_MISMATCH",
            Self::ImageNameInvalid => "IMAGE_NAME_INVALID",
            Self::ImageNotFound => "IMAGE_NOT_FOUND",
            Self::ImagePullDenied => "IMAGE_PULL_DENIED",
            Self::ImagePullFailed => "IMAGE_PULL_FAILED",
            Self::ImagePullRateLimited => "IMAGE_PULL_RATE_LIMITED",
            Self::InitFailed => "INIT_FAILED",
            Self::NodeLost => "NODE_LOST",
            Self::NodePressure => "NODE_PRESSURE",
            Self::NotStarted => "NOT_STARTED",
            Self::OldPodBlocks => "OLD_POD_BLOCKS",
            Self::OomKilled => "OOM_KILLED",
            Self::PodFailed => "POD_FAILED",
            Self::ProbeFailing => "PROBE_FAILING",
            Self::PullSecretMissing => "PULL_SECRET_MISSING",
            Self::QuotaExceeded => "QUOTA_EXCEEDED",
            Self::ReadinessGate => "READINESS_GATE",
            Self::SandboxFailed => "SANDBOX_FAILED",
            Self::Unschedulable => "UNSCHEDULABLE",
            Self::VolumeClaimPending => "VOLUME_CLAIM_PENDING",
            Self::VolumeMountFailed => "VOLUME_MOUNT_FAILED",
            Self::WebhookUnreachable => "WEBHOOK_UNREACHABLE",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A text that is no code.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("there is no diagnosis `{0}`")]
pub struct UnknownCode(pub String);

impl FromStr for Code {
    type Err = UnknownCode;

    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        let wanted = text.trim().to_ascii_uppercase().replace('-', "_");
        ALL.into_iter()
            .find(|code| code.as_str() == wanted)
            .ok_or_else(|| UnknownCode(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::{ALL, Code};

    #[test]
    fn every_code_reads_back_and_they_are_in_order() {
        for code in ALL {
            assert_eq!(code.as_str().parse(), Ok(code));
        }
        assert!(ALL.windows(2).all(|pair| matches!(pair, [a, b] if a.as_str() < b.as_str())));
        assert_eq!("crash-loop".parse(), Ok(Code::CrashLoop));
        assert!("NOPE".parse::<Code>().is_err());
    }
}
