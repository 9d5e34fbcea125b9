//! The walk of a tree in the order of the protocol, through a filter.

use super::{
    filter::{Filter, FilterError, FilterLists, Level, Verdict},
    follow, mode,
    tree::{Facts, Tree, TreeError},
};
use crate::proto::fsutil::types::Stat;
use std::{
    collections::{HashMap, VecDeque},
    vec,
};
use thiserror::Error;

/// An entry to send.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// What the builder is told.
    pub stat: Stat,
    /// What the disk says.
    pub facts: Facts,
}

/// Why a walk ends early.
#[derive(Debug, Error)]
pub enum WalkError {
    /// The builder's lists are refused.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// The tree cannot be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// Goes through a tree, one entry at a time. What it holds at any time is the path from the root
/// to where it stands, with the siblings on each level: never the whole tree.
///
/// A directory that is not wanted itself comes just before the first wanted thing in it. What
/// vanishes while the walk goes on is left out.
#[derive(Debug)]
pub struct Walk<'a> {
    tree: &'a Tree,
    filter: Filter,
    stack: Vec<Frame>,
    ready: VecDeque<Entry>,
    /// The first path of each file that has several names, by device and inode.
    first_names: HashMap<(u64, u64), String>,
}

/// A directory in the middle of being walked.
#[derive(Debug)]
struct Frame {
    path: String,
    emitted: bool,
    children: vec::IntoIter<Child>,
}

#[derive(Debug)]
struct Child {
    name: Box<str>,
    /// What it is, where it is wanted.
    facts: Option<Facts>,
    /// For directories to go down into: what they leave to what is in them.
    level: Option<Level>,
}

impl<'a> Walk<'a> {
    /// Starts a walk. Follow paths are resolved now.
    ///
    /// # Errors
    /// [`WalkError`] for broken patterns, and where the root cannot be read.
    pub fn new(tree: &'a Tree, lists: &FilterLists) -> Result<Self, WalkError> {
        let mut include = lists.include.clone();
        if !lists.follow.is_empty()
            && let Some(followed) = follow::resolve(tree, &lists.follow)?
        {
            include.extend(followed);
            if include.iter().any(|path| path == ".") {
                include.clear();
            }
        }
        let filter = Filter::new(&include, &lists.exclude)?;
        let mut walk = Self {
            tree,
            filter,
            stack: Vec::new(),
            ready: VecDeque::new(),
            first_names: HashMap::new(),
        };
        walk.enter(String::new(), None, true)?;
        Ok(walk)
    }

    /// The next entry, or `None` at the end.
    ///
    /// # Errors
    /// [`WalkError::Tree`] where something wanted cannot be read.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, WalkError> {
        loop {
            if let Some(entry) = self.ready.pop_front() {
                return Ok(Some(entry));
            }
            let Some(frame) = self.stack.last_mut() else { return Ok(None) };
            let Some(child) = frame.children.next() else {
                self.stack.pop();
                continue;
            };
            let path = join(&frame.path, &child.name);
            let wanted = child.facts.is_some();
            if let Some(facts) = child.facts {
                self.announce_parents()?;
                self.announce(path.clone(), facts)?;
            }
            if let Some(level) = child.level {
                self.enter(path, Some(&level), wanted)?;
            }
        }
    }

    /// Reads a directory and keeps what is wanted of it, or may hold what is wanted.
    fn enter(
        &mut self,
        path: String,
        level: Option<&Level>,
        emitted: bool,
    ) -> Result<(), TreeError> {
        let directory = match self.tree.directory(&path) {
            Ok(Some(directory)) => directory,
            Ok(None) => return Ok(()),
            // Nobody asked for it, so nobody minds.
            Err(TreeError::Permission { .. }) if !emitted => return Ok(()),
            Err(error) => return Err(error),
        };
        let names = directory.names(&path)?;
        let mut children = Vec::with_capacity(names.len());
        for name in names {
            let text = String::from_utf8_lossy(&name.bytes);
            let child_path = join(&path, &text);
            let mut facts = None;
            let is_directory = if let Some(known) = name.is_directory {
                known
            } else {
                facts = directory.facts(&name.bytes, &child_path)?;
                let Some(facts) = &facts else { continue };
                facts.is_directory()
            };
            let (verdict, level) = self.filter.decide(&child_path, is_directory, level);
            match verdict {
                Verdict::Prune => continue,
                Verdict::Skip if !is_directory => continue,
                Verdict::Skip => facts = None,
                Verdict::Select => {
                    if facts.is_none() {
                        facts = directory.facts(&name.bytes, &child_path)?;
                    }
                    if facts.is_none() {
                        continue;
                    }
                }
            }
            let Ok(name) = String::from_utf8(name.bytes.into_vec()) else {
                return Err(TreeError::Encoding(child_path));
            };
            let level = is_directory.then_some(level);
            children.push(Child { name: name.into_boxed_str(), facts, level });
        }
        if !children.is_empty() {
            let children = children.into_iter();
            self.stack.push(Frame { path, emitted, children });
        }
        Ok(())
    }

    /// Announces the directories above that were held back until something in them is wanted.
    fn announce_parents(&mut self) -> Result<(), TreeError> {
        let waiting: Vec<String> = self
            .stack
            .iter_mut()
            .filter(|frame| !frame.emitted)
            .map(|frame| {
                frame.emitted = true;
                frame.path.clone()
            })
            .collect();
        for path in waiting {
            let Some(facts) = self.tree.facts(&path)? else { continue };
            self.announce(path, facts)?;
        }
        Ok(())
    }

    fn announce(&mut self, path: String, facts: Facts) -> Result<(), TreeError> {
        let mode = mode::from_unix(facts.unix_mode);
        let is_directory = mode::is_directory(mode);
        let mut linkname = String::new();
        if mode & mode::SYMLINK != 0 {
            let Some(target) = self.tree.link(&path)? else { return Ok(()) };
            linkname = target;
        } else if facts.links > 1 && !is_directory {
            match self.first_names.get(&(facts.device, facts.inode)) {
                Some(first) => linkname.clone_from(first),
                None => {
                    self.first_names.insert((facts.device, facts.inode), path.clone());
                }
            }
        }
        let stat = Stat {
            mode,
            // Contexts belong to root whoever builds, so that everybody shares one cache.
            uid: 0,
            gid: 0,
            size: if is_directory { 0 } else { i64::try_from(facts.size).unwrap_or(i64::MAX) },
            mod_time: facts.mtime,
            linkname,
            devmajor: facts.special.0.into(),
            devminor: facts.special.1.into(),
            xattrs: self.tree.attributes(&path),
            path,
        };
        self.ready.push_back(Entry { stat, facts });
        Ok(())
    }
}

fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") }
}

#[cfg(test)]
mod tests {
    use super::{FilterLists, Walk};
    use crate::filesync::{Source, Tree, WalkError, order};
    use proptest::prelude::*;
    use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt, path::Path};

    fn paths(root: &Path, lists: &FilterLists) -> Result<Vec<String>, WalkError> {
        let tree = Tree::open(&Source::Directory(root.to_owned()))?;
        let mut walk = Walk::new(&tree, lists)?;
        let mut paths = Vec::new();
        while let Some(entry) = walk.next_entry()? {
            paths.push(entry.stat.path);
        }
        Ok(paths)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn entries_come_in_the_order_of_the_protocol(
            files in prop::collection::btree_set("[ab !.-]{1,2}x?(/[ab~]{1,2}y){0,2}", 1..20),
        ) {
            let directory = tempfile::tempdir().unwrap();
            for file in &files {
                let path = directory.path().join(format!("{file}_"));
                if let Some(parent) = path.parent() {
                    fs::create_dir_all(parent).unwrap();
                }
                fs::write(path, "").unwrap();
            }
            let sent = paths(directory.path(), &FilterLists::default()).unwrap();
            let mut sorted = sent.clone();
            sorted.sort_by(|left, right| order::compare(left, right));
            prop_assert_eq!(&sent, &sorted);
            let mut check = order::Order::default();
            for path in &sent {
                check.accept(path, directory.path().join(path).is_dir()).unwrap();
            }
        }
    }

    #[test]
    fn names_that_are_no_text_are_refused_only_where_they_are_wanted() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(OsStr::from_bytes(b"bad\xff")), "").unwrap();
        fs::write(directory.path().join("good"), "").unwrap();
        let error = paths(directory.path(), &FilterLists::default()).unwrap_err();
        assert!(error.to_string().contains("is not valid UTF-8"), "{error}");
        let lists = FilterLists { exclude: vec!["bad*".to_owned()], ..FilterLists::default() };
        assert_eq!(paths(directory.path(), &lists).unwrap(), ["good"]);
    }

    #[test]
    fn what_vanishes_under_way_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            fs::create_dir(directory.path().join(name)).unwrap();
            fs::write(directory.path().join(name).join("f"), "").unwrap();
        }
        let tree = Tree::open(&Source::Directory(directory.path().to_owned())).unwrap();
        let mut walk = Walk::new(&tree, &FilterLists::default()).unwrap();
        let mut seen = vec![walk.next_entry().unwrap().unwrap().stat.path];
        fs::remove_dir_all(directory.path().join("b")).unwrap();
        while let Some(entry) = walk.next_entry().unwrap() {
            seen.push(entry.stat.path);
        }
        // The directory was listed before it went; what was in it was not.
        assert_eq!(seen, ["a", "a/f", "b", "c", "c/f"]);
    }

    #[test]
    fn trees_may_be_deep() {
        let directory = tempfile::tempdir().unwrap();
        let path = vec!["d"; 1_000].join("/");
        fs::create_dir_all(directory.path().join(&path)).unwrap();
        fs::write(directory.path().join(&path).join("f"), "").unwrap();
        let sent = paths(directory.path(), &FilterLists::default()).unwrap();
        assert_eq!(sent.len(), 1_001);
        assert_eq!(sent.last(), Some(&format!("{path}/f")));
    }
}
