//! A push that is not done yet, as a file in our state directory: enough to finish it without a
//! build, also from another process. There is no secret in it.

use crate::{
    image::document::Descriptor,
    plan::{SecretSource, SignedBy, SigningPlan},
    registry::{Places, digest},
};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// Below the state directory.
const FOLDER: &str = "push";
const EXTENSION: &str = "json";
/// Characters of an id.
const ID_LENGTH: usize = 12;

/// An image on its way, and where it is held meanwhile.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// Names the push: the same for the same image and the same names.
    pub id: String,
    /// When it began, as text.
    pub began: String,
    /// Where the image lies.
    pub source: HeldSource,
    /// The digest of its manifest or index.
    pub digest: String,
    /// What that is.
    pub media_type: String,
    /// Its size in bytes.
    pub size: u64,
    /// The names that it gets, in full.
    pub references: Vec<String>,
    /// Whether it gets no tag.
    #[serde(default)]
    pub by_digest: bool,
    /// How it is signed in the end; none where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing: Option<SigningPlan>,
}

/// Where an image lies.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HeldSource {
    /// In the store of the builder at this address.
    Builder(String),
    /// In an OCI layout, or in an archive.
    Path(PathBuf),
}

/// Why there is nothing to go on with.
#[derive(Debug, thiserror::Error)]
pub enum HeldError {
    /// No push is unfinished.
    #[error("no push is unfinished")]
    Nothing,
    /// None of that name.
    #[error("no unfinished push is called `{id}`; there are: {}", known.join(", "))]
    Unknown {
        /// The name.
        id: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// It cannot be read.
    #[error("cannot read `{}`: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
}

impl Held {
    /// A push of `root` from `source` to `references`.
    pub fn new(
        root: &Descriptor,
        source: HeldSource,
        references: Vec<String>,
        by_digest: bool,
        began: String,
    ) -> Self {
        let named = digest(format!("{} {}", root.digest, references.join(" ")).as_bytes());
        let hex = named.strip_prefix("sha256:").unwrap_or_default();
        Self {
            id: hex.chars().take(ID_LENGTH).collect(),
            began,
            source,
            digest: root.digest.clone(),
            media_type: root.media_type.clone(),
            size: root.size,
            references,
            by_digest,
            signing: None,
        }
    }

    /// The same, signed in the end as `signing` says. A key's path starts from `directory`, and is
    /// noted so that it holds from anywhere.
    #[must_use]
    pub fn signed(mut self, signing: Option<&SigningPlan>, directory: &Path) -> Self {
        self.signing = signing.cloned();
        if let Some(SigningPlan {
            by: SignedBy::Key { source: SecretSource::File(path), .. },
            ..
        }) = &mut self.signing
        {
            let full = directory.join(&path);
            *path = std::path::absolute(&full).unwrap_or(full);
        }
        self
    }

    /// What is pushed.
    pub fn root(&self) -> Descriptor {
        Descriptor {
            media_type: self.media_type.clone(),
            digest: self.digest.clone(),
            size: self.size,
            ..Descriptor::default()
        }
    }

    /// Notes it below `state`, whole or not at all.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, state: &Path) -> io::Result<()> {
        let folder = folder(state);
        fs::create_dir_all(&folder)?;
        let mut file = tempfile::Builder::new().prefix(".push-").tempfile_in(&folder)?;
        file.write_all(&serde_json::to_vec_pretty(self).unwrap_or_default())?;
        file.as_file().sync_all()?;
        file.persist(self.path(state)).map_err(|error| error.error)?;
        Ok(())
    }

    /// Forgets it: it is done.
    pub fn remove(&self, state: &Path) {
        if let Err(error) = fs::remove_file(self.path(state))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(%error, "a finished push is still noted");
        }
        if let Err(error) = fs::remove_dir_all(self.layout(state))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(%error, "the image of a finished push is still kept");
        }
    }

    /// Where the image is kept, when we keep it ourselves.
    pub(super) fn layout(&self, state: &Path) -> PathBuf {
        folder(state).join(format!("{}.layout", self.id))
    }

    fn path(&self, state: &Path) -> PathBuf {
        folder(state).join(&self.id).with_extension(EXTENSION)
    }

    /// The unfinished push `id`, or the latest.
    ///
    /// # Errors
    /// See [`HeldError`].
    pub fn find(state: &Path, id: Option<&str>) -> Result<Self, HeldError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder(state)).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_ours = path.extension().is_some_and(|extension| extension == EXTENSION)
                && path.file_stem().is_some_and(|stem| stem.len() == ID_LENGTH);
            let changed = entry.metadata().and_then(|metadata| metadata.modified());
            if let (true, Ok(changed)) = (is_ours, changed) {
                found.push((changed, path));
            }
        }
        found.sort();
        let name = |path: &Path| {
            path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
        };
        let path = match id {
            None => found.pop().map(|(_, path)| path).ok_or(HeldError::Nothing)?,
            Some(id) => {
                let mut named = found.iter().map(|(_, path)| path).filter(|path| name(path) == id);
                let path = named.next().cloned();
                path.ok_or_else(|| match found.as_slice() {
                    [] => HeldError::Nothing,
                    found => HeldError::Unknown {
                        id: id.to_owned(),
                        known: found.iter().map(|(_, path)| name(path)).collect(),
                    },
                })?
            }
        };
        let read = fs::read(&path).map_err(|error| error.to_string());
        let read =
            read.and_then(|text| serde_json::from_slice(&text).map_err(|error| error.to_string()));
        read.map_err(|cause| HeldError::Unreadable { path, cause })
    }
}

fn folder(state: &Path) -> PathBuf {
    state.join(FOLDER)
}

/// Where the memory of blobs lies.
pub(super) fn places(state: &Path) -> PathBuf {
    folder(state).join("places")
}

/// The memory of blobs; what cannot be read is forgotten.
pub(in crate::pipeline) fn read_places(state: &Path) -> Places {
    fs::read(places(state)).map(|text| Places::from_json(&text)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Held, HeldError, HeldSource};
    use crate::image::document::Descriptor;

    fn held(name: &str) -> Held {
        let root = Descriptor {
            digest: "sha256:d".to_owned(),
            media_type: "application/vnd.oci.image.index.v1+json".to_owned(),
            size: 7,
            ..Descriptor::default()
        };
        let source = HeldSource::Builder("unix:///run/b.sock".to_owned());
        Held::new(&root, source, vec![name.to_owned()], false, "now".to_owned())
    }

    #[test]
    fn what_is_noted_is_found_again_until_it_is_done() {
        let state = tempfile::tempdir().unwrap();
        assert!(matches!(Held::find(state.path(), None), Err(HeldError::Nothing)));
        let (one, two) = (held("r/a:1"), held("r/a:2"));
        assert_ne!(one.id, two.id);
        assert_eq!(one.id, held("r/a:1").id);
        one.write(state.path()).unwrap();
        two.write(state.path()).unwrap();
        assert_eq!(Held::find(state.path(), Some(&one.id)).unwrap(), one);
        let unknown = Held::find(state.path(), Some("x")).unwrap_err().to_string();
        assert!(unknown.contains(&two.id), "{unknown}");
        one.remove(state.path());
        assert_eq!(Held::find(state.path(), None).unwrap(), two);
        two.remove(state.path());
        assert!(matches!(Held::find(state.path(), Some(&two.id)), Err(HeldError::Nothing)));
    }
}
