//! What stood between us and a secret, whatever its source.

use super::{AgentError, CommandError, HelperError, Origin};
use std::time::Duration;

/// Something about a source of credentials that the user should know.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// agent-secrets lent nothing, or took nothing back.
    #[error(transparent)]
    Agent(AgentError),
    /// A command lent nothing, or took nothing back.
    #[error(transparent)]
    Command(CommandError),
    /// Leases that processes left behind which were killed have been given back.
    #[error("{count} of {origin} that an earlier run left behind {} given back", if *count == 1 { "was" } else { "were" })]
    GivenBack {
        /// What they are leases of.
        origin: Origin,
        /// How many.
        count: usize,
    },
    /// A credential helper gave no answer.
    #[error(transparent)]
    Helper(HelperError),
    /// A lease was not given back in time.
    #[error("{origin} was not given back in time")]
    Kept {
        /// What it is a lease of.
        origin: Origin,
    },
    /// A lease ended before the work did.
    #[error("{origin} was lent for {} s only, and had to be renewed", life.as_secs())]
    Renewed {
        /// What it is a lease of.
        origin: Origin,
        /// How long it held.
        life: Duration,
    },
}

impl Problem {
    /// The code of the warning about it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Helper(_) => "CREDENTIAL_HELPER",
            Self::Command(CommandError::NotRevoked { .. }) | Self::Kept { .. } => {
                "LEASE_NOT_REVOKED"
            }
            Self::Agent(_) | Self::Command(_) => "CREDENTIALS_UNAVAILABLE",
            Self::GivenBack { .. } => "LEASE_GIVEN_BACK",
            Self::Renewed { .. } => "LEASE_RENEWED",
        }
    }

    /// Whether there are no credentials for it.
    pub fn is_loss(&self) -> bool {
        !matches!(self, Self::GivenBack { .. } | Self::Kept { .. } | Self::Renewed { .. })
    }

    /// What the user can do about it, in one line.
    pub fn hint(&self) -> String {
        match self {
            Self::Agent(error) => error.hint(),
            Self::Command(error) => error.hint(),
            Self::Helper(error) => error.hint(),
            Self::GivenBack { .. } => {
                "nothing is to be done: a run that is killed cannot give back what it was lent"
                    .to_owned()
            }
            Self::Kept { .. } => "give it back by hand: it holds until it expires".to_owned(),
            Self::Renewed { .. } => {
                "ask for a longer time than a build and its push take".to_owned()
            }
        }
    }
}
