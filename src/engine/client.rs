//! One Docker Engine: requests, answers of bounded size, and protocol upgrades.

use super::{Endpoint, Error};
use crate::transport::{
    ByteStream, OpenError, TlsError, child::LastWords, open_tcp, open_unix, tls,
};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, de::DeserializeOwned};
use std::{error::Error as StdError, sync::Arc, time::Duration};
use tokio::{sync::OnceCell, time::timeout};

/// The newest version of the API whose answers we know.
const NEWEST: (u16, u16) = (1, 51);
/// The header that lends credentials.
pub(super) const AUTH_HEADER: &str = "x-registry-auth";
/// How long a call that does no work may take.
const LIMIT: Duration = Duration::from_mins(1);
/// How long any answer that is read whole may be.
const ANSWER_LIMIT: usize = 4 << 20;

pub(super) type Body = UnsyncBoxBody<Bytes, Box<dyn StdError + Send + Sync>>;

/// A client of one Docker Engine. Clones share what was learnt about it.
#[derive(Clone, Debug)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    endpoint: Endpoint,
    tls: Option<tls::Client>,
    greeting: OnceCell<Greeting>,
}

/// How an Engine introduces itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Greeting {
    /// The newest version of the API that it speaks, such as 1.51.
    pub api: (u16, u16),
    /// Its `Server` header, such as `Docker/28.5.2 (linux)`.
    pub server: String,
    /// Whether it is Podman, which speaks the same API and has no BuildKit inside.
    pub podman: bool,
}

/// What an Engine says of itself that matters to a build.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Info {
    /// Its version, such as `28.5.2`, for people to read.
    pub version: String,
    /// Whether images live in containerd's store: then all of BuildKit's exporters are there.
    pub containerd_store: bool,
}

impl Client {
    /// A client of the Engine at `endpoint`; nothing is dialled yet. `files` matter to TCP only.
    ///
    /// # Errors
    /// The material for TLS cannot be used.
    pub fn new(endpoint: Endpoint, files: &tls::Files) -> Result<Self, TlsError> {
        let tls = match endpoint {
            Endpoint::Tcp(_) if !files.is_empty() => {
                Some(tls::Client::load(files, tls::Protocol::Http1)?)
            }
            _ => None,
        };
        Ok(Self(Arc::new(Inner { endpoint, tls, greeting: OnceCell::new() })))
    }

    /// Where it is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.0.endpoint
    }

    /// Asks the Engine who it is, once.
    ///
    /// # Errors
    /// It cannot be reached, or is no Docker Engine.
    pub async fn greet(&self) -> Result<&Greeting, Error> {
        self.0.greeting.get_or_try_init(|| self.ask_greeting()).await
    }

    async fn ask_greeting(&self) -> Result<Greeting, Error> {
        let path = "/_ping";
        let response = self.send(Method::GET, path, &[], empty()).await?;
        let text = |name: &str| {
            let value = response.headers().get(name).and_then(|value| value.to_str().ok());
            value.map(str::to_owned)
        };
        let api = text("api-version").as_deref().and_then(parse_version);
        let Some(api) = api else {
            let server = text("server").map(|server| format!(", server `{server}`"));
            return Err(Error::NotAnEngine {
                answered: format!("`{path}`: {}{}", response.status(), server.unwrap_or_default()),
            });
        };
        Ok(Greeting {
            api,
            server: text("server").unwrap_or_default(),
            podman: response.headers().contains_key("libpod-api-version"),
        })
    }

    /// What the Engine says of itself.
    ///
    /// # Errors
    /// It cannot be reached, refuses, or its answer cannot be read.
    pub async fn info(&self) -> Result<Info, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Answer {
            #[serde(default)]
            server_version: String,
            #[serde(default)]
            driver_status: Option<Vec<Vec<String>>>,
        }
        let answer: Answer = self.get("/info").await?;
        let containerd_store = answer
            .driver_status
            .unwrap_or_default()
            .iter()
            .flatten()
            .any(|word| word.starts_with("io.containerd.snapshotter."));
        Ok(Info { version: answer.server_version, containerd_store })
    }

    /// Opens a stream of another protocol: `POST path`, `Upgrade: protocol`.
    ///
    /// # Errors
    /// The Engine cannot be reached, or does not switch.
    pub async fn upgrade(&self, path: &str, protocol: &str) -> Result<ByteStream, Error> {
        self.upgrade_with(path, protocol, &[], None).await
    }

    pub(super) async fn upgrade_with(
        &self,
        path: &str,
        protocol: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<ByteStream, Error> {
        let mut all = vec![("connection", "Upgrade"), ("upgrade", protocol)];
        all.extend(headers);
        let body = body.map_or_else(empty, full);
        let response = self.send(Method::POST, path, &all, body).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let response = check(path, response).await?;
            return Err(Error::Garbled {
                path: path.to_owned(),
                problem: format!("status {} where 101 was due", response.status().as_u16()),
            });
        }
        let broken = |source| Error::Broken { path: path.to_owned(), source };
        let upgraded = hyper::upgrade::on(response).await.map_err(broken)?;
        Ok(ByteStream::new(TokioIo::new(upgraded)))
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let response = self.versioned(Method::GET, path, &[], empty()).await?;
        read_json(path, response).await
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Vec<u8>,
    ) -> Result<T, Error> {
        let json = [("content-type", "application/json")];
        let response = self.versioned(Method::POST, path, &json, full(body)).await?;
        read_json(path, response).await
    }

    /// A request under the version of the API that both sides know. The answer's status is a
    /// success.
    pub(super) async fn versioned(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> Result<Response<Incoming>, Error> {
        let prefixed = format!("{}{path}", self.prefix().await?);
        let response = self.send(method, &prefixed, headers, body).await?;
        check(path, response).await
    }

    /// `/v1.51`, or what both sides know.
    pub(super) async fn prefix(&self) -> Result<String, Error> {
        let (major, minor) = self.greet().await?.api.min(NEWEST);
        Ok(format!("/v{major}.{minor}"))
    }

    /// Sends a request whose body is small, and waits for the head of the answer.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> Result<Response<Incoming>, Error> {
        timeout(LIMIT, self.send_unhurried(method, path, headers, body))
            .await
            .map_err(|_| Error::Silent { path: path.to_owned(), after: LIMIT })?
    }

    /// The same for as long as it takes: the body may be an image. Each request has a connection
    /// of its own.
    pub(super) async fn send_unhurried(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> Result<Response<Incoming>, Error> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.host())
            .header(header::USER_AGENT, concat!("bk-sync/", env!("CARGO_PKG_VERSION")));
        let unusable = |source| Error::Request { path: path.to_owned(), source };
        for (name, value) in headers {
            let mut value = HeaderValue::from_str(value).map_err(|error| unusable(error.into()))?;
            value.set_sensitive(*name == AUTH_HEADER);
            request = request.header(*name, value);
        }
        let request = request.body(body).map_err(unusable)?;
        let (stream, words) = self.open().await?;
        let (stream, witness) = stream.witnessed();
        let attempt = async {
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            let path = path.to_owned();
            tokio::spawn(async move {
                if let Err(error) = connection.with_upgrades().await {
                    tracing::debug!(%error, path, "a connection to the Docker Engine ended badly");
                }
            });
            sender.send_request(request).await
        };
        match attempt.await {
            Ok(response) => Ok(response),
            Err(source) => {
                if let Some(mut words) = words
                    && let Some(words) = words.tell().await
                {
                    return Err(Error::WayEnded { words });
                }
                // In TLS 1.3 a server says what it thinks of our certificate after the handshake.
                if let (Some(tls), Endpoint::Tcp(place), Some(failure)) =
                    (&self.0.tls, &self.0.endpoint, witness.failure())
                {
                    let name = tls.name_for(&place.host);
                    let error = tls::explain(failure, &place.to_string(), name);
                    return Err(OpenError::Tls(error).into());
                }
                Err(Error::Broken { path: path.to_owned(), source })
            }
        }
    }

    /// A new connection to the Engine, and the voice of the process that carries it.
    async fn open(&self) -> Result<(ByteStream, Option<LastWords>), OpenError> {
        match &self.0.endpoint {
            Endpoint::Unix(path) => Ok((open_unix(path).await?, None)),
            Endpoint::Tcp(place) => {
                let stream = open_tcp(&place.host, place.port).await?;
                match &self.0.tls {
                    Some(tls) => {
                        let shown = place.to_string();
                        Ok((tls.wrap(stream, &place.host, &shown).await?, None))
                    }
                    None => Ok((stream, None)),
                }
            }
            Endpoint::Ssh { target, socket } => {
                let socket = socket.as_ref().map(|path| format!("unix://{path}"));
                let mut command = vec!["docker"];
                if let Some(socket) = &socket {
                    command.extend(["--host", socket]);
                }
                command.extend(["system", "dial-stdio"]);
                let (stream, words) = target.program(&command).start()?;
                Ok((stream, Some(words)))
            }
        }
    }

    fn host(&self) -> String {
        match &self.0.endpoint {
            Endpoint::Tcp(place) => place.to_string(),
            // The API needs some host; Docker's own client sends this one.
            Endpoint::Unix(_) | Endpoint::Ssh { .. } => "api.moby.localhost".to_owned(),
        }
    }
}

pub(super) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

pub(super) fn full(bytes: Vec<u8>) -> Body {
    Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync()
}

/// Turns an error status into an error.
pub(super) async fn check(
    path: &str,
    response: Response<Incoming>,
) -> Result<Response<Incoming>, Error> {
    #[derive(Deserialize)]
    struct Answer {
        message: String,
    }
    let status = response.status();
    if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(response);
    }
    let body = read(path, response).await?;
    let message = match serde_json::from_slice::<Answer>(&body) {
        Ok(answer) => answer.message,
        Err(_) => String::from_utf8_lossy(&body).trim().chars().take(500).collect(),
    };
    Err(Error::Refused { path: path.to_owned(), status: status.as_u16(), message })
}

async fn read_json<T: DeserializeOwned>(
    path: &str,
    response: Response<Incoming>,
) -> Result<T, Error> {
    let body = read(path, response).await?;
    serde_json::from_slice(&body)
        .map_err(|error| Error::Garbled { path: path.to_owned(), problem: error.to_string() })
}

/// An answer, whole; a longer one than any that we ask for is an error.
async fn read(path: &str, response: Response<Incoming>) -> Result<Vec<u8>, Error> {
    let mut body = response.into_body();
    let mut whole = Vec::new();
    let reading = async {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|source| Error::Broken { path: path.to_owned(), source })?;
            if let Some(data) = frame.data_ref() {
                if whole.len() + data.len() > ANSWER_LIMIT {
                    let path = path.to_owned();
                    return Err(Error::AnswerTooLong { path, limit: ANSWER_LIMIT });
                }
                whole.extend_from_slice(data);
            }
        }
        Ok(())
    };
    timeout(LIMIT, reading)
        .await
        .map_err(|_| Error::Silent { path: path.to_owned(), after: LIMIT })??;
    Ok(whole)
}

fn parse_version(text: &str) -> Option<(u16, u16)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::parse_version;

    #[test]
    fn versions_of_the_api() {
        assert_eq!(parse_version("1.51"), Some((1, 51)));
        assert!(parse_version("1.9").unwrap() < parse_version("1.51").unwrap());
        for garbage in ["", "1", "1.x", "-1.2", "1.99999999"] {
            assert_eq!(parse_version(garbage), None, "{garbage}");
        }
    }
}
