//! `FileSend`: a builder hands over what it has built.
//!
//! One method carries two wire formats, chosen by the exporter: `oci`, `docker` and `tar` send the
//! bytes of an archive in `BytesMessage`s, and `local` is a file transfer of `Packet`s. So messages
//! are read raw here, and decoded by where they go.

use super::Attachable;
use crate::{
    filesync::{Receiver, ReceiverError, Step, Target, TargetError, sender},
    proto::{fsutil::types::Packet, moby::filesync::v1::BytesMessage},
};
use bytes::{Buf as _, BufMut as _, Bytes};
use futures::{
    FutureExt as _, Stream, StreamExt as _,
    future::{BoxFuture, ready},
};
use prost::Message as _;
use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};
use tempfile::NamedTempFile;
use thiserror::Error;
use tokio::{
    fs::File,
    io::{AsyncWrite, AsyncWriteExt as _},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::spawn_blocking,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Response, Status, Streaming,
    body::Body,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::MetadataMap,
    server::{Grpc, NamedService},
    service::RoutesBuilder,
};

const METHOD: &str = "/moby.filesync.v1.FileSend/DiffCopy";
/// Archives come in messages of up to 3 MiB; builders send no more than this.
const MESSAGE_LIMIT: usize = 16 << 20;
/// Replies that wait for the wire.
const QUEUE: usize = 16;
/// Bytes of file data that wait for the disk. Announcements are not counted: they are small, quickly
/// dealt with, and must not lie unread, because small packets count against the connection.
const WAITING_DATA: usize = 4 << 20;

/// Where the output of an exporter goes.
#[derive(Debug)]
pub enum Destination {
    /// `local`: a directory, which is made where it is missing. With `delete`, what the builder does
    /// not send is removed from it.
    Directory {
        /// Where.
        path: PathBuf,
        /// `mode=delete`.
        delete: bool,
    },
    /// An archive, to a file that appears when it is whole.
    File(PathBuf),
    /// Nowhere: the output is there already.
    Skip,
    /// An archive, to stdout. A reader that closes it has had enough; that is no error.
    Stdout,
    /// An archive, to whoever holds the other end. An error is the last item; an end without one
    /// means that the archive is whole.
    Stream(mpsc::Sender<io::Result<Bytes>>),
}

/// Takes outputs, by the exporter's place in the build's list of exporters.
#[derive(Clone, Debug)]
pub struct FileSend {
    destinations: Arc<BTreeMap<usize, Destination>>,
    /// Streams are taken out when they are used, so that their readers see the end at once.
    streams: Arc<Mutex<Streams>>,
    failure: OutputFailure,
}

type Streams = BTreeMap<usize, mpsc::Sender<io::Result<Bytes>>>;

/// Why an output could not be written, in our own words. The builder ends the build with them too,
/// but wraps them in its own. A handle.
#[derive(Clone, Debug, Default)]
pub struct OutputFailure(Arc<Mutex<Option<String>>>);

impl OutputFailure {
    /// The first failure, if there was one.
    pub fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, text: &str) {
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| text.to_owned());
    }
}

#[derive(Debug, Error)]
enum OutputError {
    #[error("cannot write `{path}`: {source}{}", hint(source))]
    Archive { path: String, source: io::Error },
    #[error("`{}` is a directory; hint: give the output a file name", .0.display())]
    IsDirectory(PathBuf),
    #[error(
        "this builder cannot say which files to delete; hint: it needs BuildKit 0.32 or newer, or an output without mode=delete"
    )]
    NoDelete,
    #[error("the builder sent a message that cannot be read")]
    Message(#[from] prost::DecodeError),
    #[error(transparent)]
    Protocol(#[from] ReceiverError),
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The builder's stream broke: it knows why.
    #[error("the builder cut off the output: {}", .0.message())]
    Stream(Box<Status>),
    #[error("the builder ended the output before it was whole")]
    Truncated,
    #[error("writing the output was interrupted")]
    Interrupted,
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "; hint: make the directory first",
        io::ErrorKind::PermissionDenied => "; hint: choose a place that you may write to",
        io::ErrorKind::StorageFull => "; hint: make room, or choose another place",
        _ => "",
    }
}

type Answers = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

impl FileSend {
    /// Takes the outputs of these exporters.
    pub fn new(mut destinations: BTreeMap<usize, Destination>) -> Self {
        let stream = |(id, destination): (&usize, &Destination)| match destination {
            Destination::Stream(to) => Some((*id, to.clone())),
            _ => None,
        };
        let streams = destinations.iter().filter_map(stream).collect();
        destinations.retain(|_, destination| !matches!(destination, Destination::Stream(_)));
        Self {
            destinations: Arc::new(destinations),
            streams: Arc::new(Mutex::new(streams)),
            failure: OutputFailure::default(),
        }
    }

    /// A handle on what went wrong.
    pub fn failure(&self) -> OutputFailure {
        self.failure.clone()
    }

    async fn receive(&self, request: Request<Streaming<Bytes>>) -> Result<Answers, Status> {
        let (headers, _, messages) = request.into_parts();
        let id = exporter(&headers);
        let stream = self.streams.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        if let Some(to) = stream {
            let outcome = to_stream(messages, &to).await;
            return outcome
                .map(|()| futures::stream::empty().boxed())
                .map_err(|error| self.failed(&error));
        }
        let Some(destination) = self.destinations.get(&id) else {
            return Err(Status::not_found(format!("exporter {id} has no destination here")));
        };
        let outcome = match destination {
            Destination::Skip => return Err(Status::already_exists("the output exists")),
            Destination::File(path) => to_file(messages, path).await,
            Destination::Stdout => {
                copy(messages, &mut tokio::io::stdout(), "stdout").await.map(drop)
            }
            // Taken above, and good for once.
            Destination::Stream(_) => Err(OutputError::Interrupted),
            Destination::Directory { path, delete } => {
                let may_delete = headers.contains_key("buildkit-exporter-multi-platform");
                if *delete && !may_delete {
                    return Err(self.failed(&OutputError::NoDelete));
                }
                return Ok(self.to_directory(messages, path.clone(), *delete));
            }
        };
        match outcome {
            Ok(()) => Ok(futures::stream::empty().boxed()),
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn failed(&self, error: &OutputError) -> Status {
        let text = error.to_string();
        // What the builder did, it reports itself.
        if !matches!(error, OutputError::Stream(_) | OutputError::Protocol(ReceiverError::Peer(_)))
        {
            self.failure.set(&text);
        }
        Status::new(Code::Aborted, text)
    }

    /// Receives a directory: packets are applied one after the other on a blocking thread, and its
    /// replies are the answers of this call.
    fn to_directory(&self, mut messages: Streaming<Bytes>, path: PathBuf, delete: bool) -> Answers {
        let (answer, answers) = mpsc::channel(QUEUE);
        let (packets, arrived) = mpsc::unbounded_channel();
        let waiting_data = Arc::new(Semaphore::new(WAITING_DATA));
        let writer = {
            let answer = answer.clone();
            spawn_blocking(move || write_directory(&path, delete, arrived, &answer))
        };
        let service = self.clone();
        tokio::spawn(async move {
            let fed: Result<(), OutputError> = async {
                while let Some(message) = messages.next().await {
                    let message =
                        message.map_err(|status| OutputError::Stream(Box::new(status)))?;
                    let packet = Packet::decode(message)?;
                    let size = u32::try_from(packet.data.len().min(WAITING_DATA)).unwrap_or(0);
                    let waiting = Arc::clone(&waiting_data).acquire_many_owned(size).await;
                    // A writer that is gone has its reason, which comes next.
                    let Ok(permit) = waiting else { break };
                    if packets.send((packet, permit)).is_err() {
                        break;
                    }
                }
                Ok(())
            }
            .await;
            drop(packets);
            let written = writer.await.unwrap_or(Err(OutputError::Interrupted));
            if let Err(error) = fed.and(written) {
                let status = service.failed(&error);
                let packet = sender::failure(status.message()).encode_to_vec();
                if answer.send(Ok(packet.into())).await.is_ok() {
                    answer.send(Err(status)).await.ok();
                }
            }
        });
        ReceiverStream::new(answers).boxed()
    }
}

fn write_directory(
    path: &Path,
    delete: bool,
    mut arrived: mpsc::UnboundedReceiver<(Packet, OwnedSemaphorePermit)>,
    answer: &mpsc::Sender<Result<Bytes, Status>>,
) -> Result<(), OutputError> {
    let mut target = Target::open(path, rand::random(), delete)?;
    let mut receiver = Receiver::default();
    while !receiver.is_finished() {
        let (packet, _until_written) = arrived.blocking_recv().ok_or(OutputError::Truncated)?;
        for step in receiver.receive(packet)? {
            if let Step::Reply(reply) = step {
                let reply = Bytes::from(reply.encode_to_vec());
                answer.blocking_send(Ok(reply)).map_err(|_| OutputError::Interrupted)?;
            } else {
                target.apply(step)?;
            }
        }
    }
    Ok(())
}

/// Which exporter of the build this is.
fn exporter(headers: &MetadataMap) -> usize {
    let header = headers.get("buildkit-attachable-exporter-id");
    header.and_then(|id| id.to_str().ok()?.parse().ok()).unwrap_or_default()
}

/// Writes an archive beside its place, and puts it there when it is whole.
async fn to_file(messages: Streaming<Bytes>, path: &Path) -> Result<(), OutputError> {
    let failed = |source| OutputError::Archive { path: path.display().to_string(), source };
    // A link is written through, as everybody expects of a file name.
    let path = tokio::fs::canonicalize(path).await.unwrap_or_else(|_| path.to_owned());
    match tokio::fs::metadata(&path).await {
        Ok(found) if found.is_dir() => return Err(OutputError::IsDirectory(path)),
        // A pipe or a device is written to, not replaced.
        Ok(found) if !found.is_file() => {
            let mut file = File::options().write(true).open(&path).await.map_err(failed)?;
            return copy(messages, &mut file, &path.display().to_string()).await.map(drop);
        }
        _ => {}
    }
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    let beside = tempfile::Builder::new()
        .prefix(".bk-sync-")
        .permissions(permissions)
        .tempfile_in(directory)
        .map_err(|error| failed(unwrap_path(&error)))?;
    let mut file = File::from_std(beside.reopen().map_err(failed)?);
    copy(messages, &mut file, &path.display().to_string()).await?;
    drop(file);
    persist(beside, path.clone()).await.map_err(failed)
}

async fn persist(file: NamedTempFile, path: PathBuf) -> io::Result<()> {
    spawn_blocking(move || file.persist(path).map(drop).map_err(|error| error.error))
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// `tempfile` puts the random path into its errors, which nobody asked for.
fn unwrap_path(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| io::Error::from(error.kind()), io::Error::from_raw_os_error)
}

/// Copies an archive. A reader that has closed its end ends the writing, not the transfer: the
/// builder is let run to its end. Returns how many bytes were written.
async fn copy(
    mut messages: Streaming<Bytes>,
    to: &mut (impl AsyncWrite + Unpin),
    name: &str,
) -> Result<u64, OutputError> {
    let failed = |source| OutputError::Archive { path: name.to_owned(), source };
    let mut written = 0;
    let mut is_open = true;
    while let Some(data) = archive_piece(&mut messages).await? {
        if !is_open {
            continue;
        }
        match to.write_all(&data).await {
            Ok(()) => written += u64::try_from(data.len()).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => is_open = false,
            Err(error) => return Err(failed(error)),
        }
    }
    match to.flush().await {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(failed(error)),
        _ => Ok(written),
    }
}

async fn to_stream(
    mut messages: Streaming<Bytes>,
    to: &mpsc::Sender<io::Result<Bytes>>,
) -> Result<(), OutputError> {
    loop {
        match archive_piece(&mut messages).await {
            Ok(Some(data)) => {
                let gone = |_| OutputError::Archive {
                    path: "the receiving end".to_owned(),
                    source: io::ErrorKind::BrokenPipe.into(),
                };
                to.send(Ok(data)).await.map_err(gone)?;
            }
            Ok(None) => return Ok(()),
            Err(error) => {
                to.send(Err(io::Error::other(error.to_string()))).await.ok();
                return Err(error);
            }
        }
    }
}

async fn archive_piece(messages: &mut Streaming<Bytes>) -> Result<Option<Bytes>, OutputError> {
    match messages.message().await {
        Ok(Some(message)) => Ok(Some(BytesMessage::decode(message)?.data)),
        Ok(None) => Ok(None),
        Err(status) => Err(OutputError::Stream(Box::new(status))),
    }
}

impl Attachable for FileSend {
    fn methods(&self) -> &'static [&'static str] {
        &[METHOD]
    }

    fn register(self: Box<Self>, routes: &mut RoutesBuilder) {
        routes.add_service(*self);
    }
}

impl NamedService for FileSend {
    const NAME: &'static str = "moby.filesync.v1.FileSend";
}

impl tower::Service<http::Request<Body>> for FileSend {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() != METHOD {
            return ready(Ok(Status::unimplemented("no such method").into_http())).boxed();
        }
        let service = self.clone();
        let receive = tower::service_fn(move |request: Request<Streaming<Bytes>>| {
            let service = service.clone();
            async move { service.receive(request).await.map(Response::new) }
        });
        async move {
            let mut grpc = Grpc::new(Raw).max_decoding_message_size(MESSAGE_LIMIT);
            Ok(grpc.streaming(receive, request).await)
        }
        .boxed()
    }
}

/// Messages as they are.
#[derive(Clone, Copy, Debug, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

#[cfg(test)]
mod tests {
    use super::{Destination, FileSend, METHOD};
    use crate::{
        filesync::{
            mode,
            sender::{data, finish, request},
        },
        proto::{
            fsutil::types::{Packet, Stat},
            moby::filesync::v1::{BytesMessage, file_send_client::FileSendClient},
        },
    };
    use bytes::Bytes;
    use prost::Message as _;
    use std::{collections::BTreeMap, fs, path::Path};
    use tonic::{
        Code, Request, Status,
        metadata::{MetadataMap, MetadataValue},
    };

    fn chunk(text: &'static str) -> BytesMessage {
        BytesMessage { data: Bytes::from_static(text.as_bytes()) }
    }

    /// Sends an archive the way a builder does, and waits for the answer.
    async fn export(destination: Destination, chunks: Vec<BytesMessage>) -> Result<(), Status> {
        let service = FileSend::new(BTreeMap::from([(3, destination)]));
        let mut request = Request::new(tokio_stream::iter(chunks));
        *request.metadata_mut() = exporter("3");
        let mut answers = FileSendClient::new(service).diff_copy(request).await?.into_inner();
        assert_eq!(answers.message().await?, None);
        Ok(())
    }

    fn exporter(id: &'static str) -> MetadataMap {
        let mut headers = MetadataMap::new();
        headers.insert("buildkit-attachable-exporter-id", MetadataValue::from_static(id));
        headers
    }

    fn names(path: &Path) -> usize {
        fs::read_dir(path).unwrap().count()
    }

    #[tokio::test]
    async fn an_archive_is_written_whole() {
        let out = tempfile::tempdir().unwrap();
        let path = out.path().join("image.tar");
        fs::write(&path, "old").unwrap();
        let chunks = vec![chunk("one "), chunk("two")];
        export(Destination::File(path.clone()), chunks).await.unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), "one two");
        assert_eq!(names(out.path()), 1);
    }

    #[tokio::test]
    async fn what_is_no_place_for_an_archive_is_named_with_the_fix() {
        let out = tempfile::tempdir().unwrap();
        let error = export(Destination::File(out.path().into()), Vec::new()).await.unwrap_err();
        assert!(error.message().contains("is a directory; hint: "), "{error}");
        let missing = out.path().join("no/such/place.tar");
        let error = export(Destination::File(missing), vec![chunk("x")]).await.unwrap_err();
        assert!(error.message().ends_with("hint: make the directory first"), "{error}");
    }

    #[tokio::test]
    async fn an_output_that_is_there_is_skipped_and_an_unknown_one_refused() {
        let error = export(Destination::Skip, Vec::new()).await.unwrap_err();
        assert_eq!(error.code(), Code::AlreadyExists);
        let service = FileSend::new(BTreeMap::new());
        let request = Request::new(tokio_stream::iter(Vec::<BytesMessage>::new()));
        let error = FileSendClient::new(service).diff_copy(request).await.unwrap_err();
        assert_eq!(error.code(), Code::NotFound);
    }

    #[tokio::test]
    async fn a_device_is_written_to_and_not_replaced() {
        let out = tempfile::tempdir().unwrap();
        let link = out.path().join("null");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        export(Destination::File(link), vec![chunk("x")]).await.unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    #[tokio::test]
    async fn a_stream_ends_when_the_archive_is_whole() {
        let (to, mut from) = tokio::sync::mpsc::channel(4);
        let service = FileSend::new(BTreeMap::from([(3, Destination::Stream(to))]));
        let mut request = Request::new(tokio_stream::iter([chunk("abc")]));
        *request.metadata_mut() = exporter("3");
        let mut client = FileSendClient::new(service.clone());
        client.diff_copy(request).await.unwrap();
        assert_eq!(from.recv().await.unwrap().unwrap(), "abc");
        assert!(from.recv().await.is_none(), "whole, though the service lives on");
        drop(service);
    }

    /// Sends packets to a `local` output; returns the packets that came back.
    async fn local(path: &Path, packets: Vec<Packet>) -> Result<Vec<Packet>, Status> {
        let destination = Destination::Directory { path: path.to_owned(), delete: false };
        let service = FileSend::new(BTreeMap::from([(0, destination)]));
        let mut client = tonic::client::Grpc::new(service);
        client.ready().await.unwrap();
        let raw = packets.into_iter().map(|packet| Bytes::from(packet.encode_to_vec()));
        let request = Request::new(tokio_stream::iter(raw.collect::<Vec<_>>()));
        let path = http::uri::PathAndQuery::from_static(METHOD);
        let mut answers = client.streaming(request, path, super::Raw).await?.into_inner();
        let mut received = Vec::new();
        while let Some(answer) = answers.message().await? {
            received.push(Packet::decode(answer).unwrap());
        }
        Ok(received)
    }

    fn announce(path: &str, mode: u32, size: i64) -> Packet {
        let stat = Stat { path: path.to_owned(), mode, size, ..Stat::default() };
        Packet { stat: Some(stat), ..Packet::default() }
    }

    #[tokio::test]
    async fn a_directory_is_received() {
        let out = tempfile::tempdir().unwrap();
        let packets = vec![
            announce("d", mode::DIRECTORY | 0o755, 0),
            announce("d/f", 0o600, 5),
            Packet::default(),
            data(1, Bytes::from_static(b"hello")),
            data(1, Bytes::new()),
            finish(),
        ];
        let answers = local(&out.path().join("new"), packets).await.unwrap();
        assert_eq!(answers, [request(1), finish()]);
        assert_eq!(fs::read_to_string(out.path().join("new/d/f")).unwrap(), "hello");
    }

    #[tokio::test]
    async fn a_directory_that_is_cut_off_is_an_error() {
        let out = tempfile::tempdir().unwrap();
        let packets = vec![announce("f", 0o600, 5), data(0, Bytes::from_static(b"he"))];
        let error = local(out.path(), packets).await.unwrap_err();
        assert!(error.message().contains("before it was whole"), "{error}");
        assert_eq!(names(out.path()), 0, "nothing is left behind");
        let error = local(out.path(), vec![announce("../f", 0o600, 5)]).await.unwrap_err();
        assert!(error.message().contains("clean relative path"), "{error}");
    }
}
