//! Our builds and `docker buildx build`'s share the builder's cache, both ways.

use super::steps;
use crate::bed;
use crate::command::{Stranger, succeed, unique, write_files};
use std::process::Command;

fn context(stranger: &Stranger, mark: &str) {
    let dockerfile = format!(
        "FROM {} AS made\nARG MARK\nWORKDIR /work\nCOPY . .\nRUN echo ${{MARK}} >made && cat mark >>made\nFROM scratch\nCOPY --from=made /work/made /made\n",
        bed::base_arm64()
    );
    write_files(
        &stranger.join("context"),
        &[("Dockerfile", &dockerfile), ("mark", mark), ("src/a/b.txt", "b")],
    );
}

fn buildx(stranger: &Stranger, mark: &str) -> Command {
    let mut command = stranger.command(bed::program("docker-buildx"));
    command
        .env("DOCKER_HOST", bed::dockerd_host())
        .args(["build", "--platform", "linux/arm64", "--provenance=false", "--progress", "rawjson"])
        .args(["--build-arg", &format!("MARK={mark}"), "context"]);
    command
}

fn ours(stranger: &Stranger, mark: &str) -> Command {
    let mut command = stranger.bk_sync();
    command
        .args([
            "build",
            "--builder",
            bed::dockerd(),
            "--platform",
            "linux/arm64",
            "--progress",
            "rawjson",
        ])
        .args(["--build-arg", &format!("MARK={mark}"), "context"]);
    command
}

fn all_cached(rawjson: &str, which: &str) {
    let steps = steps(rawjson);
    assert!(steps.len() >= 4, "{which}: too few steps to say anything: {steps:?}\n{rawjson}");
    let run: Vec<_> = steps.iter().filter(|(_, cached)| !cached).collect();
    assert!(run.is_empty(), "{which}: not from the cache: {run:?}");
}

#[test]
fn buildx_after_us_finds_everything_cached() {
    let (stranger, mark) = (Stranger::new(), unique("cache"));
    context(&stranger, &mark);
    succeed(&mut ours(&stranger, &mark));
    all_cached(&succeed(&mut buildx(&stranger, &mark)).stderr, "buildx after us");
}

#[test]
fn we_after_buildx_find_everything_cached() {
    let (stranger, mark) = (Stranger::new(), unique("cache"));
    context(&stranger, &mark);
    succeed(&mut buildx(&stranger, &mark));
    all_cached(&succeed(&mut ours(&stranger, &mark)).stderr, "we after buildx");
}
