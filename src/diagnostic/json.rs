//! The JSON envelope: one object on stdout, on success and on failure.

use super::{Diagnostic, NextAction};
use serde_json::{Map, Value, json};

/// The envelope of a command that did what it was asked.
pub fn success(
    command: &str,
    result: &Value,
    warnings: &[Value],
    next_actions: &[NextAction],
) -> Value {
    json!({
        "ok": true,
        "command": command,
        "result": result,
        "warnings": warnings,
        "next_actions": next_actions,
    })
}

/// The envelope of a command that failed. `command` is none where the arguments name none.
pub fn failure(command: Option<&str>, diagnostic: &Diagnostic) -> Value {
    let mut details = Map::new();
    details.insert("exit_code".to_owned(), json!(diagnostic.exit.code()));
    if !diagnostic.excerpts.is_empty() {
        let places: Vec<_> = diagnostic.excerpts.iter().map(super::Excerpt::to_json).collect();
        details.insert("locations".to_owned(), Value::Array(places));
    }
    if let Some(step) = &diagnostic.step {
        details.insert("step".to_owned(), json!(step));
    }
    for (key, list) in [("causes", &diagnostic.causes), ("notes", &diagnostic.notes)] {
        if !list.is_empty() {
            details.insert(key.to_owned(), json!(list));
        }
    }
    details.extend(diagnostic.details.clone());
    let mut next_actions = diagnostic.next_actions.clone();
    if diagnostic.is_explained() {
        next_actions.push(NextAction {
            command: format!("bk-sync explain {}", diagnostic.code),
            description: "what it means, why it happens, what to do".to_owned(),
        });
    }
    json!({
        "ok": false,
        "command": command,
        "error": {
            "code": diagnostic.code,
            "message": diagnostic.message,
            "details": details,
        },
        "fix": diagnostic.fix,
        "next_actions": next_actions,
    })
}

#[cfg(test)]
mod tests {
    use super::{failure, success};
    use crate::diagnostic::{Diagnostic, Excerpt, Exit};
    use serde_json::json;

    #[test]
    fn failures_have_the_fields_of_the_contract() {
        let diagnostic = Diagnostic::new("CONFIG_INVALID", Exit::Usage, "unknown key `tag`")
            .with_excerpt(Excerpt::at_bytes("bk-sync.toml", "[image]\ntag = 1\n", 8..11))
            .with_fix("write `tags`")
            .with_detail("key", "image.tag");
        assert_eq!(
            failure(Some("build"), &diagnostic),
            json!({
                "ok": false,
                "command": "build",
                "error": {
                    "code": "CONFIG_INVALID",
                    "message": "unknown key `tag`",
                    "details": {
                        "exit_code": 2,
                        "key": "image.tag",
                        "locations": [{
                            "file": "bk-sync.toml",
                            "ranges": [{
                                "start": {"line": 2, "column": 0},
                                "end": {"line": 2, "column": 3},
                            }],
                        }],
                    },
                },
                "fix": "write `tags`",
                "next_actions": [{
                    "command": "bk-sync explain CONFIG_INVALID",
                    "description": "what it means, why it happens, what to do",
                }],
            })
        );
    }

    #[test]
    fn successes_have_the_fields_of_the_contract() {
        assert_eq!(
            success("build", &json!({"image": null}), &[], &[]),
            json!({
                "ok": true,
                "command": "build",
                "result": {"image": null},
                "warnings": [],
                "next_actions": [],
            })
        );
    }
}
