//! `completion`, and the hidden `__complete` that its scripts call.

mod cluster;
mod engine;
mod scripts;
mod values;

use super::{arguments::Arguments, environment::Environment};
use crate::diagnostic::{Diagnostic, Exit, Format, Printer};
use clap::{Args, CommandFactory as _, ValueEnum};
use engine::Answer;
use serde_json::json;
use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

const EXAMPLES: &str = "Examples:
  bk-sync completion bash > /etc/bash_completion.d/bk-sync
  bk-sync completion zsh > \"${fpath[1]}/_bk-sync\"
  bk-sync completion fish > ~/.config/fish/completions/bk-sync.fish
  bk-sync completion man --out /usr/local/share/man/man1";

/// Print a completion script, or write the man pages
///
/// Scripts for bash, zsh and fish ask the program itself, so they know the stages of the Dockerfile,
/// the contexts, namespaces and workloads of the cluster, the steps of the last build, and the images
/// of the history.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct CompletionArguments {
    /// The shell, or `man`
    #[arg(value_name = "SHELL")]
    shell: Shell,
    /// Write into DIR instead of to stdout, under the usual name
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// What is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Shell {
    Bash,
    Elvish,
    Fish,
    /// The man pages, one for each command
    Man,
    Powershell,
    Zsh,
}

/// What a script asks.
#[derive(Args, Debug)]
#[command(hide = true)]
pub(super) struct CompleteArguments {
    /// The words after the program's name, up to the cursor
    #[arg(last = true)]
    words: Vec<OsString>,
}

impl CompletionArguments {
    /// Writes the script or the pages.
    ///
    /// # Errors
    /// They cannot be written.
    pub(super) fn run(&self, printer: Printer) -> Result<Exit, Box<Diagnostic>> {
        let files = self.files();
        if let Some(directory) = &self.out {
            let written = write(directory, &files)?;
            let result = json!({ "files": written });
            printer.success("completion", &written.join("\n"), &result, &[], &[])
        } else if self.shell == Shell::Man {
            return Err(Diagnostic::new(
                "USAGE",
                Exit::Usage,
                "there is a man page for each command",
            )
            .with_fix("add `--out DIR`, such as `--out /usr/local/share/man/man1`")
            .into());
        } else {
            let text: String = files.iter().map(|(_, text)| text.as_str()).collect();
            match printer.format() {
                Format::Text => Printer::text(&text),
                Format::Json => {
                    printer.success("completion", "", &json!({ "script": text }), &[], &[])
                }
            }
        }
        .map_err(|error| Diagnostic::new("STDOUT_FAILED", Exit::Internal, error.to_string()))?;
        Ok(Exit::Done)
    }

    /// The names and texts of what is written.
    fn files(&self) -> Vec<(String, String)> {
        let named = |name: &str, text: &str| vec![(name.to_owned(), text.to_owned())];
        match self.shell {
            Shell::Bash => named("bk-sync", scripts::BASH),
            Shell::Fish => named("bk-sync.fish", scripts::FISH),
            Shell::Zsh => named("_bk-sync", scripts::ZSH),
            Shell::Elvish => generated("bk-sync.elv", clap_complete::Shell::Elvish),
            Shell::Powershell => generated("_bk-sync.ps1", clap_complete::Shell::PowerShell),
            Shell::Man => pages(),
        }
    }
}

/// A script for a shell that asks nothing while it completes.
fn generated(name: &str, shell: clap_complete::Shell) -> Vec<(String, String)> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "bk-sync", &mut script);
    vec![(name.to_owned(), String::from_utf8_lossy(&script).into_owned())]
}

/// The man pages: one for the program, and one for each command.
fn pages() -> Vec<(String, String)> {
    let mut program = Arguments::command();
    program.build();
    let mut all = vec![("bk-sync.1".to_owned(), program.clone())];
    for command in program.get_subcommands().filter(|command| !command.is_hide_set()) {
        if command.get_name() != "help" {
            let name = format!("bk-sync-{}", command.get_name());
            // The page's name is the command's, as `git-log` is.
            all.push((format!("{name}.1"), command.clone().display_name(name)));
        }
    }
    let mut pages = Vec::new();
    for (name, command) in all {
        let mut page = Vec::new();
        let rendered = clap_mangen::Man::new(command).render(&mut page);
        // Writing to memory does not fail.
        if rendered.is_ok() {
            pages.push((name, String::from_utf8_lossy(&page).into_owned()));
        }
    }
    pages
}

fn write(directory: &Path, files: &[(String, String)]) -> Result<Vec<String>, Box<Diagnostic>> {
    let cannot = |path: &Path, error: &io::Error| {
        let message = format!("cannot write `{}`: {error}", path.display());
        Box::new(Diagnostic::new("FILE_FAILED", Exit::Usage, message))
    };
    fs::create_dir_all(directory).map_err(|error| cannot(directory, &error))?;
    let mut written = Vec::new();
    for (name, text) in files {
        let path = directory.join(name);
        fs::write(&path, text).map_err(|error| cannot(&path, &error))?;
        written.push(path.display().to_string());
    }
    Ok(written)
}

impl CompleteArguments {
    /// Writes what could stand at the cursor: a line `VALUE TAB DESCRIPTION` each, and `:files` or
    /// `:directories` where the shell is to offer those.
    ///
    /// # Errors
    /// stdout cannot be written.
    pub(super) fn run(&self, environment: &Environment) -> Result<Exit, Box<Diagnostic>> {
        let words: Vec<String> =
            self.words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let mut program = Arguments::command();
        program.build();
        let answer = engine::complete(&program, &words, |asked| values::of(asked, environment));
        let text = match answer {
            Answer::Values(values) => {
                let lines = values.iter().map(|(value, help)| format!("{value}\t{help}"));
                lines.fold(String::new(), |text, line| text + &line + "\n")
            }
            Answer::Files => ":files\n".to_owned(),
            Answer::Directories => ":directories\n".to_owned(),
        };
        Printer::text(&text)
            .map_err(|error| Diagnostic::new("STDOUT_FAILED", Exit::Internal, error.to_string()))?;
        Ok(Exit::Done)
    }
}
