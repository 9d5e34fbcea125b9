//! Revisions: ReplicaSets of a Deployment, ControllerRevisions of the other kinds.

use crate::rollout::workload::image_in;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

/// What is kept of a revision.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Revision {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub uid: String,
    /// The uid of its workload.
    pub owner: Option<String>,
    /// Its number; a revision that becomes current again gets a new one.
    pub number: i64,
    /// When it was made, as the API says it.
    pub created: String,
    /// The label with which its pods are marked.
    pub hash: Option<String>,
    /// The digest of its pod template, which does not depend on what a controller adds.
    pub template: String,
    /// Pods that it has, and how many of them are available; zero for ControllerRevisions.
    pub replicas: i64,
    /// See [`Self::replicas`].
    pub available: i64,
    /// Why it can make no pods: a condition's message.
    pub failure: Option<String>,
    images: Vec<(String, String)>,
}

impl Revision {
    /// Reads a ReplicaSet or a ControllerRevision.
    pub fn read(object: &Value) -> Self {
        let text = |at: &str| object.pointer(at).and_then(Value::as_str).map(str::to_owned);
        let number = |at: &str| object.pointer(at).and_then(Value::as_i64);
        let template = object
            .pointer("/spec/template")
            .or_else(|| object.pointer("/data/spec/template"))
            .unwrap_or(&Value::Null);
        let revision = text("/metadata/annotations/deployment.kubernetes.io~1revision");
        let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
        let owner = owners
            .into_iter()
            .flatten()
            .find(|owner| owner.get("controller").and_then(Value::as_bool) == Some(true));
        let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
        let failure = conditions.into_iter().flatten().find(|condition| {
            let field = |name: &str| condition.get(name).and_then(Value::as_str);
            field("type") == Some("ReplicaFailure") && field("status") == Some("True")
        });
        let names = super::super::workload::containers(template)
            .filter_map(|(_, container)| container.get("name")?.as_str());
        Self {
            name: text("/metadata/name").unwrap_or_default(),
            uid: text("/metadata/uid").unwrap_or_default(),
            owner: owner.and_then(|owner| Some(owner.get("uid")?.as_str()?.to_owned())),
            number: number("/revision")
                .or_else(|| revision.and_then(|text| text.parse().ok()))
                .unwrap_or_default(),
            created: text("/metadata/creationTimestamp").unwrap_or_default(),
            hash: text("/metadata/labels/controller-revision-hash"),
            template: template_digest(template),
            replicas: number("/status/replicas").unwrap_or_default(),
            available: number("/status/availableReplicas").unwrap_or_default(),
            failure: failure.and_then(|failure| Some(failure.get("message")?.as_str()?.to_owned())),
            images: names
                .filter_map(|name| Some((name.to_owned(), image_in(template, name)?.to_owned())))
                .collect(),
        }
    }

    /// The image of the container `name`.
    pub fn image(&self, name: &str) -> Option<&str> {
        self.images.iter().find(|(other, _)| other == name).map(|(_, image)| image.as_str())
    }
}

/// A digest of a pod template that is the same for a Deployment and its ReplicaSet.
pub fn template_digest(template: &Value) -> String {
    let mut template = template.clone();
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove("pod-template-hash");
    }
    if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|_, value| !value.is_null());
    }
    // Objects are sorted by their keys here, so equal templates have equal texts.
    let digest = Sha256::digest(template.to_string().as_bytes());
    digest.iter().fold(String::new(), |mut text, byte| {
        let _cannot_fail = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::{Revision, template_digest};
    use serde_json::json;

    #[test]
    fn a_template_is_known_again_in_its_replica_set() {
        let wanted = json!({"metadata": {"creationTimestamp": null, "labels": {"app": "web"}},
            "spec": {"containers": [{"name": "app", "image": "a:1"}]}});
        let made = json!({"spec": {"containers": [{"image": "a:1", "name": "app"}]},
            "metadata": {"labels": {"pod-template-hash": "77", "app": "web"}}});
        let other = json!({"metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "app", "image": "a:2"}]}});
        assert_eq!(template_digest(&wanted), template_digest(&made));
        assert_ne!(template_digest(&wanted), template_digest(&other));
    }

    #[test]
    fn both_kinds_of_revisions_are_read() {
        let set = Revision::read(&json!({
            "metadata": {"name": "web-77", "uid": "r",
                "annotations": {"deployment.kubernetes.io/revision": "4"},
                "ownerReferences": [{"uid": "other"}, {"uid": "w", "controller": true}]},
            "spec": {"template": {"spec": {"containers": [{"name": "app", "image": "a:1"}]}}},
            "status": {"replicas": 1, "conditions": [
                {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}]},
        }));
        assert_eq!(
            (set.number, set.owner.as_deref(), set.image("app")),
            (4, Some("w"), Some("a:1"))
        );
        assert_eq!(set.failure.as_deref(), Some("exceeded quota"));
        let revision = Revision::read(&json!({
            "metadata": {"name": "db-55", "labels": {"controller-revision-hash": "55"}},
            "revision": 3,
            "data": {"spec": {"template": {"spec": {"containers": [{"name": "db", "image": "b:1"}]}}}},
        }));
        assert_eq!((revision.number, revision.image("db")), (3, Some("b:1")));
        assert_eq!(revision.hash.as_deref(), Some("55"));
    }
}
