//! LLB, BuildKit's build graph: states to build it with, and the bytes that a builder takes.
//!
//! A [`State`] is a file system in the making. Sources start one ([`Image`], [`Local`], [`Http`],
//! [`Git`], [`OciLayout`]), processes ([`Exec`]) and changes to files ([`FileAction`]) carry it on,
//! [`State::merge`] puts several on top of each other. Nothing happens until [`State::marshal`]
//! makes a [`Definition`] of it: ops in the canonical byte form, named by their digests, with
//! metadata and source locations beside them. The digests are those that a builder computes
//! itself, so equal graphs share cache whoever made them.
//!
//! This room knows no Dockerfile, no builder and no file system: it is a library by itself.
//! [`State`] has an example.

pub mod caps;
mod definition;
mod env;
mod error;
mod exec;
mod file;
mod git_url;
mod merge;
mod metadata;
pub mod path;
mod platform;
pub mod print;
mod source;
mod source_map;
mod state;
mod vertex;
pub mod wire;

pub use caps::Caps;
pub(crate) use definition::group_id;
pub use definition::{Defaults, Definition, MarshalledOp, OpLocation};
pub use env::Env;
pub use error::Error;
pub use exec::{
    DEFAULT_PATH, Device, Exec, FileOptions, Mount, ProxyEnv, Ran, Secret, Sharing, SshSocket,
};
pub use file::{CopyOptions, FileAction, Mode, Owner};
pub(crate) use git_url::percent_decode;
pub use git_url::{GitUrl, GitUrlError, Scheme};
pub use metadata::{COMMAND_KEY, Constraints, LinuxResources, NAME_KEY, ProgressGroup};
pub use platform::{Platform, PlatformError};
pub use source::{Git, Http, Image, Local, OciLayout, ResolveMode};
pub use source_map::{Position, Range, SourceLocation, SourceMap};
pub use state::{HostAddress, Network, Security, State, Ulimit};
pub use vertex::{Later, Output};
