//! Heredocs: the words that announce them (`<<EOF`, `<<-EOF`, `3<<"EOF"`).

use super::ast::{CommandLine, InlineScript};
use super::error::Cause;
use super::expand::{Expander, NoVariables};

/// A word that announces a heredoc.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Announced {
    /// The word that ends it, quotes taken away.
    pub(super) name: String,
    /// Whether variables in it are expanded: not if any part of the word is in quotes.
    pub(super) expand: bool,
    /// `<<-`: leading tabs go.
    pub(super) chomp: bool,
}

/// A heredoc with its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heredoc {
    pub(super) announced: Announced,
    /// The lines up to the one that ends it, as they stand.
    pub(super) content: Vec<u8>,
}

/// Whether a word announces a heredoc, and which.
pub(super) fn announced(word: &str) -> Result<Option<Announced>, Cause> {
    let Some(rest) = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")
    else {
        return Ok(None);
    };
    let (rest, chomp) = match rest.strip_prefix('-') {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    let rest = rest.trim_start_matches(['\t', '\n', '\u{0c}', '\r', ' ']);
    if rest.is_empty() || rest.contains('<') {
        return Ok(None);
    }
    // Its word is read with and without its quotes: if that makes a difference, there are some.
    // The escape character is the backslash here, whatever the directive says.
    let rules = Expander::new('\\').keep_unset();
    let [name] = <[String; 1]>::try_from(rules.words(rest, &NoVariables)?).unwrap_or_default();
    if name.is_empty() {
        return Ok(None);
    }
    let raw = rules.keep_quotes().words(rest, &NoVariables)?;
    let [raw] = raw.as_slice() else {
        return Err(Cause::HeredocAmbiguous(rest.to_owned()));
    };
    let expand = quotes(&name) == quotes(raw);
    Ok(Some(Announced { name, expand, chomp }))
}

fn quotes(word: &str) -> usize {
    word.matches(['\'', '"']).count()
}

/// The heredocs that a line announces, in order. A line whose quotes do not match announces none.
pub(super) fn on_line(line: &str) -> Result<Vec<Announced>, Cause> {
    let rules = Expander::new('\\').keep_quotes().keep_escapes().keep_unset();
    let words = rules.words(line, &NoVariables).unwrap_or_default();
    let mut found = Vec::new();
    for word in words {
        found.extend(announced(&word)?);
    }
    Ok(found)
}

/// The content without the tabs at the start of its lines.
pub(super) fn without_leading_tabs(content: &[u8]) -> Vec<u8> {
    let mut result = Vec::with_capacity(content.len());
    for line in content.split_inclusive(|&byte| byte == b'\n') {
        let start = line.iter().position(|&byte| byte != b'\t').unwrap_or(line.len());
        result.extend_from_slice(line.get(start..).unwrap_or_default());
    }
    result
}

impl CommandLine {
    /// The heredoc that is all there is to run (`RUN <<EOF`), where that is so: then its content is
    /// the command, and not what a shell gets to read.
    pub fn sole_heredoc(&self) -> Option<&InlineScript> {
        let [word] = self.words.as_slice() else { return None };
        let first = self.heredocs.first()?;
        announced(word).ok().flatten().map(|_| first)
    }
}

impl InlineScript {
    /// The content, without leading tabs where `<<-` asks for it.
    pub fn content(&self) -> String {
        if self.chomp {
            String::from_utf8_lossy(&without_leading_tabs(self.data.as_bytes())).into_owned()
        } else {
            self.data.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Announced, announced, on_line, without_leading_tabs};

    fn is(word: &str) -> Option<(String, bool, bool)> {
        announced(word).unwrap().map(|Announced { name, expand, chomp }| (name, expand, chomp))
    }

    #[test]
    fn words_that_announce() {
        assert_eq!(is("<<EOF"), Some(("EOF".into(), true, false)));
        assert_eq!(is("3<<-'EOF'"), Some(("EOF".into(), false, true)));
        assert_eq!(is("<< EOF"), Some(("EOF".into(), true, false)));
        assert_eq!(is("<<\"a b\""), Some(("a b".into(), false, false)));
        assert_eq!(is(r"<<c\.ini"), Some(("c.ini".into(), true, false)));
        assert_eq!(is("<<E'O'F"), Some(("EOF".into(), false, false)));
    }

    #[test]
    fn words_that_do_not() {
        for word in ["<<", "<<-", "<EOF", "<<<EOF", "a<<EOF", "<<''", "EOF", "<<a<b", "<<a b"] {
            assert_eq!(is(word), None, "{word}");
        }
    }

    #[test]
    fn a_line_may_announce_several() {
        let names: Vec<_> = on_line("COPY <<a <<\"b\" \"<<c\" '<<'d /")
            .unwrap()
            .into_iter()
            .map(|d| d.name)
            .collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(on_line("RUN cat <<a '").unwrap(), []);
    }

    #[test]
    fn tabs_go_at_the_start_of_lines_only() {
        assert_eq!(without_leading_tabs(b"\t\ta\tb\n \tc\n\t\n"), b"a\tb\n \tc\n\n");
    }
}
