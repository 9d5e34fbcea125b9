//! The builder's front door: solve, status, workers, and the blobs that a build left.

use super::{errors::Failure, status};
use crate::{
    event::BuildStatus,
    proto::{
        containerd::services::content::v1::{ReadContentRequest, content_client::ContentClient},
        moby::buildkit::v1::{
            BuildHistoryRecord, BuildHistoryRequest, DiskUsageRequest, ListWorkersRequest,
            PruneRequest, SolveRequest, StatusRequest, StatusResponse, UsageRecord,
            control_client::ControlClient, types::WorkerRecord,
        },
    },
};
use bytes::{Bytes, BytesMut};
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
        let request = ReadContentRequest { digest: digest.to_owned(), offset: 0, size: 0 };
        let mut stream = self.content.clone().read(request).await?.into_inner();
        let mut blob = BytesMut::new();
        while let Some(chunk) = stream.message().await? {
            if blob.len() + chunk.data.len() > limit {
                return Ok(None);
            }
            blob.extend_from_slice(&chunk.data);
        }
        Ok(Some(blob.freeze()))
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
