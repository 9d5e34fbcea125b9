//! Blobs in a builder's store.

use crate::{
    buildkit::{
        control::Control,
        errors::{Code, Failure},
    },
    registry::{BlobSource, ByteStream, SourceError},
};
use futures::{StreamExt as _, TryStreamExt as _, future::BoxFuture};

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
            let stream = opened.map_err(|failure| broken(digest, "does not give", &failure))?;
            let name = digest.to_owned();
            let stream = stream.map_err(move |failure| broken(&name, "stopped giving", &failure));
            Ok(stream.boxed())
        })
    }
}

/// Why a blob cannot be read. That it is not there is said at the beginning of an answer or in it.
fn broken(digest: &str, what: &str, failure: &Failure) -> SourceError {
    SourceError::new(match failure.code {
        Code::NotFound => format!("the builder no longer has `{digest}`"),
        _ => format!("the builder {what} `{digest}`: {failure}"),
    })
}
