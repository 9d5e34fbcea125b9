//! Git repositories as sources of `ADD` and as contexts: an address, and behind `#` or `?` what of
//! it is meant.

use thiserror::Error;

use crate::dockerfile::{quote, scalar};
use crate::llb::{Constraints, Git, GitUrl, GitUrlError, Scheme, State};

/// What of which repository is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct GitRef {
    pub(super) remote: String,
    pub(super) reference: String,
    pub(super) subdir: String,
    pub(super) checksum: String,
    pub(super) mtime: String,
    /// `github.com/a/b`, which could as well be a path.
    pub(super) like_a_path: bool,
    pub(super) keep_git_dir: Option<bool>,
    pub(super) submodules: Option<bool>,
    pub(super) fetch_by_commit: bool,
}

/// Why a text is no repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoGitRef {
    /// It is something else.
    Other,
    /// It is one, but what is asked of it makes no sense.
    Query(GitQueryError),
}

/// What is wrong behind the `?` of a repository's address.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum GitQueryError {
    /// A name without a value.
    #[error("query {} has no value", quote(.0))]
    NoValue(String),
    /// A name with more than one value.
    #[error("query {} has multiple values", quote(.0))]
    Repeated(String),
    /// Two texts for one thing.
    #[error("{what} conflicts: {} vs {}", quote(.first), quote(.second))]
    Conflict {
        /// `ref` or `subdir`.
        what: &'static str,
        /// One text.
        first: String,
        /// The other.
        second: String,
    },
    /// Both a tag and a branch.
    #[error("branch conflicts with tag")]
    TagAndBranch,
    /// A value that the name cannot have.
    #[error("invalid {name} value: {}", quote(.value))]
    Value {
        /// The name.
        name: String,
        /// The value.
        value: String,
    },
    /// A policy for the times of files that does not exist.
    #[error("invalid mtime value: {} (must be \"checkout\" or \"commit\")", quote(.0))]
    Times(String),
    /// A name that means nothing.
    #[error("unexpected query {}", quote(.0))]
    Unknown(String),
}

impl GitRef {
    /// Parses an address as `ADD` and contexts take it.
    pub(super) fn parse(text: &str) -> Result<Self, NoGitRef> {
        if text.starts_with("./") || text.starts_with("../") {
            return Err(NoGitRef::Other);
        }
        let like_a_path = text.starts_with("github.com/");
        let parsed = if like_a_path {
            GitUrl::parse(&format!("https://{text}"))
        } else {
            GitUrl::parse(text)
        };
        let url = parsed.map_err(|_: GitUrlError| NoGitRef::Other)?;
        let of_the_web = matches!(url.scheme, Scheme::Http | Scheme::Https);
        // A plain file of the web has an address of the same form.
        if of_the_web && !like_a_path && url.path.strip_suffix(".git").is_none() {
            return Err(NoGitRef::Other);
        }
        let remote = match url.remote.split_once("://") {
            Some((_, rest)) if like_a_path => rest.to_owned(),
            _ => url.remote.clone(),
        };
        let mut result = Self {
            remote,
            reference: url.reference.clone(),
            subdir: url.subdir.clone(),
            like_a_path,
            ..Self::default()
        };
        result.read_query(&url.query).map_err(NoGitRef::Query)?;
        Ok(result)
    }

    /// Whether a text is an address of a repository, sensible or not.
    pub(super) fn is_one(text: &str) -> bool {
        Self::parse(text).is_ok()
    }

    fn read_query(&mut self, query: &[(String, String)]) -> Result<(), GitQueryError> {
        let (mut tag, mut branch) = (String::new(), String::new());
        let mut last: Option<&str> = None;
        for (name, value) in query {
            if last.replace(name) == Some(name) {
                return Err(GitQueryError::Repeated(name.clone()));
            }
            let is_switch =
                matches!(name.as_str(), "submodules" | "keep-git-dir" | "fetch-by-commit");
            if value.is_empty() && !is_switch {
                return Err(GitQueryError::NoValue(name.clone()));
            }
            let switch = || {
                let wrong = || GitQueryError::Value { name: name.clone(), value: value.clone() };
                if value.is_empty() { Ok(true) } else { scalar::boolean(value).ok_or_else(wrong) }
            };
            match name.as_str() {
                "ref" => set_once(&mut self.reference, "ref", value.clone())?,
                "tag" => tag.clone_from(value),
                "branch" => branch.clone_from(value),
                "subdir" => set_once(&mut self.subdir, "subdir", value.clone())?,
                "checksum" | "commit" => self.checksum.clone_from(value),
                "keep-git-dir" => self.keep_git_dir = Some(switch()?),
                "submodules" => self.submodules = Some(switch()?),
                "mtime" if matches!(value.as_str(), "checkout" | "commit") => {
                    self.mtime.clone_from(value);
                }
                "mtime" => return Err(GitQueryError::Times(value.clone())),
                "fetch-by-commit" => self.fetch_by_commit = switch()?,
                _ => return Err(GitQueryError::Unknown(name.clone())),
            }
        }
        if !tag.is_empty() {
            set_once(&mut self.reference, "ref", prefixed("refs/tags/", &tag))?;
        }
        if !branch.is_empty() {
            if !tag.is_empty() {
                return Err(GitQueryError::TagAndBranch);
            }
            set_once(&mut self.reference, "ref", prefixed("refs/heads/", &branch))?;
        }
        Ok(())
    }

    /// The repository as a source, as far as the address says.
    pub(super) fn source(&self) -> Git {
        let mut git = Git::new(&self.remote).reference(&self.reference).subdir(&self.subdir);
        if self.submodules == Some(false) {
            git = git.skip_submodules();
        }
        if self.fetch_by_commit {
            git = git.fetch_by_commit();
        }
        git
    }

    /// The repository as a context.
    pub(super) fn context(&self, text: &str, keep_git_dir: bool, commit_times: bool) -> State {
        let mut git = self.source().checksum(&self.checksum);
        if keep_git_dir || self.keep_git_dir == Some(true) {
            git = git.keep_git_dir();
        }
        if !self.mtime.is_empty() {
            git = git.mtime(&self.mtime);
        } else if commit_times {
            git = git.mtime("commit");
        }
        git.state(Constraints::named(format!("[internal] load git source {text}")))
    }
}

fn set_once(into: &mut String, what: &'static str, value: String) -> Result<(), GitQueryError> {
    if !into.is_empty() && *into != value {
        return Err(GitQueryError::Conflict { what, first: into.clone(), second: value });
    }
    *into = value;
    Ok(())
}

fn prefixed(prefix: &str, name: &str) -> String {
    if name.starts_with(prefix) { name.into() } else { format!("{prefix}{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_web_and_paths_are_no_repositories() {
        for text in ["./a.git", "a/b.git", "https://example.test/a.tar.gz", "ftp://a/b.git", ""] {
            assert_eq!(GitRef::parse(text), Err(NoGitRef::Other), "{text}");
        }
        assert!(GitRef::is_one("https://example.test/a.git"));
        assert!(GitRef::is_one("git@example.test:a"));
        assert!(GitRef::parse("github.com/a/b").unwrap().like_a_path);
    }

    #[test]
    fn queries_say_what_is_meant() {
        let git = GitRef::parse("https://e.test/a.git?tag=v1&subdir=d&submodules=0&keep-git-dir")
            .unwrap();
        assert_eq!(git.reference, "refs/tags/v1");
        assert_eq!(git.subdir, "d");
        assert_eq!((git.submodules, git.keep_git_dir), (Some(false), Some(true)));
    }

    #[test]
    fn queries_that_make_no_sense_are_errors() {
        let fault = |query: &str| match GitRef::parse(&format!("https://e.test/a.git?{query}")) {
            Err(NoGitRef::Query(error)) => error.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(fault("ref=a&ref=b"), "query \"ref\" has multiple values");
        assert_eq!(fault("ref="), "query \"ref\" has no value");
        assert_eq!(fault("tag=a&branch=b"), "branch conflicts with tag");
        assert_eq!(fault("x=1"), "unexpected query \"x\"");
        assert_eq!(
            fault("mtime=now"),
            "invalid mtime value: \"now\" (must be \"checkout\" or \"commit\")"
        );
        assert_eq!(fault("ref=a#b"), "ref conflicts: \"b\" vs \"a\"");
    }
}
