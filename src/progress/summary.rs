//! What is left of the progress when all is done: warnings, and how much was done.

use super::{state::State, text::plain, timeline::Timeline, tty::Look};
use crate::{
    diagnostic::{Excerpt, Range, render_warning},
    event::{VertexWarning, Warning},
};
use serde_json::{Value, json};

/// What a command's end needs of its progress.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Warnings of the frontend, each once.
    pub lints: Vec<Lint>,
    /// Warnings that are tied to no step.
    pub notices: Vec<Warning>,
    /// Steps that ran or were cached.
    pub steps: usize,
    /// Steps whose result was there already.
    pub cached: usize,
    /// What ran when.
    pub timeline: Timeline,
}

/// A warning of the frontend.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lint {
    /// The rule, such as `JSONArgsRecommended`; empty where the warning names none.
    pub rule: String,
    /// What is wrong.
    pub message: String,
    /// Where the rule is explained.
    pub url: String,
    /// Where in which file.
    pub excerpt: Option<Excerpt>,
}

impl Summary {
    /// What is left of `state`.
    pub(super) fn of(state: &State, timeline: Timeline) -> Self {
        let shown = state.steps().iter().filter(|step| !step.hidden && step.is_ended());
        let (steps, cached) =
            shown.fold((0, 0), |(all, cached), step| (all + 1, cached + usize::from(step.cached)));
        Self {
            lints: state.warnings().iter().map(Lint::from).collect(),
            notices: state.notices().to_vec(),
            steps,
            cached,
            timeline,
        }
    }

    /// All warnings, as envelopes carry them.
    pub fn warnings(&self) -> Vec<Value> {
        let notices = self.notices.iter().map(
            |notice| json!({"code": notice.code, "message": notice.message, "hint": notice.hint}),
        );
        self.lints.iter().map(Lint::to_json).chain(notices).collect()
    }
}

impl Lint {
    /// The warning as text, as the terminal wants it.
    pub fn render(&self, look: Look) -> String {
        let head = match self.rule.as_str() {
            "" => self.message.clone(),
            rule => format!("{rule}: {}", self.message),
        };
        let more = (!self.url.is_empty()).then(|| format!("see {}", self.url));
        let text = render_warning(&head, self.excerpt.as_ref(), more.as_deref());
        let text = if look.colours { text } else { plain(&text) };
        if !look.links || self.url.is_empty() {
            return text;
        }
        // The text of the link is its address, so that nothing is lost where links are not shown.
        let link = format!("\u{1b}]8;;{0}\u{1b}\\{0}\u{1b}]8;;\u{1b}\\", self.url);
        text.replace(&self.url, &link)
    }

    /// The warning, as envelopes carry it.
    pub fn to_json(&self) -> Value {
        let mut json = json!({
            "rule": self.rule,
            "message": self.message,
            "url": self.url,
        });
        if let (Some(excerpt), Some(fields)) = (&self.excerpt, json.as_object_mut()) {
            fields.insert("file".to_owned(), json!(excerpt.file));
            if let (Some(first), Some(last)) = (excerpt.ranges.first(), excerpt.ranges.last()) {
                let place = |(line, column)| json!({"line": line, "column": column});
                fields.insert("start".to_owned(), place(first.start));
                fields.insert("end".to_owned(), place(last.end));
            }
        }
        json
    }
}

impl From<&VertexWarning> for Lint {
    fn from(warning: &VertexWarning) -> Self {
        let (rule, message) = match warning.short.split_once(": ") {
            Some((rule, message)) if is_rule(rule) => (rule, message),
            _ => ("", warning.short.as_str()),
        };
        // The place is shown in the excerpt, where there is one.
        let message = match message.rsplit_once(" (line ") {
            Some((head, line)) if line.ends_with(')') && !warning.ranges.is_empty() => head,
            _ => message,
        };
        let place = |(line, character): (i32, i32)| {
            (
                usize::try_from(line).unwrap_or_default(),
                usize::try_from(character).unwrap_or_default(),
            )
        };
        let ranges = warning.ranges.iter();
        let excerpt =
            (!warning.filename.is_empty() && !warning.ranges.is_empty()).then(|| Excerpt {
                file: warning.filename.clone(),
                text: String::from_utf8_lossy(&warning.source).into_owned(),
                ranges: ranges
                    .map(|(start, end)| Range { start: place(*start), end: place(*end) })
                    .collect(),
                label: None,
            });
        Self {
            rule: rule.to_owned(),
            message: message.to_owned(),
            url: warning.url.clone(),
            excerpt,
        }
    }
}

/// Whether a word names a rule: one word in camel case.
fn is_rule(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_uppercase())
        && word.chars().all(|c| c.is_ascii_alphanumeric())
}
