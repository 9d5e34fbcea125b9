//! Defaults, `bk-sync.toml`, environment and flags to settings; each value knows where it came from.
//!
//! [`Config`] is the file as it stands, with the place of every value; [`BuildSettings`] is what
//! holds for one build after flags and environment have had their say.

mod deploy;
mod draft;
mod git;
mod images;
mod keys;
mod schema;
mod settings;
mod signing;
mod sync;
mod table;
mod template;
pub(crate) mod values;
mod verify;

pub use deploy::{DeploySection, HookSection, HttpSink, RECORD_FACTS, RecordSection};
pub use draft::{Draft, Drafted, FoundWorkload};
pub use git::{Git, GitError};
pub use images::ImageTarget;
pub use keys::json_schema;
pub use schema::{
    BuildSection, CredentialSource, Dirty, ImageSection, LeaseSource, OnFailure, ReachSection,
    RegistrySection, RolloutSection, Sections, parse_time,
};
pub use settings::{BuildOverrides, BuildSettings, Origin, Setting, SettingsError, fill};
pub use signing::{SignOverride, SignSection, SignSource, signing};
pub use sync::{SyncOverrides, sync_plan};
pub use template::{Fact, Template};
pub use verify::{
    ExecCheck, Functions, HttpCheck, InngestCheck, InngestSync, StaleApps, VerifySection,
    WhileRunning,
};

use crate::diagnostic::{Diagnostic, Excerpt, Exit};
use std::{
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// The name that is looked for.
pub const FILE_NAME: &str = "bk-sync.toml";
/// A larger file is none of ours. In bytes.
const MAX_SIZE: u64 = 1 << 20;

/// A value and where it stands in the file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Its bytes in the file.
    pub span: Range<usize>,
}

/// A mistake in the file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// What is wrong, without a full stop.
    pub message: String,
    /// Where.
    pub span: Range<usize>,
    /// What to write instead.
    pub hint: Option<String>,
}

/// A config file that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where it is.
    pub path: PathBuf,
    /// Its text, for excerpts.
    pub text: String,
    /// What it says.
    pub sections: Sections,
    git: OnceLock<Git>,
}

/// Why there is no config.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is far too large.
    #[error("`{}` is larger than {MAX_SIZE} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It says what it cannot say.
    #[error("`{}` has mistakes", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Its text.
        text: String,
        /// Each mistake, in the order of the file.
        problems: Vec<Problem>,
    },
}

impl Config {
    /// Reads the file at `explicit`, or the first `bk-sync.toml` in `start` or above it. None where
    /// there is none.
    ///
    /// # Errors
    /// Where there is one that cannot be read or says what it cannot say.
    pub fn find(start: &Path, explicit: Option<&Path>) -> Result<Option<Self>, ConfigError> {
        if let Some(path) = explicit {
            return Self::read(path.to_owned()).map(Some);
        }
        let found = start.ancestors().map(|directory| directory.join(FILE_NAME));
        match found.into_iter().find(|path| path.is_file()) {
            Some(path) => Self::read(path).map(Some),
            None => Ok(None),
        }
    }

    fn read(path: PathBuf) -> Result<Self, ConfigError> {
        let text = fs::metadata(&path)
            .and_then(|metadata| match metadata.len() {
                0..=MAX_SIZE => fs::read_to_string(&path).map(Some),
                _ => Ok(None),
            })
            .map_err(|source| ConfigError::Read { path: path.clone(), source })?;
        match text {
            Some(text) => Self::parse(path, text),
            None => Err(ConfigError::TooLarge { path }),
        }
    }

    /// Reads the text of a config file.
    ///
    /// # Errors
    /// Where it says what it cannot say.
    pub fn parse(path: PathBuf, text: String) -> Result<Self, ConfigError> {
        let (document, errors) = toml::de::DeTable::parse_recoverable(&text);
        let mut problems: Vec<Problem> = errors
            .iter()
            .map(|error| Problem {
                message: error.message().to_owned(),
                span: error.span().unwrap_or_default(),
                hint: None,
            })
            .collect();
        // What follows from broken syntax would be guesswork.
        let sections = if problems.is_empty() {
            Sections::read(table::Table::document(&document), &mut problems)
        } else {
            Sections::default()
        };
        if problems.is_empty() {
            Ok(Self { path, text, sections, git: OnceLock::new() })
        } else {
            problems.sort_by_key(|problem| problem.span.start);
            Err(ConfigError::Invalid { path, text, problems })
        }
    }

    /// The directory that relative paths in the file start from.
    pub fn directory(&self) -> &Path {
        match self.path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
            None => Path::new("."),
        }
    }

    /// Puts a flag's word over what `[image] dirty` says, of every image.
    pub fn override_dirty(&mut self, dirty: Dirty) {
        let several = self.sections.images.iter_mut().map(|one| &mut one.image);
        for image in several.chain([&mut self.sections.image]) {
            image.dirty = Some(Located { value: dirty, span: 0..0 });
        }
    }

    /// The checkout that the file is in. Its commit is the same for all who ask here.
    pub fn checkout(&self) -> &Git {
        self.git.get_or_init(|| Git::new(self.directory()))
    }

    /// The line (from 1) that a place in the file is on.
    pub fn line(&self, span: &Range<usize>) -> usize {
        let before = self.text.as_bytes().iter().take(span.start);
        before.filter(|byte| **byte == b'\n').count() + 1
    }

    /// A place in the file, to be shown.
    pub fn excerpt(&self, span: Range<usize>) -> Excerpt {
        Excerpt::at_bytes(&self.path.display().to_string(), &self.text, span)
    }
}

impl From<ConfigError> for Diagnostic {
    fn from(error: ConfigError) -> Self {
        match &error {
            ConfigError::Read { path, .. } => {
                Self::new("CONFIG_UNREADABLE", Exit::Usage, error.to_string())
                    .with_sources(&error)
                    .with_detail("path", path.display().to_string())
            }
            ConfigError::TooLarge { path } => {
                Self::new("CONFIG_UNREADABLE", Exit::Usage, error.to_string())
                    .with_detail("path", path.display().to_string())
                    .with_fix("name the right file with `--config FILE`")
            }
            ConfigError::Invalid { path, text, problems } => {
                let file = path.display().to_string();
                let message = match problems.as_slice() {
                    [only] => only.message.clone(),
                    several => format!("`{file}` has {} mistakes", several.len()),
                };
                let mut diagnostic = Self::new("CONFIG_INVALID", Exit::Usage, message)
                    .with_detail("path", file.clone());
                let alone = problems.len() == 1;
                for problem in problems {
                    let mut excerpt = Excerpt::at_bytes(&file, text, problem.span.clone());
                    excerpt.label = match (alone, &problem.hint) {
                        (true, _) => None,
                        (false, None) => Some(problem.message.clone()),
                        (false, Some(hint)) => Some(format!("{}: {hint}", problem.message)),
                    };
                    diagnostic = diagnostic.with_excerpt(excerpt);
                }
                if alone {
                    diagnostic.fix = problems.first().and_then(|problem| problem.hint.clone());
                }
                diagnostic
            }
        }
    }
}

impl From<ConfigError> for Box<Diagnostic> {
    fn from(error: ConfigError) -> Self {
        Self::new(error.into())
    }
}

#[cfg(test)]
mod tests;
