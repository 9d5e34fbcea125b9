//! What is in an archive or a directory, told so that two of them can be compared.

use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::Path,
};

/// The files of a tar archive by path: type, mode, owner, size, link target, extended attributes
/// and content. Times are left out where `with_times` is not set.
pub fn describe(bytes: &[u8], with_times: bool) -> BTreeMap<String, String> {
    let mut described = BTreeMap::new();
    let mut archive = tar::Archive::new(bytes);
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let attributes: BTreeMap<String, Vec<u8>> = entry
            .pax_extensions()
            .unwrap()
            .into_iter()
            .flatten()
            .map(|extension| extension.unwrap())
            .filter(|extension| extension.key().unwrap().starts_with("SCHILY.xattr."))
            .map(|extension| {
                (extension.key().unwrap().to_owned(), extension.value_bytes().to_vec())
            })
            .collect();
        let path = entry.path().unwrap().to_string_lossy().trim_end_matches('/').to_owned();
        let header = entry.header().clone();
        let link = entry.link_name().unwrap().map(|link| link.to_string_lossy().into_owned());
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let time = if with_times { header.mtime().unwrap() } else { 0 };
        let line = format!(
            "{:?} {:o} {}:{} {} {link:?} {attributes:?} {time} {}",
            header.entry_type(),
            header.mode().unwrap(),
            header.uid().unwrap(),
            header.gid().unwrap(),
            header.size().unwrap(),
            digest(&content)
        );
        described.insert(path, line);
    }
    described
}

/// The files of a directory by path, like [`describe`].
pub fn describe_directory(root: &Path) -> BTreeMap<String, String> {
    let mut described = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let facts = fs::symlink_metadata(&path).unwrap();
            let kind = facts.file_type();
            let what = if kind.is_symlink() {
                format!("link to {}", fs::read_link(&path).unwrap().display())
            } else if kind.is_dir() {
                waiting.push(path.clone());
                "directory".to_owned()
            } else if kind.is_fifo() {
                "fifo".to_owned()
            } else {
                format!("{} {}", facts.size(), digest(&fs::read(&path).unwrap()))
            };
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            let (mode, uid, gid, links) = (facts.mode(), facts.uid(), facts.gid(), facts.nlink());
            let links = if kind.is_dir() { 0 } else { links };
            described.insert(name, format!("{mode:o} {uid}:{gid} {links} {what}"));
        }
    }
    described
}

/// A file of a tar archive, whose paths may begin at `.`.
pub fn file(bytes: &[u8], path: &str) -> Option<Vec<u8>> {
    let mut archive = tar::Archive::new(bytes);
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let own = entry.path().unwrap().into_owned();
        if own.strip_prefix(".").unwrap_or(&own) == Path::new(path) {
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            return Some(content);
        }
    }
    None
}

/// The image config of an OCI archive for arm64, less its times, and the digests of its layers.
pub fn image(bytes: &[u8]) -> (serde_json::Value, Vec<String>) {
    let blob = |digest: &str| -> serde_json::Value {
        let path = format!("blobs/{}", digest.replace(':', "/"));
        serde_json::from_slice(&file(bytes, &path).unwrap()).unwrap()
    };
    let mut document: serde_json::Value =
        serde_json::from_slice(&file(bytes, "index.json").unwrap()).unwrap();
    while let Some(manifests) = document["manifests"].as_array() {
        let entry = manifests
            .iter()
            .find(|entry| entry["platform"]["architecture"] != "unknown")
            .unwrap()
            .clone();
        document = blob(entry["digest"].as_str().unwrap());
    }
    let layers = document["layers"].as_array().unwrap();
    let layers = layers.iter().map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect();
    let mut config = blob(document["config"]["digest"].as_str().unwrap());
    config["created"].take();
    for step in config["history"].as_array_mut().unwrap() {
        step["created"].take();
    }
    (config, layers)
}

fn digest(content: &[u8]) -> String {
    Sha256::digest(content).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}
