//! `ENTRYPOINT`

use crate::compile::dispatch::Step;
use crate::dockerfile::ast::CommandLine;
use crate::dockerfile::quote_list;

pub(in crate::compile) fn apply(step: &mut Step<'_, '_>, command: &CommandLine) {
    let before = step.stage.once.entrypoint.replace(step.lines());
    step.warn_repeated(before);
    let args = step.image_command(command);
    let text = format!("ENTRYPOINT {}", quote_list(&args));
    // The arguments of another entry point would make no sense for this one.
    let keep_cmd = step.stage.once.cmd.is_some();
    let config = step.stage.image.config_mut();
    config.config.entrypoint = args;
    if !keep_cmd {
        config.config.cmd.clear();
    }
    step.commit(text);
}
