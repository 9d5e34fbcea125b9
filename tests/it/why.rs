//! `why` on a real builder: for each thing that can keep a step from the cache, two builds, and
//! what the second one is told of.

use crate::{bed, cli::Place};
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A project whose steps no other test has in the cache.
struct Project {
    place: Place,
    canary: String,
}

impl Project {
    /// A project with this Dockerfile, whose first step is its own.
    fn new(rest: &str) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let project = Self { place: Place::new(), canary: format!("{now}-{}", std::process::id()) };
        project.dockerfile(rest);
        project
    }

    fn dockerfile(&self, rest: &str) {
        let base = bed::base_arm64();
        let text = format!("FROM {base} AS base\nRUN echo {} > /canary\n{rest}", self.canary);
        self.place.write("Dockerfile", &text);
    }

    fn write(&self, path: &str, text: &str) {
        self.place.write(path, text);
    }

    fn build(&self, more: &[&str]) -> Option<i32> {
        self.build_on(bed::buildkitd(), more)
    }

    fn build_on(&self, builder: &str, more: &[&str]) -> Option<i32> {
        let mut arguments = vec!["--builder", builder, "build", "--platform", "linux/arm64", "-q"];
        arguments.extend(["-o", "type=cacheonly"]);
        arguments.extend(more);
        arguments.push(".");
        self.place.run(&arguments).code
    }

    fn built(self) -> Self {
        assert_eq!(self.build(&[]), Some(0));
        self
    }

    fn why(&self) -> Value {
        let ran = self.place.run(&["why", "--format", "json"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran.json()["result"].clone()
    }

    /// The steps that ran, each as its instruction's text with its causes.
    fn causes(&self) -> Vec<(String, Value)> {
        let why = self.why();
        let steps = why["steps"].as_array().unwrap().iter();
        let ran = steps.filter(|step| step["state"] == "ran" || step["state"] == "failed");
        ran.map(|step| {
            let name = step["name"].as_str().unwrap();
            let text = name.split_once("] ").map_or(name, |(_, text)| text);
            (text.to_owned(), step["causes"].clone())
        })
        .filter(|(text, _)| !text.starts_with("FROM "))
        .collect()
    }

    /// Builds again, and gives the causes.
    fn again(&self) -> Vec<(String, Value)> {
        assert_eq!(self.build(&[]), Some(0));
        self.causes()
    }
}

fn files(changes: &[(&str, &str)]) -> Value {
    let files: Vec<Value> =
        changes.iter().map(|(path, change)| json!({"path": path, "change": change})).collect();
    json!([{"kind": "files", "files": files}])
}

fn step(text: &str, causes: Value) -> (String, Value) {
    (text.to_owned(), causes)
}

/// The cause of a step that runs because of another.
fn after(step: &str) -> Value {
    json!([{"kind": "after", "step": step}])
}

#[test]
fn the_first_build_has_nothing_before_it_and_the_same_again_runs_nothing() {
    let project = Project::new("COPY a /\n");
    project.write("a", "1");
    let project = project.built();
    let first = project.causes();
    assert_eq!(first.len(), 2, "{first:?}");
    assert!(first.iter().all(|(_, causes)| *causes == json!([{"kind": "first"}])), "{first:?}");
    assert_eq!(project.again(), []);
    let shown = project.place.run(&["why"]).stdout;
    assert!(shown.starts_with("0 of 3 steps ran"), "{shown}");
}

#[test]
fn a_changed_instruction_is_shown_with_what_it_was_and_what_it_cost() {
    let project = Project::new("RUN echo one\nRUN echo after\n").built();
    project.dockerfile("RUN echo two\nRUN echo after\n");
    let expected = [
        step(
            "RUN echo two",
            json!([{"kind": "instruction", "old": "RUN echo one", "new": "RUN echo two"}]),
        ),
        step("RUN echo after", after("[3/4] RUN echo two")),
    ];
    assert_eq!(project.again(), expected);
    let why = project.why();
    let changed = why["steps"].as_array().unwrap().iter().find(|step| step["line"] == 3).unwrap();
    assert_eq!(changed["cost"]["steps"], json!(["[4/4] RUN echo after"]));
    let shown = project.place.run(&["why", "3"]).stdout;
    assert!(shown.contains("was RUN echo one\n    is  RUN echo two"), "{shown}");
    assert!(!shown.contains("[2/4]"), "{shown}");
}

#[test]
fn a_new_step_is_new_and_those_behind_it_follow() {
    let project = Project::new("RUN echo last\n").built();
    project.dockerfile("RUN echo inserted\nRUN echo last\n");
    let expected = [
        step("RUN echo inserted", json!([{"kind": "new"}])),
        step("RUN echo last", after("[3/4] RUN echo inserted")),
    ];
    assert_eq!(project.again(), expected);
}

#[test]
fn an_argument_is_named_with_both_values() {
    let project = Project::new("ARG MODE=slow\nRUN echo $MODE\n").built();
    assert_eq!(project.build(&["--build-arg", "MODE=fast"]), Some(0));
    let cause = |old, new| json!([{"kind": "argument", "name": "MODE", "old": old, "new": new}]);
    assert_eq!(project.causes(), [step("RUN echo fast", cause("slow", "fast"))]);
    // The default in the Dockerfile, too.
    project.dockerfile("ARG MODE=other\nRUN echo $MODE\n");
    assert_eq!(project.again(), [step("RUN echo other", cause("fast", "other"))]);
}

#[test]
fn an_argument_in_a_path_is_named() {
    let project = Project::new("ARG DIR=a\nCOPY $DIR /x\n");
    project.write("a/f", "1");
    project.write("b/f", "2");
    let project = project.built();
    assert_eq!(project.build(&["--build-arg", "DIR=b"]), Some(0));
    let cause = json!([{"kind": "argument", "name": "DIR", "old": "a", "new": "b"}]);
    assert_eq!(project.causes(), [step("COPY b /x", cause)]);
}

#[test]
fn an_argument_that_may_be_a_secret_is_named_and_not_shown() {
    let project = Project::new("ARG API_TOKEN\nRUN true $API_TOKEN\n");
    assert_eq!(project.build(&["--build-arg", "API_TOKEN=hush-1"]), Some(0));
    assert_eq!(project.build(&["--build-arg", "API_TOKEN=hush-2"]), Some(0));
    let causes = project.causes();
    assert_eq!(causes[0].1[0]["name"], "API_TOKEN", "{causes:?}");
    assert!(!project.why().to_string().contains("hush"));
}

#[test]
fn an_environment_variable_is_named_with_both_values() {
    let project = Project::new("ENV LEVEL=1\nRUN echo here\n").built();
    project.dockerfile("ENV LEVEL=2\nRUN echo here\n");
    let cause = json!([{"kind": "variable", "name": "LEVEL", "old": "1", "new": "2"}]);
    assert_eq!(project.again(), [step("RUN echo here", cause)]);
}

#[test]
fn a_user_and_a_directory_are_settings() {
    let project = Project::new("USER 1\nRUN echo here\n").built();
    project.dockerfile("USER 2\nRUN echo here\n");
    let cause = json!([{"kind": "setting", "name": "user", "old": "1", "new": "2"}]);
    assert_eq!(project.again(), [step("RUN echo here", cause)]);
}

#[test]
fn changed_files_are_named_and_the_cost_with_them() {
    let project = Project::new("COPY . /src\nRUN echo build\n");
    for file in ["kept", "src/a", "src/b", "gone", "script"] {
        project.write(file, "1");
    }
    let project = project.built();
    project.write("src/a", "2");
    project.write("src/new", "1");
    fs::remove_file(project.place.work().join("gone")).unwrap();
    let script = project.place.work().join("script");
    fs::set_permissions(script, fs::Permissions::from_mode(0o755)).unwrap();
    let changes = [("gone", "gone"), ("script", "mode"), ("src/a", "changed"), ("src/new", "new")];
    let causes = project.again();
    assert_eq!(causes[0], step("COPY . /src", files(&changes)));
    assert_eq!(causes[1], step("RUN echo build", after("[3/4] COPY . /src")));
    let shown = project.place.run(&["why", "COPY"]).stdout;
    assert!(shown.contains("because 4 files changed:\n    gone    gone\n"), "{shown}");
    assert!(shown.contains("in [4/4] RUN echo build"), "{shown}");
}

#[test]
fn a_file_of_the_same_size_and_time_with_another_content_is_found() {
    let project = Project::new("COPY a b /x/\n");
    project.write("a", "one");
    project.write("b", "one");
    let path = project.place.work().join("a");
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    let project = project.built();
    project.write("a", "two");
    fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    assert_eq!(project.again(), [step("COPY a b /x/", files(&[("a", "changed")]))]);
}

#[test]
fn a_file_that_was_only_touched_costs_nothing() {
    let project = Project::new("COPY . /src\nRUN echo build\n");
    project.write("a", "1");
    let project = project.built();
    let file = fs::File::options().write(true).open(project.place.work().join("a")).unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(5)).unwrap();
    assert_eq!(project.again(), []);
}

#[test]
fn a_file_that_no_step_takes_costs_nothing() {
    let project = Project::new("COPY src /src\nCOPY *.txt /\n");
    project.write(".dockerignore", "ignored.txt\n");
    for file in ["src/a", "a.txt", "ignored.txt", "other"] {
        project.write(file, "1");
    }
    let project = project.built();
    project.write("other", "2");
    project.write("ignored.txt", "2");
    assert_eq!(project.again(), []);
    project.write("a.txt", "2");
    assert_eq!(project.again(), [step("COPY *.txt /", files(&[("a.txt", "changed")]))]);
}

#[test]
fn a_link_that_leads_elsewhere_is_named() {
    let project = Project::new("COPY links /links\n");
    let link = project.place.work().join("links/l");
    project.write("links/a", "1");
    symlink("a", &link).unwrap();
    let project = project.built();
    fs::remove_file(&link).unwrap();
    symlink("b", &link).unwrap();
    assert_eq!(project.again(), [step("COPY links /links", files(&[("links/l", "link")]))]);
}

#[test]
fn files_of_a_bind_mount_count() {
    let project = Project::new("RUN --mount=type=bind,source=src,target=/src cat /src/a\n");
    project.write("src/a", "1");
    let project = project.built();
    project.write("src/a", "2");
    let causes = project.again();
    assert_eq!(causes.len(), 1, "{causes:?}");
    assert_eq!(causes[0].1, files(&[("src/a", "changed")]));
}

#[test]
fn a_file_written_in_the_dockerfile_is_the_instruction() {
    let project = Project::new("COPY <<EOF /a\none\nEOF\n").built();
    project.dockerfile("COPY <<EOF /a\ntwo\nEOF\n");
    let causes = project.again();
    assert_eq!(causes.len(), 1, "{causes:?}");
    assert_eq!(causes[0].1[0]["kind"], "instruction");
    assert_eq!(causes[0].1[0]["new"], "COPY <<EOF /a\ntwo\nEOF");
}

#[test]
fn what_another_stage_changes_is_traced_to_it() {
    let rest = "COPY a /a\nRUN cp /a /out\nFROM base AS last\nCOPY --from=1 /canary /c\n";
    let text = format!("{rest}COPY --from=mid /out /out\n");
    let text = text.replace("COPY a /a", "FROM base AS mid\nCOPY a /a");
    let project = Project::new(&text);
    project.write("a", "1");
    let project = project.built();
    project.write("a", "2");
    let causes = project.again();
    let names: Vec<&str> = causes.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["COPY a /a", "RUN cp /a /out", "COPY --from=mid /out /out"]);
    assert_eq!(causes[0].1, files(&[("a", "changed")]));
    assert_eq!(causes[2].1, after("[mid 1/2] COPY a /a"));
}

#[test]
fn a_base_image_is_named_with_both_digests() {
    let project = Project::new("");
    let tag = format!("{}/why/{}:1", bed::registry(), project.canary);
    let push = |content: &str| {
        let base = bed::base_arm64();
        project.write("base.Dockerfile", &format!("FROM {base}\nRUN echo {content} > /c\n"));
        let ran = project.place.run(&[
            "--builder",
            bed::buildkitd(),
            "build",
            "--platform",
            "linux/arm64",
            "-q",
            "--push",
            "-t",
            &tag,
            "-f",
            "base.Dockerfile",
            ".",
        ]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let (_, digest) = ran.stdout.trim().split_once('@').unwrap();
        digest.to_owned()
    };
    let old = push("one");
    project.write("Dockerfile", &format!("FROM {tag}\nRUN echo {}\n", project.canary));
    assert_eq!(project.build(&[]), Some(0));
    let new = push("two");
    project.write("Dockerfile", &format!("FROM {tag}\nRUN echo {}\n", project.canary));
    assert_eq!(project.build(&["--pull"]), Some(0));
    let run = json!([{"kind": "after", "step": format!("[1/2] FROM {tag}@{new}")}]);
    let causes = project.causes();
    assert_eq!(causes.len(), 1, "{causes:?}");
    assert_eq!(causes[0].1, run);
    let why = project.place.run(&["why", "1", "--format", "json"]).json();
    let from = &why["result"]["steps"][0];
    let shown = project.place.run(&["why"]).stdout;
    assert!(shown.contains(&old[7..19]) && shown.contains(&new[7..19]), "{shown}\n{from}");
}

#[test]
fn steps_that_are_to_run_in_any_case_say_so() {
    let project = Project::new("RUN echo one\n").built();
    assert_eq!(project.build(&["--no-cache"]), Some(0));
    let causes = project.causes();
    assert_eq!(causes[0].1, json!([{"kind": "no_cache"}]), "{causes:?}");

    let project = Project::new("FROM base AS one\nRUN echo one\nFROM base AS two\nCOPY --from=one /canary /c\nRUN echo two\n").built();
    assert_eq!(project.build(&["--no-cache-filter", "two"]), Some(0));
    let causes = project.causes();
    assert!(causes.iter().all(|(name, _)| name != "RUN echo one"), "{causes:?}");
    assert_eq!(causes[0].1, json!([{"kind": "no_cache"}]), "{causes:?}");
}

#[test]
fn a_step_that_failed_before_says_so() {
    let project = Project::new("RUN --mount=type=secret,id=s grep -q yes /run/secrets/s\n");
    project.write("s", "no");
    assert_eq!(project.build(&["--secret", "id=s,src=s"]), Some(11));
    let causes = project.causes();
    assert_eq!(causes.last().unwrap().1, json!([{"kind": "first"}]));
    project.write("s", "yes");
    assert_eq!(project.build(&["--secret", "id=s,src=s"]), Some(0));
    let causes = project.causes();
    assert_eq!(causes.len(), 1, "{causes:?}");
    assert_eq!(causes[0].1, json!([{"kind": "failed_before"}]));
}

#[test]
fn another_builder_is_named() {
    let project = Project::new("RUN echo one\n").built();
    assert_eq!(project.build_on(bed::dockerd(), &[]), Some(0));
    let causes = project.causes();
    assert_eq!(causes[0].1[0]["kind"], "other_builder", "{causes:?}");
    assert_eq!(causes[0].1[0]["old"], bed::buildkitd());
}

#[test]
fn what_a_copy_drags_in_for_nothing_is_named() {
    let project = Project::new("WORKDIR /src\nCOPY . .\nRUN echo npm ci\nRUN echo npm run build\n");
    for file in [
        "package.json",
        "package-lock.json",
        "src/a.ts",
        "README.md",
        ".git/HEAD",
        "node_modules/x/index.js",
    ] {
        project.write(file, "1");
    }
    let project = project.built();
    project.write("src/a.ts", "2");
    assert_eq!(project.again().len(), 3);
    let why = project.why();
    let advice: Vec<(&str, Vec<&str>)> = why["advice"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let files = one["files"].as_array().unwrap().iter();
            (one["fix"].as_str().unwrap(), files.map(|file| file.as_str().unwrap()).collect())
        })
        .collect();
    assert_eq!(
        advice,
        [
            (
                "add to `.dockerignore`: .git Dockerfile README.md",
                vec![".git", "Dockerfile", "README.md"]
            ),
            ("add to `.dockerignore`: **/node_modules", vec!["node_modules"]),
            (
                "put `COPY package-lock.json package.json ./` before `RUN echo npm ci`, and \
                 `COPY . .` after it",
                vec!["src/a.ts"]
            ),
        ]
    );
}

#[test]
fn what_cannot_be_answered_is_told() {
    let place = Place::new();
    let ran = place.run(&["why", "--format", "json"]);
    assert_eq!(ran.code, Some(2));
    assert_eq!(ran.json()["error"]["code"], "BUILD_UNKNOWN");
    let project = Project::new("RUN echo one\n").built();
    let json = project.place.run(&["why", "nothing like it", "--format", "json"]).json();
    assert_eq!(json["error"]["code"], "STEP_UNKNOWN");
    assert_eq!(project.build(&["--frontend", "daemon"]), Some(0));
    let json = project.place.run(&["why", "--format", "json"]).json();
    assert_eq!(json["error"]["code"], "GRAPH_UNKNOWN");
}

#[test]
fn why_may_be_asked_of_the_build_itself() {
    let project = Project::new("COPY a /\n");
    project.write("a", "1");
    let project = project.built();
    project.write("a", "2");
    let arguments = [
        "--builder",
        bed::buildkitd(),
        "build",
        "--platform",
        "linux/arm64",
        "-o",
        "type=cacheonly",
        "--why",
    ];
    let ran = project.place.run(&[&arguments[..], &["."]].concat());
    assert!(ran.stderr.contains("because 1 file changed:\n    changed a"), "{}", ran.stderr);
    project.write("a", "3");
    let ran = project.place.run(&[&arguments[..], &["-q", "--format", "json", "."]].concat());
    let json = ran.json();
    let causes = json.pointer("/result/why/steps/2/causes").unwrap();
    assert_eq!(*causes, files(&[("a", "changed")]), "{json}");
}
