//! The receipt of one deploy.

use super::BuildRecord;
use crate::plan::{GitFacts, Moment, SyncPlan, SyncStage};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// The form of receipts; raised when a reader of the old form would misread the new one.
const VERSION: u32 = 1;

/// What one deploy did, stage by stage. Written after each stage, so that a process that is killed
/// leaves the truth behind. It holds no secret.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Receipt {
    /// The form.
    pub version: u32,
    /// Unique, and sorted by time.
    pub id: String,
    /// Which bk-sync made it.
    pub tool: String,
    /// What it is filed under.
    pub project: String,
    /// Why the deploy was made.
    pub reason: String,
    /// How it ended.
    pub outcome: Outcome,
    /// When it began, as RFC 3339 has it.
    pub started: String,
    /// When it ended.
    pub ended: Option<String>,
    /// The receipt of the deploy that this one went on with.
    pub resumes: Option<String>,
    /// The commit.
    pub git: Option<GitFacts>,
    /// The Dockerfile.
    pub dockerfile: Option<FileDigest>,
    /// The digest of the graph's last op.
    pub llb_digest: Option<String>,
    /// How it was built; none where its files do not all come from the commit, or where the receipt
    /// is of a bk-sync that told it in another form.
    #[serde(default, deserialize_with = "in_this_form")]
    pub build: Option<BuildRecord>,
    /// The image.
    pub image: Option<ImageRecord>,
    /// What the registry answered.
    pub push: Option<Value>,
    /// What the cluster made of it.
    pub rollout: Option<RolloutRecord>,
    /// The checks after the rollout.
    pub checks: Vec<CheckRecord>,
    /// The hooks that ran.
    pub hooks: Vec<HookRecord>,
    /// The stages that ran.
    pub stages: BTreeMap<SyncStage, StageRecord>,
    /// What ended the deploy before its time.
    pub failure: Option<FailureRecord>,
    /// Whether the image before came back after the failure; null where nobody tried.
    pub rolled_back: Option<bool>,
}

/// How a deploy ended.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All that was asked for holds.
    Done,
    /// A stage failed.
    Failed,
    /// A signal ended it.
    Interrupted,
    /// It runs, or was killed.
    #[default]
    Running,
    /// There was nothing to do.
    Unchanged,
}

/// A file by its content.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct FileDigest {
    /// Its path, as the user gave it.
    pub path: String,
    /// `sha256:…` of its bytes.
    pub digest: String,
}

/// An image.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ImageRecord {
    /// `REPOSITORY@DIGEST`: what is deployed.
    pub reference: String,
    /// The digest of its manifest or index.
    pub digest: String,
    /// The digest of its config, where it is for one platform.
    pub config_digest: Option<String>,
    /// Its manifests, one for each platform.
    pub manifests: Vec<ManifestRecord>,
    /// Its names with their tags.
    pub tags: Vec<String>,
}

/// A platform's manifest.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ManifestRecord {
    /// Such as `linux/arm64`.
    pub platform: Option<String>,
    /// Its digest.
    pub digest: String,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// Its layers, the lowest first; empty where the builder does not show them.
    #[serde(default)]
    pub layers: Vec<LayerRecord>,
}

/// A layer.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct LayerRecord {
    /// Its digest.
    pub digest: String,
    /// Its size in bytes, as it travels.
    pub size: u64,
}

/// What a cluster made of an image.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct RolloutRecord {
    /// The kubeconfig context.
    pub context: Option<String>,
    /// The namespace.
    pub namespace: String,
    /// `KIND/NAME`.
    pub workload: String,
    /// The container.
    pub container: String,
    /// What ran before.
    pub previous_image: Option<String>,
    /// Whether anything was changed.
    pub changed: bool,
    /// What runs the image now.
    pub replica_set: Option<ReplicaSetRecord>,
    /// The pods that run it.
    pub pods: Vec<PodRecord>,
}

/// A ReplicaSet.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ReplicaSetRecord {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// A pod.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct PodRecord {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// The node that it runs on.
    pub node: Option<String>,
}

/// A check after the rollout.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct CheckRecord {
    /// What was checked.
    pub name: String,
    /// Whether it holds.
    pub ok: bool,
    /// What was found.
    pub finding: String,
    /// How long it took.
    pub ms: u64,
}

/// A hook that ran.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct HookRecord {
    /// Its stage.
    pub stage: SyncStage,
    /// Before or after it.
    pub when: Moment,
    /// The program.
    pub program: String,
    /// What it ended with; null where it was ended or never began.
    pub exit_code: Option<i32>,
    /// How long it took.
    pub ms: u64,
}

/// A stage that ran.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct StageRecord {
    /// How it stands.
    pub state: StageState,
    /// When it began.
    pub started: String,
    /// How long it took; null while it runs.
    pub ms: Option<u64>,
}

/// How a stage stands.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StageState {
    /// It did what it was asked.
    Done,
    /// It did not.
    Failed,
    /// It runs, or was killed.
    #[default]
    Running,
    /// An earlier deploy had done it.
    Skipped,
}

/// What ended a deploy before its time.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct FailureRecord {
    /// The stage.
    pub stage: SyncStage,
    /// The error's code.
    pub code: String,
    /// The error, in one line.
    pub message: String,
    /// What the process ended with.
    pub exit_code: u8,
}

/// A value in the form that is known here, else none: a receipt is read for the rest of it too.
fn in_this_form<'de, D: Deserializer<'de>>(from: D) -> Result<Option<BuildRecord>, D::Error> {
    let value = Option::<Value>::deserialize(from)?;
    Ok(value.and_then(|value| serde_json::from_value(value).ok()))
}

impl Receipt {
    /// The receipt of a deploy that begins at `now` (RFC 3339).
    pub fn begin(plan: &SyncPlan, id: String, now: String) -> Self {
        Self {
            version: VERSION,
            id,
            tool: concat!("bk-sync ", env!("CARGO_PKG_VERSION")).to_owned(),
            project: plan.project.clone(),
            reason: plan.reason.clone(),
            started: now,
            git: plan.git.clone(),
            ..Self::default()
        }
    }

    /// Whether `stage` did what it was asked, here or in the deploy that this one goes on with.
    pub fn has_done(&self, stage: SyncStage) -> bool {
        self.stages
            .get(&stage)
            .is_some_and(|one| matches!(one.state, StageState::Done | StageState::Skipped))
    }

    /// What the image holds: its manifests, whatever stands around them. An attestation names the
    /// moment of its build, so that an index with one is another index each time. Empty where no
    /// image was made.
    pub fn content(&self) -> Vec<&str> {
        let Some(image) = &self.image else { return Vec::new() };
        match image.manifests.as_slice() {
            [] => vec![image.digest.as_str()],
            manifests => manifests.iter().map(|manifest| manifest.digest.as_str()).collect(),
        }
    }

    /// The image's names.
    pub fn tags(&self) -> &[String] {
        self.image.as_ref().map_or(&[], |image| &image.tags)
    }

    /// Whether a deploy can go on from here: it has an image in a registry, and has not ended well.
    pub fn can_resume(&self) -> bool {
        let over = matches!(self.outcome, Outcome::Done | Outcome::Unchanged);
        !over && self.image.is_some() && self.has_done(SyncStage::Push)
    }

    /// What a word of `record.command` stands for.
    pub fn fact(&self, name: &str) -> Option<String> {
        let rollout = self.rollout.as_ref();
        let workload = rollout.map_or(("", ""), |rollout| {
            rollout.workload.split_once('/').unwrap_or(("", rollout.workload.as_str()))
        });
        let image = self.image.as_ref();
        let git = self.git.as_ref();
        Some(match name {
            "digest" => image.map(|image| image.digest.clone()).unwrap_or_default(),
            "git.branch" => git.and_then(|git| git.branch.clone()).unwrap_or_default(),
            "git.sha" => git.map(|git| git.commit.clone()).unwrap_or_default(),
            "git.short" => git.map(|git| git.commit.chars().take(7).collect()).unwrap_or_default(),
            "id" => self.id.clone(),
            "image" => image.map(|image| image.reference.clone()).unwrap_or_default(),
            "namespace" => rollout.map(|rollout| rollout.namespace.clone()).unwrap_or_default(),
            "outcome" => self.outcome.name().to_owned(),
            "reason" => self.reason.clone(),
            "workload" => rollout.map(|rollout| rollout.workload.clone()).unwrap_or_default(),
            "workload.kind" => workload.0.to_owned(),
            "workload.name" => workload.1.to_owned(),
            _ => return None,
        })
    }

    /// One line for a list of deploys.
    pub fn line(&self) -> String {
        let commit = self.git.as_ref().map_or("-", |git| git.commit.get(..7).unwrap_or("-"));
        let dirty = if self.git.as_ref().is_some_and(|git| git.dirty) { "+" } else { " " };
        let image = self.image.as_ref().map_or("-", |image| image.reference.as_str());
        let outcome = self.outcome.name();
        let failure = match &self.failure {
            Some(failure) => format!("  ({}: {})", failure.stage.name(), failure.code),
            None => String::new(),
        };
        format!("{}  {outcome:11}  {commit}{dirty}  {}  {image}{failure}", self.id, self.project)
    }
}

impl Outcome {
    /// Its name, in files and on the screen.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
            Self::Running => "running",
            Self::Unchanged => "unchanged",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deploy_goes_on_from_a_push_and_not_from_an_end() {
        let mut receipt = Receipt {
            image: Some(ImageRecord::default()),
            outcome: Outcome::Failed,
            ..Receipt::default()
        };
        assert!(!receipt.can_resume());
        let done = StageRecord { state: StageState::Done, ..StageRecord::default() };
        receipt.stages.insert(SyncStage::Push, done);
        assert!(receipt.can_resume());
        receipt.outcome = Outcome::Running;
        assert!(receipt.can_resume(), "killed");
        receipt.outcome = Outcome::Done;
        assert!(!receipt.can_resume());
    }

    #[test]
    fn every_word_of_the_record_command_has_a_value() {
        for name in crate::config::RECORD_FACTS {
            assert!(Receipt::default().fact(name).is_some(), "{name}");
        }
        assert_eq!(Receipt::default().fact("secret"), None);
    }

    #[test]
    fn receipts_survive_the_way_to_disk_and_back() {
        let plan = SyncPlan { project: "n/deployment/a".to_owned(), ..SyncPlan::default() };
        let receipt = Receipt::begin(&plan, "1".to_owned(), "2026-01-01T00:00:00Z".to_owned());
        let text = serde_json::to_string(&receipt).unwrap();
        assert_eq!(serde_json::from_str::<Receipt>(&text).unwrap(), receipt);
    }

    #[test]
    fn a_build_in_another_form_hides_nothing_else() {
        let mut value = serde_json::to_value(Receipt { id: "7".to_owned(), ..Receipt::default() });
        let receipt = value.as_mut().unwrap();
        receipt["build"] = serde_json::json!({"plan": {"context": {"moon": 1}}});
        let read: Receipt = serde_json::from_value(receipt.take()).unwrap();
        assert_eq!((read.id.as_str(), read.build), ("7", None));
    }
}
