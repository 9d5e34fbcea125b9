//! Runs that a rollout would end: a step that runs in a pod is lost with it. Pure.

use super::app::AppsError;
use serde::Deserialize;
use serde_json::{Value, json};

/// Of the runs that go on, this many are counted.
const MOST: u32 = 20;

/// What becomes of a deploy while runs go on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WhileRunning {
    /// It is told, and goes on.
    Report,
    /// It is refused.
    Refuse,
}

/// The ids of `app`'s functions among those that a server lists.
///
/// # Errors
/// The answer lists no functions.
pub fn read_ids(app: &str, body: &[u8]) -> Result<Vec<String>, AppsError> {
    #[derive(Deserialize)]
    struct Function {
        id: String,
        slug: String,
    }
    let json: Value = serde_json::from_slice(body).map_err(|_| AppsError::Unreadable)?;
    let list = json.pointer("/data/functions").cloned().ok_or(AppsError::Unreadable)?;
    let list: Vec<Function> = serde_json::from_value(list).map_err(|_| AppsError::Unreadable)?;
    let prefix = format!("{app}-");
    let own = list.into_iter().filter(|one| one.slug.starts_with(&prefix));
    Ok(own.map(|one| one.id).collect())
}

/// The question for the runs of `functions` that began since `from` and go on.
pub fn question(functions: &[String], from: &str) -> Value {
    json!({
        "query": format!(
            "query($filter: RunsFilterV2!) {{ runs(first: {MOST}, filter: $filter, orderBy: [{{field: \
             STARTED_AT, direction: DESC}}]) {{ edges {{ node {{ id }} }} }} }}"
        ),
        "variables": {
            "filter": { "from": from, "status": ["RUNNING"], "functionIDs": functions },
        },
    })
}

/// How many runs the answer to [`question`] tells.
///
/// # Errors
/// The answer has another shape.
pub fn read(body: &[u8]) -> Result<usize, AppsError> {
    let json: Value = serde_json::from_slice(body).map_err(|_| AppsError::Unreadable)?;
    let edges = json.pointer("/data/runs/edges").and_then(Value::as_array);
    edges.map(Vec::len).ok_or(AppsError::Unreadable)
}

#[cfg(test)]
mod tests {
    use super::{question, read, read_ids};

    #[test]
    fn the_runs_of_the_apps_own_functions_are_counted() {
        let body = br#"{"data":{"functions":[{"id":"1","slug":"bus-a"},{"id":"2","slug":"other-a"},{"id":"3","slug":"bus-b"}]}}"#;
        let ids = read_ids("bus", body).unwrap();
        assert_eq!(ids, ["1", "3"]);
        let asked = question(&ids, "2026-01-01T00:00:00Z");
        assert_eq!(asked["variables"]["filter"]["functionIDs"][1], "3");
        assert_eq!(asked["variables"]["filter"]["status"][0], "RUNNING");
        assert_eq!(read(br#"{"data":{"runs":{"edges":[{"node":{"id":"r"}}]}}}"#), Ok(1));
        assert!(read(b"{}").is_err() && read_ids("bus", b"[]").is_err());
    }
}
