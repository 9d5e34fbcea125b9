//! The byte stream made of the messages of `Control.Session`.
//!
//! Message boundaries mean nothing: the concatenated data of each direction is one half of a
//! connection.

use crate::proto::moby::buildkit::v1::BytesMessage;
use bytes::{Buf as _, Bytes, BytesMut};
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{mpsc, oneshot},
};
use tokio_stream::Stream;
use tokio_util::sync::PollSender;
use tonic::Status;

/// The builder reads each message into a buffer of this size and would have to grow it for more.
const CHUNK: usize = 32 * 1024;

/// Messages that wait for the transport. With the chunk's size this bounds what lies here; flow
/// control of the streams inside does the rest.
const QUEUE: usize = 8;

/// What is left of the stream when the connection on it has ended.
#[derive(Debug)]
pub(super) struct Leftover<S> {
    /// The builder's half, to be read to its end.
    pub(super) inbound: S,
    /// What the builder's half failed with.
    pub(super) failure: Option<Status>,
}

/// One connection over a pair of message streams.
#[derive(Debug)]
pub(super) struct Wire<S> {
    inbound: Option<S>,
    unread: Bytes,
    failure: Option<Status>,
    outbound: PollSender<BytesMessage>,
    leftover: Option<oneshot::Sender<Leftover<S>>>,
}

/// The stream of messages to send; ends when the wire is shut down or dropped.
pub(super) fn outbound() -> (PollSender<BytesMessage>, mpsc::Receiver<BytesMessage>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (PollSender::new(sender), receiver)
}

impl<S> Wire<S> {
    /// A connection that reads from `inbound`, writes to `outbound`, and gives `inbound` back when
    /// it is dropped.
    pub(super) fn new(
        inbound: S,
        outbound: PollSender<BytesMessage>,
    ) -> (Self, oneshot::Receiver<Leftover<S>>) {
        let (sender, receiver) = oneshot::channel();
        let wire = Self {
            inbound: Some(inbound),
            unread: Bytes::new(),
            failure: None,
            outbound,
            leftover: Some(sender),
        };
        (wire, receiver)
    }

    fn send(&mut self, data: Bytes) -> io::Result<usize> {
        let length = data.len();
        self.outbound
            .send_item(BytesMessage { data })
            .map(|()| length)
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outbound.poll_reserve(context).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl<S> Drop for Wire<S> {
    fn drop(&mut self) {
        if let (Some(sender), Some(inbound)) = (self.leftover.take(), self.inbound.take()) {
            // Nobody listens where the whole session was dropped.
            drop(sender.send(Leftover { inbound, failure: self.failure.take() }));
        }
    }
}

impl<S> AsyncRead for Wire<S>
where
    S: Stream<Item = Result<BytesMessage, Status>> + Unpin,
{
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            let Some(inbound) = self.inbound.as_mut() else { return Poll::Ready(Ok(())) };
            match ready!(Pin::new(inbound).poll_next(context)) {
                Some(Ok(message)) => self.unread = message.data,
                Some(Err(status)) => {
                    let error = io::Error::other(status.message().to_owned());
                    self.failure = Some(status);
                    return Poll::Ready(Err(error));
                }
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl<S: Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_room(context))?;
        let (chunk, _) = buffer.split_at(buffer.len().min(CHUNK));
        Poll::Ready(self.send(Bytes::copy_from_slice(chunk)))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_room(context))?;
        // HTTP/2 writes a frame's head and its data as two slices; together they make one message.
        let total = buffers.iter().map(|buffer| buffer.len()).sum::<usize>();
        let mut chunk = BytesMut::with_capacity(total.min(CHUNK));
        for buffer in buffers {
            let room = CHUNK.saturating_sub(chunk.len());
            chunk.extend_from_slice((**buffer).take(room).chunk());
        }
        Poll::Ready(self.send(chunk.freeze()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outbound.close();
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::{CHUNK, Wire, outbound};
    use crate::proto::moby::buildkit::v1::BytesMessage;
    use bytes::Bytes;
    use std::io::IoSlice;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tonic::{Code, Status};

    type Item = Result<BytesMessage, Status>;

    fn message(data: &'static [u8]) -> BytesMessage {
        BytesMessage { data: Bytes::from_static(data) }
    }

    fn nothing() -> tokio_stream::Empty<Item> {
        tokio_stream::empty()
    }

    #[tokio::test]
    async fn reads_messages_as_one_stream_whatever_their_boundaries() {
        let inbound =
            tokio_stream::iter(["ab", "", "cdef"].map(|text| Item::Ok(message(text.as_bytes()))));
        let (mut wire, _leftover) = Wire::new(inbound, outbound().0);
        let (mut three, mut rest) = ([0; 3], Vec::new());
        wire.read_exact(&mut three).await.unwrap();
        wire.read_to_end(&mut rest).await.unwrap();
        assert_eq!((&three, rest.as_slice()), (b"abc", b"def".as_slice()));
    }

    #[tokio::test]
    async fn a_failed_stream_is_an_error_whose_status_is_kept() {
        let inbound = tokio_stream::iter([Ok(message(b"a")), Err(Status::unavailable("gone"))]);
        let (mut wire, leftover) = Wire::new(inbound, outbound().0);
        let error = wire.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(error.to_string(), "gone");
        drop(wire);
        assert_eq!(leftover.await.unwrap().failure.unwrap().code(), Code::Unavailable);
    }

    #[tokio::test]
    async fn writes_are_cut_into_chunks_and_shutdown_ends_the_stream() {
        let (sender, mut sent) = outbound();
        let (mut wire, _leftover) = Wire::new(nothing(), sender);
        wire.write_all(&vec![7; CHUNK + 1]).await.unwrap();
        wire.shutdown().await.unwrap();
        let mut sizes = Vec::new();
        while let Some(message) = sent.recv().await {
            sizes.push(message.data.len());
        }
        assert_eq!(sizes, [CHUNK, 1]);
    }

    #[tokio::test]
    async fn slices_written_together_make_one_message() {
        let (sender, mut sent) = outbound();
        let (mut wire, _leftover) = Wire::new(nothing(), sender);
        let long = vec![1; CHUNK];
        let slices = [IoSlice::new(b"head"), IoSlice::new(b""), IoSlice::new(&long)];
        assert_eq!(wire.write_vectored(&slices).await.unwrap(), CHUNK);
        let data = sent.recv().await.unwrap().data;
        assert_eq!((data.len(), &data[..5]), (CHUNK, b"head\x01".as_slice()));
    }

    #[tokio::test]
    async fn a_full_queue_holds_the_writer_back() {
        let (sender, _unread) = outbound();
        let (mut wire, _leftover) = Wire::new(nothing(), sender);
        let flood = async { wire.write_all(&vec![0; CHUNK * 1000]).await };
        assert!(
            tokio::time::timeout(std::time::Duration::from_millis(50), flood).await.is_err(),
            "nothing may be buffered without bound"
        );
    }
}
