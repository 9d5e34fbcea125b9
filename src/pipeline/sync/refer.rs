//! The receipt in the registry, as a referrer of the image that it tells of.

use crate::{
    image::reference::Reference,
    pipeline::{
        login::Login,
        push::{Artifact, PushSettings, Targets},
    },
    record::{Receipt, Referrer},
};

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
        let artifact = Artifact::new(referrer.blobs, &referrer.manifest, referrer.media_type)
            .ok_or("the receipt's manifest cannot be read")?;
        let delivered = artifact.deliver(&repository, None, push.budget).await;
        delivered.map_err(|error| failed(&error))?;
    }
    Ok(())
}
