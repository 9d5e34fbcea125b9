//! The builder's front door: solve, status, workers, and the blobs that a build left.

use super::{
    errors::{Code, Failure},
    status,
};
use crate::{
    event::BuildStatus,
    proto::{
        containerd::services::content::v1::{
            InfoRequest, ReadContentRequest, ReadContentResponse, content_client::ContentClient,
        },
        moby::buildkit::v1::{
            BuildHistoryRecord, BuildHistoryRequest, DiskUsageRequest, ListWorkersRequest,
            PruneRequest, SolveRequest, StatusRequest, StatusResponse, UsageRecord,
            control_client::ControlClient, types::WorkerRecord,
        },
    },
};
use bytes::{Bytes, BytesMut};
use futures::{Stream, TryStreamExt as _, stream};
use std::{collections::BTreeMap, time::SystemTime};
use tonic::{Streaming, transport::Channel};

/// What a builder sends or takes in one message (its own limit); tonic's default is a quarter.
pub const MESSAGE_LIMIT: usize = 16 << 20;

/// The header of a status stream with the builder's clock in it.
const CLOCK_HEADER: &str = "buildkit-current-timestamp";

/// The services of a builder that are not tied to one build.
#[derive(Clone, Debug)]
pub struct Control {
    client: ControlClient<Channel>,
    content: ContentClient<Channel>,
}

impl Control {
    /// Speaks over `channel`.
    pub fn new(channel: Channel) -> Self {
        Self {
            client: ControlClient::new(channel.clone())
                .max_decoding_message_size(MESSAGE_LIMIT)
                .max_encoding_message_size(MESSAGE_LIMIT),
            content: ContentClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT),
        }
    }

    /// The workers of the builder; the first one is its default.
    ///
    /// # Errors
    /// The call failed.
    pub async fn workers(&self) -> Result<Vec<WorkerRecord>, Failure> {
        let answer = self.client.clone().list_workers(ListWorkersRequest::default()).await?;
        Ok(answer.into_inner().record)
    }

    /// What the builder's cache holds; `filters` as buildctl takes them (`type==regular`).
    ///
    /// # Errors
    /// The call failed.
    pub async fn disk_usage(&self, filters: &[String]) -> Result<Vec<UsageRecord>, Failure> {
        let request = DiskUsageRequest { filter: filters.to_vec(), ..DiskUsageRequest::default() };
        Ok(self.client.clone().disk_usage(request).await?.into_inner().record)
    }

    /// Removes what `request` allows from the builder's cache; `removed` hears of each record.
    ///
    /// # Errors
    /// The call failed; what was removed before is gone.
    pub async fn prune(
        &self,
        request: PruneRequest,
        mut removed: impl FnMut(UsageRecord),
    ) -> Result<(), Failure> {
        let mut stream = self.client.clone().prune(request).await?.into_inner();
        while let Some(record) = stream.message().await? {
            removed(record);
        }
        Ok(())
    }

    /// Runs a build to its end and answers with what its exporters said. Dropping the future
    /// cancels the build on the builder.
    ///
    /// # Errors
    /// The build, an export or the call failed.
    pub async fn solve(&self, request: SolveRequest) -> Result<BTreeMap<String, String>, Failure> {
        let answer = self.client.clone().solve(request).await?;
        Ok(answer.into_inner().exporter_response)
    }

    /// Follows the build `build_id`; the builder waits some seconds for it to begin.
    ///
    /// # Errors
    /// There is no such build, or the call failed.
    pub async fn status(&self, build_id: &str) -> Result<StatusStream, Failure> {
        let request = StatusRequest { r#ref: build_id.to_owned() };
        let answer = self.client.clone().status(request).await?;
        let skew = answer
            .metadata()
            .get(CLOCK_HEADER)
            .and_then(|stamp| stamp.to_str().ok())
            .and_then(|stamp| status::Skew::measure(stamp, SystemTime::now()))
            .unwrap_or_default();
        Ok(StatusStream { stream: answer.into_inner(), skew })
    }

    /// What the builder keeps of the build `build_id`, which has ended. None where it keeps nothing.
    ///
    /// # Errors
    /// The call failed.
    pub async fn history(&self, build_id: &str) -> Result<Option<BuildHistoryRecord>, Failure> {
        let request = BuildHistoryRequest {
            r#ref: build_id.to_owned(),
            early_exit: true,
            ..BuildHistoryRequest::default()
        };
        let mut events = self.client.clone().listen_build_history(request).await?.into_inner();
        let mut found = None;
        while let Some(event) = events.message().await? {
            found = event.record.or(found);
        }
        Ok(found)
    }

    /// The blob `digest` out of the builder's store, whole. None where it is larger than `limit`
    /// bytes.
    ///
    /// # Errors
    /// The builder has no such blob, or the call failed.
    pub async fn read_blob(&self, digest: &str, limit: usize) -> Result<Option<Bytes>, Failure> {
        let mut chunks = Box::pin(self.open_blob(digest, 0).await?);
        let mut blob = BytesMut::new();
        while let Some(chunk) = chunks.try_next().await? {
            if blob.len() + chunk.len() > limit {
                return Ok(None);
            }
            blob.extend_from_slice(&chunk);
        }
        Ok(Some(blob.freeze()))
    }

    /// The size of the blob `digest` in the builder's store; none where it is not there.
    ///
    /// # Errors
    /// The call failed.
    pub async fn blob_size(&self, digest: &str) -> Result<Option<u64>, Failure> {
        let request = InfoRequest { digest: digest.to_owned() };
        match self.content.clone().info(request).await {
            Ok(answer) => {
                let info = answer.into_inner().info.unwrap_or_default();
                Ok(Some(u64::try_from(info.size).unwrap_or_default()))
            }
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status.into()),
        }
    }

    /// The blob `digest` out of the builder's store, from `offset` to its end, as it comes: the
    /// builder reads no faster than the stream is read.
    ///
    /// A builder holds the documents of an image in two places: in its store until the build has
    /// ended, and for its history from then on. It looks into both when a read begins and into one
    /// while it goes on, so that a read over the end of the build finds nothing where there is
    /// something: a blob that vanishes is asked for once more, from where it stopped.
    ///
    /// # Errors
    /// The builder has no such blob, or the call failed.
    pub async fn open_blob(
        &self,
        digest: &str,
        offset: u64,
    ) -> Result<impl Stream<Item = Result<Bytes, Failure>> + Send + use<>, Failure> {
        let reading = Reading {
            control: self.clone(),
            digest: digest.to_owned(),
            offset,
            stream: self.read(digest, offset).await?,
            is_second: false,
        };
        Ok(stream::try_unfold(reading, async |mut reading| {
            let chunk = reading.next().await?;
            Ok(chunk.map(|chunk| (chunk, reading)))
        }))
    }

    /// Begins to read the blob `digest` at `offset`.
    async fn read(
        &self,
        digest: &str,
        offset: u64,
    ) -> Result<Streaming<ReadContentResponse>, Failure> {
        let offset = i64::try_from(offset).unwrap_or(i64::MAX);
        let request = ReadContentRequest { digest: digest.to_owned(), offset, size: 0 };
        Ok(self.content.clone().read(request).await?.into_inner())
    }
}

/// A blob that is being read.
struct Reading {
    control: Control,
    digest: String,
    /// Where the next bytes are.
    offset: u64,
    stream: Streaming<ReadContentResponse>,
    /// Whether it vanished once already.
    is_second: bool,
}

impl Reading {
    /// The next bytes; none at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            match self.stream.message().await {
                Ok(message) => {
                    let chunk = message.map(|message| message.data);
                    let length = chunk.as_ref().map_or(0, Bytes::len);
                    self.offset += u64::try_from(length).unwrap_or_default();
                    return Ok(chunk);
                }
                Err(status) if status.code() == Code::NotFound && !self.is_second => {
                    let Self { digest, offset, .. } = &*self;
                    tracing::debug!(%status, digest, offset, "a blob vanished while it was read");
                    self.is_second = true;
                    self.stream = self.control.read(&self.digest, self.offset).await?;
                }
                Err(status) => return Err(status.into()),
            }
        }
    }
}

/// What a builder tells of one build while it runs.
#[derive(Debug)]
pub struct StatusStream {
    stream: Streaming<StatusResponse>,
    skew: status::Skew,
}

impl StatusStream {
    /// The next message, in our clock; none when the build has ended.
    ///
    /// # Errors
    /// The stream broke.
    pub async fn next(&mut self) -> Result<Option<BuildStatus>, Failure> {
        let message = self.stream.message().await?;
        Ok(message.map(|message| status::convert(message, self.skew)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::containerd::services::content::v1::{
        InfoResponse, ListContentRequest, ListContentResponse, StatusRequest as WriteStatusRequest,
        StatusResponse as WriteStatusResponse, UpdateRequest, UpdateResponse, WriteContentRequest,
        WriteContentResponse,
        content_server::{Content, ContentServer},
    };
    use futures::{StreamExt as _, stream::BoxStream};
    use hyper_util::rt::TokioIo;
    use std::sync::{Arc, Mutex};
    use tonic::{
        Request, Response, Status,
        transport::{Endpoint, Server},
    };

    const BLOB: &[u8] = b"{\"layers\":null}";

    /// A store that loses its blob some times while it is read, after some bytes.
    #[derive(Clone, Default)]
    struct Forgetful {
        losses: usize,
        after: usize,
        asked: Arc<Mutex<Vec<i64>>>,
    }

    type Stream<T> = BoxStream<'static, Result<T, Status>>;

    #[tonic::async_trait]
    impl Content for Forgetful {
        type ListStream = Stream<ListContentResponse>;
        type ReadStream = Stream<ReadContentResponse>;
        type WriteStream = Stream<WriteContentResponse>;

        async fn read(
            &self,
            request: Request<ReadContentRequest>,
        ) -> Result<Response<Self::ReadStream>, Status> {
            let at = request.get_ref().offset;
            let mut asked = self.asked.lock().unwrap();
            asked.push(at);
            let rest = &BLOB[usize::try_from(at).unwrap()..];
            let chunk = |data: &'static [u8]| {
                Ok(ReadContentResponse { offset: at, data: Bytes::from_static(data) })
            };
            let mut answer = vec![chunk(rest)];
            if asked.len() <= self.losses {
                let lost = Status::not_found("content digest sha256:x: not found");
                answer = vec![chunk(&rest[..self.after]), Err(lost)];
                answer.drain(..usize::from(self.after == 0));
            }
            Ok(Response::new(Box::pin(stream::iter(answer))))
        }

        async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
            Err(Status::unimplemented(""))
        }

        async fn update(
            &self,
            _: Request<UpdateRequest>,
        ) -> Result<Response<UpdateResponse>, Status> {
            Err(Status::unimplemented(""))
        }

        async fn list(
            &self,
            _: Request<ListContentRequest>,
        ) -> Result<Response<Self::ListStream>, Status> {
            Err(Status::unimplemented(""))
        }

        async fn status(
            &self,
            _: Request<WriteStatusRequest>,
        ) -> Result<Response<WriteStatusResponse>, Status> {
            Err(Status::unimplemented(""))
        }

        async fn write(
            &self,
            _: Request<Streaming<WriteContentRequest>>,
        ) -> Result<Response<Self::WriteStream>, Status> {
            Err(Status::unimplemented(""))
        }
    }

    /// Reads the blob out of `store`: what came of it, and where it was asked for.
    async fn read(store: Forgetful) -> (Result<Option<Bytes>, Code>, Vec<i64>) {
        let (near, far) = tokio::io::duplex(4096);
        let server = Server::builder().add_service(ContentServer::new(store.clone()));
        let incoming = stream::iter([Ok::<_, std::io::Error>(far)]).chain(stream::pending());
        let served = tokio::spawn(server.serve_with_incoming(incoming));
        let near = Mutex::new(Some(TokioIo::new(near)));
        let channel = Endpoint::from_static("http://localhost")
            .connect_with_connector(tower::service_fn(move |_| {
                let near = near.lock().unwrap().take();
                async move { near.ok_or_else(|| std::io::Error::other("one connection only")) }
            }))
            .await
            .unwrap();
        let blob = Control::new(channel).read_blob("sha256:x", 100).await;
        served.abort();
        let asked = store.asked.lock().unwrap().clone();
        (blob.map_err(|failure| failure.code), asked)
    }

    #[tokio::test]
    async fn a_blob_that_vanishes_is_asked_for_once_more_from_where_it_stopped() {
        let whole = Ok(Some(Bytes::from_static(BLOB)));
        assert_eq!(read(Forgetful::default()).await, (whole.clone(), vec![0]));
        for after in [0, 4] {
            let store = Forgetful { losses: 1, after, ..Forgetful::default() };
            let asked = vec![0, i64::try_from(after).unwrap()];
            assert_eq!(read(store).await, (whole.clone(), asked));
        }
        // What is gone is not waited for.
        let store = Forgetful { losses: 9, ..Forgetful::default() };
        assert_eq!(read(store).await, (Err(Code::NotFound), vec![0, 0]));
    }
}
