//! Checks that ask a pod: an HTTP request, or a command.

use super::{
    PAUSES,
    expect::{Expectation, differences},
    pods::{PodError, PodRequest, Pods},
    report::{Check, CheckedPod, Finding},
};
use std::time::{Duration, Instant};

/// A request to each new pod, and what must come back.
#[derive(Clone, Debug)]
pub struct HttpCheck {
    /// The pod's port.
    pub port: u16,
    /// The path, with its query.
    pub path: String,
    /// What must come back.
    pub expect: Expectation,
    /// How long one try may take.
    pub timeout: Duration,
}

/// A command in each new pod, and how it must end.
#[derive(Clone, Debug)]
pub struct ExecCheck {
    /// The command, the program first.
    pub command: Vec<String>,
    /// The container; the pod's first where it is not given.
    pub container: Option<String>,
    /// What it must exit with.
    pub exit: i32,
    /// What its output must contain.
    pub output: Option<String>,
    /// How long it may take.
    pub timeout: Duration,
}

/// Asks `pod`, again and again for some seconds until the answer is right.
pub async fn http(check: &HttpCheck, pods: &Pods, pod: &CheckedPod) -> Check {
    let began = Instant::now();
    let request = PodRequest {
        method: http::Method::GET,
        port: check.port,
        path: check.path.clone(),
        ..PodRequest::default()
    };
    let mut pauses = PAUSES.iter();
    let mut attempts = 0;
    loop {
        attempts += 1;
        let (findings, hopeless) = match pods.request(pod, &request, check.timeout).await {
            Ok(answer) => (differences(&check.expect, answer.status, &answer.body), false),
            Err(error) => (vec![unanswered(&error)], is_hopeless(&error)),
        };
        let pause = pauses.next().filter(|_| !findings.is_empty() && !hopeless);
        let Some(pause) = pause else {
            let subject = format!("GET :{}{}", check.port, check.path);
            return Check::new("http", subject, Some(pod.clone()), findings)
                .took(attempts, began.elapsed());
        };
        tokio::time::sleep(*pause).await;
    }
}

/// Runs a command in `pod`, once.
pub async fn exec(check: &ExecCheck, pods: &Pods, pod: &CheckedPod) -> Check {
    let began = Instant::now();
    let container = check.container.as_deref();
    let findings = match pods.exec(pod, container, &check.command, check.timeout).await {
        Ok(done) if done.exit_code == Some(check.exit) => match &check.output {
            Some(text) if !done.output.contains(text) => {
                let message = format!("its output does not contain `{text}`");
                vec![Finding::fatal("EXEC_OUTPUT", message)]
            }
            _ => Vec::new(),
        },
        Ok(done) => {
            let code = done.exit_code.map_or("an unknown code".to_owned(), |code| code.to_string());
            let last =
                done.output.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
            let last: String = last.chars().filter(|c| !c.is_control()).take(200).collect();
            let words = if last.is_empty() { String::new() } else { format!(": {last}") };
            vec![Finding::fatal(
                "EXEC_FAILED",
                format!("it ended with {code}, not {}{words}", check.exit),
            )]
        }
        Err(error) => vec![unanswered(&error)],
    };
    Check::new("exec", check.command.join(" "), Some(pod.clone()), findings)
        .took(1, began.elapsed())
}

/// A pod that gave no answer.
pub(super) fn unanswered(error: &PodError) -> Finding {
    let code = match error {
        PodError::Gone(_) => "POD_GONE",
        PodError::Silent { .. } => "POD_SILENT",
        PodError::Refused { status: 403, .. } => "POD_FORBIDDEN",
        PodError::Cluster { .. } | PodError::Refused { .. } | PodError::Unreadable { .. } => {
            "POD_UNREACHABLE"
        }
    };
    Finding { fix: error.hint(), ..Finding::fatal(code, error.to_string()) }
}

/// Whether another try would come to the same.
fn is_hopeless(error: &PodError) -> bool {
    matches!(error, PodError::Gone(_) | PodError::Refused { status: 401 | 403, .. })
}
