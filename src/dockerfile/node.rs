//! An instruction cut into its word, flags and arguments: what can be told from one line, before it
//! is known whether they make sense.

use super::ast::Pair;
use super::error::{Cause, Fault};
use super::flags::{self, Flag};
use super::heredoc::Heredoc;
use super::json::{self, Form};
use super::place::{Lines, Span};
use super::source::Logical;
use super::word;

/// A line cut into its parts.
#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    /// The instruction's word as written; empty for a line without any.
    pub(super) keyword: String,
    pub(super) flags: Vec<Flag>,
    pub(super) args: Arguments,
    /// The heredocs that it announced.
    pub(super) heredocs: Vec<Heredoc>,
    /// The whole line.
    pub(super) line: String,
    pub(super) lines: Lines,
    pub(super) span: Span,
    pub(super) comments: Vec<String>,
    /// The line on which it ended, before heredocs, if a line within it is empty.
    pub(super) empty_continuation: Option<u32>,
    /// Whether every byte of it is valid UTF-8, heredocs left aside.
    pub(super) utf8: bool,
}

/// What comes after the word and the flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Arguments {
    /// Words, or one text; none where there is nothing.
    Words(Vec<String>),
    /// An array of strings.
    Json(Vec<String>),
    /// Names with values.
    Pairs(Vec<Pair>),
    /// The type of a `HEALTHCHECK`, and its command.
    Typed(String, Box<Self>),
    /// The word of another instruction, and whether it can take heredocs here.
    Instruction {
        /// The word as written; empty where there is nothing.
        keyword: String,
        /// Whether heredocs may follow.
        heredocs: bool,
    },
}

impl Default for Arguments {
    fn default() -> Self {
        Self::Words(Vec::new())
    }
}

impl Arguments {
    /// The strings in order, whether in JSON form or not, and whether they are.
    pub(super) fn words(&self) -> (&[String], bool) {
        match self {
            Self::Words(words) => (words, false),
            Self::Json(words) => (words, true),
            Self::Pairs(_) | Self::Typed(..) | Self::Instruction { .. } => (&[], false),
        }
    }
}

/// The instructions that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keyword {
    Add,
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Label,
    Maintainer,
    Onbuild,
    Run,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
}

impl Keyword {
    /// All of them, with their words.
    pub(super) const ALL: [(Self, &'static str); 18] = [
        (Self::Add, "ADD"),
        (Self::Arg, "ARG"),
        (Self::Cmd, "CMD"),
        (Self::Copy, "COPY"),
        (Self::Entrypoint, "ENTRYPOINT"),
        (Self::Env, "ENV"),
        (Self::Expose, "EXPOSE"),
        (Self::From, "FROM"),
        (Self::Healthcheck, "HEALTHCHECK"),
        (Self::Label, "LABEL"),
        (Self::Maintainer, "MAINTAINER"),
        (Self::Onbuild, "ONBUILD"),
        (Self::Run, "RUN"),
        (Self::Shell, "SHELL"),
        (Self::StopSignal, "STOPSIGNAL"),
        (Self::User, "USER"),
        (Self::Volume, "VOLUME"),
        (Self::Workdir, "WORKDIR"),
    ];

    /// The instruction of this word, in any case, and its word in capitals.
    pub(super) fn from_word(word: &str) -> Option<(Self, &'static str)> {
        Self::ALL.into_iter().find(|(_, name)| name.eq_ignore_ascii_case(word))
    }

    fn takes_heredocs(self) -> bool {
        matches!(self, Self::Add | Self::Copy | Self::Run)
    }
}

impl Node {
    /// Cuts a line. `within` is where it stands.
    pub(super) fn read(logical: Logical, escape: char, within: Span) -> Result<Self, Fault> {
        let Cut { keyword, flags, args, .. } = cut(&logical.text, escape)?;
        let keyword = keyword.to_owned();
        let flags = flags
            .into_iter()
            .map(|Flag { text, span }| Flag {
                text,
                span: logical.span(span.start, span.end, within),
            })
            .collect();
        Ok(Self { keyword, flags, args, line: logical.text, span: within, ..Self::default() })
    }

    /// Whether lines after it may belong to it.
    pub(super) fn can_announce_heredocs(&self) -> bool {
        if let Arguments::Instruction { heredocs, .. } = self.args {
            return heredocs;
        }
        takes_heredocs(&self.keyword, &self.args)
    }
}

fn takes_heredocs(keyword: &str, args: &Arguments) -> bool {
    Keyword::from_word(keyword).is_some_and(|(keyword, _)| keyword.takes_heredocs())
        && !matches!(args, Arguments::Json(_))
}

struct Cut<'a> {
    keyword: &'a str,
    /// Spans are offsets in the line.
    flags: Vec<Flag>,
    args: Arguments,
}

fn cut(line: &str, escape: char) -> Result<Cut<'_>, Cause> {
    let trimmed = line.trim();
    let (keyword, rest) = word::split_once_blanks(trimmed).unwrap_or((trimmed, ""));
    let (mut flags, start) = flags::split(rest, escape);
    // The rest is the end of the trimmed line, so its offset is a matter of lengths.
    let offset = (line.len() - line.trim_start().len()) + (trimmed.len() - rest.len());
    for flag in &mut flags {
        flag.span = Span::new(flag.span.start + offset, flag.span.end + offset);
    }
    let args = rest.get(start..).unwrap_or_default().trim();
    let args = arguments(keyword, args, escape)?;
    Ok(Cut { keyword, flags, args })
}

fn arguments(keyword: &str, text: &str, escape: char) -> Result<Arguments, Cause> {
    // What is no instruction is told later, when the whole file has been cut.
    let Some((keyword, name)) = Keyword::from_word(keyword) else {
        return Ok(Arguments::default());
    };
    Ok(match keyword {
        Keyword::Add | Keyword::Copy | Keyword::Volume => match json_form(text)? {
            Some(strings) => Arguments::Json(strings),
            None => Arguments::Words(word::split_plain(text)),
        },
        Keyword::Arg => Arguments::Words(word::split_quoted(text, escape)),
        Keyword::Cmd | Keyword::Entrypoint | Keyword::Run | Keyword::Shell => command(text)?,
        Keyword::Env | Keyword::Label => Arguments::Pairs(word::pairs(text, name, escape)?),
        Keyword::Expose | Keyword::From => Arguments::Words(word::split_plain(text)),
        Keyword::Healthcheck => {
            let is_blank = |c: char| c.is_ascii_whitespace() || c == '\u{0b}';
            let (kind, rest) = text.split_once(is_blank).unwrap_or((text, ""));
            let command = command(rest.trim_start_matches(is_blank))?;
            Arguments::Typed(kind.to_owned(), Box::new(command))
        }
        Keyword::Maintainer | Keyword::StopSignal | Keyword::User | Keyword::Workdir => one(text),
        Keyword::Onbuild => {
            // A second ONBUILD is refused later: nothing needs to be known of what is in it, and
            // so no chain of them can nest.
            let inner = word::split_once_blanks(text).map_or(text, |(inner, _)| inner);
            if Keyword::from_word(inner).is_some_and(|(inner, _)| inner == Keyword::Onbuild) {
                return Ok(Arguments::Instruction { keyword: inner.to_owned(), heredocs: false });
            }
            let inner = cut(text, escape)?;
            Arguments::Instruction {
                keyword: inner.keyword.to_owned(),
                heredocs: takes_heredocs(inner.keyword, &inner.args),
            }
        }
    })
}

fn one(text: &str) -> Arguments {
    Arguments::Words(if text.is_empty() { Vec::new() } else { vec![text.to_owned()] })
}

fn command(text: &str) -> Result<Arguments, Cause> {
    Ok(json_form(text)?.map_or_else(|| one(text), Arguments::Json))
}

fn json_form(text: &str) -> Result<Option<Vec<String>>, Cause> {
    match json::read(text) {
        Form::Other => Ok(None),
        Form::NotStrings => Err(Cause::JsonNotStrings),
        Form::Strings(strings) => Ok(Some(strings)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Arguments, Cause, cut};

    #[test]
    fn a_line_has_a_word_flags_and_arguments() {
        let line = "  run --a=b  x  y ";
        let cut = cut(line, '\\').unwrap();
        assert_eq!(cut.keyword, "run");
        let span = cut.flags[0].span;
        assert_eq!(line.get(span.start..span.end), Some("--a=b"));
        assert_eq!(cut.args, Arguments::Words(vec!["x  y".into()]));
    }

    #[test]
    fn arguments_follow_the_instruction() {
        let args = |line| cut(line, '\\').map(|cut| cut.args);
        let words = |list: &[&str]| {
            Ok(Arguments::Words(list.iter().map(|&word| word.to_owned()).collect()))
        };
        assert_eq!(args("CMD"), words(&[]));
        assert_eq!(args("CMD [1"), words(&["[1"]));
        assert_eq!(args("CMD [1]"), Err(Cause::JsonNotStrings));
        assert_eq!(args("COPY [\"a\",\"b\"]"), Ok(Arguments::Json(vec!["a".into(), "b".into()])));
        assert_eq!(args("EXPOSE [\"a\"]"), words(&["[\"a\"]"]));
        assert_eq!(args("NONSENSE a b"), words(&[]));
        assert_eq!(
            args("HEALTHCHECK cmd  [\"a\"]"),
            Ok(Arguments::Typed("cmd".into(), Box::new(Arguments::Json(vec!["a".into()]))))
        );
    }

    #[test]
    fn chains_of_onbuild_do_not_nest() {
        let line = "ONBUILD ".repeat(100_000);
        let Arguments::Instruction { keyword, heredocs } = cut(&line, '\\').unwrap().args else {
            panic!("not an instruction");
        };
        assert_eq!((keyword.as_str(), heredocs), ("ONBUILD", false));
    }
}
