//! Three builders, three registries, and the other roads to a builder.

use super::{pinned, remote_config, skopeo_inspect};
use crate::bed;
use crate::command::{Stranger, run, succeed, unique, write_files};

/// Builds and pushes one image to each registry through `builder` and looks at what arrived.
fn pushes_to_every_registry(builder: &str) {
    let registries = [bed::registry(), bed::registry_token(), bed::registry_basic()];
    let stranger = Stranger::logged_in(&registries[1..], bed::user());
    let mark = unique("push");
    write_files(
        &stranger.join("context"),
        &[
            (
                "Dockerfile",
                "ARG BASE\nFROM ${BASE}\nARG MARK\nRUN echo \"${MARK} $(uname -m)\" >/made-here\nCOPY greeting /\nCMD [\"cat\", \"/made-here\"]\n",
            ),
            ("greeting", &mark),
        ],
    );
    for registry in registries {
        let name = format!("{registry}/acceptance/{mark}:v1");
        let said = succeed(
            stranger
                .bk_sync()
                .args(["build", "--builder", builder, "--platform", "linux/arm64", "--push"])
                .args(["--build-arg", &format!("BASE={}", bed::base_arm64())])
                .args(["--build-arg", &format!("MARK={mark}")])
                .args(["--tag", &name, "context"]),
        );
        let (reference, digest) = pinned(&said.stdout, &name);
        let config = remote_config(&stranger, &reference);
        assert_eq!(config["architecture"], "arm64", "{name}");
        assert_eq!(config["os"], "linux", "{name}");
        assert_eq!(config["config"]["Cmd"], serde_json::json!(["cat", "/made-here"]), "{name}");
        let tagged = skopeo_inspect(&stranger, &name, &["--no-tags", "--override-arch", "arm64"]);
        assert_eq!(tagged["Digest"], digest.as_str(), "the tag names what stdout says");
    }
}

#[test]
fn buildkitd_pushes_to_every_registry() {
    pushes_to_every_registry(bed::buildkitd());
}

#[test]
fn docker_with_the_containerd_store_pushes_to_every_registry() {
    pushes_to_every_registry(bed::dockerd());
}

#[test]
fn docker_with_graphdrivers_pushes_to_every_registry() {
    pushes_to_every_registry(bed::dockerd_graphdriver());
}

/// A build that proves that the road to the builder carries a session: it reads the context.
fn a_small_build(stranger: &Stranger) -> Vec<String> {
    let mark = unique("road");
    write_files(
        &stranger.join("context"),
        &[("Dockerfile", "FROM scratch\nCOPY mark /\n"), ("mark", &mark)],
    );
    let out = stranger.join("out");
    ["build", "--output", &format!("type=local,dest={}", out.display()), "context"]
        .map(str::to_owned)
        .to_vec()
}

fn assert_arrived(stranger: &Stranger) {
    let sent = std::fs::read_to_string(stranger.join("context/mark")).expect("our mark");
    let back = std::fs::read_to_string(stranger.join("out/mark")).expect("the mark that came back");
    assert_eq!(sent, back);
}

#[test]
fn a_builder_on_tcp_with_certificates_builds() {
    let stranger = Stranger::new();
    let [ca, cert, key] = bed::buildkitd_tls_files();
    let arguments = a_small_build(&stranger);
    let mut command = stranger.bk_sync();
    command.args(["--builder", bed::buildkitd_tls()]).arg("--tlscacert").arg(ca);
    succeed(command.arg("--tlscert").arg(cert).arg("--tlskey").arg(key).args(arguments));
    assert_arrived(&stranger);
}

#[test]
fn a_builder_on_tcp_refuses_a_client_without_a_certificate() {
    let stranger = Stranger::new();
    let [ca, ..] = bed::buildkitd_tls_files();
    let arguments = a_small_build(&stranger);
    let said = run(stranger
        .bk_sync()
        .args(["--builder", bed::buildkitd_tls()])
        .arg("--tlscacert")
        .arg(ca)
        .args(arguments));
    assert_eq!(said.code, 10, "{}", said.stderr);
}

#[test]
fn a_builder_behind_ssh_builds() {
    let stranger = Stranger::new();
    let arguments = a_small_build(&stranger);
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", bed::ssh_path());
    succeed(stranger.bk_sync().env("PATH", path).args(["--builder", bed::ssh()]).args(arguments));
    assert_arrived(&stranger);
}

#[test]
fn a_builder_in_a_container_builds() {
    let stranger = Stranger::new();
    let arguments = a_small_build(&stranger);
    succeed(
        stranger
            .bk_sync()
            .env("DOCKER_HOST", bed::dockerd_host())
            .args(["--builder", bed::docker_container()])
            .args(arguments),
    );
    assert_arrived(&stranger);
}

#[test]
fn the_environment_names_the_builder() {
    for (name, value) in [
        ("BK_SYNC_BUILDER", bed::buildkitd()),
        ("BUILDKIT_HOST", bed::buildkitd()),
        ("DOCKER_HOST", bed::dockerd_host()),
    ] {
        let stranger = Stranger::new();
        let arguments = a_small_build(&stranger);
        succeed(stranger.bk_sync().env(name, value).args(arguments));
        assert_arrived(&stranger);
    }
}

#[test]
fn several_platforms_make_an_index() {
    for builder in [bed::buildkitd(), bed::dockerd()] {
        let stranger = Stranger::new();
        let mark = unique("platforms");
        let name = format!("{}/acceptance/{mark}:v1", bed::registry());
        let dockerfile = format!(
            "FROM {}\nARG TARGETARCH\nRUN echo {mark} $TARGETARCH >/arch\n",
            bed::base_multi()
        );
        write_files(&stranger.join("context"), &[("Dockerfile", &dockerfile)]);
        let said = succeed(
            stranger
                .bk_sync()
                .args(["build", "--builder", builder, "--platform", "linux/amd64,linux/arm64"])
                .args(["--tag", &name, "--push", "context"]),
        );
        let (reference, _) = pinned(&said.stdout, &name);
        let index = skopeo_inspect(&stranger, &reference, &["--raw"]);
        let platforms: Vec<_> = index["manifests"]
            .as_array()
            .expect("an index")
            .iter()
            .map(|entry| entry["platform"]["architecture"].as_str().unwrap_or_default())
            .filter(|architecture| *architecture != "unknown")
            .collect();
        assert_eq!(platforms, ["amd64", "arm64"]);
        assert_eq!(remote_config(&stranger, &reference)["architecture"], "arm64");
    }
}

#[test]
fn credentials_from_the_environment_push() {
    let (user, password) = bed::user();
    let stranger = Stranger::logged_in(&[bed::registry_token()], bed::user());
    let bare = Stranger::new();
    write_files(&bare.join("context"), &[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")]);
    let name = format!("{}/acceptance/{}:v1", bed::registry_token(), unique("environment"));
    let said = succeed(
        bare.bk_sync()
            .env("BK_SYNC_REGISTRY_USERNAME", user)
            .env("BK_SYNC_REGISTRY_PASSWORD", password)
            .args([
                "build",
                "--builder",
                bed::buildkitd(),
                "--platform",
                "linux/arm64",
                "--tag",
                &name,
            ])
            .args(["--push", "context"]),
    );
    let (reference, _) = pinned(&said.stdout, &name);
    assert_eq!(remote_config(&stranger, &reference)["architecture"], "arm64");
}

#[test]
fn a_user_who_may_only_pull_is_told_so() {
    for builder in [bed::buildkitd(), bed::dockerd_graphdriver()] {
        let stranger = Stranger::logged_in(&[bed::registry_token()], bed::pull_only_user());
        write_files(
            &stranger.join("context"),
            &[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")],
        );
        let name = format!("{}/acceptance/{}:v1", bed::registry_token(), unique("denied"));
        let said = run(stranger
            .bk_sync()
            .args(["build", "--builder", builder, "--format", "json", "--platform", "linux/arm64"])
            .args(["--tag", &name, "--push", "context"]));
        assert_eq!(said.code, 17, "{}\n{}", said.stdout, said.stderr);
        let envelope: serde_json::Value =
            serde_json::from_str(&said.stdout).expect("one JSON object");
        assert_eq!(envelope["ok"], false);
        let (_, password) = bed::pull_only_user();
        assert!(!said.stdout.contains(password) && !said.stderr.contains(password));
    }
}
