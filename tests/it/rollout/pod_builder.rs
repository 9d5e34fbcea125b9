//! A BuildKit in a pod of the real node, reached through the API server and nothing else.

use super::{
    observer::client,
    shop::{PATIENCE, Shop},
};
use crate::{
    bed,
    command::{Said, run, succeed, unique, write_files},
};
use bk_sync::cluster::{AccessSettings, Cluster};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::{Value, json};
use std::{path::Path, process::Command};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// The namespace of the bed's BuildKit pod.
const NAMESPACE: &str = "bk-sync-testbed";
/// More than all buffers on the way hold.
const MUCH: usize = 24 << 20;

/// `bk-sync build` with nothing in `PATH`: whatever it needs, it has.
fn build(shop: &Shop, builder: &str, context: &Path) -> Command {
    let mut command = shop.bk_sync();
    command
        .env("PATH", "/nonexistent")
        .args(["--builder", builder, "--format", "json", "--progress", "plain", "build"])
        .arg(context);
    command
}

/// A build that fails before it began; its error.
fn unreached(shop: &Shop, builder: &str) -> Value {
    let context = tempfile::tempdir().unwrap();
    write_files(context.path(), &[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")]);
    let Said { code, stdout, stderr } = run(&mut build(shop, builder, context.path()));
    let json: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(code, 10, "{json:#}\n{stderr}");
    eprintln!("{builder}: {}", json["error"]["message"]);
    json
}

/// Insists that the message has all of `words`; and that there is a way out.
fn says(error: &Value, words: &[&str]) {
    let text = error["error"].to_string();
    for word in words {
        assert!(text.contains(word), "{word}: {error:#}");
    }
    assert!(error["fix"].as_str().is_some_and(|fix| !fix.is_empty()), "{error:#}");
}

/// Bytes that nothing compresses, the same on every run.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        u8::try_from(state >> 56).unwrap()
    })
    .take(count)
    .collect()
}

#[test]
fn a_large_context_goes_in_and_a_large_result_comes_out() {
    let shop = Shop::open();
    let context = tempfile::tempdir().unwrap();
    let bytes = noise(MUCH);
    std::fs::write(context.path().join("noise"), &bytes).unwrap();
    let dockerfile = format!("FROM scratch\nLABEL run={}\nCOPY noise /noise\n", unique("run"));
    write_files(context.path(), &[("Dockerfile", &dockerfile)]);
    let out = tempfile::tempdir().unwrap();
    let mut command = build(&shop, bed::kube_pod(), context.path());
    command.arg("--output").arg(format!("type=local,dest={}", out.path().display()));
    succeed(&mut command);
    assert!(std::fs::read(out.path().join("noise")).unwrap() == bytes, "the bytes differ");
    // The whole image too, blob by blob over the session.
    let archive = out.path().join("image.tar");
    let mut command = build(&shop, bed::kube_pod(), context.path());
    command.arg("--output").arg(format!("type=oci,dest={}", archive.display()));
    succeed(&mut command);
    assert!(std::fs::metadata(&archive).unwrap().len() > u64::try_from(MUCH).unwrap());
}

#[tokio::test]
async fn both_directions_flow_at_the_same_time() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let settings = AccessSettings {
        kubeconfig: Some(bed::kubeconfig().to_owned()),
        namespace: Some(NAMESPACE.to_owned()),
        ..AccessSettings::default()
    };
    let cluster = Cluster::connect(&settings).await.unwrap();
    // What goes in comes out: whoever reads and writes by turns is stuck soon.
    let (stream, mut voice) = cluster.exec("buildkitd", None, &["cat"]).await.unwrap();
    let (mut from, mut into) = tokio::io::split(stream);
    let bytes = noise(MUCH);
    let write = async {
        into.write_all(&bytes).await.unwrap();
        into.shutdown().await.unwrap();
    };
    let read = async {
        let mut back = Vec::new();
        from.read_to_end(&mut back).await.unwrap();
        back
    };
    let both = tokio::time::timeout(PATIENCE, async { tokio::join!(write, read) });
    let ((), back) = both.await.expect("it is stuck");
    assert!(back == bytes, "{} of {} bytes came back", back.len(), bytes.len());
    let end = voice.tell().await.unwrap();
    assert_eq!(end, "`cat` in the pod `buildkitd` ended with exit code 0");
    // What a command says on stderr, and what it exits with.
    let command = ["/bin/sh", "-c", "echo no luck >&2; exit 7"];
    let (mut stream, mut voice) = cluster.exec("buildkitd", None, &command).await.unwrap();
    stream.read_to_end(&mut Vec::new()).await.unwrap();
    let end = voice.tell().await.unwrap();
    assert!(end.ends_with("ended with exit code 7: no luck"), "{end}");
}

#[test]
fn what_is_missing_on_the_way_is_named() {
    let shop = Shop::open();
    let pod = |pod: &str, more: &str| format!("kube-pod://{pod}?namespace={NAMESPACE}{more}");
    says(&unreached(&shop, &pod("nope", "")), &["there is no pod `nope`", NAMESPACE]);
    says(
        &unreached(&shop, "kube-pod://buildkitd?namespace=nowhere"),
        &["there is no pod `buildkitd`", "nowhere"],
    );
    says(
        &unreached(&shop, &pod("buildkitd", "&container=nope")),
        &["has no container `nope`", "`buildkitd`"],
    );
    says(&unreached(&shop, &pod("buildkitd", "&context=nope")), &["has no context `nope`"]);
    says(
        &unreached(&shop, &pod("buildkitd", "&kubeconfig=/nonexistent/config")),
        &["/nonexistent/config"],
    );
}

#[tokio::test]
async fn a_pod_that_is_no_builder_is_told_with_its_own_words() {
    let shop = Shop::open();
    let pods: Api<Pod> = Api::namespaced(client().await, NAMESPACE);
    let bed_pod = pods.get("buildkitd").await.unwrap();
    let image = bed_pod.spec.unwrap().containers.remove(0).image.unwrap();
    let pod = |name: &str, image: &str, node: &str| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {
                "containers": [{"name": "it", "image": image, "command": ["/bin/sleep", "3600"]}],
                "nodeSelector": {"bk-sync.test/node": node},
                "tolerations": [{"key": "bk-sync.test/node", "operator": "Exists"}],
                "terminationGracePeriodSeconds": 0,
            },
        })
    };
    tokio::task::spawn_blocking(move || {
        // One has no buildctl, one has nobody who listens to it, and one never runs.
        shop.apply(&pod("bare", bed::base_arm64(), "real"));
        shop.apply(&pod("idle", &image, "real"));
        shop.apply(&pod("pending", &image, "nowhere"));
        for name in ["bare", "idle"] {
            let timeout = format!("--timeout={}s", PATIENCE.as_secs());
            let name = format!("pod/{name}");
            succeed(&mut shop.kubectl(&["wait", &name, "--for=condition=Ready", &timeout]));
        }
        let at = |name: &str| format!("kube-pod://{name}?namespace={}", shop.namespace);
        let error = unreached(&shop, &at("bare"));
        says(&error, &["buildctl", "the pod `bare`"]);
        assert!(error["fix"].as_str().unwrap().contains("install `buildctl`"), "{error:#}");
        says(&unreached(&shop, &at("idle")), &["the pod `idle`", "buildkitd.sock"]);
        says(&unreached(&shop, &at("pending")), &["does not run", "Pending"]);
    })
    .await
    .unwrap();
}

#[test]
fn a_build_in_a_pod_that_is_interrupted_leaves_nothing_running_there() {
    let shop = Shop::open();
    let context = tempfile::tempdir().unwrap();
    let mark = unique("mark");
    let dockerfile = format!("FROM {}\nRUN echo {mark} && sleep 600\n", bed::base_multi());
    write_files(context.path(), &[("Dockerfile", &dockerfile)]);
    let mut command = build(&shop, bed::kube_pod(), context.path());
    command
        .args(["--platform", "linux/amd64"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let child = command.spawn().unwrap();
    let runs = |shop: &Shop| {
        let script = "ps | grep -c '[s]leep 600' || true";
        let exec = ["exec", "--namespace", NAMESPACE, "buildkitd", "--", "/bin/sh", "-c", script];
        succeed(&mut shop.kubectl(&exec)).stdout.trim() != "0"
    };
    shop.until("the step", runs);
    succeed(Command::new("kill").args(["-INT", &child.id().to_string()]));
    let said = crate::command::said(&child.wait_with_output().unwrap());
    assert_eq!(said.code, 130, "{}", said.stderr);
    shop.until("the end of the step", |shop| !runs(shop));
}
