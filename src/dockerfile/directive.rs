//! Directives: the comments at the head of a Dockerfile that speak to whoever reads it.

use super::place::Lines;
use super::source::{MAX_LINE, trim_ascii_blanks_end};

/// A directive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// Which one.
    pub name: Name,
    /// Its value, without blanks around it.
    pub value: String,
    /// Its line.
    pub lines: Lines,
}

/// The directives that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Name {
    /// `check`: options for the lint rules.
    Check,
    /// `escape`: the escape character.
    Escape,
    /// `syntax`: the frontend that reads the file.
    Syntax,
}

impl Name {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Escape => "escape",
            Self::Syntax => "syntax",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::Check, Self::Escape, Self::Syntax]
            .into_iter()
            .find(|name| name.as_str().eq_ignore_ascii_case(word))
    }
}

/// A directive stands twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Repeated(pub(super) Name);

/// Reads directives line by line, until the first line that is none.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    marker: &'static str,
    line: u32,
    seen: Vec<Name>,
    done: bool,
}

impl Reader {
    /// Directives behind this marker (`#`, `//`), the next line being `line + 1`.
    pub(super) fn new(marker: &'static str, line: u32) -> Self {
        Self { marker, line, seen: Vec::new(), done: false }
    }

    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// The directive on this line, which comes without its line end.
    pub(super) fn read(&mut self, line: &str) -> Result<Option<Directive>, Repeated> {
        self.line = self.line.saturating_add(1);
        if self.done {
            return Ok(None);
        }
        let found = line.strip_prefix(self.marker).and_then(split);
        let Some((name, value)) = found else {
            self.done = true;
            return Ok(None);
        };
        if self.seen.contains(&name) {
            return Err(Repeated(name));
        }
        self.seen.push(name);
        Ok(Some(Directive { name, value: value.to_owned(), lines: Lines::one(self.line) }))
    }
}

/// `NAME = VALUE`, where NAME is a directive's and VALUE is not empty.
fn split(comment: &str) -> Option<(Name, &str)> {
    let comment = comment.trim_start();
    let end = comment.find(|c: char| !c.is_ascii_alphanumeric())?;
    let (word, rest) = comment.split_at_checked(end)?;
    let rest = rest.trim_start_matches(is_ascii_blank).strip_prefix('=')?;
    let name = Name::from_word(word)?;
    let value = trim_ascii_blanks_end(rest.trim_start_matches(is_ascii_blank));
    if value.is_empty() {
        // A value of nothing but blanks is the last of them.
        let blank = rest.char_indices().next_back().and_then(|(at, _)| rest.get(at..))?;
        return Some((name, blank));
    }
    Some((name, value))
}

fn is_ascii_blank(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\u{0c}' | '\r' | ' ')
}

/// The value of a directive, up to its first blank, as whoever chooses a frontend or the lint options
/// reads it. The first line may be a shebang.
pub fn value(name: Name, source: &[u8]) -> Option<(String, Directive)> {
    let (source, line) = head(source);
    find(name, source, "#", line)
}

/// The frontend that a file asks for: `# syntax=…`, `// syntax=…`, or the member `syntax` of a JSON
/// object, since a frontend may define what its files look like. Returns the reference and the
/// whole directive.
pub fn syntax(source: &[u8]) -> Option<(String, Directive)> {
    let (source, line) = head(source);
    find(Name::Syntax, source, "#", line)
        .or_else(|| find(Name::Syntax, source, "//", line))
        .or_else(|| {
            let object: serde_json::Map<String, serde_json::Value> =
                serde_json::from_slice(source).ok()?;
            let value = object.get(Name::Syntax.as_str())?.as_str()?.to_owned();
            let lines = Lines::one(line);
            Some((value.clone(), Directive { name: Name::Syntax, value, lines }))
        })
}

/// The source without its byte order mark and shebang, and how many lines went.
fn head(source: &[u8]) -> (&[u8], u32) {
    let source = source.strip_prefix(b"\xef\xbb\xbf").unwrap_or(source);
    if !source.starts_with(b"#!") {
        return (source, 0);
    }
    let end = source.iter().position(|&byte| byte == b'\n').map_or(source.len(), |at| at + 1);
    (source.get(end..).unwrap_or_default(), 1)
}

fn find(name: Name, source: &[u8], marker: &'static str, line: u32) -> Option<(String, Directive)> {
    let mut reader = Reader::new(marker, line);
    for line in source.split(|&byte| byte == b'\n') {
        if reader.is_done() || line.len() > MAX_LINE {
            return None;
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        // A directive that stands twice ends the search, like a line that is none.
        let directive = reader.read(&String::from_utf8_lossy(line)).ok()?;
        if let Some(directive) = directive.filter(|directive| directive.name == name) {
            let first = directive.value.split(' ').next().unwrap_or_default().to_owned();
            return Some((first, directive));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{Lines, Name, syntax, value};

    fn of(source: &str) -> Option<(String, u32)> {
        syntax(source.as_bytes()).map(|(first, directive)| (first, directive.lines.first))
    }

    #[test]
    fn the_usual_form() {
        assert_eq!(of("# syntax=a/b:1\nFROM x"), Some(("a/b:1".into(), 1)));
        assert_eq!(of("#syntax = a/b:1 --flag\r\n"), Some(("a/b:1".into(), 1)));
        assert_eq!(of("\u{feff}# SYNTAX=x\n"), Some(("x".into(), 1)));
        assert_eq!(of("#!/usr/bin/env x\n# escape=`\n# syntax=x\n"), Some(("x".into(), 3)));
    }

    #[test]
    fn any_other_line_ends_the_head() {
        assert_eq!(of("\n# syntax=x\n"), None);
        assert_eq!(of("# hello\n# syntax=x\n"), None);
        assert_eq!(of("# unknown=1\n# syntax=x\n"), None);
        assert_eq!(of(" # syntax=x\n"), None);
        assert_eq!(of("# syntax=\n"), None);
    }

    #[test]
    fn other_forms_only_name_the_syntax() {
        assert_eq!(of("// syntax=x\n"), Some(("x".into(), 1)));
        assert_eq!(of("{\"syntax\": \"x y\"}"), Some(("x y".into(), 0)));
        assert_eq!(of("{\"syntax\": 1}"), None);
        assert_eq!(value(Name::Check, b"// check=skip=all\n"), None);
    }

    #[test]
    fn a_value_ends_at_its_first_blank() {
        let (first, directive) = value(Name::Check, b"# check=skip=all; error=true\n").unwrap();
        assert_eq!(first, "skip=all;");
        assert_eq!(directive.value, "skip=all; error=true");
        assert_eq!(directive.lines, Lines::one(1));
    }
}
