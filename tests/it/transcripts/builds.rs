//! `build` and what speaks of builds.

use super::{Scene, canary, transcript};
use crate::bed;

const BUILDER: [&str; 3] = ["--platform", "linux/arm64", "--builder"];

/// `build` on the standalone builder, with a Dockerfile on the bed's base image. `CANARY` in it is
/// a text that no other run has.
pub(super) fn build(rest: &str, arguments: &[&str]) -> Scene {
    let canary = canary();
    let text = format!("FROM {}\n{}", bed::base_arm64(), rest.replace("CANARY", &canary));
    let arguments: Vec<String> =
        arguments.iter().map(|argument| argument.replace("CANARY", &canary)).collect();
    let head = [&["build"][..], &BUILDER, &[bed::buildkitd()]].concat();
    let arguments: Vec<&str> =
        head.into_iter().chain(arguments.iter().map(String::as_str)).collect();
    Scene::new(&arguments).file("Dockerfile", &text).named(&canary, "CANARY")
}

const NO_OUTPUT: [&str; 3] = ["-o", "type=cacheonly", "."];

#[test]
fn build_done_and_pushed() {
    transcript("build_done", || build("RUN echo CANARY\nCOPY a /a\n", &NO_OUTPUT).file("a", "1"));
    let tag = format!("{}/transcripts/canary:CANARY", bed::registry());
    transcript("build_pushed", || build("RUN echo CANARY\n", &["-t", &tag, "--push", "."]));
}

#[test]
fn build_step_failed() {
    let run = "RUN exec >&2; echo CANARY; echo no such luck; exit 7\n";
    transcript("build_step_failed", || build(run, &NO_OUTPUT));
}

#[test]
fn build_file_missing() {
    transcript("build_file_missing", || build("COPY nowhere /\n", &NO_OUTPUT));
}

#[test]
fn build_dockerfile_wrong() {
    transcript("build_dockerfile_wrong", || build("RUNN true\n", &NO_OUTPUT));
}

#[test]
fn build_password_wrong_and_right_missing() {
    let tag = format!("{}/transcripts/denied:1", bed::registry_token());
    let scene = |user: &str, password: &str| {
        // Nothing is looked up beside the question whether the push is allowed.
        build("", &["-t", &tag, "--push", "."])
            .file("Dockerfile", "FROM scratch\nCOPY a /\n")
            .variable("BK_SYNC_REGISTRY_USERNAME", user)
            .variable("BK_SYNC_REGISTRY_PASSWORD", password)
            .named(&format!("`{user}`"), "`USER`")
    };
    transcript("build_password_wrong", || scene(bed::user().0, "not the password"));
    let (user, password) = bed::pull_only_user();
    transcript("build_push_forbidden", || scene(user, password));
}

#[test]
fn build_no_builder() {
    let arguments = ["build", "--builder", "unix:///nowhere.sock", "."];
    transcript("build_no_builder", || Scene::new(&arguments).file("Dockerfile", "FROM scratch\n"));
}

#[test]
fn builder_done() {
    let prune = ["builder", "prune", "--filter", "id==none", "--builder", bed::buildkitd()];
    transcript("builder_prune", || Scene::new(&prune));
    let list = ["builder", "ls", "--builder", bed::buildkitd()];
    transcript("builder_ls", || Scene::new(&list));
}

#[test]
fn check_done_and_with_errors() {
    let check = [&["check"][..], &BUILDER, &[bed::buildkitd(), "."]].concat();
    let text = format!("FROM {}\nCMD echo hi\n", bed::base_multi());
    transcript("check_done", || Scene::new(&check).file("Dockerfile", &text));
    let check = [&check[..], &["--error"]].concat();
    transcript("check_errors", || Scene::new(&check).file("Dockerfile", &text));
}

#[test]
fn why_done_and_unknown() {
    transcript("why_unknown", || Scene::new(&["why"]).file("Dockerfile", "FROM scratch\n"));
    transcript("why_done", || {
        let build_it =
            [&["build"][..], &BUILDER, &[bed::buildkitd(), "-q", "-o", "type=cacheonly", "."]];
        let build_it = build_it.concat();
        let scene = build("COPY a /a\nRUN echo CANARY\n", &[]).file("a", &canary());
        scene.after(&build_it).file("a", &canary()).after(&build_it).then(&["why"])
    });
}

#[test]
fn lock_done() {
    let text = format!("FROM {}\n", bed::base_arm64());
    let lock = [&["lock"][..], &BUILDER, &[bed::buildkitd()]].concat();
    transcript("lock_done", || Scene::new(&lock).file("Dockerfile", &text));
}

#[test]
fn push_done_and_source_missing() {
    transcript("push_done", || {
        let canary = canary();
        let reference = format!("{}/transcripts/pushed:{canary}", bed::registry());
        let layout = ["-q", "-o", "type=oci,tar=false,dest=layout", "."];
        let build = [&["build"][..], &BUILDER, &[bed::buildkitd()], &layout].concat();
        Scene::new(&["push", "layout", &reference])
            .named(&canary, "CANARY")
            .file("a", &canary)
            .file("Dockerfile", "FROM scratch\nCOPY a /\n")
            .after(&build)
    });
    transcript("push_source_missing", || Scene::new(&["push", "nowhere", "r.example/a:1"]));
}
