//! What is known of a build so far: a pure reducer of what was told, of bounded size.
//!
//! The size does not grow with a step's output: a step keeps its last lines, and the rest is handed
//! on as [`Change`]s. Vertices of one progress group are one step.

use super::{
    synthetic::Told,
    text::{one_line, plain, printable},
};
use crate::event::{
    BuildStatus, ProgressGroup, Vertex, VertexLog, VertexStatus, VertexWarning, Warning,
};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::{Duration, SystemTime},
};

/// Lines of a step's output that are kept, for the screen and for the report of its failure.
pub(super) const TAIL_LINES: usize = 20;
/// Characters of a kept line.
const TAIL_LINE_CHARS: usize = 1000;
/// Bytes of a line that has not ended; one that is longer is cut into several.
const MAX_LINE: usize = 64 << 10;
/// Parts of a step that are kept; those that ended are the first to go.
const MAX_PARTS: usize = 256;
/// Warnings that are kept.
const MAX_WARNINGS: usize = 500;

/// All steps, in the order in which they began.
#[derive(Debug, Default)]
pub(super) struct State {
    steps: Vec<Step>,
    by_digest: HashMap<String, usize>,
    by_group: HashMap<String, usize>,
    warnings: Vec<VertexWarning>,
    notices: Vec<Warning>,
}

/// One step.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// Its name on the screen, in one line.
    pub(super) name: String,
    /// The vertex's digest; a group's id.
    pub(super) id: String,
    /// Digests of the vertices that it is built on.
    pub(super) inputs: Vec<String>,
    /// Whether its result was there already.
    pub(super) cached: bool,
    /// Whether it ran in a build that is over: that a later one finds its result takes nothing back.
    has_run: bool,
    /// Why it failed.
    pub(super) error: String,
    /// Times in which it ran, by their start; the value is when each ended.
    intervals: BTreeMap<SystemTime, Option<SystemTime>>,
    /// Its members, where it is a group.
    members: BTreeMap<String, Vertex>,
    /// Whether it is a group that is not to be shown (yet).
    pub(super) hidden: bool,
    /// Its parts, in the order in which they began.
    pub(super) parts: Vec<VertexStatus>,
    /// The last lines of its output, without colours.
    pub(super) tail: VecDeque<String>,
    /// Output that has not ended in a newline yet.
    partial: Vec<u8>,
    /// Whether its start was told.
    announced: bool,
}

/// What is new, by the index of its step.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    /// It began for the first time.
    Began(usize),
    /// A part of it moved on.
    Part(usize, VertexStatus),
    /// It wrote a line.
    Line(usize, Option<Duration>, String),
    /// It ended. It may go on after that, and end again.
    Ended(usize),
    /// Something that is tied to no step.
    Notice(Warning),
}

impl Step {
    /// Whether it runs now.
    pub(super) fn is_running(&self) -> bool {
        self.intervals.values().any(Option::is_none)
    }

    /// Whether it ran and does not run now.
    pub(super) fn is_ended(&self) -> bool {
        !self.intervals.is_empty() && !self.is_running()
    }

    /// Whether it failed because the build was stopped.
    pub(super) fn is_cancelled(&self) -> bool {
        self.error.ends_with("context canceled")
    }

    /// When it last began.
    pub(super) fn last_start(&self) -> Option<SystemTime> {
        self.intervals.last_key_value().map(|(start, _)| *start)
    }

    /// How long it has run, overlaps counted once; what runs still is counted up to `now`.
    pub(super) fn duration(&self, now: SystemTime) -> Duration {
        let mut total = Duration::ZERO;
        let mut covered: Option<SystemTime> = None;
        for (&start, end) in &self.intervals {
            let end = end.unwrap_or(now);
            let start = covered.map_or(start, |covered| covered.max(start));
            total += end.duration_since(start).unwrap_or_default();
            covered = Some(covered.map_or(end, |covered| covered.max(end)));
        }
        total
    }

    /// From its first begin to its last end; `now` where it runs still. None where it never began.
    pub(super) fn bounds(&self, now: SystemTime) -> Option<(SystemTime, SystemTime)> {
        let (first, _) = self.intervals.first_key_value()?;
        let last = self.intervals.values().map(|end| end.unwrap_or(now)).max()?;
        Some((*first, last.max(*first)))
    }

    fn ran(&mut self, vertex: &Vertex) {
        if let Some(started) = vertex.started {
            self.intervals.insert(started, vertex.completed);
        }
    }

    fn regroup(&mut self) {
        self.cached = !self.has_run && self.members.values().all(|member| member.cached);
        let failed = self.members.values().find(|member| !member.error.is_empty());
        self.error = failed.map(|member| member.error.clone()).unwrap_or_default();
        let revealed = self.members.values().any(|member| {
            let weak = member.group.as_ref().is_some_and(|group| group.weak);
            member.started.is_some() && !weak
        });
        self.hidden = self.hidden && !revealed && self.error.is_empty();
    }
}

impl State {
    /// All steps, in the order in which they were first heard of.
    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// A step by its index.
    pub(super) fn step(&self, index: usize) -> Option<&Step> {
        self.steps.get(index)
    }

    /// Warnings of the frontend, each once.
    pub(super) fn warnings(&self) -> &[VertexWarning] {
        &self.warnings
    }

    /// Warnings that are tied to no step.
    pub(super) fn notices(&self) -> &[Warning] {
        &self.notices
    }

    /// Takes in what was told, and says what is new in it.
    pub(super) fn apply(&mut self, told: Told) -> Vec<Change> {
        match told {
            Told::Warning(warning) => {
                if self.notices.len() < MAX_WARNINGS {
                    self.notices.push(warning.clone());
                }
                vec![Change::Notice(warning)]
            }
            Told::Status(status) => self.status(status),
            Told::Built => {
                for step in &mut self.steps {
                    step.has_run |= step.is_ended() && !step.cached;
                }
                Vec::new()
            }
        }
    }

    fn status(&mut self, status: BuildStatus) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut ended = Vec::new();
        for vertex in status.vertices {
            self.vertex(vertex, &mut changes, &mut ended);
        }
        for part in status.statuses {
            self.part(part, &mut changes);
        }
        for log in status.logs {
            self.log(&log, &mut changes);
        }
        for warning in status.warnings {
            self.warning(warning);
        }
        // A step's end is told after what the same message says of its output.
        for index in ended {
            self.flush(index, &mut changes);
            changes.push(Change::Ended(index));
        }
        changes
    }

    fn vertex(&mut self, vertex: Vertex, changes: &mut Vec<Change>, ended: &mut Vec<usize>) {
        let index = match &vertex.group {
            Some(group) => self.group(group, &vertex.digest),
            None => *self.by_digest.entry(vertex.digest.clone()).or_insert_with(|| {
                self.steps.push(Step::default());
                self.steps.len() - 1
            }),
        };
        let Some(step) = self.steps.get_mut(index) else { return };
        let before = (step.is_ended(), step.cached, step.error.clone(), step.intervals.len());
        if step.id.is_empty() {
            step.id.clone_from(&vertex.digest);
        }
        if !vertex.inputs.is_empty() && vertex.group.is_none() {
            step.inputs.clone_from(&vertex.inputs);
        }
        step.ran(&vertex);
        if vertex.group.is_some() {
            step.members.insert(vertex.digest.clone(), vertex);
            step.regroup();
        } else {
            if !vertex.name.is_empty() {
                step.name = one_line(&vertex.name);
            }
            // A vertex is told again before it runs: that takes nothing back.
            if vertex.started.is_some() || step.intervals.is_empty() {
                step.cached = vertex.cached && !step.has_run;
                step.error = vertex.error;
            }
        }
        if step.hidden || step.intervals.is_empty() {
            return;
        }
        if !step.announced {
            step.announced = true;
            changes.push(Change::Began(index));
        }
        let after = (step.is_ended(), step.cached, step.error.clone(), step.intervals.len());
        if step.is_ended() && before != after && !ended.contains(&index) {
            ended.push(index);
        }
    }

    /// The step of a group, which gets one more member.
    fn group(&mut self, group: &ProgressGroup, digest: &str) -> usize {
        let steps = &mut self.steps;
        let index = *self.by_group.entry(group.id.clone()).or_insert_with(|| {
            steps.push(Step { name: one_line(&group.name), hidden: true, ..Step::default() });
            steps.len() - 1
        });
        self.by_digest.insert(digest.to_owned(), index);
        index
    }

    fn part(&mut self, part: VertexStatus, changes: &mut Vec<Change>) {
        let Some(&index) = self.by_digest.get(&part.vertex) else { return };
        let Some(step) = self.steps.get_mut(index) else { return };
        if let Some(known) = step.parts.iter_mut().find(|known| known.id == part.id) {
            *known = part.clone();
        } else {
            if step.parts.len() >= MAX_PARTS {
                let ended = step.parts.iter().position(|part| part.completed.is_some());
                step.parts.remove(ended.unwrap_or_default());
            }
            step.parts.push(part.clone());
        }
        if !step.hidden {
            changes.push(Change::Part(index, part));
        }
    }

    fn log(&mut self, log: &VertexLog, changes: &mut Vec<Change>) {
        let Some(&index) = self.by_digest.get(&log.vertex) else { return };
        let Some(step) = self.steps.get_mut(index) else { return };
        let started = step.last_start();
        let offset = log.timestamp.and_then(|at| at.duration_since(started?).ok());
        let mut rest = log.data.as_slice();
        while let Some(newline) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(newline);
            step.partial.extend_from_slice(line);
            rest = after.get(1..).unwrap_or_default();
            changes.push(step.line(index, offset));
        }
        // What a carriage return overwrites is never shown.
        let redrawn =
            rest.split_last().and_then(|(_, before)| before.iter().rposition(|b| *b == b'\r'));
        if let Some(redrawn) = redrawn {
            step.partial.clear();
            rest = rest.get(redrawn + 1..).unwrap_or_default();
        }
        for piece in rest.chunks(MAX_LINE) {
            if step.partial.len() + piece.len() > MAX_LINE {
                changes.push(step.line(index, offset));
            }
            step.partial.extend_from_slice(piece);
        }
    }

    fn flush(&mut self, index: usize, changes: &mut Vec<Change>) {
        if let Some(step) = self.steps.get_mut(index)
            && !step.partial.is_empty()
        {
            changes.push(step.line(index, None));
        }
    }

    fn warning(&mut self, warning: VertexWarning) {
        // One Dockerfile built for several platforms warns once for each.
        let known = self.warnings.iter().any(|known| {
            known.short == warning.short
                && known.url == warning.url
                && known.filename == warning.filename
                && known.ranges == warning.ranges
        });
        if !known && self.warnings.len() < MAX_WARNINGS {
            self.warnings.push(warning);
        }
    }
}

impl Step {
    /// Ends the line that is being collected.
    fn line(&mut self, index: usize, offset: Option<Duration>) -> Change {
        let line = printable(&self.partial);
        self.partial.clear();
        if self.partial.capacity() > MAX_LINE {
            self.partial.shrink_to(0);
        }
        if self.tail.len() >= TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(plain(&line).chars().take(TAIL_LINE_CHARS).collect());
        Change::Line(index, offset, line)
    }
}

#[cfg(test)]
mod tests {
    use super::{Change, State, Told};
    use crate::event::{BuildStatus, ProgressGroup, Vertex, VertexLog, VertexWarning};
    use std::time::{Duration, SystemTime};

    fn at(milliseconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds)
    }

    fn vertex(digest: &str, started: Option<u64>, completed: Option<u64>) -> Vertex {
        Vertex {
            digest: digest.to_owned(),
            name: format!("step {digest}"),
            started: started.map(at),
            completed: completed.map(at),
            ..Vertex::default()
        }
    }

    fn vertices(vertices: Vec<Vertex>) -> Told {
        Told::Status(BuildStatus { vertices, ..BuildStatus::default() })
    }

    fn log(digest: &str, data: &[u8]) -> Told {
        let log = VertexLog {
            vertex: digest.to_owned(),
            timestamp: Some(at(1500)),
            stream: 1,
            data: data.to_vec(),
        };
        Told::Status(BuildStatus { logs: vec![log], ..BuildStatus::default() })
    }

    fn lines(changes: &[Change]) -> Vec<&str> {
        let mut lines = Vec::new();
        for change in changes {
            if let Change::Line(_, _, line) = change {
                lines.push(line.as_str());
            }
        }
        lines
    }

    #[test]
    fn a_step_begins_once_and_ends_when_nothing_of_it_runs() {
        let mut state = State::default();
        assert_eq!(state.apply(vertices(vec![vertex("a", None, None)])), []);
        assert_eq!(state.apply(vertices(vec![vertex("a", Some(1), None)])), [Change::Began(0)]);
        assert_eq!(state.apply(vertices(vec![vertex("a", Some(1), None)])), []);
        assert_eq!(state.apply(vertices(vec![vertex("a", Some(1), Some(3))])), [Change::Ended(0)]);
        assert_eq!(state.apply(vertices(vec![vertex("a", Some(1), Some(3))])), []);
        // It runs again, overlapping nothing, and its time adds up.
        assert_eq!(state.apply(vertices(vec![vertex("a", Some(5), None)])), []);
        assert_eq!(state.apply(vertices(vec![vertex("a", Some(5), Some(6))])), [Change::Ended(0)]);
        assert_eq!(state.steps()[0].duration(at(99)), Duration::from_millis(3));
    }

    #[test]
    fn a_step_that_ran_has_not_come_out_of_the_cache_whatever_a_later_build_finds() {
        let mut state = State::default();
        let cached = |at| Vertex { cached: true, ..vertex("a", Some(at), Some(at)) };
        // Within one build, a step that was begun may turn out to be there.
        state.apply(vertices(vec![vertex("a", Some(1), Some(1))]));
        state.apply(vertices(vec![cached(2)]));
        assert!(state.steps()[0].cached);
        state.apply(vertices(vec![vertex("a", Some(3), Some(9))]));
        state.apply(Told::Built);
        state.apply(vertices(vec![cached(10)]));
        assert!(!state.steps()[0].cached);
    }

    #[test]
    fn a_group_is_one_step_that_its_weak_members_do_not_show() {
        let member = |digest: &str, weak, started, completed| Vertex {
            group: Some(ProgressGroup { id: "g".to_owned(), name: "COPY".to_owned(), weak }),
            cached: true,
            ..vertex(digest, started, completed)
        };
        let mut state = State::default();
        assert_eq!(state.apply(vertices(vec![member("w", true, Some(1), Some(2))])), []);
        let shown = state.apply(vertices(vec![member("s", false, Some(2), Some(4))]));
        assert_eq!(shown, [Change::Began(0), Change::Ended(0)]);
        let step = &state.steps()[0];
        assert_eq!((step.name.as_str(), step.cached), ("COPY", true));
        assert_eq!(step.duration(at(99)), Duration::from_millis(3));
        assert_eq!(lines(&state.apply(log("w", b"x\n"))), ["x"]);
    }

    #[test]
    fn lines_are_put_together_and_flushed_at_the_end() {
        let mut state = State::default();
        state.apply(vertices(vec![vertex("a", Some(1000), None)]));
        assert_eq!(lines(&state.apply(log("a", b"one\ntw"))), ["one"]);
        let changes = state.apply(log("a", "o\nthr\u{e9}e".as_bytes()));
        assert_eq!(changes, [Change::Line(0, Some(Duration::from_millis(500)), "two".to_owned())]);
        let changes = state.apply(vertices(vec![vertex("a", Some(1000), Some(2000))]));
        assert_eq!(changes, [Change::Line(0, None, "thrée".to_owned()), Change::Ended(0)]);
        assert_eq!(state.apply(log("unknown", b"x\n")), []);
    }

    #[test]
    fn a_progress_bar_that_redraws_itself_is_one_line() {
        let mut state = State::default();
        state.apply(vertices(vec![vertex("a", Some(1), None)]));
        for percent in 0..100_000 {
            let changes = state.apply(log("a", format!("\r{percent}%").as_bytes()));
            assert_eq!(changes, []);
        }
        assert!(state.steps()[0].partial.len() < 100);
        assert_eq!(lines(&state.apply(log("a", b"\rdone\r\n"))), ["done"]);
    }

    #[test]
    fn memory_stays_small_under_50_megabytes_of_output() {
        let mut state = State::default();
        let chunk = format!("{}\n", "x".repeat(249)).repeat(200);
        for step in 0..200 {
            let digest = step.to_string();
            state.apply(vertices(vec![vertex(&digest, Some(1), None)]));
            for _ in 0..5 {
                state.apply(log(&digest, chunk.as_bytes()));
            }
        }
        // A line that never ends is cut.
        state.apply(log("0", &vec![b'y'; 10 << 20]));
        let kept: usize = state
            .steps()
            .iter()
            .map(|step| {
                step.partial.capacity() + step.tail.iter().map(String::capacity).sum::<usize>()
            })
            .sum();
        assert!(kept < 8 << 20, "{kept} bytes are kept");
    }

    #[test]
    fn the_same_warning_is_kept_once() {
        let mut state = State::default();
        for vertex in ["a", "b"] {
            let warning = VertexWarning {
                vertex: vertex.to_owned(),
                short: "odd".to_owned(),
                ..VertexWarning::default()
            };
            let status = BuildStatus { warnings: vec![warning], ..BuildStatus::default() };
            state.apply(Told::Status(status));
        }
        assert_eq!(state.warnings().len(), 1);
    }
}
