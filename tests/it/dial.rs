//! Reaching real builders, by every way that the test bed has.

use crate::bed;
use bk_sync::{
    buildkit::{
        address::Address,
        dial::{Connection, Options, connect},
    },
    proto::moby::buildkit::v1::{ListWorkersRequest, control_client::ControlClient},
    transport::tls,
};

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
