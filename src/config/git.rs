//! Facts about the checkout, asked of the `git` program only when they are needed.

use crate::plan::GitFacts;
use std::{
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

/// A checkout that is asked. Which commit it is at is asked once: it may move while we work.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Git {
    directory: PathBuf,
    sha: OnceLock<String>,
}

/// Why a fact about the checkout is not known.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// The program cannot be started.
    #[error("cannot run `git`")]
    Missing(#[source] io::Error),
    /// It answered with an error.
    #[error("`git {command}` failed in `{}`: {message}", directory.display())]
    Failed {
        /// Its arguments.
        command: String,
        /// Where it ran.
        directory: PathBuf,
        /// What it said, in one line.
        message: String,
    },
    /// A commit is checked out and no branch.
    #[error("no branch is checked out in `{}`", directory.display())]
    Detached {
        /// Where it was asked.
        directory: PathBuf,
    },
}

impl GitError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Missing(_) => "install git, or give the tag with `--tag`",
            Self::Failed { .. } => {
                "run inside a checkout with a commit, or give the tag with `--tag`"
            }
            Self::Detached { .. } => "use `{git.sha}`, or check a branch out",
        }
    }
}

impl Git {
    /// The checkout that `directory` is in.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), sha: OnceLock::new() }
    }

    /// The full hash of the commit that is checked out.
    ///
    /// # Errors
    /// Where there is no git, no checkout or no commit.
    pub fn sha(&self) -> Result<String, GitError> {
        if let Some(sha) = self.sha.get() {
            return Ok(sha.clone());
        }
        let sha = self.now()?;
        Ok(self.sha.get_or_init(|| sha).clone())
    }

    /// The full hash of the commit that is checked out at this moment.
    ///
    /// # Errors
    /// As [`Git::sha`].
    pub fn now(&self) -> Result<String, GitError> {
        self.ask(&["rev-parse", "--verify", "HEAD"])
    }

    /// Everything that a receipt says of the commit.
    ///
    /// # Errors
    /// As [`Git::sha`].
    pub fn facts(&self) -> Result<GitFacts, GitError> {
        let commit = self.sha()?;
        Ok(GitFacts {
            tree: self.ask(&["rev-parse", "--verify", &format!("{commit}^{{tree}}")])?,
            branch: match self.branch() {
                Ok(branch) => Some(branch),
                Err(GitError::Detached { .. }) => None,
                Err(error) => return Err(error),
            },
            subject: self.ask(&["log", "-1", "--format=%s", &commit])?,
            dirty: self.is_dirty()?,
            commit,
        })
    }

    /// The address of a remote; `origin`, else the first one.
    ///
    /// # Errors
    /// As [`Git::sha`]; there may be no remote.
    pub fn remote(&self) -> Result<String, GitError> {
        self.ask(&["remote", "get-url", "origin"]).or_else(|error| {
            let names = self.ask(&["remote"])?;
            let first = names.lines().next().ok_or(error)?;
            self.ask(&["remote", "get-url", first])
        })
    }

    /// The top directory of the checkout.
    ///
    /// # Errors
    /// As [`Git::sha`].
    pub fn top(&self) -> Result<PathBuf, GitError> {
        self.ask(&["rev-parse", "--show-toplevel"]).map(PathBuf::from)
    }

    /// Its short hash.
    ///
    /// # Errors
    /// As [`Git::sha`].
    pub fn short(&self) -> Result<String, GitError> {
        let sha = self.sha()?;
        self.ask(&["rev-parse", "--short", &sha])
    }

    /// The branch that is checked out.
    ///
    /// # Errors
    /// As [`Git::sha`], and where none is.
    pub fn branch(&self) -> Result<String, GitError> {
        match self.ask(&["rev-parse", "--abbrev-ref", "HEAD"])?.as_str() {
            "HEAD" => Err(GitError::Detached { directory: self.directory.clone() }),
            branch => Ok(branch.to_owned()),
        }
    }

    /// Whether files differ from the commit, or are neither committed nor ignored.
    ///
    /// # Errors
    /// As [`Git::sha`].
    pub fn is_dirty(&self) -> Result<bool, GitError> {
        Ok(!self.ask(&["status", "--porcelain", "--untracked-files=normal"])?.is_empty())
    }

    /// Whether the repository has `commit`.
    pub fn has(&self, commit: &str) -> bool {
        self.ask(&["cat-file", "-e", &format!("{commit}^{{commit}}")]).is_ok()
    }

    /// Writes the files of `commit` into `directory`, by an index of their own at `index`. What is
    /// checked out, its index and the list of work trees stay as they are, and `directory` gets
    /// nothing of git's.
    ///
    /// # Errors
    /// As [`Git::sha`], and where the files cannot be written.
    pub fn write_files(
        &self,
        commit: &str,
        directory: &Path,
        index: &Path,
    ) -> Result<(), GitError> {
        let ask = |arguments: &[&str]| {
            let mut command = command(&self.directory);
            command.env("GIT_INDEX_FILE", index);
            self.answer(command, arguments)
        };
        ask(&["read-tree", commit])?;
        let prefix = format!("--prefix={}/", directory.display());
        ask(&["checkout-index", "--all", "--quiet", &prefix]).map(drop)
    }

    fn ask(&self, arguments: &[&str]) -> Result<String, GitError> {
        self.answer(command(&self.directory), arguments)
    }

    fn answer(&self, mut command: Command, arguments: &[&str]) -> Result<String, GitError> {
        let output =
            command.args(arguments).stdin(Stdio::null()).output().map_err(GitError::Missing)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(GitError::Failed {
            command: arguments.join(" "),
            directory: self.directory.clone(),
            message: said.lines().next().unwrap_or("no reason given").to_owned(),
        })
    }
}

/// What git gets of our environment, besides its own variables: secrets that are there for us are none
/// of its business.
const FOR_GIT: [&str; 9] = [
    "HOME",
    "LANG",
    "LOGNAME",
    "PATH",
    "TMPDIR",
    "USER",
    "XDG_CONFIG_HOME",
    "LD_LIBRARY_PATH",
    "TZ",
];

/// `git` in a directory, such that it takes no lock for a mere question.
fn command(directory: &Path) -> Command {
    let mut command = Command::new("git");
    let is_for_git = |name: &str| {
        let is_secret = ["TOKEN", "PASSWORD", "SECRET"].iter().any(|word| name.contains(word));
        FOR_GIT.contains(&name)
            || name.starts_with("LC_")
            || (name.starts_with("GIT_") && !is_secret)
    };
    let kept = std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_for_git));
    command.env_clear().envs(kept);
    command.arg("-C").arg(directory).arg("--no-optional-locks");
    command
}
