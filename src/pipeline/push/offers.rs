//! What a builder offers while it exports an image here. Layers stay in its store, from where they are
//! read when all is known, except for those that the builder does not have itself: those of a base image
//! that no step touched. Where no repository has them, they stream through us, straight into an upload.
//!
//! What is no layer (manifests, configs, attestations) is small, and is taken at once: nothing of the
//! builder's cache needs it, so it may be gone from the store as soon as the export is over.

use super::builder::BuilderBlobs;
use crate::{
    buildkit::session::{BlobSink, BlobTaker, OfferedBlob},
    event::Events,
    image::reference::Reference,
    proto::{
        moby::buildkit::v1::frontend::{Result as BuildResult, result},
        pb,
    },
    registry::{
        BlobSource, ByteStream, Delivery, Outcome, RegistryError, Repository, RetryBudget,
        SourceError, whole,
    },
};
use bytes::Bytes;
use futures::{StreamExt as _, future::BoxFuture};
use prost::Message as _;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// Chunks of a stream that wait for the upload.
const QUEUE: usize = 2;
/// What is no layer and no larger than this is kept here, in bytes.
const KEPT: usize = 1 << 20;
/// So much is kept of one image, in bytes.
const ALL_KEPT: usize = 8 << 20;
/// What begins the name of a layer.
const LAYER: &str = "layer-";

/// Takes what a builder offers.
#[derive(Clone)]
pub(crate) struct Offers(Arc<Inner>);

struct Inner {
    blobs: BuilderBlobs,
    /// Where the image goes; what streams goes to the first of them.
    repositories: Vec<Repository>,
    budget: RetryBudget,
    events: Events,
    /// Repositories that base images come from.
    bases: Mutex<BTreeSet<Reference>>,
    streamed: Mutex<BTreeMap<String, JoinHandle<Result<Outcome, RegistryError>>>>,
    /// What is small, by digest.
    kept: Mutex<BTreeMap<String, Bytes>>,
}

impl fmt::Debug for Offers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Offers")
    }
}

impl Offers {
    pub(crate) fn new(
        blobs: BuilderBlobs,
        repositories: Vec<Repository>,
        budget: RetryBudget,
        events: Events,
    ) -> Self {
        let (bases, streamed, kept) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { blobs, repositories, budget, events, bases, streamed, kept }))
    }

    /// Whether a blob is one that is kept here, and there is room for it.
    fn is_kept(&self, blob: &OfferedBlob) -> bool {
        let size = usize::try_from(blob.size).unwrap_or(usize::MAX);
        let kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let used: usize = kept.values().map(Bytes::len).sum();
        !blob.name.starts_with(LAYER) && size <= KEPT && used.saturating_add(size) <= ALL_KEPT
    }

    /// Hears of images that the build starts from.
    pub(crate) fn note_bases(&self, bases: BTreeSet<Reference>) {
        *self.0.bases.lock().unwrap_or_else(PoisonError::into_inner) = bases;
    }

    /// Repositories that base images come from, with their registries.
    pub(crate) fn bases(&self) -> BTreeSet<Reference> {
        self.0.bases.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What became of the blobs that streamed into the first repository; waits for their ends.
    /// Those that failed are left out: they are tried again, out of the builder's store.
    pub(crate) async fn delivered(&self) -> BTreeMap<String, Outcome> {
        let streamed =
            std::mem::take(&mut *self.0.streamed.lock().unwrap_or_else(PoisonError::into_inner));
        let mut delivered = BTreeMap::new();
        for (digest, task) in streamed {
            match task.await {
                Ok(Ok(outcome)) => {
                    delivered.insert(digest, outcome);
                }
                Ok(Err(error)) => tracing::debug!(%error, digest, "a blob did not stream"),
                Err(error) => tracing::debug!(%error, digest, "a blob did not stream"),
            }
        }
        delivered
    }

    /// Starts the delivery of a blob that only the builder's exporter can give. None where the
    /// blob is in place before a byte of it was needed.
    async fn stream(&self, blob: &OfferedBlob) -> Option<Box<dyn BlobSink>> {
        let Some(repository) = self.0.repositories.first().cloned() else {
            // It goes nowhere yet; read to its end, the builder has it when it does.
            return Some(Box::new(Stream(None)));
        };
        let (chunks, receiver) = mpsc::channel(QUEUE);
        let (opened, opens) = oneshot::channel();
        let source = FirstPass {
            receiver: Mutex::new(Some((receiver, opened))),
            then: self.0.blobs.clone(),
        };
        let host = repository.server().host().as_str();
        let bases = self.bases();
        let candidates = bases
            .iter()
            .filter(|base| base.domain() == host && base.path() != repository.name())
            .map(|base| base.path().to_owned())
            .collect();
        let delivery = Delivery {
            repository,
            digest: blob.digest.clone(),
            size: blob.size,
            candidates,
            budget: self.0.budget,
            events: self.0.events.clone(),
        };
        let task = tokio::spawn(async move { delivery.run(&source).await });
        // Either the delivery asks for bytes, or it is over without them.
        if opens.await.is_ok() {
            self.note(blob, task);
            return Some(Box::new(Stream(Some(chunks))));
        }
        match task.await {
            Ok(Ok(outcome)) => {
                self.note(blob, tokio::spawn(async move { Ok(outcome) }));
                None
            }
            // Read to its end all the same: then the builder has it, and it can be tried again.
            Ok(Err(_)) | Err(_) => Some(Box::new(Stream(None))),
        }
    }

    fn note(&self, blob: &OfferedBlob, task: JoinHandle<Result<Outcome, RegistryError>>) {
        let mut streamed = self.0.streamed.lock().unwrap_or_else(PoisonError::into_inner);
        streamed.insert(blob.digest.clone(), task);
    }
}

#[tonic::async_trait]
impl BlobTaker for Offers {
    async fn offered(&self, blob: &OfferedBlob) -> Result<Option<Box<dyn BlobSink>>, Status> {
        if self.is_kept(blob) {
            let (offers, digest) = (self.clone(), blob.digest.clone());
            return Ok(Some(Box::new(Keep { offers, digest, bytes: Vec::new() })));
        }
        match self.0.blobs.0.blob_size(&blob.digest).await {
            Ok(Some(_)) => Ok(None),
            Ok(None) => Ok(self.stream(blob).await),
            Err(failure) => Err(Status::new(failure.code, failure.message)),
        }
    }
}

impl BlobSource for Offers {
    fn open<'a>(
        &'a self,
        digest: &'a str,
        offset: u64,
    ) -> BoxFuture<'a, Result<ByteStream, SourceError>> {
        let kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned();
        match kept {
            Some(bytes) => Box::pin(async move { Ok(whole(&bytes, offset)) }),
            None => self.0.blobs.open(digest, offset),
        }
    }
}

/// Takes a blob that is kept.
struct Keep {
    offers: Offers,
    digest: String,
    bytes: Vec<u8>,
}

#[tonic::async_trait]
impl BlobSink for Keep {
    async fn write(&mut self, data: Bytes) -> Result<(), Status> {
        if self.bytes.len().saturating_add(data.len()) > KEPT {
            return Err(Status::out_of_range(format!("{} is larger than was said", self.digest)));
        }
        self.bytes.extend_from_slice(&data);
        Ok(())
    }

    async fn commit(self: Box<Self>) -> Result<(), Status> {
        let Self { offers, digest, bytes } = *self;
        let mut kept = offers.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.insert(digest, Bytes::from(bytes));
        Ok(())
    }
}

/// The builder's stream on the first reading, and its store afterwards: a layer that has begun to
/// stream is there by then.
struct FirstPass {
    receiver: Mutex<Option<(mpsc::Receiver<Bytes>, oneshot::Sender<()>)>>,
    then: BuilderBlobs,
}

impl BlobSource for FirstPass {
    fn open<'a>(
        &'a self,
        digest: &'a str,
        offset: u64,
    ) -> BoxFuture<'a, Result<ByteStream, SourceError>> {
        let first = self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((receiver, opened)) = first
            && offset == 0
            && opened.send(()).is_ok()
        {
            let stream = ReceiverStream::new(receiver).map(Ok).boxed();
            return Box::pin(async { Ok(stream) });
        }
        self.then.open(digest, offset)
    }
}

/// Hands a blob on, or to nobody where nobody wants it any more.
struct Stream(Option<mpsc::Sender<Bytes>>);

#[tonic::async_trait]
impl BlobSink for Stream {
    async fn write(&mut self, data: Bytes) -> Result<(), Status> {
        if let Some(chunks) = &self.0
            && chunks.send(data).await.is_err()
        {
            self.0 = None;
        }
        Ok(())
    }

    async fn commit(self: Box<Self>) -> Result<(), Status> {
        Ok(())
    }
}

/// The images that the graphs of a build's result start from.
pub(crate) fn repositories_in(result: &BuildResult) -> BTreeSet<Reference> {
    let refs = match &result.result {
        Some(result::Result::Ref(one)) => vec![one],
        Some(result::Result::Refs(many)) => many.refs.values().collect(),
        _ => Vec::new(),
    };
    let ops = refs.into_iter().filter_map(|one| one.def.as_ref()).flat_map(|graph| &graph.def);
    ops.filter_map(|op| match pb::Op::decode(op.as_slice()).ok()?.op? {
        pb::op::Op::Source(source) => {
            let name = source.identifier.strip_prefix("docker-image://")?;
            Reference::parse(name).ok()
        }
        _ => None,
    })
    .collect()
}
