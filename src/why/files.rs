//! Which files of a context a step takes in, and what became of them.

use super::record::{Entry, Record, Selection, Step};
use crate::ignorefile::{Glob, Matcher};
use std::collections::BTreeMap;

/// What became of a file.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Change {
    /// It is new.
    Added,
    /// Its content is another.
    Content,
    /// Its permissions or its kind are others.
    Mode,
    /// It leads somewhere else.
    Link,
    /// It is gone.
    Removed,
}

impl Change {
    /// In one word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Added => "new",
            Self::Content => "changed",
            Self::Link => "link",
            Self::Mode => "mode",
            Self::Removed => "gone",
        }
    }
}

/// A file, and what became of it.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct FileChange {
    /// Its path in the context.
    pub path: String,
    /// What became of it.
    pub change: Change,
}

/// The entries that `step` takes in, by context and path.
pub(super) fn taken<'r>(
    record: &'r Record,
    step: &Step,
) -> BTreeMap<(&'r str, &'r str), &'r Entry> {
    let mut found = BTreeMap::new();
    for selection in &step.takes {
        let Some((context, entries)) = record.files.get_key_value(&selection.context) else {
            continue;
        };
        let filter = Filter::new(selection);
        for entry in entries.iter().filter(|entry| filter.takes(&entry.path)) {
            found.insert((context.as_str(), entry.path.as_str()), entry);
        }
    }
    found
}

/// What became of the files that a step took in and takes in now, in the order of their paths.
pub(super) fn changes(
    old: &BTreeMap<(&str, &str), &Entry>,
    new: &BTreeMap<(&str, &str), &Entry>,
) -> Vec<FileChange> {
    let mut found = Vec::new();
    for ((context, path), entry) in new {
        let change = match old.get(&(*context, *path)) {
            None => Change::Added,
            Some(before) => match between(before, entry) {
                Some(change) => change,
                None => continue,
            },
        };
        found.push(FileChange { path: (*path).to_owned(), change });
    }
    for (key, _) in old.iter().filter(|(key, _)| !new.contains_key(*key)) {
        found.push(FileChange { path: key.1.to_owned(), change: Change::Removed });
    }
    found.sort();
    found
}

/// What makes two states of one path different for a builder.
fn between(old: &Entry, new: &Entry) -> Option<Change> {
    if old.mode != new.mode {
        return Some(Change::Mode);
    }
    if old.link != new.link {
        return Some(Change::Link);
    }
    (old.size != new.size || old.content != new.content).then_some(Change::Content)
}

/// A [`Selection`], ready to be asked.
struct Filter<'s> {
    path: &'s str,
    globs: Option<Vec<Glob>>,
    include: Option<Matcher>,
    exclude: Option<Matcher>,
}

impl<'s> Filter<'s> {
    fn new(selection: &'s Selection) -> Self {
        let matcher = |patterns: &[String]| {
            if patterns.is_empty() { None } else { Matcher::new(patterns).ok() }
        };
        let has_wildcards = selection.wildcard && selection.path.contains(['*', '?', '[', '\\']);
        Self {
            path: &selection.path,
            globs: has_wildcards
                .then(|| selection.path.split('/').map(Glob::new).collect::<Result<_, _>>().ok())
                .flatten(),
            include: matcher(&selection.include),
            exclude: matcher(&selection.exclude),
        }
    }

    fn takes(&self, path: &str) -> bool {
        let Some(below) = self.below(path) else { return false };
        // Patterns count from the directory that is copied.
        let inner = if below.is_empty() { path } else { below };
        self.include.as_ref().is_none_or(|include| include.at_once(inner))
            && !self.exclude.as_ref().is_some_and(|exclude| exclude.at_once(inner))
    }

    /// What of `path` lies below the selected path; empty for the selected path itself.
    fn below<'p>(&self, path: &'p str) -> Option<&'p str> {
        if let Some(globs) = &self.globs {
            let mut rest = path;
            for (at, glob) in globs.iter().enumerate() {
                let (part, after) = rest.split_once('/').unwrap_or((rest, ""));
                if part.is_empty() || !glob.matches(part) {
                    return None;
                }
                if after.is_empty() && at + 1 < globs.len() {
                    return None;
                }
                rest = after;
            }
            return Some(rest);
        }
        if self.path.is_empty() {
            return Some(path);
        }
        let rest = path.strip_prefix(self.path)?;
        if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
    }
}

#[cfg(test)]
mod tests {
    use super::{Change, changes, taken};
    use crate::why::record::{Entry, Record, Selection, Step};
    use std::collections::BTreeMap;

    fn entry(path: &str, content: &str) -> Entry {
        Entry {
            path: path.to_owned(),
            mode: 0o644,
            content: content.to_owned(),
            ..Entry::default()
        }
    }

    fn record(entries: &[(&str, &str)]) -> Record {
        let entries = entries.iter().map(|(path, content)| entry(path, content)).collect();
        Record { files: BTreeMap::from([("context".to_owned(), entries)]), ..Record::default() }
    }

    fn step(path: &str, wildcard: bool, exclude: &[&str]) -> Step {
        let selection = Selection {
            context: "context".to_owned(),
            path: path.to_owned(),
            wildcard,
            exclude: exclude.iter().map(|text| (*text).to_owned()).collect(),
            ..Selection::default()
        };
        Step { takes: vec![selection], ..Step::default() }
    }

    #[test]
    fn a_copy_takes_what_its_path_names() {
        let record = record(&[
            ("a.c", "1"),
            ("src/a.c", "2"),
            ("src/b/c.h", "3"),
            ("srcs/x", "4"),
            ("b.md", "5"),
        ]);
        for (path, wildcard, exclude, expected) in [
            ("", false, vec![], vec!["a.c", "b.md", "src/a.c", "src/b/c.h", "srcs/x"]),
            ("src", false, vec![], vec!["src/a.c", "src/b/c.h"]),
            ("src/b", true, vec![], vec!["src/b/c.h"]),
            ("*.c", true, vec![], vec!["a.c"]),
            ("*.c", false, vec![], vec![]),
            ("s*", true, vec![], vec!["src/a.c", "src/b/c.h", "srcs/x"]),
            ("src/*", true, vec![], vec!["src/a.c", "src/b/c.h"]),
            ("*/*/*", true, vec![], vec!["src/b/c.h"]),
            ("", false, vec!["*.md", "srcs"], vec!["a.c", "src/a.c", "src/b/c.h"]),
            ("nowhere", false, vec![], vec![]),
        ] {
            let step = step(path, wildcard, &exclude);
            let found: Vec<&str> = taken(&record, &step).into_keys().map(|key| key.1).collect();
            assert_eq!(found, expected, "{path}");
        }
    }

    #[test]
    fn files_are_compared_by_what_a_builder_sees() {
        let old = record(&[("a", "1"), ("b", "1"), ("c", "1"), ("m", "1")]);
        let mut new = record(&[("a", "1"), ("b", "2"), ("d", "1"), ("m", "1")]);
        if let Some(entries) = new.files.get_mut("context") {
            entries[3].mode = 0o755;
        }
        let step = step("", false, &[]);
        let found: Vec<_> = changes(&taken(&old, &step), &taken(&new, &step))
            .into_iter()
            .map(|change| (change.path, change.change))
            .collect();
        let expected = [
            ("b", Change::Content),
            ("c", Change::Removed),
            ("d", Change::Added),
            ("m", Change::Mode),
        ];
        assert_eq!(found, expected.map(|(path, change)| (path.to_owned(), change)));
    }
}
