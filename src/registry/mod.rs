//! A client of the OCI distribution API: challenges, scopes, tokens, errors.
//!
//! It knows registries and nothing of builders; `pipeline` lends it to a session.

mod answer;
pub mod challenge;
pub mod probe;
pub mod scope;
pub mod token;
