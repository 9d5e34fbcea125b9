//! Images in files: OCI layouts, archives of them, and what `docker save` writes. Archives are read
//! where they lie; nothing is unpacked.

use super::pieces::{Memory, pieces};
use crate::{
    image::{
        document::{Descriptor, MediaType},
        json::nullable,
        reference::check_digest,
    },
    registry::{BlobSource, ByteStream, MAX_MANIFEST, SourceError, digest, whole},
};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, future::BoxFuture};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Seek as _, SeekFrom},
    path::{Component, Path, PathBuf},
};

/// Bytes that are read at a time.
const CHUNK: usize = 512 << 10;
/// The file that makes a directory a layout.
const INDEX: &str = "index.json";
/// The file that `docker save` lists its images in.
const DOCKER_LIST: &str = "manifest.json";
/// The annotation with a tag in a layout's index.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation with a whole name that containerd and BuildKit put there.
const IMAGE_NAME: &str = "io.containerd.image.name";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// An image in files.
#[derive(Debug)]
pub struct ImageFiles {
    /// Its manifest or index.
    pub root: Descriptor,
    store: Store,
    memory: Memory,
}

#[derive(Debug)]
enum Store {
    Layout(PathBuf),
    Archive {
        path: PathBuf,
        /// Where blobs begin in the archive, and how long they are.
        blobs: BTreeMap<String, (u64, u64)>,
        /// Documents that the archive does not have and that were made of what it has.
        made: BTreeMap<String, Bytes>,
    },
}

/// Why files are no image that can be pushed.
#[derive(Debug, thiserror::Error)]
pub enum ImageFilesError {
    /// They cannot be read.
    #[error("cannot read `{}`: {cause}", path.display())]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// They are not what can be read here.
    #[error("`{}` is no OCI layout and no archive of an image: {problem}", path.display())]
    NoImage {
        /// The file or directory.
        path: PathBuf,
        /// What is missing or wrong.
        problem: String,
    },
    /// There are several images.
    #[error("`{}` holds several images: {}", path.display(), names.join(", "))]
    Several {
        /// The file or directory.
        path: PathBuf,
        /// What they are called there.
        names: Vec<String>,
    },
}

impl ImageFiles {
    /// Opens the image at `path`. Where there are several, `tags` (names in full) choose.
    ///
    /// # Errors
    /// See [`ImageFilesError`].
    pub fn open(path: &Path, tags: &[String]) -> Result<Self, ImageFilesError> {
        let unreadable = |cause| ImageFilesError::Unreadable { path: path.to_owned(), cause };
        let path = path.canonicalize().map_err(unreadable)?;
        let read = if path.is_dir() { layout(&path, tags) } else { archive(&path, tags) };
        read.map_err(|problem| match problem {
            Problem::Io(cause) => ImageFilesError::Unreadable { path, cause },
            Problem::NoImage(problem) => ImageFilesError::NoImage { path, problem },
            Problem::Several(names) => ImageFilesError::Several { path, names },
        })
    }
}

enum Problem {
    Io(io::Error),
    NoImage(String),
    Several(Vec<String>),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn no_image(problem: impl Into<String>) -> Problem {
    Problem::NoImage(problem.into())
}

fn layout(path: &Path, tags: &[String]) -> Result<ImageFiles, Problem> {
    let index = match fs::read(path.join(INDEX)) {
        Ok(index) => index,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(no_image(format!("it has no `{INDEX}`")));
        }
        Err(error) => return Err(error.into()),
    };
    Ok(ImageFiles {
        root: chosen(&index, tags)?,
        store: Store::Layout(path.to_owned()),
        memory: Memory::default(),
    })
}

/// The image of a layout's index that is meant.
fn chosen(index: &[u8], tags: &[String]) -> Result<Descriptor, Problem> {
    #[derive(Deserialize)]
    struct Index {
        #[serde(default, deserialize_with = "nullable")]
        manifests: Vec<Descriptor>,
    }
    let index: Index = serde_json::from_slice(index)
        .map_err(|error| no_image(format!("its `{INDEX}` cannot be read: {error}")))?;
    let mut images: Vec<Descriptor> =
        index.manifests.into_iter().filter(Descriptor::is_document).collect();
    if images.is_empty() {
        return Err(no_image(format!("its `{INDEX}` lists no image")));
    }
    images.dedup_by(|one, other| one.digest == other.digest);
    if images.len() > 1 {
        let is_meant = |image: &Descriptor| {
            let named = [IMAGE_NAME, REF_NAME].map(|key| image.annotations.get(key));
            named.into_iter().flatten().any(|name| {
                tags.iter().any(|tag| tag == name || tag.rsplit(':').next() == Some(name.as_str()))
            })
        };
        if let Some(at) = images.iter().position(is_meant) {
            return Ok(images.swap_remove(at));
        }
        let names = images
            .iter()
            .map(|image| image.annotations.get(REF_NAME).unwrap_or(&image.digest).clone());
        return Err(Problem::Several(names.collect()));
    }
    images.pop().ok_or_else(|| no_image("it lists no image"))
}

/// The files of an archive: where their content begins, and how long it is.
type Files = BTreeMap<PathBuf, (u64, u64)>;

fn archive(path: &Path, tags: &[String]) -> Result<ImageFiles, Problem> {
    let mut file = File::open(path)?;
    let mut magic = [0; 4];
    let length = file.read(&mut magic)?;
    file.seek(SeekFrom::Start(0))?;
    let packed = match magic.get(..length) {
        Some([0x1f, 0x8b, ..]) => Some("gzip"),
        Some([0x28, 0xb5, 0x2f, 0xfd]) => Some("zstd"),
        _ => None,
    };
    if let Some(packed) = packed {
        return Err(no_image(format!("it is compressed with {packed}: unpack it first")));
    }
    let files = files(&file)?;
    let read = |name: &Path| -> Result<Vec<u8>, Problem> {
        let (offset, length) =
            files.get(name).ok_or_else(|| no_image(format!("it has no `{}`", name.display())))?;
        if *length > u64::try_from(MAX_MANIFEST).unwrap_or(u64::MAX) {
            return Err(no_image(format!("its `{}` is too large", name.display())));
        }
        read_at(path, *offset, *length).map_err(Problem::Io)
    };
    let mut blobs: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for (name, place) in &files {
        if let Some(digest) = blob_name(name) {
            blobs.insert(digest, *place);
        }
    }
    if files.contains_key(Path::new(INDEX)) {
        let root = chosen(&read(Path::new(INDEX))?, tags)?;
        let store = Store::Archive { path: path.to_owned(), blobs, made: BTreeMap::new() };
        return Ok(ImageFiles { root, store, memory: Memory::default() });
    }
    if !files.contains_key(Path::new(DOCKER_LIST)) {
        return Err(no_image(format!("it has neither `{INDEX}` nor `{DOCKER_LIST}`")));
    }
    let saved = saved(&read(Path::new(DOCKER_LIST))?, tags)?;
    let config = read(&saved.config)?;
    let mut layers = Vec::new();
    for (layer, diff_id) in saved.layers.iter().zip(diff_ids(&config)?) {
        let place = *files
            .get(layer)
            .ok_or_else(|| no_image(format!("it has no `{}`", layer.display())))?;
        let (media_type, digest) = layer_facts(path, place, diff_id)?;
        layers.push(json!({ "mediaType": media_type, "digest": digest, "size": place.1 }));
        blobs.insert(digest, place);
    }
    let config_digest = digest(&config);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MediaType::OciManifest.as_str(),
        "config": { "mediaType": CONFIG, "digest": config_digest, "size": config.len() },
        "layers": layers,
    });
    let manifest = serde_json::to_vec(&manifest).unwrap_or_default();
    let root = Descriptor {
        media_type: MediaType::OciManifest.as_str().to_owned(),
        digest: digest(&manifest),
        size: u64::try_from(manifest.len()).unwrap_or_default(),
        ..Descriptor::default()
    };
    let made = BTreeMap::from([
        (root.digest.clone(), Bytes::from(manifest)),
        (config_digest, Bytes::from(config)),
    ]);
    Ok(ImageFiles {
        root,
        store: Store::Archive { path: path.to_owned(), blobs, made },
        memory: Memory::default(),
    })
}

/// Where the files of a tar archive lie. Links stand for what they name.
fn files(file: &File) -> Result<Files, Problem> {
    let broken = |error: io::Error| no_image(format!("it is no tar archive: {error}"));
    let mut files = Files::new();
    let mut links: Vec<(PathBuf, PathBuf)> = Vec::new();
    let mut archive = tar::Archive::new(file);
    for entry in archive.entries_with_seek().map_err(broken)? {
        let entry = entry.map_err(broken)?;
        let name = plain(&entry.path().map_err(broken)?);
        let kind = entry.header().entry_type();
        if kind.is_file() {
            files.insert(name, (entry.raw_file_position(), entry.size()));
        } else if kind.is_symlink() || kind.is_hard_link() {
            let Some(target) = entry.link_name().map_err(broken)? else { continue };
            let from = if kind.is_symlink() { name.parent() } else { None };
            let target = plain(&from.unwrap_or(Path::new("")).join(target));
            links.push((name, target));
        }
    }
    for (name, target) in links {
        if let Some(place) = files.get(&target).copied() {
            files.insert(name, place);
        }
    }
    Ok(files)
}

/// A path without dots, as it is looked up. What leads out of the archive leads nowhere.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    plain
}

/// The digest that a file of a layout is named by: `blobs/sha256/…`.
fn blob_name(path: &Path) -> Option<String> {
    let mut parts = path.components().map(|part| part.as_os_str().to_str());
    let (Some(Some("blobs")), Some(Some(algorithm)), Some(Some(hex)), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let digest = format!("{algorithm}:{hex}");
    check_digest(&digest).ok().map(|()| digest)
}

/// An image as `docker save` lists it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: PathBuf,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default, deserialize_with = "nullable")]
    layers: Vec<PathBuf>,
}

fn saved(list: &[u8], tags: &[String]) -> Result<Saved, Problem> {
    let mut images: Vec<Saved> = serde_json::from_slice(list)
        .map_err(|error| no_image(format!("its `{DOCKER_LIST}` cannot be read: {error}")))?;
    let named = |image: &Saved| image.repo_tags.clone().unwrap_or_default();
    let at = match images.as_slice() {
        [] => return Err(no_image(format!("its `{DOCKER_LIST}` lists no image"))),
        [_] => 0,
        several => {
            let is_meant = |image: &Saved| named(image).iter().any(|name| tags.contains(name));
            several
                .iter()
                .position(is_meant)
                .ok_or_else(|| Problem::Several(several.iter().flat_map(named).collect()))?
        }
    };
    let mut image = images.swap_remove(at);
    image.config = plain(&image.config);
    for layer in &mut image.layers {
        *layer = plain(layer);
    }
    Ok(image)
}

/// The digests of an image's layers as they are unpacked.
fn diff_ids(config: &[u8]) -> Result<Vec<String>, Problem> {
    let config: Value = serde_json::from_slice(config)
        .map_err(|error| no_image(format!("its config cannot be read: {error}")))?;
    let ids = config.pointer("/rootfs/diff_ids").and_then(Value::as_array).into_iter().flatten();
    Ok(ids.filter_map(|id| id.as_str().map(str::to_owned)).collect())
}

/// What a layer of `docker save` is: mostly a plain tar archive, whose digest the config knows.
fn layer_facts(
    path: &Path,
    (offset, length): (u64, u64),
    diff_id: String,
) -> Result<(String, String), Problem> {
    let magic = read_at(path, offset, length.min(4))?;
    let suffix = match magic.as_slice() {
        [0x1f, 0x8b, ..] => "+gzip",
        [0x28, 0xb5, 0x2f, 0xfd] => "+zstd",
        _ => return Ok((LAYER.to_owned(), diff_id)),
    };
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut hash = Sha256::new();
    let mut content = file.take(length);
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = content.read(&mut buffer)?;
        match buffer.get(..read) {
            Some([]) | None => break,
            Some(bytes) => hash.update(bytes),
        }
    }
    let digest = format!("sha256:{}", crate::registry::hex(&hash.finalize()));
    Ok((format!("{LAYER}{suffix}"), digest))
}

fn read_at(path: &Path, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl BlobSource for ImageFiles {
    fn open<'a>(
        &'a self,
        digest: &'a str,
        offset: u64,
    ) -> BoxFuture<'a, Result<ByteStream, SourceError>> {
        let missing = move |error: &dyn std::fmt::Display| {
            SourceError::new(format!("`{digest}` cannot be read: {error}"))
        };
        Box::pin(async move {
            let (path, start, length) = match &self.store {
                Store::Layout(folder) => {
                    check_digest(digest).map_err(|error| missing(&error))?;
                    let (algorithm, hex) = digest.split_once(':').unwrap_or_default();
                    (folder.join("blobs").join(algorithm).join(hex), 0, u64::MAX)
                }
                Store::Archive { path, blobs, made } => {
                    if let Some(bytes) = made.get(digest) {
                        return Ok(whole(bytes, offset));
                    }
                    let place = blobs.get(digest).ok_or_else(|| missing(&"it is not there"))?;
                    (path.clone(), place.0, place.1)
                }
            };
            let from = start.saturating_add(offset);
            let open = move || {
                let mut file = File::open(&path)?;
                file.seek(SeekFrom::Start(from))?;
                Ok(file.take(length.saturating_sub(offset)))
            };
            let rest = blocking(open).await.map_err(|error| missing(&error))?;
            let name = digest.to_owned();
            let stream = pieces(rest, self.memory.clone())
                .map_err(move |error| SourceError::new(format!("reading `{name}`: {error}")));
            Ok(stream.boxed())
        })
    }

    fn is_hashed_on_the_way(&self) -> bool {
        false
    }
}

/// Work with files, where it holds up nobody.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::{ImageFiles, ImageFilesError};
    use crate::registry::{Graph, digest, read_whole};
    use serde_json::json;
    use std::{fs, path::Path};

    fn tar(path: &Path, files: &[(&str, &[u8])], links: &[(&str, &str)]) {
        let mut archive = tar::Builder::new(fs::File::create(path).unwrap());
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(u64::try_from(content.len()).unwrap());
            header.set_mode(0o644);
            archive.append_data(&mut header, name, *content).unwrap();
        }
        for (name, target) in links {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            archive.append_link(&mut header, name, target).unwrap();
        }
        archive.finish().unwrap();
    }

    #[tokio::test]
    async fn what_docker_saves_becomes_an_image() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("saved.tar");
        let (one, two) = (b"layer one".as_slice(), b"\x1f\x8bcompressed".as_slice());
        let config =
            json!({"rootfs": {"diff_ids": [digest(one), digest(b"unpacked"), digest(one)]}});
        let config = config.to_string();
        let list = json!([{
            "Config": "c.json",
            "RepoTags": ["a:1"],
            "Layers": ["1/layer.tar", "./2/layer.tar", "3/layer.tar"],
        }]);
        tar(
            &path,
            &[
                ("1/layer.tar", one),
                ("2/layer.tar", two),
                ("c.json", config.as_bytes()),
                ("manifest.json", list.to_string().as_bytes()),
            ],
            &[("3/layer.tar", "../1/layer.tar")],
        );
        let image = ImageFiles::open(&path, &[]).unwrap();
        let graph = Graph::load(&image.root, &image).await.unwrap();
        let names: Vec<_> = graph.blobs().iter().map(|blob| blob.digest.clone()).collect();
        assert_eq!(names, [digest(config.as_bytes()), digest(one), digest(two)]);
        for (content, name) in [(one, &names[1]), (two, &names[2])] {
            assert_eq!(read_whole(&image, name, 100).await.unwrap(), content);
        }
        assert!(graph.blobs()[2].media_type.ends_with("tar+gzip"));
    }

    #[tokio::test]
    async fn a_layout_and_its_archive_are_one_image() {
        let folder = tempfile::tempdir().unwrap();
        let (config, layer) = (b"{}".as_slice(), b"layer".as_slice());
        let entry = |bytes: &[u8]| json!({"digest": digest(bytes), "size": bytes.len()});
        let manifest = json!({"config": entry(config), "layers": [entry(layer)]}).to_string();
        let mut root = entry(manifest.as_bytes());
        root["mediaType"] = json!("application/vnd.oci.image.manifest.v1+json");
        let index = json!({"manifests": [root]}).to_string();
        let name = |bytes: &[u8]| digest(bytes).replace(':', "/");
        let blobs = folder.path().join("layout/blobs");
        fs::create_dir_all(blobs.join("sha256")).unwrap();
        let mut files = vec![("index.json".to_owned(), index.as_bytes())];
        for bytes in [config, layer, manifest.as_bytes()] {
            fs::write(blobs.join(name(bytes)), bytes).unwrap();
            files.push((format!("blobs/{}", name(bytes)), bytes));
        }
        fs::write(folder.path().join("layout/index.json"), &index).unwrap();
        let path = folder.path().join("archive.tar");
        let files: Vec<_> = files.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect();
        tar(&path, &files, &[]);
        for path in [folder.path().join("layout"), path] {
            let image = ImageFiles::open(&path, &[]).unwrap();
            assert_eq!(image.root.digest, digest(manifest.as_bytes()));
            let graph = Graph::load(&image.root, &image).await.unwrap();
            assert_eq!(graph.blobs().len(), 2);
            assert_eq!(read_whole(&image, &digest(layer), 9).await.unwrap(), layer);
        }
    }

    #[test]
    fn what_is_no_image_says_what_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let error = |path: &Path| ImageFiles::open(path, &[]).unwrap_err().to_string();
        assert!(error(folder.path()).contains("index.json"));
        assert!(error(&folder.path().join("no")).contains("cannot read"));
        let file = folder.path().join("f");
        fs::write(&file, b"\x1f\x8b\x08\x00").unwrap();
        assert!(error(&file).contains("gzip"));
        tar(&file, &[("x", b"y")], &[]);
        assert!(error(&file).contains("neither"));
        let two =
            json!([{"Config": "a", "RepoTags": ["a:1"]}, {"Config": "b", "RepoTags": ["b:1"]}]);
        tar(&file, &[("manifest.json", two.to_string().as_bytes())], &[]);
        let several = ImageFiles::open(&file, &[]).unwrap_err();
        assert!(matches!(&several, ImageFilesError::Several { names, .. } if names.len() == 2));
    }
}
