//! What each command shows, for success and for each kind of failure: on a terminal, as lines and as
//! JSON. The transcripts lie in `tests/transcripts/`, one file each; what differs from run to run is
//! put in capitals.

use crate::{bed, cli::Place, schema};
use serde_json::Value;
use std::{
    process::{Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

const COLUMNS: u16 = 160;
const ROWS: u16 = 30;

/// One command line in one place.
struct Scene {
    place: Place,
    canary: String,
    secrets: Vec<(&'static str, String)>,
}

impl Scene {
    fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        Self {
            place: Place::new(),
            canary: format!("c{now}{:0>8}", std::process::id()),
            secrets: Vec::new(),
        }
    }

    /// A Dockerfile on the bed's base image; `CANARY` in it is a text that no other run has.
    fn dockerfile(self, rest: &str) -> Self {
        let text = format!("FROM {}\n{rest}", bed::base_arm64());
        self.place.write("Dockerfile", &text.replace("CANARY", &self.canary));
        self
    }

    fn file(self, path: &str, text: &str) -> Self {
        self.place.write(path, text);
        self
    }

    fn environment(mut self, name: &'static str, value: &str) -> Self {
        self.secrets.push((name, value.to_owned()));
        self
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.place.command(arguments);
        for (name, value) in &self.secrets {
            command.env(name, value);
        }
        command
    }

    /// Runs `arguments` three times, and holds what is shown against the transcript `name`.
    fn transcript(&self, name: &str, arguments: &[&str]) {
        self.fresh("terminal");
        let terminal = self.on_a_terminal(arguments);
        self.fresh("lines");
        let lines = self.place.ran(&self.command(arguments).output().unwrap());
        self.fresh("json");
        let json =
            self.command(&[arguments, &["--format", "json", "--progress", "quiet"]].concat());
        let json = self.json(json);
        let shown = arguments.join(" ");
        let code = lines.code.map_or("none".to_owned(), |code| code.to_string());
        let text = format!(
            "$ bk-sync {shown}\nexit code {code}\n\n--- terminal\n{terminal}\n--- lines: stderr\n{}\n--- lines: stdout\n{}\n--- json\n{json:#}\n",
            self.steady(&grouped(&lines.stderr)),
            self.steady(&lines.stdout),
        );
        let text = self.steady(&text);
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path("../transcripts");
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!(name, text));
    }

    /// Makes the steps of the next run its own.
    fn fresh(&self, mark: &str) {
        let path = self.place.work().join("Dockerfile");
        if let Ok(text) = std::fs::read_to_string(&path) {
            let text: Vec<String> = text
                .lines()
                .map(|line| match line.split_once(&self.canary) {
                    Some((head, _)) => format!("{head}{}{mark}", self.canary),
                    None => line.to_owned(),
                })
                .collect();
            std::fs::write(&path, text.join("\n") + "\n").unwrap();
        }
    }

    fn json(&self, mut command: Command) -> Value {
        let ran = self.place.ran(&command.output().unwrap());
        assert_eq!(ran.stderr, "");
        let json: Value =
            serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
        schema::hold(&json);
        for action in json["next_actions"].as_array().unwrap() {
            self.try_out(action["command"].as_str().unwrap());
        }
        json
    }

    /// Runs a command that was recommended: it has to work as it stands.
    fn try_out(&self, line: &str) {
        let binary = std::path::Path::new(env!("CARGO_BIN_EXE_bk-sync")).parent().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(self.place.work()).env_clear();
        for (name, value) in self.command(&[]).get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        let output = command
            .env("PATH", format!("{}:/usr/bin:/bin", binary.display()))
            .env("BK_SYNC_BUILDER", bed::buildkitd())
            .output()
            .unwrap();
        assert!(output.status.success(), "`{line}` was recommended, and fails: {output:?}");
    }

    /// What a terminal shows when the command has ended, with what has scrolled away above.
    fn on_a_terminal(&self, arguments: &[&str]) -> String {
        let binary = env!("CARGO_BIN_EXE_bk-sync");
        let quoted: Vec<String> =
            [binary].iter().chain(arguments).map(|word| format!("'{word}'")).collect();
        let line = format!("stty cols {COLUMNS} rows {ROWS}; {}", quoted.join(" "));
        let mut command = self.command(&[]);
        let variables: Vec<_> = command
            .get_envs()
            .map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned)))
            .collect();
        command = Command::new("script");
        command
            .args(["-q", "-e", "-c", &line, "/dev/null"])
            .current_dir(self.place.work())
            .env_clear();
        for (name, value) in variables {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        command.env("TERM", "xterm-256color").env("SHELL", "/bin/sh").stdin(Stdio::null());
        let output = command
            .output()
            .unwrap_or_else(|error| panic!("`script` of util-linux is missing ({error})"));
        let mut terminal =
            vt100::Parser::new(ROWS.try_into().unwrap(), COLUMNS.try_into().unwrap(), 10_000);
        terminal.process(&output.stdout);
        let screen = whole(&mut terminal);
        // Steps that end side by side end in any order.
        let mut lines: Vec<&str> = screen.lines().map(str::trim_end).collect();
        let is_step = |line: &&str| line.starts_with(" => ");
        if let (Some(first), Some(last)) =
            (lines.iter().position(&is_step), lines.iter().rposition(is_step))
        {
            lines[first..=last].sort_unstable();
        }
        self.steady(
            &self
                .place
                .ran(&std::process::Output {
                    status: output.status,
                    stdout: (lines.join("\n") + "\n").into_bytes(),
                    stderr: Vec::new(),
                })
                .stdout,
        )
    }

    /// The text, without what differs from run to run.
    fn steady(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for mark in ["terminal", "lines", "json"] {
            text = text.replace(&format!("{}{mark}", self.canary), "CANARY");
        }
        text = text.replace(&self.canary, "CANARY");
        for (real, name) in [
            (bed::base_arm64(), "BASE"),
            (bed::buildkitd(), "BUILDER"),
            (bed::registry_token(), "REGISTRY"),
            (bed::registry(), "OPEN-REGISTRY"),
        ] {
            text = text.replace(real, name);
        }
        for (pattern, name) in [
            (r"sha256:[0-9a-f]{64}", "DIGEST"),
            (r"sha256:[0-9a-f]{12}", "DIGEST"),
            (r"[0-9]+\.[0-9]+s\b", "TIMEs"),
            (r"\b[0-9]+\.[0-9]{3} ", "TIME "),
            (r"[0-9.]+(B|kB|MB)\b", "SIZE"),
            (
                r#""(connect|compile|context|solve|export|push|total|milliseconds|at|bytes_sent|size)": [0-9]+"#,
                r#""$1": NUMBER"#,
            ),
            // Times stand at the right edge, so their widths move the gap.
            (r" {2,}TIMEs", "  TIMEs"),
            (r" TIMEs done", " done"),
            (r"(?m)^  time    .*$", "  time    SLOWEST"),
            (r"[0-9]+ steps, [0-9]+ cached, [0-9]+ ran", "COUNT steps, COUNT cached, COUNT ran"),
            (r#""(cached|vertices|files)": [0-9]+"#, r#""$1": COUNT"#),
            // Whether a base image is there already depends on who came before.
            (r" => (CACHED )?(\[1/[0-9]\] FROM BASE@DIGEST).*", " => $2"),
            (
                r"(#N \[1/[0-9]\] FROM BASE@DIGEST)\n(#N resolve .*\n)?#N (CACHED|DONE TIMEs)",
                "$1\n#N ENDED",
            ),
        ] {
            text = regex::Regex::new(pattern).unwrap().replace_all(&text, name).into_owned();
        }
        text
    }
}

/// Everything that a terminal has shown and not taken back.
fn whole(terminal: &mut vt100::Parser) -> String {
    let mut lines = Vec::new();
    terminal.screen_mut().set_scrollback(usize::MAX);
    let mut above = terminal.screen().scrollback();
    while above > 0 {
        terminal.screen_mut().set_scrollback(above);
        lines.extend(terminal.screen().rows(0, COLUMNS).take(above.min(usize::from(ROWS))));
        above = above.saturating_sub(usize::from(ROWS));
    }
    terminal.screen_mut().set_scrollback(0);
    lines.extend(terminal.screen().rows(0, COLUMNS));
    let text = lines.join("\n");
    text.trim_end().to_owned()
}

/// The lines of each step together, in the order of the steps' names: steps that run side by side
/// write in any order.
fn grouped(text: &str) -> String {
    let mut steps: Vec<(String, Vec<String>)> = Vec::new();
    let mut rest = Vec::new();
    for line in text.lines() {
        let numbered = line.strip_prefix('#').and_then(|line| line.split_once(' '));
        let Some((number, line)) = numbered.filter(|(number, _)| number.parse::<u32>().is_ok())
        else {
            if !line.is_empty() {
                rest.push(line.to_owned());
            }
            continue;
        };
        match steps.iter_mut().find(|(other, _)| other == number) {
            Some((_, lines)) => lines.push(line.to_owned()),
            None => steps.push((number.to_owned(), vec![line.to_owned()])),
        }
    }
    let mut steps: Vec<Vec<String>> = steps.into_iter().map(|(_, lines)| lines).collect();
    steps.sort();
    let steps: Vec<String> =
        steps.iter().map(|lines| format!("#N {}", lines.join("\n#N "))).collect();
    [steps, rest].concat().join("\n")
}

fn build<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    let head = ["build", "--builder", bed::buildkitd(), "--platform", "linux/arm64"];
    head.iter().chain(arguments).copied().collect()
}

#[test]
fn build_done() {
    let scene = Scene::new().dockerfile("RUN echo CANARY\nCOPY a /a\n").file("a", "1");
    scene.transcript("build_done", &build(&["-o", "type=cacheonly", "."]));
}

#[test]
fn build_pushed() {
    let scene = Scene::new().dockerfile("RUN echo CANARY\n");
    let tag = format!("{}/transcripts/{}:1", bed::registry(), scene.canary);
    scene.transcript("build_pushed", &build(&["-t", &tag, "--push", "."]));
}

#[test]
fn build_step_failed() {
    let scene = Scene::new().dockerfile("RUN echo CANARY >&2; exit 7\n");
    scene.transcript("build_step_failed", &build(&["-o", "type=cacheonly", "."]));
}

#[test]
fn build_file_missing() {
    let scene = Scene::new().dockerfile("COPY nowhere /\n");
    scene.transcript("build_file_missing", &build(&["-o", "type=cacheonly", "."]));
}

#[test]
fn build_base_image_missing() {
    let scene = Scene::new();
    let text = format!("FROM {}/transcripts/nowhere:1\nRUN true\n", bed::registry());
    let scene = scene.file("Dockerfile", &text);
    scene.transcript("build_base_image_missing", &build(&["-o", "type=cacheonly", "."]));
}

#[test]
fn build_secret_missing() {
    let scene = Scene::new().dockerfile(
        "RUN --mount=type=secret,id=token,required=true cat /run/secrets/token CANARY\n",
    );
    scene.transcript("build_secret_missing", &build(&["-o", "type=cacheonly", "."]));
}

#[test]
fn build_dockerfile_wrong() {
    let scene = Scene::new().dockerfile("RUNN true\n");
    scene.transcript("build_dockerfile_wrong", &build(&["-o", "type=cacheonly", "."]));
}

#[test]
fn build_target_unknown() {
    let scene = Scene::new().dockerfile("RUN true\n");
    scene.transcript(
        "build_target_unknown",
        &build(&["--target", "nowhere", "-o", "type=cacheonly", "."]),
    );
}

#[test]
fn build_push_denied() {
    let (user, _) = bed::user();
    let scene = Scene::new()
        .dockerfile("RUN echo CANARY\n")
        .environment("BK_SYNC_REGISTRY_USERNAME", user)
        .environment("BK_SYNC_REGISTRY_PASSWORD", "not the password");
    let tag = format!("{}/transcripts/denied:1", bed::registry_token());
    scene.transcript("build_push_denied", &build(&["-t", &tag, "--push", "."]));
}

#[test]
fn build_no_builder() {
    let scene = Scene::new().dockerfile("RUN true\n");
    scene.transcript("build_no_builder", &["build", "--builder", "unix:///nowhere.sock", "."]);
}

#[test]
fn build_argument_wrong() {
    Scene::new().transcript("build_argument_wrong", &["build", "--tagg", "a:1", "."]);
}

#[test]
fn build_config_wrong() {
    let scene = Scene::new().file("bk-sync.toml", "[build]\nplatfroms = [\"linux/arm64\"]\n");
    scene.transcript("build_config_wrong", &["build"]);
}

#[test]
fn build_checkout_dirty() {
    let config = "[image]\nname = \"r/a\"\ntags = [\"{git.sha}\"]\n";
    let scene = Scene::new().file("bk-sync.toml", config);
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@example.com"])
            .args(arguments)
            .current_dir(scene.place.work())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    git(&["init", "-q"]);
    git(&["add", "."]);
    git(&["commit", "-qm", "one"]);
    scene.place.write("Dockerfile", "FROM scratch\n");
    scene.transcript("build_checkout_dirty", &["build", "--push"]);
}

#[test]
fn check_done_and_with_errors() {
    let scene = Scene::new().dockerfile("CMD echo hi\n");
    let check = ["check", "--builder", bed::buildkitd(), "--platform", "linux/arm64", "."];
    scene.transcript("check_done", &check);
    scene.transcript("check_errors", &[&check[..], &["--error"]].concat());
}

#[test]
fn why_done_and_unknown() {
    let scene = Scene::new().dockerfile("COPY a /a\nRUN echo CANARY\n").file("a", "1");
    scene.transcript("why_unknown", &["why"]);
    let arguments = build(&["-q", "-o", "type=cacheonly", "."]);
    assert!(scene.command(&arguments).output().unwrap().status.success());
    scene.place.write("a", "2");
    assert!(scene.command(&arguments).output().unwrap().status.success());
    let shown = scene.place.ran(&scene.command(&["why"]).output().unwrap()).stdout;
    assert!(shown.contains("because 1 file changed"), "{shown}");
}

#[test]
fn explain_done_and_unknown() {
    Scene::new().transcript("explain_done", &["explain", "PUSH_DENIED"]);
    Scene::new().transcript("explain_unknown", &["explain", "PUSH_DENYED"]);
}
