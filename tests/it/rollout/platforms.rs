//! The platforms of an image, as its registry tells them, against the nodes: known before anything
//! changes, also where nothing was built.

use super::shop::{Kind, Rolled, Shop, old, workload};
use crate::{
    bed,
    command::{run, succeed, unique},
};
use serde_json::Value;
use std::time::Duration;

/// The digest of the bed's index, and of its manifest for `architecture`.
fn multi(architecture: &str) -> (String, String) {
    let reference = format!("docker://{}", bed::base_multi());
    let skopeo = |arguments: &[&str]| {
        let mut command = std::process::Command::new(bed::program("skopeo"));
        command.arg("inspect").arg("--tls-verify=false").args(arguments).arg(&reference);
        succeed(&mut command).stdout
    };
    let index: Value = serde_json::from_str(&skopeo(&["--raw"])).unwrap();
    let manifest = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["platform"]["architecture"] == architecture)
        .expect("a manifest for it");
    let digest = skopeo(&["--format", "{{.Digest}}"]).trim().to_owned();
    (digest, manifest["digest"].as_str().unwrap().to_owned())
}

fn repository() -> &'static str {
    bed::base_multi().rsplit_once(':').unwrap().0
}

/// A shop whose pods go to arm64 nodes alone.
fn shop() -> Shop {
    Shop::with(&workload(Kind::Deployment))
}

fn warnings(rolled: &Rolled) -> String {
    rolled.json["warnings"].to_string()
}

#[test]
fn an_image_for_other_nodes_is_refused_before_anything_changes() {
    let shop = shop();
    let (index, amd64) = multi("amd64");
    let wrong = format!("{}@{amd64}", repository());
    let before = shop.get("deployment/web");
    let rolled = shop.rollout("deployment/web", &wrong, &[]);
    rolled.ended(17, "ARCH_MISMATCH");
    let message = rolled.json["error"]["message"].as_str().unwrap();
    assert!(message.contains("linux/amd64") && message.contains("linux/arm64"), "{message}");
    let after = shop.get("deployment/web");
    assert_eq!(before["metadata"]["generation"], after["metadata"]["generation"]);
    assert!(shop.is_unlocked("bk-sync-deployment-web"));
    // Who says so goes on, and is warned.
    let rolled = shop.rollout("deployment/web", &wrong, &["--tolerate", "ARCH_MISMATCH"]);
    rolled.ended(0, "");
    assert!(warnings(&rolled).contains("ARCH_MISMATCH"), "{:#}", rolled.json);
    // An index is for all of its platforms, and its manifest for one.
    let (_, arm64) = multi("arm64");
    for digest in [index, arm64] {
        let rolled = shop.rollout("deployment/web", &format!("{}@{digest}", repository()), &[]);
        rolled.ended(0, "");
        assert!(!warnings(&rolled).contains("IMAGE_NOT_CHECKED"), "{:#}", rolled.json);
    }
}

#[test]
fn a_registry_that_wants_credentials_is_asked_with_them_and_is_not_needed() {
    let shop = shop();
    let (_, amd64) = multi("amd64");
    let (user, password) = bed::user();
    let repository_there = format!("{}/rollout/{}", bed::registry_token(), unique("app"));
    let mut copy = std::process::Command::new(bed::program("skopeo"));
    copy.args(["copy", "--src-tls-verify=false", "--dest-tls-verify=false"])
        .args(["--dest-creds", &format!("{user}:{password}")])
        .arg(format!("docker://{}@{amd64}", repository()))
        .arg(format!("docker://{repository_there}:1"));
    succeed(&mut copy);
    let wrong = format!("{repository_there}@{amd64}");
    let mut known = shop.command("deployment/web", &wrong, &[]);
    known.env("BK_SYNC_REGISTRY_USERNAME", user).env("BK_SYNC_REGISTRY_PASSWORD", password);
    Rolled::new(run(&mut known), Duration::ZERO).ended(17, "ARCH_MISMATCH");
    assert_eq!(shop.image("deployment/web"), old());
    // The anonymous may not read there, and are told that nothing was checked.
    let rolled = shop.rollout("deployment/web", &wrong, &[]);
    rolled.ended(0, "");
    let warnings = warnings(&rolled);
    assert!(warnings.contains("IMAGE_NOT_CHECKED"), "{warnings}");
    assert!(!warnings.contains(password), "{warnings}");
    assert_eq!(shop.image("deployment/web"), wrong);
}

#[test]
fn a_registry_that_is_not_there_is_a_warning() {
    let shop = shop();
    let rolled = shop.rollout("deployment/web", &super::shop::new(), &[]);
    rolled.ended(0, "");
    assert!(warnings(&rolled).contains("IMAGE_NOT_CHECKED"), "{:#}", rolled.json);
}
