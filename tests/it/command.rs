//! Runs the binary as a stranger would: an empty environment, a home of its own, no terminal.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// A home directory, a Docker config in it, and a place for temporary files, all removed at the end.
pub struct Stranger {
    home: TempDir,
}

impl Stranger {
    /// Somebody who knows no registry.
    pub fn new() -> Self {
        let home = tempfile::Builder::new().prefix("bk-sync-test-").tempdir().expect("a directory");
        std::fs::create_dir_all(home.path().join(".docker")).expect("a Docker config directory");
        std::fs::create_dir_all(home.path().join("tmp")).expect("a directory for temporary files");
        Self { home }
    }

    /// Somebody whose Docker config holds `user` and `password` for each of `registries`.
    pub fn logged_in(registries: &[&str], (user, password): (&str, &str)) -> Self {
        use base64::Engine as _;
        let stranger = Self::new();
        let auth = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        let auths: serde_json::Map<_, _> = registries
            .iter()
            .map(|registry| ((*registry).to_owned(), serde_json::json!({ "auth": auth })))
            .collect();
        let config = serde_json::json!({ "auths": auths }).to_string();
        std::fs::write(stranger.docker_config().join("config.json"), config).expect("a config");
        stranger
    }

    /// The home directory.
    pub fn path(&self) -> &Path {
        self.home.path()
    }

    /// A path below the home directory.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.home.path().join(name)
    }

    fn docker_config(&self) -> PathBuf {
        self.join(".docker")
    }

    /// `bk-sync`, with this home and nothing else from our environment but `PATH`.
    pub fn bk_sync(&self) -> Command {
        self.command(env!("CARGO_BIN_EXE_bk-sync"))
    }

    /// Another tool in the same situation.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.path())
            .env("TMPDIR", self.join("tmp"))
            .env("DOCKER_CONFIG", self.docker_config())
            .current_dir(self.path())
            .stdin(Stdio::null());
        command
    }
}

/// What a command said.
pub struct Said {
    /// The exit code; a signal's death is a panic of [`run`].
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// Runs `command` to its end.
pub fn run(command: &mut Command) -> Said {
    said(&command.output().expect("the program starts"))
}

/// Runs `command` and insists on success.
pub fn succeed(command: &mut Command) -> Said {
    let said = run(command);
    assert!(
        said.code == 0,
        "{command:?} ended with {}\nstdout: {}\nstderr: {}",
        said.code,
        said.stdout,
        said.stderr
    );
    said
}

/// Text of what a finished process said.
pub fn said(output: &Output) -> Said {
    Said {
        code: output.status.code().expect("an exit code, not a signal"),
        stdout: String::from_utf8(output.stdout.clone()).expect("text on stdout"),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A word that no other test and no earlier run has used: fit for tags, names and arguments.
pub fn unique(prefix: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    format!("{prefix}-{:x}-{}", now.as_nanos(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Writes `files` (path, content) below `directory`, with their parents.
pub fn write_files(directory: &Path, files: &[(&str, &str)]) {
    for (path, content) in files {
        let path = directory.join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, content).expect("a file");
    }
}

/// Runs the test `name` (its whole path) again in a process of its own, with `environment` beside
/// ours, and insists that it passes there; true where this is that process.
pub fn alone(name: &str, environment: &[(&str, &str)]) -> bool {
    #[expect(clippy::disallowed_methods, reason = "the mark is for this process")]
    if std::env::var_os("BK_SYNC_TEST_ALONE").is_some() {
        return true;
    }
    let output = Command::new(std::env::current_exe().expect("our own path"))
        .args(["--exact", name, "--nocapture"])
        .env("BK_SYNC_TEST_ALONE", "1")
        .envs(environment.iter().copied())
        .output()
        .expect("the tests start again");
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it));
    assert!(output.status.success(), "{name}, alone: {stdout}{stderr}");
    assert!(stdout.contains("1 passed"), "{name} did not run: {stdout}");
    false
}
