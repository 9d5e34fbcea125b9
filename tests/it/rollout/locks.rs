//! One deploy at a time, whatever becomes of the other.

use super::shop::{Kind, PATIENCE, Shop, digest, new, old, on_pods, other, workload};
use crate::command::{run, said, succeed};
use serde_json::{Value, json};
use std::process::{Child, Stdio};

const LEASE: &str = "bk-sync-deployment-web";

/// A namespace whose new pods take their time, and a rollout on its way there.
fn on_its_way() -> (Shop, Child) {
    let mut object = workload(Kind::Deployment);
    on_pods(&mut object, &[("fail", "Stuck"), ("fail-image", &digest('b'))]);
    let shop = Shop::with(&object);
    let child = shop
        .command("deployment/web", &new(), &["--timeout", "170s"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    shop.until("the new image", |shop| shop.image("deployment/web") == new());
    (shop, child)
}

fn signal(child: &Child, name: &str) {
    succeed(std::process::Command::new("kill").args([name, &child.id().to_string()]));
}

fn ended(child: Child) -> (i32, Value) {
    let said = said(&child.wait_with_output().unwrap());
    (said.code, serde_json::from_str(&said.stdout).unwrap())
}

#[test]
fn a_second_deploy_is_refused_with_the_holders_name_and_can_wait() {
    let (shop, child) = on_its_way();
    let refused = shop.rollout("deployment/web", &other(), &[]);
    refused.ended(16, "LOCKED");
    let holder = refused.json["error"]["details"]["holder"].as_str().unwrap();
    assert!(holder.starts_with("ann@"), "{holder}");
    assert_eq!(shop.image("deployment/web"), new());
    let waiting = shop
        .command("deployment/web", &other(), &["--lock-wait", "170s"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    signal(&child, "-INT");
    let (code, json) = ended(child);
    assert_eq!((code, json["error"]["code"].as_str()), (130, Some("INTERRUPTED")), "{json:#}");
    let (code, json) = ended(waiting);
    assert_eq!(code, 0, "{json:#}");
    shop.runs(&other(), 2);
    assert!(shop.is_unlocked(LEASE));
}

#[test]
fn an_interrupted_rollout_lets_go_and_says_how_to_go_back() {
    let (shop, child) = on_its_way();
    signal(&child, "-TERM");
    let (code, json) = ended(child);
    assert_eq!(code, 143, "{json:#}");
    assert!(json["next_actions"].to_string().contains("bk-sync rollback"), "{json:#}");
    assert!(shop.is_unlocked(LEASE), "the lock is kept");
    let mut back = shop.bk_sync();
    back.args(["rollback", "deployment/web", "-n", &shop.namespace, "--format", "json"]);
    succeed(&mut back);
    shop.runs(&old(), 2);
}

#[test]
fn a_killed_deploys_lock_runs_out() {
    let (shop, mut child) = on_its_way();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!shop.is_unlocked(LEASE), "nobody let go of it");
    shop.rollout("deployment/web", &old(), &[]).ended(16, "LOCKED");
    let wait = format!("{}s", PATIENCE.as_secs());
    let rolled = shop.rollout("deployment/web", &old(), &["--lock-wait", &wait]);
    rolled.ended(0, "");
    shop.runs(&old(), 2);
    assert!(shop.is_unlocked(LEASE));
}

#[test]
fn a_lock_is_taken_away_only_where_that_is_asked_for_and_its_holder_stops() {
    let (shop, child) = on_its_way();
    let rolled = shop.rollout("deployment/web", &other(), &["--lock-takeover"]);
    rolled.ended(0, "");
    let (code, json) = ended(child);
    // It learns of it by its lock or by the image, and undoes nothing of the other's.
    assert!(matches!(code, 14 | 16), "{code} {json:#}");
    assert!(json["error"]["details"]["rollout"]["workloads"][0]["rollback"].is_null());
    shop.runs(&other(), 2);
}

#[test]
fn a_lock_that_was_left_long_ago_is_nobodys() {
    let shop = Shop::with(&workload(Kind::Deployment));
    shop.apply(&json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": LEASE}, "spec": {"holderIdentity": "gone@away",
        "leaseDurationSeconds": 30, "renewTime": "2026-01-01T00:00:00.000000Z"}}));
    shop.rollout("deployment/web", &new(), &[]).ended(0, "");
    shop.runs(&new(), 2);
    let lease = run(&mut shop.kubectl(&["get", "lease", LEASE, "-o", "json"]));
    assert_eq!(lease.code, 0);
}
