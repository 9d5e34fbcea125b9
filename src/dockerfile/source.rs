//! The bytes of a Dockerfile as lines: the physical ones, and the logical ones that continuations
//! make of them.

use std::borrow::Cow;

use super::place::Span;

/// The longest line, in bytes, without its line end: BuildKit reads no longer ones.
pub(super) const MAX_LINE: usize = 65_535;

/// A line as it stands, with its line end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Physical<'a> {
    pub(super) bytes: &'a [u8],
    /// Where it starts in the source.
    pub(super) start: usize,
}

impl<'a> Physical<'a> {
    /// The line as text. Bytes that are not UTF-8 become U+FFFD.
    pub(super) fn text(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.bytes)
    }

    /// Where it ends, without its line end.
    pub(super) fn end(&self) -> usize {
        self.start + trim_newline(self.bytes).len()
    }
}

/// The lines of a source, one after the other. Ends at one that is too long.
pub(super) struct PhysicalLines<'a> {
    source: &'a [u8],
    at: usize,
    too_long: bool,
}

impl<'a> PhysicalLines<'a> {
    /// The lines from this offset on.
    pub(super) fn new(source: &'a [u8], at: usize) -> Self {
        Self { source, at, too_long: false }
    }

    /// Whether it ended because the next line is too long.
    pub(super) fn ended_early(&self) -> bool {
        self.too_long
    }
}

impl<'a> Iterator for PhysicalLines<'a> {
    type Item = Physical<'a>;

    fn next(&mut self) -> Option<Physical<'a>> {
        let rest = self.source.get(self.at..).filter(|rest| !rest.is_empty())?;
        if self.too_long {
            // Whoever asks again gets what fits of the long line, and then nothing: so does
            // BuildKit where an instruction goes on into such a line.
            self.at = self.source.len();
            let bytes = rest.get(..=MAX_LINE).unwrap_or(rest);
            return Some(Physical { bytes, start: self.source.len() - rest.len() });
        }
        let content = rest.iter().position(|&byte| byte == b'\n');
        if content.unwrap_or(rest.len()) > MAX_LINE {
            self.too_long = true;
            return None;
        }
        let bytes = content.and_then(|at| rest.get(..=at)).unwrap_or(rest);
        let start = self.at;
        self.at += bytes.len();
        Some(Physical { bytes, start })
    }
}

/// The line without its line end.
pub(super) fn trim_newline(mut line: &[u8]) -> &[u8] {
    while let [rest @ .., b'\r' | b'\n'] = line {
        line = rest;
    }
    line
}

/// Whether the line is a comment.
pub(super) fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

/// The line without the escape character that continues it, and whether there was one. An escape
/// character before it takes that meaning away.
pub(super) fn split_continuation(line: &str, escape: char) -> (&str, bool) {
    match line.trim_end_matches([' ', '\t']).strip_suffix(escape) {
        Some(before) if !before.ends_with(escape) => (before, true),
        _ => (line, false),
    }
}

/// Removes tabs, line ends, form feeds and blanks from the end.
pub(super) fn trim_ascii_blanks_end(text: &str) -> &str {
    text.trim_end_matches(['\t', '\n', '\u{0c}', '\r', ' '])
}

/// An instruction on one line, and where its parts came from.
#[derive(Debug, Default)]
pub(super) struct Logical {
    pub(super) text: String,
    /// Offsets in the text, and the offsets in the source that they came from; ascending.
    segments: Vec<(usize, usize)>,
}

impl Logical {
    /// Appends what stands at this offset of the source.
    pub(super) fn push(&mut self, part: &str, source_offset: usize) {
        if !part.is_empty() {
            self.segments.push((self.text.len(), source_offset));
            self.text.push_str(part);
        }
    }

    /// Where a stretch of the text stands in the source; never outside `within`. Lines that are not
    /// UTF-8 make it inexact.
    pub(super) fn span(&self, start: usize, end: usize, within: Span) -> Span {
        let start = self.source_offset(start);
        let end = if end == 0 { start } else { self.source_offset(end - 1) + 1 };
        let clamp = |at: usize| at.clamp(within.start, within.end);
        Span::new(clamp(start), clamp(end))
    }

    fn source_offset(&self, at: usize) -> usize {
        let index = self.segments.partition_point(|&(text, _)| text <= at);
        let segment = index.checked_sub(1).and_then(|index| self.segments.get(index));
        segment.map_or(at, |&(text, source)| source + (at - text))
    }
}

#[cfg(test)]
mod tests {
    use super::{Logical, MAX_LINE, PhysicalLines, Span, split_continuation};

    #[test]
    fn lines_keep_their_ends_and_long_ones_end_the_file() {
        let lines: Vec<_> = PhysicalLines::new(b"a\r\n\nb", 0).map(|line| line.bytes).collect();
        assert_eq!(lines, [&b"a\r\n"[..], b"\n", b"b"]);
        for (length, end, ok) in
            [(MAX_LINE, "\n", true), (MAX_LINE + 1, "\n", false), (MAX_LINE, "", true)]
        {
            let source = format!("{}{end}", "x".repeat(length));
            let mut lines = PhysicalLines::new(source.as_bytes(), 0);
            assert_eq!(lines.next().is_some(), ok);
            assert_eq!(lines.ended_early(), !ok);
        }
    }

    #[test]
    fn one_escape_character_continues_and_two_do_not() {
        assert_eq!(split_continuation("a \\ \t", '\\'), ("a ", true));
        assert_eq!(split_continuation("\\", '\\'), ("", true));
        assert_eq!(split_continuation("a\\\\", '\\'), ("a\\\\", false));
        assert_eq!(split_continuation("a\\", '`'), ("a\\", false));
        assert_eq!(split_continuation("a`", '`'), ("a", true));
    }

    #[test]
    fn stretches_lead_back_to_the_source() {
        let mut logical = Logical::default();
        logical.push("RUN a ", 10);
        logical.push("  b", 20);
        assert_eq!(logical.text, "RUN a   b");
        let all = Span::new(10, 23);
        assert_eq!(logical.span(4, 5, all), Span::new(14, 15));
        assert_eq!(logical.span(8, 9, all), Span::new(22, 23));
        assert_eq!(logical.span(4, 9, all), Span::new(14, 23));
        assert_eq!(logical.span(0, 0, all), Span::new(10, 10));
        assert_eq!(logical.span(50, 90, all), Span::new(23, 23));
    }
}
