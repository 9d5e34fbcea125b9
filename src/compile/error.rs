//! Why a Dockerfile does not become a graph: a cause, the places it points at, and what to do.

use std::fmt;
use thiserror::Error;

use super::git_ref::GitQueryError;
use super::options::OptionError;
use super::os_path::PathError;
use crate::dockerfile::expand::ExpandError;
use crate::dockerfile::{self, Lines, lint, quote};
use crate::image::reference::ReferenceError;
use crate::llb;

/// A build that cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileError {
    /// What is wrong.
    pub fault: Box<Fault>,
    /// Lines of the Dockerfile, the innermost place first; a place without lines is known to be
    /// somewhere and no more.
    pub places: Vec<Option<Lines>>,
    /// A name that is there and was perhaps meant.
    pub suggestion: Option<String>,
}

impl CompileError {
    pub(super) fn new(fault: Fault) -> Self {
        Self { fault: Box::new(fault), places: Vec::new(), suggestion: None }
    }

    /// Adds a place around those that are known.
    pub(super) fn at(mut self, lines: Option<Lines>) -> Self {
        self.places.push(lines);
        self
    }

    /// Forgets the places that are known for this one.
    pub(super) fn only_at(mut self, lines: Option<Lines>) -> Self {
        self.places = vec![lines];
        self
    }

    pub(super) fn suggest(mut self, name: Option<&str>) -> Self {
        if self.suggestion.is_none() {
            self.suggestion = name.map(str::to_owned);
        }
        self
    }

    /// What to do about it, where that is more than the message says.
    pub fn hint(&self) -> Option<String> {
        self.fault.hint()
    }
}

impl From<Fault> for CompileError {
    fn from(fault: Fault) -> Self {
        Self::new(fault)
    }
}

impl From<ExpandError> for Fault {
    fn from(error: ExpandError) -> Self {
        Self::Expand(Box::new(error))
    }
}

impl From<dockerfile::MountError> for CompileError {
    fn from(error: dockerfile::MountError) -> Self {
        Fault::Mount(error).into()
    }
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fault.fmt(f)?;
        match &self.suggestion {
            Some(name) => write!(f, " (did you mean {name}?)"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for CompileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&*self.fault)
    }
}

/// What is wrong.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Fault {
    /// The options.
    #[error(transparent)]
    Options(#[from] OptionError),
    /// The options in the `check` line of the file.
    #[error("failed to parse check options: {0}")]
    CheckOptions(#[from] lint::OptionsError),
    /// The text of the Dockerfile.
    #[error(transparent)]
    Dockerfile(Box<dockerfile::Errors>),
    /// A trigger of a base image, or one kept by `ONBUILD`.
    #[error("{}", .0.cause)]
    Trigger(Box<dockerfile::Error>),
    /// Triggers that bring in images whose triggers bring in more, and so on.
    #[error("the triggers of base images bring in one another without end: `ONBUILD {0}`")]
    EndlessTriggers(String),
    /// A word with variables.
    #[error(transparent)]
    Expand(Box<ExpandError>),
    /// Words with variables that make far more of the file than it is.
    #[error("the values of variables make more than {} MiB of this file", .limit >> 20)]
    Swollen {
        /// How much all its words may come to, in bytes.
        limit: usize,
    },
    /// A mount with its variables expanded.
    #[error(transparent)]
    Mount(#[from] dockerfile::MountError),
    /// A builder without file operations.
    #[error("needs BuildKit 0.5 or later: the builder lacks the capability `file.base`")]
    TooOld,
    /// `FROM` whose name comes out empty.
    #[error("base name ({0}) should not be blank")]
    BlankBase(String),
    /// `--platform` that comes out empty.
    #[error("empty platform value from expression {0}")]
    BlankPlatform(String),
    /// `--platform` with a broken word.
    #[error("failed to process arguments for platform {platform}: {error}")]
    PlatformWord {
        /// As far as it could be read.
        platform: String,
        /// What is wrong with it.
        error: Box<ExpandError>,
    },
    /// `--platform` that is none.
    #[error("failed to parse platform {text}: {error}")]
    Platform {
        /// As it is written.
        text: String,
        /// What is wrong with it.
        error: Box<llb::PlatformError>,
    },
    /// The target is no stage.
    #[error("target stage {} could not be found", quote(.0))]
    Target(String),
    /// Stages that need each other.
    #[error("circular dependency detected on stage: {0}")]
    Circle(String),
    /// `--from` with a variable.
    #[error(
        "variable expansion is not supported for --from, define a new stage with FROM using ARG \
         from global scope as a workaround"
    )]
    FromVariable,
    /// `--from` with a number that no stage has.
    #[error("invalid stage index {0}")]
    StageIndex(i64),
    /// A base that names no image.
    #[error("failed to parse stage name {}: {error}", quote(.name))]
    BaseName {
        /// The base.
        name: String,
        /// What is wrong with it.
        error: ReferenceError,
    },
    /// A name that the builder gave an image, and that is none.
    #[error("failed to parse ref {}: {error}", quote(.name))]
    BuilderReference {
        /// The name.
        name: String,
        /// What is wrong with it.
        error: ReferenceError,
    },
    /// An image that was looked up in vain.
    #[error("{name}: {text}")]
    BaseImage {
        /// The base as it is written.
        name: String,
        /// What the builder said.
        text: String,
    },
    /// What the builder said to another question.
    #[error("{0}")]
    Lookup(String),
    /// A config that cannot be read.
    #[error("failed to parse image config: {0}")]
    ImageConfig(String),
    /// A digest that is none.
    #[error("{0}")]
    Reference(#[from] ReferenceError),
    /// A name that cannot be a context's.
    #[error("invalid context name {name}: {error}")]
    ContextName {
        /// The name.
        name: String,
        /// What is wrong with it.
        error: ReferenceError,
    },
    /// A named context without a kind.
    #[error("invalid context specifier {value} for {name}")]
    ContextSpecifier {
        /// The context.
        name: String,
        /// What was given for it.
        value: String,
    },
    /// A named context of a kind that does not exist.
    #[error("unsupported context source {kind} for {name}")]
    ContextKind {
        /// The context.
        name: String,
        /// The kind.
        kind: String,
    },
    /// A named context that should be a repository.
    #[error("invalid git context {0}")]
    GitContext(String),
    /// What is asked of a repository.
    #[error(transparent)]
    GitQuery(#[from] GitQueryError),
    /// An OCI layout that is not named by a name and a digest.
    #[error("oci-layout reference {} {problem}", quote(.text))]
    Layout {
        /// The text.
        text: String,
        /// What it lacks.
        problem: String,
    },
    /// An ignore file.
    #[error("failed parsing {name}: {error}")]
    IgnoreFile {
        /// The file.
        name: String,
        /// What is wrong with it.
        error: String,
    },
    /// A pattern of an ignore file.
    #[error("{0}")]
    IgnorePattern(String),
    /// A stage that is used before it is there.
    #[error(
        "cannot copy from stage {}, it needs to be defined before current stage {}",
        quote(.from),
        quote(.stage)
    )]
    CopyFromLater {
        /// The stage that is used.
        from: String,
        /// The stage that uses it.
        stage: String,
    },
    /// A mount of a stage that is not there yet.
    #[error(
        "cannot mount from stage {} to {}, stage needs to be defined before current command",
        quote(.from),
        quote(.target)
    )]
    MountFromLater {
        /// The stage that is used.
        from: String,
        /// Where it would be mounted.
        target: String,
    },
    /// A mount over everything.
    #[error("invalid mount target {}", quote(.0))]
    MountTarget(String),
    /// A secret without a name.
    #[error("one of source, target required")]
    SecretName,
    /// An agent socket with a source.
    #[error("ssh does not support source")]
    SshSource,
    /// Heredocs that no command takes.
    #[error("parsing produced an invalid run command: {0:?}")]
    RunCommand(Vec<String>),
    /// A path that cannot be used.
    #[error("removing drive letter: {0}")]
    Drive(PathError),
    /// A destination that cannot be used.
    #[error("removing drive letter: {0}")]
    Destination(PathError),
    /// A working directory that cannot be used.
    #[error("normalizing workdir: normalizing working directory: removing drive letter: {0}")]
    Workdir(PathError),
    /// A mode that is neither octal nor chmod's.
    #[error("invalid chmod parameter: '{0}'. it should be octal string and between 0 and 07777")]
    OctalMode(String),
    /// A mode that looks like chmod's and is not.
    #[error("invalid chmod parameter '{0}': invalid syntax")]
    SymbolicMode(String),
    /// A checksum of several sources.
    #[error("checksum can't be specified for multiple sources")]
    ChecksumOfSeveral,
    /// A checksum of a local file.
    #[error("checksum requires HTTP(S) or Git sources")]
    ChecksumOfLocal,
    /// A repository in `COPY`.
    #[error("source can't be a git ref for COPY")]
    CopyGit,
    /// A file of the web in `COPY`.
    #[error("source can't be a URL for COPY")]
    CopyUrl,
    /// The flag and the address say different things of `.git`.
    #[error("inconsistent keep-git-dir configuration")]
    KeepGitDir,
    /// The flag and the address name different commits.
    #[error("checksum mismatch {} != {}", quote(.flag), quote(.address))]
    GitChecksum {
        /// The flag's.
        flag: String,
        /// The address's.
        address: String,
    },
    /// `VOLUME` with nothing in it.
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume,
    /// A signal that does not exist.
    #[error("invalid signal: {0}")]
    Signal(String),
    /// `EXPOSE` with something that is no port.
    #[error("{0}")]
    Port(String),
    /// A clock that is neither a number nor a context nor a stage.
    #[error("invalid SOURCE_DATE_EPOCH: {0}")]
    Epoch(String),
    /// A clock whose year has more than four digits, which no image config can name.
    #[error(
        "SOURCE_DATE_EPOCH {0} is outside of the years 0 to 9999, which an image config can name"
    )]
    EpochYear(i64),
    /// A stage that cannot be a clock.
    #[error("{0}")]
    EpochStage(String),
    /// Warnings that were to be errors.
    #[error(transparent)]
    Lint(#[from] lint::Violations),
    /// A graph that cannot be marshalled.
    #[error("failed to marshal LLB definition: {0}")]
    Marshal(#[from] llb::Error),
    /// An op that the builder cannot do.
    #[error("`{instruction}` needs the capability `{capability}`, which the builder lacks")]
    Capability {
        /// The instruction, or the name of the op.
        instruction: String,
        /// The capability.
        capability: String,
    },
}

impl Fault {
    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Dockerfile(errors) => return errors.first.hint(),
            Self::Trigger(error) => return error.hint(),
            Self::Mount(error) => return error.hint(),
            Self::CheckOptions(error) => error.hint(),
            Self::Circle(_) => "let one of the stages copy from a third stage instead",
            Self::CopyFromLater { .. } => "move the stage that is copied from above this one",
            Self::MountFromLater { .. } => "move the stage that is mounted above this one",
            Self::CopyGit | Self::CopyUrl => "use `ADD` for what comes from elsewhere",
            Self::ChecksumOfSeveral => "write one `ADD` for each source",
            Self::EndlessTriggers(_) => "use a base image whose triggers do not use that image",
            Self::MountTarget(_) => "mount it on a directory below `/`",
            Self::Capability { .. } | Self::TooOld => "update the builder",
            Self::BlankPlatform(_) => {
                "declare the variable with a global `ARG`, or give it a default, as in \
                 `${NAME:-linux/arm64}`"
            }
            Self::ContextKind { .. } | Self::ContextSpecifier { .. } => {
                "a named context is a directory, a git or http(s) address, `docker-image://…` or \
                 `oci-layout://…`"
            }
            Self::EpochYear(_) => "give seconds since 1970, and not milliseconds",
            Self::Epoch(_) => {
                "`SOURCE_DATE_EPOCH` is a number of seconds, `context`, or the name of a context or \
                 of a stage"
            }
            Self::OctalMode(_) | Self::SymbolicMode(_) => "write a mode as `0644` or as `u+x`",
            Self::StageIndex(_) => {
                "name a stage by `FROM … AS NAME` and copy `--from=NAME`, or count those above: the \
                 first is 0"
            }
            Self::Target(_) => "a target is the name of a stage, given by `FROM … AS NAME`",
            _ => return None,
        };
        Some(text.into())
    }
}
