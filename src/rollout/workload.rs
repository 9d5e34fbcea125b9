//! Workloads: their names as users write them, and what is read of their objects. Pure.

use serde::{Serialize, Serializer};
use serde_json::Value;
use std::{collections::BTreeMap, fmt, str::FromStr};

/// A kind of workload whose image can be set.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// Its image is set for the Jobs to come; nothing is waited for.
    CronJob,
    /// One pod a node.
    DaemonSet,
    /// Replicas through ReplicaSets.
    Deployment,
    /// Its template cannot change once it is made.
    Job,
    /// Replicas with names and an order.
    StatefulSet,
}

impl Kind {
    /// As the API spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CronJob => "CronJob",
            Self::DaemonSet => "DaemonSet",
            Self::Deployment => "Deployment",
            Self::Job => "Job",
            Self::StatefulSet => "StatefulSet",
        }
    }

    /// As users spell it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::CronJob => "cronjob",
            Self::DaemonSet => "daemonset",
            Self::Deployment => "deployment",
            Self::Job => "job",
            Self::StatefulSet => "statefulset",
        }
    }

    /// The resource's name in URLs and roles.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::CronJob => "cronjobs",
            Self::DaemonSet => "daemonsets",
            Self::Deployment => "deployments",
            Self::Job => "jobs",
            Self::StatefulSet => "statefulsets",
        }
    }

    /// The API group.
    pub const fn group(self) -> &'static str {
        match self {
            Self::CronJob | Self::Job => "batch",
            Self::DaemonSet | Self::Deployment | Self::StatefulSet => "apps",
        }
    }

    /// Where its pod template stands, as a JSON pointer.
    pub const fn template(self) -> &'static str {
        match self {
            Self::CronJob => "/spec/jobTemplate/spec/template",
            Self::DaemonSet | Self::Deployment | Self::Job | Self::StatefulSet => "/spec/template",
        }
    }

    /// Whether a change of its template brings pods that can be waited for.
    pub const fn rolls(self) -> bool {
        matches!(self, Self::DaemonSet | Self::Deployment | Self::StatefulSet)
    }
}

/// `KIND/NAME`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct WorkloadName {
    /// Its kind.
    pub kind: Kind,
    /// Its name in its namespace.
    pub name: String,
}

impl fmt::Display for WorkloadName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.kind.word(), self.name)
    }
}

impl Serialize for WorkloadName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Why a text names no workload.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NameError {
    /// It is no `KIND/NAME`.
    #[error("`{0}` is no `KIND/NAME`, such as `deployment/app`")]
    Form(String),
    /// The kind is none whose image can be set.
    #[error(
        "`{0}` is no kind of workload: there are deployment, statefulset, daemonset, cronjob and job"
    )]
    Kind(String),
    /// The name is none that Kubernetes takes.
    #[error("`{0}` is no name of a workload: it is made of a-z, 0-9, `-` and `.`")]
    Name(String),
}

impl FromStr for WorkloadName {
    type Err = NameError;

    /// Takes what kubectl takes: short names, plurals and groups (`deploy/app`,
    /// `deployments.apps/app`), in any case.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (kind, name) = text.split_once('/').ok_or_else(|| NameError::Form(text.to_owned()))?;
        if name.contains('/') || name.is_empty() || kind.is_empty() {
            return Err(NameError::Form(text.to_owned()));
        }
        let word = kind.to_ascii_lowercase();
        let (word, group) = word.split_once('.').unwrap_or((word.as_str(), ""));
        let known = match word {
            "cj" | "cronjob" | "cronjobs" => Kind::CronJob,
            "ds" | "daemonset" | "daemonsets" => Kind::DaemonSet,
            "deploy" | "deployment" | "deployments" => Kind::Deployment,
            "job" | "jobs" => Kind::Job,
            "statefulset" | "statefulsets" | "sts" => Kind::StatefulSet,
            _ => return Err(NameError::Kind(kind.to_owned())),
        };
        let group = group.strip_prefix("v1.").unwrap_or(group);
        if !group.is_empty() && group != known.group() {
            return Err(NameError::Kind(kind.to_owned()));
        }
        let fits = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-' | '.');
        let edge = |c: char| matches!(c, 'a'..='z' | '0'..='9');
        if name.len() > 253
            || !name.chars().all(fits)
            || !name.starts_with(edge)
            || !name.ends_with(edge)
        {
            return Err(NameError::Name(name.to_owned()));
        }
        Ok(Self { kind: known, name: name.to_owned() })
    }
}

/// How the controller brings a new template to the pods.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Strategy {
    /// By itself; all old pods go first.
    Recreate,
    /// By itself, some pods at a time.
    Rolling {
        /// Whether no pod may be missing while it goes on.
        keeps_all: bool,
        /// Only pods whose ordinal is at least this are replaced.
        partition: i64,
    },
    /// A pod is replaced when somebody deletes it.
    OnDelete,
    /// The kind knows no rollout.
    None,
}

/// The condition `Progressing` of a Deployment, as far as it says whether it is news.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Condition {
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Such as `ProgressDeadlineExceeded`.
    pub reason: String,
    /// In words.
    pub message: String,
    /// When the controller last wrote it.
    pub updated: String,
}

/// The numbers of a workload's status; zero where none is given.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Pods in all; for DaemonSets, nodes that should have one.
    pub total: i64,
    /// Pods of the current template.
    pub updated: i64,
    /// Pods that are ready.
    pub ready: i64,
    /// Pods that are ready long enough.
    pub available: i64,
}

/// What is read of a workload's object.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// Its name.
    pub name: WorkloadName,
    /// Its identity: a workload that is made anew has another.
    pub uid: String,
    /// The version of the object that this is.
    pub resource_version: String,
    /// The number of its wanted state.
    pub generation: i64,
    /// The wanted state that the controller last saw.
    pub observed_generation: i64,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether its rollouts are held (a Deployment) or it starts nothing (CronJob, Job).
    pub paused: bool,
    /// Wanted replicas; for DaemonSets, nodes that should have a pod.
    pub replicas: i64,
    /// How the template reaches the pods.
    pub strategy: Strategy,
    /// Whether pods are started and replaced strictly one after another.
    pub ordered: bool,
    /// Seconds for which a pod must be ready before it counts.
    pub min_ready_seconds: i64,
    /// Seconds after which the controller gives a rollout up.
    pub progress_deadline: Option<i64>,
    /// The label selector of its pods, as the API takes it in a query.
    pub selector: String,
    /// Its pod template.
    pub template: Value,
    /// The numbers of its status.
    pub counts: Counts,
    /// The condition `Progressing`.
    pub progressing: Option<Condition>,
    /// The revision that a StatefulSet goes to, and the one that it comes from.
    pub update_revision: Option<String>,
    /// See [`Self::update_revision`].
    pub current_revision: Option<String>,
    /// The revision's number, where the controller writes one.
    pub revision: Option<String>,
    /// Who last wrote which image: the name of a field manager, by container.
    pub image_writers: BTreeMap<String, Vec<Writer>>,
}

/// Who set a field.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Writer {
    /// The field manager.
    pub manager: String,
    /// When, as the API says it.
    pub time: String,
}

/// An object that is no workload of its kind.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the API server's {kind} has no `{field}`")]
pub struct MalformedWorkload {
    /// The kind.
    pub kind: &'static str,
    /// What is missing.
    pub field: &'static str,
}

impl Workload {
    /// Reads an object of `kind`.
    ///
    /// # Errors
    /// It lacks what every such object has.
    pub fn read(kind: Kind, object: &Value) -> Result<Self, MalformedWorkload> {
        let missing = |field| MalformedWorkload { kind: kind.name(), field };
        let text = |at: &str| object.pointer(at).and_then(Value::as_str).map(str::to_owned);
        let number = |at: &str| object.pointer(at).and_then(Value::as_i64);
        let flag = |at: &str| object.pointer(at).and_then(Value::as_bool).unwrap_or(false);
        let name = text("/metadata/name").ok_or(missing("metadata.name"))?;
        let template = object.pointer(kind.template()).ok_or(missing("spec.template"))?;
        let status = |field: &str| number(&format!("/status/{field}")).unwrap_or_default();
        let counts = match kind {
            Kind::DaemonSet => Counts {
                total: status("desiredNumberScheduled"),
                updated: status("updatedNumberScheduled"),
                ready: status("numberReady"),
                available: status("numberAvailable"),
            },
            Kind::CronJob | Kind::Job => Counts::default(),
            Kind::Deployment | Kind::StatefulSet => Counts {
                total: status("replicas"),
                updated: status("updatedReplicas"),
                ready: status("readyReplicas"),
                available: status("availableReplicas"),
            },
        };
        let replicas = match kind {
            Kind::DaemonSet => counts.total,
            _ => number("/spec/replicas").unwrap_or(1),
        };
        Ok(Self {
            uid: text("/metadata/uid").ok_or(missing("metadata.uid"))?,
            resource_version: text("/metadata/resourceVersion").unwrap_or_default(),
            generation: number("/metadata/generation").unwrap_or_default(),
            observed_generation: status("observedGeneration"),
            annotations: annotations(object),
            deleting: object.pointer("/metadata/deletionTimestamp").is_some_and(|v| !v.is_null()),
            paused: flag("/spec/paused") || flag("/spec/suspend"),
            replicas,
            strategy: strategy(kind, object, replicas),
            ordered: kind == Kind::StatefulSet
                && text("/spec/podManagementPolicy").as_deref() != Some("Parallel"),
            min_ready_seconds: number("/spec/minReadySeconds").unwrap_or_default(),
            progress_deadline: number("/spec/progressDeadlineSeconds"),
            selector: selector(object.pointer("/spec/selector").unwrap_or(&Value::Null)),
            template: template.clone(),
            counts,
            progressing: progressing(object),
            update_revision: text("/status/updateRevision"),
            current_revision: text("/status/currentRevision"),
            revision: text("/metadata/annotations/deployment.kubernetes.io~1revision"),
            image_writers: image_writers(object),
            name: WorkloadName { kind, name },
        })
    }

    /// The image of the container `name`.
    pub fn image(&self, name: &str) -> Option<&str> {
        image_in(&self.template, name)
    }
}

/// The image of the container `name` of a pod template or a pod.
pub fn image_in<'v>(template: &'v Value, name: &str) -> Option<&'v str> {
    containers(template)
        .find(|(_, container)| container.get("name").and_then(Value::as_str) == Some(name))
        .and_then(|(_, container)| container.get("image")?.as_str())
}

/// The lists of a pod's spec that hold containers.
pub const CONTAINER_LISTS: [&str; 2] = ["containers", "initContainers"];

/// All containers of a pod template, init containers last, each with its list's name.
pub fn containers(template: &Value) -> impl Iterator<Item = (&'static str, &Value)> {
    CONTAINER_LISTS.into_iter().flat_map(move |list| {
        let containers = template.pointer(&format!("/spec/{list}")).and_then(Value::as_array);
        containers.into_iter().flatten().map(move |container| (list, container))
    })
}

fn annotations(object: &Value) -> BTreeMap<String, String> {
    let map = object.pointer("/metadata/annotations").and_then(Value::as_object);
    map.into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect()
}

fn strategy(kind: Kind, object: &Value, replicas: i64) -> Strategy {
    let (field, rolling) = match kind {
        Kind::CronJob | Kind::Job => return Strategy::None,
        Kind::Deployment => ("/spec/strategy", true),
        Kind::DaemonSet | Kind::StatefulSet => ("/spec/updateStrategy", true),
    };
    let strategy = object.pointer(field).unwrap_or(&Value::Null);
    match strategy.get("type").and_then(Value::as_str) {
        Some("Recreate") => Strategy::Recreate,
        Some("OnDelete") => Strategy::OnDelete,
        _ => {
            let settings = strategy.get("rollingUpdate").unwrap_or(&Value::Null);
            let unavailable = settings.get("maxUnavailable");
            let keeps_all = rolling
                && kind == Kind::Deployment
                && unavailable.is_some_and(|value| share(value, replicas) == 0);
            let partition = settings.get("partition").and_then(Value::as_i64).unwrap_or_default();
            Strategy::Rolling { keeps_all, partition }
        }
    }
}

/// A number, or a percentage of `replicas` rounded down, as `maxUnavailable` is.
fn share(value: &Value, replicas: i64) -> i64 {
    let percent = value.as_str().and_then(|text| text.strip_suffix('%')?.parse::<i64>().ok());
    match (value.as_i64(), percent) {
        (Some(number), _) => number,
        (None, Some(percent)) => replicas.saturating_mul(percent) / 100,
        (None, None) => 0,
    }
}

fn progressing(object: &Value) -> Option<Condition> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    let condition = conditions
        .iter()
        .find(|condition| condition.get("type").and_then(Value::as_str) == Some("Progressing"))?;
    let text =
        |field: &str| condition.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    Some(Condition {
        status: text("status"),
        reason: text("reason"),
        message: text("message"),
        updated: text("lastUpdateTime"),
    })
}

/// A label selector in the words of a query.
pub fn selector(selector: &Value) -> String {
    let mut terms: Vec<String> = Vec::new();
    let labels = selector.get("matchLabels").and_then(Value::as_object);
    for (name, value) in labels.into_iter().flatten() {
        terms.push(format!("{name}={}", value.as_str().unwrap_or_default()));
    }
    let expressions = selector.get("matchExpressions").and_then(Value::as_array);
    for expression in expressions.into_iter().flatten() {
        let text = |field: &str| expression.get(field).and_then(Value::as_str).unwrap_or_default();
        let values: Vec<&str> = expression
            .get("values")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let (key, values) = (text("key"), values.join(","));
        match text("operator") {
            "In" => terms.push(format!("{key} in ({values})")),
            "NotIn" => terms.push(format!("{key} notin ({values})")),
            "Exists" => terms.push(key.to_owned()),
            "DoesNotExist" => terms.push(format!("!{key}")),
            _ => {}
        }
    }
    terms.join(",")
}

/// Who owns the image of which container, out of the object's `managedFields`.
fn image_writers(object: &Value) -> BTreeMap<String, Vec<Writer>> {
    let mut writers: BTreeMap<String, Vec<Writer>> = BTreeMap::new();
    let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    for entry in entries.into_iter().flatten() {
        let text = |field: &str| entry.get(field).and_then(Value::as_str).unwrap_or_default();
        let spec = entry.pointer("/fieldsV1/f:spec");
        let template = spec.and_then(|spec| {
            spec.get("f:template").or_else(|| spec.pointer("/f:jobTemplate/f:spec/f:template"))
        });
        for list in CONTAINER_LISTS {
            let owned = template
                .and_then(|template| template.pointer(&format!("/f:spec/f:{list}")))
                .and_then(Value::as_object);
            for (key, fields) in owned.into_iter().flatten() {
                let name = key
                    .strip_prefix("k:")
                    .and_then(|key| serde_json::from_str::<Value>(key).ok())
                    .and_then(|key| Some(key.get("name")?.as_str()?.to_owned()));
                if let Some(name) = name
                    && fields.get("f:image").is_some()
                {
                    let writer = Writer {
                        manager: text("manager").to_owned(),
                        time: text("time").to_owned(),
                    };
                    writers.entry(name).or_default().push(writer);
                }
            }
        }
    }
    writers
}

#[cfg(test)]
mod tests {
    use super::{Kind, NameError, Strategy, Workload, WorkloadName, selector};
    use serde_json::json;

    #[test]
    fn names_are_taken_as_kubectl_takes_them() {
        let table = [
            ("deployment/app", Kind::Deployment),
            ("Deploy/app", Kind::Deployment),
            ("deployments.apps/app", Kind::Deployment),
            ("deployment.v1.apps/app", Kind::Deployment),
            ("sts/app", Kind::StatefulSet),
            ("ds/app", Kind::DaemonSet),
            ("cronjob.batch/app", Kind::CronJob),
            ("job/app", Kind::Job),
        ];
        for (text, kind) in table {
            let name: WorkloadName = text.parse().unwrap();
            assert_eq!((name.kind, name.name.as_str()), (kind, "app"), "{text}");
        }
        assert_eq!("sts/app".parse::<WorkloadName>().unwrap().to_string(), "statefulset/app");
        for text in ["app", "deployment/", "/app", "deployment/a/b"] {
            assert!(matches!(text.parse::<WorkloadName>(), Err(NameError::Form(_))), "{text}");
        }
        for text in ["pod/app", "deployment.batch/app"] {
            assert!(matches!(text.parse::<WorkloadName>(), Err(NameError::Kind(_))), "{text}");
        }
        for text in ["deployment/App", "deployment/-a", "deployment/a b"] {
            assert!(matches!(text.parse::<WorkloadName>(), Err(NameError::Name(_))), "{text}");
        }
    }

    #[test]
    fn selectors_are_written_as_queries() {
        let written = selector(&json!({
            "matchLabels": {"app": "web"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["a", "b"]},
                {"key": "old", "operator": "DoesNotExist"},
                {"key": "new", "operator": "Exists"},
                {"key": "x", "operator": "NotIn", "values": ["y"]},
            ],
        }));
        assert_eq!(written, "app=web,tier in (a,b),!old,new,x notin (y)");
    }

    #[test]
    fn a_deployment_is_read() {
        let object = json!({
            "metadata": {
                "name": "web", "uid": "u", "resourceVersion": "7", "generation": 3,
                "annotations": {"deployment.kubernetes.io/revision": "2"},
                "managedFields": [
                    {"manager": "kubectl-client-side-apply", "time": "2026-01-01T00:00:00Z",
                     "fieldsV1": {"f:spec": {"f:template": {"f:spec": {"f:containers":
                        {"k:{\"name\":\"app\"}": {"f:image": {}}}}}}}},
                    {"manager": "kube-controller-manager", "fieldsV1": {"f:status": {}}},
                ],
            },
            "spec": {
                "replicas": 2, "minReadySeconds": 4, "progressDeadlineSeconds": 600,
                "selector": {"matchLabels": {"app": "web"}},
                "strategy": {"type": "RollingUpdate", "rollingUpdate":
                    {"maxSurge": "25%", "maxUnavailable": "25%"}},
                "template": {"spec": {"containers": [{"name": "app", "image": "a:1"}],
                    "initContainers": [{"name": "prepare", "image": "b:1"}]}},
            },
            "status": {"observedGeneration": 3, "replicas": 2, "updatedReplicas": 2,
                "availableReplicas": 1, "readyReplicas": 2},
        });
        let workload = Workload::read(Kind::Deployment, &object).unwrap();
        assert_eq!(workload.strategy, Strategy::Rolling { keeps_all: true, partition: 0 });
        assert_eq!(workload.image("app"), Some("a:1"));
        assert_eq!(workload.image("prepare"), Some("b:1"));
        assert_eq!(workload.image("other"), None);
        assert_eq!(workload.revision.as_deref(), Some("2"));
        assert_eq!(workload.image_writers["app"][0].manager, "kubectl-client-side-apply");
        assert_eq!(workload.counts.available, 1);
    }
}
