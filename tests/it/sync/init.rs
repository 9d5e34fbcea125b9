//! `init`: a first config from what is found.

use super::{Project, snapshot};

#[test]
fn a_config_is_written_that_plan_understands() {
    let project = Project::new(&[
        ("packages/api/Dockerfile", "FROM scratch\n"),
        ("packages/app/Dockerfile", "FROM scratch\n"),
    ]);
    project.git(&["remote", "add", "origin", "git@github.com:Me/app.git"]);
    let made = project.json(&["init"], 0);
    assert_eq!(made["result"]["image"], "ghcr.io/me/app");
    assert_eq!(made["result"]["file"], "packages/app/Dockerfile");
    assert_eq!(made["result"]["platforms"][0], "linux/arm64");
    project.commit("config");
    let planned = project.json(&["plan"], 0);
    assert_eq!(planned["result"]["build"]["platforms"][0], "linux/arm64");
    assert_eq!(planned["result"]["build"]["file"], "packages/app/Dockerfile");
}

#[test]
fn a_config_that_is_there_is_never_written_over() {
    let project = Project::new(&[("Dockerfile", "FROM scratch\n"), ("bk-sync.toml", "# mine\n")]);
    let before = snapshot(project.stranger.path());
    let refused = project.json(&["init"], 2);
    assert_eq!(refused["error"]["code"], "CONFIG_EXISTS");
    assert_eq!(snapshot(project.stranger.path()), before);
    let shown = project.run(&["init", "--stdout", "--platform", "amd64"]);
    assert_eq!(shown.code, 0, "{}", shown.stderr);
    assert!(shown.stdout.contains("platforms = [\"linux/amd64\"]"), "{}", shown.stdout);
    assert_eq!(snapshot(project.stranger.path()), before);
}

#[test]
fn a_link_that_leads_nowhere_counts_as_a_config() {
    let project = Project::new(&[("Dockerfile", "FROM scratch\n")]);
    std::os::unix::fs::symlink("nowhere.toml", project.path().join("bk-sync.toml")).unwrap();
    let refused = project.json(&["init"], 2);
    assert_eq!(refused["error"]["code"], "CONFIG_EXISTS");
    assert!(!project.path().join("nowhere.toml").exists());
}
