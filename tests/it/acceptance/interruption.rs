//! Interrupted or killed at any moment: no build runs on, and no secret is left behind.

use crate::bed;
use crate::command::{Stranger, succeed, unique, write_files};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Starts a build whose step sleeps, and waits until that step really runs on the builder.
fn sleeping_build(stranger: &Stranger, builder: &str, mark: &str, canary: &str) -> Child {
    // The shell's argument holds the mark, so that the step can be found among the machine's processes; a command
    // after the sleep keeps the shell there.
    let dockerfile = format!(
        "FROM {}\nRUN --mount=type=secret,id=canary,required=true sleep 300; : {mark}\n",
        bed::base_arm64()
    );
    write_files(&stranger.join("context"), &[("Dockerfile", &dockerfile)]);
    let child = stranger
        .bk_sync()
        .env("CANARY", canary)
        .args(["build", "--builder", builder, "--platform", "linux/arm64", "--progress", "plain"])
        .args(["--secret", "id=canary,env=CANARY", "context"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    if !within(Duration::from_mins(1), || step_runs(mark)) {
        signal(&child, "-KILL");
        let output = child.wait_with_output().expect("an end");
        panic!("no step started on {builder}: {}", String::from_utf8_lossy(&output.stderr));
    }
    child
}

/// Whether a process whose command line holds `mark` sleeps for a step.
fn step_runs(mark: &str) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else { return false };
    processes.flatten().any(|process| {
        std::fs::read(process.path().join("cmdline")).is_ok_and(|line| {
            let line = String::from_utf8_lossy(&line);
            line.contains(mark) && line.contains("sleep 300")
        })
    })
}

fn within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    condition()
}

/// The end of a child that was told to end; one that stays is killed, and the test fails.
fn end_of(mut child: Child) -> Output {
    if !within(Duration::from_secs(30), || matches!(child.try_wait(), Ok(Some(_)))) {
        signal(&child, "-KILL");
        panic!("bk-sync still runs 30 s after the signal");
    }
    child.wait_with_output().expect("an end")
}

fn signal(child: &Child, name: &str) {
    succeed(Command::new("kill").args([name, &child.id().to_string()]));
}

/// Files on this machine's disk, younger than `since`, that hold `canary`.
fn files_with(canary: &str, since: &std::path::Path) -> String {
    let output = Command::new("find")
        .args(["/", "-xdev", "-type", "f", "-newer"])
        .arg(since)
        .args(["-size", "-4096k", "-exec", "grep", "-lsF", "--", canary, "{}", "+"])
        .output()
        .expect("find runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn ctrl_c_cancels_the_build_on_the_builder_and_ends_with_130() {
    for builder in [bed::buildkitd(), bed::dockerd(), bed::dockerd_graphdriver()] {
        let (stranger, mark) = (Stranger::new(), unique("interrupted"));
        let child = sleeping_build(&stranger, builder, &mark, &unique("canary"));
        signal(&child, "-INT");
        let began = Instant::now();
        let output = end_of(child);
        assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(began.elapsed() < Duration::from_secs(15), "it took {:?}", began.elapsed());
        assert!(
            within(Duration::from_secs(15), || !step_runs(&mark)),
            "the step runs on, on {builder}"
        );
    }
}

#[test]
fn sigterm_cancels_the_build_on_the_builder_and_ends_with_143() {
    let (stranger, mark) = (Stranger::new(), unique("terminated"));
    let child = sleeping_build(&stranger, bed::buildkitd(), &mark, &unique("canary"));
    signal(&child, "-TERM");
    let output = end_of(child);
    assert_eq!(output.status.code(), Some(143), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(within(Duration::from_secs(15), || !step_runs(&mark)), "the step runs on");
}

#[test]
fn killed_it_leaves_no_running_build_and_no_secret_on_disk() {
    for builder in [bed::buildkitd(), bed::dockerd(), bed::dockerd_graphdriver()] {
        let (stranger, mark, canary) = (Stranger::new(), unique("killed"), unique("canary"));
        let since = stranger.join("since");
        std::fs::write(&since, "").expect("a file");
        let mut child = sleeping_build(&stranger, builder, &mark, &canary);
        let while_running = files_with(&canary, &since);
        signal(&child, "-KILL");
        child.wait().expect("an end");
        assert!(
            within(Duration::from_mins(1), || !step_runs(&mark)),
            "the step runs on, on {builder}"
        );
        assert_eq!(while_running, "", "the secret was on disk while the build ran");
        assert_eq!(files_with(&canary, &since), "", "the secret is on disk after the kill");
    }
}
