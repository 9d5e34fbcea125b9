//! A client of the OCI distribution API: challenges, scopes, tokens, errors.
//!
//! It knows registries and nothing of builders; `pipeline` lends it to a session.
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
pub mod challenge;
pub mod scope;
pub mod token;
