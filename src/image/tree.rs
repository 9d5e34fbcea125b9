//! The files of an image, wherever they lie, and paths in them: links are followed as a container
//! would follow them, never out of the image.

use futures::{future::BoxFuture, lock::Mutex};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Links in a row that a kernel follows.
const MAX_LINKS: usize = 40;

/// What a name in a directory is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Entry {
    /// A directory.
    Directory,
    /// A file, or anything else that is neither of the others.
    File,
    /// A link to what it says.
    Link(String),
}

/// The entries of a directory by name.
pub type Listing = BTreeMap<String, Entry>;

/// Whoever can look into an image. Paths are absolute and without links.
pub trait Tree: Sync {
    /// What a directory holds; nothing where there is no such directory.
    fn list<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Option<Listing>, TreeError>>;

    /// The first `length` bytes of a file.
    fn read<'a>(
        &'a self,
        path: &'a str,
        length: usize,
    ) -> BoxFuture<'a, Result<Vec<u8>, TreeError>>;
}

/// The image cannot be looked into.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct TreeError(pub String);

/// What a path leads to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
    /// Something, by its path without links.
    There {
        /// Its path without links.
        path: String,
        /// Whether it is a directory.
        directory: bool,
    },
    /// Nothing: this path, without links up to its last part, does not exist.
    Missing(String),
    /// Links that lead around in a circle.
    Circle,
}

/// A tree whose directories are asked for once.
pub struct Paths<'t> {
    tree: &'t dyn Tree,
    known: Mutex<HashMap<String, Option<Arc<Listing>>>>,
}

impl<'t> Paths<'t> {
    /// Paths in `tree`.
    pub fn new(tree: &'t dyn Tree) -> Self {
        Self { tree, known: Mutex::default() }
    }

    /// What the directory `path`, without links, holds.
    ///
    /// # Errors
    /// The tree cannot be looked into.
    pub async fn list(&self, path: &str) -> Result<Option<Arc<Listing>>, TreeError> {
        if let Some(listing) = self.known.lock().await.get(path) {
            return Ok(listing.clone());
        }
        let listing = self.tree.list(path).await?.map(Arc::new);
        self.known.lock().await.insert(path.to_owned(), listing.clone());
        Ok(listing)
    }

    /// Where `path` leads, from `base` (without links) where it is relative.
    ///
    /// # Errors
    /// The tree cannot be looked into.
    pub async fn resolve(&self, base: &str, path: &str) -> Result<Place, TreeError> {
        let mut links = 0;
        let mut here = if path.starts_with('/') { Vec::new() } else { parts(base) };
        let mut rest: Vec<String> = parts(path);
        rest.reverse();
        while let Some(part) = rest.pop() {
            if part == "." {
                continue;
            }
            if part == ".." {
                here.pop();
                continue;
            }
            let listing = self.list(&absolute(&here)).await?;
            let entry = listing.as_ref().and_then(|listing| listing.get(&part));
            match entry {
                None => {
                    here.push(part);
                    return Ok(Place::Missing(absolute(&here)));
                }
                Some(Entry::Link(target)) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Ok(Place::Circle);
                    }
                    if target.starts_with('/') {
                        here.clear();
                    }
                    rest.extend(parts(target).into_iter().rev());
                }
                Some(Entry::Directory) => here.push(part),
                Some(Entry::File) => {
                    here.push(part);
                    let path = absolute(&here);
                    // Nothing lies below a file.
                    let ends = rest.iter().all(|part| part == ".");
                    return Ok(if ends {
                        Place::There { path, directory: false }
                    } else {
                        Place::Missing(path)
                    });
                }
            }
        }
        Ok(Place::There { path: absolute(&here), directory: true })
    }

    /// The first `length` bytes of the file `path`, without links.
    ///
    /// # Errors
    /// The tree cannot be looked into.
    pub async fn read(&self, path: &str, length: usize) -> Result<Vec<u8>, TreeError> {
        self.tree.read(path, length).await
    }
}

fn parts(path: &str) -> Vec<String> {
    path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

fn absolute(parts: &[String]) -> String {
    format!("/{}", parts.join("/"))
}

/// A name below a directory.
pub(super) fn join(directory: &str, name: &str) -> String {
    format!("{}/{name}", directory.trim_end_matches('/'))
}

#[cfg(test)]
pub(super) mod memory {
    //! A tree for tests.

    use super::{Entry, Listing, Tree, TreeError, join};
    use futures::future::{BoxFuture, ready};
    use std::{
        collections::BTreeMap,
        sync::atomic::{AtomicUsize, Ordering},
    };

    /// Files by path; a content that begins with `-> ` is a link.
    pub(in crate::image) struct Memory {
        directories: BTreeMap<String, Listing>,
        files: BTreeMap<String, Vec<u8>>,
        pub(in crate::image) asked: AtomicUsize,
    }

    impl Memory {
        pub(in crate::image) fn new<B: AsRef<[u8]>>(files: &[(&str, B)]) -> Self {
            let mut directories = BTreeMap::from([("/".to_owned(), Listing::new())]);
            let mut contents = BTreeMap::new();
            for (path, content) in files {
                let content = content.as_ref();
                let mut above = "/".to_owned();
                let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
                for (at, part) in parts.iter().enumerate() {
                    let last = at + 1 == parts.len();
                    let entry = match content.strip_prefix(b"-> ") {
                        Some(target) if last => {
                            Entry::Link(String::from_utf8(target.to_vec()).unwrap())
                        }
                        None if last && !path.ends_with('/') => Entry::File,
                        _ => Entry::Directory,
                    };
                    directories.get_mut(&above).unwrap().insert((*part).to_owned(), entry.clone());
                    above = join(&above, part);
                    if entry == Entry::Directory {
                        directories.entry(above.clone()).or_default();
                    }
                }
                contents.insert(above, content.to_vec());
            }
            Self { directories, files: contents, asked: AtomicUsize::new(0) }
        }
    }

    impl Tree for Memory {
        fn list<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Option<Listing>, TreeError>> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            Box::pin(ready(Ok(self.directories.get(path).cloned())))
        }

        fn read<'a>(
            &'a self,
            path: &'a str,
            length: usize,
        ) -> BoxFuture<'a, Result<Vec<u8>, TreeError>> {
            let found = self.files.get(path).map(|bytes| bytes[..length.min(bytes.len())].to_vec());
            Box::pin(ready(found.ok_or_else(|| TreeError(format!("no {path}")))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Paths, Place, memory::Memory};
    use futures::executor::block_on;
    use std::sync::atomic::Ordering;

    #[test]
    fn links_are_followed_as_in_a_container() {
        let tree = Memory::new(&[
            ("/usr/bin/sh", "x"),
            ("/bin", "-> usr/bin"),
            ("/a/up", "-> ../../../usr"),
            ("/a/abs", "-> /bin/sh"),
            ("/a/gone", "-> ../b/c"),
            ("/a/loop", "-> loop"),
            ("/a/through-file", "-> abs/x"),
            ("/a/dir/", ""),
        ]);
        let paths = Paths::new(&tree);
        let resolve = |base: &str, path: &str| block_on(paths.resolve(base, path)).unwrap();
        let file = |path: &str| Place::There { path: path.to_owned(), directory: false };
        assert_eq!(resolve("/", "/bin/sh"), file("/usr/bin/sh"));
        assert_eq!(resolve("/a", "abs"), file("/usr/bin/sh"));
        assert_eq!(resolve("/a", "./abs/."), file("/usr/bin/sh"));
        assert_eq!(
            resolve("/a", "up"),
            Place::There { path: "/usr".to_owned(), directory: true },
            "there is nothing above the root"
        );
        assert_eq!(resolve("/a", "dir/../abs"), file("/usr/bin/sh"));
        assert_eq!(resolve("/a", "gone"), Place::Missing("/b".to_owned()));
        assert_eq!(resolve("/a", "through-file"), Place::Missing("/usr/bin/sh".to_owned()));
        assert_eq!(resolve("/a", "loop"), Place::Circle);
        let asked = tree.asked.load(Ordering::Relaxed);
        resolve("/", "/bin/sh");
        assert_eq!(tree.asked.load(Ordering::Relaxed), asked, "a directory is asked for once");
    }
}
