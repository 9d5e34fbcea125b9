//! The order of a deploy, with stages that only note that they were asked.

use super::*;
use crate::{
    plan::{HookPlan, Moment, RolloutPlan},
    record::ImageRecord,
};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

/// Stages that note what they were asked, and fail where they are told to.
#[derive(Default)]
struct Noted {
    calls: Vec<&'static str>,
    fails: Option<(&'static str, Exit)>,
    /// A stage that does not end before it is cancelled.
    hangs: Option<&'static str>,
    current: bool,
}

impl Noted {
    async fn note(&mut self, name: &'static str, cancel: &CancellationToken) -> StageOutcome<()> {
        self.calls.push(name);
        if self.hangs == Some(name) {
            cancel.cancelled().await;
            return Err(Diagnostic::new("INTERRUPTED", Exit::Interrupted, "stopped").into());
        }
        match self.fails {
            Some((stage, exit)) if stage == name => {
                Err(Diagnostic::new("TEST", exit, format!("{name} failed")).into())
            }
            _ => Ok(()),
        }
    }
}

impl Stages for Noted {
    async fn preflight(&mut self, _: bool, cancel: &CancellationToken) -> StageOutcome<()> {
        self.note("preflight", cancel).await
    }

    async fn build(
        &mut self,
        receipt: &mut Receipt,
        cancel: &CancellationToken,
    ) -> StageOutcome<()> {
        self.note("build", cancel).await?;
        let digest = "sha256:1".to_owned();
        receipt.image = Some(ImageRecord { digest, ..ImageRecord::default() });
        Ok(())
    }

    async fn push(&mut self, _: &mut Receipt, cancel: &CancellationToken) -> StageOutcome<()> {
        self.note("push", cancel).await
    }

    async fn is_current(&mut self, _: &mut Receipt, _: &CancellationToken) -> StageOutcome<bool> {
        Ok(self.current)
    }

    async fn rollout(&mut self, _: &mut Receipt, cancel: &CancellationToken) -> StageOutcome<()> {
        self.note("rollout", cancel).await?;
        self.current = true;
        Ok(())
    }

    async fn verify(&mut self, _: &mut Receipt, cancel: &CancellationToken) -> StageOutcome<()> {
        self.note("verify", cancel).await
    }

    async fn roll_back(&mut self, _: &mut Receipt, cancel: &CancellationToken) -> StageOutcome<()> {
        self.note("roll_back", cancel).await
    }

    async fn record(&mut self, _: &Receipt, cancel: &CancellationToken) {
        drop(self.note("record", cancel).await);
    }

    async fn settle(&mut self) {}

    async fn release(&mut self) {
        self.calls.push("release");
    }
}

fn plan() -> SyncPlan {
    SyncPlan {
        project: "n/deployment/a".to_owned(),
        rollout: Some(RolloutPlan::default()),
        ..SyncPlan::default()
    }
}

/// Runs a deploy; its calls and how it ended.
async fn deploy(
    plan: &SyncPlan,
    state: &Path,
    stages: &mut Noted,
    resume: Resume,
) -> (String, Ended) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let history = History::new(state);
    let deploy = Deploy {
        plan,
        history: Some(&history),
        secrets: &[],
        events: &Events::discard(),
        cancel: CancellationToken::new(),
        now: || "2026-01-01T00:00:00Z".to_owned(),
        id: format!("{:05}", COUNT.fetch_add(1, Ordering::Relaxed)),
    };
    stages.calls.clear();
    let ended = deploy.run(stages, resume).await;
    (stages.calls.join(" "), ended)
}

#[tokio::test]
async fn the_stages_run_in_order_and_a_second_deploy_finds_nothing_to_do() {
    let state = tempfile::tempdir().unwrap();
    let mut stages = Noted::default();
    let (calls, ended) = deploy(&plan(), state.path(), &mut stages, Resume::Anew).await;
    assert_eq!(calls, "preflight build push rollout verify record release");
    assert_eq!(ended.receipt.outcome, Outcome::Done);
    let (calls, ended) = deploy(&plan(), state.path(), &mut stages, Resume::Anew).await;
    assert_eq!(calls, "preflight build release");
    assert_eq!(ended.receipt.outcome, Outcome::Unchanged);
    let receipts = History::new(state.path()).list(None).unwrap();
    assert_eq!(receipts.len(), 1, "nothing was done, so nothing is told");
}

#[tokio::test]
async fn what_was_deployed_and_runs_no_more_is_deployed_again() {
    let state = tempfile::tempdir().unwrap();
    let mut stages = Noted::default();
    deploy(&plan(), state.path(), &mut stages, Resume::Anew).await;
    stages.current = false;
    let (calls, _) = deploy(&plan(), state.path(), &mut stages, Resume::Anew).await;
    assert_eq!(calls, "preflight build push rollout verify record release");
}

#[tokio::test]
async fn what_runs_and_was_never_verified_is_verified_and_not_rolled_out_again() {
    let state = tempfile::tempdir().unwrap();
    let mut stages = Noted { current: true, ..Noted::default() };
    let (calls, _) = deploy(&plan(), state.path(), &mut stages, Resume::Anew).await;
    assert_eq!(calls, "preflight build push verify record release");
}

#[tokio::test]
async fn a_failed_rollout_does_not_rebuild_and_a_failed_check_does_not_roll_out_again() {
    let state = tempfile::tempdir().unwrap();
    let mut stages = Noted { fails: Some(("rollout", Exit::RolledBack)), ..Noted::default() };
    let (_, ended) = deploy(&plan(), state.path(), &mut stages, Resume::Anew).await;
    assert_eq!(ended.failure.unwrap().exit, Exit::RolledBack);
    let failure = ended.receipt.failure.unwrap();
    assert_eq!((failure.stage, failure.exit_code), (SyncStage::Rollout, 13));

    stages.fails = Some(("verify", Exit::Verify));
    let (calls, ended) = deploy(&plan(), state.path(), &mut stages, Resume::FromLast).await;
    assert_eq!(calls, "preflight rollout verify release");
    assert_eq!(ended.receipt.resumes.as_deref().map(str::len), Some(5));

    stages.fails = None;
    let (calls, ended) = deploy(&plan(), state.path(), &mut stages, Resume::FromLast).await;
    assert_eq!(calls, "preflight verify record release");
    assert_eq!(ended.receipt.outcome, Outcome::Done);
    let skipped = ended.receipt.stages[&SyncStage::Build].state;
    assert_eq!(skipped, StageState::Skipped);
}

#[tokio::test]
async fn a_deploy_that_failed_before_its_push_begins_anew_when_resumed() {
    let state = tempfile::tempdir().unwrap();
    let mut stages = Noted { fails: Some(("push", Exit::Push)), ..Noted::default() };
    deploy(&plan(), state.path(), &mut stages, Resume::Anew).await;
    stages.fails = None;
    let (calls, _) = deploy(&plan(), state.path(), &mut stages, Resume::FromLast).await;
    assert_eq!(calls, "preflight build push rollout verify record release");
}

#[tokio::test]
async fn another_commit_is_not_taken_for_the_one_that_was_pushed() {
    let state = tempfile::tempdir().unwrap();
    let mut stages = Noted { fails: Some(("rollout", Exit::Rollout)), ..Noted::default() };
    deploy(&plan(), state.path(), &mut stages, Resume::Anew).await;
    let git = crate::plan::GitFacts { commit: "c2".to_owned(), ..Default::default() };
    let moved = SyncPlan { git: Some(git), ..plan() };
    let (calls, ended) = deploy(&moved, state.path(), &mut stages, Resume::FromLast).await;
    assert_eq!(ended.failure.unwrap().code, "RESUME_COMMIT_CHANGED");
    assert_eq!(calls, "release");
}

#[tokio::test]
async fn a_check_that_fails_brings_the_old_image_back_only_where_that_is_wanted() {
    for (wanted, expected) in [
        (false, "preflight build push rollout verify release"),
        (true, "preflight build push rollout verify roll_back release"),
    ] {
        let state = tempfile::tempdir().unwrap();
        let rollout = RolloutPlan { rollback_on_verify_failure: wanted, ..RolloutPlan::default() };
        let plan = SyncPlan { rollout: Some(rollout), ..plan() };
        let mut stages = Noted { fails: Some(("verify", Exit::Verify)), ..Noted::default() };
        let (calls, ended) = deploy(&plan, state.path(), &mut stages, Resume::Anew).await;
        assert_eq!(calls, expected);
        assert_eq!(ended.receipt.rolled_back, wanted.then_some(true));
        assert_eq!(ended.failure.unwrap().exit, Exit::Verify);
    }
}

#[tokio::test]
async fn a_stage_that_takes_too_long_is_told_to_end_and_named() {
    let state = tempfile::tempdir().unwrap();
    let plan = SyncPlan { deadlines: [(SyncStage::Build, 1)].into(), ..plan() };
    let mut stages = Noted { hangs: Some("build"), ..Noted::default() };
    let (calls, ended) = deploy(&plan, state.path(), &mut stages, Resume::Anew).await;
    let failure = ended.failure.unwrap();
    assert_eq!((failure.code, failure.exit), ("STAGE_DEADLINE", Exit::Build));
    assert_eq!(failure.message, "build took longer than its deadline of 1 s");
    assert_eq!(calls, "preflight build release");
    assert_eq!(ended.receipt.outcome, Outcome::Failed);
}

#[tokio::test]
async fn an_interrupt_ends_the_deploy_and_lets_go_of_what_was_lent() {
    let state = tempfile::tempdir().unwrap();
    let history = History::new(state.path());
    let plan = plan();
    let cancel = CancellationToken::new();
    let deploy = Deploy {
        plan: &plan,
        history: Some(&history),
        secrets: &[],
        events: &Events::discard(),
        cancel: cancel.clone(),
        now: || "2026-01-01T00:00:00Z".to_owned(),
        id: "1".to_owned(),
    };
    let mut stages = Noted { hangs: Some("rollout"), ..Noted::default() };
    let run = deploy.run(&mut stages, Resume::Anew);
    let stop = async {
        while !history
            .last(&plan.project)
            .unwrap()
            .is_some_and(|receipt| receipt.stages.contains_key(&SyncStage::Rollout))
        {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    };
    let (ended, ()) = tokio::join!(run, stop);
    assert_eq!(ended.receipt.outcome, Outcome::Interrupted);
    assert_eq!(stages.calls.last(), Some(&"release"));
    assert!(history.last(&plan.project).unwrap().unwrap().can_resume());
}

fn hook(stage: SyncStage, when: Moment, script: &str) -> HookPlan {
    let command = ["sh", "-c", script].map(str::to_owned).to_vec();
    HookPlan { stage, when, command, timeout_seconds: 30 }
}

#[tokio::test]
async fn a_failing_hook_stops_before_and_is_reported_after_and_reads_the_receipt_so_far() {
    let state = tempfile::tempdir().unwrap();
    let out = state.path().join("so-far");
    let hooks = vec![
        hook(SyncStage::Push, Moment::Before, &format!("cat > {}", out.display())),
        hook(SyncStage::Build, Moment::After, "exit 4"),
        hook(SyncStage::Rollout, Moment::Before, "echo the freeze holds >&2; exit 1"),
    ];
    let plan = SyncPlan { hooks, ..plan() };
    let warnings = std::sync::Arc::new(Mutex::new(Vec::new()));
    let heard = warnings.clone();
    let events = Events::new(move |event| {
        if let Event::Warning(warning) = event {
            heard.lock().unwrap().push(warning.message);
        }
    });
    let history = History::new(state.path());
    let deploy = Deploy {
        plan: &plan,
        history: Some(&history),
        secrets: &[],
        events: &events,
        cancel: CancellationToken::new(),
        now: || "2026-01-01T00:00:00Z".to_owned(),
        id: "1".to_owned(),
    };
    let mut stages = Noted::default();
    let ended = deploy.run(&mut stages, Resume::Anew).await;
    assert_eq!(stages.calls.join(" "), "preflight build push release");
    let failure = ended.failure.unwrap();
    assert_eq!(failure.code, "HOOK_FAILED");
    assert_eq!(
        failure.message,
        "the hook before rollout failed: `sh` ended with 1: the freeze holds"
    );
    assert_eq!(*warnings.lock().unwrap(), ["the hook after build failed: `sh` ended with 4"]);
    let so_far: Receipt = serde_json::from_slice(&std::fs::read(out).unwrap()).unwrap();
    assert_eq!(so_far.image.unwrap().digest, "sha256:1");
    let codes: BTreeMap<_, _> =
        ended.receipt.hooks.iter().map(|hook| (hook.stage, hook.exit_code)).collect();
    let expected =
        [(SyncStage::Build, Some(4)), (SyncStage::Push, Some(0)), (SyncStage::Rollout, Some(1))];
    assert_eq!(codes, expected.into());
}
