//! The services that we offer to a builder for the time of one build, inside `Control.Session`.
//!
//! The builder is the gRPC client here: the bytes of a whole HTTP/2 connection travel inside the
//! session's stream, and we serve on them. What the services answer (which files, whose passwords)
//! is handed to them as values and traits; this room knows only the wire.

mod auth;
mod content;
mod content_directory;
mod context_memory;
mod filesend;
mod filesync;
mod health;
mod id;
mod open;
mod secrets;
mod ssh;
mod upload;
mod wire;

pub use auth::{Auth, AuthRefused, RegistryAuth, TokenLent, TokenWanted};
pub use content::Layouts;
pub use context_memory::ContextMemory;
pub use filesend::{Destination, FileSend, OutputFailure};
pub use filesync::{ContextCounts, FileSync};
pub use id::random_id;
pub use open::{OpenSession, SessionBuilder, SessionError};
pub use secrets::{MAX_SECRET, SecretContent, SecretError, Secrets};
pub use ssh::{KeyError, SshAgents, SshError};
pub use upload::Upload;

use tonic::service::RoutesBuilder;

/// A service that can be offered on a session.
pub trait Attachable: Send {
    /// The methods that the builder is told of, as `/package.Service/Method`. BuildKit consults
    /// the list for `FileSync` and `FileSend` only, but it is given whole.
    fn methods(&self) -> &'static [&'static str];

    /// Adds the service to the session's server.
    fn register(self: Box<Self>, routes: &mut RoutesBuilder);
}
