//! Two images side by side, wherever each lies: where they part, and which step wrote that.

use super::{ReproduceError, zstd::Frames};
use crate::{
    image::{
        compare::{self, FieldDifference, LayerDifference, first_field, layers},
        config::ImageConfig,
        document::{Descriptor, Document},
    },
    llb::Platform,
    pipeline::push::ImageFiles,
    registry::{BlobSource as _, ByteStream, MAX_MANIFEST, Repository, read_whole},
};
use flate2::read::MultiGzDecoder;

use futures::TryStreamExt as _;
use serde::Serialize;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Read},
};
use tokio_util::io::{StreamReader, SyncIoBridge};

/// The platform of what is no image.
const NOBODY: &str = "unknown/unknown";

/// Where two images part.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Parting {
    /// The platform whose manifests part; null where the whole does.
    pub platform: Option<String>,
    /// What is different.
    #[serde(flatten)]
    pub part: Part,
}

/// What two images differ in.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "part")]
pub enum Part {
    /// The platforms that they are for.
    Platforms {
        /// Those of the first one.
        first: Vec<String>,
        /// Those of the second one.
        second: Vec<String>,
    },
    /// A field of the index.
    Index(FieldDifference),
    /// A field of the manifest: all of its blobs are the same.
    Manifest(FieldDifference),
    /// A field of the config: all layers are the same.
    Config(FieldDifference),
    /// How a layer is compressed: what it holds is the same.
    Compression(Layers),
    /// What a layer holds.
    Layer(Layers),
}

/// A pair of layers that differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Layers {
    /// Which, from 1; the lowest is the first.
    pub number: usize,
    /// How many the first image has.
    pub count: usize,
    /// The instruction that wrote it, where the image tells.
    pub step: Option<String>,
    /// The digest of the first one; null where it has none.
    pub first: Option<String>,
    /// That of the second one.
    pub second: Option<String>,
    /// What they differ in; null where only one has such a layer, or where they hold the same.
    pub difference: Option<LayerDifference>,
    /// Why they were not looked into, where they were not.
    pub unread: Option<String>,
}

impl fmt::Display for Parting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = self.platform.as_ref().map(|platform| format!(" of {platform}"));
        let of = of.unwrap_or_default();
        match &self.part {
            Part::Platforms { first, second } => {
                let (first, second) = (first.join(", "), second.join(", "));
                write!(formatter, "the recorded image is for {first}, and this one for {second}")
            }
            Part::Index(field) => write!(formatter, "the index differs: {field}"),
            Part::Manifest(field) => write!(formatter, "the manifest{of} differs: {field}"),
            Part::Config(field) => write!(formatter, "the config{of} differs: {field}"),
            Part::Compression(layers) => {
                write!(formatter, "{layers}{of} holds the same and is compressed otherwise")
            }
            Part::Layer(Layers { first: None, .. }) => {
                write!(formatter, "there is a layer more{of}")
            }
            Part::Layer(Layers { second: None, .. }) => {
                write!(formatter, "there is a layer less{of}")
            }
            Part::Layer(layers) => match &layers.difference {
                Some(difference) => write!(formatter, "{layers}{of} differs: {}", difference.first),
                None => write!(formatter, "{layers}{of} differs"),
            },
        }
    }
}

impl fmt::Display for Layers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "layer {} of {}", self.number, self.count)
    }
}

impl Parting {
    /// What else is to be said of it, a line each.
    pub fn notes(&self) -> Vec<String> {
        let (Part::Layer(layers) | Part::Compression(layers)) = &self.part else {
            return Vec::new();
        };
        let mut notes = Vec::new();
        notes.extend(layers.step.as_ref().map(|step| format!("the layer was written by `{step}`")));
        if let Some(difference) = &layers.difference {
            notes.extend(difference.beyond_times.as_ref().map(|more| format!("then {more}")));
        }
        notes.extend(layers.unread.as_ref().map(|why| format!("not looked into: {why}")));
        notes
    }
}

/// Where an image lies.
pub(super) enum Side {
    Registry(Repository),
    Files(Box<ImageFiles>),
}

impl Side {
    fn unreadable(&self, digest: &str, cause: impl fmt::Display) -> ReproduceError {
        let what = match self {
            Self::Registry(repository) => format!("`{repository}@{digest}`"),
            Self::Files(_) => format!("`{digest}` of the image that was built"),
        };
        ReproduceError::Unreadable { what, cause: cause.to_string() }
    }

    async fn document(&self, digest: &str) -> Result<Document, ReproduceError> {
        let document = match self {
            Self::Registry(repository) => {
                repository.manifest(digest).await.map_err(|error| self.unreadable(digest, error))?
            }
            Self::Files(files) => {
                let bytes = read_whole(files.as_ref(), digest, MAX_MANIFEST).await;
                let bytes = bytes.map_err(|error| self.unreadable(digest, error))?;
                Document::read(&bytes, None, digest)
            }
        };
        document.ok_or_else(|| self.unreadable(digest, "there is no such manifest"))
    }

    async fn open(&self, digest: &str) -> Result<ByteStream, ReproduceError> {
        match self {
            Self::Registry(repository) => repository
                .read_blob(digest, 0)
                .await
                .map_err(|error| self.unreadable(digest, error)),
            Self::Files(files) => {
                files.open(digest, 0).await.map_err(|error| self.unreadable(digest, error))
            }
        }
    }

    async fn json(&self, digest: &str) -> Result<Value, ReproduceError> {
        let mut stream = self.open(digest).await?;
        let mut bytes = Vec::new();
        while let Some(chunk) =
            stream.try_next().await.map_err(|error| self.unreadable(digest, error))?
        {
            if bytes.len() + chunk.len() > MAX_MANIFEST {
                return Err(self.unreadable(digest, "it is too large"));
            }
            bytes.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&bytes).map_err(|error| self.unreadable(digest, error))
    }

    /// A layer as it lies there, as a stream for code that waits.
    async fn layer(&self, digest: &str) -> Result<Packed, ReproduceError> {
        let stream = self.open(digest).await?.map_err(io::Error::other);
        Ok(Box::new(SyncIoBridge::new(StreamReader::new(stream))))
    }
}

/// A layer that is read; only where it may wait.
type Packed = Box<dyn Read + Send>;

/// The tar stream of a layer, whose compression its first bytes say.
fn unpacked(mut packed: Packed) -> io::Result<Packed> {
    let mut head = Vec::new();
    packed.by_ref().take(4).read_to_end(&mut head)?;
    let is_zstd = head == [0x28, 0xb5, 0x2f, 0xfd];
    let is_gzip = head.starts_with(&[0x1f, 0x8b]);
    let whole = io::Cursor::new(head).chain(packed);
    Ok(match (is_gzip, is_zstd) {
        (true, _) => Box::new(MultiGzDecoder::new(whole)),
        (_, true) => Box::new(Frames::new(whole)),
        _ => Box::new(whole),
    })
}

/// A manifest of an image, with what it names.
struct Manifest {
    digest: String,
    text: Value,
    config: Value,
    layers: Vec<Descriptor>,
}

/// Where two images part that have different digests.
///
/// # Errors
/// One of them cannot be read.
pub(super) async fn compare(
    (one, first): (&Side, &str),
    (other, second): (&Side, &str),
) -> Result<Parting, ReproduceError> {
    let (left, right) = (one.document(first).await?, other.document(second).await?);
    let (texts, others) = (text(&left), text(&right));
    let manifests = (manifests(one, &left).await?, manifests(other, &right).await?);
    let platforms = |side: &BTreeMap<String, String>| side.keys().cloned().collect::<Vec<_>>();
    let (here, there) = (platforms(&manifests.0), platforms(&manifests.1));
    if here != there {
        let part = Part::Platforms { first: here, second: there };
        return Ok(Parting { platform: None, part });
    }
    for (platform, digest) in &manifests.0 {
        let Some(theirs) = manifests.1.get(platform).filter(|theirs| *theirs != digest) else {
            continue;
        };
        let pair = (manifest(one, digest).await?, manifest(other, theirs).await?);
        let part = of_one_platform((one, &pair.0), (other, &pair.1)).await?;
        return Ok(Parting { platform: Some(platform.clone()), part });
    }
    // The digests are others, so something is.
    let nothing = || FieldDifference {
        field: String::new(),
        first: Value::from(first),
        second: Value::from(second),
    };
    let field = first_field(&texts, &others).unwrap_or_else(nothing);
    Ok(Parting { platform: None, part: Part::Index(field) })
}

fn text(document: &Document) -> Value {
    serde_json::from_slice(&document.bytes).unwrap_or_default()
}

/// The manifests of an image by platform; attestations are none.
async fn manifests(
    side: &Side,
    document: &Document,
) -> Result<BTreeMap<String, String>, ReproduceError> {
    let mut found = BTreeMap::new();
    if !document.media_type.is_index() {
        let config = manifest(side, &document.digest).await?.config;
        found.insert(platform(&config), document.digest.clone());
        return Ok(found);
    }
    let text = text(document);
    for entry in text.get("manifests").and_then(Value::as_array).into_iter().flatten() {
        let platform = platform(entry.get("platform").unwrap_or(&Value::Null));
        let digest = entry.get("digest").and_then(Value::as_str);
        if let Some(digest) = digest.filter(|_| platform != NOBODY) {
            found.insert(platform, digest.to_owned());
        }
    }
    Ok(found)
}

/// The platform that an entry of an index, or a config, tells.
fn platform(of: &Value) -> String {
    let field = |name: &str| of.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let platform = Platform {
        os: field("os"),
        architecture: field("architecture"),
        variant: field("variant"),
        ..Platform::default()
    };
    platform.format()
}

async fn manifest(side: &Side, digest: &str) -> Result<Manifest, ReproduceError> {
    let document = side.document(digest).await?;
    let config = match document.config() {
        Some(config) => side.json(&config.digest).await?,
        None => Value::Null,
    };
    let layers = document.blobs().skip(usize::from(document.config().is_some())).cloned().collect();
    Ok(Manifest { digest: digest.to_owned(), text: text(&document), config, layers })
}

async fn of_one_platform(
    (one, first): (&Side, &Manifest),
    (other, second): (&Side, &Manifest),
) -> Result<Part, ReproduceError> {
    let told = |manifest: &Manifest| {
        layers(&serde_json::from_value::<ImageConfig>(manifest.config.clone()).unwrap_or_default())
    };
    let (left, right) = (told(first), told(second));
    for at in 0..left.len().max(right.len()) {
        let (mine, theirs) = (left.get(at), right.get(at));
        let is_same = mine.map(|layer| &layer.diff_id) == theirs.map(|layer| &layer.diff_id);
        let packed = |manifest: &Manifest| manifest.layers.get(at).map(|blob| blob.digest.clone());
        let mut pair = Layers {
            number: at + 1,
            count: left.len(),
            step: mine.or(theirs).and_then(|layer| layer.step.clone()),
            first: packed(first),
            second: packed(second),
            difference: None,
            unread: None,
        };
        if is_same && pair.first != pair.second {
            return Ok(Part::Compression(pair));
        }
        if is_same {
            continue;
        }
        if let (Some(mine), Some(theirs)) = (&pair.first, &pair.second) {
            let opened = (one.layer(mine).await?, other.layer(theirs).await?);
            (pair.difference, pair.unread) = look_into(opened).await;
        }
        return Ok(Part::Layer(pair));
    }
    if let Some(field) = first_field(&first.config, &second.config) {
        return Ok(Part::Config(field));
    }
    let nothing = || FieldDifference {
        field: String::new(),
        first: Value::from(first.digest.clone()),
        second: Value::from(second.digest.clone()),
    };
    Ok(Part::Manifest(first_field(&first.text, &second.text).unwrap_or_else(nothing)))
}

/// What two layers differ in, or why that cannot be told.
async fn look_into((first, second): (Packed, Packed)) -> (Option<LayerDifference>, Option<String>) {
    let compared = tokio::task::spawn_blocking(move || {
        let difference = compare::compare(unpacked(first)?, unpacked(second)?)?;
        Ok::<_, io::Error>(difference.ok_or("they hold the same in archives of another form"))
    });
    match compared.await {
        Ok(Ok(Ok(difference))) => (Some(difference), None),
        Ok(Ok(Err(why))) => (None, Some(why.to_owned())),
        Ok(Err(error)) => (None, Some(error.to_string())),
        Err(error) => (None, Some(error.to_string())),
    }
}
