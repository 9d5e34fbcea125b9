//! Reaching real builders, by every way that the test bed has.

use crate::{bed, command::alone};
use bk_sync::{
    buildkit::{
        address::Address,
        dial::{ConnectError, Connection, Options, connect},
    },
    engine,
    proto::moby::buildkit::v1::{ListWorkersRequest, control_client::ControlClient},
    transport::tls,
};
use std::{process::Command, time::Duration};

async fn dial(address: &str, options: &Options) -> Connection {
    let address: Address = address.parse().unwrap();
    match connect(&address, options).await {
        Ok(connection) => connection,
        Err(error) => panic!("{error}\nfix: {:?}", error.fix()),
    }
}

/// A message of five million bytes goes to the builder, and its answer comes back.
async fn works(connection: &Connection) {
    assert!(!connection.workers.is_empty());
    let mut control = ControlClient::new(connection.channel.clone())
        .max_encoding_message_size(16 << 20)
        .max_decoding_message_size(16 << 20);
    let filter = format!("labels.none=={}", "x".repeat(5_000_000));
    let answer = control.list_workers(ListWorkersRequest { filter: vec![filter] }).await.unwrap();
    assert!(answer.into_inner().record.is_empty(), "no worker has that label");
    // What the builder complains of comes in headers: a long complaint must fit.
    let broken = format!("={}", "y".repeat(100_000));
    let refused = control.list_workers(ListWorkersRequest { filter: vec![broken] }).await;
    let refused = refused.unwrap_err();
    assert!(refused.message().len() > 100_000, "{refused:?}");
}

#[tokio::test]
async fn a_unix_socket() {
    let connection = dial(bed::buildkitd(), &Options::default()).await;
    assert!(connection.engine.is_none());
    works(&connection).await;
}

#[tokio::test]
async fn tcp_with_mutual_tls() {
    let [ca, cert, key] = bed::buildkitd_tls_files();
    let options = Options {
        tls: tls::Files {
            ca: Some(ca.to_owned()),
            cert: Some(cert.to_owned()),
            key: Some(key.to_owned()),
            server_name: None,
        },
        ..Options::default()
    };
    works(&dial(bed::buildkitd_tls(), &options).await).await;
}

#[tokio::test]
async fn docker_with_either_store() {
    for (address, containerd_store) in [(bed::dockerd(), true), (bed::dockerd_graphdriver(), false)]
    {
        let connection = dial(address, &Options::default()).await;
        let engine = connection.engine.as_ref().unwrap();
        let info = engine.info().await.unwrap();
        assert_eq!(info.containerd_store, containerd_store, "{info:?}");
        works(&connection).await;
    }
}

#[tokio::test]
async fn a_socket_that_turns_out_to_be_dockers() {
    let connection = dial(bed::dockerd_host(), &Options::default()).await;
    assert!(connection.engine.is_some());
    works(&connection).await;
}

/// Runs `test` in a process of its own, which finds the bed's `ssh` first in its `PATH`; true where
/// this is that process.
fn finds_the_beds_ssh(test: &str) -> bool {
    #[expect(clippy::disallowed_methods, reason = "the test changes its own environment")]
    let path = std::env::var("PATH").unwrap();
    alone(&format!("dial::{test}"), &[("PATH", &format!("{}:{path}", bed::ssh_path()))])
}

#[tokio::test]
async fn ssh() {
    if !finds_the_beds_ssh("ssh") {
        return;
    }
    let connection = dial(bed::ssh(), &Options::default()).await;
    works(&connection).await;
    let children = || {
        let mine = format!(" {} ", std::process::id());
        let stats = std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| std::fs::read_to_string(entry.unwrap().path().join("stat")).ok());
        stats.filter(|stat| stat.contains("(ssh)") && stat.contains(&mine)).count()
    };
    assert_eq!(children(), 1);
    drop(connection);
    for _ in 0..100 {
        if children() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("ssh outlives its connection");
}

#[tokio::test]
async fn ssh_that_fails_says_why() {
    if !finds_the_beds_ssh("ssh_that_fails_says_why") {
        return;
    }
    let (_, place) = bed::ssh().rsplit_once('@').unwrap();
    let error = miss(&format!("ssh://nobody@{place}"), &Options::default()).await;
    assert!(error.to_string().contains("`ssh` ended with exit code 255"), "{error}");
    assert!(error.to_string().contains("Permission denied"), "{error}");
    assert!(error.fix().unwrap().contains("load the key into an agent"));

    let error = miss(&format!("{}/no/such.sock", bed::ssh()), &Options::default()).await;
    assert!(error.to_string().contains("/no/such.sock"), "{error}");

    // This account has no `docker`.
    let error = miss(&bed::ssh().replace("ssh://", "docker+ssh://"), &Options::default()).await;
    assert!(error.to_string().contains("`ssh` ended with exit code"), "{error}");
}

/// Options for the Docker that holds the container with `buildctl`.
fn with_docker() -> Options {
    let host = Some(bed::dockerd_host().to_owned());
    Options { docker: engine::Settings { host, ..Default::default() }, ..Options::default() }
}

#[tokio::test]
async fn a_container_of_docker() {
    works(&dial(bed::docker_container(), &with_docker()).await).await;
}

#[tokio::test]
async fn a_docker_context() {
    // Docker's own client writes the context.
    let config = tempfile::tempdir().unwrap();
    let output = Command::new(bed::program("docker"))
        .args([
            "context",
            "create",
            "far.away",
            "--docker",
            &format!("host={}", bed::dockerd_host()),
        ])
        .env("DOCKER_CONFIG", config.path())
        .env_remove("DOCKER_HOST")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let options = Options {
        docker: engine::Settings {
            config_dir: Some(config.path().to_owned()),
            ..engine::Settings::default()
        },
        ..Options::default()
    };
    works(&dial("docker://?context=far.away", &options).await).await;
    let container = format!("{}?context=far.away", bed::docker_container());
    works(&dial(&container, &options).await).await;
    let error = miss("docker://?context=nowhere", &options).await;
    assert!(error.to_string().ends_with("there is no Docker context `nowhere`"), "{error}");
}

#[tokio::test]
async fn containers_that_cannot_help() {
    let error = miss("docker-container://bk-sync-no-such", &with_docker()).await;
    assert!(
        error.to_string().contains("No such container: bk-sync-no-such (status 404)"),
        "{error}"
    );

    let name = format!("bk-sync-dial-{}", std::process::id());
    let docker = |words: &[&str]| {
        let output = Command::new(bed::program("docker"))
            .args(words)
            .env("DOCKER_HOST", bed::dockerd_host())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    docker(&["run", "-d", "--name", &name, "--network", "none", bed::base_multi(), "sleep", "60"]);
    let error = miss(&format!("docker-container://{name}"), &with_docker()).await;
    docker(&["rm", "-f", &name]);
    let ended = format!("`buildctl dial-stdio` in container `{name}` ended with exit code 127: ");
    assert!(error.to_string().contains(&ended), "{error}");
    assert!(error.to_string().contains("executable file not found"), "{error}");
    assert!(error.fix().unwrap().starts_with("install `buildctl`"), "{error}");
}

/// Connects where no builder is.
async fn miss(address: &str, options: &Options) -> ConnectError {
    let address: Address = address.parse().unwrap();
    match connect(&address, options).await {
        Ok(_) => panic!("{address} is a builder"),
        Err(error) => error,
    }
}
