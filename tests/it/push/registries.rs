//! The same pushes to registries of two makes: distribution 2.8 and distribution 3. What was sent is read
//! from the registry's own log, and what is there is looked at by strangers.

use super::{
    image::{Layout, Reader, archive, layout},
    result, skopeo,
};
use crate::bed;
use crate::command::{Stranger, succeed, unique, write_files};
use serde_json::Value;
use std::{fs, path::Path};

/// A registry, and where its access log is.
struct Registry {
    host: &'static str,
    log: &'static Path,
}

fn registries() -> [Registry; 2] {
    [
        Registry { host: bed::registry(), log: bed::registry_log() },
        Registry { host: bed::registry_second(), log: bed::registry_second_log() },
    ]
}

impl Registry {
    /// The requests about `repository` so far, as `METHOD PATH STATUS`.
    fn requests(&self, repository: &str) -> Vec<String> {
        let place = format!("/v2/{repository}/");
        let log = fs::read_to_string(self.log).expect("the registry's log");
        let lines = log.lines().filter(|line| line.contains(&place));
        let request = |line: &str| {
            let (_, rest) = line.split_once('"')?;
            let (request, rest) = rest.split_once('"')?;
            let status = rest.split_whitespace().next()?;
            Some(format!("{} {status}", request.rsplit_once(' ')?.0))
        };
        lines.filter_map(request).collect()
    }

    /// Digests that uploads were closed with, among `requests`.
    fn uploaded(requests: &[String]) -> Vec<String> {
        let closed = requests.iter().filter(|one| one.starts_with("PUT ") && one.ends_with(" 201"));
        let digest = |one: &String| {
            let query = one.split_once("digest=")?.1;
            let digest = query.split(['&', ' ']).next()?;
            Some(digest.replace("%3A", ":").replace("%3a", ":"))
        };
        closed.filter_map(digest).collect()
    }

    /// Whether strangers find the image whole under `reference`.
    fn is_valid(stranger: &Stranger, reference: &str) {
        succeed(stranger.command(bed::program("crane")).args([
            "validate",
            "--insecure",
            "--remote",
            reference,
        ]));
        let seen = skopeo(stranger, reference, &["--override-arch", "arm64"]);
        assert_eq!(seen["Architecture"], "arm64", "{reference}: {seen}");
    }
}

/// Twenty layers of 20 kB; the last one by its own seed.
fn twenty(last: u64) -> Vec<(u64, usize)> {
    (0..19).map(|seed| (seed, 20_000)).chain([(last, 20_000)]).collect()
}

fn config_and_last(image: &Layout) -> (Vec<String>, u64) {
    let new = &image.blobs[19..];
    let mut digests: Vec<String> = new.iter().map(|(digest, _)| digest.clone()).collect();
    digests.sort();
    (digests, new.iter().map(|(_, size)| size).sum())
}

#[test]
fn layouts_and_archives_go_to_both_makes_and_only_what_changed_travels() {
    for registry in registries() {
        let stranger = Stranger::new();
        let name = format!("push/{}", unique("makes"));
        let references = ["v1", "v2"].map(|tag| format!("{}/{name}:{tag}", registry.host));
        let push =
            |source: &str| result(stranger.bk_sync().args(["push", source]).args(&references));
        let first = layout(&stranger.join("first"), &twenty(unique_seed()));
        let pushed = push("first");
        assert_eq!(pushed["push"]["blobs"]["uploaded"], 21, "{pushed}");
        for (reference, tag) in references.iter().zip(["v1", "v2"]) {
            Reader::new(registry.host).holds(&name, tag, &first);
            Registry::is_valid(&stranger, reference);
        }

        // Nothing changed.
        let before = registry.requests(&name).len();
        push("first");
        let again = registry.requests(&name).split_off(before);
        assert!(again.len() <= 3, "{again:?}");
        assert!(again.iter().all(|one| !one.starts_with("PUT ") && !one.starts_with("POST ")));

        // One layer of twenty changed: that layer, one config, one manifest under each of two names.
        let before = registry.requests(&name).len();
        let second = layout(&stranger.join("second"), &twenty(unique_seed()));
        archive(&second.path, &stranger.join("second.tar"));
        let changed = push("second.tar");
        let log = registry.requests(&name).split_off(before);
        let (expected, size) = config_and_last(&second);
        let mut uploaded = Registry::uploaded(&log);
        uploaded.sort();
        assert_eq!(uploaded, expected, "{log:?}");
        let manifests =
            log.iter().filter(|one| one.starts_with("PUT ") && one.contains("/manifests/"));
        assert_eq!(manifests.count(), 2, "{log:?}");
        let manifests = 2 * u64::try_from(manifest_size(&second)).unwrap();
        assert_eq!(changed["push"]["bytes"]["uploaded"], size + manifests, "{changed}");
        Registry::is_valid(&stranger, &references[0]);
    }
}

fn unique_seed() -> u64 {
    rand::random::<u64>() >> 1
}

fn manifest_size(image: &Layout) -> usize {
    let path = image.path.join("blobs").join(image.digest.replace(':', "/"));
    fs::read(path).expect("the manifest").len()
}

#[test]
fn what_docker_saves_goes_to_both_makes() {
    let stranger = Stranger::new();
    for host in [bed::dockerd_host(), bed::dockerd_graphdriver_host()] {
        let docker = |arguments: &[&str]| {
            succeed(
                stranger.command(bed::program("docker")).env("DOCKER_HOST", host).args(arguments),
            )
        };
        docker(&["pull", "--platform", "linux/arm64", bed::base_arm64()]);
        docker(&["save", "-o", "saved.tar", bed::base_arm64()]);
        for registry in registries() {
            let name = format!("push/{}", unique("saved"));
            let reference = format!("{}/{name}:v1", registry.host);
            result(stranger.bk_sync().args(["push", "saved.tar", &reference]));
            // The layers of a graphdriver's archive are plain; crane's check takes only gzip.
            succeed(
                stranger
                    .command(bed::program("skopeo"))
                    .args(["copy", "--src-tls-verify=false", "--override-arch", "arm64"])
                    .arg(format!("docker://{reference}"))
                    .arg(format!("dir:{}", stranger.join(unique("copy")).display())),
            );
            let before = registry.requests(&name).len();
            result(stranger.bk_sync().args(["push", "saved.tar", &reference]));
            let again = registry.requests(&name).split_off(before);
            assert!(again.len() <= 3, "{again:?}");
        }
    }
}

#[test]
fn builds_go_to_both_makes_in_one_run() {
    for builder in [bed::buildkitd(), bed::dockerd()] {
        let stranger = Stranger::new();
        let name = format!("push/{}", unique("built"));
        let dockerfile = format!("FROM {}\nCOPY mark /a\nRUN echo {name} >/b\n", bed::base_arm64());
        write_files(&stranger.join("context"), &[("Dockerfile", &dockerfile), ("mark", &name)]);
        let build = |more: &[&str]| {
            let mut command = stranger.bk_sync();
            command.args(["build", "--builder", builder, "--platform", "linux/arm64", "--push"]);
            command.args(["--provenance=false", "--push-via", "client", "context"]).args(more);
            for registry in registries() {
                command.args(["-t", &format!("{}/{name}:v1", registry.host)]);
            }
            result(&mut command)
        };
        let pushed = build(&[]);
        let digest = pushed["image"]["digest"].as_str().unwrap();
        for registry in registries() {
            let reference = format!("{}/{name}:v1", registry.host);
            let raw = skopeo(&stranger, &reference, &["--raw"]);
            assert_eq!(raw["mediaType"], "application/vnd.oci.image.manifest.v1+json");
            let digests = skopeo(&stranger, &reference, &["--override-arch", "arm64"]);
            assert_eq!(digests["Digest"], digest, "{builder} {reference}");
            Registry::is_valid(&stranger, &reference);
        }
        // Nothing changed: neither has more to do than to look.
        let before = registries().map(|registry| registry.requests(&name).len());
        let again: Value = build(&[]);
        assert_eq!(again["push"]["blobs"]["uploaded"], 0, "{again}");
        for (registry, before) in registries().into_iter().zip(before) {
            let log = registry.requests(&name).split_off(before);
            assert!(log.len() <= 3, "{builder} {}: {log:?}", registry.host);
        }
    }
}
