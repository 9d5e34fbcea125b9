//! Manifests and indexes of a repository, their tags, and what refers to them.

use super::{
    error::{Kind, RegistryError},
    repository::Repository,
    server::{Payload, headers},
    source,
};
use crate::image::document::{Descriptor, Document, MediaType};
use bytes::Bytes;
use http::{HeaderName, Method, header};
use serde_json::{Value, json};

/// Registries take no larger manifests.
pub const MAX_MANIFEST: usize = 4 << 20;

/// What manifests we can read.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

impl Repository {
    /// The manifest or index under a tag or digest; none where there is none. Mirrors are asked
    /// first only by digest: a mirror's tag may be old.
    ///
    /// # Errors
    /// The registry did not say, or what it said does not have the digest that was asked for.
    pub async fn manifest(&self, reference: &str) -> Result<Option<Document>, RegistryError> {
        let rest = format!("manifests/{reference}");
        let by_digest = reference.contains(':');
        let answer = if by_digest {
            self.read_anywhere(&rest, "read a manifest", |call| {
                call.headers = headers([(header::ACCEPT, ACCEPT)]);
            })
            .await
        } else {
            let mut call = self.call(Method::GET, self.url(&rest).await?, "read a manifest");
            call.headers = headers([(header::ACCEPT, ACCEPT)]);
            self.server().send(call).await
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let media_type = answer.header(header::CONTENT_TYPE).unwrap_or_default().to_owned();
        let malformed =
            |words: &str| self.error("read a manifest", Kind::Malformed, &words.to_owned());
        let bytes = answer.bytes(MAX_MANIFEST).await;
        let bytes = bytes
            .map_err(|error| self.error("read a manifest", Kind::Broken, &error.without_url()))?
            .ok_or_else(|| malformed("it is larger than a manifest may be"))?;
        let digest = source::digest(&bytes);
        if by_digest && reference.starts_with("sha256:") && digest != reference {
            return Err(self.error("read a manifest", Kind::DigestWrong, &digest));
        }
        Ok(Document::read(&bytes, Some(&media_type), &digest))
    }

    /// The digest under a tag, or that of a digest that is there; none where there is none.
    ///
    /// # Errors
    /// The registry did not say.
    pub async fn manifest_digest(&self, reference: &str) -> Result<Option<String>, RegistryError> {
        let url = self.url(&format!("manifests/{reference}")).await?;
        let mut call = self.call(Method::HEAD, url, "look for a manifest");
        call.headers = headers([(header::ACCEPT, ACCEPT)]);
        match self.server().send(call).await {
            Ok(answer) => {
                let name = HeaderName::from_static("docker-content-digest");
                Ok(answer.header(name).map(str::to_owned).or_else(|| {
                    // Without the header, only a digest names itself.
                    reference.contains(':').then(|| reference.to_owned())
                }))
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a manifest under a tag, or under its digest. Where it has a subject, it is among the
    /// subject's referrers afterwards.
    ///
    /// # Errors
    /// The registry does not take it.
    pub async fn put_manifest(
        &self,
        document: &Document,
        reference: &str,
    ) -> Result<(), RegistryError> {
        let url = self.url(&format!("manifests/{reference}")).await?;
        let mut call = self.call(Method::PUT, url, "write a manifest");
        call.headers = headers([(header::CONTENT_TYPE, document.media_type.as_str())]);
        call.body = Payload::Bytes(Bytes::copy_from_slice(&document.bytes));
        let answer = self.server().send(call).await.map_err(|mut error| {
            // "Not found" is said of a blob as well as of the repository.
            if matches!(error.kind, Kind::NotFound)
                && error.code.as_deref().is_some_and(|code| code.contains("BLOB"))
            {
                error.kind = Kind::BlobMissing;
            }
            error
        })?;
        let stored = answer.header(HeaderName::from_static("docker-content-digest"));
        if let Some(stored) = stored
            && stored != document.digest
        {
            let words = format!("it stored `{stored}` for `{}`", document.digest);
            return Err(self.error("write a manifest", Kind::DigestWrong, &words));
        }
        let knows_subjects = answer.headers.contains_key("oci-subject");
        match document.subject() {
            Some(subject) if !knows_subjects => self.add_referrer(&subject, document).await,
            _ => Ok(()),
        }
    }

    /// What refers to the manifest `digest`: from the registry's list, or from the tag that stands
    /// in for it where a registry has none.
    ///
    /// # Errors
    /// The registry did not say.
    pub async fn referrers(&self, digest: &str) -> Result<Vec<Descriptor>, RegistryError> {
        let url = self.url(&format!("referrers/{digest}")).await?;
        let mut call = self.call(Method::GET, url, "list referrers");
        call.headers = headers([(header::ACCEPT, MediaType::OciIndex.as_str())]);
        let answer = match self.server().send(call).await {
            Ok(answer) => answer,
            Err(error) if error.is_not_found() || error.status == Some(405) => {
                let held = self.manifest(&fallback_tag(digest)).await?;
                return Ok(held.map(|held| held.manifests()).unwrap_or_default());
            }
            Err(error) => return Err(error),
        };
        let bytes = answer.bytes(MAX_MANIFEST).await.ok().flatten().unwrap_or_default();
        let list = Document::read(&bytes, Some(MediaType::OciIndex.as_str()), "");
        list.map(|list| list.manifests())
            .ok_or_else(|| self.error("list referrers", Kind::Malformed, &"it is no index"))
    }

    /// Adds `document` to the tag that stands in for a list of referrers.
    async fn add_referrer(&self, subject: &str, document: &Document) -> Result<(), RegistryError> {
        let tag = fallback_tag(subject);
        let held = self.manifest(&tag).await?;
        let mut index: Value =
            held.and_then(|held| serde_json::from_slice(&held.bytes).ok()).unwrap_or_else(|| {
                json!({
                    "schemaVersion": 2,
                    "mediaType": MediaType::OciIndex.as_str(),
                    "manifests": [],
                })
            });
        let Some(entries) = index.get_mut("manifests").and_then(Value::as_array_mut) else {
            return Err(self.error("add a referrer", Kind::Malformed, &"the tag is no index"));
        };
        let known = |entry: &Value| {
            entry.get("digest").and_then(Value::as_str) == Some(document.digest.as_str())
        };
        if entries.iter().any(known) {
            return Ok(());
        }
        entries.push(document.referrer());
        let bytes = serde_json::to_vec(&index).unwrap_or_default();
        let digest = source::digest(&bytes);
        let Some(index) = Document::read(&bytes, Some(MediaType::OciIndex.as_str()), &digest)
        else {
            return Err(self.error("add a referrer", Kind::Malformed, &"the tag is no index"));
        };
        Box::pin(self.put_manifest(&index, &tag)).await
    }
}

/// The tag that stands in for a list of referrers: the digest with a dash.
fn fallback_tag(digest: &str) -> String {
    digest.replace(':', "-").chars().take(128).collect()
}
