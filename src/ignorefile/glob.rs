//! Go's `filepath.Match`: the wildcards of one path component.

use super::PatternError;
use std::{iter::Peekable, str::Chars};

/// A pattern of `*`, `?`, `[a-z]`, `[^a-z]` and `\x`. No wildcard matches a slash.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Glob {
    tokens: Vec<Token>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Token {
    Any,
    Char(char),
    Class { negated: bool, ranges: Vec<(char, char)> },
    Star,
}

impl Glob {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`PatternError::Syntax`] for what `filepath.Match` refuses: a class that is empty or not
    /// closed, a range without an end, a backslash at the end.
    pub fn new(pattern: &str) -> Result<Self, PatternError> {
        let mut tokens = Vec::new();
        let mut rest = pattern.chars().peekable();
        while let Some(character) = rest.next() {
            tokens.push(match character {
                '*' => Token::Star,
                '?' => Token::Any,
                '[' => class(&mut rest)?,
                '\\' => Token::Char(rest.next().ok_or(PatternError::Syntax)?),
                other => Token::Char(other),
            });
        }
        Ok(Self { tokens })
    }

    /// Whether the whole of `name` matches.
    pub fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        let (mut token, mut at) = (0, 0);
        // Where to go on when what follows the last star does not fit: the star takes one more.
        let mut retry: Option<(usize, usize)> = None;
        loop {
            let here = name.get(at).copied();
            let fits = match (self.tokens.get(token), here) {
                (None, None) => return true,
                (Some(Token::Star), _) => {
                    token += 1;
                    retry = Some((token, at));
                    continue;
                }
                (Some(Token::Any), Some(character)) => character != '/',
                (Some(Token::Char(expected)), Some(character)) => *expected == character,
                (Some(Token::Class { negated, ranges }), Some(character)) => {
                    let inside =
                        ranges.iter().any(|(low, high)| (*low..=*high).contains(&character));
                    inside != *negated
                }
                (Some(_), None) | (None, Some(_)) => false,
            };
            if fits {
                token += 1;
                at += 1;
                continue;
            }
            match retry {
                Some((after_star, start)) if name.get(start).is_some_and(|taken| *taken != '/') => {
                    token = after_star;
                    at = start + 1;
                    retry = Some((after_star, at));
                }
                _ => return false,
            }
        }
    }
}

fn class(rest: &mut Peekable<Chars<'_>>) -> Result<Token, PatternError> {
    let negated = rest.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && rest.next_if_eq(&']').is_some() {
            return Ok(Token::Class { negated, ranges });
        }
        let low = class_member(rest)?;
        let high = if rest.next_if_eq(&'-').is_some() { class_member(rest)? } else { low };
        ranges.push((low, high));
    }
}

fn class_member(rest: &mut Peekable<Chars<'_>>) -> Result<char, PatternError> {
    let member = match rest.next() {
        None | Some('-' | ']') => return Err(PatternError::Syntax),
        Some('\\') => rest.next().ok_or(PatternError::Syntax)?,
        Some(other) => other,
    };
    // A class has to be closed, so something must follow.
    if rest.peek().is_none() {
        return Err(PatternError::Syntax);
    }
    Ok(member)
}

#[cfg(test)]
mod tests {
    use super::Glob;

    #[test]
    fn names_match_as_in_go() {
        for (pattern, name, expected) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("a?c", "a☂c", true),
            ("a[b-d]e", "ace", true),
            ("a[^b-d]e", "ace", false),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("[\\]a]", "]", true),
            ("[\\-x]", "-", true),
            ("[x\\-]", "z", false),
            ("*x", "xxx", true),
            ("*", "a/b", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(Glob::new(pattern).unwrap().matches(name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn broken_patterns_are_refused() {
        for pattern in
            ["[", "[]", "[]a]", "[^]a]", "[-]", "[x-]", "[-x]", "a[", "[a", "\\", "[a-", "[\\"]
        {
            assert!(Glob::new(pattern).is_err(), "{pattern}");
        }
    }
}
