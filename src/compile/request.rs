//! What a compiler is given.

use std::collections::BTreeMap;

use crate::llb::{Caps, Platform};

/// A Dockerfile, the options of a build and what is known of the builder.
#[derive(Clone, Debug)]
pub struct Request {
    /// The bytes of the Dockerfile.
    pub dockerfile: Vec<u8>,
    /// The options, as the attributes that a frontend is given: `platform`, `target`,
    /// `build-arg:NAME`, `label:NAME`, `context:NAME`, `no-cache`, `filename` and the rest.
    pub attrs: BTreeMap<String, String>,
    /// The ignore file that counts: the Dockerfile's own, else that of the client's context. None
    /// where there is none, and where the context is remote and the Dockerfile has none of its own.
    pub ignore_file: Option<IgnoreFileText>,
    /// What a context of the web turned out to be.
    pub web_context: WebContext,
    /// What the graph is made for.
    pub builder: Builder,
    /// The session that has the local sources.
    pub session: String,
}

/// The builder that a graph is made for.
#[derive(Clone, Debug)]
pub struct Builder {
    /// What it can do.
    pub caps: Caps,
    /// Its own platform.
    pub platform: Platform,
}

/// An ignore file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IgnoreFileText {
    /// Its name, for messages.
    pub name: String,
    /// Its bytes.
    pub data: Vec<u8>,
}

/// What a context that is fetched from the web holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WebContext {
    /// An archive of the context.
    #[default]
    Archive,
    /// A Dockerfile and nothing else.
    Dockerfile,
}
