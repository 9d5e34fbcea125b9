//! What an answer must be: a status, and values in its JSON. Pure.

use super::report::Finding;
use serde_json::Value;

/// Of a value, this much is shown.
const MAX_SHOWN: usize = 120;

/// What an answer must be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expectation {
    /// The status; any success where it is not given.
    pub status: Option<u16>,
    /// Values by dotted path; an object's keys may be dotted paths themselves.
    pub json: Option<Value>,
}

/// How `status` and `body` differ from what is expected; nothing where they do not.
pub fn differences(expected: &Expectation, status: u16, body: &[u8]) -> Vec<Finding> {
    let mut found = Vec::new();
    let status_is_right = match expected.status {
        Some(wanted) => status == wanted,
        None => (200..300).contains(&status),
    };
    if !status_is_right {
        let wanted = expected.status.map_or("2xx".to_owned(), |status| status.to_string());
        found.push(Finding::fatal("HTTP_STATUS", format!("the status is {status}, not {wanted}")));
    }
    let Some(json) = &expected.json else { return found };
    let Ok(body) = serde_json::from_slice::<Value>(body) else {
        found.push(Finding::fatal("HTTP_NOT_JSON", "the answer is no JSON"));
        return found;
    };
    let mut wrong = Vec::new();
    compare(json, &body, "", &mut wrong);
    found.extend(wrong.into_iter().map(|words| Finding::fatal("HTTP_JSON", words)));
    found
}

/// Compares what is expected with what is there. Objects may hold more than is expected.
fn compare(expected: &Value, found: &Value, path: &str, wrong: &mut Vec<String>) {
    let Value::Object(keys) = expected else {
        if !same(expected, found) {
            wrong.push(format!("`{path}` is {}, not {}", shown(found), shown(expected)));
        }
        return;
    };
    for (key, expected) in keys {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match lookup(found, key) {
            Some(found) => compare(expected, found, &path, wrong),
            None => wrong.push(format!("`{path}` is not there, and should be {}", shown(expected))),
        }
    }
}

/// `1` and `1.0` are the same number.
fn same(expected: &Value, found: &Value) -> bool {
    expected == found
        || matches!((expected.as_f64(), found.as_f64()), (Some(a), Some(b)) if a.total_cmp(&b).is_eq())
}

/// The value at a dotted path. A key that has dots itself is found too; numbers are places in lists.
pub fn lookup<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    match value {
        Value::Object(object) => {
            if let Some(found) = object.get(path) {
                return Some(found);
            }
            path.match_indices('.').find_map(|(at, _)| {
                let (key, rest) = path.split_at_checked(at)?;
                lookup(object.get(key)?, rest.strip_prefix('.')?)
            })
        }
        Value::Array(list) => {
            let (place, rest) = match path.split_once('.') {
                Some((place, rest)) => (place, Some(rest)),
                None => (path, None),
            };
            let found = list.get(place.parse::<usize>().ok()?)?;
            rest.map_or(Some(found), |rest| lookup(found, rest))
        }
        _ => None,
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(MAX_SHOWN) {
        Some((at, _)) => format!("`{}…`", text.get(..at).unwrap_or_default()),
        None => format!("`{text}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Expectation, differences, lookup};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn wrong(expected: Value, body: &Value) -> Vec<String> {
        let expected = Expectation { status: Some(200), json: Some(expected) };
        let found = differences(&expected, 200, body.to_string().as_bytes());
        found.into_iter().map(|finding| finding.message).collect()
    }

    fn worker() -> Value {
        json!({"status": "running", "count": 14, "a.b": 1, "list": [{"id": "x"}, 2],
            "worker": {"hasDuplicateFunctionIds": true, "role": "cluster"}})
    }

    #[test]
    fn what_is_as_expected_is_not_told() {
        for expected in [
            json!({}),
            json!({"status": "running", "worker.role": "cluster"}),
            json!({"worker": {"role": "cluster"}}),
            json!({"a.b": 1, "count": 14.0}),
            json!({"list.0.id": "x", "list.1": 2}),
        ] {
            assert_eq!(wrong(expected.clone(), &worker()), [""; 0], "{expected}");
        }
    }

    #[test]
    fn what_is_not_is_named_by_its_path() {
        for (expected, words) in [
            (
                json!({"worker.hasDuplicateFunctionIds": false}),
                "`worker.hasDuplicateFunctionIds` is `true`, not `false`",
            ),
            (json!({"worker": {"x.y": 1}}), "`worker.x.y` is not there, and should be `1`"),
            (json!({"list": []}), "`list` is `[{\"id\":\"x\"},2]`, not `[]`"),
            (json!({"list.9": 1}), "`list.9` is not there, and should be `1`"),
        ] {
            assert_eq!(wrong(expected, &worker()), [words]);
        }
    }

    #[test]
    fn the_status_counts_and_so_does_that_it_is_json() {
        let codes = |status: Option<u16>, got: u16, json: Option<Value>, body: &str| {
            let found = differences(&Expectation { status, json }, got, body.as_bytes());
            found.iter().map(|finding| finding.code).collect::<Vec<_>>()
        };
        assert_eq!(codes(None, 204, None, ""), [""; 0]);
        assert_eq!(codes(None, 404, None, ""), ["HTTP_STATUS"]);
        assert_eq!(codes(Some(404), 404, None, ""), [""; 0]);
        assert_eq!(codes(None, 200, Some(json!({})), "<html>"), ["HTTP_NOT_JSON"]);
    }

    proptest! {
        #[test]
        fn no_path_makes_it_panic(path in ".{0,30}") {
            lookup(&worker(), &path);
        }
    }
}
