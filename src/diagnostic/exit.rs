//! The exit codes: the contract with scripts.

use std::process::ExitCode;

/// How a run ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    /// 0: done, or nothing to do.
    Done,
    /// 1: an internal error: a bug.
    Internal,
    /// 2: the arguments, the config file or the Dockerfile's syntax are wrong.
    Usage,
    /// 10: no builder could be reached.
    NoBuilder,
    /// 11: the build failed: a step, a source, a missing file.
    Build,
    /// 12: the push failed; what was built is kept.
    Push,
    /// 13: the rollout failed and was rolled back; the rollback was verified.
    RolledBack,
    /// 14: the rollout failed and was not, or could not be, rolled back.
    Rollout,
    /// 15: the rollout succeeded and a check after it failed.
    Verify,
    /// 16: another deploy holds the lock.
    Locked,
    /// 17: a preflight check refused before anything changed.
    Preflight,
    /// 130: interrupted by SIGINT, after clean-up.
    Interrupted,
    /// 143: ended by SIGTERM, after clean-up.
    Terminated,
}

impl Exit {
    /// The number that the process ends with.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Internal => 1,
            Self::Usage => 2,
            Self::NoBuilder => 10,
            Self::Build => 11,
            Self::Push => 12,
            Self::RolledBack => 13,
            Self::Rollout => 14,
            Self::Verify => 15,
            Self::Locked => 16,
            Self::Preflight => 17,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
