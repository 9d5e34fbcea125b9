//! A child process as a byte stream: its stdin and stdout, with the last of its stderr kept.

use super::{ByteStream, OpenError};
use std::{
    collections::VecDeque,
    fmt, io,
    pin::Pin,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    process::{ChildStdin, ChildStdout, Command},
    sync::watch,
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// What a child says on stderr is kept up to here: the last of it tells why it died.
const STDERR_KEPT: usize = 4 << 10;
/// How long a child that closed its stdout may take to be gone.
const GRACE: Duration = Duration::from_millis(300);
/// How long we wait for its last words: for its end, and for the end of its stderr.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A program and its arguments: no shell ever sees them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Program {
    /// Its name, looked for in `PATH`, or its path.
    pub name: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Variables to set on top of our environment.
    pub environment: Vec<(String, String)>,
}

/// Our own secret in the environment, which is none of a program's business.
const OURS: &str = "BK_SYNC_REGISTRY_PASSWORD";

impl Program {
    /// Starts it. When the stream is dropped, the child's pipes are closed, and it is killed if it
    /// does not end then.
    ///
    /// # Errors
    /// It could not be started.
    pub fn start(&self) -> Result<(ByteStream, LastWords), OpenError> {
        let failed = |source| OpenError::Program { program: self.name.clone(), source };
        let mut child = Command::new(&self.name)
            .args(&self.arguments)
            .env_remove(OURS)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            // A Ctrl-C in the terminal is ours to handle: the builder must hear of it first.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let (Some(stdin), Some(stdout), Some(mut stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(failed(io::Error::other("its pipes are gone")));
        };
        let words = Tail::default();
        let (exit, exited) = watch::channel(End::Running);
        let stop = CancellationToken::new();
        let reader = {
            let words = words.clone();
            tokio::spawn(async move {
                let mut buffer = [0_u8; 1024];
                while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
                    words.push(buffer.get(..count).unwrap_or_default());
                }
            })
        };
        {
            let stop = stop.clone();
            tokio::spawn(async move {
                let waited = tokio::select! {
                    status = child.wait() => Some(status),
                    () = stop.cancelled() => None,
                };
                let waited = match waited {
                    Some(status) => Some(status),
                    // Its pipes are closed now, so it ends by itself and at the far end too; or it
                    // has ended, and tells how.
                    None => timeout(GRACE, child.wait()).await.ok(),
                };
                let status = waited.and_then(Result::ok);
                if status.is_none()
                    && let Err(error) = child.kill().await
                {
                    tracing::debug!(%error, "a child process could not be killed");
                }
                // Its own children may hold stderr open for longer than we care to wait.
                if timeout(GRACE, reader).await.is_err() {
                    tracing::debug!("the child's stderr stays open");
                }
                exit.send_replace(status.map_or(End::Unknown, End::Known));
            });
        }
        let stream = ChildStream { stdin: Some(stdin), stdout, _stop: stop.drop_guard() };
        let last = LastWords { program: self.name.clone(), words, exited };
        Ok((ByteStream::new(stream), last))
    }
}

/// How far a child is.
#[derive(Clone, Copy, Debug)]
enum End {
    Running,
    /// It had to be killed.
    Unknown,
    Known(ExitStatus),
}

/// What a child process said and how it ended.
#[derive(Clone, Debug)]
pub struct LastWords {
    program: String,
    words: Tail,
    exited: watch::Receiver<End>,
}

impl LastWords {
    /// Waits a moment for the end of the child, and says how it went: `ssh ended with exit status
    /// 255: …`. None where it still runs and said nothing.
    pub async fn tell(&mut self) -> Option<String> {
        let over = self.exited.wait_for(|end| !matches!(end, End::Running));
        let ended = match timeout(LAST_WORDS, over).await {
            Ok(Ok(end)) => match *end {
                End::Known(status) => Some(status),
                End::Running | End::Unknown => None,
            },
            _ => None,
        };
        let words = self.words.text();
        let how = match ended {
            Some(status) => format!("`{}` ended with {}", self.program, outcome(status)),
            None if words.is_empty() => return None,
            None => format!("`{}` says", self.program),
        };
        Some(if words.is_empty() { how } else { format!("{how}: {words}") })
    }
}

fn outcome(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// The end of a text stream, bounded.
#[derive(Clone, Default)]
pub struct Tail(Arc<Mutex<VecDeque<u8>>>);

impl Tail {
    /// Adds `bytes`, and forgets the oldest beyond 4 KiB.
    pub fn push(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(bytes);
        let excess = kept.len().saturating_sub(STDERR_KEPT);
        kept.drain(..excess);
    }

    /// The text so far: trimmed, one line, control characters left out.
    pub fn text(&self) -> String {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = kept.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<String> = text
            .lines()
            .map(|line| line.chars().filter(|c| !c.is_control()).collect::<String>())
            .map(|line| line.trim().to_owned())
            .filter(|line| !line.is_empty())
            .collect();
        lines.join("; ")
    }
}

impl fmt::Debug for Tail {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Tail").field(&self.text()).finish()
    }
}

struct ChildStream {
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    _stop: DropGuard,
}

impl AsyncRead for ChildStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdout).poll_read(context, buffer)
    }
}

impl AsyncWrite for ChildStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stdin {
            Some(stdin) => Pin::new(stdin).poll_write(context, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stdin {
            Some(stdin) => Pin::new(stdin).poll_flush(context),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The far end sees the end of its input when the pipe is closed.
        self.stdin = None;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::{Program, STDERR_KEPT, Tail};
    use crate::transport::OpenError;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn shell(script: &str) -> Program {
        Program {
            name: "sh".to_owned(),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            environment: Vec::new(),
        }
    }

    #[tokio::test]
    async fn bytes_go_both_ways_and_the_end_is_seen() {
        let (mut stream, mut last) = shell("cat; echo done >&2").start().unwrap();
        stream.write_all(b"hello").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut back = String::new();
        stream.read_to_string(&mut back).await.unwrap();
        assert_eq!(back, "hello");
        assert_eq!(last.tell().await.unwrap(), "`sh` ended with exit code 0: done");
    }

    #[tokio::test]
    async fn a_child_that_dies_leaves_its_last_words() {
        let script = "echo 'Host key' >&2; echo 'verification failed.' >&2; exit 255";
        let (mut stream, mut last) = shell(script).start().unwrap();
        let mut back = Vec::new();
        stream.read_to_end(&mut back).await.unwrap();
        assert_eq!(
            last.tell().await.unwrap(),
            "`sh` ended with exit code 255: Host key; verification failed."
        );
    }

    #[tokio::test]
    async fn a_dropped_stream_kills_the_child() {
        let (mut stream, _last) = shell("echo $$; exec sleep 600").start().unwrap();
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            line.push(stream.read_u8().await.unwrap());
        }
        let process = format!("/proc/{}", String::from_utf8(line).unwrap().trim());
        assert!(std::path::Path::new(&process).exists());
        drop(stream);
        for _ in 0..100 {
            if !std::path::Path::new(&process).exists() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{process} still lives");
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let program = Program { name: "no-such-program-here".to_owned(), ..shell("") };
        let error = program.start().unwrap_err();
        assert!(
            matches!(&error, OpenError::Program { program, .. } if program == "no-such-program-here")
        );
    }

    #[test]
    fn a_tail_keeps_the_last_and_no_control_characters() {
        let tail = Tail::default();
        tail.push(&vec![b'a'; STDERR_KEPT]);
        tail.push(b"\n\x1b[31mthe end\r\n");
        assert!(tail.text().ends_with("; [31mthe end"));
        assert!(tail.text().len() <= STDERR_KEPT);
    }
}
