//! Every flag of `build` that changes what a builder does, seen at what the builder made of it. The
//! table in README.md names these tests.

use super::{buildkitd, dockerd, graphdriver, program, unique};
use crate::{
    bed,
    cli::{Place, Ran},
};
use serde_json::Value;
use std::{fs, path::Path};

/// A place whose Dockerfile is for the machine that the builders run on: no step is emulated.
fn place(rest: &str) -> Place {
    let place = Place::new();
    place.write("Dockerfile", &format!("FROM {} AS base\n{rest}", bed::base_multi()));
    place
}

/// Builds for the builder's own platform on `builder`, with the root file system in `out`.
fn run(place: &Place, builder: super::Builder, more: &[&str]) -> Ran {
    let head = ["--builder", builder.address, "build", "-q"];
    place.run(&[&head[..], more, &["."]].concat())
}

/// The same; what the build wrote to `/seen`.
fn seen(place: &Place, builder: super::Builder, more: &[&str]) -> String {
    let ran = run(place, builder, &[more, &["-o", "out"]].concat());
    assert_eq!(ran.code, Some(0), "{builder:?} {more:?}: {ran:?}");
    let text = fs::read_to_string(place.work().join("out/seen")).unwrap();
    fs::remove_dir_all(place.work().join("out")).unwrap();
    text
}

/// The refusal's code of a build that must fail, and its exit code.
fn refusal(place: &Place, builder: super::Builder, more: &[&str]) -> (Option<i32>, String) {
    let ran = run(place, builder, &[more, &["--format", "json"]].concat());
    assert_ne!(ran.code, Some(0), "{builder:?} {more:?}: {ran:?}");
    let code = ran.json()["error"]["code"].as_str().unwrap().to_owned();
    (ran.code, code)
}

/// What the registry has under `reference`, as it is.
fn raw(reference: &str) -> Value {
    let source = format!("docker://{reference}");
    serde_json::from_str(&program("skopeo", &["inspect", "--tls-verify=false", "--raw", &source]))
        .unwrap()
}

fn name(mark: &str) -> String {
    format!("{}/flags/{mark}", bed::registry())
}

#[test]
fn add_host_is_in_the_hosts_file_of_a_step() {
    let place = place("RUN grep tester /etc/hosts >/seen\n");
    for builder in [buildkitd(), dockerd(), graphdriver()] {
        let hosts = seen(&place, builder, &["--add-host", "tester:10.9.8.7"]);
        assert!(hosts.contains("10.9.8.7"), "{builder:?} {hosts}");
    }
}

#[test]
fn build_arg_target_and_label_are_what_was_said() {
    let place = place(
        "ARG WHAT=none\nRUN echo -n $WHAT >/seen\nFROM base AS more\nRUN echo -n more >>/seen\n",
    );
    assert_eq!(
        seen(&place, buildkitd(), &["--build-arg", "WHAT=this", "--target", "base"]),
        "this"
    );
    assert_eq!(seen(&place, buildkitd(), &["--build-arg", "WHAT=that"]), "thatmore");
    let tag = name(&unique());
    let ran = run(&place, buildkitd(), &["--label", "a=b", "-t", &tag, "--push"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let source = format!("docker://{tag}");
    let config = program("skopeo", &["inspect", "--tls-verify=false", "--config", &source]);
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["config"]["Labels"]["a"], "b", "{config}");
}

#[test]
fn network_decides_what_a_step_can_reach() {
    let place = place("RUN ls /sys/class/net | tr '\\n' ' ' >/seen\n");
    let alone = seen(&place, buildkitd(), &["--network", "none"]);
    assert_eq!(alone.trim(), "lo");
    let host = seen(&place, buildkitd(), &["--network", "host"]);
    let is_ours = |name: &str| name != "lo" && Path::new("/sys/class/net").join(name).exists();
    assert!(host.split_whitespace().any(is_ours), "{host}");
}

#[test]
fn allow_grants_what_a_step_asks_for_and_nothing_else_does() {
    let place = place("RUN --network=host ls /sys/class/net >/seen\n");
    for builder in [buildkitd(), dockerd()] {
        seen(&place, builder, &["--allow", "network.host"]);
        let ran = run(&place, builder, &["--no-cache"]);
        assert_eq!(ran.code, Some(11), "{builder:?} {ran:?}");
        assert!(ran.stderr.contains("network.host"), "{builder:?} {}", ran.stderr);
    }
    let privileged = self::place("RUN --security=insecure grep CapEff /proc/self/status >/seen\n");
    let all = seen(&privileged, buildkitd(), &["--allow", "security.insecure"]);
    let plain = self::place("RUN grep CapEff /proc/self/status >/seen\n");
    assert_ne!(all, seen(&plain, buildkitd(), &[]));
}

#[test]
fn ulimit_and_shm_size_hold_in_a_step() {
    let place = place("RUN ulimit -n >/seen && df -k /dev/shm | tail -n 1 >>/seen\n");
    for builder in [buildkitd(), dockerd()] {
        let text = seen(&place, builder, &["--ulimit", "nofile=123:456", "--shm-size", "3m"]);
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("123"), "{builder:?}");
        assert_eq!(
            lines.next().unwrap().split_whitespace().nth(1),
            Some("3072"),
            "{builder:?} {text}"
        );
    }
}

#[test]
fn cgroup_parent_is_where_a_step_runs() {
    let place = place("RUN cat /proc/self/cgroup >/seen\n");
    let parent = format!("/flags-{}", unique());
    let text = seen(&place, buildkitd(), &["--cgroup-parent", &parent]);
    assert!(text.contains(&parent), "{text}");
}

#[test]
fn no_cache_runs_again_what_it_names() {
    let place = place(
        "RUN cat /proc/sys/kernel/random/uuid >/one\nFROM base AS last\nRUN cat /one /proc/sys/kernel/random/uuid >/seen\n",
    );
    let lines = |more: &[&str]| -> Vec<String> {
        seen(&place, buildkitd(), more).lines().map(str::to_owned).collect()
    };
    let first = lines(&["--no-cache"]);
    assert_eq!(lines(&[]), first);
    let last = lines(&["--no-cache-filter", "last"]);
    assert_eq!((last[0] == first[0], last[1] == first[1]), (true, false));
    let all = lines(&["--no-cache"]);
    assert_ne!(all[0], first[0]);
}

#[test]
fn pull_asks_the_registry_again() {
    let place = Place::new();
    let (mark, tag) = (unique(), name(&unique()));
    let publish = |text: &str| {
        place.write(
            "base/Dockerfile",
            &format!("FROM {}\nRUN echo {text}{mark} >/version\n", bed::base_multi()),
        );
        let ran = place.run(&[
            "--builder",
            buildkitd().address,
            "build",
            "-q",
            "-t",
            &tag,
            "--push",
            "base",
        ]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
    };
    publish("one");
    place.write("Dockerfile", &format!("FROM {tag}\nRUN cp /version /seen\n"));
    // A Docker that holds the image builds from it, until it is told to look.
    program("docker", &["--host", dockerd().docker_host.unwrap(), "pull", "-q", &tag]);
    assert!(seen(&place, dockerd(), &[]).starts_with("one"));
    publish("two");
    assert!(seen(&place, dockerd(), &[]).starts_with("one"));
    assert!(seen(&place, dockerd(), &["--pull"]).starts_with("two"));
    program("docker", &["--host", dockerd().docker_host.unwrap(), "rmi", &tag]);
}

#[test]
fn annotations_lie_at_every_level() {
    for builder in [buildkitd(), dockerd()] {
        let place = place("RUN true\n");
        let tag = name(&unique());
        let levels = ["manifest:a=1", "index:b=2", "manifest-descriptor:c=3", "e=5"];
        let mut more = vec!["-t", &tag, "--push"];
        more.extend(levels.iter().flat_map(|level| ["--annotation", level]));
        let ran = run(&place, builder, &more);
        assert_eq!(ran.code, Some(0), "{builder:?} {ran:?}");
        let index = raw(&tag);
        assert_eq!(index["annotations"]["b"], "2", "{builder:?} {index}");
        let entry = &index["manifests"][0];
        assert_eq!(entry["annotations"]["c"], "3", "{builder:?} {index}");
        let manifest = raw(&format!("{tag}@{}", entry["digest"].as_str().unwrap()));
        assert_eq!(manifest["annotations"]["a"], "1", "{builder:?} {manifest}");
        assert_eq!(manifest["annotations"]["e"], "5", "{builder:?} {manifest}");
    }
    let place = place("RUN true\n");
    let lost = ["--annotation", "a=b", "-o", "out"];
    assert_eq!(refusal(&place, buildkitd(), &lost), (Some(2), "ANNOTATIONS_LOST".to_owned()));
    let old = ["--annotation", "a=b", "-t", "a"];
    assert_eq!(
        refusal(&place, graphdriver(), &old),
        (Some(2), "ANNOTATIONS_UNSUPPORTED".to_owned())
    );
}

/// The predicates of the attestations under `tag`.
fn attested(tag: &str) -> Vec<(String, Value)> {
    let index = raw(tag);
    let entries = index["manifests"].as_array().cloned().unwrap_or_default();
    let mut found = Vec::new();
    for entry in entries {
        if entry["platform"]["os"] != "unknown" {
            continue;
        }
        let manifest = raw(&format!("{tag}@{}", entry["digest"].as_str().unwrap()));
        for layer in manifest["layers"].as_array().unwrap() {
            let kind = layer["annotations"]["in-toto.io/predicate-type"].as_str().unwrap();
            let (host, path) = tag.split_once('/').unwrap();
            let path = path.split(':').next().unwrap();
            let url = format!("/v2/{path}/blobs/{}", layer["digest"].as_str().unwrap());
            let statement: Value = serde_json::from_str(&super::http_get(host, &url)).unwrap();
            found.push((kind.to_owned(), statement["predicate"].clone()));
        }
    }
    found
}

#[test]
fn provenance_is_as_long_as_was_asked() {
    for builder in [buildkitd(), dockerd()] {
        let place = place("ARG TOLD\nRUN true\n");
        let push_via = |via: &str, more: &[&str], variables: &[(&str, &str)]| {
            let tag = name(&unique());
            let head = ["--builder", builder.address, "build", "-q", "-t", &tag, "--push"];
            let via = ["--push-via", via];
            let mut command = place.command(&[&head[..], &via, more, &["."]].concat());
            command.envs(variables.iter().copied());
            let ran = place.ran(&command.output().unwrap());
            assert_eq!(ran.code, Some(0), "{builder:?} {ran:?}");
            attested(&tag)
        };
        let push = |more: &[&str], variables: &[(&str, &str)]| -> Vec<(String, Value)> {
            push_via("builder", more, variables)
        };
        let of = |found: &[(String, Value)]| -> Value {
            let [(kind, predicate)] = found else { panic!("{builder:?} {found:?}") };
            assert!(kind.starts_with("https://slsa.dev/provenance/"), "{kind}");
            predicate.clone()
        };
        let secret = ["--build-arg", "TOLD=told-value"];
        // `min` has no arguments of the build, `max` has.
        let short = of(&push(&secret, &[])).to_string();
        assert!(!short.contains("told-value"), "{builder:?} {short}");
        let long = of(&push(&[&secret[..], &["--provenance=mode=max"]].concat(), &[])).to_string();
        assert!(long.contains("told-value"), "{builder:?} {long}");
        let attest = ["--attest", "type=provenance,mode=max"];
        let long = of(&push(&[&secret[..], &attest].concat(), &[])).to_string();
        assert!(long.contains("told-value"), "{builder:?} {long}");
        // A push by this process carries what is asked for, and no provenance by default: that is
        // another one after every build, and a push of nothing new would send it.
        let long = of(&push_via("client", &[&secret[..], &attest].concat(), &[])).to_string();
        assert!(long.contains("told-value"), "{builder:?} {long}");
        assert_eq!(push_via("client", &[], &[]), []);
        assert_eq!(push(&["--provenance=false"], &[]), []);
        assert_eq!(push(&[], &[("BUILDX_NO_DEFAULT_ATTESTATIONS", "1")]), []);
    }
}

#[test]
fn sbom_is_what_the_generator_wrote() {
    let scanner = name(&unique());
    let place = place("RUN echo scanned >/thing\n");
    place.write(
        "scanner/Dockerfile",
        &format!(
            "FROM {}\nCOPY scan /scan\nENTRYPOINT [\"/bin/sh\", \"/scan\"]\n",
            bed::base_multi()
        ),
    );
    place.write(
        "scanner/scan",
        "cat >\"$BUILDKIT_SCAN_DESTINATION/sbom.json\" <<END\n\
         {\"_type\": \"https://in-toto.io/Statement/v0.1\", \"predicateType\": \"https://spdx.dev/Document\",\n\
         \"predicate\": {\"name\": \"$(cat $BUILDKIT_SCAN_SOURCE/thing)\"}}\nEND\n",
    );
    let ran = place.run(&[
        "--builder",
        buildkitd().address,
        "build",
        "-q",
        "--provenance=false",
        "-t",
        &scanner,
        "--push",
        "scanner",
    ]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for builder in [buildkitd(), dockerd()] {
        for flag in ["--sbom=generator=", "--attest=type=sbom,generator="] {
            let tag = name(&unique());
            let generator = format!("{flag}{scanner}");
            let ran =
                run(&place, builder, &[&generator, "--provenance=false", "-t", &tag, "--push"]);
            assert_eq!(ran.code, Some(0), "{builder:?} {ran:?}");
            let found = attested(&tag);
            let [(kind, predicate)] = found.as_slice() else { panic!("{builder:?} {found:?}") };
            assert_eq!(kind, "https://spdx.dev/Document");
            assert_eq!(predicate["name"], "scanned", "{builder:?} {predicate}");
        }
    }
}

#[test]
fn call_answers_and_builds_nothing() {
    let place = place("ARG WHAT=none\nRUN exit 9\nFROM base AS last\n");
    for builder in [buildkitd(), dockerd()] {
        let ran = run(&place, builder, &["--call", "targets", "--format", "json"]);
        assert_eq!(ran.code, Some(0), "{builder:?} {ran:?}");
        let targets = ran.json()["result"]["targets"].take();
        let names: Vec<&str> =
            targets.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["base", "last"], "{builder:?}");
        let ran = run(&place, builder, &["--call", "outline", "--target", "base"]);
        assert!(ran.code == Some(0) && ran.stdout.contains("WHAT"), "{builder:?} {ran:?}");
        assert_eq!(run(&place, builder, &["--call", "check"]).code, Some(0));
        place.write("bad/Dockerfile", "FROM scratch AS Big\n");
        let bad = place.run(&["--builder", builder.address, "build", "-q", "--check", "bad"]);
        assert!(bad.code == Some(2) && bad.stdout.contains("StageNameCasing"), "{bad:?}");
    }
}

#[test]
fn a_source_policy_denies_and_redirects() {
    let place = place("RUN echo -n reached >/seen\n");
    place.write("deny.json", &format!(r#"{{"rules": [{{"action": "DENY", "selector": {{"identifier": "docker-image://{}"}}}}]}}"#, bed::base_multi()));
    place.write(
        "convert.json",
        &format!(
            r#"{{"rules": [{{"action": "CONVERT", "selector": {{"identifier": "docker-image://policy.example/none:1"}},
                "updates": {{"identifier": "docker-image://{}"}}}}]}}"#,
            bed::base_multi()
        ),
    );
    place.write("Other", "FROM policy.example/none:1\nRUN echo -n other >/seen\n");
    for builder in [buildkitd(), dockerd()] {
        let ran = run(&place, builder, &["--source-policy", "deny.json"]);
        assert_eq!(ran.code, Some(11), "{builder:?} {ran:?}");
        assert!(ran.stderr.contains("policy"), "{builder:?} {}", ran.stderr);
        let other = seen(&place, builder, &["-f", "Other", "--source-policy", "convert.json"]);
        assert_eq!(other, "other", "{builder:?}");
    }
    let mut command = place.command(&["--builder", buildkitd().address, "build", "-q", "."]);
    command.env("EXPERIMENTAL_BUILDKIT_SOURCE_POLICY", "deny.json");
    assert_eq!(place.ran(&command.output().unwrap()).code, Some(11));
    place
        .write("wrong.json", r#"{"rules": [{"action": "DENI", "selector": {"identifier": "a"}}]}"#);
    let wrong = run(&place, buildkitd(), &["--source-policy", "wrong.json"]);
    assert!(wrong.code == Some(2) && wrong.stderr.contains("DENI"), "{wrong:?}");
}

#[test]
fn several_outputs_come_of_one_build() {
    let place = place("RUN echo -n both >/seen\n");
    let outputs = ["-o", "type=tar,dest=out.tar", "-o", "type=oci,dest=oci.tar", "-o", "out"];
    let ran = run(&place, buildkitd(), &outputs);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let tar = fs::read(place.work().join("out.tar")).unwrap();
    assert_eq!(super::archive::file(&tar, "seen").as_deref(), Some(&b"both"[..]));
    assert!(place.work().join("oci.tar").exists() && place.work().join("out/seen").exists());
}

#[test]
fn the_epoch_of_the_environment_dates_the_image() {
    let place = place("RUN true\n");
    let tag = name(&unique());
    let mut command = place.command(&[
        "--builder",
        buildkitd().address,
        "build",
        "-q",
        "-t",
        &tag,
        "--push",
        ".",
    ]);
    command.env("SOURCE_DATE_EPOCH", "1000000000");
    assert_eq!(place.ran(&command.output().unwrap()).code, Some(0));
    let source = format!("docker://{tag}");
    let config = program("skopeo", &["inspect", "--tls-verify=false", "--config", &source]);
    assert!(config.contains("2001-09-09T01:46:40Z"), "{config}");
}

#[test]
fn the_metadata_file_tells_of_provenance_and_warnings_as_buildx_does() {
    let place = place("CMD echo hi\n");
    let tag = name(&unique());
    let ours = |variables: &[(&str, &str)]| -> Value {
        let more =
            ["-t", &tag, "--push", "--push-via", "builder", "--metadata-file", "ours.json", "."];
        let head = ["--builder", dockerd().address, "build", "-q", "--platform", "linux/arm64"];
        let mut command = place.command(&[&head[..], &more].concat());
        command.envs(variables.iter().copied());
        let ran = place.ran(&command.output().unwrap());
        assert_eq!(ran.code, Some(0), "{ran:?}");
        serde_json::from_slice(&fs::read(place.work().join("ours.json")).unwrap()).unwrap()
    };
    super::buildx(
        &place,
        dockerd(),
        &["-t", &tag, "--push", "--metadata-file", "theirs.json", "."],
    );
    let theirs: Value =
        serde_json::from_slice(&fs::read(place.work().join("theirs.json")).unwrap()).unwrap();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let mine = ours(&[]);
    assert_eq!(keys(&mine), keys(&theirs));
    let part = "buildx.build.provenance";
    assert_eq!(keys(&mine[part]), keys(&theirs[part]), "{mine}");
    assert_eq!(mine[part]["materials"], theirs[part]["materials"]);
    let long = ours(&[("BUILDX_METADATA_PROVENANCE", "max"), ("BUILDX_METADATA_WARNINGS", "1")]);
    assert!(long[part]["metadata"].is_object(), "{long}");
    let warning = &long["buildx.build.warnings"][0];
    assert!(warning["url"].as_str().unwrap().contains("json-args-recommended"), "{long}");
    let none = ours(&[("BUILDX_METADATA_PROVENANCE", "disabled")]);
    assert!(!keys(&none).contains(&part.to_owned()));
}

#[test]
fn the_commit_is_told_to_the_provenance_and_to_labels() {
    let place = place("RUN true\n");
    let git = |arguments: &[&str]| crate::cli::git(&place.work(), arguments);
    git(&["init", "-q", "-b", "trunk"]);
    git(&["remote", "add", "origin", "https://me:hidden@example.com/a.git"]);
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "one"]);
    let tag = name(&unique());
    let head = ["--builder", buildkitd().address, "build", "-q", "-t", &tag, "--push"];
    let mut command = place.command(&[&head[..], &["--provenance=true", "."]].concat());
    command.env("BUILDX_GIT_LABELS", "full").env("GIT_CONFIG_COUNT", "1");
    command.env("GIT_CONFIG_KEY_0", "safe.directory").env("GIT_CONFIG_VALUE_0", "*");
    let ran = place.ran(&command.output().unwrap());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let source = format!("docker://{tag}");
    let config = program("skopeo", &["inspect", "--tls-verify=false", "--config", &source]);
    let labels = serde_json::from_str::<Value>(&config).unwrap()["config"]["Labels"].take();
    assert_eq!(labels["org.opencontainers.image.revision"].as_str().map(str::len), Some(40));
    assert_eq!(labels["org.opencontainers.image.source"], "https://example.com/a.git");
    assert_eq!(labels["com.docker.image.source.entrypoint"], "Dockerfile");
    let told = attested(&tag)[0].1.to_string();
    let revision = labels["org.opencontainers.image.revision"].as_str().unwrap();
    assert!(told.contains(revision) && !told.contains("hidden"), "{told}");
}
