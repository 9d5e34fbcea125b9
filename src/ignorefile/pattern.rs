//! One pattern, with the reference matcher's meaning.

use super::{Glob, clean};
use std::{iter::Peekable, str::Chars};
use thiserror::Error;

/// A pattern that has been read.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    negated: bool,
    shape: Shape,
}

/// Why a pattern is refused.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum PatternError {
    /// A `!` with nothing behind it.
    #[error("illegal exclusion pattern: \"!\"")]
    BareNegation,
    /// An escaped letter, digit or non-ASCII character without a meaning here.
    #[error("`\\{0}` has no meaning in a pattern")]
    Escape(char),
    /// A class that is empty, not closed or out of order, or a backslash at the end.
    #[error("syntax error in pattern")]
    Syntax,
}

impl PatternError {
    /// What the user does about it.
    pub fn fix(self) -> &'static str {
        match self {
            Self::BareNegation => "put a path behind the `!`, or remove the line",
            Self::Escape(_) => "remove the backslash",
            Self::Syntax => "write a literal `[` as `\\[` and a literal backslash as `\\\\`",
        }
    }
}

/// How a path is compared: the reference matcher has the same four ways, and they differ at the
/// edges (only the last two let `**foo` match `afoo`, or not).
#[derive(Clone, Debug)]
enum Shape {
    Exact,
    /// `foo/**`: paths that start with this.
    Prefix(String),
    /// `**/foo`: paths that end with this.
    Suffix(String),
    Wild(Wild),
}

/// A regular expression of the few kinds that patterns turn into: `prefix`, then `nodes`, then
/// `suffix`.
#[derive(Clone, Debug)]
struct Wild {
    prefix: String,
    nodes: Vec<Node>,
    suffix: String,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Node {
    /// `(.*/)?`
    Directories,
    /// `.*`
    Everything,
    One(Set),
    Many(Set),
    /// `^`, which a pattern's own `^` becomes.
    Start,
}

/// A set of characters.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Set {
    negated: bool,
    ranges: Vec<(char, char)>,
    /// Negated classes inside the class, such as `\D`.
    complements: Vec<Vec<(char, char)>>,
}

/// Where a path has to look like a pattern for the pattern to be worth trying.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Anchor<'a> {
    /// The last component is this.
    Base(&'a str),
    /// The first component is this.
    First(&'a str),
    None,
}

impl Pattern {
    /// Reads a pattern as it stands in a list (see [`Matcher`](super::Matcher)); blank ones are
    /// `None`.
    ///
    /// # Errors
    /// [`PatternError`] for what the reference matcher refuses.
    pub fn new(pattern: &str) -> Result<Option<Self>, PatternError> {
        let pattern = pattern.trim();
        if pattern.is_empty() {
            return Ok(None);
        }
        let cleaned = clean(pattern);
        let (negated, text) = match cleaned.strip_prefix('!') {
            Some("") => return Err(PatternError::BareNegation),
            Some(rest) => (true, rest),
            None => (false, cleaned.as_str()),
        };
        Glob::new(text)?;
        Ok(Some(Self { text: text.to_owned(), negated, shape: Shape::new(text)? }))
    }

    /// The pattern, tidied and without its `!`.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it takes back what earlier patterns ignore.
    pub fn is_negated(&self) -> bool {
        self.negated
    }

    /// Whether `path` itself matches, parents aside.
    pub fn matches(&self, path: &str) -> bool {
        match &self.shape {
            Shape::Exact => path == self.text,
            Shape::Prefix(prefix) => path.starts_with(prefix.as_str()),
            Shape::Suffix(suffix) => {
                path.ends_with(suffix.as_str()) || suffix.strip_prefix('/') == Some(path)
            }
            Shape::Wild(wild) => wild.matches(path),
        }
    }

    /// What a path must have for [`matches`](Self::matches) to be true.
    pub(super) fn anchor(&self) -> Anchor<'_> {
        match &self.shape {
            Shape::Exact => Anchor::Base(base(&self.text)),
            Shape::Prefix(prefix) => first(prefix),
            Shape::Suffix(suffix) => match suffix.rsplit_once('/') {
                Some((_, last)) => Anchor::Base(last),
                None => Anchor::None,
            },
            Shape::Wild(wild) => {
                let only_directories = wild.prefix.is_empty()
                    && wild.nodes.iter().all(|node| *node == Node::Directories);
                let end = match wild.suffix.rsplit_once('/') {
                    Some((_, last)) => Some(last),
                    None if only_directories => Some(wild.suffix.as_str()),
                    None => None,
                };
                match end {
                    Some(last) if !last.is_empty() => Anchor::Base(last),
                    _ => first(&wild.prefix),
                }
            }
        }
    }
}

fn base(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, last)| last)
}

fn first(prefix: &str) -> Anchor<'_> {
    prefix.split_once('/').map_or(Anchor::None, |(first, _)| Anchor::First(first))
}

impl Shape {
    fn new(pattern: &str) -> Result<Self, PatternError> {
        #[derive(PartialEq)]
        enum Kind {
            Exact,
            Prefix,
            Suffix,
            Wild,
        }
        let mut expression = String::new();
        let mut kind = Kind::Exact;
        let mut rest = pattern.chars().peekable();
        let mut at_start = true;
        while let Some(character) = rest.next() {
            match character {
                '*' if rest.next_if_eq(&'*').is_some() => {
                    rest.next_if_eq(&'/');
                    if rest.peek().is_some() {
                        expression.push_str("(.*/)?");
                        kind = Kind::Wild;
                    } else if kind == Kind::Exact {
                        kind = Kind::Prefix;
                    } else {
                        expression.push_str(".*");
                        kind = Kind::Wild;
                    }
                    if at_start {
                        kind = Kind::Suffix;
                    }
                }
                '*' => {
                    expression.push_str("[^/]*");
                    kind = Kind::Wild;
                }
                '?' => {
                    expression.push_str("[^/]");
                    kind = Kind::Wild;
                }
                '.' | '+' | '(' | ')' | '|' | '{' | '}' | '$' => {
                    expression.push('\\');
                    expression.push(character);
                }
                '\\' => {
                    expression.push('\\');
                    expression.push(rest.next().ok_or(PatternError::Syntax)?);
                    kind = Kind::Wild;
                }
                '[' | ']' => {
                    expression.push(character);
                    kind = Kind::Wild;
                }
                other => expression.push(other),
            }
            at_start = false;
        }
        Ok(match kind {
            Kind::Exact => Self::Exact,
            Kind::Prefix => Self::Prefix(pattern.strip_suffix("**").unwrap_or(pattern).to_owned()),
            Kind::Suffix => Self::Suffix(pattern.strip_prefix("**").unwrap_or(pattern).to_owned()),
            Kind::Wild => Self::Wild(Wild::new(&expression)?),
        })
    }
}

impl Wild {
    fn new(expression: &str) -> Result<Self, PatternError> {
        let mut nodes = Vec::new();
        let mut rest = expression.chars().peekable();
        while let Some(character) = rest.next() {
            let set = match character {
                '^' => {
                    nodes.push(Node::Start);
                    continue;
                }
                '(' => {
                    // Only ever `(.*/)?`: a pattern's own parentheses are escaped.
                    rest.by_ref().take_while(|part| *part != '?').for_each(drop);
                    nodes.push(Node::Directories);
                    continue;
                }
                '.' => {
                    rest.next();
                    nodes.push(Node::Everything);
                    continue;
                }
                '[' => Set::class(&mut rest)?,
                '\\' => Set::escape(&mut rest)?,
                other => Set::one(other),
            };
            let many = rest.next_if_eq(&'*').is_some();
            nodes.push(if many { Node::Many(set) } else { Node::One(set) });
        }
        let literal = |node: &Node| match node {
            Node::One(set) => set.as_one(),
            _ => None,
        };
        let prefix: String = nodes.iter().map_while(literal).collect();
        nodes.drain(..prefix.chars().count());
        let mut suffix: Vec<char> = nodes.iter().rev().map_while(literal).collect();
        nodes.truncate(nodes.len() - suffix.len());
        suffix.reverse();
        Ok(Self { prefix, nodes, suffix: suffix.into_iter().collect() })
    }

    fn matches(&self, path: &str) -> bool {
        let Some(rest) = path.strip_prefix(self.prefix.as_str()) else { return false };
        let Some(middle) = rest.strip_suffix(self.suffix.as_str()) else { return false };
        match self.nodes.as_slice() {
            [] => middle.is_empty(),
            [Node::Everything] => !middle.contains('\n'),
            [Node::Many(set)] => middle.chars().all(|character| set.contains(character)),
            [Node::Directories] => {
                middle.is_empty() || (middle.ends_with('/') && !middle.contains('\n'))
            }
            nodes => simulate(nodes, middle, self.prefix.is_empty()),
        }
    }
}

/// Runs the expression over `text` with all its states at once: time is bound by nodes times
/// characters, whatever the pattern.
fn simulate(nodes: &[Node], text: &str, from_start: bool) -> bool {
    // State 2i: node i comes next. State 2i+1: inside the `.*` of node i.
    let mut now = vec![false; 2 * nodes.len() + 2];
    let mut next = now.clone();
    enter(nodes, &mut now, 0, from_start);
    for character in text.chars() {
        next.fill(false);
        for (index, node) in nodes.iter().enumerate() {
            let (before, inside) = (2 * index, 2 * index + 1);
            if is_set(&now, inside) && character != '\n' {
                set(&mut next, inside);
                if *node == Node::Everything || character == '/' {
                    enter(nodes, &mut next, index + 1, false);
                }
            }
            if is_set(&now, before) {
                match node {
                    Node::One(one) if one.contains(character) => {
                        enter(nodes, &mut next, index + 1, false);
                    }
                    Node::Many(many) if many.contains(character) => {
                        enter(nodes, &mut next, index, false);
                    }
                    _ => {}
                }
            }
        }
        std::mem::swap(&mut now, &mut next);
    }
    is_set(&now, 2 * nodes.len())
}

/// Reaches node `index`, and what lies behind it where it may match nothing.
fn enter(nodes: &[Node], states: &mut [bool], index: usize, at_start: bool) {
    for (at, node) in (index..).zip(nodes.get(index..).unwrap_or_default()) {
        if is_set(states, 2 * at) {
            return;
        }
        set(states, 2 * at);
        match node {
            Node::Directories | Node::Everything => set(states, 2 * at + 1),
            Node::Many(_) => {}
            Node::Start if at_start => {}
            Node::One(_) | Node::Start => return,
        }
    }
    set(states, 2 * nodes.len());
}

fn set(states: &mut [bool], at: usize) {
    if let Some(state) = states.get_mut(at) {
        *state = true;
    }
}

fn is_set(states: &[bool], at: usize) -> bool {
    states.get(at).copied().unwrap_or_default()
}

impl Set {
    fn one(character: char) -> Self {
        Self { ranges: vec![(character, character)], ..Self::default() }
    }

    fn as_one(&self) -> Option<char> {
        match self.ranges.as_slice() {
            [(low, high)] if low == high && !self.negated && self.complements.is_empty() => {
                Some(*low)
            }
            _ => None,
        }
    }

    fn contains(&self, character: char) -> bool {
        let within = |ranges: &[(char, char)]| {
            ranges.iter().any(|(low, high)| (*low..=*high).contains(&character))
        };
        let inside = within(&self.ranges) || self.complements.iter().any(|ranges| !within(ranges));
        inside != self.negated
    }

    /// Adds a named class to the set.
    fn add(&mut self, ranges: &[(char, char)], negated: bool) {
        if negated {
            self.complements.push(ranges.to_vec());
        } else {
            self.ranges.extend_from_slice(ranges);
        }
    }

    /// What follows a backslash outside a class.
    fn escape(rest: &mut Peekable<Chars<'_>>) -> Result<Self, PatternError> {
        let character = rest.next().ok_or(PatternError::Syntax)?;
        let mut set = Self::default();
        match perl_class(character) {
            Some((ranges, negated)) => set.add(ranges, negated),
            None => set = Self::one(escaped(character)?),
        }
        Ok(set)
    }

    /// What follows a `[`. By now a `*` or `?` in it has become `[^/]*` or `[^/]`, as in the
    /// reference, so the class may end earlier than it seems to.
    fn class(rest: &mut Peekable<Chars<'_>>) -> Result<Self, PatternError> {
        let mut set = Self { negated: rest.next_if_eq(&'^').is_some(), ..Self::default() };
        let mut first = true;
        loop {
            let character = rest.next().ok_or(PatternError::Syntax)?;
            match character {
                ']' if !first => return Ok(set),
                '[' if rest.peek() == Some(&':') => {
                    let name: String =
                        rest.clone().skip(1).take_while(|part| *part != ':').collect();
                    let close = rest.clone().nth(name.chars().count() + 2);
                    if close == Some(']') {
                        let ranges = posix_class(&name).ok_or(PatternError::Syntax)?;
                        set.add(ranges.0, ranges.1);
                        rest.by_ref().take(name.chars().count() + 3).for_each(drop);
                    } else {
                        set.range('[', rest)?;
                    }
                }
                '\\' => {
                    let escaped_char = rest.next().ok_or(PatternError::Syntax)?;
                    match perl_class(escaped_char) {
                        Some((ranges, negated)) => set.add(ranges, negated),
                        None => set.range(escaped(escaped_char)?, rest)?,
                    }
                }
                other => set.range(other, rest)?,
            }
            first = false;
        }
    }

    fn range(&mut self, low: char, rest: &mut Peekable<Chars<'_>>) -> Result<(), PatternError> {
        let mut ahead = rest.clone();
        let is_range = ahead.next() == Some('-') && ahead.next().is_some_and(|end| end != ']');
        if !is_range {
            self.ranges.push((low, low));
            return Ok(());
        }
        rest.next();
        let high = match rest.next().ok_or(PatternError::Syntax)? {
            '\\' => escaped(rest.next().ok_or(PatternError::Syntax)?)?,
            other => other,
        };
        if high < low {
            return Err(PatternError::Syntax);
        }
        self.ranges.push((low, high));
        Ok(())
    }
}

/// An escaped character that stands for one character.
fn escaped(character: char) -> Result<char, PatternError> {
    Ok(match character {
        'a' => '\u{7}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        other if other.is_ascii() && !other.is_ascii_alphanumeric() => other,
        other => return Err(PatternError::Escape(other)),
    })
}

/// A class and whether it is meant negated.
type NamedClass = (&'static [(char, char)], bool);

fn perl_class(letter: char) -> Option<NamedClass> {
    const SPACE: &[(char, char)] = &[('\t', '\n'), ('\u{c}', '\r'), (' ', ' ')];
    const WORD: &[(char, char)] = &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')];
    let ranges = match letter.to_ascii_lowercase() {
        'd' => &[('0', '9')],
        's' => SPACE,
        'w' => WORD,
        _ => return None,
    };
    Some((ranges, letter.is_ascii_uppercase()))
}

fn posix_class(name: &str) -> Option<NamedClass> {
    let (negated, name) = name.strip_prefix('^').map_or((false, name), |name| (true, name));
    let ranges: &[(char, char)] = match name {
        "alnum" => &[('0', '9'), ('A', 'Z'), ('a', 'z')],
        "alpha" => &[('A', 'Z'), ('a', 'z')],
        "ascii" => &[('\0', '\u{7f}')],
        "blank" => &[('\t', '\t'), (' ', ' ')],
        "cntrl" => &[('\0', '\u{1f}'), ('\u{7f}', '\u{7f}')],
        "digit" => &[('0', '9')],
        "graph" => &[('!', '~')],
        "lower" => &[('a', 'z')],
        "print" => &[(' ', '~')],
        "punct" => &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')],
        "space" => &[('\t', '\r'), (' ', ' ')],
        "upper" => &[('A', 'Z')],
        "word" => &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')],
        "xdigit" => &[('0', '9'), ('A', 'F'), ('a', 'f')],
        _ => return None,
    };
    Some((ranges, negated))
}

#[cfg(test)]
mod tests {
    use super::{Anchor, Pattern, PatternError};

    fn pattern(text: &str) -> Pattern {
        Pattern::new(text).unwrap().unwrap()
    }

    #[test]
    fn odd_patterns_mean_what_the_reference_makes_of_them() {
        for (text, path, expected) in [
            // A star inside a class becomes `[^/]*` and ends the class early.
            ("[*]x", "[^]x", true),
            ("[*]x", "*x", false),
            ("[?]", "^]", true),
            ("a^*", "a^b", false),
            ("a^b", "a^b", true),
            ("\\d*", "7up", true),
            ("\\d*", "d", false),
            ("[[:digit:]]x", "5x", true),
            ("[[]set]", "[set]", true),
            ("[a-]x", "-x", false),
            ("x**y", "x/y", true),
            ("x**y", "xy", true),
            ("x**y", "xa/b/y", true),
            ("***", "a/b", true),
            ("**/a/**", "x/a/y", true),
            ("**/a/**", "x/a", false),
            ("**/*.c", "a\nb/x.c", false),
            ("*.c", "a\nb.c", true),
        ] {
            let Ok(Some(pattern)) = Pattern::new(text) else {
                assert!(!expected, "{text} is refused");
                continue;
            };
            assert_eq!(pattern.matches(path), expected, "{text} {path:?}");
        }
    }

    #[test]
    fn escapes_without_a_meaning_are_refused() {
        assert_eq!(Pattern::new("a\\q").unwrap_err(), PatternError::Escape('q'));
        assert_eq!(Pattern::new("[b-a]").unwrap_err(), PatternError::Syntax);
    }

    #[test]
    fn anchors_name_a_literal_part() {
        assert_eq!(pattern("a/b").anchor(), Anchor::Base("b"));
        assert_eq!(pattern("**/node_modules").anchor(), Anchor::Base("node_modules"));
        assert_eq!(pattern("**/**/x").anchor(), Anchor::Base("x"));
        assert_eq!(pattern("docs/*.md").anchor(), Anchor::First("docs"));
        assert_eq!(pattern("docs/**").anchor(), Anchor::First("docs"));
        assert_eq!(pattern("*/target").anchor(), Anchor::Base("target"));
        assert_eq!(pattern("*.log").anchor(), Anchor::None);
        assert_eq!(pattern("foo**").anchor(), Anchor::None);
        assert_eq!(pattern("a**b").anchor(), Anchor::None);
        assert_eq!(pattern("?**b").anchor(), Anchor::None);
    }

    #[test]
    fn time_is_bound_for_hostile_patterns() {
        let pattern = pattern(&format!("{}z", "**/*a*".repeat(40)));
        assert!(!pattern.matches(&"a/".repeat(1000)));
    }
}
