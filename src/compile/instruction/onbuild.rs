//! `ONBUILD`: kept for the builds on this image; the history says nothing of it.

use crate::compile::dispatch::Step;

pub(in crate::compile) fn apply(step: &mut Step<'_, '_>, trigger: String) {
    step.stage.image.config_mut().config.on_build.push(trigger);
}
