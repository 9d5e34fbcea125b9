//! What a build on a real builder shows: lines, JSON, failures, interruptions.

use crate::{bed, cli::Place, schema};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Command, Stdio},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// A text that no other run uses.
fn unique() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    format!("{}{}", now.as_nanos(), std::process::id())
}

/// A place with a Dockerfile whose first line is a base image that the builders can run.
fn place(rest: &str) -> Place {
    let place = Place::new();
    place.write("Dockerfile", &format!("FROM {}\n{rest}", bed::base_arm64()));
    place
}

fn build<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    let head = ["--builder", bed::buildkitd(), "build", "--platform", "linux/arm64"];
    head.iter().chain(arguments).copied().collect()
}

#[test]
fn a_step_that_fails_shows_its_line_its_output_and_its_exit_code() {
    // One stream: a builder sends what two streams wrote in an order of its own.
    let place = place("RUN exec >&2; echo before; \\\n  echo to-stderr; exit 7\n");
    let ran = place.run(&build(&["--progress", "quiet", "."]));
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(11), ""));
    let shown = ran.stderr.replace(bed::base_arm64(), "BASE");
    insta::assert_snapshot!(shown, @r#"
    error: a step failed with exit code 7
     --> Dockerfile:2:1
      |
    1 | FROM BASE
    2 | RUN exec >&2; echo before; \
      | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    3 |   echo to-stderr; exit 7
      | ^^^^^^^^^^^^^^^^^^^^^^^^
    step: [2/2] RUN exec >&2; echo before;   echo to-stderr; exit 7
    exit code: 7
    last lines of its output:
      | before
      | to-stderr
    more: `bk-sync explain STEP_FAILED`
    "#);

    let ran = place.run(&build(&["--progress", "quiet", "--format", "json", "."]));
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(11), ""));
    let json = ran.json();
    assert_eq!(json["ok"], false);
    assert_eq!(json["error"]["code"], "STEP_FAILED");
    assert_eq!(json["error"]["details"]["step"]["exit_code"], 7);
    assert_eq!(json["error"]["details"]["step"]["log"], serde_json::json!(["before", "to-stderr"]));
    assert_eq!(json["error"]["details"]["locations"][0]["ranges"][0]["start"]["line"], 2);
}

#[test]
fn lines_name_each_step_once_and_say_how_it_ended() {
    let canary = unique();
    let place = place(&format!("RUN echo {canary}; true\nRUN echo two; true\n"));
    let ran = place.run(&build(&["--progress", "plain", "."]));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let lines: Vec<&str> = ran.stderr.lines().collect();
    let named =
        lines.iter().filter(|line| line.starts_with('#') && line.contains("RUN echo two")).count();
    assert_eq!(named, 1, "{}", ran.stderr);
    let output = lines.iter().find(|line| line.ends_with(&format!(" {canary}"))).unwrap();
    let number = output.split(' ').next().unwrap();
    assert!(
        lines.iter().any(|line| line.starts_with(&format!("{number} DONE "))),
        "{}",
        ran.stderr
    );

    let again = place.run(&build(&["--progress", "plain", "."]));
    let cached = again.stderr.lines().filter(|line| line.ends_with(" CACHED")).count();
    assert!(cached >= 2, "{}", again.stderr);
    assert!(!again.stderr.lines().any(|line| line.ends_with(&format!(" {canary}"))));
}

#[test]
fn rawjson_is_one_status_a_line_with_logs_in_base64() {
    let canary = unique();
    let ran = place(&format!("RUN echo {canary}\n")).run(&build(&["--progress", "rawjson", "."]));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let statuses: Vec<Value> =
        ran.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    statuses.iter().for_each(schema::hold_progress);
    let all = |key: &str| -> Vec<&Value> {
        statuses.iter().filter_map(|status| status[key].as_array()).flatten().collect()
    };
    let step = all("vertexes")
        .into_iter()
        .find(|vertex| {
            vertex["name"]
                .as_str()
                .is_some_and(|name| name.ends_with(&format!("RUN echo {canary}")))
                && vertex["completed"].is_string()
        })
        .unwrap();
    assert!(step["digest"].as_str().unwrap().starts_with("sha256:"));
    let logs: Vec<u8> = all("logs")
        .iter()
        .filter(|log| log["vertex"] == step["digest"])
        .flat_map(|log| STANDARD.decode(log["data"].as_str().unwrap()).unwrap())
        .collect();
    assert_eq!(String::from_utf8(logs).unwrap(), format!("{canary}\n"));
    assert!(all("statuses").iter().all(|status| status["timestamp"].is_string()));
}

#[test]
fn a_lint_warning_is_shown_with_its_line_and_told_in_json() {
    let place = place("CMD echo hi\n");
    let ran = place.run(&build(&["."]));
    assert!(ran.stderr.contains("warning: JSONArgsRecommended:"), "{}", ran.stderr);
    assert!(ran.stderr.contains("2 | CMD echo hi\n"), "{}", ran.stderr);
    let json = place.run(&build(&["--format", "json", "-q", "."])).json();
    let rules: Vec<_> =
        json["warnings"].as_array().unwrap().iter().map(|one| &one["rule"]).collect();
    assert!(rules.iter().any(|rule| *rule == "JSONArgsRecommended"), "{json}");
}

#[test]
fn a_push_prints_the_reference_with_its_digest_and_nothing_else() {
    let tag = format!("{}/ui/{}:v1", bed::registry(), unique());
    let place = place("RUN true\n");
    let ran = place.run(&build(&["-t", &tag, "--push", "."]));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let line = ran.stdout.strip_suffix('\n').unwrap();
    let digest = line.strip_prefix(&format!("{tag}@sha256:")).unwrap();
    assert_eq!(digest.len(), 64);

    let json = place.run(&build(&["-t", &tag, "--push", "--format=json", "-q", "."])).json();
    assert_eq!(json["ok"], true);
    assert_eq!(json["result"]["image"]["tags"][0], tag);
    assert_eq!(json["result"]["push"]["registry"], bed::registry());
}

#[test]
fn no_builder_is_told_with_what_was_tried() {
    let ran = Place::new().run(&["--builder", "unix:///nowhere.sock", "build"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(10), ""));
    assert!(ran.stderr.contains("unix:///nowhere.sock"), "{}", ran.stderr);
    let json =
        Place::new().run(&["--builder", "nonsense", "build", "--format", "json", "-q"]).json();
    assert_eq!(json["error"]["code"], "BUILDER_ADDRESS_INVALID");
    assert_eq!(json["error"]["details"]["exit_code"], 2);
}

/// Whether a process whose arguments end in `mark` runs on this machine, where the builders are.
fn runs(mark: &str) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else { return false };
    processes.flatten().any(|process| {
        let arguments = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let last = arguments.split(|byte| *byte == 0).rfind(|word| !word.is_empty());
        last == Some(mark.as_bytes())
    })
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_mins(1), "never: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A build that has come to a step that sleeps for `seconds`, and its stderr so far.
fn sleeping(place: &Place, seconds: &str) -> Child {
    let mut child = place
        .command(&build(&["--progress", "plain", "."]))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.as_mut().unwrap());
    let mut line = String::new();
    while !line.contains("RUN sleep") {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "the build ended before its step");
    }
    wait_until("the step runs", || runs(seconds));
    child
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn a_signal_ends_the_step_on_the_builder_and_then_us() {
    for (name, code) in [("-INT", 130), ("-TERM", 143)] {
        // The number is the mark that the step's process is found by.
        let seconds = format!("9{}", &unique()[8..17]);
        let place = place(&format!("RUN sleep {seconds}\n"));
        let mut child = sleeping(&place, &seconds);
        signal(&child, name);
        let (mut out, mut err) = (String::new(), String::new());
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{err}");
        assert_eq!(out, "");
        assert!(err.contains("error: interrupted"), "{err}");
        wait_until("the step is ended", || !runs(&seconds));
    }
}

#[test]
fn a_second_signal_ends_us_at_once() {
    let seconds = format!("8{}", &unique()[8..17]);
    // The step ignores what the builder sends it first, so that clean-up takes its time.
    let place = place(&format!("RUN trap '' TERM INT; sleep {seconds}\n"));
    let mut child = place
        .command(&build(&["--progress", "quiet", "."]))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("the step runs", || runs(&seconds));
    signal(&child, "-INT");
    signal(&child, "-INT");
    let began = Instant::now();
    let code = child.wait().unwrap().code();
    // Where the builder was quicker than the second signal, it was a clean end.
    assert_eq!(code, Some(130));
    assert!(began.elapsed() < Duration::from_secs(15));
    wait_until("the step is ended all the same", || !runs(&seconds));
}
