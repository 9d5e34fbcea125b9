//! Those who are told of a deploy: a command, and an address.

use super::Receipt;
use crate::{credential::Secret, plan::fill_words};
use rustix::process::{Pid, Signal, kill_process_group};
use std::{io, process::Stdio, time::Duration};
use tokio::{io::AsyncWriteExt as _, process::Command, time::timeout};

/// What is kept of what a command says. In bytes.
const KEPT: usize = 2 << 10;

/// Why somebody was not told.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The address did not take it.
    #[error("`{url}` answered {status}")]
    Answer {
        /// The address.
        url: String,
        /// Its answer.
        status: u16,
    },
    /// The command ended badly.
    #[error("`{program}` ended with {ended}{}", said(words))]
    Ended {
        /// The program.
        program: String,
        /// How it ended, such as `1` or `signal 9`.
        ended: String,
        /// What it said last.
        words: String,
    },
    /// The command says that it failed, though its exit code does not.
    #[error("`{program}` ended with 0 and says: {words}")]
    Reported {
        /// The program.
        program: String,
        /// What it said.
        words: String,
    },
    /// The address cannot be reached.
    #[error("`{url}` cannot be reached")]
    Unreachable {
        /// The address.
        url: String,
        /// Why not.
        #[source]
        source: reqwest::Error,
    },
    /// The command cannot be started.
    #[error("cannot run `{program}`")]
    Start {
        /// The program.
        program: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It took too long.
    #[error("`{name}` took longer than {} s", limit.as_secs())]
    TimedOut {
        /// The program or address.
        name: String,
        /// How long it had.
        limit: Duration,
    },
}

fn said(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!(": {words}") }
}

/// Runs `words` with its placeholders filled in from `receipt`, which it also gets on stdin as
/// JSON. No shell sees them. The command is ended when its time is over.
///
/// # Errors
/// It did not do what it was asked.
pub async fn run(
    words: &[String],
    receipt: &Receipt,
    secrets: &[String],
    limit: Duration,
) -> Result<(), SinkError> {
    let fill = |word: &String| {
        fill_words(word, |name| receipt.fact(name)).unwrap_or_else(|_| word.clone())
    };
    let words: Vec<String> = words.iter().map(fill).collect();
    let document = serde_json::to_vec(receipt).unwrap_or_default();
    let (code, said, out) = child(&words, &document, secrets, limit).await?;
    let program = words.first().cloned().unwrap_or_default();
    match code {
        Some(0) if reports_failure(&out) => Err(SinkError::Reported { program, words: tail(&out) }),
        Some(0) => Ok(()),
        Some(code) => Err(SinkError::Ended { program, ended: code.to_string(), words: said }),
        None => Err(SinkError::Ended { program, ended: "a signal".to_owned(), words: said }),
    }
}

/// Whether what a command printed is a JSON object that says that it failed. There are commands
/// that end with 0 all the same.
fn reports_failure(out: &[u8]) -> bool {
    let Ok(serde_json::Value::Object(object)) = serde_json::from_slice(out) else { return false };
    let is_false = |key: &str| object.get(key).is_some_and(|value| value == false);
    let error = object.get("error").is_some_and(|error| !error.is_null() && error != "");
    is_false("ok") || is_false("success") || error
}

/// Runs a command with `input` on its stdin: its exit code (none after a signal), what it said
/// last, and its stdout. `secrets` are variables that it does not get.
///
/// # Errors
/// It cannot be started, or took too long.
pub(crate) async fn child(
    words: &[String],
    input: &[u8],
    secrets: &[String],
    limit: Duration,
) -> Result<(Option<i32>, String, Vec<u8>), SinkError> {
    let (program, arguments) =
        words.split_first().map_or_else(|| (String::new(), &[][..]), |(p, a)| (p.clone(), a));
    let mut command = Command::new(&program);
    for name in secrets {
        command.env_remove(name);
    }
    let started = command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        // A Ctrl-C in the terminal is ours to handle.
        .process_group(0)
        .spawn();
    let mut child =
        started.map_err(|source| SinkError::Start { program: program.clone(), source })?;
    let mut group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
    let stdin = child.stdin.take();
    let work = async {
        let write = async {
            if let Some(mut stdin) = stdin {
                // A command may well not read what it is given.
                drop(stdin.write_all(input).await);
            }
        };
        let (output, ()) = tokio::join!(child.wait_with_output(), write);
        output
    };
    match timeout(limit, work).await {
        Ok(Ok(output)) => {
            group.0 = None;
            let words = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
            Ok((output.status.code(), tail(words), output.stdout))
        }
        Ok(Err(source)) => Err(SinkError::Start { program, source }),
        Err(_) => Err(SinkError::TimedOut { name: program, limit }),
    }
}

/// The processes that a command started, ended with it where it is given up.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // It may be gone already.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

/// The last lines of what was said, as one.
fn tail(bytes: &[u8]) -> String {
    let from = bytes.len().saturating_sub(KEPT);
    let text = String::from_utf8_lossy(bytes.get(from..).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines.len().saturating_sub(3);
    lines.get(last..).unwrap_or_default().join(" / ")
}

/// Posts the receipt as JSON to `url`.
///
/// # Errors
/// The address did not take it.
pub async fn post(
    url: &str,
    token: Option<&Secret>,
    receipt: &Receipt,
    limit: Duration,
) -> Result<(), SinkError> {
    let unreachable = |source: reqwest::Error| {
        let source = source.without_url();
        SinkError::Unreachable { url: url.to_owned(), source }
    };
    let client = reqwest::Client::builder().build().map_err(unreachable)?;
    let mut request = client.post(url).json(receipt).timeout(limit);
    if let Some(token) = token.and_then(Secret::expose_str) {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await.map_err(unreachable)?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    Err(SinkError::Answer { url: url.to_owned(), status: status.as_u16() })
}

#[cfg(test)]
mod tests {
    use super::{SinkError, run};
    use crate::record::{ImageRecord, Receipt};
    use std::time::Duration;

    const LIMIT: Duration = Duration::from_secs(20);

    fn words(script: &str, rest: &[&str]) -> Vec<String> {
        let head = ["sh", "-c", script, "sh"].into_iter();
        head.chain(rest.iter().copied()).map(str::to_owned).collect()
    }

    fn receipt() -> Receipt {
        let image = ImageRecord { reference: "r/a@sha256:1".to_owned(), ..ImageRecord::default() };
        Receipt { id: "7".to_owned(), image: Some(image), ..Receipt::default() }
    }

    #[tokio::test]
    async fn a_command_gets_its_words_filled_in_and_the_receipt_on_stdin() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("out");
        let script = "cat > \"$2\"; printf '\\n%s' \"$1\" >> \"$2\"";
        let words = words(script, &["deployed {image}; $(id)", out.to_str().unwrap()]);
        run(&words, &receipt(), &[], LIMIT).await.unwrap();
        let written = std::fs::read_to_string(out).unwrap();
        let (json, said) = written.rsplit_once('\n').unwrap();
        assert_eq!(said, "deployed r/a@sha256:1; $(id)");
        assert_eq!(serde_json::from_str::<Receipt>(json).unwrap(), receipt());
    }

    #[tokio::test]
    async fn failures_are_seen_however_they_are_told() {
        let outcome = async |script: &str, limit| {
            run(&words(script, &[]), &receipt(), &[], limit).await.unwrap_err()
        };
        let ended = outcome("echo no >&2; exit 3", LIMIT).await;
        assert_eq!(ended.to_string(), "`sh` ended with 3: no");
        let reported = outcome("echo '{\"success\":false,\"error\":\"retired\"}'", LIMIT).await;
        assert!(matches!(reported, SinkError::Reported { .. }), "{reported}");
        let slow = outcome("exec sleep 60", Duration::from_millis(100)).await;
        assert!(matches!(slow, SinkError::TimedOut { .. }), "{slow}");
        let missing = run(&["/no/such".to_owned()], &receipt(), &[], LIMIT).await.unwrap_err();
        assert!(matches!(missing, SinkError::Start { .. }), "{missing}");
    }

    #[tokio::test]
    async fn a_command_that_reads_nothing_is_no_failure() {
        run(&words("exit 0", &[]), &receipt(), &[], LIMIT).await.unwrap();
    }
}
