//! Dockerfiles of the corpus, read: what BuildKit refuses while reading is refused at the same lines
//! with the same words, and what it warns of while reading is warned of.

use std::fs;
use std::path::{Path, PathBuf};

use bk_sync::dockerfile::{Lines, directive, lint, parse};
use serde_json::Value;

/// Rules that need no more than the instructions.
const RULES: [&str; 8] = [
    "NoEmptyContinuation",
    "StageNameCasing",
    "FromAsCasing",
    "MaintainerDeprecated",
    "InvalidDefinitionDescription",
    "ReservedStageName",
    "DuplicateStageName",
    "ConsistentInstructionCasing",
];

/// Cases that fail later than reading: the causes need images, variables, or other stages.
const FAIL_LATER: [&str; 34] = [
    "err-arg-quote-around",
    "err-arg-required",
    "err-bad-modifier",
    "err-base-reference",
    "err-base-without-platform",
    "err-check-as-error",
    "err-checksum",
    "err-checksum-several",
    "err-chmod",
    "err-circular-stages",
    "err-context-kind",
    "err-copy-from-index",
    "err-copy-from-later-stage",
    "err-copy-from-shadowed-name",
    "err-copy-git",
    "err-copy-url",
    "err-expose-protocol",
    "err-from-stage-in-capitals",
    "err-from-variable-in-copy",
    "err-image-denied",
    "err-missing-image",
    "err-missing-image-near-stage",
    "err-mount-key",
    "err-mount-on-root",
    "err-mount-type",
    "err-onbuild-in-base",
    "err-platform-syntax",
    "err-platform-variable",
    "err-quote-unterminated",
    "err-run-without-command",
    "err-secret-source-and-id",
    "err-stopsignal",
    "err-target-number",
    "err-target-unknown",
];

struct Case {
    name: String,
    path: PathBuf,
    source: Vec<u8>,
    /// The lint options that a build argument sets in the place of the file's own.
    options: Option<String>,
}

fn cases() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/llb");
    let mut cases: Vec<Case> = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .map(|path| {
            let case: Value =
                serde_json::from_slice(&fs::read(path.join("case.json")).unwrap()).unwrap();
            let context = path.join("ctx");
            let file = context.join(case["file"].as_str().unwrap_or("Dockerfile"));
            let file = if file.exists() { file } else { context.join("dockerfile") };
            let source = fs::read(file).unwrap();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let options = case["build_args"]["BUILDKIT_DOCKERFILE_CHECK"].as_str();
            Case { name, path, source, options: options.map(str::to_owned) }
        })
        .collect();
    cases.sort_by(|left, right| left.name.cmp(&right.name));
    assert!(cases.len() > 180);
    cases
}

fn linter(case: &Case) -> Result<lint::Linter, lint::OptionsError> {
    let of_file = || directive::value(directive::Name::Check, &case.source).map(|(text, _)| text);
    let text = case.options.clone().or_else(of_file).unwrap_or_default();
    lint::Options::parse(&text).map(lint::Linter::new)
}

/// Lines as the corpus writes ranges.
fn ranges(lines: Option<Lines>) -> String {
    let ranges = lines.into_iter().flat_map(Lines::each).map(|line| format!("{line}:0-{line}:0"));
    ranges.collect::<Vec<_>>().join(" ")
}

#[test]
fn what_cannot_be_read_fails_at_the_same_lines() {
    let mut refused = 0;
    for case in cases() {
        let outcome = linter(&case)
            .map_err(|error| (format!("failed to parse check options: {error}"), String::new()));
        let Case { name, path, source, .. } = case;
        let outcome = outcome.and_then(|mut linter| {
            parse(&source, &mut linter).map_err(|errors| {
                let first = errors.first;
                (first.to_string(), ranges(first.lines))
            })
        });
        let expects_error = path.join("expected/error.txt").exists();
        if !expects_error || FAIL_LATER.contains(&name.as_str()) {
            assert!(outcome.is_ok(), "{name}: {outcome:?}");
            continue;
        }
        refused += 1;
        let (message, lines) = outcome.expect_err(&name);
        let text = fs::read_to_string(path.join("expected/error.txt")).unwrap();
        let text = text.trim_end_matches('\n');
        let text = match text.strip_prefix("dockerfile parse error on line ") {
            Some(rest) => rest.split_once(": ").unwrap().1,
            None => text,
        };
        assert_eq!(message, text, "{name}");
        let expected = fs::read_to_string(path.join("expected/error.ranges")).unwrap();
        assert_eq!(lines, expected.trim_end_matches('\n'), "{name}");
    }
    assert!(refused >= 20, "only {refused} cases were refused");
}

#[test]
fn what_is_unwise_to_read_is_warned_of() {
    let mut compared = 0;
    for case in cases() {
        let Ok(mut linter) = linter(&case) else { continue };
        let Case { name, path, source, .. } = case;
        let expected = path.join("expected/warnings.json");
        let Ok(expected) = fs::read(expected) else { continue };
        let expected: Vec<Value> = serde_json::from_slice(&expected).unwrap();
        let expected: Vec<Value> = expected
            .into_iter()
            .filter(|warning| RULES.contains(&warning["rule"].as_str().unwrap()))
            .collect();
        // Warnings count where it fails, too: those from before the failure.
        drop(parse(&source, &mut linter));
        let found: Vec<Value> = linter
            .into_warnings()
            .into_iter()
            .map(|warning| {
                let ranges: Vec<String> =
                    warning.lines.each().map(|line| format!("{line}:0-{line}:0")).collect();
                serde_json::json!({
                    "rule": warning.rule,
                    "message": warning.message,
                    "line": warning.lines.first,
                    "ranges": ranges,
                    "url": warning.url,
                    "description": warning.description,
                })
            })
            .collect();
        compared += found.len();
        assert_eq!(found, expected, "{name}");
    }
    assert!(compared > 20, "only {compared} warnings were compared");
}
