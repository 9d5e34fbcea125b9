//! What a rollout is asked to do. Plain data.

use super::{code::Code, workload::WorkloadName};
use crate::image::reference::Reference;
use std::{collections::BTreeSet, fmt, time::Duration};

/// How long a rollout may take where nobody says it.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_mins(4);
/// How long pods must stay ready where neither a flag nor `minReadySeconds` says it.
pub const DEFAULT_SETTLE: Duration = Duration::from_secs(3);

/// What a rollout is asked to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Request {
    /// The workloads. All get the same image.
    pub workloads: Vec<WorkloadName>,
    /// Whether they are rolled out at the same time instead of one after another.
    pub together: bool,
    /// The image.
    pub image: PinnedImage,
    /// The container whose image is set; none for the one whose repository it is, or the only one.
    pub container: Option<String>,
    /// How long one workload may take; the way back gets as long again.
    pub timeout: Duration,
    /// What becomes of a rollout that fails.
    pub on_failure: OnFailure,
    /// How long pods must stay ready; none for `minReadySeconds`, or [`DEFAULT_SETTLE`].
    pub settle: Option<Duration>,
    /// What is waited out though waiting does not seem to help.
    pub tolerate: BTreeSet<Code>,
    /// How long another deploy's lock is waited for.
    pub lock_wait: Duration,
    /// Whether another deploy's lock is taken away.
    pub lock_takeover: bool,
    /// What is written beside the change.
    pub provenance: Provenance,
}

impl Request {
    /// A request with nothing but its defaults.
    pub fn new(workloads: Vec<WorkloadName>, image: PinnedImage) -> Self {
        Self {
            workloads,
            together: false,
            image,
            container: None,
            timeout: DEFAULT_TIMEOUT,
            on_failure: OnFailure::Rollback,
            settle: None,
            tolerate: BTreeSet::new(),
            lock_wait: Duration::ZERO,
            lock_takeover: false,
            provenance: Provenance::default(),
        }
    }
}

/// What becomes of a rollout that fails.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OnFailure {
    /// It stays as it is.
    Keep,
    /// The image before it comes back.
    #[default]
    Rollback,
}

/// Where a change comes from: written into the workload's annotations.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Provenance {
    /// The git commit that the image was built from.
    pub commit: Option<String>,
    /// The image's tag.
    pub tag: Option<String>,
}

/// An image that cannot change: a repository and a digest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PinnedImage {
    /// The registry and the repository, in full.
    pub repository: String,
    /// The digest of its manifest or index.
    pub digest: String,
    /// The tag that it was named with.
    pub tag: Option<String>,
    /// Its manifests with their platforms, where they are known.
    pub manifests: Vec<PlatformManifest>,
}

/// A platform's manifest in an image.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PlatformManifest {
    /// Such as `linux/arm64`.
    pub platform: String,
    /// Its digest.
    pub digest: String,
}

/// Why a text names no image that cannot change.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ImageError {
    /// It is no reference.
    #[error("`{0}` is no image: {1}")]
    Form(String, String),
    /// It has no digest.
    #[error("`{0}` has no digest, so what it names can change")]
    NoDigest(String),
}

impl PinnedImage {
    /// Reads `repository[:tag]@digest`.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn parse(text: &str) -> Result<Self, ImageError> {
        let reference = Reference::parse(text)
            .map_err(|error| ImageError::Form(text.to_owned(), error.to_string()))?;
        let Some(digest) = reference.digest() else {
            return Err(ImageError::NoDigest(text.to_owned()));
        };
        Ok(Self {
            repository: format!("{}/{}", reference.domain(), reference.path()),
            digest: digest.to_owned(),
            tag: reference.tag().map(str::to_owned),
            manifests: Vec::new(),
        })
    }

    /// The registry that it lies in, such as `ghcr.io`.
    pub fn registry(&self) -> &str {
        self.repository.split('/').next().unwrap_or_default()
    }

    /// Whether a pod that runs `digest` runs this image: runtimes name the index, or the manifest
    /// of the node's platform.
    pub fn is_run_as(&self, digest: &str) -> bool {
        self.digest == digest || self.manifests.iter().any(|manifest| manifest.digest == digest)
    }
}

impl fmt::Display for PinnedImage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}@{}", self.repository, self.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::{ImageError, PinnedImage};

    #[test]
    fn an_image_is_pinned_without_its_tag() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let image = PinnedImage::parse(&format!("r.example:5000/a/b:1@{digest}")).unwrap();
        assert_eq!(image.to_string(), format!("r.example:5000/a/b@{digest}"));
        assert_eq!((image.tag.as_deref(), image.registry()), (Some("1"), "r.example:5000"));
        assert!(image.is_run_as(&digest) && !image.is_run_as("sha256:00"));
        let short = PinnedImage::parse(&format!("nginx@{digest}")).unwrap();
        assert_eq!(short.repository, "docker.io/library/nginx");
        assert!(matches!(PinnedImage::parse("a:1"), Err(ImageError::NoDigest(_))));
        assert!(matches!(PinnedImage::parse("A:1"), Err(ImageError::Form(..))));
    }
}
