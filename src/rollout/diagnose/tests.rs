use super::{Diagnosed, diagnose, refine};
use crate::rollout::{
    code::Code,
    observed::{Note, Observed, Pod, Revision},
    status::Aim,
    workload::{Kind, Workload},
};
use serde_json::{Value, json};

/// Reasons and words of events.
type Said = &'static [(&'static str, &'static str)];

const IMAGE: &str = "r.example/app@sha256:00000000000000000000000000000000";

/// A Deployment with one ReplicaSet and these pods of it, of which `notes` were said.
fn seen(pods: &[Value], notes: &[(&str, &str)]) -> Observed {
    let spec = json!({"replicas": 2, "template": {"spec": {"containers": [{"name": "app", "image": IMAGE}]}},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%"}}});
    let workload = json!({"metadata": {"name": "web", "uid": "w", "generation": 1}, "spec": spec,
        "status": {"observedGeneration": 1}});
    let workload = Workload::read(Kind::Deployment, &workload).unwrap();
    let set = Revision::read(&json!({
        "metadata": {"name": "web-1", "uid": "r", "ownerReferences": [{"uid": "w", "controller": true}]},
        "spec": {"template": workload.template},
    }));
    let pods = pods.iter().enumerate().map(|(at, more)| {
        let mut pod = json!({
            "metadata": {"name": format!("web-1-{at}"), "uid": format!("p{at}"),
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1",
                    "uid": "r", "controller": true}]},
            "spec": {"nodeName": "n1", "containers": [{"name": "app", "image": IMAGE}]},
            "status": {"phase": "Pending"},
        });
        for key in ["metadata", "spec", "status"] {
            if let Some(more) = more.get(key).and_then(Value::as_object) {
                pod[key].as_object_mut().unwrap().extend(more.clone());
            }
        }
        let pod = Pod::read(&serde_json::from_value(pod).unwrap());
        (pod.uid.clone(), pod)
    });
    let notes = notes.iter().enumerate().map(|(at, (reason, message))| {
        let note = Note {
            object_uid: "p0".to_owned(),
            reason: (*reason).to_owned(),
            message: (*message).to_owned(),
            last: None,
        };
        (format!("e{at}"), note)
    });
    Observed {
        pods: pods.collect(),
        notes: notes.collect(),
        revisions: [("r".to_owned(), set)].into(),
        workload: Some(workload),
    }
}

fn waiting(reason: &str, message: &str) -> Value {
    app(&json!({"state": {"waiting": {"reason": reason, "message": message}}}))
}

/// A pod whose container has this status.
fn app(status: &Value) -> Value {
    let mut whole = json!({"name": "app", "image": IMAGE, "imageID": "", "ready": false,
        "restartCount": 0});
    whole.as_object_mut().unwrap().extend(status.as_object().unwrap().clone());
    json!({"status": {"phase": "Running", "containerStatuses": [whole]}})
}

fn crashed(exit_code: i32, reason: &str, restarts: i32) -> Value {
    app(&json!({"restartCount": restarts,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
        "lastState": {"terminated": {"exitCode": exit_code, "reason": reason, "message": "bye\n"}}}))
}

fn unscheduled(message: &str) -> Value {
    json!({"spec": {"nodeName": null}, "status": {"conditions": [{"type": "PodScheduled",
        "status": "False", "reason": "Unschedulable", "message": message}]}})
}

fn only(observed: &Observed) -> Diagnosed {
    let all = diagnose(observed, &Aim::default());
    assert_eq!(all.len(), 1, "{all:#?}");
    all.into_iter().next().unwrap()
}

#[test]
fn what_a_node_reports_has_a_code_and_an_end_or_none() {
    let no_notes: Said = &[];
    let table: Vec<(Value, Said, Code, bool)> = vec![
        (waiting("ErrImagePull", "manifest unknown"), no_notes, Code::ImageNotFound, true),
        (
            waiting("ImagePullBackOff", "Back-off pulling image"),
            &[(
                "Failed",
                concat!(
                    "Failed to pull image \"r.example/app@sha256:",
                    "00000000000000000000000000000000\": 401 Unauthorized"
                ),
            )],
            Code::ImagePullDenied,
            true,
        ),
        (
            waiting("ErrImagePull", "403 Forbidden"),
            &[(
                "FailedToRetrieveImagePullSecret",
                "Unable to retrieve some image pull secrets (x)",
            )],
            Code::PullSecretMissing,
            true,
        ),
        (waiting("ErrImagePull", "toomanyrequests"), no_notes, Code::ImagePullRateLimited, false),
        (waiting("ErrImagePull", "i/o timeout"), no_notes, Code::ImagePullFailed, false),
        (
            waiting("ErrImagePull", "no match for platform in manifest: not found"),
            no_notes,
            Code::ArchMismatch,
            true,
        ),
        (waiting("InvalidImageName", "couldn't parse"), no_notes, Code::ImageNameInvalid, true),
        (
            waiting("CreateContainerConfigError", "secret \"db\" not found"),
            no_notes,
            Code::ConfigMissing,
            true,
        ),
        (
            waiting("CreateContainerConfigError", "couldn't find key pass in Secret ns/db"),
            no_notes,
            Code::ConfigMissing,
            true,
        ),
        (
            waiting(
                "CreateContainerConfigError",
                "container has runAsNonRoot and image will run as root",
            ),
            no_notes,
            Code::ContainerRefused,
            true,
        ),
        (
            waiting("RunContainerError", "exec: \"/nope\": stat /nope: no such file or directory"),
            no_notes,
            Code::CommandNotFound,
            true,
        ),
        (
            waiting("RunContainerError", "exec /app: exec format error"),
            no_notes,
            Code::ExecFormatError,
            true,
        ),
        (crashed(1, "Error", 1), no_notes, Code::CrashLoop, true),
        (crashed(137, "OOMKilled", 2), no_notes, Code::OomKilled, true),
        (crashed(0, "Completed", 2), no_notes, Code::CrashLoop, true),
        (
            crashed(137, "Error", 1),
            &[("Unhealthy", "Liveness probe failed: HTTP probe failed with statuscode: 500")],
            Code::ProbeFailing,
            true,
        ),
        (
            app(&json!({"state": {"terminated": {"exitCode": 2, "reason": "Error"}}})),
            no_notes,
            Code::CrashLoop,
            false,
        ),
        (
            app(&json!({"state": {"terminated": {"exitCode": 128, "reason": "StartError",
                "message": "exec: \"x\": executable file not found in $PATH"}}})),
            no_notes,
            Code::CommandNotFound,
            true,
        ),
        (
            app(&json!({"state": {"running": {}}, "started": true})),
            &[("Unhealthy", "Readiness probe failed: connection refused")],
            Code::ProbeFailing,
            false,
        ),
        (
            unscheduled("0/3 nodes are available: 3 Insufficient cpu."),
            no_notes,
            Code::Unschedulable,
            false,
        ),
        (
            unscheduled(
                "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector.",
            ),
            no_notes,
            Code::Unschedulable,
            true,
        ),
        (
            unscheduled(
                "0/1 nodes are available: 1 node(s) had untolerated taint {dedicated: gpu}.",
            ),
            no_notes,
            Code::Unschedulable,
            true,
        ),
        (
            unscheduled(
                "0/1 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }.",
            ),
            no_notes,
            Code::Unschedulable,
            false,
        ),
        (
            unscheduled(
                "0/1 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/disk-pressure: }.",
            ),
            no_notes,
            Code::NodePressure,
            false,
        ),
        (
            unscheduled(
                "0/3 nodes are available: persistentvolumeclaim \"data\" is being deleted.",
            ),
            no_notes,
            Code::VolumeClaimPending,
            true,
        ),
        (
            unscheduled("0/3 nodes are available: persistentvolumeclaim \"data\" not found."),
            no_notes,
            Code::VolumeClaimPending,
            true,
        ),
        (
            unscheduled(
                "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims.",
            ),
            no_notes,
            Code::VolumeClaimPending,
            false,
        ),
        (
            waiting("ContainerCreating", ""),
            &[(
                "FailedMount",
                "MountVolume.SetUp failed for volume \"c\" : configmap \"c\" not found",
            )],
            Code::ConfigMissing,
            true,
        ),
        (
            waiting("ContainerCreating", ""),
            &[("FailedAttachVolume", "Multi-Attach error for volume \"v\"")],
            Code::VolumeMountFailed,
            false,
        ),
        (
            waiting("ContainerCreating", ""),
            &[("FailedCreatePodSandBox", "network plugin not ready")],
            Code::SandboxFailed,
            false,
        ),
        (
            json!({"status": {"phase": "Failed", "reason": "Evicted", "message": "low on memory"}}),
            no_notes,
            Code::NodePressure,
            false,
        ),
    ];
    for (pod, notes, code, fatal) in table {
        let found = only(&seen(std::slice::from_ref(&pod), notes)).diagnosis;
        assert_eq!((found.code, found.fatal), (code, fatal), "{pod} {notes:?}");
        assert!(!found.message.is_empty() && !found.message.ends_with('.'), "{}", found.message);
        assert!(!found.fix.is_empty());
        assert!(!found.evidence.is_empty(), "{found:?}");
    }
}

#[test]
fn init_containers_have_their_own_code() {
    let pod = json!({
        "spec": {"initContainers": [{"name": "migrate", "image": "m:1"}]},
        "status": {"phase": "Pending",
            "containerStatuses": [{"name": "app", "image": IMAGE, "imageID": "", "ready": false,
                "restartCount": 0, "state": {"waiting": {"reason": "PodInitializing"}}}],
            "initContainerStatuses": [{"name": "migrate", "image": "m:1", "imageID": "",
                "ready": false, "restartCount": 1,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"exitCode": 3, "reason": "Error"}}}]},
    });
    let found = only(&seen(&[pod], &[])).diagnosis;
    assert_eq!((found.code, found.fatal, found.exit_code), (Code::InitFailed, true, Some(3)));
    assert_eq!(found.container.as_deref(), Some("migrate"));
}

#[test]
fn a_startup_probe_that_has_not_succeeded_is_no_failing_readiness_probe() {
    let mut pod = app(&json!({"state": {"running": {}}, "started": false}));
    pod["spec"] = json!({"containers": [{"name": "app", "image": IMAGE,
        "startupProbe": {"tcpSocket": {"port": 1}}, "readinessProbe": {"tcpSocket": {"port": 1}}}]});
    let found = only(&seen(&[pod], &[])).diagnosis;
    assert_eq!((found.code, found.fatal), (Code::NotStarted, false));
}

#[test]
fn the_trouble_of_many_pods_is_one_diagnosis() {
    let pods: Vec<Value> = (0..5).map(|_| waiting("ErrImagePull", "manifest unknown")).collect();
    let found = only(&seen(&pods, &[])).diagnosis;
    assert_eq!((found.pod_count, found.pods.len()), (5, 3));
}

#[test]
fn pods_of_other_revisions_and_ready_pods_are_left_alone() {
    let mut old = waiting("ErrImagePull", "manifest unknown");
    old["metadata"] = json!({"ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet",
        "name": "web-0", "uid": "old", "controller": true}]});
    assert_eq!(diagnose(&seen(&[old], &[]), &Aim::default()), []);
    let mut well = crashed(1, "Error", 9);
    well["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
    assert_eq!(diagnose(&seen(&[well], &[]), &Aim::default()), []);
}

#[test]
fn what_keeps_a_controller_from_making_pods_is_told() {
    let table = [
        (
            "pods \"web\" is forbidden: exceeded quota: q, requested: pods=1",
            Code::QuotaExceeded,
            true,
        ),
        ("admission webhook \"p.example\" denied the request: no", Code::AdmissionRefused, true),
        (
            "pods \"web\" is forbidden: violates PodSecurity \"restricted\"",
            Code::AdmissionRefused,
            true,
        ),
        ("Internal error occurred: failed calling webhook \"p\"", Code::WebhookUnreachable, false),
        (
            "pods \"web\" is forbidden: error looking up service account ns/x: serviceaccount \"x\" not found",
            Code::ConfigMissing,
            true,
        ),
    ];
    for (words, code, fatal) in table {
        let mut observed = seen(&[], &[]);
        observed.revisions.get_mut("r").unwrap().failure = Some(words.to_owned());
        let found = only(&observed).diagnosis;
        assert_eq!((found.code, found.fatal), (code, fatal), "{words}");
    }
}

#[test]
fn a_log_may_know_better() {
    let mut found = only(&seen(&[crashed(255, "Error", 1)], &[])).diagnosis;
    refine(&mut found, vec!["exec /app: exec format error".to_owned()]);
    assert_eq!((found.code, found.log.len()), (Code::ExecFormatError, 1));
    // Shells that started the program have words of their own.
    for words in [
        "/run.sh: line 1: /app: cannot execute binary file: Exec format error",
        "/run.sh: 1: exec: /app: Exec format error",
        "/app: line 1: ELF: not found",
    ] {
        let mut found = only(&seen(&[crashed(127, "Error", 1)], &[])).diagnosis;
        refine(&mut found, vec![words.to_owned(), "more".to_owned()]);
        assert_eq!(found.code, Code::ExecFormatError, "{words}");
        assert_eq!(found.evidence.last().map(String::as_str), Some(words));
    }
    let mut found = only(&seen(&[crashed(1, "Error", 1)], &[])).diagnosis;
    refine(&mut found, vec!["panic: no".to_owned()]);
    assert_eq!((found.code, found.log.len()), (Code::CrashLoop, 1));
}

#[test]
fn a_pod_whose_node_is_gone_is_told_apart_by_an_event() {
    let running = app(&json!({"ready": true, "started": true, "state": {"running": {}}}));
    let seen = |notes: Said| seen(std::slice::from_ref(&running), notes);
    assert_eq!(diagnose(&seen(&[]), &Aim::default()), []);
    let found = only(&seen(&[("NodeNotReady", "Node is not ready")])).diagnosis;
    assert_eq!((found.code, found.fatal), (Code::NodeLost, false));
}
