//! What every stage tells while it works. Plain data; [`crate::progress`] is the only reader.
//!
//! An event names a fact, never a rendering of it. Stages get an [`Events`] handle and emit; what
//! becomes of an event (a line, a JSON object, a redrawn screen, nothing) is the reader's matter.

use std::{fmt, sync::Arc, time::SystemTime};

/// One fact that a stage reports.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A stage of the pipeline began.
    StageStarted {
        /// Which stage.
        stage: Stage,
        /// What it works on, in a few words fit for a heading (an address, a reference).
        subject: String,
    },
    /// A stage of the pipeline ended.
    StageEnded {
        /// Which stage.
        stage: Stage,
        /// Whether it did what it was asked.
        ok: bool,
    },
    /// Something that the user should know and that stops nothing.
    Warning(Warning),
    /// The builder reported on its vertices: BuildKit's `StatusResponse`, as plain data.
    Build(BuildStatus),
    /// Bytes of one blob on their way to a registry, or the answer that none are needed.
    Push(PushStatus),
}

/// The stages of the pipeline. Stage, module, heading and JSON key share one name.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Stage {
    /// A builder is looked for and dialled.
    Connect,
    /// The Dockerfile becomes a graph.
    Compile,
    /// The graph runs, and its result is exported.
    Build,
    /// The image goes to a registry.
    Push,
    /// It is signed there.
    Sign,
    /// Caches are written.
    Cache,
}

/// A warning that is not tied to a builder's vertex.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Warning {
    /// SCREAMING_SNAKE, stable.
    pub code: &'static str,
    /// One sentence without a full stop.
    pub message: String,
    /// What to do about it, if anything.
    pub hint: Option<String>,
}

/// One message of the builder's status stream. Fields are full replacements of what was said
/// before of the same vertex, status or log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BuildStatus {
    /// Vertices that began, ended or changed.
    pub vertices: Vec<Vertex>,
    /// Progress of parts of a vertex (a transfer, a layer).
    pub statuses: Vec<VertexStatus>,
    /// Output of commands.
    pub logs: Vec<VertexLog>,
    /// Lint and other warnings of the frontend.
    pub warnings: Vec<VertexWarning>,
}

/// A step as the builder sees it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vertex {
    /// The op's digest, or another unique text for steps that are no ops.
    pub digest: String,
    /// Digests of the vertices that it needs.
    pub inputs: Vec<String>,
    /// Its name on the screen, such as `[build 2/4] RUN make`.
    pub name: String,
    /// Whether its result was there already.
    pub cached: bool,
    /// When it last began. A vertex may start and complete more than once.
    pub started: Option<SystemTime>,
    /// When it last ended; none while it runs.
    pub completed: Option<SystemTime>,
    /// Why it failed; empty otherwise.
    pub error: String,
    /// The group that it is shown under.
    pub group: Option<ProgressGroup>,
}

/// Vertices that are shown as one (`COPY --link`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ProgressGroup {
    /// Equal in all members.
    pub id: String,
    /// The name on the screen.
    pub name: String,
    /// Whether the members may also be shown alone.
    pub weak: bool,
}

/// Progress of a part of a vertex.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VertexStatus {
    /// Unique within the vertex, such as `transferring context:`.
    pub id: String,
    /// The vertex's digest.
    pub vertex: String,
    /// The action, such as `downloading`.
    pub name: String,
    /// Done so far; bytes wherever `total` is known, else a count.
    pub current: i64,
    /// To be done in all; zero where unknown.
    pub total: i64,
    /// When this was said.
    pub timestamp: Option<SystemTime>,
    /// When the part began.
    pub started: Option<SystemTime>,
    /// When it ended.
    pub completed: Option<SystemTime>,
}

/// The [id](VertexStatus::id) of the part of a rollout's step that counts its pods: those that are
/// ready, of those that are wanted.
pub const PODS: &str = "pods ready";

/// Output of a command.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VertexLog {
    /// The vertex's digest.
    pub vertex: String,
    /// When it was written.
    pub timestamp: Option<SystemTime>,
    /// 1 for stdout, 2 for stderr.
    pub stream: i64,
    /// Raw bytes; may end in the middle of a line or of a character.
    pub data: Vec<u8>,
}

/// A warning of the frontend, mostly of the linter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VertexWarning {
    /// The vertex's digest.
    pub vertex: String,
    /// 1 for lint warnings.
    pub level: i64,
    /// One line.
    pub short: String,
    /// More lines.
    pub detail: Vec<String>,
    /// Where the rule is explained.
    pub url: String,
    /// The file that it is about.
    pub filename: String,
    /// That file's whole text.
    pub source: Vec<u8>,
    /// Where in it: start and end, each line (1-based) and character (0-based).
    pub ranges: Vec<((i32, i32), (i32, i32))>,
}

/// The state of one blob or manifest on its way to a registry.
#[derive(Clone, Debug, PartialEq)]
pub struct PushStatus {
    /// The blob's digest, or the identifier that the pusher uses.
    pub id: String,
    /// What happens to it.
    pub action: PushAction,
    /// Bytes sent so far.
    pub current: u64,
    /// Bytes to send, where known.
    pub total: Option<u64>,
}

/// What happens to a blob in a push.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum PushAction {
    /// It is looked for, or prepared.
    Preparing,
    /// It is on its way.
    Uploading,
    /// It is there now.
    Uploaded,
    /// It was there before.
    Existing,
    /// It was taken from another repository of the same registry.
    Mounted,
}

/// The handle that stages emit through. Cheap to clone; emitting never blocks and never fails.
#[derive(Clone)]
pub struct Events(Arc<dyn Fn(Event) + Send + Sync>);

impl Events {
    /// A handle whose events go to `sink`, which must return at once.
    pub fn new(sink: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(sink))
    }

    /// A handle whose events nobody reads.
    pub fn discard() -> Self {
        Self::new(drop)
    }

    /// Reports `event`.
    pub fn emit(&self, event: Event) {
        (self.0)(event);
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Events")
    }
}
