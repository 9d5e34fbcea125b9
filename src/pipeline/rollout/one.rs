//! One workload's rollout, its lock held.

use super::{RolloutInputs, back, steps::Step};
use crate::{
    event::{Event, Warning},
    rollout::{
        Request,
        api::{self, ApiError},
        drive::{Drive, Verdict, drive},
        patch::{Chosen, NewImage, Remarks, choose, has, patch},
        preflight::{cause, refused_change},
        proof::{self, Expected},
        report::{Outcome, WorkloadReport},
        request::{DEFAULT_SETTLE, OnFailure},
        status::{Aim, End},
        watch::Watch,
        way_back::{WayBack, way_back},
        workload::{Workload, WorkloadName},
    },
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// How long the first look at everything may take.
const FIRST_LOOK: Duration = Duration::from_secs(30);
/// How long it is held back then.
const PAUSE: Duration = Duration::from_millis(100);
/// How often a change is made anew because another came in between.
const ATTEMPTS: usize = 8;

/// One workload's rollout.
pub(super) struct One<'o> {
    pub(super) request: &'o Request,
    pub(super) inputs: &'o RolloutInputs,
    pub(super) name: &'o WorkloadName,
    pub(super) lost: &'o CancellationToken,
}

/// A change that was made, or that was not needed.
pub(super) struct Change {
    pub(super) aim: Aim,
    pub(super) chosen: Vec<Chosen>,
    pub(super) workload: Workload,
    pub(super) is_made: bool,
}

impl One<'_> {
    /// Does it. What goes wrong is in the report.
    pub(super) async fn run(&self) -> WorkloadReport {
        let step = Step::begin(&self.inputs.events, format!("[rollout] {}", self.name));
        let image = self.request.image.to_string();
        let namespace = &self.inputs.cluster.namespace;
        let mut report = WorkloadReport::new(self.name.clone(), namespace, &image);
        let way = self.forward(&mut report, &step).await;
        step.end(
            (!report.outcome.is_ok())
                .then(|| {
                    let words = report.cause().map(|diagnosis| diagnosis.message.as_str());
                    words.or(report.message.as_deref()).unwrap_or("failed").to_owned()
                })
                .as_deref(),
        );
        // What another has set, deleted or locked meanwhile is not ours to undo.
        let is_ours = matches!(report.outcome, Outcome::Failed | Outcome::TimedOut);
        if let Some(way) = way
            && is_ours
            && self.request.on_failure == OnFailure::Rollback
        {
            let began = Instant::now();
            report.rollback = Some(back::go(self, way).await.0);
            report.timings.rollback = Some(began.elapsed());
        }
        report
    }

    /// The way there. The way back is returned where something was changed or waited for.
    async fn forward(&self, report: &mut WorkloadReport, step: &Step) -> Option<Option<WayBack>> {
        let cluster = &self.inputs.cluster;
        let workload = match api::read(cluster, self.name).await {
            Ok(workload) => workload,
            Err(error) => {
                lose(report, &error);
                return None;
            }
        };
        let mut watch = Watch::begin(cluster, self.name, &workload.selector);
        if let Err(words) = self.first_look(&mut watch).await {
            report.outcome = if self.inputs.cancel.is_cancelled() {
                Outcome::Interrupted
            } else {
                Outcome::Lost
            };
            report.message = Some(words);
            return None;
        }
        let before = watch.observed().clone();
        let change = match self.change().await {
            Ok(change) => change,
            Err(Unchanged::Api(error)) => {
                lose(report, &error);
                return None;
            }
            Err(Unchanged::Refused(words)) => {
                report.outcome = Outcome::Failed;
                report.message = Some(words);
                return None;
            }
            Err(Unchanged::Cancelled) => {
                report.outcome = Outcome::Interrupted;
                return None;
            }
        };
        let way = way_back(&before, &change.chosen);
        report.containers = change.chosen.iter().map(|one| one.name.clone()).collect();
        report.previous_image = change.chosen.first().map(|one| one.image.clone());
        if change.is_made {
            step.line(&format!("set to {}", self.request.image));
            watch.changed(change.workload.clone());
        } else {
            step.line(&format!("has {} already", self.request.image));
        }
        if !self.name.kind.rolls() {
            report.outcome = if change.is_made { Outcome::Set } else { Outcome::Unchanged };
            return None;
        }
        let digests = || {
            let manifests = self.request.image.manifests.iter();
            let mut digests = vec![self.request.image.digest.clone()];
            digests.extend(manifests.map(|manifest| manifest.digest.clone()));
            digests
        };
        let expected: Expected =
            change.chosen.iter().map(|one| (one.name.clone(), digests())).collect();
        let settle = self.settle(&change.workload, change.is_made);
        let verdict = self.wait(&mut watch, &change.aim, &expected, settle, (step, false)).await;
        let observed = watch.observed();
        let container = change.chosen.first().map(|one| one.name.as_str());
        report.revision = proof::revision(observed, api::revision_kind(self.name.kind));
        report.pods = proof::pods(observed, container);
        settle_report(report, verdict, change.is_made);
        if report.outcome == Outcome::Set {
            let message = report.message.clone().unwrap_or_default();
            self.inputs.events.emit(Event::Warning(Warning {
                code: "NOT_WAITED_FOR",
                message: format!("{} has the image, and {message}", self.name),
                hint: Some("delete its pods when it suits you".to_owned()),
            }));
        }
        Some(way)
    }

    /// How long pods must stay ready. Pods that were there before have proven it already.
    fn settle(&self, workload: &Workload, is_made: bool) -> Duration {
        match self.request.settle {
            Some(settle) => settle,
            None if !is_made || workload.min_ready_seconds > 0 => Duration::ZERO,
            None => DEFAULT_SETTLE,
        }
    }

    /// Waits for the verdict.
    pub(super) async fn wait(
        &self,
        watch: &mut Watch,
        aim: &Aim,
        expected: &Expected,
        settle: Duration,
        (step, goes_back): (&Step, bool),
    ) -> Verdict {
        let progress = |progress: crate::rollout::drive::Progress<'_>| step.progress(&progress);
        let waiting = Drive {
            cluster: &self.inputs.cluster,
            aim,
            expected,
            timeout: self.request.timeout,
            settle,
            goes_back,
            tolerate: &self.request.tolerate,
            lost: self.lost,
            cancel: &self.inputs.cancel,
            progress: &progress,
        };
        drive(watch, &waiting).await
    }

    /// Waits until everything was seen once.
    pub(super) async fn first_look(&self, watch: &mut Watch) -> Result<(), String> {
        let deadline = tokio::time::Instant::now() + FIRST_LOOK;
        while !watch.is_complete() {
            if let Some(trouble) = watch.trouble().filter(|trouble| trouble.forbidden) {
                return Err(format!("we may not watch {}: {}", self.name, trouble.words));
            }
            tokio::select! {
                () = watch.next() => {}
                () = tokio::time::sleep_until(deadline) => {
                    let words = watch.trouble().map(|trouble| trouble.words.clone());
                    let words = words.unwrap_or_else(|| "nothing was said".to_owned());
                    return Err(format!("the API server does not tell of {}: {words}", self.name));
                }
                () = self.inputs.cancel.cancelled() => return Err("interrupted".to_owned()),
            }
        }
        Ok(())
    }

    /// Sets the image, where it is not set.
    async fn change(&self) -> Result<Change, Unchanged> {
        let image = &self.request.image;
        let pick = |workload: &Workload| {
            choose(workload, self.request.container.as_deref(), &image.repository)
                .map_err(|error| Unchanged::Refused(error.to_string()))
        };
        let new = |chosen: &[Chosen]| -> Vec<NewImage> {
            chosen
                .iter()
                .filter(|one| !has(one, image))
                .map(|one| NewImage { container: one.clone(), image: image.to_string() })
                .collect()
        };
        let remarks = Remarks { provenance: &self.request.provenance, cause: cause(image) };
        self.set(pick, new, &remarks).await
    }

    /// Makes a change of what holds now: one that comes in between is a conflict, and is looked at.
    pub(super) async fn set(
        &self,
        pick: impl Fn(&Workload) -> Result<Vec<Chosen>, Unchanged>,
        new: impl Fn(&[Chosen]) -> Vec<NewImage>,
        remarks: &Remarks<'_>,
    ) -> Result<Change, Unchanged> {
        let cluster = &self.inputs.cluster;
        let mut attempt = 0;
        loop {
            attempt += 1;
            if self.inputs.cancel.is_cancelled() {
                return Err(Unchanged::Cancelled);
            }
            let workload = api::read(cluster, self.name).await.map_err(Unchanged::Api)?;
            let chosen = pick(&workload)?;
            let images = new(&chosen);
            let mut aimed: BTreeMap<String, String> =
                chosen.iter().map(|one| (one.name.clone(), one.image.clone())).collect();
            if images.is_empty() {
                let aim = aim(&workload, aimed, None);
                return Ok(Change { aim, chosen, workload, is_made: false });
            }
            aimed.extend(images.iter().map(|new| (new.container.name.clone(), new.image.clone())));
            let body = patch(&workload, &images, remarks);
            match api::change(cluster, self.name, &body, false).await {
                Ok(changed) => {
                    let aim = aim(&changed.workload, aimed, changed.at);
                    return Ok(Change { aim, chosen, workload: changed.workload, is_made: true });
                }
                Err(error) if error.is_conflict() && attempt < ATTEMPTS => {
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error @ (ApiError::Unreachable { .. } | ApiError::Malformed(_))) => {
                    return Err(Unchanged::Api(error));
                }
                Err(error) => {
                    let refusal = refused_change(self.name, &error);
                    let cause = refusal.cause.unwrap_or_default();
                    return Err(Unchanged::Refused(format!("{}: {cause}", refusal.message)));
                }
            }
        }
    }
}

/// Why nothing was changed.
pub(super) enum Unchanged {
    Api(ApiError),
    Cancelled,
    Refused(String),
}

fn aim(
    workload: &Workload,
    images: BTreeMap<String, String>,
    since: Option<jiff::Timestamp>,
) -> Aim {
    Aim {
        uid: workload.uid.clone(),
        generation: workload.generation,
        images,
        stale: workload.progressing.clone(),
        since,
    }
}

fn lose(report: &mut WorkloadReport, error: &ApiError) {
    report.outcome = if error.is_not_found() { Outcome::Deleted } else { Outcome::Lost };
    report.message = Some(error.to_string());
}

/// Puts the verdict into the report.
fn settle_report(report: &mut WorkloadReport, verdict: Verdict, is_made: bool) {
    match verdict {
        Verdict::Done { pods, partial, waited, settled } => {
            let is_left = partial.is_some() && pods.is_empty();
            report.outcome = match (is_left, is_made) {
                (true, true) => Outcome::Set,
                (_, false) => Outcome::Unchanged,
                (false, true) => Outcome::RolledOut,
            };
            report.message = partial;
            report.pods = pods;
            report.timings.wait = Some(waited);
            report.timings.settle = Some(settled);
        }
        Verdict::Failed { diagnoses, seen_for } => {
            report.outcome = Outcome::Failed;
            report.diagnoses = diagnoses;
            report.timings.diagnosis = Some(seen_for);
        }
        Verdict::Interrupted => report.outcome = Outcome::Interrupted,
        Verdict::LockLost => {
            report.outcome = Outcome::LockLost;
            report.message = Some("another deploy took the lock away".to_owned());
        }
        Verdict::Over(end, diagnoses) => {
            report.diagnoses = diagnoses;
            let (outcome, words) = ended(end);
            report.outcome = outcome;
            report.message = Some(words);
        }
        Verdict::TimedOut { message, diagnoses } => {
            report.outcome = Outcome::TimedOut;
            report.diagnoses = diagnoses;
            report.message = Some(format!("the time was up while it waited: {message}"));
        }
    }
}

/// What ended it, and its words.
pub(super) fn ended(end: End) -> (Outcome, String) {
    match end {
        End::DeadlineExceeded(words) => {
            (Outcome::TimedOut, format!("its controller gave it up: {words}"))
        }
        End::Deleted => (Outcome::Deleted, "it was deleted meanwhile".to_owned()),
        End::Replaced => (Outcome::Deleted, "it was deleted and made anew meanwhile".to_owned()),
        End::Superseded { container, image, by } => {
            let by = by.unwrap_or_else(|| "somebody".to_owned());
            (
                Outcome::Superseded,
                format!("`{by}` set the container `{container}` to {image} meanwhile"),
            )
        }
    }
}
