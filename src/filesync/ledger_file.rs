//! Where a [`Ledger`] lies between builds.

use super::Ledger;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// How many ledgers one set of directories may have, for builds at the same time. Each has a key
/// and so a copy at the builder of its own.
const SLOTS: u8 = 8;

/// Rows of files that are gone are never dropped one by one, because some copy may still have the
/// file. Past this many the ledger is dropped as a whole, and its key with it.
const MOST_ROWS: usize = 2_000_000;

/// A ledger's file, taken away while a process works with the ledger.
///
/// Opening removes the file, so that nobody else finds it; [`close`](Self::close) puts it back. A
/// process that dies in between leaves no ledger behind, and a later build starts with a new key. A
/// second build of the same directories at the same time works with another ledger.
#[derive(Debug)]
pub struct LedgerFile {
    home: PathBuf,
    taken: PathBuf,
}

impl LedgerFile {
    /// Takes a ledger called `name` from a directory (which is made where it is missing). Without
    /// one that is free and whole, the ledger is new and has the key `fresh`, which must be random.
    ///
    /// # Errors
    /// The directory cannot be used; nothing has been taken.
    pub fn open(directory: &Path, name: &str, fresh: [u8; 16]) -> io::Result<(Self, Ledger)> {
        fs::create_dir_all(directory)?;
        let taken = directory.join(format!("{name}.{:032x}", u128::from_be_bytes(fresh)));
        let home = |slot: u8| directory.join(format!("{name}-{slot}"));
        for slot in 0..SLOTS {
            match fs::rename(home(slot), &taken) {
                Ok(()) => {
                    let bytes = fs::read(&taken)?;
                    fs::remove_file(&taken)?;
                    let ledger = Ledger::decode(&bytes).filter(|ledger| ledger.len() < MOST_ROWS);
                    let ledger = ledger.unwrap_or_else(|| Ledger::new(fresh));
                    return Ok((Self { home: home(slot), taken }, ledger));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        // Who else looks for a new slot now will hardly draw the same; if so, the last one's stays.
        let [first, ..] = fresh;
        Ok((Self { home: home(first % SLOTS), taken }, Ledger::new(fresh)))
    }

    /// Puts the ledger back, whole or not at all. To be called only when all transfers that began
    /// have ended well: then the ledger says what the builder holds.
    ///
    /// # Errors
    /// It could not be written; a later build will start with a new key.
    pub fn close(self, ledger: &Ledger) -> io::Result<()> {
        fs::write(&self.taken, ledger.encode())?;
        fs::rename(&self.taken, &self.home)
    }
}

#[cfg(test)]
mod tests {
    use super::LedgerFile;
    use crate::filesync::Ledger;
    use std::fs;

    #[test]
    fn a_ledger_is_there_for_one_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("contexts");
        let (file, ledger) = LedgerFile::open(&state, "a", [1; 16]).unwrap();
        assert_eq!(ledger, Ledger::new([1; 16]));
        file.close(&ledger).unwrap();

        let (first, ledger) = LedgerFile::open(&state, "a", [2; 16]).unwrap();
        assert_eq!(ledger.shared_key(), Ledger::new([1; 16]).shared_key(), "the key stays");
        let (_second, other) = LedgerFile::open(&state, "a", [3; 16]).unwrap();
        assert_eq!(other, Ledger::new([3; 16]), "it is taken");
        first.close(&ledger).unwrap();
        assert_eq!(LedgerFile::open(&state, "a", [4; 16]).unwrap().1, ledger);

        // The last one was not closed, as if killed.
        assert_eq!(LedgerFile::open(&state, "a", [5; 16]).unwrap().1, Ledger::new([5; 16]));
        assert_eq!(fs::read_dir(&state).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn a_broken_ledger_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a-3"), "garbage").unwrap();
        let (_file, ledger) = LedgerFile::open(directory.path(), "a", [9; 16]).unwrap();
        assert_eq!(ledger, Ledger::new([9; 16]));
    }
}
