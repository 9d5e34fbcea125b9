//! What a node reports is named with its code, and the image before comes back: each failure, in
//! each kind of workload.

use super::{
    beside::Beside,
    observer::{Observer, Report, Told, in_time},
    shop::{Kind, Lines, Shop, digest, name_of, new, old, on_pods, workload},
};
use crate::command::succeed;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Where waiting cannot help, the end comes long before the time that is given.
const GIVEN: &str = "150s";
/// Where waiting could help, the time that is given is waited out.
const BRIEF: &str = "12s";
/// Pods with these failures are ready for a moment.
const SEEM_TO_WORK: [&str; 5] =
    ["Completed", "CrashLoopBackOff", "ExecFormat", "LivenessFailing", "OOMKilled"];

/// A rollout whose new pods fail with `fail`: diagnosed as `code`, rolled back, verified.
fn fails_at_once(kind: Kind, fail: &'static str, code: &str) {
    in_time(|| {
        let (object, shop) = failing(kind, fail);
        let observer = Observer::of(&shop.namespace);
        let name = name_of(&object);
        let beside = Beside::of(&shop, &name, &new());
        let (rolled, lines) = shop.timed(&name, &new(), &["--timeout", GIVEN]);
        rolled.ended(13, code);
        let report = rolled.workload();
        assert_eq!(report["outcome"], "failed", "{report:#}");
        check(&shop, kind, code, report);
        assert!(rolled.took < Duration::from_mins(2), "it waited: {:?}", rolled.took);
        let reported = observer.first(Report::of(fail), &new()).expect("the report was seen");
        let back = lines.first("[rollback]").expect("the way back is told");
        let ended = back.duration_since(reported);
        kubectl_knows_no_failure(beside, fail, back);
        // What only a log tells has its name when the log was read.
        let by_log = code == "EXEC_FORMAT_ERROR";
        let named = named(&lines, if by_log { "CRASH_LOOP" } else { code }, reported);
        Told { named, ended: Some(ended) }
    });
}

/// A rollout that is waited out, because the failure could pass.
fn fails_in_time(kind: Kind, fail: &'static str, code: &str) {
    in_time(|| {
        let (object, shop) = failing(kind, fail);
        let observer = Observer::of(&shop.namespace);
        let name = name_of(&object);
        let beside = Beside::of(&shop, &name, &new());
        let (rolled, lines) = shop.timed(&name, &new(), &["--timeout", BRIEF]);
        let report = rolled.workload();
        assert_eq!(rolled.json["error"]["code"], code, "{:#}", rolled.json);
        assert_eq!(report["outcome"], "timed_out", "{report:#}");
        // The way back has no more time than the way there.
        assert!(matches!(rolled.code, 13 | 14), "{:#}", rolled.json);
        if rolled.code == 13 {
            check(&shop, kind, code, report);
            let back = lines.first("[rollback]").expect("the way back is told");
            kubectl_knows_no_failure(beside, fail, back);
        }
        let reported = observer.first(Report::of(fail), &new()).expect("the report was seen");
        Told { named: named(&lines, code, reported), ended: None }
    });
}

/// kubectl has no word for the failure: it waits on while we go `back`, and where pods seem to work
/// before they fail, it has called them a success already.
fn kubectl_knows_no_failure(beside: Beside, fail: &str, back: Instant) {
    let verdict = beside.verdict();
    assert_eq!(verdict.code, 0, "{verdict:?}");
    if !SEEM_TO_WORK.contains(&fail) {
        assert!(verdict.at > back, "kubectl was first: {verdict:?}");
    }
}

/// How long after `reported` the diagnosis `code` was on the screen.
fn named(lines: &Lines, code: &str, reported: Instant) -> Duration {
    let at = lines.first(&format!("{code}: "));
    at.unwrap_or_else(|| panic!("{code} is not told: {lines:#?}")).duration_since(reported)
}

fn failing(kind: Kind, fail: &'static str) -> (Value, Shop) {
    let mut object = workload(kind);
    on_pods(&mut object, &[("fail", fail), ("fail-image", &digest('b'))]);
    if matches!(fail, "ReadinessFailing") {
        object["spec"]["template"]["spec"]["containers"][0]["readinessProbe"] =
            json!({"httpGet": {"port": 80, "path": "/"}});
    }
    if fail == "StartupFailing" {
        object["spec"]["template"]["spec"]["containers"][0]["startupProbe"] =
            json!({"httpGet": {"port": 80, "path": "/"}});
    }
    if fail == "LivenessFailing" {
        object["spec"]["template"]["spec"]["containers"][0]["livenessProbe"] =
            json!({"httpGet": {"port": 80, "path": "/"}});
    }
    if matches!(fail, "InitFailing" | "InitErrImagePull") {
        object["spec"]["template"]["spec"]["initContainers"] =
            json!([{"name": "migrate", "image": old()}]);
    }
    if fail == "ReadinessGate" {
        object["spec"]["template"]["spec"]["readinessGates"] =
            json!([{"conditionType": "example.test/gate"}]);
    }
    if fail == "ExecFormat" {
        object["spec"]["template"]["spec"]["containers"][0]["name"] = json!("exec-format");
    }
    let shop = Shop::with(&object);
    (object, shop)
}

/// The image before runs again, and the report says of the failure what a reader needs.
fn check(shop: &Shop, kind: Kind, code: &str, report: &Value) {
    let name = format!("{}/web", kind.word());
    let first = &report["diagnoses"][0];
    assert_eq!(first["code"], code, "{report:#}");
    for field in ["message", "fix"] {
        assert!(first[field].as_str().is_some_and(|text| !text.is_empty()), "{first:#}");
    }
    assert!(!first["evidence"].as_array().unwrap().is_empty(), "{first:#}");
    assert_eq!(report["rollback"]["outcome"], "verified", "{report:#}");
    assert_eq!(report["rollback"]["image"], old(), "{report:#}");
    let pods = report["rollback"]["pods"].as_array().unwrap();
    assert_eq!(pods.len(), 2, "{report:#}");
    for pod in pods {
        assert_eq!(
            (&pod["image_id"], &pod["ready"]),
            (&json!(digest('a')), &json!(true)),
            "{pod:#}"
        );
    }
    shop.runs(&old(), 2);
    assert!(shop.kubectl_calls_it_done(&name), "kubectl does not call the rollback done");
    assert!(shop.is_unlocked(&format!("bk-sync-{}-web", kind.word())), "the lock is kept");
}

macro_rules! scenarios {
    ($($how:ident $name:ident: $kind:ident, $fail:literal => $code:literal;)*) => {
        $(
            #[test]
            fn $name() {
                $how(Kind::$kind, $fail, $code);
            }
        )*
    };
}

scenarios! {
    fails_at_once deployment_image_not_found: Deployment, "ErrImagePull" => "IMAGE_NOT_FOUND";
    fails_at_once deployment_pull_back_off: Deployment, "ImagePullBackOff" => "IMAGE_NOT_FOUND";
    fails_at_once deployment_pull_denied: Deployment, "ErrImagePull-denied" => "IMAGE_PULL_DENIED";
    fails_at_once deployment_pull_unauthorized: Deployment, "ErrImagePull-unauthorized" => "IMAGE_PULL_DENIED";
    fails_at_once deployment_pull_forbidden: Deployment, "ErrImagePull-forbidden" => "IMAGE_PULL_DENIED";
    fails_at_once deployment_pull_secret_missing: Deployment, "ErrImagePull-secret" => "PULL_SECRET_MISSING";
    fails_at_once deployment_platform: Deployment, "ErrImagePull-platform" => "ARCH_MISMATCH";
    fails_at_once deployment_pull_tls: Deployment, "ErrImagePull-tls" => "IMAGE_PULL_FAILED";
    fails_in_time deployment_pull_timeout: Deployment, "ErrImagePull-timeout" => "IMAGE_PULL_FAILED";
    fails_in_time deployment_pull_dns: Deployment, "ErrImagePull-dns" => "IMAGE_PULL_FAILED";
    fails_in_time deployment_rate_limit: Deployment, "RateLimited" => "IMAGE_PULL_RATE_LIMITED";
    fails_at_once deployment_image_name: Deployment, "InvalidImageName" => "IMAGE_NAME_INVALID";
    fails_at_once deployment_never_pull: Deployment, "ErrImageNeverPull" => "IMAGE_NOT_FOUND";
    fails_at_once deployment_secret_missing: Deployment, "CreateContainerConfigError" => "CONFIG_MISSING";
    fails_at_once deployment_config_map_missing: Deployment, "CreateContainerConfigError-configmap" => "CONFIG_MISSING";
    fails_at_once deployment_key_missing: Deployment, "CreateContainerConfigError-key" => "CONFIG_MISSING";
    fails_at_once deployment_runs_as_root: Deployment, "CreateContainerConfigError-root" => "CONTAINER_REFUSED";
    fails_at_once deployment_container_refused: Deployment, "CreateContainerError" => "COMMAND_NOT_FOUND";
    fails_at_once deployment_command_missing: Deployment, "RunContainerError" => "COMMAND_NOT_FOUND";
    fails_at_once deployment_crash: Deployment, "CrashLoopBackOff" => "CRASH_LOOP";
    fails_at_once deployment_out_of_memory: Deployment, "OOMKilled" => "OOM_KILLED";
    fails_at_once deployment_ends_by_itself: Deployment, "Completed" => "CRASH_LOOP";
    fails_at_once deployment_liveness: Deployment, "LivenessFailing" => "PROBE_FAILING";
    fails_at_once deployment_startup: Deployment, "StartupFailing" => "NOT_STARTED";
    fails_in_time deployment_readiness: Deployment, "ReadinessFailing" => "PROBE_FAILING";
    fails_at_once deployment_volume_secret: Deployment, "FailedMount-secret" => "CONFIG_MISSING";
    fails_in_time deployment_volume: Deployment, "FailedAttachVolume" => "VOLUME_MOUNT_FAILED";
    fails_in_time deployment_sandbox: Deployment, "FailedCreatePodSandBox" => "SANDBOX_FAILED";
    fails_at_once deployment_init: Deployment, "InitFailing" => "INIT_FAILED";
    fails_in_time deployment_evicted: Deployment, "Evicted" => "NODE_PRESSURE";
    fails_in_time deployment_node_shutdown: Deployment, "NodeShutdown" => "NODE_LOST";
    fails_at_once stateful_set_image_not_found: StatefulSet, "ErrImagePull" => "IMAGE_NOT_FOUND";
    fails_at_once stateful_set_pull_denied: StatefulSet, "ErrImagePull-denied" => "IMAGE_PULL_DENIED";
    fails_at_once stateful_set_crash: StatefulSet, "CrashLoopBackOff" => "CRASH_LOOP";
    fails_at_once stateful_set_out_of_memory: StatefulSet, "OOMKilled" => "OOM_KILLED";
    fails_at_once stateful_set_secret_missing: StatefulSet, "CreateContainerConfigError" => "CONFIG_MISSING";
    fails_at_once stateful_set_command_missing: StatefulSet, "RunContainerError" => "COMMAND_NOT_FOUND";
    fails_at_once stateful_set_platform: StatefulSet, "ErrImagePull-platform" => "ARCH_MISMATCH";
    fails_at_once stateful_set_exec_format: StatefulSet, "ExecFormat" => "EXEC_FORMAT_ERROR";
    fails_at_once stateful_set_init: StatefulSet, "InitFailing" => "INIT_FAILED";
    fails_at_once stateful_set_liveness: StatefulSet, "LivenessFailing" => "PROBE_FAILING";
    fails_at_once stateful_set_volume_secret: StatefulSet, "FailedMount-secret" => "CONFIG_MISSING";
    fails_in_time stateful_set_readiness: StatefulSet, "ReadinessFailing" => "PROBE_FAILING";
    fails_at_once daemon_set_image_not_found: DaemonSet, "ErrImagePull" => "IMAGE_NOT_FOUND";
    fails_at_once daemon_set_pull_denied: DaemonSet, "ErrImagePull-denied" => "IMAGE_PULL_DENIED";
    fails_at_once daemon_set_crash: DaemonSet, "CrashLoopBackOff" => "CRASH_LOOP";
    fails_at_once daemon_set_out_of_memory: DaemonSet, "OOMKilled" => "OOM_KILLED";
    fails_at_once daemon_set_secret_missing: DaemonSet, "CreateContainerConfigError" => "CONFIG_MISSING";
    fails_at_once daemon_set_platform: DaemonSet, "ErrImagePull-platform" => "ARCH_MISMATCH";
    fails_at_once daemon_set_exec_format: DaemonSet, "ExecFormat" => "EXEC_FORMAT_ERROR";
    fails_at_once daemon_set_command_missing: DaemonSet, "RunContainerError" => "COMMAND_NOT_FOUND";
    fails_at_once daemon_set_init: DaemonSet, "InitFailing" => "INIT_FAILED";
    fails_at_once daemon_set_startup: DaemonSet, "StartupFailing" => "NOT_STARTED";
    fails_in_time daemon_set_readiness: DaemonSet, "ReadinessFailing" => "PROBE_FAILING";
    fails_at_once daemon_set_liveness: DaemonSet, "LivenessFailing" => "PROBE_FAILING";
    fails_at_once stateful_set_pull_secret_missing: StatefulSet, "ErrImagePull-secret" => "PULL_SECRET_MISSING";
    fails_at_once stateful_set_config_map_missing: StatefulSet, "CreateContainerConfigError-configmap" => "CONFIG_MISSING";
    fails_at_once stateful_set_key_missing: StatefulSet, "CreateContainerConfigError-key" => "CONFIG_MISSING";
    fails_at_once stateful_set_runs_as_root: StatefulSet, "CreateContainerConfigError-root" => "CONTAINER_REFUSED";
    fails_at_once stateful_set_startup: StatefulSet, "StartupFailing" => "NOT_STARTED";
    fails_in_time stateful_set_rate_limit: StatefulSet, "RateLimited" => "IMAGE_PULL_RATE_LIMITED";
    fails_in_time stateful_set_volume: StatefulSet, "FailedAttachVolume" => "VOLUME_MOUNT_FAILED";
    fails_in_time stateful_set_sandbox: StatefulSet, "FailedCreatePodSandBox" => "SANDBOX_FAILED";
    fails_at_once daemon_set_pull_secret_missing: DaemonSet, "ErrImagePull-secret" => "PULL_SECRET_MISSING";
    fails_at_once daemon_set_config_map_missing: DaemonSet, "CreateContainerConfigError-configmap" => "CONFIG_MISSING";
    fails_at_once daemon_set_key_missing: DaemonSet, "CreateContainerConfigError-key" => "CONFIG_MISSING";
    fails_at_once daemon_set_runs_as_root: DaemonSet, "CreateContainerConfigError-root" => "CONTAINER_REFUSED";
    fails_at_once daemon_set_volume_secret: DaemonSet, "FailedMount-secret" => "CONFIG_MISSING";
    fails_in_time daemon_set_rate_limit: DaemonSet, "RateLimited" => "IMAGE_PULL_RATE_LIMITED";
    fails_in_time daemon_set_volume: DaemonSet, "FailedAttachVolume" => "VOLUME_MOUNT_FAILED";
    fails_in_time daemon_set_sandbox: DaemonSet, "FailedCreatePodSandBox" => "SANDBOX_FAILED";
}

#[test]
fn an_exec_format_error_is_read_out_of_the_log() {
    let (object, shop) = failing(Kind::Deployment, "ExecFormat");
    let rolled = shop.rollout(&name_of(&object), &new(), &["--timeout", GIVEN]);
    rolled.ended(13, "EXEC_FORMAT_ERROR");
    let log = rolled.workload()["diagnoses"][0]["log"].to_string();
    assert!(log.contains("exec format error"), "{log}");
}

#[test]
fn a_readiness_gate_that_nobody_opens_is_named() {
    // kwok opens a pod's gates when it runs, but for pods that are told to wait for them.
    let (object, shop) = failing(Kind::Deployment, "ReadinessGate");
    let rolled = shop.rollout(&name_of(&object), &new(), &["--timeout", BRIEF]);
    rolled.ended(13, "READINESS_GATE");
    let message = rolled.json["error"]["message"].as_str().unwrap();
    assert!(message.contains("example.test/gate"), "{message}");
    shop.runs(&old(), 2);
}

#[test]
fn the_last_lines_of_the_container_that_crashed_are_shown() {
    let (object, shop) = failing(Kind::Deployment, "CrashLoopBackOff");
    let rolled = shop.rollout(&name_of(&object), &new(), &["--timeout", GIVEN]);
    rolled.ended(13, "CRASH_LOOP");
    let step = &rolled.json["error"]["details"]["step"];
    assert!(step["log"].to_string().contains("password authentication failed"), "{step:#}");
    assert_eq!(step["exit_code"], 1, "{step:#}");
}

#[test]
fn what_is_tolerated_is_waited_out() {
    let mut object = workload(Kind::Deployment);
    on_pods(
        &mut object,
        &[("fail", "CrashLoopBackOff"), ("fail-image", &digest('b')), ("recover-after", "2s")],
    );
    let shop = Shop::with(&object);
    let flags = ["--timeout", GIVEN, "--tolerate", "CRASH_LOOP"];
    let rolled = shop.rollout("deployment/web", &new(), &flags);
    rolled.ended(0, "");
    assert_eq!(rolled.workload()["outcome"], "rolled_out");
    shop.runs(&new(), 2);
}

#[test]
fn what_no_node_can_take_is_told_with_its_constraint() {
    for kind in [Kind::Deployment, Kind::StatefulSet] {
        let object = workload(kind);
        let (shop, name) = (Shop::with(&object), name_of(&object));
        // A rival setting that arrives with the image: the new pods find no node.
        let rival = json!({"spec": {"template": {"spec": {"nodeSelector": {"nowhere": "true"},
            "containers": [{"name": "app", "image": new()}]}}}});
        succeed(&mut shop.kubectl(&["patch", &name, "-p", &rival.to_string()]));
        // The image is there already; its pods are not.
        let rolled = shop.rollout(&name, &new(), &["--timeout", GIVEN, "--on-failure", "keep"]);
        rolled.ended(14, "UNSCHEDULABLE");
        let message = rolled.json["error"]["message"].as_str().unwrap();
        assert!(message.contains("labels"), "{message}");
    }
}

#[test]
fn an_image_that_is_swapped_on_its_way_is_no_success() {
    let mut object = workload(Kind::Deployment);
    on_pods(&mut object, &[("image-id", &digest('a'))]);
    let shop = Shop::with(&object);
    let rolled =
        shop.rollout("deployment/web", &new(), &["--timeout", GIVEN, "--on-failure", "keep"]);
    rolled.ended(14, "IMAGE_MISMATCH");
}
