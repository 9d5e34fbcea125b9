//! Which platforms an image is for, as its registry says: a rollout that builds nothing knows only a
//! digest.

use crate::{
    credential::RegistryHost,
    image::{config::ImageConfig, reference::Reference},
    pipeline::login::Login,
    registry::{MAX_MANIFEST, Reach, Repository},
    rollout::{PinnedImage, preflight::Doubt, request::PlatformManifest},
};
use serde::Deserialize;
use std::time::Duration;

/// How long the registry may take: the cluster is asked meanwhile, and the nodes pull by themselves.
const LIMIT: Duration = Duration::from_secs(3);

/// How registries are read, and as whom.
#[derive(Clone, Debug)]
pub struct RegistryAccess {
    /// As whom.
    pub login: Login,
    /// How they are reached.
    pub reach: Reach,
}

/// An index, as far as it says what for its manifests are.
#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    digest: String,
    platform: Option<EntryPlatform>,
}

#[derive(Deserialize)]
struct EntryPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: String,
}

/// The manifests of `image` with their platforms; a doubt where the registry does not tell.
pub(super) async fn manifests(
    access: &RegistryAccess,
    image: &PinnedImage,
) -> Result<Vec<PlatformManifest>, Doubt> {
    let read = tokio::time::timeout(LIMIT, read(access, image)).await;
    let silent = || Err(format!("the registry did not answer within {} s", LIMIT.as_secs()));
    read.unwrap_or_else(|_| silent()).map_err(|words| Doubt {
        code: "IMAGE_NOT_CHECKED",
        message: format!("it is not known which platforms {image} is for: {words}"),
        hint: Some("the nodes pull it by themselves, and tell what they find".to_owned()),
    })
}

async fn read(
    access: &RegistryAccess,
    image: &PinnedImage,
) -> Result<Vec<PlatformManifest>, String> {
    let reference = Reference::parse(&image.repository).map_err(|error| error.to_string())?;
    let host = RegistryHost::new(reference.domain());
    let server = access.login.server(host, access.reach.clone());
    let repository = Repository::new(server, reference.path());
    let document = repository.manifest(&image.digest).await.map_err(|error| error.to_string())?;
    let Some(document) = document else {
        return Err(format!("{} has no such image", reference.domain()));
    };
    if document.media_type.is_index() {
        return entries(&document.bytes).ok_or_else(|| "its index cannot be read".to_owned());
    }
    let Some(config) = document.config() else {
        return Err("its manifest names no config".to_owned());
    };
    let config = repository.small_blob(&config.digest, MAX_MANIFEST).await;
    let config = config.map_err(|error| error.to_string())?;
    let config = ImageConfig::parse(&config).map_err(|error| error.to_string())?;
    if config.os.is_empty() || config.architecture.is_empty() {
        return Err("its config names no platform".to_owned());
    }
    let platform = platform(&config.os, &config.architecture, &config.variant);
    Ok(vec![PlatformManifest { platform, digest: document.digest }])
}

/// The manifests that an index lists; attestations are for no platform.
fn entries(index: &[u8]) -> Option<Vec<PlatformManifest>> {
    let index: Index = serde_json::from_slice(index).ok()?;
    let manifests = index.manifests.into_iter().filter_map(|entry| {
        let EntryPlatform { os, architecture, variant } = entry.platform?;
        let is_one = !architecture.is_empty() && architecture != "unknown";
        is_one.then(|| PlatformManifest {
            platform: platform(&os, &architecture, &variant),
            digest: entry.digest,
        })
    });
    Some(manifests.collect())
}

/// Such as `linux/arm64` or `linux/arm/v7`.
fn platform(os: &str, architecture: &str, variant: &str) -> String {
    let parts = [os, architecture, variant];
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::{entries, platform};
    use serde_json::json;

    #[test]
    fn an_index_is_for_the_platforms_of_its_images_and_not_of_its_attestations() {
        let entry = |digest: &str, platform| json!({"digest": digest, "platform": platform});
        let index = json!({"manifests": [
            entry("a", json!({"os": "linux", "architecture": "arm64", "variant": "v8"})),
            entry("b", json!({"os": "unknown", "architecture": "unknown"})),
            json!({"digest": "c"}),
        ]});
        let found = entries(index.to_string().as_bytes()).unwrap();
        let found: Vec<(&str, &str)> =
            found.iter().map(|one| (one.platform.as_str(), one.digest.as_str())).collect();
        assert_eq!(found, [("linux/arm64/v8", "a")]);
        assert_eq!(entries(b"?"), None);
        assert_eq!(platform("linux", "amd64", ""), "linux/amd64");
    }
}
