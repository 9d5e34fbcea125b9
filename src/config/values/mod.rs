//! What users write behind a flag or in the config file, as typed values. Pure: text in,
//! plan values out; what a value needs of the world (a variable, a file's kind) is handed in. Spelling is buildx's.

mod attestation;
mod cache;
mod fields;
mod image;
mod output;
mod resource;
mod secret;
mod signing;

pub(crate) use attestation::attestations;
pub(crate) use cache::cache_entries;
pub(crate) use image::{annotation, build_context, entitlement, key_values, network, platforms};
pub(crate) use output::output;
pub(crate) use resource::{byte_size, extra_hosts, ulimit};
pub(crate) use secret::{agent_forward, secret};
pub(crate) use signing::{base_key, images, sign_key};

/// A value that a flag cannot take.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{problem}")]
pub(crate) struct ValueError {
    /// What is wrong with it: a fragment in lower case without a full stop.
    pub(crate) problem: String,
    /// What to write instead.
    pub(crate) hint: String,
}

impl ValueError {
    /// An error that says what is wrong and what to write instead.
    fn new(problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { problem: problem.into(), hint: hint.into() }
    }
}
