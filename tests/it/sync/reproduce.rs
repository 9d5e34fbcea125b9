//! `reproduce`: what was deployed, built again and compared.

use super::{Project, repository, snapshot};
use crate::{
    bed,
    command::{run, unique},
};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

/// A project whose last step is `step`, deployed with `--reproducible` from a directory below the
/// checkout's top; its repository in the registry, and the receipt.
fn deployed(step: &str, more: &[&str]) -> (Project, String, Value) {
    let repository = repository(bed::registry());
    let dockerfile = format!(
        "FROM {}\nARG NOTE=none\nARG API_TOKEN=none\nCOPY greeting /greeting\n{step}\n",
        bed::base_arm64()
    );
    let config = format!(
        "[build]\nbuilder = \"{}\"\nplatforms = [\"linux/arm64\"]\ncontext = \"context\"\n\
         file = \"docker/Dockerfile\"\n\
         [image]\nname = \"{repository}\"\ntags = [\"{{git.sha}}\", \"latest\"]\n",
        bed::buildkitd()
    );
    let project = Project::new(&[
        ("app/docker/Dockerfile", &dockerfile),
        ("app/context/greeting", &unique("hello")),
        ("app/bk-sync.toml", &config),
    ]);
    let lock = run(project.command(&["lock", "-q"]).current_dir(project.path().join("app")));
    assert_eq!(lock.code, 0, "{}", lock.stderr);
    project.commit("lock");
    let arguments = [&["sync", "--reproducible", "--format", "json"][..], more].concat();
    let said = run(project.command(&arguments).current_dir(project.path().join("app")));
    assert_eq!(said.code, 0, "{}", said.stderr);
    let envelope: Value = serde_json::from_str(&said.stdout).unwrap();
    (project, repository, envelope["result"].clone())
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{pointer}: {value:#}"))
}

/// A base image of our own, so that it can move.
fn publish(name: &str, text: &str) {
    let dockerfile = format!("FROM {}\nRUN echo {text} >/version\n", bed::base_arm64());
    let project = Project::new(&[("Dockerfile", &dockerfile)]);
    let arguments = ["--builder", bed::buildkitd(), "build", "-q", "--platform", "linux/arm64"];
    let said = project.run(&[&arguments[..], &["-t", name, "--push", "."]].concat());
    assert_eq!(said.code, 0, "{}", said.stderr);
}

/// What `reproduce` leaves in the directory for temporary files.
fn left(temporary: &Path) -> Vec<PathBuf> {
    fs::read_dir(temporary).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Runs `reproduce` with a directory for temporary files of its own, which has to be empty then.
fn reproduce(project: &Project, arguments: &[&str], code: i32) -> Value {
    let temporary = project.stranger.join("temporary");
    fs::create_dir_all(&temporary).unwrap();
    let arguments = [&["reproduce", "--format", "json"][..], arguments].concat();
    let app = project.path().join("app");
    let directory = if app.exists() { app } else { project.path() };
    let said = run(project.command(&arguments).current_dir(directory).env("TMPDIR", &temporary));
    assert_eq!(said.code, code, "{arguments:?}\n{}\n{}", said.stdout, said.stderr);
    assert_eq!(left(&temporary), [] as [PathBuf; 0]);
    serde_json::from_str(&said.stdout).unwrap()
}

#[test]
fn an_image_is_built_again_from_its_commit_whatever_is_checked_out_and_wherever() {
    let step = "RUN echo $NOTE $API_TOKEN >/said && cat /greeting >>/said";
    let more = ["--build-arg", "NOTE=noted", "--build-arg", "API_TOKEN=hush"];
    let (project, repository, receipt) = deployed(step, &more);
    let (id, digest) = (text(&receipt, "/id"), text(&receipt, "/image/digest"));
    assert_eq!(text(&receipt, "/build/plan/context/directory"), "app/context");
    assert!(!receipt.to_string().contains("hush"), "{receipt:#}");

    // The value of an argument that may be a secret has to be given again.
    let missing = reproduce(&project, &[id], 2);
    assert_eq!(missing["error"]["code"], "BUILD_ARG_NOT_KEPT");
    let other = reproduce(&project, &[id, "--build-arg", "NOTE=else"], 2);
    assert_eq!(other["error"]["code"], "USAGE");

    // Another commit is checked out, with changes: the recorded one is built all the same.
    project.write("app/context/greeting", "another");
    project.commit("another");
    project.write("app/context/greeting", "and a change");
    let before = snapshot(&project.path());
    let token = ["--build-arg", "API_TOKEN=hush"];
    let by_digest = format!("{repository}@{digest}");
    let by_tag = format!("{repository}:latest");
    for (reference, builder) in [
        (id, bed::dockerd()),
        (by_digest.as_str(), bed::buildkitd()),
        (by_tag.as_str(), bed::dockerd()),
    ] {
        let arguments = [&[reference, "--builder", builder][..], &token].concat();
        let equal = reproduce(&project, &arguments, 0);
        assert_eq!(text(&equal, "/result/receipt"), id);
        assert_eq!(text(&equal, "/result/image/digest"), digest);
        assert_eq!(text(&equal, "/result/commit"), text(&receipt, "/git/commit"));
    }
    assert_eq!(snapshot(&project.path()), before, "the checkout and git's files stay as they are");

    // With another value for the argument it is another image: that is what was compared.
    let differs = reproduce(&project, &[id, "--build-arg", "API_TOKEN=other"], 11);
    assert_eq!(differs["error"]["code"], "IMAGE_DIFFERS");
    let difference = &differs["error"]["details"]["difference"];
    assert_eq!(text(difference, "/part"), "layer");
    assert_eq!(text(difference, "/difference/first/path"), "said");
    assert_eq!(difference["difference"]["first"]["what"], "content");
    assert_eq!(difference["difference"]["first"]["byte"], 6, "behind `noted `: {difference:#}");

    let none = reproduce(&project, &["20"], 2);
    assert_eq!(none["error"]["code"], "BUILD_ARG_NOT_KEPT", "the begin of an id will do");
    let unknown = format!("{repository}@sha256:{}", "0".repeat(64));
    assert_eq!(reproduce(&project, &[&unknown], 2)["error"]["code"], "RECEIPT_NOT_FOUND");
}

#[test]
fn layers_are_looked_into_however_they_are_compressed() {
    let step = "RUN mkdir /made && echo same >/made/a && date +%s%N >/made/stamp";
    for compression in ["zstd", "gzip", "estargz"] {
        let more = ["--compression", compression, "--force-compression"];
        let (project, repository, receipt) = deployed(step, &more);
        let reference = format!("docker://{repository}");
        let inspect = ["inspect", "--tls-verify=false", "--raw", &reference];
        let raw = run(std::process::Command::new(bed::program("skopeo")).args(inspect));
        let kind = if compression == "zstd" { "tar+zstd" } else { "tar+gzip" };
        assert!(raw.stdout.contains(kind), "{}", raw.stdout);
        let differs = reproduce(&project, &[text(&receipt, "/id")], 11);
        let difference = &differs["error"]["details"]["difference"];
        assert_eq!(text(difference, "/difference/first/path"), "made/stamp", "{differs:#}");
        assert_eq!(difference["difference"]["first"]["what"], "content");
    }
}

#[test]
fn a_step_that_writes_the_time_is_found_and_named() {
    let step = "RUN mkdir /made && echo same >/made/a && date +%s%N >/made/stamp";
    let (project, _, receipt) = deployed(step, &[]);
    let differs = reproduce(&project, &[text(&receipt, "/id")], 11);
    assert_eq!(differs["error"]["code"], "IMAGE_DIFFERS");
    let details = &differs["error"]["details"];
    assert_eq!(text(details, "/recorded"), text(&receipt, "/image/digest"));
    let difference = &details["difference"];
    assert_eq!(text(difference, "/platform"), "linux/arm64");
    assert_eq!(difference["number"], difference["count"], "the last layer: {difference:#}");
    assert_eq!(text(difference, "/difference/first/path"), "made/stamp");
    assert_eq!(difference["difference"]["first"]["what"], "content");
    assert!(text(difference, "/step").ends_with("date +%s%N >/made/stamp"), "{difference:#}");

    let by_hand = ["--builder", bed::buildkitd(), "reproduce", "-q", text(&receipt, "/id")];
    let said = project.run(&by_hand);
    assert_eq!((said.code, said.stdout.as_str()), (11, ""));
    assert!(
        said.stderr.contains("`made/stamp`: its content differs from byte "),
        "{}",
        said.stderr
    );
    assert!(said.stderr.contains("written by `RUN "), "{}", said.stderr);
}

#[test]
fn without_pins_a_time_is_the_first_difference_and_what_is_more_is_named_too() {
    let (repository, base) = (repository(bed::registry()), repository(bed::registry()));
    publish(&base, "one");
    let chance = "od -An -N3 -tu4 /dev/urandom | tr -d ' '";
    let dockerfile = format!(
        "FROM {base}\nCOPY greeting /greeting\n\
         RUN touch -d @$({chance}) /a && head -c 8 /dev/urandom >/b\n"
    );
    let config = format!(
        "[build]\nbuilder = \"{}\"\nplatforms = [\"linux/arm64\"]\n\
         [image]\nname = \"{repository}\"\ntags = [\"latest\"]\ndirty = \"allow\"\n",
        bed::buildkitd()
    );
    let project = Project::new(&[
        ("Dockerfile", &dockerfile),
        ("greeting", &unique("hello")),
        ("bk-sync.toml", &config),
    ]);
    let receipt = project.json(&["sync"], 0)["result"].take();
    let id = text(&receipt, "/id");
    let bases = receipt["build"]["bases"].as_object().unwrap();
    let bases: Vec<&String> = bases.keys().collect();
    assert_eq!(bases, [&format!("{base}:latest")]);
    // Its base image has moved since: the one of the receipt is built on.
    publish(&base, "two");
    // The checkout is at the commit and clean, so its own files are built: their times are the same.
    let differs = reproduce(&project, &[id], 11);
    let difference = &differs["error"]["details"]["difference"];
    assert!(text(difference, "/step").contains("head -c 8"), "{difference:#}");
    let first = &difference["difference"]["first"];
    assert_eq!((first["path"].as_str(), first["field"].as_str()), (Some("a"), Some("mtime")));
    let more = &difference["difference"]["beyond_times"];
    assert_eq!((more["path"].as_str(), more["what"].as_str()), (Some("b"), Some("content")));

    // What no commit has cannot be built again.
    project.write("greeting", "a change");
    let changed = project.json(&["sync"], 0)["result"].take();
    let refused = reproduce(&project, &[text(&changed, "/id")], 2);
    assert_eq!(refused["error"]["code"], "RECEIPT_INCOMPLETE");
    // Neither can a commit that is not here.
    let elsewhere = Project { stranger: project.stranger };
    let said = run(elsewhere
        .command(&["reproduce", id, "--format", "json"])
        .current_dir(elsewhere.stranger.path()));
    let envelope: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((said.code, text(&envelope, "/error/code")), (2, "COMMIT_MISSING"));
}

#[test]
fn an_image_that_is_gone_and_an_interrupt_leave_nothing_behind() {
    let (project, repository, receipt) = deployed("RUN sleep 1 && head -c 8 /dev/urandom >/b", &[]);
    let (id, digest) = (text(&receipt, "/id"), text(&receipt, "/image/digest"));
    project.write("app/context/greeting", "so that the commit's files are written out");

    let temporary = project.stranger.join("temporary");
    fs::create_dir_all(&temporary).unwrap();
    let mut child = project
        .command(&["reproduce", id, "--builder", bed::buildkitd(), "-q"])
        .env("TMPDIR", &temporary)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while !left(&temporary).iter().any(|path| path.join("tree/app").exists()) {
        assert!(began.elapsed() < Duration::from_secs(20), "the files never came");
        std::thread::sleep(Duration::from_millis(5));
    }
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(left(&temporary), [] as [PathBuf; 0]);

    let gone = std::process::Command::new(bed::program("skopeo"))
        .args(["delete", "--tls-verify=false", &format!("docker://{repository}@{digest}")])
        .output()
        .unwrap();
    assert!(gone.status.success(), "{gone:?}");
    let unreadable = reproduce(&project, &[id], 11);
    assert_eq!(unreadable["error"]["code"], "IMAGE_UNREADABLE");
}
