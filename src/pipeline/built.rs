//! What a build made, for people, scripts and files.

use super::{
    docker::DockerPush,
    error::Error,
    journal::Journal,
    outputs::{Outputs, Push},
};
use crate::{
    buildkit::{control::Control, session::ContextCounts},
    engine::PushedImage,
    image::{document::Descriptor, reference::Reference},
    llb::Platform,
    plan::{BuildPlan, ImageLock},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use std::{collections::BTreeMap, io::Write as _, path::Path, time::Duration};

/// The largest manifest, index or image config that is read; registries take no larger ones.
const DOCUMENT_LIMIT: usize = 4 << 20;

/// What a build made: the `result` of the command line's JSON. What is not known is null.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Built {
    /// The image, where the build made one.
    pub image: Option<Image>,
    /// Its push, where there was one.
    pub push: Option<Pushed>,
    /// The build itself.
    pub build: BuildFacts,
    /// How long what took.
    #[serde(rename = "timings_ms")]
    pub timings: Timings,
    /// What the exporters answered, for the metadata file.
    #[serde(skip)]
    pub exporter_response: BTreeMap<String, String>,
    /// What the metadata file holds besides.
    #[serde(skip)]
    pub metadata: BTreeMap<String, Value>,
    /// The images that the build starts from, by their digests; none where they are not known here.
    #[serde(skip)]
    pub bases: ImageLock,
    /// The build's id on the builder; empty where several builders had a part in it.
    #[serde(skip)]
    pub build_id: String,
}

/// An image that a build made.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Image {
    /// The repository of its first name, in full; null where it has none.
    pub name: Option<String>,
    /// The digest of its manifest or index.
    pub digest: Option<String>,
    /// The digest of its config, where it is for one platform.
    pub config_digest: Option<String>,
    /// Its manifests, one for each platform.
    pub manifests: Vec<Manifest>,
    /// Its names with their tags, in full.
    pub tags: Vec<String>,
}

/// A platform's manifest.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Manifest {
    /// Such as `linux/arm64`.
    pub platform: Option<String>,
    /// Its digest.
    pub digest: String,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// Its layers, the lowest first; empty where the builder does not show them.
    pub layers: Vec<Layer>,
}

/// A layer.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Layer {
    /// Its digest.
    pub digest: String,
    /// Its size in bytes, as it travels.
    pub size: u64,
}

/// A push.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Pushed {
    /// The registry of the first name.
    pub registry: String,
    /// Who pushed: `client`, `builder`, or the `engine` of a Docker that gives no blobs out.
    pub via: &'static str,
    /// Blobs by what became of them.
    pub blobs: PushedBlobs,
    /// Bytes.
    pub bytes: PushedBytes,
    /// Requests made to the registry.
    pub requests: Option<u64>,
    /// The tags of the signatures that this process made, in full; empty where it made none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<String>,
}

/// Blobs of a push.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct PushedBlobs {
    /// Sent.
    pub uploaded: Option<u64>,
    /// Taken from another repository of the registry.
    pub mounted: Option<u64>,
    /// There already.
    pub existing: Option<u64>,
}

/// Bytes of a push.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct PushedBytes {
    /// Sent.
    pub uploaded: Option<u64>,
    /// Of the whole image.
    pub total: Option<u64>,
}

/// The build itself.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct BuildFacts {
    /// Steps that ran or were found in the cache.
    pub vertices: Option<u64>,
    /// Steps that were found in the cache.
    pub cached: Option<u64>,
    /// Who compiled: `native`, `daemon`, or the reference of a frontend image.
    pub frontend: Option<String>,
    /// The digest of the graph's last op.
    pub llb_digest: Option<String>,
    /// What travelled from here.
    pub context: ContextFacts,
}

/// What travelled from here to the builder.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct ContextFacts {
    /// Files whose content was sent.
    pub files: Option<u64>,
    /// Bytes of files that were sent.
    pub bytes_sent: Option<u64>,
}

/// How long what took.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Timings {
    /// Finding and reaching the builder.
    #[serde(serialize_with = "milliseconds")]
    pub connect: Option<Duration>,
    /// Turning the Dockerfile into a graph.
    #[serde(serialize_with = "milliseconds")]
    pub compile: Option<Duration>,
    /// Bringing the context to the builder.
    #[serde(serialize_with = "milliseconds")]
    pub context: Option<Duration>,
    /// The builder's whole work, exports included.
    #[serde(serialize_with = "milliseconds")]
    pub solve: Option<Duration>,
    /// Writing the results out.
    #[serde(serialize_with = "milliseconds")]
    pub export: Option<Duration>,
    /// Pushing.
    #[serde(serialize_with = "milliseconds")]
    pub push: Option<Duration>,
    /// Writing caches after it.
    #[serde(serialize_with = "milliseconds")]
    pub cache: Option<Duration>,
    /// All of it.
    #[serde(serialize_with = "milliseconds")]
    pub total: Option<Duration>,
}

#[expect(clippy::ref_option, reason = "serde's signature")]
fn milliseconds<S: Serializer>(time: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)).serialize(to)
}

impl Built {
    /// Writes the files that `plan` asks for: the image's id, and the metadata.
    ///
    /// # Errors
    /// One cannot be written.
    pub(super) fn write_files(&self, plan: &BuildPlan) -> Result<(), Error> {
        if let Some(path) = &plan.iid_file {
            self.write_iid_file(path)?;
        }
        if let Some(path) = &plan.metadata_file {
            self.write_metadata_file(path)?;
        }
        Ok(())
    }

    /// What a user pipes on: `REPO[:TAG]@DIGEST`, or the digest alone where nothing was named. None
    /// where no image was made.
    pub fn reference(&self) -> Option<String> {
        let image = self.image.as_ref()?;
        let Some(digest) = &image.digest else { return image.config_digest.clone() };
        Some(match image.tags.first() {
            Some(tag) => format!("{tag}@{digest}"),
            None => digest.clone(),
        })
    }

    /// Writes the image's id as buildx does: the digest of its config, or of its index where it is
    /// one.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_iid_file(&self, path: &Path) -> Result<(), Error> {
        let response = &self.exporter_response;
        let id = response
            .get("containerimage.config.digest")
            .or_else(|| response.get("containerimage.digest"));
        write_whole(path, id.map(String::as_bytes).unwrap_or_default())
    }

    /// Writes what the exporters answered as buildx does: JSON inside is unpacked, and the build's
    /// id on the builder is added.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_metadata_file(&self, path: &Path) -> Result<(), Error> {
        let text = serde_json::to_vec_pretty(&self.metadata()).unwrap_or_default();
        write_whole(path, &text)
    }

    fn metadata(&self) -> BTreeMap<&str, Value> {
        let mut metadata: BTreeMap<&str, Value> = self
            .exporter_response
            .iter()
            .map(|(key, value)| (key.as_str(), unpacked(value)))
            .collect();
        let more = self.metadata.iter().map(|(key, value)| (key.as_str(), value.clone()));
        metadata.extend(more);
        if !self.build_id.is_empty() {
            metadata.insert("buildx.build.ref", Value::from(self.build_id.as_str()));
        }
        metadata
    }
}

/// A value as it is, or the JSON object or list that it holds in base64.
fn unpacked(value: &str) -> Value {
    let inner =
        BASE64_STANDARD.decode(value).ok().and_then(|json| serde_json::from_slice(&json).ok());
    match inner {
        Some(Value::Object(object)) if !object.is_empty() => Value::Object(object),
        Some(Value::Array(list)) if !list.is_empty() && list.iter().all(Value::is_object) => {
            Value::Array(list)
        }
        _ => Value::from(value),
    }
}

/// Writes a file so that it is there whole or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let write = || {
        let mut file = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .prefix(".bk-sync-")
            .tempfile_in(directory)?;
        file.write_all(bytes)?;
        file.persist(path).map_err(|error| error.error)
    };
    write().map(drop).map_err(|cause| Error::Io {
        action: "cannot write",
        path: path.to_owned(),
        cause,
    })
}

/// The image that the exporters' answer speaks of, with what the builder's store says of it.
pub(super) async fn image(
    control: &Control,
    outputs: &Outputs,
    response: &BTreeMap<String, String>,
) -> Option<Image> {
    let digest = response.get("containerimage.digest")?;
    let config_digest = response.get("containerimage.config.digest").cloned();
    let mut image = Image {
        name: outputs.names.first().map(Reference::name),
        digest: Some(digest.clone()),
        config_digest: config_digest.clone(),
        manifests: Vec::new(),
        tags: outputs.names.iter().map(Reference::to_string).collect(),
    };
    if config_digest.as_ref() == Some(digest) {
        // A store without manifests names images by their configs.
        image.digest = None;
        return Some(image);
    }
    let size = response.get("containerimage.descriptor").and_then(|text| descriptor_size(text));
    let Some(document) = read::<Document>(control, digest).await else {
        image.manifests.push(Manifest { digest: digest.clone(), size, ..Manifest::default() });
        return Some(image);
    };
    if document.manifests.is_empty() {
        let config = document.config.map(|config| config.digest).or(config_digest);
        let platform = match &config {
            Some(config) => read::<PlatformJson>(control, config).await,
            None => None,
        };
        image.config_digest = config;
        let platform = platform.map(PlatformJson::format);
        let layers = layers(document.layers);
        image.manifests.push(Manifest { platform, digest: digest.clone(), size, layers });
        return Some(image);
    }
    let mut configs = Vec::new();
    for entry in document.manifests {
        // Attestations are entries for a platform that nobody has.
        let platform = entry.platform.map(PlatformJson::format);
        if platform.as_deref() == Some("unknown/unknown") {
            continue;
        }
        let manifest = read::<Document>(control, &entry.digest).await.unwrap_or_default();
        configs.extend(manifest.config.map(|config| config.digest));
        image.manifests.push(Manifest {
            platform,
            digest: entry.digest,
            size: entry.size,
            layers: layers(manifest.layers),
        });
    }
    if let (None, [_], [config]) = (&image.config_digest, &*image.manifests, &*configs) {
        image.config_digest = Some(config.clone());
    }
    Some(image)
}

fn layers(entries: Vec<Entry>) -> Vec<Layer> {
    let layer = |entry: Entry| Some(Layer { digest: entry.digest, size: entry.size? });
    entries.into_iter().filter_map(layer).collect()
}

/// What is known of a push that this process did not make.
pub(super) fn pushed(outputs: &Outputs) -> Option<Pushed> {
    let via = match outputs.push {
        Push::None | Push::Client => return None,
        Push::Exporter => "builder",
        Push::Docker => "engine",
    };
    let registry = outputs.names.first().map(|name| name.domain().to_owned());
    Some(Pushed { registry: registry.unwrap_or_default(), via, ..Pushed::default() })
}

/// The image that an exporter made, by its answer.
pub(super) fn root(response: &BTreeMap<String, String>) -> Option<Descriptor> {
    let json = BASE64_STANDARD.decode(response.get("containerimage.descriptor")?).ok()?;
    serde_json::from_slice(&json).ok()
}

/// Adds what a Docker pushed after the build: only then there is a manifest.
pub(super) fn add_docker_push(
    made: DockerPush,
    image: &mut Option<Image>,
    pushed: &mut Option<Pushed>,
    response: &mut BTreeMap<String, String>,
) {
    let DockerPush { image: PushedImage { digest, size, .. }, platform, blobs } = made;
    if let Some(image) = image {
        image.digest = Some(digest.clone());
        let (digest, size) = (digest.clone(), Some(size));
        image.manifests = vec![Manifest { platform, digest, size, ..Manifest::default() }];
    }
    if let Some(pushed) = pushed {
        pushed.blobs = blobs;
    }
    response.insert("containerimage.digest".to_owned(), digest);
}

/// The counts of a build.
pub(super) fn facts(
    journal: &Journal,
    counts: &ContextCounts,
    frontend: Option<String>,
) -> BuildFacts {
    BuildFacts {
        vertices: u64::try_from(journal.vertices()).ok(),
        cached: u64::try_from(journal.cached()).ok(),
        frontend,
        llb_digest: None,
        context: ContextFacts { files: Some(counts.files()), bytes_sent: Some(counts.bytes()) },
    }
}

async fn read<T: for<'de> Deserialize<'de>>(control: &Control, digest: &str) -> Option<T> {
    match control.read_blob(digest, DOCUMENT_LIMIT).await {
        Ok(Some(blob)) => serde_json::from_slice(&blob).ok(),
        Ok(None) => None,
        Err(failure) => {
            tracing::debug!(%failure, digest, "the builder does not show a blob");
            None
        }
    }
}

fn descriptor_size(text: &str) -> Option<u64> {
    let json = BASE64_STANDARD.decode(text).ok()?;
    serde_json::from_slice::<Entry>(&json).ok()?.size
}

/// A manifest or an index.
#[derive(Default, Deserialize)]
struct Document {
    #[serde(default)]
    manifests: Vec<Entry>,
    #[serde(default)]
    layers: Vec<Entry>,
    config: Option<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    digest: String,
    size: Option<u64>,
    platform: Option<PlatformJson>,
}

#[derive(Deserialize)]
struct PlatformJson {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: String,
}

impl PlatformJson {
    fn format(self) -> String {
        let Self { os, architecture, variant } = self;
        Platform { os, architecture, variant, ..Platform::default() }.normalized().format()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn built() -> Built {
        Built {
            image: Some(Image {
                name: Some("r.example/a".to_owned()),
                digest: Some("sha256:d".to_owned()),
                config_digest: None,
                manifests: vec![Manifest {
                    platform: Some("linux/arm64".to_owned()),
                    digest: "sha256:m".to_owned(),
                    size: Some(7),
                    layers: vec![Layer { digest: "sha256:l".to_owned(), size: 5 }],
                }],
                tags: vec!["r.example/a:1".to_owned(), "r.example/a:2".to_owned()],
            }),
            timings: Timings {
                total: Some(Duration::from_micros(1_234_567)),
                ..Timings::default()
            },
            exporter_response: BTreeMap::from([
                ("containerimage.digest".to_owned(), "sha256:d".to_owned()),
                ("containerimage.descriptor".to_owned(), BASE64_STANDARD.encode(r#"{"size":7}"#)),
                ("image.name".to_owned(), "r.example/a:1".to_owned()),
            ]),
            build_id: "b/n/x".to_owned(),
            ..Built::default()
        }
    }

    #[test]
    fn the_result_has_the_fields_of_the_contract() {
        let unknown = Value::Null;
        let blobs = json!({"uploaded": unknown, "mounted": unknown, "existing": unknown});
        let pushed =
            Pushed { registry: "r.example".to_owned(), via: "builder", ..Pushed::default() };
        let built = Built { push: Some(pushed), ..built() };
        assert_eq!(
            serde_json::to_value(&built).expect("json"),
            json!({
                "image": {
                    "name": "r.example/a",
                    "digest": "sha256:d",
                    "config_digest": unknown,
                    "manifests": [{
                        "platform": "linux/arm64",
                        "digest": "sha256:m",
                        "size": 7,
                        "layers": [{"digest": "sha256:l", "size": 5}],
                    }],
                    "tags": ["r.example/a:1", "r.example/a:2"],
                },
                "push": {
                    "registry": "r.example",
                    "via": "builder",
                    "blobs": blobs,
                    "bytes": {"uploaded": unknown, "total": unknown},
                    "requests": unknown,
                },
                "build": {
                    "vertices": unknown,
                    "cached": unknown,
                    "frontend": unknown,
                    "llb_digest": unknown,
                    "context": {"files": unknown, "bytes_sent": unknown},
                },
                "timings_ms": {
                    "connect": unknown, "compile": unknown, "context": unknown, "solve": unknown,
                    "export": unknown, "push": unknown, "cache": unknown,
                    "total": 1234,
                },
            })
        );
    }

    #[test]
    fn the_reference_is_the_first_name_with_the_digest() {
        let mut built = built();
        assert_eq!(built.reference().as_deref(), Some("r.example/a:1@sha256:d"));
        if let Some(image) = &mut built.image {
            image.tags.clear();
        }
        assert_eq!(built.reference().as_deref(), Some("sha256:d"));
        built.image = None;
        assert_eq!(built.reference(), None);
    }

    #[test]
    fn files_are_written_as_buildx_writes_them() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        built().write_iid_file(&path).expect("a file");
        assert_eq!(std::fs::read_to_string(&path).expect("a file"), "sha256:d");
        built().write_metadata_file(&path).expect("a file");
        let metadata: Value =
            serde_json::from_slice(&std::fs::read(&path).expect("a file")).expect("json");
        assert_eq!(
            metadata,
            json!({
                "buildx.build.ref": "b/n/x",
                "containerimage.descriptor": {"size": 7},
                "containerimage.digest": "sha256:d",
                "image.name": "r.example/a:1",
            })
        );
        let entries = std::fs::read_dir(directory.path()).expect("a directory").count();
        assert_eq!(entries, 1, "nothing is left beside it");
        let nowhere = directory.path().join("none/file");
        assert!(matches!(built().write_iid_file(&nowhere), Err(Error::Io { .. })));
    }
}
