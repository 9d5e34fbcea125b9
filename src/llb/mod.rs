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
//!
//! # Example
//!
//! ```
//! use bk_sync::llb::{Constraints, Defaults, Exec, Image, Local, Mount, Platform, print};
//!
//! let source = Local::new("context").state(Constraints::named("load the source"));
//! let built = Image::new("docker.io/library/rust:1")
//!     .state(Constraints::new())
//!     .dir("/src")
//!     .run(
//!         Exec::new(["cargo", "build"]).mount(Mount::bind("/src", &source)),
//!         Constraints::named("compile"),
//!     );
//!
//! let defaults = Defaults::new(Platform::parse("linux/arm64")?, None);
//! let definition = built.marshal(&defaults)?;
//! // Two sources, a process, and the op that names the result.
//! assert_eq!(definition.ops().len(), 4);
//! // The same state has the same digests, on any machine.
//! assert_eq!(definition.head(), built.marshal(&defaults)?.head());
//! assert!(print::dot(&definition).contains("compile"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

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
