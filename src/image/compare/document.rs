//! Two documents side by side, and what a config tells of its image's layers.

use crate::image::config::ImageConfig;
use serde::Serialize;
use serde_json::Value;
use std::fmt;

/// What BuildKit puts behind the instructions that it ran.
const MARK: &str = "# buildkit";

/// The first field that two documents differ in.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FieldDifference {
    /// Which, as a JSON pointer.
    pub field: String,
    /// In the first one; null where it has none.
    pub first: Value,
    /// In the second one.
    pub second: Value,
}

impl fmt::Display for FieldDifference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, first, second } = self;
        write!(formatter, "`{field}` was {first} and is {second}")
    }
}

/// The first field, in the order of names, that is not the same; none where all are.
pub fn first_field(first: &Value, second: &Value) -> Option<FieldDifference> {
    let mut at = String::new();
    walk(first, second, &mut at)
}

fn walk(first: &Value, second: &Value, at: &mut String) -> Option<FieldDifference> {
    if first == second {
        return None;
    }
    let null = Value::Null;
    let mut into = |name: String, one: &Value, other: &Value| {
        let length = at.len();
        at.push('/');
        at.push_str(&name.replace('~', "~0").replace('/', "~1"));
        let found = walk(one, other, at);
        at.truncate(length);
        found
    };
    let below = match (first, second) {
        (Value::Object(left), Value::Object(right)) => {
            let mut names: Vec<&String> = left.keys().chain(right.keys()).collect();
            names.sort_unstable();
            names.dedup();
            names.into_iter().find_map(|name| {
                let (one, other) = (left.get(name), right.get(name));
                into(name.clone(), one.unwrap_or(&null), other.unwrap_or(&null))
            })
        }
        (Value::Array(left), Value::Array(right)) => {
            (0..left.len().max(right.len())).find_map(|index| {
                let (one, other) = (left.get(index), right.get(index));
                into(index.to_string(), one.unwrap_or(&null), other.unwrap_or(&null))
            })
        }
        _ => None,
    };
    below.or_else(|| {
        Some(FieldDifference { field: at.clone(), first: first.clone(), second: second.clone() })
    })
}

/// A layer, as a config tells of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Layer {
    /// The digest of the layer, not compressed.
    pub diff_id: String,
    /// The instruction that wrote it, where the history has one entry for each layer.
    pub step: Option<String>,
}

/// The layers of the image of `config`, the lowest first.
pub fn layers(config: &ImageConfig) -> Vec<Layer> {
    let diff_ids = config.rootfs.diff_ids.clone().unwrap_or_default();
    let steps: Vec<&str> = config
        .history
        .iter()
        .filter(|entry| !entry.empty_layer)
        .map(|entry| entry.created_by.as_str())
        .collect();
    let is_whole = steps.len() == diff_ids.len();
    let step = |at: usize| {
        let text = steps.get(at).filter(|_| is_whole)?;
        let text = text.trim().trim_end_matches(MARK).trim();
        (!text.is_empty()).then(|| text.to_owned())
    };
    diff_ids
        .into_iter()
        .enumerate()
        .map(|(at, diff_id)| Layer { diff_id, step: step(at) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{first_field, layers};
    use crate::image::config::ImageConfig;
    use serde_json::json;

    #[test]
    fn the_first_field_is_named_by_its_path() {
        let first = json!({"created": "1", "config": {"Env": ["A=1", "B=2"], "a/b": 1}});
        assert_eq!(first_field(&first, &first), None);
        for (second, expected) in [
            (
                json!({"created": "2", "config": {"Env": ["A=1", "B=3"], "a/b": 1}}),
                "`/config/Env/1` was \"B=2\" and is \"B=3\"",
            ),
            (
                json!({"created": "1", "config": {"Env": ["A=1"], "a/b": 1}}),
                "`/config/Env/1` was \"B=2\" and is null",
            ),
            (
                json!({"created": "1", "config": {"Env": ["A=1", "B=2"], "a/b": 2}}),
                "`/config/a~1b` was 1 and is 2",
            ),
            (
                json!({"created": "2", "config": first["config"]}),
                "`/created` was \"1\" and is \"2\"",
            ),
            (
                json!(7),
                "`` was {\"config\":{\"Env\":[\"A=1\",\"B=2\"],\"a/b\":1},\"created\":\"1\"} and is 7",
            ),
        ] {
            assert_eq!(first_field(&first, &second).unwrap().to_string(), expected);
        }
    }

    #[test]
    fn a_layer_is_of_the_step_that_wrote_it_or_of_none() {
        let config = |history| -> ImageConfig {
            let rootfs = json!({"type": "layers", "diff_ids": ["sha256:a", "sha256:b"]});
            serde_json::from_value(json!({"rootfs": rootfs, "history": history})).unwrap()
        };
        let steps = |config: &ImageConfig| -> Vec<Option<String>> {
            layers(config).into_iter().map(|layer| layer.step).collect()
        };
        let whole = config(json!([
            {"created_by": "FROM a"},
            {"created_by": "ENV A=b", "empty_layer": true},
            {"created_by": "RUN /bin/sh -c date # buildkit"},
        ]));
        let expected = ["FROM a", "RUN /bin/sh -c date"].map(|step| Some(step.to_owned()));
        assert_eq!(steps(&whole), expected);
        assert_eq!(steps(&config(json!([{"created_by": "RUN a"}]))), [None, None]);
    }
}
