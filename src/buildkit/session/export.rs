//! The content store that an exporter writes an image into, blob by blob (`type=oci,tar=false`).
//!
//! The builder names every blob, with its digest and size, before its first byte. Whoever takes
//! them decides then: what is not wanted never leaves the builder.

use crate::proto::containerd::services::content::v1::{
    Info, InfoResponse, UpdateRequest, UpdateResponse, WriteAction, WriteContentRequest,
    WriteContentResponse,
};
use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

/// The store's name in every exporter's calls.
pub(super) const STORE_NAME: &str = "export";

/// What a builder has to give.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OfferedBlob {
    /// What the builder calls the writing of it: `layer-sha256:…`, `config-…`, `manifest-…`,
    /// `index-…`.
    pub name: String,
    /// Its digest.
    pub digest: String,
    /// Its size in bytes.
    pub size: u64,
}

/// Takes an image that is exported.
#[tonic::async_trait]
pub trait BlobTaker: Send + Sync + 'static {
    /// Hears of a blob. None where it need not be sent; the builder then goes on as if it were
    /// there.
    async fn offered(&self, blob: &OfferedBlob) -> Result<Option<Box<dyn BlobSink>>, Status>;
}

/// Takes one blob.
#[tonic::async_trait]
pub trait BlobSink: Send {
    /// Takes the next bytes. The builder sends no more before this is done.
    async fn write(&mut self, data: Bytes) -> Result<(), Status>;

    /// The blob is complete.
    async fn commit(self: Box<Self>) -> Result<(), Status>;
}

/// The store in front of a [`BlobTaker`].
#[derive(Clone)]
pub(super) struct Export {
    taker: Arc<dyn BlobTaker>,
    /// Sizes of what was taken or waved through, because the builder asks afterwards.
    known: Arc<Mutex<BTreeMap<String, i64>>>,
}

impl fmt::Debug for Export {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Export")
    }
}

/// The answers to one stream of writes.
pub(super) type Answers = BoxStream<'static, Result<WriteContentResponse, Status>>;

impl Export {
    pub(super) fn new(taker: Arc<dyn BlobTaker>) -> Self {
        Self { taker, known: Arc::default() }
    }

    pub(super) fn info(&self, digest: &str) -> Result<Response<InfoResponse>, Status> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let size = *known
            .get(digest)
            .ok_or_else(|| Status::not_found(format!("nobody has written {digest}")))?;
        let info = Info { digest: digest.to_owned(), size, ..Info::default() };
        Ok(Response::new(InfoResponse { info: Some(info) }))
    }

    /// Labels mean something in the builder's own store only.
    pub(super) fn update(
        &self,
        request: UpdateRequest,
    ) -> Result<Response<UpdateResponse>, Status> {
        let wanted = request.info.unwrap_or_default();
        let known = self.info(&wanted.digest)?.into_inner().info;
        let info = known.map(|info| Info { labels: wanted.labels, ..info });
        Ok(Response::new(UpdateResponse { info }))
    }

    pub(super) fn write(&self, requests: Streaming<WriteContentRequest>) -> Answers {
        let (sender, receiver) = mpsc::channel(1);
        let store = self.clone();
        tokio::spawn(async move {
            let mut writing =
                Writing { store, blob: OfferedBlob::default(), sink: None, offset: 0 };
            if let Err(status) = writing.serve(requests, &sender).await {
                // A builder that has gone needs no answer.
                sender.send(Err(status)).await.unwrap_or_default();
            }
        });
        ReceiverStream::new(receiver).boxed()
    }
}

/// One blob that is being written.
struct Writing {
    store: Export,
    blob: OfferedBlob,
    sink: Option<Box<dyn BlobSink>>,
    offset: i64,
}

impl Writing {
    async fn serve(
        &mut self,
        mut requests: Streaming<WriteContentRequest>,
        answers: &mpsc::Sender<Result<WriteContentResponse, Status>>,
    ) -> Result<(), Status> {
        while let Some(request) = requests.message().await? {
            let action = request.action();
            if self.sink.is_none() {
                self.open(&request).await?;
            }
            let Some(sink) = &mut self.sink else {
                return Err(Status::already_exists(format!("{} is there", self.blob.digest)));
            };
            if !request.data.is_empty() {
                if request.offset != self.offset {
                    return Err(Status::out_of_range(format!(
                        "{} goes on at {}, not at {}",
                        self.blob.digest, self.offset, request.offset
                    )));
                }
                let length = i64::try_from(request.data.len()).unwrap_or(i64::MAX);
                sink.write(request.data).await?;
                self.offset = self.offset.saturating_add(length);
            }
            if action == WriteAction::Commit {
                self.commit().await?;
            }
            let answer = WriteContentResponse {
                action: action.into(),
                offset: self.offset,
                total: i64::try_from(self.blob.size).unwrap_or(i64::MAX),
                digest: self.blob.digest.clone(),
                ..WriteContentResponse::default()
            };
            if answers.send(Ok(answer)).await.is_err() || action == WriteAction::Commit {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn open(&mut self, request: &WriteContentRequest) -> Result<(), Status> {
        let size = u64::try_from(request.total).unwrap_or_default();
        if request.expected.is_empty() {
            return Err(Status::invalid_argument("a blob is written without its digest"));
        }
        self.blob =
            OfferedBlob { name: request.r#ref.clone(), digest: request.expected.clone(), size };
        self.sink = self.store.taker.offered(&self.blob).await?;
        if self.sink.is_none() {
            self.note();
        }
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), Status> {
        if u64::try_from(self.offset).ok() != Some(self.blob.size) {
            return Err(Status::failed_precondition(format!(
                "{} has {} bytes, not {}",
                self.blob.digest, self.offset, self.blob.size
            )));
        }
        if let Some(sink) = self.sink.take() {
            sink.commit().await?;
        }
        self.note();
        Ok(())
    }

    fn note(&self) {
        let size = i64::try_from(self.blob.size).unwrap_or(i64::MAX);
        let mut known = self.store.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(self.blob.digest.clone(), size);
    }
}
