//! Credentials for the builder: what `credential` finds and `registry` exchanges, as the session
//! lends it.

use crate::{
    buildkit::session::{AuthRefused, RegistryAuth, TokenLent, TokenWanted},
    credential::{Chain, Credentials, Lookup, Problem, RegistryHost, Source},
    event::{Event, Events, Warning},
    registry::{
        Reach, Server,
        scope::Scope,
        token::{TokenClient, TokenError, TokenRequest},
    },
};
use futures::future::BoxFuture;
use std::sync::{Arc, Mutex, PoisonError};
use tonic::Code;

/// Who we say we are to registries.
const USER_AGENT: &str = concat!("bk-sync/", env!("CARGO_PKG_VERSION"));

/// Lends credentials and keeps what went wrong. Cheap to clone: one goes to the session, one stays
/// to explain a push that failed.
#[derive(Clone, Debug)]
pub struct Login {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    chain: Chain,
    tokens: TokenClient,
    events: Events,
    failures: Mutex<Vec<LoginFailure>>,
}

/// Something that stood between us and a registry. The builder's own error says less.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LoginFailure {
    /// A place that should know credentials gave none.
    #[error("{problem}")]
    Source {
        /// The registry that they were wanted for.
        host: RegistryHost,
        /// What is wrong with the place.
        problem: Arc<Problem>,
    },
    /// The token is good for less than was asked.
    #[error("`{host}` does not grant `{scope}`{}", as_whom(user.as_deref()))]
    ScopeRefused {
        /// The registry.
        host: RegistryHost,
        /// What is missing.
        scope: Scope,
        /// The user whom it is not granted to; none for anonymous access.
        user: Option<String>,
    },
    /// There was no token.
    #[error(transparent)]
    Token(TokenError),
}

fn as_whom(user: Option<&str>) -> String {
    match user {
        None => " to the anonymous".to_owned(),
        Some("") => String::new(),
        Some(user) => format!(" to `{user}`"),
    }
}

impl LoginFailure {
    /// The registry that it is about, where it is about one.
    pub fn host(&self) -> Option<&RegistryHost> {
        match self {
            Self::Source { host, .. } | Self::ScopeRefused { host, .. } => Some(host),
            Self::Token(error) => error.host(),
        }
    }

    /// Whether the registry, or its token server, has said no.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Source { .. } => false,
            Self::ScopeRefused { .. } => true,
            Self::Token(error) => matches!(
                error,
                TokenError::Denied { .. }
                    | TokenError::NoCredentials { .. }
                    | TokenError::WrongCredentials { .. }
            ),
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Source { problem, .. } => problem.hint(),
            Self::ScopeRefused { host, user: None, .. }
            | Self::Token(TokenError::NoCredentials { host, .. }) => format!(
                "log in with `docker login {host}`, or set `BK_SYNC_REGISTRY_USERNAME` and \
                 `BK_SYNC_REGISTRY_PASSWORD`"
            ),
            Self::ScopeRefused { host, .. } | Self::Token(TokenError::Denied { host, .. }) => {
                let scope = match host.as_str() {
                    "ghcr.io" => " (a token there needs the scope `write:packages`)",
                    _ => "",
                };
                format!("give the user or token write access to this repository at `{host}`{scope}")
            }
            Self::Token(TokenError::WrongCredentials { host, origin, .. }) => origin.renewal(host),
            Self::Token(_) => "check the registry's address and the network".to_owned(),
        }
    }
}

impl Login {
    /// Lends what `chain` finds, exchanged by `tokens`. Warnings go to `events` as they arise.
    pub fn new(chain: Chain, tokens: TokenClient, events: Events) -> Self {
        let failures = Mutex::default();
        Self { inner: Arc::new(Inner { chain, tokens, events, failures }) }
    }

    /// What stood in the way so far, in the order in which it came up.
    pub fn failures(&self) -> Vec<LoginFailure> {
        self.inner.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What explains best that `host` refused us: its own refusal, else a helper that should have
    /// known credentials for it.
    pub fn explanation(&self, host: &RegistryHost) -> Option<LoginFailure> {
        let about = |failure: &LoginFailure| {
            let loss =
                !matches!(failure, LoginFailure::Source { problem, .. } if !problem.is_loss());
            loss && failure.host().is_none_or(|named| named == host)
        };
        let failures = self.failures();
        let mut known = failures.into_iter().filter(about).collect::<Vec<_>>();
        let refused = known.iter().rposition(LoginFailure::is_refusal);
        match refused {
            Some(at) => Some(known.swap_remove(at)),
            None => known.pop(),
        }
    }

    /// What stood in the way of finding credentials for `host`.
    pub fn loss(&self, host: &RegistryHost) -> Option<LoginFailure> {
        let of_source = |failure: &LoginFailure| match failure {
            LoginFailure::Source { host: named, problem } => named == host && problem.is_loss(),
            _ => false,
        };
        self.failures().into_iter().find(of_source)
    }

    /// Whether there are credentials for `host`.
    pub async fn knows(&self, host: &RegistryHost) -> bool {
        self.find(host).await.is_some()
    }

    /// A registry that this process speaks to itself, as whom we are there.
    pub fn server(&self, host: RegistryHost, reach: Reach) -> Arc<Server> {
        Server::new(host, reach, Arc::new(self.clone()), &self.inner.tokens, USER_AGENT)
    }

    async fn find(&self, host: &RegistryHost) -> Option<Credentials> {
        let Lookup { credentials, problems, .. } = self.inner.chain.lookup(host).await;
        for problem in problems {
            let code = problem.code();
            self.note(LoginFailure::Source { host: host.clone(), problem }, Some(code));
        }
        credentials
    }

    /// Gives back what was lent to us. To be called in every ending, and last: nothing is lent
    /// after it.
    pub async fn release(&self) {
        for problem in self.inner.chain.release().await {
            self.inner.events.emit(Event::Warning(Warning {
                code: problem.code(),
                message: problem.to_string(),
                hint: Some(problem.hint()),
            }));
        }
    }

    /// Keeps a failure, and warns of it if it has a code; of each only once, since the builder asks
    /// many times.
    fn note(&self, failure: LoginFailure, warning: Option<&'static str>) {
        let (text, hint) = (failure.to_string(), failure.hint());
        let told = {
            let mut failures = self.inner.failures.lock().unwrap_or_else(PoisonError::into_inner);
            let mut same = failures.iter().filter(|known| known.to_string() == text).peekable();
            let told = same.peek().is_some();
            if same.any(|known| known.host() == failure.host()) {
                return;
            }
            failures.push(failure);
            told
        };
        if let Some(code) = warning
            && !told
        {
            let warning = Warning { code, message: text, hint: Some(hint) };
            self.inner.events.emit(Event::Warning(warning));
        }
    }
}

impl Source for Login {
    fn lookup<'a>(&'a self, host: &'a RegistryHost) -> BoxFuture<'a, Lookup> {
        // Problems are noted on the way.
        Box::pin(async move { Lookup { credentials: self.find(host).await, ..Lookup::default() } })
    }
}

#[tonic::async_trait]
impl RegistryAuth for Login {
    async fn credentials(&self, host: &str) -> Option<Credentials> {
        self.find(&RegistryHost::new(host)).await
    }

    async fn token(&self, wanted: TokenWanted) -> Result<TokenLent, AuthRefused> {
        let TokenWanted { host, realm, service, scopes, client_id } = wanted;
        let host = RegistryHost::new(&host);
        let credentials = self.find(&host).await;
        let request = TokenRequest { host, realm, service, scopes, client_id };
        let token = match self.inner.tokens.fetch(&request, credentials.as_ref()).await {
            Ok(token) => token,
            Err(error) => {
                let refused = AuthRefused { code: code(&error), message: error.to_string() };
                self.note(LoginFailure::Token(error), None);
                return Err(refused);
            }
        };
        // A builder also asks to read repositories that it might mount layers from; there, a no
        // costs nothing.
        for scope in token.refused.iter().filter(|scope| scope.actions.contains("push")) {
            let failure = LoginFailure::ScopeRefused {
                host: request.host.clone(),
                scope: scope.clone(),
                user: credentials.as_ref().map(|known| known.username.clone()),
            };
            self.note(failure, Some("SCOPE_REFUSED"));
        }
        Ok(TokenLent {
            value: token.value,
            expires_in: token.expires_in,
            issued_at: token.issued_at,
        })
    }
}

fn code(error: &TokenError) -> Code {
    match error {
        TokenError::NoCredentials { .. } | TokenError::WrongCredentials { .. } => {
            Code::Unauthenticated
        }
        TokenError::Denied { .. } | TokenError::InsecureRealm { .. } => Code::PermissionDenied,
        _ => Code::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::{Login, LoginFailure};
    use crate::{
        buildkit::session::{RegistryAuth as _, TokenWanted},
        credential::{Chain, DockerConfig, Given, RegistryHost, Secret},
        event::{Event, Events},
        registry::token::{TokenClient, TokenError},
    };
    use std::sync::{Arc, Mutex};
    use tonic::Code;

    fn login(chain: Chain) -> (Login, Arc<Mutex<Vec<Event>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = seen.clone();
        let events = Events::new(move |event| sink.lock().unwrap().push(event));
        (Login::new(chain, TokenClient::new("bk-sync/test"), events), seen)
    }

    #[tokio::test]
    async fn a_missing_helper_is_warned_of_once_and_stops_nothing() {
        let config = DockerConfig::parse(br#"{"credsStore":"desktop"}"#, "/c", "").unwrap();
        let host = RegistryHost::new("docker.io");
        let given = Given::new(vec![host], "joe", Secret::new("pw"), "VAR");
        let (login, seen) = login(Chain::new().with(config).with(given));
        for _ in 0..3 {
            let found = login.credentials("registry-1.docker.io").await.unwrap();
            assert_eq!(found.username, "joe");
        }
        let seen = seen.lock().unwrap();
        assert_eq!(seen.len(), 1);
        let Event::Warning(warning) = &seen[0] else { panic!("{seen:?}") };
        assert_eq!(warning.code, "CREDENTIAL_HELPER");
        assert!(warning.hint.as_ref().unwrap().contains("install `docker-credential-desktop`"));
    }

    #[tokio::test]
    async fn a_refusal_explains_more_than_a_missing_helper_and_another_registry_nothing() {
        let config = DockerConfig::parse(br#"{"credsStore":"desktop"}"#, "/c", "").unwrap();
        let (login, _) = login(Chain::new().with(config));
        let host = RegistryHost::new("ghcr.io");
        login.credentials("ghcr.io").await;
        assert!(matches!(login.explanation(&host), Some(LoginFailure::Source { .. })));
        assert!(login.explanation(&RegistryHost::new("quay.io")).is_none());
        let message = String::new();
        let refused = TokenError::NoCredentials { host: host.clone(), message };
        login.note(LoginFailure::Token(refused), None);
        let other = TokenError::Malformed { server: "https://quay.io".to_owned() };
        login.note(LoginFailure::Token(other), None);
        let found = login.explanation(&host);
        assert!(matches!(found, Some(LoginFailure::Token(TokenError::NoCredentials { .. }))));
    }

    #[tokio::test]
    async fn a_password_is_not_sent_in_plain_text_and_the_failure_is_kept() {
        let host = RegistryHost::new("ghcr.io");
        let given = Given::new(vec![host], "joe", Secret::new("pw"), "VAR");
        let (login, _) = login(Chain::new().with(given));
        let wanted = TokenWanted {
            host: "ghcr.io".to_owned(),
            realm: "http://token.example/".to_owned(),
            service: String::new(),
            scopes: Vec::new(),
            client_id: String::new(),
        };
        let refused = login.token(wanted).await.unwrap_err();
        assert_eq!(refused.code, Code::PermissionDenied);
        let failures = login.failures();
        assert!(matches!(failures[..], [LoginFailure::Token(TokenError::InsecureRealm { .. })]));
    }
}
