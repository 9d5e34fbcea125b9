//! `ENV`

use crate::compile::dispatch::Step;
use crate::dockerfile::ast::Pair;
use crate::dockerfile::lint::{check, rules};

pub(in crate::compile) fn apply(step: &mut Step<'_, '_>, pairs: &[Pair]) {
    let mut text = String::from("ENV");
    for pair in pairs {
        if pair.legacy {
            let rule = &rules::LEGACY_KEY_VALUE_FORMAT;
            let message = (rule.message)(&step.origin.keyword);
            step.scope.report(rule, step.lines(), message);
        }
        if check::sounds_secret(&pair.key) {
            let rule = &rules::SECRETS_USED_IN_ARG_OR_ENV;
            step.scope.report(rule, step.lines(), (rule.message)("ENV", &pair.key));
        }
        text.extend([" ", &pair.key, "=", &pair.value]);
        // A name that is new to both comes last in both; another one moves to the end of one only.
        step.stage.env_in_order &= !step.stage.image.has_env(&pair.key);
        step.change(|state| state.env(&pair.key, &pair.value));
        step.stage.image.set_env(&pair.key, &pair.value);
    }
    step.commit(text);
}
