//! The text of an ignore file.

use super::{Pattern, PatternError, clean};
use thiserror::Error;

/// The patterns of an ignore file, tidied, in order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct IgnoreFile {
    rules: Vec<Rule>,
}

/// A pattern and where it stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rule {
    /// The pattern as it goes to the builder: blanks, leading slash and detours removed, with its
    /// `!` where it has one.
    pub pattern: String,
    /// Its line, counted from 1.
    pub line: usize,
}

/// Why an ignore file cannot be used.
#[derive(Debug, Error)]
pub enum IgnoreFileError {
    /// A line is not UTF-8; patterns travel as text.
    #[error("line {line} is not valid UTF-8; hint: save the file as UTF-8")]
    Encoding {
        /// The line, counted from 1.
        line: usize,
    },
    /// A pattern is refused.
    #[error("line {line}: pattern `{pattern}`: {source}; hint: {}", source.fix())]
    Pattern {
        /// The line, counted from 1.
        line: usize,
        /// The pattern as tidied.
        pattern: String,
        /// What is wrong with it.
        source: PatternError,
    },
}

impl IgnoreFile {
    /// Reads the bytes of an ignore file. Lines that start with `#` are remarks; blanks around a
    /// pattern, a leading slash and a byte-order mark mean nothing. Broken patterns pass:
    /// [`check`](Self::check) finds them.
    ///
    /// # Errors
    /// [`IgnoreFileError::Encoding`] where a line is not UTF-8.
    pub fn parse(bytes: &[u8]) -> Result<Self, IgnoreFileError> {
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        let mut rules = Vec::new();
        for (line, text) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
            let text = std::str::from_utf8(text).map_err(|_| IgnoreFileError::Encoding { line })?;
            if let Some(pattern) = tidy(text) {
                rules.push(Rule { pattern, line });
            }
        }
        Ok(Self { rules })
    }

    /// The patterns with their lines.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The patterns alone, as a builder is given them.
    pub fn patterns(&self) -> Vec<String> {
        self.rules.iter().map(|rule| rule.pattern.clone()).collect()
    }

    /// Refuses what the builder would refuse, while the line is still known.
    ///
    /// # Errors
    /// [`IgnoreFileError::Pattern`] for the first broken pattern.
    pub fn check(&self) -> Result<(), IgnoreFileError> {
        for rule in &self.rules {
            Pattern::new(&rule.pattern).map_err(|source| IgnoreFileError::Pattern {
                line: rule.line,
                pattern: rule.pattern.clone(),
                source,
            })?;
        }
        Ok(())
    }
}

fn tidy(line: &str) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let text = line.trim();
    if text.is_empty() {
        return None;
    }
    let (negation, text) = match text.strip_prefix('!') {
        Some(rest) => ("!", rest.trim()),
        None => ("", text),
    };
    if text.is_empty() {
        return Some(negation.to_owned());
    }
    let path = clean(text);
    let path = match path.strip_prefix('/') {
        Some(rest) if !rest.is_empty() => rest,
        _ => path.as_str(),
    };
    Some(format!("{negation}{path}"))
}

#[cfg(test)]
mod tests {
    use super::IgnoreFile;

    #[test]
    fn rules_know_their_lines() {
        let file = IgnoreFile::parse(b"# remark\n\n/a/\n  !b\n").unwrap();
        let lines: Vec<_> =
            file.rules().iter().map(|rule| (rule.pattern.as_str(), rule.line)).collect();
        assert_eq!(lines, [("a", 3), ("!b", 4)]);
    }

    #[test]
    fn a_broken_pattern_is_named_with_its_line_and_the_fix() {
        let error = IgnoreFile::parse(b"ok\na[\n").unwrap().check().unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("line 2: pattern `a[`: syntax error in pattern; hint: "),
            "{text}"
        );
        assert!(IgnoreFile::parse(b"ok\n!\n").unwrap().check().is_err());
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        let error = IgnoreFile::parse(b"a\n\xff\n").unwrap_err();
        assert_eq!(error.to_string(), "line 2 is not valid UTF-8; hint: save the file as UTF-8");
    }
}
