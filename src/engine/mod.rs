//! The Docker Engine API, as far as a build needs it: protocol upgrades, exec, image push, contexts.

mod client;
mod contexts;
mod endpoint;
mod error;
mod exec;
mod image;
mod messages;

pub use client::{Client, Greeting, Info};
pub use contexts::{ContextError, Origin, Reader, Settings, Target};
pub use endpoint::{Endpoint, EndpointError};
pub use error::Error;
pub use exec::ExecVoice;
pub use image::{InspectedImage, PushProgress, PushedImage, RegistryLogin};
