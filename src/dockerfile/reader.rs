//! From bytes to nodes: directives, comments, continuations and heredocs, line by line.

use super::directive::{self, Directive, Name};
use super::error::{Cause, Error, Fault};
use super::heredoc::{self, Announced, Heredoc};
use super::node::Node;
use super::place::{Lines, Span};
use super::source::{
    Logical, MAX_LINE, Physical, PhysicalLines, is_comment, split_continuation, trim_newline,
};

/// How many errors are told; more would hide the first.
pub(super) const MAX_ERRORS: usize = 20;

/// A file cut into nodes.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) escape: char,
    pub(super) directives: Vec<Directive>,
    pub(super) nodes: Vec<Node>,
    pub(super) errors: Vec<Error>,
}

/// Cuts a file into nodes, and goes on after an error where the rest can still be read.
pub(super) fn read(source: &[u8]) -> Reading {
    let start = if source.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    let mut reader = Reader {
        lines: PhysicalLines::new(source, start),
        // A byte order mark alone is a line, too.
        current: u32::from(start > 0 && source.len() == start),
        directives: directive::Reader::new("#", 0),
        comments: Vec::new(),
        reading: Reading {
            escape: '\\',
            directives: Vec::new(),
            nodes: Vec::new(),
            errors: Vec::new(),
        },
    };
    reader.run();
    reader.reading
}

struct Reader<'a> {
    lines: PhysicalLines<'a>,
    /// How many lines have been read.
    current: u32,
    directives: directive::Reader,
    comments: Vec<String>,
    reading: Reading,
}

impl<'a> Reader<'a> {
    fn run(&mut self) {
        while let Some(line) = self.lines.next() {
            let text = line.text();
            if is_comment(&text) {
                self.comment(&text);
            }
            let text = text.trim_end_matches(['\r', '\n']);
            let before = text.len() - text.trim_start().len();
            let text = text.trim_start();
            if !self.directives.is_done() {
                match self.directive(text) {
                    Ok(()) => {}
                    Err(cause) => {
                        // The escape character is in doubt, so nothing more can be read. BuildKit
                        // counts this line from 0.
                        let span = Span::new(line.start, line.end());
                        let error = Fault::from(cause).at(Lines::one(self.current), span);
                        self.reading.errors.push(error);
                        return;
                    }
                }
            }
            self.current = self.current.saturating_add(1);
            let text = if is_comment(text) { "" } else { text };
            let (text, continued) = split_continuation(text, self.reading.escape);
            if text.is_empty() && !continued {
                continue;
            }
            self.instruction(line, before, text, continued);
            if self.reading.errors.len() >= MAX_ERRORS {
                return;
            }
        }
        self.end();
    }

    fn comment(&mut self, text: &str) {
        let mut chars = text.chars();
        chars.next();
        let comment = chars.as_str().trim();
        if comment.is_empty() {
            self.comments.clear();
        } else {
            self.comments.push(comment.to_owned());
        }
    }

    fn directive(&mut self, text: &str) -> Result<(), Cause> {
        let found = self.directives.read(text);
        let Some(directive) = found.map_err(|repeated| Cause::DirectiveRepeated(repeated.0))?
        else {
            return Ok(());
        };
        if directive.name == Name::Escape {
            self.reading.escape = match directive.value.as_str() {
                "\\" => '\\',
                "`" => '`',
                _ => return Err(Cause::EscapeToken(directive.value)),
            };
        }
        self.comments.pop();
        self.reading.directives.push(directive);
        Ok(())
    }

    /// Reads an instruction whose first line is given, from its first character on.
    fn instruction(&mut self, first: Physical<'a>, before: usize, text: &str, continued: bool) {
        let first_line = self.current;
        let start = first.start + before.min(first.bytes.len());
        let mut end = first.end().max(start);
        let mut utf8 = std::str::from_utf8(first.bytes).is_ok();
        let mut logical = Logical::default();
        logical.push(text, start);

        let mut continued = continued;
        let mut has_empty_line = false;
        while continued {
            let Some(line) = self.lines.next() else { break };
            self.current = self.current.saturating_add(1);
            end = line.end();
            let text = line.text();
            if is_comment(&text) {
                continue;
            }
            let text = text.trim_end_matches(['\r', '\n']);
            if text.trim_start().is_empty() {
                has_empty_line = true;
                continue;
            }
            utf8 &= std::str::from_utf8(line.bytes).is_ok();
            let (text, more) = split_continuation(text, self.reading.escape);
            logical.push(text, line.start);
            continued = more;
        }

        let comments = std::mem::take(&mut self.comments);
        let empty_continuation = has_empty_line.then_some(self.current);
        let span = Span::new(start, end);
        let mut node = match Node::read(logical, self.reading.escape, span) {
            Ok(node) => node,
            Err(fault) => return self.fail(fault, first_line, span),
        };
        let heredocs = if node.can_announce_heredocs() && node.line.contains("<<") {
            heredoc::on_line(&node.line)
        } else {
            Ok(Vec::new())
        };
        let heredocs = match heredocs {
            Ok(heredocs) => heredocs,
            Err(cause) => return self.fail(cause.into(), first_line, span),
        };
        for announced in heredocs {
            match self.heredoc(announced, &mut end) {
                Ok(heredoc) => node.heredocs.push(heredoc),
                // All lines went into it, so there is nothing more to read.
                Err(cause) => return self.fail(cause.into(), first_line, span),
            }
        }
        node.lines = Lines::new(first_line, self.current);
        node.span = Span::new(start, end);
        node.comments = comments;
        node.empty_continuation = empty_continuation;
        node.utf8 = utf8;
        self.reading.nodes.push(node);
    }

    fn heredoc(&mut self, announced: Announced, end: &mut usize) -> Result<Heredoc, Cause> {
        let mut content = Vec::new();
        for line in self.lines.by_ref() {
            self.current = self.current.saturating_add(1);
            *end = line.end();
            let mut word = trim_newline(line.bytes);
            if announced.chomp {
                while let [b'\t', rest @ ..] = word {
                    word = rest;
                }
            }
            if word == announced.name.as_bytes() {
                return Ok(Heredoc { announced, content });
            }
            content.extend_from_slice(line.bytes);
        }
        Err(Cause::HeredocUnterminated { name: announced.name })
    }

    fn fail(&mut self, fault: Fault, first_line: u32, span: Span) {
        let error = fault.at(Lines::new(first_line, self.current), span);
        self.reading.errors.push(error);
    }

    /// What can only be told at the end of the file.
    fn end(&mut self) {
        let last = |cause| Error::new(cause, Some(Lines::one(self.current)));
        if self.reading.nodes.is_empty() {
            if self.reading.errors.is_empty() {
                self.reading.errors.push(last(Cause::NoInstructions));
            }
        } else if self.lines.ended_early() {
            self.reading.errors.push(last(Cause::LineTooLong { limit: MAX_LINE }));
        }
    }
}
