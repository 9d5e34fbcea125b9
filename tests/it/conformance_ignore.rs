//! `tests/conformance/ignore.jsonl`: what the reference matcher answers.

use bk_sync::ignorefile::{IgnoreFile, Matched, Matcher};
use serde_json::Value;

const CORPUS: &str = include_str!("../conformance/ignore.jsonl");

fn rows(kind: &str) -> Vec<Value> {
    let rows: Vec<Value> = CORPUS
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|row: &Value| row["kind"] == kind)
        .collect();
    assert!(!rows.is_empty());
    rows
}

#[test]
fn files_are_read_as_the_reference_reads_them() {
    for row in rows("read") {
        let file = IgnoreFile::parse(row["file"].as_str().unwrap().as_bytes()).unwrap();
        assert_eq!(
            serde_json::to_value(file.patterns()).unwrap(),
            row["expect"]["patterns"],
            "{row}"
        );
    }
}

#[test]
fn paths_are_matched_as_the_reference_matches_them() {
    for row in rows("match") {
        let texts = row["patterns"].as_array().unwrap().iter().map(|text| text.as_str().unwrap());
        let matcher = match Matcher::new(texts) {
            Ok(matcher) => matcher,
            Err(error) => {
                assert_eq!(error.source.to_string(), row["expect"]["error"], "{row}");
                continue;
            }
        };
        assert!(row["expect"]["error"].is_null(), "not refused: {row}");
        let path = row["path"].as_str().unwrap();
        assert_eq!(matcher.at_once(path), row["expect"]["at_once"], "at once: {row}");
        let mut parent: Option<Matched> = None;
        for (at, _) in path.match_indices('/').filter(|(at, _)| *at > 0) {
            parent = Some(matcher.walk(&path[..at], parent.as_ref()).1);
        }
        assert_eq!(matcher.walk(path, parent.as_ref()).0, row["expect"]["ignored"], "walk: {row}");
    }
}
