//! Words: quotes, escapes and variables with their modifiers, as the shell lexer of BuildKit's
//! Dockerfile frontend reads them. A pure function of the text and a lookup.
//!
//! What can be written after a name: `${V:-word}` and `${V-word}` (a default), `${V:+word}` and
//! `${V+word}` (only where set), `${V:?word}` and `${V?word}` (an error unless set), `${V#p}`,
//! `${V##p}`, `${V%p}`, `${V%%p}` (the shortest or longest prefix or suffix removed), `${V/p/r}` and
//! `${V//p/r}` (the first or each match replaced). Patterns know `*` and `?`.
//!
//! Time and memory stay in proportion to the text and the values: nesting, the length of a result
//! and the work of patterns have limits, far above what a build could use.

mod pattern;
mod scan;
mod words;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::quote::quote;
use pattern::Pattern;
use scan::Scan;
use words::Words;

/// How deep `${…${…}…}` may nest.
pub const MAX_NESTING: usize = 100;
/// How long the result of one expansion may be, in bytes, beyond the length of its text. No program
/// can be started with more in one variable than an eighth of it.
pub const MAX_GROWTH: usize = 1 << 20;
/// How many bytes of values the patterns of one expansion may go through.
const MAX_PATTERN_WORK: usize = 16 << 20;

/// Where values come from.
pub trait Variables {
    /// The value of `name`, where it is set.
    fn value(&self, name: &str) -> Option<Cow<'_, str>>;
}

/// No variables at all.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoVariables;

impl Variables for NoVariables {
    fn value(&self, _name: &str) -> Option<Cow<'_, str>> {
        None
    }
}

impl Variables for BTreeMap<String, String> {
    fn value(&self, name: &str) -> Option<Cow<'_, str>> {
        self.get(name).map(|value| Cow::Borrowed(value.as_str()))
    }
}

impl<V: Variables + ?Sized> Variables for &V {
    fn value(&self, name: &str) -> Option<Cow<'_, str>> {
        (**self).value(name)
    }
}

/// The names that an expansion met.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// Those that have a value.
    pub matched: BTreeSet<String>,
    /// Those that have none.
    pub unmatched: BTreeSet<String>,
}

/// A word without its quotes, escapes and variables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expansion {
    /// The text that came out.
    pub text: String,
    /// The names that it met.
    pub names: Names,
}

/// Why a word cannot be read. It carries the names met up to there, since BuildKit warns of unknown
/// ones even where the expansion fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to process {}: {fault}", quote(.word))]
pub struct ExpandError {
    /// The whole word.
    pub word: Box<str>,
    /// What is wrong in it.
    pub fault: Fault,
    /// The names met before.
    pub names: Names,
}

/// What is wrong in a word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A quote is never closed.
    #[error("unexpected end of statement while looking for matching {0}")]
    OpenQuote(Quote),
    /// A `${` is never closed.
    #[error("syntax error: missing '}}'")]
    MissingBrace,
    /// A `${V/p` has no second slash.
    #[error("syntax error: missing '/' in ${{}}")]
    MissingSlash,
    /// Nothing that could be a name after `${`.
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    /// What follows the name is no modifier.
    #[error("unsupported modifier ({0}) in substitution")]
    UnknownModifier(String),
    /// `${V?}` of a variable that is not set, or `${V:?}` of an empty one.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// The word after the `?`, or what is usual without one.
        message: String,
    },
    /// A pattern that cannot be read.
    #[error("invalid pattern ({pattern}) in substitution: {reason}")]
    BadPattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// `${…${…}…}` nests deeper than [`MAX_NESTING`].
    #[error("substitutions nest more than {MAX_NESTING} deep")]
    TooDeep,
    /// The result would be longer than [`MAX_GROWTH`] allows.
    #[error("the result is more than {MAX_GROWTH} bytes longer than the text")]
    TooLong,
    /// The patterns would go through too much text.
    #[error("the patterns go through more than {MAX_PATTERN_WORK} bytes of values")]
    TooMuchWork,
}

/// Which quote is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quote {
    /// `'`
    Single,
    /// `"`
    Double,
}

impl fmt::Display for Quote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Single => "single-quote",
            Self::Double => "double-quote",
        })
    }
}

/// The rules by which words are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expander {
    escape: char,
    keep_quotes: bool,
    keep_escapes: bool,
    ignore_quotes: bool,
    keep_unset: bool,
}

impl Expander {
    /// The usual rules, with this escape character.
    pub const fn new(escape: char) -> Self {
        Self {
            escape,
            keep_quotes: false,
            keep_escapes: false,
            ignore_quotes: false,
            keep_unset: false,
        }
    }

    /// The rules for the content of inline files: quotes mean nothing and the escape character is
    /// always the backslash.
    pub const fn for_inline_files() -> Self {
        Self::new('\\').ignore_quotes()
    }

    /// Quotes stay in the result.
    #[must_use]
    pub const fn keep_quotes(mut self) -> Self {
        self.keep_quotes = true;
        self
    }

    /// Escape characters stay in the result.
    #[must_use]
    pub const fn keep_escapes(mut self) -> Self {
        self.keep_escapes = true;
        self
    }

    /// Quotes are characters like others.
    #[must_use]
    pub const fn ignore_quotes(mut self) -> Self {
        self.ignore_quotes = true;
        self
    }

    /// Names without a value stay as they are written.
    #[must_use]
    pub const fn keep_unset(mut self) -> Self {
        self.keep_unset = true;
        self
    }

    /// Expands `text` to one text.
    ///
    /// # Errors
    /// Where the text cannot be read, a required variable is missing, or a limit is passed.
    pub fn word(&self, text: &str, variables: &dyn Variables) -> Result<Expansion, ExpandError> {
        let mut lexer = Lexer::new(*self, text, variables, false);
        match lexer.until(None, self.keep_escapes) {
            Ok((result, _)) => Ok(Expansion { text: result, names: lexer.names }),
            Err(fault) => Err(ExpandError { word: text.into(), fault, names: lexer.names }),
        }
    }

    /// Expands `text` and splits it at blanks that are not quoted; blanks in values split too.
    ///
    /// # Errors
    /// As for [`Expander::word`].
    pub fn words(&self, text: &str, variables: &dyn Variables) -> Result<Vec<String>, ExpandError> {
        let mut lexer = Lexer::new(*self, text, variables, true);
        match lexer.until(None, self.keep_escapes) {
            Ok((_, words)) => Ok(words),
            Err(fault) => Err(ExpandError { word: text.into(), fault, names: lexer.names }),
        }
    }
}

struct Lexer<'a> {
    rules: Expander,
    scan: Scan<'a>,
    variables: &'a dyn Variables,
    names: Names,
    /// Whether words are asked for; a single text needs none of their bookkeeping.
    split: bool,
    /// The word being put together. One for all levels: a nested substitution empties it, which is
    /// how `a${X:-b}` splits to `b` alone. BuildKit does that, so heredocs and ports depend on it.
    pending: String,
    keep_escapes: bool,
    depth: usize,
    budget: usize,
    work: usize,
}

impl<'a> Lexer<'a> {
    fn new(rules: Expander, text: &'a str, variables: &'a dyn Variables, split: bool) -> Self {
        Self {
            rules,
            scan: Scan::new(text),
            variables,
            names: Names::default(),
            split,
            pending: String::new(),
            keep_escapes: rules.keep_escapes,
            depth: 0,
            budget: text.len().saturating_add(MAX_GROWTH),
            work: 0,
        }
    }

    /// Reads up to `stop`, or to the end of the text without one.
    fn until(
        &mut self,
        stop: Option<char>,
        keep_escapes: bool,
    ) -> Result<(String, Vec<String>), Fault> {
        if self.depth > MAX_NESTING {
            return Err(Fault::TooDeep);
        }
        let outer = std::mem::replace(&mut self.keep_escapes, keep_escapes);
        self.depth += 1;
        let result = self.read(stop);
        self.depth -= 1;
        self.keep_escapes = outer;
        result
    }

    fn read(&mut self, stop: Option<char>) -> Result<(String, Vec<String>), Fault> {
        let mut result = String::new();
        let mut words = Words::default();
        self.pending.clear();

        while let Some(next) = self.scan.peek() {
            if stop == Some(next) {
                self.scan.next();
                return Ok((result, words.finish(&mut self.pending)));
            }
            match next {
                '$' => {
                    let value = self.dollar()?;
                    result.push_str(&value);
                    if self.split {
                        value.chars().for_each(|c| words.push(&mut self.pending, c));
                    }
                }
                '<' | '\'' | '"' if next == '<' || !self.rules.ignore_quotes => {
                    let text = match next {
                        '<' => self.angle(),
                        '\'' => self.single_quoted()?,
                        _ => self.double_quoted()?,
                    };
                    result.push_str(&text);
                    if self.split {
                        words.push_raw(&mut self.pending, &text);
                    }
                }
                _ => {
                    self.scan.next();
                    if next == self.rules.escape {
                        if self.keep_escapes {
                            result.push(next);
                            words.push_raw_char(&mut self.pending, next, self.split);
                        }
                        let Some(escaped) = self.scan.next() else { break };
                        result.push(escaped);
                        words.push_raw_char(&mut self.pending, escaped, self.split);
                    } else {
                        result.push(next);
                        if self.split {
                            words.push(&mut self.pending, next);
                        }
                    }
                }
            }
            if result.len() > self.budget {
                return Err(Fault::TooLong);
            }
        }
        if stop.is_some() {
            // The caller turns this into what is missing for it.
            return Err(Fault::MissingBrace);
        }
        Ok((result, words.finish(&mut self.pending)))
    }

    fn single_quoted(&mut self) -> Result<String, Fault> {
        let mut result = String::new();
        self.scan.next();
        if self.rules.keep_quotes {
            result.push('\'');
        }
        loop {
            match self.scan.next() {
                None => return Err(Fault::OpenQuote(Quote::Single)),
                Some('\'') => {
                    if self.rules.keep_quotes {
                        result.push('\'');
                    }
                    return Ok(result);
                }
                Some(other) => result.push(other),
            }
        }
    }

    fn double_quoted(&mut self) -> Result<String, Fault> {
        let mut result = String::new();
        self.scan.next();
        if self.rules.keep_quotes {
            result.push('"');
        }
        loop {
            match self.scan.peek() {
                None => return Err(Fault::OpenQuote(Quote::Double)),
                Some('"') => {
                    self.scan.next();
                    if self.rules.keep_quotes {
                        result.push('"');
                    }
                    return Ok(result);
                }
                Some('$') => {
                    let value = self.dollar()?;
                    result.push_str(&value);
                    if result.len() > self.budget {
                        return Err(Fault::TooLong);
                    }
                }
                Some(other) => {
                    self.scan.next();
                    if other != self.rules.escape {
                        result.push(other);
                        continue;
                    }
                    if self.keep_escapes {
                        result.push(other);
                    }
                    match self.scan.peek() {
                        // An escape character at the very end counts for nothing.
                        None => {}
                        Some(escaped)
                            if escaped == '"' || escaped == '$' || escaped == self.rules.escape =>
                        {
                            self.scan.next();
                            result.push(escaped);
                        }
                        Some(_) => result.push(other),
                    }
                }
            }
        }
    }

    /// `<`, or `<<` with the blanks after it: a heredoc's word may stand apart.
    fn angle(&mut self) -> String {
        self.scan.next();
        if self.scan.peek() != Some('<') {
            return "<".to_owned();
        }
        self.scan.next();
        let mut result = "<<".to_owned();
        while let Some(blank @ ('\t' | '\r' | ' ')) = self.scan.peek() {
            self.scan.next();
            result.push(blank);
        }
        result
    }

    fn dollar(&mut self) -> Result<String, Fault> {
        self.scan.next();
        if self.scan.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            return Ok(match self.lookup(&name) {
                Some(value) => value,
                None if self.rules.keep_unset => format!("${name}"),
                None => String::new(),
            });
        }

        self.scan.next();
        match self.scan.peek() {
            None => return Err(Fault::MissingBrace),
            Some('{' | '}' | ':') => return Err(Fault::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        match self.scan.next() {
            Some('}') => Ok(match self.lookup(&name) {
                Some(value) => value,
                None if self.rules.keep_unset => format!("${{{name}}}"),
                None => String::new(),
            }),
            Some(':') => {
                let modifier = self.scan.next();
                self.modified(&name, true, modifier)
            }
            Some(modifier @ ('+' | '-' | '?' | '#' | '%')) => {
                self.modified(&name, false, Some(modifier))
            }
            Some('/') => self.replaced(&name),
            // The end of the text prints as U+FFFD: BuildKit's text, which users search for.
            other => Err(Fault::UnknownModifier(other.unwrap_or('\u{fffd}').to_string())),
        }
    }

    /// `${name-word}` and its like; `colon` where a `:` stands before the modifier, which makes an
    /// empty value count as none.
    fn modified(
        &mut self,
        name: &str,
        colon: bool,
        modifier: Option<char>,
    ) -> Result<String, Fault> {
        let written = || {
            let modifier = modifier.unwrap_or('\u{fffd}');
            if colon { format!(":{modifier}") } else { modifier.to_string() }
        };
        let takes_pattern = matches!(modifier, Some('#' | '%'));
        if colon && takes_pattern {
            return Err(Fault::UnknownModifier(written()));
        }
        let word = self.inner('}', takes_pattern, Fault::MissingBrace)?;
        let value = self.lookup(name);
        if value.is_none() && self.rules.keep_unset {
            return Ok(format!("${{{name}{}{word}}}", written()));
        }
        // With a colon, empty is as good as unset.
        let counts = value.as_ref().is_some_and(|value| !(colon && value.is_empty()));
        match modifier {
            Some('-') => Ok(if counts { value.unwrap_or_default() } else { word }),
            Some('+') => Ok(if counts { word } else { String::new() }),
            Some('?') if counts => Ok(value.unwrap_or_default()),
            Some('?') => {
                let usual = if value.is_none() {
                    "is not allowed to be unset"
                } else {
                    "is not allowed to be empty"
                };
                let message = if word.is_empty() { usual.to_owned() } else { word };
                Err(Fault::Required { name: name.to_owned(), message })
            }
            Some(side @ ('#' | '%')) => {
                let value = value.unwrap_or_default();
                let (pattern, longest) = match word.strip_prefix(side) {
                    Some(rest) => (rest, true),
                    None => (word.as_str(), false),
                };
                self.spend(value.len() + pattern.len())?;
                if side == '#' {
                    pattern::trim_prefix(pattern, &value, longest)
                } else {
                    pattern::trim_suffix(pattern, &value, longest)
                }
            }
            _ => Err(Fault::UnknownModifier(written())),
        }
    }

    /// `${name/pattern/replacement}`, after the first slash.
    fn replaced(&mut self, name: &str) -> Result<String, Fault> {
        let all = self.scan.peek() == Some('/');
        if all {
            self.scan.next();
        }
        let pattern = self.inner('/', true, Fault::MissingSlash)?;
        let replacement = self.inner('}', true, Fault::MissingBrace)?;
        let value = self.lookup(name);
        let Some(value) = value else {
            if self.rules.keep_unset {
                return Ok(format!("${{{name}/{pattern}/{replacement}}}"));
            }
            // An unset value is empty, and an empty text may still match.
            return self.replace_in("", &pattern, &replacement, all);
        };
        self.replace_in(&value, &pattern, &replacement, all)
    }

    fn replace_in(
        &mut self,
        value: &str,
        pattern: &str,
        replacement: &str,
        all: bool,
    ) -> Result<String, Fault> {
        self.spend(value.len() + pattern.len())?;
        let compiled = Pattern::new(pattern, true, false)?;
        if all {
            compiled.replace_all(value, replacement, self.budget)
        } else {
            Ok(compiled.replace_first(value, replacement))
        }
    }

    /// A nested word. Where it fails at the very end of the text, `missing` is what is wrong.
    fn inner(&mut self, stop: char, keep_escapes: bool, missing: Fault) -> Result<String, Fault> {
        match self.until(Some(stop), keep_escapes) {
            Ok((word, _)) => Ok(word),
            Err(limit @ (Fault::TooDeep | Fault::TooLong | Fault::TooMuchWork)) => Err(limit),
            Err(_) if self.scan.peek().is_none() => Err(missing),
            Err(fault) => Err(fault),
        }
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(next) = self.scan.peek() {
            if name.is_empty() {
                if is_digit(next) {
                    while let Some(digit) = self.scan.peek().filter(|&c| is_digit(c)) {
                        self.scan.next();
                        name.push(digit);
                    }
                    return name;
                }
                if matches!(next, '@' | '*' | '#' | '?' | '-' | '$' | '!') {
                    self.scan.next();
                    return next.to_string();
                }
            }
            if !(is_letter(next) || is_digit(next) || next == '_') {
                break;
            }
            self.scan.next();
            name.push(next);
        }
        name
    }

    fn lookup(&mut self, name: &str) -> Option<String> {
        let value = self.variables.value(name).map(Cow::into_owned);
        let met = if value.is_some() { &mut self.names.matched } else { &mut self.names.unmatched };
        if !met.contains(name) {
            met.insert(name.to_owned());
        }
        value
    }

    fn spend(&mut self, bytes: usize) -> Result<(), Fault> {
        self.work = self.work.saturating_add(bytes);
        if self.work > MAX_PATTERN_WORK { Err(Fault::TooMuchWork) } else { Ok(()) }
    }
}

/// A letter by Unicode's categories (L), which is narrower than "alphabetic".
fn is_letter(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_alphabetic() } else { super::quote::class::is_letter(c) }
}

/// A decimal digit by Unicode's categories (Nd).
fn is_digit(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_digit() } else { super::quote::class::is_digit(c) }
}

#[cfg(test)]
mod tests;
