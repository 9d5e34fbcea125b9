//! The list of codes is complete: what the source uses is explained, and what is explained is used.

use bk_sync::{cli::VARIABLES, diagnostic::codes};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Words in capitals that the source holds and that are no codes: variables, arguments and terms of
/// others. Each ends with `*` where all words with that beginning are meant.
const OTHERS: &[&str] = &[
    "ACTIONS_*",
    "API_KEY",
    "AWS_*",
    "BK_SYNC_*",
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_UNKNOWN",
    "BUILDKIT_*",
    "CARGO_*",
    "COSIGN_PASSWORD",
    "DATABASE_PASSWORD",
    "DIGEST_INVALID",
    "DOCKER_*",
    "GITHUB_*",
    "GIT_*",
    "KUBECONFIG",
    "KUBERNETES_*",
    "KEY_VERSION",
    "LC_*",
    "LD_LIBRARY_PATH",
    "MANIFEST_BLOB_UNKNOWN",
    "NODE_ENV",
    "NO_COLOR",
    "OTEL_*",
    "PUBLIC_KEY",
    "SCREAMING_SNAKE_CASE",
    "SOURCE_DATE_EPOCH",
    "SSH_AUTH_SOCK",
    "TERM_PROGRAM",
    "TOKEN_FILE",
    "VTE_VERSION",
    "WT_SESSION",
    "XDG_*",
];

/// Rooms whose words in capitals are Dockerfile's or BuildKit's, and that make no codes.
const WITHOUT_CODES: &[&str] = &["dockerfile", "image", "llb", "proto.rs"];

/// What stands before a code, for those that are one word and those that look like variables.
const BEFORE: &[&str] = &["Diagnostic::new(", "Refusal::new(", "code: ", "code = "];

/// The text of all files below `path`, without tests and comments, and without the list itself.
fn sources(path: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap().path();
        let name = entry.file_name().unwrap().to_str().unwrap().to_owned();
        if WITHOUT_CODES.contains(&name.as_str()) || name.ends_with("tests.rs") || name == "tests" {
            continue;
        }
        if entry.is_dir() {
            if !entry.ends_with("diagnostic/codes") {
                sources(&entry, found);
            }
            continue;
        }
        if entry.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&entry).unwrap();
            let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
            let code: Vec<&str> =
                code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
            found.push((entry, code.join("\n")));
        }
    }
}

/// The words in capitals between quotes, each with the text before it.
fn words(text: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices('"') {
        let rest = &text[at + 1..];
        let length = rest
            .find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'))
            .unwrap_or(rest.len());
        let word = &rest[..length];
        if word.len() > 2 && rest[length..].starts_with('"') {
            found.push((text[..at].trim_end(), word));
        }
    }
    found
}

fn is_other(word: &str) -> bool {
    VARIABLES.iter().any(|(name, _)| *name == word)
        || OTHERS.iter().any(|other| match other.strip_suffix('*') {
            Some(beginning) => word.starts_with(beginning),
            None => *other == word,
        })
}

#[test]
fn every_code_that_is_used_is_explained_and_the_other_way_round() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    assert!(files.len() > 100, "the source was not found");
    let mut used: BTreeMap<&str, &Path> = BTreeMap::new();
    for (path, text) in &files {
        for (before, word) in words(text) {
            let is_code = BEFORE.iter().any(|mark| before.ends_with(mark.trim_end()));
            if is_code || (word.contains('_') && !is_other(word)) {
                used.insert(word, path);
            }
        }
    }
    let unexplained: Vec<_> = used.iter().filter(|(code, _)| codes::find(code).is_none()).collect();
    assert!(
        unexplained.is_empty(),
        "explain these in src/diagnostic/codes/ (or name them in tests/it/codes.rs as no codes): \
         {unexplained:#?}"
    );
    let unused: Vec<_> = codes::all()
        .into_iter()
        .map(|explanation| explanation.code)
        .filter(|code| !files.iter().any(|(_, text)| text.contains(&format!("\"{code}\""))))
        .collect();
    assert!(unused.is_empty(), "these are explained and used nowhere: {unused:?}");
}

#[test]
fn the_scanner_finds_codes_where_they_stand() {
    let text = "Diagnostic::new(\n    \"USAGE\", x); Refusal::new(\"A_B\"); let v = \"SET_ME\";";
    let found: Vec<_> = words(text).into_iter().map(|(_, word)| word).collect();
    assert_eq!(found, ["USAGE", "A_B", "SET_ME"]);
    assert!(words(text)[0].0.ends_with("Diagnostic::new("));
}
