//! What [`explain`](super::explain) found, for people and for scripts.

use super::{
    cause::{Cause, Explained, Report, State},
    files::FileChange,
    record::Step,
};
use crate::page::{self, Page};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Files that are named of one cause; the rest is counted.
const NAMED: usize = 10;
/// Steps that are named of one cost.
const COSTS: usize = 5;
/// Characters of a value or an instruction that are shown.
const SHOWN: usize = 100;

impl Explained<'_> {
    /// The reports of the steps that `wanted` means: a number of a step in its stage (`4`), a line
    /// (`:12`), or a part of a name, in any case. All without one.
    pub fn chosen(&self, wanted: Option<&str>) -> Vec<&Report> {
        let Some(wanted) = wanted else { return self.steps.iter().collect() };
        let lower = wanted.to_lowercase();
        let line = wanted.strip_prefix(':').and_then(|line| line.parse::<u32>().ok());
        let is_meant = |step: &Step| match (line, wanted.parse::<u32>()) {
            (Some(line), _) => step.line == line,
            (None, Ok(number)) => number_of(step) == Some(number),
            (None, Err(_)) => {
                step.name.to_lowercase().contains(&lower)
                    || step.instruction.to_lowercase().contains(&lower)
            }
        };
        self.steps
            .iter()
            .filter(|report| self.record.step(report.step).is_some_and(is_meant))
            .collect()
    }

    /// Lines for people.
    pub fn text(&self, wanted: Option<&str>) -> String {
        let chosen = self.chosen(wanted);
        let mut text = String::new();
        let ran = |report: &&Report| matches!(report.state, State::Ran | State::Failed);
        let all = self.steps.iter().filter(|report| report.state != State::Unneeded).count();
        let time: u64 =
            self.steps.iter().filter(ran).map(|report| self.milliseconds(report.step)).sum();
        let count = self.steps.iter().filter(ran).count();
        put(&mut text, &format!("{count} of {all} steps ran, {}", seconds(time)));
        for report in chosen {
            let is_worth_it = wanted.is_some()
                || ((ran(&report) || !report.cost.is_empty()) && !report.causes.is_empty());
            if is_worth_it {
                self.report(report, &mut text);
            }
        }
        if wanted.is_none() {
            for advice in &self.advice {
                let name = self.name(advice.step);
                text.push('\n');
                put(
                    &mut text,
                    &format!(
                        "spare: `{name}` takes in {} that it does not need",
                        files_in_words(advice.count)
                    ),
                );
                put(&mut text, &format!("  {}", listed(&advice.files, advice.count)));
                put(&mut text, &format!("  because {}", advice.reason));
                put(&mut text, &format!("  hint: {}", advice.fix));
            }
        }
        text.truncate(text.trim_end().len());
        text
    }

    fn report(&self, report: &Report, text: &mut String) {
        let word = match report.state {
            State::Cached => "cached".to_owned(),
            State::Unneeded => "not needed".to_owned(),
            State::Ran => seconds(self.milliseconds(report.step)),
            State::Failed => format!("failed, {}", seconds(self.milliseconds(report.step))),
        };
        text.push('\n');
        put(text, &format!("{} ({word})", self.name(report.step)));
        for cause in &report.causes {
            for line in self.cause(cause).lines() {
                put(text, &format!("  {line}"));
            }
        }
        if !report.cost.is_empty() {
            let names: Vec<String> =
                report.cost.iter().take(COSTS).map(|step| self.name(*step)).collect();
            let more = report.cost.len() - names.len();
            let more = if more == 0 { String::new() } else { format!(", {more} more") };
            put(
                text,
                &format!(
                    "  cost {} in {}{more}",
                    seconds(report.cost_milliseconds),
                    names.join(", ")
                ),
            );
        }
    }

    /// The build and the reasons as a page, which others may add facts to.
    pub fn page(&self) -> Page {
        let why = |index: usize| {
            let report = self.steps.iter().find(|report| report.step == index);
            let causes = report.into_iter().flat_map(|report| &report.causes);
            causes
                .flat_map(|cause| self.cause(cause).lines().map(str::to_owned).collect::<Vec<_>>())
        };
        let state = |index: usize, step| {
            let report = self.steps.iter().find(|report| report.step == index);
            report.map_or_else(|| super::cause::state(step), |report| report.state)
        };
        let steps = self.record.steps.iter().enumerate().map(|(index, step)| page::Step {
            name: abridged(&step.name),
            stage: step.stage.clone(),
            inputs: step.inputs.clone(),
            state: match state(index, step) {
                State::Cached => page::State::Cached,
                State::Failed => page::State::Failed,
                State::Ran => page::State::Ran,
                State::Unneeded => page::State::Unneeded,
            },
            began: step.began,
            milliseconds: step.milliseconds,
            why: why(index).collect(),
        });
        let mut facts = vec![
            ("Builder".to_owned(), self.record.builder.clone()),
            ("Dockerfile".to_owned(), self.record.dockerfile.clone()),
        ];
        let platforms: std::collections::BTreeSet<&str> =
            self.record.steps.iter().map(|step| step.platform.as_str()).collect();
        facts.push(("Platforms".to_owned(), platforms.into_iter().collect::<Vec<_>>().join(", ")));
        if let Some(target) = &self.record.target {
            facts.push(("Stage".to_owned(), target.clone()));
        }
        Page {
            title: "Build".to_owned(),
            ok: Some(self.record.ok),
            facts,
            steps: steps.collect(),
            ..Page::default()
        }
    }

    /// A cause in words.
    fn cause(&self, cause: &Cause) -> String {
        match cause {
            Cause::After(step) => format!("because `{}` came to another result", self.name(*step)),
            Cause::Argument { name, old, new } => {
                format!("because ARG {name} changed: {}", from_to(old.as_deref(), new.as_deref()))
            }
            Cause::BaseImage { old_name, name, old, new } if old_name == name => {
                format!("because the base image {name} changed: {} -> {}", digest(old), digest(new))
            }
            Cause::BaseImage { old_name, name, .. } => {
                format!("because it starts from another image: {old_name} -> {name}")
            }
            Cause::FailedBefore => {
                "because it did not come to a result in the build before".to_owned()
            }
            Cause::Files(changes) => {
                let mut text = format!("because {} changed:", files_in_words(changes.len()));
                for FileChange { path, change } in changes.iter().take(NAMED) {
                    let _cannot_fail = write!(text, "\n  {:7} {path}", change.word());
                }
                if changes.len() > NAMED {
                    let _cannot_fail = write!(text, "\n  and {} more", changes.len() - NAMED);
                }
                text
            }
            Cause::First => "because no build before it is remembered".to_owned(),
            Cause::Gone => {
                "because the builder has no result of it any more, though nothing changed (pruned?)"
                    .to_owned()
            }
            Cause::Instruction { old, new } => format!(
                "because the instruction changed:\n  was {}\n  is  {}",
                short(old),
                short(new)
            ),
            Cause::New => "because it is new: the build before had no such step".to_owned(),
            Cause::NoCache => {
                "because it is to run whatever the cache has (`--no-cache`)".to_owned()
            }
            Cause::OtherBuilder { old, new } => {
                format!("because another builder was asked: {old} -> {new}")
            }
            Cause::Setting { what, old, new } => {
                format!("because its {what} changed: {}", from_to(old.as_deref(), new.as_deref()))
            }
            Cause::Variable { name, old, new } => {
                format!("because ENV {name} changed: {}", from_to(old.as_deref(), new.as_deref()))
            }
        }
    }

    fn name(&self, step: usize) -> String {
        let name = self.record.step(step).map(|step| step.name.as_str()).unwrap_or_default();
        short(name)
    }

    fn milliseconds(&self, step: usize) -> u64 {
        self.record.step(step).map(|step| step.milliseconds).unwrap_or_default()
    }

    /// The same for scripts.
    pub fn to_json(&self, wanted: Option<&str>) -> Value {
        let steps: Vec<Value> =
            self.chosen(wanted).into_iter().map(|report| self.report_json(report)).collect();
        let advice: Vec<Value> = self
            .advice
            .iter()
            .map(|advice| {
                json!({
                    "step": self.record.step(advice.step).map(|step| &step.name),
                    "reason": advice.reason,
                    "files": advice.files,
                    "count": advice.count,
                    "fix": advice.fix,
                })
            })
            .collect();
        json!({
            "build": {
                "at": self.record.at,
                "ok": self.record.ok,
                "builder": self.record.builder,
                "dockerfile": self.record.dockerfile,
                "frontend": self.record.frontend,
            },
            "steps": steps,
            "advice": advice,
        })
    }

    fn report_json(&self, report: &Report) -> Value {
        let step = self.record.step(report.step);
        let name = |index: &usize| self.record.step(*index).map(|step| step.name.clone());
        json!({
            "name": step.map(|step| &step.name),
            "line": step.map(|step| step.line),
            "platform": step.map(|step| &step.platform),
            "state": match report.state {
                State::Cached => "cached",
                State::Failed => "failed",
                State::Ran => "ran",
                State::Unneeded => "unneeded",
            },
            "milliseconds": step.map(|step| step.milliseconds),
            "causes": report.causes.iter().map(|cause| self.cause_json(cause)).collect::<Vec<_>>(),
            "cost": {
                "milliseconds": report.cost_milliseconds,
                "steps": report.cost.iter().filter_map(name).collect::<Vec<_>>(),
            },
        })
    }

    fn cause_json(&self, cause: &Cause) -> Value {
        match cause {
            Cause::After(step) => json!({
                "kind": "after", "step": self.record.step(*step).map(|step| &step.name),
            }),
            Cause::Argument { name, old, new } => {
                json!({"kind": "argument", "name": name, "old": old, "new": new})
            }
            Cause::BaseImage { old_name, name, old, new } => json!({
                "kind": "base_image",
                "old": {"name": old_name, "digest": old},
                "new": {"name": name, "digest": new},
            }),
            Cause::FailedBefore => json!({"kind": "failed_before"}),
            Cause::Files(changes) => {
                let files: Vec<Value> = changes
                    .iter()
                    .map(|change| json!({"path": change.path, "change": change.change.word()}))
                    .collect();
                json!({"kind": "files", "files": files})
            }
            Cause::First => json!({"kind": "first"}),
            Cause::Gone => json!({"kind": "gone"}),
            Cause::Instruction { old, new } => {
                json!({"kind": "instruction", "old": old, "new": new})
            }
            Cause::New => json!({"kind": "new"}),
            Cause::NoCache => json!({"kind": "no_cache"}),
            Cause::OtherBuilder { old, new } => {
                json!({"kind": "other_builder", "old": old, "new": new})
            }
            Cause::Setting { what, old, new } => {
                json!({"kind": "setting", "name": what, "old": old, "new": new})
            }
            Cause::Variable { name, old, new } => {
                json!({"kind": "variable", "name": name, "old": old, "new": new})
            }
        }
    }
}

/// The number of a step in its stage.
fn number_of(step: &Step) -> Option<u32> {
    let inside = step.name.strip_prefix('[')?.split(']').next()?;
    inside.rsplit(' ').next()?.split('/').next()?.parse().ok()
}

fn put(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn files_in_words(count: usize) -> String {
    if count == 1 { "1 file".to_owned() } else { format!("{count} files") }
}

fn listed(files: &[String], count: usize) -> String {
    let shown: Vec<&str> = files.iter().take(NAMED).map(String::as_str).collect();
    let more = if count > shown.len() && files.len() > shown.len() {
        format!(" and {} more", count - shown.len())
    } else {
        String::new()
    };
    format!("{}{more}", shown.join(", "))
}

fn from_to(old: Option<&str>, new: Option<&str>) -> String {
    let shown = |value: Option<&str>| {
        value.map_or_else(|| "(not set)".to_owned(), |value| format!("`{}`", short(value)))
    };
    format!("{} -> {}", shown(old), shown(new))
}

/// A text whose digests are as long as it takes to tell them apart.
fn abridged(text: &str) -> String {
    const HEX: usize = 64;
    let mut pieces = text.split("sha256:");
    let mut whole = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        whole.push_str("sha256:");
        match piece.split_at_checked(HEX) {
            Some((hex, rest)) if hex.chars().all(|c| c.is_ascii_hexdigit()) => {
                whole.push_str(&digest(hex));
                whole.push_str(rest);
            }
            _ => whole.push_str(piece),
        }
    }
    whole
}

/// A text on one line, as far as it fits.
fn short(text: &str) -> String {
    let line = abridged(text).split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= SHOWN {
        return line;
    }
    let mut cut: String = line.chars().take(SHOWN - 1).collect();
    cut.push('…');
    cut
}

fn digest(digest: &str) -> String {
    let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
    if hex.is_empty() { "(unknown)".to_owned() } else { hex.chars().take(12).collect() }
}

fn seconds(milliseconds: u64) -> String {
    format!("{}.{}s", milliseconds / 1000, milliseconds % 1000 / 100)
}
