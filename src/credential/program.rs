//! Programs that are asked for secrets: found by a search of our own, run with a time limit.

use super::given::PASSWORD_VARIABLE;
use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, Command},
    time::timeout,
};
use zeroize::Zeroizing;

/// No secret is this big.
const MAX_OUTPUT: u64 = 1 << 20;
/// Of what a program says on stderr, this much is kept.
const MAX_ERRORS: usize = 4 << 10;
/// How long the end of stderr is waited for when the program has ended.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// What a program said.
pub(super) struct Said {
    /// Whether it ended with 0.
    pub(super) ok: bool,
    /// Its stdout.
    pub(super) output: Zeroizing<Vec<u8>>,
    /// The begin of its stderr.
    pub(super) errors: String,
}

/// Why a program said nothing.
pub(super) enum Unsaid {
    /// It could not be run, or not be talked with.
    Unusable(io::Error),
    /// It took too long.
    Slow,
}

/// How programs are run.
#[derive(Clone, Debug)]
pub(super) struct Runner {
    /// Where they are looked for: a `PATH`.
    pub(super) search: OsString,
    /// Variables that they do not get to see.
    pub(super) hidden: Vec<String>,
    /// How long one may take.
    pub(super) limit: Duration,
    /// Whether a Ctrl-C on the terminal leaves them alone.
    pub(super) apart: bool,
}

impl Runner {
    /// The program `name`: a path if it has a slash, else the first of that name in the search
    /// path, so that one that is missing can be told from one that cannot run.
    pub(super) fn find(&self, name: &str) -> Option<PathBuf> {
        if name.contains('/') {
            return Some(PathBuf::from(name)).filter(|path| path.is_file());
        }
        std::env::split_paths(&self.search)
            .filter(|directory| directory.is_absolute())
            .map(|directory| directory.join(name))
            .find(|program| program.is_file())
    }

    /// Runs `program`, gives it `question` on stdin, and takes its whole answer.
    pub(super) async fn ask(
        &self,
        program: &Path,
        arguments: &[String],
        question: &str,
    ) -> Result<Said, Unsaid> {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("PATH", &self.search)
            .env_remove(PASSWORD_VARIABLE)
            .stdin(if question.is_empty() { Stdio::null() } else { Stdio::piped() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // At the time limit, or when nobody waits any more.
            .kill_on_drop(true);
        for name in &self.hidden {
            command.env_remove(name);
        }
        if self.apart {
            command.process_group(0);
        }
        let mut child = command.spawn().map_err(Unsaid::Unusable)?;
        timeout(self.limit, converse(&mut child, question))
            .await
            .map_err(|_| Unsaid::Slow)?
            .map_err(Unsaid::Unusable)
    }
}

async fn converse(child: &mut Child, question: &str) -> io::Result<Said> {
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its question may have failed already; its status says.
        let asked = stdin.write_all(question.as_bytes()).await;
        if let Err(error) = asked
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            return Err(error);
        }
    }
    let (stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
    let mut errors = Vec::new();
    let mut listen = Box::pin(async {
        let mut part = [0; 1 << 10];
        while let Some(stderr) = &mut stderr
            && let Ok(length @ 1..) = stderr.read(&mut part).await
        {
            // What is too much is read and forgotten: a full pipe would stop the program.
            let room = MAX_ERRORS.saturating_sub(errors.len());
            errors.extend(part.iter().take(length.min(room)));
        }
    });
    let answer = async {
        // Room for all that programs say, so that no copy is left behind by growing.
        let mut output = Zeroizing::new(Vec::with_capacity(64 << 10));
        if let Some(stdout) = stdout {
            stdout.take(MAX_OUTPUT).read_to_end(&mut output).await?;
        }
        Ok::<_, io::Error>((child.wait().await?.success(), output))
    };
    tokio::pin!(answer);
    let mut heard = false;
    let (ok, output) = loop {
        tokio::select! {
            answer = &mut answer => break answer?,
            () = &mut listen, if !heard => heard = true,
        }
    };
    if !heard {
        // What it started may keep stderr open for good; what it said itself is there already.
        drop(timeout(LAST_WORDS, &mut listen).await);
    }
    drop(listen);
    Ok(Said { ok, output, errors: String::from_utf8_lossy(&errors).into_owned() })
}
