//! `--reproducible`: one digest, whoever builds it where and when.

use super::{Builder, buildkitd, dockerd, graphdriver, unique, workspace};
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

/// A checkout of `source` as it lies after `cp` under `umask`.
fn copied(source: &Path, umask: u32) -> Place {
    let place = Place::new();
    let command = format!("umask {umask:04o} && cp -r \"$0\"/. \"$1\"");
    let status = Command::new("sh").args(["-c", &command]).arg(source).arg(place.work()).status();
    assert!(status.unwrap().success());
    place
}

/// Builds the project in `source` in two directories that were written under different umasks, on two
/// kinds of builders, under two umasks and two clocks: sixteen builds. None takes a step's result from
/// another one.
fn one_digest(source: &Path, more: &[&str]) {
    let base = bed::base_arm64();
    let argument = format!("BASE={base}");
    let lock = {
        let place = copied(source, 0o022);
        lock(&place, &["--build-arg", &argument, "--platform", "linux/arm64"])
    };
    let mut digests = Vec::new();
    let places = [0o022, 0o077].map(|umask| {
        let place = copied(source, umask);
        place.write("bk-sync.lock", &lock);
        place
    });
    for number in 0..16_usize {
        let [of_builder, of_umask, of_clock, of_place] = [0, 1, 2, 3].map(|bit| number >> bit & 1);
        let place = &places[of_place];
        let builder = [buildkitd(), dockerd()][of_builder];
        let (umask, clock) = ([0o022, 0o077][of_umask], ["+0", "+400d"][of_clock]);
        let tag = format!("{}/reproducible/{}", bed::registry(), unique());
        let build = ["build", "-q", "--platform", "linux/arm64", "--build-arg", &argument];
        let flags = ["--reproducible", "--no-cache", "-t", &tag, "--push"];
        let head = ["--builder", builder.address];
        let bare = place.command(&[&head[..], &build, &flags, more, &["."]].concat());
        let script = format!("umask {umask:04o} && exec \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &script, "sh", &bed::program("faketime"), clock]);
        command.arg(bare.get_program()).args(bare.get_args()).current_dir(place.work());
        command.env_clear();
        command.envs(bare.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut ran = place.ran(&command.output().unwrap());
        // A builder keeps what it exported for as long as it remembers the build, and it remembers few:
        // beside many other builds it may have let go, says so, and has to build again.
        if ran.code == Some(12) && ran.stderr.contains("the builder no longer has") {
            ran = place.ran(&command.output().unwrap());
        }
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let digest = ran.stdout.trim().rsplit_once('@').unwrap().1.to_owned();
        digests.push((builder.address, place.work(), umask, clock, digest));
    }
    let first = digests[0].4.clone();
    assert!(digests.iter().all(|(.., digest)| *digest == first), "{digests:#?}");
}

#[test]
fn the_demo_is_one_digest_on_two_builders_in_two_directories_under_two_umasks_and_clocks() {
    let key = Place::new();
    key.write("key", "a key");
    let secret = format!("id=signing_key,src={}", key.work().join("key").display());
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/demo");
    one_digest(&demo, &["--secret", &secret, "--build-arg", "VERSION=1"]);
}

#[test]
fn a_workspace_is_one_digest_on_two_builders_in_two_directories_under_two_umasks_and_clocks() {
    one_digest(&workspace(), &[]);
}

/// The layers of an image that is built and pushed, and what the build says of itself.
fn layers(place: &Place, builder: Builder, more: &[&str]) -> (Vec<String>, serde_json::Value) {
    let tag = format!("{}/reproducible/{}", bed::registry(), unique());
    let head = ["--builder", builder.address, "build", "-q", "--format", "json", "-t", &tag];
    let ran = place.run(&[&head[..], more, &["--push", "."]].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let result = ran.json()["result"].take();
    let manifest = &result["image"]["manifests"][0];
    let layers = manifest["layers"].as_array().unwrap().iter();
    let digests = layers.map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect();
    (digests, result)
}

#[test]
fn layers_that_no_commit_touched_keep_their_digests() {
    let base = format!("{}/reproducible/base-{}", bed::registry(), unique());
    publish(&base, "one");
    let place = checkout(&base, 0o022);
    lock(&place, &[]);
    let reproducible = &["--reproducible"][..];
    let (before, _) = layers(&place, buildkitd(), reproducible);
    place.write("text/b", "text b of another commit");
    touch(&place.work().join("text/a"));
    let (after, built) = layers(&place, buildkitd(), reproducible);
    let changed = |one: &[String], other: &[String]| -> Vec<usize> {
        assert_eq!(one.len(), other.len());
        (0..one.len()).filter(|at| one[*at] != other[*at]).map(|at| at + 1).collect()
    };
    // `COPY text/` is the last of them. What is made of all files is made again, and comes out the same.
    assert_eq!(changed(&before, &after), [before.len()], "{before:#?} {after:#?}");
    assert!(built["build"]["cached"].as_u64() > Some(0), "{built:#}");
    let (elsewhere, _) = layers(&place, dockerd(), reproducible);
    assert_eq!(elsewhere, after);

    // Without pins as well, as long as one builder's cache knows them: a step that ran anew and made the
    // same changes nothing above it.
    let (before, _) = layers(&place, buildkitd(), &[]);
    place.write("text/b", "text b of a third one");
    let (after, _) = layers(&place, buildkitd(), &[]);
    assert_eq!(changed(&before, &after), [before.len()]);
}
