//! The `Authorization` header for a registry: which scheme it wants, and tokens that are got once,
//! shared, and renewed before they end.

use super::{
    challenge::Challenge,
    scope::{self, Scope},
    token::{TokenClient, TokenError, TokenRequest, basic},
};
use crate::credential::{Credentials, Kind, RegistryHost, Source};
use http::HeaderValue;
use std::{collections::HashMap, fmt, sync::Arc, time::Duration};
use tokio::{sync::Mutex, time::Instant};

/// A token with less life than this is renewed before it is used: a request may wait in a queue.
const MARGIN: Duration = Duration::from_secs(10);

/// Who we say we are to OAuth2 servers.
const CLIENT_ID: &str = "bk-sync";

/// Makes the header for one registry.
pub(super) struct Authorizer {
    host: RegistryHost,
    source: Arc<dyn Source>,
    tokens: TokenClient,
    /// Held while a token is fetched, so that many requests wait for one exchange.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    scheme: Option<Scheme>,
    tokens: HashMap<String, Held>,
}

#[derive(Clone)]
enum Scheme {
    Basic,
    Bearer { realm: String, service: String },
}

#[derive(Clone)]
struct Held {
    header: HeaderValue,
    until: Instant,
    refused: Vec<Scope>,
    /// Whether the token says itself that it is good for all that was asked for.
    grants: bool,
    user: Option<String>,
}

/// What a request was sent with, to be shown when the registry refuses it.
#[derive(Clone, Default)]
pub(super) struct Used(Option<HeaderValue>);

impl Used {
    /// The header, where there is one.
    pub(super) fn header(&self) -> Option<&HeaderValue> {
        self.0.as_ref()
    }
}

/// What is known of a write before it is tried.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Standing {
    /// The registry asked nobody who they are, and we are nobody in particular.
    Open,
    /// The token says that it is granted.
    Granted,
    /// Only trying tells.
    Unknown,
}

impl Authorizer {
    pub(super) fn new(host: RegistryHost, source: Arc<dyn Source>, tokens: TokenClient) -> Self {
        Self { host, source, tokens, state: Mutex::default() }
    }

    /// The header for a request that needs `scopes`; none before the registry has asked for one.
    pub(super) async fn header(&self, scopes: &[String]) -> Result<Used, TokenError> {
        let mut state = self.state.lock().await;
        self.make(&mut state, scopes).await
    }

    /// What is known of a write that needs `scopes`; a token is got for it where one is wanted.
    pub(super) async fn standing(&self, scopes: &[String]) -> Result<Standing, TokenError> {
        let mut state = self.state.lock().await;
        if state.scheme.is_none() {
            let is_anonymous = self.credentials().await.is_none();
            return Ok(if is_anonymous { Standing::Open } else { Standing::Unknown });
        }
        self.make(&mut state, scopes).await?;
        let is_granted = state.tokens.get(&key(scopes)).is_some_and(|held| held.grants);
        Ok(if is_granted { Standing::Granted } else { Standing::Unknown })
    }

    /// Hears a registry's `challenges` after a request with `used` was refused. Whether the same
    /// request may do better with a new header.
    pub(super) async fn refused(
        &self,
        used: &Used,
        challenges: &[Challenge],
        scopes: &[String],
    ) -> Result<bool, TokenError> {
        let mut state = self.state.lock().await;
        let known = state.scheme.is_some();
        if let Some(scheme) = scheme(challenges) {
            state.scheme = Some(scheme);
        }
        let key = key(scopes);
        match (state.scheme.clone(), used.header()) {
            // Somebody else has renewed it in the meantime.
            (Some(Scheme::Bearer { .. }), Some(sent)) => {
                // It is used no more, but what it lacks may be what it was refused for.
                if let Some(held) = state.tokens.get_mut(&key)
                    && held.header == *sent
                {
                    held.until = Instant::now();
                }
                Ok(true)
            }
            (None, _) | (Some(Scheme::Basic), Some(_)) => Ok(false),
            (Some(_), None) if known && self.make(&mut state, scopes).await?.0.is_none() => {
                Ok(false)
            }
            (Some(_), None) => Ok(true),
        }
    }

    /// What of `scopes` the token that we hold, or held last, is not good for, and whose token it is.
    pub(super) async fn missing(&self, scopes: &[String]) -> Option<(Vec<Scope>, Option<String>)> {
        let state = self.state.lock().await;
        let held = state.tokens.get(&key(scopes))?;
        Some((held.refused.clone(), held.user.clone()))
    }

    async fn make(&self, state: &mut State, scopes: &[String]) -> Result<Used, TokenError> {
        let Some(scheme) = state.scheme.clone() else { return Ok(Used(None)) };
        let (realm, service) = match scheme {
            Scheme::Basic => {
                let known = self.credentials().await;
                let header = known.as_ref().map(|known| match known.kind {
                    Kind::Password => basic(known),
                    Kind::IdentityToken | Kind::RegistryToken => bearer(known),
                });
                return Ok(Used(header.transpose()?));
            }
            Scheme::Bearer { realm, service } => (realm, service),
        };
        let key = key(scopes);
        if let Some(held) = state.tokens.get(&key)
            && held.until > Instant::now()
        {
            return Ok(Used(Some(held.header.clone())));
        }
        let credentials = self.credentials().await;
        let request = TokenRequest {
            host: self.host.clone(),
            realm,
            service,
            scopes: scopes.to_vec(),
            client_id: CLIENT_ID.to_owned(),
        };
        let asked = Instant::now();
        let token = self.tokens.fetch(&request, credentials.as_ref()).await?;
        let text = zeroize::Zeroizing::new(format!(
            "Bearer {}",
            token.value.expose_str().unwrap_or_default()
        ));
        let mut header = HeaderValue::from_str(&text).map_err(|_| TokenError::NotText)?;
        header.set_sensitive(true);
        let life = token.expires_in;
        let held = Held {
            header: header.clone(),
            until: asked + life.saturating_sub(MARGIN.max(life / 10)),
            grants: scope::grants(scopes, token.value.expose()),
            refused: token.refused,
            user: credentials.map(|known| known.username),
        };
        state.tokens.insert(key, held);
        Ok(Used(Some(header)))
    }

    async fn credentials(&self) -> Option<Credentials> {
        self.source.lookup(&self.host).await.credentials
    }
}

impl fmt::Debug for Authorizer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Authorizer").field("host", &self.host).finish_non_exhaustive()
    }
}

fn key(scopes: &[String]) -> String {
    scopes.join(" ")
}

fn bearer(known: &Credentials) -> Result<HeaderValue, TokenError> {
    let secret = known.secret.expose_str().ok_or(TokenError::NotText)?;
    let text = zeroize::Zeroizing::new(format!("Bearer {secret}"));
    let mut header = HeaderValue::from_str(&text).map_err(|_| TokenError::NotText)?;
    header.set_sensitive(true);
    Ok(header)
}

/// The scheme that we go by, of those that a registry offers: tokens before passwords.
fn scheme(challenges: &[Challenge]) -> Option<Scheme> {
    let bearer = challenges.iter().find(|one| one.scheme == "bearer").and_then(|one| {
        Some(Scheme::Bearer {
            realm: one.parameter("realm")?.to_owned(),
            service: one.parameter("service").unwrap_or_default().to_owned(),
        })
    });
    let basic = || challenges.iter().any(|one| one.scheme == "basic").then_some(Scheme::Basic);
    bearer.or_else(basic)
}

#[cfg(test)]
mod tests {
    use super::{Authorizer, Held, Scheme, Standing, Used, key, scheme};
    use crate::{
        credential::{Given, RegistryHost, Secret},
        registry::{challenge, token::TokenClient},
    };
    use http::HeaderValue;
    use std::{sync::Arc, time::Duration};
    use tokio::time::Instant;

    fn authorizer(known: &str) -> Authorizer {
        let given = Given::new(
            vec![RegistryHost::new(known)],
            "joe",
            Secret::new("pw"),
            "BK_SYNC_REGISTRY_PASSWORD",
        );
        let host = RegistryHost::new("r.example");
        Authorizer::new(host, Arc::new(given), TokenClient::new("bk-sync/test"))
    }

    #[test]
    fn tokens_go_before_passwords() {
        let of = |header: &str| scheme(&challenge::parse(header));
        let both = r#"Basic realm="a", Bearer realm="https://r/t",service="s""#;
        assert!(matches!(of(both), Some(Scheme::Bearer { .. })));
        assert!(matches!(of("Basic realm=\"a\""), Some(Scheme::Basic)));
        assert!(matches!(of("Bearer service=\"s\", Basic realm=b"), Some(Scheme::Basic)));
        assert!(of("Negotiate").is_none());
    }

    #[tokio::test]
    async fn a_password_is_sent_when_asked_for_and_its_refusal_is_final() {
        let authorizer = authorizer("r.example");
        let first = authorizer.header(&[]).await.unwrap();
        assert!(first.header().is_none(), "nothing is sent unasked");
        assert_eq!(authorizer.standing(&[]).await.unwrap(), Standing::Unknown);
        let challenges = challenge::parse("Basic realm=\"a\"");
        assert!(authorizer.refused(&first, &challenges, &[]).await.unwrap());
        let second = authorizer.header(&[]).await.unwrap();
        assert_eq!(second.header().unwrap().to_str().unwrap(), "Basic am9lOnB3");
        assert!(!authorizer.refused(&second, &challenges, &[]).await.unwrap());
    }

    #[tokio::test]
    async fn a_token_that_was_refused_still_tells_what_it_lacked() {
        let authorizer = authorizer("r.example");
        let scopes = ["repository:a:pull,push".to_owned()];
        let header = HeaderValue::from_static("Bearer t");
        let held = Held {
            header: header.clone(),
            until: Instant::now() + Duration::from_mins(5),
            refused: vec!["repository:a:push".parse().unwrap()],
            grants: false,
            user: Some("joe".to_owned()),
        };
        authorizer.state.lock().await.tokens.insert(key(&scopes), held);
        let challenges = challenge::parse(r#"Bearer realm="https://r/t""#);
        let used = Used(Some(header));
        assert!(authorizer.refused(&used, &challenges, &scopes).await.unwrap());
        let (missing, user) = authorizer.missing(&scopes).await.unwrap();
        assert_eq!(
            (missing[0].to_string(), user),
            ("repository:a:push".into(), Some("joe".into()))
        );
        let state = authorizer.state.lock().await;
        assert!(state.tokens[&key(&scopes)].until <= Instant::now(), "it is not sent again");
    }

    #[tokio::test]
    async fn the_anonymous_are_asked_once() {
        let authorizer = authorizer("other.example");
        let challenges = challenge::parse("Basic realm=\"a\"");
        assert_eq!(authorizer.standing(&[]).await.unwrap(), Standing::Open);
        let none = authorizer.header(&[]).await.unwrap();
        assert!(authorizer.refused(&none, &challenges, &[]).await.unwrap());
        assert!(!authorizer.refused(&none, &challenges, &[]).await.unwrap());
    }
}
