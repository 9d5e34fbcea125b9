//! Flags between an instruction's word and its arguments.

use std::collections::BTreeMap;

use super::error::{Cause, Fault};
use super::place::Span;
use super::suggest::suggest;

/// A flag as it was written, its quotes and escapes taken away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flag {
    pub(super) text: String,
    /// Where it stands; in the line while cutting, then in the source.
    pub(super) span: Span,
}

/// Takes the flags off the front of an instruction's arguments, and tells where the others start.
///
/// This goes byte by byte and takes each byte for a character, as BuildKit does: a flag's value
/// beyond ASCII comes out garbled, and the same garbled text makes the same graph.
pub(super) fn split(line: &str, escape: char) -> (Vec<Flag>, usize) {
    let bytes = line.as_bytes();
    let mut flags = Vec::new();
    let mut at = 0;
    loop {
        while bytes.get(at).is_some_and(|&byte| is_space(byte)) {
            at += 1;
        }
        let start = at;
        if !bytes.get(at..).is_some_and(|rest| rest.starts_with(b"--")) {
            // A byte taken for a blank may have been part of a character.
            let rest = (at..=line.len()).find(|&at| line.is_char_boundary(at));
            return (flags, rest.unwrap_or(line.len()));
        }
        let mut text = String::new();
        let mut quote = None;
        let mut quoted = false;
        while let Some(&byte) = bytes.get(at) {
            let c = char::from(byte);
            if quote.is_none() && is_space(byte) {
                break;
            }
            at += 1;
            if quote == Some(c) {
                quote = None;
            } else if quote.is_none() && (c == '\'' || c == '"') {
                quote = Some(c);
                quoted = true;
            } else if c == escape {
                // At the very end it counts for nothing.
                if let Some(&escaped) = bytes.get(at) {
                    text.push(char::from(escaped));
                    at += 1;
                }
            } else {
                text.push(c);
            }
        }
        if text == "--" {
            let rest = (at..=line.len()).find(|&at| line.is_char_boundary(at));
            return (flags, rest.unwrap_or(line.len()));
        }
        if quoted || !text.is_empty() {
            flags.push(Flag { text, span: Span::new(start, at) });
        }
    }
}

/// White space among the first 256 characters.
fn is_space(byte: u8) -> bool {
    matches!(byte, b'\t'..=b'\r' | b' ' | 0x85 | 0xa0)
}

/// What values a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// None, `true` or `false`.
    Switch,
    /// One.
    Text,
    /// One each time it is given.
    Texts,
}

/// The flags that an instruction knows.
pub(super) type Known = [(&'static str, Shape)];

/// The values of an instruction's flags.
#[derive(Debug, Default)]
pub(super) struct Values {
    texts: BTreeMap<&'static str, Vec<(String, Span)>>,
}

impl Values {
    /// Whether the switch is on; none where it was not given.
    pub(super) fn switch(&self, name: &str) -> Option<bool> {
        let (value, _) = self.texts.get(name)?.last()?;
        Some(value == "true")
    }

    /// The value; empty where it was not given.
    pub(super) fn text(&mut self, name: &str) -> String {
        self.texts(name).pop().map(|(text, _)| text).unwrap_or_default()
    }

    /// All values with their places.
    pub(super) fn texts(&mut self, name: &str) -> Vec<(String, Span)> {
        self.texts.remove(name).unwrap_or_default()
    }

    /// The names of the flags that were given.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.texts.keys().copied()
    }
}

/// Reads the flags of an instruction.
pub(super) fn read(
    flags: &[Flag],
    instruction: &'static str,
    known: &Known,
) -> Result<Values, Fault> {
    let mut values = Values::default();
    for flag in flags {
        let fault = |cause| Fault { cause: Box::new(cause), span: Some(flag.span) };
        let (written, value) = match flag.text.split_once('=') {
            Some((written, value)) => (written, Some(value)),
            None => (flag.text.as_str(), None),
        };
        let word = written.strip_prefix("--").unwrap_or(written);
        let Some(&(name, shape)) = known.iter().find(|(name, _)| *name == word) else {
            return Err(fault(Cause::UnknownFlag {
                flag: written.to_owned(),
                suggestion: suggest(word, known.iter().map(|(name, _)| *name)).map(str::to_owned),
                instruction,
                known: known.iter().map(|(name, _)| *name).collect(),
            }));
        };
        let given = values.texts.entry(name).or_default();
        if !given.is_empty() && shape != Shape::Texts {
            return Err(fault(Cause::RepeatedFlag(written.to_owned())));
        }
        let text = match (shape, value) {
            (Shape::Switch, None) => "true".to_owned(),
            (Shape::Switch, Some(value)) if !value.is_empty() => {
                let lower = value.to_lowercase();
                if lower != "true" && lower != "false" {
                    return Err(fault(Cause::FlagNotBoolean {
                        flag: written.to_owned(),
                        value: value.to_owned(),
                    }));
                }
                lower
            }
            (Shape::Text | Shape::Texts, Some(value)) => value.to_owned(),
            (Shape::Switch, Some(_)) | (Shape::Text | Shape::Texts, None) => {
                return Err(fault(Cause::FlagWithoutValue(written.to_owned())));
            }
        };
        given.push((text, flag.span));
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::{Cause, Shape, read, split};

    fn texts(line: &str) -> (Vec<String>, &str) {
        let (flags, rest) = split(line, '\\');
        (flags.into_iter().map(|flag| flag.text).collect(), line.get(rest..).unwrap())
    }

    #[test]
    fn flags_end_at_the_first_other_word() {
        assert_eq!(texts("--a --b=c  d --e"), (vec!["--a".into(), "--b=c".into()], "d --e"));
        assert_eq!(texts("-a --b"), (vec![], "-a --b"));
        assert_eq!(texts("--a -- --b"), (vec!["--a".into()], " --b"));
        assert_eq!(texts("--a"), (vec!["--a".into()], ""));
    }

    #[test]
    fn quotes_and_escapes_go() {
        assert_eq!(texts(r#"--a="b c"'d' x"#), (vec!["--a=b cd".into()], "x"));
        assert_eq!(texts(r"--a=b\ c x"), (vec!["--a=b c".into()], "x"));
        assert_eq!(texts(r"--a=b\"), (vec!["--a=b".into()], ""));
        assert_eq!(texts("--a=\"b c"), (vec!["--a=b c".into()], ""));
    }

    #[test]
    fn bytes_are_taken_for_characters() {
        assert_eq!(texts("--a=ü x"), (vec!["--a=Ã¼".into()], "x"));
        assert_eq!(texts("--a=à x"), (vec!["--a=Ã".into()], "x"));
        assert_eq!(texts("--a=\u{2800}b"), (vec!["--a=â".into()], "b"));
    }

    #[test]
    fn values_are_checked() {
        let known = [("link", Shape::Switch), ("chown", Shape::Text), ("exclude", Shape::Texts)];
        let cause =
            |line: &str| read(&split(line, '\\').0, "COPY", &known).unwrap_err().cause.to_string();
        assert_eq!(cause("--chownn=a"), "unknown flag: --chownn (did you mean chown?)");
        assert_eq!(cause("--link --link"), "duplicate flag specified: --link");
        assert_eq!(cause("--link="), "missing a value on flag: --link");
        assert_eq!(cause("--chown"), "missing a value on flag: --chown");
        assert_eq!(cause("--link=no"), "expecting boolean value for flag --link, not: no");

        let flags = split("--link=FALSE --exclude=a --exclude= --chown=", '\\').0;
        let mut values = read(&flags, "COPY", &known).unwrap();
        assert_eq!(values.switch("link"), Some(false));
        assert_eq!(values.texts("exclude").len(), 2);
        assert_eq!(values.text("chown"), "");
    }

    #[test]
    fn an_unknown_flag_says_what_is_known() {
        let cause = read(&split("--x", '\\').0, "USER", &[]).unwrap_err().cause;
        assert!(matches!(*cause, Cause::UnknownFlag { .. }));
        assert_eq!(cause.hint().as_deref(), Some("`USER` has no flags"));
    }
}
