//! Progress as lines, for logs and for people: each step is named once, and each line says which
//! step it belongs to.
//!
//! The output of one step stands together: while one writes, what others write is held, until the
//! one ends or falls silent. A step that writes a lot is shown with its begin and its end; of one
//! that fails, all is shown.

use super::{
    overflow::Overflow,
    state::{Change, State, Step},
    text::{bytes, one_line, seconds},
};
use crate::{
    diagnostic::render_warning,
    event::{PODS, VertexStatus},
};
use std::{
    collections::HashMap,
    fmt::{self, Write as _},
    time::{Duration, SystemTime},
};

/// A part that goes on is written again after this time.
const PART_INTERVAL: Duration = Duration::from_secs(5);
/// After this long without a line, a line says what still runs. Some CI systems end silent jobs.
const SILENCE: Duration = Duration::from_secs(30);

/// A step's end is written after this time. Builders look into their cache first and take a step up
/// again, or tell of its parts after its end: one end is enough.
const SETTLE: Duration = Duration::from_millis(150);

/// A step that came out well is told of again where it then ran for this long.
const AGAIN: Duration = Duration::from_secs(1);

/// Output of one step that is shown as it comes, in bytes; what is longer is shown with its end, or
/// where the step fails.
const SHOWN: usize = 64 << 10;
/// Output that is held while another step writes, in bytes; then it gets its turn.
const HELD: usize = 256 << 10;
/// A step that has written nothing for this long lets another write.
const TURN: Duration = Duration::from_secs(3);

/// Writes changes as lines. Pure: the clock is handed in.
#[derive(Debug, Default)]
pub(super) struct Plain {
    /// Steps by index: their number, and the end that was last told.
    numbers: HashMap<usize, usize>,
    ends: HashMap<usize, End>,
    /// Steps that ended, in that order, and whose end is not written yet.
    ending: Vec<(usize, SystemTime)>,
    /// When each part that goes on was last written.
    parts: HashMap<(usize, String), SystemTime>,
    wrote_anything: bool,
    last_line: Option<SystemTime>,
    /// The step whose output is written as it comes, and when it last wrote.
    turn: Option<(usize, SystemTime)>,
    /// Output of steps whose turn it is not, in the order in which they began to wait.
    held: Vec<(usize, Vec<String>)>,
    /// Bytes of output that were written of each step.
    shown: HashMap<usize, usize>,
    overflow: Overflow,
}

impl Plain {
    /// Appends the lines of `changes` to `out`.
    pub(super) fn write(
        &mut self,
        state: &State,
        changes: &[Change],
        now: SystemTime,
        out: &mut String,
    ) {
        let before = out.len();
        self.settle(state, now, SETTLE, out);
        for change in changes {
            match change {
                Change::Began(index) => self.began(state, *index, out),
                Change::Part(index, part) => self.part(state, *index, part, now, out),
                Change::Line(index, offset, line) => {
                    let offset = offset
                        .map(|offset| format!("{:.3} ", offset.as_secs_f64()))
                        .unwrap_or_default();
                    self.line(state, *index, format!("{offset}{line}"), now, out);
                }
                Change::Ended(index) => {
                    self.ending.retain(|(other, _)| other != index);
                    self.ending.push((*index, now));
                }
                Change::Notice(warning) => {
                    out.push_str(&render_warning(&warning.message, None, warning.hint.as_deref()));
                }
            }
        }
        if out.len() > before {
            self.last_line = Some(now);
        }
    }

    /// A line of a step's output: written where it is its turn, else held.
    fn line(
        &mut self,
        state: &State,
        index: usize,
        line: String,
        now: SystemTime,
        out: &mut String,
    ) {
        let is_free = self.turn.is_none_or(|(other, last)| {
            other == index || now.duration_since(last).is_ok_and(|silence| silence >= TURN)
        });
        if is_free {
            if self.turn.is_some_and(|(other, _)| other != index) {
                self.give_turn(state, now, out);
            }
            self.release(state, index, out);
            self.turn = Some((index, now));
            self.show(state, index, &line, out);
            return;
        }
        if !self.held.iter().any(|(other, _)| *other == index) {
            self.held.push((index, Vec::new()));
        }
        let Some((_, lines)) = self.held.iter_mut().find(|(other, _)| *other == index) else {
            return;
        };
        lines.push(line);
        if lines.iter().map(String::len).sum::<usize>() > HELD {
            self.release(state, index, out);
        }
    }

    /// Writes what is held of `index`.
    fn release(&mut self, state: &State, index: usize, out: &mut String) {
        let Some(at) = self.held.iter().position(|(other, _)| *other == index) else { return };
        let (_, lines) = self.held.remove(at);
        for line in lines {
            self.show(state, index, &line, out);
        }
    }

    /// Lets the step write that has waited longest.
    fn give_turn(&mut self, state: &State, now: SystemTime, out: &mut String) {
        self.turn = None;
        if let Some((index, _)) = self.held.first() {
            let index = *index;
            self.release(state, index, out);
            if state.step(index).is_some_and(Step::is_running) {
                self.turn = Some((index, now));
            }
        }
    }

    /// Writes a line of a step's output, or keeps it for the end where there are many.
    fn show(&mut self, state: &State, index: usize, line: &str, out: &mut String) {
        let number = self.number(state, index, out);
        let shown = self.shown.entry(index).or_default();
        if *shown > SHOWN {
            self.overflow.push(index, line);
            return;
        }
        *shown += line.len() + 1;
        put(out, &format!("#{number} {line}"));
    }

    /// The end of a step's output: all of it where the step failed, else its last lines.
    fn rest(&mut self, state: &State, index: usize, number: usize, out: &mut String) {
        self.release(state, index, out);
        let Some(step) = state.step(index) else { return };
        let kept = self.overflow.lines(index);
        if kept == 0 {
            return;
        }
        if !step.error.is_empty() && !step.is_cancelled() {
            let whole = self.overflow.take(index, |line| put(out, &format!("#{number} {line}")));
            if !whole {
                put(out, &format!("#{number} … some output could not be kept"));
            }
            return;
        }
        let left_out = kept.saturating_sub(step.tail.len());
        if left_out > 0 {
            put(out, &format!("#{number} … {left_out} lines are left out"));
        }
        let last = step.tail.len().saturating_sub(kept);
        for line in step.tail.iter().skip(last) {
            put(out, &format!("#{number} {line}"));
        }
        self.overflow.forget(index);
        self.shown.remove(&index);
    }

    /// Appends a sign of life to `out` where nothing was written for long and something runs.
    pub(super) fn tick(&mut self, state: &State, now: SystemTime, out: &mut String) {
        let before = out.len();
        self.settle(state, now, SETTLE, out);
        if out.len() > before {
            self.last_line = Some(now);
        }
        if self
            .turn
            .is_some_and(|(_, last)| now.duration_since(last).is_ok_and(|silence| silence >= TURN))
        {
            self.give_turn(state, now, out);
        }
        let quiet = self
            .last_line
            .is_some_and(|last| now.duration_since(last).is_ok_and(|silence| silence >= SILENCE));
        if !quiet {
            return;
        }
        let running = state.steps().iter().enumerate().filter(|(index, step)| {
            step.is_running() && !step.hidden && self.numbers.contains_key(index)
        });
        let shown: Vec<_> = running
            .filter_map(|(index, step)| {
                let number = self.numbers.get(&index)?;
                Some(format!("#{number} still running, {}", seconds(step.duration(now))))
            })
            .collect();
        for line in shown {
            put(out, &line);
        }
        self.last_line = Some(now);
    }

    /// Appends what was held back to `out`, when nothing more will come.
    pub(super) fn end(&mut self, state: &State, now: SystemTime, out: &mut String) {
        self.settle(state, now, Duration::ZERO, out);
        while let Some((index, _)) = self.held.first() {
            let index = *index;
            self.release(state, index, out);
        }
    }

    /// Writes the ends that are at least `age` old.
    fn settle(&mut self, state: &State, now: SystemTime, age: Duration, out: &mut String) {
        let is_due = |at: SystemTime| now.duration_since(at).is_ok_and(|passed| passed >= age);
        let (due, ending) =
            std::mem::take(&mut self.ending).into_iter().partition(|(_, at)| is_due(*at));
        self.ending = ending;
        let due: Vec<(usize, SystemTime)> = due;
        for (index, _) in due {
            // A step that was taken up again ends again.
            if state.step(index).is_some_and(Step::is_ended) {
                self.ended(state, index, now, out);
            }
        }
    }

    fn began(&mut self, state: &State, index: usize, out: &mut String) {
        self.number(state, index, out);
    }

    /// A step's number. Its name is written when it gets one.
    fn number(&mut self, state: &State, index: usize, out: &mut String) -> usize {
        if let Some(number) = self.numbers.get(&index) {
            return *number;
        }
        let number = self.numbers.len() + 1;
        self.numbers.insert(index, number);
        if self.wrote_anything {
            out.push('\n');
        }
        self.wrote_anything = true;
        let name = state.step(index).map(|step| step.name.as_str()).unwrap_or_default();
        put(out, &format!("#{number} {name}"));
        number
    }

    fn part(
        &mut self,
        state: &State,
        index: usize,
        part: &VertexStatus,
        now: SystemTime,
        out: &mut String,
    ) {
        // Their step's own lines tell of pods as they turn ready.
        if part.id == PODS {
            return;
        }
        let key = (index, part.id.clone());
        if part.completed.is_none() {
            // The first word on a part comes after a while: most end before that.
            let last = *self.parts.entry(key.clone()).or_insert(now);
            if now.duration_since(last).unwrap_or_default() < PART_INTERVAL {
                return;
            }
            self.parts.insert(key, now);
        } else {
            self.parts.remove(&key);
        }
        let number = self.number(state, index, out);
        put(out, &format!("#{number} {}", described(part)));
    }

    fn ended(&mut self, state: &State, index: usize, now: SystemTime, out: &mut String) {
        let Some(step) = state.step(index) else { return };
        let number = self.number(state, index, out);
        self.rest(state, index, number, out);
        if self.turn.is_some_and(|(other, _)| other == index) {
            self.turn = None;
        }
        let end = End::of(step, now);
        if end.is_news(self.ends.get(&index)) {
            put(out, &format!("#{number} {end}"));
            self.ends.insert(index, end);
        }
        if self.turn.is_none() {
            self.give_turn(state, now, out);
        }
    }
}

fn put(out: &mut String, line: &str) {
    out.push_str(line);
    out.push('\n');
}

/// How a step ended.
#[derive(Debug, PartialEq)]
enum End {
    Cached,
    Cancelled,
    Done(Duration),
    Error(String),
}

impl End {
    fn of(step: &Step, now: SystemTime) -> Self {
        if step.is_cancelled() {
            Self::Cancelled
        } else if !step.error.is_empty() {
            Self::Error(one_line(&step.error))
        } else if step.cached {
            Self::Cached
        } else {
            Self::Done(step.duration(now))
        }
    }

    /// Whether it says more than what was `told`. A step that the builder takes up again ends again;
    /// where it came out well before, that it does so again is news only if it took its time.
    fn is_news(&self, told: Option<&Self>) -> bool {
        match (self, told) {
            (Self::Done(time), Some(Self::Cached)) => *time >= AGAIN,
            (Self::Done(time), Some(Self::Done(told))) => time.saturating_sub(*told) >= AGAIN,
            (Self::Cached, Some(Self::Done(_))) => false,
            (end, told) => Some(end) != told,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cached => formatter.write_str("CACHED"),
            Self::Cancelled => formatter.write_str("CANCELED"),
            Self::Done(time) => write!(formatter, "DONE {}", seconds(*time)),
            Self::Error(error) => write!(formatter, "ERROR: {error}"),
        }
    }
}

/// A part with its sizes and time, as BuildKit words it.
pub(super) fn described(part: &VertexStatus) -> String {
    let mut text = one_line(&part.id);
    if part.id == PODS {
        return format!("{} of {} {PODS}", part.current, part.total);
    }
    if part.total != 0 {
        let _cannot_fail = write!(text, " {} / {}", bytes(part.current), bytes(part.total));
    } else if part.current != 0 {
        let _cannot_fail = write!(text, " {}", bytes(part.current));
    }
    let end = part.completed.or(part.timestamp);
    if let (Some(start), Some(end)) = (part.started, end)
        && let Ok(time) = end.duration_since(start)
        && time > Duration::from_millis(10)
    {
        let _cannot_fail = write!(text, " {}", seconds(time));
    }
    if part.completed.is_some() {
        text.push_str(" done");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Plain, described};
    use crate::{
        event::{BuildStatus, Vertex, VertexLog, VertexStatus, Warning},
        progress::{state::State, synthetic::Told},
    };
    use std::time::{Duration, SystemTime};

    fn at(milliseconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds)
    }

    fn vertex(digest: &str, name: &str, started: u64, completed: Option<u64>) -> Vertex {
        Vertex {
            digest: digest.to_owned(),
            name: name.to_owned(),
            started: Some(at(started)),
            completed: completed.map(at),
            ..Vertex::default()
        }
    }

    fn part(
        vertex: &str,
        id: &str,
        current: i64,
        total: i64,
        started: u64,
        completed: Option<u64>,
    ) -> VertexStatus {
        VertexStatus {
            id: id.to_owned(),
            vertex: vertex.to_owned(),
            current,
            total,
            timestamp: Some(at(started + 1500)),
            started: Some(at(started)),
            completed: completed.map(at),
            ..VertexStatus::default()
        }
    }

    fn log(vertex: &str, when: u64, data: &str) -> BuildStatus {
        let log = VertexLog {
            vertex: vertex.to_owned(),
            timestamp: Some(at(when)),
            stream: 1,
            data: data.as_bytes().to_vec(),
        };
        BuildStatus { logs: vec![log], ..BuildStatus::default() }
    }

    fn of(vertices: Vec<Vertex>) -> BuildStatus {
        BuildStatus { vertices, ..BuildStatus::default() }
    }

    fn parts(statuses: Vec<VertexStatus>) -> BuildStatus {
        BuildStatus { statuses, ..BuildStatus::default() }
    }

    fn written(told: Vec<(u64, Told)>) -> String {
        let (mut state, mut plain, mut out) = (State::default(), Plain::default(), String::new());
        for (now, told) in told {
            let changes = state.apply(told);
            plain.write(&state, &changes, at(now), &mut out);
        }
        plain.end(&state, at(99_999), &mut out);
        anstream::adapter::strip_str(&out).to_string()
    }

    #[test]
    fn a_build_reads_from_top_to_bottom() {
        let failed = Vertex {
            error: "process \"/bin/sh -c make\" did not complete\nsuccessfully".to_owned(),
            ..vertex("d", "[build 4/4] RUN make", 2000, Some(9000))
        };
        let cached =
            Vertex { cached: true, ..vertex("c", "[build 2/4] WORKDIR /src", 2000, Some(2000)) };
        let cancelled = Vertex {
            error: "failed: context canceled".to_owned(),
            ..vertex("e", "[other] RUN x", 2000, Some(9000))
        };
        let told = vec![
            (0, of(vec![vertex("a", "[internal] load build definition from Dockerfile", 0, None)])),
            (100, parts(vec![part("a", "transferring dockerfile:", 412, 0, 50, Some(90))])),
            (
                200,
                of(vec![vertex(
                    "a",
                    "[internal] load build definition from Dockerfile",
                    0,
                    Some(200),
                )]),
            ),
            (300, of(vec![vertex("b", "[internal] load build context", 300, None)])),
            (400, parts(vec![part("b", "transferring context:", 1_000_000, 0, 300, None)])),
            (500, parts(vec![part("b", "transferring context:", 2_000_000, 0, 300, None)])),
            (6000, parts(vec![part("b", "transferring context:", 90_000_000, 0, 300, None)])),
            (6100, parts(vec![part("b", "transferring context:", 91_000_000, 0, 300, Some(6100))])),
            (6200, of(vec![vertex("b", "[internal] load build context", 300, Some(6200)), cached])),
            (6300, of(vec![vertex("d", "[build 4/4] RUN make", 2000, None)])),
            (6400, log("d", 2250, "cc a.c\ncc b")),
            (6500, of(vec![vertex("e", "[other] RUN x", 2000, None)])),
            (6600, log("d", 2260, ".c\n")),
            (6700, of(vec![failed.clone(), cancelled])),
            (6800, of(vec![failed])),
        ];
        let mut told: Vec<_> =
            told.into_iter().map(|(now, status)| (now, Told::Status(status))).collect();
        let hint = Some("do less".to_owned());
        let warning = Warning { code: "ODD", message: "something is odd".to_owned(), hint };
        told.push((6900, Told::Warning(warning)));
        insta::assert_snapshot!(written(told), @r#"
        #1 [internal] load build definition from Dockerfile
        #1 transferring dockerfile: 412B 0.0s done

        #2 [internal] load build context
        #1 DONE 0.2s
        #2 transferring context: 90.00MB 1.5s
        #2 transferring context: 91.00MB 5.8s done

        #3 [build 2/4] WORKDIR /src

        #4 [build 4/4] RUN make
        #2 DONE 5.9s
        #3 CACHED
        #4 0.250 cc a.c

        #5 [other] RUN x
        #4 0.260 cc b.c
        #4 ERROR: process "/bin/sh -c make" did not complete successfully
        #5 CANCELED
        warning: something is odd
        hint: do less
        "#);
    }

    #[test]
    fn a_step_that_is_taken_up_again_tells_only_news() {
        let step = |started, completed| vertex("a", "load metadata", started, completed);
        let told = [
            step(0, None),
            step(0, Some(10)),
            step(20, None),
            step(20, Some(25)),
            step(30, Some(900)),
        ]
        .into_iter()
        .map(|vertex| (0, Told::Status(of(vec![vertex]))))
        .collect();
        insta::assert_snapshot!(written(told), @r"
        #1 load metadata
        #1 DONE 0.9s
        ");
    }

    #[test]
    fn the_output_of_a_step_stands_together() {
        let told = vec![
            (0, of(vec![vertex("a", "RUN a", 0, None), vertex("b", "RUN b", 0, None)])),
            (100, log("a", 100, "a1\n")),
            (200, log("b", 200, "b1\n")),
            (300, log("a", 300, "a2\n")),
            (400, log("b", 400, "b2\n")),
            (500, of(vec![vertex("a", "RUN a", 0, Some(500))])),
            (900, log("b", 900, "b3\n")),
            (1000, of(vec![vertex("b", "RUN b", 0, Some(1000))])),
        ];
        let told = told.into_iter().map(|(now, status)| (now, Told::Status(status))).collect();
        insta::assert_snapshot!(written(told), @r"
        #1 RUN a

        #2 RUN b
        #1 0.100 a1
        #1 0.300 a2
        #1 DONE 0.5s
        #2 0.200 b1
        #2 0.400 b2
        #2 0.900 b3
        #2 DONE 1.0s
        ");
    }

    #[test]
    fn long_output_is_shown_with_its_begin_and_end_and_whole_where_the_step_fails() {
        let run = |error: &str| {
            let lines: Vec<String> = (0..20_000).map(|line| format!("line {line}\n")).collect();
            let text = lines.concat();
            let ended =
                Vertex { error: error.to_owned(), ..vertex("a", "RUN long", 0, Some(9000)) };
            let told = vec![
                (0, of(vec![vertex("a", "RUN long", 0, None)])),
                (100, log("a", 100, &text)),
                (9000, of(vec![ended])),
            ];
            written(told.into_iter().map(|(now, status)| (now, Told::Status(status))).collect())
        };
        let shown = run("");
        assert!(shown.len() < 100_000, "{} bytes", shown.len());
        assert!(shown.contains("0.100 line 0\n") && shown.contains("line 19999\n"));
        let left_out = shown.lines().find(|line| line.contains("are left out")).unwrap();
        let count: usize = left_out.split(' ').nth(2).unwrap().parse().unwrap();
        assert_eq!(shown.lines().filter(|line| line.contains("line ")).count() + count, 20_000);
        let failed = run("exit code: 1");
        assert_eq!(failed.lines().filter(|line| line.contains("line ")).count(), 20_000);
    }

    #[test]
    fn silence_is_broken_by_a_sign_of_life() {
        let (mut state, mut plain, mut out) = (State::default(), Plain::default(), String::new());
        let changes = state.apply(Told::Status(of(vec![vertex("a", "RUN sleep", 0, None)])));
        plain.write(&state, &changes, at(0), &mut out);
        for second in 1..70 {
            plain.tick(&state, at(second * 1000), &mut out);
        }
        assert_eq!(out, "#1 RUN sleep\n#1 still running, 30.0s\n#1 still running, 60.0s\n");
    }

    #[test]
    fn parts_are_worded_as_buildkit_words_them() {
        let table = [
            (
                part("a", "sha256:ab", 1_500_000, 28_230_000, 0, None),
                "sha256:ab 1.50MB / 28.23MB 1.5s",
            ),
            (part("a", "exporting layers", 0, 0, 0, Some(5)), "exporting layers done"),
            (part("a", "extracting", 5, 0, 0, Some(700)), "extracting 5B 0.7s done"),
        ];
        for (part, expected) in table {
            assert_eq!(described(&part), expected);
        }
    }
}
