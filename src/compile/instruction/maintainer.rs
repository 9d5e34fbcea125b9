//! `MAINTAINER`

use crate::compile::dispatch::Step;

pub(in crate::compile) fn apply(step: &mut Step<'_, '_>, author: String) {
    let text = format!("MAINTAINER {author}");
    step.stage.image.config_mut().author = author;
    step.commit(text);
}
