//! Where files come from: a directory on disk, or files made in memory.

use super::follow::Links;
use bytes::Bytes;
use rustix::{
    fd::OwnedFd,
    fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags},
    io::Errno,
};
use std::{
    collections::BTreeMap,
    ffi::{CStr, CString},
    fs::File,
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};
use thiserror::Error;

/// How much of a file is read at once, in bytes. With a few files in flight and a short queue, this
/// bounds what a transfer holds in memory.
pub const CHUNK: usize = 64 * 1024;

/// Where the files of a named directory come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A directory; a symbolic link to one is followed.
    Directory(PathBuf),
    /// Files by name, in one flat directory: a Dockerfile from stdin.
    Memory(BTreeMap<String, Bytes>),
}

/// An opened [`Source`].
///
/// Nothing outside a directory can be read through it: links are never followed, on no part of a
/// path, even where the tree changes under our hands.
#[derive(Debug)]
pub struct Tree(Kind);

#[derive(Debug)]
enum Kind {
    Disk { root: OwnedFd, path: PathBuf },
    Memory(BTreeMap<String, Bytes>),
}

/// What stat(2) says, as far as it matters here. Times are nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Facts {
    /// `st_mode`.
    pub unix_mode: u32,
    /// In bytes.
    pub size: u64,
    /// When the content last changed, as far as the file says.
    pub mtime: i64,
    /// When anything last changed; programs cannot set it.
    pub ctime: i64,
    /// The file system's number for the file.
    pub inode: u64,
    /// The file system.
    pub device: u64,
    /// How many names the file has.
    pub links: u64,
    /// For device files: what they stand for.
    pub special: (u32, u32),
}

/// An entry of a directory before it is looked at.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) bytes: Box<[u8]>,
    /// `None` where the file system does not tell without a stat.
    pub(super) is_directory: Option<bool>,
}

/// An opened directory.
#[derive(Debug)]
pub(super) enum Directory<'a> {
    Disk(OwnedFd),
    Memory(&'a BTreeMap<String, Bytes>),
}

/// The content of a file, read in pieces.
#[derive(Debug)]
pub struct Content {
    from: From,
    left: u64,
}

#[derive(Debug)]
enum From {
    File(File),
    Memory(Bytes),
}

/// Why a tree cannot be read.
#[derive(Debug, Error)]
pub enum TreeError {
    /// The root is no directory.
    #[error("`{}` is not a directory; hint: name a directory as the context", .0.display())]
    NotADirectory(PathBuf),
    /// A file or directory may not be read.
    #[error(
        "cannot {action} `{path}`: permission denied; hint: make it readable, or add it to .dockerignore"
    )]
    Permission {
        /// What was tried.
        action: &'static str,
        /// Where, from the root of the tree.
        path: String,
    },
    /// A name is not UTF-8, and names travel as text.
    #[error(
        "the name `{0}` is not valid UTF-8 and cannot be sent; hint: rename it, or add it to .dockerignore"
    )]
    Encoding(String),
    /// A file is gone that the builder has been told of.
    #[error(
        "`{0}` was removed while the context was being sent; hint: build again, or add it to .dockerignore if it comes and goes"
    )]
    Vanished(String),
    /// All else.
    #[error("cannot {action} `{path}`: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where, from the root of the tree.
        path: String,
        /// Why it failed.
        source: io::Error,
    },
}

impl TreeError {
    fn new(action: &'static str, path: &str, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::Permission { action, path },
            io::ErrorKind::NotFound => Self::Vanished(path),
            _ => Self::Io { action, path, source },
        }
    }
}

impl Tree {
    /// Opens a source.
    ///
    /// # Errors
    /// [`TreeError`] where it is not a directory or may not be read.
    pub fn open(source: &Source) -> Result<Self, TreeError> {
        let path = match source {
            Source::Memory(files) => return Ok(Self(Kind::Memory(files.clone()))),
            Source::Directory(path) => path,
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(root) => Ok(Self(Kind::Disk { root, path: path.clone() })),
            Err(Errno::NOTDIR) => Err(TreeError::NotADirectory(path.clone())),
            Err(error) => Err(match TreeError::new("open", &path.to_string_lossy(), error) {
                TreeError::Vanished(path) => {
                    TreeError::Io { action: "open", path, source: io::ErrorKind::NotFound.into() }
                }
                other => other,
            }),
        }
    }

    /// Whether the files are on a disk, where they can change.
    pub fn is_on_disk(&self) -> bool {
        matches!(self.0, Kind::Disk { .. })
    }

    /// Opens a directory of the tree; `path` is empty for the root. `None` where there is none
    /// (any more).
    pub(super) fn directory(&self, path: &str) -> Result<Option<Directory<'_>>, TreeError> {
        match &self.0 {
            Kind::Memory(files) => Ok(path.is_empty().then_some(Directory::Memory(files))),
            Kind::Disk { root, .. } => {
                let inside = if path.is_empty() { "." } else { path };
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
                match open_beneath(root, inside, flags) {
                    Ok(fd) => Ok(Some(Directory::Disk(fd))),
                    Err(error) if is_gone(error) => Ok(None),
                    Err(error) => Err(TreeError::new("read the directory", path, error)),
                }
            }
        }
    }

    /// What is at `path`; `None` where there is nothing (any more).
    pub(super) fn facts(&self, path: &str) -> Result<Option<Facts>, TreeError> {
        match &self.0 {
            Kind::Memory(files) => Ok(files.get(path).map(memory_facts)),
            Kind::Disk { root, .. } => {
                match rustix::fs::statat(root, path, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => Ok(Some(Facts::new(&stat))),
                    Err(error) if is_gone(error) => Ok(None),
                    Err(error) => Err(TreeError::new("stat", path, error)),
                }
            }
        }
    }

    /// The target of the symbolic link at `path`; `None` where there is nothing (any more).
    pub(super) fn link(&self, path: &str) -> Result<Option<String>, TreeError> {
        let Kind::Disk { root, .. } = &self.0 else { return Ok(None) };
        match rustix::fs::readlinkat(root, path, Vec::new()) {
            Ok(target) => match target.into_string() {
                Ok(target) => Ok(Some(target)),
                Err(error) => Err(TreeError::Encoding(format!(
                    "{} (the target of the link `{path}`)",
                    error.into_cstring().to_string_lossy()
                ))),
            },
            Err(error) if is_gone(error) || error == Errno::INVAL => Ok(None),
            Err(error) => Err(TreeError::new("read the link", path, error)),
        }
    }

    /// Extended attributes, where the file system has them. Those that may not be read are left
    /// out, as the reference does.
    pub(super) fn attributes(&self, path: &str) -> BTreeMap<String, Vec<u8>> {
        let Kind::Disk { path: root, .. } = &self.0 else { return BTreeMap::new() };
        read_attributes(&root.join(path))
    }

    /// Opens the file at `path` to read at most `size` bytes: what a file has grown by since the
    /// builder was told of it is left out.
    ///
    /// # Errors
    /// [`TreeError`] where it may not be read, or is gone or no file any more.
    pub fn content(&self, path: &str, size: u64) -> Result<Content, TreeError> {
        match &self.0 {
            Kind::Memory(files) => {
                let bytes = files.get(path).ok_or_else(|| TreeError::Vanished(path.to_owned()))?;
                Ok(Content { from: From::Memory(bytes.clone()), left: size })
            }
            Kind::Disk { root, .. } => {
                // Without NONBLOCK a file replaced by a pipe would hold us until somebody writes.
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
                match open_beneath(root, path, flags) {
                    Ok(fd) => Ok(Content { from: From::File(File::from(fd)), left: size }),
                    Err(Errno::LOOP | Errno::NOTDIR | Errno::NXIO) => {
                        Err(TreeError::Vanished(path.to_owned()))
                    }
                    Err(error) => Err(TreeError::new("read", path, error)),
                }
            }
        }
    }
}

impl Links for Tree {
    type Error = TreeError;

    fn link_target(&self, path: &str) -> Result<Option<String>, TreeError> {
        self.link(path)
    }

    fn names(&self, path: &str) -> Result<Vec<String>, TreeError> {
        let Some(directory) = self.directory(path)? else { return Ok(Vec::new()) };
        // A name that is not text matches no pattern.
        let text = |name: Name| String::from_utf8(name.bytes.into_vec()).ok();
        Ok(directory.names(path)?.into_iter().filter_map(text).collect())
    }
}

impl Directory<'_> {
    /// What is in it, sorted by name. `path` is for errors.
    pub(super) fn names(&self, path: &str) -> Result<Vec<Name>, TreeError> {
        let mut names = Vec::new();
        match self {
            Self::Memory(files) => names.extend(
                files
                    .keys()
                    .map(|name| Name { bytes: name.as_bytes().into(), is_directory: Some(false) }),
            ),
            Self::Disk(fd) => {
                let failed = |error| TreeError::new("read the directory", path, error);
                for entry in Dir::read_from(fd).map_err(failed)? {
                    let entry = match entry {
                        Ok(entry) => entry,
                        Err(error) if is_gone(error) => break,
                        Err(error) => return Err(failed(error)),
                    };
                    let bytes = entry.file_name().to_bytes();
                    if bytes == b"." || bytes == b".." {
                        continue;
                    }
                    let is_directory = match entry.file_type() {
                        FileType::Unknown => None,
                        kind => Some(kind == FileType::Directory),
                    };
                    names.push(Name { bytes: bytes.into(), is_directory });
                }
                names.sort_unstable_by(|left, right| left.bytes.cmp(&right.bytes));
            }
        }
        Ok(names)
    }

    /// What `name` in it is; `None` where there is nothing (any more). `path` is for errors.
    pub(super) fn facts(&self, name: &[u8], path: &str) -> Result<Option<Facts>, TreeError> {
        match self {
            Self::Memory(files) => Ok(std::str::from_utf8(name)
                .ok()
                .and_then(|name| files.get(name))
                .map(memory_facts)),
            Self::Disk(fd) => match rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => Ok(Some(Facts::new(&stat))),
                Err(error) if is_gone(error) => Ok(None),
                Err(error) => Err(TreeError::new("stat", path, error)),
            },
        }
    }
}

impl Content {
    /// The next piece; empty at the end. `path` is for errors.
    ///
    /// # Errors
    /// [`TreeError`] where reading fails.
    pub fn next_piece(&mut self, path: &str) -> Result<Bytes, TreeError> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(CHUNK);
        if most == 0 {
            return Ok(Bytes::new());
        }
        let piece = match &mut self.from {
            From::Memory(bytes) => bytes.split_to(most.min(bytes.len())),
            From::File(file) => {
                let mut buffer = vec![0; most];
                let mut filled = 0;
                while let Some(space) = buffer.get_mut(filled..).filter(|space| !space.is_empty()) {
                    match file.read(space) {
                        Ok(0) => break,
                        Ok(read) => filled += read,
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) => return Err(TreeError::new("read", path, error)),
                    }
                }
                buffer.truncate(filled);
                Bytes::from(buffer)
            }
        };
        self.left -= u64::try_from(piece.len()).unwrap_or(self.left).min(self.left);
        Ok(piece)
    }

    /// What the opened file looks like now; `None` for what is not on a disk.
    pub fn facts(&self) -> Option<Facts> {
        match &self.from {
            From::Memory(_) => None,
            From::File(file) => rustix::fs::fstat(file).ok().map(|stat| Facts::new(&stat)),
        }
    }

    /// How many of the bytes that were announced have not been read.
    pub fn left(&self) -> u64 {
        self.left
    }
}

impl Facts {
    fn new(stat: &rustix::fs::Stat) -> Self {
        Self {
            unix_mode: stat.st_mode,
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            mtime: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
            ctime: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
            inode: wide(stat.st_ino),
            device: wide(stat.st_dev),
            links: wide(stat.st_nlink),
            special: (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)),
        }
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.unix_mode & 0o170_000 == 0o040_000
    }
}

fn memory_facts(content: &Bytes) -> Facts {
    Facts {
        unix_mode: 0o100_644,
        size: u64::try_from(content.len()).unwrap_or_default(),
        links: 1,
        ..Facts::default()
    }
}

fn nanoseconds(seconds: i64, nanoseconds: impl TryInto<i64>) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds.try_into().unwrap_or_default())
}

/// The width of these numbers differs between platforms.
fn wide(number: impl Into<u64>) -> u64 {
    number.into()
}

/// Whether an error says that an entry is gone, or is no longer what it was.
fn is_gone(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
}

/// Opens `path` below `root` without following any link.
pub(super) fn open_beneath(root: &OwnedFd, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
        // Kernels before 5.6 and some sandboxes lack it: then part by part.
        Err(Errno::NOSYS | Errno::PERM) => {
            let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut at = rustix::fs::openat(root, ".", step, Mode::empty())?;
            let mut parts = path.split('/').peekable();
            while let Some(part) = parts.next() {
                let last = parts.peek().is_none();
                let flags = if last { flags | OFlags::NOFOLLOW } else { step };
                at = rustix::fs::openat(&at, part, flags, Mode::empty())?;
            }
            Ok(at)
        }
        other => other,
    }
}

fn read_attributes(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return found };
    let mut buffer = [0_u8; 1024];
    let mut large;
    let names = match rustix::fs::llistxattr(&*path, &mut buffer[..]) {
        Ok(length) => buffer.get(..length).unwrap_or_default(),
        Err(Errno::RANGE) => {
            // The longest list that Linux allows.
            large = vec![0; 64 * 1024];
            let Ok(length) = rustix::fs::llistxattr(&*path, &mut large[..]) else { return found };
            large.get(..length).unwrap_or_default()
        }
        Err(_) => return found,
    };
    for name in names.split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        let Ok(text) = name.to_str() else { continue };
        if text.is_empty() || text.starts_with("com.apple.") {
            continue;
        }
        let mut value = vec![0; 64 * 1024];
        if let Ok(length) = rustix::fs::lgetxattr(&*path, name, &mut value[..]) {
            value.truncate(length);
            value.shrink_to_fit();
            found.insert(text.to_owned(), value);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{Source, Tree, TreeError};
    use bytes::Bytes;
    use std::{collections::BTreeMap, fs, os::unix::fs::symlink};

    #[test]
    fn nothing_is_read_through_links() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("real")).unwrap();
        fs::write(directory.path().join("real/secret"), "x").unwrap();
        symlink("real", directory.path().join("link")).unwrap();
        symlink("real/secret", directory.path().join("file")).unwrap();
        let tree = Tree::open(&Source::Directory(directory.path().to_owned())).unwrap();
        assert!(tree.content("real/secret", 1).is_ok());
        assert!(matches!(tree.content("link/secret", 1), Err(TreeError::Vanished(_))));
        assert!(matches!(tree.content("file", 1), Err(TreeError::Vanished(_))));
        assert!(tree.directory("link").unwrap().is_none());
        assert!(tree.content("../x", 1).is_err());
    }

    #[test]
    fn no_more_is_read_than_was_announced() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("log"), "12345").unwrap();
        let tree = Tree::open(&Source::Directory(directory.path().to_owned())).unwrap();
        let mut content = tree.content("log", 3).unwrap();
        assert_eq!(content.next_piece("log").unwrap(), "123");
        assert_eq!(content.next_piece("log").unwrap(), "");
        let mut content = tree.content("log", 9).unwrap();
        assert_eq!(content.next_piece("log").unwrap(), "12345");
        assert_eq!(content.next_piece("log").unwrap(), "");
        assert_eq!(content.left(), 4);
    }

    #[test]
    fn files_in_memory_are_a_flat_directory() {
        let files = BTreeMap::from([("Dockerfile".to_owned(), Bytes::from_static(b"FROM x"))]);
        let tree = Tree::open(&Source::Memory(files)).unwrap();
        assert_eq!(tree.facts("Dockerfile").unwrap().unwrap().size, 6);
        assert!(tree.facts("other").unwrap().is_none());
        assert_eq!(tree.content("Dockerfile", 6).unwrap().next_piece("").unwrap(), "FROM x");
    }

    #[test]
    fn a_root_that_is_no_directory_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let error = Tree::open(&Source::Directory(file)).unwrap_err();
        assert!(error.to_string().contains("file` is not a directory; hint: "), "{error}");
        let error = Tree::open(&Source::Directory(directory.path().join("no"))).unwrap_err();
        assert!(error.to_string().starts_with("cannot open `"), "{error}");
    }
}
