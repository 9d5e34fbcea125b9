//! Build secrets, read when a step asks for them.

use super::Attachable;
use crate::{
    credential::Secret,
    proto::moby::buildkit::secrets::v1::{
        GetSecretRequest, GetSecretResponse,
        secrets_server::{self, SecretsServer},
    },
};
use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::io::AsyncReadExt as _;
use tonic::{Request, Response, Status, service::RoutesBuilder};
use zeroize::Zeroizing;

/// The most that a secret may hold, as BuildKit's own clients have it.
pub const MAX_SECRET: u64 = 500 << 10;

/// Where the content of a secret is.
#[derive(Clone, Debug)]
pub enum SecretContent {
    /// In a file, which is read each time a step asks.
    File(PathBuf),
    /// In memory.
    Held(Secret),
}

/// The Secrets service: what the user gave, by id, and nothing else. Ids that git sources ask for
/// (`GIT_AUTH_TOKEN`, `GIT_AUTH_HEADER` and their `.HOST` forms) are ids like all others.
#[derive(Clone)]
pub struct Secrets {
    contents: Arc<BTreeMap<String, SecretContent>>,
}

impl Secrets {
    /// Offers `contents` by id.
    ///
    /// # Errors
    /// A file that is not there, is no file or is too big: better told now than by a step.
    pub fn new(contents: BTreeMap<String, SecretContent>) -> Result<Self, SecretError> {
        for (id, content) in &contents {
            let size = match content {
                SecretContent::Held(secret) => u64::try_from(secret.expose().len()).ok(),
                SecretContent::File(path) => {
                    let unreadable = |cause| SecretError::unreadable(id, path, &cause);
                    let metadata = fs::metadata(path).map_err(unreadable)?;
                    if metadata.is_dir() {
                        return Err(unreadable(io::ErrorKind::IsADirectory.into()));
                    }
                    Some(metadata.len())
                }
            };
            if size.is_none_or(|size| size > MAX_SECRET) {
                return Err(SecretError::TooBig { id: id.clone() });
            }
        }
        Ok(Self { contents: Arc::new(contents) })
    }

    async fn read(&self, id: &str) -> Result<Option<Secret>, SecretError> {
        match self.contents.get(id) {
            None => Ok(None),
            Some(SecretContent::Held(secret)) => Ok(Some(secret.clone())),
            Some(SecretContent::File(path)) => {
                let unreadable = |cause| SecretError::unreadable(id, path, &cause);
                let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
                // Room for the whole, so that no copy is left behind by growing.
                let size = file.metadata().await.map_err(unreadable)?.len().min(MAX_SECRET);
                let room = usize::try_from(size).unwrap_or_default().saturating_add(1);
                let mut content = Zeroizing::new(Vec::with_capacity(room));
                let limit = MAX_SECRET.saturating_add(1);
                let read = file.take(limit).read_to_end(&mut content).await.map_err(unreadable)?;
                if u64::try_from(read).is_ok_and(|read| read > MAX_SECRET) {
                    return Err(SecretError::TooBig { id: id.to_owned() });
                }
                Ok(Some(Secret::new(content.as_slice())))
            }
        }
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.contents.keys()).finish()
    }
}

/// Why a secret cannot be offered.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SecretError {
    /// More than BuildKit's clients send.
    #[error("secret `{id}` is bigger than the {} KiB that a secret may hold", MAX_SECRET >> 10)]
    TooBig {
        /// The secret's id.
        id: String,
    },
    /// The file that holds it cannot be read.
    #[error("secret `{id}`: cannot read `{}`: {cause}", path.display())]
    Unreadable {
        /// The secret's id.
        id: String,
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: String,
    },
}

impl SecretError {
    fn unreadable(id: &str, path: &Path, cause: &io::Error) -> Self {
        Self::Unreadable { id: id.to_owned(), path: path.to_owned(), cause: cause.to_string() }
    }
}

impl Attachable for Secrets {
    fn methods(&self) -> &'static [&'static str] {
        &["/moby.buildkit.secrets.v1.Secrets/GetSecret"]
    }

    fn register(self: Box<Self>, routes: &mut RoutesBuilder) {
        routes.add_service(SecretsServer::new(*self));
    }
}

#[tonic::async_trait]
impl secrets_server::Secrets for Secrets {
    async fn get_secret(
        &self,
        request: Request<GetSecretRequest>,
    ) -> Result<Response<GetSecretResponse>, Status> {
        let id = request.into_inner().id;
        let secret = self.read(&id).await;
        let secret = secret.map_err(|error| Status::failed_precondition(error.to_string()))?;
        // An optional secret that nobody gave is passed over by this code, and no other.
        let secret = secret.ok_or_else(|| Status::not_found(format!("secret {id} not found")))?;
        tracing::debug!(id, "secret lent to the builder");
        Ok(Response::new(GetSecretResponse { data: secret.expose().to_vec() }))
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_SECRET, SecretContent, SecretError, Secrets};
    use crate::{
        credential::Secret,
        proto::moby::buildkit::secrets::v1::{GetSecretRequest, secrets_server::Secrets as _},
    };
    use std::{collections::BTreeMap, fs};
    use tonic::{Code, Request, Status};

    fn one(content: SecretContent) -> Result<Secrets, SecretError> {
        Secrets::new(BTreeMap::from([("id".to_owned(), content)]))
    }

    async fn get(secrets: &Secrets, id: &str) -> Result<Vec<u8>, Status> {
        let request = GetSecretRequest { id: id.to_owned(), annotations: BTreeMap::new() };
        secrets.get_secret(Request::new(request)).await.map(|answer| answer.into_inner().data)
    }

    #[tokio::test]
    async fn files_are_read_when_asked_byte_for_byte() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        fs::write(&path, "old").unwrap();
        let secrets = one(SecretContent::File(path.clone())).unwrap();
        fs::write(&path, b"new\n\0\xff").unwrap();
        assert_eq!(get(&secrets, "id").await.unwrap(), b"new\n\0\xff");
        fs::remove_file(&path).unwrap();
        let error = get(&secrets, "id").await.unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition, "not found would pass as optional");
    }

    #[tokio::test]
    async fn ids_that_nobody_gave_are_not_found() {
        let secrets = one(SecretContent::Held(Secret::new("x"))).unwrap();
        assert_eq!(get(&secrets, "id").await.unwrap(), b"x");
        for id in ["", "ID", "GIT_AUTH_TOKEN", "GIT_AUTH_TOKEN.github.com"] {
            assert_eq!(get(&secrets, id).await.unwrap_err().code(), Code::NotFound);
        }
    }

    #[tokio::test]
    async fn the_limit_holds_at_the_start_and_when_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        let size = usize::try_from(MAX_SECRET).unwrap();
        fs::write(&path, vec![b'x'; size]).unwrap();
        let secrets = one(SecretContent::File(path.clone())).unwrap();
        assert_eq!(get(&secrets, "id").await.unwrap().len(), size);
        fs::write(&path, vec![b'x'; size + 1]).unwrap();
        assert!(get(&secrets, "id").await.unwrap_err().message().contains("500 KiB"));
        let too_big = SecretError::TooBig { id: "id".to_owned() };
        assert_eq!(one(SecretContent::File(path)).unwrap_err(), too_big);
        let held = SecretContent::Held(Secret::new(vec![0; size + 1]));
        assert_eq!(one(held).unwrap_err(), too_big);
    }

    #[test]
    fn what_cannot_be_read_is_told_at_once() {
        let error = one(SecretContent::File("/nonexistent/secret".into())).unwrap_err();
        assert!(error.to_string().starts_with("secret `id`: cannot read `/nonexistent/secret`: "));
        assert!(one(SecretContent::File("/".into())).is_err());
    }

    #[test]
    fn debug_names_ids_only() {
        let secrets = one(SecretContent::Held(Secret::new("hunter2"))).unwrap();
        assert_eq!(format!("{secrets:?}"), r#"{"id"}"#);
    }
}
