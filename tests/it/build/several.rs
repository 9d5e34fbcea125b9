//! One image from several builders.

use super::{program, unique};
use crate::{bed, cli::Place};
use serde_json::Value;

/// A place whose image has nothing that depends on where or when it is built.
fn place(mark: &str) -> Place {
    let place = Place::new();
    let base = bed::base_multi();
    place.write("Dockerfile", &format!("FROM {base}\nARG TARGETARCH\nCOPY f /f\nRUN uname -m\n"));
    place.write("f", mark);
    place
}

fn raw(reference: &str) -> String {
    program("skopeo", &["inspect", "--tls-verify=false", "--raw", &format!("docker://{reference}")])
}

/// Builds and pushes; the result.
fn build(place: &Place, builder: &str, more: &[&str]) -> Value {
    let head = ["build", "--builder", builder, "--format", "json", "--progress", "plain"];
    let ran = place.run(&[&head[..], more].concat());
    assert_eq!(ran.code, Some(0), "{builder}: {ran:?}");
    ran.json()
}

#[test]
fn two_builders_make_the_index_that_one_makes() {
    let mark = unique();
    let place = place(&mark);
    let list = format!("linux/arm64={},linux/amd64={}", bed::dockerd(), bed::buildkitd());
    let both = format!("linux/amd64={},linux/arm64={}", bed::buildkitd(), bed::buildkitd());
    let platforms = ["--platform", "linux/arm64,linux/amd64"];
    let pushed = |builder: &str, name: &str| {
        let tag = format!("{}/several/{name}-{mark}:1", bed::registry());
        let annotation = ["--annotation", "index,manifest:org.example.a=b"];
        // The moment of a build, in its image, would make each another.
        let dated = ["--build-arg", "SOURCE_DATE_EPOCH=0", "-o"];
        let output =
            "type=image,rewrite-timestamp=true,compression=uncompressed,force-compression=true";
        let rest = [output, "--push", "--provenance=false", "-t", &tag, "."];
        let json = build(&place, builder, &[&platforms[..], &annotation, &dated, &rest].concat());
        (raw(&tag), json, tag)
    };
    let (one, ..) = pushed(bed::buildkitd(), "one");
    for (builder, name) in [(&list, "list"), (&both, "both")] {
        let (index, json, tag) = pushed(builder, name);
        assert_eq!(index, one, "{name}");
        let result = &json["result"];
        let manifests = result["image"]["manifests"].as_array().unwrap();
        let shown: Vec<&Value> = manifests.iter().map(|one| &one["platform"]).collect();
        assert_eq!(shown, ["linux/arm64", "linux/amd64"], "{result}");
        let digest = program(
            "skopeo",
            &[
                "inspect",
                "--tls-verify=false",
                "--format",
                "{{.Digest}}",
                "--override-arch",
                "arm64",
                &format!("docker://{tag}"),
            ],
        );
        assert!(digest.starts_with("sha256:"), "{digest}");
        // Both are amd64 machines, and one of them was listed for arm64.
        let emulated = json["warnings"].as_array().unwrap();
        assert!(emulated.iter().any(|one| one["code"] == "PLATFORM_EMULATED"), "{json}");
    }
}

#[test]
fn crane_and_skopeo_find_nothing_wrong_with_an_index_of_two_builders_or_of_one() {
    let mark = unique();
    let place = place(&mark);
    let list = format!("linux/arm64={},linux/amd64={}", bed::dockerd(), bed::buildkitd());
    for (builder, name) in [(list.as_str(), "list"), (bed::buildkitd(), "one")] {
        let tag = format!("{}/several/valid-{name}-{mark}:1", bed::registry());
        // What crane reads: layers in gzip, and no attestation.
        let more = ["--provenance=false", "--platform", "linux/arm64,linux/amd64", "--push"];
        build(&place, builder, &[&more[..], &["-t", &tag, "."]].concat());
        program("crane", &["validate", "--remote", &tag]);
        for architecture in ["arm64", "amd64"] {
            let reference = format!("docker://{tag}");
            let inspect = ["inspect", "--tls-verify=false", "--override-arch", architecture];
            let said = program("skopeo", &[&inspect[..], &[&reference]].concat());
            let said: Value = serde_json::from_str(&said).unwrap();
            assert_eq!(said["Architecture"], architecture, "{name}: {said}");
        }
    }
}

#[test]
fn attestations_of_both_builders_are_in_the_index() {
    let mark = unique();
    let place = place(&mark);
    let list = format!("linux/arm64={},linux/amd64={}", bed::buildkitd(), bed::dockerd());
    let tag = format!("{}/several/attested-{mark}:1", bed::registry());
    let files = ["--metadata-file", "metadata.json", "--iidfile", "id"];
    let json = build(
        &place,
        &list,
        &[&["--provenance=mode=max", "--push", "-t", &tag, "."][..], &files].concat(),
    );
    let digest = &json["result"]["image"]["digest"];
    let read = |name: &str| std::fs::read_to_string(place.work().join(name)).unwrap();
    assert_eq!(*digest, read("id").trim());
    let metadata: Value = serde_json::from_str(&read("metadata.json")).unwrap();
    assert_eq!(metadata["containerimage.digest"], *digest, "{metadata}");
    assert!(metadata.get("buildx.build.ref").is_none(), "there is no one build: {metadata}");
    let index: Value = serde_json::from_str(&raw(&tag)).unwrap();
    let entries = index["manifests"].as_array().unwrap();
    let platforms: Vec<&Value> =
        entries.iter().map(|entry| &entry["platform"]["architecture"]).collect();
    assert_eq!(platforms, ["arm64", "amd64", "unknown", "unknown"], "{index:#}");
    for (image, attestation) in [(0, 2), (1, 3)] {
        let about = &entries[attestation]["annotations"]["vnd.docker.reference.digest"];
        assert_eq!(about, &entries[image]["digest"], "{index:#}");
    }
}

#[test]
fn one_that_fails_ends_the_others_and_nothing_gets_the_tag() {
    let mark = unique();
    let place = Place::new();
    let base = bed::base_multi();
    let run = "RUN if [ \"$TARGETARCH\" = amd64 ]; then exit 7; else sleep 600; fi";
    place.write("Dockerfile", &format!("FROM {base}\nARG TARGETARCH\nRUN echo {mark}\n{run}\n"));
    let list = format!("linux/arm64={},linux/amd64={}", bed::buildkitd(), bed::dockerd());
    let tag = format!("{}/several/failed-{mark}:1", bed::registry());
    let arguments = ["build", "--builder", &list, "--format", "json", "--push", "-t", &tag, "."];
    let ran = place.run(&arguments);
    assert_eq!(ran.code, Some(11), "{ran:?}");
    assert_eq!(ran.json()["error"]["code"], "STEP_FAILED", "{ran:?}");
    let url = format!("http://{}/v2/several/failed-{mark}/tags/list", bed::registry());
    let answer = std::process::Command::new("curl").args(["-s", &url]).output().unwrap();
    let answer = String::from_utf8_lossy(&answer.stdout);
    assert!(answer.contains("NAME_UNKNOWN"), "{answer}");
}

#[test]
fn what_several_builders_cannot_do_together_is_refused() {
    let place = place("m");
    let list = format!("linux/arm64={},linux/amd64={}", bed::buildkitd(), bed::dockerd());
    let tag = format!("{}/several/refused:1", bed::registry());
    let push = ["--push", "-t", &tag, "."];
    for (builder, more) in [
        (list.as_str(), &["--load", "."][..]),
        (&list, &["--push", "-t", &tag, "-"]),
        (&list, &["-o", "type=local,dest=out", "."]),
        (&list, &[&["--cache-to", "type=registry,ref=r.example/c"][..], &push].concat()),
        (&list, &[&["--platform", "linux/s390x"][..], &push].concat()),
        (&format!("{},{}", bed::buildkitd(), bed::dockerd()), &push),
        ("no platform=unix:///a", &push),
    ] {
        let head = ["build", "--builder", builder, "--format", "json"];
        let ran = place.run(&[&head[..], more].concat());
        assert_eq!(ran.code, Some(2), "{builder} {more:?}: {ran:?}");
        let code = ran.json()["error"]["code"].as_str().unwrap().to_owned();
        assert!(["SEVERAL_BUILDERS", "USAGE"].contains(&code.as_str()), "{code}");
    }
}
