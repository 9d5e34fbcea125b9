//! `--reproducible`: one digest, whoever builds it where and when.

use super::{Builder, buildkitd, dockerd, graphdriver, unique};
use crate::{bed, cli::Place};
use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

/// A base image of our own, so that it can move.
fn publish(name: &str, text: &str) {
    let place = Place::new();
    place.write("Dockerfile", &format!("FROM {}\nRUN echo {text} >/version\n", bed::base_multi()));
    let more = ["build", "-q", "--provenance=false", "-t", name, "--push", "."];
    let ran = place.run(&[&["--builder", buildkitd().address][..], &more].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

/// The same project each time, checked out under `umask` at another time.
fn checkout(base: &str, umask: u32) -> Place {
    let place = Place::new();
    place.write(
        "Dockerfile",
        &format!(
            "FROM {base} AS made\nCOPY . /src\nRUN mkdir -p /made/deep && cp /src/tool /made && \
             date >/dev/null && ln -s tool /made/link && cat /version /src/text/a >/made/deep/all\n\
             FROM {base}\nWORKDIR /work\nCOPY --from=made /made .\nCOPY --chmod=0640 text/ text/\n\
             ENV A=b\nCMD [\"/work/tool\"]\n"
        ),
    );
    place.write("text/a", "text a");
    place.write("text/b", "text b");
    place.write("tool", "#!/bin/sh\nexit 0\n");
    place.write(".dockerignore", "bk-sync.lock\nDockerfile\n.dockerignore\n");
    let work = place.work();
    for (name, mode) in [("text", 0o777), ("tool", 0o777), ("text/a", 0o666), ("text/b", 0o666)] {
        let permissions = fs::Permissions::from_mode(mode & !umask);
        fs::set_permissions(work.join(name), permissions).unwrap();
    }
    place
}

fn lock(place: &Place, more: &[&str]) -> String {
    let head = ["--builder", buildkitd().address, "lock", "-q"];
    let ran = place.run(&[&head[..], more, &["."]].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    fs::read_to_string(place.work().join("bk-sync.lock")).unwrap()
}

/// Builds and pushes; the digest.
fn digest(place: &Place, builder: Builder, more: &[&str]) -> String {
    let tag = format!("{}/reproducible/{}", bed::registry(), unique());
    let head = ["--builder", builder.address, "build", "-q", "-t", &tag, "--push"];
    let ran = place.run(&[&head[..], more, &["."]].concat());
    assert_eq!(ran.code, Some(0), "{builder:?} {ran:?}");
    ran.stdout.trim().rsplit_once('@').unwrap().1.to_owned()
}

#[test]
fn two_builders_two_directories_and_two_umasks_give_one_digest() {
    let base = format!("{}/reproducible/base-{}", bed::registry(), unique());
    publish(&base, "one");
    let mut digests = Vec::new();
    let mut held = None;
    for umask in [0o022, 0o007] {
        let place = checkout(&base, umask);
        let text = lock(&place, &[]);
        assert_eq!(held.get_or_insert_with(|| text.clone()), &text);
        for builder in [buildkitd(), dockerd()] {
            for again in [&["--reproducible"][..], &["--reproducible", "--no-cache"]] {
                digests.push((builder.address, umask, again.len(), digest(&place, builder, again)));
            }
        }
    }
    let first = &digests[0].3;
    assert!(digests.iter().all(|(.., digest)| digest == first), "{digests:#?}");
    let place = checkout(&base, 0o022);
    lock(&place, &[]);
    assert_ne!(&digest(&place, buildkitd(), &["--reproducible=1000000000"]), first);
    place.write("text/b", "text c");
    assert_ne!(&digest(&place, buildkitd(), &["--reproducible"]), first);
}

#[test]
fn a_base_image_that_moves_moves_no_locked_build() {
    let base = format!("{}/reproducible/base-{}", bed::registry(), unique());
    publish(&base, "one");
    let place = checkout(&base, 0o022);
    let unlocked = ["build", "-q", "--format", "json", "--reproducible", "."];
    let ran = place.run(&[&["--builder", buildkitd().address][..], &unlocked].concat());
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert_eq!(ran.json()["error"]["code"], "IMAGE_NOT_LOCKED");
    let before = lock(&place, &[]);
    let first = digest(&place, buildkitd(), &["--reproducible"]);
    publish(&base, "two");
    assert_eq!(lock(&place, &[]), before, "what is held is not looked up again");
    assert_eq!(digest(&place, buildkitd(), &["--reproducible", "--no-cache"]), first);
    assert_ne!(lock(&place, &["--update"]), before);
    assert_ne!(digest(&place, buildkitd(), &["--reproducible"]), first);
}

#[test]
fn what_cannot_be_reproduced_is_named() {
    let place = Place::new();
    let code = |builder: Builder, text: &str, more: &[&str]| -> String {
        place.write("Dockerfile", text);
        let head =
            ["--builder", builder.address, "build", "-q", "--format", "json", "--reproducible"];
        let ran = place.run(&[&head[..], more, &["."]].concat());
        assert_eq!(ran.code, Some(2), "{ran:?}");
        ran.json()["error"]["code"].as_str().unwrap().to_owned()
    };
    let web = "FROM scratch\nADD http://127.0.0.1:1/a /\n";
    assert_eq!(code(buildkitd(), web, &[]), "SOURCE_NOT_LOCKED");
    let branch = format!("FROM scratch\nADD {}/a.git#main /\n", bed::git());
    assert_eq!(code(buildkitd(), &branch, &[]), "SOURCE_NOT_LOCKED");
    let plain = "FROM scratch\nCOPY Dockerfile /\n";
    assert_eq!(code(buildkitd(), plain, &["--sbom"]), "ATTESTATIONS_NOT_REPRODUCIBLE");
    assert_eq!(code(buildkitd(), plain, &["--frontend", "daemon"]), "FRONTEND_NOT_REPRODUCIBLE");
    assert_eq!(code(graphdriver(), plain, &["-t", "a"]), "REPRODUCIBLE_UNSUPPORTED");
}

#[test]
fn a_changed_file_is_seen_though_its_time_is_pinned() {
    let place = Place::new();
    place.write("Dockerfile", "FROM scratch\nCOPY f /\n");
    let head =
        ["--builder", buildkitd().address, "build", "-q", "--reproducible", "-o", "out", "."];
    for text in ["first", "other"] {
        place.write("f", text);
        touch(&place.work().join("f"));
        let ran = place.run(&head);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_eq!(fs::read_to_string(place.work().join("out/f")).unwrap(), text);
    }
}

fn touch(path: &Path) {
    let touched = Command::new("touch").args(["-d", "@1700000000"]).arg(path).status().unwrap();
    assert!(touched.success());
}
