//! The import edges of the house: which room may know which, and what no pure room may know.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Rooms that know no socket, runtime, environment, clock or terminal.
const PURE: &[&str] = &[
    "compile",
    "dockerfile",
    "event.rs",
    "filesync",
    "ignorefile",
    "image",
    "llb",
    "page",
    "plan",
    "rollout/code.rs",
    "rollout/diagnose",
    "rollout/observed",
    "rollout/patch.rs",
    "rollout/platforms.rs",
    "rollout/proof.rs",
    "rollout/report.rs",
    "rollout/request.rs",
    "rollout/rights.rs",
    "rollout/status",
    "rollout/way_back.rs",
    "rollout/workload.rs",
    "signature",
    "why",
];

/// What a pure room must not name.
const IMPURE_NAMES: &[&str] = &[
    "tokio",
    "tonic::",
    "reqwest",
    "kube::",
    "hyper",
    "std::env",
    "std::net",
    "std::process",
    "SystemTime::now",
    "Instant::now",
    "io::stdout",
    "io::stderr",
];

/// (rooms, rooms that they must not import).
const FORBIDDEN: &[(&[&str], &[&str])] = &[
    (
        PURE,
        &["buildkit", "cli", "config", "credential", "engine", "pipeline", "progress", "registry"],
    ),
    (&["buildkit"], &["cli", "config", "pipeline", "progress", "registry"]),
    (&["engine"], &["buildkit", "cli", "config", "pipeline", "progress", "registry"]),
    (
        &["transport"],
        &[
            "buildkit",
            "cli",
            "cluster",
            "config",
            "credential",
            "engine",
            "pipeline",
            "progress",
            "registry",
            "rollout",
        ],
    ),
    (
        &["cluster"],
        &[
            "buildkit", "cli", "config", "engine", "pipeline", "progress", "registry", "rollout",
            "verify",
        ],
    ),
    (&["rollout"], &["buildkit", "cli", "config", "engine", "pipeline", "progress", "registry"]),
    (&["registry"], &["buildkit", "cli", "config", "engine", "pipeline", "progress"]),
    (&["credential"], &["buildkit", "cli", "config", "engine", "pipeline", "progress", "registry"]),
    (
        &["verify"],
        &[
            "buildkit", "cli", "config", "engine", "pipeline", "plan", "progress", "registry",
            "rollout",
        ],
    ),
    (&["diagnostic", "progress"], &["cli", "config", "pipeline"]),
    (&["config"], &["cli", "pipeline", "progress"]),
    (&["pipeline"], &["cli"]),
];

fn source(room: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(room)
}

/// The Rust files of a room with their text, less comments and test modules.
fn files(path: &Path) -> Vec<(PathBuf, String)> {
    if path.is_file() {
        let text = fs::read_to_string(path).unwrap();
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        let code: Vec<&str> =
            code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        return vec![(path.to_owned(), code.join("\n"))];
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap().path();
        if entry.is_dir() || entry.extension().is_some_and(|extension| extension == "rs") {
            found.extend(files(&entry));
        }
    }
    found
}

/// Whether `text` imports `room` from this crate, in a path or in a braced list.
fn imports(text: &str, room: &str) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find("crate::") {
        rest = &rest[at + "crate::".len()..];
        let end = rest.find(';').unwrap_or(rest.len());
        let heads: Vec<&str> = match rest.strip_prefix('{') {
            Some(list) => top_level(&list[..end.saturating_sub(1)]),
            None => vec![rest],
        };
        let named = heads.iter().any(|head| {
            head.trim_start()
                .strip_prefix(room)
                .is_some_and(|after| !after.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
        });
        if named {
            return true;
        }
    }
    false
}

/// The parts of a braced import list, split at commas outside inner braces.
fn top_level(list: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_usize, 0);
    for (at, character) in list.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => {
                parts.push(&list[start..at]);
                return parts;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&list[start..]);
    parts
}

#[test]
fn the_scanner_finds_every_form_of_import() {
    assert!(imports("use crate::cli::Args;", "cli"));
    assert!(imports("use crate::{event::Event, cli::{Args, Other}};", "cli"));
    assert!(imports("fn f(a: crate::cli::Args) {}", "cli"));
    assert!(!imports("use crate::client::Client;", "cli"));
    assert!(!imports("use crate::{event::{cli, Event}, plan};", "cli"));
}

#[test]
fn pure_rooms_name_nothing_impure() {
    for room in PURE {
        for (path, text) in files(&source(room)) {
            // What we were built for is a constant, not the environment.
            let text = text.replace("std::env::consts", "");
            for name in IMPURE_NAMES {
                assert!(!text.contains(name), "{} is pure but names `{name}`", path.display());
            }
        }
    }
}

#[test]
fn no_room_imports_against_the_flow() {
    for (rooms, forbidden) in FORBIDDEN {
        for room in *rooms {
            for (path, text) in files(&source(room)) {
                for other in *forbidden {
                    if other == room {
                        continue;
                    }
                    assert!(!imports(&text, other), "{} imports `{other}`", path.display());
                }
            }
        }
    }
}
