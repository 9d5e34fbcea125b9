use super::{Aim, End, Stand, judge};
use crate::rollout::{
    observed::{Observed, Revision},
    workload::{Kind, Workload},
};
use serde_json::{Value, json};
use std::time::Duration;

const NOW: Duration = Duration::from_secs(5);

fn template(image: &str) -> Value {
    json!({"spec": {"containers": [{"name": "app", "image": image}]}})
}

fn object(spec: &Value, status: &Value) -> Value {
    let mut object = json!({
        "metadata": {"name": "web", "uid": "u", "generation": 2, "resourceVersion": "9"},
        "spec": {"replicas": 3, "template": template("a:2")},
        "status": {"observedGeneration": 2},
    });
    for (key, more) in [("spec", spec), ("status", status)] {
        let into = object[key].as_object_mut().unwrap();
        into.extend(more.as_object().unwrap().clone());
    }
    object
}

/// A workload with a ReplicaSet whose template is its own, of which `available` pods are available.
fn observed(kind: Kind, spec: &Value, status: &Value, available: i64) -> Observed {
    let workload = Workload::read(kind, &object(spec, status)).unwrap();
    let set = Revision::read(&json!({
        "metadata": {"name": "web-2", "uid": "r", "ownerReferences": [{"uid": "u", "controller": true}]},
        "spec": {"template": workload.template},
        "status": {"replicas": available, "availableReplicas": available},
    }));
    Observed {
        workload: Some(workload),
        revisions: [(set.uid.clone(), set)].into(),
        ..Observed::default()
    }
}

fn aim() -> Aim {
    Aim {
        uid: "u".to_owned(),
        generation: 2,
        images: [("app".to_owned(), "a:2".to_owned())].into(),
        ..Aim::default()
    }
}

fn waits(stand: &Stand) -> Option<&str> {
    match stand {
        Stand::Waiting { message, .. } => Some(message),
        _ => None,
    }
}

const DONE: Stand = Stand::Done { partial: None };

#[test]
fn a_deployment_is_done_by_kubectls_rules() {
    let table = [
        (
            json!({"observedGeneration": 1, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 3}),
            Some("for the controller to see the change"),
        ),
        (
            json!({"replicas": 3, "updatedReplicas": 1, "availableReplicas": 3}),
            Some("1 of 3 pods are new"),
        ),
        (
            json!({"replicas": 4, "updatedReplicas": 3, "availableReplicas": 3}),
            Some("1 old pod is on the way out"),
        ),
        (
            json!({"replicas": 3, "updatedReplicas": 3, "availableReplicas": 2}),
            Some("2 of 3 new pods are available"),
        ),
        (json!({"replicas": 3, "updatedReplicas": 3, "availableReplicas": 3}), None),
    ];
    for (status, expected) in table {
        let stand = judge(&observed(Kind::Deployment, &json!({}), &status, 3), &aim(), NOW);
        assert_eq!(waits(&stand), expected, "{status}");
        assert_eq!(stand == DONE, expected.is_none());
    }
}

#[test]
fn numbers_without_the_revision_that_carries_the_image_are_no_success() {
    let status = json!({"replicas": 3, "updatedReplicas": 3, "availableReplicas": 3});
    let mut seen = observed(Kind::Deployment, &json!({}), &status, 3);
    seen.revisions.values_mut().for_each(|set| set.template = "other".to_owned());
    let stand = judge(&seen, &aim(), NOW);
    assert_eq!(waits(&stand), Some("for the ReplicaSet that carries the image"));
}

#[test]
fn the_numbers_of_another_revision_do_not_count() {
    let status = json!({"replicas": 3, "updatedReplicas": 3, "availableReplicas": 3});
    let stand = judge(&observed(Kind::Deployment, &json!({}), &status, 1), &aim(), NOW);
    assert_eq!(waits(&stand), Some("1 of 3 new pods are available"));
}

#[test]
fn a_verdict_from_before_the_change_is_no_verdict() {
    let condition = json!([{"type": "Progressing", "status": "False",
        "reason": "ProgressDeadlineExceeded", "message": "m", "lastUpdateTime": "t"}]);
    let status = json!({"replicas": 3, "updatedReplicas": 1, "conditions": condition});
    let spec = json!({"progressDeadlineSeconds": 600});
    let seen = observed(Kind::Deployment, &spec, &status, 0);
    let fresh = judge(&seen, &aim(), NOW);
    assert_eq!(fresh, Stand::Over(End::DeadlineExceeded("m".to_owned())));
    let stale = seen.workload.as_ref().unwrap().progressing.clone();
    let aim = Aim { stale, ..aim() };
    assert!(waits(&judge(&seen, &aim, NOW)).is_some());
    let late = judge(&seen, &aim, Duration::from_mins(10));
    assert!(matches!(late, Stand::Over(End::DeadlineExceeded(_))));
}

#[test]
fn a_stale_success_is_no_success() {
    let condition = json!([{"type": "Progressing", "status": "True",
        "reason": "NewReplicaSetAvailable", "lastUpdateTime": "t"}]);
    let status = json!({"replicas": 3, "updatedReplicas": 0, "availableReplicas": 3,
        "conditions": condition});
    let stand = judge(&observed(Kind::Deployment, &json!({}), &status, 0), &aim(), NOW);
    assert_eq!(waits(&stand), Some("0 of 3 pods are new"));
}

#[test]
fn what_happens_to_the_object_in_the_middle_ends_it() {
    let status = json!({"replicas": 3, "updatedReplicas": 3, "availableReplicas": 3});
    let mut seen = observed(Kind::Deployment, &json!({}), &status, 3);
    let elsewhere = Aim { uid: "other".to_owned(), ..aim() };
    assert_eq!(judge(&seen, &elsewhere, NOW), Stand::Over(End::Replaced));
    let mut rival = aim();
    rival.images.insert("app".to_owned(), "a:3".to_owned());
    let Stand::Over(End::Superseded { container, image, by }) = judge(&seen, &rival, NOW) else {
        panic!("not superseded");
    };
    assert_eq!((container.as_str(), image.as_str(), by), ("app", "a:2", None));
    // What was seen before the change says nothing of what came after it.
    rival.generation = 3;
    assert!(waits(&judge(&seen, &rival, NOW)).is_some());
    seen.workload.as_mut().unwrap().deleting = true;
    assert_eq!(judge(&seen, &aim(), NOW), Stand::Over(End::Deleted));
    seen.workload = None;
    assert_eq!(judge(&seen, &aim(), NOW), Stand::Over(End::Deleted));
}

#[test]
fn a_paused_or_empty_deployment_is_told_as_what_it_is() {
    let status = json!({"replicas": 3, "updatedReplicas": 0, "availableReplicas": 3});
    let stand =
        judge(&observed(Kind::Deployment, &json!({"paused": true}), &status, 0), &aim(), NOW);
    assert_eq!(waits(&stand), Some("the Deployment is paused"));
    let none = observed(Kind::Deployment, &json!({"replicas": 0}), &json!({}), 0);
    assert_eq!(judge(&none, &aim(), NOW), DONE);
}

#[test]
fn a_stateful_set_goes_by_its_revisions() {
    let table = [
        (
            json!({}),
            json!({"replicas": 3, "readyReplicas": 2, "availableReplicas": 2,
            "updatedReplicas": 1, "currentRevision": "1", "updateRevision": "2"}),
            Some("2 of 3 pods are available"),
        ),
        (
            json!({}),
            json!({"replicas": 3, "readyReplicas": 3, "availableReplicas": 3,
            "updatedReplicas": 2, "currentRevision": "1", "updateRevision": "2"}),
            Some("2 of 3 pods are new"),
        ),
        (
            json!({}),
            json!({"replicas": 3, "readyReplicas": 3, "availableReplicas": 3,
            "updatedReplicas": 3, "currentRevision": "1", "updateRevision": "2"}),
            Some("for the controller to end the update"),
        ),
        (
            json!({}),
            json!({"replicas": 3, "readyReplicas": 3, "availableReplicas": 3,
            "updatedReplicas": 3, "currentRevision": "2", "updateRevision": "2"}),
            None,
        ),
        (json!({"replicas": 0}), json!({"currentRevision": "1", "updateRevision": "2"}), None),
    ];
    for (spec, status, expected) in table {
        let stand = judge(&observed(Kind::StatefulSet, &spec, &status, 0), &aim(), NOW);
        assert_eq!(waits(&stand), expected, "{status}");
        assert_eq!(stand == DONE, expected.is_none());
    }
}

#[test]
fn a_partition_is_a_part_that_is_done() {
    let spec =
        json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}});
    let status = |updated: i64| {
        json!({"replicas": 3, "readyReplicas": 3, "availableReplicas": 3,
            "updatedReplicas": updated, "currentRevision": "1", "updateRevision": "2"})
    };
    let stand = judge(&observed(Kind::StatefulSet, &spec, &status(0), 0), &aim(), NOW);
    assert_eq!(waits(&stand), Some("0 of 1 pods are new"));
    let stand = judge(&observed(Kind::StatefulSet, &spec, &status(1), 0), &aim(), NOW);
    assert!(matches!(stand, Stand::Done { partial: Some(_) }));
}

#[test]
fn a_daemon_set_counts_nodes() {
    let status = |updated: i64, available: i64| {
        json!({"desiredNumberScheduled": 4, "updatedNumberScheduled": updated,
            "numberAvailable": available, "numberReady": available})
    };
    let judged = |status| judge(&observed(Kind::DaemonSet, &json!({}), &status, 0), &aim(), NOW);
    assert_eq!(waits(&judged(status(3, 4))), Some("3 of 4 pods are new"));
    assert_eq!(waits(&judged(status(4, 3))), Some("3 of 4 new pods are available"));
    assert_eq!(judged(status(4, 4)), DONE);
    let on_delete = json!({"updateStrategy": {"type": "OnDelete"}});
    let stand = judge(&observed(Kind::DaemonSet, &on_delete, &status(0, 4), 0), &aim(), NOW);
    assert!(matches!(stand, Stand::Done { partial: Some(_) }));
}
