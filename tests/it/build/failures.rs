//! What fails on a builder arrives here typed, and with the exit code of its kind.

use super::{Builder, arguments, builders, buildkitd, dockerd, graphdriver, unique};
use crate::{bed, cli::Place};
use serde_json::Value;

fn failed(place: &Place, builder: Builder, more: &[&str]) -> (Option<i32>, Value) {
    let more = [&["--format", "json"][..], more].concat();
    let ran = place.run(&arguments(builder, &more));
    assert!(ran.code != Some(0), "{builder:?} {more:?}: {ran:?}");
    (ran.code, ran.json()["error"].take())
}

fn place(rest: &str) -> Place {
    let place = Place::new();
    place.write("Dockerfile", &format!("FROM {}\n{rest}", bed::base_arm64()));
    place
}

#[test]
fn a_failed_step_has_line_command_exit_code_and_output_on_every_builder() {
    for builder in builders() {
        for frontend in ["native", "daemon"] {
            let mark = unique();
            let place = place(&format!("RUN true\nRUN echo {mark}; exit 7\n"));
            let (code, error) = failed(&place, builder, &["--frontend", frontend, "."]);
            assert_eq!(code, Some(11), "{error}");
            assert_eq!(error["code"], "STEP_FAILED", "{builder:?} {frontend} {error}");
            let step = &error["details"]["step"];
            assert_eq!(step["exit_code"], 7, "{error}");
            assert_eq!(step["command"], format!("echo {mark}; exit 7"), "{builder:?} {error}");
            assert_eq!(step["log"], serde_json::json!([mark]), "{builder:?} {error}");
            let place = &error["details"]["locations"][0];
            assert_eq!(place["file"], "Dockerfile", "{builder:?} {frontend} {error}");
            assert_eq!(place["ranges"][0]["start"]["line"], 3, "{error}");
        }
    }
}

#[test]
fn a_failed_step_is_shown_in_its_dockerfile() {
    let mark = unique();
    let place = place(&format!("RUN true\nRUN echo {mark} >&2 && exit 42\n"));
    let ran = place.run(&arguments(buildkitd(), &["."]));
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(11), ""), "{ran:?}");
    for part in ["Dockerfile:3", "exit 42", "42", &mark] {
        assert!(ran.stderr.contains(part), "{part:?} is not in:\n{}", ran.stderr);
    }
}

#[test]
fn a_large_dockerfile_does_not_lose_its_typed_error() {
    let comments = format!("# {}\n", "x".repeat(120)).repeat(2_000);
    let place = place(&format!("{comments}RUN echo {}; exit 3\n", unique()));
    for builder in builders() {
        let (_, error) = failed(&place, builder, &["."]);
        assert_eq!(error["code"], "STEP_FAILED", "{builder:?} {error}");
        assert_eq!(
            error["details"]["locations"][0]["ranges"][0]["start"]["line"], 2_002,
            "{error}"
        );
    }
}

#[test]
fn failures_are_told_apart() {
    let table: [(&str, &[&str], i32, &str); 5] = [
        ("COPY nope /\n", &["."], 11, "FILE_NOT_FOUND"),
        ("FORM x\n", &["."], 2, "DOCKERFILE_INVALID"),
        ("RUN true\n", &["--target", "none", "."], 2, "TARGET_NOT_FOUND"),
        (
            "RUN --mount=type=secret,id=s,required cat /run/secrets/s\n",
            &["."],
            11,
            "SECRET_MISSING",
        ),
        ("RUN true\n", &["-f", "none", "."], 2, "DOCKERFILE_NOT_FOUND"),
    ];
    for builder in builders() {
        for frontend in ["native", "daemon"] {
            for (rest, more, exit, expected) in table {
                let place = place(rest);
                let more = [&["--frontend", frontend][..], more].concat();
                let (code, error) = failed(&place, builder, &more);
                assert_eq!(error["code"], expected, "{builder:?} {frontend} {rest} {error}");
                assert_eq!(code, Some(exit), "{builder:?} {frontend} {error}");
            }
        }
    }
}

#[test]
fn a_base_image_that_is_not_there_is_named() {
    for builder in builders() {
        for frontend in ["native", "daemon"] {
            let place = Place::new();
            let name = format!("{}/solve/none:{}", bed::registry(), &unique()[..12]);
            place.write("Dockerfile", &format!("FROM {name}\n"));
            let (code, error) = failed(&place, builder, &["--frontend", frontend, "."]);
            assert_eq!(code, Some(11), "{error}");
            assert_eq!(error["code"], "BASE_IMAGE_UNRESOLVED", "{builder:?} {frontend} {error}");
            assert!(error.to_string().contains(&name), "{error}");
        }
    }
}

#[test]
fn what_a_builder_cannot_do_is_said_before_it_begins() {
    let place = place("RUN true\n");
    for (builder, more, expected) in [
        (graphdriver(), &["-o", "type=oci,dest=a.tar", "."][..], "OUTPUT_UNSUPPORTED"),
        (graphdriver(), &["--sbom", "."][..], "ATTESTATIONS_UNSUPPORTED"),
        (buildkitd(), &["--add-host", "a:host-gateway", "."][..], "HOST_GATEWAY_UNKNOWN"),
        (dockerd(), &["none"][..], "CONTEXT_NOT_FOUND"),
    ] {
        let (code, error) = failed(&place, builder, more);
        assert_eq!(code, Some(2), "{builder:?} {more:?} {error}");
        assert_eq!(error["code"], expected, "{builder:?} {more:?} {error}");
    }
}

/// Runs as nobody, because nothing is denied to root: over TCP, which asks for a certificate only.
fn as_nobody(place: &Place, more: &[&str]) -> (Option<i32>, Value) {
    let head = ["--builder", bed::buildkitd_tls(), "--tlsdir", "tls", "build", "-q"];
    let ours = place.command(&[&head[..], &["--format", "json"], more].concat());
    let output = std::process::Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(ours.get_program())
        .args(ours.get_args())
        .current_dir(place.work())
        .env_clear()
        .envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .output()
        .unwrap();
    let ran = place.ran(&output);
    (ran.code, ran.json())
}

#[test]
fn what_may_not_be_read_or_written_is_named() {
    use std::{fs, os::unix::fs::PermissionsExt as _};
    let place = Place::new();
    let work = place.work();
    let set = |path: &str, mode| {
        fs::set_permissions(work.join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    set("..", 0o755);
    fs::create_dir(work.join("tls")).unwrap();
    for (from, to) in bed::buildkitd_tls_files().into_iter().zip(["ca.pem", "cert.pem", "key.pem"])
    {
        fs::copy(from, work.join("tls").join(to)).unwrap();
        set(&format!("tls/{to}"), 0o644);
    }
    place.write("context/Dockerfile", "FROM scratch\nCOPY f /\n");
    place.write("context/f", "f");
    assert_eq!(as_nobody(&place, &["context"]).0, Some(0));
    set("context/f", 0);
    let (code, said) = as_nobody(&place, &["context"]);
    assert_eq!(code, Some(11), "{said}");
    let text = said.to_string();
    assert!(text.contains("permission denied") && text.contains("`f`"), "{said}");
    set("context/f", 0o644);
    set("context/Dockerfile", 0);
    let (code, said) = as_nobody(&place, &["context"]);
    assert!(
        code != Some(0) && said.to_string().to_lowercase().contains("permission denied"),
        "{said}"
    );
    set("context/Dockerfile", 0o644);
    place.write("context/closed/f", "f");
    set("context/closed", 0);
    place.write("context/Dockerfile", "FROM scratch\nCOPY . /\n");
    let (code, said) = as_nobody(&place, &["context"]);
    assert_eq!(code, Some(11), "{said}");
    assert!(said.to_string().contains("closed"), "{said}");
    // Nobody may write here.
    fs::remove_dir(work.join("context/closed"))
        .or_else(|_| fs::remove_dir_all(work.join("context/closed")))
        .unwrap();
    let (code, said) = as_nobody(&place, &["-o", "type=tar,dest=out.tar", "context"]);
    assert_eq!((code, said["error"]["code"].as_str()), (Some(11), Some("OUTPUT_FAILED")), "{said}");
}
