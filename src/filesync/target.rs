//! The directory that a `local` output is written to.
//!
//! No path from a builder leads out of it. Every entry is made through an open handle on its parent
//! directory, which is reached from the target's root without following any link, so that neither
//! `..`, nor an absolute path, nor a link that lies there already or is put there meanwhile, can
//! divert it. A file is written beside its place and put there when it is whole; an existing file
//! is never written into, so that other names of it elsewhere keep their content.

use super::{Step, mode, tree::open_beneath};
use crate::proto::fsutil::types::Stat;
use rustix::{
    fd::OwnedFd,
    fs::{AtFlags, Dir, FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags},
    io::Errno,
};
use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};
use thiserror::Error;

/// Writes what a [`Receiver`](super::Receiver) tells it to. What is unfinished when it is dropped is
/// removed.
#[derive(Debug)]
pub struct Target {
    path: PathBuf,
    root: Arc<OwnedFd>,
    /// Starts the names of files that are not whole yet.
    marker: String,
    expected: HashMap<u32, Box<Stat>>,
    growing: HashMap<u32, Growing>,
    /// Directories get their modes and times when everything is in them.
    directories: Vec<Stat>,
    /// The last parent that was opened: entries come sorted, so the next often has the same.
    parent: Option<(String, Arc<OwnedFd>)>,
    /// What to keep in each directory that is being listed, outermost first; `None` keeps all.
    listed: Option<Vec<Listed>>,
}

#[derive(Debug)]
struct Growing {
    file: File,
    parent: Arc<OwnedFd>,
    name: String,
}

#[derive(Debug)]
struct Listed {
    path: String,
    names: Vec<String>,
}

/// Why an output cannot be written.
#[derive(Debug, Error)]
#[error("cannot {action} `{}`: {source}{}", path.display(), hint(source))]
pub struct TargetError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; hint: choose an output directory that you may write to"
        }
        io::ErrorKind::StorageFull => "; hint: make room, or choose another output directory",
        _ => "",
    }
}

impl Target {
    /// Opens the directory at `path`, which is made where it is missing. `marker` must be random: it
    /// goes into the names of files in the making. With `delete`, whatever the builder does not send
    /// is removed.
    ///
    /// # Errors
    /// [`TargetError`] where it cannot be made or is no directory.
    pub fn open(path: &Path, marker: u64, delete: bool) -> Result<Self, TargetError> {
        let failed =
            |action, source: io::Error| TargetError { action, path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(|error| failed("make the output directory", error))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| failed("open the output directory", error.into()))?;
        let root_listing = || vec![Listed { path: String::new(), names: Vec::new() }];
        Ok(Self {
            path: path.to_owned(),
            root: Arc::new(root),
            marker: format!(".bk-sync-{marker:016x}-"),
            expected: HashMap::new(),
            growing: HashMap::new(),
            directories: Vec::new(),
            parent: None,
            listed: delete.then(root_listing),
        })
    }

    /// Does one step; replies are not its business.
    ///
    /// # Errors
    /// [`TargetError`] names the path and what failed.
    pub fn apply(&mut self, step: Step) -> Result<(), TargetError> {
        let (path, action, outcome) = match step {
            Step::Make(stat) => {
                let path = stat.path.clone();
                (path, "make", self.make(*stat))
            }
            Step::Expect(id, stat) => {
                let path = stat.path.clone();
                let outcome = self.list(&path, false);
                self.expected.insert(id, stat);
                (path, "list", outcome)
            }
            Step::Write(id, data) => {
                let outcome = self.grow(id).and_then(|growing| growing.file.write_all(&data));
                (self.expected_path(id), "write", outcome)
            }
            Step::Complete(id) => (self.expected_path(id), "write", self.complete(id)),
            Step::Link(stat) => {
                let outcome = self.link(&stat);
                (stat.path.clone(), "link", outcome)
            }
            Step::Promise(path) => {
                let outcome = self.list(&path, false);
                (path, "list", outcome)
            }
            Step::Settle => (String::new(), "finish", self.settle()),
            Step::Reply(_) => return Ok(()),
        };
        outcome.map_err(|source| TargetError { action, path: self.path.join(path), source })
    }

    fn expected_path(&self, id: u32) -> String {
        self.expected.get(&id).map(|stat| stat.path.clone()).unwrap_or_default()
    }

    fn make(&mut self, stat: Stat) -> io::Result<()> {
        let is_directory = mode::is_directory(stat.mode);
        self.list(&stat.path, is_directory)?;
        let (parent, name) = self.place_of(&stat.path)?;
        if is_directory {
            if is_directory_at(&parent, name)? != Some(true) {
                remove(&parent, name)?;
                rustix::fs::mkdirat(&parent, name, Mode::RWXU)?;
            } else if let Err(error) = open_beneath(&self.root, &stat.path, OFlags::DIRECTORY) {
                // Ours from an earlier run, with a mode that would keep us out.
                if error != Errno::ACCESS {
                    return Err(error.into());
                }
                rustix::fs::chmodat(&parent, name, Mode::RWXU, AtFlags::empty())?;
            }
            self.directories.push(stat);
            return Ok(());
        }
        let temporary = format!("{}make", self.marker);
        let made =
            make_special(&parent, &temporary, &stat).and_then(|()| put(&parent, &temporary, name));
        if made.is_err() {
            remove(&parent, temporary.as_str()).ok();
        }
        made
    }

    /// The file in the making for `id`, begun if it is not yet.
    fn grow(&mut self, id: u32) -> io::Result<&mut Growing> {
        if !self.growing.contains_key(&id) {
            let path = self.expected_path(id);
            let (parent, _) = self.place_of(&path)?;
            let name = format!("{}{id}", self.marker);
            let flags =
                OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&parent, &name, flags, Mode::RUSR | Mode::WUSR)?;
            self.growing.insert(id, Growing { file: File::from(file), parent, name });
        }
        self.growing.get_mut(&id).ok_or_else(|| io::Error::other("it was not announced"))
    }

    fn complete(&mut self, id: u32) -> io::Result<()> {
        self.grow(id)?;
        let (Some(growing), Some(stat)) = (self.growing.remove(&id), self.expected.remove(&id))
        else {
            return Err(io::Error::other("it was not announced"));
        };
        let name = stat.path.rsplit_once('/').map_or(stat.path.as_str(), |(_, name)| name);
        let finished =
            dress(&growing.file, &stat).and_then(|()| put(&growing.parent, &growing.name, name));
        if finished.is_err() {
            self.growing.insert(id, growing);
            self.expected.insert(id, stat);
        }
        finished
    }

    fn link(&mut self, stat: &Stat) -> io::Result<()> {
        let (target_parent, target_name) = self.place_of(&stat.linkname)?;
        let (parent, name) = self.place_of(&stat.path)?;
        let temporary = format!("{}link", self.marker);
        rustix::fs::linkat(&target_parent, target_name, &parent, &temporary, AtFlags::empty())?;
        put(&parent, &temporary, name)?;
        // Renaming one name of a file onto another does nothing, and leaves both.
        remove(&parent, &temporary)
    }

    fn settle(&mut self) -> io::Result<()> {
        if let Some(listed) = self.listed.take() {
            for level in listed.into_iter().rev() {
                self.prune(&level)?;
            }
        }
        // Innermost first: what is made in a directory changes its time.
        for stat in std::mem::take(&mut self.directories).into_iter().rev() {
            let directory =
                open_beneath(&self.root, &stat.path, OFlags::RDONLY | OFlags::DIRECTORY)?;
            dress(&directory, &stat)?;
        }
        Ok(())
    }

    /// Opens the directory that `path` lies in.
    fn place_of<'a>(&mut self, path: &'a str) -> io::Result<(Arc<OwnedFd>, &'a str)> {
        let Some((parent, name)) = path.rsplit_once('/') else {
            return Ok((Arc::clone(&self.root), path));
        };
        if let Some((known, fd)) = &self.parent
            && known == parent
        {
            return Ok((Arc::clone(fd), name));
        }
        let fd = Arc::new(open_beneath(&self.root, parent, OFlags::RDONLY | OFlags::DIRECTORY)?);
        self.parent = Some((parent.to_owned(), Arc::clone(&fd)));
        Ok((fd, name))
    }

    /// Notes an entry as one to keep, and removes what is not kept in directories that are over.
    fn list(&mut self, path: &str, is_directory: bool) -> io::Result<()> {
        let Some(listed) = &mut self.listed else { return Ok(()) };
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut over = Vec::new();
        while listed.last().is_some_and(|level| !is_below_or_same(parent, &level.path)) {
            over.extend(listed.pop());
        }
        if let Some(level) = listed.last_mut() {
            level.names.push(name.to_owned());
        }
        if is_directory {
            listed.push(Listed { path: path.to_owned(), names: Vec::new() });
        }
        over.iter().try_for_each(|level| self.prune(level))
    }

    fn prune(&self, level: &Listed) -> io::Result<()> {
        let inside = if level.path.is_empty() { "." } else { level.path.as_str() };
        let directory = open_beneath(&self.root, inside, OFlags::RDONLY | OFlags::DIRECTORY)?;
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            let kept = name == b"."
                || name == b".."
                || name.starts_with(self.marker.as_bytes())
                || level.names.iter().any(|kept| kept.as_bytes() == name);
            if !kept {
                remove(&directory, entry.file_name())?;
            }
        }
        Ok(())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        for growing in self.growing.values() {
            remove(&growing.parent, growing.name.as_str()).ok();
        }
    }
}

fn is_below_or_same(path: &str, directory: &str) -> bool {
    directory.is_empty()
        || path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Makes a symbolic link, pipe or device.
fn make_special(parent: &OwnedFd, name: &str, stat: &Stat) -> io::Result<()> {
    if stat.mode & mode::SYMLINK != 0 {
        rustix::fs::symlinkat(&stat.linkname, parent, name)?;
    } else {
        let kind = if stat.mode & mode::FIFO != 0 {
            FileType::Fifo
        } else if stat.mode & mode::CHARACTER != 0 {
            FileType::CharacterDevice
        } else if stat.mode & mode::DEVICE != 0 {
            FileType::BlockDevice
        } else {
            return Err(io::Error::other("its type is unknown"));
        };
        let device = rustix::fs::makedev(
            u32::try_from(stat.devmajor).unwrap_or_default(),
            u32::try_from(stat.devminor).unwrap_or_default(),
        );
        rustix::fs::mknodat(parent, name, kind, Mode::RUSR | Mode::WUSR, device)?;
        rustix::fs::chmodat(parent, name, chmod_bits(stat), AtFlags::empty())?;
    }
    Ok(rustix::fs::utimensat(parent, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Puts what was made under a temporary name in its place.
fn put(parent: &OwnedFd, temporary: &str, name: &str) -> io::Result<()> {
    let put = || rustix::fs::renameat(parent, temporary, parent, name);
    match put() {
        Err(Errno::ISDIR | Errno::EXIST | Errno::NOTEMPTY) => {
            remove(parent, name)?;
            Ok(put()?)
        }
        other => Ok(other?),
    }
}

/// Whether there is a directory; `None` where there is nothing.
fn is_directory_at(parent: &OwnedFd, name: &str) -> io::Result<Option<bool>> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Removes whatever is there, directories with all that is in them. Follows no link.
fn remove<N: rustix::path::Arg + Copy>(parent: &OwnedFd, name: N) -> io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // Linux says ISDIR, others PERM.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            remove(&directory, entry.file_name())?;
        }
    }
    Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

/// Gives a file or directory its attributes, mode and times. Attributes that this file system or
/// user may not have are left out, as the reference does; the owner is whoever runs us.
fn dress(file: impl rustix::fd::AsFd, stat: &Stat) -> io::Result<()> {
    for (name, value) in &stat.xattrs {
        rustix::fs::fsetxattr(&file, name.as_str(), value, XattrFlags::empty()).ok();
    }
    rustix::fs::fchmod(&file, chmod_bits(stat))?;
    Ok(rustix::fs::futimens(&file, &times(stat))?)
}

fn chmod_bits(stat: &Stat) -> Mode {
    Mode::from_raw_mode(mode::to_chmod(stat.mode))
}

fn times(stat: &Stat) -> Timestamps {
    let time = Timespec {
        tv_sec: stat.mod_time.div_euclid(1_000_000_000),
        tv_nsec: stat.mod_time.rem_euclid(1_000_000_000),
    };
    Timestamps { last_access: time, last_modification: time }
}

#[cfg(test)]
mod tests {
    use super::{Step, Target};
    use crate::{filesync::mode, proto::fsutil::types::Stat};
    use bytes::Bytes;
    use std::{
        fs,
        os::unix::fs::{MetadataExt, PermissionsExt, symlink},
        path::Path,
    };

    fn stat(path: &str, mode: u32) -> Stat {
        Stat { path: path.to_owned(), mode, mod_time: 5_000_000_007, ..Stat::default() }
    }

    fn directory(path: &str) -> Step {
        Step::Make(Box::new(stat(path, mode::DIRECTORY | 0o755)))
    }

    fn link(path: &str, to: &str) -> Step {
        let mut stat = stat(path, mode::SYMLINK | 0o777);
        to.clone_into(&mut stat.linkname);
        Step::Make(Box::new(stat))
    }

    fn file(id: u32, path: &str, content: &'static str) -> [Step; 3] {
        [
            Step::Expect(id, Box::new(stat(path, 0o640))),
            Step::Write(id, Bytes::from_static(content.as_bytes())),
            Step::Complete(id),
        ]
    }

    fn apply(target: &mut Target, steps: impl IntoIterator<Item = Step>) {
        for step in steps {
            target.apply(step).unwrap();
        }
    }

    fn names(path: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_tree_is_written_with_modes_times_and_links() {
        let out = tempfile::tempdir().unwrap();
        let path = out.path().join("new/out");
        let mut target = Target::open(&path, 7, false).unwrap();
        apply(&mut target, [Step::Make(Box::new(stat("d", mode::DIRECTORY | 0o555)))]);
        apply(&mut target, file(1, "d/f", "hello"));
        apply(&mut target, [link("s", "d/f"), Step::Make(Box::new(stat("p", mode::FIFO | 0o600)))]);
        let mut second = stat("t", 0o640);
        second.linkname = "d/f".to_owned();
        apply(&mut target, [Step::Link(second), Step::Settle]);
        drop(target);
        assert_eq!(names(&path), ["d", "p", "s", "t"]);
        let found = fs::metadata(path.join("t")).unwrap();
        assert_eq!((found.nlink(), found.mode() & 0o7777), (2, 0o640));
        assert_eq!((found.mtime(), found.mtime_nsec()), (5, 7));
        let found = fs::metadata(path.join("d")).unwrap();
        assert_eq!((found.mode() & 0o7777, found.mtime()), (0o555, 5));
        assert_eq!(fs::read_to_string(path.join("s")).unwrap(), "hello");
        fs::set_permissions(path.join("d"), fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn links_that_lie_there_divert_nothing() {
        let out = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("f"), "precious").unwrap();
        symlink(outside.path(), out.path().join("d")).unwrap();
        symlink(outside.path().join("f"), out.path().join("g")).unwrap();
        let mut target = Target::open(out.path(), 7, false).unwrap();
        apply(&mut target, [directory("d")]);
        apply(&mut target, file(1, "d/f", "new"));
        apply(&mut target, file(2, "g", "new"));
        apply(&mut target, [Step::Settle]);
        assert_eq!(fs::read_to_string(outside.path().join("f")).unwrap(), "precious");
        assert_eq!(fs::read_to_string(out.path().join("d/f")).unwrap(), "new");
        assert_eq!(fs::read_to_string(out.path().join("g")).unwrap(), "new");
    }

    #[test]
    fn a_directory_swapped_for_a_link_meanwhile_diverts_nothing() {
        let out = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let mut target = Target::open(out.path(), 7, false).unwrap();
        apply(&mut target, [directory("d"), directory("e")]);
        fs::remove_dir(out.path().join("d")).unwrap();
        symlink(outside.path(), out.path().join("d")).unwrap();
        let [expect, write, _] = file(2, "d/f", "x");
        target.apply(expect).unwrap();
        let error = target.apply(write).unwrap_err();
        assert!(error.to_string().contains("d/f`"), "{error}");
        let mut hard = stat("h", 0o644);
        hard.linkname = "d/f".to_owned();
        fs::write(outside.path().join("f"), "").unwrap();
        assert!(target.apply(Step::Link(hard)).is_err());
        assert!(target.apply(Step::Settle).is_err());
        assert_eq!(names(outside.path()), ["f"]);
    }

    #[test]
    fn other_names_of_a_replaced_file_keep_their_content() {
        let out = tempfile::tempdir().unwrap();
        fs::write(out.path().join("keep"), "old").unwrap();
        fs::hard_link(out.path().join("keep"), out.path().join("f")).unwrap();
        let mut target = Target::open(out.path(), 7, false).unwrap();
        apply(&mut target, file(0, "f", "new"));
        assert_eq!(fs::read_to_string(out.path().join("keep")).unwrap(), "old");
        assert_eq!(fs::read_to_string(out.path().join("f")).unwrap(), "new");
    }

    #[test]
    fn kinds_replace_each_other() {
        let out = tempfile::tempdir().unwrap();
        fs::create_dir_all(out.path().join("was-dir/full")).unwrap();
        fs::write(out.path().join("was-dir/full/f"), "").unwrap();
        fs::write(out.path().join("was-file"), "").unwrap();
        fs::create_dir(out.path().join("was-dir-2")).unwrap();
        let mut target = Target::open(out.path(), 7, false).unwrap();
        apply(&mut target, file(0, "was-dir", "x"));
        apply(&mut target, [link("was-dir-2", "y"), directory("was-file"), Step::Settle]);
        assert!(out.path().join("was-dir").is_file());
        assert!(out.path().join("was-dir-2").is_symlink());
        assert!(out.path().join("was-file").is_dir());
    }

    #[test]
    fn what_was_not_sent_is_deleted_only_where_that_was_asked_for() {
        for delete in [false, true] {
            let out = tempfile::tempdir().unwrap();
            let outside = tempfile::tempdir().unwrap();
            fs::write(outside.path().join("f"), "").unwrap();
            for path in ["a/old", "a/b/old", "z/deep/old"] {
                let path = out.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "").unwrap();
            }
            symlink(outside.path(), out.path().join("away")).unwrap();
            let mut target = Target::open(out.path(), 7, delete).unwrap();
            apply(&mut target, [directory("a"), directory("a/b")]);
            apply(&mut target, file(2, "a/b/new", "x"));
            apply(&mut target, file(3, "a/c", "x"));
            apply(&mut target, file(4, "b", "x"));
            let mut second = stat("a/b/new", 0o640);
            second.linkname = "a/c".to_owned();
            apply(&mut target, [Step::Link(second), Step::Settle]);
            let (root, a, b): (&[&str], &[&str], &[&str]) = if delete {
                (&["a", "b"], &["b", "c"], &["new"])
            } else {
                (&["a", "away", "b", "z"], &["b", "c", "old"], &["new", "old"])
            };
            assert_eq!(names(out.path()), root);
            assert_eq!(names(&out.path().join("a")), a);
            assert_eq!(names(&out.path().join("a/b")), b);
            assert_eq!(names(outside.path()), ["f"]);
        }
    }

    #[test]
    fn an_interruption_leaves_no_half_written_file() {
        let out = tempfile::tempdir().unwrap();
        fs::write(out.path().join("f"), "old").unwrap();
        let mut target = Target::open(out.path(), 7, false).unwrap();
        let [expect, write, _] = file(0, "f", "ne");
        apply(&mut target, [expect, write]);
        drop(target);
        assert_eq!(names(out.path()), ["f"]);
        assert_eq!(fs::read_to_string(out.path().join("f")).unwrap(), "old");
    }
}
