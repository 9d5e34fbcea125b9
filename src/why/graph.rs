//! From a marshalled graph, and what the builder told of its vertices, to steps.

use super::{
    properties,
    record::{Selection, Step},
};
use crate::{
    llb::Definition,
    proto::pb::{self, file_action::Action, op::Op as Kind},
};
use prost::Message as _;
use std::collections::HashMap;

/// The key of an op's name.
const NAME: &str = "llb.customname";
/// Stands where an input is none.
const NO_INPUT: i64 = -1;

/// How a vertex went.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Went {
    /// Whether its result was there already.
    pub cached: bool,
    /// Whether it failed.
    pub failed: bool,
    /// When it began, in milliseconds from the begin of the build's first step.
    pub began: Option<u64>,
    /// How long it took.
    pub milliseconds: u64,
}

/// The steps of a graph for `platform`. `went` knows how the vertex of a digest went; none where
/// the builder never came to it.
pub fn steps(
    definition: &Definition,
    platform: &str,
    went: impl Fn(&str) -> Option<Went>,
) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut ops: Vec<pb::Op> = Vec::new();
    let mut indices: HashMap<&str, usize> = HashMap::new();
    for marshalled in definition.ops() {
        let Ok(op) = pb::Op::decode(marshalled.bytes.as_slice()) else { continue };
        if op.op.is_none() {
            // The terminal op is no step.
            continue;
        }
        let digest = marshalled.digest.as_str();
        let metadata = definition.metadata(digest);
        let name = metadata.and_then(|metadata| metadata.description.get(NAME));
        let (line, instruction) = place(definition, digest);
        let inputs: Vec<usize> = op
            .inputs
            .iter()
            .filter_map(|input| indices.get(input.digest.as_str()).copied())
            .collect();
        let outcome = went(digest);
        let name = name.cloned().unwrap_or_default();
        let step = Step {
            stage: stage(&name).to_owned(),
            platform: platform.to_owned(),
            line,
            instruction,
            takes: takes(&op, &inputs, &ops),
            properties: properties::of(&op),
            no_cache: metadata.is_some_and(|metadata| metadata.ignore_cache),
            cached: outcome.map(|went| went.cached),
            failed: outcome.is_some_and(|went| went.failed),
            began: outcome.and_then(|went| went.began),
            milliseconds: outcome.map_or(0, |went| went.milliseconds),
            inputs,
            name,
        };
        indices.insert(digest, steps.len());
        steps.push(step);
        ops.push(op);
    }
    steps
}

/// The first line of an op's place, and the text of the instruction there.
fn place(definition: &Definition, digest: &str) -> (u32, String) {
    let found = definition.locations(digest).iter().find_map(|location| {
        let source = definition.sources().get(location.source)?;
        // An instruction of several lines has a range for each.
        Some((source, location.ranges.first()?.start.line, location.ranges.last()?.end.line))
    });
    let Some((source, first, last)) = found else { return (0, String::new()) };
    let first = usize::try_from(first).unwrap_or_default();
    let last = usize::try_from(last).unwrap_or_default();
    let text = String::from_utf8_lossy(&source.data);
    let lines: Vec<&str> = text
        .lines()
        .skip(first.saturating_sub(1))
        .take((last + 1).saturating_sub(first))
        .map(str::trim_end)
        .collect();
    (u32::try_from(first).unwrap_or_default(), lines.join("\n"))
}

/// The stage in a step's name: what stands in its brackets before the number.
fn stage(name: &str) -> &str {
    let Some(inside) = name.strip_prefix('[').and_then(|rest| rest.split_once(']')) else {
        return "";
    };
    match inside.0.trim().rsplit_once(' ') {
        Some((stage, number)) if number.contains('/') => stage.trim_end(),
        None if inside.0.contains('/') => "",
        _ => inside.0,
    }
}

/// What an op takes out of the contexts that are among its inputs.
fn takes(op: &pb::Op, inputs: &[usize], ops: &[pb::Op]) -> Vec<Selection> {
    // The name of the context that an input is, where it is one.
    let context = |input: i64| {
        let index = inputs.get(usize::try_from(input).ok()?)?;
        match ops.get(*index)?.op.as_ref()? {
            Kind::Source(source) => source.identifier.strip_prefix("local://").map(str::to_owned),
            _ => None,
        }
    };
    let mut found = Vec::new();
    match &op.op {
        Some(Kind::File(file)) => {
            for action in &file.actions {
                let Some(Action::Copy(copy)) = &action.action else { continue };
                let Some(context) = context(action.secondary_input) else { continue };
                found.push(Selection {
                    context,
                    path: tidy(&copy.src),
                    wildcard: copy.allow_wildcard,
                    include: copy.include_patterns.clone(),
                    exclude: copy.exclude_patterns.clone(),
                });
            }
        }
        Some(Kind::Exec(exec)) => {
            for mount in &exec.mounts {
                if mount.input == NO_INPUT || mount.mount_type != 0 {
                    continue;
                }
                let Some(context) = context(mount.input) else { continue };
                let path = tidy(&mount.selector);
                found.push(Selection { context, path, ..Selection::default() });
            }
        }
        _ => {}
    }
    found
}

/// A path without what says that it starts at the context's root.
fn tidy(path: &str) -> String {
    let parts: Vec<&str> =
        path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::{stage, tidy};

    #[test]
    fn the_stage_is_what_stands_before_the_number() {
        for (name, expected) in [
            ("[build 2/4] RUN make", "build"),
            ("[2/4] RUN make", ""),
            ("[stage-1 12/14] COPY a b", "stage-1"),
            ("[linux/arm64 build  2/14] RUN make", "linux/arm64 build"),
            ("[internal] load build context", "internal"),
            ("[context docs] load from client", "context docs"),
            ("RUN make", ""),
        ] {
            assert_eq!(stage(name), expected, "{name}");
        }
    }

    #[test]
    fn paths_start_at_the_root() {
        for (path, expected) in [("/", ""), ("./a//b/", "a/b"), ("/a", "a"), (".", "")] {
            assert_eq!(tidy(path), expected);
        }
    }
}
