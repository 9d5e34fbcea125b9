//! Takes out of a text what differs from run to run: addresses of the test bed, digests, times,
//! names that a cluster makes up, and the order of steps that run side by side.

use crate::bed;
use regex::Regex;
use std::sync::OnceLock;

/// Pattern, and what is put in its place.
const PATTERNS: &[(&str, &str)] = &[
    (r"sha256:[0-9a-f]{64}", "DIGEST"),
    (r"sha256:[0-9a-f]{12}\b", "DIGEST"),
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UID"),
    (r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}", "RECEIPT"),
    (r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z", "MOMENT"),
    (r"\b[0-9a-f]{40}\b", "COMMIT"),
    (r"bk-sync [0-9]+\.[0-9]+\.[0-9]+", "bk-sync VERSION"),
    (r"\bweb-[0-9a-f]{8,10}-[a-z0-9]{5}\b", "web-POD"),
    (r"\bweb-[0-9a-f]{8,10}\b", "web-REPLICASET"),
    (r"\bkwok-(arm64|amd64)-[0-9]+\b", "NODE"),
    (r"\b[0-9]+m ?[0-9]+(\.[0-9]+)?s\b", "TIMEs"),
    (r"\b[0-9]+\.[0-9]+s\b", "TIMEs"),
    (r"\b[0-9]+\.[0-9]{3} ", "TIME "),
    (r"\b[0-9.]+(B|kB|MB)\b", "SIZE"),
    (
        r#""(ms|connect|compile|context|solve|export|push|total|[a-z_]*milliseconds|at|bytes_sent|size|bytes|requests|total_bytes|waited|took_ms|seconds|uploaded|existing|line_count|cached|vertices|files)": [0-9.]+"#,
        r#""$1": NUMBER"#,
    ),
    // Times stand at the right edge, so their widths move the gap.
    (r" {2,}TIMEs", "  TIMEs"),
    (r" TIMEs done", " done"),
    // Which steps were slow enough to be named differs.
    (r"(?m)^  time    .*\n", ""),
    (r"(?m)^  (cached|sent|files|layers)  .*\n", ""),
    (r"[0-9]+ steps?, [0-9]+ cached, [0-9]+ ran", "COUNT steps, COUNT cached, COUNT ran"),
    // Whether a base image is there already depends on who came before.
    (r" => (CACHED )?(\[[a-z ]*1/[0-9]\] FROM BASE@DIGEST).*", " => $2"),
    (
        r"(#N \[[a-z ]*1/[0-9]\] FROM BASE@DIGEST)\n(#N resolve .*\n)?(#N sha.*\n)*#N (CACHED|DONE TIMEs)",
        "$1\n#N ENDED",
    ),
    (r#""cached": (true|false)"#, r#""cached": EITHER"#),
];

/// The text without what differs.
pub fn steady(text: &str) -> String {
    static COMPILED: OnceLock<Vec<(Regex, &str)>> = OnceLock::new();
    let patterns = COMPILED.get_or_init(|| {
        PATTERNS.iter().map(|(pattern, name)| (Regex::new(pattern).unwrap(), *name)).collect()
    });
    let mut text = text.to_owned();
    for (real, name) in [
        (bed::base_arm64(), "BASE"),
        (bed::buildkitd(), "BUILDER"),
        (bed::registry_token(), "TOKEN-REGISTRY"),
        (bed::registry(), "REGISTRY"),
    ] {
        text = text.replace(real, name);
    }
    for (pattern, name) in patterns {
        text = pattern.replace_all(&text, *name).into_owned();
    }
    text
}

/// The lines of each step together, in the order of the steps' names: steps that run side by side
/// write in any order, and their numbers say which came first.
pub fn grouped(text: &str) -> String {
    let mut steps: Vec<(String, Vec<String>)> = Vec::new();
    let mut rest = Vec::new();
    for line in text.lines() {
        let numbered = line.strip_prefix('#').and_then(|line| line.split_once(' '));
        let Some((number, line)) = numbered.filter(|(number, _)| number.parse::<u32>().is_ok())
        else {
            if !line.is_empty() {
                rest.push(line.to_owned());
            }
            continue;
        };
        match steps.iter_mut().find(|(other, _)| other == number) {
            Some((_, lines)) => lines.push(line.to_owned()),
            None => steps.push((number.to_owned(), vec![line.to_owned()])),
        }
    }
    let mut steps: Vec<String> =
        steps.iter().map(|(_, lines)| format!("#N {}", lines.join("\n#N "))).collect();
    steps.sort();
    [steps, rest].concat().join("\n")
}
