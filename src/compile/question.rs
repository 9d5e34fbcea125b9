//! What a compiler has to ask others, and what they answer.

use std::collections::BTreeMap;

use crate::llb::{Platform, ResolveMode, State};

/// Something that only a builder, a registry or the client's files can say.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// The digest and config of an image; the answer is [`Answer::Image`].
    Image(ImageQuestion),
    /// The ignore file of a named context; the answer is [`Answer::File`].
    IgnoreFile(IgnoreFileQuestion),
    /// What another build of ours makes; the answer is [`Answer::Input`].
    Input(InputQuestion),
    /// The time of a source: of a git commit its committer's, of a file of the web the
    /// `Last-Modified` or, of an archive without one, its newest regular file's. The answer is
    /// [`Answer::Time`].
    SourceTime(SourceQuestion),
}

/// An image to look up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageQuestion {
    /// Its name in full.
    pub reference: String,
    /// The platform whose config is wanted; the builder's own where there is none.
    pub platform: Option<Platform>,
    /// Where it may be looked for.
    pub mode: ResolveMode,
    /// What a user reads while it is looked up.
    pub log_name: String,
    /// The client's OCI layout that has it; a registry's image where there is none.
    pub layout: Option<LayoutStore>,
}

/// A client's OCI layout.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LayoutStore {
    /// The session that has it.
    pub session: String,
    /// The name that the session knows it by.
    pub store: String,
}

/// A `.dockerignore` to read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IgnoreFileQuestion {
    /// The local source that has it.
    pub local: String,
    /// The name of the context, with a platform where the build gave it one.
    pub context: String,
    /// The session that has the local source.
    pub session: String,
}

impl IgnoreFileQuestion {
    /// The source that holds the file, for who reads it through a builder.
    pub fn source(&self) -> State {
        super::context::ignore_file_of(self)
    }
}

/// A build whose result another one is made of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InputQuestion {
    /// Its name among the inputs.
    pub name: String,
    /// The platform that it is wanted for.
    pub platform: Option<Platform>,
}

/// A source to look up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceQuestion {
    /// `git://…`, `https://…`, as in the source's op.
    pub identifier: String,
    /// The attributes of the source's op.
    pub attrs: BTreeMap<String, String>,
    /// What a user reads while it is looked up.
    pub log_name: String,
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// An image.
    Image(ImageAnswer),
    /// A graph.
    Input(InputAnswer),
    /// The content of a file; none where there is no such file.
    File(Option<Vec<u8>>),
    /// Seconds since 1970; none where the source has no time.
    Time(Option<i64>),
}

/// What another build makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputAnswer {
    /// Its graph, as it travels.
    pub definition: Vec<u8>,
    /// Its image config, as JSON.
    pub config: Vec<u8>,
}

/// What is known of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageAnswer {
    /// The name that was looked up in the end, where a policy of the builder sent it elsewhere.
    pub reference: Option<String>,
    /// The digest of its index or manifest.
    pub digest: String,
    /// Its config for the platform, as JSON.
    pub config: Vec<u8>,
}
