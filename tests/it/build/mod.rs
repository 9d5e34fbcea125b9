//! Whole builds with the binary, on every builder of the test bed, held against `docker buildx`.

pub mod archive;
mod caches;
mod contexts;
mod failures;
mod flags;
mod interrupts;
mod memory;
mod outputs;
mod parity;
mod private_git;
mod pushes;
mod reproducible;
mod roads;
mod several;
mod signing;
mod targets;

use crate::{
    bed,
    cli::{Place, Ran},
};
use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

/// A builder of the bed.
#[derive(Clone, Copy, Debug)]
pub struct Builder {
    /// Its address.
    pub address: &'static str,
    /// Its `DOCKER_HOST`, where it is a Docker.
    pub docker_host: Option<&'static str>,
}

/// A buildkitd of its own.
pub fn buildkitd() -> Builder {
    Builder { address: bed::buildkitd(), docker_host: None }
}

/// A Docker with containerd's image store.
pub fn dockerd() -> Builder {
    Builder { address: bed::dockerd(), docker_host: Some(bed::dockerd_host()) }
}

/// A Docker with graphdrivers.
pub fn graphdriver() -> Builder {
    Builder {
        address: bed::dockerd_graphdriver(),
        docker_host: Some(bed::dockerd_graphdriver_host()),
    }
}

/// All of them.
pub fn builders() -> [Builder; 3] {
    [buildkitd(), dockerd(), graphdriver()]
}

/// A text that no other test and no other run uses.
pub fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{}{}x{count}", now.as_nanos(), std::process::id())
}

/// `build` with its arguments, on `builder` and for arm64.
pub fn arguments<'a>(builder: Builder, more: &[&'a str]) -> Vec<&'a str> {
    let head = ["--builder", builder.address, "build", "--platform", "linux/arm64", "-q"];
    head.iter().chain(more).copied().collect()
}

/// Builds, and expects it to work.
pub fn build(place: &Place, builder: Builder, more: &[&str]) -> Ran {
    let ran = place.run(&arguments(builder, more));
    assert_eq!(ran.code, Some(0), "{builder:?} {more:?}: {ran:?}");
    ran
}

/// Builds with `stdin`, and expects it to work.
pub fn build_from(place: &Place, builder: Builder, more: &[&str], stdin: &[u8]) -> Ran {
    use std::io::Write as _;
    let mut child = place
        .command(&arguments(builder, more))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let sent = stdin.to_vec();
    let writer = std::thread::spawn(move || pipe.write_all(&sent));
    let ran = place.ran(&child.wait_with_output().unwrap());
    writer.join().unwrap().unwrap();
    assert_eq!(ran.code, Some(0), "{builder:?} {more:?}: {ran:?}");
    ran
}

/// `docker buildx build` for arm64 on `builder`, in the same place; its stderr.
pub fn buildx(place: &Place, builder: Builder, more: &[&str]) -> String {
    let run = |arguments: &[&str]| {
        let mut command = Command::new(bed::program("docker-buildx"));
        command.args(arguments).current_dir(place.work()).env_clear();
        command.env("HOME", place.work().join("../home"));
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin");
        if let Some(host) = builder.docker_host {
            command.env("DOCKER_HOST", host);
        }
        command.output().unwrap()
    };
    let mut arguments = vec!["build", "--platform", "linux/arm64", "--progress", "plain"];
    if builder.docker_host.is_none() {
        // It may be known there already.
        run(&["create", "--name", "bed", "--driver", "remote", builder.address]);
        arguments.extend(["--builder", "bed"]);
    }
    let output = run(&[&arguments[..], more].concat());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{more:?}: {text}");
    text
}

/// Runs one of the bed's programs, and expects it to work.
pub fn program(name: &str, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } =
        Command::new(bed::program(name)).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{name} {arguments:?}: {errors}");
    String::from_utf8(stdout).unwrap()
}

/// What an HTTP server at `host` (with its port) has at `path`.
pub fn http_get(host: &str, path: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(host).unwrap();
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(" 200 "), "{path}: {head}");
    body.to_owned()
}

/// The generated workspace; made once.
pub fn workspace() -> PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let directory = root.join("target/tmp/workspace");
        let mut generate = Command::new(root.join("tests/fixtures/generate.sh"));
        assert!(generate.arg("workspace").arg(&directory).status().unwrap().success());
        directory
    })
    .clone()
}
