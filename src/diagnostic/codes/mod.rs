//! The list of all codes: what each means, why it happens, and what to do about it.
//!
//! One file for each area. A code that is used anywhere in the source and is not here, or is here
//! and used nowhere, fails `tests/it/codes.rs`.

mod build;
mod builder;
mod command_line;
mod push;
mod rollout;
mod sync;
mod verify;
mod warnings;

use super::Exit;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// The long form of a code. The texts are sentences, with backticks around what one types.
#[derive(Clone, Copy, Debug)]
pub struct Explanation {
    /// Stable, `SCREAMING_SNAKE`.
    pub code: &'static str,
    /// How a run that fails with it ends. Empty for a code that is only ever a warning.
    pub exits: &'static [Exit],
    /// What it is, in one line without a full stop.
    pub title: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// Why it happens, the most frequent reason first.
    pub reasons: &'static [&'static str],
    /// What to do about it, the likeliest remedy first.
    pub remedies: &'static [&'static str],
}

/// All codes, in alphabetical order.
pub fn all() -> Vec<&'static Explanation> {
    let areas = [
        build::CODES,
        builder::CODES,
        command_line::CODES,
        push::CODES,
        rollout::CODES,
        sync::CODES,
        verify::CODES,
        warnings::CODES,
    ];
    let mut all: Vec<_> = areas.into_iter().flatten().collect();
    all.sort_by_key(|explanation| explanation.code);
    all
}

/// The explanation of `code`, in whatever case it is written.
pub fn find(code: &str) -> Option<&'static Explanation> {
    all().into_iter().find(|explanation| explanation.code.eq_ignore_ascii_case(code))
}

impl Explanation {
    /// Whether a run can fail with it.
    pub fn is_failure(&self) -> bool {
        !self.exits.is_empty()
    }

    /// The long form, in lines for people.
    pub fn text(&self) -> String {
        let mut text = format!("{}: {}\n\n{}\n", self.code, self.title, wrapped(self.meaning, ""));
        for (heading, lines) in [("Why it happens", self.reasons), ("What to do", self.remedies)] {
            if !lines.is_empty() {
                let _cannot_fail = write!(text, "\n{heading}\n");
                for line in lines {
                    let _cannot_fail = writeln!(text, "  - {}", wrapped(line, "    "));
                }
            }
        }
        let _cannot_fail = write!(text, "\n{}", self.ending());
        text
    }

    /// The long form for scripts.
    pub fn to_json(&self) -> Value {
        let exits: Vec<u8> = self.exits.iter().map(|exit| exit.code()).collect();
        json!({
            "code": self.code,
            "title": self.title,
            "exit_codes": exits,
            "meaning": self.meaning,
            "reasons": self.reasons,
            "remedies": self.remedies,
        })
    }

    fn ending(&self) -> String {
        match self.exits {
            [] => "It is a warning: it stops nothing.".to_owned(),
            [exit] => format!("The process ends with {}.", exit.code()),
            [first, rest @ ..] => {
                let rest: Vec<String> = rest.iter().map(|exit| exit.code().to_string()).collect();
                format!("The process ends with {} or {}.", first.code(), rest.join(" or "))
            }
        }
    }
}

/// Columns of a line.
const WIDTH: usize = 96;

/// Words in lines of [`WIDTH`]; the later ones begin with `indent`.
fn wrapped(text: &str, indent: &str) -> String {
    let (mut lines, mut line) = (Vec::new(), String::new());
    for word in text.split_whitespace() {
        if !line.is_empty()
            && line.chars().count() + 1 + word.chars().count() + indent.len() > WIDTH
        {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines.join(&format!("\n{indent}"))
}

#[cfg(test)]
mod tests {
    use super::{all, find};
    use std::collections::BTreeSet;

    #[test]
    fn every_code_is_there_once_and_says_what_to_do() {
        let mut seen = BTreeSet::new();
        for explanation in all() {
            let code = explanation.code;
            assert!(seen.insert(code), "`{code}` is there twice");
            assert!(
                code.starts_with(|c: char| c.is_ascii_uppercase())
                    && code
                        .chars()
                        .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'),
                "{code}"
            );
            let title = explanation.title;
            assert!(!title.is_empty() && !title.ends_with('.'), "{code}: {title}");
            assert!(title.chars().count() <= 80, "{code}: the title does not fit a line");
            assert!(!explanation.reasons.is_empty(), "{code} has no reason");
            assert!(!explanation.remedies.is_empty(), "{code} has no remedy");
            let lines = [explanation.meaning].into_iter();
            for line in lines
                .chain(explanation.reasons.iter().copied())
                .chain(explanation.remedies.iter().copied())
            {
                assert!(line.ends_with(['.', '`']), "{code}: `{line}` is no sentence");
                assert_eq!(line.matches('`').count() % 2, 0, "{code}: {line}");
            }
        }
    }

    #[test]
    fn the_long_form_reads_from_what_to_what_to_do() {
        insta::assert_snapshot!(find("step_failed").unwrap().text(), @"
        STEP_FAILED: a RUN step ended with another code than 0

        The command of a `RUN` ran on the builder and failed. Its line, its exit code and the last lines
        of its output are in the error.

        Why it happens
          - The command itself failed: its output says why.
          - Exit code 127: the command is not in the image. 126: it is there and cannot be run. 137: it
            was killed, mostly for want of memory.

        What to do
          - Read the output that is shown, and all of it with `--progress plain`.
          - Build up to the stage before it with `--target STAGE --load` and run the command by hand.

        The process ends with 11.
        ");
        assert!(find("NO_SUCH_CODE").is_none());
    }
}
