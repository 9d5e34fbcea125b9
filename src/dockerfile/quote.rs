//! Text in double quotes as Go prints it (`%q`): histories, warnings and errors of BuildKit have it.

use std::fmt::Write as _;

/// The text in double quotes, with what cannot be seen escaped as Go does.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{07}' => out.push_str("\\a"),
            '\u{08}' => out.push_str("\\b"),
            '\u{0c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{0b}' => out.push_str("\\v"),
            ' '..='~' => out.push(c),
            c if c.is_ascii() => push_escape(&mut out, 'x', 2, c),
            c if class::is_printable(c) => out.push(c),
            c if u32::from(c) < 0x1_0000 => push_escape(&mut out, 'u', 4, c),
            c => push_escape(&mut out, 'U', 8, c),
        }
    }
    out.push('"');
    out
}

/// The texts, each quoted, in brackets with blanks between (`%q` of a list).
pub fn quote_list<T: AsRef<str>>(texts: &[T]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| quote(text.as_ref())).collect();
    format!("[{}]", quoted.join(" "))
}

fn push_escape(out: &mut String, letter: char, width: usize, c: char) {
    // Writing to a string cannot fail.
    let _ = write!(out, "\\{letter}{:0width$x}", u32::from(c));
}

/// Unicode categories of characters beyond ASCII.
pub(super) mod class {
    use std::sync::LazyLock;

    use regex::Regex;

    fn is(class: &LazyLock<Option<Regex>>, c: char) -> bool {
        let mut buffer = [0; 4];
        class.as_ref().is_some_and(|class| class.is_match(c.encode_utf8(&mut buffer)))
    }

    /// A letter (L).
    pub(in crate::dockerfile) fn is_letter(c: char) -> bool {
        static CLASS: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\p{L}").ok());
        is(&CLASS, c)
    }

    /// A decimal digit (Nd).
    pub(in crate::dockerfile) fn is_digit(c: char) -> bool {
        static CLASS: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\p{Nd}").ok());
        is(&CLASS, c)
    }

    /// What Go prints as it is: letters, marks, numbers, punctuation, symbols.
    pub(in crate::dockerfile) fn is_printable(c: char) -> bool {
        static CLASS: LazyLock<Option<Regex>> =
            LazyLock::new(|| Regex::new(r"[\p{L}\p{M}\p{N}\p{P}\p{S}]").ok());
        is(&CLASS, c)
    }
}

#[cfg(test)]
mod tests {
    use super::{quote, quote_list};

    #[test]
    fn what_can_be_seen_stays() {
        assert_eq!(quote("a \"b\" \\ ü 漢"), r#""a \"b\" \\ ü 漢""#);
    }

    #[test]
    fn what_cannot_be_seen_is_escaped_as_go_does() {
        assert_eq!(quote("\0\u{7}\t\n\u{7f}"), r#""\x00\a\t\n\x7f""#);
        assert_eq!(quote("\u{a0}\u{200b}\u{e000}\u{10ffff}"), r#""\u00a0\u200b\ue000\U0010ffff""#);
    }

    #[test]
    fn lists_stand_in_brackets() {
        assert_eq!(quote_list(&["a", "b c"]), r#"["a" "b c"]"#);
        assert_eq!(quote_list::<&str>(&[]), "[]");
    }
}
