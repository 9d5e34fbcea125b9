//! Pushes: every builder to every registry, and what is said of them.

use super::{Builder, build, builders, buildkitd, dockerd, graphdriver, program, unique};
use crate::{bed, cli::Place};
use serde_json::Value;

/// A place whose image is never the same twice.
fn place(mark: &str) -> Place {
    let place = Place::new();
    let base = bed::base_arm64();
    place.write(
        "Dockerfile",
        &format!("FROM {base}\nCOPY f /f\nRUN uname -m >/arch && echo {mark}\n"),
    );
    place.write("f", mark);
    place
}

/// What the registry has under `reference`, asked with the pushing user's name.
fn inspect(reference: &str, more: &[&str]) -> String {
    let (user, password) = bed::user();
    let credentials = format!("{user}:{password}");
    let mut arguments = vec!["inspect", "--tls-verify=false", "--creds", &credentials];
    let source = format!("docker://{reference}");
    arguments.extend_from_slice(&["--override-arch", "arm64"]);
    arguments.extend_from_slice(more);
    arguments.push(&source);
    program("skopeo", &arguments)
}

fn push(builder: Builder, registry: &str) -> Value {
    let mark = unique();
    let place = place(&mark);
    let tags = [format!("{registry}/solve/{mark}:one"), format!("{registry}/solve/{mark}:two")];
    let (user, password) = bed::user();
    let mut command = place.command(&super::arguments(
        builder,
        &["--format", "json", "-t", &tags[0], "-t", &tags[1], "--push", "."],
    ));
    command.env("BK_SYNC_REGISTRY_USERNAME", user).env("BK_SYNC_REGISTRY_PASSWORD", password);
    let ran = place.ran(&command.output().unwrap());
    assert_eq!(ran.code, Some(0), "{builder:?} {registry}: {ran:?}");
    assert!(!ran.stderr.contains(password) && !ran.stdout.contains(password));
    let result = ran.json()["result"].take();

    for tag in &tags {
        let config: Value = serde_json::from_str(&inspect(tag, &["--config"])).unwrap();
        assert_eq!(config["architecture"], "arm64", "{builder:?} {tag}");
        let digest = inspect(tag, &["--format", "{{.Digest}}"]);
        let manifest = &result["image"]["manifests"][0];
        let known = [&result["image"]["digest"], &manifest["digest"]];
        assert!(
            known.iter().any(|known| known.as_str() == Some(digest.trim())),
            "{digest} {result}"
        );
    }
    result
}

#[test]
fn every_builder_pushes_to_every_registry_under_every_name() {
    for builder in builders() {
        for registry in [bed::registry(), bed::registry_token(), bed::registry_basic()] {
            let result = push(builder, registry);
            let image = &result["image"];
            assert_eq!(image["manifests"].as_array().unwrap().len(), 1, "{result}");
            assert_eq!(image["manifests"][0]["platform"], "linux/arm64", "{result}");
            assert!(image["manifests"][0]["size"].as_u64().unwrap() > 100, "{result}");
            assert!(image["config_digest"].as_str().unwrap().starts_with("sha256:"), "{result}");
            assert_eq!(image["tags"].as_array().unwrap().len(), 2, "{result}");
            assert_eq!(result["push"]["registry"], registry, "{result}");
            let via = if builder.address == graphdriver().address { "engine" } else { "client" };
            assert_eq!(result["push"]["via"], via, "{result}");
            assert!(result["build"]["vertices"].as_u64().unwrap() >= 4, "{result}");
            assert!(result["build"]["context"]["files"].as_u64().unwrap() >= 1, "{result}");
            assert!(result["timings_ms"]["solve"].as_u64().is_some(), "{result}");
        }
    }
}

#[test]
fn a_refused_push_is_exit_17_before_any_step_and_says_who_refused() {
    let mark = unique();
    let place = place(&mark);
    for builder in builders() {
        for registry in [bed::registry_token(), bed::registry_basic()] {
            let tag = format!("{registry}/solve/{mark}");
            let ran = place
                .run(&super::arguments(builder, &["--format", "json", "-t", &tag, "--push", "."]));
            assert_eq!(ran.code, Some(17), "{builder:?} {ran:?}");
            let error = ran.json()["error"].take();
            assert_eq!(error["code"], "PUSH_DENIED", "{builder:?} {error}");
            assert!(error["message"].as_str().unwrap().contains(registry), "{error}");
        }
        let nowhere = format!("127.0.0.1:1/solve/{mark}");
        let more = ["--format", "json", "-t", &nowhere, "--push", "."];
        let ran = place.run(&super::arguments(builder, &more));
        assert_eq!(ran.code, Some(12), "{builder:?} {ran:?}");
        assert_eq!(ran.json()["error"]["code"], "PUSH_UNREACHABLE", "{builder:?}");
    }
}

#[test]
fn a_user_who_may_only_pull_is_refused_and_their_password_is_not_shown() {
    let place = place(&unique());
    let (user, password) = bed::pull_only_user();
    for builder in [buildkitd(), graphdriver()] {
        let tag = format!("{}/solve/{}", bed::registry_token(), unique());
        let more = ["--format", "json", "-t", &tag, "--push", "."];
        let mut command = place.command(&super::arguments(builder, &more));
        command.env("BK_SYNC_REGISTRY_USERNAME", user).env("BK_SYNC_REGISTRY_PASSWORD", password);
        let ran = place.ran(&command.output().unwrap());
        assert_eq!(ran.code, Some(17), "{builder:?} {ran:?}");
        assert_eq!(ran.json()["error"]["code"], "PUSH_DENIED", "{builder:?} {ran:?}");
        assert!(!ran.stdout.contains(password) && !ran.stderr.contains(password));
    }
}

#[test]
fn several_platforms_make_one_index() {
    let mark = unique();
    let place = Place::new();
    place.write("Dockerfile", &format!("FROM {}\nRUN uname -m >/{mark}\n", bed::base_multi()));
    for builder in [buildkitd(), dockerd()] {
        let tag = format!("{}/solve/{mark}", bed::registry());
        let more = ["--platform", "linux/amd64", "--format", "json", "-t", &tag, "--push", "."];
        let result = build(&place, builder, &more).json()["result"].take();
        let platforms: Vec<&Value> = result["image"]["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| &m["platform"])
            .collect();
        assert_eq!(platforms, ["linux/arm64", "linux/amd64"], "{result}");
        let raw: Value = serde_json::from_str(&inspect(&tag, &["--raw"])).unwrap();
        assert_eq!(raw["mediaType"], "application/vnd.oci.image.index.v1+json");
    }
    let ran = place.run(&super::arguments(graphdriver(), &["--platform", "linux/amd64", "."]));
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("one platform"), "{ran:?}");
}

#[test]
fn an_image_without_files_is_built_for_several_platforms_and_the_builder_lives_on() {
    let place = Place::new();
    place.write("Dockerfile", &format!("FROM scratch\nLABEL mark={}\n", unique()));
    for _ in 0..2 {
        let more = ["--platform", "linux/amd64", "--frontend", "native", "-o", "type=cacheonly"];
        build(&place, buildkitd(), &[&more[..], &["."]].concat());
    }
}

#[test]
fn metadata_and_image_id_are_written_as_buildx_writes_them() {
    for builder in [dockerd(), graphdriver()] {
        let mark = unique();
        let place = place(&mark);
        let tag = format!("{}/solve/{mark}", bed::registry());
        let files = ["--metadata-file", "ours.json", "--iidfile", "ours.id"];
        // Who pushes as buildx does makes what it makes: an index around the default provenance.
        let head = ["-t", &tag, "--push", "--push-via", "builder", "."];
        build(&place, builder, &[&head[..], &files].concat());
        let files = ["--metadata-file", "theirs.json", "--iidfile", "theirs.id"];
        super::buildx(&place, builder, &[&["-t", &tag, "--push", "."][..], &files].concat());
        let read = |name: &str| std::fs::read_to_string(place.work().join(name)).unwrap();
        let keys = |name: &str| -> Vec<String> {
            let metadata: Value = serde_json::from_str(&read(name)).unwrap();
            let keys = metadata.as_object().unwrap().keys().cloned();
            // What buildx adds out of the builder's history is no exporter's answer.
            keys.filter(|key| key != "buildx.build.provenance").collect()
        };
        assert_eq!(keys("ours.json"), keys("theirs.json"), "{builder:?}");
        assert!(read("ours.id").starts_with("sha256:"), "{}", read("ours.id"));
        assert_eq!(read("ours.id").len(), read("theirs.id").len());
    }
}
