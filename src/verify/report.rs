//! What the checks came to: one entry a check, with what it found. Pure.

use serde::Serialize;
use std::time::Duration;

/// All checks of a deploy.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct VerifyReport {
    /// Every check, in the order in which they ran.
    pub checks: Vec<Check>,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// What kind it is: `http`, `exec` or `inngest`.
    pub kind: &'static str,
    /// What was checked, such as `GET :3111/`.
    pub subject: String,
    /// The pod that was asked; none where it was no pod.
    pub pod: Option<CheckedPod>,
    /// Whether all was as it should be.
    pub ok: bool,
    /// What was not, and what is worth knowing.
    pub findings: Vec<Finding>,
    /// Tries that it took.
    pub attempts: u32,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

/// A pod of the new revision.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct CheckedPod {
    /// Its name.
    pub name: String,
    /// Its UID, which proves that it is of the new revision.
    pub uid: String,
}

/// Something that a check found.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// Stable, `SCREAMING_SNAKE`.
    pub code: &'static str,
    /// One sentence without a full stop.
    pub message: String,
    /// What to do about it.
    pub fix: Option<String>,
    /// Whether the check fails because of it; else it is only told.
    pub fatal: bool,
}

impl Finding {
    /// A finding that fails its check.
    pub fn fatal(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), fix: None, fatal: true }
    }

    /// A finding that is only told.
    pub fn told(code: &'static str, message: impl Into<String>) -> Self {
        Self { fatal: false, ..Self::fatal(code, message) }
    }

    /// With what to do about it.
    #[must_use]
    pub fn with_fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

impl Check {
    /// A check of `kind` that found `findings`.
    pub fn new(
        kind: &'static str,
        subject: impl Into<String>,
        pod: Option<CheckedPod>,
        findings: Vec<Finding>,
    ) -> Self {
        let ok = !findings.iter().any(|finding| finding.fatal);
        Self { kind, subject: subject.into(), pod, ok, findings, attempts: 1, duration_ms: 0 }
    }

    /// With what it took.
    #[must_use]
    pub fn took(mut self, attempts: u32, time: Duration) -> Self {
        self.attempts = attempts;
        self.duration_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self
    }
}

impl VerifyReport {
    /// Whether every check was good.
    pub fn ok(&self) -> bool {
        self.checks.iter().all(|check| check.ok)
    }

    /// The findings that failed their checks, each with its check.
    pub fn failures(&self) -> impl Iterator<Item = (&Check, &Finding)> {
        self.checks.iter().flat_map(|check| {
            let fatal = check.findings.iter().filter(|finding| finding.fatal);
            fatal.map(move |finding| (check, finding))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Check, Finding, VerifyReport};

    #[test]
    fn only_fatal_findings_fail_a_check() {
        let told = Check::new("http", "GET :80/", None, vec![Finding::told("A", "a")]);
        let failed = Check::new("http", "GET :80/", None, vec![Finding::fatal("B", "b")]);
        let report = VerifyReport { checks: vec![told.clone(), failed] };
        assert!(told.ok && !report.ok());
        let codes: Vec<_> = report.failures().map(|(_, finding)| finding.code).collect();
        assert_eq!(codes, ["B"]);
    }
}
