//! Patterns of `${V#p}`, `${V%p}` and `${V/p/r}`: `*` is any run of characters, `?` any one
//! character (neither a line end), a backslash takes a wildcard's meaning away.

use regex::Regex;

use super::Fault;

/// A pattern, ready to be used.
pub(super) struct Pattern {
    matcher: Matcher,
    anchored: bool,
}

enum Matcher {
    /// No wildcards.
    Literal(String),
    /// Wildcards.
    Regex(Regex),
}

impl Pattern {
    /// Reads a pattern. `longest`: wildcards take as much as they can; `anchored`: it must match
    /// at the start.
    pub(super) fn new(pattern: &str, longest: bool, anchored: bool) -> Result<Self, Fault> {
        let fault = |reason: String| Fault::BadPattern { pattern: pattern.to_owned(), reason };
        let mut literal = String::with_capacity(pattern.len());
        let mut regex = String::with_capacity(pattern.len() + 4);
        let mut wild = false;
        if anchored {
            regex.push('^');
        }
        let mut chars = pattern.strip_prefix('\u{feff}').unwrap_or(pattern).chars();
        while let Some(mut c) = chars.next() {
            match c {
                '*' => {
                    wild = true;
                    regex.push_str(if longest { ".*" } else { ".*?" });
                    continue;
                }
                '?' => {
                    wild = true;
                    regex.push('.');
                    continue;
                }
                '\\' => match chars.clone().next() {
                    // What ends a part of the substitution is escaped for that alone.
                    Some('}' | '/') => continue,
                    Some(escaped @ ('*' | '?' | '\\')) => {
                        chars.next();
                        c = escaped;
                    }
                    other => {
                        let other = other.unwrap_or('\u{fffd}');
                        return Err(fault(format!("invalid escape '\\{other}'")));
                    }
                },
                _ => {}
            }
            literal.push(c);
            regex.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
        }
        let matcher = if wild {
            Matcher::Regex(Regex::new(&regex).map_err(|error| fault(error.to_string()))?)
        } else {
            Matcher::Literal(literal)
        };
        Ok(Self { matcher, anchored })
    }

    /// The first match.
    fn find(&self, value: &str) -> Option<std::ops::Range<usize>> {
        match &self.matcher {
            Matcher::Literal(literal) if self.anchored => {
                value.starts_with(literal.as_str()).then_some(0..literal.len())
            }
            Matcher::Literal(literal) => {
                value.find(literal.as_str()).map(|at| at..at + literal.len())
            }
            Matcher::Regex(regex) => regex.find(value).map(|found| found.range()),
        }
    }

    /// The value with its first match replaced by just this text.
    pub(super) fn replace_first(&self, value: &str, replacement: &str) -> String {
        let mut result = value.to_owned();
        if let Some(range) = self.find(value) {
            result.replace_range(range, replacement);
        }
        result
    }

    /// The value with each match replaced by the template. In it `$0` and `${0}` stand for the match,
    /// `$$` for a dollar, and any other `$name` for nothing, as Go's regular expressions have it.
    pub(super) fn replace_all(
        &self,
        value: &str,
        template: &str,
        limit: usize,
    ) -> Result<String, Fault> {
        let mut result = String::with_capacity(value.len());
        let mut copied = 0;
        let mut replace = |range: std::ops::Range<usize>| {
            result.push_str(value.get(copied..range.start).unwrap_or_default());
            expand_template(&mut result, template, value.get(range.clone()).unwrap_or_default());
            copied = range.end;
            if result.len() > limit { Err(Fault::TooLong) } else { Ok(()) }
        };
        match &self.matcher {
            Matcher::Literal(literal) => {
                for (start, found) in value.match_indices(literal.as_str()) {
                    replace(start..start + found.len())?;
                }
            }
            Matcher::Regex(regex) => {
                for found in regex.find_iter(value) {
                    replace(found.range())?;
                }
            }
        }
        result.push_str(value.get(copied..).unwrap_or_default());
        if result.len() > limit { Err(Fault::TooLong) } else { Ok(result) }
    }
}

fn expand_template(out: &mut String, template: &str, found: &str) {
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let (name, after) = if let Some(braced) = after.strip_prefix('{') {
            let closed = braced.split_once('}');
            let named = |name: &str| !name.is_empty() && name.chars().all(is_name);
            closed.filter(|(name, _)| named(name)).unwrap_or(("", after))
        } else {
            let end = after.find(|c| !is_name(c)).unwrap_or(after.len());
            after.split_at(end)
        };
        match name {
            "" => out.push('$'),
            "0" => out.push_str(found),
            _ => {}
        }
        rest = after;
    }
    out.push_str(rest);
}

fn is_name(c: char) -> bool {
    c == '_' || super::is_letter(c) || super::is_digit(c)
}

/// The value without the shortest or longest prefix that matches.
pub(super) fn trim_prefix(pattern: &str, value: &str, longest: bool) -> Result<String, Fault> {
    let end = Pattern::new(pattern, longest, true)?.find(value).map_or(0, |range| range.end);
    Ok(value.get(end..).unwrap_or_default().to_owned())
}

/// The value without the shortest or longest suffix that matches: a prefix, seen from behind.
pub(super) fn trim_suffix(pattern: &str, value: &str, longest: bool) -> Result<String, Fault> {
    let trimmed = trim_prefix(&reverse_pattern(pattern), &reverse(value), longest)?;
    Ok(reverse(&trimmed))
}

fn reverse(text: &str) -> String {
    text.chars().rev().collect()
}

/// The pattern from behind, each escape still before what it escapes.
fn reverse_pattern(pattern: &str) -> String {
    let mut units = Vec::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match (c, if c == '\\' { chars.next() } else { None }) {
            (c, Some(escaped)) => units.push((Some(c), escaped)),
            (c, None) => units.push((None, c)),
        }
    }
    let mut reversed = String::with_capacity(pattern.len());
    for (escape, c) in units.into_iter().rev() {
        reversed.extend(escape);
        reversed.push(c);
    }
    reversed
}
