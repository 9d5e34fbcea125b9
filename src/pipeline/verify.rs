//! The checks of a deploy, in order: requests, commands, Inngest.

use crate::{
    event::{Event, Events, Warning},
    ignorefile::{Matcher, MatcherError},
    verify::{
        http::{self, ExecCheck, HttpCheck},
        inngest::{
            checks::{self, InngestCheck},
            source::SourceFile,
        },
        pods::Pods,
        report::{Check, CheckedPod, Finding, VerifyReport},
    },
};
use futures::future::join_all;
use std::{fs, path::Path};
use tokio_util::sync::CancellationToken;

/// What is checked.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    /// Requests to each new pod.
    pub http: Vec<HttpCheck>,
    /// Commands in each new pod.
    pub exec: Vec<ExecCheck>,
    /// What an Inngest server must know.
    pub inngest: Option<InngestCheck>,
}

impl Checks {
    /// Whether there is nothing to check.
    pub fn is_empty(&self) -> bool {
        self.http.is_empty() && self.exec.is_empty() && self.inngest.is_none()
    }
}

/// The files below `root` that one of `patterns` names (`**` stands for any number of directories),
/// in the order of their paths. What packages brought along is passed over.
///
/// # Errors
/// A pattern cannot be read.
pub fn read_sources(root: &Path, patterns: &[String]) -> Result<Vec<SourceFile>, MatcherError> {
    let mut found = Vec::new();
    if patterns.is_empty() {
        return Ok(found);
    }
    let matcher = Matcher::new(patterns)?;
    let mut waiting = vec![String::new()];
    while let Some(directory) = waiting.pop() {
        let Ok(entries) = fs::read_dir(root.join(&directory)) else { continue };
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path =
                if directory.is_empty() { name.clone() } else { format!("{directory}/{name}") };
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                if name != "node_modules" && name != ".git" {
                    waiting.push(path);
                }
            } else if kind.is_file()
                && matcher.at_once(&path)
                && let Ok(text) = fs::read_to_string(entry.path())
            {
                found.push(SourceFile { path, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// What the checks need.
#[derive(Debug)]
pub struct VerifyInputs {
    /// The namespace's pods.
    pub pods: Pods,
    /// Those of the new revision.
    pub new: Vec<CheckedPod>,
    /// Who hears of the progress.
    pub events: Events,
    /// Cancelled when the user wants no more of it.
    pub cancel: CancellationToken,
}

/// The checks were interrupted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// Runs `checks`. What they find is in the report: only an interruption is an error.
///
/// # Errors
/// The user wants no more of it.
pub async fn verify(checks: &Checks, inputs: VerifyInputs) -> Result<VerifyReport, Interrupted> {
    let VerifyInputs { pods, new, events, cancel } = inputs;
    let report = tokio::select! {
        report = run(checks, &pods, &new) => report,
        () = cancel.cancelled() => return Err(Interrupted),
    };
    for check in &report.checks {
        for finding in check.findings.iter().filter(|finding| !finding.fatal) {
            events.emit(Event::Warning(Warning {
                code: finding.code,
                message: format!("{}: {}", check.subject, finding.message),
                hint: finding.fix.clone(),
            }));
        }
    }
    Ok(report)
}

async fn run(checks: &Checks, pods: &Pods, new: &[CheckedPod]) -> VerifyReport {
    let mut report = VerifyReport::default();
    let wants_pods = !checks.http.is_empty() || !checks.exec.is_empty() || checks.inngest.is_some();
    let Some(first) = new.first() else {
        if wants_pods {
            let finding = Finding::fatal("POD_MISSING", "there is no pod of the new revision")
                .with_fix("see why with `bk-sync status`");
            report.checks.push(Check::new("http", "pods", None, vec![finding]));
        }
        return report;
    };
    for check in &checks.http {
        report.checks.extend(join_all(new.iter().map(|pod| http::http(check, pods, pod))).await);
    }
    for check in &checks.exec {
        report.checks.extend(join_all(new.iter().map(|pod| http::exec(check, pods, pod))).await);
    }
    if let Some(check) = &checks.inngest {
        report.checks.push(checks::run(check, pods, first).await);
    }
    report
}

#[cfg(test)]
mod tests {
    use super::read_sources;
    use std::fs;

    #[test]
    fn sources_are_found_by_globs_and_packages_are_passed_over() {
        let root = tempfile::tempdir().unwrap();
        for path in ["src/a.ts", "src/deep/b.ts", "src/c.js", "src/node_modules/d.ts", "e.ts"] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        let found = read_sources(root.path(), &["src/**/*.ts".to_owned()]).unwrap();
        let paths: Vec<_> = found.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["src/a.ts", "src/deep/b.ts"]);
        assert!(read_sources(root.path(), &[]).unwrap().is_empty());
    }
}
