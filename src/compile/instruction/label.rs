//! `LABEL`

use crate::compile::dispatch::Step;
use crate::dockerfile::ast::Pair;
use crate::dockerfile::lint::rules;

pub(in crate::compile) fn apply(step: &mut Step<'_, '_>, pairs: Vec<Pair>) {
    let mut text = String::from("LABEL");
    for pair in pairs {
        if pair.legacy {
            let rule = &rules::LEGACY_KEY_VALUE_FORMAT;
            let message = (rule.message)(&step.origin.keyword);
            step.scope.report(rule, step.lines(), message);
        }
        text.extend([" ", &pair.key, "=", &pair.value]);
        step.stage.image.config_mut().config.labels.insert(pair.key, pair.value);
    }
    step.commit(text);
}
