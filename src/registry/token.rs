//! The token exchange: credentials go to a registry's token server, a token of limited use comes
//! back.

use super::{
    answer,
    scope::{self, Scope},
};
use crate::credential::{Credentials, Kind, Origin, RegistryHost, Secret};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderValue, StatusCode, header};
use reqwest::{Certificate, redirect};
use serde::Deserialize;
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};
use url::{Host, Url, form_urlencoded};
use zeroize::Zeroizing;

/// A builder that waits for the token gives up after 60 s.
const LIMIT: Duration = Duration::from_secs(40);
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// No token is this big.
const MAX_BODY: usize = 1 << 20;
/// What the specification says where a server does not.
const DEFAULT_LIFE: Duration = Duration::from_mins(1);
/// Pauses before a server that is briefly away is asked again.
const PAUSES: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(1)];
/// Redirects are followed within the token server only, so that credentials stay there.
const MAX_REDIRECTS: usize = 5;

/// What a token is wanted for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TokenRequest {
    /// The registry.
    pub host: RegistryHost,
    /// The token server, from the registry's challenge.
    pub realm: String,
    /// The service, from the challenge; may be empty.
    pub service: String,
    /// Such as `repository:NAME:pull,push`.
    pub scopes: Vec<String>,
    /// Who we say we are to OAuth2 servers.
    pub client_id: String,
}

/// A bearer token.
#[derive(Clone, Debug)]
pub struct Token {
    /// The token.
    pub value: Secret,
    /// How long it is good for, from `issued_at`.
    pub expires_in: Duration,
    /// When it was made; unknown if the server does not say.
    pub issued_at: Option<SystemTime>,
    /// What was asked for and not granted, as far as the token shows it.
    pub refused: Vec<Scope>,
}

/// How a server is reached.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Way {
    /// It is on this machine, where no proxy leads.
    local: bool,
    /// Without TLS.
    plain: bool,
}

/// Exchanges credentials for tokens. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TokenClient {
    user_agent: Arc<str>,
    /// Made when first needed: a build that asks no registry for a token needs no root
    /// certificates, and one that asks over plain HTTP does not either.
    clients: Arc<Mutex<HashMap<Way, reqwest::Client>>>,
    trust: Arc<Trust>,
}

/// Whom to believe beside the system's authorities.
#[derive(Debug, Default)]
struct Trust {
    /// Certificates of authorities, in PEM.
    authorities: Vec<Vec<u8>>,
    /// Nobody has to vouch.
    unchecked: bool,
}

impl TokenClient {
    /// A client that calls itself `user_agent`.
    pub fn new(user_agent: &str) -> Self {
        Self { user_agent: user_agent.into(), clients: Arc::default(), trust: Arc::default() }
    }

    /// A client for one registry that also believes `authorities` (in PEM), or `unchecked` anybody: a
    /// registry with an authority of its own has its token server beside it.
    #[must_use]
    pub(super) fn trusting(&self, authorities: Vec<Vec<u8>>, unchecked: bool) -> Self {
        if authorities.is_empty() && !unchecked {
            return self.clone();
        }
        let trust = Arc::new(Trust { authorities, unchecked });
        Self { user_agent: self.user_agent.clone(), clients: Arc::default(), trust }
    }

    /// Gets a token; an anonymous one without credentials.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub async fn fetch(
        &self,
        request: &TokenRequest,
        credentials: Option<&Credentials>,
    ) -> Result<Token, TokenError> {
        let Some(credentials) = credentials else {
            return self.get(request, None).await;
        };
        match credentials.kind {
            Kind::RegistryToken => Ok(Token {
                value: credentials.secret.clone(),
                expires_in: DEFAULT_LIFE,
                issued_at: None,
                refused: scope::refused(&request.scopes, credentials.secret.expose()),
            }),
            Kind::IdentityToken => self.post(request, credentials).await,
            Kind::Password => match self.get(request, Some(credentials)).await {
                // Servers that speak OAuth2 alone say so in one of these ways.
                Err(TokenError::Unexpected { status: 404 | 405, .. }) => {
                    self.post(request, credentials).await
                }
                answer => answer,
            },
        }
    }

    /// The distribution project's token protocol: GET, with Basic authentication.
    async fn get(
        &self,
        request: &TokenRequest,
        credentials: Option<&Credentials>,
    ) -> Result<Token, TokenError> {
        let mut url = realm(request, credentials.is_some())?;
        {
            let mut query = url.query_pairs_mut();
            if !request.service.is_empty() {
                query.append_pair("service", &request.service);
            }
            for scope in request.scopes.iter().flat_map(|scopes| scopes.split(' ')) {
                query.append_pair("scope", scope);
            }
            if let Some(credentials) = credentials {
                query.append_pair("account", &credentials.username);
            }
        }
        let authorization = credentials.map(basic).transpose()?;
        let client = self.client(&url)?;
        let attempt = || {
            let mut call = client.get(url.clone());
            if let Some(value) = &authorization {
                call = call.header(header::AUTHORIZATION, value);
            }
            call
        };
        send(attempt, request, credentials).await
    }

    /// OAuth2: POST, with a refresh token or a password as the grant.
    async fn post(
        &self,
        request: &TokenRequest,
        credentials: &Credentials,
    ) -> Result<Token, TokenError> {
        let url = realm(request, true)?;
        let form = form(request, credentials)?;
        let client = self.client(&url)?;
        let attempt = || {
            client
                .post(url.clone())
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form.to_string())
        };
        send(attempt, request, Some(credentials)).await
    }

    fn client(&self, url: &Url) -> Result<reqwest::Client, TokenError> {
        let way = Way { local: is_loopback(url), plain: url.scheme() == "http" };
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&way) {
            return Ok(client.clone());
        }
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err(TokenError::NoTls { cause: "no TLS provider is installed".to_owned() });
        }
        let mut builder = reqwest::Client::builder()
            .user_agent(&*self.user_agent)
            .connect_timeout(CONNECT_LIMIT)
            .timeout(LIMIT)
            .redirect(redirect::Policy::custom(within_one_server));
        if way.local {
            builder = builder.no_proxy();
        }
        if way.plain {
            builder = builder.tls_certs_only([]);
        } else {
            let no_tls = |error| TokenError::NoTls { cause: causes(&error) };
            let mut certificates = Vec::new();
            for pem in &self.trust.authorities {
                certificates.extend(Certificate::from_pem_bundle(pem).map_err(no_tls)?);
            }
            if !certificates.is_empty() {
                builder = builder.tls_certs_merge(certificates);
            }
            if self.trust.unchecked {
                builder = builder.tls_danger_accept_invalid_certs(true);
            }
        }
        let client =
            builder.build().map_err(|error| TokenError::NoTls { cause: causes(&error) })?;
        clients.insert(way, client.clone());
        Ok(client)
    }
}

/// Asks, and asks again a server that is briefly away.
async fn send(
    attempt: impl Fn() -> reqwest::RequestBuilder,
    request: &TokenRequest,
    credentials: Option<&Credentials>,
) -> Result<Token, TokenError> {
    let mut pauses = PAUSES.iter();
    loop {
        let answer = exchange(attempt(), request, credentials).await;
        let brief = matches!(
            answer,
            Err(TokenError::Unreachable { .. } | TokenError::Unexpected { status: 502..=504, .. })
        );
        match pauses.next() {
            Some(&pause) if brief => tokio::time::sleep(pause).await,
            _ => return answer,
        }
    }
}
/// One try.
async fn exchange(
    call: reqwest::RequestBuilder,
    request: &TokenRequest,
    credentials: Option<&Credentials>,
) -> Result<Token, TokenError> {
    let server = || server(&request.realm);
    let unreachable = |error: reqwest::Error| TokenError::Unreachable {
        server: server(),
        cause: causes(&error.without_url()),
    };
    let mut response = call.send().await.map_err(unreachable)?;
    let status = response.status();
    let mut body = Zeroizing::new(Vec::with_capacity(64 << 10));
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len().saturating_add(chunk.len()) > MAX_BODY {
            return Err(TokenError::Malformed { server: server() });
        }
        body.extend_from_slice(&chunk);
    }
    if status.is_success() {
        return token(&body, request).ok_or_else(|| TokenError::Malformed { server: server() });
    }
    let message = answer::message(&body);
    // OAuth2 servers answer 400 `invalid_grant` to a wrong password or a token that has expired.
    let grant = status == StatusCode::BAD_REQUEST && contains(&body, b"invalid_grant");
    Err(match (status, credentials) {
        (StatusCode::UNAUTHORIZED, Some(credentials)) => {
            TokenError::wrong(request, credentials, message)
        }
        (_, Some(credentials)) if grant => TokenError::wrong(request, credentials, message),
        (StatusCode::UNAUTHORIZED, None) => {
            TokenError::NoCredentials { host: request.host.clone(), message }
        }
        (StatusCode::FORBIDDEN, _) => TokenError::Denied {
            host: request.host.clone(),
            scopes: request.scopes.clone(),
            message,
        },
        _ => TokenError::Unexpected { server: server(), status: status.as_u16(), message },
    })
}

fn contains(body: &[u8], word: &[u8]) -> bool {
    body.windows(word.len()).any(|window| window == word)
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: Secret,
    #[serde(default)]
    access_token: Secret,
    expires_in: Option<u64>,
    issued_at: Option<String>,
}

fn token(body: &[u8], request: &TokenRequest) -> Option<Token> {
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let value = if answer.token.is_empty() { answer.access_token } else { answer.token };
    // What cannot be a header's value is no token either.
    if value.is_empty() || !value.expose().iter().all(u8::is_ascii_graphic) {
        return None;
    }
    let issued_at = answer.issued_at.and_then(|text| text.parse::<jiff::Timestamp>().ok());
    Some(Token {
        refused: scope::refused(&request.scopes, value.expose()),
        value,
        // Below a minute, the specification says, clients may take it for a minute.
        expires_in: answer.expires_in.map_or(DEFAULT_LIFE, Duration::from_secs).max(DEFAULT_LIFE),
        issued_at: issued_at.map(SystemTime::from),
    })
}

/// The token server's URL, if `request`'s registry may name it for what we are about to send.
fn realm(request: &TokenRequest, secret: bool) -> Result<Url, TokenError> {
    let invalid =
        || TokenError::InvalidRealm { host: request.host.clone(), server: server(&request.realm) };
    let url: Url = request.realm.parse().map_err(|_| invalid())?;
    let host = url.host_str().filter(|_| matches!(url.scheme(), "http" | "https"));
    let host = host.ok_or_else(invalid)?;
    // A registry that is itself reached in plain text has its token server beside it.
    let beside = format!("http://{}", request.host).parse::<Url>();
    let beside = beside.is_ok_and(|registry| registry.host_str() == Some(host));
    if secret && url.scheme() == "http" && !is_loopback(&url) && !beside {
        return Err(TokenError::InsecureRealm {
            host: request.host.clone(),
            server: server(&request.realm),
        });
    }
    Ok(url)
}

pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

fn within_one_server(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let previous = attempt.previous();
    let same = previous.last().is_some_and(|from| {
        let to = attempt.url();
        from.origin() == to.origin()
    });
    if same && previous.len() <= MAX_REDIRECTS { attempt.follow() } else { attempt.stop() }
}

pub(super) fn basic(credentials: &Credentials) -> Result<HeaderValue, TokenError> {
    let mut pair = Zeroizing::new(Vec::with_capacity(1 << 10));
    pair.extend_from_slice(credentials.username.as_bytes());
    pair.push(b':');
    pair.extend_from_slice(credentials.secret.expose());
    let text = Zeroizing::new(format!("Basic {}", *Zeroizing::new(STANDARD.encode(&*pair))));
    to_send(text.as_bytes())
}

/// An `Authorization` header's value, which no log shows.
fn to_send(text: &[u8]) -> Result<HeaderValue, TokenError> {
    let mut value = HeaderValue::from_bytes(text).map_err(|_| TokenError::NotText)?;
    value.set_sensitive(true);
    Ok(value)
}

/// A realm less what nobody needs to see of it.
fn server(realm: &str) -> String {
    let Ok(url) = realm.parse::<Url>() else { return "an unreadable URL".to_owned() };
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

/// An OAuth2 request's body.
fn form(
    request: &TokenRequest,
    credentials: &Credentials,
) -> Result<Zeroizing<String>, TokenError> {
    let secret = credentials.secret.expose_str().ok_or(TokenError::NotText)?;
    let mut form = form_urlencoded::Serializer::new(String::with_capacity(16 << 10));
    form.append_pair("client_id", &request.client_id)
        .append_pair("service", &request.service)
        .append_pair("scope", &request.scopes.join(" "));
    if credentials.kind == Kind::IdentityToken {
        form.append_pair("grant_type", "refresh_token").append_pair("refresh_token", secret);
    } else {
        form.append_pair("grant_type", "password")
            .append_pair("username", &credentials.username)
            .append_pair("password", secret);
    }
    Ok(Zeroizing::new(form.finish()))
}

/// An error with its causes, which reqwest does not print by itself.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Why there is no token.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TokenError {
    /// The token server knows us and says no.
    #[error("`{host}` denied {}{}", scopes.join(" "), Said(message))]
    Denied {
        /// The registry.
        host: RegistryHost,
        /// What was asked for.
        scopes: Vec<String>,
        /// The server's words; may be empty.
        message: String,
    },
    /// Credentials would cross a network in plain text.
    #[error("`{host}` asks for credentials to be sent in plain text to `{server}`")]
    InsecureRealm {
        /// The registry.
        host: RegistryHost,
        /// The token server.
        server: String,
    },
    /// The challenge names no URL of a token server.
    #[error("`{host}` names no usable token server: `{server}`")]
    InvalidRealm {
        /// The registry.
        host: RegistryHost,
        /// What it names.
        server: String,
    },
    /// An answer that holds no token.
    #[error("the token server `{server}` answered without a token")]
    Malformed {
        /// The token server.
        server: String,
    },
    /// Anonymous access is not enough.
    #[error(
        "`{host}` gives no token to the anonymous, and no credentials for it were found{}",
        Said(message)
    )]
    NoCredentials {
        /// The registry.
        host: RegistryHost,
        /// The server's words; may be empty.
        message: String,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {cause}")]
    NoTls {
        /// Why.
        cause: String,
    },
    /// A secret with bytes that no password can hold.
    #[error("the credentials are not text")]
    NotText,
    /// An answer that the protocol does not know.
    #[error("the token server `{server}` answered {status}{}", Said(message))]
    Unexpected {
        /// The token server.
        server: String,
        /// The HTTP status.
        status: u16,
        /// The server's words; may be empty.
        message: String,
    },
    /// No answer.
    #[error("the token server `{server}` cannot be reached: {cause}")]
    Unreachable {
        /// The token server.
        server: String,
        /// What was seen.
        cause: String,
    },
    /// The user or password is wrong, or the token has expired.
    #[error(
        "`{host}` does not accept the credentials{} from {origin}{}",
        Of(username),
        Said(message)
    )]
    WrongCredentials {
        /// The registry.
        host: RegistryHost,
        /// The user; empty for tokens that name none.
        username: String,
        /// Where they come from.
        origin: Origin,
        /// The server's words; may be empty.
        message: String,
    },
}

impl TokenError {
    /// The registry that the token was for, where the error is the registry's own matter.
    pub fn host(&self) -> Option<&RegistryHost> {
        match self {
            Self::Denied { host, .. }
            | Self::InsecureRealm { host, .. }
            | Self::InvalidRealm { host, .. }
            | Self::NoCredentials { host, .. }
            | Self::WrongCredentials { host, .. } => Some(host),
            Self::Malformed { .. }
            | Self::NoTls { .. }
            | Self::NotText
            | Self::Unexpected { .. }
            | Self::Unreachable { .. } => None,
        }
    }

    fn wrong(request: &TokenRequest, credentials: &Credentials, message: String) -> Self {
        Self::WrongCredentials {
            host: request.host.clone(),
            username: credentials.username.clone(),
            origin: credentials.origin.clone(),
            message,
        }
    }
}

struct Said<'a>(&'a str);

impl fmt::Display for Said<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(formatter, ": {}", self.0) }
    }
}

struct Of<'a>(&'a str);

impl fmt::Display for Of<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(formatter, " of `{}`", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::{TokenError, TokenRequest, basic, form, realm, server, token};
    use crate::credential::{Credentials, Kind, Origin, RegistryHost, Secret};
    use std::time::{Duration, SystemTime};

    fn request(host: &str, realm: &str) -> TokenRequest {
        TokenRequest {
            host: RegistryHost::new(host),
            realm: realm.to_owned(),
            service: "s".to_owned(),
            scopes: vec!["repository:a:pull".to_owned()],
            client_id: "bk-sync".to_owned(),
        }
    }

    #[test]
    fn answers_of_both_protocols_are_read() {
        let request = request("ghcr.io", "https://ghcr.io/token");
        let read = |text: &str| token(text.as_bytes(), &request);
        let made =
            read(r#"{"token":"t","expires_in":300,"issued_at":"2026-11-23T00:00:00Z"}"#).unwrap();
        assert_eq!(made.value.expose(), b"t");
        assert_eq!(made.expires_in, Duration::from_mins(5));
        let issued = made.issued_at.unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(issued.as_secs(), 1_795_392_000);
        let made = read(r#"{"access_token":"a","expires_in":5}"#).unwrap();
        assert_eq!((made.value.expose(), made.expires_in.as_secs()), (b"a".as_slice(), 60));
        for text in ["{}", r#"{"token":""}"#, r#"{"token":"a b"}"#, "[]", "<html>"] {
            assert!(read(text).is_none(), "{text}");
        }
    }

    #[test]
    fn oauth2_forms_carry_the_grant() {
        let request = request("ghcr.io", "https://ghcr.io/token");
        let body = |kind| {
            let (username, origin) = ("joe".to_owned(), Origin::Given { name: "V".to_owned() });
            let secret = Secret::new("p&w");
            form(&request, &Credentials { username, secret, kind, origin }).unwrap().to_string()
        };
        let common = "client_id=bk-sync&service=s&scope=repository%3Aa%3Apull";
        assert_eq!(
            body(Kind::IdentityToken),
            format!("{common}&grant_type=refresh_token&refresh_token=p%26w")
        );
        assert_eq!(
            body(Kind::Password),
            format!("{common}&grant_type=password&username=joe&password=p%26w")
        );
    }

    #[test]
    fn credentials_cross_no_network_in_plain_text() {
        let may = |host, to, secret| realm(&request(host, to), secret).is_ok();
        assert!(may("ghcr.io", "https://ghcr.io/token", true));
        assert!(may("docker.io", "https://auth.docker.io/token", true));
        assert!(may("127.0.0.1:5000", "http://127.0.0.1:5001/token", true));
        assert!(may("reg.lan:5000", "http://localhost:5001/token", true));
        assert!(may("reg.lan:5000", "http://reg.lan:5001/token", true));
        assert!(!may("ghcr.io", "http://auth.example/token", true));
        assert!(may("ghcr.io", "http://auth.example/token", false), "nothing is sent");
        for bad in ["file:///etc/passwd", "/token", "", "ftp://a/b"] {
            let error = realm(&request("ghcr.io", bad), false).unwrap_err();
            assert!(matches!(error, TokenError::InvalidRealm { .. }), "{bad}");
        }
    }

    #[test]
    fn no_query_or_user_of_a_realm_is_shown() {
        assert_eq!(server("https://u:p@auth.io:8443/token?a=b#c"), "https://auth.io:8443/token");
    }

    #[test]
    fn a_basic_header_cannot_be_printed() {
        let credentials = Credentials {
            username: "joe".to_owned(),
            secret: Secret::new("hunter2"),
            kind: Kind::Password,
            origin: Origin::Given { name: "VAR".to_owned() },
        };
        let header = basic(&credentials).unwrap();
        assert_eq!(header.to_str().unwrap(), "Basic am9lOmh1bnRlcjI=");
        assert_eq!(format!("{header:?}"), "Sensitive");
    }

    #[test]
    fn messages_name_the_registry_the_user_and_the_place() {
        let wrong = TokenError::WrongCredentials {
            host: RegistryHost::new("ghcr.io"),
            username: "joe".to_owned(),
            origin: Origin::Given { name: "BK_SYNC_REGISTRY_PASSWORD".to_owned() },
            message: "denied".to_owned(),
        };
        assert_eq!(
            wrong.to_string(),
            "`ghcr.io` does not accept the credentials of `joe` from \
             `BK_SYNC_REGISTRY_PASSWORD`: denied"
        );
    }
}
