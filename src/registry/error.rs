//! Why a registry did not do what it was asked, as data: what was tried, what came back, what it
//! means, and what mends it.

use super::{answer, scope::Scope, token::TokenError};
use crate::credential::RegistryHost;
use http::StatusCode;
use std::{
    fmt,
    ops::{Deref, DerefMut},
    time::Duration,
};
use url::Url;

/// A request that failed. It reads as its [`Failed`].
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", self.sentence())]
pub struct RegistryError(Box<Failed>);

impl Deref for RegistryError {
    type Target = Failed;

    fn deref(&self) -> &Failed {
        &self.0
    }
}

impl DerefMut for RegistryError {
    fn deref_mut(&mut self) -> &mut Failed {
        &mut self.0
    }
}

impl From<Failed> for RegistryError {
    fn from(failed: Failed) -> Self {
        Self(Box::new(failed))
    }
}

/// A request that failed, with what is known of it.
#[derive(Clone, Debug)]
pub struct Failed {
    /// The registry.
    pub host: RegistryHost,
    /// The repository; empty where the request was about none.
    pub repository: String,
    /// What was tried, in a few words: `send a blob`.
    pub action: &'static str,
    /// Method and URL, less what nobody may see of it.
    pub request: String,
    /// The HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// The registry's own code, such as `DENIED`.
    pub code: Option<String>,
    /// The registry's or the system's own words; may be empty.
    pub words: String,
    /// How long the registry asks us to wait.
    pub retry_after: Option<Duration>,
    /// What it means.
    pub kind: Kind,
}

/// What a failed request means.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Kind {
    /// A blob that a manifest names is not in the repository.
    BlobMissing,
    /// The connection broke in the middle.
    Broken,
    /// The registry knows us, and says no.
    Denied,
    /// What arrived does not have the digest that was said.
    DigestWrong,
    /// The registry sent us to another host for an upload, and that host does not take it.
    ForeignLocation,
    /// The answer is none that the distribution API knows.
    Malformed,
    /// What was asked for is not there.
    NotFound,
    /// There is no room left for this user or repository.
    Quota,
    /// A body's range is not what the registry goes on from, or larger than it takes.
    RangeRefused,
    /// The token is good for less than was asked.
    ScopeRefused {
        /// What is missing.
        scope: Scope,
        /// Who we are; none for the anonymous.
        user: Option<String>,
    },
    /// The registry, or what stands before it, failed.
    ServerFailed,
    /// What is to be sent cannot be read, or is not what its digest says.
    Source,
    /// Nothing moved for too long.
    Stalled,
    /// Too many requests.
    Throttled,
    /// No token.
    Token(TokenError),
    /// The body is larger than the registry, or what stands before it, takes.
    TooLarge,
    /// The registry does not take our credentials, or wants some.
    Unauthorized,
    /// Nobody answers there.
    Unreachable,
    /// The registry does not know this upload any more.
    UploadLost,
    /// The server's certificate is not trusted.
    Untrusted,
    /// The registry refuses what was sent.
    Refused,
}

impl RegistryError {
    /// Whether the same may work later.
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, Kind::Broken | Kind::ServerFailed | Kind::Stalled | Kind::Throttled)
            || matches!(
                &self.kind,
                Kind::Token(
                    TokenError::Unreachable { .. }
                        | TokenError::Unexpected { status: 429 | 500..=599, .. }
                )
            )
    }

    /// Whether nobody answered at all.
    pub fn is_unreachable(&self) -> bool {
        matches!(self.kind, Kind::Unreachable)
    }

    /// Whether nobody answered, at the registry or at its token server.
    pub fn is_away(&self) -> bool {
        matches!(self.kind, Kind::Unreachable | Kind::Token(TokenError::Unreachable { .. }))
    }

    /// Whether we are told no, so that trying again as the same user tells nothing new.
    pub fn is_refusal(&self) -> bool {
        match &self.kind {
            Kind::Denied
            | Kind::NotFound
            | Kind::Quota
            | Kind::ScopeRefused { .. }
            | Kind::Unauthorized => true,
            Kind::Token(error) => matches!(
                error,
                TokenError::Denied { .. }
                    | TokenError::InsecureRealm { .. }
                    | TokenError::NoCredentials { .. }
                    | TokenError::WrongCredentials { .. }
            ),
            _ => false,
        }
    }

    /// Whether the registry said that it is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self.kind, Kind::NotFound)
    }

    /// A stable name for it, `SCREAMING_SNAKE`.
    pub fn diagnostic_code(&self) -> &'static str {
        match &self.kind {
            Kind::Denied | Kind::ScopeRefused { .. } | Kind::Unauthorized => "PUSH_DENIED",
            Kind::Token(error) => match error {
                TokenError::Denied { .. }
                | TokenError::InsecureRealm { .. }
                | TokenError::NoCredentials { .. }
                | TokenError::WrongCredentials { .. } => "PUSH_DENIED",
                TokenError::Unreachable { .. } => "PUSH_UNREACHABLE",
                _ => "PUSH_FAILED",
            },
            Kind::NotFound => "PUSH_NAME_UNKNOWN",
            Kind::Quota => "PUSH_QUOTA",
            Kind::TooLarge => "PUSH_TOO_LARGE",
            Kind::RangeRefused => "PUSH_RANGE_REFUSED",
            Kind::Throttled => "PUSH_THROTTLED",
            Kind::ServerFailed => "PUSH_REGISTRY_FAILED",
            Kind::Unreachable | Kind::Broken => "PUSH_UNREACHABLE",
            Kind::Stalled => "PUSH_STALLED",
            Kind::Untrusted => "PUSH_UNTRUSTED",
            Kind::UploadLost => "PUSH_UPLOAD_LOST",
            Kind::Source => "PUSH_SOURCE",
            Kind::DigestWrong => "PUSH_DIGEST_WRONG",
            Kind::BlobMissing | Kind::ForeignLocation | Kind::Malformed | Kind::Refused => {
                "PUSH_FAILED"
            }
        }
    }

    /// What it means, in one sentence without a full stop.
    pub fn cause(&self) -> String {
        let host = &self.host;
        match &self.kind {
            Kind::BlobMissing => "the registry lacks a blob that the manifest names".to_owned(),
            Kind::Broken => format!("the connection to `{host}` broke"),
            Kind::Denied if is_ghcr(host) => format!(
                "`{host}` knows this token and does not let it write to `{}`: its scope lacks \
                 `write:packages`, or the package is linked to a repository that grants it nothing",
                self.repository
            ),
            Kind::Denied => {
                format!("`{host}` knows us and does not let us write to `{}`", self.repository)
            }
            Kind::DigestWrong => "what arrived does not have the digest that was sent".to_owned(),
            Kind::ForeignLocation => format!(
                "`{host}` sent the upload to another host, which does not take it; that host was \
                 shown no credentials"
            ),
            Kind::Malformed => format!("`{host}` does not answer as a registry does"),
            Kind::NotFound => format!("`{host}` has no repository `{}`", self.repository),
            Kind::Quota => format!("the quota of `{}` at `{host}` is used up", self.repository),
            Kind::RangeRefused => {
                format!("`{host}` takes the upload neither whole nor in small parts")
            }
            Kind::ScopeRefused { scope, user } => match user.as_deref() {
                None => format!("`{host}` does not grant `{scope}` to the anonymous"),
                Some("") => format!("`{host}` does not grant `{scope}` to this token"),
                Some(user) => format!("`{host}` does not grant `{scope}` to `{user}`"),
            },
            Kind::ServerFailed => format!("`{host}` failed"),
            Kind::Source => "what is to be sent cannot be read".to_owned(),
            Kind::Stalled => format!("nothing moved any more on the way to `{host}`"),
            Kind::Throttled => format!("`{host}` takes no more requests for now"),
            Kind::Token(error) => error.to_string(),
            Kind::TooLarge => {
                format!("`{host}`, or a proxy before it, takes no request of this size")
            }
            Kind::Unauthorized => format!("`{host}` does not accept our credentials"),
            Kind::Unreachable => format!("nobody answers at `{host}`"),
            Kind::UploadLost => format!("`{host}` has lost the upload"),
            Kind::Untrusted => format!("the certificate of `{host}` is not trusted"),
            Kind::Refused => format!("`{host}` refuses what was sent"),
        }
    }

    /// What it means, and what was asked and answered; that of a token's error says both.
    pub fn explanation(&self) -> String {
        match &self.kind {
            Kind::Token(_) => self.cause(),
            _ => format!("{}: {self}", self.cause()),
        }
    }

    /// What to do about it.
    pub fn fix(&self) -> String {
        let Failed { host, repository, .. } = &**self;
        match &self.kind {
            Kind::Denied | Kind::ScopeRefused { user: Some(_), .. } if is_ghcr(host) => format!(
                "give the token the scope `write:packages` (a classic one; `gh auth refresh -s \
                 write:packages` for gh's own), authorise it for the organisation's SSO, and in \
                 Actions let the workflow have `packages: write` and the repository write access \
                 under the settings of package `{repository}`"
            ),
            Kind::Denied
            | Kind::ScopeRefused { user: Some(_), .. }
            | Kind::Token(TokenError::Denied { .. }) => {
                format!("give the user or token write access to `{repository}` at `{host}`")
            }
            Kind::Token(TokenError::InsecureRealm { .. }) => {
                "have the registry name its token server by https".to_owned()
            }
            Kind::Token(TokenError::WrongCredentials { origin, .. }) => origin.renewal(host),
            Kind::ScopeRefused { .. }
            | Kind::Unauthorized
            | Kind::Token(TokenError::NoCredentials { .. }) => {
                format!(
                    "log in with `docker login {host}`, or set `BK_SYNC_REGISTRY_USERNAME` and \
                 `BK_SYNC_REGISTRY_PASSWORD`"
                )
            }
            Kind::NotFound => "make the repository first, or mend the name".to_owned(),
            Kind::Quota => {
                format!("delete images that nobody needs at `{host}`, or raise the quota")
            }
            Kind::TooLarge => "raise the limit there (nginx: `client_max_body_size`), or make the \
                               layer smaller"
                .to_owned(),
            Kind::Throttled => match self.retry_after {
                Some(wait) => format!("wait {} s, then go on", wait.as_secs()),
                None => "wait some minutes, then go on".to_owned(),
            },
            Kind::Untrusted => format!(
                "put its authority's certificate into `/etc/docker/certs.d/{host}/ca.crt`, or name \
                 the file in `BK_SYNC_REGISTRY_CA`"
            ),
            Kind::Unreachable | Kind::Broken | Kind::Token(_) => {
                "check the registry's address and the network".to_owned()
            }
            Kind::Source => "build again: what was built is cached".to_owned(),
            Kind::RangeRefused | Kind::ForeignLocation => {
                format!("look at the proxy before `{host}`: it changes uploads on their way")
            }
            Kind::Malformed => "check that the address is a registry's".to_owned(),
            Kind::ServerFailed | Kind::Stalled | Kind::UploadLost => {
                format!("see whether `{host}` is well, then go on")
            }
            Kind::BlobMissing | Kind::DigestWrong | Kind::Refused => {
                "push again; if it stays so, look at the registry's log".to_owned()
            }
        }
    }

    fn sentence(&self) -> String {
        let status = self.status.map(|status| format!(" answered {status}")).unwrap_or_default();
        let words = if self.words.is_empty() { String::new() } else { format!(": {}", self.words) };
        format!("cannot {}: {}{status}{words}", self.action, self.request)
    }
}

/// GitHub's registry, whose refusals mean one of few things.
fn is_ghcr(host: &RegistryHost) -> bool {
    matches!(host.as_str(), "ghcr.io" | "docker.pkg.github.com")
}

/// What a refusal means, by its status, the registry's code and its words.
pub(super) fn classify(status: StatusCode, code: Option<&str>, words: &str) -> Kind {
    let words = words.to_ascii_lowercase();
    let is_full = (words.contains("quota")
        && (words.contains("exceed") || words.contains("limit")))
        || words.contains("storage limit")
        || code == Some("QUOTA_EXCEEDED");
    match (status.as_u16(), code) {
        (507, _) => Kind::Quota,
        (400..=499, _) if is_full => Kind::Quota,
        (429, _) | (_, Some("TOOMANYREQUESTS")) => Kind::Throttled,
        (401, _) => Kind::Unauthorized,
        (403, _) | (_, Some("DENIED")) => Kind::Denied,
        (_, Some("BLOB_UPLOAD_UNKNOWN")) => Kind::UploadLost,
        (_, Some("MANIFEST_BLOB_UNKNOWN" | "BLOB_UNKNOWN")) if status != 404 => Kind::BlobMissing,
        (_, Some("MANIFEST_BLOB_UNKNOWN")) => Kind::BlobMissing,
        (_, Some("DIGEST_INVALID")) => Kind::DigestWrong,
        (404 | 410, _) => Kind::NotFound,
        (413, _) => Kind::TooLarge,
        (416, _) => Kind::RangeRefused,
        (408 | 425 | 499 | 500..=599, _) => Kind::ServerFailed,
        (400..=499, _) => Kind::Refused,
        _ => Kind::Malformed,
    }
}

/// What the system says of a connection that did not come about or broke.
pub(super) fn broken(error: &reqwest::Error) -> (Kind, String) {
    let words = causes(error);
    let lower = words.to_ascii_lowercase();
    let kind = if lower.contains("certificate") || lower.contains("unknownissuer") {
        Kind::Untrusted
    } else if error.is_connect() {
        Kind::Unreachable
    } else if error.is_timeout() {
        Kind::Stalled
    } else {
        Kind::Broken
    };
    (kind, words)
}

/// Code and words out of a refusal's body.
pub(super) fn told(body: &[u8]) -> (Option<String>, String) {
    (answer::code(body), answer::message(body))
}

/// A URL as it may be shown: without user, password, and the values of its query, which hold the
/// state of uploads and the signatures of storage.
pub fn redacted(url: &Url) -> String {
    let mut shown = url.clone();
    let _: Result<(), ()> = shown.set_username("").and_then(|()| shown.set_password(None));
    shown.set_fragment(None);
    let names: Vec<String> = url
        .query_pairs()
        .map(|(name, value)| match &*name {
            // These are what the user asked for.
            "digest" | "mount" | "from" => format!("{name}={value}"),
            _ => format!("{name}=…"),
        })
        .collect();
    shown.set_query(None);
    if names.is_empty() { shown.to_string() } else { format!("{shown}?{}", names.join("&")) }
}

/// An error with its causes, which reqwest does not print by itself. The URL is left out.
pub(super) fn causes(error: &reqwest::Error) -> String {
    struct Chain<'a>(&'a dyn std::error::Error);
    impl fmt::Display for Chain<'_> {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            let mut last = self.0.to_string();
            formatter.write_str(&last)?;
            let mut source = self.0.source();
            while let Some(cause) = source {
                let words = cause.to_string();
                if !last.contains(&words) {
                    write!(formatter, ": {words}")?;
                }
                last = words;
                source = cause.source();
            }
            Ok(())
        }
    }
    // reqwest's own text names the URL, query and all.
    std::error::Error::source(error)
        .map_or_else(|| "the request failed".to_owned(), |source| Chain(source).to_string())
}

#[cfg(test)]
mod tests {
    use super::{Failed, Kind, RegistryError, classify, redacted};
    use crate::credential::RegistryHost;
    use http::StatusCode;

    fn kind(status: u16, code: Option<&str>, words: &str) -> Kind {
        classify(StatusCode::from_u16(status).unwrap(), code, words)
    }

    fn error(host: &str, kind: Kind) -> RegistryError {
        RegistryError::from(Failed {
            host: RegistryHost::new(host),
            repository: "o/app".to_owned(),
            action: "send a blob",
            request: "PUT https://ghcr.io/v2/o/app/blobs/uploads/x".to_owned(),
            status: Some(403),
            code: None,
            words: "no".to_owned(),
            retry_after: None,
            kind,
        })
    }

    #[test]
    fn statuses_codes_and_words_have_their_meaning() {
        for (status, code, words, expected) in [
            (401, None, "", "PUSH_DENIED"),
            (403, None, "", "PUSH_DENIED"),
            (403, None, "adding 5 MiB would exceed the quota of 10 MiB", "PUSH_QUOTA"),
            (507, None, "", "PUSH_QUOTA"),
            (404, Some("NAME_UNKNOWN"), "", "PUSH_NAME_UNKNOWN"),
            (404, Some("BLOB_UPLOAD_UNKNOWN"), "", "PUSH_UPLOAD_LOST"),
            (413, None, "", "PUSH_TOO_LARGE"),
            (416, None, "", "PUSH_RANGE_REFUSED"),
            (429, None, "", "PUSH_THROTTLED"),
            (400, Some("DIGEST_INVALID"), "", "PUSH_DIGEST_WRONG"),
            (502, None, "", "PUSH_REGISTRY_FAILED"),
            (400, None, "", "PUSH_FAILED"),
        ] {
            let found = error("r.example", kind(status, code, words)).diagnostic_code();
            assert_eq!(found, expected, "{status} {code:?} {words}");
        }
        assert!(error("r", kind(503, None, "")).is_transient());
        assert!(!error("r", kind(403, None, "")).is_transient());
    }

    #[test]
    fn each_failure_has_words_of_its_own() {
        let kinds = || {
            [
                Kind::Denied,
                Kind::TooLarge,
                Kind::RangeRefused,
                Kind::Throttled,
                Kind::ServerFailed,
                Kind::Quota,
                Kind::Unauthorized,
                Kind::Unreachable,
                Kind::Untrusted,
                Kind::Stalled,
            ]
        };
        let causes: std::collections::BTreeSet<String> =
            kinds().into_iter().map(|kind| error("r.example", kind).cause()).collect();
        assert_eq!(causes.len(), kinds().len());
        let ghcr = error("ghcr.io", Kind::Denied);
        assert!(ghcr.cause().contains("write:packages"), "{}", ghcr.cause());
        assert!(ghcr.fix().contains("package `o/app`"), "{}", ghcr.fix());
        assert!(!error("r.example", Kind::Denied).fix().contains("packages"));
    }

    #[test]
    fn urls_are_shown_without_what_opens_doors() {
        let url = "https://u:p@r.example/v2/a/blobs/uploads/1?_state=SECRET&digest=sha256:aa#f";
        assert_eq!(
            redacted(&url.parse().unwrap()),
            "https://r.example/v2/a/blobs/uploads/1?_state=…&digest=sha256:aa"
        );
    }
}
