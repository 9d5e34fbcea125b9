//! The config file from text to settings.

use super::{BuildOverrides, BuildSettings, Config, Origin, Setting};
use crate::diagnostic::{Diagnostic, render};
use std::{fs, path::Path, process::Command};

const FULL: &str = r#"
[build]
builder = "unix:///run/buildkit/buildkitd.sock"
context = "."
file = "packages/system-bus/Dockerfile"
platforms = ["linux/arm64"]
target = ""
args = { NODE_ENV = "production", STAGE = "{env.STAGE}" }
[build.cache]
from = ["type=registry,ref=ghcr.io/o/app:cache"]
to = ["type=registry,ref=ghcr.io/o/app:cache,mode=max"]

[image]
name = "ghcr.io/o/app"
tags = ["v1", "latest"]
dirty = "refuse"

[registry."ghcr.io"]
username = "o"
command = ["secrets", "lease", "ghcr_pat"]
revoke = ["secrets", "revoke", "{lease_id}"]

[rollout]
namespace = "n"
workload = "deployment/app"
container = "app"
timeout = "240s"
on_failure = "rollback"

[[verify.http]]
port = 3111
path = "/"
expect = { status = 200, json = { "status" = "running", "a.b" = false } }

[verify.inngest]
url = "http://inngest.example:8288"
app = "app"
serve = { port = 3111, path = "/api/inngest" }
functions = { from = "worker" }
stale_apps = "report"

[record]
command = ["slog", "write", "--detail", "deployed {image}"]
"#;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse("bk-sync.toml".into(), text.to_owned()).map_err(|error| {
        anstream::adapter::strip_str(&render(&Diagnostic::from(error))).to_string()
    })
}

fn resolve(config: &Config, overrides: BuildOverrides) -> Result<BuildSettings, String> {
    let variable = |name: &str| (name == "STAGE").then(|| "prod".to_owned());
    BuildSettings::resolve(overrides, Some(config), variable).map_err(|error| {
        anstream::adapter::strip_str(&render(&Box::<Diagnostic>::from(error))).to_string()
    })
}

#[test]
fn the_whole_contract_parses() {
    let config = parse(FULL).unwrap();
    let sections = &config.sections;
    assert_eq!(sections.registries.keys().collect::<Vec<_>>(), ["ghcr.io"]);
    assert_eq!(sections.rollout.as_ref().unwrap().timeout.as_ref().unwrap().value.as_secs(), 240);
    assert_eq!(sections.verify.http.first().unwrap().port.value, 3111);
    assert!(sections.verify.inngest.is_some() && sections.record.command.is_some());
}

#[test]
fn values_come_from_the_file_with_their_line() {
    let config = parse(FULL).unwrap();
    let settings = resolve(&config, BuildOverrides::default()).unwrap();
    assert_eq!(settings.platforms.value, ["linux/arm64"]);
    assert_eq!(settings.platforms.origin.to_string(), "bk-sync.toml:6");
    assert_eq!(settings.file.value.as_deref(), Some("packages/system-bus/Dockerfile"));
    assert_eq!(settings.target.value, None);
    assert_eq!(settings.args["STAGE"].value, "prod");
    assert_eq!(settings.args["STAGE"].origin.to_string(), "bk-sync.toml:8");
    assert_eq!(settings.tags.value, ["ghcr.io/o/app:v1", "ghcr.io/o/app:latest"]);
    assert_eq!(settings.cache_to.value.first().unwrap().attributes["mode"], "max");
    assert_eq!(settings.builder.value.as_deref(), Some("unix:///run/buildkit/buildkitd.sock"));
}

#[test]
fn flags_and_environment_win_over_the_file() {
    let config = parse(FULL).unwrap();
    let overrides = BuildOverrides {
        platforms: vec!["linux/amd64".to_owned()],
        args: [("STAGE".to_owned(), "test".to_owned())].into(),
        tags: vec!["other:1".to_owned()],
        builder: Some(Setting {
            value: "tcp://b:1234".to_owned(),
            origin: Origin::Environment("BK_SYNC_BUILDER"),
        }),
        ..BuildOverrides::default()
    };
    let settings = resolve(&config, overrides).unwrap();
    assert_eq!(settings.platforms.value, ["linux/amd64"]);
    assert_eq!(settings.platforms.origin, Origin::Flag("--platform"));
    assert_eq!(settings.args["STAGE"].value, "test");
    assert_eq!(settings.args["NODE_ENV"].value, "production");
    assert_eq!(settings.tags.value, ["other:1"]);
    assert_eq!(settings.builder.origin.to_string(), "$BK_SYNC_BUILDER");
}

#[test]
fn another_context_leaves_the_configured_dockerfile_behind() {
    let config = parse(FULL).unwrap();
    let elsewhere =
        BuildOverrides { context: Some("/tmp".to_owned()), ..BuildOverrides::default() };
    assert_eq!(resolve(&config, elsewhere).unwrap().file.value, None);
    let same = BuildOverrides { context: Some(".".to_owned()), ..BuildOverrides::default() };
    assert!(resolve(&config, same).unwrap().file.value.is_some());
}

#[test]
fn paths_start_at_the_file_and_urls_do_not() {
    let text = "[build]\ncontext = \"app\"\nfile = \"app/Dockerfile\"\n";
    let config = Config::parse("sub/bk-sync.toml".into(), text.to_owned()).unwrap();
    let settings = resolve(&config, BuildOverrides::default()).unwrap();
    assert_eq!(settings.context.value, "sub/app");
    assert_eq!(settings.file.value.as_deref(), Some("sub/app/Dockerfile"));
    let text = "[build]\ncontext = \"https://host/a.git#main\"\n";
    let config = Config::parse("sub/bk-sync.toml".into(), text.to_owned()).unwrap();
    let settings = resolve(&config, BuildOverrides::default()).unwrap();
    assert_eq!(settings.context.value, "https://host/a.git#main");
}

#[test]
fn an_unknown_key_is_pointed_at_with_what_was_meant() {
    insta::assert_snapshot!(parse("[build]\nplatform = [\"linux/arm64\"]\n").unwrap_err(), @r#"
    error: unknown key `platform` in `[build]`
     --> bk-sync.toml:2:1
      |
    1 | [build]
    2 | platform = ["linux/arm64"]
      | ^^^^^^^^
    hint: did you mean `platforms`?
    more: `bk-sync explain CONFIG_INVALID`
    "#);
}

#[test]
fn every_mistake_is_shown_at_once() {
    let text = "[build]\nfile = 3\ntagets = []\n[image]\ntags = [\"{git.tag}\"]\nname = \"a\"\n\
        [registry.\"ghcr.io\"]\nenv = \"T\"\ndocker = true\n[rollout]\nworkload = \"app\"\ntimeout = \"5\"\n\
        [[verify.http]]\npath = \"/\"\n[depoly]\n";
    insta::assert_snapshot!(parse(text).unwrap_err(), @r#"
    error: `bk-sync.toml` has 8 mistakes
     --> bk-sync.toml:2:8
      |
    1 | [build]
    2 | file = 3
      |        ^ `build.file` must be a string
    3 | tagets = []
    4 | [image]
      |
     --> bk-sync.toml:3:1
      |
    1 | [build]
    2 | file = 3
    3 | tagets = []
      | ^^^^^^ unknown key `tagets` in `[build]`: did you mean `target`?
    4 | [image]
    5 | tags = ["{git.tag}"]
      |
     --> bk-sync.toml:5:9
      |
    3 | tagets = []
    4 | [image]
    5 | tags = ["{git.tag}"]
      |         ^^^^^^^^^^^ unknown placeholder `{git.tag}`: the placeholders are `{git.sha}`, `{git.short}`, `{git.branch}` and `{env.NAME}`; write `{{` for a brace
    6 | name = "a"
    7 | [registry."ghcr.io"]
      |
     --> bk-sync.toml:7:11
      |
    5 | tags = ["{git.tag}"]
    6 | name = "a"
    7 | [registry."ghcr.io"]
      |           ^^^^^^^^^ `[registry."ghcr.io"]` names 2 sources of credentials: give exactly one of `command`, `secret_lease`, `env` and `docker = true`
    8 | env = "T"
    9 | docker = true
      |
      --> bk-sync.toml:11:12
       |
     9 | docker = true
    10 | [rollout]
    11 | workload = "app"
       |            ^^^^^ `rollout.workload` cannot be `app`: write `KIND/NAME`, such as `deployment/app`
    12 | timeout = "5"
    13 | [[verify.http]]
       |
      --> bk-sync.toml:12:11
       |
    10 | [rollout]
    11 | workload = "app"
    12 | timeout = "5"
       |           ^^^ `rollout.timeout` cannot be `5`: write a time with its unit, such as `240s` or `4m`
    13 | [[verify.http]]
    14 | path = "/"
       |
      --> bk-sync.toml:13:1
       |
    11 | workload = "app"
    12 | timeout = "5"
    13 | [[verify.http]]
       | ^^^^^^^^^^^^^^^ `[[verify.http]]` has no `port`: add the pod's port: `port = 8080`
    14 | path = "/"
    15 | [depoly]
       |
      --> bk-sync.toml:15:2
       |
    13 | [[verify.http]]
    14 | path = "/"
    15 | [depoly]
       |  ^^^^^^ unknown key `depoly` at the top level: did you mean `deploy`?
    more: `bk-sync explain CONFIG_INVALID`
    "#);
}

#[test]
fn broken_syntax_is_pointed_at() {
    insta::assert_snapshot!(parse("[build]\nfile = \"a\n").unwrap_err(), @r#"
    error: invalid basic string, expected `"`
     --> bk-sync.toml:2:10
      |
    1 | [build]
    2 | file = "a
      |          ^
    more: `bk-sync explain CONFIG_INVALID`
    "#);
}

#[test]
fn a_variable_that_is_not_set_is_pointed_at() {
    let config = parse("[build.args]\nA = \"{env.NOPE}\"\n").unwrap();
    insta::assert_snapshot!(resolve(&config, BuildOverrides::default()).unwrap_err(), @r#"
    error: the variable `NOPE` is not set
     --> bk-sync.toml:2:5
      |
    1 | [build.args]
    2 | A = "{env.NOPE}"
      |     ^^^^^^^^^^^^
    hint: set `NOPE`, or give the value with a flag
    more: `bk-sync explain CONFIG_INVALID`
    "#);
}

#[test]
fn a_value_that_a_flag_would_refuse_is_refused_in_its_place() {
    let config = parse("[build]\nplatforms = [\"linux\"]\n").unwrap();
    insta::assert_snapshot!(resolve(&config, BuildOverrides::default()).unwrap_err(), @r#"
    error: `linux` is no platform
     --> bk-sync.toml:2:14
      |
    1 | [build]
    2 | platforms = ["linux"]
      |              ^^^^^^^
    hint: write `OS/ARCH[/VARIANT]`, such as `linux/arm64`
    more: `bk-sync explain CONFIG_INVALID`
    "#);
}

fn git(directory: &Path, arguments: &[&str]) {
    let identity = [
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@example.com",
        "-c",
        "init.defaultBranch=feature/x",
    ];
    let status = Command::new("git")
        .current_dir(directory)
        .args(identity)
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    assert!(status.status.success(), "{arguments:?}: {status:?}");
}

#[test]
fn git_tags_name_the_commit_and_heed_changes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bk-sync.toml");
    let text = "[image]\nname = \"r/a\"\ntags = [\"{git.sha}\", \"{git.branch}\", \"latest\"]\n";
    fs::write(&path, text).unwrap();
    git(directory.path(), &["init", "-q"]);
    let read = || Config::find(directory.path(), None).unwrap().unwrap();
    let no_commit = resolve(&read(), BuildOverrides::default()).unwrap_err();
    assert!(no_commit.contains("run inside a checkout with a commit"), "{no_commit}");

    git(directory.path(), &["add", "."]);
    git(directory.path(), &["commit", "-qm", "one"]);
    let tags = resolve(&read(), BuildOverrides::default()).unwrap().tags.value;
    let [sha, branch, latest] = tags.as_slice() else { panic!("{tags:?}") };
    assert_eq!((sha.len(), branch.as_str(), latest.as_str()), (44, "r/a:feature-x", "r/a:latest"));

    fs::write(directory.path().join("new"), "").unwrap();
    let refused = resolve(&read(), BuildOverrides::default()).unwrap_err();
    assert!(refused.contains("changes that are not committed"), "{refused}");
    fs::write(&path, format!("{text}dirty = \"suffix\"\n")).unwrap();
    let tags = resolve(&read(), BuildOverrides::default()).unwrap().tags.value;
    assert!(tags[0].ends_with("-dirty") && tags[2] == "r/a:latest", "{tags:?}");
}

#[test]
fn the_file_is_found_upward() {
    let directory = tempfile::tempdir().unwrap();
    let deep = directory.path().join("a/b");
    fs::create_dir_all(&deep).unwrap();
    fs::write(directory.path().join("bk-sync.toml"), "[build]\ntarget = \"t\"\n").unwrap();
    let config = Config::find(&deep, None).unwrap().unwrap();
    assert_eq!(config.path, directory.path().join("bk-sync.toml"));
    assert!(Config::find(&deep, Some(Path::new("/nowhere.toml"))).is_err());
}
