//! A program of the user's choice that prints a secret, and one that gives its lease back.

use super::{
    Lease, Lessor, Origin, Problem,
    envelope::{self, EnvelopeError, printable},
    program::{Runner, Said, Unsaid},
};
use futures::future::BoxFuture;
use std::{ffi::OsString, time::Duration};

/// A command may ask its user to unlock something. BuildKit waits 60 s for our answer, so this is
/// less.
const LIMIT: Duration = Duration::from_secs(45);
/// Giving back asks nobody.
const REVOKE_LIMIT: Duration = Duration::from_secs(10);
/// What stands for the lease's id in the words of the command that gives it back.
const LEASE_ID: &str = "{lease_id}";

/// A command that lends a secret, with the one that gives it back. No shell is between: words are
/// words.
#[derive(Clone, Debug)]
pub struct LendingCommand {
    words: Vec<String>,
    revoke: Option<Vec<String>>,
    runner: Runner,
}

impl LendingCommand {
    /// The command of `words`, the program first, to be found in `search` (a `PATH`).
    pub fn new(words: Vec<String>, search: impl Into<OsString>) -> Self {
        // A Ctrl-C must not kill it in the middle: a lease that nobody heard of is not given back.
        let runner =
            Runner { search: search.into(), hidden: Vec::new(), limit: LIMIT, apart: true };
        Self { words, revoke: None, runner }
    }

    /// Gives leases back with `words`, in which `{lease_id}` stands for the lease.
    #[must_use]
    pub fn with_revoke(mut self, words: Option<Vec<String>>) -> Self {
        self.revoke = words;
        self
    }

    /// Keeps the variables `names` from it: other registries' secrets are not its business.
    #[must_use]
    pub fn hiding(mut self, names: Vec<String>) -> Self {
        self.runner.hidden = names;
        self
    }

    /// Sets how long it may take.
    #[must_use]
    pub fn with_limit(mut self, limit: Duration) -> Self {
        self.runner.limit = limit;
        self
    }

    /// Whether its program is there.
    pub fn is_there(&self) -> bool {
        self.words.first().is_some_and(|name| self.runner.find(name).is_some())
    }

    async fn run(&self, words: &[String], limit: Duration) -> Result<Said, CommandError> {
        let program = words.first().cloned().unwrap_or_default();
        let arguments = words.get(1..).unwrap_or_default();
        let runner = Runner { limit, ..self.runner.clone() };
        let Some(path) = runner.find(&program) else {
            return Err(CommandError::Missing { program });
        };
        runner.ask(&path, arguments, "").await.map_err(|unsaid| match unsaid {
            Unsaid::Slow => CommandError::Slow { program, limit },
            Unsaid::Unusable(cause) => CommandError::Unusable { program, cause: cause.to_string() },
        })
    }

    async fn ask(&self) -> Result<Lease, CommandError> {
        let said = self.run(&self.words, self.runner.limit).await?;
        let program = self.words.first().cloned().unwrap_or_default();
        let envelope = match envelope::read(&said.output) {
            // A failure's own words say more than its exit status.
            Err(cause @ EnvelopeError::Refused { .. }) => {
                return Err(CommandError::NoSecret { program, cause });
            }
            _ if !said.ok => {
                return Err(CommandError::Failed { program, words: printable(&said.errors) });
            }
            Err(cause) => return Err(CommandError::NoSecret { program, cause }),
            Ok(envelope) => envelope,
        };
        let expires_in = envelope.expires_at.map(super::until);
        Ok(Lease { value: envelope.value, id: envelope.lease_id, expires_in })
    }

    async fn give_back(&self, id: Option<&str>) -> Result<(), CommandError> {
        let Some(words) = &self.revoke else { return Ok(()) };
        let wants_id = words.iter().any(|word| word.contains(LEASE_ID));
        let id = match id {
            None if wants_id => {
                return Err(CommandError::NoLeaseId {
                    program: self.words.first().cloned().unwrap_or_default(),
                });
            }
            id => id.unwrap_or_default(),
        };
        let words: Vec<String> = words.iter().map(|word| word.replace(LEASE_ID, id)).collect();
        let said = self.run(&words, REVOKE_LIMIT).await?;
        let program = words.first().cloned().unwrap_or_default();
        if let Err(EnvelopeError::Refused { words }) = envelope::read(&said.output) {
            return Err(CommandError::NotRevoked { program, words });
        }
        if !said.ok {
            return Err(CommandError::NotRevoked { program, words: printable(&said.errors) });
        }
        Ok(())
    }
}

impl Lessor for LendingCommand {
    fn lease(&self) -> BoxFuture<'_, Result<Lease, Problem>> {
        Box::pin(async { self.ask().await.map_err(Problem::Command) })
    }

    fn revoke<'a>(&'a self, id: Option<&'a str>) -> BoxFuture<'a, Result<(), Problem>> {
        Box::pin(async move { self.give_back(id).await.map_err(Problem::Command) })
    }

    fn origin(&self) -> Origin {
        Origin::Command { command: self.words.first().cloned().unwrap_or_default() }
    }
}

/// Why a command lent nothing, or took nothing back.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It ran and failed.
    #[error("`{program}`, which was asked for a password, failed: {words}")]
    Failed {
        /// The program.
        program: String,
        /// The first line of its stderr.
        words: String,
    },
    /// It is not installed.
    #[error("`{program}`, which was to be asked for a password, is not on the PATH")]
    Missing {
        /// The program.
        program: String,
    },
    /// There is a command to give the lease back, and nothing to tell it which.
    #[error("`{program}` lent a password without a `lease_id`, so that it cannot be given back")]
    NoLeaseId {
        /// The program that lent it.
        program: String,
    },
    /// It answered something else than a secret.
    #[error("`{program}` gave no password: {cause}")]
    NoSecret {
        /// The program.
        program: String,
        /// What it answered.
        #[source]
        cause: EnvelopeError,
    },
    /// The lease stands.
    #[error("`{program}` did not take the lease back: {words}")]
    NotRevoked {
        /// The program.
        program: String,
        /// What it said.
        words: String,
    },
    /// It took too long.
    #[error("`{program}`, which was asked for a password, gave no answer within {} s", limit.as_secs())]
    Slow {
        /// The program.
        program: String,
        /// How long it had.
        limit: Duration,
    },
    /// It could not be run.
    #[error("`{program}` cannot be run: {cause}")]
    Unusable {
        /// The program.
        program: String,
        /// What the system said.
        cause: String,
    },
}

impl CommandError {
    /// What the user can do about it, in one line.
    pub fn hint(&self) -> String {
        match self {
            Self::Missing { program } => {
                format!("install `{program}`, or name its whole path in `[registry]`")
            }
            Self::NoLeaseId { .. } => {
                "let the command print JSON with `lease_id` and `value`, or leave `revoke` out"
                    .to_owned()
            }
            Self::NotRevoked { .. } => "give it back by hand: it holds until it expires".to_owned(),
            Self::Failed { program, .. }
            | Self::NoSecret { program, .. }
            | Self::Slow { program, .. }
            | Self::Unusable { program, .. } => {
                format!(
                    "run `{program}` as `[registry]` has it, and see that it prints the password"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CommandError, LendingCommand};
    use crate::credential::{Lessor as _, Problem};
    use std::{fs, time::Duration};

    fn command(script: &str) -> LendingCommand {
        let words = ["sh", "-c", script].map(str::to_owned).to_vec();
        LendingCommand::new(words, "/usr/bin:/bin")
    }

    async fn lent(script: &str) -> Result<String, String> {
        let lease = command(script).lease().await.map_err(|problem| problem.to_string())?;
        Ok(lease.value.expose_str().unwrap().to_owned())
    }

    #[tokio::test]
    async fn raw_and_enveloped_secrets_are_taken() {
        assert_eq!(lent("echo pw").await.as_deref(), Ok("pw"));
        assert_eq!(lent(r#"echo '{"data":{"value":"pw"}}'"#).await.as_deref(), Ok("pw"));
    }

    #[tokio::test]
    async fn a_failure_is_refused_whatever_the_exit_status() {
        for exit in [0, 1] {
            let script = format!(
                r#"echo '{{"success":false,"error":"daemon is not running","exit_code":69}}'; exit {exit}"#
            );
            assert_eq!(
                lent(&script).await,
                Err("`sh` gave no password: it printed a failure: daemon is not running".to_owned())
            );
        }
        assert_eq!(
            lent("echo pw; echo vault is locked >&2; exit 3").await,
            Err("`sh`, which was asked for a password, failed: vault is locked".to_owned())
        );
        assert_eq!(lent("true").await, Err("`sh` gave no password: it printed nothing".to_owned()));
    }

    /// What it started may live on with its stderr open, as agents do.
    #[tokio::test]
    async fn a_child_that_stays_does_not_hold_the_answer_back() {
        let command = command("sleep 60 >/dev/null & echo pw").with_limit(Duration::from_secs(30));
        assert_eq!(command.lease().await.unwrap().value.expose(), b"pw");
    }

    #[tokio::test]
    async fn a_missing_program_is_named_with_its_mend() {
        let command = LendingCommand::new(vec!["no-such-lender".to_owned()], "/usr/bin:/bin");
        assert!(!command.is_there());
        let problem = command.lease().await.unwrap_err();
        assert!(problem.to_string().contains("`no-such-lender`"), "{problem}");
        assert!(problem.hint().starts_with("install `no-such-lender`"), "{}", problem.hint());
    }

    #[tokio::test]
    async fn the_lease_is_given_back_by_its_id() {
        let directory = tempfile::tempdir().unwrap();
        let note = directory.path().join("note");
        let revoke = |script: &str| {
            Some(vec!["sh".to_owned(), "-c".to_owned(), script.to_owned(), "{lease_id}".to_owned()])
        };
        let script = format!("echo $0 > '{}'", note.display());
        let lender = command(r#"echo '{"value":"pw","lease_id":"l-7"}'"#);
        let good = lender.clone().with_revoke(revoke(&script));
        let lease = good.lease().await.unwrap();
        good.revoke(lease.id.as_deref()).await.unwrap();
        assert_eq!(fs::read_to_string(note).unwrap(), "l-7\n");

        // It fails as it lends: with 0.
        let bad = lender.with_revoke(revoke(r#"echo '{"success":false,"error":"no such lease"}'"#));
        let problem = bad.revoke(Some("l-7")).await.unwrap_err();
        assert_eq!(problem.to_string(), "`sh` did not take the lease back: no such lease");
        let problem = bad.revoke(None).await.unwrap_err();
        assert!(matches!(problem, Problem::Command(CommandError::NoLeaseId { .. })), "{problem}");
    }
}
