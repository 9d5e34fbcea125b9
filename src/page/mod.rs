//! One self-contained page about a build or a deploy: the graph with cached and run steps, the time
//! line, the sizes of layers, the diagnosis. Pure; no script, no font and no picture is fetched.

mod graph;
mod style;

use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// What a page is about.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Page {
    /// The heading.
    pub title: String,
    /// Whether it went well; none where that is not known.
    pub ok: Option<bool>,
    /// Facts under the heading: name and value.
    pub facts: Vec<(String, String)>,
    /// What went wrong, in lines.
    pub diagnosis: Vec<String>,
    /// The steps, each after those that it is built on.
    pub steps: Vec<Step>,
    /// Layers of the image: name and bytes.
    pub layers: Vec<(String, u64)>,
}

/// A step of the graph.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Step {
    /// Its name on the screen.
    pub name: String,
    /// Its stage.
    pub stage: String,
    /// Indices of the steps that it is built on.
    pub inputs: Vec<usize>,
    /// How it went.
    pub state: State,
    /// When it began, in milliseconds from the begin of the whole; none where it never did.
    pub began: Option<u64>,
    /// How long it took, in milliseconds.
    pub milliseconds: u64,
    /// Why it was not cached, in lines.
    pub why: Vec<String>,
}

/// How a step went.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Its result was there already.
    Cached,
    /// It ran and failed.
    Failed,
    /// It ran.
    Ran,
    /// Nothing came to it.
    #[default]
    Unneeded,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Cached => "cached",
            Self::Failed => "failed",
            Self::Ran => "ran",
            Self::Unneeded => "not needed",
        }
    }

    fn class(self) -> &'static str {
        match self {
            Self::Cached => "cached",
            Self::Failed => "failed",
            Self::Ran => "ran",
            Self::Unneeded => "unneeded",
        }
    }
}

impl Page {
    /// The page, as one HTML document.
    pub fn html(&self) -> String {
        let mut html = String::new();
        let title = escaped(&self.title);
        let _cannot_fail = write!(
            html,
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>{title}</title>\n<style>{}</style>\n</head>\n<body>\n<main>\n",
            style::CSS
        );
        let outcome = match self.ok {
            Some(true) => " <span class=\"badge ran\">done</span>",
            Some(false) => " <span class=\"badge failed\">failed</span>",
            None => "",
        };
        let _cannot_fail = writeln!(html, "<h1>{title}{outcome}</h1>");
        self.facts(&mut html);
        if !self.diagnosis.is_empty() {
            let lines = escaped(&self.diagnosis.join("\n"));
            let _cannot_fail = writeln!(
                html,
                "<section class=\"diagnosis\"><h2>Diagnosis</h2><pre>{lines}</pre></section>"
            );
        }
        self.steps(&mut html);
        self.layers(&mut html);
        html.push_str("</main>\n</body>\n</html>\n");
        html
    }

    fn facts(&self, html: &mut String) {
        if self.facts.is_empty() {
            return;
        }
        html.push_str("<dl>\n");
        for (name, value) in &self.facts {
            let (name, value) = (escaped(name), escaped(value));
            let _cannot_fail = writeln!(html, "<div><dt>{name}</dt><dd>{value}</dd></div>");
        }
        html.push_str("</dl>\n");
    }

    fn steps(&self, html: &mut String) {
        if self.steps.is_empty() {
            return;
        }
        let end = |step: &Step| step.began.map(|began| began + step.milliseconds);
        let total = self.steps.iter().filter_map(end).max().unwrap_or_default().max(1);
        let count = |state: State| self.steps.iter().filter(|step| step.state == state).count();
        let _cannot_fail = writeln!(
            html,
            "<section><h2>Steps</h2>\n<p class=\"legend\">\
             <span class=\"dot ran\"></span>{} ran \
             <span class=\"dot cached\"></span>{} cached \
             <span class=\"dot failed\"></span>{} failed \
             <span class=\"dot unneeded\"></span>{} not needed. \
             The bars are the time line: {} from left to right.</p>",
            count(State::Ran),
            count(State::Cached),
            count(State::Failed),
            count(State::Unneeded),
            seconds(total),
        );
        let rails = graph::Rails::new(&self.steps);
        html.push_str("<div class=\"steps\" role=\"table\" aria-label=\"Steps\">\n");
        for (index, step) in self.steps.iter().enumerate() {
            let state = step.state;
            let _cannot_fail = write!(
                html,
                "<div class=\"step {}\" role=\"row\">{}<div class=\"what\" role=\"cell\"><code>{}</code>",
                state.class(),
                rails.row(index, state.class()),
                escaped(&step.name)
            );
            for line in &step.why {
                let _cannot_fail = write!(html, "<small>{}</small>", escaped(line));
            }
            let time = if state == State::Ran || state == State::Failed {
                seconds(step.milliseconds)
            } else {
                state.word().to_owned()
            };
            let _cannot_fail = write!(html, "</div><div class=\"time\" role=\"cell\">{time}</div>");
            html.push_str("<div class=\"bar\" role=\"cell\" aria-hidden=\"true\">");
            if let Some(began) = step.began {
                let _cannot_fail = write!(
                    html,
                    "<i style=\"left:{}%;width:{}%\"></i>",
                    percent(began, total),
                    percent(step.milliseconds, total)
                );
            }
            html.push_str("</div></div>\n");
        }
        html.push_str("</div></section>\n");
    }

    fn layers(&self, html: &mut String) {
        let total: u64 = self.layers.iter().map(|(_, size)| *size).fold(0, u64::saturating_add);
        if total == 0 {
            return;
        }
        let _cannot_fail = writeln!(
            html,
            "<section><h2>Layers</h2>\n<p class=\"legend\">{} in {} layers, compressed.</p>\n<div class=\"layers\">",
            bytes(total),
            self.layers.len()
        );
        let largest = self.layers.iter().map(|(_, size)| *size).max().unwrap_or_default().max(1);
        for (name, size) in &self.layers {
            let _cannot_fail = writeln!(
                html,
                "<div class=\"layer\"><code>{}</code><span class=\"time\">{}</span>\
                 <div class=\"bar\" aria-hidden=\"true\"><i style=\"left:0;width:{}%\"></i></div></div>",
                escaped(name),
                bytes(*size),
                percent(*size, largest)
            );
        }
        html.push_str("</div></section>\n");
    }
}

/// A part of a whole in percent, with one decimal.
fn percent(part: u64, whole: u64) -> String {
    let tenths = u128::from(part) * 1000 / u128::from(whole.max(1));
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn seconds(milliseconds: u64) -> String {
    format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100)
}

fn bytes(size: u64) -> String {
    let mut unit = "B";
    let (mut whole, mut tenth) = (size, 0);
    for next in ["kB", "MB", "GB", "TB"] {
        if whole < 1000 {
            break;
        }
        (whole, tenth, unit) = (whole / 1000, whole % 1000 / 100, next);
    }
    if unit == "B" { format!("{whole} B") } else { format!("{whole}.{tenth} {unit}") }
}

/// Text as HTML shows it, in elements and in attributes.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::{Page, State, Step, bytes, percent};

    #[test]
    fn a_page_stands_alone_and_takes_no_markup_from_outside() {
        let page = Page {
            title: "Build of <script>alert(1)</script>".to_owned(),
            ok: Some(false),
            facts: vec![("Builder".to_owned(), "unix:///run/a&b".to_owned())],
            diagnosis: vec!["exit code: 2 \"quoted\"".to_owned()],
            steps: vec![
                Step {
                    name: "[1/2] FROM alpine".to_owned(),
                    state: State::Cached,
                    ..Step::default()
                },
                Step {
                    name: "[2/2] RUN <b>".to_owned(),
                    inputs: vec![0, 99],
                    state: State::Failed,
                    began: Some(100),
                    milliseconds: 900,
                    why: vec!["because it is new".to_owned()],
                    ..Step::default()
                },
            ],
            layers: vec![("sha256:ab".to_owned(), 3_400_000)],
        };
        let html = page.html();
        for outside in ["http://", "https://", "<script", "src=", "@import", "url("] {
            assert!(!html.contains(outside), "{outside}");
        }
        assert!(html.contains("[2/2] RUN &lt;b&gt;") && html.contains("&quot;quoted&quot;"));
        assert!(html.contains("left:10.0%;width:90.0%"), "{html}");
        assert!(html.contains("3.4 MB"));
        assert!(html.starts_with("<!doctype html>") && html.ends_with("</html>\n"));
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [bytes(0), bytes(999), bytes(1500), bytes(28_230_000_000)],
            ["0 B", "999 B", "1.5 kB", "28.2 GB"]
        );
        assert_eq!([percent(1, 3), percent(0, 0)], ["33.3", "0.0"]);
    }
}
