//! Commands that need no builder and no cluster.

use super::{Scene, transcript};

#[test]
fn explain_done_and_unknown() {
    transcript("explain_done", || Scene::new(&["explain", "PUSH_DENIED"]));
    transcript("explain_unknown", || Scene::new(&["explain", "PUSH_DENYED"]));
}

#[test]
fn init_done_and_refused() {
    let init = ["init", "--no-cluster", "--image", "ghcr.io/me/app"];
    let commit = ["-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-qm", "one"];
    transcript("init_done", || {
        Scene::new(&init)
            .file("Dockerfile", "FROM scratch\n")
            .prepared("git", &["init", "-q", "-b", "trunk"])
            .prepared("git", &["add", "."])
            .prepared("git", &commit)
    });
    transcript("init_refused", || Scene::new(&init).file("bk-sync.toml", "[build]\n"));
}

#[test]
fn llb_done_and_refused() {
    let llb = ["llb", "--assume", "assumptions.json", "--platform", "linux/arm64"];
    let scene =
        |dockerfile| Scene::new(&llb).file("Dockerfile", dockerfile).file("assumptions.json", "{}");
    transcript("llb_done", || scene("FROM scratch\nCOPY a /\n"));
    transcript("llb_dockerfile_wrong", || scene("FROM scratch\nCOPY --from=1 a /\n"));
}

#[test]
fn history_of_nothing() {
    transcript("history_empty", || Scene::new(&["history"]));
    transcript("history_unknown", || Scene::new(&["history", "2026"]));
}

#[test]
fn completion_done() {
    transcript("completion_man", || Scene::new(&["completion", "man", "--out", "man"]));
}

#[test]
fn arguments_and_config_wrong() {
    transcript("argument_wrong", || Scene::new(&["build", "--tagg", "a:1", "."]));
    let config = "[build]\nplatfroms = [\"linux/arm64\"]\n";
    transcript("config_wrong", || Scene::new(&["build"]).file("bk-sync.toml", config));
    transcript("config_missing", || Scene::new(&["plan"]));
}
