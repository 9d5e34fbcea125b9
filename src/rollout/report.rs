//! What a rollout did, for people, scripts and the stages that follow. Serialisable; what is not
//! known is null.

use super::{code::Code, workload::WorkloadName};
use serde::{Serialize, Serializer};
use std::time::Duration;

/// What a rollout did: the `result` of the command line's JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RolloutReport {
    /// The image as it was set: `repository@digest`.
    pub image: String,
    /// Its digest.
    pub digest: String,
    /// The kubeconfig's context.
    pub context: Option<String>,
    /// The namespace of all workloads.
    pub namespace: String,
    /// What became of each workload, in the order that was asked for.
    pub workloads: Vec<WorkloadReport>,
    /// Milliseconds in all.
    #[serde(rename = "total_ms", serialize_with = "milliseconds")]
    pub total: Duration,
}

impl RolloutReport {
    /// Whether every workload does what was asked.
    pub fn is_ok(&self) -> bool {
        self.workloads.iter().all(|workload| workload.outcome.is_ok())
    }
}

/// What became of a workload.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WorkloadReport {
    /// `KIND/NAME`.
    pub workload: WorkloadName,
    /// Its namespace.
    pub namespace: String,
    /// The containers whose image was set.
    pub containers: Vec<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// The image that the template had before; null where it was not read.
    pub previous_image: Option<String>,
    /// The image that was set.
    pub image: String,
    /// The revision that carries it.
    pub revision: Option<RevisionReport>,
    /// The pods of that revision.
    pub pods: Vec<PodReport>,
    /// What stood in the way, the gravest first.
    pub diagnoses: Vec<Diagnosis>,
    /// What failed where no diagnosis says it, in a sentence without a full stop.
    pub message: Option<String>,
    /// The way back, where it was gone.
    pub rollback: Option<RollbackReport>,
    /// How long what took.
    #[serde(rename = "timings_ms")]
    pub timings: Timings,
}

impl WorkloadReport {
    /// A report of nothing yet.
    pub fn new(workload: WorkloadName, namespace: &str, image: &str) -> Self {
        Self {
            workload,
            namespace: namespace.to_owned(),
            containers: Vec::new(),
            outcome: Outcome::Untouched,
            previous_image: None,
            image: image.to_owned(),
            revision: None,
            pods: Vec::new(),
            diagnoses: Vec::new(),
            message: None,
            rollback: None,
            timings: Timings::default(),
        }
    }

    /// The diagnosis that says why it failed. None where something that was done to the workload or
    /// to its lock ended it: what was seen of pods at that moment is not why.
    pub fn cause(&self) -> Option<&Diagnosis> {
        let by_its_pods = matches!(self.outcome, Outcome::Failed | Outcome::TimedOut);
        self.diagnoses.first().filter(|_| by_its_pods)
    }
}

/// How a workload's rollout ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// It was deleted, or made anew, in the middle of it.
    Deleted,
    /// Something stands in the way, and waiting would not help.
    Failed,
    /// Ended by whoever started it; the cluster goes on with it.
    Interrupted,
    /// The lock was taken from us, or could not be kept.
    LockLost,
    /// The cluster was not reached any more.
    Lost,
    /// Every pod runs it and was seen to be ready.
    RolledOut,
    /// It was set; the kind or its strategy starts no pods by itself.
    Set,
    /// Another change of the image came in the middle of it.
    Superseded,
    /// The time was up.
    TimedOut,
    /// It ran already.
    Unchanged,
    /// Nothing was done: an earlier one failed.
    Untouched,
}

impl Outcome {
    /// Whether it is what was asked for.
    pub const fn is_ok(self) -> bool {
        matches!(self, Self::RolledOut | Self::Set | Self::Unchanged)
    }
}

/// A revision.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct RevisionReport {
    /// `ReplicaSet` or `ControllerRevision`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Its identity.
    pub uid: String,
    /// Its number.
    pub number: i64,
}

/// A pod of the revision.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct PodReport {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub uid: String,
    /// Its node.
    pub node: Option<String>,
    /// The digest that the runtime says it runs.
    pub image_id: Option<String>,
    /// When the node took it, as the API says it.
    pub started_at: Option<String>,
    /// Whether it is ready.
    pub ready: bool,
    /// How often its containers were started again.
    pub restarts: i32,
}

/// Something that stands in the way.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Diagnosis {
    /// What it is.
    pub code: Code,
    /// The same in a sentence, without a full stop.
    pub message: String,
    /// Whether waiting would not help.
    pub fatal: bool,
    /// The container that it is about.
    pub container: Option<String>,
    /// Some of the pods that it is about.
    pub pods: Vec<String>,
    /// How many pods it is about.
    pub pod_count: usize,
    /// The node of the first of them.
    pub node: Option<String>,
    /// The cluster's own words.
    pub evidence: Vec<String>,
    /// What the process exited with.
    pub exit_code: Option<i32>,
    /// The signal that killed it.
    pub signal: Option<i32>,
    /// The last lines of the container that ended.
    pub log: Vec<String>,
    /// What to do about it.
    pub fix: String,
}

/// The way back.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RollbackReport {
    /// How it ended.
    pub outcome: RollbackOutcome,
    /// The image that ran before; null where none did.
    pub image: Option<String>,
    /// The revision that carries it now.
    pub revision: Option<RevisionReport>,
    /// The pods of that revision.
    pub pods: Vec<PodReport>,
    /// What is not as it was before, each in a sentence.
    pub not_restored: Vec<String>,
    /// Why it failed, in a sentence.
    pub message: Option<String>,
    /// What stood in the way.
    pub diagnoses: Vec<Diagnosis>,
}

/// How the way back ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RollbackOutcome {
    /// It was tried and did not come about.
    Failed,
    /// There is nothing to go back to: no pod ran before.
    Nothing,
    /// Every pod runs the image before, and was seen to be ready.
    Verified,
}

/// How long what took.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Timings {
    /// Looking whether it can be done.
    #[serde(serialize_with = "maybe_milliseconds")]
    pub preflight: Option<Duration>,
    /// Waiting for another deploy's lock.
    #[serde(serialize_with = "maybe_milliseconds")]
    pub lock: Option<Duration>,
    /// From the change to the last pod, or to the verdict.
    #[serde(serialize_with = "maybe_milliseconds")]
    pub wait: Option<Duration>,
    /// From the cluster's report of what stands in the way to the verdict.
    #[serde(serialize_with = "maybe_milliseconds")]
    pub diagnosis: Option<Duration>,
    /// Watching that it stays so.
    #[serde(serialize_with = "maybe_milliseconds")]
    pub settle: Option<Duration>,
    /// Going back.
    #[serde(serialize_with = "maybe_milliseconds")]
    pub rollback: Option<Duration>,
}

fn milliseconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

#[expect(clippy::ref_option, reason = "serde hands fields over as references")]
fn maybe_milliseconds<S: Serializer>(
    time: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => milliseconds(time, serializer),
        None => serializer.serialize_none(),
    }
}
