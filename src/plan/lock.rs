//! `bk-sync.lock`: which digest each base image had when it was last looked at, so that a build finds
//! the same ones again.

use crate::proto::pb;
use prost::Message as _;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
};

/// The version of the file's form.
const VERSION: u32 = 1;

/// What stands above the entries.
const HEAD: &str = "# Base images of builds with `--reproducible`, by digest.\n\
                    # `bk-sync lock --update` writes this file; keep it with the source.\n";

/// Base images by their names in full, each with the digest of its manifest or index.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct ImageLock(pub BTreeMap<String, String>);

/// How far images are held by their digests.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pinning {
    /// As the Dockerfile says.
    #[default]
    Off,
    /// Each is looked up and then held by the digest that it has now.
    Open,
    /// Each that the lock has is held by its digest there, and the others as if this were open.
    Held(ImageLock),
    /// Each has the digest of the lock, or the build fails.
    Locked(ImageLock),
}

/// Why a lock cannot be read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LockError {
    /// It is no lock.
    #[error("{0}")]
    Form(String),
    /// It was written by a newer bk-sync.
    #[error("its version is {0}, and this bk-sync reads version {VERSION}")]
    Version(u32),
    /// An entry is no digest.
    #[error("`{name}` has `{digest}`, which is no digest")]
    Digest {
        /// The image.
        name: String,
        /// What it has.
        digest: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    #[serde(default)]
    images: BTreeMap<String, String>,
}

impl ImageLock {
    /// The images that a graph starts from, as far as it names them by their digests. `ops` are its
    /// ops, marshalled.
    pub fn of_graph(ops: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Self {
        let images = images_of_graph(ops).filter_map(|image| {
            let (name, digest) = image.split_once('@')?;
            Some((name.to_owned(), digest.to_owned()))
        });
        Self(images.collect())
    }

    /// Reads a lock's text.
    ///
    /// # Errors
    /// See [`LockError`].
    pub fn parse(text: &str) -> Result<Self, LockError> {
        let file: File =
            toml::from_str(text).map_err(|error| LockError::Form(error.message().to_owned()))?;
        if file.version != VERSION {
            return Err(LockError::Version(file.version));
        }
        for (name, digest) in &file.images {
            if crate::image::reference::check_digest(digest).is_err() {
                return Err(LockError::Digest { name: name.clone(), digest: digest.clone() });
            }
        }
        Ok(Self(file.images))
    }

    /// The text of the file; the same for the same images.
    pub fn render(&self) -> String {
        let mut text = format!("{HEAD}version = {VERSION}\n\n[images]\n");
        for (name, digest) in &self.0 {
            // Neither names nor digests hold what TOML would have to escape.
            let _: fmt::Result = writeln!(text, "\"{name}\" = \"{digest}\"");
        }
        text
    }
}

/// The images that a graph reads, as it names them: `NAME[:TAG][@DIGEST]`. `ops` are its ops,
/// marshalled.
pub fn images_of_graph(
    ops: impl IntoIterator<Item = impl AsRef<[u8]>>,
) -> impl Iterator<Item = String> {
    ops.into_iter().filter_map(|op| match pb::Op::decode(op.as_ref()).ok()?.op {
        Some(pb::op::Op::Source(source)) => {
            source.identifier.strip_prefix("docker-image://").map(str::to_owned)
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_read_as_it_is_written() {
        let digest = format!("sha256:{}", "a1".repeat(32));
        let lock = ImageLock(BTreeMap::from([("docker.io/library/a:1".to_owned(), digest)]));
        assert_eq!(ImageLock::parse(&lock.render()), Ok(lock));
    }

    #[test]
    fn what_is_no_lock_is_refused() {
        assert!(matches!(ImageLock::parse("version = "), Err(LockError::Form(_))));
        assert_eq!(ImageLock::parse("version = 2"), Err(LockError::Version(2)));
        let wrong = "version = 1\n[images]\n\"a\" = \"latest\"\n";
        assert!(matches!(ImageLock::parse(wrong), Err(LockError::Digest { .. })));
    }
}
