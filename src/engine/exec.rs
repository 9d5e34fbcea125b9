//! A command in a container, with its stdin and stdout as a byte stream.

use super::{Client, Error};
use crate::transport::{ByteStream, child::Tail};
use serde::{Deserialize, Serialize};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{sleep, timeout},
};

/// How long a command whose output ended may take to be gone.
const GRACE: Duration = Duration::from_secs(1);
/// How often the Engine is asked meanwhile.
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Create<'a> {
    attach_stdin: bool,
    attach_stdout: bool,
    attach_stderr: bool,
    tty: bool,
    cmd: &'a [&'a str],
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Created {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    running: bool,
    #[serde(default)]
    exit_code: Option<i64>,
}

impl Client {
    /// Runs `command` in `container`. What it writes to stderr is kept for [`ExecVoice::tell`].
    /// The command sees the end of its stdin when the stream is shut down or dropped.
    ///
    /// # Errors
    /// The Engine cannot be reached, or refuses: there is no such container, or it does not run.
    pub async fn exec(
        &self,
        container: &str,
        command: &[&str],
    ) -> Result<(ByteStream, ExecVoice), Error> {
        let path = format!("/containers/{container}/exec");
        let create = Create {
            attach_stdin: true,
            attach_stdout: true,
            attach_stderr: true,
            tty: false,
            cmd: command,
        };
        let created: Created = self.post(&path, json(&path, &create)?).await?;
        let path = format!("/exec/{}/start", created.id);
        let prefixed = format!("{}{path}", self.prefix().await?);
        let headers = [("content-type", "application/json")];
        let body = br#"{"Detach":false,"Tty":false}"#.to_vec();
        let stream = self.upgrade_with(&prefixed, "tcp", &headers, Some(body)).await?;
        let tail = Tail::default();
        let voice = ExecVoice {
            client: self.clone(),
            id: created.id,
            command: command.join(" "),
            container: container.to_owned(),
            tail: tail.clone(),
        };
        Ok((ByteStream::new(Demultiplexed { inner: stream, state: State::start(), tail }), voice))
    }

    async fn inspect_exec(&self, id: &str) -> Result<Inspected, Error> {
        self.get(&format!("/exec/{id}/json")).await
    }
}

pub(super) fn json(path: &str, value: &impl Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value)
        .map_err(|error| Error::Garbled { path: path.to_owned(), problem: error.to_string() })
}

/// What a command in a container said on stderr, and how it ended.
#[derive(Clone, Debug)]
pub struct ExecVoice {
    client: Client,
    id: String,
    command: String,
    container: String,
    tail: Tail,
}

impl ExecVoice {
    /// Waits a moment for the end of the command, and says how it went. None where it still runs
    /// and said nothing.
    pub async fn tell(&self) -> Option<String> {
        let code = timeout(GRACE, self.exit_code()).await.ok().flatten();
        let words = self.tail.text();
        let how = match code {
            Some(code) => {
                format!(
                    "`{}` in container `{}` ended with exit code {code}",
                    self.command, self.container
                )
            }
            None if words.is_empty() => return None,
            None => format!("`{}` in container `{}` says", self.command, self.container),
        };
        Some(if words.is_empty() { how } else { format!("{how}: {words}") })
    }

    async fn exit_code(&self) -> Option<i64> {
        loop {
            let inspected = self.client.inspect_exec(&self.id).await.ok()?;
            if !inspected.running {
                return inspected.exit_code;
            }
            sleep(PAUSE).await;
        }
    }
}

/// Takes stdout out of the Engine's frames: one byte for the stream, three of nothing, four for
/// the length, most significant first, then that many bytes.
struct Demultiplexed {
    inner: ByteStream,
    state: State,
    tail: Tail,
}

enum State {
    /// Within a header, of which so many bytes are there.
    Header { bytes: [u8; 8], filled: usize },
    /// So many bytes of stdout are due.
    Stdout(usize),
    /// So many bytes of stderr, or of the Engine's own complaints.
    Stderr(usize),
}

impl State {
    fn start() -> Self {
        Self::Header { bytes: [0; 8], filled: 0 }
    }

    fn after(header: [u8; 8]) -> io::Result<Self> {
        let [stream, _, _, _, length @ ..] = header;
        let length = usize::try_from(u32::from_be_bytes(length)).map_err(io::Error::other)?;
        match stream {
            _ if length == 0 => Ok(Self::start()),
            0 | 1 => Ok(Self::Stdout(length)),
            2 | 3 => Ok(Self::Stderr(length)),
            other => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the Docker Engine sent a frame of the unknown stream {other}"),
            )),
        }
    }
}

impl AsyncRead for Demultiplexed {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            match &mut this.state {
                State::Header { bytes, filled } => {
                    let mut rest = ReadBuf::new(bytes.get_mut(*filled..).unwrap_or_default());
                    ready!(Pin::new(&mut this.inner).poll_read(context, &mut rest))?;
                    let count = rest.filled().len();
                    if count == 0 && *filled > 0 {
                        return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                    }
                    if count == 0 {
                        return Poll::Ready(Ok(()));
                    }
                    *filled += count;
                    if *filled == bytes.len() {
                        let header = *bytes;
                        this.state = State::after(header)?;
                    }
                }
                State::Stdout(left) => {
                    let room = buffer.remaining().min(*left);
                    let mut part = ReadBuf::new(buffer.initialize_unfilled_to(room));
                    ready!(Pin::new(&mut this.inner).poll_read(context, &mut part))?;
                    let bytes = part.filled().len();
                    if bytes == 0 {
                        return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                    }
                    buffer.advance(bytes);
                    *left -= bytes;
                    if *left == 0 {
                        this.state = State::start();
                    }
                    return Poll::Ready(Ok(()));
                }
                State::Stderr(left) => {
                    let mut room = [0_u8; 512];
                    let wanted = (*left).min(room.len());
                    let mut part = ReadBuf::new(room.get_mut(..wanted).unwrap_or_default());
                    ready!(Pin::new(&mut this.inner).poll_read(context, &mut part))?;
                    if part.filled().is_empty() {
                        return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                    }
                    this.tail.push(part.filled());
                    *left -= part.filled().len();
                    if *left == 0 {
                        this.state = State::start();
                    }
                }
            }
        }
    }
}

impl AsyncWrite for Demultiplexed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::{ByteStream, Demultiplexed, State, Tail};
    use std::io;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn frame(stream: u8, bytes: &[u8]) -> Vec<u8> {
        let mut frame = vec![stream, 0, 0, 0];
        frame.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
        frame.extend(bytes);
        frame
    }

    /// Reads all of `wire`, which arrives in pieces of `piece` bytes.
    async fn read(wire: Vec<u8>, piece: usize) -> (io::Result<Vec<u8>>, String) {
        let (near, mut far) = tokio::io::duplex(piece);
        tokio::spawn(async move { far.write_all(&wire).await });
        let tail = Tail::default();
        let mut stream = Demultiplexed {
            inner: ByteStream::new(near),
            state: State::start(),
            tail: tail.clone(),
        };
        let mut all = Vec::new();
        let outcome = stream.read_to_end(&mut all).await;
        (outcome.map(|_| all), tail.text())
    }

    #[tokio::test]
    async fn frames_come_apart_however_they_arrive() {
        let big = vec![b'b'; 70_000];
        let mut wire = frame(1, b"one ");
        wire.extend(frame(2, b"warning\n"));
        wire.extend(frame(1, b""));
        wire.extend(frame(1, &big));
        wire.extend(frame(3, b"engine says no"));
        for piece in [1, 7, 8, 1000, 1 << 20] {
            let (stdout, stderr) = read(wire.clone(), piece).await;
            let stdout = stdout.unwrap();
            assert_eq!(stdout.len(), 4 + big.len());
            assert!(stdout.starts_with(b"one bbb"));
            assert_eq!(stderr, "warning; engine says no");
        }
    }

    #[tokio::test]
    async fn what_is_no_frame_is_an_error_and_no_panic() {
        let cut_header = vec![1, 0, 0];
        let mut cut_body = frame(1, b"hello");
        cut_body.pop();
        let mut cut_stderr = frame(2, b"hello");
        cut_stderr.pop();
        let unknown = frame(b'H', b"TTP/1.1 500 x");
        for (wire, kind) in [
            (cut_header, io::ErrorKind::UnexpectedEof),
            (cut_body, io::ErrorKind::UnexpectedEof),
            (cut_stderr, io::ErrorKind::UnexpectedEof),
            (unknown, io::ErrorKind::InvalidData),
        ] {
            assert_eq!(read(wire, 64).await.0.unwrap_err().kind(), kind);
        }
    }
}
