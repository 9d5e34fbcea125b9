//! Where the bytes of a blob come from, wherever they lie, and the body that they become.

use bytes::Bytes;
use futures::{
    StreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use http_body::{Frame, SizeHint};
use sha2::{Digest as _, Sha256};
use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};
use tokio::sync::OwnedSemaphorePermit;

/// Bytes as they come.
pub type ByteStream = BoxStream<'static, Result<Bytes, SourceError>>;

/// Why bytes that are to be sent cannot be had.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{words}")]
pub struct SourceError {
    words: String,
}

impl SourceError {
    /// With the words of whoever cannot give them.
    pub fn new(words: impl Into<String>) -> Self {
        Self { words: words.into() }
    }
}

/// A store of blobs that can be read from any place on.
pub trait BlobSource: Send + Sync {
    /// The bytes of `digest` from `offset` on, to the end.
    fn open<'a>(
        &'a self,
        digest: &'a str,
        offset: u64,
    ) -> BoxFuture<'a, Result<ByteStream, SourceError>>;

    /// Whether the bytes are hashed here as they go. Where they lie in a file, the registry's own check
    /// is enough: they are hashed only once it has found something else, to know who is wrong. What comes
    /// over a connection is not there to be looked at again.
    fn is_hashed_on_the_way(&self) -> bool {
        true
    }
}

/// A stream without its first `skip` bytes.
pub(super) fn skipping(from: ByteStream, skip: u64) -> ByteStream {
    if skip == 0 {
        return from;
    }
    let rest = from.scan(skip, |left, chunk| {
        let kept = chunk.map(|mut chunk: Bytes| {
            let length = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
            let cut = (*left).min(length);
            *left -= cut;
            chunk.split_off(usize::try_from(cut).unwrap_or(chunk.len()))
        });
        std::future::ready(Some(kept))
    });
    rest.filter(|chunk| std::future::ready(!matches!(chunk, Ok(chunk) if chunk.is_empty()))).boxed()
}

/// A stream of bytes that are there already.
pub fn whole(bytes: &Bytes, offset: u64) -> ByteStream {
    let at = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
    stream::iter([Ok(bytes.slice(at..))]).boxed()
}

/// What is known of one blob on its way: how far its bytes were hashed, and how many were taken.
/// Lives through all attempts.
#[derive(Debug)]
pub(super) struct Track {
    digest: String,
    size: u64,
    hash: Mutex<Hashed>,
    /// Bytes handed to the network, in all attempts.
    pub(super) taken: AtomicU64,
    /// Counts for the whole registry.
    pub(super) registry: Arc<AtomicU64>,
    /// Set where the source failed, so that an attempt's failure is known for what it is.
    pub(super) failure: Mutex<Option<String>>,
}

#[derive(Debug)]
struct Hashed {
    sha256: Option<Sha256>,
    /// Bytes from the start that are in it.
    position: u64,
}

impl Track {
    /// Of a blob whose bytes are hashed and held against `digest` at their end where `hashed`.
    pub(super) fn new(
        digest: &str,
        size: u64,
        hashed: bool,
        registry: Arc<AtomicU64>,
    ) -> Arc<Self> {
        let sha256 = (hashed && digest.starts_with("sha256:")).then(Sha256::new);
        Arc::new(Self {
            digest: digest.to_owned(),
            size,
            hash: Mutex::new(Hashed { sha256, position: 0 }),
            taken: AtomicU64::new(0),
            registry,
            failure: Mutex::new(None),
        })
    }

    /// What the source said when it failed, once.
    pub(super) fn take_failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn fail(&self, words: String) -> SourceError {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(words.clone());
        SourceError::new(words)
    }

    /// Takes in `chunk`, which begins at `offset`. What was hashed before is not hashed again. At
    /// the end the digest must be right.
    fn pass(&self, offset: u64, chunk: &Bytes) -> Result<(), SourceError> {
        let length = u64::try_from(chunk.len()).unwrap_or_default();
        let end = offset.saturating_add(length);
        let mut hash = self.hash.lock().unwrap_or_else(PoisonError::into_inner);
        let known = hash.position;
        if offset <= known && end > known {
            let from = usize::try_from(known - offset).unwrap_or(usize::MAX);
            if let (Some(sha256), Some(new)) = (&mut hash.sha256, chunk.get(from..)) {
                sha256.update(new);
            }
            hash.position = end;
        }
        if end == self.size
            && hash.position == self.size
            && let Some(sha256) = hash.sha256.take()
        {
            drop(hash);
            let found = hex(&sha256.finalize());
            if self.digest.strip_prefix("sha256:") != Some(found.as_str()) {
                return Err(self.fail(format!("`{}` has the digest sha256:{found}", self.digest)));
            }
        }
        Ok(())
    }
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _: std::fmt::Result = write!(text, "{byte:02x}");
        text
    })
}

/// `sha256:…` of bytes.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

/// The body of one request: exactly `left` bytes out of a stream, checked and counted as they go.
pub(super) struct Outgoing {
    /// Never contended: a body must be `Sync`, and a stream is not.
    stream: Mutex<ByteStream>,
    track: Arc<Track>,
    at: u64,
    left: u64,
    pulse: Arc<Pulse>,
    /// Its turn. It ends with the last byte, not with the answer: while the registry stores this blob, the
    /// next one is on its way.
    turn: Option<OwnedSemaphorePermit>,
}

/// How far the body of one attempt has come, for whoever watches it.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    /// Bytes of this attempt.
    pub(super) sent: AtomicU64,
}

impl Outgoing {
    /// `left` bytes from `at` on, which is where `stream` begins.
    pub(super) fn new(
        stream: ByteStream,
        track: Arc<Track>,
        (at, left): (u64, u64),
        pulse: Arc<Pulse>,
        turn: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self { stream: Mutex::new(stream), track, at, left, pulse, turn }
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = SourceError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, SourceError>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let this = &mut *self;
        let stream = this.stream.get_mut().unwrap_or_else(PoisonError::into_inner);
        loop {
            let next = match stream.poll_next_unpin(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(next) => next,
            };
            let mut chunk = match next {
                Some(Ok(chunk)) if chunk.is_empty() => continue,
                Some(Ok(chunk)) => chunk,
                Some(Err(error)) => {
                    return Poll::Ready(Some(Err(this.track.fail(error.to_string()))));
                }
                None => {
                    let words = format!("`{}` ended {} bytes early", this.track.digest, this.left);
                    return Poll::Ready(Some(Err(this.track.fail(words))));
                }
            };
            chunk.truncate(usize::try_from(this.left).unwrap_or(usize::MAX));
            if let Err(error) = this.track.pass(this.at, &chunk) {
                return Poll::Ready(Some(Err(error)));
            }
            let length = u64::try_from(chunk.len()).unwrap_or_default();
            this.at += length;
            this.left -= length;
            if this.left == 0 {
                this.turn = None;
            }
            this.pulse.sent.fetch_add(length, Ordering::Relaxed);
            this.track.taken.fetch_add(length, Ordering::Relaxed);
            this.track.registry.fetch_add(length, Ordering::Relaxed);
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::{Outgoing, Pulse, SourceError, Track, digest, skipping, whole};
    use bytes::Bytes;
    use futures::{StreamExt as _, stream};
    use http_body_util::BodyExt as _;
    use std::sync::Arc;

    fn track(content: &[u8], named: &str) -> Arc<Track> {
        Track::new(named, u64::try_from(content.len()).unwrap(), true, Arc::default())
    }

    async fn sent(
        content: &'static [u8],
        track: &Arc<Track>,
        (at, left): (u64, u64),
    ) -> Result<Vec<u8>, SourceError> {
        let stream = whole(&Bytes::from_static(content), at);
        let pulse = Arc::new(Pulse::default());
        let body = Outgoing::new(stream, track.clone(), (at, left), pulse, None);
        body.collect().await.map(|collected| collected.to_bytes().to_vec())
    }

    #[tokio::test]
    async fn a_blob_in_parts_is_hashed_once_and_checked_at_its_end() {
        let content = b"0123456789";
        let right = track(content, &digest(content));
        assert_eq!(sent(content, &right, (0, 6)).await.unwrap(), b"012345");
        // Cut, and gone on from before where it was cut.
        assert_eq!(sent(content, &right, (4, 3)).await.unwrap(), b"456");
        assert_eq!(sent(content, &right, (7, 3)).await.unwrap(), b"789");
        let wrong = track(content, &digest(b"other"));
        assert_eq!(sent(content, &wrong, (0, 6)).await.unwrap(), b"012345");
        let error = sent(content, &wrong, (6, 4)).await.unwrap_err();
        assert!(error.to_string().contains(&digest(content)), "{error}");
        assert_eq!(wrong.take_failure(), Some(error.to_string()));
    }

    #[tokio::test]
    async fn a_source_that_ends_early_is_an_error() {
        let content = b"0123";
        let track = Track::new(&digest(content), 9, true, Arc::default());
        assert!(
            sent(content, &track, (0, 9)).await.unwrap_err().to_string().contains("5 bytes early")
        );
    }

    #[tokio::test]
    async fn what_was_sent_before_is_skipped() {
        let chunks = ["ab", "cd", "ef"].map(|text| Ok(Bytes::from_static(text.as_bytes())));
        let rest = skipping(stream::iter(chunks).boxed(), 3);
        let rest: Vec<Bytes> = rest.map(Result::unwrap).collect().await;
        assert_eq!(rest.concat(), b"def");
    }
}
