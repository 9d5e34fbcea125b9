//! `init`, `plan`, `sync`, `history` and `builder` as a user runs them.

mod builder;
mod doctor;
mod gotchas;
mod image;
mod init;
mod interrupt;
mod plan;
mod preflight;
mod reproduce;
mod seed;
mod whole;

use crate::command::{Said, Stranger, run, unique, write_files};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

/// A checkout in the home of somebody who knows only what is there.
pub struct Project {
    /// Whose home it is in.
    pub stranger: Stranger,
}

impl Project {
    /// A git repository with `files` in one commit.
    pub fn new(files: &[(&str, &str)]) -> Self {
        let project = Self { stranger: Stranger::new() };
        write_files(&project.path(), files);
        project.git(&["init", "-q", "-b", "trunk"]);
        project.commit("first");
        project
    }

    /// Its directory.
    pub fn path(&self) -> PathBuf {
        self.stranger.join("checkout")
    }

    /// Changes a file.
    pub fn write(&self, path: &str, content: &str) {
        write_files(&self.path(), &[(path, content)]);
    }

    /// Commits all there is.
    pub fn commit(&self, message: &str) {
        self.git(&["add", "."]);
        self.git(&["commit", "-qm", message]);
    }

    /// Runs git; what it said.
    pub fn git(&self, arguments: &[&str]) -> String {
        let output = self
            .stranger
            .command("git")
            .current_dir(self.path())
            .args(["-c", "user.name=t", "-c", "user.email=t@example.com"])
            .args(arguments)
            .output()
            .expect("git starts");
        assert!(output.status.success(), "git {arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// `bk-sync` in the checkout.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.stranger.bk_sync();
        command.current_dir(self.path()).args(arguments);
        command
    }

    /// Runs `bk-sync` in the checkout.
    pub fn run(&self, arguments: &[&str]) -> Said {
        run(&mut self.command(arguments))
    }

    /// Runs `bk-sync --format json`, and insists on an exit code; the envelope.
    pub fn json(&self, arguments: &[&str], code: i32) -> Value {
        let said = run(self.command(arguments).args(["--format", "json"]));
        assert_eq!(
            said.code, code,
            "{arguments:?}\nstdout: {}\nstderr: {}",
            said.stdout, said.stderr
        );
        serde_json::from_str(&said.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", said.stdout))
    }

    /// The receipts that were kept, newest first.
    pub fn receipts(&self) -> Vec<Value> {
        let history = self.json(&["history"], 0);
        history["result"]["receipts"].as_array().expect("receipts").clone()
    }
}

/// Every file below `directory` with its content and the time of its last change.
pub fn snapshot(directory: &Path) -> BTreeMap<PathBuf, String> {
    let mut files = BTreeMap::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in std::fs::read_dir(&next).expect("a directory").flatten() {
            let path = entry.path();
            let metadata = entry.metadata().expect("metadata");
            let modified = metadata.modified().expect("a time");
            if metadata.is_dir() {
                files.insert(path.clone(), format!("directory {modified:?}"));
                waiting.push(path);
            } else if metadata.is_file() {
                let content = std::fs::read(&path).expect("content");
                files.insert(path, format!("{modified:?} {content:?}"));
            }
        }
    }
    files
}

/// A repository of its own in the registry `host`.
pub fn repository(host: &str) -> String {
    format!("{host}/{}", unique("sync"))
}
