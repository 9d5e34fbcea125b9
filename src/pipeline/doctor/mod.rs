//! `doctor`: everything that can be found wrong before a deploy, each with what mends it.

mod builder;
mod cluster;
mod inngest;
mod local;
mod registry;
mod workspace;

pub use builder::builder;
pub(super) use builder::free_disk;
pub use cluster::{cluster, workloads};
pub use inngest::inngest;
pub use local::{Local, local};
pub use registry::registry;

use serde::Serialize;

/// What was looked at, and what was found.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Check {
    /// The area: `config`, `checkout`, `image`, `builder`, `registry`, `cluster`, `inngest`.
    pub area: &'static str,
    /// What was looked at, in a word or two; stable.
    pub name: &'static str,
    /// What it came to.
    pub state: State,
    /// What was found, without a full stop.
    pub finding: String,
    /// What mends it; none where nothing needs mending.
    pub mend: Option<String>,
}

/// What a check came to.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As it should be.
    Ok,
    /// It could not be looked at, or there is nothing to look at.
    Skipped,
    /// A deploy may work, and may surprise.
    Warning,
    /// A deploy would fail.
    Failed,
}

impl State {
    /// Its name, in JSON and on the screen.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped => "skipped",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

impl Check {
    /// A check that found all as it should be.
    pub fn ok(area: &'static str, name: &'static str, finding: impl Into<String>) -> Self {
        Self { area, name, state: State::Ok, finding: finding.into(), mend: None }
    }

    /// A check that could not be made.
    pub fn skipped(area: &'static str, name: &'static str, finding: impl Into<String>) -> Self {
        Self { area, name, state: State::Skipped, finding: finding.into(), mend: None }
    }

    /// A check that found what may surprise.
    pub fn warning(
        area: &'static str,
        name: &'static str,
        finding: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        let (finding, mend) = (finding.into(), Some(mend.into()));
        Self { area, name, state: State::Warning, finding, mend }
    }

    /// A check that found what a deploy would fail at.
    pub fn failed(
        area: &'static str,
        name: &'static str,
        finding: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self { state: State::Failed, ..Self::warning(area, name, finding, mend) }
    }
}

/// The checks as people read them: one line each, and what mends it below.
pub fn screen(checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.area.len() + check.name.len() + 1).max();
    let width = width.unwrap_or_default();
    let mut lines = Vec::new();
    for Check { area, name, state, finding, mend } in checks {
        let title = format!("{area} {name}");
        lines.push(format!("{:7}  {title:width$}  {finding}", state.name()));
        if let Some(mend) = mend {
            lines.push(format!("{:7}  {:width$}  mend: {mend}", "", ""));
        }
    }
    lines.join("\n")
}
