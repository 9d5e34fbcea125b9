//! `VOLUME`

use crate::compile::dispatch::Step;
use crate::compile::error::{CompileError, Fault};

pub(in crate::compile) fn apply(
    step: &mut Step<'_, '_>,
    paths: Vec<String>,
) -> Result<(), CompileError> {
    let text = format!("VOLUME [{}]", paths.join(" "));
    for path in paths {
        if path.is_empty() {
            return Err(Fault::EmptyVolume.into());
        }
        step.stage.image.config_mut().config.volumes.insert(path);
    }
    step.commit(text);
    Ok(())
}
