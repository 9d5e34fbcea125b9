//! What we remember of contexts from one build to the next, for the time of one session.

use crate::filesync::{Ledger, LedgerFile, Source, ledger::short};
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// The [ledger](crate::filesync::ledger) of one session's directories, and with it the session's
/// shared key.
///
/// It is put back when it is dropped, which is when the session's services are: unless a transfer
/// did not end well, for then nobody knows what the builder holds, and the next build starts anew.
#[derive(Debug)]
pub struct ContextMemory {
    shared_key: String,
    ledger: Mutex<Ledger>,
    file: Option<LedgerFile>,
    /// Transfers that have begun and not ended well.
    open: AtomicUsize,
}

impl ContextMemory {
    /// Takes up the memory of `sources` in the directory `state` (ours alone; made where it is
    /// missing). Without one, or where it cannot be used, the memory lasts for this session only and
    /// the builder is sent everything.
    pub fn open(state: Option<&Path>, sources: &BTreeMap<String, Source>) -> Self {
        let fresh = rand::random();
        let opened = state.and_then(|state| {
            LedgerFile::open(state, &name(sources), fresh)
                .inspect_err(|error| {
                    let state = state.display();
                    tracing::warn!(%state, %error, "contexts cannot be remembered here");
                })
                .ok()
        });
        let (file, ledger) = match opened {
            Some((file, ledger)) => (Some(file), ledger),
            None => (None, Ledger::new(fresh)),
        };
        Self {
            shared_key: ledger.shared_key(),
            ledger: Mutex::new(ledger),
            file,
            open: AtomicUsize::new(0),
        }
    }

    /// The key to open the session with: stable for the same directories, as long as the memory of
    /// them is.
    pub fn shared_key(&self) -> &str {
        &self.shared_key
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A transfer begins.
    pub(super) fn begin(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    /// A transfer has ended well.
    pub(super) fn end(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for ContextMemory {
    fn drop(&mut self) {
        if let Some(file) = self.file.take()
            && self.open.load(Ordering::Relaxed) == 0
            && let Err(error) = file.close(&self.lock())
        {
            tracing::warn!(%error, "the context will be sent whole the next time");
        }
    }
}

/// The same for the same directories under the same names.
fn name(sources: &BTreeMap<String, Source>) -> String {
    let mut hash = Sha256::new();
    for (name, source) in sources {
        if let Source::Directory(path) = source {
            let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
            for part in [name.as_bytes(), path.as_os_str().as_encoded_bytes()] {
                hash.update(part.len().to_le_bytes());
                hash.update(part);
            }
        }
    }
    format!("{:032x}", u128::from_be_bytes(short(&hash.finalize())))
}

#[cfg(test)]
mod tests {
    use super::ContextMemory;
    use crate::filesync::Source;
    use std::{collections::BTreeMap, fs};

    #[test]
    fn the_key_is_stable_for_a_directory_while_transfers_end_well() {
        let state = tempfile::tempdir().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let other = directory.path().join("other");
        fs::create_dir(&other).unwrap();
        let sources = |path: &std::path::Path| {
            BTreeMap::from([("context".to_owned(), Source::Directory(path.to_owned()))])
        };
        let open = |path| ContextMemory::open(Some(state.path()), &sources(path));
        let key = open(directory.path()).shared_key().to_owned();
        assert_ne!(open(&other).shared_key(), key, "directories have keys of their own");

        let memory = open(directory.path());
        assert_eq!(memory.shared_key(), key);
        memory.begin();
        memory.end();
        drop(memory);
        let memory = open(directory.path());
        assert_eq!(memory.shared_key(), key);
        memory.begin();
        drop(memory);
        assert_ne!(open(directory.path()).shared_key(), key, "a transfer was cut off");
    }

    #[test]
    fn without_a_place_to_remember_every_session_has_its_own_key() {
        let sources = BTreeMap::new();
        let first = ContextMemory::open(None, &sources);
        assert_ne!(first.shared_key(), ContextMemory::open(None, &sources).shared_key());
        assert!(first.shared_key().is_ascii());
    }
}
