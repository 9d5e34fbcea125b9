//! Rollouts that come about, of every kind and strategy.

use super::beside::Beside;
use super::shop::{Kind, Rolled, Shop, digest, name_of, new, old, other, workload};
use crate::{
    bed,
    command::{run, succeed, unique, write_files},
};
use serde_json::{Value, json};
use std::time::Instant;

/// A rollout that comes about: two proven pods, by kubectl's word too.
fn comes_about(object: &Value) -> Shop {
    let shop = Shop::with(object);
    let name = name_of(object);
    let beside = Beside::of(&shop, &name, &new());
    let rolled = shop.rollout(&name, &new(), &["--timeout", "170s"]);
    rolled.ended(0, "");
    let report = rolled.workload();
    assert_eq!(report["outcome"], "rolled_out", "{report:#}");
    assert_eq!((&report["image"], &report["previous_image"]), (&json!(new()), &json!(old())));
    let pods = report["pods"].as_array().unwrap();
    assert_eq!(pods.len(), 2, "{report:#}");
    for pod in pods {
        assert_eq!(pod["image_id"], digest('b'), "{pod:#}");
        assert_eq!(pod["ready"], true);
        assert!(pod["uid"].is_string() && pod["node"].is_string() && pod["started_at"].is_string());
    }
    assert!(report["revision"]["uid"].is_string(), "{report:#}");
    shop.runs(&new(), 2);
    let verdict = beside.verdict();
    assert_eq!(verdict.code, 0, "{verdict:?}");
    shop
}

#[test]
fn a_deployment() {
    let shop = comes_about(&workload(Kind::Deployment));
    let object = shop.get("deployment/web");
    let annotations = &object["metadata"]["annotations"];
    assert_eq!(annotations["bk-sync/image"], new());
    assert_eq!(annotations["bk-sync/previous-image"], old());
    assert!(
        annotations["kubernetes.io/change-cause"].as_str().unwrap().contains("bk-sync rollout")
    );
    // Pods are not told apart by what is only written beside the change.
    assert!(object["spec"]["template"]["metadata"]["annotations"].get("bk-sync/image").is_none());
}

#[test]
fn a_deployment_that_recreates() {
    let mut object = workload(Kind::Deployment);
    object["spec"]["strategy"] = json!({"type": "Recreate"});
    comes_about(&object);
}

#[test]
fn a_stateful_set() {
    comes_about(&workload(Kind::StatefulSet));
}

#[test]
fn a_stateful_set_in_parallel() {
    let mut object = workload(Kind::StatefulSet);
    object["spec"]["podManagementPolicy"] = json!("Parallel");
    comes_about(&object);
}

#[test]
fn a_daemon_set() {
    comes_about(&workload(Kind::DaemonSet));
}

#[test]
fn a_deployment_with_min_ready_seconds() {
    let mut object = workload(Kind::Deployment);
    object["spec"]["minReadySeconds"] = json!(2);
    comes_about(&object);
}

#[test]
fn a_partitioned_stateful_set_is_done_in_part() {
    let mut object = workload(Kind::StatefulSet);
    object["spec"]["updateStrategy"] =
        json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 1}});
    let shop = Shop::with(&object);
    let rolled = shop.rollout("statefulset/web", &new(), &[]);
    rolled.ended(0, "");
    assert_eq!(rolled.workload()["pods"].as_array().unwrap().len(), 1);
    assert!(rolled.workload()["message"].as_str().unwrap().contains("partition"));
    let (mut images, ready) = shop.pods();
    images.sort();
    assert_eq!((images, ready), (vec![old(), new()], true));
}

#[test]
fn what_waits_for_deletion_is_set_and_said() {
    for kind in [Kind::StatefulSet, Kind::DaemonSet] {
        let mut object = workload(kind);
        object["spec"]["updateStrategy"] = json!({"type": "OnDelete"});
        let shop = Shop::open();
        shop.apply(&object);
        shop.until("two ready pods", |shop| shop.pods().0.len() == 2 && shop.pods().1);
        let rolled = shop.rollout(&name_of(&object), &new(), &[]);
        rolled.ended(0, "");
        assert_eq!(rolled.workload()["outcome"], "set");
        shop.runs(&old(), 2);
        assert_eq!(shop.image(&name_of(&object)), new());
    }
}

#[test]
fn the_same_digest_touches_nothing() {
    let shop = Shop::with(&workload(Kind::Deployment));
    shop.rollout("deployment/web", &new(), &[]).ended(0, "");
    let before = shop.get("deployment/web");
    let tagged = new().replace("app@", "app:v2@");
    let rolled = shop.rollout("deployment/web", &tagged, &[]);
    rolled.ended(0, "");
    assert_eq!(rolled.workload()["outcome"], "unchanged");
    let after = shop.get("deployment/web");
    assert_eq!(before["metadata"]["generation"], after["metadata"]["generation"]);
    assert_eq!(before["metadata"]["annotations"], after["metadata"]["annotations"]);
}

#[test]
fn an_earlier_digest_comes_back_though_its_conditions_are_stale() {
    let shop = Shop::with(&workload(Kind::Deployment));
    shop.rollout("deployment/web", &new(), &[]).ended(0, "");
    let rolled = shop.rollout("deployment/web", &old(), &[]);
    rolled.ended(0, "");
    assert_eq!(rolled.workload()["outcome"], "rolled_out");
    shop.runs(&old(), 2);
}

#[test]
fn a_rollout_that_was_given_up_before_is_no_verdict_on_the_next() {
    let mut object = workload(Kind::Deployment);
    object["spec"]["progressDeadlineSeconds"] = json!(3);
    super::shop::on_pods(&mut object, &[("fail", "Stuck"), ("fail-image", &digest('c'))]);
    let shop = Shop::with(&object);
    let stuck =
        shop.rollout("deployment/web", &other(), &["--on-failure", "keep", "--timeout", "90s"]);
    stuck.ended(14, "ROLLOUT_TIMEOUT");
    assert!(!shop.kubectl_calls_it_done("deployment/web"));
    // The ReplicaSet of the old image is there, and the condition says that the deadline passed.
    let rolled = shop.rollout("deployment/web", &old(), &["--timeout", "90s"]);
    rolled.ended(0, "");
    shop.runs(&old(), 2);
}

#[test]
fn no_replicas_are_a_warning() {
    let mut object = workload(Kind::Deployment);
    object["spec"]["replicas"] = json!(0);
    let shop = Shop::with(&object);
    let rolled = shop.rollout("deployment/web", &new(), &[]);
    rolled.ended(0, "");
    assert!(rolled.json["warnings"].to_string().contains("NO_REPLICAS"), "{:#}", rolled.json);
    assert_eq!(shop.image("deployment/web"), new());
}

#[test]
fn a_cron_job_is_set_and_not_waited_for() {
    let shop = Shop::open();
    let pod = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "app", "image": old()}]}});
    shop.apply(&json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "web"},
        "spec": {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": pod}}},
    }));
    let rolled = shop.rollout("cronjob/web", &new(), &[]);
    rolled.ended(0, "");
    assert_eq!(rolled.workload()["outcome"], "set");
    let object = shop.get("cronjob/web");
    let container = &object["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], new());
    let again = shop.rollout("cronjob/web", &new(), &[]);
    assert_eq!(again.workload()["outcome"], "unchanged");
}

#[test]
fn init_containers_and_sidecars_of_the_repository_go_along() {
    let mut object = workload(Kind::Deployment);
    object["spec"]["template"]["spec"]["initContainers"] =
        json!([{"name": "migrate", "image": old()}]);
    object["spec"]["template"]["spec"]["containers"] = json!([
        {"name": "app", "image": old()}, {"name": "proxy", "image": "registry.example/proxy:1"}]);
    let shop = Shop::with(&object);
    let rolled = shop.rollout("deployment/web", &new(), &[]);
    rolled.ended(0, "");
    assert_eq!(rolled.workload()["containers"], json!(["app", "migrate"]));
    let spec = shop.get("deployment/web")["spec"]["template"]["spec"].clone();
    assert_eq!(spec["initContainers"][0]["image"], new());
    assert_eq!(spec["containers"][0]["image"], new());
    assert_eq!(spec["containers"][1]["image"], "registry.example/proxy:1");
}

#[test]
fn several_workloads_get_one_digest_together_or_in_order() {
    for flags in [&[][..], &["--together"][..]] {
        let shop = Shop::with(&workload(Kind::Deployment));
        let second = super::shop::named(Kind::StatefulSet, "db");
        shop.apply(&second);
        shop.settled(&second);
        let mut command = shop.command("deployment/web", &new(), flags);
        command.arg("statefulset/db");
        let said = succeed(&mut command);
        let json: Value = serde_json::from_str(&said.stdout).unwrap();
        let outcomes: Vec<&Value> = json["result"]["workloads"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| &one["outcome"])
            .collect();
        assert_eq!(outcomes, ["rolled_out", "rolled_out"]);
        shop.runs(&new(), 4);
    }
}

#[test]
fn a_deployment_that_is_scaled_meanwhile_is_done_with_all_its_pods() {
    let mut object = workload(Kind::Deployment);
    super::shop::on_pods(&mut object, &[("delay", "2s")]);
    let shop = Shop::with(&object);
    let child = shop
        .command("deployment/web", &new(), &[])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    shop.until("the new image", |shop| shop.image("deployment/web") == new());
    succeed(&mut shop.kubectl(&["scale", "deployment/web", "--replicas=4"]));
    let output = child.wait_with_output().unwrap();
    let said = crate::command::said(&output);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let json: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(json["result"]["workloads"][0]["pods"].as_array().unwrap().len(), 4);
    shop.runs(&new(), 4);
}

#[test]
fn a_stateful_set_that_is_scaled_meanwhile_is_done_with_all_its_pods() {
    let mut object = workload(Kind::StatefulSet);
    super::shop::on_pods(&mut object, &[("delay", "2s")]);
    let shop = Shop::with(&object);
    let child = shop.set("statefulset/web", &new(), &["--timeout", "170s"]);
    succeed(&mut shop.kubectl(&["scale", "statefulset/web", "--replicas=3"]));
    let rolled = Rolled::of(child);
    rolled.ended(0, "");
    assert_eq!(rolled.workload()["pods"].as_array().unwrap().len(), 3);
    shop.runs(&new(), 3);
}

#[test]
fn what_an_autoscaler_wants_is_left_to_it() {
    let mut object = workload(Kind::Deployment);
    super::shop::on_pods(&mut object, &[("delay", "2s")]);
    let shop = Shop::with(&object);
    let child = shop.set("deployment/web", &new(), &["--timeout", "170s"]);
    // The controller goes to the least number at once; it needs no numbers for that.
    shop.apply(&json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "minReplicas": 4, "maxReplicas": 8,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": 80}}}],
        },
    }));
    let rolled = Rolled::of(child);
    rolled.ended(0, "");
    shop.until("the autoscaler", |shop| shop.get("deployment/web")["spec"]["replicas"] == 4);
    // Another rollout finds four, and leaves four.
    let rolled = shop.rollout("deployment/web", &other(), &["--timeout", "170s"]);
    rolled.ended(0, "");
    assert_eq!(rolled.workload()["pods"].as_array().unwrap().len(), 4);
    assert_eq!(shop.get("deployment/web")["spec"]["replicas"], 4);
    shop.runs(&other(), 4);
}

#[test]
fn rollback_goes_back_to_the_image_before_and_status_tells() {
    let shop = Shop::with(&workload(Kind::Deployment));
    shop.rollout("deployment/web", &new(), &[]).ended(0, "");
    let status = |shop: &Shop| -> Value {
        let mut command = shop.bk_sync();
        command.args(["status", "deployment/web", "-n", &shop.namespace, "--format", "json"]);
        serde_json::from_str(&succeed(&mut command).stdout).unwrap()
    };
    let now = status(&shop);
    let web = &now["result"]["workloads"][0];
    assert_eq!(
        (&web["image"], &web["is_recorded"], &web["settled"]),
        (&json!(new()), &json!(true), &json!(true))
    );
    let mut command = shop.bk_sync();
    command.args(["rollback", "deployment/web", "-n", &shop.namespace, "--format", "json"]);
    let said = succeed(&mut command);
    let json: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(json["result"]["workloads"][0]["outcome"], "rolled_out", "{json:#}");
    shop.runs(&old(), 2);
    // Somebody else's change is told as one.
    let set = format!("app={}", other());
    succeed(&mut shop.kubectl(&["set", "image", "deployment/web", &set]));
    shop.settled(&workload(Kind::Deployment));
    let web = status(&shop)["result"]["workloads"][0].clone();
    assert_eq!((&web["image"], &web["is_recorded"]), (&json!(other()), &json!(false)));
    let text = run(shop.bk_sync().args(["status", "-n", &shop.namespace]));
    assert!(
        text.stdout.contains("deployment/web") && text.stdout.contains(&other()),
        "{}",
        text.stdout
    );
}

/// A build of a small image for `platform` that is rolled out to `web`, as JSON.
fn from_source(shop: &Shop, platform: &str) -> Rolled {
    let context = tempfile::tempdir().unwrap();
    let word = unique("word");
    write_files(
        context.path(),
        &[("Dockerfile", "FROM scratch\nCOPY word /word\n"), ("word", &word)],
    );
    let name = format!("{}/rollout/{}:1", bed::registry(), unique("app"));
    let began = Instant::now();
    let mut command = shop.bk_sync();
    command
        .args(["--builder", bed::buildkitd(), "--format", "json", "--progress", "plain"])
        .args(["build", "--platform", platform, "-t", &name, "--push"])
        .args(["--rollout", "deployment/web", "-n", &shop.namespace])
        .arg(context.path());
    Rolled::new(run(&mut command), began.elapsed())
}

#[test]
fn one_command_goes_from_source_to_proven_pods() {
    let shop = Shop::with(&workload(Kind::Deployment));
    let rolled = from_source(&shop, "linux/arm64");
    rolled.ended(0, "");
    let result = &rolled.json["result"];
    let digest = result["image"]["digest"].as_str().unwrap();
    let report = &result["rollout"]["workloads"][0];
    assert_eq!(report["outcome"], "rolled_out", "{report:#}");
    for pod in report["pods"].as_array().unwrap() {
        assert_eq!(pod["image_id"], digest);
    }
    assert!(shop.image("deployment/web").ends_with(digest));
}

#[test]
fn an_image_that_no_node_could_run_is_refused_before_it_is_built() {
    let shop = Shop::with(&workload(Kind::Deployment));
    let rolled = from_source(&shop, "linux/amd64");
    rolled.ended(17, "ARCH_MISMATCH");
    assert_eq!(shop.image("deployment/web"), old());
    assert!(!rolled.stderr.contains("COPY word"), "it was built: {}", rolled.stderr);
}
