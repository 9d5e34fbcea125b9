//! Completion in the real shells, the man pages, and help that fits a screen.

use crate::{bed, cli::Place};
use std::{fs, path::Path, process::Command};

const DOCKERFILE: &str =
    "FROM alpine AS build\nRUN true\nFROM build AS test\nFROM scratch AS final\n";

/// What a shell of the test bed (or the machine's bash) makes of `script`, which follows the program's own completion script.
fn shell(place: &Place, program: &str, name: &str, script: &str) -> String {
    let completion = place.run(&["completion", name]);
    assert_eq!(completion.code, Some(0), "{completion:?}");
    let file = place.work().join(format!("completion.{name}"));
    fs::write(&file, completion.stdout).unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_bk-sync")).parent().unwrap();
    let program = if program == "bash" { program.to_owned() } else { bed::program(program) };
    let output = Command::new(&program)
        .args(["-c", &script.replace("SCRIPT", file.to_str().unwrap())])
        .current_dir(place.work())
        .env_clear()
        .env("HOME", place.work())
        .env("TERM", "dumb")
        .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", binary.display()))
        .output()
        .unwrap_or_else(|error| panic!("`{program}` is missing ({error}): run `make services`"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.trim().is_empty(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn place() -> Place {
    let place = Place::new();
    place.write("Dockerfile", DOCKERFILE);
    place.write("other.Dockerfile", "FROM alpine AS other\n");
    place
}

fn bash(words: &str) -> Vec<String> {
    let script = format!(
        "source SCRIPT; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}}-1)); _bk_sync; \
         if ((${{#COMPREPLY[@]}})); then printf '%s\\n' \"${{COMPREPLY[@]}}\"; fi"
    );
    shell(&place(), "bash", "bash", &script).lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_flags_stages_and_files() {
    assert_eq!(bash("bk-sync bui"), ["build", "builder"]);
    assert_eq!(bash("bk-sync build --metad"), ["--metadata-file"]);
    assert_eq!(bash("bk-sync build --target ''"), ["build", "test", "final"]);
    assert_eq!(bash("bk-sync build -f other.Dockerfile --target ''"), ["other"]);
    // Bash cuts words at `=` and `:`, and puts the answer behind the last cut.
    assert_eq!(bash("bk-sync build --target = t"), ["test"]);
    assert_eq!(bash("bk-sync --builder docker-c"), ["docker-container://"]);
    assert_eq!(bash("bk-sync build -f oth"), ["other.Dockerfile"]);
    assert_eq!(bash("bk-sync explain PUSH_DE"), ["PUSH_DENIED"]);
    assert_eq!(bash("bk-sync nonsense ''"), Vec::<String>::new());
}

#[test]
fn contexts_come_from_the_kubeconfig() {
    let place = place();
    place.write("config", "apiVersion: v1\nkind: Config\ncontexts:\n- name: blue\n  context: {cluster: one, user: me}\n- name: green\n  context: {cluster: two, user: me}\n");
    let ran =
        place.run(&["__complete", "--", "rollout", "--kubeconfig", "config", "--context", ""]);
    assert_eq!(ran.stdout, "blue\tcluster one\ngreen\tcluster two\n");
    let ran = place.run(&["__complete", "--", "rollout", "--tolerate", "CRASH"]);
    assert_eq!(ran.stdout, "CRASH_LOOP\t\n");
}

#[test]
fn deploys_of_the_history_are_offered_by_id_image_and_tag() {
    let place = place();
    let receipt = |id: &str, outcome: &str, digest: &str| {
        let receipt = serde_json::json!({
            "version": 1, "id": id, "tool": "bk-sync 0", "project": "shop/deployment/web",
            "reason": "a reason", "outcome": outcome, "started": "", "checks": [], "hooks": [],
            "stages": {},
            "image": {
                "reference": format!("r.example/a@{digest}"), "digest": digest, "manifests": [],
                "tags": ["r.example/a:1", "r.example/a:latest"],
            },
        });
        let file = format!("../home/.local/state/bk-sync/receipts/shop/{id}.json");
        place.write(&file, &receipt.to_string());
    };
    receipt("20260101T000000Z-aaaaaa", "failed", "sha256:1");
    receipt("20260102T000000Z-bbbbbb", "done", "sha256:2");
    let asked = |words: &[&str]| place.run(&[&["__complete", "--"], words].concat()).stdout;
    assert_eq!(
        asked(&["history", ""]),
        "20260102T000000Z-bbbbbb\tdone shop/deployment/web\n\
         20260101T000000Z-aaaaaa\tfailed shop/deployment/web\n"
    );
    assert_eq!(
        asked(&["reproduce", "r.example/a@"]),
        "r.example/a@sha256:2\ta reason\nr.example/a@sha256:1\ta reason\n"
    );
    assert_eq!(
        asked(&["reproduce", "20260102"]),
        "20260102T000000Z-bbbbbb\tdone shop/deployment/web\n"
    );
    assert_eq!(
        asked(&["rollout", "--image", "r.example/a@"]),
        "r.example/a@sha256:2\ta reason\nr.example/a@sha256:1\ta reason\n"
    );
    assert_eq!(
        asked(&["build", "--tag", "r.example/a:l"]),
        "r.example/a:latest\tshop/deployment/web\n"
    );
}

#[test]
fn zsh_completes_with_descriptions() {
    let stubs = "compdef() { }; _files() { print -r -- files \"$@\" }; \
                 _describe() { print -rl -- \"${(@P)argv[-1]}\" }";
    let complete = |words: &str| {
        let script = format!("{stubs}; source SCRIPT; words=({words}); CURRENT=$#words; _bk_sync");
        shell(&place(), "zsh", "zsh", &script)
    };
    assert_eq!(
        complete("bk-sync build --target ''"),
        "build:FROM alpine\ntest:FROM build\nfinal:FROM scratch\n"
    );
    assert_eq!(complete("bk-sync --builder uni"), "unix\\://:buildkitd on a socket\n");
    assert_eq!(complete("bk-sync -C ''"), "files -/\n");
    assert_eq!(complete("bk-sync build -f ''"), "files\n");
}

#[test]
fn fish_completes_with_descriptions() {
    let complete = |line: &str| {
        shell(&place(), "fish", "fish", &format!("source SCRIPT; complete -C '{line}'"))
    };
    assert_eq!(
        complete("bk-sync build --target "),
        "build\tFROM alpine\nfinal\tFROM scratch\ntest\tFROM build\n"
    );
    assert_eq!(complete("bk-sync expl"), "explain\tExplain the code of an error or a warning\n");
    assert!(complete("bk-sync build -f oth").starts_with("other.Dockerfile"));
}

#[test]
fn every_command_has_a_man_page_with_its_examples() {
    let place = Place::new();
    let ran = place.run(&["completion", "man", "--out", "man"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let help = place.run(&["--help"]).stdout;
    let commands = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    for command in commands.lines().filter_map(|line| line.split_whitespace().next()) {
        if command == "help" {
            continue;
        }
        let page = fs::read_to_string(place.work().join(format!("man/bk-sync-{command}.1")))
            .unwrap_or_else(|error| panic!("{command} has no page: {error}"));
        assert!(
            page.contains(&format!("bk\\-sync\\-{command}"))
                || page.contains(&format!("bk-sync-{command}")),
            "{page}"
        );
        assert!(page.contains("Examples:"), "{command}");
    }
    let json = place.run(&["completion", "man", "--format", "json"]).json();
    assert_eq!(json["error"]["code"], "USAGE");
}

#[test]
fn scripts_that_ask_nothing_are_generated_for_other_shells() {
    for shell in ["elvish", "powershell"] {
        let json = Place::new().run(&["completion", shell, "--format", "json"]).json();
        assert!(json["result"]["script"].as_str().unwrap().contains("bk-sync"));
    }
}

#[test]
fn help_fits_a_screen_and_has_examples() {
    let place = Place::new();
    let help = place.run(&["--help"]).stdout;
    let commands = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let commands = commands.lines().filter_map(|line| line.split_whitespace().next());
    for command in commands.filter(|command| *command != "help").chain([""]) {
        let arguments: Vec<&str> =
            [command, "-h"].into_iter().filter(|word| !word.is_empty()).collect();
        let ran = place.run(&arguments);
        assert_eq!(ran.code, Some(0), "{command}");
        let lines = ran.stdout.lines().count();
        // These take the flags of a build and more; all others fit a usual screen.
        let is_long = ["build", "check", "doctor", "llb", "lock", "plan", "rollout", "sync"]
            .contains(&command);
        let most = if is_long { 88 } else { 50 };
        assert!(lines <= most, "`{command} -h` has {lines} lines:\n{}", ran.stdout);
        assert!(ran.stdout.contains("Examples:"), "{command}");
        let widest = ran.stdout.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= 100, "{command}: {widest}");
    }
}
