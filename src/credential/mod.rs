//! Where secrets come from, and how they are held.
//!
//! A [`Chain`] asks its [`Source`]s in order what they know of a registry. Nothing here reads the
//! process environment or writes anything: paths and values are handed in.

mod chain;
mod docker_config;
mod given;
mod helper;
mod host;
mod secret;

pub use chain::Chain;
pub use docker_config::{ConfigError, DockerConfig};
pub use given::Given;
pub use helper::{Helper, HelperError};
pub use host::RegistryHost;
pub use secret::Secret;

use futures::future::BoxFuture;
use std::{fmt, path::PathBuf, sync::Arc};

/// What proves to a registry who we are.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The user; empty for tokens that name none.
    pub username: String,
    /// The password or token.
    pub secret: Secret,
    /// What the secret is good for.
    pub kind: Kind,
    /// Where it comes from; fit to be shown.
    pub origin: Origin,
}

/// What a secret is good for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// An OAuth2 refresh token, to be exchanged at the registry's token server.
    IdentityToken,
    /// A password (or a token used as one), for Basic authentication and for token servers.
    Password,
    /// A bearer token that goes to the registry as it is.
    RegistryToken,
}

/// Where credentials come from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Origin {
    /// A Docker config file's `auths`.
    ConfigFile {
        /// The file.
        path: PathBuf,
    },
    /// Values handed in, such as variables of the environment.
    Given {
        /// What the user calls them, such as `BK_SYNC_REGISTRY_PASSWORD`.
        name: String,
    },
    /// A credential helper.
    Helper {
        /// The command, such as `docker-credential-pass`.
        command: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConfigFile { path } => write!(formatter, "`{}`", path.display()),
            Self::Given { name } => write!(formatter, "`{name}`"),
            Self::Helper { command } => write!(formatter, "the credential helper `{command}`"),
        }
    }
}

/// What a source, or a chain of them, knows of a registry.
#[derive(Clone, Debug, Default)]
pub struct Lookup {
    /// The credentials; without them, access is anonymous.
    pub credentials: Option<Credentials>,
    /// Places that should have been asked and could not be. They stop nothing, since the registry
    /// may not want credentials at all; they explain a refusal.
    pub problems: Vec<Arc<HelperError>>,
}

/// A place that may know credentials.
pub trait Source: Send + Sync {
    /// What it knows of `host`.
    fn lookup<'a>(&'a self, host: &'a RegistryHost) -> BoxFuture<'a, Lookup>;
}
