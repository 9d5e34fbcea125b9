//! Ignore files with Docker's semantics (not git's). Pure.
//!
//! An ignore file is a list of patterns, one a line. [`IgnoreFile::parse`] reads and tidies them, and
//! [`Matcher`] answers whether a path is ignored. What differs from git:
//!
//! - a pattern is anchored at the root of the context: `*.md` ignores `a.md` but not `sub/a.md`;
//! - the last pattern that matches decides, and `!` takes a path back even where its directory is
//!   ignored;
//! - wildcards are those of Go's `filepath.Match`, and `**` stands for any number of directories.
//!
//! The reference matcher turns a pattern into a regular expression piece by piece, which gives odd
//! patterns (`[*]`, `a^?`) a meaning that no manual mentions. [`Pattern`] gives them the same meaning,
//! because the builder matches these very patterns again with the reference matcher. It keeps no
//! compiled expression, so that thousands of patterns cost little: a path is only tried against
//! patterns whose literal first or last part it has.

mod clean;
mod glob;
mod matcher;
mod parse;
mod pattern;

pub use clean::clean;
pub use glob::Glob;
pub use matcher::{Matched, Matcher, MatcherError};
pub use parse::{IgnoreFile, IgnoreFileError, Rule};
pub use pattern::{Pattern, PatternError};
