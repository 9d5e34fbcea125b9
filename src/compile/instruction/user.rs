//! `USER`

use crate::compile::dispatch::Step;

pub(in crate::compile) fn apply(step: &mut Step<'_, '_>, user: String) {
    let text = format!("USER {user}");
    step.change(|state| state.user(&user));
    step.stage.image.config_mut().config.user = user;
    step.commit(text);
}
