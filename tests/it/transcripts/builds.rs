//! `build` and what speaks of builds.

use super::{Scene, canary, transcript};
use crate::bed;

/// `build` on the standalone builder, with a Dockerfile on the bed's base image. `CANARY` in it is
/// a text that no other run has.
fn build(rest: &str, arguments: &[&str]) -> Scene {
    let head = ["build", "--builder", bed::buildkitd(), "--platform", "linux/arm64"];
    let canary = canary();
    let text = format!("FROM {}\n{}", bed::base_arm64(), rest.replace("CANARY", &canary));
    let arguments: Vec<String> =
        arguments.iter().map(|argument| argument.replace("CANARY", &canary)).collect();
    let arguments: Vec<&str> =
        head.into_iter().chain(arguments.iter().map(String::as_str)).collect();
    Scene::new(&arguments).file("Dockerfile", &text).named(&canary, "CANARY")
}

const NO_OUTPUT: [&str; 3] = ["-o", "type=cacheonly", "."];

#[test]
fn build_done() {
    transcript("build_done", || build("RUN echo CANARY\nCOPY a /a\n", &NO_OUTPUT).file("a", "1"));
}

#[test]
fn build_pushed() {
    let tag = format!("{}/transcripts/canary:CANARY", bed::registry());
    transcript("build_pushed", || build("RUN echo CANARY\n", &["-t", &tag, "--push", "."]));
}

#[test]
fn build_step_failed() {
    transcript("build_step_failed", || build("RUN echo CANARY >&2; exit 7\n", &NO_OUTPUT));
}

#[test]
fn build_file_missing() {
    transcript("build_file_missing", || build("COPY nowhere /\n", &NO_OUTPUT));
}

#[test]
fn build_base_image_missing() {
    let text = format!("FROM {}/transcripts/nowhere:1\nRUN true\n", bed::registry());
    transcript("build_base_image_missing", || build("", &NO_OUTPUT).file("Dockerfile", &text));
}

#[test]
fn build_secret_missing() {
    let run = "RUN --mount=type=secret,id=token,required=true cat /run/secrets/token CANARY\n";
    transcript("build_secret_missing", || build(run, &NO_OUTPUT));
}

#[test]
fn build_dockerfile_wrong() {
    transcript("build_dockerfile_wrong", || build("RUNN true\n", &NO_OUTPUT));
}

#[test]
fn build_target_unknown() {
    let arguments = ["--target", "nowhere", "-o", "type=cacheonly", "."];
    transcript("build_target_unknown", || build("RUN true\n", &arguments));
}

#[test]
fn build_push_denied() {
    let tag = format!("{}/transcripts/denied:1", bed::registry_token());
    transcript("build_push_denied", || {
        build("RUN echo CANARY\n", &["-t", &tag, "--push", "."])
            .variable("BK_SYNC_REGISTRY_USERNAME", bed::user().0)
            .variable("BK_SYNC_REGISTRY_PASSWORD", "not the password")
    });
}

#[test]
fn build_no_builder() {
    let arguments = ["build", "--builder", "unix:///nowhere.sock", "."];
    transcript("build_no_builder", || Scene::new(&arguments).file("Dockerfile", "FROM scratch\n"));
}

#[test]
fn build_argument_wrong() {
    transcript("build_argument_wrong", || Scene::new(&["build", "--tagg", "a:1", "."]));
}

#[test]
fn build_config_wrong() {
    let config = "[build]\nplatfroms = [\"linux/arm64\"]\n";
    transcript("build_config_wrong", || Scene::new(&["build"]).file("bk-sync.toml", config));
}

#[test]
fn build_checkout_dirty() {
    let config = "[image]\nname = \"r/a\"\ntags = [\"{git.sha}\"]\n";
    transcript("build_checkout_dirty", || {
        let git = ["-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-qm", "one"];
        Scene::new(&["build", "--push"])
            .file("bk-sync.toml", config)
            .prepared("git", &["init", "-q"])
            .prepared("git", &["add", "."])
            .prepared("git", &git)
            .file("Dockerfile", "FROM scratch\n")
    });
}

#[test]
fn check_done_and_with_errors() {
    let check = ["check", "--builder", bed::buildkitd(), "--platform", "linux/arm64", "."];
    let text = format!("FROM {}\nCMD echo hi\n", bed::base_arm64());
    transcript("check_done", || Scene::new(&check).file("Dockerfile", &text));
    let check = [&check[..], &["--error"]].concat();
    transcript("check_errors", || Scene::new(&check).file("Dockerfile", &text));
}

#[test]
fn why_done_and_unknown() {
    transcript("why_unknown", || Scene::new(&["why"]).file("Dockerfile", "FROM scratch\n"));
    transcript("why_done", || {
        let scene = build("COPY a /a\nRUN echo CANARY\n", &[]).file("a", "1");
        let build = [
            "build",
            "--builder",
            bed::buildkitd(),
            "--platform",
            "linux/arm64",
            "-q",
            "-o",
            "type=cacheonly",
            ".",
        ];
        let mut scene = scene.after(&build).file("a", "2").after(&build);
        scene.arguments = vec!["why".to_owned()];
        scene
    });
}

#[test]
fn lock_done() {
    let text = format!("FROM {}\n", bed::base_arm64());
    let arguments = ["lock", "--builder", bed::buildkitd(), "--platform", "linux/arm64"];
    transcript("lock_done", || Scene::new(&arguments).file("Dockerfile", &text));
}

#[test]
fn push_done_and_source_missing() {
    let reference = format!("{}/transcripts/pushed:CANARY", bed::registry());
    transcript("push_done", || {
        let canary = canary();
        let reference = reference.replace("CANARY", &canary);
        let build = [
            "build",
            "--builder",
            bed::buildkitd(),
            "--platform",
            "linux/arm64",
            "-q",
            "-o",
            "type=oci,tar=false,dest=layout",
            ".",
        ];
        Scene::new(&["push", "layout", &reference])
            .named(&canary, "CANARY")
            .file("a", &canary)
            .file("Dockerfile", "FROM scratch\nCOPY a /\n")
            .after(&build)
    });
    transcript("push_source_missing", || Scene::new(&["push", "nowhere", "r.example/a:1"]));
}
