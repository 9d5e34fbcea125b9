//! Command lines to plans.

use super::{Request, Surroundings};
use crate::{
    cli::{
        Environment,
        arguments::{Arguments, Command},
    },
    config::Config,
    diagnostic::{Diagnostic, Exit},
    plan::{AgentForward, Context, Network},
};
use clap::Parser;

fn request_in(
    words: &[&str],
    environment: &Environment,
    config: Option<&Config>,
) -> Result<Request, Box<Diagnostic>> {
    let words = ["bk-sync", "build"].iter().chain(words);
    let parsed = Arguments::try_parse_from(words)
        .map_err(|error| Box::new(crate::cli::usage_error(&error)))?;
    let Command::Build(build) = parsed.command else { panic!() };
    let surroundings =
        Surroundings { environment, stdout_is_terminal: false, stdout_is_json: false };
    build.build.request(&parsed.global, config, surroundings)
}

fn request(words: &[&str]) -> Result<Request, Box<Diagnostic>> {
    request_in(words, &Environment::fixed([("SET", "value"), ("BUILDKIT_HOST", "tcp://b:1")]), None)
}

/// The message and the fix of a refusal.
fn refusal(words: &[&str]) -> String {
    let diagnostic = request(words).unwrap_err();
    assert_eq!(diagnostic.exit, Exit::Usage, "{words:?}");
    format!("{}; {}", diagnostic.message, diagnostic.fix.unwrap_or_default())
}

#[test]
fn nothing_said_is_a_build_of_this_directory() {
    let request = request_in(&[], &Environment::fixed::<&str, &str>([]), None).unwrap();
    let nothing =
        crate::plan::BuildPlan { cache_deadline: 300, ..crate::plan::BuildPlan::default() };
    assert_eq!(request.plan, nothing);
    assert_eq!(request.builder.value, None);
}

#[test]
fn every_flag_reaches_the_plan() {
    let words = [
        "-f",
        "Cargo.toml",
        "-t",
        "a:1",
        "--tag=b:2",
        "--tag",
        "a:1",
        "--target",
        "final",
        "--platform",
        "linux/arm64,linux/amd64",
        "--build-arg",
        "A=1",
        "--build-arg",
        "SET",
        "--build-arg",
        "UNSET",
        "--build-context",
        "src=src",
        "--label",
        "l",
        "--label",
        "m=n",
        "--annotation",
        "index:a=b",
        "--secret",
        "id=s,src=Cargo.toml",
        "--secret",
        "id=SET",
        "--ssh",
        "git=Cargo.toml",
        "--push",
        "--no-cache",
        "--no-cache-filter",
        "a,b",
        "--pull=true",
        "--cache-from",
        "x:c",
        "--cache-to",
        "type=inline",
        "--attest",
        "type=sbom",
        "--provenance=false",
        "--allow",
        "security.insecure",
        "--add-host",
        "h:1.2.3.4",
        "--network",
        "host",
        "--shm-size",
        "64m",
        "--ulimit",
        "nofile=1:2",
        "--cgroup-parent",
        "/x",
        "--frontend",
        "daemon",
        "--push-via",
        "client",
        "--iidfile",
        "i",
        "--metadata-file",
        "m",
        "src",
    ];
    let request = request(&words).unwrap();
    assert_eq!(request.builder.origin.to_string(), "$BUILDKIT_HOST");
    insta::assert_json_snapshot!(request.plan, @r#"
    {
      "context": {
        "directory": "src"
      },
      "file": "Cargo.toml",
      "target": "final",
      "platforms": [
        "linux/arm64",
        "linux/amd64"
      ],
      "args": {
        "A": "1",
        "SET": "value"
      },
      "named_contexts": [
        {
          "name": "src",
          "value": "src"
        }
      ],
      "labels": {
        "l": "",
        "m": "n"
      },
      "annotations": [
        "index:a=b"
      ],
      "tags": [
        "a:1",
        "b:2"
      ],
      "secrets": [
        {
          "id": "s",
          "source": {
            "file": "Cargo.toml"
          }
        },
        {
          "id": "SET",
          "source": {
            "env": "SET"
          }
        }
      ],
      "ssh": [
        {
          "id": "git",
          "paths": [
            "Cargo.toml"
          ]
        }
      ],
      "no_cache": true,
      "no_cache_filter": [
        "a",
        "b"
      ],
      "pull": true,
      "push": true,
      "load": false,
      "outputs": [],
      "cache_from": [
        {
          "kind": "registry",
          "attributes": {
            "ref": "x:c"
          }
        }
      ],
      "cache_to": [
        {
          "kind": "inline",
          "attributes": {}
        }
      ],
      "cache_deadline": 300,
      "attestations": {
        "provenance": null,
        "sbom": ""
      },
      "allow": [
        "security.insecure",
        "network.host"
      ],
      "extra_hosts": [
        {
          "host": "h",
          "ip": "1.2.3.4"
        }
      ],
      "network": "host",
      "shm_size": 67108864,
      "ulimits": [
        {
          "name": "nofile",
          "soft": 1,
          "hard": 2
        }
      ],
      "cgroup_parent": "/x",
      "frontend": "daemon",
      "push_via": "client",
      "strict": false,
      "iid_file": "i",
      "metadata_file": "m",
      "metadata": {
        "provenance": "min",
        "warnings": false
      },
      "no_default_attestations": false,
      "source_policy": null,
      "checkout": null,
      "reproducible": null,
      "pinning": "off"
    }
    "#);
}

#[test]
fn switches_take_a_value_after_an_equals_sign_only() {
    assert!(!request(&["--push=false", "src"]).unwrap().plan.push);
    assert!(request(&["--pull", "src"]).unwrap().plan.pull);
    assert_eq!(request(&["--load", "src"]).unwrap().plan.context, Context::Directory("src".into()));
}

#[test]
fn the_host_network_brings_its_entitlement() {
    let plan = request(&["--network", "host"]).unwrap().plan;
    assert_eq!((plan.network, plan.allow), (Network::Host, vec!["network.host".to_owned()]));
}

#[test]
fn a_git_context_over_ssh_gets_the_agent() {
    let environment = Environment::fixed([("SSH_AUTH_SOCK", "/agent")]);
    let plan = request_in(&["git@host:a.git"], &environment, None).unwrap().plan;
    assert_eq!(plan.ssh, [AgentForward { id: "default".to_owned(), paths: Vec::new() }]);
    assert!(request(&["git@host:a.git"]).unwrap().plan.ssh.is_empty());
}

#[test]
fn what_cannot_be_done_is_refused_before_anything_happens() {
    let table: &[(&[&str], &str)] = &[
        (
            &["--push"],
            "there is nothing to push to: the image has no tag; add `--tag REGISTRY/REPOSITORY[:TAG]`, or `[image]` in bk-sync.toml",
        ),
        (
            &["--push", "-t", "a", "-o", "out"],
            "`--push` needs an image, and no output is one; leave `--push` out, or add `--output type=image`",
        ),
        (
            &["--push", "--load", "-t", "a"],
            "`--push` and `--load` are two outputs; name both: `--output type=registry --output type=docker`",
        ),
        (
            &["-", "-f", "-"],
            "the context and the Dockerfile cannot both come from stdin; give one of them as a path",
        ),
        (
            &["nowhere"],
            "the context `nowhere` does not exist; name a directory, `-` for stdin, a git URL or the http(s) URL of an archive",
        ),
        (
            &["Cargo.toml"],
            "the context `Cargo.toml` is not a directory; name a directory, `-` for stdin, a git URL or the http(s) URL of an archive",
        ),
        (
            &["-f", "nowhere"],
            "the Dockerfile `nowhere` does not exist; `--file` is a path from the working directory, not from the context",
        ),
        (
            &["-o", "-", "-o", "type=oci,dest=-"],
            "only one output can go to stdout; give the others `dest=PATH`",
        ),
        (
            &["--secret", "id=a,env=UNSET"],
            "the variable `UNSET` of the secret `a` is not set; set `UNSET`, or name a file: `id=a,src=PATH`",
        ),
        (
            &["--secret", "id=a,src=nowhere"],
            "cannot read `nowhere` of the secret `a`: No such file or directory (os error 2); name a file that can be read, or a variable: `env=NAME`",
        ),
        (
            &["--ssh", "default"],
            "there is no agent for `--ssh default`; start one (`eval \"$(ssh-agent)\"; ssh-add`), or name a socket or a key: `--ssh ID=PATH`",
        ),
        (
            &["--build-context", "a=nowhere"],
            "the directory `nowhere` of the context `a` does not exist; name a directory, a URL, `docker-image://…` or `oci-layout://…`",
        ),
        (
            &["--platform", "linux"],
            "`--platform`: `linux` is no platform; write `OS/ARCH[/VARIANT]`, such as `linux/arm64`",
        ),
        (
            &["--shm-size", "big"],
            "`--shm-size`: `big` is no size; write a number with a unit `b`, `k`, `m`, `g` or `t`, such as `64m`",
        ),
        (
            &["--provenance=max"],
            "`--provenance`: the field `max` is no `key=value` pair; write it like `type=provenance,mode=max`",
        ),
        (
            &["--frontend", "x"],
            "invalid value `x` for `--frontend <WHO>` [possible values: auto, daemon, native]; see `bk-sync --help`",
        ),
        (
            &["--platfrom", "a"],
            "unexpected argument `--platfrom` found; a similar argument exists: `--platform`",
        ),
        (
            &["-q", "--progress", "plain"],
            "the argument `--quiet` cannot be used with `--progress <MODE>`; see `bk-sync --help`",
        ),
        (
            &["--tlscert", "x"],
            "the following required arguments were not provided: --tlskey <FILE>; see `bk-sync --help`",
        ),
    ];
    for (words, expected) in table {
        assert_eq!(refusal(words), *expected, "{words:?}");
    }
}

#[test]
fn an_archive_goes_to_stdout_only_where_nothing_else_does() {
    let environment = Environment::fixed::<&str, &str>([]);
    let with = |stdout_is_terminal, stdout_is_json| {
        let words = ["bk-sync", "build", "-o", "-"];
        let parsed = Arguments::try_parse_from(words).unwrap();
        let Command::Build(build) = parsed.command else { panic!() };
        let surroundings =
            Surroundings { environment: &environment, stdout_is_terminal, stdout_is_json };
        build.build.request(&parsed.global, None, surroundings).map(|request| request.stdout_taken)
    };
    assert_eq!(with(false, false), Ok(true));
    assert!(with(true, false).unwrap_err().message.contains("terminal"));
    assert!(with(false, true).unwrap_err().message.contains("JSON"));
}

#[test]
fn the_config_fills_what_flags_leave_open() {
    let text = "[build]\ncontext = \"src\"\nplatforms = [\"arm64\"]\n[image]\nname = \"r/a\"\n";
    let config = Config::parse("bk-sync.toml".into(), text.to_owned()).unwrap();
    let environment = Environment::fixed::<&str, &str>([]);
    let plan = request_in(&["--push"], &environment, Some(&config)).unwrap().plan;
    assert_eq!(plan.context, Context::Directory("src".into()));
    assert_eq!(
        (plan.platforms, plan.tags),
        (vec!["linux/arm64".to_owned()], vec!["r/a".to_owned()])
    );
    let error = request_in(
        &[],
        &environment,
        Some(
            &Config::parse("bk-sync.toml".into(), "[build]\ncontext = \"gone\"\n".to_owned())
                .unwrap(),
        ),
    )
    .unwrap_err();
    assert_eq!(error.notes, ["it comes from bk-sync.toml:2"]);
}
