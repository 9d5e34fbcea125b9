//! What is remembered of a build's status stream: counts for the result, times, and the last
//! lines of each step's output for when it fails. Bounded, however long a build talks.

use crate::event::{BuildStatus, Vertex, VertexLog, VertexStatus, VertexWarning};
use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, SystemTime},
};

/// Lines kept of one step's output.
const TAIL_LINES: usize = 40;

/// Bytes kept of one line.
const LINE_LIMIT: usize = 4 << 10;

/// Steps whose output is kept; of those that are done and did not fail, the oldest goes.
const TAILS: usize = 256;

/// Warnings kept; each carries the text of its file.
const WARNINGS: usize = 200;

/// A build's status, reduced.
#[derive(Debug, Default)]
pub struct Journal {
    steps: BTreeMap<String, Step>,
    tails: BTreeMap<String, Tail>,
    tail_order: VecDeque<String>,
    push: Option<(SystemTime, SystemTime)>,
    warnings: Vec<VertexWarning>,
}

/// A vertex, as last heard of it.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// Its name on the screen.
    pub name: String,
    /// Whether its result was there already.
    pub cached: bool,
    /// Why it failed; empty otherwise.
    pub error: String,
    /// When it first began.
    pub started: Option<SystemTime>,
    /// When it last ended.
    pub completed: Option<SystemTime>,
}

#[derive(Debug, Default)]
struct Tail {
    lines: VecDeque<Vec<u8>>,
    open: bool,
}

impl Journal {
    /// Takes in one message.
    pub fn observe(&mut self, status: &BuildStatus) {
        for vertex in &status.vertices {
            self.steps.entry(vertex.digest.clone()).or_default().update(vertex);
        }
        for part in &status.statuses {
            if part.id.starts_with("pushing ") {
                self.pushing(part);
            }
        }
        for log in &status.logs {
            self.log(log);
        }
        let room = WARNINGS.saturating_sub(self.warnings.len());
        self.warnings.extend(status.warnings.iter().take(room).cloned());
    }

    /// The warnings, in their order.
    pub fn warnings(&self) -> &[VertexWarning] {
        &self.warnings
    }

    /// Steps that ran or were found in the cache.
    pub fn vertices(&self) -> usize {
        self.steps.values().filter(|step| step.completed.is_some()).count()
    }

    /// Steps that were found in the cache.
    pub fn cached(&self) -> usize {
        self.steps.values().filter(|step| step.cached).count()
    }

    /// The step `digest`.
    pub fn step(&self, digest: &str) -> Option<&Step> {
        self.steps.get(digest)
    }

    /// The steps whose names begin with `prefix`.
    pub fn named<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Step> {
        self.steps.values().filter(move |step| step.name.starts_with(prefix))
    }

    /// The step that failed first of its own accord, with its digest: those that failed because
    /// another had failed, or because the build was cancelled, come after it.
    pub fn failed(&self) -> Option<(&str, &Step)> {
        let own = |step: &Step| {
            !step.error.is_empty()
                && !step.error.ends_with("context canceled")
                && !step.error.contains("code = Canceled")
        };
        self.steps
            .iter()
            .filter(|(_, step)| own(step))
            .min_by_key(|(_, step)| step.completed)
            .map(|(digest, step)| (digest.as_str(), step))
    }

    /// From the first begin to the last end of the steps whose names begin with `prefix`.
    pub fn span(&self, prefix: &str) -> Option<Duration> {
        let begin = self.named(prefix).filter_map(|step| step.started).min()?;
        let end = self.named(prefix).filter_map(|step| step.completed).max()?;
        end.duration_since(begin).ok()
    }

    /// The last lines of a step's output, oldest first.
    pub fn tail(&self, digest: &str) -> Vec<String> {
        let Some(tail) = self.tails.get(digest) else { return Vec::new() };
        tail.lines
            .iter()
            .map(|line| {
                let text = String::from_utf8_lossy(line);
                // A progress bar redraws its line: what is left on the screen is the last of it.
                let text = text.trim_end_matches('\r');
                text.rsplit('\r').next().unwrap_or(text).to_owned()
            })
            .collect()
    }

    /// From the begin of the first push to the end of the last.
    pub fn push_time(&self) -> Option<Duration> {
        let (begin, end) = self.push?;
        end.duration_since(begin).ok()
    }

    fn pushing(&mut self, part: &VertexStatus) {
        let (Some(started), Some(completed)) = (part.started, part.completed) else { return };
        let (begin, end) = self.push.unwrap_or((started, completed));
        self.push = Some((begin.min(started), end.max(completed)));
    }

    fn log(&mut self, log: &VertexLog) {
        if !self.tails.contains_key(&log.vertex) {
            self.make_room();
            self.tail_order.push_back(log.vertex.clone());
        }
        self.tails.entry(log.vertex.clone()).or_default().push(&log.data);
    }

    fn make_room(&mut self) {
        while self.tails.len() >= TAILS {
            let quiet = |digest: &String| {
                self.steps
                    .get(digest)
                    .is_some_and(|step| step.completed.is_some() && step.error.is_empty())
            };
            let at = self.tail_order.iter().position(quiet).unwrap_or(0);
            let Some(digest) = self.tail_order.remove(at) else { return };
            self.tails.remove(&digest);
        }
    }
}

impl Step {
    fn update(&mut self, vertex: &Vertex) {
        self.name.clone_from(&vertex.name);
        self.cached = vertex.cached;
        self.started = self.started.or(vertex.started);
        self.completed = vertex.completed;
        if !vertex.error.is_empty() {
            self.error.clone_from(&vertex.error);
        }
    }
}

impl Tail {
    fn push(&mut self, data: &[u8]) {
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            if !self.open {
                if self.lines.len() == TAIL_LINES {
                    self.lines.pop_front();
                }
                self.lines.push_back(Vec::new());
            }
            if let Some(line) = self.lines.back_mut() {
                let room = LINE_LIMIT.saturating_sub(line.len());
                line.extend(text.iter().take(room));
            }
            self.open = !ends;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn vertex(digest: &str, name: &str, started: u64, completed: u64, error: &str) -> Vertex {
        Vertex {
            digest: digest.to_owned(),
            name: name.to_owned(),
            started: Some(at(started)),
            completed: Some(at(completed)),
            error: error.to_owned(),
            ..Vertex::default()
        }
    }

    fn log(vertex: &str, data: &[u8]) -> BuildStatus {
        let log =
            VertexLog { vertex: vertex.to_owned(), data: data.to_vec(), ..VertexLog::default() };
        BuildStatus { logs: vec![log], ..BuildStatus::default() }
    }

    #[test]
    fn the_step_that_failed_is_the_one_that_was_not_cancelled() {
        let mut journal = Journal::default();
        journal.observe(&BuildStatus {
            vertices: vec![
                vertex("a", "[1/2] RUN sleep", 1, 5, "process \"sleep\" did not complete successfully: exit code: 137: context canceled"),
                vertex("b", "[2/2] RUN false", 2, 6, "exit code: 1"),
                Vertex { cached: true, ..vertex("c", "[3/3] COPY", 2, 3, "") },
            ],
            ..BuildStatus::default()
        });
        assert_eq!(journal.failed().map(|(digest, _)| digest), Some("b"));
        assert_eq!((journal.vertices(), journal.cached()), (3, 1));
        assert_eq!(journal.span("["), Some(Duration::from_secs(5)));
        assert_eq!(journal.span("exporting"), None);
    }

    #[test]
    fn a_tail_keeps_whole_last_lines_however_they_were_cut() {
        let mut journal = Journal::default();
        for number in 0..100 {
            journal.observe(&log("a", format!("line {number}").as_bytes()));
            journal.observe(&log("a", b"!\nhalf"));
            journal.observe(&log("a", b"\rwhole\n"));
        }
        journal.observe(&log("a", b"last"));
        let tail = journal.tail("a");
        assert_eq!(tail.len(), TAIL_LINES);
        assert_eq!(tail.last().map(String::as_str), Some("last"));
        assert_eq!(tail.get(TAIL_LINES - 2).map(String::as_str), Some("whole"));
        assert_eq!(tail.get(TAIL_LINES - 3).map(String::as_str), Some("line 99!"));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut journal = Journal::default();
        journal.observe(&log("long", &vec![b'x'; 1 << 20]));
        assert_eq!(journal.tail("long").first().map(String::len), Some(LINE_LIMIT));
        for number in 0..2 * TAILS {
            let digest = format!("v{number}");
            let error = if number == 0 { "failed" } else { "" };
            let vertices = vec![vertex(&digest, "x", 1, 2, error)];
            journal.observe(&BuildStatus { vertices, ..BuildStatus::default() });
            journal.observe(&log(&digest, b"x\n"));
        }
        assert_eq!(journal.tails.len(), TAILS);
        assert_eq!(journal.tail("v0"), ["x"]);
    }
}
