//! What is remembered of a build, and its form on disk: a line of JSON, then a line for each file
//! of the contexts, so that an index of many files is read and written at the speed of text.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, io};

/// What a build was made of, and how each of its steps went.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Record {
    /// When it ended, in seconds since 1970.
    pub at: i64,
    /// The builder's address.
    pub builder: String,
    /// The Dockerfile's name.
    pub dockerfile: String,
    /// The stage that was asked for; the last one where none was.
    pub target: Option<String>,
    /// Whether it came to a result.
    pub ok: bool,
    /// Who compiled: `native`, or another frontend, of whose graph nothing is known.
    pub frontend: String,
    /// What `ARG` declares in the Dockerfile, with the value that was given or is the default.
    pub arguments: BTreeMap<String, Option<String>>,
    /// The steps, each after those that it is built on.
    pub steps: Vec<Step>,
    /// The files of each context that the builder was told of.
    #[serde(skip)]
    pub files: BTreeMap<String, Vec<Entry>>,
}

/// One op of the graph.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Step {
    /// The vertex's name on the screen, such as `[build 2/4] RUN make`.
    pub name: String,
    /// The platform that it is for.
    pub platform: String,
    /// The stage's name as steps show it, and the number of the step in it where it has one.
    pub stage: String,
    /// The instruction as it is in the Dockerfile.
    pub instruction: String,
    /// Its line, from 1; 0 where it has none.
    pub line: u32,
    /// Indices of the steps that it is built on.
    pub inputs: Vec<usize>,
    /// What it is, property by property.
    pub properties: BTreeMap<String, String>,
    /// What it takes out of contexts.
    pub takes: Vec<Selection>,
    /// Whether it was to run whatever the cache has.
    pub no_cache: bool,
    /// Whether its result was there already. None where the builder never came to it.
    pub cached: Option<bool>,
    /// Whether it failed.
    pub failed: bool,
    /// When it began, in milliseconds from the begin of the build's first step.
    pub began: Option<u64>,
    /// How long it took.
    pub milliseconds: u64,
}

/// Files of a context that a step takes in.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Selection {
    /// The context's name.
    pub context: String,
    /// A path in it, with wildcards where `wildcard` is set. Empty for all of it.
    pub path: String,
    /// Whether the path's wildcards count.
    pub wildcard: bool,
    /// Only what matches one of these, where there are any.
    pub include: Vec<String>,
    /// Not what matches one of these.
    pub exclude: Vec<String>,
}

/// A file, directory or link of a context.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Entry {
    /// Its path in the context.
    pub path: String,
    /// Kind and permissions, as Go's `FileMode` has them.
    pub mode: u32,
    /// Bytes.
    pub size: u64,
    /// What tells one content from another: the start of its SHA-256 digest in hex where it is
    /// known, else its mtime behind a `@`.
    pub content: String,
    /// Where a link leads.
    pub link: String,
}

/// Why a record cannot be read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RecordError {
    /// It was written by another version, or it is no record.
    #[error("the record of the build is of another version, or broken")]
    Unreadable,
}

/// The first line. Another form gets another number.
const HEAD: &str = "bk-sync build record 1";

impl Record {
    /// Writes the text to keep on disk, a line at a time: an index of many files is never whole in
    /// memory a second time.
    ///
    /// # Errors
    /// What `out` says.
    pub fn write_to(&self, out: &mut impl io::Write) -> io::Result<()> {
        writeln!(out, "{HEAD}")?;
        serde_json::to_writer(&mut *out, self)?;
        writeln!(out)?;
        for (context, entries) in &self.files {
            writeln!(out, "={}", escaped(context))?;
            for entry in entries {
                writeln!(
                    out,
                    "{:o} {} {} {} {}",
                    entry.mode,
                    entry.size,
                    if entry.content.is_empty() { "-" } else { &entry.content },
                    escaped(&entry.path),
                    escaped(&entry.link),
                )?;
            }
        }
        Ok(())
    }

    /// Reads what [`write_to`](Self::write_to) wrote.
    ///
    /// # Errors
    /// It is anything else.
    pub fn decode(text: &str) -> Result<Self, RecordError> {
        Self::read(text).ok_or(RecordError::Unreadable)
    }

    fn read(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(HEAD)?.strip_prefix('\n')?;
        let (head, rest) = rest.split_once('\n')?;
        let mut record: Self = serde_json::from_str(head).ok()?;
        let mut context = None;
        for line in rest.lines() {
            if let Some(name) = line.strip_prefix('=') {
                context = Some(unescaped(name)?);
                record.files.entry(context.clone()?).or_default();
                continue;
            }
            let mut words = line.split(' ');
            let mode = u32::from_str_radix(words.next()?, 8).ok()?;
            let size = words.next()?.parse().ok()?;
            let content = words.next()?;
            let content = if content == "-" { String::new() } else { content.to_owned() };
            let path = unescaped(words.next()?)?;
            let link = unescaped(words.next()?)?;
            let entry = Entry { path, mode, size, content, link };
            record.files.get_mut(context.as_ref()?)?.push(entry);
        }
        Some(record)
    }

    /// A step by its index.
    pub fn step(&self, index: usize) -> Option<&Step> {
        self.steps.get(index)
    }
}

/// A text without spaces, newlines and percent signs.
fn escaped(text: &str) -> String {
    text.replace('%', "%25").replace(' ', "%20").replace('\n', "%0A").replace('\r', "%0D")
}

fn unescaped(text: &str) -> Option<String> {
    let mut pieces = text.split('%');
    let mut whole = pieces.next()?.to_owned();
    for piece in pieces {
        let (code, rest) = piece.split_at_checked(2)?;
        whole.push(match code {
            "25" => '%',
            "20" => ' ',
            "0A" => '\n',
            "0D" => '\r',
            _ => return None,
        });
        whole.push_str(rest);
    }
    Some(whole)
}

#[cfg(test)]
mod tests {
    use super::{Entry, Record, RecordError, Step};
    use std::collections::BTreeMap;

    #[test]
    fn a_record_on_disk_comes_back_or_is_refused() {
        let entries = vec![
            Entry {
                path: "a b%\n.c".to_owned(),
                mode: 0o644,
                size: 7,
                content: "0a".to_owned(),
                link: String::new(),
            },
            Entry { path: "l".to_owned(), link: "a b".to_owned(), ..Entry::default() },
        ];
        let record = Record {
            at: 1_800_000_000,
            steps: vec![Step { name: "[1/2] FROM a".to_owned(), ..Step::default() }],
            files: BTreeMap::from([("my context".to_owned(), entries)]),
            ..Record::default()
        };
        let mut text = Vec::new();
        record.write_to(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(Record::decode(&text), Ok(record));
        for broken in ["", "bk-sync build record 2\n{}\n", "bk-sync build record 1\n{}\n"] {
            assert_eq!(Record::decode(broken), Err(RecordError::Unreadable), "{broken}");
        }
        assert!(Record::decode(&format!("{text}644 x - y -\n")).is_err());
    }
}
