//! Where passwords come from, and that they go back: whole builds with pushes to the bed's
//! registries, seen from outside.

pub mod agent;

use crate::{
    bed,
    build::{arguments, builders, buildkitd, unique},
    cli::{Place, Ran},
};
use agent::Agent;
use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// A place with a config that names `source` for the registry with tokens, and a Dockerfile.
fn place(source: &str, step: &str) -> (Place, String) {
    let place = Place::new();
    let (registry, (user, _)) = (bed::registry_token(), bed::user());
    place.write(
        "bk-sync.toml",
        &format!("[registry.\"{registry}\"]\nusername = \"{user}\"\n{source}\n"),
    );
    let mark = unique();
    let base = bed::base_arm64();
    place.write("Dockerfile", &format!("FROM {base}\nRUN echo ran-{mark} && {step}\n"));
    (place, format!("{registry}/credential/{mark}:v1"))
}

fn push(place: &Place, tag: &str, more: &[&str]) -> Ran {
    let arguments =
        [&["--progress", "plain", "--format", "json", "-t", tag, "--push"], more, &["."]];
    let head = ["--builder", bed::buildkitd(), "build", "--platform", "linux/arm64"];
    place.run(&[&head[..], &arguments.concat()].concat())
}

fn lease(agent: &Agent) -> String {
    format!(
        "secret_lease = {{ name = \"pat\", ttl = \"5m\", client_id = \"test\", socket = \"{}\" }}",
        agent.socket.display()
    )
}

#[test]
fn a_lease_is_used_and_given_back_after_success_and_after_failure() {
    let (_, password) = bed::user();
    for (step, code) in [("true", 0), ("exit 3", 11)] {
        let directory = tempfile::tempdir().unwrap();
        let agent = Agent::start(directory.path(), "pat", password, 300);
        let (place, tag) = place(&lease(&agent), step);
        let ran = push(&place, &tag, &[]);
        assert_eq!(ran.code, Some(code), "{ran:?}");
        let lent = agent.lent();
        assert_eq!(lent.len(), 1, "one lease for the preflight and the push: {lent:?}");
        assert_eq!(lent[0]["ttl"], "5m");
        assert_eq!(lent[0]["client_id"], "test");
        assert_eq!(agent.held(), 0, "{step}: the lease is still held");
        assert!(!ran.stdout.contains(password) && !ran.stderr.contains(password), "{ran:?}");
    }
}

#[test]
fn a_lease_is_given_back_after_ctrl_c() {
    let directory = tempfile::tempdir().unwrap();
    let agent = Agent::start(directory.path(), "pat", bed::user().1, 300);
    let (place, tag) = place(&lease(&agent), "sleep 600");
    let mut command = place.command(&arguments(buildkitd(), &["-t", &tag, "--push", "."]));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    while agent.lent().is_empty() {
        assert!(began.elapsed() < Duration::from_mins(1), "no lease was asked for");
        std::thread::sleep(Duration::from_millis(20));
    }
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(agent.held(), 0, "the lease is still held");
}

#[test]
fn a_lease_that_ends_before_the_push_is_renewed_and_told() {
    let directory = tempfile::tempdir().unwrap();
    let agent = Agent::start(directory.path(), "pat", bed::user().1, 4);
    let (place, tag) = place(&lease(&agent), "sleep 6");
    // This process would still have the token that it got before; the builder asks for another.
    let ran = push(&place, &tag, &["--push-via", "builder"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(agent.lent().len() >= 2, "{:?}", agent.lent());
    assert_eq!(agent.held(), 0);
    let warnings = ran.json()["warnings"].to_string();
    assert!(warnings.contains("LEASE_RENEWED"), "{warnings}");
}

/// The trap of the seed's runbook: `secrets lease` prints its failure as JSON and ends with 0.
#[test]
fn a_failure_in_the_passwords_place_refuses_the_push_before_any_step() {
    let envelope = r#"{"success":false,"error":"daemon is not running","exit_code":69}"#;
    let source = format!("command = [\"echo\", {envelope:?}]");
    let (place, tag) = place(&source, "true");
    let ran = push(&place, &tag, &[]);
    assert_eq!(ran.code, Some(17), "{ran:?}");
    let error = ran.json()["error"].take();
    assert_eq!(error["code"], "PUSH_DENIED");
    assert!(error.to_string().contains("daemon is not running"), "{error}");
    assert!(!ran.stderr.contains("ran-"), "a step has run: {}", ran.stderr);
}

#[test]
fn a_command_with_an_envelope_is_believed_and_its_lease_given_back() {
    let (_, password) = bed::user();
    let place_of_note = tempfile::tempdir().unwrap();
    let note = place_of_note.path().join("note");
    // The password is in a file, as it would be in a vault, and not in the config.
    let vault = place_of_note.path().join("vault");
    let json = serde_json::json!({"success": true, "data": {"value": password, "lease_id": "l-9"}});
    std::fs::write(&vault, json.to_string()).unwrap();
    let source = format!(
        "command = [\"cat\", \"{}\"]\nrevoke = [\"sh\", \"-c\", \"echo $0 >> {}\", \"{{lease_id}}\"]",
        vault.display(),
        note.display()
    );
    let (place, tag) = place(&source, "true");
    let ran = push(&place, &tag, &[]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(std::fs::read_to_string(note).unwrap(), "l-9\n");
}

/// The seed's `credsStore: desktop` on a machine without a desktop.
#[test]
fn a_missing_helper_is_told_with_its_mend_and_another_source_is_used() {
    let (place, tag) = place("env = \"TOKEN\"", "true");
    let (user, password) = bed::user();
    let docker = place.work().join("../home/.docker");
    std::fs::create_dir_all(&docker).unwrap();
    std::fs::write(docker.join("config.json"), r#"{"credsStore":"desktop"}"#).unwrap();
    let more = ["--format", "json", "-t", &tag, "--push", "."];
    let mut command = place.command(&arguments(buildkitd(), &more));
    let ran = place.ran(&command.env("TOKEN", password).output().unwrap());
    assert_eq!(ran.code, Some(0), "{user} {ran:?}");

    // The only source: the refusal is told by it.
    std::fs::remove_file(place.work().join("bk-sync.toml")).unwrap();
    let ran = place.run(&arguments(buildkitd(), &more));
    assert_eq!(ran.code, Some(17), "{ran:?}");
    let error = ran.json();
    assert!(error.to_string().contains("docker-credential-desktop"), "{error}");
    assert!(error["fix"].as_str().unwrap().starts_with("install `docker-credential-desktop`"));
}

#[test]
fn a_wrong_password_and_a_right_to_pull_alone_are_refused_before_any_step() {
    for builder in builders() {
        for registry in [bed::registry_token(), bed::registry_basic()] {
            for (user, password) in [(bed::user().0, "wrong"), bed::pull_only_user()] {
                if (user, registry) == (bed::pull_only_user().0, bed::registry_basic()) {
                    // Basic authentication knows no lesser right.
                    continue;
                }
                let place = Place::new();
                let mark = unique();
                place.write(
                    "Dockerfile",
                    &format!("FROM {}\nRUN echo ran-{mark}\n", bed::base_arm64()),
                );
                let tag = format!("{registry}/credential/{mark}:v1");
                let arguments =
                    ["--builder", builder.address, "build", "--platform", "linux/arm64"];
                let more = ["--progress", "plain", "--format", "json", "-t", &tag, "--push", "."];
                let mut command = place.command(&[&arguments[..], &more].concat());
                command.env("BK_SYNC_REGISTRY_USERNAME", user);
                let output = command.env("BK_SYNC_REGISTRY_PASSWORD", password).output().unwrap();
                let ran = place.ran(&output);
                assert_eq!(ran.code, Some(17), "{builder:?} {registry} {user}: {ran:?}");
                assert_eq!(ran.json()["error"]["code"], "PUSH_DENIED");
                assert!(!ran.stderr.contains(&format!("ran-{mark}")), "{}", ran.stderr);
            }
        }
    }
}
