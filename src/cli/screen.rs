//! Which view of the progress suits this process's stderr.

use super::{
    arguments::{GlobalArguments, ProgressChoice},
    environment::Environment,
};
use crate::{
    diagnostic::{Diagnostic, Exit},
    progress::{Look, Mode, Size, Terminal},
};
use anstream::{AutoStream, ColorChoice};
use clap::ValueEnum as _;
use std::io::{self, IsTerminal as _, Write};
use tracing_subscriber::EnvFilter;

/// What a terminal is taken for that does not tell its size.
const USUAL: Size = Size { columns: 80, rows: 24 };
/// A view needs this much to be of use; below it there are lines.
const SMALLEST: Size = Size { columns: 30, rows: 6 };

/// The mode of the progress, and what it is written to.
///
/// # Errors
/// Where a view is asked for that stderr cannot show.
pub(super) fn mode(
    global: &GlobalArguments,
    environment: &Environment,
) -> Result<(Mode, Box<dyn Write + Send>), Box<Diagnostic>> {
    let is_terminal = io::stderr().is_terminal();
    let choice = match global.progress {
        _ if global.quiet => ProgressChoice::Quiet,
        Some(choice) => choice,
        None => of_environment(environment)?,
    };
    let size = size();
    let suits_a_view = is_terminal
        && environment.text("TERM").is_some_and(|term| term != "dumb")
        && size.columns >= SMALLEST.columns
        && size.rows >= SMALLEST.rows
        // Log lines would be drawn over.
        && !logs(global, environment);
    let look = look(environment);
    let tty = || (Mode::Tty(Terminal { size: self::size, look }), raw());
    Ok(match choice {
        ProgressChoice::Auto if suits_a_view => tty(),
        ProgressChoice::Auto | ProgressChoice::Plain => {
            (Mode::Plain, Box::new(anstream::stderr()) as _)
        }
        ProgressChoice::Quiet => (Mode::Quiet, raw()),
        ProgressChoice::Rawjson => (Mode::RawJson, raw()),
        ProgressChoice::Tty if is_terminal => tty(),
        ProgressChoice::Tty => {
            return Err(Diagnostic::new("USAGE", Exit::Usage, "stderr is no terminal")
                .with_fix("use `--progress plain`")
                .into());
        }
    })
}

/// What this terminal can show, by the variables that terminals set.
fn look(environment: &Environment) -> Look {
    let program = environment.text("TERM_PROGRAM").unwrap_or_default();
    let is_one_of = |programs: &[&str]| programs.contains(&program.as_str());
    let is_windows = environment.non_empty("WT_SESSION").is_some();
    // GNOME's terminals and their like make links since that version.
    let vte = environment.text("VTE_VERSION").and_then(|version| version.parse::<u32>().ok());
    Look {
        colours: AutoStream::choice(&io::stderr()) != ColorChoice::Never,
        progress: is_windows || is_one_of(&["ghostty", "iTerm.app", "WezTerm"]),
        links: is_windows
            || is_one_of(&["ghostty", "iTerm.app", "vscode", "WezTerm"])
            || vte.is_some_and(|version| version >= 5000),
    }
}

/// Starts to write logs, where they are asked for.
pub(super) fn log(global: &GlobalArguments, environment: &Environment) {
    if !logs(global, environment) {
        return;
    }
    let filter = match (environment.non_empty("BK_SYNC_LOG"), global.verbose) {
        (Some(filter), _) => filter,
        (None, 1) => "bk_sync=debug".to_owned(),
        (None, _) => "bk_sync=trace,debug".to_owned(),
    };
    let colours = AutoStream::choice(&io::stderr()) != ColorChoice::Never;
    // A process has one subscriber: where a library's user has set one, theirs stays.
    drop(
        tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(filter))
            .with_ansi(colours)
            .with_writer(io::stderr)
            .try_init(),
    );
}

fn logs(global: &GlobalArguments, environment: &Environment) -> bool {
    global.verbose > 0 || environment.non_empty("BK_SYNC_LOG").is_some()
}

fn of_environment(environment: &Environment) -> Result<ProgressChoice, Box<Diagnostic>> {
    let Some(text) = environment.non_empty("BUILDKIT_PROGRESS") else {
        return Ok(ProgressChoice::Auto);
    };
    ProgressChoice::from_str(&text, true).map_err(|_| {
        let message = format!("`BUILDKIT_PROGRESS` cannot be `{text}`");
        Diagnostic::new("USAGE", Exit::Usage, message)
            .with_fix("the modes are `auto`, `tty`, `plain`, `rawjson` and `quiet`")
            .into()
    })
}

fn raw() -> Box<dyn Write + Send> {
    Box::new(io::stderr())
}

fn size() -> Size {
    match rustix::termios::tcgetwinsize(io::stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            Size { columns: size.ws_col, rows: size.ws_row }
        }
        _ => USUAL,
    }
}
