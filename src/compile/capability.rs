//! Refusing what the builder cannot do, before it is asked to.

use super::error::{CompileError, Fault};
use crate::dockerfile::Lines;
use crate::llb::{COMMAND_KEY, Caps, Definition, NAME_KEY};

/// Whether the builder has every capability that the graph needs.
pub(super) fn check(definition: &Definition, caps: &Caps) -> Result<(), CompileError> {
    let Some((op, capability)) = definition.unsupported(caps) else { return Ok(()) };
    let described = |key: &str| {
        let metadata = definition.metadata(&op.digest)?;
        metadata.description.get(key).filter(|text| !text.is_empty()).cloned()
    };
    let instruction = described(COMMAND_KEY)
        .or_else(|| described(NAME_KEY))
        .unwrap_or_else(|| "the result".into());
    let fault = Fault::Capability { instruction, capability: capability.to_owned() };
    let ranges = definition.locations(&op.digest).first().map(|location| &location.ranges);
    let line = |line: i32| u32::try_from(line).unwrap_or_default();
    let lines = ranges.and_then(|ranges| {
        let (first, last) = (ranges.first()?, ranges.last()?);
        Some(Lines::new(line(first.start.line), line(last.end.line)))
    });
    let error = CompileError::new(fault);
    Err(if lines.is_some() { error.at(lines) } else { error })
}
