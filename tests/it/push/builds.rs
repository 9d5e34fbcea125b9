//! Builds that are pushed by this process.

use super::{
    image::Reader,
    json,
    proxy::{Fault, Proxy},
    result, skopeo,
};
use crate::bed;
use crate::command::{Stranger, run, succeed, unique, write_files};
use http::Method;
use serde_json::Value;
use std::process::Command;

/// A build for arm64 on `builder`, without what differs each time.
fn build(stranger: &Stranger, builder: &str) -> Command {
    let mut command = stranger.bk_sync();
    command.args(["build", "--builder", builder, "--platform", "linux/arm64"]).args([
        "--provenance=false",
        "--push",
        "context",
    ]);
    command
}

fn context(stranger: &Stranger, dockerfile: &str, mark: &str) {
    write_files(&stranger.join("context"), &[("Dockerfile", dockerfile), ("mark", mark)]);
}

#[test]
fn what_the_registry_has_never_leaves_the_builder() {
    for builder in [bed::buildkitd(), bed::dockerd()] {
        let stranger = Stranger::new();
        let name = unique("build");
        let base = bed::base_arm64();
        let dockerfile = format!("FROM {base}\nCOPY mark /a\nRUN echo {name} >/b\n");
        context(&stranger, &dockerfile, &name);
        let proxy = Proxy::start(bed::registry(), |_| None);
        let reference = format!("{}/push/{name}:v1", proxy.address);
        let other = format!("{}/push/{name}:v2", proxy.address);
        let pushed = result(build(&stranger, builder).args(["-t", &reference, "-t", &other]));
        assert_eq!(pushed["push"]["via"], "client", "{builder} {pushed}");
        assert!(pushed["push"]["blobs"]["uploaded"].as_u64().unwrap() >= 2, "{builder} {pushed}");
        assert_eq!(pushed["push"]["requests"], proxy.seen().len(), "{builder}");
        let digest = pushed["image"]["digest"].as_str().unwrap();
        let raw =
            skopeo(&stranger, &format!("{}/push/{name}@{digest}", bed::registry()), &["--raw"]);
        assert_eq!(raw["mediaType"], "application/vnd.oci.image.manifest.v1+json", "{builder}");

        proxy.forget();
        let again = result(build(&stranger, builder).args(["-t", &reference, "-t", &other]));
        assert_eq!(again["image"]["digest"], pushed["image"]["digest"], "{builder}");
        assert_eq!(again["push"]["blobs"]["uploaded"], 0, "{builder}");
        let seen = proxy.seen();
        assert!(seen.iter().filter(|one| one.path != "/v2/").count() <= 3, "{builder} {seen:?}");
        assert!(seen.iter().all(|one| one.bytes == 0), "{builder} {seen:?}");
    }
}

#[test]
fn a_base_that_no_step_touched_is_mounted_or_streams_through() {
    for builder in [bed::buildkitd(), bed::dockerd()] {
        let stranger = Stranger::new();
        let name = unique("lazy");
        let dockerfile = format!("FROM {}\nENV MARK={name}\n", bed::base_arm64());
        context(&stranger, &dockerfile, &name);
        // In the base's own registry it is mounted, if the builder has it or not.
        let reference = format!("{}/push/{name}:v1", bed::registry());
        let pushed = result(build(&stranger, builder).args(["-t", &reference]));
        assert!(pushed["push"]["blobs"]["mounted"].as_u64().unwrap() >= 1, "{builder} {pushed}");
        // In another registry it has to be sent.
        let reference = format!("{}/push/{name}:v1", bed::registry_basic());
        let (user, password) = bed::user();
        let pushed = result(
            build(&stranger, builder)
                .env("BK_SYNC_REGISTRY_USERNAME", user)
                .env("BK_SYNC_REGISTRY_PASSWORD", password)
                .args(["-t", &reference]),
        );
        let blobs = &pushed["push"]["blobs"];
        assert!(blobs["uploaded"].as_u64().unwrap() >= 2, "{builder} {pushed}");
    }
}

#[test]
fn several_registries_and_platforms_from_one_build() {
    let stranger =
        Stranger::logged_in(&[bed::registry_token(), bed::registry_basic()], bed::user());
    let name = unique("several");
    let dockerfile = format!("FROM {}\nRUN echo {name} >/b\n", bed::base_multi());
    write_files(&stranger.join("context"), &[("Dockerfile", &dockerfile)]);
    let registries = [bed::registry(), bed::registry_token(), bed::registry_basic()];
    let mut command = stranger.bk_sync();
    command.args(["build", "--builder", bed::buildkitd(), "--push", "context"]);
    command.args(["--platform", "linux/amd64,linux/arm64"]);
    for registry in registries {
        command.args(["-t", &format!("{registry}/push/{name}:v1")]);
    }
    let pushed = result(&mut command);
    assert_eq!(pushed["push"]["registry"], registries[0], "{pushed}");
    for registry in registries {
        let index = skopeo(&stranger, &format!("{registry}/push/{name}:v1"), &["--raw"]);
        let platforms: Vec<&Value> =
            index["manifests"].as_array().unwrap().iter().map(|one| &one["platform"]).collect();
        assert!(platforms.len() >= 2, "{index}");
        let config = skopeo(
            &stranger,
            &format!("{registry}/push/{name}:v1"),
            &["--config", "--override-arch", "arm64"],
        );
        assert_eq!(config["architecture"], "arm64", "{registry}");
    }
}

#[test]
fn compression_and_annotations_are_as_asked() {
    let stranger = Stranger::new();
    for (compression, level, kind) in [
        ("zstd", Some("3"), "tar+zstd"),
        ("gzip", Some("9"), "tar+gzip"),
        ("estargz", None, "tar+gzip"),
        ("uncompressed", None, ".tar"),
    ] {
        let name = unique("compress");
        context(&stranger, "FROM scratch\nCOPY mark /\n", &name);
        let reference = format!("{}/push/{name}:v1", bed::registry());
        let mut command = build(&stranger, bed::buildkitd());
        command.args(["-t", &reference, "--compression", compression, "--force-compression"]);
        command.args(["--annotation", "org.example.note=hello"]);
        if let Some(level) = level {
            command.args(["--compression-level", level]);
        }
        result(&mut command);
        let raw = skopeo(&stranger, &reference, &["--raw"]);
        let layer = raw["layers"][0]["mediaType"].as_str().unwrap();
        assert!(layer.ends_with(kind), "{compression}: {raw}");
        assert_eq!(raw["annotations"]["org.example.note"], "hello", "{raw}");
        let has_toc = raw["layers"][0]["annotations"].to_string().contains("toc.digest");
        assert_eq!(has_toc, compression == "estargz", "{raw}");
    }
    let said = run(build(&stranger, bed::buildkitd()).args([
        "-t",
        "r/a",
        "--compression",
        "gzip",
        "--compression-level",
        "22",
    ]));
    assert_eq!(said.code, 2, "{}", said.stderr);
}

#[test]
fn a_push_that_fails_keeps_the_build() {
    for builder in [bed::buildkitd(), bed::dockerd()] {
        let stranger = Stranger::new();
        let name = unique("kept");
        let base = bed::base_arm64();
        let dockerfile = format!("FROM {base}\nCOPY mark /a\nRUN echo {name} >/b\n");
        context(&stranger, &dockerfile, &name);
        let ill = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
        let is_ill = ill.clone();
        let proxy = Proxy::start(bed::registry(), move |asked| {
            let ill = is_ill.load(std::sync::atomic::Ordering::Relaxed);
            (ill && asked.method == Method::PUT).then_some(Fault::Status(500, 0))
        });
        let reference = format!("{}/push/{name}:v1", proxy.address);
        let said = run(build(&stranger, builder).args([
            "-t",
            &reference,
            "--retry-budget",
            "1s",
            "--format",
            "json",
        ]));
        assert_eq!(said.code, 12, "{builder}: {}\n{}", said.stdout, said.stderr);
        let envelope = json(&said);
        let next = envelope["next_actions"][0]["command"].as_str().expect("how to go on");
        assert!(next.starts_with("bk-sync push --resume "), "{envelope}");
        // Nothing of the context is needed any more, and the registry is well again.
        std::fs::remove_dir_all(stranger.join("context")).unwrap();
        ill.store(false, std::sync::atomic::Ordering::Relaxed);
        let words = next.split(' ').skip(1);
        let pushed = result(stranger.bk_sync().args(words));
        assert!(pushed["push"]["blobs"]["uploaded"].as_u64().unwrap() >= 2, "{builder} {pushed}");
        let digest = pushed["image"]["digest"].as_str().unwrap();
        skopeo(&stranger, &format!("{}/push/{name}@{digest}", bed::registry()), &["--raw"]);
        assert!(Reader::new(bed::registry()).has(&format!("push/{name}"), "v1"), "{builder}");
        // By its digest it goes anywhere else, too.
        let other = format!("{}/push/{name}/other:v1", bed::registry());
        result(stranger.bk_sync().args(["push", "--builder", builder, digest, &other]));
    }
}

/// The builder forgets nothing of what it built; that its push failed is mended by ours.
#[test]
fn a_push_by_the_builder_that_fails_is_finished_by_this_process() {
    for builder in [bed::buildkitd(), bed::dockerd()] {
        let stranger = Stranger::new();
        let name = unique("theirs");
        let dockerfile = format!("FROM {}\nCOPY mark /a\nRUN echo {name} >/b\n", bed::base_arm64());
        context(&stranger, &dockerfile, &name);
        let genpkey = ["genpkey", "-algorithm", "ED25519", "-out", "sign.key"];
        succeed(stranger.command("openssl").args(genpkey));
        let ill = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
        let is_ill = ill.clone();
        let proxy = Proxy::start(bed::registry(), move |asked| {
            let ill = is_ill.load(std::sync::atomic::Ordering::Relaxed);
            let is_write = asked.method == Method::PUT;
            (ill && is_write).then_some(Fault::Status(500, 0))
        });
        let reference = format!("{}/push/{name}:v1", proxy.address);
        let said = run(build(&stranger, builder).args([
            "-t",
            &reference,
            "--push-via",
            "builder",
            "--sign-key",
            "sign.key",
            "--format",
            "json",
        ]));
        assert_eq!(said.code, 12, "{builder}: {}\n{}", said.stdout, said.stderr);
        let envelope = json(&said);
        let next = envelope["next_actions"][0]["command"].as_str().expect("how to go on");
        assert!(next.starts_with("bk-sync push --resume "), "{envelope}");
        std::fs::remove_dir_all(stranger.join("context")).unwrap();
        ill.store(false, std::sync::atomic::Ordering::Relaxed);
        let elsewhere = stranger.join("tmp");
        let mut going_on = stranger.bk_sync();
        let pushed = result(going_on.args(next.split(' ').skip(1)).current_dir(elsewhere));
        assert_eq!(pushed["push"]["via"], "client", "{builder} {pushed}");
        let signatures = pushed["push"]["signatures"].as_array();
        assert_eq!(signatures.map(Vec::len), Some(1), "it is signed as it was to be: {pushed}");
        let digest = pushed["image"]["digest"].as_str().unwrap();
        let raw = skopeo(&stranger, &format!("{}/push/{name}:v1", bed::registry()), &["--raw"]);
        assert!(raw["layers"].as_array().unwrap().len() >= 2, "{builder} {raw}");
        skopeo(&stranger, &format!("{}/push/{name}@{digest}", bed::registry()), &["--raw"]);
        let said = run(stranger.bk_sync().args(["push", "--resume"]));
        assert_eq!(said.code, 2, "it is done: {}", said.stderr);
    }
}

#[test]
fn an_image_is_kept_here_where_that_is_asked_for() {
    let stranger = Stranger::new();
    let name = unique("held");
    context(&stranger, "FROM scratch\nCOPY mark /a\n", &name);
    let ill = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let is_ill = ill.clone();
    let proxy = Proxy::start(bed::registry(), move |asked| {
        let ill = is_ill.load(std::sync::atomic::Ordering::Relaxed);
        (ill && asked.method == Method::PUT).then_some(Fault::Status(500, 0))
    });
    let reference = format!("{}/push/{name}:v1", proxy.address);
    let said = run(build(&stranger, bed::buildkitd()).args([
        "-t",
        &reference,
        "--retry-budget",
        "1s",
        "--hold",
        "layout",
        "--format",
        "json",
    ]));
    assert_eq!(said.code, 12, "{}\n{}", said.stdout, said.stderr);
    ill.store(false, std::sync::atomic::Ordering::Relaxed);
    let kept = stranger.join(".local/state/bk-sync/push");
    let layouts = || {
        let entries = std::fs::read_dir(&kept).unwrap().flatten();
        entries.filter(|entry| entry.path().extension().is_some_and(|ext| ext == "layout")).count()
    };
    assert_eq!(layouts(), 1);
    // No builder is named, and none is needed.
    let pushed = result(stranger.bk_sync().args(["push", "--resume"]));
    assert_eq!(pushed["push"]["blobs"]["uploaded"], 2, "{pushed}");
    assert!(Reader::new(bed::registry()).has(&format!("push/{name}"), "v1"));
    assert_eq!(layouts(), 0, "it is not kept any longer");
}

#[test]
fn a_docker_with_graphdrivers_pushes_itself_and_says_so() {
    let stranger = Stranger::new();
    let name = unique("engine");
    context(&stranger, &format!("FROM {}\nCOPY mark /a\n", bed::base_arm64()), &name);
    let reference = format!("{}/push/{name}:v1", bed::registry());
    let said = succeed(build(&stranger, bed::dockerd_graphdriver()).args([
        "-t",
        &reference,
        "--push-via",
        "client",
        "--format",
        "json",
    ]));
    let envelope = json(&said);
    assert_eq!(envelope["result"]["push"]["via"], "engine", "{envelope}");
    assert_eq!(envelope["warnings"][0]["code"], "PUSH_VIA_DOCKER", "{envelope}");
}
