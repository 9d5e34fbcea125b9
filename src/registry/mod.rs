//! A client of the OCI distribution API: challenges, scopes, tokens, blobs, uploads that are gone
//! on with, manifests, errors as data.
//!
//! It knows registries and nothing of builders; `pipeline` lends it to a session, and gives it the
//! blobs to push.
//!
//! # Example
//!
//! ```
//! use bk_sync::registry::challenge;
//!
//! // What a registry answers to who has not logged in says where a token is to be had.
//! let header = r#"Bearer realm="https://ghcr.io/token",service="ghcr.io",scope="repository:me/app:pull""#;
//! let challenges = challenge::parse(header);
//! assert_eq!(challenges[0].parameter("realm"), Some("https://ghcr.io/token"));
//! assert_eq!(challenges[0].parameter("service"), Some("ghcr.io"));
//! ```

mod answer;
mod authorize;
pub mod challenge;
pub mod error;
mod image;
mod manifest;
mod places;
mod reach;
mod repository;
mod retry;
pub mod scope;
mod server;
mod source;
pub mod token;
mod transfer;
mod upload;

pub use error::{Kind, RegistryError};
pub use image::{Graph, ImagePush, ImagePushError, Tally, Target, read_whole};
pub use manifest::MAX_MANIFEST;
pub use places::Places;
pub use reach::Reach;
pub use repository::Repository;
pub use retry::RetryBudget;
pub use server::{Server, Traffic};
pub use source::{BlobSource, ByteStream, SourceError, digest, hex, whole};
pub use transfer::{Delivery, Outcome};

/// Blobs that are sent to one registry at a time, where nobody says otherwise: enough to fill a line, and
/// few enough that their buffers stay small. What the registry only has to store no longer counts.
pub const PARALLEL: usize = 4;
