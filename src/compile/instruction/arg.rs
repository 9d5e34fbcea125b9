//! `ARG` in a stage

use crate::compile::dispatch::{Step, is_for_scanners};
use crate::compile::error::CompileError;
use crate::dockerfile::ast::Arg;
use crate::dockerfile::lint::{check, rules};

pub(in crate::compile) fn apply(step: &mut Step<'_, '_>, arg: Arg) -> Result<(), CompileError> {
    let mut shown = Vec::with_capacity(arg.names.len());
    for name in arg.names {
        if check::sounds_secret(&name.key) {
            let rule = &rules::SECRETS_USED_IN_ARG_OR_ENV;
            step.scope.report(rule, step.lines(), (rule.message)("ARG", &name.key));
        }
        // A build argument wins, then the default, then the global argument of that name.
        let given = step.shared.build_args.get(&name.key).cloned();
        let value = match (given, &name.value) {
            (Some(given), _) => Some(given),
            (None, Some(default)) => Some(step.expand(default)?),
            (None, None) => step.shared.global_args.get(&name.key).map(str::to_owned),
        };
        if let Some(value) = &value
            && !is_for_scanners(&name.key)
        {
            step.stage.env_in_order = false;
            step.change(|state| state.env(&name.key, value));
        }
        shown.push(match &value {
            Some(value) => format!("{}={value}", name.key),
            None => name.key.clone(),
        });
        step.build_args_mut().push(&name.key, value);
    }
    step.commit(format!("ARG {}", shown.join(" ")));
    Ok(())
}
