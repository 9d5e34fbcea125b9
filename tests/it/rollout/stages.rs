//! Our own process is ended at each stage, by each signal: what is left behind, and that it can be
//! done again.

use super::{
    endings::kubeconfig_through,
    shop::{Kind, Rolled, Shop, digest, named, new, old, on_pods, other, workload},
};
use crate::{
    bed,
    command::{said, succeed, unique, write_files},
};
use serde_json::{Value, json};
use std::{
    net::TcpListener,
    os::unix::process::ExitStatusExt as _,
    process::{Child, Stdio},
    time::Duration,
};

const LEASE: &str = "bk-sync-deployment-web";

/// How a process is ended, and what it exits with; none where it cannot say anything any more.
const SIGNALS: [(&str, Option<i32>); 3] =
    [("-INT", Some(130)), ("-TERM", Some(143)), ("-KILL", None)];

fn signal(child: &Child, name: &str) {
    succeed(std::process::Command::new("kill").args([name, &child.id().to_string()]));
}

/// Sends a signal, and insists on the end that it should bring; what was said then.
fn ended_by(child: Child, name: &str, exit: Option<i32>) -> Option<Value> {
    signal(&child, name);
    let output = child.wait_with_output().unwrap();
    let Some(exit) = exit else {
        assert_eq!(output.status.signal(), Some(9));
        return None;
    };
    let said = said(&output);
    let json: Value = serde_json::from_str(&said.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}\n{}", said.stdout, said.stderr));
    assert_eq!(
        (said.code, json["error"]["code"].as_str()),
        (exit, Some("INTERRUPTED")),
        "{json:#}\n{}",
        said.stderr
    );
    Some(json)
}

fn started(shop: &Shop, image: &str, flags: &[&str]) -> Child {
    shop.command("deployment/web", image, flags)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Another deploy comes after the one that was ended, and finds nothing in its way.
fn can_be_done_again(shop: &Shop, exit: Option<i32>) {
    let flags = ["--timeout", "120s", "--lock-takeover"];
    // Whoever could still say something has let go of the lock.
    let flags = if exit.is_some() { &flags[..2] } else { &flags[..] };
    shop.rollout("deployment/web", &other(), flags).ended(0, "");
    shop.runs(&other(), 2);
    assert!(shop.is_unlocked(LEASE), "the lock is kept");
}

#[test]
fn while_it_looks_nothing_is_changed() {
    let shop = Shop::with(&workload(Kind::Deployment));
    // Somebody takes connections there and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let file = kubeconfig_through(silent.local_addr().unwrap().port());
    for (name, exit) in SIGNALS {
        let flags = ["--kubeconfig", file.path().to_str().unwrap()];
        let child = started(&shop, &new(), &flags);
        std::thread::sleep(Duration::from_secs(2));
        if let Some(json) = ended_by(child, name, exit) {
            let message = json["error"]["message"].as_str().unwrap();
            assert!(message.contains("nothing was changed"), "{message}");
        }
        assert_eq!(shop.image("deployment/web"), old());
        assert!(shop.is_unlocked(LEASE), "the lock is kept");
    }
}

#[test]
fn while_it_waits_for_the_lock_nothing_is_changed() {
    let shop = Shop::with(&workload(Kind::Deployment));
    shop.apply(&json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": LEASE}, "spec": {"holderIdentity": "eve@elsewhere",
        "leaseDurationSeconds": 3600,
        "renewTime": format!("{:.6}", jiff::Timestamp::now())}}));
    for (name, exit) in SIGNALS {
        let child = started(&shop, &new(), &["--lock-wait", "150s"]);
        std::thread::sleep(Duration::from_secs(4));
        if let Some(json) = ended_by(child, name, exit) {
            let message = json["error"]["message"].as_str().unwrap();
            assert!(message.contains("nothing was changed"), "{message}");
        }
        assert_eq!(shop.image("deployment/web"), old());
        let holder = shop.get(&format!("lease/{LEASE}"))["spec"]["holderIdentity"].clone();
        assert_eq!(holder, "eve@elsewhere");
    }
}

#[test]
fn while_it_waits_for_pods_the_cluster_goes_on_with_the_new_image() {
    for (name, exit) in SIGNALS {
        let mut object = workload(Kind::Deployment);
        on_pods(&mut object, &[("fail", "Stuck"), ("fail-image", &digest('b'))]);
        let shop = Shop::with(&object);
        let child = shop.set("deployment/web", &new(), &["--timeout", "170s"]);
        if let Some(json) = ended_by(child, name, exit) {
            assert!(json["next_actions"].to_string().contains("bk-sync rollback"), "{json:#}");
            assert!(shop.is_unlocked(LEASE), "the lock is kept");
        }
        assert_eq!(shop.image("deployment/web"), new());
        can_be_done_again(&shop, exit);
    }
}

#[test]
fn while_it_goes_back_the_cluster_goes_on_with_the_image_before() {
    for (name, exit) in SIGNALS {
        let mut object = workload(Kind::Deployment);
        object["spec"]["strategy"] = json!({"type": "Recreate"});
        on_pods(
            &mut object,
            &[("fail", "ErrImagePull"), ("fail-image", &digest('b')), ("delay", "5s")],
        );
        let shop = Shop::with(&object);
        let child = shop.set("deployment/web", &new(), &["--timeout", "170s"]);
        shop.until("the way back", |shop| shop.image("deployment/web") == old());
        if let Some(json) = ended_by(child, name, exit) {
            let message = json["error"]["message"].as_str().unwrap();
            assert!(message.contains("on the way back"), "{message}");
            let web = &json["error"]["details"]["rollout"]["workloads"][0];
            assert_eq!(web["diagnoses"][0]["code"], "IMAGE_NOT_FOUND", "{web:#}");
            assert!(shop.is_unlocked(LEASE), "the lock is kept");
        }
        shop.settled(&object);
        shop.runs(&old(), 2);
        can_be_done_again(&shop, exit);
    }
}

#[test]
fn a_rollout_after_a_build_ends_as_one_without() {
    for (name, exit) in SIGNALS {
        let mut object = workload(Kind::Deployment);
        // Whatever comes after the first image never starts.
        on_pods(&mut object, &[("fail", "Stuck"), ("fail-image", bed::registry())]);
        let shop = Shop::with(&object);
        let context = tempfile::tempdir().unwrap();
        let files = [("Dockerfile", "FROM scratch\nCOPY word /word\n"), ("word", name)];
        write_files(context.path(), &files);
        let tag = format!("{}/rollout/{}:1", bed::registry(), unique("app"));
        let child = shop
            .bk_sync()
            .args(["--builder", bed::buildkitd(), "--format", "json", "--progress", "plain"])
            .args(["build", "--platform", "linux/arm64", "-t", &tag, "--push"])
            .args(["--rollout", "deployment/web", "-n", &shop.namespace, "--timeout", "170s"])
            .arg(context.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        shop.until("the new image", |shop| shop.image("deployment/web") != old());
        if let Some(json) = ended_by(child, name, exit) {
            assert!(json["error"]["details"]["image"].as_str().unwrap().starts_with(&tag));
            assert!(shop.is_unlocked(LEASE), "the lock is kept");
        }
    }
}

#[test]
fn a_rollout_of_several_workloads_that_is_interrupted_leaves_the_rest_untouched() {
    let mut object = workload(Kind::Deployment);
    on_pods(&mut object, &[("fail", "Stuck"), ("fail-image", &digest('b'))]);
    let shop = Shop::with(&object);
    let second = named(Kind::StatefulSet, "db");
    shop.apply(&second);
    shop.settled(&second);
    let child = shop
        .command("deployment/web", &new(), &["statefulset/db", "--timeout", "170s"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    shop.until("the new image", |shop| shop.image("deployment/web") == new());
    signal(&child, "-INT");
    let rolled = Rolled::of(child);
    rolled.ended(130, "INTERRUPTED");
    let workloads = &rolled.json["error"]["details"]["rollout"]["workloads"];
    assert_eq!(
        (&workloads[0]["outcome"], &workloads[1]["outcome"]),
        (&json!("interrupted"), &json!("untouched"))
    );
    assert_eq!(shop.image("statefulset/db"), old());
    for lease in [LEASE, "bk-sync-statefulset-db"] {
        assert!(shop.is_unlocked(lease), "{lease} is kept");
    }
}
