//! From nodes to stages.

use super::ast::{Dockerfile, GlobalArg, Instruction, Kind, Stage};
use super::error::{Cause, Error, Errors, Fault};
use super::instruction::{self, Read};
use super::lint::{Linter, rules};
use super::node::{Keyword, Node};
use super::place::Lines;
use super::reader::{self, MAX_ERRORS, Reading};

/// Reads a Dockerfile. What is legal but unwise goes to `linter`, as far as it can be told without
/// values for variables.
///
/// # Errors
/// All that is wrong with it, up to a number; the first is what BuildKit would report.
pub fn parse(source: &[u8], linter: &mut Linter) -> Result<Dockerfile, Errors> {
    if source.is_empty() {
        return Err(Error::new(Cause::EmptyFile, None).into());
    }
    let Reading { escape, directives, nodes, mut errors } = reader::read(source);
    // What cannot be cut comes before all else, wherever it stands, and nothing is said then of
    // what is unwise.
    if errors.is_empty() {
        for node in &nodes {
            if let Some(line) = node.empty_continuation {
                let rule = &rules::NO_EMPTY_CONTINUATION;
                linter.report(rule, Lines::one(line), (rule.message)());
            }
        }
    }
    let mut silent = Linter::default();
    let mut parts = Parts::default();
    for node in nodes {
        if errors.len() >= MAX_ERRORS {
            break;
        }
        let linter = if errors.is_empty() { &mut *linter } else { &mut silent };
        if let Err(error) = parts.add(node, linter) {
            errors.push(error);
        }
    }
    let Parts { global_args, stages, .. } = parts;
    if stages.is_empty() && errors.is_empty() {
        errors.push(Error::new(Cause::NoStages, None));
    }
    if let Some(errors) = Errors::from_list(errors) {
        return Err(errors);
    }
    super::lint::check::stages(&stages, linter);
    Ok(Dockerfile { escape, directives, global_args, stages })
}

/// Reads the one instruction that an `ONBUILD` keeps, as it stands in an image's config or in a
/// stage. It gets the lines of the `FROM` that set it off.
///
/// # Errors
/// Where it cannot be read, or is not one instruction.
pub fn parse_trigger(text: &str, lines: Lines) -> Result<Instruction, Error> {
    let at = |error: Error| Error { lines: Some(lines), span: None, ..error };
    let Reading { nodes, errors, .. } = reader::read(text.as_bytes());
    if let Some(error) = errors.into_iter().next() {
        return Err(at(error));
    }
    let cause = |cause| Error::new(cause, Some(lines));
    let [mut node] = <[Node; 1]>::try_from(nodes).map_err(|_| cause(Cause::TriggerNotSingle))?;
    node.lines = lines;
    let mut silent = Linter::default();
    match instruction::read(&node, &mut silent.scope(&[])) {
        Ok(Read::Instruction(kind)) => Ok(Instruction { origin: instruction::origin(node), kind }),
        Ok(Read::From(_)) => Err(cause(Cause::TriggerFrom)),
        Err(fault) => Err(at(fault.at(lines, node.span))),
    }
}

/// What has been read so far.
#[derive(Default)]
struct Parts {
    global_args: Vec<GlobalArg>,
    stages: Vec<Stage>,
    /// What stands before the first `FROM` is no longer told: it was once, or that `FROM` could not
    /// be read.
    stage_is_known_missing: bool,
}

impl Parts {
    fn add(&mut self, node: Node, linter: &mut Linter) -> Result<(), Error> {
        let mut scope = linter.scope(&node.comments);
        let is_from =
            Keyword::from_word(&node.keyword).is_some_and(|(keyword, _)| keyword == Keyword::From);
        if is_from {
            instruction::report_casing(&node, &mut scope);
        }
        let read = match instruction::read(&node, &mut scope) {
            Ok(read) => read,
            Err(fault) => {
                self.stage_is_known_missing |= is_from;
                return Err(fault.at(node.lines, node.span));
            }
        };
        let origin = instruction::origin(node);
        match (read, self.stages.last_mut()) {
            (Read::From(from), _) => {
                self.stages.push(Stage { origin, from, instructions: Vec::new() });
            }
            (Read::Instruction(kind), Some(stage)) => {
                stage.instructions.push(Instruction { origin, kind });
            }
            (Read::Instruction(Kind::Arg(arg)), None) => {
                self.global_args.push(GlobalArg { origin, arg });
            }
            (Read::Instruction(_), None) if self.stage_is_known_missing => {}
            (Read::Instruction(kind), None) => {
                self.stage_is_known_missing = true;
                let cause = Cause::BeforeFrom { instruction: kind.name() };
                return Err(Fault::from(cause).at(origin.lines, origin.span));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
