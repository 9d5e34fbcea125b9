//! One registry, reached: how it is spoken to, who we are there, and what was sent to it.

use super::{
    authorize::{Authorizer, Used},
    challenge,
    error::{self, Failed, Kind, RegistryError},
    reach::Reach,
    token::{TokenClient, TokenError, is_loopback},
};
use crate::credential::{RegistryHost, Source};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use reqwest::{Certificate, redirect};
use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};
use tokio::sync::{OnceCell, Semaphore};
use url::Url;

const CONNECT_LIMIT: Duration = Duration::from_secs(15);
/// An answer to a request without a blob in it.
const ANSWER_LIMIT: Duration = Duration::from_mins(1);
/// Of a refusal's body, this much is read.
const MAX_REFUSAL: usize = 64 << 10;
const MAX_REDIRECTS: usize = 5;
/// Requests without a body in flight to one registry.
const QUESTIONS: usize = 16;
/// A registry that does not answer at first is asked again after these.
const FIRST_PAUSES: [Duration; 2] = [Duration::from_millis(300), Duration::from_millis(1200)];

/// What was sent to one registry so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Traffic {
    /// Requests; those to token servers are not among them.
    pub requests: u64,
    /// Bytes of blobs and manifests that were handed to the network.
    pub bytes: u64,
}

/// One registry. Shared by all who speak to it.
pub struct Server {
    host: RegistryHost,
    reach: Reach,
    user_agent: String,
    reached: OnceCell<Reached>,
    authorizer: Authorizer,
    requests: AtomicU64,
    bytes: Arc<AtomicU64>,
    /// Whether it has answered a request, if only to refuse it.
    has_served: AtomicBool,
    warnings: Mutex<Vec<String>>,
    questions: Semaphore,
    pub(super) transfers: Arc<Semaphore>,
    /// What it has taught us about bodies.
    pub(super) limits: Mutex<Limits>,
    /// The best rate of an upload so far, in bytes a second.
    pub(super) best_rate: AtomicU64,
}

/// What a registry has taught us about the bodies that it takes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits {
    /// The largest part of a blob, once it has refused a larger one.
    pub(super) part: Option<u64>,
    /// Whether it has refused a large blob in one piece.
    pub(super) no_whole: bool,
    /// Whether an upload that leads out of its repository has taken a part.
    pub(super) strays: bool,
}

#[derive(Clone, Debug)]
struct Reached {
    base: Url,
    client: reqwest::Client,
}

/// A request.
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Payload,
    pub(super) scopes: Vec<String>,
    pub(super) repository: String,
    pub(super) action: &'static str,
}

/// What a request carries.
pub(super) enum Payload {
    Nothing,
    Bytes(Bytes),
    /// A body that can be sent once only; no time limit but its own holds for it.
    Once(reqwest::Body),
}

/// A registry's answer to a request that it did.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Where it came from, after redirects.
    pub(super) url: Url,
    response: reqwest::Response,
}

impl Answer {
    pub(super) fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body, which must not be longer than `limit`.
    pub(super) async fn bytes(self, limit: usize) -> Result<Option<Bytes>, reqwest::Error> {
        read(self.response, limit).await
    }

    /// The body as it comes.
    pub(super) fn into_response(self) -> reqwest::Response {
        self.response
    }
}

async fn read(
    mut response: reqwest::Response,
    limit: usize,
) -> Result<Option<Bytes>, reqwest::Error> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len().saturating_add(chunk.len()) > limit {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body.freeze()))
}

impl Server {
    /// A registry that has not been spoken to yet. `source` says who we are there.
    pub fn new(
        host: RegistryHost,
        reach: Reach,
        source: Arc<dyn Source>,
        tokens: &TokenClient,
        user_agent: &str,
    ) -> Arc<Self> {
        let transfers = reach.parallel.unwrap_or(super::PARALLEL).max(1);
        let tokens = tokens.trusting(reach.authorities_of(&host), reach.insecure.contains(&host));
        Arc::new(Self {
            authorizer: Authorizer::new(host.clone(), source, tokens),
            host,
            reach,
            user_agent: user_agent.to_owned(),
            reached: OnceCell::new(),
            requests: AtomicU64::new(0),
            bytes: Arc::default(),
            has_served: AtomicBool::new(false),
            warnings: Mutex::default(),
            questions: Semaphore::new(QUESTIONS),
            transfers: Arc::new(Semaphore::new(transfers)),
            limits: Mutex::default(),
            best_rate: AtomicU64::new(0),
        })
    }

    /// Its name.
    pub fn host(&self) -> &RegistryHost {
        &self.host
    }

    /// What was sent to it so far.
    pub fn traffic(&self) -> Traffic {
        Traffic {
            requests: self.requests.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    /// The warnings that came with its answers, each once.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it has answered a request so far. Who never did is not waited for as long as one that
    /// went away in the middle of something.
    pub(super) fn has_served(&self) -> bool {
        self.has_served.load(Ordering::Relaxed)
    }

    /// Counts bytes that were handed to the network.
    pub(super) fn byte_count(&self) -> Arc<AtomicU64> {
        self.bytes.clone()
    }

    pub(super) fn authorizer(&self) -> &Authorizer {
        &self.authorizer
    }

    /// The URL of `path` in the API, such as `NAME/manifests/TAG`.
    pub(super) async fn url(&self, path: &str) -> Result<Url, RegistryError> {
        let base = &self.reached().await?.base;
        base.join(path).map_err(|error| self.error("", "make a URL", path, Kind::Malformed, &error))
    }

    /// Whether a URL is on this registry itself, so that it may see who we are.
    pub(super) async fn is_own(&self, url: &Url) -> Result<bool, RegistryError> {
        Ok(self.reached().await?.base.origin() == url.origin())
    }

    /// The place that a `Location` header means, seen from `from`. A registry behind a proxy that
    /// ends its TLS often calls itself `http://`; we do not follow it out of TLS.
    pub(super) async fn location(&self, from: &Url, text: &str) -> Result<Url, RegistryError> {
        let mut url = from.join(text).map_err(|error| {
            self.error("", "follow a location", from.path(), Kind::Malformed, &error)
        })?;
        let base = &self.reached().await?.base;
        let same_name = url.host_str() == base.host_str();
        let explicit_port = url.port();
        if base.scheme() == "https" && url.scheme() == "http" && same_name {
            let _: Result<(), ()> = url.set_scheme("https");
            if explicit_port.is_none() {
                let _: Result<(), ()> = url.set_port(base.port());
            }
        }
        Ok(url)
    }

    /// Does a request. Redirects are followed where the body can be sent again; credentials go to
    /// the registry alone. A refusal is an error.
    pub(super) async fn send(&self, call: Call) -> Result<Answer, RegistryError> {
        let client = self.reached().await?.client.clone();
        let permit = match &call.body {
            Payload::Nothing | Payload::Bytes(_) => self.questions.acquire().await.ok(),
            Payload::Once(_) => None,
        };
        let answer = self.follow(&client, call).await;
        drop(permit);
        answer
    }

    async fn follow(
        &self,
        client: &reqwest::Client,
        mut call: Call,
    ) -> Result<Answer, RegistryError> {
        let mut renewed = false;
        let mut hops = 0;
        loop {
            let own = self.is_own(&call.url).await?;
            let used = if own { self.header(&call).await? } else { Used::default() };
            let mut request = client.request(call.method.clone(), call.url.clone());
            request = request.headers(call.headers.clone());
            if let Some(value) = used.header() {
                request = request.header(header::AUTHORIZATION, value);
            }
            let (again, request) = match std::mem::replace(&mut call.body, Payload::Nothing) {
                Payload::Nothing => (true, request.timeout(ANSWER_LIMIT)),
                Payload::Bytes(bytes) => {
                    let length = u64::try_from(bytes.len()).unwrap_or_default();
                    self.bytes.fetch_add(length, Ordering::Relaxed);
                    call.body = Payload::Bytes(bytes.clone());
                    (true, request.body(bytes).timeout(ANSWER_LIMIT * 2))
                }
                Payload::Once(body) => (false, request.body(body)),
            };
            self.requests.fetch_add(1, Ordering::Relaxed);
            let sent = request.send().await;
            let response = sent.map_err(|error| self.broken(&call, &error))?;
            self.note_warnings(response.headers());
            let status = response.status();
            if status == StatusCode::UNAUTHORIZED && own {
                let challenges = challenges(response.headers());
                let better = self.authorizer.refused(&used, &challenges, &call.scopes).await;
                let better = better.map_err(|error| self.no_token(&call, error))?;
                if better && again && !renewed {
                    renewed = true;
                    continue;
                }
                let mut error = self.refusal(&call, response).await;
                // One that has served us before without asking may only have had a bad moment.
                let is_first = !better && !self.has_served();
                if used.header().is_none() && is_first && matches!(error.kind, Kind::Unauthorized) {
                    let (host, message) = (self.host.clone(), String::new());
                    error.kind = Kind::Token(TokenError::NoCredentials { host, message });
                }
                return Err(error);
            }
            self.has_served.store(true, Ordering::Relaxed);
            if status.is_redirection() && status != StatusCode::NOT_MODIFIED && again {
                let to = response.headers().get(header::LOCATION).and_then(|to| to.to_str().ok());
                if let Some(to) = to
                    && hops < MAX_REDIRECTS
                {
                    hops += 1;
                    call.url = self.location(&call.url, to).await?;
                    if status == StatusCode::SEE_OTHER {
                        call.method = Method::GET;
                        call.body = Payload::Nothing;
                    }
                    continue;
                }
            }
            if status.is_success() {
                let headers = response.headers().clone();
                return Ok(Answer { status, headers, url: call.url, response });
            }
            return Err(self.refusal(&call, response).await);
        }
    }

    async fn header(&self, call: &Call) -> Result<Used, RegistryError> {
        let made = self.authorizer.header(&call.scopes).await;
        made.map_err(|error| self.no_token(call, error))
    }

    /// Finds out how the registry is spoken to, once.
    async fn reached(&self) -> Result<&Reached, RegistryError> {
        self.reached.get_or_try_init(|| self.reach_out()).await
    }

    async fn reach_out(&self) -> Result<Reached, RegistryError> {
        let mut pauses = FIRST_PAUSES.iter();
        loop {
            let error = match self.ping().await {
                Ok(reached) => return Ok(reached),
                Err(error) => error,
            };
            match pauses.next() {
                Some(&pause) if error.is_unreachable() || error.is_transient() => {
                    tokio::time::sleep(error.retry_after.unwrap_or(pause)).await;
                }
                _ => return Err(error),
            }
        }
    }

    async fn ping(&self) -> Result<Reached, RegistryError> {
        let name = match self.host.as_str() {
            "docker.io" => "registry-1.docker.io",
            name => name,
        };
        let plain_guess: Url = format!("http://{name}/v2/")
            .parse()
            .map_err(|error| self.error("", "make a URL", name, Kind::Malformed, &error))?;
        let local = is_loopback(&plain_guess);
        let insecure = self.reach.insecure.contains(&self.host);
        let schemes: &[&str] = match (local, insecure) {
            (true, _) => &["http", "https"],
            (false, true) => &["https", "http"],
            (false, false) => &["https"],
        };
        let mut first_error = None;
        for scheme in schemes {
            let base: Url = format!("{scheme}://{name}/v2/")
                .parse()
                .map_err(|error| self.error("", "make a URL", name, Kind::Malformed, &error))?;
            let client = self.client(*scheme == "http", local, insecure || local)?;
            match self.try_ping(&client, &base).await {
                Ok(()) => return Ok(Reached { base, client }),
                Err(error) => {
                    // What answered as a registry, if only to refuse, is the one that is meant.
                    if !matches!(
                        error.kind,
                        Kind::Unreachable | Kind::Broken | Kind::Malformed | Kind::Untrusted
                    ) {
                        return Err(error);
                    }
                    first_error.get_or_insert(error);
                }
            }
        }
        Err(first_error.unwrap_or_else(|| {
            self.error("", "reach the registry", name, Kind::Unreachable, &"no way leads there")
        }))
    }

    async fn try_ping(&self, client: &reqwest::Client, base: &Url) -> Result<(), RegistryError> {
        let call = Call {
            method: Method::GET,
            url: base.clone(),
            headers: HeaderMap::new(),
            body: Payload::Nothing,
            scopes: Vec::new(),
            repository: String::new(),
            action: "reach the registry",
        };
        self.requests.fetch_add(1, Ordering::Relaxed);
        let sent = client.get(base.clone()).timeout(ANSWER_LIMIT).send().await;
        let response = sent.map_err(|error| self.broken(&call, &error))?;
        self.note_warnings(response.headers());
        let status = response.status();
        if status == StatusCode::UNAUTHORIZED {
            let challenges = challenges(response.headers());
            let heard = self.authorizer.refused(&Used::default(), &challenges, &[]).await;
            return heard.map(drop).map_err(|error| self.no_token(&call, error));
        }
        if status.is_success() || status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        let mut error = self.refusal(&call, response).await;
        // A TLS port that is spoken to in plain text says so with a 400.
        if status == StatusCode::BAD_REQUEST || status.is_redirection() {
            error.kind = Kind::Malformed;
        }
        Err(error)
    }

    fn client(
        &self,
        plain: bool,
        local: bool,
        unchecked: bool,
    ) -> Result<reqwest::Client, RegistryError> {
        let no_tls = |cause: String| {
            let error = TokenError::NoTls { cause };
            self.error("", "set up TLS", "", Kind::Token(error), &"")
        };
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err(no_tls("no TLS provider is installed".to_owned()));
        }
        let mut builder = reqwest::Client::builder()
            .user_agent(self.user_agent.as_str())
            .connect_timeout(CONNECT_LIMIT)
            .pool_max_idle_per_host(QUESTIONS)
            .tcp_nodelay(true)
            .redirect(redirect::Policy::none());
        if local {
            builder = builder.no_proxy();
        }
        if plain {
            builder = builder.tls_certs_only([]);
        } else {
            let mut certificates = Vec::new();
            for pem in self.reach.authorities_of(&self.host) {
                let read = Certificate::from_pem_bundle(&pem);
                certificates.extend(read.map_err(|error| no_tls(error::causes(&error)))?);
            }
            if unchecked {
                builder = builder.tls_danger_accept_invalid_certs(true);
            }
            if !certificates.is_empty() {
                builder = builder.tls_certs_merge(certificates);
            }
        }
        builder.build().map_err(|error| no_tls(error::causes(&error)))
    }

    fn note_warnings(&self, headers: &HeaderMap) {
        for value in headers.get_all(header::WARNING) {
            let Some(text) = value.to_str().ok().and_then(warning) else { continue };
            let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
            if !warnings.contains(&text) && warnings.len() < 16 {
                warnings.push(text);
            }
        }
    }

    /// A refusal as an error, with what the token lacked where it lacked something.
    async fn refusal(&self, call: &Call, response: reqwest::Response) -> RegistryError {
        let status = response.status();
        let retry_after = retry_after(response.headers(), SystemTime::now());
        let body = read(response, MAX_REFUSAL).await.ok().flatten().unwrap_or_default();
        let (code, words) = error::told(&body);
        let mut kind = error::classify(status, code.as_deref(), &words);
        if matches!(kind, Kind::Unauthorized | Kind::Denied)
            && let Some((missing, user)) = self.authorizer.missing(&call.scopes).await
            && let Some(scope) = missing.into_iter().next()
        {
            kind = Kind::ScopeRefused { scope, user };
        }
        RegistryError::from(Failed {
            host: self.host.clone(),
            repository: call.repository.clone(),
            action: call.action,
            request: format!("{} {}", call.method, error::redacted(&call.url)),
            status: Some(status.as_u16()),
            code,
            words,
            retry_after,
            kind,
        })
    }

    pub(super) fn broken(&self, call: &Call, error: &reqwest::Error) -> RegistryError {
        let (kind, words) = error::broken(error);
        let request = format!("{} {}", call.method, error::redacted(&call.url));
        self.error(&call.repository, call.action, &request, kind, &words)
    }

    fn no_token(&self, call: &Call, error: TokenError) -> RegistryError {
        let request = format!("{} {}", call.method, error::redacted(&call.url));
        let words = error.to_string();
        self.error(&call.repository, call.action, &request, Kind::Token(error), &words)
    }

    /// An error of ours about this registry.
    pub(super) fn error(
        &self,
        repository: &str,
        action: &'static str,
        request: &str,
        kind: Kind,
        words: &dyn fmt::Display,
    ) -> RegistryError {
        RegistryError::from(Failed {
            host: self.host.clone(),
            repository: repository.to_owned(),
            action,
            request: request.to_owned(),
            status: None,
            code: None,
            words: words.to_string(),
            retry_after: None,
            kind,
        })
    }

    /// Mirrors to read from before the registry itself, as hosts.
    pub(super) fn mirrors(&self) -> &[String] {
        self.reach.mirrors.get(&self.host).map(Vec::as_slice).unwrap_or_default()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Server").field("host", &self.host).finish_non_exhaustive()
    }
}

fn challenges(headers: &HeaderMap) -> Vec<challenge::Challenge> {
    let values = headers.get_all(header::WWW_AUTHENTICATE).iter();
    values.filter_map(|value| value.to_str().ok()).flat_map(challenge::parse).collect()
}

/// The text of a `Warning` header: `299 - "TEXT"` as the distribution specification has it.
fn warning(header: &str) -> Option<String> {
    let text = header.strip_prefix("299 ")?;
    let (_, quoted) = text.split_once('"')?;
    let text = quoted.rsplit_once('"').map_or(quoted, |(text, _)| text);
    let text: String = text.replace("\\\"", "\"").chars().filter(|c| !c.is_control()).collect();
    (!text.is_empty()).then(|| text.chars().take(300).collect())
}

/// How long a `Retry-After` header asks us to wait, in either of its forms.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(SystemTime::from(at).duration_since(now).unwrap_or_default())
}

/// A header's value of text that we made.
pub(super) fn value(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(text).ok()
}

/// A map of one header.
pub(super) fn headers<const N: usize>(pairs: [(HeaderName, &str); N]) -> HeaderMap {
    let valued = pairs.into_iter().filter_map(|(name, text)| Some((name, value(text)?)));
    valued.collect()
}

#[cfg(test)]
mod tests {
    use super::{retry_after, warning};
    use http::{HeaderMap, header};
    use std::time::{Duration, SystemTime};

    #[test]
    fn both_forms_of_retry_after_are_read() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers, now)
        };
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:47 GMT"), Some(Duration::from_secs(10)));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:27 GMT"), Some(Duration::ZERO));
        assert_eq!(read("soon"), None);
    }

    #[test]
    fn warnings_are_those_of_the_specification() {
        assert_eq!(
            warning(r#"299 - "Your trial \"ends\" soon""#).as_deref(),
            Some(r#"Your trial "ends" soon"#)
        );
        assert_eq!(warning(r#"110 - "stale""#), None);
        assert_eq!(warning("299 - \"\""), None);
    }
}
