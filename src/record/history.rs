//! The history of deploys: one file a receipt, in the state directory.

use super::Receipt;
use crate::page::Page;
use serde::de::DeserializeOwned;
use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// Receipts kept of a project; the oldest go first.
const KEPT: usize = 200;
/// What the names of receipts end in.
const RECEIPT: &str = "json";
/// What the names of their builds' steps end in.
const BUILD: &str = "build";
/// A larger file is no receipt of ours. In bytes.
const MAX_SIZE: u64 = 4 << 20;

/// Receipts on this machine.
#[derive(Clone, Debug)]
pub struct History {
    directory: PathBuf,
}

/// Why the history cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} `{}`", path.display())]
pub struct HistoryError {
    /// What was tried.
    pub action: &'static str,
    /// With which path.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl History {
    /// The history below the state directory `state`. Nothing is made before something is saved.
    pub fn new(state: &Path) -> Self {
        Self { directory: state.join("receipts") }
    }

    /// Writes a receipt; it is there whole or not at all, and survives a crash of the machine.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, receipt: &Receipt) -> Result<PathBuf, HistoryError> {
        let path = self.path(receipt, RECEIPT);
        let text = serde_json::to_vec_pretty(receipt);
        write(&path, text).map_err(|source| HistoryError {
            action: "write",
            path: path.clone(),
            source,
        })?;
        if let Some(directory) = path.parent() {
            forget_oldest(directory);
        }
        Ok(path)
    }

    /// Keeps what the receipt's build did, step by step, beside it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save_build(&self, receipt: &Receipt, build: &Page) -> Result<(), HistoryError> {
        let path = self.path(receipt, BUILD);
        write(&path, serde_json::to_vec(build)).map_err(|source| HistoryError {
            action: "write",
            path,
            source,
        })
    }

    /// What the receipt's build did, where [`History::save_build`] kept it and it can be read.
    pub fn build(&self, receipt: &Receipt) -> Option<Page> {
        read(&self.path(receipt, BUILD))
    }

    fn path(&self, receipt: &Receipt, kind: &str) -> PathBuf {
        self.directory.join(folder(&receipt.project)).join(format!("{}.{kind}", receipt.id))
    }

    /// Takes a receipt back: nothing was done that it could tell of.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn remove(&self, receipt: &Receipt) -> Result<(), HistoryError> {
        drop(fs::remove_file(self.path(receipt, BUILD)));
        let path = self.path(receipt, RECEIPT);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(HistoryError { action: "remove", path, source })
            }
            _ => Ok(()),
        }
    }

    /// The receipts of a project, or of all, newest first. What cannot be read is left out.
    ///
    /// # Errors
    /// The directory is there and cannot be read.
    pub fn list(&self, project: Option<&str>) -> Result<Vec<Receipt>, HistoryError> {
        let mut receipts: Vec<Receipt> = Vec::new();
        for directory in self.folders(project)? {
            receipts.extend(files(&directory)?.iter().filter_map(|path| read::<Receipt>(path)));
        }
        receipts.sort_by(|left, right| right.id.cmp(&left.id));
        Ok(receipts)
    }

    /// The receipts whose id begins with `id`, newest first.
    ///
    /// # Errors
    /// As [`History::list`].
    pub fn find(&self, id: &str) -> Result<Vec<Receipt>, HistoryError> {
        let mut all = self.list(None)?;
        all.retain(|receipt| receipt.id.starts_with(id));
        Ok(all)
    }

    /// The newest receipt of a project.
    ///
    /// # Errors
    /// As [`History::list`].
    pub fn last(&self, project: &str) -> Result<Option<Receipt>, HistoryError> {
        Ok(self.list(Some(project))?.into_iter().next())
    }

    fn folders(&self, project: Option<&str>) -> Result<Vec<PathBuf>, HistoryError> {
        if let Some(project) = project {
            return Ok(vec![self.directory.join(folder(project))]);
        }
        entries(&self.directory)
    }
}

/// Removes the oldest receipts. One that stays too long harms nobody.
fn forget_oldest(directory: &Path) {
    let Ok(mut paths) = files(directory) else { return };
    paths.sort();
    for path in paths.iter().take(paths.len().saturating_sub(KEPT)) {
        drop(fs::remove_file(path.with_extension(BUILD)));
        drop(fs::remove_file(path));
    }
}

/// Writes a file that is there whole or not at all.
fn write(path: &Path, text: serde_json::Result<Vec<u8>>) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let mut text = text?;
    text.push(b'\n');
    let mut file = tempfile::Builder::new()
        .prefix(".receipt-")
        .permissions(fs::Permissions::from_mode(0o600))
        .tempfile_in(directory)?;
    file.write_all(&text)?;
    file.as_file().sync_all()?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

/// A project's name as a folder's.
fn folder(project: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    let name: String = project.chars().map(|c| if plain(c) { c } else { '_' }).collect();
    if name.trim_matches('.').is_empty() { "_".to_owned() } else { name }
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, HistoryError> {
    let failed = |source| HistoryError { action: "read", path: directory.to_owned(), source };
    match fs::read_dir(directory) {
        Ok(entries) => entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()
            .map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed(error)),
    }
}

fn files(directory: &Path) -> Result<Vec<PathBuf>, HistoryError> {
    let mut paths = entries(directory)?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == RECEIPT));
    Ok(paths)
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    if fs::metadata(path).ok()?.len() > MAX_SIZE {
        return None;
    }
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::{History, KEPT, folder};
    use crate::{page::Page, record::Receipt};
    use std::{fs, os::unix::fs::PermissionsExt as _};

    fn receipt(project: &str, id: &str) -> Receipt {
        Receipt { project: project.to_owned(), id: id.to_owned(), ..Receipt::default() }
    }

    #[test]
    fn receipts_are_listed_newest_first_and_by_project() {
        let state = tempfile::tempdir().unwrap();
        let history = History::new(state.path());
        assert_eq!(history.list(None).unwrap(), []);
        for (project, id) in
            [("n/deployment/a", "1"), ("n/deployment/b", "2"), ("n/deployment/a", "3")]
        {
            history.save(&receipt(project, id)).unwrap();
        }
        let ids = |project| -> Vec<String> {
            history.list(project).unwrap().into_iter().map(|receipt| receipt.id).collect()
        };
        assert_eq!(ids(None), ["3", "2", "1"]);
        assert_eq!(ids(Some("n/deployment/a")), ["3", "1"]);
        assert_eq!(history.last("n/deployment/b").unwrap().unwrap().id, "2");
        assert_eq!(history.find("3").unwrap().len(), 1);
        history.remove(&receipt("n/deployment/a", "3")).unwrap();
        assert_eq!(ids(Some("n/deployment/a")), ["1"]);
    }

    #[test]
    fn only_the_user_may_read_and_only_so_many_are_kept() {
        let state = tempfile::tempdir().unwrap();
        let history = History::new(state.path());
        let path = history.save(&receipt("a", "0000")).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        for number in 1..=KEPT {
            history.save(&receipt("a", &format!("{number:04}"))).unwrap();
        }
        assert_eq!(history.list(None).unwrap().len(), KEPT);
        assert!(!path.exists());
        fs::write(path, "no receipt").unwrap();
        assert_eq!(history.list(None).unwrap().len(), KEPT);
    }

    #[test]
    fn a_build_is_kept_and_goes_with_its_receipt() {
        let state = tempfile::tempdir().unwrap();
        let history = History::new(state.path());
        let (one, page) = (receipt("a", "1"), Page { title: "t".to_owned(), ..Page::default() });
        assert_eq!(history.build(&one), None);
        history.save(&one).unwrap();
        history.save_build(&one, &page).unwrap();
        assert_eq!(history.build(&one), Some(page));
        assert_eq!(history.list(None).unwrap().len(), 1, "it is no receipt");
        history.remove(&one).unwrap();
        assert_eq!(history.build(&one), None);
    }

    #[test]
    fn a_project_stays_inside_its_folder() {
        for (project, expected) in
            [("n/deployment/a", "n_deployment_a"), ("..", "_"), ("", "_"), ("../x", ".._x")]
        {
            assert_eq!(folder(project), expected);
        }
    }
}
