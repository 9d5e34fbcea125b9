//! What a user reads when it fails: code, place, cause, fix; as text and as JSON; the exit codes.
//!
//! A [`Diagnostic`] is plain data, built from the errors of each stage at the edge (the command
//! line). Rendering it is pure; [`Printer`] is what writes.

pub mod codes;
mod excerpt;
mod exit;
mod json;
mod printer;
mod text;

pub use excerpt::{Excerpt, Range};
pub use exit::Exit;
pub use json::{failure, success};
pub use printer::{Format, Printer};
pub use text::{render, render_warning};

use serde::Serialize;
use serde_json::{Map, Value};

/// A failure, as everything that a user or a script needs to know of it. It holds no secret.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnostic {
    /// Stable, `SCREAMING_SNAKE`.
    pub code: &'static str,
    /// How the process ends.
    pub exit: Exit,
    /// What failed: a fragment fit for `error: …`, without a full stop.
    pub message: String,
    /// Where in which file.
    pub excerpts: Vec<Excerpt>,
    /// The step that failed.
    pub step: Option<Step>,
    /// Why, from the nearest cause to the root; each said once.
    pub causes: Vec<String>,
    /// Facts that help and are neither cause nor fix.
    pub notes: Vec<String>,
    /// More typed fields for scripts, beside those that the other fields make.
    pub details: Map<String, Value>,
    /// What to do about it.
    pub fix: Option<String>,
    /// Commands that could come next.
    pub next_actions: Vec<NextAction>,
}

/// A step of a build that failed.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Step {
    /// Its name on the screen, such as `[build 2/4] RUN make`.
    pub name: String,
    /// The command that ran, where one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// What it exited with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// The last lines of its output.
    pub log: Vec<String>,
}

/// A command that could come next.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct NextAction {
    /// As one would type it.
    pub command: String,
    /// What it is good for.
    pub description: String,
}

impl Diagnostic {
    /// A failure with nothing but its message.
    pub fn new(code: &'static str, exit: Exit, message: impl Into<String>) -> Self {
        Self {
            code,
            exit,
            message: message.into(),
            excerpts: Vec::new(),
            step: None,
            causes: Vec::new(),
            notes: Vec::new(),
            details: Map::new(),
            fix: None,
            next_actions: Vec::new(),
        }
    }

    /// With what to do about it.
    #[must_use]
    pub fn with_fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// With the chain of `error`'s sources as causes. A cause that its parent's text already ends
    /// with is not said again.
    #[must_use]
    pub fn with_sources(mut self, error: &dyn std::error::Error) -> Self {
        let mut said = self.message.clone();
        let mut next = error.source();
        while let Some(cause) = next {
            let text = cause.to_string();
            if !text.is_empty() && !said.contains(&text) {
                self.causes.push(text.clone());
                said = text;
            }
            next = cause.source();
        }
        self
    }

    /// With one more fact for scripts.
    #[must_use]
    pub fn with_detail(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.details.insert(key.to_owned(), value.into());
        self
    }

    /// With where it went wrong.
    #[must_use]
    pub fn with_excerpt(mut self, excerpt: Excerpt) -> Self {
        self.excerpts.push(excerpt);
        self
    }

    /// Whether `bk-sync explain` has more to say of it: not of wrong arguments and of Ctrl-C.
    fn is_explained(&self) -> bool {
        !matches!(self.exit, Exit::Interrupted | Exit::Terminated) && self.code != "USAGE"
    }

    /// With one more fact for people.
    #[must_use]
    pub fn with_note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::{Diagnostic, Exit};
    use std::{error::Error, fmt, io};

    #[derive(Debug)]
    struct Wrapped(&'static str, Option<Box<dyn Error>>);

    impl fmt::Display for Wrapped {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str(self.0)
        }
    }

    impl Error for Wrapped {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref()
        }
    }

    #[test]
    fn each_cause_is_said_once() {
        let root = Box::new(io::Error::other("connection refused"));
        let middle = Wrapped("tcp: connection refused", Some(root));
        let top = Wrapped("cannot push", Some(Box::new(middle)));
        let diagnostic =
            Diagnostic::new("PUSH_FAILED", Exit::Push, top.to_string()).with_sources(&top);
        assert_eq!(diagnostic.causes, ["tcp: connection refused"]);
    }
}
