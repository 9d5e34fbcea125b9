//! A rollout as a step that the views of the progress know: its pods and diagnoses are its lines.

use crate::{
    event::{BuildStatus, Event, Events, PODS, Vertex, VertexLog, VertexStatus},
    rollout::{drive::Progress, report::Diagnosis},
};
use sha2::{Digest as _, Sha256};
use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::SystemTime,
};

/// A step of the progress.
#[derive(Clone, Debug)]
pub(super) struct Step {
    events: Events,
    vertex: Vertex,
    /// Pods that are wanted, as last heard.
    wanted: Arc<AtomicI64>,
}

impl Step {
    /// Begins a step, such as `[rollout] deployment/web`.
    pub(super) fn begin(events: &Events, name: String) -> Self {
        let mut digest = "sha256:".to_owned();
        for byte in Sha256::digest(name.as_bytes()) {
            let _cannot_fail = write!(digest, "{byte:02x}");
        }
        let started = Some(SystemTime::now());
        let vertex = Vertex { digest, name, started, ..Vertex::default() };
        let step = Self { events: events.clone(), vertex, wanted: Arc::default() };
        step.tell(step.vertex.clone());
        step
    }

    /// Ends it; `error` is none where it did what it should.
    pub(super) fn end(mut self, error: Option<&str>) {
        let wanted = self.wanted.load(Ordering::Relaxed);
        if error.is_none() && wanted > 0 {
            self.pods(wanted, wanted);
        }
        self.vertex.completed = Some(SystemTime::now());
        error.unwrap_or_default().clone_into(&mut self.vertex.error);
        self.tell(self.vertex.clone());
    }

    /// A line of it.
    pub(super) fn line(&self, line: &str) {
        let log = VertexLog {
            vertex: self.vertex.digest.clone(),
            timestamp: Some(SystemTime::now()),
            stream: 2,
            data: format!("{line}\n").into_bytes(),
        };
        self.events.emit(Event::Build(BuildStatus { logs: vec![log], ..BuildStatus::default() }));
    }

    /// How far it is.
    pub(super) fn progress(&self, progress: &Progress<'_>) {
        match progress {
            Progress::Waiting { ready, wanted, message } => {
                self.line(&format!("{ready}/{wanted} ready, waiting {}", waiting(message)));
                self.pods(*ready, *wanted);
            }
            Progress::Diagnosed(diagnosis) => self.line(&diagnosed(diagnosis)),
            Progress::Removed { pod } => {
                self.line(&format!("deleted pod/{pod}, which held the rollout up"));
            }
        }
    }

    /// How many of its pods are ready.
    fn pods(&self, ready: i64, wanted: i64) {
        self.wanted.store(wanted, Ordering::Relaxed);
        let now = Some(SystemTime::now());
        let part = VertexStatus {
            id: PODS.to_owned(),
            vertex: self.vertex.digest.clone(),
            name: PODS.to_owned(),
            current: ready,
            total: wanted,
            timestamp: now,
            started: self.vertex.started,
            completed: now.filter(|_| ready >= wanted),
        };
        let status = BuildStatus { statuses: vec![part], ..BuildStatus::default() };
        self.events.emit(Event::Build(status));
    }

    fn tell(&self, vertex: Vertex) {
        let status = BuildStatus { vertices: vec![vertex], ..BuildStatus::default() };
        self.events.emit(Event::Build(status));
    }
}

/// What is waited for, after the word "waiting".
fn waiting(message: &str) -> String {
    if message.starts_with("for ") { message.to_owned() } else { format!("({message})") }
}

fn diagnosed(diagnosis: &Diagnosis) -> String {
    let pods = match diagnosis.pod_count {
        0 | 1 => String::new(),
        count => format!(", in {count} pods"),
    };
    format!("{}: {}{pods}", diagnosis.code, diagnosis.message)
}
