//! The binary from outside: streams, formats, exit codes. No builder is needed.

use crate::schema;
use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// A place to run the binary in: its own home and directory, and an environment that holds nothing
/// but what a test puts there.
pub struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    /// An empty place.
    pub fn new() -> Self {
        let place = Self { directory: tempfile::tempdir().unwrap() };
        fs::create_dir_all(place.directory.path().join("home")).unwrap();
        fs::create_dir_all(place.work()).unwrap();
        place
    }

    /// The directory that the binary runs in.
    pub fn work(&self) -> PathBuf {
        self.directory.path().join("work")
    }

    /// Writes a file in it.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.work().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// The binary, to be run in it.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bk-sync"));
        command
            .args(arguments)
            .current_dir(self.work())
            .env_clear()
            .env("HOME", self.directory.path().join("home"))
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .stdin(Stdio::null());
        command
    }

    /// Runs the binary.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        let output = self.command(arguments).output().unwrap();
        self.ran(&output)
    }

    /// What a run made, its paths made the same everywhere.
    pub fn ran(&self, output: &Output) -> Ran {
        let text = |bytes: &[u8]| {
            let directory = self.directory.path().canonicalize().unwrap();
            String::from_utf8(bytes.to_vec())
                .unwrap()
                .replace(directory.to_str().unwrap(), "/place")
                .replace(self.directory.path().to_str().unwrap(), "/place")
        };
        Ran {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }
}

/// What a run made.
#[derive(Debug)]
pub struct Ran {
    /// The exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// stdout.
    pub stdout: String,
    /// stderr.
    pub stderr: String,
}

impl Ran {
    /// Everything, for a snapshot.
    pub fn shown(&self) -> String {
        let code = self.code.map_or("none".to_owned(), |code| code.to_string());
        format!("exit {code}\n--- stdout\n{}--- stderr\n{}", self.stdout, self.stderr)
    }

    /// stdout as the one JSON object that it must be.
    pub fn json(&self) -> serde_json::Value {
        assert_eq!(self.stdout.lines().count(), 1, "{self:?}");
        let json =
            serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        schema::hold(&json);
        json
    }
}

#[test]
fn help_says_what_there_is() {
    insta::assert_snapshot!(Place::new().run(&["-h"]).shown(), @r"
    exit 0
    --- stdout
    Build on BuildKit, push what the registry lacks

    Usage: bk-sync [OPTIONS] <COMMAND>

    Commands:
      build       Build an image from a Dockerfile
      builder     Look at builders and their caches
      check       Look for mistakes in a Dockerfile
      doctor      Look for what a deploy would fail at, and say what mends it
      history     List the deploys made from here, or print the receipt of one
      init        Write a bk-sync.toml from what is found here
      llb         Print the build graph of a Dockerfile
      lock        Hold base images by their digests, in bk-sync.lock
      plan        Say what `sync` would do, and touch nothing
      push        Push an image that was built before
      reproduce   Build a deployed image again from its receipt, and say where the two part
      rollback    Go back to the image before the last one that bk-sync set
      rollout     Set an image by its digest, and wait until its pods are proven
      status      Say what runs now, and whether it is what was last rolled out
      sync        Deploy what bk-sync.toml says: preflight, build, push, rollout, verify, record
      verify      Check what runs: the post-deploy checks alone
      explain     Explain the code of an error or a warning
      why         Say why steps of the last build were not cached
      completion  Print a completion script, or write the man pages
      help        Print this message or the help of the given subcommand(s)

    Options:
      -h, --help     Print help (see more with '--help')
      -V, --version  Print version

    Global options:
      -C, --directory <DIR>  Work in DIR instead of the current directory
          --builder <URL>    The builder's address, such as `ssh://host`; several as `PLATFORM=URL,…`
          --format <FORMAT>  How the result is written to stdout [default: text] [possible values: text,
                             json]
          --progress <MODE>  How progress is written to stderr [default: auto] [possible values: auto,
                             tty, plain, rawjson, quiet]
      -q, --quiet            Write no progress: the same as `--progress quiet`

    Examples:
      bk-sync build                                      build what bk-sync.toml says, or `.`
      bk-sync build -t ghcr.io/me/app:1 --push .         build, push, print the reference
      bk-sync --builder docker:///run/docker.sock build  with a certain builder

    Exit codes:
      0 done   1 internal error   2 wrong arguments, config or Dockerfile   10 no builder
      11 build failed   12 push failed   13/14 rollout failed, rolled back/not   15 check failed
      16 locked   17 refused before anything changed   130/143 interrupted
      `bk-sync explain CODE` says what an error means and what to do
    --- stderr
    ");
}

#[test]
fn the_long_help_of_build_lists_every_flag_of_the_contract() {
    let ran = Place::new().run(&["build", "--help"]);
    let flags = "add-host allow annotation attest build-arg build-context cache-from cache-to \
                 call cgroup-parent check file frontend iidfile label load metadata-file network no-cache \
                 no-cache-filter output platform provenance pull push push-via quiet reproducible sbom secret \
                 shm-size source-policy ssh tag target ulimit why";
    for flag in flags.split_whitespace() {
        let is_listed =
            |line: &str| line.split([' ', '[', '=', ',']).any(|word| word == format!("--{flag}"));
        assert!(ran.stdout.lines().any(is_listed), "--{flag} is not listed");
    }
}

#[test]
fn the_long_help_lists_the_environment() {
    let ran = Place::new().run(&["--help"]);
    for (name, _) in bk_sync::cli::VARIABLES {
        assert!(ran.stdout.contains(name), "{name}");
    }
}

#[test]
fn the_version_is_the_packages() {
    let ran = Place::new().run(&["--version"]);
    assert_eq!(ran.stdout, format!("bk-sync {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
}

#[test]
fn wrong_arguments_end_with_2_and_a_hint() {
    let place = Place::new();
    insta::assert_snapshot!(place.run(&[]).shown(), @r"
    exit 2
    --- stdout
    --- stderr
    error: no command is given
    hint: run `bk-sync build`, or see `bk-sync --help`
    ");
    insta::assert_snapshot!(place.run(&["biuld"]).shown(), @r"
    exit 2
    --- stdout
    --- stderr
    error: unrecognized subcommand `biuld`
    hint: some similar subcommands exist: `builder`, `build`
    ");
    insta::assert_snapshot!(place.run(&["build", "--tagg", "a"]).shown(), @r"
    exit 2
    --- stdout
    --- stderr
    error: unexpected argument `--tagg` found
    hint: a similar argument exists: `--tag`
    ");
    insta::assert_snapshot!(place.run(&["build", "--progress", "loud"]).shown(), @r"
    exit 2
    --- stdout
    --- stderr
    error: invalid value `loud` for `--progress <MODE>` [possible values: auto, tty, plain, rawjson, quiet]
    hint: see `bk-sync --help`
    ");
    insta::assert_snapshot!(place.run(&["build", "a", "b"]).shown(), @r"
    exit 2
    --- stdout
    --- stderr
    error: unexpected argument `b` found
    hint: see `bk-sync --help`
    ");
    insta::assert_snapshot!(place.run(&["-C", "nowhere", "build"]).shown(), @r"
    exit 2
    --- stdout
    --- stderr
    error: cannot work in `nowhere`: No such file or directory (os error 2)
    hint: name a directory that exists with `--directory`
    ");
    insta::assert_snapshot!(place.run(&["build", "--secret", "id=a,src=none"]).shown(), @r"
    exit 2
    --- stdout
    --- stderr
    error: cannot read `none` of the secret `a`: No such file or directory (os error 2)
    hint: name a file that can be read, or a variable: `env=NAME`
    ");
}

#[test]
fn failures_are_one_json_object_where_json_was_asked_for() {
    let place = Place::new();
    let cases: [(&[&str], Option<&str>, i64, &str); 5] = [
        (&["build", "--format", "json", "--no-such"], Some("build"), 2, "USAGE"),
        (&["build", "--format=json", "nowhere"], Some("build"), 2, "CONTEXT_NOT_FOUND"),
        (&["--format", "json", "build", "-f", "none"], Some("build"), 2, "DOCKERFILE_NOT_FOUND"),
        (&["--format", "json"], None, 2, "USAGE"),
        (
            &["--format", "json", "build", "--config", "none.toml"],
            Some("build"),
            2,
            "CONFIG_UNREADABLE",
        ),
    ];
    for (arguments, command, code, name) in cases {
        let ran = place.run(arguments);
        let json = ran.json();
        assert_eq!(i64::from(ran.code.unwrap()), code, "{arguments:?}");
        assert_eq!(json["ok"], false, "{arguments:?}");
        assert_eq!(json["command"].as_str(), command, "{arguments:?}");
        assert_eq!(json["error"]["code"], name, "{arguments:?}");
        assert_eq!(json["error"]["details"]["exit_code"], code, "{arguments:?}");
        assert!(json["fix"].is_string() || name == "CONFIG_UNREADABLE", "{json}");
        assert!(json["next_actions"].is_array());
        assert_eq!(ran.stderr, "", "{arguments:?}");
    }
}

#[test]
fn a_closed_stdout_is_no_failure() {
    let place = Place::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = place.command(&["build", "--help"]).stdout(writer).output().unwrap();
    let ran = place.ran(&output);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_closed_stderr_leaves_the_exit_code() {
    let place = Place::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = place.command(&["build", "nowhere"]).stderr(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_full_disk_under_stdout_is_a_failure() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = Place::new().command(&["--version"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let place = Place::new();
    assert!(!place.run(&["build", "nowhere"]).stderr.contains('\u{1b}'));
    let forced = place.command(&["build", "nowhere"]).env("CLICOLOR_FORCE", "1").output().unwrap();
    assert!(place.ran(&forced).stderr.contains('\u{1b}'));
}

#[test]
fn a_mistake_in_the_config_is_pointed_at_from_below() {
    let place = Place::new();
    place.write("bk-sync.toml", "[build]\nplatfroms = [\"linux/arm64\"]\n");
    place.write("deep/down/Dockerfile", "FROM scratch\n");
    insta::assert_snapshot!(place.run(&["build"]).shown(), @r#"
    exit 2
    --- stdout
    --- stderr
    error: unknown key `platfroms` in `[build]`
     --> /place/work/bk-sync.toml:2:1
      |
    1 | [build]
    2 | platfroms = ["linux/arm64"]
      | ^^^^^^^^^
    hint: did you mean `platforms`?
    more: `bk-sync explain CONFIG_INVALID`
    "#);
    insta::assert_snapshot!(place.run(&["-C", "deep/down", "build"]).shown(), @r#"
    exit 2
    --- stdout
    --- stderr
    error: unknown key `platfroms` in `[build]`
     --> /place/work/bk-sync.toml:2:1
      |
    1 | [build]
    2 | platfroms = ["linux/arm64"]
      | ^^^^^^^^^
    hint: did you mean `platforms`?
    more: `bk-sync explain CONFIG_INVALID`
    "#);
}

#[test]
fn a_dirty_checkout_refuses_a_tag_that_names_a_commit() {
    let place = Place::new();
    place.write("bk-sync.toml", "[image]\nname = \"r/a\"\ntags = [\"{git.sha}\"]\n");
    git(&place.work(), &["init", "-q"]);
    git(&place.work(), &["add", "."]);
    git(&place.work(), &["commit", "-qm", "one"]);
    place.write("Dockerfile", "FROM scratch\n");
    insta::assert_snapshot!(place.run(&["build", "--push"]).shown(), @r#"
    exit 17
    --- stdout
    --- stderr
    error: the checkout has changes that are not committed, and this tag names a commit
     --> bk-sync.toml:3:9
      |
    1 | [image]
    2 | name = "r/a"
    3 | tags = ["{git.sha}"]
      |         ^^^^^^^^^^^
    hint: commit or stash them, give a tag with `--tag`, or set `dirty = "suffix"` in `[image]`
    more: `bk-sync explain CHECKOUT_DIRTY`
    "#);
}

/// Runs git in `directory` as somebody, and expects it to work.
pub fn git(directory: &Path, arguments: &[&str]) {
    let identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"];
    let output = Command::new("git")
        .args(identity)
        .args(arguments)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn secrets_of_the_environment_are_never_shown() {
    let place = Place::new();
    let mut command = place.command(&["build", "--format", "json", "nowhere"]);
    command.env("BK_SYNC_REGISTRY_PASSWORD", "canary-4711").env("TOKEN", "canary-4711");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut out, mut err) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(2));
    assert!(!out.contains("canary") && !err.contains("canary"));
}
