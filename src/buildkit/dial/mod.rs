//! Reaching a builder: an address becomes a gRPC channel that answered.

mod disk;
mod error;
mod route;

pub use disk::{FreeDisk, free_disk};
pub use error::{Answered, Cause, ConnectError};

use super::address::Address;
use crate::{
    cluster::AccessSettings,
    engine,
    proto::moby::buildkit::v1::{
        ListWorkersRequest, control_client::ControlClient, types::WorkerRecord,
    },
    transport::{ByteStream, TlsError, Witness, open_tcp, tls},
};
use hyper_util::rt::TokioIo;
use route::{Carrier, Opened, Route};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::timeout;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint, Uri},
};
use tower::service_fn;

/// How long we wait for a builder to answer its first call, unless told otherwise.
const TIMEOUT: Duration = Duration::from_secs(20);
/// What one stream may send before we read it: a session carries whole archives.
const STREAM_WINDOW: u32 = 4 << 20;
/// What one frame may carry. An Engine needs a step of its scheduler for each frame, and sends no larger
/// ones than it may; a standalone builder's frames are always of 16 KiB.
const FRAME: u32 = 64 << 10;
/// What all streams together may: it bounds the memory that a fast builder can make us hold.
const CONNECTION_WINDOW: u32 = 6 << 20;
/// Typed errors come in trailers, and carry source files: as much as the builder itself would take.
const MAX_HEADERS: u32 = 16 << 20;

/// How to reach builders.
#[derive(Clone, Debug)]
pub struct Options {
    /// TLS for `tcp://` and `docker://host:port`; nothing set means none.
    pub tls: tls::Files,
    /// How long a builder may take to answer.
    pub timeout: Duration,
    /// What decides which Engine `docker://` and `docker-container://` mean.
    pub docker: engine::Settings,
    /// What decides which cluster `kube-pod://` means.
    pub cluster: AccessSettings,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tls: tls::Files::default(),
            timeout: TIMEOUT,
            docker: engine::Settings::default(),
            cluster: AccessSettings::default(),
        }
    }
}

/// A builder that answered.
#[derive(Clone, Debug)]
pub struct Connection {
    /// For clients of its services; it dials again when the connection breaks.
    pub channel: Channel,
    /// Where it is.
    pub address: Address,
    /// The Docker Engine that it is part of, where it is.
    pub engine: Option<engine::Client>,
    /// Its workers, as it named them in its first answer; the first one is the default.
    pub workers: Vec<WorkerRecord>,
    voice: Voice,
}

/// The voice of whatever carries the connection now.
type Voice = Arc<Mutex<Option<Carrier>>>;

impl Connection {
    /// What the process that carries the connection (such as `ssh`) said last: the reason behind a
    /// connection that broke.
    pub async fn last_words(&self) -> Option<String> {
        let voice = self.voice.lock().unwrap_or_else(PoisonError::into_inner).clone();
        voice?.tell().await
    }
}

/// Connects to the builder at `address`, and makes sure that it is one.
///
/// # Errors
/// Nobody answers there in time, or whoever answers is no builder.
pub async fn connect(address: &Address, options: &Options) -> Result<Connection, ConnectError> {
    let route = Route::to(address, options).map_err(|cause| ConnectError::new(address, cause))?;
    let outcome = match attempt(address, options, route.clone()).await {
        // An HTTP/1 server takes our first bytes for nonsense, and often hangs up before its
        // complaint is read: it may well be a Docker Engine.
        Err(cause @ (Cause::Other { answered: Answered::Http(_) } | Cause::Closed)) => {
            match route.as_engine(options) {
                Some(engine) => attempt_engine(address, options, engine, cause).await,
                None => Err(cause),
            }
        }
        outcome => outcome,
    };
    outcome.map_err(|cause| ConnectError::new(address, cause))
}

/// Tries a plain socket as a Docker Engine's, after it failed as buildkitd's because of `cause`.
async fn attempt_engine(
    address: &Address,
    options: &Options,
    engine: Result<engine::Client, Cause>,
    cause: Cause,
) -> Result<Connection, Cause> {
    let engine = engine?;
    match timeout(options.timeout, engine.greet()).await {
        Ok(Ok(_)) => {}
        Ok(Err(error @ engine::Error::NotAnEngine { .. })) => return Err(error.into()),
        Ok(Err(_)) | Err(_) => {
            return Err(if wants_tls(address, options).await {
                Cause::Other { answered: Answered::Tls }
            } else {
                cause
            });
        }
    }
    attempt(address, options, Route::Engine(engine)).await
}

/// Whether a server that hung up on us in the clear speaks TLS.
async fn wants_tls(address: &Address, options: &Options) -> bool {
    let (Address::Tcp(place), true) = (address, options.tls.is_empty()) else { return false };
    let Ok(client) = tls::Client::load(&tls::Files::default(), tls::Protocol::Http2) else {
        return false;
    };
    let hello = async {
        let stream = open_tcp(&place.host, place.port).await.ok()?;
        Some(client.wrap(stream, &place.host, &place.to_string()).await)
    };
    matches!(
        timeout(options.timeout, hello).await,
        Ok(Some(Ok(_) | Err(TlsError::Untrusted { .. } | TlsError::WrongName { .. })))
    )
}

async fn attempt(address: &Address, options: &Options, route: Route) -> Result<Connection, Cause> {
    let silent = |place| Cause::Silent { place, after: options.timeout };
    let Opened { stream, voice } = timeout(options.timeout, route.open())
        .await
        .map_err(|_| silent("it did not accept the connection"))??;
    let (stream, witness) = stream.witnessed();
    let voice: Voice = Arc::new(Mutex::new(voice));
    let greeted = timeout(options.timeout, greet(stream, &route, &voice)).await;
    let (channel, workers) = match greeted {
        Ok(Ok(greeted)) => greeted,
        Ok(Err(status)) => return Err(explain(status, &witness, &route, &voice).await),
        Err(_) => {
            let nothing = "it accepted the connection and said nothing";
            return Err(match Answered::of(&witness.head()) {
                Some(answered) => Cause::Other { answered },
                None => told(&voice).await.unwrap_or_else(|| silent(nothing)),
            });
        }
    };
    let engine = match route.engine() {
        Some(engine) => Some(engine.clone()),
        // Newer Engines answer gRPC on their socket without an upgrade.
        None if is_inside_docker(&workers) => route.as_engine(options).and_then(Result::ok),
        None => None,
    };
    Ok(Connection { channel, address: address.clone(), engine, workers, voice })
}

/// Makes a channel of `stream` and asks the builder for its workers.
async fn greet(
    stream: ByteStream,
    route: &Route,
    voice: &Voice,
) -> Result<(Channel, Vec<WorkerRecord>), Status> {
    let channel = channel(stream, route.clone(), Arc::clone(voice)).await?;
    let mut control = ControlClient::new(channel.clone());
    let answer = control.list_workers(ListWorkersRequest::default()).await?;
    Ok((channel, answer.into_inner().record))
}

/// A channel that begins with `stream` and goes the route again when that breaks. There are no
/// keepalive pings, and no window that is measured with pings: builders take those for an attack.
async fn channel(stream: ByteStream, route: Route, voice: Voice) -> Result<Channel, Status> {
    let first = Arc::new(Mutex::new(Some(stream)));
    let connector = service_fn(move |_: Uri| {
        let first = first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (route, voice) = (route.clone(), Arc::clone(&voice));
        async move {
            if let Some(stream) = first {
                return Ok(TokioIo::new(stream));
            }
            let opened = route.open().await?;
            *voice.lock().unwrap_or_else(PoisonError::into_inner) = opened.voice;
            Ok::<_, Cause>(TokioIo::new(opened.stream))
        }
    });
    // The name is for the `:authority` header only.
    Endpoint::from_static("http://localhost")
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .http2_max_header_list_size(MAX_HEADERS)
        .connect_with_connector(connector)
        .await
        .map_err(|error| Status::from_error(Box::new(error)))
}

/// Why the first call failed.
async fn explain(status: Status, witness: &Witness, route: &Route, voice: &Voice) -> Cause {
    if let (Some(failure), Route::Tcp { place, tls: Some(tls) }) = (witness.failure(), route) {
        return tls::explain(failure, &place.to_string(), tls.name_for(&place.host)).into();
    }
    let head = witness.head();
    match Answered::of(&head) {
        // Engines and shells complain on stdout too.
        Some(Answered::Noise(noise)) => {
            return match told(voice).await {
                Some(Cause::WayEnded { words }) => {
                    Cause::WayEnded { words: format!("{words}: {noise}") }
                }
                _ => Cause::Other { answered: Answered::Noise(noise) },
            };
        }
        Some(answered) => return Cause::Other { answered },
        None => {}
    }
    if head.is_empty() {
        return told(voice).await.unwrap_or(Cause::Closed);
    }
    match status.code() {
        Code::Unimplemented | Code::Unknown | Code::Internal => {
            Cause::Other { answered: Answered::Http2(status.message().to_owned()) }
        }
        _ => told(voice).await.unwrap_or(Cause::Refused(Box::new(status))),
    }
}

/// What the process that carries the connection has to say.
async fn told(voice: &Voice) -> Option<Cause> {
    let words = voice.lock().unwrap_or_else(PoisonError::into_inner).clone();
    words?.tell().await.map(|words| Cause::WayEnded { words })
}

/// Whether the workers are those of a BuildKit inside a Docker Engine.
fn is_inside_docker(workers: &[WorkerRecord]) -> bool {
    let mark = "org.mobyproject.buildkit.worker.moby.";
    workers.iter().any(|worker| worker.labels.keys().any(|label| label.starts_with(mark)))
}
