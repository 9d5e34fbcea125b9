//! `llb` and `check` from outside, over the conformance corpus: no builder is asked.

use crate::{
    bed,
    build::archive::{file, image},
    cli::{Place, Ran},
    conformance_llb::{self, corpus, read_json},
};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The flags that a case stands for.
fn flags(case: &Path, options: &Value, empty: &Path) -> Vec<String> {
    let mut flags: Vec<String> = Vec::new();
    let mut flag = |name: &str, value: &str| flags.extend([format!("--{name}"), value.to_owned()]);
    let strings = |key: &str| -> Vec<String> {
        let list = options[key].as_array().into_iter().flatten();
        list.map(|value| value.as_str().unwrap().to_owned()).collect()
    };
    let pairs = |key: &str| -> Vec<(String, String)> {
        let object = options[key].as_object().into_iter().flatten();
        object.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect()
    };
    let context = case.join("ctx");
    if let Some(file) = options["file"].as_str() {
        flag("file", context.join(file).to_str().unwrap());
    }
    for (key, name) in
        [("target", "target"), ("network", "network"), ("cgroup_parent", "cgroup-parent")]
    {
        if let Some(value) = options[key].as_str() {
            flag(name, value);
        }
    }
    let shm = &options["shm_size"];
    if !shm.is_null() {
        flag("shm-size", shm.as_str().map_or(shm.to_string(), str::to_owned).as_str());
    }
    for (key, name) in [("build_args", "build-arg"), ("labels", "label")] {
        for (left, right) in pairs(key) {
            flag(name, &format!("{left}={right}"));
        }
    }
    for (name, value) in pairs("build_contexts") {
        // What is empty is not kept in a checkout.
        let value = match (value.starts_with("../"), context.join(&value).canonicalize()) {
            (true, Ok(directory)) => directory.to_str().unwrap().to_owned(),
            (true, Err(_)) => empty.to_str().unwrap().to_owned(),
            (false, _) => value,
        };
        flag("build-context", &format!("{name}={value}"));
    }
    let lists = [
        ("platforms", "platform"),
        ("no_cache_filter", "no-cache-filter"),
        ("add_hosts", "add-host"),
        ("ulimits", "ulimit"),
    ];
    for (key, name) in lists {
        for value in strings(key) {
            flag(name, &value);
        }
    }
    let epoch = &options["source_date_epoch"];
    if !epoch.is_null() {
        let epoch = epoch.as_str().map_or(epoch.to_string(), str::to_owned);
        flag("build-arg", &format!("SOURCE_DATE_EPOCH={epoch}"));
    }
    for (key, name) in [("no_cache", "--no-cache"), ("pull", "--pull")] {
        if options[key] == json!(true) {
            flags.push(name.to_owned());
        }
    }
    flags
}

/// Runs a command over a case.
fn run(command: &[&str], case: &Path, options: &Value) -> Ran {
    let corpus = corpus();
    let images = corpus.join("images.json");
    let assume = case.join("case.json");
    let context = case.join("ctx");
    let place = Place::new();
    let given = flags(case, options, &place.work());
    let mut arguments: Vec<&str> = command.to_vec();
    arguments.extend(["--images", images.to_str().unwrap(), "--assume", assume.to_str().unwrap()]);
    arguments.extend(["--session-id", "conformance"]);
    arguments.extend(given.iter().map(String::as_str));
    arguments.push(context.to_str().unwrap());
    place.run(&arguments)
}

fn cases() -> Vec<PathBuf> {
    conformance_llb::cases().iter().map(|name| corpus().join(name)).collect()
}

#[test]
fn the_command_makes_the_graphs_of_the_corpus() {
    let mut wrong = Vec::new();
    for case in cases() {
        let name = case.file_name().unwrap().to_str().unwrap();
        let ran = run(&["llb"], &case, &read_json(&case.join("case.json")));
        if case.join("expected/error.txt").exists() {
            if ran.code != Some(2) || !ran.stdout.is_empty() {
                wrong.push(format!("{name}: should fail: {ran:?}"));
            }
            continue;
        }
        if ran.code != Some(0) {
            wrong.push(format!("{name}: {}", ran.stderr));
            continue;
        }
        let made: Value = serde_json::from_str(&ran.stdout).unwrap();
        let graphs = made.as_array().cloned().unwrap_or_else(|| vec![made.clone()]);
        for graph in graphs {
            let platform = graph["platform"].as_str().unwrap().replace('/', "-");
            let named = case.join(format!("expected/{platform}.digests"));
            let alone = case.join("expected/result.digests");
            let expected = fs::read_to_string(if named.exists() { named } else { alone }).unwrap();
            let ops = graph["ops"].as_array().unwrap().iter();
            let digests: Vec<&str> = ops.map(|op| op["digest"].as_str().unwrap()).collect();
            if digests != expected.lines().collect::<Vec<_>>() {
                wrong.push(format!("{name}: {platform}: digests differ"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_command_finds_the_warnings_of_the_corpus() {
    let mut checked = 0;
    for case in cases() {
        let options = read_json(&case.join("case.json"));
        if options["check"] != json!(true) {
            continue;
        }
        checked += 1;
        let expected = read_json(&case.join("expected/check.json"));
        let ran = run(&["check", "--format", "json"], &case, &options);
        let json = ran.json();
        let fails = !expected["error"].is_null();
        assert_eq!(json["ok"], json!(!fails), "{case:?}: {json}");
        assert_eq!(ran.code, Some(if fails { 2 } else { 0 }), "{case:?}");
        let place = if fails { "/error/details/warnings" } else { "/result/warnings" };
        let found = json.pointer(place).unwrap().as_array().unwrap();
        let names: Vec<_> =
            found.iter().map(|one| (&one["rule"], &one["message"], &one["url"])).collect();
        let wanted = expected["warnings"].as_array().unwrap();
        let wanted: Vec<_> =
            wanted.iter().map(|one| (&one["rule"], &one["message"], &one["url"])).collect();
        assert_eq!(names, wanted, "{case:?}");
    }
    assert!(checked > 10);
}

#[test]
fn several_platforms_are_several_files() {
    let place = Place::new();
    place.write("Dockerfile", "FROM scratch\nCOPY a /\n");
    place.write("images.json", "{}");
    let flags = ["--images", "images.json", "--platform", "linux/amd64,linux/arm64", "."];
    let with = |more: &[&'static str]| {
        let arguments: Vec<&str> = ["llb"].iter().chain(more).chain(&flags).copied().collect();
        place.run(&arguments)
    };
    let ran = with(&["--as", "pb", "--out", "graphs"]);
    let files = "graphs/linux-amd64.llb.pb\ngraphs/linux-arm64.llb.pb\n";
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), files));
    assert!(fs::metadata(place.work().join("graphs/linux-arm64.llb.pb")).unwrap().len() > 100);
    assert_eq!(with(&["--as", "pb"]).code, Some(2));
    let both: Value = serde_json::from_str(&with(&[]).stdout).unwrap();
    assert_eq!(both[1]["platform"], "linux/arm64");
    let dot = place.run(&["llb", "--as", "dot", "--images", "images.json", "."]);
    assert!(dot.stdout.starts_with("digraph"), "{dot:?}");
    for contradiction in [
        ["llb", "--frontend", "daemon", "--images", "images.json", "."],
        ["llb", "--compare", "daemon", "--images", "images.json", "."],
        ["llb", "--compare", "daemon", "--frontend", "daemon", "."],
        ["llb", "--compare", "daemon", "--as", "dot", "."],
        ["check", "--frontend", "daemon", "--images", "images.json", "."],
    ] {
        let ran = place.run(&contradiction);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");
    }
}

#[test]
fn a_builder_imagined_without_images_is_enough_for_scratch() {
    let place = Place::new();
    place.write("Dockerfile", "FROM scratch\nCOPY a /\n");
    place.write("assumed.json", r#"{"worker_platforms": ["linux/riscv64"]}"#);
    let ran = place.run(&["llb", "--assume", "assumed.json", "."]);
    let graph: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"));
    assert_eq!(graph["platform"], "linux/riscv64");
    place.write("Dockerfile", "FROM alpine\n");
    let ran = place.run(&["llb", "--assume", "assumed.json", "."]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");
    assert!(ran.stderr.contains("library/alpine:latest: not found"), "{ran:?}");
}

/// Runs `llb` on a Dockerfile whose step must never run.
fn on(place: &Place, builder: &str, words: &[&str]) -> Ran {
    let head = ["llb", "--builder", builder, "-q"];
    place.run(&head.iter().chain(words).chain(&["."]).copied().collect::<Vec<_>>())
}

#[test]
fn graphs_are_compared_with_those_of_each_builders_own_frontend() {
    let place = Place::new();
    let base = bed::base_multi();
    let text = format!(
        "# syntax=example.test/not/followed:1\nFROM {base} AS one\nRUN exit 9\nFROM scratch\n\
         COPY --link --from=one /etc /\nCOPY . /app/\nLABEL a=b\n"
    );
    place.write("Dockerfile", &text);
    let both = ["linux/amd64", "linux/arm64"];
    // A Docker with graphdrivers builds for one platform at a time.
    for (builder, platforms) in [
        (bed::buildkitd(), &both[..]),
        (bed::dockerd(), &both[..]),
        (bed::dockerd_graphdriver(), &both[1..]),
    ] {
        let ran = on(&place, builder, &["--compare", "daemon", "--platform", &platforms.join(",")]);
        assert_eq!(ran.code, Some(0), "{builder}: {ran:?}");
        let lines: Vec<&str> = ran.stdout.lines().collect();
        assert_eq!(lines.len(), platforms.len(), "{ran:?}");
        for (line, platform) in lines.iter().zip(platforms) {
            assert!(line.starts_with(&format!("{platform}: ")), "{line}");
            assert!(line.ends_with(" ops, all equal"), "{line}");
        }
    }
    let json = on(&place, bed::buildkitd(), &["--compare", "daemon", "--format", "json"]).json();
    assert_eq!(json["result"]["equal"], true, "{json}");
    assert!(json["result"]["platforms"][0]["ops"].as_u64().unwrap() >= 5, "{json}");
}

#[test]
fn a_difference_is_shown_from_both_sides() {
    let place = Place::new();
    // A device is what the frontend of no release but a labs one takes.
    place.write("Dockerfile", "FROM scratch\nRUN --device=vendor.test/class=x true\n");
    let ran = on(&place, bed::buildkitd(), &["--compare", "daemon"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
    assert!(ran.stderr.contains("compiled here, and refused there"), "{}", ran.stderr);

    // Both refuse: that is the Dockerfile's fault.
    place.write("Dockerfile", "FROM scratch\nRUM true\n");
    let ran = on(&place, bed::buildkitd(), &["--compare", "daemon"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("did you mean RUN?"), "{}", ran.stderr);
}

#[test]
fn the_builders_own_graph_is_printed_in_every_form() {
    let place = Place::new();
    place.write("Dockerfile", "FROM scratch\nCOPY a /\nCOPY --link b /\n");
    let with = |more: &[&str]| {
        let words = [&["--session-id", "a-session"], more].concat();
        on(&place, bed::buildkitd(), &words)
    };
    let (ours, theirs) = (with(&[]), with(&["--frontend", "daemon"]));
    let read = |ran: &Ran| -> Value {
        serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"))
    };
    let (ours, theirs) = (read(&ours), read(&theirs));
    // The id of the session is part of local sources, and of nothing that is random.
    assert!(ours.to_string().contains("a-session"), "{ours}");
    for key in ["platform", "head", "config"] {
        assert_eq!(ours[key], theirs[key], "{key}");
    }
    let op = |graph: &Value, at: usize| graph["ops"][at]["op"].clone();
    let count = ours["ops"].as_array().unwrap().len();
    assert!(count > 3);
    for at in 0..count {
        assert_eq!(op(&ours, at), op(&theirs, at));
        assert_eq!(ours["ops"][at]["locations"], theirs["ops"][at]["locations"]);
    }
    assert_eq!(theirs["warnings"], Value::Null, "nobody knows them");
    let dot = with(&["--frontend", "daemon", "--as", "dot"]);
    assert!(dot.stdout.starts_with("digraph"), "{dot:?}");
}

#[test]
fn two_runs_with_one_session_give_the_same_bytes() {
    let place = Place::new();
    place.write("Dockerfile", "FROM scratch\nCOPY a /\nCOPY --link b /\n");
    place.write("images.json", "{}");
    let run = |id| {
        place
            .command(&["llb", "--as", "pb", "--images", "images.json", "--session-id", id, "."])
            .output()
    };
    let (one, two, other) = (run("s").unwrap(), run("s").unwrap(), run("t").unwrap());
    assert!(!one.stdout.is_empty());
    assert_eq!(one.stdout, two.stdout);
    assert_ne!(one.stdout, other.stdout);
}

#[test]
fn warnings_are_shown_with_their_lines_and_may_count_as_errors() {
    let place = Place::new();
    place.write("Dockerfile", "FROM scratch AS Base\nCMD echo hi\n");
    place.write("images.json", "{}");
    let check = |more: &[&'static str]| {
        let arguments = ["check", "--images", "images.json", "."];
        place.run(&arguments.iter().chain(more).copied().collect::<Vec<_>>())
    };
    insta::assert_snapshot!(check(&[]).shown(), @r"
    exit 0
    --- stdout
    warning: StageNameCasing: Stage name 'Base' should be lowercase
     --> Dockerfile:1:1
      |
    1 | FROM scratch AS Base
      | ^^^^^^^^^^^^^^^^^^^^
    2 | CMD echo hi
      |
    hint: see https://docs.docker.com/go/dockerfile/rule/stage-name-casing/
    warning: JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals
     --> Dockerfile:2:1
      |
    1 | FROM scratch AS Base
    2 | CMD echo hi
      | ^^^^^^^^^^^
    hint: see https://docs.docker.com/go/dockerfile/rule/json-args-recommended/
    --- stderr
    ");
    insta::assert_snapshot!(check(&["--error"]).shown(), @r"
    exit 2
    --- stdout
    warning: StageNameCasing: Stage name 'Base' should be lowercase
     --> Dockerfile:1:1
      |
    1 | FROM scratch AS Base
      | ^^^^^^^^^^^^^^^^^^^^
    2 | CMD echo hi
      |
    hint: see https://docs.docker.com/go/dockerfile/rule/stage-name-casing/
    warning: JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals
     --> Dockerfile:2:1
      |
    1 | FROM scratch AS Base
    2 | CMD echo hi
      | ^^^^^^^^^^^
    hint: see https://docs.docker.com/go/dockerfile/rule/json-args-recommended/
    --- stderr
    error: there are 2 warnings, and they count as errors
    hint: mend the Dockerfile, or keep a rule silent with `--skip RULE`
    more: `bk-sync explain LINT_VIOLATIONS`
    ");
    let skipped = check(&["--error", "--skip", "JSONArgsRecommended,StageNameCasing"]);
    assert_eq!((skipped.code, skipped.stdout.as_str()), (Some(0), "no warnings\n"));
    place.write("Dockerfile", "# check=error=true\nFROM scratch\nCMD echo hi\n");
    assert_eq!(check(&[]).code, Some(2));
    assert_eq!(check(&["--skip", "JSONArgsRecommended"]).code, Some(0));
}

#[test]
fn every_mistake_that_can_be_found_is_shown_at_once() {
    let place = Place::new();
    place.write("Dockerfile", "FROM scratch\nRUM true\nCOPY a\nEXPOSE\n");
    place.write("images.json", "{}");
    insta::assert_snapshot!(place.run(&["llb", "--images", "images.json", "."]).shown(), @r"
    exit 2
    --- stdout
    --- stderr
    error: unknown instruction: RUM (did you mean RUN?) (and 2 more errors)
     --> Dockerfile:2:1
      |
    1 | FROM scratch
    2 | RUM true
      | ^^^^^^^^ unknown instruction: RUM (did you mean RUN?)
    3 | COPY a
    4 | EXPOSE
      |
     --> Dockerfile:3:1
      |
    1 | FROM scratch
    2 | RUM true
    3 | COPY a
      | ^^^^^^ COPY requires at least two arguments, but only one was provided. Destination could not be determined
    4 | EXPOSE
      |
     --> Dockerfile:4:1
      |
    2 | RUM true
    3 | COPY a
    4 | EXPOSE
      | ^^^^^^ EXPOSE requires at least one argument
    hint: write `RUN`; or, if the line belongs to the one before it, end that one with `\`
    more: `bk-sync explain DOCKERFILE_INVALID`
    ");
}

#[test]
fn a_real_builder_answers_what_the_file_asks_and_builds_nothing() {
    let place = Place::new();
    // The step would end the build with a failure.
    let text = format!("FROM {}\nRUN exit 9\nCMD echo hi\n", bed::base_arm64());
    place.write("Dockerfile", &text);
    let with = |words: &[&'static str]| {
        let head = ["--builder", bed::buildkitd(), "-q"];
        let flags = ["--platform", "linux/arm64", "."];
        place.run(&head.iter().chain(words).chain(&flags).copied().collect::<Vec<_>>())
    };
    let ran = with(&["llb"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    let graph: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(graph["platform"], "linux/arm64");
    assert_eq!(graph["ops"].as_array().unwrap().len(), 3);

    let json = with(&["check", "--format", "json"]).json();
    let warnings = json["result"]["warnings"].as_array().unwrap();
    assert!(warnings.iter().any(|one| one["rule"] == "JSONArgsRecommended"), "{json}");

    place.write("Dockerfile", &format!("FROM {}-missing\nRUN true\n", bed::base_arm64()));
    let ran = with(&["llb"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");
    assert!(ran.stderr.contains("Dockerfile:1"), "{}", ran.stderr);
}

#[path = "../../examples/llb_build.rs"]
#[expect(dead_code, reason = "its main function is for who runs it as an example")]
mod llb_build;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_builds_an_image_without_a_dockerfile() {
    for builder in [bed::buildkitd(), bed::dockerd()] {
        let place = Place::new();
        let archive = place.work().join("greeting.tar");
        let digest = llb_build::build(builder, bed::base_multi(), archive.clone()).await.unwrap();
        assert!(digest.starts_with("sha256:"), "{digest}");
        let output = std::process::Command::new(bed::program("skopeo"))
            .args(["inspect", "--config", "--raw"])
            .arg(format!("oci-archive:{}", archive.display()))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let config: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(config["config"]["Cmd"][1], "/etc/greetings/made", "{config}");
        let (of_image, layers) = image(&fs::read(&archive).unwrap());
        assert_eq!(of_image["config"], config["config"]);
        assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), layers.len());
        // What a process wrote and what nobody's did lie beside each other, with what is run on them.
        let found = |path| unpacked(&archive, &layers, path);
        let made = found("etc/greetings/made").map(|text| String::from_utf8(text).unwrap());
        assert!(made.as_ref().is_some_and(|text| text.starts_with("hello from ")), "{made:?}");
        assert_eq!(found("etc/greetings/plain").as_deref(), Some(&b"hello\n"[..]));
        assert!(found("bin/busybox").is_some_and(|program| program.starts_with(b"\x7fELF")));
        assert_eq!(found("tmp/greeting"), None, "the step's own files are left behind");
    }
}

/// A file of the uppermost of `layers` that has it.
fn unpacked(archive: &Path, layers: &[String], path: &str) -> Option<Vec<u8>> {
    use std::io::Read as _;
    let bytes = fs::read(archive).unwrap();
    layers.iter().rev().find_map(|digest| {
        let packed = file(&bytes, &format!("blobs/{}", digest.replace(':', "/"))).unwrap();
        let mut layer = Vec::new();
        flate2::read::GzDecoder::new(&*packed).read_to_end(&mut layer).unwrap();
        file(&layer, path)
    })
}
