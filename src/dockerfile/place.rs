//! Where something stands in a Dockerfile: as lines, which is what BuildKit reports, and as bytes,
//! which is what a picture of the source needs.

use std::fmt;

/// Consecutive lines, both ends included. Lines count from 1; a line 0 stands for "before the first
/// line", which BuildKit reports for a directive it refuses on line 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lines {
    /// The first line.
    pub first: u32,
    /// The last line; never before `first`.
    pub last: u32,
}

impl Lines {
    /// Lines `first` to `last`; a `last` before `first` means the one line `first`.
    pub fn new(first: u32, last: u32) -> Self {
        Self { first, last: last.max(first) }
    }

    /// One line.
    pub fn one(line: u32) -> Self {
        Self { first: line, last: line }
    }

    /// Each line by itself, in order. BuildKit's source ranges are exactly these: one range a line,
    /// from character 0 to character 0.
    pub fn each(self) -> std::ops::RangeInclusive<u32> {
        self.first..=self.last
    }
}

impl fmt::Display for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "line {}", self.first)
        } else {
            write!(f, "lines {}-{}", self.first, self.last)
        }
    }
}

/// A stretch of the source, as byte offsets: `start` included, `end` not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset after the last byte; never before `start`.
    pub end: usize,
}

impl Span {
    /// From `start` up to `end`; an `end` before `start` gives an empty span at `start`.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end: end.max(start) }
    }

    /// Line and column of the first byte, both counted from 1, columns in bytes.
    pub fn position(self, source: &[u8]) -> (usize, usize) {
        let before = source.get(..self.start).unwrap_or(source);
        let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let line = before.split(|&byte| byte == b'\n').count();
        (line, before.len() - line_start + 1)
    }
}
