//! Follow paths: what a build names, with every symbolic link on the way and what it leads to.

use crate::ignorefile::{Glob, clean};
use std::collections::{BTreeSet, HashSet};

/// How many links are followed from one path; more is a loop. (The kernel's own limit is 40.)
const LONGEST_CHAIN: u16 = 255;

/// What resolving needs to know of a tree.
pub trait Links {
    /// Why the tree could not be read.
    type Error;

    /// The target of the symbolic link at `path`; `None` where there is no link or nothing at all.
    fn link_target(&self, path: &str) -> Result<Option<String>, Self::Error>;

    /// The names in the directory at `path` (empty for the root); none where there is no directory.
    fn names(&self, path: &str) -> Result<Vec<String>, Self::Error>;
}

/// Turns follow paths into include patterns, sorted. `None` means that everything is wanted.
///
/// Each path is walked part by part, and links are followed inside the tree: an absolute target
/// starts at its root, and `..` does not lead out of it. A part may be a pattern; then the links
/// among its matches are followed. A path that does not exist stays as a pattern.
///
/// The reference follows a link only the first time it is met, so that of `link/a` and `link/b` the
/// second target is missed; here both are found.
pub fn resolve<L: Links>(links: &L, paths: &[String]) -> Result<Option<Vec<String>>, L::Error> {
    let mut found = BTreeSet::new();
    let mut seen = HashSet::new();
    let mut todo: Vec<(String, u16)> = paths.iter().map(|path| (path.clone(), 0)).collect();
    while let Some((path, hops)) = todo.pop() {
        let path = clean(path.trim_start_matches('/'));
        if !seen.insert(path.clone()) {
            continue;
        }
        let parts: Vec<&str> = path.split('/').collect();
        let mut current = String::new();
        for (index, part) in parts.iter().enumerate() {
            let directory = current.clone();
            if !current.is_empty() {
                current.push('/');
            }
            current.push_str(part);
            let targets = targets(links, &directory, part)?;
            if targets.is_empty() {
                continue;
            }
            found.insert(current.clone());
            let rest = parts.get(index + 1..).unwrap_or_default().join("/");
            if hops < LONGEST_CHAIN {
                todo.extend(
                    targets.iter().map(|target| (clean(&format!("{target}/{rest}")), hops + 1)),
                );
            }
            current.clear();
            break;
        }
        if !current.is_empty() {
            found.insert(current);
        }
    }
    Ok(without_nested(found))
}

/// What the links that `part` names in `directory` lead to, as absolute paths in the tree.
fn targets<L: Links>(links: &L, directory: &str, part: &str) -> Result<Vec<String>, L::Error> {
    if part == "." || part == ".." {
        return Ok(Vec::new());
    }
    let names = if has_wildcard(part) {
        let Ok(glob) = Glob::new(part) else { return Ok(Vec::new()) };
        let mut names = links.names(directory)?;
        names.retain(|name| glob.matches(name));
        names
    } else {
        vec![part.to_owned()]
    };
    let mut targets = Vec::new();
    for name in names {
        let path = if directory.is_empty() { name } else { format!("{directory}/{name}") };
        if let Some(target) = links.link_target(&path)? {
            targets.push(if target.starts_with('/') {
                clean(&target)
            } else {
                clean(&format!("/{directory}/{target}"))
            });
        }
    }
    Ok(targets)
}

fn has_wildcard(part: &str) -> bool {
    let mut escaped = false;
    part.chars().any(|character| {
        let wild = !escaped && matches!(character, '*' | '?' | '[');
        escaped = !escaped && character == '\\';
        wild
    })
}

/// Leaves out what lies in a directory that is wanted whole.
fn without_nested(paths: BTreeSet<String>) -> Option<Vec<String>> {
    let mut kept: Vec<String> = Vec::new();
    for path in paths {
        if path == "." {
            return None;
        }
        let nested = kept.last().is_some_and(|last| {
            path.strip_prefix(last.as_str()).is_some_and(|rest| rest.starts_with('/'))
        });
        if !nested {
            kept.push(path);
        }
    }
    Some(kept)
}

#[cfg(test)]
mod tests {
    use super::{Links, resolve};
    use std::{collections::BTreeMap, convert::Infallible};

    /// Links by path; all else does not exist.
    struct Tree(BTreeMap<&'static str, &'static str>);

    impl Links for Tree {
        type Error = Infallible;

        fn link_target(&self, path: &str) -> Result<Option<String>, Infallible> {
            Ok(self.0.get(path).map(|target| (*target).to_owned()))
        }

        fn names(&self, path: &str) -> Result<Vec<String>, Infallible> {
            let inside = |full: &str| match full.rsplit_once('/') {
                Some((directory, name)) if directory == path => Some(name.to_owned()),
                None if path.is_empty() => Some(full.to_owned()),
                _ => None,
            };
            Ok(self.0.keys().filter_map(|full| inside(full)).collect())
        }
    }

    fn follow(tree: &[(&'static str, &'static str)], paths: &[&str]) -> Option<Vec<String>> {
        let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        resolve(&Tree(tree.iter().copied().collect()), &paths).unwrap()
    }

    fn list(paths: &[&str]) -> Vec<String> {
        paths.iter().map(|path| (*path).to_owned()).collect()
    }

    #[test]
    fn links_are_followed_inside_the_tree() {
        let tree = [("l", "/abs/dir"), ("d/up", "../../../x")];
        assert_eq!(follow(&tree, &["l/f", "d/up"]), Some(list(&["abs/dir/f", "d/up", "l", "x"])));
        assert_eq!(follow(&tree, &["l/a", "l/b"]), Some(list(&["abs/dir/a", "abs/dir/b", "l"])));
        assert_eq!(follow(&tree, &["?"]), Some(list(&["?", "abs/dir"])));
        assert_eq!(follow(&tree, &["d", "d/x"]), Some(list(&["d"])));
    }

    #[test]
    fn loops_end() {
        assert_eq!(follow(&[("a", "b"), ("b", "a")], &["a"]), Some(list(&["a", "b"])));
        assert_eq!(follow(&[("a", "a/b")], &["a/x"]), Some(list(&["a"])));
        assert_eq!(follow(&[("s", ".")], &["s/s/s/f"]), Some(list(&["f", "s"])));
    }

    #[test]
    fn the_root_means_everything() {
        assert_eq!(follow(&[], &["a", "."]), None);
        assert_eq!(follow(&[("l", "/")], &["l"]), None);
    }
}
