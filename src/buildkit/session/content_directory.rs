//! A directory that a builder writes blobs into: `--cache-to type=local`.
//!
//! What comes is written beside the blobs and takes its name among them only when its digest is the
//! one it was announced with, so that a directory never holds half a blob under a whole one's name.

use crate::{
    image::reference::check_digest,
    proto::containerd::services::content::v1::{
        WriteAction, WriteContentRequest, WriteContentResponse,
    },
};
use sha2::{Digest as _, Sha256};
use std::{
    io::Write as _,
    path::{Path, PathBuf},
};
use tempfile::NamedTempFile;
use tonic::Status;

/// Blobs on their way lie here, as in every store of this form.
const INCOMING: &str = "ingest";

/// The only kind of digest that is written.
const ALGORITHM: &str = "sha256";

/// A blob on its way into a directory.
#[derive(Debug)]
pub(super) struct Incoming {
    directory: PathBuf,
    file: Option<NamedTempFile>,
    hash: Sha256,
    offset: u64,
    total: i64,
}

impl Incoming {
    /// A blob that will come into `directory`.
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory, file: None, hash: Sha256::new(), offset: 0, total: 0 }
    }

    /// Does what one message of the stream asks. It blocks for as long as the disk takes.
    ///
    /// # Errors
    /// The blob is there already (`AlreadyExists`, which writers take for success), is not what it
    /// was announced as, or cannot be written.
    pub(super) fn take(
        &mut self,
        request: &WriteContentRequest,
    ) -> Result<WriteContentResponse, Status> {
        let action = request.action();
        if !request.expected.is_empty() && path(&self.directory, &request.expected)?.exists() {
            return Err(Status::already_exists(format!("blob {} is there", request.expected)));
        }
        if request.total > 0 {
            self.total = request.total;
        }
        if action == WriteAction::Stat {
            return Ok(self.answer(action, String::new()));
        }
        self.write(request)?;
        let digest = match action {
            WriteAction::Commit => self.commit(request)?,
            WriteAction::Stat | WriteAction::Write => String::new(),
        };
        Ok(self.answer(action, digest))
    }

    fn answer(&self, action: WriteAction, digest: String) -> WriteContentResponse {
        WriteContentResponse {
            action: action.into(),
            offset: i64::try_from(self.offset).unwrap_or(i64::MAX),
            total: self.total,
            digest,
            ..WriteContentResponse::default()
        }
    }

    fn write(&mut self, request: &WriteContentRequest) -> Result<(), Status> {
        if request.data.is_empty() {
            return Ok(());
        }
        if u64::try_from(request.offset).ok() != Some(self.offset) {
            return Err(Status::out_of_range(format!(
                "{} bytes came, and the next are for {}",
                self.offset, request.offset
            )));
        }
        let incoming = self.directory.join(INCOMING);
        let file = if let Some(file) = &mut self.file {
            file
        } else {
            let made =
                std::fs::create_dir_all(&incoming).and_then(|()| NamedTempFile::new_in(&incoming));
            self.file.insert(made.map_err(|error| unwritten(&incoming, &error))?)
        };
        file.write_all(&request.data).map_err(|error| unwritten(file.path(), &error))?;
        self.hash.update(&request.data);
        self.offset = self.offset.saturating_add(request.data.len() as u64);
        Ok(())
    }

    /// Gives the blob its name, and says it.
    fn commit(&mut self, request: &WriteContentRequest) -> Result<String, Status> {
        let hash = std::mem::take(&mut self.hash).finalize();
        let mut digest = format!("{ALGORITHM}:");
        for byte in hash {
            let digits = [byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16));
            digest.extend(digits.into_iter().flatten());
        }
        let came = i64::try_from(self.offset).unwrap_or(i64::MAX);
        if request.total > 0 && request.total != came {
            let wanted = request.total;
            return Err(Status::failed_precondition(format!("{came} bytes came of {wanted}")));
        }
        if !request.expected.is_empty() && request.expected != digest {
            let wanted = &request.expected;
            return Err(Status::failed_precondition(format!("{digest} came in place of {wanted}")));
        }
        let path = path(&self.directory, &digest)?;
        let parent = path.parent().unwrap_or(&self.directory);
        let named = std::fs::create_dir_all(parent).and_then(|()| match self.file.take() {
            Some(file) => {
                // A cache is for whoever may read its directory.
                let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
                file.as_file().set_permissions(readable)?;
                file.persist(&path).map(drop).map_err(|error| error.error)
            }
            None => std::fs::write(&path, b""),
        });
        named.map_err(|error| unwritten(&path, &error))?;
        Ok(digest)
    }
}

/// Where the blob `digest` lies.
fn path(directory: &Path, digest: &str) -> Result<PathBuf, Status> {
    let hex = digest.strip_prefix(ALGORITHM).and_then(|rest| rest.strip_prefix(':'));
    match (check_digest(digest), hex) {
        (Ok(()), Some(hex)) => Ok(directory.join("blobs").join(ALGORITHM).join(hex)),
        _ => Err(Status::invalid_argument(format!("no blob can have the digest {digest:?}"))),
    }
}

fn unwritten(path: &Path, error: &std::io::Error) -> Status {
    Status::failed_precondition(format!("cannot write `{}`: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    const HELLO: &str = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    fn request(
        action: WriteAction,
        offset: i64,
        data: &str,
        expected: &str,
    ) -> WriteContentRequest {
        WriteContentRequest {
            action: action.into(),
            r#ref: "a".to_owned(),
            expected: expected.to_owned(),
            offset,
            data: data.to_owned().into(),
            ..WriteContentRequest::default()
        }
    }

    fn names(directory: &Path) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_blob_has_its_name_when_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let mut incoming = Incoming::new(directory.path().to_owned());
        let begun = incoming.take(&request(WriteAction::Stat, 0, "", HELLO)).unwrap();
        assert_eq!(begun.offset, 0);
        assert_eq!(incoming.take(&request(WriteAction::Write, 0, "hel", "")).unwrap().offset, 3);
        assert_eq!(names(&directory.path().join("blobs/sha256")), [""; 0]);
        let done = incoming.take(&request(WriteAction::Commit, 3, "lo", HELLO)).unwrap();
        assert_eq!((done.offset, done.digest.as_str()), (5, HELLO));
        let blob =
            directory.path().join("blobs/sha256").join(HELLO.strip_prefix("sha256:").unwrap());
        assert_eq!(std::fs::read(blob).unwrap(), b"hello");
        assert_eq!(names(&directory.path().join("ingest")), [""; 0]);

        let mut again = Incoming::new(directory.path().to_owned());
        let error = again.take(&request(WriteAction::Stat, 0, "", HELLO)).unwrap_err();
        assert_eq!(error.code(), Code::AlreadyExists);
    }

    #[test]
    fn what_is_not_what_was_announced_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut incoming = Incoming::new(directory.path().to_owned());
        incoming.take(&request(WriteAction::Write, 0, "jello", "")).unwrap();
        let gap = incoming.take(&request(WriteAction::Write, 9, "x", "")).unwrap_err();
        assert_eq!(gap.code(), Code::OutOfRange);
        let wrong = incoming.take(&request(WriteAction::Commit, 5, "", HELLO)).unwrap_err();
        assert_eq!(wrong.code(), Code::FailedPrecondition);
        drop(incoming);
        assert_eq!(names(&directory.path().join("blobs/sha256")), [""; 0]);
        assert_eq!(names(&directory.path().join("ingest")), [""; 0]);
        let mut outside = Incoming::new(directory.path().to_owned());
        let path = request(WriteAction::Commit, 0, "x", "sha256:../../../outside");
        assert_eq!(outside.take(&path).unwrap_err().code(), Code::InvalidArgument);
    }
}
