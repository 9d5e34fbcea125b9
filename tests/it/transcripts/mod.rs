//! What each command shows, for success and for each kind of failure: on a terminal, as lines and
//! as JSON. The transcripts lie in `tests/transcripts/`, one file each.
//!
//! Each way is a run of its own in a scene of its own, so that all three start from the same; what
//! differs from run to run is put in capitals ([`steady`]).

mod alone;
mod builds;
mod deploys;
mod rollouts;
mod steady;
mod terminal;

use crate::{bed, command, command::Stranger, schema};
use serde_json::Value;
use std::{
    any::Any,
    path::{Path, PathBuf},
    process::Command,
};

/// One command line, in the place where it is run.
pub struct Scene {
    stranger: Stranger,
    directory: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    names: Vec<(String, &'static str)>,
    kept: Vec<Box<dyn Any>>,
}

/// A text that no other run has, always of the same length.
pub fn canary() -> String {
    let unique = command::unique("c").replace('-', "");
    format!("{unique:0<24}")
}

impl Scene {
    /// `bk-sync` with these arguments, in an empty directory.
    pub fn new(arguments: &[&str]) -> Self {
        let stranger = Stranger::new();
        let directory = stranger.join("work");
        std::fs::create_dir_all(&directory).expect("a directory");
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let (environment, names, kept) = (Vec::new(), Vec::new(), Vec::new());
        Self { stranger, directory, arguments, environment, names, kept }
    }

    /// With a file in the directory.
    pub fn file(self, path: &str, text: &str) -> Self {
        command::write_files(&self.directory, &[(path, text)]);
        self
    }

    /// With a variable.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a text that is shown as `name`.
    pub fn named(mut self, text: &str, name: &'static str) -> Self {
        self.names.push((text.to_owned(), name));
        self
    }

    /// With something that lives as long as the scene.
    pub fn keeping(mut self, part: impl Any) -> Self {
        self.kept.push(Box::new(part));
        self
    }

    /// After another command has run well in the same place.
    pub fn after(self, arguments: &[&str]) -> Self {
        command::succeed(self.command(env!("CARGO_BIN_EXE_bk-sync")).args(arguments));
        self
    }

    /// The same place, and another command line.
    pub fn then(mut self, arguments: &[&str]) -> Self {
        self.arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        self
    }

    /// After another program has run well in the same place.
    pub fn prepared(self, program: &str, arguments: &[&str]) -> Self {
        command::succeed(self.command(program).args(arguments));
        self
    }

    fn command(&self, program: &str) -> Command {
        let mut command = self.stranger.command(program);
        command.current_dir(&self.directory);
        for (name, value) in &self.environment {
            command.env(name, value);
        }
        command
    }

    fn steady(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (real, name) in &self.names {
            text = text.replace(real, name);
        }
        let home = self.stranger.path().display().to_string();
        steady::steady(&text.replace(&home, "HOME"))
    }

    /// Runs a command that was recommended: it has to work as it stands.
    fn try_out(&self, line: &str) {
        let binary = Path::new(env!("CARGO_BIN_EXE_bk-sync")).parent().expect("its directory");
        let mut command = self.command("sh");
        command.args(["-c", line]).env("PATH", format!("{}:/usr/bin:/bin", binary.display()));
        if line == "bk-sync build" {
            command.env("BK_SYNC_BUILDER", bed::buildkitd());
        }
        let said = command::run(&mut command);
        assert_eq!(said.code, 0, "`{line}` was recommended, and fails: {}", said.stderr);
    }
}

/// Runs the scene three times, each in a place of its own and all at once, and holds what is shown
/// against the transcript `name`.
pub fn transcript(name: &str, scene: impl Fn() -> Scene + Sync) {
    let (on_terminal, in_lines, in_json) = std::thread::scope(|scope| {
        let terminal = scope.spawn(|| terminal::shown(&scene()));
        let lines = scope.spawn(|| lines(&scene()));
        let json = scope.spawn(|| json(&scene()));
        (joined(terminal), joined(lines), joined(json))
    });
    let (terminal, on_terminal) = on_terminal;
    let (shown, lines, in_lines) = in_lines;
    let (json, in_json) = in_json;
    assert_eq!(in_lines, on_terminal, "a terminal changes no exit code: {terminal}\n{lines}");
    assert_eq!(in_lines, in_json, "JSON changes no exit code: {lines}\n{json}");

    let text = format!(
        "$ bk-sync {shown}\nexit code {in_lines}\n\n--- on a terminal ---\n{terminal}\n\n{lines}\n\n\
         --- --format json ---\n{json}\n"
    );
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../../transcripts");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The command, and what it writes where nobody looks: lines.
fn lines(scene: &Scene) -> (String, String, i32) {
    let said = command::run(scene.command(env!("CARGO_BIN_EXE_bk-sync")).args(&scene.arguments));
    let text = format!(
        "--- stderr as lines ---\n{}\n\n--- stdout ---\n{}",
        scene.steady(&steady::grouped(&said.stderr)).trim_end(),
        scene.steady(&said.stdout).trim_end()
    );
    (scene.steady(&scene.arguments.join(" ")), text, said.code)
}

/// What it writes for a program, after the commands that it recommends have been tried.
fn json(scene: &Scene) -> (String, i32) {
    let mut command = scene.command(env!("CARGO_BIN_EXE_bk-sync"));
    command.args(&scene.arguments).args(["--format", "json", "--progress", "quiet"]);
    let said = command::run(&mut command);
    assert_eq!(said.stderr, "");
    let json: Value = serde_json::from_str(&said.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", said.stdout));
    schema::hold(&json);
    for action in json["next_actions"].as_array().expect("actions") {
        let line = action["command"].as_str().expect("a command");
        // Going on is for when what failed is mended.
        if !line.contains("--resume") {
            scene.try_out(line);
        }
    }
    (scene.steady(&format!("{json:#}")), said.code)
}
