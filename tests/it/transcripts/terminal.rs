//! What a terminal shows, by an emulator of one.

use super::Scene;
use std::{fmt::Write as _, process::Stdio};

const COLUMNS: u16 = 120;
const ROWS: u16 = 40;

/// What a terminal shows when the scene's command has ended, with what has scrolled away above;
/// and the exit code.
pub fn shown(scene: &Scene) -> (String, i32) {
    let mut line = format!("stty cols {COLUMNS} rows {ROWS}; '{}'", env!("CARGO_BIN_EXE_bk-sync"));
    for argument in &scene.arguments {
        let _cannot_fail = write!(line, " '{argument}'");
    }
    let mut command = scene.command("script");
    command
        .args(["-q", "-e", "-c", &line, "/dev/null"])
        .env("TERM", "xterm-256color")
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::null());
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("`script` of util-linux is missing ({error})"));
    let mut terminal =
        vt100::Parser::new(ROWS.try_into().unwrap(), COLUMNS.try_into().unwrap(), 10_000);
    terminal.process(&output.stdout);
    let text = scene.steady(&whole(&mut terminal));
    (ordered(&text), output.status.code().expect("an exit code"))
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
    let text: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
    text.join("\n").trim_end().to_owned()
}

/// Steps that end side by side end in any order: their lines are sorted.
fn ordered(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    let is_step = |line: &&str| line.starts_with(" => ");
    let ends = (lines.iter().position(is_step), lines.iter().rposition(is_step));
    if let (Some(first), Some(last)) = ends {
        lines[first..=last].sort_unstable();
    }
    lines.join("\n")
}
