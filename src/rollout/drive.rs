//! Waits for a rollout to end: judges it anew with everything that the watch brings, and ends it as
//! soon as the end is known.

use super::{
    api,
    code::Code,
    diagnose::{Diagnosed, diagnose, hopeless_blockers, refine},
    observed::Observed,
    proof::{Expected, Unproven, prove},
    report::{Diagnosis, PodReport},
    status::{Aim, End, Stand, judge},
    watch::Watch,
};
use crate::cluster::Cluster;
use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Lines of a log that are fetched for a diagnosis.
const LOG_LINES: i64 = 20;
/// How long fetching a log may hold up the verdict.
const LOG_TIME: Duration = Duration::from_secs(3);
/// Pods that were started again must stay ready for this long at least: a kubelet's first back-off. What
/// fails again and again, as behind a probe, is ready in between.
const AFTER_RESTART: Duration = Duration::from_secs(10);
/// For how long an old pod must be hopeless before it is taken out of the way.
const BLOCKER_GRACE: Duration = Duration::from_secs(3);

/// What a rollout is waited for with.
pub struct Drive<'d> {
    /// The cluster.
    pub cluster: &'d Cluster,
    /// What it goes for.
    pub aim: &'d Aim,
    /// What the pods should run.
    pub expected: &'d Expected,
    /// How long it may take.
    pub timeout: Duration,
    /// How long pods must stay ready.
    pub settle: Duration,
    /// Whether it is the way back from a rollout that failed.
    pub goes_back: bool,
    /// What is waited out.
    pub tolerate: &'d BTreeSet<Code>,
    /// Cancelled when the lock is gone.
    pub lost: &'d CancellationToken,
    /// Cancelled when the user wants no more of it.
    pub cancel: &'d CancellationToken,
    /// Who hears of the progress.
    pub progress: &'d (dyn Fn(Progress<'_>) + Send + Sync),
}

impl Drive<'_> {
    /// How long `pods` must stay ready. Those that come back on the way back may have been started
    /// again long ago.
    fn settle_of(&self, pods: &[PodReport]) -> Duration {
        let again = !self.goes_back && pods.iter().any(|pod| pod.restarts > 0);
        if again && !self.settle.is_zero() { self.settle.max(AFTER_RESTART) } else { self.settle }
    }
}

/// How far it is, told when it changes.
#[derive(Clone, Debug)]
pub enum Progress<'p> {
    /// Something stands in the way.
    Diagnosed(&'p Diagnosis),
    /// A pod was taken out of the way.
    Removed {
        /// Its name.
        pod: &'p str,
    },
    /// Pods of the new revision that are ready, of those wanted, and what is waited for.
    Waiting {
        /// Ready pods.
        ready: i64,
        /// Wanted pods.
        wanted: i64,
        /// What is waited for.
        message: &'p str,
    },
}

/// How it ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Every pod is proven, and stayed so.
    Done {
        /// The pods.
        pods: Vec<PodReport>,
        /// What was left as it was, by the workload's settings.
        partial: Option<String>,
        /// From the change to the proof, and from there to here.
        waited: Duration,
        /// See `waited`.
        settled: Duration,
    },
    /// Waiting would not help.
    Failed {
        /// Why, the gravest first.
        diagnoses: Vec<Diagnosis>,
        /// From when it was seen to here.
        seen_for: Duration,
    },
    /// The user wants no more of it.
    Interrupted,
    /// The lock is gone.
    LockLost,
    /// Something else was done to the workload.
    Over(End, Vec<Diagnosis>),
    /// The time is up.
    TimedOut {
        /// What was waited for.
        message: String,
        /// What stands in the way.
        diagnoses: Vec<Diagnosis>,
    },
}

/// Waits for the rollout to end.
pub async fn drive(watch: &mut Watch, drive: &Drive<'_>) -> Verdict {
    let began = Instant::now();
    let deadline = began + drive.timeout;
    let mut standing: HashMap<(Code, Option<String>), Instant> = HashMap::new();
    let mut stable: Option<(Vec<(String, i32)>, Instant)> = None;
    let mut told = None;
    let mut blocked: Option<Instant> = None;
    loop {
        let now = Instant::now();
        let mut wake = deadline;
        let observed = watch.observed();
        let found = diagnose(observed, drive.aim);
        let mut message = String::new();
        match judge(observed, drive.aim, now - began) {
            Stand::Over(End::DeadlineExceeded(words)) => {
                let diagnoses = with_logs(drive.cluster, plain(found)).await;
                return Verdict::Over(End::DeadlineExceeded(words), diagnoses);
            }
            Stand::Over(end) => return Verdict::Over(end, plain(found)),
            Stand::Waiting { ready, wanted, message: words } => {
                stable = None;
                let now_told = (ready, wanted, words.clone());
                if told.as_ref() != Some(&now_told) {
                    (drive.progress)(Progress::Waiting { ready, wanted, message: &words });
                    told = Some(now_told);
                }
                message = words;
            }
            Stand::Done { partial: Some(partial) } if nothing_to_wait_for(observed) => {
                let pods = Vec::new();
                let (waited, settled) = (now - began, Duration::ZERO);
                return Verdict::Done { pods, partial: Some(partial), waited, settled };
            }
            Stand::Done { partial } => match prove(observed, drive.expected) {
                Err(Unproven::Wrong(diagnosis)) => {
                    return Verdict::Failed {
                        diagnoses: vec![*diagnosis],
                        seen_for: Duration::ZERO,
                    };
                }
                Err(Unproven::NotYet(words)) => {
                    stable = None;
                    message = words;
                }
                Ok(pods) => {
                    let state: Vec<(String, i32)> =
                        pods.iter().map(|pod| (pod.uid.clone(), pod.restarts)).collect();
                    let count = i64::try_from(pods.len()).unwrap_or(i64::MAX);
                    if stable.as_ref().is_none_or(|(before, _)| *before != state) {
                        stable = Some((state, now));
                        let message = "for them to stay so";
                        (drive.progress)(Progress::Waiting {
                            ready: count,
                            wanted: count,
                            message,
                        });
                    }
                    let since = stable.as_ref().map_or(now, |(_, since)| *since);
                    let settled = now - since;
                    let settle = drive.settle_of(&pods);
                    if settled >= settle || pods.is_empty() {
                        return Verdict::Done { pods, partial, waited: since - began, settled };
                    }
                    wake = wake.min(since + settle);
                    "for the pods to stay ready".clone_into(&mut message);
                }
            },
        }

        // What stands in the way, and for how long.
        standing.retain(|key, _| found.iter().any(|one| key_of(one) == *key));
        let mut verdict = None;
        for one in &found {
            let key = key_of(one);
            let since = *standing.entry(key).or_insert_with(|| {
                (drive.progress)(Progress::Diagnosed(&one.diagnosis));
                now
            });
            if one.diagnosis.fatal && !drive.tolerate.contains(&one.diagnosis.code) {
                if now - since >= one.grace {
                    verdict = Some(now - since);
                    break;
                }
                wake = wake.min(since + one.grace);
            }
        }
        if let Some(seen_for) = verdict {
            // Pods may be seen before what was done to their workload: it is looked at once more.
            if let Some(name) = watch.observed().workload.as_ref().map(|one| one.name.clone())
                && let Ok(workload) = api::read(drive.cluster, &name).await
            {
                watch.changed(workload);
                if let Stand::Over(end) = judge(watch.observed(), drive.aim, now - began) {
                    return Verdict::Over(end, plain(found));
                }
            }
            let diagnoses = with_logs(drive.cluster, plain(found)).await;
            return Verdict::Failed { diagnoses, seen_for };
        }
        if now >= deadline {
            let diagnoses = with_logs(drive.cluster, plain(found)).await;
            let message = match watch.trouble() {
                Some(trouble) => format!("the API server does not answer: {}", trouble.words),
                None => message,
            };
            return Verdict::TimedOut { message, diagnoses };
        }

        // A StatefulSet in order waits for its old pods; those that no waiting helps go first.
        let blockers: Vec<(String, String)> = hopeless_blockers(observed, drive.goes_back)
            .into_iter()
            .map(|pod| (pod.name.clone(), pod.uid.clone()))
            .collect();
        if blockers.is_empty() {
            blocked = None;
        } else {
            let since = *blocked.get_or_insert(now);
            if now - since >= BLOCKER_GRACE {
                for (pod, uid) in blockers {
                    match api::delete_pod(drive.cluster, &pod, &uid).await {
                        Ok(()) => (drive.progress)(Progress::Removed { pod: &pod }),
                        Err(error) => tracing::debug!(%error, "a blocking pod stays"),
                    }
                }
                blocked = None;
                wake = wake.min(now + BLOCKER_GRACE);
            } else {
                wake = wake.min(since + BLOCKER_GRACE);
            }
        }

        tokio::select! {
            () = watch.next() => {}
            () = sleep_until(wake) => {}
            () = drive.cancel.cancelled() => return Verdict::Interrupted,
            () = drive.lost.cancelled() => return Verdict::LockLost,
        }
    }
}

/// Whether the controller does nothing by itself, so that no pod comes that could be proven.
fn nothing_to_wait_for(observed: &Observed) -> bool {
    use super::workload::Strategy;
    observed
        .workload
        .as_ref()
        .is_some_and(|workload| matches!(workload.strategy, Strategy::OnDelete | Strategy::None))
}

fn key_of(one: &Diagnosed) -> (Code, Option<String>) {
    (one.diagnosis.code, one.diagnosis.container.clone())
}

fn plain(found: Vec<Diagnosed>) -> Vec<Diagnosis> {
    found.into_iter().map(|one| one.diagnosis).collect()
}

/// The diagnoses with what the containers wrote last, where they came to write anything.
async fn with_logs(cluster: &Cluster, mut diagnoses: Vec<Diagnosis>) -> Vec<Diagnosis> {
    for diagnosis in &mut diagnoses {
        let wrote = matches!(
            diagnosis.code,
            Code::CrashLoop
                | Code::InitFailed
                | Code::NotStarted
                | Code::OomKilled
                | Code::ProbeFailing
        );
        let (Some(container), Some(pod)) = (diagnosis.container.clone(), diagnosis.pods.first())
        else {
            continue;
        };
        if !wrote {
            continue;
        }
        let pod = pod.clone();
        let fetch = async {
            // A container that runs tells why it is not ready; one that ended, why it ended.
            let before = diagnosis.exit_code.is_some();
            match api::last_lines(cluster, &pod, &container, before, LOG_LINES).await {
                Some(lines) if !lines.is_empty() => Some(lines),
                _ => api::last_lines(cluster, &pod, &container, !before, LOG_LINES).await,
            }
        };
        if let Ok(Some(lines)) = tokio::time::timeout(LOG_TIME, fetch).await {
            refine(diagnosis, lines);
        }
    }
    diagnoses
}
