//! Where secrets come from, and how they are held.
//!
//! A [`Chain`] asks its [`Source`]s in order what they know of a registry, and gives back at the
//! end what they lent. Nothing here reads the process environment or writes anything: paths and
//! values are handed in.

mod agent;
mod chain;
mod command;
mod docker_config;
mod envelope;
mod given;
mod helper;
mod host;
mod leased;
mod problem;
mod program;
mod secret;

pub use agent::{AgentError, AgentLease};
pub use chain::Chain;
pub use command::{CommandError, LendingCommand};
pub use docker_config::{ConfigError, DockerConfig};
pub use envelope::EnvelopeError;
pub use given::{Given, PASSWORD_VARIABLE};
pub use helper::{Helper, HelperError};
pub use host::RegistryHost;
pub use leased::{Lease, Leased, Lessor, Loans};
pub use problem::Problem;
pub use secret::Secret;

use futures::future::{BoxFuture, ready};
use std::{
    fmt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

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
    /// A command that prints a secret.
    Command {
        /// The program.
        command: String,
    },
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
    /// A lease of agent-secrets.
    Lease {
        /// The secret's name there.
        name: String,
    },
}

impl Origin {
    /// What to do where `host` does not accept what came from here.
    pub fn renewal(&self, host: &RegistryHost) -> String {
        match self {
            Self::Command { command } => format!(
                "see what `{command}` prints: it has to be a password or token that `{host}` takes"
            ),
            Self::ConfigFile { .. } | Self::Helper { .. } => {
                format!("log in again with `docker login {host}`")
            }
            Self::Given { name } => {
                format!("set `{name}` to a password or token that `{host}` takes from this user")
            }
            Self::Lease { name } => {
                format!("renew the secret `{name}`, and see that `{host}` takes it")
            }
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command { command } => write!(formatter, "the command `{command}`"),
            Self::ConfigFile { path } => write!(formatter, "`{}`", path.display()),
            Self::Given { name } => write!(formatter, "`{name}`"),
            Self::Helper { command } => write!(formatter, "the credential helper `{command}`"),
            Self::Lease { name } => write!(formatter, "the lease `{name}`"),
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
    pub problems: Vec<Arc<Problem>>,
    /// How long the answer is good for, where it is not good for the usual time.
    pub good_for: Option<Duration>,
}

/// A place that may know credentials.
pub trait Source: Send + Sync {
    /// What it knows of `host`.
    fn lookup<'a>(&'a self, host: &'a RegistryHost) -> BoxFuture<'a, Lookup>;

    /// Gives back what it lent, and lends nothing any more. The problems are those of giving back.
    fn release(&self) -> BoxFuture<'_, Vec<Arc<Problem>>> {
        Box::pin(ready(Vec::new()))
    }
}

/// From now until `at`; nothing where that has passed.
fn until(at: jiff::Timestamp) -> Duration {
    SystemTime::from(at).duration_since(SystemTime::now()).unwrap_or_default()
}
