//! A command in a pod as a byte stream: the API server carries it over a WebSocket.
//!
//! The client library has a pump of its own, which reads and writes by turns: where both directions
//! are full at the same time, as a build session's can be, it stalls. Here each goes for itself.

use super::{AccessError, Cluster, api_words};
use crate::transport::{ByteStream, child::Tail};
use bytes::{Buf as _, Bytes};
use futures::{Sink as _, Stream as _};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use k8s_openapi::{
    api::core::v1::{ContainerState, Pod},
    apimachinery::pkg::apis::meta::v1::Status,
};
use kube::{Api, Resource as _, api::AttachParams, core::Request};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
    time::{Interval, MissedTickBehavior, interval, timeout},
};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

/// The channels of the protocol `channel.k8s.io`: the first byte of each message.
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
/// In version 5 it says that the channel named by the second byte has ended.
const CLOSE: u8 = 255;
/// Of what is written at once, this much goes into one message.
const MESSAGE: usize = 32 << 10;
/// Load balancers before API servers cut what is silent for a minute.
const PING: Duration = Duration::from_secs(30);
/// How long we wait for the last words of a command whose stream broke.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Names the container that is meant where none is, as kubectl has it.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// Why a command cannot be run in a pod.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecError {
    /// The cluster cannot be spoken to.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The API server does not do it.
    #[error("{action}: {}", api_words(source))]
    Api {
        /// What was tried.
        action: String,
        /// What was said.
        #[source]
        source: kube::Error,
    },
    /// The pod has no such container.
    #[error("the pod `{pod}` has no container `{container}`; it has {}", known.join(", "))]
    NoContainer {
        /// The pod.
        pod: String,
        /// The container that was asked for.
        container: String,
        /// Those that there are, in backticks.
        known: Vec<String>,
    },
    /// There is no such pod.
    #[error("there is no pod `{pod}` in the namespace `{namespace}` at {server}")]
    NoPod {
        /// The pod that was asked for.
        pod: String,
        /// Where it was looked for.
        namespace: String,
        /// The API server.
        server: String,
    },
    /// The pod or its container does not run.
    #[error("the container `{container}` of the pod `{pod}` does not run: {why}")]
    NotRunning {
        /// The pod.
        pod: String,
        /// The container.
        container: String,
        /// What the node or the pod says of it.
        why: String,
    },
}

impl ExecError {
    /// What to do about it.
    pub fn fix(&self) -> String {
        match self {
            Self::Access(error) => error.fix().to_owned(),
            Self::Api { source: kube::Error::Api(status), .. } if status.code == 403 => {
                "grant `get` on `pods`, and `create` and `get` on `pods/exec`".to_owned()
            }
            Self::Api { .. } => {
                "see whether `kubectl get namespaces` works with the same context".to_owned()
            }
            Self::NoContainer { .. } => "name one of them with `?container=NAME`".to_owned(),
            Self::NoPod { namespace, .. } => format!(
                "see what there is: `kubectl get pods -n {namespace}`; name another namespace with \
                 `?namespace=NAME`"
            ),
            Self::NotRunning { pod, .. } => {
                format!("wait for it, or see why: `kubectl describe pod {pod}`")
            }
        }
    }
}

impl Cluster {
    /// Runs `command` in a container of the pod `pod`: in that which is named, else in that which
    /// the pod names as its default one, else in its first. What it writes to stderr is kept for
    /// [`PodVoice::tell`]. The command sees the end of its stdin when the stream is shut down or
    /// dropped.
    ///
    /// # Errors
    /// [`ExecError`].
    pub async fn exec(
        &self,
        pod: &str,
        container: Option<&str>,
        command: &[&str],
    ) -> Result<(ByteStream, PodVoice), ExecError> {
        let container = self.running(pod, container).await?;
        let action = || format!("cannot run `{}` in the pod `{pod}`", command.join(" "));
        let failed = |source| ExecError::Api { action: action(), source };
        let parameters =
            AttachParams { stdin: true, container: container.clone(), ..AttachParams::default() };
        let request = Request::new(Pod::url_path(&(), Some(&self.namespace)))
            .exec(pod, command.iter().copied(), &parameters)
            .map_err(|error| failed(kube::Error::BuildRequest(error)))?;
        let connection = self.client.connect(request).await.map_err(failed)?;
        let (end, ended) = watch::channel(None);
        let tail = Tail::default();
        let voice =
            PodVoice { pod: pod.to_owned(), command: command.join(" "), tail: tail.clone(), ended };
        let mut ping = interval(PING);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ping.reset();
        let stream = PodStream {
            closes_channels: connection.supports_stream_close(),
            socket: connection.into_stream(),
            unread: Bytes::new(),
            is_over: false,
            is_shut: false,
            ping,
            tail,
            end,
        };
        Ok((ByteStream::new(stream), voice))
    }

    /// The container that is meant; none where we may not look at pods, and nobody named one.
    async fn running(
        &self,
        pod: &str,
        container: Option<&str>,
    ) -> Result<Option<String>, ExecError> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        match pods.get_opt(pod).await {
            Ok(Some(found)) => choose(pod, &found, container).map(Some),
            Ok(None) => Err(ExecError::NoPod {
                pod: pod.to_owned(),
                namespace: self.namespace.clone(),
                server: self.server.clone(),
            }),
            // Running something there is another right than looking there.
            Err(kube::Error::Api(status)) if status.code == 403 => Ok(container.map(str::to_owned)),
            Err(source) => {
                Err(ExecError::Api { action: format!("cannot read the pod `{pod}`"), source })
            }
        }
    }
}

/// The container of `pod` that is meant, which must run.
fn choose(name: &str, pod: &Pod, wanted: Option<&str>) -> Result<String, ExecError> {
    let spec = pod.spec.as_ref();
    let main = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let init = spec.and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
    let has = |name: &str| main.iter().chain(init).any(|one| one.name == name);
    let annotations = pod.metadata.annotations.as_ref();
    let default = annotations
        .and_then(|annotations| annotations.get(DEFAULT_CONTAINER))
        .filter(|default| has(default));
    let first = || main.first().map(|one| one.name.clone()).unwrap_or_default();
    let container = match (wanted, default) {
        (Some(wanted), _) if !has(wanted) => {
            return Err(ExecError::NoContainer {
                pod: name.to_owned(),
                container: wanted.to_owned(),
                known: main.iter().chain(init).map(|one| format!("`{}`", one.name)).collect(),
            });
        }
        (Some(wanted), _) => wanted.to_owned(),
        (None, Some(default)) => default.clone(),
        (None, None) => first(),
    };
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or_default();
    let mut statuses = [
        status.and_then(|status| status.container_statuses.as_deref()),
        status.and_then(|status| status.init_container_statuses.as_deref()),
    ]
    .into_iter()
    .flatten()
    .flatten();
    let state = statuses
        .find(|status| status.name == container)
        .and_then(|status| status.state.clone())
        .unwrap_or_default();
    if state.running.is_some() {
        return Ok(container);
    }
    let why = standstill(&state).unwrap_or_else(|| format!("the pod is {phase}"));
    Err(ExecError::NotRunning { pod: name.to_owned(), container, why })
}

/// What is said of a container that does not run.
fn standstill(state: &ContainerState) -> Option<String> {
    if let Some(waiting) = &state.waiting {
        let words = [waiting.reason.as_deref(), waiting.message.as_deref()];
        let words: Vec<&str> = words.into_iter().flatten().collect();
        return Some(words.join(": ")).filter(|words| !words.is_empty());
    }
    let ended = state.terminated.as_ref()?;
    Some(format!("it ended with exit code {}", ended.exit_code))
}

/// How a command in a pod ended.
#[derive(Clone, Debug, Eq, PartialEq)]
enum End {
    /// With this exit code.
    Exited(i32),
    /// The connection broke, with these words.
    Lost(String),
    /// It was never run; the words of who should have.
    Unstarted(String),
}

impl End {
    /// Reads what the node says at the end.
    fn read(status: &[u8]) -> Self {
        let Ok(status) = serde_json::from_slice::<Status>(status) else {
            return Self::Lost("the node's last word cannot be read".to_owned());
        };
        if status.status.as_deref() == Some("Success") {
            return Self::Exited(0);
        }
        let causes = status.details.and_then(|details| details.causes).unwrap_or_default();
        let code = causes
            .iter()
            .find(|cause| cause.reason.as_deref() == Some("ExitCode"))
            .and_then(|cause| cause.message.as_deref()?.parse().ok());
        match code {
            Some(code) => Self::Exited(code),
            None => Self::Unstarted(status.message.unwrap_or_default()),
        }
    }
}

/// What a command in a pod said on stderr, and how it ended.
#[derive(Clone, Debug)]
pub struct PodVoice {
    pod: String,
    command: String,
    tail: Tail,
    ended: watch::Receiver<Option<End>>,
}

impl PodVoice {
    /// Waits a moment for the end of the command, and says how it went. None where it still runs
    /// and said nothing.
    pub async fn tell(&mut self) -> Option<String> {
        let over = self.ended.wait_for(Option::is_some);
        let end = match timeout(LAST_WORDS, over).await {
            Ok(Ok(end)) => end.clone(),
            _ => None,
        };
        let said = self.tail.text();
        let (pod, command) = (&self.pod, &self.command);
        let how = match end {
            Some(End::Exited(code)) => {
                format!("`{command}` in the pod `{pod}` ended with exit code {code}")
            }
            Some(End::Unstarted(words)) => {
                format!("`{command}` cannot be run in the pod `{pod}`: {words}")
            }
            Some(End::Lost(words)) => {
                format!("the way to `{command}` in the pod `{pod}` broke: {words}")
            }
            None if said.is_empty() => return None,
            None => format!("`{command}` in the pod `{pod}` says"),
        };
        Some(if said.is_empty() { how } else { format!("{how}: {said}") })
    }
}

/// The stdin and stdout of a command in a pod.
struct PodStream {
    socket: WebSocketStream<TokioIo<Upgraded>>,
    /// Whether the server knows how one channel ends without the others.
    closes_channels: bool,
    /// Of the last message of stdout, what nobody has taken yet.
    unread: Bytes,
    is_over: bool,
    is_shut: bool,
    ping: Interval,
    tail: Tail,
    end: watch::Sender<Option<End>>,
}

impl PodStream {
    /// Takes a message in.
    fn take(&mut self, message: Message) {
        let Message::Binary(mut bytes) = message else { return };
        let Some(channel) = bytes.first().copied() else { return };
        bytes.advance(1);
        match channel {
            STDOUT => self.unread = bytes,
            STDERR => self.tail.push(&bytes),
            // Each channel begins with a message of nothing.
            STATUS if !bytes.is_empty() => self.finish(End::read(&bytes)),
            _ => {}
        }
    }

    fn finish(&mut self, end: End) {
        self.is_over = true;
        self.end.send_if_modified(|known| {
            let is_news = known.is_none();
            known.get_or_insert(end);
            is_news
        });
    }

    /// Keeps a silent connection alive.
    fn keep_alive(&mut self, context: &mut Context<'_>) {
        while self.ping.poll_tick(context).is_ready() {
            if !matches!(Pin::new(&mut self.socket).poll_ready(context), Poll::Ready(Ok(()))) {
                // What is being sent keeps it alive as well.
                continue;
            }
            let sent = Pin::new(&mut self.socket).start_send(Message::Ping(Bytes::new()));
            if sent.is_ok() {
                // What does not go out now goes out with what comes next.
                let _later = Pin::new(&mut self.socket).poll_flush(context);
            }
        }
    }
}

impl AsyncRead for PodStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if !this.unread.is_empty() {
                let count = this.unread.len().min(buffer.remaining());
                buffer.put_slice(&this.unread.split_to(count));
                return Poll::Ready(Ok(()));
            }
            if this.is_over {
                return Poll::Ready(Ok(()));
            }
            this.keep_alive(context);
            match ready!(Pin::new(&mut this.socket).poll_next(context)) {
                Some(Ok(message)) => this.take(message),
                Some(Err(error)) => {
                    this.finish(End::Lost(error.to_string()));
                    return Poll::Ready(Err(io::Error::other(error)));
                }
                None => this.finish(End::Lost("it was closed".to_owned())),
            }
        }
    }
}

impl AsyncWrite for PodStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_over || self.is_shut {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(Pin::new(&mut self.socket).poll_ready(context)).map_err(io::Error::other)?;
        let part = bytes.get(..MESSAGE).unwrap_or(bytes);
        let mut message = Vec::with_capacity(part.len() + 1);
        message.push(STDIN);
        message.extend_from_slice(part);
        Pin::new(&mut self.socket)
            .start_send(Message::Binary(message.into()))
            .map_err(io::Error::other)?;
        Poll::Ready(Ok(part.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context).map_err(io::Error::other)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_over {
            return Poll::Ready(Ok(()));
        }
        if !self.closes_channels {
            // All or nothing: what the command still has to say is lost with an old server.
            return Pin::new(&mut self.socket).poll_close(context).map_err(io::Error::other);
        }
        if !self.is_shut {
            ready!(Pin::new(&mut self.socket).poll_ready(context)).map_err(io::Error::other)?;
            let message = Message::Binary(Bytes::from_static(&[CLOSE, STDIN]));
            Pin::new(&mut self.socket).start_send(message).map_err(io::Error::other)?;
            self.is_shut = true;
        }
        self.poll_flush(context)
    }
}

#[cfg(test)]
mod tests {
    use super::{End, ExecError, choose};
    use serde_json::{Value, json};

    fn pod(statuses: &Value, annotations: &Value) -> k8s_openapi::api::core::v1::Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "b", "annotations": annotations},
            "spec": {"initContainers": [{"name": "init"}],
                "containers": [{"name": "proxy"}, {"name": "buildkitd"}]},
            "status": {"phase": "Running", "containerStatuses": statuses},
        }))
        .unwrap()
    }

    fn status(name: &str, state: &Value) -> Value {
        json!({"name": name, "state": state, "image": "i", "imageID": "", "ready": true,
            "restartCount": 0})
    }

    #[test]
    fn a_container_is_the_named_one_the_default_one_or_the_first() {
        let running = json!({"running": {}});
        let statuses = json!([status("proxy", &running), status("buildkitd", &running)]);
        let plain = pod(&statuses, &json!({}));
        assert_eq!(choose("b", &plain, None).unwrap(), "proxy");
        assert_eq!(choose("b", &plain, Some("buildkitd")).unwrap(), "buildkitd");
        let default = json!({"kubectl.kubernetes.io/default-container": "buildkitd"});
        assert_eq!(choose("b", &pod(&statuses, &default), None).unwrap(), "buildkitd");
        let error = choose("b", &plain, Some("nope")).unwrap_err().to_string();
        let expected = "the pod `b` has no container `nope`; it has `proxy`, `buildkitd`, `init`";
        assert_eq!(error, expected);
    }

    #[test]
    fn a_container_that_does_not_run_is_told_of() {
        let why = |state: Value| {
            let seen = pod(&json!([status("proxy", &state)]), &json!({}));
            match choose("b", &seen, None).unwrap_err() {
                ExecError::NotRunning { why, .. } => why,
                other => panic!("{other}"),
            }
        };
        let waiting = json!({"waiting": {"reason": "ErrImagePull", "message": "not found"}});
        assert_eq!(why(waiting), "ErrImagePull: not found");
        assert_eq!(why(json!({"terminated": {"exitCode": 3}})), "it ended with exit code 3");
        assert_eq!(why(json!({})), "the pod is Running");
    }

    #[test]
    fn the_last_word_of_a_node_is_an_exit_code_or_a_reason() {
        let read = |status: Value| End::read(status.to_string().as_bytes());
        assert_eq!(read(json!({"status": "Success"})), End::Exited(0));
        let code = json!({"status": "Failure", "reason": "NonZeroExitCode", "message": "m",
            "details": {"causes": [{"reason": "ExitCode", "message": "127"}]}});
        assert_eq!(read(code), End::Exited(127));
        let refused = json!({"status": "Failure", "message": "no such program"});
        assert_eq!(read(refused), End::Unstarted("no such program".to_owned()));
        assert!(matches!(End::read(b"?"), End::Lost(_)));
    }
}
