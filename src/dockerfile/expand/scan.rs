//! A text read one character at a time.

use std::str::Chars;

/// The characters that are left. A byte order mark at the very start is not one of them.
pub(super) struct Scan<'a> {
    rest: Chars<'a>,
}

impl<'a> Scan<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text.strip_prefix('\u{feff}').unwrap_or(text).chars() }
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest.clone().next()
    }

    pub(super) fn next(&mut self) -> Option<char> {
        self.rest.next()
    }
}
