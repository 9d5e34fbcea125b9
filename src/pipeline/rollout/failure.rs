//! Why a rollout did not do what was asked.

use crate::{
    cluster::AccessError,
    rollout::{RolloutReport, api::ApiError, lock::LockError, preflight::Refusal},
};

/// Why a rollout did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RolloutFailure {
    /// No cluster is known, or what says how to reach it cannot be used.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The cluster does not tell what was asked.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// It was tried. The report says what became of it, and of the way back.
    #[error("the rollout failed")]
    Failed(Box<RolloutReport>),
    /// Ended by whoever started it; the report is there where something was changed before.
    #[error("interrupted")]
    Interrupted(Option<Box<RolloutReport>>),
    /// Another deploy holds the lock, or none can be had.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// It cannot come about; nothing was changed.
    #[error("{}", words(.0))]
    Refused(Vec<Refusal>),
}

fn words(refusals: &[Refusal]) -> String {
    let words: Vec<&str> = refusals.iter().map(|refusal| refusal.message.as_str()).collect();
    words.join("; ")
}
