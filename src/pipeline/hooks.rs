//! Commands before and after each stage, with the receipt so far on stdin.

use crate::{
    diagnostic::{Diagnostic, Exit},
    event::{Event, Events, Warning},
    plan::{HookPlan, Moment, SyncStage},
    record::{HookRecord, Receipt, SinkError, child},
};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// The hooks of a deploy, and what they run in.
#[derive(Debug)]
pub(super) struct Hooks<'a> {
    /// All of them, in the order of the config file.
    pub(super) all: &'a [HookPlan],
    /// Variables of the environment that hold secrets: hooks do not get them.
    pub(super) secrets: &'a [String],
    /// Who hears of a hook that failed after its stage.
    pub(super) events: &'a Events,
    /// Cancelled when the user wants no more of it.
    pub(super) cancel: &'a CancellationToken,
}

impl Hooks<'_> {
    /// Runs the hooks before a stage; the first that fails stops the deploy.
    ///
    /// # Errors
    /// A hook failed, or the user wants no more of it.
    pub(super) async fn before(
        &self,
        stage: SyncStage,
        receipt: &mut Receipt,
    ) -> Result<(), Box<Diagnostic>> {
        for hook in self.of(stage, Moment::Before) {
            let failed = tokio::select! {
                failed = self.run(hook, receipt) => failed,
                () = self.cancel.cancelled() => {
                    let error = crate::pipeline::Error::Interrupted;
                    return Err(Box::new(Diagnostic::from(error)));
                }
            };
            if let Some(error) = failed {
                let exit = stage_exit(stage);
                let message = format!("the hook before {} failed: {error}", stage.name());
                return Err(Diagnostic::new("HOOK_FAILED", exit, message)
                    .with_sources(&error)
                    .with_detail("stage", stage.name())
                    .with_fix("mend what the hook found, or the hook")
                    .into());
            }
        }
        Ok(())
    }

    /// Runs the hooks after a stage, however that ended; one that fails is reported.
    pub(super) async fn after(&self, stage: SyncStage, receipt: &mut Receipt) {
        for hook in self.of(stage, Moment::After) {
            if let Some(error) = self.run(hook, receipt).await {
                let mut message = format!("the hook after {} failed: {error}", stage.name());
                if let Some(cause) = std::error::Error::source(&error) {
                    message = format!("{message}: {cause}");
                }
                self.events.emit(Event::Warning(Warning {
                    code: "HOOK_FAILED",
                    message,
                    hint: Some("the deploy goes on without it".to_owned()),
                }));
            }
        }
    }

    fn of(&self, stage: SyncStage, when: Moment) -> impl Iterator<Item = &HookPlan> {
        self.all.iter().filter(move |hook| hook.stage == stage && hook.when == when)
    }

    /// Runs a hook and notes that it ran; what went wrong, if anything did.
    async fn run(&self, hook: &HookPlan, receipt: &mut Receipt) -> Option<SinkError> {
        let began = Instant::now();
        let document = serde_json::to_vec(receipt).unwrap_or_default();
        let limit = Duration::from_secs(hook.timeout_seconds);
        let outcome = child(&hook.command, &document, self.secrets, limit).await;
        let program = hook.command.first().cloned().unwrap_or_default();
        let exit_code = outcome.as_ref().ok().and_then(|(code, ..)| *code);
        receipt.hooks.push(HookRecord {
            stage: hook.stage,
            when: hook.when,
            program: program.clone(),
            exit_code,
            ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        });
        match outcome {
            Ok((Some(0), ..)) => None,
            Ok((code, words, _)) => {
                let ended = code.map_or("a signal".to_owned(), |code| code.to_string());
                Some(SinkError::Ended { program, ended, words })
            }
            Err(error) => Some(error),
        }
    }
}

/// How a deploy ends that a stage ended for a reason that is not the stage's own.
pub(super) fn stage_exit(stage: SyncStage) -> Exit {
    match stage {
        // The cluster has not been changed yet when a hook before the rollout fails.
        SyncStage::Preflight | SyncStage::Rollout => Exit::Preflight,
        SyncStage::Build => Exit::Build,
        SyncStage::Push => Exit::Push,
        SyncStage::Verify | SyncStage::Record => Exit::Verify,
    }
}
