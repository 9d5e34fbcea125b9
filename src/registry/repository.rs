//! One repository of a registry, and what can be asked of its blobs.

use super::{
    authorize::Standing,
    error::{Kind, RegistryError},
    scope::Scope,
    server::{Answer, Call, Payload, Server},
    source::{ByteStream, SourceError},
    upload::Opened,
};
use futures::StreamExt as _;
use http::{HeaderMap, Method, StatusCode, header};
use std::{fmt, sync::Arc, time::Duration};

/// A repository. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Repository {
    server: Arc<Server>,
    name: String,
    actions: &'static str,
}

impl Repository {
    /// The repository `name` (a path, such as `library/alpine`) at `server`.
    pub fn new(server: Arc<Server>, name: impl Into<String>) -> Self {
        Self { server, name: name.into(), actions: "pull,push" }
    }

    /// The same for who only reads there: nobody is asked for more rights than that takes.
    #[must_use]
    pub fn only_read(self) -> Self {
        Self { actions: "pull", ..self }
    }

    /// Its registry.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Its name in the registry.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What a token has to be good for, to do here what is done.
    pub(super) fn scopes(&self) -> Vec<String> {
        vec![format!("repository:{}:{}", self.name, self.actions)]
    }

    /// A request about this repository.
    pub(super) fn call(&self, method: Method, url: url::Url, action: &'static str) -> Call {
        Call {
            method,
            url,
            headers: HeaderMap::new(),
            body: Payload::Nothing,
            scopes: self.scopes(),
            repository: self.name.clone(),
            action,
        }
    }

    /// The URL of `rest` below the repository, such as `blobs/DIGEST`.
    pub(super) async fn url(&self, rest: &str) -> Result<url::Url, RegistryError> {
        self.server.url(&format!("{}/{rest}", self.name)).await
    }

    /// Whether a URL is of this repository, by its path.
    pub(super) async fn contains(&self, url: &url::Url) -> Result<bool, RegistryError> {
        let own = self.url("").await?;
        Ok(own.origin() == url.origin() && url.path().starts_with(own.path()))
    }

    /// Gets ready to write here: the registry is reached and a token is got. What fails is met again
    /// when it matters.
    pub async fn get_ready(&self) {
        let ready = async {
            self.server.url("").await?;
            let header = self.server.authorizer().header(&self.scopes()).await;
            header.map(drop).map_err(|error| {
                let words = error.to_string();
                self.error("get a token", Kind::Token(error), &words)
            })
        };
        if let Err(error) = ready.await {
            tracing::debug!(%error, "a registry is not ready yet");
        }
    }

    /// The size of a blob; none where it is not here.
    ///
    /// # Errors
    /// The registry did not say.
    pub async fn blob_size(&self, digest: &str) -> Result<Option<Option<u64>>, RegistryError> {
        let url = self.url(&format!("blobs/{digest}")).await?;
        match self.server.send(self.call(Method::HEAD, url, "look for a blob")).await {
            Ok(answer) => {
                let size = answer.header(header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
                Ok(Some(size))
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads a blob from `offset` on; mirrors are asked first. The caller checks the digest.
    ///
    /// # Errors
    /// The registry does not have it, or cannot be read.
    pub async fn read_blob(&self, digest: &str, offset: u64) -> Result<ByteStream, RegistryError> {
        let rest = format!("blobs/{digest}");
        let range = (offset > 0).then(|| format!("bytes={offset}-"));
        let answer = self
            .read_anywhere(&rest, "read a blob", |call| {
                if let Some(value) = range.as_deref().and_then(super::server::value) {
                    call.headers.insert(header::RANGE, value);
                }
            })
            .await?;
        let whole = offset > 0 && answer.status != StatusCode::PARTIAL_CONTENT;
        let skip = if whole { offset } else { 0 };
        let chunks = answer.into_response().bytes_stream().map(|chunk| {
            chunk.map_err(|error| {
                SourceError::new(format!("reading a blob: {}", error.without_url()))
            })
        });
        Ok(super::source::skipping(chunks.boxed(), skip))
    }

    /// A blob of at most `limit` bytes, whole, with the digest that it is asked for by.
    ///
    /// # Errors
    /// The registry does not have it, cannot be read, or gives something else.
    pub async fn small_blob(&self, digest: &str, limit: usize) -> Result<Vec<u8>, RegistryError> {
        let wrong = |words: &str| self.error("read a blob", Kind::Malformed, &words.to_owned());
        let mut stream = self.read_blob(digest, 0).await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| self.error("read a blob", Kind::Broken, &error))?;
            if bytes.len().saturating_add(chunk.len()) > limit {
                return Err(wrong("it is larger than what it is may be"));
            }
            bytes.extend_from_slice(&chunk);
        }
        let found = super::source::digest(&bytes);
        if found != digest {
            return Err(self.error("read a blob", Kind::DigestWrong, &found));
        }
        Ok(bytes)
    }

    /// Reads from the mirrors, then from the registry.
    pub(super) async fn read_anywhere(
        &self,
        rest: &str,
        action: &'static str,
        prepare: impl Fn(&mut Call),
    ) -> Result<Answer, RegistryError> {
        for mirror in self.server.mirrors() {
            let Some(url) = mirror_url(mirror, &self.name, rest) else { continue };
            let mut call = self.call(Method::GET, url, action);
            prepare(&mut call);
            match self.server.send(call).await {
                Ok(answer) => return Ok(answer),
                Err(error) => tracing::debug!(%error, mirror, "the mirror does not help"),
            }
        }
        let url = self.url(rest).await?;
        let mut call = self.call(Method::GET, url, action);
        call.scopes = vec![format!("repository:{}:pull", self.name)];
        prepare(&mut call);
        self.server.send(call).await
    }

    /// Finds out whether we may write here: the token says so, or an upload is opened and cancelled.
    /// Where the repository `is_known` to have taken a push from here, a registry that is open to all
    /// is not asked again.
    ///
    /// # Errors
    /// We may not ([`RegistryError::is_refusal`]), or it could not be found out.
    pub async fn check_write(&self, is_known: bool) -> Result<(), RegistryError> {
        self.server.url("").await?;
        let standing = self.server.authorizer().standing(&self.scopes()).await;
        let standing = standing.map_err(|error| {
            let words = error.to_string();
            self.error("get a token", Kind::Token(error), &words)
        })?;
        match standing {
            Standing::Granted => return Ok(()),
            Standing::Open if is_known => return Ok(()),
            Standing::Open | Standing::Unknown => self.refuse_without_scope().await?,
        }
        if let Opened::Upload(upload) = self.open_upload(None).await? {
            self.cancel_upload(&upload).await;
        }
        // The token may have been asked for on the way.
        self.refuse_without_scope().await
    }

    async fn refuse_without_scope(&self) -> Result<(), RegistryError> {
        let lacks_push = |(scope, _): &(Scope, _)| scope.actions.contains("push");
        match self.missing_scopes().await.into_iter().find(lacks_push) {
            Some((scope, user)) => {
                let kind = Kind::ScopeRefused { scope, user };
                Err(self.error("open an upload", kind, &"the token says so"))
            }
            None => Ok(()),
        }
    }

    /// What the token that we hold for writing here is not good for, as far as it says, with whose
    /// token it is. Empty before any request was made.
    pub async fn missing_scopes(&self) -> Vec<(Scope, Option<String>)> {
        let missing = self.server.authorizer().missing(&self.scopes()).await;
        let (scopes, user) = missing.unwrap_or_default();
        scopes.into_iter().map(|scope| (scope, user.clone())).collect()
    }

    /// That nothing was heard of a question for `limit`.
    pub fn silent(&self, limit: Duration) -> RegistryError {
        let words = format!("no answer within {} s", limit.as_secs());
        self.error("ask whether pushes are allowed", Kind::Stalled, &words)
    }

    pub(super) fn error(
        &self,
        action: &'static str,
        kind: Kind,
        words: &dyn fmt::Display,
    ) -> RegistryError {
        self.server.error(&self.name, action, &self.to_string(), kind, words)
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.server.host(), self.name)
    }
}

/// The URL of something in a mirror; a mirror without a scheme is spoken to with TLS, but for one
/// on this machine.
fn mirror_url(mirror: &str, name: &str, rest: &str) -> Option<url::Url> {
    let text = if mirror.contains("://") {
        mirror.trim_end_matches('/').to_owned()
    } else {
        let plain: url::Url = format!("http://{mirror}/").parse().ok()?;
        let scheme = if super::token::is_loopback(&plain) { "http" } else { "https" };
        format!("{scheme}://{}", mirror.trim_end_matches('/'))
    };
    format!("{text}/v2/{name}/{rest}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::mirror_url;

    #[test]
    fn mirrors_are_hosts_or_urls() {
        let url = |mirror| mirror_url(mirror, "a/b", "blobs/x").map(String::from);
        assert_eq!(url("m.example").as_deref(), Some("https://m.example/v2/a/b/blobs/x"));
        assert_eq!(url("127.0.0.1:5000").as_deref(), Some("http://127.0.0.1:5000/v2/a/b/blobs/x"));
        assert_eq!(url("http://m:1/p/").as_deref(), Some("http://m:1/p/v2/a/b/blobs/x"));
        assert_eq!(url("http://:x"), None);
    }
}
