//! What a terminal shows, by an emulator of one.

use super::{Scene, steady};
use std::{
    fmt::Write as _,
    num::NonZero,
    process::{Output, Stdio},
};

const COLUMNS: u16 = 120;
const ROWS: u16 = 40;
/// Lines that are longer than the terminal is wide are not wrapped, so that what differs from run to
/// run is found in them.
const WIDE: NonZero<u16> = NonZero::new(2000).unwrap();

/// What a command writes to a terminal of its own, and how it ends.
pub fn written(scene: &Scene) -> Output {
    let mut line = format!("stty cols {COLUMNS} rows {ROWS}; '{}'", env!("CARGO_BIN_EXE_bk-sync"));
    for argument in &scene.arguments {
        write!(line, " '{argument}'").unwrap();
    }
    let mut command = scene.command("script");
    command
        .args(["-q", "-e", "-c", &line, "/dev/null"])
        .env("TERM", "xterm-256color")
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::null());
    command.output().unwrap_or_else(|error| panic!("`script` of util-linux is missing ({error})"))
}

/// What a terminal shows when the scene's command has ended, with what has scrolled away above;
/// and the exit code.
pub fn shown(scene: &Scene) -> (String, i32) {
    let output = written(scene);
    // As high as it takes: then nothing leaves the screen, and what is read is all that was shown
    // and not taken back.
    let written = String::from_utf8_lossy(&output.stdout).matches('\n').count();
    let rows = u16::try_from(written + 1).expect("fewer lines than an emulator takes");
    let rows = NonZero::new(rows.max(ROWS)).expect("not none");
    let mut terminal = vt100::Parser::new(rows, WIDE, 0);
    terminal.process(&output.stdout);
    let lines = terminal.screen().rows(0, WIDE.get()).map(|line| line.trim_end().to_owned());
    let text = lines.collect::<Vec<_>>().join("\n");
    (scene.steady(&steady::ordered(text.trim_end())), output.status.code().expect("an exit code"))
}

#[test]
fn a_build_that_says_much_draws_ten_frames_a_second_at_most() {
    let run = "RUN echo CANARY; i=0; while [ $i -lt 40 ]; do i=$((i+1)); \
        head -c 20000 /dev/zero | tr '\\0' 'x' | fold; sleep 0.05; done\n";
    let scene = super::builds::build(run, &["-o", "type=cacheonly", "."]);
    let began = std::time::Instant::now();
    let output = written(&scene);
    let took = began.elapsed().as_secs_f64();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let frames = text.matches("\u{1b}[?2026h").count();
    let frames = f64::from(u32::try_from(frames).unwrap());
    eprintln!("{frames} frames in {took:.1} s");
    assert!(took > 2.0, "the build was too short to see anything: {took} s");
    // The first, and the end, which replaces the last.
    assert!(frames <= took * 10.0 + 2.0, "{frames} frames in {took} s");
    assert!(frames >= 10.0, "{frames} frames in {took} s: it does not move");
}
