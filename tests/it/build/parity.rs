//! The cache is shared with `docker buildx build`, both ways and with either frontend, and what is pushed is
//! the same.

use super::{Builder, buildkitd, buildx, dockerd, graphdriver, program, unique, workspace};
use crate::{bed, cli::Place};
use std::{path::Path, process::Command};

fn place() -> Place {
    let mark = unique();
    let place = Place::new();
    place.write("src/a", &mark);
    place.write(
        "Dockerfile",
        &format!(
            "FROM {} AS build\nARG MODE=x\nCOPY src /src\nRUN --mount=type=cache,target=/c \
             cat /src/a >/built && echo {mark} $MODE\nFROM {}\nCOPY --from=build /built /built\n\
             COPY --link src/a /linked\nRUN ls /\nWORKDIR /w\n",
            bed::base_arm64(),
            bed::base_arm64()
        ),
    );
    place
}

/// The steps in a plain progress that ran and were not cached.
fn uncached(progress: &str) -> Vec<String> {
    let number = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    let cached: Vec<String> =
        progress.lines().filter(|line| line.ends_with(" CACHED")).map(number).collect();
    progress
        .lines()
        .filter(|line| {
            let name = line.split_once(' ').map_or("", |(_, name)| name);
            // Steps are named `[stage n/m] INSTRUCTION`.
            let step = name.starts_with('[') && !name.starts_with("[internal]");
            let runs = name.contains("] RUN") || name.contains("] COPY") || name.contains("] WORK");
            step && runs && !cached.contains(&number(line))
        })
        .map(str::to_owned)
        .collect()
}

fn ours(place: &Place, builder: Builder, frontend: &str) -> String {
    let head = ["--builder", builder.address, "build", "--platform", "linux/arm64"];
    let more = ["--progress", "plain", "--frontend", frontend, "-o", "type=cacheonly", "."];
    let ran = place.run(&[&head[..], &more].concat());
    assert_eq!(ran.code, Some(0), "{builder:?} {frontend}: {ran:?}");
    ran.stderr
}

#[test]
fn what_one_builds_the_other_finds_in_the_cache() {
    for builder in [dockerd(), graphdriver()] {
        for frontend in ["native", "daemon"] {
            let place = place();
            let first = ours(&place, builder, frontend);
            assert!(!uncached(&first).is_empty(), "nothing was built: {first}");
            let theirs = buildx(&place, builder, &["-o", "type=cacheonly", "."]);
            assert_eq!(uncached(&theirs), [""; 0], "{builder:?} {frontend}: {theirs}");

            let place = self::place();
            let first = buildx(&place, builder, &["-o", "type=cacheonly", "."]);
            assert!(!uncached(&first).is_empty(), "nothing was built: {first}");
            let ours = ours(&place, builder, frontend);
            assert_eq!(uncached(&ours), [""; 0], "{builder:?} {frontend}: {ours}");
        }
    }
}

/// The manifest that a reference names, as it lies in the registry.
fn manifest(reference: &str) -> String {
    let reference = format!("docker://{reference}");
    program("skopeo", &["inspect", "--raw", "--tls-verify=false", &reference])
}

#[test]
fn both_make_the_same_manifest_of_the_demo_and_of_a_workspace() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let base = format!("BASE={}", bed::base_arm64());
    let key = Place::new();
    key.write("key", "a key");
    let secret = format!("id=signing_key,src={}", key.work().join("key").display());
    // With its timestamps rewritten an image is the same also where each of its steps runs anew; a
    // Docker rewrites none, and older releases print a `HEALTHCHECK` in words of their own.
    let kept = ("", "--no-cache=false");
    let anew = (",rewrite-timestamp=true", "--no-cache");
    let demo = root.join("tests/fixtures/demo");
    let projects = [
        (demo, [(buildkitd(), kept), (buildkitd(), anew)]),
        (workspace(), [(dockerd(), kept), (buildkitd(), anew)]),
    ];
    for (source, ways) in projects {
        let place = Place::new();
        let copied = Command::new("cp").arg("-rT").args([&source, &place.work()]).status().unwrap();
        assert!(copied.success());
        let mark = format!("VERSION={}", unique());
        for (builder, (attributes, caching)) in ways {
            let names = ["ours", "theirs"]
                .map(|who| format!("{}/parity/{who}-{}", bed::registry(), unique()));
            // Without a word about it buildx writes Docker's media types, and we OCI's.
            let outputs = names.each_ref().map(|name| {
                format!("type=image,name={name},push=true,oci-mediatypes=true{attributes}")
            });
            let flags = |output| {
                let args = ["--build-arg", &base, "--build-arg", &mark, "--secret", &secret];
                let epoch = ["--build-arg", "SOURCE_DATE_EPOCH=1735689600", "--provenance=false"];
                let rest = ["--label", "org.example=label", caching, "--output", output, "."];
                [&args[..], &epoch, &rest].concat()
            };
            let head = ["--builder", builder.address, "build", "-q", "--platform", "linux/arm64"];
            let ran = place.run(&[&head[..], &flags(&outputs[0])].concat());
            assert_eq!(ran.code, Some(0), "{ran:?}");
            buildx(&place, builder, &flags(&outputs[1]));
            let [ours, theirs] = names.each_ref().map(|name| manifest(name));
            assert_eq!(ours, theirs, "{} {caching}", source.display());
        }
    }
}
