//! The JSON form of instructions: an array of strings. Written out because what is no JSON is shell
//! form, silently, so the borders must be those of Go's reader: lone surrogates are let through,
//! numbers beyond a double are not, and nesting ends at 10,000.

/// What a text turns out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Form {
    /// Not a JSON array.
    Other,
    /// An array with something else than strings in it.
    NotStrings,
    /// An array of strings.
    Strings(Vec<String>),
}

const MAX_DEPTH: usize = 10_000;

/// Reads a text that may be in JSON form.
pub(super) fn read(text: &str) -> Form {
    let text = text.trim_start();
    if !text.starts_with('[') {
        return Form::Other;
    }
    let mut reader = Reader { rest: text, only_strings: true, strings: Vec::new() };
    match reader.array() {
        None => Form::Other,
        Some(()) if reader.only_strings => Form::Strings(reader.strings),
        Some(()) => Form::NotStrings,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    Array,
    Object,
}

struct Reader<'a> {
    rest: &'a str,
    only_strings: bool,
    strings: Vec<String>,
}

impl Reader<'_> {
    /// The whole text: an array, and nothing after it. `None`: it is not JSON.
    fn array(&mut self) -> Option<()> {
        let mut inside: Vec<Inside> = Vec::new();
        // Each turn reads one value, then what may follow it.
        loop {
            self.blanks();
            let opened = if self.take("[") {
                Some((Inside::Array, "]"))
            } else if self.take("{") {
                Some((Inside::Object, "}"))
            } else {
                self.scalar(inside.len())?;
                None
            };
            if let Some((kind, close)) = opened {
                if !inside.is_empty() {
                    self.only_strings = false;
                }
                inside.push(kind);
                if inside.len() > MAX_DEPTH {
                    return None;
                }
                self.blanks();
                if self.take(close) {
                    inside.pop();
                } else {
                    self.key(kind)?;
                    continue;
                }
            }
            // After a value: the next one, or the end of one or more containers.
            loop {
                self.blanks();
                let Some(&kind) = inside.last() else {
                    return self.rest.is_empty().then_some(());
                };
                if self.take(",") {
                    self.blanks();
                    self.key(kind)?;
                    break;
                }
                if !self.take(if kind == Inside::Array { "]" } else { "}" }) {
                    return None;
                }
                inside.pop();
            }
        }
    }

    /// The key of an object's member; nothing in an array.
    fn key(&mut self, kind: Inside) -> Option<()> {
        if kind == Inside::Array {
            return Some(());
        }
        self.string()?;
        self.blanks();
        self.take(":").then_some(())
    }

    /// A value without parts, at this depth.
    fn scalar(&mut self, depth: usize) -> Option<()> {
        if self.rest.starts_with('"') {
            let string = self.string()?;
            if depth == 1 {
                self.strings.push(string);
            }
            return Some(());
        }
        self.only_strings = false;
        if self.take("true") || self.take("false") || self.take("null") {
            return Some(());
        }
        self.number()
    }

    fn number(&mut self) -> Option<()> {
        let digits = |text: &str| text.len() - text.trim_start_matches(is_digit).len();
        let text = self.rest;
        let mut end = usize::from(text.starts_with('-'));
        let whole = digits(text.get(end..)?);
        if whole == 0 || (whole > 1 && text.get(end..)?.starts_with('0')) {
            return None;
        }
        end += whole;
        if text.get(end..)?.starts_with('.') {
            let fraction = digits(text.get(end + 1..)?);
            if fraction == 0 {
                return None;
            }
            end += 1 + fraction;
        }
        if text.get(end..)?.starts_with(['e', 'E']) {
            end += 1;
            end += usize::from(text.get(end..)?.starts_with(['+', '-']));
            let exponent = digits(text.get(end..)?);
            if exponent == 0 {
                return None;
            }
            end += exponent;
        }
        let value: f64 = text.get(..end)?.parse().ok()?;
        self.rest = text.get(end..)?;
        value.is_finite().then_some(())
    }

    fn string(&mut self) -> Option<String> {
        let mut chars = self.rest.strip_prefix('"')?.chars();
        let mut string = String::new();
        loop {
            match chars.next()? {
                '"' => {
                    self.rest = chars.as_str();
                    return Some(string);
                }
                '\\' => match chars.next()? {
                    c @ ('"' | '\\' | '/') => string.push(c),
                    'b' => string.push('\u{08}'),
                    'f' => string.push('\u{0c}'),
                    'n' => string.push('\n'),
                    'r' => string.push('\r'),
                    't' => string.push('\t'),
                    'u' => string.push(unicode_escape(&mut chars)?),
                    _ => return None,
                },
                c if c < ' ' => return None,
                c => string.push(c),
            }
        }
    }

    fn blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
    }

    fn take(&mut self, token: &str) -> bool {
        let Some(rest) = self.rest.strip_prefix(token) else { return false };
        self.rest = rest;
        true
    }
}

fn is_digit(c: char) -> bool {
    c.is_ascii_digit()
}

/// The character of a `\u`, after the `u`. Half a surrogate pair becomes U+FFFD.
fn unicode_escape(chars: &mut std::str::Chars<'_>) -> Option<char> {
    let unit = hex(chars)?;
    if let 0xd800..0xdc00 = unit {
        let mut ahead = chars.clone();
        if ahead.next() == Some('\\') && ahead.next() == Some('u') {
            let low = hex(&mut ahead)?;
            if let 0xdc00..0xe000 = low {
                *chars = ahead;
                return char::from_u32(0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00));
            }
        }
    }
    Some(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER))
}

fn hex(chars: &mut std::str::Chars<'_>) -> Option<u32> {
    let mut unit = 0;
    for _ in 0..4 {
        unit = unit * 16 + chars.next()?.to_digit(16)?;
    }
    Some(unit)
}

#[cfg(test)]
mod tests {
    use super::{Form, read};

    fn strings(text: &str) -> Vec<String> {
        match read(text) {
            Form::Strings(strings) => strings,
            other => panic!("{text} is {other:?}"),
        }
    }

    #[test]
    fn arrays_of_strings() {
        assert_eq!(strings(" [ ]"), [""; 0]);
        assert_eq!(strings(r#"["a" , "b\n\"\/\u00fc"]"#), ["a", "b\n\"/ü"]);
        assert_eq!(
            strings(r#"["\ud83d\ude00\ud83dx\udc00\ud83d\u0041"]"#),
            ["😀\u{fffd}x\u{fffd}\u{fffd}A"]
        );
    }

    #[test]
    fn arrays_of_other_things() {
        for text in
            ["[1]", "[\"a\", null]", "[[\"a\"]]", "[{}]", "[{\"a\": [1, 2.5e-3, true]}, \"b\"]"]
        {
            assert_eq!(read(text), Form::NotStrings, "{text}");
        }
        assert_eq!(
            read(&format!("{}{}", "[".repeat(10_000), "]".repeat(10_000))),
            Form::NotStrings
        );
    }

    #[test]
    fn what_is_no_json_array() {
        for text in [
            "",
            "a",
            "{}",
            "[",
            "]",
            "['a']",
            "[\"a\",]",
            "[\"a\"] b",
            "[\"a\" \"b\"]",
            "[\"\u{1}\"]",
            "[\"\\x\"]",
            "[01]",
            "[1.]",
            "[1e]",
            "[1e999]",
            "[-]",
            "[{\"a\"}]",
            "[{1: 2}]",
            "[,]",
            "[\"\\u12\"]",
            "[\"a\"]]",
            "[{]}",
            "[tru]",
            "[\"a\u{a0}\"]\u{a0}",
        ] {
            assert_eq!(read(text), Form::Other, "{text}");
        }
        assert_eq!(read(&format!("{}{}", "[".repeat(10_001), "]".repeat(10_001))), Form::Other);
        assert_eq!(read(&"[".repeat(1_000_000)), Form::Other);
    }
}
