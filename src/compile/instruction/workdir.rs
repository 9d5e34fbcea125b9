//! `WORKDIR`

use crate::compile::dispatch::Step;
use crate::compile::error::{CompileError, Fault};
use crate::compile::{naming, os_path, ranges};
use crate::dockerfile::lint::rules;
use crate::llb::{Constraints, FileAction, Owner};

pub(in crate::compile) fn apply(step: &mut Step<'_, '_>, dir: &str) -> Result<(), CompileError> {
    let os = step.os().to_owned();
    if !step.stage.workdir_set && !os_path::is_absolute(dir, &os) {
        let rule = &rules::WORKDIR_RELATIVE_PATH;
        step.scope.report(rule, step.lines(), (rule.message)(dir));
    }
    step.stage.workdir_set = true;
    let current = &step.stage.image.config().config.working_dir;
    let dir = os_path::workdir(current, dir, &os).map_err(Fault::Workdir)?;
    let slashed = os_path::to_slash(&dir, &os);
    step.stage.image.config_mut().config.working_dir = dir;
    step.change(|state| state.dir(&slashed));
    let text = format!("WORKDIR {slashed}");
    if slashed == "/" {
        step.commit(text);
        return Ok(());
    }
    let mut action = FileAction::make_dir(&slashed, 0o755, true);
    let user = &step.stage.image.config().config.user;
    if !user.is_empty() {
        action = action.owner(Owner::parse(user));
    }
    if let Some(epoch) = step.shared.epoch {
        action = action.timestamp(epoch.wrapping_mul(1_000_000_000));
    }
    let env = step.stage.state.environment();
    let shown = naming::shown(step.shared.expander, &step.origin.code, env);
    let constraints = Constraints::named(step.step_name(&shown))
        .location(&step.shared.input.source_map, ranges(Some(step.lines())));
    step.change(|state| state.file(vec![action], constraints));
    step.commit_layer(text);
    Ok(())
}
