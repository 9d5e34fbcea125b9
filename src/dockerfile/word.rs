//! Cutting the arguments of an instruction into words. Quotes and escapes stay in the words: they go
//! when variables are expanded.

use super::ast::Pair;
use super::error::Cause;

/// The blanks that separate an instruction's word from its arguments, and plain arguments.
pub(super) const BLANKS: [char; 5] = ['\t', '\u{0b}', '\u{0c}', '\r', ' '];

/// Cuts at runs of blanks, whatever is quoted.
pub(super) fn split_plain(text: &str) -> Vec<String> {
    if text.is_empty() {
        return Vec::new();
    }
    let mut words = Vec::new();
    let mut rest = text;
    while let Some((word, after)) = split_once_blanks(rest) {
        words.push(word.to_owned());
        rest = after;
    }
    words.push(rest.to_owned());
    words
}

/// What stands before and after the first run of blanks.
pub(super) fn split_once_blanks(text: &str) -> Option<(&str, &str)> {
    let (word, rest) = text.split_once(BLANKS)?;
    Some((word, rest.trim_start_matches(BLANKS)))
}

/// Cuts at white space outside of quotes. An escape character keeps the next one in its word, and
/// counts for nothing at the very end.
pub(super) fn split_quoted(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut inside = false;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            if inside && !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
            inside = false;
            continue;
        }
        inside = true;
        let was = quote;
        match was {
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => {}
        }
        // Nothing can be escaped between single quotes.
        if c == escape && was != Some('\'') {
            let Some(escaped) = chars.next() else {
                break;
            };
            word.push(c);
            word.push(escaped);
        } else {
            word.push(c);
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// The names and values of `ENV` and `LABEL`: `A=b C=d`, or the old form `A b` where the first word
/// has no `=`.
pub(super) fn pairs(
    text: &str,
    instruction: &'static str,
    escape: char,
) -> Result<Vec<Pair>, Cause> {
    let words = split_quoted(text, escape);
    let Some(first) = words.first() else { return Ok(Vec::new()) };
    if !first.contains('=') {
        let Some((key, value)) = split_once_blanks(text) else {
            return Err(Cause::PairWithoutValue(instruction));
        };
        return Ok(vec![Pair { key: key.to_owned(), value: value.to_owned(), legacy: true }]);
    }
    words
        .into_iter()
        .map(|word| match word.split_once('=') {
            Some((key, value)) => {
                Ok(Pair { key: key.to_owned(), value: value.to_owned(), legacy: false })
            }
            None => Err(Cause::MissingEquals(word)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Cause, pairs, split_plain, split_quoted};

    #[test]
    fn plain_words_know_no_quotes() {
        assert_eq!(split_plain("a  'b c'\td"), ["a", "'b", "c'", "d"]);
        assert_eq!(split_plain(""), [""; 0]);
        assert_eq!(split_plain("a\u{a0}b"), ["a\u{a0}b"]);
    }

    #[test]
    fn quoted_words_keep_their_quotes() {
        assert_eq!(
            split_quoted(r#"a='b c' d="e \" f"g h\ i"#, '\\'),
            ["a='b c'", r#"d="e \" f"g"#, r"h\ i"]
        );
        assert_eq!(split_quoted(r"'a\' b", '\\'), [r"'a\'", "b"]);
        assert_eq!(split_quoted("'' \"\"", '\\'), ["''", "\"\""]);
        assert_eq!(split_quoted("a` b c`", '`'), ["a` b", "c"]);
        assert_eq!(split_quoted("\"open a", '\\'), ["\"open a"]);
        assert_eq!(split_quoted(" \\", '\\'), [""; 0]);
    }

    #[test]
    fn pairs_in_both_forms() {
        let read = |text| {
            pairs(text, "ENV", '\\').map(|pairs| {
                pairs.into_iter().map(|p| format!("{}|{}|{}", p.key, p.value, p.legacy)).collect()
            })
        };
        let ok = |list: &[&str]| Ok(list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>());
        assert_eq!(read("A=1 B='x y'"), ok(&["A|1|false", "B|'x y'|false"]));
        assert_eq!(read("A  b = c  d"), ok(&["A|b = c  d|true"]));
        assert_eq!(read("\"A b\"=c"), ok(&["\"A b\"|c|false"]));
        assert_eq!(read(""), ok(&[]));
        assert_eq!(read("A"), Err(Cause::PairWithoutValue("ENV")));
        assert_eq!(read("A=1 B"), Err(Cause::MissingEquals("B".into())));
    }
}
