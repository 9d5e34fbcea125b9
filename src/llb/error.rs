//! What can be wrong with a graph.

use thiserror::Error;

/// Why a state cannot be made or marshalled.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Error {
    /// A process without a command line.
    #[error("arguments are required")]
    NoArguments,
    /// A process without a directory to run in.
    #[error("working directory is required")]
    NoDirectory,
    /// A memory mount that is given a file system to start from.
    #[error("the memory mount on `{0}` cannot start from a state")]
    MemoryMountWithSource(String),
    /// A mount whose content is thrown away, used as a state.
    #[error("the mount on `{0}` has no output that could be built on")]
    NoOutput(String),
    /// [`super::Output::later`] that nobody decided on.
    #[error("a source of the graph was never decided on")]
    Undecided,
    /// A source without a name.
    #[error("source identifier can't be empty")]
    NoIdentifier,
    /// Somebody else's graph whose last op is none, or names no result.
    #[error("the graph names no result")]
    NoResult,
    /// An input that is not part of the graph; never seen unless a source was decided on to be
    /// built on itself.
    #[error("the graph is built on itself")]
    Cycle,
}
