//! What is wrong with a Dockerfile: a cause, its place, and what to do about it.
//!
//! Causes read as BuildKit's do, so that whoever searches for one finds what others wrote of it; the
//! hints are ours.

use std::fmt;

use super::csv::CsvError;
use super::directive::Name;
use super::expand::ExpandError;
use super::place::{Lines, Span};
use super::quote::quote;
use super::scalar::DurationError;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{cause}")]
pub struct Error {
    /// What is wrong.
    pub cause: Box<Cause>,
    /// The lines that BuildKit names for it; none where the file as a whole is meant.
    pub lines: Option<Lines>,
    /// The very words that are wrong, where they are known.
    pub span: Option<Span>,
}

/// All that is wrong: the first is what BuildKit would report, the others are what could still be
/// found after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors {
    /// What BuildKit would report.
    pub first: Error,
    /// What else is wrong, in the order of the file.
    pub rest: Vec<Error>,
}

impl Errors {
    pub(super) fn from_list(list: Vec<Error>) -> Option<Self> {
        let mut list = list.into_iter();
        let first = list.next()?;
        Some(Self { first, rest: list.collect() })
    }

    /// All of them, the first one first.
    pub fn iter(&self) -> impl Iterator<Item = &Error> {
        std::iter::once(&self.first).chain(&self.rest)
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.fmt(f)?;
        match self.rest.len() {
            0 => Ok(()),
            1 => f.write_str(" (and 1 more error)"),
            more => write!(f, " (and {more} more errors)"),
        }
    }
}

impl std::error::Error for Errors {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.first)
    }
}

impl From<Error> for Errors {
    fn from(first: Error) -> Self {
        Self { first, rest: Vec::new() }
    }
}

/// A cause, and the words it is about where they are known; the reader adds the lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) cause: Box<Cause>,
    pub(super) span: Option<Span>,
}

impl Fault {
    pub(super) fn at(self, lines: Lines, whole: Span) -> Error {
        Error { cause: self.cause, lines: Some(lines), span: Some(self.span.unwrap_or(whole)) }
    }
}

impl From<Cause> for Fault {
    fn from(cause: Cause) -> Self {
        Self { cause: Box::new(cause), span: None }
    }
}

impl From<MountError> for Fault {
    fn from(error: MountError) -> Self {
        Cause::Mount(error).into()
    }
}

/// Ends a message with the option that may have been meant.
struct DidYouMean<'a>(&'a Option<String>);

impl fmt::Display for DidYouMean<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(option) => write!(f, " (did you mean {option}?)"),
            None => Ok(()),
        }
    }
}

/// What can be wrong with a Dockerfile before anything in it is given a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// There is not one byte in it.
    #[error("the Dockerfile cannot be empty")]
    EmptyFile,
    /// There are only comments and blank lines in it.
    #[error("file with no instructions")]
    NoInstructions,
    /// There is no `FROM` in it.
    #[error("dockerfile contains no stages to build")]
    NoStages,
    /// A line is longer than BuildKit reads.
    #[error("dockerfile line greater than max allowed size of {limit}")]
    LineTooLong {
        /// The longest that may be, in bytes.
        limit: usize,
    },
    /// A directive stands twice.
    #[error("only one {} parser directive can be used", .0.as_str())]
    DirectiveRepeated(Name),
    /// The `escape` directive names another character than the two that may be.
    #[error("invalid escape token '{0}' does not match ` or \\")]
    EscapeToken(String),
    /// A JSON array with something else than strings in it.
    #[error("when using JSON array syntax, arrays must be comprised of strings only")]
    JsonNotStrings,
    /// `ENV A` or `LABEL A`.
    #[error("{0} must have two arguments")]
    PairWithoutValue(&'static str),
    /// `ENV A=b C`.
    #[error(
        "Syntax error - can't find = in {}. Must be of the form: name=value",
        quote(.0)
    )]
    MissingEquals(String),
    /// No line ends a heredoc.
    #[error("unterminated heredoc")]
    HeredocUnterminated {
        /// The word that should stand alone on a line.
        name: String,
    },
    /// The word of a heredoc cannot be read.
    #[error(transparent)]
    HeredocWord(Box<ExpandError>),
    /// The word of a heredoc is one word with its quotes taken away, and several with them.
    #[error("internal lexing of heredoc produced inconsistent results: {0}")]
    HeredocAmbiguous(String),
    /// A word that is no instruction.
    #[error("unknown instruction: {word}{}", DidYouMean(.suggestion))]
    UnknownInstruction {
        /// The word.
        word: String,
        /// What may have been meant.
        suggestion: Option<String>,
    },
    /// An instruction other than `ARG` before the first `FROM`.
    #[error("no build stage in current context")]
    BeforeFrom {
        /// The instruction.
        instruction: &'static str,
    },
    /// An instruction is not valid UTF-8, and a graph holds nothing else.
    #[error("{instruction} is not valid UTF-8")]
    NotUtf8 {
        /// The instruction.
        instruction: &'static str,
    },
    /// No arguments where there must be one.
    #[error("{0} requires at least one argument")]
    NoArgument(&'static str),
    /// No argument, or several, where there must be one.
    #[error("{0} requires exactly one argument")]
    NotOneArgument(&'static str),
    /// `COPY a`.
    #[error(
        "{0} requires at least two arguments, but only one was provided. Destination could not be determined"
    )]
    NoDestination(&'static str),
    /// `COPY a <<EOF`.
    #[error("{0} cannot accept a heredoc as a destination")]
    HeredocDestination(&'static str),
    /// `ENV =a`.
    #[error("{0} names can not be blank")]
    BlankName(&'static str),
    /// `FROM` with two arguments, or more than three, or without `AS` between.
    #[error("FROM requires either one or three arguments")]
    FromArguments,
    /// A stage's name with characters that may not be in one.
    #[error(
        "invalid name for build stage: {}, name can't start with a number or contain symbols",
        quote(.0)
    )]
    StageName(String),
    /// `ONBUILD ONBUILD`.
    #[error("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")]
    OnbuildChain,
    /// `ONBUILD FROM` or `ONBUILD MAINTAINER`.
    #[error("{0} isn't allowed as an ONBUILD trigger")]
    OnbuildTrigger(String),
    /// The text of a trigger is not one instruction.
    #[error("onbuild trigger should be a single expression")]
    TriggerNotSingle,
    /// The text of a trigger starts a stage.
    #[error("FROM is not a command type")]
    TriggerFrom,
    /// A flag that the instruction does not know.
    #[error("unknown flag: {flag}{}", DidYouMean(.suggestion))]
    UnknownFlag {
        /// The flag, with its dashes.
        flag: String,
        /// What may have been meant.
        suggestion: Option<String>,
        /// The instruction.
        instruction: &'static str,
        /// The flags that it knows.
        known: Vec<&'static str>,
    },
    /// A flag stands twice where once is the most.
    #[error("duplicate flag specified: {0}")]
    RepeatedFlag(String),
    /// A flag has no value.
    #[error("missing a value on flag: {0}")]
    FlagWithoutValue(String),
    /// A flag has a value that is neither true nor false.
    #[error("expecting boolean value for flag {flag}, not: {value}")]
    FlagNotBoolean {
        /// The flag, with its dashes.
        flag: String,
        /// Its value.
        value: String,
    },
    /// `HEALTHCHECK NONE` with arguments.
    #[error("HEALTHCHECK NONE takes no arguments")]
    HealthcheckNoneArguments,
    /// `HEALTHCHECK CMD` with nothing to run.
    #[error("Missing command after HEALTHCHECK CMD")]
    HealthcheckWithoutCommand,
    /// `HEALTHCHECK` with another word.
    #[error("Unknown type {} in HEALTHCHECK (try CMD)", quote(.0))]
    HealthcheckType(String),
    /// A duration that cannot be read.
    #[error("{0}")]
    Duration(#[from] DurationError),
    /// A duration below a millisecond.
    #[error("Interval {} cannot be less than 1ms", quote(.0))]
    DurationTooShort(&'static str),
    /// `--retries` is no number.
    #[error("invalid number of retries {}", quote(.0))]
    Retries(String),
    /// `--retries` is below zero.
    #[error("--retries cannot be negative ({0})")]
    NegativeRetries(i32),
    /// `VOLUME [""]`.
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume,
    /// `SHELL` in shell form.
    #[error("SHELL requires the arguments to be in JSON form")]
    ShellNotJson,
    /// A value of `--network` that there is not.
    #[error("invalid network mode {}", quote(.0))]
    Network(String),
    /// A value of `--security` that there is not.
    #[error("security {} is not valid", quote(.0))]
    Security(String),
    /// A `--device` that cannot be read.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A `--mount` that cannot be read.
    #[error(transparent)]
    Mount(#[from] MountError),
}

impl From<ExpandError> for Cause {
    fn from(error: ExpandError) -> Self {
        Self::HeredocWord(Box::new(error))
    }
}

/// What can be wrong with a `--device`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// Its fields cannot be told apart.
    #[error("failed to parse csv devices: {0}")]
    Csv(#[from] CsvError),
    /// A field without a value, beside the name.
    #[error("invalid field '{0}' must be a key=value pair")]
    NotPair(String),
    /// Two names.
    #[error("device name already set to {0}")]
    NameRepeated(String),
    /// A value that is neither true nor false.
    #[error("invalid value for {key}: {value}")]
    Value {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// A key that there is not.
    #[error("unexpected key '{key}' in '{field}'{}", DidYouMean(.suggestion))]
    UnknownKey {
        /// The key.
        key: String,
        /// The whole field.
        field: String,
        /// What may have been meant.
        suggestion: Option<String>,
    },
}

/// What can be wrong with a `--mount`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// Its fields cannot be told apart.
    #[error("failed to parse csv mounts: {0}")]
    Csv(#[from] CsvError),
    /// A variable in `from`.
    #[error("'from' doesn't support variable expansion, define alias stage instead")]
    FromVariable,
    /// A field without a value that needs one.
    #[error("invalid field '{0}' must be a key=value pair")]
    NotPair(String),
    /// A type that there is not.
    #[error("unsupported mount type {}{}", quote(.kind), DidYouMean(.suggestion))]
    Kind {
        /// The type.
        kind: String,
        /// What may have been meant.
        suggestion: Option<String>,
    },
    /// A way of sharing that there is not.
    #[error("unsupported sharing value {}{}", quote(.sharing), DidYouMean(.suggestion))]
    Sharing {
        /// The value.
        sharing: String,
        /// What may have been meant.
        suggestion: Option<String>,
    },
    /// A key that mounts of this type do not have.
    #[error("unexpected key '{key}' for mount type '{kind}'")]
    KeyForKind {
        /// The key.
        key: String,
        /// The type.
        kind: &'static str,
    },
    /// A key that no mount has.
    #[error("unexpected key '{key}' in '{field}'{}", DidYouMean(.suggestion))]
    UnknownKey {
        /// The key.
        key: String,
        /// The whole field.
        field: String,
        /// What may have been meant.
        suggestion: Option<String>,
    },
    /// A value that is no boolean or size.
    #[error("invalid value for {key}: {value}")]
    Value {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// A value that is no number.
    #[error("invalid value {value} for {key}")]
    Number {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
    },
    /// Owner or mode on a mount that has none.
    #[error("{key} not allowed for {} type mounts", quote(.kind))]
    OwnerForKind {
        /// The key.
        key: &'static str,
        /// The type.
        kind: &'static str,
    },
    /// A secret with `from`.
    #[error("secret mount should not have a from")]
    SecretFrom,
    /// A secret with `sharing`.
    #[error("secret mount should not define sharing")]
    SecretSharing,
    /// A secret that nothing names.
    #[error("invalid secret mount. one of source, target required")]
    SecretUnnamed,
    /// A secret with two names.
    #[error("both source and id can't be set")]
    SecretSourceAndId,
    /// `sharing` on what is no cache.
    #[error("invalid cache sharing set for {0} mount")]
    SharingForKind(&'static str),
}

impl Error {
    pub(super) fn new(cause: Cause, lines: Option<Lines>) -> Self {
        Self { cause: Box::new(cause), lines, span: None }
    }

    /// What to do about it, where there is something to say beyond the message.
    pub fn hint(&self) -> Option<String> {
        self.cause.hint()
    }
}

impl Cause {
    /// What to do about it, where there is something to say beyond the message.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::EmptyFile | Self::NoInstructions | Self::NoStages => {
                "a Dockerfile has at least one `FROM`"
            }
            Self::LineTooLong { .. } => {
                "break the line with the escape character, or put the content into a file and `COPY` it"
            }
            Self::DirectiveRepeated(_) => "remove the second one",
            Self::EscapeToken(_) => "write `# escape=\\` or ``# escape=` ``",
            Self::JsonNotStrings => "put each element of the array in double quotes",
            Self::PairWithoutValue(instruction) => {
                return Some(format!("write `{instruction} name=value`"));
            }
            Self::MissingEquals(word) => {
                return Some(format!(
                    "write `{word}=` for an empty value, or put the value before it in quotes if it has blanks"
                ));
            }
            Self::HeredocUnterminated { name } => {
                return Some(format!(
                    "end it with a line that holds `{name}` and nothing else, at the very start of the line"
                ));
            }
            Self::HeredocWord(_) | Self::HeredocAmbiguous(_) => {
                "name a heredoc by one plain word, such as `<<EOF`"
            }
            Self::UnknownInstruction { suggestion: Some(name), .. } => {
                return Some(format!(
                    "write `{name}`; or, if the line belongs to the one before it, end that one with `\\`"
                ));
            }
            Self::UnknownInstruction { .. } => {
                "if the line belongs to the one before it, that one needs a `\\` at its end"
            }
            Self::BeforeFrom { instruction } => {
                return Some(format!("move `{instruction}` after the first `FROM`"));
            }
            Self::NotUtf8 { .. } => "save the Dockerfile as UTF-8",
            Self::NoArgument(_) | Self::NotOneArgument(_) => return None,
            Self::NoDestination(instruction) => {
                return Some(format!("write `{instruction} SOURCE... DESTINATION`"));
            }
            Self::HeredocDestination(_) => "the last argument is the path that files go to",
            Self::BlankName(_) => "there is nothing before the `=`",
            Self::FromArguments => "write `FROM IMAGE` or `FROM IMAGE AS NAME`",
            Self::StageName(_) => {
                "a name starts with a letter, and has letters, digits, `-`, `_` and `.`"
            }
            Self::OnbuildChain | Self::OnbuildTrigger(_) => {
                "`ONBUILD` keeps any instruction but `FROM`, `MAINTAINER` and `ONBUILD`"
            }
            Self::TriggerNotSingle | Self::TriggerFrom => {
                "the base image holds a trigger that no Dockerfile could have made"
            }
            Self::UnknownFlag { instruction, known, .. } => {
                if known.is_empty() {
                    return Some(format!("`{instruction}` has no flags"));
                }
                let flags: Vec<String> = known.iter().map(|flag| format!("`--{flag}`")).collect();
                return Some(format!("`{instruction}` knows {}", flags.join(", ")));
            }
            Self::RepeatedFlag(_) => "give it once",
            Self::FlagWithoutValue(flag) => return Some(format!("write `{flag}=VALUE`")),
            Self::FlagNotBoolean { .. } => "write `true` or `false`",
            Self::HealthcheckNoneArguments => "`HEALTHCHECK NONE` stands alone",
            Self::HealthcheckWithoutCommand | Self::HealthcheckType(_) => {
                "write `HEALTHCHECK CMD COMMAND` or `HEALTHCHECK NONE`"
            }
            Self::Duration(_) => "write a number with a unit, such as `30s` or `1m30s`",
            Self::DurationTooShort(_) => "the shortest is `1ms`; `0` stands for the usual one",
            Self::Retries(_) | Self::NegativeRetries(_) => "write a whole number, such as `3`",
            Self::EmptyVolume => "name a path",
            Self::ShellNotJson => "write `SHELL [\"/bin/sh\", \"-c\"]`",
            Self::Network(_) => "it is `default`, `none` or `host`",
            Self::Security(_) => "it is `sandbox` or `insecure`",
            Self::Device(error) => return error.hint().map(str::to_owned),
            Self::Mount(error) => return error.hint(),
        };
        Some(hint.to_owned())
    }
}

impl DeviceError {
    /// What to do about it, where there is something to say beyond the message.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Csv(_) => Some("separate fields with commas; quotes go around whole fields"),
            Self::NotPair(_) | Self::UnknownKey { .. } => {
                Some("a device has a name, and `required` or `required=BOOL`")
            }
            Self::NameRepeated(_) => Some("use one `--device` for each device"),
            Self::Value { .. } => Some("write `true` or `false`"),
        }
    }
}

impl MountError {
    /// What to do about it, where there is something to say beyond the message.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Csv(_) => "separate fields with commas; quotes go around whole fields",
            Self::FromVariable => {
                "give the image a name with `FROM $IMAGE AS name`, and mount `from=name`"
            }
            Self::NotPair(_) => "write `key=value`",
            Self::Kind { .. } => "it is `bind`, `cache`, `secret`, `ssh` or `tmpfs`",
            Self::Sharing { .. } => "it is `shared`, `private` or `locked`",
            Self::KeyForKind { key, .. } => {
                let kinds = match key.as_str() {
                    "size" => "tmpfs",
                    _ => "secret and ssh",
                };
                return Some(format!(
                    "only {kinds} mounts have `{key}`, and `type` must stand before it"
                ));
            }
            Self::UnknownKey { .. } => return None,
            Self::Value { key, .. } if key == "size" => "write a size such as `64m`",
            Self::Value { .. } => "write `true` or `false`",
            Self::Number { key: "mode", .. } => "write octal digits, such as `0755`",
            Self::Number { .. } => "write a number",
            Self::OwnerForKind { .. } => {
                "only cache, secret and ssh mounts have an owner and a mode"
            }
            Self::SecretFrom | Self::SecretSharing => "remove it",
            Self::SecretUnnamed => "write `id=NAME`",
            Self::SecretSourceAndId => "`source` and `id` are two words for one thing: write one",
            Self::SharingForKind(_) => "only cache mounts are shared",
        };
        Some(hint.to_owned())
    }
}
