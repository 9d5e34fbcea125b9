//! `COPY`

use super::files::{Transfer, Verb};
use crate::compile::dispatch::Step;
use crate::compile::error::{CompileError, Fault};
use crate::dockerfile::ast::Copy;

pub(in crate::compile) fn apply(step: &mut Step<'_, '_>, copy: Copy) -> Result<(), CompileError> {
    let source = step.sources.first().cloned();
    if let Some(source) = &source
        && !source.dispatched
    {
        return Err(Fault::CopyFromLater {
            from: copy.from.unwrap_or_default(),
            stage: step.stage.steps.stage.clone(),
        }
        .into());
    }
    let paths = copy.files.paths.clone();
    let transfer = Transfer {
        verb: Verb::Copy,
        source: match &source {
            Some(source) => source.state.clone(),
            None => step.shared.context.clone(),
        },
        from_context: source.is_none(),
        files: copy.files,
        chown: copy.chown,
        chmod: copy.chmod,
        checksum: String::new(),
        exclude: copy.exclude,
        link: copy.link,
        parents: copy.parents,
        keep_git_dir: None,
        unpack: None,
    };
    transfer.apply(step)?;
    for path in paths {
        match &source {
            Some(source) => step.use_source(source, &path),
            None => step.use_context(&path),
        }
    }
    Ok(())
}
