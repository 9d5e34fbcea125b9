//! Sessions, on the real builders of the bed: that they live, what they lend, how they end.

mod auth;
mod lend;
mod life;
mod told;

use crate::bed;
use bk_sync::{
    buildkit::session::{ContextMemory, FileSync, SessionBuilder, random_id},
    filesync::Source,
    proto::moby::buildkit::v1::{Exporter, SolveRequest, control_client::ControlClient},
};
use bytes::Bytes;
use hyper_util::rt::TokioIo;
use std::{collections::BTreeMap, io, sync::Mutex};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

/// The three builders that every session must work with.
fn builders() -> [&'static str; 3] {
    [bed::buildkitd(), bed::dockerd(), bed::dockerd_graphdriver()]
}

/// A connection to a builder on this machine.
pub async fn channel(address: &str) -> Channel {
    over(dial(address).await.unwrap())
}

/// A connection over one socket, and no other once it has ended.
fn over(stream: UnixStream) -> Channel {
    let stream = Mutex::new(Some(TokioIo::new(stream)));
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(tower::service_fn(
        move |_| {
            let once = stream.lock().unwrap().take();
            async move { once.ok_or_else(|| io::Error::other("the connection has ended")) }
        },
    ))
}

/// A socket on which the builder's API is spoken.
async fn dial(address: &str) -> io::Result<UnixStream> {
    let (scheme, path) = address.split_once("://").unwrap();
    let mut stream = UnixStream::connect(path).await?;
    if scheme == "docker" {
        let upgrade =
            "POST /grpc HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
        stream.write_all(upgrade.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    }
    Ok(stream)
}

/// A build by the builder's own frontend.
struct Build<'a> {
    builder: &'static str,
    dockerfile: &'a str,
    /// Files beside the Dockerfile.
    files: Vec<(&'a str, Bytes)>,
    attributes: Vec<(&'a str, String)>,
    exporters: Vec<Exporter>,
}

impl<'a> Build<'a> {
    fn new(builder: &'static str, dockerfile: &'a str) -> Self {
        Self {
            builder,
            dockerfile,
            files: Vec::new(),
            attributes: Vec::new(),
            exporters: Vec::new(),
        }
    }

    /// Runs it with what `session` lends beside the files.
    async fn run(self, session: SessionBuilder) -> Result<BTreeMap<String, String>, Status> {
        let dockerfile = Bytes::from(self.dockerfile.to_owned());
        let mut files: BTreeMap<String, Bytes> =
            self.files.into_iter().map(|(name, content)| (name.to_owned(), content)).collect();
        files.insert("Dockerfile".to_owned(), dockerfile);
        let sources =
            ["context", "dockerfile"].map(|name| (name.to_owned(), Source::Memory(files.clone())));
        let sources = BTreeMap::from(sources);
        let memory = ContextMemory::open(None, &sources);
        let channel = channel(self.builder).await;
        let session =
            session.attach(FileSync::new(sources, memory)).open(channel.clone()).await.unwrap();
        let attributes = self.attributes.into_iter().map(|(key, value)| (key.to_owned(), value));
        let request = SolveRequest {
            r#ref: random_id(),
            session: session.id().to_owned(),
            frontend: "dockerfile.v0".to_owned(),
            frontend_attrs: attributes.collect(),
            exporters: self.exporters,
            ..Default::default()
        };
        let answer = ControlClient::new(channel).solve(request).await;
        session.close().await.unwrap();
        answer.map(|answer| answer.into_inner().exporter_response)
    }
}

fn session() -> SessionBuilder {
    SessionBuilder::new(random_id())
}
