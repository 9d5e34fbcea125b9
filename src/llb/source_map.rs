//! Which lines of which file an op stands for, so that an error of the builder can point at them.

use std::sync::Arc;

use super::definition::Definition;
use crate::proto::pb;

/// A file that a graph was made of.
#[derive(Debug, Default)]
pub struct SourceMap {
    /// Its name, as a user knows it.
    pub filename: String,
    /// Its language in linguist's words, `Dockerfile` for one.
    pub language: String,
    /// Its content.
    pub data: Vec<u8>,
    /// The graph that the file was read from, where it came through the builder.
    pub definition: Option<Definition>,
}

/// Lines and columns, from 1; a column of 0 means the whole line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: i32,
    /// Column.
    pub character: i32,
}

/// From one position to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    /// The first position.
    pub start: Position,
    /// The last position.
    pub end: Position,
}

/// A place in a file, in one or more pieces.
#[derive(Clone, Debug)]
pub struct SourceLocation {
    /// The file.
    pub map: Arc<SourceMap>,
    /// The pieces.
    pub ranges: Vec<Range>,
}

impl SourceMap {
    /// The message of the wire.
    pub fn to_pb(&self) -> pb::SourceInfo {
        pb::SourceInfo {
            filename: self.filename.clone(),
            data: self.data.clone(),
            definition: self.definition.as_ref().map(Definition::to_pb),
            language: self.language.clone(),
        }
    }

    /// What the message of the wire says, less the graph that the file was read from.
    pub(super) fn from_pb(info: pb::SourceInfo) -> Self {
        let pb::SourceInfo { filename, language, data, .. } = info;
        Self { filename, language, data, definition: None }
    }

    pub(super) fn same_file(&self, other: &Self) -> bool {
        self.filename == other.filename
            && self.language == other.language
            && self.data == other.data
            && match (&self.definition, &other.definition) {
                (Some(ours), Some(theirs)) => ours.head() == theirs.head(),
                _ => true,
            }
    }
}

impl Range {
    /// Whole lines, from 1.
    pub fn lines(first: i32, last: i32) -> Self {
        let position = |line| Position { line, character: 0 };
        Self { start: position(first), end: position(last) }
    }

    /// The message of the wire.
    pub fn to_pb(self) -> pb::Range {
        let position = |at: Position| pb::Position { line: at.line, character: at.character };
        pb::Range { start: Some(position(self.start)), end: Some(position(self.end)) }
    }

    pub(super) fn from_pb(range: pb::Range) -> Self {
        let position = |at: Option<pb::Position>| {
            let at = at.unwrap_or_default();
            Position { line: at.line, character: at.character }
        };
        Self { start: position(range.start), end: position(range.end) }
    }
}
