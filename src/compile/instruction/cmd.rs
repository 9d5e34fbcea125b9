//! `CMD`

use crate::compile::dispatch::Step;
use crate::dockerfile::ast::CommandLine;
use crate::dockerfile::quote_list;

pub(in crate::compile) fn apply(step: &mut Step<'_, '_>, command: &CommandLine) {
    let before = step.stage.once.cmd.replace(step.lines());
    step.warn_repeated(before);
    let args = step.image_command(command);
    let text = format!("CMD {}", quote_list(&args));
    let config = step.stage.image.config_mut();
    config.config.cmd = args;
    config.config.args_escaped = true;
    step.commit(text);
}
