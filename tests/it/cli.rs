//! The binary from outside: streams, formats, exit codes. No builder is needed.

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
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
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
      build     Build an image from a Dockerfile
      builder   Look at builders and their caches
      check     Look for mistakes in a Dockerfile
      doctor    Look for what a deploy would fail at, and say what mends it
      history   List the deploys made from here, or print the receipt of one
      init      Write a bk-sync.toml from what is found here
      llb       Print the build graph of a Dockerfile
      lock      Hold base images by their digests, in bk-sync.lock
      plan      Say what `sync` would do, and touch nothing
      rollback  Go back to the image before the last one that bk-sync set
      rollout   Set an image by its digest, and wait until its pods are proven
      status    Say what runs now, and whether it is what was last rolled out
      sync      Deploy what bk-sync.toml says: preflight, build, push, rollout, verify, record
      help      Print this message or the help of the given subcommand(s)

    Options:
      -h, --help     Print help (see more with '--help')
      -V, --version  Print version

    Global options:
      -C, --directory <DIR>  Work in DIR instead of the current directory
          --config <FILE>    Read FILE instead of the `bk-sync.toml` that is found upward
          --builder <URL>    The builder: `unix://`, `tcp://`, `docker://`, `ssh://`,
                             `docker-container://`, `podman-container://` or `kube-pod://`
          --format <FORMAT>  How the result is written to stdout [default: text] [possible values: text,
                             json]
          --progress <MODE>  How progress is written to stderr [default: auto] [possible values: auto,
                             tty, plain, rawjson, quiet]
      -v, --verbose...       Log what is done to stderr; twice for more
      -q, --quiet            Write no progress: the same as `--progress quiet`

    Builder TLS options:
          --tlscacert <FILE>      The authority that signed a `tcp://` builder's certificate
          --tlscert <FILE>        Our certificate for a `tcp://` builder
          --tlskey <FILE>         The key of `--tlscert`
          --tlsservername <NAME>  The name in a `tcp://` builder's certificate, where it is not the
                                  address
          --tlsdir <DIR>          A directory with `ca.pem`, `cert.pem` and `key.pem` (or `ca.crt`,
                                  `tls.crt` and `tls.key`)

    Examples:
      bk-sync build                                      build what bk-sync.toml says, or `.`
      bk-sync build -t ghcr.io/me/app:1 --push .         build, push, print the reference
      bk-sync --builder docker:///run/docker.sock build  with a certain builder

    Exit codes:
      0 done   1 internal error   2 wrong arguments, config or Dockerfile   10 no builder
      11 build failed   12 push failed   13 rollout failed and was rolled back
      14 rollout failed and was not rolled back   16 locked by another deploy
      17 refused before anything changed   130/143 interrupted
    --- stderr
    ");
}

#[test]
fn help_of_build_lists_every_flag() {
    insta::assert_snapshot!(Place::new().run(&["build", "-h"]).shown(), @r"
    exit 0
    --- stdout
    Build an image from a Dockerfile

    Usage: bk-sync build [OPTIONS] [CONTEXT]

    Arguments:
      [CONTEXT]  Where the files of the build come from

    Options:
      -f, --file <FILE>
              The Dockerfile: a path, `-` for stdin, or an http(s) URL [default: CONTEXT/Dockerfile]
      -t, --tag <REF>
              A reference for the image: `[REGISTRY/]REPOSITORY[:TAG]`
          --target <STAGE>
              The stage to build [default: the last]
          --platform <OS/ARCH>
              Platforms to build for, comma-separated [default: the builder's]
          --build-arg <NAME[=VALUE]>
              Set a build argument; without a value, from the environment
          --build-context <NAME=VALUE>
              Another context: a directory, a URL, `docker-image://…`, `oci-layout://…`
          --label <NAME=VALUE>
              Set a label of the image
          --annotation <[LEVEL:]NAME=VALUE>
              Add an annotation to the image
          --secret <SPEC>
              Lend a secret to `RUN --mount=type=secret`: `id=ID[,src=PATH|,env=NAME]`
          --ssh <SPEC>
              Forward an ssh agent or keys: `default` or `ID[=SOCKET|KEY[,KEY]]`
      -h, --help
              Print help (see more with '--help')

    Output options:
          --push[=<BOOL>]             Push the image to the registries of its tags
          --load[=<BOOL>]             Load the image into Docker
      -o, --output <SPEC>             Where the result goes:
                                      `type=image|oci|docker|tar|local|registry|cacheonly[,dest=PATH][,…]`;
                                      `DIR` for `type=local`, `-` for a tar archive on stdout
          --push-via <WHO>            Who talks to the registry [default: auto] [possible values: auto,
                                      builder, client]
          --reproducible[=<EPOCH>]    Give the same digest for the same inputs, on any machine at any
                                      time; the image is dated EPOCH, in seconds since 1970 [default:
                                      `SOURCE_DATE_EPOCH`, else 0]
          --metadata-file <FILE>      Write the build's metadata to FILE, as JSON
          --iidfile <FILE>            Write the image's digest to FILE
          --attest <SPEC>             Attach an attestation: `type=provenance|sbom[,…]`
          --provenance[=<BOOL|SPEC>]  Short for `--attest type=provenance`
          --sbom[=<BOOL|SPEC>]        Short for `--attest type=sbom`

    Cache options:
          --no-cache[=<BOOL>]        Use no cache
          --no-cache-filter <STAGE>  Use no cache for this stage
          --pull[=<BOOL>]            Ask the registries for base images even where the builder has them
          --cache-from <SPEC>        Read a cache: a reference, or `type=registry|local|gha|s3|…[,…]`
          --cache-to <SPEC>          Write a cache: a reference, or
                                     `type=registry|inline|local|gha|s3|…[,…]`

    Question options:
          --call <QUESTION>  Answer a question about the Dockerfile instead of building it [possible
                             values: build, check, outline, targets]
          --check            Short for `--call check`

    Step options:
          --frontend <WHO>             Who compiles the Dockerfile [default: auto] [possible values:
                                       auto, daemon, native]
          --source-policy <FILE>       What may be read and what is read in its place: a JSON file, as
                                       buildctl reads it
          --allow <NAME>               Grant an entitlement: `network.host`, `security.insecure`,
                                       `device[=NAME]`
          --add-host <HOST:IP>         Add a name to the hosts file of `RUN` steps
          --network <MODE>             The network of `RUN` steps: `default`, `host` or `none`
          --shm-size <SIZE>            The size of `/dev/shm` in `RUN` steps, such as `64m`
          --ulimit <NAME=SOFT[:HARD]>  A limit for `RUN` steps, such as `nofile=1024:4096`
          --cgroup-parent <PATH>       The parent cgroup of `RUN` steps

    Global options:
      -C, --directory <DIR>  Work in DIR instead of the current directory
          --config <FILE>    Read FILE instead of the `bk-sync.toml` that is found upward
          --builder <URL>    The builder: `unix://`, `tcp://`, `docker://`, `ssh://`,
                             `docker-container://`, `podman-container://` or `kube-pod://`
          --format <FORMAT>  How the result is written to stdout [default: text] [possible values: text,
                             json]
          --progress <MODE>  How progress is written to stderr [default: auto] [possible values: auto,
                             tty, plain, rawjson, quiet]
      -v, --verbose...       Log what is done to stderr; twice for more
      -q, --quiet            Write no progress: the same as `--progress quiet`

    Builder TLS options:
          --tlscacert <FILE>      The authority that signed a `tcp://` builder's certificate
          --tlscert <FILE>        Our certificate for a `tcp://` builder
          --tlskey <FILE>         The key of `--tlscert`
          --tlsservername <NAME>  The name in a `tcp://` builder's certificate, where it is not the
                                  address
          --tlsdir <DIR>          A directory with `ca.pem`, `cert.pem` and `key.pem` (or `ca.crt`,
                                  `tls.crt` and `tls.key`)

    Examples:
      bk-sync build .                                     build ./Dockerfile for the builder's platform
      bk-sync build -t ghcr.io/me/app:1 --push .          push it; stdout is ghcr.io/me/app:1@sha256:…
      bk-sync build --platform linux/amd64,linux/arm64 -t ghcr.io/me/app:1 --push .
      bk-sync build --secret id=npm,src=.npmrc --ssh default .
      bk-sync build -o type=oci,dest=app.tar .            write an OCI archive
      bk-sync build -o out .                              write the root file system to ./out
      bk-sync build https://github.com/me/app.git#main    let the builder fetch the context
      tar -c . | bk-sync build -                          send a context on stdin
    --- stderr
    ");
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
    hint: a similar subcommand exists: `build`
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
