//! Whether somebody may push to a repository, asked before there is anything to push: an upload is
//! opened and cancelled. Where the token itself says that pushes are granted, nothing is opened.

use super::{
    answer, challenge,
    scope::{self, Scope},
    token::{TokenClient, TokenError, TokenRequest, basic, is_loopback, to_send},
};
use crate::credential::{Credentials, Kind, RegistryHost};
use http::{HeaderValue, StatusCode, header};
use reqwest::Response;
use url::Url;
use zeroize::Zeroizing;

/// A build is not held up for longer: the builder may reach a registry that we do not.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(5);

/// Why a push is refused, or why nothing can be said of it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProbeError {
    /// The registry was not reached, or answered with something else than yes or no.
    #[error("`{host}` cannot be asked whether pushes are allowed: {cause}")]
    Inconclusive {
        /// The registry.
        host: RegistryHost,
        /// What was seen.
        cause: String,
    },
    /// The registry says no.
    #[error("`{host}` refuses uploads to `{repository}` with {status}{}", Said(message))]
    Refused {
        /// The registry.
        host: RegistryHost,
        /// The repository.
        repository: String,
        /// The HTTP status.
        status: u16,
        /// Its words; may be empty.
        message: String,
    },
    /// The token is good for less than a push.
    #[error("`{host}` does not grant `{scope}`")]
    ScopeRefused {
        /// The registry.
        host: RegistryHost,
        /// What is missing.
        scope: Scope,
    },
    /// There is no token.
    #[error(transparent)]
    Token(TokenError),
}

struct Said<'a>(&'a str);

impl std::fmt::Display for Said<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(formatter, ": {}", self.0) }
    }
}

/// Asks whether `credentials`, or nobody in particular, may push to `repository` at `host`. Where the
/// repository `is_known` to have taken a push from here, a registry that is open to all is not asked
/// again.
///
/// # Errors
/// They may not, or it cannot be known: see [`ProbeError`].
pub async fn may_push(
    tokens: &TokenClient,
    host: &RegistryHost,
    repository: &str,
    credentials: Option<&Credentials>,
    is_known: bool,
) -> Result<(), ProbeError> {
    let probe = Probe { tokens, host, repository, credentials };
    if is_known && credentials.is_none() && probe.is_open().await {
        return Ok(());
    }
    tokio::time::timeout(LIMIT, probe.ask()).await.unwrap_or_else(|_| {
        Err(probe.inconclusive(format!("no answer within {} s", LIMIT.as_secs())))
    })
}

struct Probe<'a> {
    tokens: &'a TokenClient,
    host: &'a RegistryHost,
    repository: &'a str,
    credentials: Option<&'a Credentials>,
}

impl Probe<'_> {
    async fn ask(&self) -> Result<(), ProbeError> {
        let (url, answer) = self.reach().await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return self.judge(answer, None).await;
        }
        let Some(authorization) = self.authorize(&answer).await? else { return Ok(()) };
        let answer = self.open(&url, Some(&authorization)).await?;
        self.judge(answer, Some(&authorization)).await
    }

    /// Whether the registry lets anybody in, in plain text on this machine or over TLS.
    async fn is_open(&self) -> bool {
        let ping = async |scheme: &str| {
            let url: Url = format!("{scheme}://{}/v2/", self.host).parse().ok()?;
            if scheme == "http" && !is_loopback(&url) {
                return None;
            }
            let answer = self.tokens.client(&url).ok()?.get(url).send().await.ok()?;
            Some(answer.status() == StatusCode::OK)
        };
        match ping("http").await {
            Some(is_open) => is_open,
            None => ping("https").await.unwrap_or(false),
        }
    }

    /// Opens an upload as nobody, in the way that the registry can be reached: over TLS, and on
    /// this machine in plain text too.
    async fn reach(&self) -> Result<(Url, Response), ProbeError> {
        let name = match self.host.as_str() {
            "docker.io" => "registry-1.docker.io",
            name => name,
        };
        let url = |scheme: &str| {
            let text = format!("{scheme}://{name}/v2/{}/blobs/uploads/", self.repository);
            text.parse::<Url>().map_err(|error| self.inconclusive(error.to_string()))
        };
        let plain = url("http")?;
        if is_loopback(&plain)
            && let Ok(answer) = self.open(&plain, None).await
            && answer.status() != StatusCode::BAD_REQUEST
        {
            return Ok((plain, answer));
        }
        let url = url("https")?;
        let answer = self.open(&url, None).await?;
        Ok((url, answer))
    }

    async fn open(
        &self,
        url: &Url,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, ProbeError> {
        let client = self.tokens.client(url).map_err(ProbeError::Token)?;
        let mut call = client.post(url.clone()).header(header::CONTENT_LENGTH, "0");
        if let Some(value) = authorization {
            call = call.header(header::AUTHORIZATION, value);
        }
        call.send()
            .await
            .map_err(|error| self.inconclusive(super::token::causes(&error.without_url())))
    }

    /// What the registry's challenge wants; nothing where the token says that all is granted.
    async fn authorize(&self, answer: &Response) -> Result<Option<HeaderValue>, ProbeError> {
        let headers = answer.headers().get_all(header::WWW_AUTHENTICATE).iter();
        let challenges: Vec<_> =
            headers.filter_map(|header| header.to_str().ok()).flat_map(challenge::parse).collect();
        let of = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme == scheme);
        if let Some(challenge) = of("bearer") {
            let text = |name| challenge.parameter(name).unwrap_or_default().to_owned();
            let request = TokenRequest {
                host: self.host.clone(),
                realm: text("realm"),
                service: text("service"),
                scopes: vec![format!("repository:{}:pull,push", self.repository)],
                client_id: "bk-sync".to_owned(),
            };
            let token = self.tokens.fetch(&request, self.credentials).await;
            let token = token.map_err(ProbeError::Token)?;
            let push = |scope: &&Scope| scope.actions.contains("push");
            if let Some(scope) = token.refused.iter().find(push) {
                let (host, scope) = (self.host.clone(), scope.clone());
                return Err(ProbeError::ScopeRefused { host, scope });
            }
            if scope::grants(&request.scopes, token.value.expose()) {
                return Ok(None);
            }
            let mut text = Zeroizing::new(b"Bearer ".to_vec());
            text.extend_from_slice(token.value.expose());
            return Ok(Some(to_send(&text).map_err(ProbeError::Token)?));
        }
        match (of("basic"), self.credentials) {
            (Some(_), Some(known)) if known.kind == Kind::Password => {
                Ok(Some(basic(known).map_err(ProbeError::Token)?))
            }
            (Some(_), _) => Err(ProbeError::Token(TokenError::NoCredentials {
                host: self.host.clone(),
                message: String::new(),
            })),
            (None, _) => Err(self.inconclusive("it wants an unknown kind of login".to_owned())),
        }
    }

    async fn judge(
        &self,
        answer: Response,
        authorization: Option<&HeaderValue>,
    ) -> Result<(), ProbeError> {
        let status = answer.status();
        if status == StatusCode::ACCEPTED {
            self.cancel(&answer, authorization).await;
            return Ok(());
        }
        let body = answer.bytes().await.unwrap_or_default();
        let message = answer::message(&body);
        match (status, self.credentials) {
            (StatusCode::UNAUTHORIZED, Some(known)) => {
                Err(ProbeError::Token(TokenError::WrongCredentials {
                    host: self.host.clone(),
                    username: known.username.clone(),
                    origin: known.origin.clone(),
                    message,
                }))
            }
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND, _) => {
                Err(ProbeError::Refused {
                    host: self.host.clone(),
                    repository: self.repository.to_owned(),
                    status: status.as_u16(),
                    message,
                })
            }
            _ => Err(self.inconclusive(format!("it answered {status}"))),
        }
    }

    /// Gives the upload up. A registry that does not let us forgets it by itself.
    async fn cancel(&self, answer: &Response, authorization: Option<&HeaderValue>) {
        let location = answer.headers().get(header::LOCATION).and_then(|at| at.to_str().ok());
        let Some(url) = location.and_then(|location| answer.url().join(location).ok()) else {
            return;
        };
        // Elsewhere, our authorization is nobody's business.
        if url.origin() != answer.url().origin() {
            return;
        }
        let Ok(client) = self.tokens.client(&url) else { return };
        let mut call = client.delete(url);
        if let Some(value) = authorization {
            call = call.header(header::AUTHORIZATION, value);
        }
        if let Err(error) = call.send().await {
            tracing::debug!(host = %self.host, %error, "an upload could not be cancelled");
        }
    }

    fn inconclusive(&self, cause: String) -> ProbeError {
        ProbeError::Inconclusive { host: self.host.clone(), cause }
    }
}
