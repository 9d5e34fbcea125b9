//! Blobs in a builder's store.

use crate::{
    buildkit::{control::Control, errors::Code},
    registry::{BlobSource, ByteStream, SourceError},
};
use futures::{StreamExt as _, future::BoxFuture};

/// The store of a builder, to read blobs out of.
#[derive(Clone, Debug)]
pub(crate) struct BuilderBlobs(pub(super) Control);

impl BuilderBlobs {
    /// The store behind `control`.
    pub(crate) fn new(control: Control) -> Self {
        Self(control)
    }
}

impl BlobSource for BuilderBlobs {
    fn open<'a>(
        &'a self,
        digest: &'a str,
        offset: u64,
    ) -> BoxFuture<'a, Result<ByteStream, SourceError>> {
        Box::pin(async move {
            let opened = self.0.open_blob(digest, offset).await;
            let stream = opened.map_err(|failure| {
                SourceError::new(match failure.code {
                    Code::NotFound => format!("the builder no longer has `{digest}`"),
                    _ => format!("the builder does not give `{digest}`: {failure}"),
                })
            })?;
            let name = digest.to_owned();
            let stream = stream.map(move |chunk| {
                chunk.map_err(|failure| {
                    SourceError::new(format!("the builder stopped giving `{name}`: {failure}"))
                })
            });
            Ok(stream.boxed())
        })
    }
}
