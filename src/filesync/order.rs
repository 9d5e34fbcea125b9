//! The one order in which entries travel: each directory before what is in it, and siblings by the
//! bytes of their names.

use crate::ignorefile::clean;
use std::cmp::Ordering;
use thiserror::Error;

/// Compares two paths in the order of the protocol: byte by byte, with `/` below every other byte.
pub fn compare(left: &str, right: &str) -> Ordering {
    left.split('/').map(str::as_bytes).cmp(right.split('/').map(str::as_bytes))
}

/// Checks that received entries come in order, each inside a directory that came before.
#[derive(Debug, Default)]
pub struct Order {
    /// The directories that the last entry lies in (and itself, where it is one), outermost first,
    /// each with the last name that came in it. The root is not among them.
    open: Vec<Level>,
    last_at_root: String,
}

#[derive(Debug)]
struct Level {
    name: String,
    last: String,
}

/// Why an entry cannot come here.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum OrderError {
    /// The path is not clean, absolute, or leads out of the tree.
    #[error("the builder sent the path {0:?}, which is not a clean relative path")]
    Path(String),
    /// It comes too late, twice, or without its directory.
    #[error("the builder sent {0:?} out of order")]
    Sequence(String),
}

impl Order {
    /// Whether a path is clean, relative and stays in the tree.
    pub fn is_inside(path: &str) -> bool {
        let leads_out = path.starts_with('/') || path == ".." || path.starts_with("../");
        !leads_out && path != "." && !path.contains('\0') && clean(path) == path
    }

    /// Takes the next entry. Returns how many open directories it closed.
    ///
    /// # Errors
    /// [`OrderError`] where the entry breaks the order, or its path could lead out of the tree.
    pub fn accept(&mut self, path: &str, is_directory: bool) -> Result<usize, OrderError> {
        if !Self::is_inside(path) {
            return Err(OrderError::Path(path.to_owned()));
        }
        let sequence = || OrderError::Sequence(path.to_owned());
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut depth = 0;
        for part in parent.split('/').filter(|part| !part.is_empty()) {
            if self.open.get(depth).is_none_or(|level| level.name != part) {
                return Err(sequence());
            }
            depth += 1;
        }
        let closed = self.open.len() - depth;
        self.open.truncate(depth);
        let last = self.open.last_mut().map_or(&mut self.last_at_root, |level| &mut level.last);
        if !last.is_empty() && last.as_bytes() >= name.as_bytes() {
            return Err(sequence());
        }
        name.clone_into(last);
        if is_directory {
            self.open.push(Level { name: name.to_owned(), last: String::new() });
        }
        Ok(closed)
    }
}

#[cfg(test)]
mod tests {
    use super::{Order, compare};
    use proptest::prelude::*;
    use std::cmp::Ordering;

    /// The definition: byte by byte, a slash being lower than all else.
    fn reference(left: &str, right: &str) -> Ordering {
        let rank = |byte: u8| if byte == b'/' { 0 } else { u16::from(byte) + 1 };
        left.bytes().map(rank).cmp(right.bytes().map(rank))
    }

    proptest! {
        #[test]
        fn the_order_is_byte_by_byte_with_the_slash_lowest(
            left in "[a.é !/]{1,3}(/[a.b !]{1,3}){0,3}", right in "[a.é !/]{1,3}(/[a.b !]{1,3}){0,3}",
        ) {
            prop_assert_eq!(compare(&left, &right), reference(&left, &right));
        }
    }

    #[test]
    fn a_directory_comes_before_its_neighbours() {
        let mut paths = ["a b", "a/b/f1", "a.d/f", "a.d", "a", "a/b"];
        paths.sort_by(|left, right| compare(left, right));
        assert_eq!(paths, ["a", "a/b", "a/b/f1", "a b", "a.d", "a.d/f"]);
    }

    #[test]
    fn what_breaks_the_order_is_refused() {
        let mut order = Order::default();
        assert_eq!(order.accept("a", true), Ok(0));
        assert_eq!(order.accept("a/b", true), Ok(0));
        assert_eq!(order.accept("a/b/c", false), Ok(0));
        assert_eq!(order.accept("a/d", false), Ok(1));
        assert!(order.accept("a/d", false).is_err(), "twice");
        assert!(order.accept("a/b", false).is_err(), "back");
        assert!(order.accept("x/y", false).is_err(), "without its directory");
        assert!(order.accept("a/d/e", false).is_err(), "inside a file");
        assert_eq!(order.accept("b", false), Ok(1));
        for path in ["", ".", "..", "../x", "/etc", "b/../../x", "c//d", "./c", "c/", "c\0d"] {
            assert!(order.accept(path, false).is_err(), "{path:?}");
        }
    }
}
