//! Leases on loan, noted in the state directory: a process that is killed cannot give back what it was
//! lent, and the next one does. An id gives a lease back and gets nobody in; no secret is written.

use crate::credential::Loans;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// No lease is lent for longer; what is older has been given back by time.
const MAX_AGE: Duration = Duration::from_hours(24);
/// What the names of notes end in.
const NOTE: &str = "json";
/// What stands for them while they are written.
const UNFINISHED: &str = "new";

/// Notes of leases, one file each below the state directory.
///
/// Who noted a lease holds a lock on its file, which the system takes away when the process ends,
/// however it ends: a note without a lock is one of a process that is no more.
#[derive(Debug)]
pub struct LoanNotes {
    directory: PathBuf,
    held: Mutex<Vec<Held>>,
}

/// A note that this process has the lock on.
#[derive(Debug)]
struct Held {
    note: Note,
    path: PathBuf,
    _lock: File,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Note {
    lessor: String,
    lease_id: String,
}

impl LoanNotes {
    /// The notes below the state directory `state`. Nothing is made before something is lent.
    pub fn new(state: &Path) -> Self {
        Self { directory: state.join("loans"), held: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, Vec<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, note: &Note) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let path = self.directory.join(format!("{:032x}.{NOTE}", rand::random::<u128>()));
        let unfinished = path.with_extension(UNFINISHED);
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        // Locked and whole before anybody can find it.
        file.lock()?;
        file.write_all(&serde_json::to_vec(note)?)?;
        fs::rename(&unfinished, &path)?;
        self.held().push(Held { note: note.clone(), path, _lock: file });
        Ok(())
    }

    /// Takes over the note at `path` if it is of `lessor` and nobody's.
    fn take_over(&self, path: &Path, lessor: &str) -> io::Result<Option<String>> {
        let lock = File::open(path)?;
        if lock.try_lock().is_err() {
            return Ok(None);
        }
        let age = lock.metadata()?.modified()?.elapsed().unwrap_or_default();
        let note: Option<Note> = serde_json::from_slice(&fs::read(path)?).ok();
        let Some(note) = note.filter(|_| age < MAX_AGE) else {
            fs::remove_file(path)?;
            return Ok(None);
        };
        if note.lessor != lessor {
            return Ok(None);
        }
        let id = note.lease_id.clone();
        self.held().push(Held { note, path: path.to_owned(), _lock: lock });
        Ok(Some(id))
    }
}

impl Loans for LoanNotes {
    fn note(&self, lessor: &str, id: &str) {
        let note = Note { lessor: lessor.to_owned(), lease_id: id.to_owned() };
        // Without a note, a lease that a killed process leaves holds until it expires, as before.
        if let Err(error) = self.write(&note) {
            tracing::debug!(%error, lessor, "a lease is not noted");
        }
    }

    fn settle(&self, lessor: &str, id: &str) {
        self.held().retain(|held| {
            let is_it = held.note.lessor == lessor && held.note.lease_id == id;
            if is_it && let Err(error) = fs::remove_file(&held.path) {
                tracing::debug!(%error, lessor, "the note of a lease stays");
            }
            !is_it
        });
    }

    fn left_behind(&self, lessor: &str) -> Vec<String> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == NOTE));
        paths.sort();
        paths.iter().filter_map(|path| self.take_over(path, lessor).ok().flatten()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::LoanNotes;
    use crate::credential::Loans as _;
    use std::fs;

    #[test]
    fn what_a_process_that_is_no_more_was_lent_is_found_once_and_by_its_lessor_alone() {
        let state = tempfile::tempdir().unwrap();
        let first = LoanNotes::new(state.path());
        assert!(first.left_behind("a").is_empty());
        first.note("a", "l-1");
        first.note("a", "l-2");
        first.note("b", "l-3");
        first.settle("a", "l-1");
        let second = LoanNotes::new(state.path());
        assert!(second.left_behind("a").is_empty(), "the first still has them");
        drop(first);
        assert_eq!(second.left_behind("a"), ["l-2"]);
        let third = LoanNotes::new(state.path());
        assert!(third.left_behind("a").is_empty(), "the second has it now");
        assert_eq!(third.left_behind("b"), ["l-3"]);
        second.settle("a", "l-2");
        third.settle("b", "l-3");
        assert_eq!(fs::read_dir(state.path().join("loans")).unwrap().count(), 0);
    }

    #[test]
    fn a_note_that_cannot_be_read_is_no_lease() {
        let state = tempfile::tempdir().unwrap();
        fs::create_dir(state.path().join("loans")).unwrap();
        let broken = state.path().join("loans/x.json");
        fs::write(&broken, "{").unwrap();
        assert!(LoanNotes::new(state.path()).left_behind("a").is_empty());
        assert!(!broken.exists());
    }
}
