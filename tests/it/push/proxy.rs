//! A proxy of ours in front of a real registry: passes everything on, counts it, and fails where a
//! plan says so.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version, header};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpSocket, TcpStream},
    sync::mpsc,
};
use tokio_rustls::TlsAcceptor;

/// What is asked for below this path goes to the registry without it.
const ELSEWHERE: &str = "/elsewhere";

/// What goes wrong with one request.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// The connection ends on both sides after so many bytes of the body.
    Cut(u64),
    /// The same, but for the client it is over at once, and the registry is still given what came before, so
    /// many bytes a second: what stands before registries keeps bodies for a while.
    CutAhead(u64, u64),
    /// The registry gets so many bytes of the body and then an end; the client gets a 502.
    Truncate(u64),
    /// The registry does all of it, and the client never hears of it.
    CutAnswer,
    /// An answer that the registry did not give, after so many bytes of the body.
    Status(u16, u64),
    /// The same with headers.
    StatusWith(u16, Vec<(&'static str, String)>),
    /// After so many bytes, so few bytes a second.
    Slow(u64, u64),
    /// The answer's `Location` leads elsewhere.
    Location(String),
    /// The answer's `Location` begins with [`ELSEWHERE`], where the registry is, too.
    Elsewhere,
    /// Nothing goes wrong, but a header of the answer is this.
    Header(&'static str, String),
    /// The registry's answer is kept back until so many bytes of bodies have come in all; a 500 if they
    /// never do.
    Hold(u64),
    /// No answer ever comes.
    Hang,
}

/// A request as a plan sees it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// The body's length, where it is said.
    pub length: u64,
}

/// A request that went through.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// Bytes of the body that the registry was given.
    pub bytes: u64,
    /// Bytes of the body that came from the client.
    pub received: u64,
    /// The protocol that it came with.
    pub version: Version,
    /// The answer's status; none where none was given.
    pub status: Option<u16>,
    /// What went wrong with it.
    pub fault: Option<Fault>,
    /// Whether it carried credentials.
    pub authorized: bool,
}

impl Seen {
    /// Whether it is about an upload that is open.
    pub fn is_upload(&self) -> bool {
        self.path.contains("/blobs/uploads/") && self.method != Method::POST
    }

    /// The digest that an upload was closed with.
    pub fn digest(&self) -> Option<String> {
        let query = self.path.split_once('?')?.1;
        let digest = query.split('&').find_map(|pair| pair.strip_prefix("digest="))?;
        Some(digest.replace("%3A", ":").replace("%3a", ":"))
    }
}

type Plan = dyn FnMut(&Asked) -> Option<Fault> + Send;

/// The proxy; it ends when dropped.
pub struct Proxy {
    /// `host:port` where it listens.
    pub address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Clone)]
struct Inner {
    upstream: Arc<str>,
    delay: Duration,
    seen: Arc<Mutex<Vec<Seen>>>,
    plan: Arc<Mutex<Box<Plan>>>,
}

type Body = BoxBody<Bytes, io::Error>;

impl Proxy {
    /// In front of `upstream` (`host:port`), failing by `plan`.
    pub fn start(
        upstream: &str,
        plan: impl FnMut(&Asked) -> Option<Fault> + Send + 'static,
    ) -> Self {
        Self::with_delay(upstream, Duration::ZERO, plan)
    }

    /// The same, each request late by `delay`.
    pub fn with_delay(
        upstream: &str,
        delay: Duration,
        plan: impl FnMut(&Asked) -> Option<Fault> + Send + 'static,
    ) -> Self {
        Self::listen(upstream, delay, None, plan)
    }

    /// The same behind TLS; what protocols are offered is the matter of `tls`.
    pub fn encrypted(
        upstream: &str,
        tls: ServerConfig,
        plan: impl FnMut(&Asked) -> Option<Fault> + Send + 'static,
    ) -> Self {
        Self::listen(upstream, Duration::ZERO, Some(TlsAcceptor::from(Arc::new(tls))), plan)
    }

    fn listen(
        upstream: &str,
        delay: Duration,
        tls: Option<TlsAcceptor>,
        plan: impl FnMut(&Asked) -> Option<Fault> + Send + 'static,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let seen = Arc::default();
        let inner = Inner {
            upstream: upstream.into(),
            delay,
            seen: Arc::clone(&seen),
            plan: Arc::new(Mutex::new(Box::new(plan))),
        };
        let listener = runtime.block_on(async {
            let socket = TcpSocket::new_v4().unwrap();
            // What is on its way when a connection is cut is small, so that a count means something.
            socket.set_recv_buffer_size(64 << 10).unwrap();
            socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
            socket.listen(128).unwrap()
        });
        let address = listener.local_addr().unwrap().to_string();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (inner, tls) = (inner.clone(), tls.clone());
                tokio::spawn(async move {
                    let Some(tls) = tls else { return inner.serve(stream, false).await };
                    // Who does not trust us ends here.
                    let Ok(stream) = tls.accept(stream).await else { return };
                    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    inner.serve(stream, is_http2).await;
                });
            }
        });
        Self { address, seen, _runtime: runtime }
    }

    /// What went through so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Forgets what went through so far.
    pub fn forget(&self) {
        self.seen.lock().unwrap().clear();
    }
}

fn cut(words: &str) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, words.to_owned())
}

fn full(text: &str) -> Body {
    Full::new(Bytes::copy_from_slice(text.as_bytes())).map_err(|never| match never {}).boxed()
}

impl Inner {
    async fn serve(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        is_http2: bool,
    ) {
        let service = service_fn(move |request| {
            let inner = self.clone();
            async move { inner.pass(request).await }
        });
        let stream = TokioIo::new(stream);
        let served = if is_http2 {
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            server.serve_connection(stream, service).await
        } else {
            hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await
        };
        // A connection that a plan has cut ends with an error.
        if let Err(error) = served {
            tracing::debug!(%error, "cut");
        }
    }

    async fn pass(self, request: Request<Incoming>) -> Result<Response<Body>, io::Error> {
        tokio::time::sleep(self.delay).await;
        let path = request.uri().path_and_query().unwrap().to_string();
        let length = request
            .headers()
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .unwrap_or(0);
        let (at, fault) = {
            let mut seen = self.seen.lock().unwrap();
            let asked = Asked { method: request.method().clone(), path, length };
            let fault = (self.plan.lock().unwrap())(&asked);
            seen.push(Seen {
                method: asked.method,
                path: asked.path,
                bytes: 0,
                received: 0,
                version: request.version(),
                status: None,
                fault: fault.clone(),
                authorized: request.headers().contains_key(header::AUTHORIZATION),
            });
            (seen.len() - 1, fault)
        };
        let answered = self.clone().answer(at, fault, request).await;
        if let Ok(response) = &answered
            && let Some(seen) = self.seen.lock().unwrap().get_mut(at)
        {
            seen.status = Some(response.status().as_u16());
        }
        answered
    }

    async fn answer(
        self,
        at: usize,
        fault: Option<Fault>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, io::Error> {
        let (mut parts, mut body) = request.into_parts();
        // The registry is spoken to in HTTP/1.1, which names the host elsewhere than HTTP/2.
        if let Some(authority) = parts.uri.authority() {
            let host = HeaderValue::from_str(authority.as_str()).unwrap();
            parts.headers.insert(header::HOST, host);
            let path = parts.uri.path_and_query().unwrap().as_str();
            parts.uri = path.parse::<Uri>().unwrap();
        }
        if let Some(path) = parts.uri.to_string().strip_prefix(ELSEWHERE) {
            parts.uri = path.parse::<Uri>().unwrap();
        }
        parts.version = Version::HTTP_11;
        let refuse = |status: u16, headers: &[(&'static str, String)]| {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(*name, value);
            }
            Ok(response.body(full("{\"errors\":[]}")).unwrap())
        };
        match &fault {
            Some(Fault::Hang) => std::future::pending::<()>().await,
            Some(Fault::StatusWith(status, headers)) => return refuse(*status, headers),
            Some(Fault::Status(status, after)) => {
                let mut left = *after;
                while left > 0 {
                    let Some(Ok(frame)) = body.frame().await else { break };
                    let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                    self.count(at, length, 0);
                    left = left.saturating_sub(length);
                }
                return refuse(*status, &[]);
            }
            _ => {}
        }
        let stream = TcpStream::connect(&*self.upstream).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let connection = tokio::spawn(connection);
        let (chunks, receiver) = mpsc::channel::<Result<Frame<Bytes>, io::Error>>(1);
        let outgoing = StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(receiver));
        let outgoing = Request::from_parts(parts, outgoing);
        let answer = tokio::spawn(async move { sender.send_request(outgoing).await });
        if let Some(Fault::CutAhead(after, rate)) = fault {
            let (mut kept, mut length) = (Vec::new(), 0);
            while length < after {
                let Some(frame) = body.frame().await else { break };
                let data = frame.map_err(broken)?.into_data().unwrap_or_default();
                length += data.len() as u64;
                kept.push(data);
            }
            self.count(at, length, 0);
            tokio::spawn(async move {
                for data in kept {
                    let pause = data.len() as u64 * 1_000_000 / rate;
                    tokio::time::sleep(Duration::from_micros(pause)).await;
                    self.count(at, 0, data.len() as u64);
                    if chunks.send(Ok(Frame::data(data))).await.is_err() {
                        break;
                    }
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
                connection.abort();
            });
            return Err(cut("as planned"));
        }
        let limit = match fault {
            Some(Fault::Cut(after) | Fault::Truncate(after)) => after,
            _ => u64::MAX,
        };
        let mut sent = 0_u64;
        while sent < limit {
            let Some(frame) = body.frame().await else { break };
            let mut data = frame.map_err(broken)?.into_data().unwrap_or_default();
            let received = data.len() as u64;
            data.truncate(usize::try_from(limit - sent).unwrap_or(usize::MAX));
            sent += data.len() as u64;
            if let Some(Fault::Slow(after, rate)) = fault
                && sent > after
            {
                let pause = data.len() as u64 * 1000 / rate;
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            self.count(at, received, data.len() as u64);
            if chunks.send(Ok(Frame::data(data))).await.is_err() {
                break;
            }
        }
        match fault {
            Some(Fault::Cut(_)) => {
                // What was passed on has arrived; the rest never does.
                tokio::time::sleep(Duration::from_millis(20)).await;
                connection.abort();
                return Err(cut("as planned"));
            }
            Some(Fault::Truncate(_)) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                connection.abort();
                // What stands before a registry often takes all of a body before it says so.
                while let Some(Ok(frame)) = body.frame().await {
                    self.count(at, frame.data_ref().map_or(0, Bytes::len) as u64, 0);
                }
                return refuse(502, &[]);
            }
            _ => drop(chunks),
        }
        let response = answer.await.map_err(|error| cut(&error.to_string()))?.map_err(broken)?;
        if fault == Some(Fault::CutAnswer) {
            if let Some(seen) = self.seen.lock().unwrap().get_mut(at) {
                seen.status = Some(response.status().as_u16());
            }
            return Err(cut("as planned"));
        }
        if let Some(Fault::Hold(until)) = fault
            && !self.have_come(until).await
        {
            return refuse(500, &[]);
        }
        let (mut parts, body) = response.into_parts();
        if let Some(Fault::Location(to)) = &fault
            && parts.headers.contains_key(header::LOCATION)
        {
            parts.headers.insert(header::LOCATION, to.parse().unwrap());
        }
        if fault == Some(Fault::Elsewhere)
            && let Some(location) = parts.headers.get(header::LOCATION)
        {
            let location = location.to_str().unwrap();
            let path = location.find("/v2/").map_or("", |at| location.split_at(at).1);
            parts.headers.insert(header::LOCATION, format!("{ELSEWHERE}{path}").parse().unwrap());
        }
        if let Some(Fault::Header(name, value)) = &fault {
            parts.headers.insert(*name, HeaderValue::from_str(value).unwrap());
        }
        parts.headers = hop_by_hop(parts.headers);
        let body = body.map_err(broken).boxed();
        Ok(Response::from_parts(parts, body))
    }
}

impl Inner {
    /// Waits until so many bytes of bodies have come; whether they have.
    async fn have_come(&self, bytes: u64) -> bool {
        let came = async {
            while self.seen.lock().unwrap().iter().map(|one| one.received).sum::<u64>() < bytes {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), came).await.is_ok()
    }

    /// Counts bytes that came from the client, and those that the registry was given.
    fn count(&self, at: usize, received: u64, given: u64) {
        if let Some(seen) = self.seen.lock().unwrap().get_mut(at) {
            seen.received += received;
            seen.bytes += given;
        }
    }
}

fn hop_by_hop(mut headers: HeaderMap) -> HeaderMap {
    headers.remove(header::CONNECTION);
    headers
}

#[expect(clippy::needless_pass_by_value, reason = "it fits `map_err`")]
fn broken(error: hyper::Error) -> io::Error {
    cut(&error.to_string())
}

/// A server that takes connections and answers every request with `404`, to see who sends what
/// to a stranger.
pub fn stranger() -> Proxy {
    Proxy::start("127.0.0.1:9", |_| Some(Fault::StatusWith(404, Vec::new())))
}
