//! What is pushed beside an image and fits into memory: a receipt, a signature.

use crate::{
    event::Events,
    image::document::Document,
    registry::{
        BlobSource, ByteStream, Delivery, RegistryError, Repository, RetryBudget, SourceError,
        digest, whole,
    },
};
use bytes::Bytes;
use futures::future::BoxFuture;
use std::collections::BTreeMap;

/// A manifest with the blobs that it names.
#[derive(Clone, Debug)]
pub(in crate::pipeline) struct Artifact {
    blobs: BTreeMap<String, Bytes>,
    manifest: Document,
}

impl Artifact {
    /// The manifest whose bytes are `manifest`, and what it names. None where it is no manifest.
    pub(in crate::pipeline) fn new(
        blobs: impl IntoIterator<Item = Vec<u8>>,
        manifest: &[u8],
        media_type: &str,
    ) -> Option<Self> {
        let blobs = blobs.into_iter().map(|bytes| (digest(&bytes), Bytes::from(bytes)));
        let manifest = Document::read(manifest, Some(media_type), &digest(manifest))?;
        Some(Self { blobs: blobs.collect(), manifest })
    }

    /// Pushes it to `repository`, under `tag` or by its digest.
    ///
    /// # Errors
    /// The registry does not take it.
    pub(in crate::pipeline) async fn deliver(
        &self,
        repository: &Repository,
        tag: Option<&str>,
        budget: RetryBudget,
    ) -> Result<(), RegistryError> {
        for (digest, bytes) in &self.blobs {
            let delivery = Delivery {
                repository: repository.clone(),
                digest: digest.clone(),
                size: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
                candidates: Vec::new(),
                budget,
                events: Events::discard(),
            };
            delivery.run(self).await?;
        }
        repository.put_manifest(&self.manifest, tag.unwrap_or(&self.manifest.digest)).await
    }
}

impl BlobSource for Artifact {
    fn open<'a>(
        &'a self,
        digest: &'a str,
        offset: u64,
    ) -> BoxFuture<'a, Result<ByteStream, SourceError>> {
        let found = self.blobs.get(digest).map(|bytes| whole(bytes, offset));
        Box::pin(async move {
            found.ok_or_else(|| SourceError::new(format!("`{digest}` is not in memory")))
        })
    }
}
