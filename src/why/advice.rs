//! What could be spared: files that a `COPY` drags in and that its steps do not need, so that a
//! change of them costs steps for nothing.

use super::{
    cause::{Cause, Report, State},
    files::taken,
    properties::COMMAND,
    record::{Entry, Record, Step},
};
use std::collections::{BTreeMap, BTreeSet};

/// A `COPY` that takes in what it does not need.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Advice {
    /// The index of the step.
    pub step: usize,
    /// Why these files are not needed, in a few words.
    pub reason: String,
    /// The files; directories stand for all below them.
    pub files: Vec<String>,
    /// How many files that is.
    pub count: usize,
    /// What to do.
    pub fix: String,
}

/// Files of no build: what keeps, describes and runs the project, by patterns of `.dockerignore`.
const OF_NO_BUILD: [&str; 22] = [
    ".git",
    ".gitignore",
    ".gitattributes",
    ".gitmodules",
    ".github",
    ".gitlab-ci.yml",
    ".circleci",
    ".editorconfig",
    ".vscode",
    ".idea",
    ".DS_Store",
    ".dockerignore",
    "Dockerfile",
    "Dockerfile.*",
    "*.Dockerfile",
    "docker-compose*.yml",
    "docker-compose*.yaml",
    "compose.yml",
    "compose.yaml",
    "bk-sync.toml",
    "README*",
    "CHANGELOG*",
];

/// A tool that fetches what a project depends on: words of its command, and the files that say what.
struct Installer {
    words: &'static [&'static str],
    manifests: &'static [&'static str],
    /// The directory that it fills.
    fills: Option<&'static str>,
}

const INSTALLERS: [Installer; 14] = [
    Installer { words: &["npm", "ci"], manifests: NODE, fills: Some("node_modules") },
    Installer { words: &["npm", "install"], manifests: NODE, fills: Some("node_modules") },
    Installer { words: &["npm", "i"], manifests: NODE, fills: Some("node_modules") },
    Installer { words: &["yarn", "install"], manifests: NODE, fills: Some("node_modules") },
    Installer { words: &["pnpm", "install"], manifests: NODE, fills: Some("node_modules") },
    Installer { words: &["bun", "install"], manifests: NODE, fills: Some("node_modules") },
    Installer {
        words: &["go", "mod", "download"],
        manifests: &["go.mod", "go.sum", "go.work", "go.work.sum"],
        fills: None,
    },
    Installer {
        words: &["pip", "install", "-r"],
        manifests: &["requirements*.txt", "constraints*.txt"],
        fills: Some(".venv"),
    },
    Installer {
        words: &["pip3", "install", "-r"],
        manifests: &["requirements*.txt", "constraints*.txt"],
        fills: Some(".venv"),
    },
    Installer {
        words: &["poetry", "install"],
        manifests: &["pyproject.toml", "poetry.lock"],
        fills: Some(".venv"),
    },
    Installer {
        words: &["bundle", "install"],
        manifests: &["Gemfile", "Gemfile.lock", "*.gemspec"],
        fills: None,
    },
    Installer {
        words: &["composer", "install"],
        manifests: &["composer.json", "composer.lock"],
        fills: Some("vendor"),
    },
    Installer {
        words: &["cargo", "fetch"],
        manifests: &["Cargo.toml", "Cargo.lock"],
        fills: Some("target"),
    },
    Installer { words: &["cargo", "build"], manifests: &[], fills: Some("target") },
];

const NODE: &[&str] = &[
    "package.json",
    "package-lock.json",
    "npm-shrinkwrap.json",
    "yarn.lock",
    "pnpm-lock.yaml",
    "pnpm-workspace.yaml",
    "bun.lock",
    "bun.lockb",
    ".npmrc",
    ".yarnrc.yml",
];

/// Files of one advice that are named; the rest is counted.
const NAMED: usize = 20;

/// What there is to spare in a build.
pub(super) fn of(record: &Record, reports: &[Report]) -> Vec<Advice> {
    let mut found = Vec::new();
    for (index, step) in record.steps.iter().enumerate() {
        let files = taken(record, step);
        // A COPY of single files takes what it names.
        if !step.instruction.to_uppercase().starts_with(['C', 'A']) || files.len() < 2 {
            continue;
        }
        let after = after(record, index);
        found.extend(of_no_build(record, index, &files, &after));
        let mut filled = BTreeSet::new();
        for (run, installer) in
            after.iter().filter_map(|at| Some((*at, installer(record.step(*at)?)?)))
        {
            if let Some(directory) = installer.fills
                && filled.insert(directory)
            {
                found.extend(made_again(record, index, run, directory, &files));
            }
            found.extend(before_an_installer(record, index, run, installer, &files, reports));
        }
    }
    found
}

/// The steps that are built on `index`, in their order.
fn after(record: &Record, index: usize) -> Vec<usize> {
    let mut below = BTreeSet::from([index]);
    for (at, step) in record.steps.iter().enumerate().skip(index + 1) {
        if step.inputs.iter().any(|input| below.contains(input)) {
            below.insert(at);
        }
    }
    below.remove(&index);
    below.into_iter().collect()
}

fn installer(step: &Step) -> Option<&'static Installer> {
    let command = step.properties.get(COMMAND)?;
    let words: Vec<&str> = command
        .split(|c: char| c.is_whitespace() || matches!(c, ';' | '&' | '|' | '(' | ')'))
        .filter(|word| !word.is_empty())
        .collect();
    INSTALLERS.iter().find(|installer| {
        words.windows(installer.words.len()).any(|window| window == installer.words)
    })
}

type Files<'r> = BTreeMap<(&'r str, &'r str), &'r Entry>;

/// Whether an entry is a file, not a directory.
fn is_file(entry: &Entry) -> bool {
    /// Go's bit for directories.
    const DIRECTORY: u32 = 1 << 31;
    entry.mode & DIRECTORY == 0
}

fn of_no_build(
    record: &Record,
    index: usize,
    files: &Files<'_>,
    after: &[usize],
) -> Option<Advice> {
    // What a command names is needed, whatever it is called.
    let commands: Vec<&str> = after
        .iter()
        .filter_map(|at| record.step(*at)?.properties.get(COMMAND))
        .map(String::as_str)
        .collect();
    let instruction = record.step(index)?.instruction.as_str();
    let is_named = |name: &str| {
        instruction.contains(name) || commands.iter().any(|command| command.contains(name))
    };
    let (mut shown, mut count) = (BTreeSet::new(), 0);
    for (_, path) in files.iter().filter(|(_, entry)| is_file(entry)).map(|(key, _)| *key) {
        let first = path.split('/').next().unwrap_or(path);
        let matches = OF_NO_BUILD.iter().any(|pattern| matches(pattern, first));
        if matches && !is_named(first) {
            count += 1;
            shown.insert(first.to_owned());
        }
    }
    if count == 0 {
        return None;
    }
    let files: Vec<String> = shown.into_iter().take(NAMED).collect();
    let fix = format!("add to `.dockerignore`: {}", files.join(" "));
    let reason = "no step names them, and they are no part of a program".to_owned();
    Some(Advice { step: index, reason, files, count, fix })
}

fn made_again(
    record: &Record,
    index: usize,
    run: usize,
    directory: &str,
    files: &Files<'_>,
) -> Option<Advice> {
    let inside = |path: &str| path.split('/').any(|part| part == directory);
    let count = files.iter().filter(|((_, path), entry)| inside(path) && is_file(entry)).count();
    if count == 0 {
        return None;
    }
    let name = record.step(run)?.name.clone();
    Some(Advice {
        step: index,
        reason: format!("`{name}` makes them itself"),
        files: vec![directory.to_owned()],
        count,
        fix: format!("add to `.dockerignore`: **/{directory}"),
    })
}

/// An installer that runs on a whole project, where it reads the manifests alone.
fn before_an_installer(
    record: &Record,
    index: usize,
    run: usize,
    installer: &Installer,
    files: &Files<'_>,
    reports: &[Report],
) -> Option<Advice> {
    if installer.manifests.is_empty() {
        return None;
    }
    let name = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    let is_manifest =
        |path: &str| installer.manifests.iter().any(|pattern| matches(pattern, &name(path)));
    let of_files = || files.iter().filter(|(_, entry)| is_file(entry)).map(|((_, path), _)| *path);
    let manifests: Vec<&str> = of_files().filter(|path| is_manifest(path)).collect();
    if manifests.is_empty() {
        return None;
    }
    // Where this build tells which files cost something, those are the ones to name.
    let changed: Vec<String> = reports
        .iter()
        .filter(|report| report.step == index && report.state != State::Unneeded)
        .flat_map(|report| &report.causes)
        .filter_map(|cause| match cause {
            Cause::Files(changes) => Some(changes.iter().map(|change| change.path.clone())),
            _ => None,
        })
        .flatten()
        .filter(|path| !is_manifest(path))
        .collect();
    let others: Vec<&str> = of_files().filter(|path| !is_manifest(path)).collect();
    let count = if changed.is_empty() { others.len() } else { changed.len() };
    if count == 0 {
        return None;
    }
    let files = if changed.is_empty() {
        others.iter().take(NAMED).map(|path| (*path).to_owned()).collect()
    } else {
        changed.into_iter().take(NAMED).collect()
    };
    let (step, run) = (record.step(index)?, record.step(run)?);
    let text = step.instruction.lines().next().unwrap_or_default();
    Some(Advice {
        step: index,
        reason: format!("`{}` reads {} alone", run.name, manifests.join(", ")),
        files,
        count,
        fix: format!(
            "put `COPY {} ./` before `{}`, and `{text}` after it",
            manifests.join(" "),
            run.instruction.lines().next().unwrap_or_default(),
        ),
    })
}

/// Whether a name matches a pattern in which `*` stands for anything.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, tail)) => {
            name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail)
        }
    }
}
