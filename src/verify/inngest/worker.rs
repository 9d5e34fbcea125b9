//! What a worker says of itself. Pure.

use serde_json::Value;

/// A worker's own account.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Worker {
    /// The ids of its functions.
    pub functions: Vec<String>,
    /// Ids that several of its functions have.
    pub duplicates: Vec<String>,
    /// When its process began, where it says so.
    pub started_at: Option<String>,
}

/// Reads the account: `functions`, a list of ids or of objects with one, and where they are there
/// `worker.duplicateFunctionIds` and `worker.startedAt`. None where it lists no functions.
pub fn read(body: &[u8]) -> Option<Worker> {
    let json: Value = serde_json::from_slice(body).ok()?;
    let id = |value: &Value| match value {
        Value::String(id) => Some(id.clone()),
        Value::Object(_) => value.get("id").and_then(Value::as_str).map(str::to_owned),
        _ => None,
    };
    let list = |value: Option<&Value>| -> Option<Vec<String>> {
        Some(value?.as_array()?.iter().filter_map(id).collect())
    };
    let functions = list(json.get("functions"))?;
    let mut duplicates = list(json.pointer("/worker/duplicateFunctionIds")).unwrap_or_default();
    duplicates.extend(repeated(&functions));
    duplicates.sort_unstable();
    duplicates.dedup();
    let started_at = json.pointer("/worker/startedAt").and_then(Value::as_str).map(str::to_owned);
    Some(Worker { functions, duplicates, started_at })
}

/// The entries that come more than once.
pub(super) fn repeated(list: &[String]) -> Vec<String> {
    let mut sorted: Vec<&String> = list.iter().collect();
    sorted.sort_unstable();
    let mut twice: Vec<String> = sorted
        .windows(2)
        .filter_map(|pair| match pair {
            [one, other] if one == other => Some((*one).clone()),
            _ => None,
        })
        .collect();
    twice.dedup();
    twice
}

#[cfg(test)]
mod tests {
    use super::{Worker, read};

    #[test]
    fn the_seeds_worker_is_read() {
        let body = br#"{"service":"system-bus","status":"running","functions":["a","b","b"],"count":3,
            "worker":{"role":"cluster","startedAt":"2026-11-25T22:00:00Z","duplicateFunctionIds":["c"]}}"#;
        assert_eq!(
            read(body),
            Some(Worker {
                functions: ["a", "b", "b"].map(str::to_owned).to_vec(),
                duplicates: ["b", "c"].map(str::to_owned).to_vec(),
                started_at: Some("2026-11-25T22:00:00Z".to_owned()),
            })
        );
        assert_eq!(read(br#"{"functions":[{"id":"x"}]}"#).unwrap().functions, ["x"]);
        assert_eq!(read(br#"{"function_count":3}"#), None);
        assert_eq!(read(b"ok"), None);
    }
}
