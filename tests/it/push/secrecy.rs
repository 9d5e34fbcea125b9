//! What a push leaves behind: nothing but what is in our state directory, and no secret anywhere.

use super::{
    image::layout,
    proxy::{Fault, Proxy},
};
use crate::bed;
use crate::command::{Stranger, run, succeed, unique};
use std::{
    collections::BTreeSet, fs, os::unix::process::ExitStatusExt as _, path::Path, time::Duration,
};

/// Paths that a trace shows to be opened for writing, made, renamed or removed.
pub fn written(trace: &str) -> BTreeSet<String> {
    let changes = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC"];
    let makers =
        ["creat(", "mkdir", "rename", "unlink", "link", "symlink", "mknod", "truncate", "chmod"];
    trace
        .lines()
        .filter(|line| !line.contains("= -1 "))
        .filter(|line| {
            let call = line.split_once(' ').map_or(*line, |(_, call)| call.trim_start());
            call.starts_with("open") && changes.iter().any(|flag| line.contains(flag))
                || makers.iter().any(|maker| call.starts_with(maker))
        })
        .flat_map(|line| line.split('"').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

fn every_file(directory: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            every_file(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn a_push_writes_nothing_but_its_note_and_shows_no_secret() {
    let stranger = Stranger::new();
    layout(&stranger.join("image"), &[(1, 2 << 20), (2, 100)]);
    let (user, password) = bed::user();
    let trace = stranger.join("trace");
    for (registry, more) in [
        (bed::registry_token(), "-v"),
        (bed::registry_basic(), "-vv"),
        (bed::registry_token(), "-q"),
    ] {
        let reference = format!("{registry}/push/{}:v1", unique("secret"));
        let said = run(stranger
            .command("strace")
            .args(["-f", "-s", "4096", "-e", "trace=%file,%process", "-o"])
            .arg(&trace)
            .arg(env!("CARGO_BIN_EXE_bk-sync"))
            .args(["push", more, "image", &reference])
            .env("BK_SYNC_REGISTRY_USERNAME", user)
            .env("BK_SYNC_REGISTRY_PASSWORD", password));
        assert_eq!(said.code, 0, "{}\n{}", said.stdout, said.stderr);
        let trace = fs::read_to_string(&trace).expect("a trace");
        let state = stranger.join(".local/state/bk-sync");
        let base = stranger.join(".local");
        let elsewhere: Vec<_> = written(&trace)
            .into_iter()
            .filter(|path| {
                let path = Path::new(path);
                // The directories on the way to our state are ours to make.
                !path.starts_with(&state) && !base.starts_with(path) && !state.starts_with(path)
            })
            .filter(|path| path != "/dev/null" && path != "/dev/tty" && !path.starts_with("/proc/"))
            .collect();
        assert!(elsewhere.is_empty(), "{elsewhere:?}");
        // Neither in arguments, nor in what is said; a token is longer than a password.
        let arguments: Vec<_> = trace.lines().filter(|line| line.contains("execve")).collect();
        assert!(!arguments.join("\n").contains(password), "{arguments:?}");
        for text in [&said.stdout, &said.stderr] {
            assert!(!text.contains(password) && !text.contains("eyJ"), "{text}");
        }
    }
    let mut files = Vec::new();
    every_file(&stranger.join(".local"), &mut files);
    every_file(&stranger.join("tmp"), &mut files);
    for file in files {
        let text = String::from_utf8_lossy(&fs::read(&file).unwrap()).into_owned();
        assert!(!text.contains(password) && !text.contains("eyJ"), "{}", file.display());
    }
}

/// A process that ends badly in the middle of a push leaves no image of its memory behind, also where the
/// user's shell allows that.
#[test]
fn a_push_that_crashes_leaves_no_core() {
    let stranger = Stranger::new();
    layout(&stranger.join("image"), &[(1, 2 << 20)]);
    let proxy = Proxy::start(bed::registry_basic(), |asked| {
        (asked.length > 1 << 20).then_some(Fault::Slow(1 << 20, 1 << 18))
    });
    let (user, password) = bed::user();
    let mut child = stranger
        .command("/bin/sh")
        .args(["-c", "ulimit -c unlimited; exec \"$0\" \"$@\""])
        .arg(env!("CARGO_BIN_EXE_bk-sync"))
        .args(["push", "-q", "image", &format!("{}/push/{}:v1", proxy.address, unique("core"))])
        .env("BK_SYNC_REGISTRY_USERNAME", user)
        .env("BK_SYNC_REGISTRY_PASSWORD", password)
        .spawn()
        .unwrap();
    while !proxy.seen().iter().any(|one| one.bytes > 1 << 20) {
        assert!(child.try_wait().unwrap().is_none(), "it ended early: {:?}", proxy.seen());
        std::thread::sleep(Duration::from_millis(20));
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    let abort = succeed(
        stranger.command("/bin/sh").args(["-c", "kill -ABRT \"$0\""]).arg(child.id().to_string()),
    );
    assert!(abort.stderr.is_empty(), "{}", abort.stderr);
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(6), "{status}");
    assert!(!status.core_dumped(), "{status}");
    let mut files = Vec::new();
    every_file(stranger.path(), &mut files);
    for file in files {
        let bytes = fs::read(&file).unwrap();
        let holds = bytes.windows(password.len()).any(|window| window == password.as_bytes());
        assert!(!holds, "{}", file.display());
    }
}

#[test]
fn a_large_push_stays_under_64_mib() {
    let stranger = Stranger::new();
    let layers: Vec<_> = (0..8).map(|at| (at + 70, 24 << 20)).collect();
    layout(&stranger.join("image"), &layers);
    let reference = format!("{}/push/{}:v1", bed::registry(), unique("memory"));
    let report = stranger.join("peak");
    let said = run(stranger
        .command("/usr/bin/time")
        .args(["--format", "%M", "--output"])
        .arg(&report)
        .arg(env!("CARGO_BIN_EXE_bk-sync"))
        .args(["push", "image", &reference]));
    assert_eq!(said.code, 0, "{}", said.stderr);
    let kib: u64 = fs::read_to_string(report).unwrap().trim().parse().unwrap();
    assert!(kib < 64 * 1024, "{kib} KiB at the peak");
}
