//! The stages of a deploy, in their order, and the moments around them.

use serde::{Deserialize, Serialize};

/// A stage of `sync`. Each has a deadline, hooks around it and a record in the receipt.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncStage {
    /// Everything is looked at before anything changes.
    Preflight,
    /// The image is built.
    Build,
    /// The image goes to its registry.
    Push,
    /// The workload gets the image.
    Rollout,
    /// The new pods are checked.
    Verify,
    /// The receipt is given to those who keep it.
    Record,
}

impl SyncStage {
    /// All of them, in the order in which they run.
    pub const ALL: [Self; 6] =
        [Self::Preflight, Self::Build, Self::Push, Self::Rollout, Self::Verify, Self::Record];

    /// Its name, in files and on the screen.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Preflight => "preflight",
            Self::Build => "build",
            Self::Push => "push",
            Self::Rollout => "rollout",
            Self::Verify => "verify",
            Self::Record => "record",
        }
    }
}

/// When a hook runs.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// Before its stage: a failure stops the deploy.
    Before,
    /// After its stage, however that ended: a failure is reported.
    After,
}

impl Moment {
    /// Its name, in files and on the screen.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }
}
