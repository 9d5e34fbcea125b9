//! The way back: to the image that ran before, waited for and verified like a rollout.

use super::{
    RolloutInputs, finished, locks,
    one::{One, Unchanged, ended},
    steps::Step,
};
use crate::{
    pipeline::rollout::RolloutFailure,
    rollout::{
        RolloutReport,
        api::{self, ApiError},
        drive::Verdict,
        observed::template_digest,
        patch::{Chosen, NewImage, Remarks, containers_named, recorded},
        proof::{self, Expected},
        report::{Outcome, RollbackOutcome, RollbackReport, WorkloadReport},
        request::{OnFailure, PinnedImage, Provenance, Request},
        watch::Watch,
        way_back::WayBack,
        workload::{Workload, WorkloadName},
    },
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// Goes back, and says how it ended; also as a rollout of the image before, which it is.
pub(super) async fn go(one: &One<'_>, way: Option<WayBack>) -> (RollbackReport, Outcome) {
    let mut report = RollbackReport {
        outcome: RollbackOutcome::Nothing,
        image: None,
        revision: None,
        pods: Vec::new(),
        not_restored: Vec::new(),
        message: None,
        diagnoses: Vec::new(),
    };
    let Some(way) = way else {
        let words = "no pod ran before, so there is nothing to go back to";
        report.message = Some(words.to_owned());
        return (report, Outcome::Failed);
    };
    let step = Step::begin(&one.inputs.events, format!("[rollback] {}", one.name));
    report.outcome = RollbackOutcome::Failed;
    report.image = way.images.values().next().cloned();
    report.not_restored.clone_from(&way.remarks);
    let turned = turn(one, &way, &mut report, &step).await;
    let outcome = turned.map_or_else(
        |missed| {
            report.message = Some(missed.words);
            missed.outcome
        },
        |()| Outcome::RolledOut,
    );
    let is_well = report.outcome == RollbackOutcome::Verified;
    step.end((!is_well).then(|| report.message.as_deref().unwrap_or("failed")));
    (report, outcome)
}

/// Why a way back did not come about.
struct Missed {
    outcome: Outcome,
    words: String,
}

impl From<String> for Missed {
    fn from(words: String) -> Self {
        Self { outcome: Outcome::Failed, words }
    }
}

async fn turn(
    one: &One<'_>,
    way: &WayBack,
    report: &mut RollbackReport,
    step: &Step,
) -> Result<(), Missed> {
    let cluster = &one.inputs.cluster;
    let failed = api::read(cluster, one.name).await.map_err(|error| error.to_string())?;
    let mut watch = Watch::begin(cluster, one.name, &failed.selector);
    one.first_look(&mut watch).await?;
    let cause = format!(
        "bk-sync rollback to {}",
        way.images.values().next().map(String::as_str).unwrap_or_default()
    );
    let remarks = Remarks { provenance: &Provenance::default(), cause };
    let pick = |workload: &Workload| Ok(containers_named(workload, &way.images));
    let new = |chosen: &[Chosen]| restoring(chosen, &way.images);
    let change = one.set(pick, new, &remarks).await.map_err(|unchanged| match unchanged {
        Unchanged::Api(error) => error.to_string(),
        Unchanged::Cancelled => "interrupted".to_owned(),
        Unchanged::Refused(words) => words,
    })?;
    let missing: Vec<&str> = way
        .images
        .keys()
        .filter(|name| !change.chosen.iter().any(|one| one.name == **name))
        .map(String::as_str)
        .collect();
    if !missing.is_empty() {
        let words = format!("the containers {} are gone from the template", missing.join(", "));
        report.not_restored.push(words);
    }
    step.line(&format!("set to {}", report.image.as_deref().unwrap_or_default()));
    if change.is_made {
        watch.changed(change.workload.clone());
    }
    if change.workload.paused {
        return Err(format!("{} is paused: the image is set, and starts nothing", one.name).into());
    }
    let settle = one.request.settle.unwrap_or(Duration::from_secs(1));
    let verdict = one.wait(&mut watch, &change.aim, &way.expected, settle, (step, true)).await;
    let observed = watch.observed();
    let container = way.images.keys().next().map(String::as_str);
    report.revision = proof::revision(observed, api::revision_kind(one.name.kind));
    report.pods = proof::pods(observed, container);
    if let Some(workload) = &observed.workload
        && template_digest(&workload.template) != template_digest(&change.workload.template)
    {
        report.not_restored.push("the pod template was changed by others meanwhile".to_owned());
    }
    match verdict {
        Verdict::Done { pods, partial, .. } => {
            report.outcome = RollbackOutcome::Verified;
            report.pods = pods;
            report.not_restored.extend(partial);
            Ok(())
        }
        Verdict::Failed { diagnoses, .. } => {
            let words = diagnoses.first().map(|one| one.message.clone()).unwrap_or_default();
            report.diagnoses = diagnoses;
            Err(words.into())
        }
        Verdict::Interrupted => Err("interrupted".to_owned().into()),
        Verdict::LockLost => Err(Missed {
            outcome: Outcome::LockLost,
            words: "another deploy took the lock away".to_owned(),
        }),
        Verdict::Over(end, diagnoses) => {
            report.diagnoses = diagnoses;
            let (outcome, words) = ended(end);
            Err(Missed { outcome, words })
        }
        Verdict::TimedOut { message, diagnoses } => {
            report.diagnoses = diagnoses;
            let words = format!("the time was up while it waited: {message}");
            Err(Missed { outcome: Outcome::TimedOut, words })
        }
    }
}

fn restoring(chosen: &[Chosen], images: &BTreeMap<String, String>) -> Vec<NewImage> {
    chosen
        .iter()
        .filter_map(|one| {
            let image = images.get(&one.name).filter(|image| **image != one.image)?;
            Some(NewImage { container: one.clone(), image: image.clone() })
        })
        .collect()
}

/// What `bk-sync rollback` is asked to do: the workload and how it is waited for. The image of
/// `request` is not looked at.
///
/// # Errors
/// See [`RolloutFailure`]: [`RolloutFailure::Refused`] where nothing is recorded.
pub async fn rollback(
    name: &WorkloadName,
    waiting: &Waiting,
    inputs: RolloutInputs,
) -> Result<RolloutReport, RolloutFailure> {
    let began = Instant::now();
    let workload = api::read(&inputs.cluster, name).await.map_err(|error| missing(name, error))?;
    let record = recorded(&workload);
    let Some((container, image)) = record.first().cloned() else {
        return Err(RolloutFailure::Refused(vec![crate::rollout::preflight::Refusal {
            code: "NOTHING_RECORDED",
            message: format!("{name} has no record of a rollout by bk-sync to go back from"),
            cause: None,
            fix: format!("roll out an image by its digest: `bk-sync rollout {name} --image …`"),
        }]));
    };
    let mut expected = Expected::new();
    for (container, image) in &record {
        let digest = PinnedImage::parse(image).map(|image| image.digest);
        expected.insert(container.clone(), digest.into_iter().collect());
    }
    let way = WayBack { images: record.into_iter().collect(), expected, remarks: Vec::new() };
    // The request carries how to wait; its image only names what the report is about.
    let pinned = PinnedImage::parse(&image).unwrap_or_else(|_| PinnedImage {
        repository: image.clone(),
        digest: String::new(),
        tag: None,
        manifests: Vec::new(),
    });
    let request = Request {
        container: Some(container),
        timeout: waiting.timeout,
        on_failure: OnFailure::Keep,
        settle: waiting.settle,
        lock_wait: waiting.lock_wait,
        lock_takeover: waiting.lock_takeover,
        ..Request::new(vec![name.clone()], pinned)
    };
    let locks = locks(&request, &inputs).await?;
    let lost = locks.first().map_or_else(CancellationToken::new, |(_, lock)| lock.lost().clone());
    let one = One { request: &request, inputs: &inputs, name, lost: &lost };
    let mut report = WorkloadReport::new(name.clone(), &inputs.cluster.namespace, &image);
    report.containers = way.images.keys().cloned().collect();
    report.previous_image =
        report.containers.first().and_then(|name| workload.image(name)).map(str::to_owned);
    let (went, outcome) = go(&one, Some(way)).await;
    futures::future::join_all(locks.into_iter().map(|(_, lock)| lock.release())).await;
    report.outcome = match went.outcome {
        RollbackOutcome::Verified if report.previous_image.as_ref() == Some(&image) => {
            Outcome::Unchanged
        }
        RollbackOutcome::Verified => Outcome::RolledOut,
        _ if inputs.cancel.is_cancelled() => Outcome::Interrupted,
        _ => outcome,
    };
    report.revision.clone_from(&went.revision);
    report.pods.clone_from(&went.pods);
    report.diagnoses.clone_from(&went.diagnoses);
    report.message.clone_from(&went.message);
    finished(&request, &inputs, vec![report], began.elapsed())
}

/// How a rollback is waited for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Waiting {
    /// How long it may take.
    pub timeout: Duration,
    /// How long pods must stay ready.
    pub settle: Option<Duration>,
    /// How long another deploy's lock is waited for.
    pub lock_wait: Duration,
    /// Whether another deploy's lock is taken away.
    pub lock_takeover: bool,
}

fn missing(name: &WorkloadName, error: ApiError) -> RolloutFailure {
    if error.is_not_found() {
        return RolloutFailure::Refused(vec![crate::rollout::preflight::Refusal {
            code: "WORKLOAD_NOT_FOUND",
            message: format!("there is no {name} in the namespace"),
            cause: Some(error.to_string()),
            fix: "name a workload and its namespace with `-n`".to_owned(),
        }]);
    }
    RolloutFailure::Api(error)
}
