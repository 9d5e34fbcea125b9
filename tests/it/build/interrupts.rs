//! Nothing goes on running on a builder, however we end; and nothing half-written stays here.

use super::{Builder, arguments, builders, buildkitd, unique};
use crate::{bed, cli::Place};
use bk_sync::{
    buildkit::dial::{Options, connect},
    proto::moby::buildkit::v1::{BuildHistoryRequest, control_client::ControlClient},
};
use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Whether a process with this argument runs on this machine, where the builders are.
fn runs(mark: &str) -> bool {
    fs::read_dir("/proc").unwrap().flatten().any(|process| {
        let arguments = fs::read(process.path().join("cmdline")).unwrap_or_default();
        arguments.split(|byte| *byte == 0).any(|word| word == mark.as_bytes())
    })
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_mins(1), "never: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A build that has come to a step that does not end, with the mark by which it is found.
fn endless(place: &Place, builder: Builder) -> (Child, String) {
    let digits: String = unique().chars().filter(char::is_ascii_digit).collect();
    let mark = format!("7{}", &digits[9..18]);
    place.write(
        "Dockerfile",
        &format!(
            "FROM {}\nARG MARK\nRUN --mount=type=secret,id=s sleep {mark}\n",
            bed::base_arm64()
        ),
    );
    let argument = format!("MARK={mark}");
    let more = ["--build-arg", &argument, "--secret", "id=s,env=CANARY"];
    let outputs = ["-o", "type=tar,dest=out.tar", "."];
    let child = place
        .command(&arguments(builder, &[&more[..], &outputs].concat()))
        .env("CANARY", format!("canary-{mark}"))
        .env("TMPDIR", place.work())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("the step runs", || runs(&mark));
    (child, mark)
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// The builds with this mark that the builder says are running.
fn running(builder: Builder, mark: &str) -> usize {
    drop(rustls::crypto::ring::default_provider().install_default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let connection =
            connect(&builder.address.parse().unwrap(), &Options::default()).await.unwrap();
        let request =
            BuildHistoryRequest { active_only: true, early_exit: true, ..Default::default() };
        let mut client = ControlClient::new(connection.channel);
        let mut events = client.listen_build_history(request).await.unwrap().into_inner();
        let mut found = 0;
        while let Some(event) = events.message().await.unwrap() {
            let attributes = event.record.map(|record| record.frontend_attrs).unwrap_or_default();
            found += usize::from(attributes.get("build-arg:MARK").is_some_and(|m| m == mark));
        }
        found
    })
}

/// The files of this machine's disk, written after `since`, that hold `text`; the builders' own are
/// among them.
fn on_disk(text: &str, since: &Path) -> String {
    let output = Command::new("find")
        .args(["/", "-xdev", "-type", "f", "-newer"])
        .arg(since)
        .args(["-size", "-4096k", "-exec", "grep", "-lsF", "--", text, "{}", "+"])
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The files below `root` that hold `text`.
fn holding(root: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(path) = waiting.pop() {
        let facts = fs::symlink_metadata(&path).unwrap();
        if facts.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if facts.is_file() {
            let content = fs::read(&path).unwrap();
            if content.windows(text.len()).any(|window| window == text.as_bytes()) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

#[test]
fn a_signal_ends_the_build_on_every_builder() {
    for builder in builders() {
        for (name, code) in [("-INT", Some(130)), ("-TERM", Some(143)), ("-KILL", None)] {
            let place = Place::new();
            let (mut child, mark) = endless(&place, builder);
            assert_eq!(running(builder, &mark), 1, "{builder:?}");
            signal(&child, name);
            let ended = child.wait().unwrap();
            assert_eq!(ended.code(), code, "{builder:?} {name}");
            wait_until("the step is ended", || !runs(&mark));
            wait_until("the build is ended", || running(builder, &mark) == 0);
            assert!(!place.work().join("out.tar").exists(), "{builder:?} {name}");
            let root = place.work().join("..").canonicalize().unwrap();
            assert_eq!(holding(&root, &format!("canary-{mark}")), [""; 0], "{builder:?} {name}");
        }
    }
}

#[test]
fn a_killed_build_leaves_no_secret_on_any_disk() {
    for builder in builders() {
        let place = Place::new();
        place.write("since", "");
        let (mut child, mark) = endless(&place, builder);
        let canary = format!("canary-{mark}");
        let while_running = on_disk(&canary, &place.work().join("since"));
        signal(&child, "-KILL");
        child.wait().unwrap();
        wait_until("the build is ended", || running(builder, &mark) == 0 && !runs(&mark));
        assert_eq!(while_running, "", "{builder:?}");
        assert_eq!(on_disk(&canary, &place.work().join("since")), "", "{builder:?}");
    }
}

#[test]
fn an_interrupted_build_can_be_built_again_at_once() {
    let place = Place::new();
    let (mut child, mark) = endless(&place, buildkitd());
    signal(&child, "-INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    place.write("Dockerfile", &format!("FROM {}\nRUN echo {mark}\n", bed::base_arm64()));
    super::build(&place, buildkitd(), &["."]);
}
