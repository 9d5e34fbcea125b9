//! The order of the stages, their deadlines, and the receipt that is written after each.

use super::{
    super::hooks::{Hooks, stage_exit},
    Outcome as StageOutcome, Stages,
};
use crate::{
    diagnostic::{Diagnostic, Exit},
    event::{Event, Events, Warning},
    plan::{SyncPlan, SyncStage},
    record::{FailureRecord, History, Outcome, Receipt, StageRecord, StageState},
};
use std::{
    future::Future,
    pin::pin,
    time::{Duration, Instant},
};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// How long a stage that was told to end may take to clean up.
const CLEAN_UP: Duration = Duration::from_mins(1);

/// A deploy that is about to run.
#[derive(Debug)]
pub struct Deploy<'a> {
    /// What is to be done.
    pub plan: &'a SyncPlan,
    /// Where receipts are kept; nowhere where there is no state directory.
    pub history: Option<&'a History>,
    /// Variables of the environment that hold secrets: children that need none do not get them.
    pub secrets: &'a [String],
    /// Who hears of the progress.
    pub events: &'a Events,
    /// Cancelled when the user wants no more of it.
    pub cancel: CancellationToken,
    /// The time, as RFC 3339 has it.
    pub now: fn() -> String,
    /// The deploy's id.
    pub id: String,
}

/// Whether an earlier deploy is gone on with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Resume {
    /// Everything is done anew; what is there already is found by its digest.
    Anew,
    /// The last deploy goes on where it was ended.
    FromLast,
}

/// A deploy that has ended.
#[derive(Debug)]
pub struct Ended {
    /// What it did.
    pub receipt: Receipt,
    /// Why it did no more.
    pub failure: Option<Box<Diagnostic>>,
}

impl Deploy<'_> {
    /// Runs the stages to their end, however that is. What was lent is let go of in every ending.
    ///
    /// # Errors
    /// None: a failure is part of the end.
    pub async fn run(&self, stages: &mut impl Stages, resume: Resume) -> Ended {
        let mut receipt = Receipt::begin(self.plan, self.id.clone(), (self.now)());
        let outcome = self.stages(stages, resume, &mut receipt).await;
        if outcome.is_ok() {
            stages.settle().await;
        }
        stages.release().await;
        receipt.ended = Some((self.now)());
        let failure = match outcome {
            Ok(Outcome::Unchanged) => {
                receipt.outcome = Outcome::Unchanged;
                self.forget(&receipt);
                return Ended { receipt, failure: None };
            }
            Ok(outcome) => {
                receipt.outcome = outcome;
                None
            }
            Err(failure) => {
                receipt.outcome = match failure.exit {
                    Exit::Interrupted | Exit::Terminated => Outcome::Interrupted,
                    _ => Outcome::Failed,
                };
                Some(failure)
            }
        };
        self.save(&receipt);
        Ended { receipt, failure }
    }

    async fn stages(
        &self,
        stages: &mut impl Stages,
        resume: Resume,
        receipt: &mut Receipt,
    ) -> StageOutcome<Outcome> {
        let last = self.last();
        let resumed = match (resume, &last) {
            (Resume::FromLast, Some(last)) if last.can_resume() => {
                self.go_on(receipt, last)?;
                true
            }
            _ => false,
        };
        self.stage(SyncStage::Preflight, stages, receipt, async |stages, _, cancel| {
            stages.preflight(resumed, cancel).await
        })
        .await?;
        if !resumed {
            self.stage(SyncStage::Build, stages, receipt, async |stages, receipt, cancel| {
                stages.build(receipt, cancel).await
            })
            .await?;
            let same = last.as_ref().filter(|last| is_same(last, receipt));
            if let Some(last) = same
                && self.plan.rollout.is_some()
                && self.runs_already(stages, receipt, last).await?
            {
                return Ok(Outcome::Unchanged);
            }
            self.stage(SyncStage::Push, stages, receipt, async |stages, receipt, cancel| {
                stages.push(receipt, cancel).await
            })
            .await?;
        }
        if self.plan.rollout.is_some() {
            if stages.is_current(receipt, &self.cancel).await? {
                self.skip(SyncStage::Rollout, receipt);
            } else {
                self.stage(SyncStage::Rollout, stages, receipt, async |stages, receipt, cancel| {
                    stages.rollout(receipt, cancel).await
                })
                .await?;
            }
            self.verified(stages, receipt).await?;
        } else if !resumed && last.as_ref().is_some_and(|last| is_same(last, receipt)) {
            return Ok(Outcome::Unchanged);
        }
        self.stage(SyncStage::Record, stages, receipt, async |stages, receipt, cancel| {
            // On the disk it is done when everybody has been told: a deploy that is killed before
            // is gone on with.
            let ended = Some((self.now)());
            let done = Receipt { outcome: Outcome::Done, ended, ..receipt.clone() };
            stages.record(&done, cancel).await;
            // Who wanted no more of it may have kept somebody from being told.
            if self.cancel.is_cancelled() {
                return Err(Box::new(Diagnostic::from(crate::pipeline::Error::Interrupted)));
            }
            Ok(())
        })
        .await?;
        Ok(Outcome::Done)
    }

    /// Whether the image that the last deploy brought out and verified, which holds what was built
    /// now, runs.
    async fn runs_already(
        &self,
        stages: &mut impl Stages,
        receipt: &mut Receipt,
        last: &Receipt,
    ) -> StageOutcome<bool> {
        let built = std::mem::replace(&mut receipt.image, last.image.clone());
        let runs = stages.is_current(receipt, &self.cancel).await?;
        if !runs {
            receipt.image = built;
            receipt.rollout = None;
        }
        Ok(runs)
    }

    /// The checks, and what becomes of the rollout where one fails.
    async fn verified(&self, stages: &mut impl Stages, receipt: &mut Receipt) -> StageOutcome<()> {
        let checked = self
            .stage(SyncStage::Verify, stages, receipt, async |stages, receipt, cancel| {
                stages.verify(receipt, cancel).await
            })
            .await;
        let Err(mut failure) = checked else { return Ok(()) };
        let wanted = self.plan.rollout.as_ref().is_some_and(|plan| plan.rollback_on_verify_failure);
        if failure.exit != Exit::Verify || !wanted {
            return Err(failure);
        }
        let back = stages.roll_back(receipt, &self.cancel).await;
        receipt.rolled_back = Some(back.is_ok());
        failure = Box::new(failure.with_detail("rolled_back", back.is_ok()));
        let note = match back {
            Ok(()) => "the image before it runs again".to_owned(),
            Err(error) => format!("the image before it did not come back: {}", error.message),
        };
        Err(Box::new(failure.with_note(note)))
    }

    /// Runs one stage between its hooks, within its deadline, and writes the receipt.
    async fn stage<S: Stages>(
        &self,
        stage: SyncStage,
        stages: &mut S,
        receipt: &mut Receipt,
        work: impl AsyncFnOnce(&mut S, &mut Receipt, &CancellationToken) -> StageOutcome<()>,
    ) -> StageOutcome<()> {
        let hooks = Hooks {
            all: &self.plan.hooks,
            secrets: self.secrets,
            events: self.events,
            cancel: &self.cancel,
        };
        let began = Instant::now();
        let started = (self.now)();
        receipt.stages.insert(stage, StageRecord { started, ..StageRecord::default() });
        self.save(receipt);
        let mut outcome = if self.cancel.is_cancelled() {
            Err(Box::new(Diagnostic::from(crate::pipeline::Error::Interrupted)))
        } else {
            hooks.before(stage, receipt).await
        };
        if outcome.is_ok() {
            let token = self.cancel.child_token();
            outcome = self.within(stage, &token, work(stages, receipt, &token)).await;
            note(stage, began, outcome.as_ref().err().map(|failure| &**failure), receipt);
            hooks.after(stage, receipt).await;
        } else {
            note(stage, began, outcome.as_ref().err().map(|failure| &**failure), receipt);
        }
        self.save(receipt);
        outcome
    }

    /// Lets `work` run up to the stage's deadline; then it is told to end, and waited for.
    async fn within(
        &self,
        stage: SyncStage,
        token: &CancellationToken,
        work: impl Future<Output = StageOutcome<()>>,
    ) -> StageOutcome<()> {
        let mut work = pin!(work);
        let Some(limit) = self.plan.deadlines.get(&stage).copied() else { return work.await };
        let outcome = tokio::select! {
            outcome = &mut work => return outcome,
            () = sleep(Duration::from_secs(limit)) => {
                token.cancel();
                timeout(CLEAN_UP, work).await
            }
        };
        let own = match outcome {
            // It was done when the bell rang.
            Ok(Ok(())) => return Ok(()),
            Ok(Err(failure)) if failure.exit != Exit::Interrupted => Some(failure),
            Ok(Err(_)) | Err(_) => None,
        };
        let exit = match stage {
            SyncStage::Rollout => Exit::Rollout,
            stage => stage_exit(stage),
        };
        let exit = own.as_ref().map_or(exit, |failure| failure.exit);
        let message = format!("{} took longer than its deadline of {limit} s", stage.name());
        let mut diagnostic = Diagnostic::new("STAGE_DEADLINE", exit, message)
            .with_detail("stage", stage.name())
            .with_fix(format!(
                "see what takes so long, or set `{}` in `[deploy.deadlines]`",
                stage.name()
            ));
        diagnostic.causes.extend(own.map(|failure| failure.message.clone()));
        Err(diagnostic.into())
    }

    /// Takes over what the last deploy had done.
    fn go_on(&self, receipt: &mut Receipt, last: &Receipt) -> StageOutcome<()> {
        let commit = |receipt: &Receipt| receipt.git.as_ref().map(|git| git.commit.clone());
        if commit(last) != commit(receipt) {
            let message = format!(
                "the last deploy was of {}, and {} is checked out now",
                commit(last).as_deref().unwrap_or("no commit"),
                commit(receipt).as_deref().unwrap_or("no commit"),
            );
            return Err(Diagnostic::new("RESUME_COMMIT_CHANGED", Exit::Preflight, message)
                .with_detail("receipt", last.id.as_str())
                .with_fix("deploy what is checked out: `bk-sync sync`, without `--resume`")
                .into());
        }
        receipt.resumes = Some(last.id.clone());
        receipt.git.clone_from(&last.git);
        receipt.dockerfile.clone_from(&last.dockerfile);
        receipt.llb_digest.clone_from(&last.llb_digest);
        receipt.build.clone_from(&last.build);
        receipt.image.clone_from(&last.image);
        receipt.push.clone_from(&last.push);
        receipt.rollout.clone_from(&last.rollout);
        for stage in [SyncStage::Build, SyncStage::Push] {
            self.skip(stage, receipt);
        }
        Ok(())
    }

    fn skip(&self, stage: SyncStage, receipt: &mut Receipt) {
        let record = StageRecord { state: StageState::Skipped, started: (self.now)(), ms: Some(0) };
        receipt.stages.insert(stage, record);
    }

    /// The newest receipt of this project.
    fn last(&self) -> Option<Receipt> {
        let last = self.history?.last(&self.plan.project);
        last.unwrap_or_else(|error| {
            self.warn(&error);
            None
        })
    }

    fn save(&self, receipt: &Receipt) {
        if let Some(Err(error)) = self.history.map(|history| history.save(receipt)) {
            self.warn(&error);
        }
    }

    fn forget(&self, receipt: &Receipt) {
        if let Some(Err(error)) = self.history.map(|history| history.remove(receipt)) {
            self.warn(&error);
        }
    }

    fn warn(&self, error: &crate::record::HistoryError) {
        self.events.emit(Event::Warning(Warning {
            code: "HISTORY_UNUSABLE",
            message: format!("{error}: {}", error.source),
            hint: Some(
                "mend the state directory: without it there is no `--resume` and no history"
                    .to_owned(),
            ),
        }));
    }
}

/// Whether the last deploy ended well with what is at hand now, under the same names.
fn is_same(last: &Receipt, receipt: &Receipt) -> bool {
    let content = receipt.content();
    last.outcome == Outcome::Done
        && !content.is_empty()
        && last.content() == content
        && last.tags() == receipt.tags()
}

/// Notes how a stage ended.
fn note(stage: SyncStage, began: Instant, failure: Option<&Diagnostic>, receipt: &mut Receipt) {
    if let Some(record) = receipt.stages.get_mut(&stage) {
        record.state = if failure.is_none() { StageState::Done } else { StageState::Failed };
        record.ms = Some(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
    }
    if let Some(failure) = failure {
        receipt.failure = Some(FailureRecord {
            stage,
            code: failure.code.to_owned(),
            message: failure.message.clone(),
            exit_code: failure.exit.code(),
        });
    }
}

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
