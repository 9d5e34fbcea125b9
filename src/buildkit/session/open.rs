//! Opening a session, serving on it, and ending it in the order that the builder expects.

use super::{
    Attachable,
    health::Health,
    id::random_id,
    wire::{Leftover, Wire, outbound},
};
use crate::proto::moby::buildkit::v1::{BytesMessage, control_client::ControlClient};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use sha2::{Digest as _, Sha256};
use std::{fmt, future::Future, time::Duration};
use tokio::{sync::watch, task::JoinHandle, time::timeout};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Request, Status, Streaming,
    metadata::{Ascii, MetadataMap, MetadataValue},
    service::{Routes, RoutesBuilder},
    transport::Channel,
};

/// Patterns of a context arrive as one header each, and there may be thousands.
const MAX_HEADERS: u32 = 16 << 20;
/// A whole 3 MiB chunk of an exported archive need not be in flight: this is the product of
/// 1 Gbit/s and 16 ms, and what one slow reader can make us hold.
const STREAM_WINDOW: u32 = 2 << 20;
/// Several exports at once share this.
const CONNECTION_WINDOW: u32 = 8 << 20;
/// What hyper may buffer of one stream's answers (files, mostly) beyond what the builder's
/// window takes.
const SEND_BUFFER: usize = 256 << 10;
/// A builder that is busy takes a moment; one that takes longer is stuck.
const OPEN_LIMIT: Duration = Duration::from_secs(30);
/// How long the builder may take to close its half after ours.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// A session that is being put together.
pub struct SessionBuilder {
    id: String,
    shared_key: String,
    attachables: Vec<Box<dyn Attachable>>,
}

impl SessionBuilder {
    /// A session with a random id. `shared_key` names the builder's copies of our directories from
    /// one build to the next, so that only changes are sent; it must be stable for a directory.
    pub fn new(shared_key: impl Into<String>) -> Self {
        Self { id: random_id(), shared_key: shared_key.into(), attachables: vec![Box::new(Health)] }
    }

    /// Sets the id, for graphs that must come out the same twice.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }

    /// Adds a service. Each gRPC service can be added once.
    #[must_use]
    pub fn attach(mut self, attachable: impl Attachable + 'static) -> Self {
        self.attachables.push(Box::new(attachable));
        self
    }

    /// The id that `Solve` requests and `local.session` attributes name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Opens the session on a builder's connection and serves on it until it is closed or dropped.
    ///
    /// # Errors
    /// The builder refused it or did not answer.
    pub async fn open(self, channel: Channel) -> Result<OpenSession, SessionError> {
        let methods: Vec<_> = self.attachables.iter().flat_map(|one| one.methods()).collect();
        let headers = headers(&self.id, &self.shared_key, &methods)?;
        let mut routes = RoutesBuilder::default();
        for attachable in self.attachables {
            attachable.register(&mut routes);
        }
        let (sender, receiver) = outbound();
        let mut request = Request::new(ReceiverStream::new(receiver));
        *request.metadata_mut() = headers;
        let mut control = ControlClient::new(channel);
        let inbound = timeout(OPEN_LIMIT, control.session(request))
            .await
            .map_err(|_| SessionError::NoAnswer { after: OPEN_LIMIT })?
            .map_err(|status| SessionError::Refused { status: Box::new(status) })?
            .into_inner();
        let (wire, leftover) = Wire::new(inbound, sender);
        let stop = CancellationToken::new();
        let (end, ended) = watch::channel(None);
        let driver = {
            let stop = stop.clone();
            tokio::spawn(async move {
                let served = serve(wire, routes.routes(), &stop).await;
                let outcome = outcome(served, drain(leftover).await, stop.is_cancelled());
                end.send_replace(Some(outcome));
            })
        };
        tracing::debug!(session = self.id, "session open");
        Ok(OpenSession { id: self.id, stop, ended, driver })
    }
}

impl fmt::Debug for SessionBuilder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SessionBuilder").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A session that the builder can call. Dropping it cuts it off at once; [`OpenSession::close`]
/// ends it in good order.
#[derive(Debug)]
pub struct OpenSession {
    id: String,
    stop: CancellationToken,
    ended: watch::Receiver<Option<Result<(), SessionError>>>,
    driver: JoinHandle<()>,
}

impl OpenSession {
    /// The id that `Solve` requests and `local.session` attributes name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Waits until the session has ended, by whomever; `Ok` if we closed it. To be watched beside
    /// a build, which may otherwise wait for a session that is no more. Borrows nothing.
    pub fn closed(&self) -> impl Future<Output = Result<(), SessionError>> + Send + use<> {
        let mut ended = self.ended.clone();
        async move {
            let outcome = ended.wait_for(Option::is_some).await.map(|outcome| outcome.clone());
            outcome.ok().flatten().unwrap_or_else(|| {
                Err(SessionError::Lost { cause: "it was dropped".to_owned(), status: None })
            })
        }
    }

    /// Ends the session: calls that still run are cut off, our half of the stream is closed and
    /// the builder's is read to its end. To be called after `Solve` has returned, when every call
    /// that matters has too.
    ///
    /// # Errors
    /// The session had been lost before.
    pub async fn close(self) -> Result<(), SessionError> {
        self.stop.cancel();
        self.closed().await
    }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Why there is no session, or none any more.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SessionError {
    /// The builder ended the session, or the connection broke, while we still served.
    #[error("the session with the builder was lost: {cause}")]
    Lost {
        /// What was seen of it.
        cause: String,
        /// The builder's answer, where it gave one.
        status: Option<Box<Status>>,
    },
    /// No answer came.
    #[error("the builder did not open the session within {} s", after.as_secs())]
    NoAnswer {
        /// How long we waited.
        after: Duration,
    },
    /// The builder said no.
    #[error("the builder refused the session: {}", status.message())]
    Refused {
        /// Its answer.
        status: Box<Status>,
    },
    /// An id that cannot travel in a header.
    #[error("`{id}` cannot name a session: only printable ASCII can")]
    UnusableId {
        /// The id.
        id: String,
    },
}

fn headers(
    id: &str,
    shared_key: &str,
    methods: &[&&'static str],
) -> Result<MetadataMap, SessionError> {
    let mut headers = MetadataMap::new();
    let unusable = || SessionError::UnusableId { id: id.to_owned() };
    headers.insert("x-docker-expose-session-uuid", printable(id).ok_or_else(unusable)?);
    // The key is only ever compared, so one that no header can hold may travel as its digest.
    let key = printable(shared_key)
        .or_else(|| printable(&URL_SAFE_NO_PAD.encode(Sha256::digest(shared_key.as_bytes()))))
        .ok_or_else(unusable)?;
    headers.insert("x-docker-expose-session-sharedkey", key);
    for method in methods {
        headers.append("x-docker-expose-session-grpc-method", MetadataValue::from_static(method));
    }
    Ok(headers)
}

/// `text` as a header's value, if every gRPC implementation reads the same from it.
fn printable(text: &str) -> Option<MetadataValue<Ascii>> {
    text.bytes().all(|byte| byte.is_ascii_graphic()).then(|| text.parse().ok()).flatten()
}

/// Serves on the wire until the builder ends the connection or `stop` asks us to. The wire is
/// dropped, and with it our half of the stream closed, when this returns.
async fn serve<S>(
    wire: Wire<S>,
    routes: Routes,
    stop: &CancellationToken,
) -> Result<(), hyper::Error>
where
    S: tokio_stream::Stream<Item = Result<BytesMessage, Status>> + Send + Unpin + 'static,
{
    let mut server = http2::Builder::new(TokioExecutor::new());
    server
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEADERS)
        .max_concurrent_streams(None)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER);
    let service = TowerToHyperService::new(routes.prepare());
    let connection = server.serve_connection(TokioIo::new(wire), service);
    // Asked to stop, we let go at once. A graceful shutdown waits for a pong, and a BuildKit that
    // has been told of the end answers nothing more before our half of the stream is closed.
    tokio::select! {
        served = connection => served,
        () = stop.cancelled() => Ok(()),
    }
}

/// Reads the builder's half to its end; what is in it was meant for the connection that is over.
async fn drain(
    leftover: tokio::sync::oneshot::Receiver<Leftover<Streaming<BytesMessage>>>,
) -> Option<Status> {
    let Leftover { mut inbound, failure } = leftover.await.ok()?;
    if failure.is_some() {
        return failure;
    }
    let rest = async {
        while let Some(message) = inbound.next().await {
            if let Err(status) = message {
                return Some(status);
            }
        }
        None
    };
    timeout(CLOSE_LIMIT, rest).await.ok().flatten()
}

/// What the end of the session means.
fn outcome(
    served: Result<(), hyper::Error>,
    failure: Option<Status>,
    asked: bool,
) -> Result<(), SessionError> {
    if asked {
        return Ok(());
    }
    let cause = match (&failure, served) {
        (Some(status), _) if status.code() == Code::Unimplemented => {
            "it is not a BuildKit daemon that can call us back".to_owned()
        }
        (Some(status), _) => format!("{} ({})", status.message(), status.code()),
        (None, Err(error)) => chain(&error),
        (None, Ok(())) => "the builder ended it".to_owned(),
    };
    Err(SessionError::Lost { cause, status: failure.map(Box::new) })
}

/// An error with its causes, which hyper does not print by itself.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{SessionBuilder, SessionError, headers, outcome, serve};
    use crate::{
        buildkit::session::{
            Attachable,
            health::Health,
            wire::{Wire, outbound},
        },
        proto::grpc::health::v1::{
            HealthCheckRequest, HealthCheckResponse, health_client::HealthClient, health_server,
        },
    };
    use hyper_util::rt::TokioIo;
    use std::sync::Mutex;
    use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
    use tokio_util::sync::CancellationToken;
    use tonic::{
        Code, Request, Response, Status,
        service::RoutesBuilder,
        transport::{Channel, Endpoint},
    };

    /// A server on one end of a pair of wires and a client on the other, as the builder is.
    async fn connect(
        attachable: impl Attachable + 'static,
        stop: CancellationToken,
    ) -> (Channel, tokio::task::JoinHandle<Result<(), hyper::Error>>) {
        let (to_server, at_server) = outbound();
        let (to_client, at_client) = outbound();
        let mut routes = RoutesBuilder::default();
        Box::new(attachable).register(&mut routes);
        let (ours, _) = Wire::new(ReceiverStream::new(at_server).map(Ok), to_client);
        let server = tokio::spawn(async move { serve(ours, routes.routes(), &stop).await });
        let (theirs, _) = Wire::new(ReceiverStream::new(at_client).map(Ok), to_server);
        let theirs = Mutex::new(Some(TokioIo::new(theirs)));
        let channel = Endpoint::from_static("http://localhost")
            .connect_with_connector(tower::service_fn(move |_| {
                let wire = theirs.lock().unwrap().take();
                async move { wire.ok_or_else(|| std::io::Error::other("one connection only")) }
            }))
            .await
            .unwrap();
        (channel, server)
    }

    #[tokio::test]
    async fn health_is_served_for_the_whole_server_and_nothing_else() {
        let (channel, _server) = connect(Health, CancellationToken::new()).await;
        let mut client = HealthClient::new(channel);
        let answer = client.check(HealthCheckRequest { service: String::new() }).await.unwrap();
        assert_eq!(answer.into_inner().status, 1);
        let error = client.check(HealthCheckRequest { service: "x".to_owned() }).await.unwrap_err();
        assert_eq!(error.code(), Code::NotFound);
    }

    #[derive(Default)]
    struct CountHeaders;

    #[tonic::async_trait]
    impl health_server::Health for CountHeaders {
        async fn check(
            &self,
            request: Request<HealthCheckRequest>,
        ) -> Result<Response<HealthCheckResponse>, Status> {
            let count = request.metadata().get_all("exclude-patterns").iter().count();
            Ok(Response::new(HealthCheckResponse { status: i32::try_from(count).unwrap() }))
        }
    }

    impl Attachable for CountHeaders {
        fn methods(&self) -> &'static [&'static str] {
            &[]
        }

        fn register(self: Box<Self>, routes: &mut RoutesBuilder) {
            routes.add_service(health_server::HealthServer::new(*self));
        }
    }

    #[tokio::test]
    async fn fifty_thousand_patterns_in_headers_arrive() {
        let (channel, _server) = connect(CountHeaders, CancellationToken::new()).await;
        let mut request = Request::new(HealthCheckRequest::default());
        for number in 0..50_000 {
            let pattern = format!("packages/some-package-{number}/node_modules/**");
            request.metadata_mut().append("exclude-patterns", pattern.parse().unwrap());
        }
        let answer = HealthClient::new(channel).check(request).await.unwrap();
        assert_eq!(answer.into_inner().status, 50_000);
    }

    #[tokio::test]
    async fn stopping_ends_the_connection_without_an_error() {
        let stop = CancellationToken::new();
        let (channel, server) = connect(Health, stop.clone()).await;
        HealthClient::new(channel).check(HealthCheckRequest::default()).await.unwrap();
        stop.cancel();
        server.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_builder_that_hangs_up_ends_the_serving() {
        let (channel, server) = connect(Health, CancellationToken::new()).await;
        drop(channel);
        server.await.unwrap().unwrap();
    }

    #[test]
    fn an_end_that_we_did_not_ask_for_is_a_loss_with_its_cause() {
        let lost = outcome(Ok(()), Some(Status::unavailable("transport is closing")), false);
        let text = lost.unwrap_err().to_string();
        assert!(text.starts_with("the session with the builder was lost: transport is closing"));
        assert!(matches!(outcome(Ok(()), None, false), Err(SessionError::Lost { .. })));
        assert!(outcome(Ok(()), Some(Status::cancelled("")), true).is_ok());
    }

    #[test]
    fn headers_name_the_session_its_key_and_each_method() {
        let map = headers("id1", "ctx:node", &[&"/a.B/C", &"/d.E/F"]).unwrap();
        assert_eq!(map.get("x-docker-expose-session-uuid").unwrap(), "id1");
        assert_eq!(map.get("x-docker-expose-session-sharedkey").unwrap(), "ctx:node");
        let methods: Vec<_> = map.get_all("x-docker-expose-session-grpc-method").iter().collect();
        assert_eq!(methods, ["/a.B/C", "/d.E/F"]);
    }

    #[test]
    fn a_shared_key_that_no_header_can_hold_travels_as_a_digest() {
        let key = |text| {
            let map = headers("id", text, &[]).unwrap();
            map.get("x-docker-expose-session-sharedkey").unwrap().to_str().unwrap().to_owned()
        };
        assert_eq!(key("bücher:1").len(), 43);
        assert_ne!(key("bücher:1"), key("bücher:2"));
        assert!(matches!(headers("ü", "", &[]), Err(SessionError::UnusableId { .. })));
    }

    #[test]
    fn the_id_given_is_the_id_used() {
        assert_eq!(SessionBuilder::new("key").with_id("abc").id(), "abc");
    }
}
