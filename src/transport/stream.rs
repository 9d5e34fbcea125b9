//! One type for all byte streams, and a record of what came in first.

use std::{
    fmt, io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Reads and writes bytes, both ways at once.
pub trait Duplex: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Duplex for T {}

/// A byte stream to a peer, whatever it runs on.
pub struct ByteStream(Pin<Box<dyn Duplex>>);

impl ByteStream {
    /// Hides what `stream` is.
    pub fn new(stream: impl Duplex + 'static) -> Self {
        Self(Box::pin(stream))
    }

    /// The same stream, and a witness of what the peer says first.
    pub fn witnessed(self) -> (Self, Witness) {
        let witness = Witness::default();
        (Self::new(Witnessed { inner: self, witness: witness.clone() }), witness)
    }
}

impl fmt::Debug for ByteStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ByteStream")
    }
}

impl AsyncRead for ByteStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_read(context, buffer)
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.as_mut().poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.as_mut().poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}

/// As much of a peer's first words as tells protocols apart.
const REMEMBERED: usize = 512;

/// What a peer said first, for the error message when it turns out not to be who we thought.
#[derive(Clone, Default)]
pub struct Witness(Arc<Mutex<Record>>);

#[derive(Default)]
struct Record {
    head: Vec<u8>,
    closed: bool,
    failure: Option<(io::ErrorKind, String, Option<rustls::Error>)>,
}

impl Witness {
    /// The first bytes that came in: at most 512.
    pub fn head(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).head.clone()
    }

    /// Whether the peer closed its side, or the stream broke.
    pub fn closed(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).closed
    }

    /// Whether the peer has neither said anything nor ended.
    fn is_waiting(&self) -> bool {
        let record = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        record.head.is_empty() && !record.closed
    }

    /// How reading from the peer failed, where it did.
    pub fn failure(&self) -> Option<io::Error> {
        let record = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        record.failure.as_ref().map(|(kind, text, tls)| match tls {
            Some(tls) => io::Error::new(*kind, tls.clone()),
            None => io::Error::new(*kind, text.clone()),
        })
    }

    fn note_failure(&self, error: &io::Error) {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).cloned();
        let mut record = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        record.closed = true;
        record.failure.get_or_insert_with(|| (error.kind(), error.to_string(), tls));
    }

    fn note(&self, bytes: &[u8]) {
        let mut record = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = REMEMBERED.saturating_sub(record.head.len());
        record.head.extend(bytes.iter().take(room));
    }

    fn note_end(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
    }
}

impl fmt::Debug for Witness {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Witness")
    }
}

struct Witnessed {
    inner: ByteStream,
    witness: Witness,
}

impl Witnessed {
    /// Passes `outcome` of writing on. A peer that hangs up often says why first, and whoever could
    /// not write does not read any more: until the peer has said something, a write that fails
    /// counts as done, and the read that follows finds the reason or the end.
    fn hear_out<T>(&self, outcome: Poll<io::Result<T>>, done: T) -> Poll<io::Result<T>> {
        match outcome {
            Poll::Ready(Err(_)) if self.witness.is_waiting() => Poll::Ready(Ok(done)),
            outcome => outcome,
        }
    }
}

impl AsyncRead for Witnessed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let wanted = buffer.remaining() > 0;
        let poll = Pin::new(&mut self.inner).poll_read(context, buffer);
        match &poll {
            Poll::Ready(Ok(())) => match buffer.filled().get(before..) {
                Some([]) | None if wanted => self.witness.note_end(),
                Some(bytes) => self.witness.note(bytes),
                None => {}
            },
            Poll::Ready(Err(error)) => self.witness.note_failure(error),
            Poll::Pending => {}
        }
        poll
    }
}

impl AsyncWrite for Witnessed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.hear_out(outcome, bytes.len())
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_flush(context);
        self.hear_out(outcome, ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write_vectored(context, buffers);
        self.hear_out(outcome, buffers.iter().map(|buffer| buffer.len()).sum())
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::{ByteStream, REMEMBERED};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn a_witness_keeps_the_first_bytes_and_the_end() {
        let (near, mut far) = tokio::io::duplex(4096);
        let (mut stream, witness) = ByteStream::new(near).witnessed();
        assert!(witness.head().is_empty() && !witness.closed());
        far.write_all(&[b'x'; 1000]).await.unwrap();
        drop(far);
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        assert_eq!(all.len(), 1000);
        assert_eq!(witness.head(), vec![b'x'; REMEMBERED]);
        assert!(witness.closed());
    }
}
