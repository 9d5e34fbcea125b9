//! Progress as a view that is redrawn: steps that ended scroll away above, steps that run stay
//! below with the last lines of their output.
//!
//! Pure: the terminal's size and the clock are handed in, and what is given is text with the
//! escapes that redraw it.

use super::{
    closing::closing,
    plain::described,
    state::{Change, State, Step},
    text::{bytes, one_line, plain, seconds},
};
use crate::{
    diagnostic::render_warning,
    event::{PODS, VertexStatus},
};
use std::{
    collections::BTreeSet,
    fmt::Write as _,
    time::{Duration, SystemTime},
};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Lines of output shown below a running step.
const OUTPUT_LINES: usize = 6;
/// Unended parts shown below a running step.
const PARTS: usize = 4;
/// A narrower terminal is treated as this wide.
const MIN_COLUMNS: usize = 20;

/// A rate is told after this time: before it, it says nothing.
const SETTLED: Duration = Duration::from_millis(500);
/// Takes the terminal's own progress away.
const PROGRESS_END: &str = "\u{1b}]9;4;0\u{1b}\\";

const RUNNING: anstyle::Style = anstyle::Style::new().bold();
const DONE: anstyle::Style = anstyle::AnsiColor::Cyan.on_default();
const FAILED: anstyle::Style = anstyle::AnsiColor::BrightRed.on_default();
const DIM: anstyle::Style = anstyle::Style::new().dimmed();

/// A terminal's size.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Size {
    /// Columns.
    pub columns: u16,
    /// Rows.
    pub rows: u16,
}

/// What a terminal can show.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Look {
    /// Whether colours are wanted.
    pub colours: bool,
    /// Whether it shows a progress of its own (in its tab, its dock icon), by OSC 9;4.
    pub progress: bool,
    /// Whether it makes links of texts, by OSC 8.
    pub links: bool,
}

/// Draws frames over each other.
#[derive(Debug)]
pub(super) struct Tty {
    started: SystemTime,
    look: Look,
    /// The widths of the lines that the next frame replaces.
    drawn: Vec<usize>,
    /// Steps that have scrolled away.
    gone: BTreeSet<usize>,
    /// Cached steps that wait to scroll away as one line.
    cached: Vec<usize>,
    /// Text to scroll away with the next frame.
    above: String,
}

/// A line of a frame: its text, how wide it is, and how it looks.
struct Line {
    text: String,
    style: anstyle::Style,
}

impl Tty {
    /// A view that starts at `started`.
    pub(super) fn new(started: SystemTime, look: Look) -> Self {
        Self {
            started,
            look,
            drawn: Vec::new(),
            gone: BTreeSet::new(),
            cached: Vec::new(),
            above: String::new(),
        }
    }

    /// Takes note of what scrolls away.
    pub(super) fn note(&mut self, state: &State, changes: &[Change], now: SystemTime, size: Size) {
        for change in changes {
            match change {
                Change::Notice(warning) => {
                    self.fold(state, now, size);
                    let text = render_warning(&warning.message, None, warning.hint.as_deref());
                    self.above.push_str(&if self.look.colours { text } else { plain(&text) });
                }
                Change::Ended(index) => {
                    let Some(step) = state.step(*index) else { continue };
                    // A step that is taken up again is shown again, and scrolls away once.
                    if step.cached && step.error.is_empty() {
                        if self.gone.insert(*index) {
                            self.cached.push(*index);
                        }
                    } else if self.gone.insert(*index) || !step.error.is_empty() {
                        self.fold(state, now, size);
                        let line = headline(step, now, columns(size));
                        let line = self.styled(&line);
                        self.above.push_str(&line);
                        self.above.push('\n');
                    }
                }
                _ => {}
            }
        }
    }

    /// The text that replaces the frame before by that of `now`.
    pub(super) fn draw(&mut self, state: &State, now: SystemTime, size: Size) -> String {
        let lines = self.frame(state, now, size);
        let mut text = self.replace(&lines, size);
        if self.look.progress {
            text.push_str(&progress(state));
        }
        text
    }

    /// The text that takes the last frame away and leaves what has scrolled away, and the last word
    /// on the whole.
    pub(super) fn end(&mut self, state: &State, well: bool, now: SystemTime, size: Size) -> String {
        self.fold(state, now, size);
        let width = columns(size);
        let lines = closing(state, well, self.started, now);
        for (at, line) in lines.iter().enumerate() {
            let style = if at == 0 { RUNNING } else { DIM };
            let text = fitted(line, width - 1);
            let line = self.styled(&Line { text, style });
            self.above.push_str(&line);
            self.above.push('\n');
        }
        let mut text = self.replace(&[], size);
        if self.look.progress {
            text.push_str(PROGRESS_END);
        }
        text
    }

    /// Lets the cached steps that wait scroll away: as one line, where there are several.
    fn fold(&mut self, state: &State, now: SystemTime, size: Size) {
        let waiting = std::mem::take(&mut self.cached);
        let width = columns(size);
        let line = match waiting.as_slice() {
            [] => return,
            [only] => match state.step(*only) {
                Some(step) => headline(step, now, width),
                None => return,
            },
            [first, .., last] => {
                let name = |index: &usize| {
                    let name = state.step(*index).map(|step| step.name.as_str());
                    name.unwrap_or_default().to_owned()
                };
                let head = format!(" => CACHED {} steps: ", waiting.len());
                // Both names are to be seen, whatever the width.
                let room = width.saturating_sub(head.width() + 6) / 2;
                let text =
                    format!("{head}{} … {}", fitted(&name(first), room), fitted(&name(last), room));
                Line { text: fitted(&text, width - 1), style: DONE }
            }
        };
        let line = self.styled(&line);
        self.above.push_str(&line);
        self.above.push('\n');
    }

    fn replace(&mut self, lines: &[Line], size: Size) -> String {
        let mut text = String::new();
        // The terminal may have become narrower since: then what was one line takes several.
        let rows: usize = self.drawn.iter().map(|width| width.div_ceil(columns(size)).max(1)).sum();
        // Terminals that know it show the frame at once; others ignore it.
        text.push_str("\u{1b}[?2026h");
        if rows > 0 {
            let _cannot_fail = write!(text, "\u{1b}[{rows}A");
        }
        text.push_str("\r\u{1b}[J");
        text.push_str(&std::mem::take(&mut self.above));
        for line in lines {
            text.push_str(&self.styled(line));
            text.push('\n');
        }
        text.push_str("\u{1b}[?2026l");
        self.drawn = lines.iter().map(|line| line.text.width()).collect();
        text
    }

    fn styled(&self, line: &Line) -> String {
        let style = line.style;
        if self.look.colours { format!("{style}{}{style:#}", line.text) } else { line.text.clone() }
    }

    /// The live lines: a heading and the running steps, as far as the terminal is high.
    fn frame(&self, state: &State, now: SystemTime, size: Size) -> Vec<Line> {
        let width = columns(size);
        let rows = usize::from(size.rows).saturating_sub(1);
        let shown: Vec<&Step> = state.steps().iter().filter(|step| !step.hidden).collect();
        let running: Vec<&Step> = shown.iter().copied().filter(|step| step.is_running()).collect();
        let ended = shown.iter().filter(|step| step.is_ended()).count();
        let elapsed = seconds(now.duration_since(self.started).unwrap_or_default());
        let waiting = shown.iter().filter(|step| !step.is_running() && !step.is_ended()).count();
        let mut heading = format!("[+] {elapsed}, {ended} done, {} running", running.len());
        if waiting > 0 {
            let _cannot_fail = write!(heading, ", {waiting} to come");
        }
        if !self.cached.is_empty() {
            let _cannot_fail = write!(heading, " ({} cached)", self.cached.len());
        }
        let mut lines = vec![Line { text: fitted(&heading, width - 1), style: DIM }];
        let fit = running.len().min(rows.saturating_sub(1));
        // Every running step gets its line before any gets room for its output.
        let mut spare = rows.saturating_sub(1 + fit);
        for step in running.into_iter().take(fit) {
            lines.push(headline(step, now, width));
            let details = details(step, now, spare, width);
            spare -= details.len();
            lines.extend(details);
        }
        lines.truncate(rows);
        lines
    }
}

fn columns(size: Size) -> usize {
    usize::from(size.columns).max(MIN_COLUMNS)
}

/// A step in one line: its state, its name, and its time at the right.
fn headline(step: &Step, now: SystemTime, width: usize) -> Line {
    let (word, style) = if step.is_cancelled() {
        ("CANCELED ", FAILED)
    } else if !step.error.is_empty() {
        ("ERROR ", FAILED)
    } else if step.is_running() {
        ("", RUNNING)
    } else if step.cached {
        ("CACHED ", DONE)
    } else {
        ("", DONE)
    };
    let time = seconds(step.duration(now));
    // One column stays free, so that no terminal wraps.
    let room = width.saturating_sub(time.len() + 2);
    let head = fitted(&format!(" => {word}{}", short(&step.name)), room);
    let gap = " ".repeat(room.saturating_sub(head.width()) + 1);
    Line { text: format!("{head}{gap}{time}"), style }
}

/// What a running step does: its parts that go on, and the last lines of its output.
fn details(step: &Step, now: SystemTime, rows: usize, width: usize) -> Vec<Line> {
    let going_on: Vec<&VertexStatus> =
        step.parts.iter().filter(|part| part.completed.is_none()).collect();
    let more = going_on.len().saturating_sub(PARTS);
    let parts = going_on.iter().take(PARTS).map(|part| format!(" => => {}", moving(part, now)));
    let more = (more > 0).then(|| format!(" => => and {more} more"));
    let output = step.tail.len().saturating_sub(OUTPUT_LINES);
    let output = step.tail.iter().skip(output).map(|line| format!(" => => | {line}"));
    parts
        .chain(more)
        .chain(output)
        .take(rows)
        .map(|text| Line { text: fitted(&text, width - 1), style: DIM })
        .collect()
}

/// A part that goes on; one whose size is known with how much is done, how fast, and for how long
/// yet.
fn moving(part: &VertexStatus, now: SystemTime) -> String {
    if part.total <= 0 || part.id == PODS {
        return described(part);
    }
    let percent = part.current.saturating_mul(100) / part.total;
    let mut text = format!(
        "{} {} / {} {percent:>3}%",
        short(&one_line(&part.id)),
        bytes(part.current),
        bytes(part.total)
    );
    let Some(time) = part.started.and_then(|start| now.duration_since(start).ok()) else {
        return text;
    };
    let milliseconds = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    if time < SETTLED || part.current <= 0 {
        return text;
    }
    let rate = part.current.saturating_mul(1000) / milliseconds.max(1);
    let _cannot_fail = write!(text, " {}/s", bytes(rate));
    let left = part.total.saturating_sub(part.current);
    if rate > 0 && left > 0 {
        let _cannot_fail = write!(text, " {}s left", left / rate + 1);
    }
    text
}

/// A digest as far as it tells blobs apart.
fn short(id: &str) -> String {
    match id.split_once("sha256:") {
        Some((head, hex)) if hex.len() >= 64 => {
            let (digits, rest) = hex.split_at_checked(64).unwrap_or((hex, ""));
            format!("{head}{}{rest}", digits.get(..12).unwrap_or(digits))
        }
        _ => id.to_owned(),
    }
}

/// The whole in percent, for the terminal itself; without a number where nothing is known yet.
fn progress(state: &State) -> String {
    let shown = state.steps().iter().filter(|step| !step.hidden);
    let (all, ended) = shown.fold((0_usize, 0_usize), |(all, ended), step| {
        (all + 1, ended + usize::from(step.is_ended()))
    });
    if ended == 0 {
        return "\u{1b}]9;4;3\u{1b}\\".to_owned();
    }
    format!("\u{1b}]9;4;1;{}\u{1b}\\", ended * 100 / all.max(1))
}

/// As much of a text as fits, with an ellipsis where it does not; tabs become spaces.
fn fitted(text: &str, width: usize) -> String {
    let text = text.replace('\t', "    ");
    if text.width() <= width {
        return text;
    }
    let (mut fit, mut used) = (String::new(), 0);
    for character in text.chars() {
        used += character.width().unwrap_or_default();
        if used >= width {
            break;
        }
        fit.push(character);
    }
    fit.push('…');
    fit
}

#[cfg(test)]
mod tests {
    use super::{Look, Size, Tty, fitted};
    use crate::{
        event::{BuildStatus, Vertex, VertexLog, VertexStatus, Warning},
        progress::{state::State, synthetic::Told},
    };
    use std::time::{Duration, SystemTime};
    use unicode_width::UnicodeWidthStr as _;

    fn at(milliseconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds)
    }

    fn vertex(digest: &str, name: &str, started: u64, completed: Option<u64>) -> Told {
        let vertex = Vertex {
            digest: digest.to_owned(),
            name: name.to_owned(),
            started: Some(at(started)),
            completed: completed.map(at),
            ..Vertex::default()
        };
        Told::Status(BuildStatus { vertices: vec![vertex], ..BuildStatus::default() })
    }

    fn log(digest: &str, data: &str) -> Told {
        let log = VertexLog {
            vertex: digest.to_owned(),
            timestamp: Some(at(0)),
            stream: 1,
            data: data.as_bytes().to_vec(),
        };
        Told::Status(BuildStatus { logs: vec![log], ..BuildStatus::default() })
    }

    fn part(digest: &str, id: &str) -> Told {
        let part = VertexStatus {
            id: id.to_owned(),
            vertex: digest.to_owned(),
            current: 1_500_000,
            total: 3_000_000,
            started: Some(at(0)),
            timestamp: Some(at(500)),
            ..VertexStatus::default()
        };
        Told::Status(BuildStatus { statuses: vec![part], ..BuildStatus::default() })
    }

    struct Screen {
        terminal: vt100::Parser,
        state: State,
        tty: Tty,
        size: Size,
    }

    impl Screen {
        fn new(rows: u16, columns: u16) -> Self {
            Self {
                terminal: vt100::Parser::new(
                    rows.try_into().unwrap(),
                    columns.try_into().unwrap(),
                    1000,
                ),
                state: State::default(),
                tty: Tty::new(at(0), Look { colours: true, ..Look::default() }),
                size: Size { columns, rows },
            }
        }

        fn show(&mut self, now: u64, told: Vec<Told>) {
            for told in told {
                let changes = self.state.apply(told);
                self.tty.note(&self.state, &changes, at(now), self.size);
            }
            let text = self.tty.draw(&self.state, at(now), self.size);
            self.write(&text);
        }

        fn write(&mut self, text: &str) {
            self.terminal.process(text.replace('\n', "\r\n").as_bytes());
        }

        fn contents(&self) -> String {
            self.terminal.screen().contents()
        }
    }

    #[test]
    fn ended_steps_stay_above_and_running_ones_are_redrawn_below() {
        let mut screen = Screen::new(12, 60);
        screen.show(0, vec![vertex("a", "[internal] load build definition", 0, None)]);
        screen.show(
            1000,
            vec![
                vertex("a", "[internal] load build definition", 0, Some(900)),
                vertex("b", "[internal] load build context", 900, None),
                part("b", "transferring context:"),
                vertex("c", "[build 2/2] RUN make with a very long command line indeed", 900, None),
                log("c", "one\ntwo\tthree\n"),
            ],
        );
        insta::assert_snapshot!(screen.contents(), @r"
         => [internal] load build definition                   0.9s
        [+] 1.0s, 1 done, 2 running
         => [internal] load build context                      0.1s
         => => transferring context: 1.50MB / 3.00MB  50% 1.50MB/s…
         => [build 2/2] RUN make with a very long command lin… 0.1s
         => => | one
         => => | two    three
        ");
        let hint = Some("do less".to_owned());
        screen.show(
            3000,
            vec![
                vertex("b", "[internal] load build context", 900, Some(2000)),
                log("c", "a\nb\nc\nd\ne\nf\ng\n"),
                Told::Warning(Warning { code: "ODD", message: "odd".to_owned(), hint }),
            ],
        );
        insta::assert_snapshot!(screen.contents(), @r"
         => [internal] load build context                      1.1s
        warning: odd
        hint: do less
        [+] 3.0s, 2 done, 1 running
         => [build 2/2] RUN make with a very long command lin… 2.1s
         => => | b
         => => | c
         => => | d
         => => | e
         => => | f
         => => | g
        ");
        let failed = Vertex {
            digest: "c".to_owned(),
            name: "[build 2/2] RUN make".to_owned(),
            started: Some(at(900)),
            completed: Some(at(3500)),
            error: "exit code: 2".to_owned(),
            ..Vertex::default()
        };
        let failed = BuildStatus { vertices: vec![failed], ..BuildStatus::default() };
        screen.show(3500, vec![Told::Status(failed)]);
        let end = screen.tty.end(&screen.state, false, at(3500), screen.size);
        screen.write(&end);
        insta::assert_snapshot!(screen.contents(), @r"
         => [internal] load build context                      1.1s
        warning: odd
        hint: do less
         => ERROR [build 2/2] RUN make                         2.6s
        failed after 3.5s: 1 step, 0 cached, 1 ran
          sent    1.50MB to the builder
          time    [build 2/2] RUN make 2.6s, [internal] load build…
        ");
    }

    #[test]
    fn a_small_terminal_is_never_overdrawn() {
        for (rows, columns) in [(1, 1), (2, 10), (4, 20), (5, 33)] {
            let mut screen = Screen::new(rows, columns.max(20));
            let steps = (0..9).map(|step| vertex(&step.to_string(), "RUN ünï コード", 0, None));
            screen.show(0, steps.chain([log("0", "1\n2\n3\n")]).collect());
            screen.show(100, Vec::new());
            assert!(screen.tty.drawn.len() < usize::from(rows).max(1), "{rows}x{columns}");
            assert!(screen.tty.drawn.iter().all(|width| *width < usize::from(columns).max(20)));
        }
    }

    #[test]
    fn a_terminal_that_became_narrower_is_cleared_all_the_same() {
        let mut screen = Screen::new(10, 80);
        screen.show(0, vec![vertex("a", &"x".repeat(70), 0, None)]);
        screen.size.columns = 40;
        let text = screen.tty.draw(&screen.state, at(1), screen.size);
        assert!(text.contains("\u{1b}[3A"), "{}", text.escape_debug());
    }

    #[test]
    fn without_colours_nothing_but_the_drawing_is_escaped() {
        let mut screen = Screen::new(10, 40);
        screen.tty.look.colours = false;
        let changes = screen.state.apply(vertex("a", "RUN", 0, None));
        screen.tty.note(&screen.state, &changes, at(0), screen.size);
        let text = screen.tty.draw(&screen.state, at(0), screen.size);
        assert_eq!(
            text,
            "\u{1b}[?2026h\r\u{1b}[J[+] 0.0s, 0 done, 1 running\n => RUN                            0.0s\n\u{1b}[?2026l"
        );
    }

    #[test]
    fn wide_characters_count_twice() {
        assert_eq!(fitted("コード", 6), "コード");
        assert_eq!(fitted("コード", 5), "コー…");
        assert!(fitted("コード", 4).width() <= 4);
    }
}
