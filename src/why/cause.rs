//! Why steps were not cached, and what that cost.

use super::{
    advice::{self, Advice},
    align::align,
    files::{FileChange, changes, taken},
    properties::{ADDRESS, COMMAND, CONTEXT, DIGEST, IMAGE, VARIABLE},
    record::{Record, Step},
};
use std::collections::BTreeSet;

/// How a step went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// Its result was there already.
    Cached,
    /// It ran and failed.
    Failed,
    /// It ran.
    Ran,
    /// The builder never came to it.
    Unneeded,
}

/// Why a step was not cached.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Cause {
    /// A step that it is built on came to another result; its index.
    After(usize),
    /// An `ARG` has another value; none where it is not set.
    Argument {
        /// Its name.
        name: String,
        /// Its value in the build before.
        old: Option<String>,
        /// Its value now.
        new: Option<String>,
    },
    /// The base image is another.
    BaseImage {
        /// Its name in the build before.
        old_name: String,
        /// Its name now.
        name: String,
        /// Its digest in the build before.
        old: String,
        /// Its digest now.
        new: String,
    },
    /// It failed, or the builder did not come to it, in the build before.
    FailedBefore,
    /// Files that it takes in changed.
    Files(Vec<FileChange>),
    /// No build is remembered before this one.
    First,
    /// Nothing that it is made of changed: the builder has no result of it any more.
    Gone,
    /// The instruction is written otherwise.
    Instruction {
        /// Its text in the build before.
        old: String,
        /// Its text now.
        new: String,
    },
    /// There was no such step in the build before.
    New,
    /// `--no-cache`, `--no-cache-filter`, or a source that is always fetched anew.
    NoCache,
    /// Another builder was asked.
    OtherBuilder {
        /// The builder of the build before.
        old: String,
        /// The builder now.
        new: String,
    },
    /// Something else of it is another (user, directory, mount, owner, address).
    Setting {
        /// What, in a few words.
        what: String,
        /// Its value in the build before.
        old: Option<String>,
        /// Its value now.
        new: Option<String>,
    },
    /// An environment variable that an earlier instruction sets has another value.
    Variable {
        /// Its name.
        name: String,
        /// Its value in the build before.
        old: Option<String>,
        /// Its value now.
        new: Option<String>,
    },
}

/// A step of the last build, and why it went so.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Report {
    /// Its index in the record.
    pub step: usize,
    /// How it went.
    pub state: State,
    /// Why it was not cached; empty where it was, or need not be.
    pub causes: Vec<Cause>,
    /// Later steps that ran because of this one.
    pub cost: Vec<usize>,
    /// How long those took together, in milliseconds.
    pub cost_milliseconds: u64,
}

/// What there is to say of a build.
#[derive(Clone, Debug, PartialEq)]
pub struct Explained<'r> {
    /// The build.
    pub record: &'r Record,
    /// Its steps, in their order; contexts and other steps without an instruction are left out.
    pub steps: Vec<Report>,
    /// What could be spared the next time.
    pub advice: Vec<Advice>,
}

/// Says why the steps of `last` were not cached, given the build `before` it.
pub fn explain<'r>(last: &'r Record, before: Option<&Record>) -> Explained<'r> {
    let pairs = before.map(|before| align(before, last)).unwrap_or_default();
    let pair = |index: usize| pairs.get(index).copied().flatten();
    let direct: Vec<Vec<Cause>> = match before {
        Some(before) => {
            (0..last.steps.len()).map(|index| own(last, before, index, pair(index))).collect()
        }
        None => vec![Vec::new(); last.steps.len()],
    };
    // The steps that each step is another because of: itself, or some below it.
    let mut roots: Vec<BTreeSet<usize>> = Vec::new();
    let mut reports: Vec<Report> = Vec::new();
    for (index, step) in last.steps.iter().enumerate() {
        let mut causes = direct.get(index).cloned().unwrap_or_default();
        let mut state = state(step);
        let inherited: BTreeSet<usize> =
            step.inputs.iter().filter_map(|input| roots.get(*input)).flatten().copied().collect();
        let ran = matches!(state, State::Ran | State::Failed);
        if before.is_none() && is_instruction(step) {
            causes = vec![Cause::First];
        } else if causes.is_empty() && is_instruction(step) {
            let old = before.zip(pair(index)).and_then(|(before, pair)| before.step(pair));
            causes.extend(written_with(step, old, last, &inherited, &direct).unwrap_or_default());
        }
        // A base image is resolved in every build: that is no news, and whether a builder calls it
        // cached then depends on what it has open at the moment.
        let is_source = step.properties.contains_key(IMAGE);
        if is_source && before.is_some() && causes.is_empty() && state == State::Ran {
            state = State::Cached;
        }
        if causes.is_empty() && ran && is_instruction(step) && !is_source {
            causes = if inherited.is_empty() {
                vec![without_change(last, before, step, pair(index))]
            } else {
                inherited.iter().map(|root| Cause::After(*root)).collect()
            };
        }
        let is_root = !causes.iter().any(|cause| matches!(cause, Cause::After(_)));
        let mut of_step =
            if is_root && !causes.is_empty() { BTreeSet::from([index]) } else { BTreeSet::new() };
        if of_step.is_empty() {
            of_step.extend(&inherited);
        }
        roots.push(of_step);
        if !ran {
            // Another base image is news even where the builder had it already.
            causes.retain(|cause| matches!(cause, Cause::BaseImage { .. }));
        }
        reports.push(Report { step: index, state, causes, cost: Vec::new(), cost_milliseconds: 0 });
    }
    cost(last, &roots, &mut reports);
    reports.retain(|report| last.step(report.step).is_some_and(is_instruction));
    let advice = advice::of(last, &reports);
    Explained { record: last, steps: reports, advice }
}

/// What changed of a step whose own text is an op of its own: a file that is written in the
/// Dockerfile.
fn written_with(
    step: &Step,
    old: Option<&Step>,
    last: &Record,
    inherited: &BTreeSet<usize>,
    direct: &[Vec<Cause>],
) -> Option<Vec<Cause>> {
    let is_inline = |index: &&usize| {
        let written = last.step(**index);
        inherited.contains(*index)
            && written
                .is_some_and(|one| one.properties.keys().any(|name| name.starts_with("file ")))
    };
    let part = step.inputs.iter().find(is_inline)?;
    match old {
        Some(old) if old.instruction != step.instruction => Some(vec![Cause::Instruction {
            old: old.instruction.clone(),
            new: step.instruction.clone(),
        }]),
        _ => direct.get(*part).cloned(),
    }
}

/// Adds to each root what ran because of it.
fn cost(last: &Record, roots: &[BTreeSet<usize>], reports: &mut [Report]) {
    let ran: Vec<(usize, u64)> = reports
        .iter()
        .filter(|report| matches!(report.state, State::Ran | State::Failed))
        .filter_map(|report| {
            let step = last.step(report.step)?;
            is_instruction(step).then_some((report.step, step.milliseconds))
        })
        .collect();
    for report in reports {
        for (index, milliseconds) in &ran {
            let is_later = *index != report.step
                && roots.get(*index).is_some_and(|roots| roots.contains(&report.step));
            if is_later {
                report.cost.push(*index);
                report.cost_milliseconds += milliseconds;
            }
        }
    }
}

/// Whether a user wrote the step: it has a place in the Dockerfile.
fn is_instruction(step: &Step) -> bool {
    step.line > 0 && !step.properties.contains_key(CONTEXT)
}

pub(super) fn state(step: &Step) -> State {
    match step.cached {
        None => State::Unneeded,
        Some(_) if step.failed => State::Failed,
        Some(true) => State::Cached,
        Some(false) => State::Ran,
    }
}

/// Why a step ran of which nothing changed, and nothing below it either.
fn without_change(
    last: &Record,
    before: Option<&Record>,
    step: &Step,
    pair: Option<usize>,
) -> Cause {
    if step.no_cache {
        return Cause::NoCache;
    }
    let Some(before) = before else { return Cause::First };
    if last.builder != before.builder {
        return Cause::OtherBuilder { old: before.builder.clone(), new: last.builder.clone() };
    }
    match pair.and_then(|old| before.step(old)) {
        Some(old) if old.failed || old.cached.is_none() => Cause::FailedBefore,
        _ => Cause::Gone,
    }
}

/// What changed of a step itself: its text, its properties, the files that it takes in.
fn own(last: &Record, before: &Record, index: usize, pair: Option<usize>) -> Vec<Cause> {
    let Some(step) = last.step(index) else { return Vec::new() };
    if step.properties.contains_key(CONTEXT) {
        // What changed in a context is told by the steps that take it in.
        return Vec::new();
    }
    let Some(old) = pair.and_then(|pair| before.step(pair)) else { return vec![Cause::New] };
    let mut causes = Vec::new();
    if step.properties != old.properties {
        causes.extend(differences(last, before, step, old));
    }
    if step.takes == old.takes && !step.takes.is_empty() {
        let changed = changes(&taken(before, old), &taken(last, step));
        if !changed.is_empty() {
            causes.push(Cause::Files(changed));
        }
    }
    causes
}

/// What differs between two states of one step.
fn differences(last: &Record, before: &Record, step: &Step, old: &Step) -> Vec<Cause> {
    let get = |step: &Step, key: &str| step.properties.get(key).cloned();
    if let (Some(name), Some(old_name)) = (get(step, IMAGE), get(old, IMAGE)) {
        let digest = |step| get(step, DIGEST).unwrap_or_default();
        return vec![Cause::BaseImage { old_name, name, old: digest(old), new: digest(step) }];
    }
    let names: BTreeSet<&String> = step.properties.keys().chain(old.properties.keys()).collect();
    let mut causes = Vec::new();
    let mut is_rewritten = false;
    for key in names {
        let (was, is) = (get(old, key), get(step, key));
        if was == is {
            continue;
        }
        if let Some(name) = key.strip_prefix(VARIABLE) {
            let name = name.to_owned();
            let is_argument =
                last.arguments.contains_key(&name) || before.arguments.contains_key(&name);
            causes.push(if is_argument {
                Cause::Argument { name, old: was, new: is }
            } else {
                Cause::Variable { name, old: was, new: is }
            });
        } else if step.instruction != old.instruction {
            is_rewritten = true;
        } else if let Some(argument) = argument_in(step, last, before) {
            causes.push(argument);
        } else if key == COMMAND || key == ADDRESS {
            let what = if key == COMMAND { "the command" } else { "the address" };
            causes.push(Cause::Setting { what: what.to_owned(), old: was, new: is });
        } else {
            causes.push(Cause::Setting { what: key.clone(), old: was, new: is });
        }
    }
    if is_rewritten {
        let (old, new) = (old.instruction.clone(), step.instruction.clone());
        causes.insert(0, Cause::Instruction { old, new });
    }
    causes.dedup();
    causes
}

/// The argument that an instruction of the same text names and that has another value now.
fn argument_in(step: &Step, last: &Record, before: &Record) -> Option<Cause> {
    let named = |name: &str| {
        step.instruction.contains(&format!("${name}"))
            || step.instruction.contains(&format!("${{{name}"))
    };
    let (name, new) = last.arguments.iter().find(|(name, value)| {
        named(name) && before.arguments.get(*name).is_none_or(|before| before != *value)
    })?;
    let old = before.arguments.get(name).cloned().flatten();
    Some(Cause::Argument { name: name.clone(), old, new: new.clone() })
}

#[cfg(test)]
mod tests {
    use super::{State, explain};
    use crate::why::{Record, Step, properties::IMAGE};
    use std::collections::BTreeMap;

    #[test]
    fn a_base_image_that_is_only_looked_up_again_did_not_run() {
        let from = Step {
            name: "[1/2] FROM a".to_owned(),
            instruction: "FROM a".to_owned(),
            line: 1,
            properties: BTreeMap::from([(IMAGE.to_owned(), "a".to_owned())]),
            cached: Some(false),
            ..Step::default()
        };
        let copy = Step {
            name: "[2/2] COPY b /".to_owned(),
            instruction: "COPY b /".to_owned(),
            line: 2,
            inputs: vec![0],
            cached: Some(true),
            ..Step::default()
        };
        let record = Record { steps: vec![from, copy], ..Record::default() };
        assert!(explain(&record, Some(&record)).text(None).starts_with("0 of 2 steps ran"));
        assert_eq!(explain(&record, None).steps[0].state, State::Ran, "the first time it is news");
    }
}
