//! Why a builder could not be reached.

use crate::{
    buildkit::address::Address,
    cluster::ExecError,
    engine,
    transport::{OpenError, TlsError},
};
use std::time::Duration;
use thiserror::Error;
use tonic::Status;

/// A builder that could not be reached.
#[derive(Debug, Error)]
#[error("the builder `{address}` cannot be reached: {cause}")]
pub struct ConnectError {
    /// Where it should have been.
    pub address: Address,
    /// Why.
    #[source]
    pub cause: Box<Cause>,
}

impl ConnectError {
    pub(super) fn new(address: &Address, cause: Cause) -> Self {
        Self { address: address.clone(), cause: Box::new(cause) }
    }

    /// What the user can do, where there is something.
    pub fn fix(&self) -> Option<String> {
        self.cause.fix()
    }
}

/// Why there is no connection.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Cause {
    /// It cannot be said which Docker Engine is meant.
    #[error(transparent)]
    Context(#[from] engine::ContextError),
    /// The connection was made, and closed again without a word.
    #[error("it accepts connections and closes them at once")]
    Closed,
    /// A Docker Engine without a BuildKit that can be reached.
    #[error("{engine} there has no BuildKit that can be reached from outside ({answered})")]
    EngineWithoutBuildkit {
        /// Who it says it is.
        engine: String,
        /// What it answered.
        answered: String,
        /// Whether it is Podman.
        podman: bool,
    },
    /// The Docker Engine on the way.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// Bytes did not even begin to flow.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Somebody answered who is no builder.
    #[error("what listens there is no builder: {answered}")]
    Other {
        /// Who, as far as can be told.
        answered: Answered,
    },
    /// The cluster, or the pod in it.
    #[error(transparent)]
    Pod(#[from] ExecError),
    /// The builder refused the first call.
    #[error("it refused the first call: {} ({:?})", .0.message(), .0.code())]
    Refused(Box<Status>),
    /// It did not answer in time.
    #[error("{place} within {} s", after.as_secs_f32())]
    Silent {
        /// How far we got: `it did not accept the connection`, or `it accepted the connection and
        /// said nothing`.
        place: &'static str,
        /// How long we waited.
        after: Duration,
    },
    /// The process that carries the connection ended, or says why it cannot.
    #[error("{words}")]
    WayEnded {
        /// What it said last.
        words: String,
    },
}

impl From<TlsError> for Cause {
    fn from(error: TlsError) -> Self {
        Self::Open(error.into())
    }
}

impl Cause {
    /// What the user can do, where there is something.
    pub fn fix(&self) -> Option<String> {
        match self {
            Self::Context(error) => Some(error.fix()),
            Self::Engine(error) => error.fix(),
            Self::Open(error) => error.fix(),
            Self::Pod(error) => Some(error.fix()),
            Self::EngineWithoutBuildkit { podman: true, .. } => Some(
                "run buildkitd in a container of Podman's and use `podman-container://NAME`"
                    .to_owned(),
            ),
            Self::EngineWithoutBuildkit { podman: false, .. } => {
                Some("use Docker 18.09 or newer, or a buildkitd of your own".to_owned())
            }
            Self::Other { answered: Answered::Tls } => Some(
                "give `--tlscacert`, and `--tlscert` and `--tlskey` if it asks for them".to_owned(),
            ),
            Self::Other { answered: Answered::Ssh } => {
                Some("write `ssh://user@host` to reach a builder over ssh".to_owned())
            }
            Self::Other { .. } => {
                Some("correct the address: it must be buildkitd's or a Docker Engine's".to_owned())
            }
            Self::Closed | Self::Silent { .. } => {
                Some("look at the log of the daemon that listens there".to_owned())
            }
            Self::WayEnded { words } => way_fix(words),
            Self::Refused(_) => None,
        }
    }
}

/// What the commonest complaints of ssh and its like call for.
fn way_fix(words: &str) -> Option<String> {
    let fix = if words.contains("Permission denied (") {
        "let ssh log in without a question: load the key into an agent, or name it in `~/.ssh/config`"
    } else if words.contains("Host key verification failed") {
        "log in with `ssh` by hand once, and compare the host's key"
    } else if words.contains("not found") || words.contains("no such file") {
        "install `buildctl` (or `docker`, for a Docker Engine) at the far end, in the `PATH` of the \
         account that logs in"
    } else {
        return None;
    };
    Some(fix.to_owned())
}

/// Who answered, judged by the first bytes.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum Answered {
    /// An HTTP/1 server; the first line of what it said.
    #[error("an HTTP/1 server (`{0}`)")]
    Http(String),
    /// An HTTP/2 server which does not know BuildKit's API; what it said to our call.
    #[error("an HTTP/2 server that does not speak BuildKit's API ({0})")]
    Http2(String),
    /// Bytes of no protocol that we know.
    #[error("its first bytes are `{0}`")]
    Noise(String),
    /// An ssh server.
    #[error("an ssh server")]
    Ssh,
    /// A TLS server, and we spoke in the clear.
    #[error("a server that wants TLS")]
    Tls,
}

impl Answered {
    /// Judges the first bytes that came; none where there are none, or they begin as HTTP/2 does.
    pub fn of(head: &[u8]) -> Option<Self> {
        const TLS_ALERT: u8 = 21;
        const SETTINGS: u8 = 4;
        match head {
            [] | [_, _, _, SETTINGS, ..] => None,
            [TLS_ALERT, 3, ..] => Some(Self::Tls),
            _ if head.starts_with(b"HTTP/1.") => Some(Self::Http(first_line(head))),
            _ if head.starts_with(b"SSH-") => Some(Self::Ssh),
            _ => Some(Self::Noise(first_line(head))),
        }
    }
}

/// As much of a line as a message shows.
const LINE: usize = 300;

fn first_line(head: &[u8]) -> String {
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    line.iter().take(LINE).flat_map(|byte| byte.escape_ascii()).map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::{Answered, way_fix};

    #[test]
    fn peers_are_told_apart_by_their_first_bytes() {
        for (head, answered) in [
            (&b""[..], None),
            (b"\0\0\x18\x04\0\0\0\0\0", None),
            (
                b"HTTP/1.1 400 Bad Request\r\nContent-Type: x",
                Some(Answered::Http("HTTP/1.1 400 Bad Request".to_owned())),
            ),
            (b"\x15\x03\x01\0\x02\x02\x46", Some(Answered::Tls)),
            (b"SSH-2.0-OpenSSH_9.2\r\n", Some(Answered::Ssh)),
            (b"\x7f\x1b[31m", Some(Answered::Noise(r"\x7f\x1b[31m".to_owned()))),
        ] {
            assert_eq!(Answered::of(head), answered);
        }
        assert!(
            matches!(Answered::of(&[b'x'; 512]), Some(Answered::Noise(text)) if text.len() == super::LINE)
        );
    }

    #[test]
    fn common_complaints_of_ssh_have_a_fix() {
        for words in [
            "`ssh` ended with exit code 255: ann@host: Permission denied (publickey).",
            "`ssh` ended with exit code 255: Host key verification failed.",
            "`ssh` ended with exit code 127: sh: 1: buildctl: not found",
        ] {
            assert!(way_fix(words).is_some(), "{words}");
        }
        assert_eq!(way_fix("`ssh` ended with exit code 3"), None);
    }
}
