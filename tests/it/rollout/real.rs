//! The same on a node that is real: kubelet, containerd and runc pull, run and probe what was built.

use super::{
    observer::{Observer, Report, Told, in_time},
    shop::{Rolled, Shop},
};
use crate::{
    bed,
    command::{run, succeed, unique, write_files},
};
use serde_json::{Value, json};
use std::time::Instant;

/// Real pulls and starts, under emulation and beside other work.
const LONG: [&str; 2] = ["--timeout", "170s"];

/// A Deployment of one pod on the real node.
fn deployment(image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "containers": [{"name": "app", "image": image,
                        "command": ["/bin/sh", "-c", "if [ -e /run.sh ]; then exec /bin/sh /run.sh; fi; exec sleep 3600"]}],
                    "nodeSelector": {"bk-sync.test/node": "real"},
                    "tolerations": [{"key": "bk-sync.test/node", "operator": "Exists"}],
                    "terminationGracePeriodSeconds": 1,
                },
            },
        },
    })
}

/// `bk-sync build --push --rollout` of busybox with a program of our own.
fn from_source(shop: &Shop, builder: &str, script: &str) -> Rolled {
    let context = tempfile::tempdir().unwrap();
    let dockerfile = format!("FROM {}\nCOPY run.sh /run.sh\n", bed::base_arm64());
    write_files(context.path(), &[("Dockerfile", &dockerfile), ("run.sh", script)]);
    let name = format!("{}/rollout/{}:1", bed::registry(), unique("app"));
    let began = Instant::now();
    let mut command = shop.bk_sync();
    command
        // The way into a pod needs no second tool.
        .env("PATH", "/nonexistent")
        .args(["--builder", builder, "--format", "json", "--progress", "plain"])
        .args(["build", "--platform", "linux/arm64", "-t", &name, "--push", "--provenance=false"])
        .args(["--rollout", "deployment/web", "-n", &shop.namespace])
        .args(LONG)
        .arg(context.path());
    Rolled::new(run(&mut command), began.elapsed())
}

fn report(rolled: &Rolled) -> Value {
    if rolled.json["ok"] == true {
        rolled.json["result"]["rollout"]["workloads"][0].clone()
    } else {
        rolled.workload().clone()
    }
}

#[test]
fn from_source_to_verified_pods_and_back_where_it_crashes() {
    let shop = Shop::with(&deployment(bed::base_arm64()));
    let rolled = from_source(&shop, bed::buildkitd(), "echo well; exec sleep 3600\n");
    rolled.ended(0, "");
    let web = report(&rolled);
    let pods = web["pods"].as_array().unwrap();
    assert_eq!((pods.len(), pods[0]["node"].as_str()), (1, Some(bed::real_node())));
    assert_eq!(pods[0]["image_id"], rolled.json["result"]["image"]["digest"]);
    let well = shop.image("deployment/web");
    eprintln!("from source to verified pods: {:?}", rolled.took);

    let rolled = from_source(&shop, bed::buildkitd(), "echo no such luck >&2; exit 3\n");
    rolled.ended(13, "CRASH_LOOP");
    let web = report(&rolled);
    assert_eq!(web["diagnoses"][0]["exit_code"], 3, "{web:#}");
    assert!(web["diagnoses"][0]["log"].to_string().contains("no such luck"), "{web:#}");
    assert_eq!(web["rollback"]["outcome"], "verified");
    assert_eq!(shop.image("deployment/web"), well);
}

#[test]
fn the_demo_goes_from_source_to_verified_pods_in_one_command() {
    let shop = Shop::open();
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), "a signing key").unwrap();
    let repository = format!("{}/rollout/{}", bed::registry(), unique("lighthouse"));
    let build = |version: &str| {
        let mut command = shop.bk_sync();
        command
            .args(["--builder", bed::buildkitd(), "--format", "json", "--progress", "plain"])
            .args(["build", "--platform", "linux/arm64", "--push", "--provenance=false"])
            .args(["--tag", &format!("{repository}:{version}")])
            .args(["--build-arg", &format!("BASE={}", bed::base_arm64())])
            .args(["--build-arg", &format!("VERSION={version}")])
            .arg("--secret")
            .arg(format!("id=signing_key,src={}", key.path().display()))
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/demo"));
        command
    };
    let first: Value = serde_json::from_str(&succeed(&mut build("1")).stdout).unwrap();
    let digest = first["result"]["image"]["digest"].as_str().unwrap();
    let mut object = deployment(&format!("{repository}@{digest}"));
    // What the image says of itself starts it.
    object["spec"]["template"]["spec"]["containers"] = json!([{
        "name": "app", "image": format!("{repository}@{digest}"),
        "ports": [{"containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1,
            "timeoutSeconds": 5},
    }]);
    shop.apply(&object);
    shop.settled(&object);
    let mut second = build("2");
    second.args(["--rollout", "deployment/web", "-n", &shop.namespace]).args(LONG);
    let began = Instant::now();
    let rolled = Rolled::new(run(&mut second), began.elapsed());
    rolled.ended(0, "");
    eprintln!("the demo, from source to verified pods: {:?}", began.elapsed());
    let web = report(&rolled);
    assert_eq!(web["outcome"], "rolled_out", "{web:#}");
    let new = rolled.json["result"]["image"]["digest"].as_str().unwrap();
    assert_ne!(new, digest);
    let pod = &web["pods"][0];
    assert_eq!((&pod["image_id"], &pod["node"]), (&json!(new), &json!(bed::real_node())));
    // The pod that was proven answers, as what it was built as.
    let name = pod["name"].as_str().unwrap();
    let path = format!("/api/v1/namespaces/{}/pods/{name}:8080/proxy/healthz", shop.namespace);
    let health = succeed(&mut shop.kubectl(&["get", "--raw", &path])).stdout;
    assert!(health.contains("aarch64"), "{health}");
}

#[test]
fn an_image_that_is_not_there() {
    let shop = Shop::with(&deployment(bed::base_arm64()));
    let nowhere = format!("{}/rollout/nowhere@sha256:{}", bed::registry(), "e".repeat(64));
    let rolled = shop.rollout("deployment/web", &nowhere, &LONG);
    rolled.ended(13, "IMAGE_NOT_FOUND");
    assert_eq!(shop.image("deployment/web").split('@').next(), Some(bed::base_arm64()));
}

#[test]
fn a_pod_that_is_never_ready() {
    let mut object = deployment(bed::base_arm64());
    // The probe finds the file in the image that serves, and not in the one that comes.
    object["spec"]["template"]["spec"]["containers"][0]["readinessProbe"] =
        json!({"exec": {"command": ["/bin/sh", "-c", "[ ! -e /run.sh ]"]}, "periodSeconds": 1});
    let shop = Shop::with(&object);
    let rolled = from_source(&shop, bed::buildkitd(), "exec sleep 3600\n");
    let web = report(&rolled);
    assert_eq!(rolled.json["error"]["code"], "PROBE_FAILING", "{:#}", rolled.json);
    assert_eq!(web["rollback"]["outcome"], "verified", "{web:#}");
}

/// A program that no kernel here knows: its head names a machine that there never was one of.
fn foreign() -> Vec<u8> {
    let mut program =
        b"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x16\x00".to_vec();
    program.resize(256, 0);
    program
}

/// `bk-sync build --push --rollout` of an image with [`foreign`] in it.
fn wrong(shop: &Shop, dockerfile: &str, platform: &str, flags: &[&str]) -> Rolled {
    let context = tempfile::tempdir().unwrap();
    std::fs::write(context.path().join("program"), foreign()).unwrap();
    let script = format!("# {}\nexec /program\n", unique("run"));
    write_files(context.path(), &[("Dockerfile", dockerfile), ("run.sh", &script)]);
    let name = format!("{}/rollout/{}:1", bed::registry(), unique("app"));
    let mut command = shop.bk_sync();
    command
        .args(["--builder", bed::buildkitd(), "--format", "json", "--progress", "plain"])
        .args(["build", "--platform", platform, "-t", &name, "--push", "--provenance=false"])
        .args(["--rollout", "deployment/web", "-n", &shop.namespace])
        .args(LONG)
        .args(flags)
        .arg(context.path());
    let began = Instant::now();
    Rolled::new(run(&mut command), began.elapsed())
}

/// Insists that the node was found unable to run the image, and runs the one before again.
fn cannot_run(shop: &Shop, rolled: &Rolled) {
    rolled.ended(13, "EXEC_FORMAT_ERROR");
    let web = report(rolled);
    assert_eq!(web["rollback"]["outcome"], "verified", "{web:#}");
    assert_eq!(web["diagnoses"][0]["node"], bed::real_node(), "{web:#}");
    eprintln!("{}: {}", web["diagnoses"][0]["message"], web["diagnoses"][0]["evidence"]);
    assert_eq!(shop.image("deployment/web").split('@').next(), Some(bed::base_arm64()));
}

#[test]
fn an_image_for_another_architecture_than_it_says() {
    let shop = Shop::with(&deployment(bed::base_arm64()));
    // The kernel refuses the first program of the container; the runtime says so in the log.
    let first = format!("FROM {}\nCOPY --chmod=755 program /bin/sh\n", bed::base_arm64());
    cannot_run(&shop, &wrong(&shop, &first, "linux/arm64", &[]));
    // It refuses a later one; the shell that started it takes it for a script.
    let later = format!(
        "FROM {}\nCOPY --chmod=755 program /program\nCOPY run.sh /run.sh\n",
        bed::base_arm64()
    );
    cannot_run(&shop, &wrong(&shop, &later, "linux/arm64", &[]));
}

#[test]
fn an_image_for_another_architecture_is_refused_before_it_is_built_and_diagnosed_where_it_is_not() {
    let shop = Shop::with(&deployment(bed::base_arm64()));
    let dockerfile = "FROM scratch\nCOPY --chmod=755 program /bin/sh\n";
    let refused = wrong(&shop, dockerfile, "linux/s390x", &[]);
    refused.ended(17, "ARCH_MISMATCH");
    assert!(!refused.stderr.contains("COPY"), "it was built: {}", refused.stderr);
    let rolled = wrong(&shop, dockerfile, "linux/s390x", &["--tolerate", "ARCH_MISMATCH"]);
    cannot_run(&shop, &rolled);
}

#[test]
fn what_the_kubelet_reports_is_named_in_time() {
    in_time(|| {
        let shop = Shop::with(&deployment(bed::base_arm64()));
        let observer = Observer::of(&shop.namespace);
        let nowhere = format!("{}/rollout/nowhere@sha256:{}", bed::registry(), "d".repeat(64));
        let (rolled, lines) = shop.timed("deployment/web", &nowhere, &LONG);
        rolled.ended(13, "IMAGE_NOT_FOUND");
        let reported = observer.first(Report::Waiting("ErrImagePull"), &nowhere);
        let reported = reported.expect("the kubelet's report");
        let named = lines.first("IMAGE_NOT_FOUND: ").expect("the name").duration_since(reported);
        Told { named, ended: None }
    });
}

#[test]
fn a_builder_in_a_pod_of_the_cluster() {
    let shop = Shop::with(&deployment(bed::base_arm64()));
    let rolled = from_source(&shop, bed::kube_pod(), "exec sleep 3600\n");
    rolled.ended(0, "");
    assert_eq!(report(&rolled)["pods"][0]["node"], bed::real_node());
    let logs = succeed(&mut shop.kubectl(&["get", "pods", "-o", "name"]));
    assert!(logs.stdout.contains("pod/web-"));
}
