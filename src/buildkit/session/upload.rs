//! Archives that the builder takes from us as if from a web server: a context on stdin.

use super::{Attachable, random_id};
use crate::proto::moby::upload::v1::{
    BytesMessage,
    upload_server::{self, UploadServer},
};
use futures::{StreamExt as _, stream::BoxStream};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::io::AsyncRead;
use tokio_util::io::ReaderStream;
use tonic::{Request, Response, Status, Streaming, service::RoutesBuilder};

/// Big enough for few messages, small enough to be held several times over.
const CHUNK: usize = 256 << 10;

type Reader = Box<dyn AsyncRead + Send + Unpin>;

/// The Upload service. Each archive can be taken once, since it may be a pipe.
#[derive(Clone, Default)]
pub struct Upload {
    waiting: Arc<Mutex<HashMap<String, Reader>>>,
}

impl Upload {
    /// A service with nothing to take.
    pub fn new() -> Self {
        Self::default()
    }

    /// Offers what `reader` gives and returns the URL that the build's context is to be. Nothing is
    /// read before the builder takes it, and then only as fast as the builder does.
    pub fn add(&self, reader: impl AsyncRead + Send + Unpin + 'static) -> String {
        let id = random_id();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.insert(id.clone(), Box::new(reader));
        format!("http://buildkit-session/{id}")
    }

    fn take(&self, path: &str) -> Option<Reader> {
        let id = path.rsplit('/').next()?;
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(id)
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Upload")
    }
}

impl Attachable for Upload {
    fn methods(&self) -> &'static [&'static str] {
        &["/moby.upload.v1.Upload/Pull"]
    }

    fn register(self: Box<Self>, routes: &mut RoutesBuilder) {
        routes.add_service(UploadServer::new(*self));
    }
}

#[tonic::async_trait]
impl upload_server::Upload for Upload {
    type PullStream = BoxStream<'static, Result<BytesMessage, Status>>;

    async fn pull(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::PullStream>, Status> {
        let path = request.metadata().get("urlpath").and_then(|value| value.to_str().ok());
        let reader = path.and_then(|path| self.take(path)).ok_or_else(|| {
            Status::not_found("the context was taken before, or never offered in this session")
        })?;
        let chunks = ReaderStream::with_capacity(reader, CHUNK).map(|chunk| match chunk {
            Ok(data) => Ok(BytesMessage { data }),
            Err(error) => Err(Status::aborted(format!("cannot read the context: {error}"))),
        });
        Ok(Response::new(chunks.boxed()))
    }
}

#[cfg(test)]
mod tests {
    use super::Upload;
    use std::io::Cursor;
    use tokio::io::AsyncReadExt as _;

    #[tokio::test]
    async fn each_archive_can_be_taken_once_by_the_path_of_its_url() {
        let upload = Upload::new();
        let url = upload.add(Cursor::new(b"tar"));
        let other = upload.add(Cursor::new(b"other"));
        assert_ne!(url, other);
        let path = url.strip_prefix("http://buildkit-session").unwrap();
        let mut content = String::new();
        upload.take(path).unwrap().read_to_string(&mut content).await.unwrap();
        assert_eq!(content, "tar");
        assert!(upload.take(path).is_none());
        assert!(upload.take("/unknown").is_none());
    }
}
