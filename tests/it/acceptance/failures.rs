//! What a user sees, and a script can rely on, when it does not work.

use crate::bed;
use crate::command::{Stranger, run, unique, write_files};

#[test]
fn a_failing_step_is_shown_in_its_dockerfile() {
    for builder in [bed::buildkitd(), bed::dockerd(), bed::dockerd_graphdriver()] {
        let stranger = Stranger::new();
        let mark = unique("failing");
        let dockerfile = format!(
            "FROM {}\nRUN echo first\nRUN echo {mark} >&2 && exit 42\nRUN echo never\n",
            bed::base_arm64()
        );
        write_files(&stranger.join("context"), &[("Dockerfile", &dockerfile)]);
        let said = run(stranger.bk_sync().args([
            "build",
            "--builder",
            builder,
            "--platform",
            "linux/arm64",
            "--progress",
            "quiet",
            "context",
        ]));
        assert_eq!(said.code, 11, "{}", said.stderr);
        assert_eq!(said.stdout, "");
        for part in ["Dockerfile:3", "exit 42", "42", &mark] {
            assert!(said.stderr.contains(part), "{part:?} is not in:\n{}", said.stderr);
        }
    }
}

#[test]
fn the_same_failure_as_json_is_one_object() {
    let stranger = Stranger::new();
    let dockerfile = format!("FROM {}\nRUN exit 3\n", bed::base_arm64());
    write_files(&stranger.join("context"), &[("Dockerfile", &dockerfile)]);
    let said = run(stranger.bk_sync().args([
        "build",
        "--builder",
        bed::buildkitd(),
        "--format",
        "json",
        "--platform",
        "linux/arm64",
        "context",
    ]));
    assert_eq!(said.code, 11, "{}", said.stderr);
    let envelope: serde_json::Value = serde_json::from_str(&said.stdout).expect("one JSON object");
    assert_eq!(envelope["ok"], false);
    assert_eq!(envelope["command"], "build");
    assert!(envelope["error"]["code"].is_string() && envelope["error"]["message"].is_string());
}

#[test]
fn a_dockerfile_that_cannot_be_read_as_one_is_the_users_fault() {
    let stranger = Stranger::new();
    write_files(&stranger.join("context"), &[("Dockerfile", "FROM scratch\nCOPPY a b\n")]);
    let said = run(stranger.bk_sync().args(["build", "--builder", bed::buildkitd(), "context"]));
    assert_eq!(said.code, 2, "{}", said.stderr);
    assert!(said.stderr.contains("COPPY"), "{}", said.stderr);
}

#[test]
fn a_builder_that_is_not_there_is_named() {
    let stranger = Stranger::new();
    write_files(&stranger.join("context"), &[("Dockerfile", "FROM scratch\n")]);
    let socket = stranger.join("nobody.sock");
    let address = format!("unix://{}", socket.display());
    let said = run(stranger.bk_sync().args(["build", "--builder", &address, "context"]));
    assert_eq!(said.code, 10, "{}", said.stderr);
    assert!(said.stderr.contains("nobody.sock"), "{}", said.stderr);
    assert_eq!(said.stdout, "");
}

#[test]
fn an_unknown_flag_is_a_usage_error() {
    let said = run(Stranger::new().bk_sync().args(["build", "--no-such-flag"]));
    assert_eq!(said.code, 2);
    assert!(said.stderr.contains("--no-such-flag"));
    assert_eq!(said.stdout, "");
}

#[test]
fn a_missing_source_of_copy_names_the_file() {
    let stranger = Stranger::new();
    write_files(&stranger.join("context"), &[("Dockerfile", "FROM scratch\nCOPY not-here /\n")]);
    let said = run(stranger.bk_sync().args(["build", "--builder", bed::dockerd(), "context"]));
    assert_eq!(said.code, 11, "{}", said.stderr);
    assert!(said.stderr.contains("not-here"), "{}", said.stderr);
}
