//! Directories of blobs that the builder gets at: OCI layouts, which it reads (`oci-layout://`
//! contexts), and local caches, which it reads and writes (`type=local`).
//!
//! Blobs are named by digest and nothing else, so a builder can read a layout's blobs and no other
//! file. What does not have the digest that it is named by is not handed out whole.

use super::{Attachable, content_directory::Incoming};
use crate::{
    buildkit::control::MESSAGE_LIMIT,
    image::reference::check_digest,
    proto::containerd::services::content::v1::{
        Info, InfoRequest, InfoResponse, ListContentRequest, ListContentResponse,
        ReadContentRequest, ReadContentResponse, StatusRequest, StatusResponse, UpdateRequest,
        UpdateResponse, WriteContentRequest, WriteContentResponse,
        content_server::{self, ContentServer},
    },
};
use bytes::Bytes;
use futures::stream::BoxStream;
use rustix::fs::{Mode, OFlags};
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap, fs::File, io, os::unix::fs::FileExt as _, path::PathBuf, sync::Arc,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap, service::RoutesBuilder};

/// Big enough for few messages, small enough for many layers at once.
const CHUNK: usize = 256 << 10;
/// Chunks that wait for the wire.
const QUEUE: usize = 2;
/// Which store a call is about.
const STORE: &str = "buildkit-attachable-store-id";

/// How the stores of layouts are called: this, and the layout's name.
const LAYOUT: &str = "oci:";
/// How the stores of local caches are called: this, and the attribute `src` or `dest`.
const CACHE: &str = "local:";

/// The Content service over directories: OCI layouts by the names that contexts give them
/// (`oci-layout://NAME@DIGEST`), and local caches by their attributes `src` and `dest`.
#[derive(Clone, Debug, Default)]
pub struct Layouts {
    directories: Arc<BTreeMap<String, Directory>>,
}

/// A directory, and whether the builder may write into it.
#[derive(Clone, Debug)]
struct Directory {
    path: PathBuf,
    is_writable: bool,
}

impl Layouts {
    /// Offers the layouts in `layouts` by name, and local caches: what to call them, where they
    /// are, and whether they are written.
    pub fn new(
        layouts: BTreeMap<String, PathBuf>,
        caches: impl IntoIterator<Item = (String, PathBuf, bool)>,
    ) -> Self {
        let layout =
            |(name, path)| (format!("{LAYOUT}{name}"), Directory { path, is_writable: false });
        let mut directories: BTreeMap<String, Directory> =
            layouts.into_iter().map(layout).collect();
        for (name, path, is_writable) in caches {
            let directory = directories
                .entry(format!("{CACHE}{name}"))
                .or_insert(Directory { path, is_writable });
            directory.is_writable |= is_writable;
        }
        Self { directories: Arc::new(directories) }
    }

    /// The directory that a call is about.
    fn directory(&self, metadata: &MetadataMap) -> Result<&Directory, Status> {
        // Names come from command lines, and no header holds every character of those.
        let store = metadata.get(STORE).map(|store| String::from_utf8_lossy(store.as_bytes()));
        let store = store.unwrap_or_default();
        self.directories
            .get(&*store)
            .ok_or_else(|| Status::not_found(format!("unknown store {store}")))
    }

    /// Opens the blob of a store that a call is about.
    fn open(&self, metadata: &MetadataMap, digest: &str) -> Result<Blob, Status> {
        let directory = &self.directory(metadata)?.path;
        check_digest(digest)
            .map_err(|error| Status::invalid_argument(format!("digest {digest}: {error}")))?;
        let (algorithm, hex) = digest.split_once(':').unwrap_or_default();
        let open = || {
            let folder = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let root = rustix::fs::open(directory, folder, Mode::empty())?;
            // No link leads out of the layout, in no part of the path.
            let inner = folder | OFlags::NOFOLLOW;
            let blobs = rustix::fs::openat(&root, "blobs", inner, Mode::empty())?;
            let blobs = rustix::fs::openat(&blobs, algorithm, inner, Mode::empty())?;
            let file = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = File::from(rustix::fs::openat(&blobs, hex, file, Mode::empty())?);
            let metadata = file.metadata()?;
            if metadata.is_file() {
                Ok(Blob { digest: digest.to_owned(), size: metadata.len(), file })
            } else {
                Err(io::Error::other("it is no file"))
            }
        };
        open().map_err(|error: io::Error| {
            let text = format!("blob {digest} in `{}`: {error}", directory.display());
            match error.kind() {
                io::ErrorKind::NotFound => Status::not_found(text),
                _ => Status::failed_precondition(text),
            }
        })
    }
}

#[derive(Debug)]
struct Blob {
    digest: String,
    size: u64,
    file: File,
}

impl Blob {
    /// Sends `size` bytes from `offset` (to the end where `size` is zero). Bytes that are sent whole
    /// are hashed on the way, and the last of them held back until the digest is known to be right.
    fn send(&self, offset: u64, size: u64, to: &mpsc::Sender<Result<Chunk, Status>>) {
        let rest = self.size.saturating_sub(offset);
        let end = offset.saturating_add(if size == 0 { rest } else { size.min(rest) });
        let mut check = (offset == 0 && end == self.size && self.digest.starts_with("sha256:"))
            .then(Sha256::new);
        let mut at = offset;
        while at < end {
            let length = usize::try_from(end.saturating_sub(at)).unwrap_or(CHUNK).min(CHUNK);
            let mut data = vec![0; length];
            let read = self.file.read_exact_at(&mut data, at);
            let data = Bytes::from(data);
            if let Some(hash) = &mut check {
                hash.update(&data);
            }
            let next = at.saturating_add(u64::try_from(length).unwrap_or_default());
            let wrong = next == end && check.take().is_some_and(|hash| !self.is(&hash.finalize()));
            let chunk = match read {
                Err(error) => Err(Status::data_loss(format!("blob {}: {error}", self.digest))),
                Ok(()) if wrong => {
                    let digest = &self.digest;
                    Err(Status::data_loss(format!("blob {digest} does not have this digest")))
                }
                Ok(()) => Ok((at, data)),
            };
            let failed = chunk.is_err();
            // The builder may have read enough.
            if to.blocking_send(chunk).is_err() || failed {
                return;
            }
            at = next;
        }
    }

    fn is(&self, hash: &[u8]) -> bool {
        let hex = self.digest.strip_prefix("sha256:").unwrap_or_default();
        let digits = hex.as_bytes().chunks(2).map(|pair| {
            std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok())
        });
        digits.eq(hash.iter().map(|&byte| Some(byte)))
    }
}

/// Bytes with their offset.
type Chunk = (u64, Bytes);

impl Attachable for Layouts {
    fn methods(&self) -> &'static [&'static str] {
        &[
            "/containerd.services.content.v1.Content/Info",
            "/containerd.services.content.v1.Content/List",
            "/containerd.services.content.v1.Content/Read",
            "/containerd.services.content.v1.Content/Status",
            "/containerd.services.content.v1.Content/Update",
            "/containerd.services.content.v1.Content/Write",
        ]
    }

    fn register(self: Box<Self>, routes: &mut RoutesBuilder) {
        routes.add_service(ContentServer::new(*self).max_decoding_message_size(MESSAGE_LIMIT));
    }
}

fn read_only<T>() -> Result<Response<T>, Status> {
    Err(Status::failed_precondition("an OCI layout is only read"))
}

/// Takes a blob in, message by message.
async fn receive(
    mut incoming: Incoming,
    mut requests: Streaming<WriteContentRequest>,
    answers: mpsc::Sender<Result<WriteContentResponse, Status>>,
) {
    // A writer that breaks off leaves nothing: what it wrote goes with `incoming`.
    while let Ok(Some(request)) = requests.message().await {
        let taken = tokio::task::spawn_blocking(move || {
            let answer = incoming.take(&request);
            (incoming, answer)
        });
        let Ok((back, answer)) = taken.await else { return };
        incoming = back;
        let failed = answer.is_err();
        if answers.send(answer).await.is_err() || failed {
            return;
        }
    }
}

#[tonic::async_trait]
impl content_server::Content for Layouts {
    type ListStream = BoxStream<'static, Result<ListContentResponse, Status>>;
    type ReadStream = BoxStream<'static, Result<ReadContentResponse, Status>>;
    type WriteStream = BoxStream<'static, Result<WriteContentResponse, Status>>;

    async fn info(&self, request: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        let blob = self.open(request.metadata(), &request.get_ref().digest)?;
        let size = i64::try_from(blob.size).unwrap_or(i64::MAX);
        let info = Info { digest: blob.digest, size, ..Info::default() };
        Ok(Response::new(InfoResponse { info: Some(info) }))
    }

    async fn read(
        &self,
        request: Request<ReadContentRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let ReadContentRequest { digest, offset, size } = request.get_ref();
        let blob = self.open(request.metadata(), digest)?;
        let offset = u64::try_from(*offset).unwrap_or_default();
        if offset > blob.size {
            return Err(Status::out_of_range(format!("blob {digest} ends before {offset}")));
        }
        let size = u64::try_from(*size).unwrap_or_default();
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::task::spawn_blocking(move || blob.send(offset, size, &sender));
        let chunks = futures::StreamExt::map(ReceiverStream::new(receiver), |chunk| {
            let (offset, data) = chunk?;
            Ok(ReadContentResponse { offset: i64::try_from(offset).unwrap_or(i64::MAX), data })
        });
        Ok(Response::new(Box::pin(chunks)))
    }

    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        let name = &request.get_ref().r#ref;
        Err(Status::not_found(format!("nothing is written under {name}")))
    }

    async fn list(
        &self,
        _: Request<ListContentRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        Err(Status::unimplemented("blobs are asked for by digest"))
    }

    async fn update(&self, _: Request<UpdateRequest>) -> Result<Response<UpdateResponse>, Status> {
        read_only()
    }

    async fn write(
        &self,
        request: Request<Streaming<WriteContentRequest>>,
    ) -> Result<Response<Self::WriteStream>, Status> {
        let directory = self.directory(request.metadata())?;
        if !directory.is_writable {
            return read_only();
        }
        let incoming = Incoming::new(directory.path.clone());
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(receive(incoming, request.into_inner(), sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

#[cfg(test)]
mod tests {
    use super::{CHUNK, Layouts, STORE};
    use crate::proto::containerd::services::content::v1::{
        InfoRequest, ReadContentRequest, content_server::Content as _,
    };
    use futures::StreamExt as _;
    use sha2::{Digest as _, Sha256};
    use std::{collections::BTreeMap, fs, path::Path};
    use tempfile::TempDir;
    use tonic::{Code, Request, Status};

    fn layout() -> (TempDir, Layouts) {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("blobs/sha256")).unwrap();
        let layouts =
            Layouts::new(BTreeMap::from([("name".to_owned(), directory.path().to_owned())]), []);
        (directory, layouts)
    }

    fn add(directory: &Path, content: &[u8]) -> String {
        let hex: Vec<String> =
            Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
        let hex = hex.concat();
        fs::write(directory.join("blobs/sha256").join(&hex), content).unwrap();
        format!("sha256:{hex}")
    }

    fn about<T>(store: &str, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert(STORE, store.parse().unwrap());
        request
    }

    async fn read(
        layouts: &Layouts,
        digest: &str,
        (offset, size): (i64, i64),
    ) -> Result<Vec<u8>, Status> {
        let request = ReadContentRequest { digest: digest.to_owned(), offset, size };
        let mut chunks = layouts.read(about("oci:name", request)).await?.into_inner();
        let (mut content, mut at) = (Vec::new(), offset);
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk?;
            assert_eq!(chunk.offset, at);
            at += i64::try_from(chunk.data.len()).unwrap();
            content.extend(chunk.data);
        }
        Ok(content)
    }

    async fn info(layouts: &Layouts, store: &str, digest: &str) -> Result<i64, Code> {
        let answer = layouts.info(about(store, InfoRequest { digest: digest.to_owned() })).await;
        answer.map(|answer| answer.into_inner().info.unwrap().size).map_err(|error| error.code())
    }

    #[tokio::test]
    async fn blobs_are_read_whole_and_in_parts() {
        let (directory, layouts) = layout();
        let content: Vec<u8> = (0..=250).cycle().take(CHUNK * 2 + 17).collect();
        let digest = add(directory.path(), &content);
        let size = i64::try_from(content.len()).unwrap();
        assert_eq!(info(&layouts, "oci:name", &digest).await, Ok(size));
        assert_eq!(read(&layouts, &digest, (0, 0)).await.unwrap(), content);
        assert_eq!(read(&layouts, &digest, (0, size)).await.unwrap(), content);
        assert_eq!(read(&layouts, &digest, (5, 10)).await.unwrap(), content[5..15]);
        assert_eq!(read(&layouts, &digest, (size - 3, 99)).await.unwrap().len(), 3);
        assert_eq!(read(&layouts, &digest, (size, 0)).await.unwrap(), b"");
        let beyond = read(&layouts, &digest, (size + 1, 0)).await.unwrap_err();
        assert_eq!(beyond.code(), Code::OutOfRange);
        let empty = add(directory.path(), b"");
        assert_eq!(read(&layouts, &empty, (0, 0)).await.unwrap(), b"");
    }

    #[tokio::test]
    async fn a_blob_with_another_digest_is_not_handed_out() {
        let (directory, layouts) = layout();
        let digest = add(directory.path(), b"right");
        let hex = digest.strip_prefix("sha256:").unwrap();
        fs::write(directory.path().join("blobs/sha256").join(hex), "wrong").unwrap();
        let error = read(&layouts, &digest, (0, 0)).await.unwrap_err();
        assert_eq!(error.code(), Code::DataLoss);
    }

    #[tokio::test]
    async fn nothing_else_can_be_named() {
        let (directory, layouts) = layout();
        let digest = add(directory.path(), b"x");
        fs::write(directory.path().join("outside"), "y").unwrap();
        let info = async |store, digest| info(&layouts, store, digest).await;
        assert_eq!(info("oci:other", &digest).await, Err(Code::NotFound));
        assert_eq!(info("name", &digest).await, Err(Code::NotFound));
        let absent = format!("sha256:{}", "0".repeat(64));
        assert_eq!(info("oci:name", &absent).await, Err(Code::NotFound));
        for bad in ["", "sha256:", "sha256:../../outside", "../..:outside", "sha256:AA"] {
            assert_eq!(info("oci:name", bad).await, Err(Code::InvalidArgument), "{bad}");
        }
        // A link out of the layout under the name of a blob.
        let name = format!("blobs/sha256/{}", "1".repeat(64));
        std::os::unix::fs::symlink("../../outside", directory.path().join(name)).unwrap();
        let linked = format!("sha256:{}", "1".repeat(64));
        assert_eq!(info("oci:name", &linked).await, Err(Code::FailedPrecondition));
    }
}
