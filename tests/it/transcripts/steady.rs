//! Takes out of a text what differs from run to run: addresses of the test bed, digests, times,
//! names that a cluster makes up, and the order of steps that run side by side.

use crate::bed;
use regex::Regex;
use std::{fmt::Write as _, sync::OnceLock};

/// Pattern, and what is put in its place.
const PATTERNS: &[(&str, &str)] = &[
    (r"sha256:[0-9a-f]{64}", "DIGEST"),
    (r"sha256:[0-9a-f]{12}\b", "DIGEST"),
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UID"),
    (r"@sha256:[0-9a-f]+…", "@DIGEST"),
    (r"ref [a-z0-9]{25}::[a-z0-9]{25}", "ref REF"),
    (r"[0-9]{8}T[0-9]{9}Z-[0-9a-f]{6}", "RECEIPT"),
    (r"RECEIPT  done( +)[0-9a-f]{7}\b", "RECEIPT  done${1}COMMIT"),
    // How a name is looked up in vain is the machine's matter.
    (r#"cannot reach the registry: [^\n"]*"#, "cannot reach the registry: WHY"),
    (r"https://127\.0\.0\.1:[0-9]+ \(v[0-9.]+\)", "CLUSTER (VERSION)"),
    (r"\(v0\.[0-9.+a-z]+\) answers", "(VERSION) answers"),
    (
        r"[0-9]+ MB are free at `[^`]+`; its cache takes [0-9]+ MB",
        "SIZE are free at `PLACE`; its cache takes SIZE",
    ),
    (r"[0-9]+ nodes, none", "COUNT nodes, none"),
    // How often a container was started again, and what a rollout passes through, depends on when
    // one looks.
    (r", and was started again [a-z]+( times)?", ""),
    (r"(?m)^#[0-9]+ [0-9.]+ [0-9]+/[0-9]+ ready, waiting.*\n", ""),
    (r"(?m)^#[0-9]+ [0-9.]+ [A-Z_]+: .*\n", ""),
    // Signs of life of a machine that is slow.
    (r"(?m)^#[0-9]+ still running, .*\n", ""),
    (r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z", "MOMENT"),
    (r"\b[0-9a-f]{40}\b", "COMMIT"),
    (r"bk-sync [0-9]+\.[0-9]+\.[0-9]+", "bk-sync VERSION"),
    (r"\bweb-[0-9a-f]{8,10}-[a-z0-9]{5}\b", "web-POD"),
    (r"\bweb-[0-9a-f]{8,10}\b", "web-REPLICASET"),
    (r"\bbed-(arm64|amd64)-[0-9]+\b", "NODE"),
    (r"linux/amd64/v[0-9], ", ""),
    (r#"(?m)^ *"linux/amd64/v[0-9]",?\n"#, ""),
    (r"\b[0-9]+m ?[0-9]+(\.[0-9]+)?s\b", "TIMEs"),
    (r"\b[0-9]+\.[0-9]+s\b", "TIMEs"),
    (r"\b[0-9]+\.[0-9]{3} ", "TIME "),
    (r"\b[0-9.]+(B|kB|MB)\b", "SIZE"),
    (
        r#""(ms|[a-z]+_ms|connect|compile|context|solve|export|push|total|[a-z_]*milliseconds|at|bytes_sent|size|bytes|requests|total_bytes|waited|seconds|uploaded|existing|line_count|cached|vertices|files|mounted|restarts|number|rollback|rollout|attempts)": [0-9.]+"#,
        r#""$1": NUMBER"#,
    ),
    (r#""(diagnosis|lock|preflight|settle|wait)": ([0-9.]+|null)"#, r#""$1": NUMBER"#),
    // Times stand at the right edge, so their widths move the gap.
    (r" {2,}TIMEs", "  TIMEs"),
    (r" TIMEs done", " done"),
    // Which steps were slow enough to be named differs.
    (r"(?m)^  time    .*(\n|$)", ""),
    // Whether a blob is mounted or was there depends on who came before.
    (r"pushed  .*", "pushed  SIZE in COUNT blobs"),
    (r"(mounted|existing|uploading) DIGEST SIZE / SIZE done", "BLOB DIGEST SIZE / SIZE done"),
    (r"([0-9]+ steps?), [0-9]+ cached, [0-9]+ ran", "$1, COUNT cached, COUNT ran"),
    // Whether a base image is there already depends on who came before.
    (
        r" => (CACHED )?\[1/COUNT\] FROM BASE@[0-9a-f]{12}.*",
        " => [1/COUNT] FROM BASE@SHORT-DIGEST  TIMEs",
    ),
    (
        r"(#[0-9]+ )\[1/COUNT\] FROM BASE@DIGEST\n(#[0-9]+ .*\n)+",
        "$1[1/COUNT] FROM BASE@DIGEST\n${1}ENDED\n",
    ),
    (r#""local.session": "[a-z0-9]{25}""#, r#""local.session": "SESSION""#),
    // The status of a container says it, and an event with a head of its own.
    (r#"Failed to pull image \\?"NEW-IMAGE\\?": "#, ""),
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
        (bed::base_multi(), "BASE"),
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

/// A step that several builds have at once goes by the name that one of them gave it.
fn shared(text: &str) -> String {
    static FIRST: OnceLock<Regex> = OnceLock::new();
    let first = FIRST.get_or_init(|| Regex::new(r"\[([a-z0-9-]+ )?1/[0-9]+\] FROM ").unwrap());
    first.replace_all(text, "[1/COUNT] FROM ").into_owned()
}

/// The lines of each step together, and the steps in the order in which they can follow each other:
/// steps that run side by side write in any order, and their numbers say which came first.
pub fn grouped(text: &str) -> String {
    let text = shared(text);
    let mut steps: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut rest = Vec::new();
    for line in text.lines() {
        let numbered = line.strip_prefix('#').and_then(|line| line.split_once(' '));
        let Some((number, line)) = numbered.filter(|(number, _)| number.parse::<u32>().is_ok())
        else {
            rest.push(line);
            continue;
        };
        match steps.iter_mut().find(|(other, _)| *other == number) {
            Some((_, lines)) => lines.push(line),
            None => steps.push((number, vec![line])),
        }
    }
    steps.sort_by_key(|(_, lines)| (place(lines[0]), lines[0].to_owned()));
    let mut text = String::new();
    for (number, (_, lines)) in steps.iter().enumerate() {
        for line in lines {
            writeln!(text, "#{} {line}", number + 1).unwrap();
        }
        text.push('\n');
    }
    text + rest.join("\n").trim()
}

/// Steps that ended side by side scroll away in any order: on a terminal, too, they are put into
/// that in which they can follow each other.
pub fn ordered(text: &str) -> String {
    let text = shared(text);
    let lines: Vec<&str> = text.lines().collect();
    let mut runs: Vec<Vec<&str>> = Vec::new();
    for line in lines {
        let is_step = |line: &str| line.starts_with(" => ");
        match runs.last_mut() {
            Some(run) if is_step(line) && is_step(run[0]) => run.push(line),
            _ => runs.push(vec![line]),
        }
    }
    for run in &mut runs {
        let name = |line: &str| {
            let name = line.trim_start_matches(" => ").trim_start_matches("CACHED ");
            name.trim_start_matches("ERROR ").trim_start_matches("CANCELED ").to_owned()
        };
        run.sort_by_key(|line| (place(&name(line)), name(line)));
    }
    runs.concat().join("\n")
}

/// Which steps come first.
fn place(name: &str) -> usize {
    let order = [
        "[connect]",
        "[compile]",
        "[internal]",
        "[context",
        "[",
        "export",
        "[push]",
        "[rollout]",
        "[rollback]",
    ];
    let known = |(at, head): (usize, &&str)| name.starts_with(*head).then_some((head.len(), at));
    // The longest head that fits.
    order.iter().enumerate().filter_map(known).max().map_or(order.len(), |(_, at)| at)
}
