//! Credentials for registries, lent to the builder.
//!
//! A registry that wants a bearer token costs no password: the builder asks us for a *token
//! authority*, a public key that only a client with the same seed can prove, and then has us fetch
//! each token. Only for registries with Basic authentication does the password itself travel, since
//! every request needs it.

use super::Attachable;
use crate::{
    credential::{Credentials, Kind, Secret},
    proto::moby::filesync::v1::{
        CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse,
        GetTokenAuthorityRequest, GetTokenAuthorityResponse, VerifyTokenAuthorityRequest,
        VerifyTokenAuthorityResponse,
        auth_server::{self, AuthServer},
    },
};
use rand::Rng as _;
use ring::{
    hmac,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};
use tonic::{Code, Request, Response, Status, service::RoutesBuilder};
use zeroize::Zeroizing;

/// Who knows credentials and can exchange them for tokens. Given to the session, which knows
/// neither Docker's config nor HTTP.
#[tonic::async_trait]
pub trait RegistryAuth: Send + Sync + 'static {
    /// What is known of the registry at `host` (`ghcr.io`, `registry-1.docker.io`,
    /// `127.0.0.1:5000`); nothing means anonymous access.
    async fn credentials(&self, host: &str) -> Option<Credentials>;

    /// Exchanges the registry's credentials, or their absence, for a token.
    async fn token(&self, wanted: TokenWanted) -> Result<TokenLent, AuthRefused>;
}

/// What the builder wants a token for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TokenWanted {
    /// The registry, as the builder calls it.
    pub host: String,
    /// The token server's URL.
    pub realm: String,
    /// The service, from the registry's challenge.
    pub service: String,
    /// Such as `repository:NAME:pull,push`.
    pub scopes: Vec<String>,
    /// Who the builder says it is.
    pub client_id: String,
}

/// A token for the builder.
#[derive(Clone, Debug)]
pub struct TokenLent {
    /// The token.
    pub value: Secret,
    /// How long it is good for, from `issued_at`.
    pub expires_in: Duration,
    /// When it was made, where that is known.
    pub issued_at: Option<SystemTime>,
}

/// Why there is no token. The text travels to the builder and comes back in its error.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct AuthRefused {
    /// The kind of refusal.
    pub code: Code,
    /// What to tell; free of secrets.
    pub message: String,
}

/// The Auth service.
#[derive(Clone)]
pub struct Auth {
    inner: Arc<Inner>,
}

struct Inner {
    lender: Box<dyn RegistryAuth>,
    /// Random, and of this process only: with it the builder cannot work a password out from the
    /// keys that it is shown, and nothing needs to be kept on disk.
    seed: Zeroizing<[u8; 32]>,
    /// Registries that have been seen to use tokens; their passwords are not handed out.
    with_tokens: Mutex<HashSet<String>>,
}

impl Auth {
    /// Lends what `lender` knows.
    pub fn new(lender: impl RegistryAuth) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rand::rng().fill(&mut *seed);
        let with_tokens = Mutex::default();
        Self { inner: Arc::new(Inner { lender: Box::new(lender), seed, with_tokens }) }
    }

    /// The key that stands for our credentials for `host`. Without credentials it depends on the
    /// builder's salt alone, so that anonymous tokens are shared among all clients.
    async fn authority(&self, host: &str, salt: &[u8]) -> Result<Ed25519KeyPair, Status> {
        let known = self.inner.lender.credentials(host).await;
        let mut mac = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, salt));
        if known.is_some() {
            mac.update(&*self.inner.seed);
            mac.update(host.as_bytes());
        }
        Ed25519KeyPair::from_seed_unchecked(mac.sign().as_ref())
            .map_err(|_| Status::internal("a digest is no seed for a key"))
    }

    fn uses_tokens(&self, host: &str) -> bool {
        self.inner.with_tokens.lock().unwrap_or_else(PoisonError::into_inner).contains(host)
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Auth")
    }
}

impl Attachable for Auth {
    fn methods(&self) -> &'static [&'static str] {
        &[
            "/moby.filesync.v1.Auth/Credentials",
            "/moby.filesync.v1.Auth/FetchToken",
            "/moby.filesync.v1.Auth/GetTokenAuthority",
            "/moby.filesync.v1.Auth/VerifyTokenAuthority",
        ]
    }

    fn register(self: Box<Self>, routes: &mut RoutesBuilder) {
        routes.add_service(AuthServer::new(*self));
    }
}

#[tonic::async_trait]
impl auth_server::Auth for Auth {
    async fn credentials(
        &self,
        request: Request<CredentialsRequest>,
    ) -> Result<Response<CredentialsResponse>, Status> {
        let host = request.into_inner().host;
        // The builder asks this of registries with tokens too, to see whether another client's
        // connection may be shared; an answer that does not match means no.
        if self.uses_tokens(&host) {
            return Ok(Response::new(CredentialsResponse::default()));
        }
        let known = self.inner.lender.credentials(&host).await;
        // The other kinds mean nothing to Basic authentication.
        let Some(known) = known.filter(|known| known.kind == Kind::Password) else {
            return Ok(Response::new(CredentialsResponse::default()));
        };
        tracing::debug!(host, origin = %known.origin, "credentials lent to the builder");
        let secret = known.secret.expose_str().unwrap_or_default().to_owned();
        Ok(Response::new(CredentialsResponse { username: known.username, secret }))
    }

    async fn fetch_token(
        &self,
        request: Request<FetchTokenRequest>,
    ) -> Result<Response<FetchTokenResponse>, Status> {
        let FetchTokenRequest { client_id, host, realm, service, scopes } = request.into_inner();
        tracing::debug!(host, ?scopes, "token fetched for the builder");
        let wanted = TokenWanted { host, realm, service, scopes, client_id };
        let lent = self.inner.lender.token(wanted).await;
        let lent = lent.map_err(|refused| Status::new(refused.code, refused.message))?;
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        let issued_at =
            lent.issued_at.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        Ok(Response::new(FetchTokenResponse {
            token: lent.value.expose_str().unwrap_or_default().to_owned(),
            expires_in: seconds(lent.expires_in),
            issued_at: issued_at.map_or(0, seconds),
        }))
    }

    async fn get_token_authority(
        &self,
        request: Request<GetTokenAuthorityRequest>,
    ) -> Result<Response<GetTokenAuthorityResponse>, Status> {
        let GetTokenAuthorityRequest { host, salt } = request.into_inner();
        let key = self.authority(&host, &salt).await?;
        self.inner.with_tokens.lock().unwrap_or_else(PoisonError::into_inner).insert(host);
        let public_key = key.public_key().as_ref().to_vec();
        Ok(Response::new(GetTokenAuthorityResponse { public_key }))
    }

    async fn verify_token_authority(
        &self,
        request: Request<VerifyTokenAuthorityRequest>,
    ) -> Result<Response<VerifyTokenAuthorityResponse>, Status> {
        let VerifyTokenAuthorityRequest { host, payload, salt } = request.into_inner();
        let key = self.authority(&host, &salt).await?;
        // As NaCl signs: the signature, then what it signs.
        let mut signed = key.sign(&payload).as_ref().to_vec();
        signed.extend_from_slice(&payload);
        Ok(Response::new(VerifyTokenAuthorityResponse { signed }))
    }
}

#[cfg(test)]
mod tests {
    use super::{Auth, AuthRefused, RegistryAuth, TokenLent, TokenWanted};
    use crate::{
        credential::{Credentials, Kind, Origin, Secret},
        proto::moby::filesync::v1::{
            CredentialsRequest, FetchTokenRequest, GetTokenAuthorityRequest,
            VerifyTokenAuthorityRequest, auth_server::Auth as _,
        },
    };
    use ring::signature::{ED25519, UnparsedPublicKey};
    use std::time::{Duration, SystemTime};
    use tonic::{Code, Request};

    struct Lender;

    #[tonic::async_trait]
    impl RegistryAuth for Lender {
        async fn credentials(&self, host: &str) -> Option<Credentials> {
            let kind = match host {
                "anonymous" => return None,
                "identity" => Kind::IdentityToken,
                _ => Kind::Password,
            };
            let origin = Origin::Given { name: "VAR".to_owned() };
            Some(Credentials {
                username: "joe".to_owned(),
                secret: Secret::new("pw"),
                kind,
                origin,
            })
        }

        async fn token(&self, wanted: TokenWanted) -> Result<TokenLent, AuthRefused> {
            if wanted.scopes == ["repository:a:pull"] {
                let issued_at = SystemTime::UNIX_EPOCH + Duration::from_secs(7);
                return Ok(TokenLent {
                    value: Secret::new("token"),
                    expires_in: Duration::from_mins(5),
                    issued_at: Some(issued_at),
                });
            }
            let message = "no push".to_owned();
            Err(AuthRefused { code: Code::PermissionDenied, message })
        }
    }

    async fn key(auth: &Auth, host: &str, salt: &[u8]) -> Vec<u8> {
        let request = GetTokenAuthorityRequest { host: host.to_owned(), salt: salt.to_vec() };
        auth.get_token_authority(Request::new(request)).await.unwrap().into_inner().public_key
    }

    async fn signed(auth: &Auth, host: &str, salt: &[u8]) -> Vec<u8> {
        let request = VerifyTokenAuthorityRequest {
            host: host.to_owned(),
            payload: b"payload".to_vec(),
            salt: salt.to_vec(),
        };
        auth.verify_token_authority(Request::new(request)).await.unwrap().into_inner().signed
    }

    async fn password(auth: &Auth, host: &str) -> (String, String) {
        let request = Request::new(CredentialsRequest { host: host.to_owned() });
        let answer = auth.credentials(request).await.unwrap().into_inner();
        (answer.username, answer.secret)
    }

    #[tokio::test]
    async fn the_authority_can_prove_itself() {
        let auth = Auth::new(Lender);
        let key = UnparsedPublicKey::new(&ED25519, key(&auth, "a", b"salt").await);
        let signed = signed(&auth, "a", b"salt").await;
        let (signature, payload) = signed.split_at(64);
        assert_eq!(payload, b"payload");
        key.verify(payload, signature).unwrap();
    }

    #[tokio::test]
    async fn authorities_differ_by_process_host_and_salt_but_not_for_the_anonymous() {
        let (one, other) = (Auth::new(Lender), Auth::new(Lender));
        let first = key(&one, "a", b"salt").await;
        assert_eq!(first, key(&one, "a", b"salt").await);
        assert_ne!(first, key(&other, "a", b"salt").await);
        assert_ne!(first, key(&one, "b", b"salt").await);
        assert_ne!(first, key(&one, "a", b"pepper").await);
        assert_eq!(key(&one, "anonymous", b"s").await, key(&other, "anonymous", b"s").await);
    }

    #[tokio::test]
    async fn a_password_goes_out_for_basic_registries_only() {
        let auth = Auth::new(Lender);
        assert_eq!(password(&auth, "a").await, ("joe".to_owned(), "pw".to_owned()));
        key(&auth, "a", b"salt").await;
        assert_eq!(password(&auth, "a").await, <(String, String)>::default());
        assert_eq!(password(&auth, "identity").await, <(String, String)>::default());
        assert_eq!(password(&auth, "anonymous").await, <(String, String)>::default());
    }

    #[tokio::test]
    async fn tokens_are_lent_with_their_life_and_refusals_with_their_reason() {
        let auth = Auth::new(Lender);
        let fetch = |scope: &str| {
            let scopes = vec![scope.to_owned()];
            auth.fetch_token(Request::new(FetchTokenRequest { scopes, ..Default::default() }))
        };
        let lent = fetch("repository:a:pull").await.unwrap().into_inner();
        assert_eq!((lent.token.as_str(), lent.expires_in, lent.issued_at), ("token", 300, 7));
        let refused = fetch("repository:a:push").await.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (Code::PermissionDenied, "no push"));
    }
}
