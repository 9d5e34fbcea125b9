//! What one `sync` is asked to do: a build, where its image runs, what must hold then, and who is
//! told. Free of secrets; a receipt and `plan` are made from it.

use super::{BuildPlan, Moment, SyncStage};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Everything that a `sync` would do, fixed before it begins.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SyncPlan {
    /// What its deploys are filed under: `NAMESPACE/KIND/NAME`, else the image's repository.
    pub project: String,
    /// The commit that is checked out, where there is one.
    pub git: Option<GitFacts>,
    /// Why this deploy is made; recorded with it.
    pub reason: String,
    /// The builder's address, where one is named.
    pub builder: Option<String>,
    /// The build. It is pushed.
    pub build: BuildPlan,
    /// What runs the image; without it a deploy ends with the push.
    pub rollout: Option<RolloutPlan>,
    /// What must hold once the new pods run.
    pub checks: Vec<CheckPlan>,
    /// Who is told.
    pub record: RecordPlan,
    /// Commands around the stages.
    pub hooks: Vec<HookPlan>,
    /// How long each stage may take, in seconds.
    pub deadlines: BTreeMap<SyncStage, u64>,
    /// What a builder on this machine must have free before a build, in bytes.
    pub free_disk: u64,
    /// Each value that was chosen, and who chose it.
    pub settings: Vec<Choice>,
    /// Build arguments that hold variables of the environment, as the file has them: their values
    /// are not shown.
    #[serde(skip)]
    pub masked_args: BTreeMap<String, String>,
}

/// A commit, asked once: what is checked out may move while a deploy runs.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct GitFacts {
    /// Its full hash.
    pub commit: String,
    /// The hash of its tree.
    pub tree: String,
    /// The branch; none where only a commit is checked out.
    pub branch: Option<String>,
    /// The first line of its message.
    pub subject: String,
    /// Whether files differ from it.
    pub dirty: bool,
}

/// What runs the image.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RolloutPlan {
    /// The kubeconfig context; the current one where none is named.
    pub context: Option<String>,
    /// The namespace; the context's own where none is named.
    pub namespace: Option<String>,
    /// Such as `deployment`.
    pub kind: String,
    /// The workload's name.
    pub name: String,
    /// The container whose image is set; the only one where none is named.
    pub container: Option<String>,
    /// How long a rollout may take, in seconds.
    pub timeout_seconds: u64,
    /// Whether the image before it comes back where the rollout fails.
    pub rollback_on_failure: bool,
    /// Whether it comes back where a check fails.
    pub rollback_on_verify_failure: bool,
}

/// A check after the rollout, as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CheckPlan {
    /// `http`, `exec` or `inngest`.
    pub kind: &'static str,
    /// What is asked, and what the answer must be.
    pub subject: String,
}

/// Who is told of a deploy.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RecordPlan {
    /// A command, its placeholders not filled in yet.
    pub command: Option<Vec<String>>,
    /// An address that gets the receipt.
    pub http: Option<HttpSinkPlan>,
    /// Whether the receipt is pushed beside the image.
    pub referrer: bool,
    /// How long each of them may take, in seconds.
    pub timeout_seconds: u64,
}

/// An address that gets the receipt.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HttpSinkPlan {
    /// The address.
    pub url: String,
    /// The variable with a bearer token for it.
    pub token_env: Option<String>,
}

/// A command before or after a stage.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HookPlan {
    /// Which stage.
    pub stage: SyncStage,
    /// Before or after it.
    pub when: Moment,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// How long it may take, in seconds.
    pub timeout_seconds: u64,
}

/// A value, and who chose it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Choice {
    /// Its dotted name in the config file.
    pub key: String,
    /// The value.
    pub value: Value,
    /// `default`, a place in the config file, `$VARIABLE` or a flag.
    pub origin: String,
}

impl SyncPlan {
    /// The stages that would run, each with what it would do, in order.
    pub fn steps(&self) -> Vec<(SyncStage, String)> {
        let mut steps = Vec::new();
        let names = self.build.tags.join(", ");
        let asks = match &self.rollout {
            Some(rollout) => format!(
                "look at config, checkout, builder, registry, {} and its cluster{}",
                rollout.place(),
                if self.checks.is_empty() { "" } else { ", and at what the checks need" }
            ),
            None => "look at config, checkout, builder and registry".to_owned(),
        };
        steps.push((SyncStage::Preflight, asks));
        let platforms = match self.build.platforms.as_slice() {
            [] => "the builder's platform".to_owned(),
            platforms => platforms.join(", "),
        };
        let file = self.build.file.as_deref().unwrap_or("Dockerfile");
        let builder = self.builder.as_deref().unwrap_or("the first builder that answers");
        steps.push((SyncStage::Build, format!("build {file} for {platforms} on {builder}")));
        let signed = self.build.signing.as_ref();
        let signed = signed.map(|signing| format!(", and sign it with `{}`", signing.who()));
        steps.push((SyncStage::Push, format!("push {names}{}", signed.unwrap_or_default())));
        if let Some(rollout) = &self.rollout {
            let after = if rollout.rollback_on_failure { "roll back" } else { "leave it" };
            steps.push((
                SyncStage::Rollout,
                format!(
                    "set the image's digest on {}, wait up to {} s, {after} if that fails",
                    rollout.place(),
                    rollout.timeout_seconds
                ),
            ));
            for check in &self.checks {
                steps.push((SyncStage::Verify, format!("{}: {}", check.kind, check.subject)));
            }
        }
        steps.push((SyncStage::Record, "write the receipt to the state directory".to_owned()));
        if let Some(rollout) = &self.rollout {
            let place = rollout.place();
            steps.push((SyncStage::Record, format!("annotate {place}")));
        }
        if let Some(command) = &self.record.command {
            steps.push((SyncStage::Record, format!("run {}", command.join(" "))));
        }
        if let Some(http) = &self.record.http {
            steps.push((SyncStage::Record, format!("post the receipt to {}", http.url)));
        }
        if self.record.referrer {
            let what = "push the receipt beside the image, as its referrer";
            steps.push((SyncStage::Record, what.to_owned()));
        }
        let mut all = Vec::new();
        for stage in SyncStage::ALL {
            let hooks = |when| {
                let of = move |hook: &&HookPlan| hook.stage == stage && hook.when == when;
                let line = |hook: &HookPlan| (stage, format!("hook: {}", hook.command.join(" ")));
                self.hooks.iter().filter(of).map(line).collect::<Vec<_>>()
            };
            let own: Vec<_> = steps.iter().filter(|(of, _)| *of == stage).cloned().collect();
            if !own.is_empty() {
                all.extend(hooks(Moment::Before));
                all.extend(own);
                all.extend(hooks(Moment::After));
            }
        }
        all
    }

    /// The plan as scripts get it, with the values of masked arguments left out.
    pub fn to_json(&self) -> Value {
        let mut plan = self.clone();
        for (name, shown) in &self.masked_args {
            if let Some(value) = plan.build.args.get_mut(name) {
                value.clone_from(shown);
            }
        }
        let mut json = serde_json::to_value(&plan).unwrap_or_default();
        let steps: Vec<Value> = self
            .steps()
            .into_iter()
            .map(|(stage, what)| json!({ "stage": stage.name(), "what": what }))
            .collect();
        if let Some(object) = json.as_object_mut() {
            object.insert("steps".to_owned(), Value::Array(steps));
        }
        json
    }

    /// The plan as people read it: what would be done, then who chose what.
    pub fn to_text(&self) -> String {
        let mut lines = Vec::new();
        if let Some(git) = &self.git {
            let state = if git.dirty { ", with changes that are not committed" } else { "" };
            let on = git.branch.as_deref().map(|branch| format!(" on {branch}"));
            let on = on.unwrap_or_default();
            lines.push(format!("commit {}{on}{state}: {}", git.commit, git.subject));
        }
        let mut last = None;
        for (stage, what) in self.steps() {
            let name = if last == Some(stage) { "" } else { stage.name() };
            lines.push(format!("{name:9}  {what}"));
            last = Some(stage);
        }
        lines.push(String::new());
        let width = self.settings.iter().map(|choice| choice.key.len()).max().unwrap_or(0);
        for Choice { key, value, origin } in &self.settings {
            let value = match value {
                Value::Null => "-".to_owned(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            lines.push(format!("{key:width$}  {value}  ({origin})"));
        }
        lines.join("\n")
    }
}

impl RolloutPlan {
    /// `NAMESPACE/KIND/NAME`, or without a namespace where the context has the say.
    pub fn place(&self) -> String {
        let Self { namespace, kind, name, .. } = self;
        match namespace {
            Some(namespace) => format!("{namespace}/{kind}/{name}"),
            None => format!("{kind}/{name}"),
        }
    }
}
