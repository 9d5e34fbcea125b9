//! Manifests and indexes: what of them a copy needs to know. Bytes are kept as they are, since a
//! digest is of bytes.

use super::json::nullable;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The media types that a document may have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MediaType {
    /// An index as Docker writes it.
    DockerIndex,
    /// A manifest as Docker writes it.
    DockerManifest,
    /// An index of the OCI specification.
    OciIndex,
    /// A manifest of the OCI specification.
    OciManifest,
}

impl MediaType {
    const ALL: [Self; 4] =
        [Self::DockerIndex, Self::DockerManifest, Self::OciIndex, Self::OciManifest];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DockerIndex => "application/vnd.docker.distribution.manifest.list.v2+json",
            Self::DockerManifest => "application/vnd.docker.distribution.manifest.v2+json",
            Self::OciIndex => "application/vnd.oci.image.index.v1+json",
            Self::OciManifest => "application/vnd.oci.image.manifest.v1+json",
        }
    }

    /// What is written so, less parameters; none for what is no document.
    pub fn parse(text: &str) -> Option<Self> {
        let name = text.split(';').next().unwrap_or_default().trim();
        Self::ALL.into_iter().find(|one| one.as_str() == name)
    }

    /// Whether it lists manifests.
    pub fn is_index(self) -> bool {
        matches!(self, Self::DockerIndex | Self::OciIndex)
    }
}

/// What names a blob or a document.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    #[serde(default)]
    pub media_type: String,
    /// Its digest.
    pub digest: String,
    /// Its size in bytes.
    #[serde(default)]
    pub size: u64,
    /// What it is of, where it is an artefact.
    #[serde(default)]
    pub artifact_type: Option<String>,
    /// Words about it.
    #[serde(default, deserialize_with = "nullable")]
    pub annotations: BTreeMap<String, String>,
    /// Where else it may be fetched; such blobs may not be in a registry at all.
    #[serde(default, deserialize_with = "nullable")]
    pub urls: Vec<String>,
}

impl Descriptor {
    /// Whether it is a manifest or an index.
    pub fn is_document(&self) -> bool {
        MediaType::parse(&self.media_type).is_some()
    }

    /// Whether registries are not to be given it: Windows' base layers lie elsewhere.
    pub fn is_foreign(&self) -> bool {
        !self.urls.is_empty()
            || self.media_type.contains("nondistributable")
            || self.media_type.contains(".foreign.")
    }
}

/// A manifest or an index.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Document {
    /// What it is.
    pub media_type: MediaType,
    /// Its digest.
    pub digest: String,
    /// Its text.
    pub bytes: Vec<u8>,
    fields: Fields,
}

#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
struct Fields {
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    #[serde(default, deserialize_with = "nullable")]
    layers: Vec<Descriptor>,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    #[serde(default, deserialize_with = "nullable")]
    annotations: BTreeMap<String, String>,
}

impl Document {
    /// Reads a document. Its media type is its own, else that which was `said` of it, else by its
    /// shape. None where it is none.
    pub fn read(bytes: &[u8], said: Option<&str>, digest: &str) -> Option<Self> {
        let fields: Fields = serde_json::from_slice(bytes).ok()?;
        let by_shape = || match (&fields.manifests, &fields.config) {
            (Some(_), None) => Some(MediaType::OciIndex),
            (None, Some(_)) => Some(MediaType::OciManifest),
            _ => None,
        };
        let media_type = MediaType::parse(&fields.media_type)
            .or_else(|| MediaType::parse(said.unwrap_or_default()))
            .or_else(by_shape)?;
        Some(Self { media_type, digest: digest.to_owned(), bytes: bytes.to_vec(), fields })
    }

    /// The documents that it lists.
    pub fn manifests(&self) -> Vec<Descriptor> {
        self.fields.manifests.clone().unwrap_or_default()
    }

    /// The config, then the layers, lowest first.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.fields.config.iter().chain(&self.fields.layers)
    }

    /// The config, where it is a manifest.
    pub fn config(&self) -> Option<&Descriptor> {
        self.fields.config.as_ref()
    }

    /// The digest of the manifest that it is about.
    pub fn subject(&self) -> Option<String> {
        self.fields.subject.as_ref().map(|subject| subject.digest.clone())
    }

    /// What a list of referrers says of it.
    pub fn referrer(&self) -> Value {
        let config = self.fields.config.as_ref().map(|config| config.media_type.clone());
        let artifact = self.fields.artifact_type.clone().or(config);
        let mut entry = serde_json::Map::new();
        entry.insert("mediaType".to_owned(), Value::from(self.media_type.as_str()));
        entry.insert("digest".to_owned(), Value::from(self.digest.as_str()));
        entry.insert("size".to_owned(), Value::from(self.bytes.len()));
        if let Some(artifact) = artifact {
            entry.insert("artifactType".to_owned(), Value::from(artifact));
        }
        if !self.fields.annotations.is_empty() {
            entry.insert("annotations".to_owned(), json!(self.fields.annotations));
        }
        Value::Object(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::{Document, MediaType};

    #[test]
    fn a_document_is_what_it_says_or_what_is_said_or_its_shape() {
        let read = |text: &str, said| {
            Document::read(text.as_bytes(), said, "sha256:x").map(|document| document.media_type)
        };
        let docker = MediaType::DockerManifest.as_str();
        let oci = format!(r#"{{"mediaType":"{}"}}"#, MediaType::OciIndex.as_str());
        assert_eq!(read(&oci, Some(docker)), Some(MediaType::OciIndex));
        assert_eq!(read("{}", Some(docker)), Some(MediaType::DockerManifest));
        assert_eq!(read(r#"{"manifests":[]}"#, None), Some(MediaType::OciIndex));
        let manifest = r#"{"config":{"digest":"sha256:c"},"layers":[{"digest":"sha256:l"}]}"#;
        assert_eq!(read(manifest, Some("text/plain")), Some(MediaType::OciManifest));
        assert_eq!(read("{}", None), None);
        assert_eq!(read("<html>", Some(docker)), None);
    }

    #[test]
    fn lists_that_go_left_empty_are_empty() {
        let manifest = r#"{"config":{"digest":"c","urls":null,"annotations":null},"layers":null,
            "annotations":null}"#;
        let document = Document::read(manifest.as_bytes(), None, "sha256:d").unwrap();
        assert_eq!(document.media_type, MediaType::OciManifest);
        assert_eq!(document.blobs().map(|blob| blob.digest.as_str()).collect::<Vec<_>>(), ["c"]);
        let index = MediaType::OciIndex.as_str();
        let document = Document::read(br#"{"manifests":null}"#, Some(index), "sha256:d").unwrap();
        assert!(document.manifests().is_empty());
    }

    #[test]
    fn blobs_are_the_config_and_the_layers() {
        let text = br#"{"config":{"digest":"c","size":1},"layers":[{"digest":"l","size":2},
            {"digest":"f","urls":["https://x"]}],"subject":{"digest":"s"},"artifactType":"a/b"}"#;
        let document = Document::read(text, None, "sha256:d").unwrap();
        let blobs: Vec<_> = document.blobs().map(|blob| blob.digest.as_str()).collect();
        assert_eq!(blobs, ["c", "l", "f"]);
        assert!(document.blobs().last().unwrap().is_foreign());
        assert_eq!(document.subject().as_deref(), Some("s"));
        assert_eq!(document.referrer()["artifactType"], "a/b");
    }
}
