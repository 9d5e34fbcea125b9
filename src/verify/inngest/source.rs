//! Functions that are written and that no index takes in: they are in the repository, and in no
//! worker. Pure.

use regex::Regex;
use std::sync::LazyLock;

/// A file of the repository.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SourceFile {
    /// Its path, with slashes.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// A function that no index takes in.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Unindexed {
    /// Its id.
    pub id: String,
    /// The file that it is written in.
    pub path: String,
}

/// `createFunction({ …, id: "x"`: the id is among the first object's keys.
static ID: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r#"createFunction\s*\(\s*\{[^{}]*?\bid\s*:\s*["'`]([^"'`$]+)["'`]"#).ok()
});

/// What an import or re-export names.
static IMPORT: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r#"(?:from|import|require\s*\()\s*["'`]([^"'`]+)["'`]"#).ok());

/// The functions in `sources` that none of `indexes` takes in, directly or through other sources.
pub fn unindexed(sources: &[SourceFile], indexes: &[SourceFile]) -> Vec<Unindexed> {
    let (Some(ids), Some(imports)) = (&*ID, &*IMPORT) else { return Vec::new() };
    let stem = |path: &str| {
        let path = path.strip_suffix("/index.ts").unwrap_or(path);
        let name = path.rsplit('/').next().unwrap_or(path);
        let is_script = |extension: &str| matches!(extension, "ts" | "js" | "tsx" | "mts" | "mjs");
        match name.rsplit_once('.') {
            Some((stem, extension)) if is_script(extension) => stem.to_owned(),
            _ => name.to_owned(),
        }
    };
    let named = |text: &str| -> Vec<String> {
        imports.captures_iter(text).filter_map(|found| Some(stem(found.get(1)?.as_str()))).collect()
    };
    let mut taken: Vec<bool> = sources
        .iter()
        .map(|source| indexes.iter().any(|index| index.path == source.path))
        .collect();
    let mut waiting: Vec<String> = indexes.iter().flat_map(|index| named(&index.text)).collect();
    while let Some(name) = waiting.pop() {
        for (source, taken) in sources.iter().zip(&mut taken) {
            if !*taken && stem(&source.path) == name {
                *taken = true;
                waiting.extend(named(&source.text));
            }
        }
    }
    let left = sources.iter().zip(taken).filter(|(_, taken)| !taken);
    let mut found: Vec<Unindexed> = left
        .flat_map(|(source, _)| {
            ids.captures_iter(&source.text).filter_map(|found| {
                Some(Unindexed { id: found.get(1)?.as_str().to_owned(), path: source.path.clone() })
            })
        })
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::{SourceFile, unindexed};

    fn file(path: &str, text: &str) -> SourceFile {
        SourceFile { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_function_in_no_index_is_named() {
        let function = |id: &str| {
            format!(
                "export const f = inngest.createFunction(\n  {{ name: \"x\", id: \"{id}\", retries: 0 }},\n  {{ cron: \"* * * * *\" }},\n)"
            )
        };
        let sources = [
            file("src/functions/heartbeat.ts", &function("system/heartbeat")),
            file("src/functions/memory.ts", &function("system/memory")),
            file("src/functions/group/index.ts", "export * from \"./deep\""),
            file("src/functions/group/deep.ts", &function("deep")),
            file("src/functions/forgotten.ts", &format!("{}\n{}", function("b"), function("a"))),
            file("src/index.cluster.ts", "import { m } from './functions/memory'"),
        ];
        let indexes = [
            file(
                "src/index.host.ts",
                "import { h } from \"./functions/heartbeat.js\";\nexport * from \"./functions/group\"",
            ),
            sources[5].clone(),
        ];
        let found = unindexed(&sources, &indexes);
        let shown: Vec<_> = found.iter().map(|one| (one.id.as_str(), one.path.as_str())).collect();
        assert_eq!(
            shown,
            [("a", "src/functions/forgotten.ts"), ("b", "src/functions/forgotten.ts")]
        );
    }
}
