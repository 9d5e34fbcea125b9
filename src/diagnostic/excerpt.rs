//! A place in a file, shown with the lines around it.

use annotate_snippets::{AnnotationKind, Snippet};
use serde_json::{Value, json};

/// Lines shown before and after the marked ones.
const CONTEXT_LINES: usize = 2;
/// A marked range longer than this is shown from its start only.
const MAX_MARKED_LINES: usize = 12;
/// A longer line is cut, so that one minified line cannot flood the screen. In characters.
const MAX_LINE: usize = 240;

/// A place in a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Excerpt {
    /// The file's name as the user knows it.
    pub file: String,
    /// The file's whole text.
    pub text: String,
    /// What is marked in it; the first range is the one that is named.
    pub ranges: Vec<Range>,
    /// A few words beside the mark.
    pub label: Option<String>,
}

/// A range of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Range {
    /// Line (from 1) and column (from 0, in characters) of the start.
    pub start: (usize, usize),
    /// Line and column of the end, which is not part of the range. Equal to `start` where only the
    /// line is known: then the whole line is marked.
    pub end: (usize, usize),
}

impl Excerpt {
    /// A place given by byte offsets into `text`, as parsers give it.
    pub fn at_bytes(file: &str, text: &str, span: std::ops::Range<usize>) -> Self {
        let place = |offset: usize| {
            let offset = (0..=offset.min(text.len()))
                .rev()
                .find(|&offset| text.is_char_boundary(offset))
                .unwrap_or_default();
            let before = text.get(..offset).unwrap_or_default();
            let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
            let column = before.get(line_start..).unwrap_or_default().chars().count();
            (before.matches('\n').count() + 1, column)
        };
        let (start, end) = (place(span.start), place(span.end));
        Self {
            file: file.to_owned(),
            text: text.to_owned(),
            ranges: vec![Range { start, end }],
            label: None,
        }
    }

    /// The line (from 1) that a message should name.
    pub fn line(&self) -> Option<usize> {
        self.ranges.first().map(|range| range.start.0)
    }

    /// What scripts get.
    pub(super) fn to_json(&self) -> Value {
        let ranges: Vec<_> = self
            .ranges
            .iter()
            .map(|range| {
                json!({
                    "start": {"line": range.start.0, "column": range.start.1},
                    "end": {"line": range.end.0, "column": range.end.1},
                })
            })
            .collect();
        json!({"file": self.file, "ranges": ranges})
    }

    /// The lines to show, as one source for the renderer. None where no range is in the file.
    pub(super) fn snippet(&self) -> Option<Snippet<'_, annotate_snippets::Annotation<'_>>> {
        let lines: Vec<&str> = self.text.lines().collect();
        let marked: Vec<Range> = self
            .ranges
            .iter()
            .filter(|range| range.start.0 >= 1 && range.start.0 <= lines.len())
            .map(|range| Range { end: range.end.max(range.start), ..*range })
            .collect();
        let first_marked = marked.iter().map(|range| range.start.0).min()?;
        let last_marked = marked
            .iter()
            .map(|range| range.end.0)
            .max()?
            .min(first_marked + MAX_MARKED_LINES)
            .min(lines.len());
        let first = first_marked.saturating_sub(CONTEXT_LINES).max(1);
        let last = (last_marked + CONTEXT_LINES).min(lines.len());

        let (mut source, mut starts) = (String::new(), Vec::new());
        for line in lines.get(first - 1..last)? {
            starts.push(source.len());
            source.extend(line.chars().take(MAX_LINE));
            source.push('\n');
        }
        let offset = |(line, column): (usize, usize)| {
            let start = *starts.get(line.checked_sub(first)?)?;
            let text = source.get(start..)?.lines().next().unwrap_or_default();
            let within: usize = text.chars().take(column).map(char::len_utf8).sum();
            Some(start + within)
        };
        let mut annotations = Vec::new();
        for range in &marked {
            for line in range.start.0..=range.end.0.min(last_marked) {
                let whole = |column| offset((line, column));
                let from = if line == range.start.0 { range.start.1 } else { 0 };
                let ends_here = line == range.end.0 && range.end != range.start;
                let to = if ends_here { range.end.1 } else { usize::MAX };
                let (Some(from), Some(to)) = (whole(from), whole(to)) else { continue };
                // An end at the first column of a line belongs to the line before.
                if from == to && line != range.start.0 {
                    continue;
                }
                let label = (line == range.start.0).then_some(self.label.as_deref()).flatten();
                annotations.push(AnnotationKind::Primary.span(from..to).label(label));
            }
        }
        Some(
            Snippet::source(source)
                .line_start(first)
                .path(self.file.as_str())
                .fold(false)
                .annotations(annotations),
        )
    }
}
