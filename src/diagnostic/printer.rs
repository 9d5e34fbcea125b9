//! What is written at the end of a command: its result to stdout, its failure to stderr.

use super::{Diagnostic, NextAction, failure, render, success};
use serde_json::Value;
use std::io::{self, Write};

/// How the result is written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Format {
    /// Lines for people and shell variables.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// Writes the end of a command. A reader that has closed stdout or stderr has seen enough: that is
/// no failure.
#[derive(Clone, Copy, Debug)]
pub struct Printer {
    format: Format,
}

impl Printer {
    /// A printer of one format.
    pub fn new(format: Format) -> Self {
        Self { format }
    }

    /// Which format it prints.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Writes a result: `line` as text (nothing where it is empty), or `result` in its envelope.
    ///
    /// # Errors
    /// Where stdout is there and cannot be written, such as a full disk.
    pub fn success(
        &self,
        command: &str,
        line: &str,
        result: &Value,
        warnings: &[Value],
        next_actions: &[NextAction],
    ) -> io::Result<()> {
        match self.format {
            Format::Text if line.is_empty() => Ok(()),
            Format::Text => to_stdout(line),
            Format::Json => {
                to_stdout(&success(command, result, warnings, next_actions).to_string())
            }
        }
    }

    /// Writes lines for people beside the result, to stderr; nothing as JSON.
    pub fn aside(&self, text: &str) {
        if self.format == Format::Text && !text.is_empty() {
            // Where stderr is gone, the result still tells.
            drop(writeln!(anstream::stderr(), "{text}"));
        }
    }

    /// Writes a failure: as text to stderr, or as JSON to stdout.
    ///
    /// # Errors
    /// Where stdout is there and cannot be written.
    pub fn failure(&self, command: Option<&str>, diagnostic: &Diagnostic) -> io::Result<()> {
        match self.format {
            Format::Text => {
                // Where stderr is gone, the exit code still tells.
                drop(anstream::stderr().write_all(render(diagnostic).as_bytes()));
                Ok(())
            }
            Format::Json => to_stdout(&failure(command, diagnostic).to_string()),
        }
    }

    /// Writes text that was asked for, such as help or a completion script, to stdout.
    ///
    /// # Errors
    /// Where stdout is there and cannot be written.
    pub fn text(text: &str) -> io::Result<()> {
        let mut stdout = anstream::stdout();
        accept_closed(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
    }
}

impl Printer {
    /// Writes bytes that were asked for, such as a marshalled graph, to stdout.
    ///
    /// # Errors
    /// Where stdout is there and cannot be written.
    pub fn bytes(bytes: &[u8]) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        accept_closed(stdout.write_all(bytes).and_then(|()| stdout.flush()))
    }
}

fn to_stdout(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    accept_closed(writeln!(stdout, "{line}").and_then(|()| stdout.flush()))
}

fn accept_closed(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
