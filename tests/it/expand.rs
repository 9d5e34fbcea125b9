//! Words with variables, quotes and escapes, as BuildKit's own lexer reads them.

use std::collections::BTreeMap;
use std::path::Path;

use bk_sync::dockerfile::expand::Expander;
use serde_json::{Value, json};

#[test]
fn words_come_out_as_in_buildkit() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/expand.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 255);
    let wrong: Vec<String> = rows
        .iter()
        .filter(|row| row["expect"] != answer(row))
        .map(|row| format!("{row}\n  came out as {}", answer(row)))
        .collect();
    assert!(wrong.is_empty(), "{} rows differ:\n{}", wrong.len(), wrong.join("\n"));
}

fn answer(row: &Value) -> Value {
    let escape = row["escape"].as_str().map_or('\\', |text| text.chars().next().unwrap());
    let mut rules = Expander::new(escape);
    for flag in row["flags"].as_array().into_iter().flatten() {
        rules = match flag.as_str().unwrap() {
            "raw_quotes" => rules.keep_quotes(),
            "raw_escapes" => rules.keep_escapes(),
            "skip_quotes" => rules.ignore_quotes(),
            "skip_unset" => rules.keep_unset(),
            other => panic!("unknown flag {other}"),
        };
    }
    let variables: BTreeMap<String, String> = serde_json::from_value(row["env"].clone()).unwrap();
    let text = row["text"].as_str().unwrap();
    let answer = match row["mode"].as_str().unwrap() {
        "word" => rules.word(text, &variables).map(|expansion| {
            json!({
                "result": expansion.text,
                "matched": expansion.names.matched,
                "unmatched": expansion.names.unmatched,
            })
        }),
        "words" => rules.words(text, &variables).map(|words| json!({ "words": words })),
        other => panic!("unknown mode {other}"),
    };
    answer.unwrap_or_else(|error| json!({ "error": error.to_string() }))
}
