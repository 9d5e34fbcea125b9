//! `sync`, `plan`, `history` and `doctor`.

use super::{Scene, canary, transcript};
use crate::{
    bed,
    rollout::shop::{Kind, Shop, workload},
};

/// A checkout whose image is for a deployment of its own.
fn scene(arguments: &[&str], dockerfile: &str) -> Scene {
    let canary = canary();
    let mut object = workload(Kind::Deployment);
    object["spec"]["replicas"] = 1.into();
    let shop = Shop::with(&object);
    let namespace = shop.namespace.clone();
    let config = format!(
        "[build]\nbuilder = \"{}\"\nplatforms = [\"linux/arm64\"]\n\
         [image]\nname = \"{}/transcripts/{canary}\"\ntags = [\"{{git.sha}}\", \"latest\"]\n\
         [rollout]\nnamespace = \"{namespace}\"\nworkload = \"deployment/web\"\n",
        bed::buildkitd(),
        bed::registry(),
    );
    let dockerfile = format!("FROM {}\n{dockerfile}", bed::base_arm64()).replace("CANARY", &canary);
    let commit = ["-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-qm", "one"];
    Scene::new(arguments)
        .variable("KUBECONFIG", bed::part("BK_SYNC_TEST_KUBECONFIG"))
        .variable("USER", "ann")
        .named(&namespace, "NAMESPACE")
        .named(&canary, "CANARY")
        .file("bk-sync.toml", &config)
        .file("Dockerfile", &dockerfile)
        .prepared("git", &["init", "-q", "-b", "trunk"])
        .prepared("git", &["add", "."])
        .prepared("git", &commit)
        .keeping(shop)
}

const WORKS: &str = "RUN echo CANARY\n";

#[test]
fn sync_done_and_unchanged() {
    transcript("sync_done", || scene(&["sync"], WORKS));
    transcript("sync_unchanged", || scene(&["sync"], WORKS).after(&["sync", "-q"]));
}

#[test]
fn sync_step_failed() {
    transcript("sync_step_failed", || scene(&["sync"], "RUN echo CANARY; exit 3\n"));
}

#[test]
fn plan_done() {
    transcript("plan_done", || scene(&["plan"], WORKS));
}

#[test]
fn history_done() {
    transcript("history_done", || scene(&["history"], WORKS).after(&["sync", "-q"]));
}

#[test]
fn doctor_done() {
    transcript("doctor_done", || scene(&["doctor"], WORKS));
}
