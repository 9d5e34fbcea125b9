//! The receipt in the registry, as a referrer of the image that it tells of.

use crate::{
    event::Events,
    image::{document::Document, reference::Reference},
    pipeline::{
        login::Login,
        push::{PushSettings, Targets},
    },
    record::{Receipt, Referrer},
    registry::{BlobSource, ByteStream, Delivery, SourceError, whole},
};
use bytes::Bytes;
use futures::future::BoxFuture;
use std::collections::BTreeMap;

/// Blobs that are in memory.
struct InMemory(BTreeMap<String, Bytes>);

impl BlobSource for InMemory {
    fn open<'a>(
        &'a self,
        digest: &'a str,
        offset: u64,
    ) -> BoxFuture<'a, Result<ByteStream, SourceError>> {
        let found = self.0.get(digest).map(|bytes| whole(bytes, offset));
        Box::pin(async move {
            found.ok_or_else(|| SourceError::new(format!("`{digest}` is not in memory")))
        })
    }
}

/// Pushes `receipt` beside its image, to every repository that the image went to. A registry that
/// keeps no list of referrers gets the tag that stands in for one.
///
/// # Errors
/// Why it is not there, in words.
pub(super) async fn refer(
    receipt: &Receipt,
    login: &Login,
    push: &PushSettings,
) -> Result<(), String> {
    let image = receipt.image.as_ref().ok_or("there is no image to refer to")?;
    let names = image.tags.iter().chain([&image.reference]);
    let names: Vec<Reference> = names.filter_map(|name| Reference::parse(name).ok()).collect();
    for repository in Targets::new(&names, true, login, &push.reach).repositories() {
        let place = repository.to_string();
        let failed = |error: &dyn std::error::Error| format!("{place}: {error}");
        let subject = repository.manifest(&image.digest).await.map_err(|error| failed(&error))?;
        let subject = subject.ok_or_else(|| format!("{place} does not have the image"))?;
        let size = u64::try_from(subject.bytes.len()).unwrap_or(u64::MAX);
        let referrer = Referrer::new(receipt, subject.media_type.as_str(), size)
            .ok_or("the receipt names no image")?;
        let blobs = referrer.blobs.iter();
        let source = InMemory(
            blobs.map(|(digest, bytes)| (digest.clone(), Bytes::from(bytes.clone()))).collect(),
        );
        for (digest, bytes) in &referrer.blobs {
            let delivery = Delivery {
                repository: repository.clone(),
                digest: digest.clone(),
                size: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
                candidates: Vec::new(),
                budget: push.budget,
                events: Events::discard(),
            };
            delivery.run(&source).await.map_err(|error| failed(&error))?;
        }
        let document =
            Document::read(&referrer.manifest, Some(referrer.media_type), &referrer.digest)
                .ok_or("the receipt's manifest cannot be read")?;
        let put = repository.put_manifest(&document, &referrer.digest).await;
        put.map_err(|error| failed(&error))?;
    }
    Ok(())
}
