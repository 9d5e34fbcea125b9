//! What a JavaScript workspace's image would lack: packages that its own depends on and the last
//! stage does not copy, and versions that an Inngest server refuses.

use super::Check;
use crate::dockerfile::{
    ast::{Dockerfile, Kind},
    lint::{Linter, Options},
    parse,
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Packages of a workspace that are looked at.
const MOST: usize = 500;
/// Versions of the JavaScript SDK that Inngest servers refuse, from and to.
const REFUSED_SDKS: [[u64; 3]; 2] = [[3, 22, 0], [3, 53, 1]];

/// Looks at the package beside the Dockerfile `file`, built in `context`.
pub(super) fn workspace(context: &Path, file: &Path) -> Vec<Check> {
    let Some((directory, package)) = package(context, file) else { return Vec::new() };
    let mut checks = Vec::new();
    checks.extend(sdk(&package));
    let needed = needed(&package);
    let Ok(text) = fs::read(file) else { return checks };
    let Ok(dockerfile) = parse(&text, &mut Linter::new(Options::default())) else { return checks };
    if needed.is_empty() || !copies_from_stages(&dockerfile) {
        return checks;
    }
    let known = packages(context);
    let mut missing = Vec::new();
    for name in needed {
        match known.get(&name) {
            None => missing.push(format!("{name} (not in the workspace)")),
            Some(path) if !is_copied(&dockerfile, path) && *path != directory => {
                missing.push(name);
            }
            Some(_) => {}
        }
    }
    checks.push(if missing.is_empty() {
        let finding = "the last stage copies every workspace package that is depended on";
        Check::ok("image", "workspace", finding)
    } else {
        Check::failed(
            "image",
            "workspace",
            format!(
                "the last stage copies no {}, which `{}` depends on: its link would lead nowhere",
                missing.join(", "),
                directory.join("package.json").display()
            ),
            "add a `COPY --from=…` for each to the last stage of the Dockerfile",
        )
    });
    checks
}

/// The nearest package.json at or above the Dockerfile, within the context.
fn package(context: &Path, file: &Path) -> Option<(PathBuf, Value)> {
    let relative = file.strip_prefix(context).unwrap_or(file);
    for directory in relative.ancestors().skip(1) {
        if let Some(package) = json(&context.join(directory).join("package.json")) {
            return Some((directory.to_owned(), package));
        }
    }
    None
}

fn json(path: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// What a package needs of its own workspace when it runs.
fn needed(package: &Value) -> Vec<String> {
    let dependencies = package.get("dependencies").and_then(Value::as_object);
    let own = |version: &Value| version.as_str().is_some_and(|text| text.starts_with("workspace:"));
    let dependencies = dependencies.into_iter().flatten();
    dependencies.filter(|(_, version)| own(version)).map(|(name, _)| name.clone()).collect()
}

/// Where each package of the workspace is, by name.
fn packages(context: &Path) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![(PathBuf::new(), 0)];
    while let Some((directory, depth)) = waiting.pop() {
        if found.len() >= MOST {
            break;
        }
        if let Some(name) = json(&context.join(&directory).join("package.json"))
            .and_then(|package| package.get("name")?.as_str().map(str::to_owned))
        {
            found.insert(name, directory.clone());
        }
        let Ok(entries) = fs::read_dir(context.join(&directory)) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let hidden = name.to_str().is_none_or(|name| {
                name.starts_with('.') || matches!(name, "node_modules" | "target" | "dist")
            });
            if depth < 3 && !hidden && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                waiting.push((directory.join(name), depth + 1));
            }
        }
    }
    found
}

/// Whether the last stage takes its files out of other stages.
fn copies_from_stages(dockerfile: &Dockerfile) -> bool {
    sources(dockerfile).next().is_some()
}

/// What the last stage copies out of other stages.
fn sources(dockerfile: &Dockerfile) -> impl Iterator<Item = &str> {
    let last = dockerfile.stages.last();
    let instructions = last.into_iter().flat_map(|stage| &stage.instructions);
    instructions
        .filter_map(|instruction| match &instruction.kind {
            Kind::Copy(copy) if copy.from.is_some() => Some(&copy.files.paths),
            _ => None,
        })
        .flatten()
        .map(String::as_str)
}

/// Whether the package at `path` comes along: itself, or a directory that it is in.
fn is_copied(dockerfile: &Dockerfile, path: &Path) -> bool {
    sources(dockerfile).any(|source| {
        let source = Path::new(source.trim_end_matches('/'));
        let whole = source.parent().is_none() || source == Path::new(".");
        // `/app/packages/a` in the stage is `packages/a` in the context.
        let ends = path
            .ancestors()
            .filter(|ancestor| !ancestor.as_os_str().is_empty())
            .any(|ancestor| source.ends_with(ancestor));
        whole || ends || is_root_of_stage(dockerfile, source)
    })
}

/// Whether `source` is the working directory of a stage, and so holds the whole workspace.
fn is_root_of_stage(dockerfile: &Dockerfile, source: &Path) -> bool {
    dockerfile.stages.iter().flat_map(|stage| &stage.instructions).any(
        |instruction| matches!(&instruction.kind, Kind::Workdir(path) if Path::new(path) == source),
    )
}

/// Whether Inngest servers refuse the SDK's version.
fn sdk(package: &Value) -> Option<Check> {
    let wanted = package.get("dependencies")?.get("inngest")?.as_str()?;
    let version = wanted.trim_start_matches(['^', '~', '=', 'v']);
    let numbers: Vec<u64> =
        version.split(['.', '-']).take(3).map_while(|part| part.parse().ok()).collect();
    let [from, to] = REFUSED_SDKS;
    let [major, minor, patch] = numbers.as_slice() else { return None };
    let version = [*major, *minor, *patch];
    Some(if version >= from && version <= to && !wanted.starts_with('^') {
        Check::failed(
            "inngest",
            "sdk",
            format!(
                "version {wanted} of the SDK is refused by Inngest servers (`sdk_version_denied`)"
            ),
            "take 3.54.0 or newer",
        )
    } else if version >= from && version <= to {
        Check::warning(
            "inngest",
            "sdk",
            format!(
                "`{wanted}` allows versions of the SDK that Inngest servers refuse, up to 3.53.1"
            ),
            "ask for `^3.54.0`",
        )
    } else {
        Check::ok("inngest", "sdk", format!("version {wanted} of the SDK"))
    })
}

#[cfg(test)]
mod tests {
    use super::workspace;
    use crate::pipeline::doctor::State;
    use std::fs;

    const DOCKERFILE: &str = "FROM node AS deps\nWORKDIR /app\nCOPY packages/ packages/\n\
        FROM bun\nWORKDIR /app\nCOPY --from=deps /app/packages/bus packages/bus\n";

    fn looked(last: &str) -> Vec<(State, String)> {
        let top = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = top.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let dependencies = r#"{"name":"@j/bus","dependencies":{"@j/memory":"workspace:*","@j/latch":"workspace:^","zod":"3"}}"#;
        write("packages/bus/package.json", dependencies);
        write("packages/memory/package.json", r#"{"name":"@j/memory"}"#);
        write("packages/latch/package.json", r#"{"name":"@j/latch"}"#);
        write("packages/bus/Dockerfile", &format!("{DOCKERFILE}{last}"));
        let file = top.path().join("packages/bus/Dockerfile");
        let checks = workspace(top.path(), &file);
        checks.into_iter().map(|check| (check.state, check.finding)).collect()
    }

    #[test]
    fn a_workspace_package_that_is_not_copied_is_named() {
        let found = looked("COPY --from=deps /app/packages/memory packages/memory\n");
        let [(state, finding)] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(*state, State::Failed);
        assert!(finding.contains("@j/latch") && !finding.contains("@j/memory,"), "{finding}");
    }

    #[test]
    fn packages_that_come_along_in_any_way_are_no_finding() {
        for last in [
            "COPY --from=deps /app/packages/memory /app/packages/latch packages/\n",
            "COPY --from=deps /app/packages packages\n",
            "COPY --from=deps /app .\n",
            "COPY --from=deps / /\n",
        ] {
            let found = looked(last);
            assert!(found.iter().all(|(state, _)| *state == State::Ok), "{last}: {found:?}");
        }
    }

    #[test]
    fn a_refused_sdk_is_found() {
        let top = tempfile::tempdir().unwrap();
        for (version, expected) in [
            ("3.53.1", State::Failed),
            ("^3.40.0", State::Warning),
            ("3.54.0", State::Ok),
            ("3.21.9", State::Ok),
        ] {
            let package = format!(r#"{{"dependencies":{{"inngest":"{version}"}}}}"#);
            fs::write(top.path().join("package.json"), package).unwrap();
            let checks = workspace(top.path(), &top.path().join("Dockerfile"));
            assert_eq!(checks.first().unwrap().state, expected, "{version}");
        }
    }
}
