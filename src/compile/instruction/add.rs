//! `ADD`

use super::files::{Transfer, Verb};
use crate::compile::dispatch::Step;
use crate::compile::error::CompileError;
use crate::dockerfile::ast::Add;

pub(in crate::compile) fn apply(step: &mut Step<'_, '_>, add: Add) -> Result<(), CompileError> {
    let paths = add.files.paths.clone();
    let transfer = Transfer {
        verb: Verb::Add,
        source: step.shared.context.clone(),
        from_context: true,
        files: add.files,
        chown: add.chown,
        chmod: add.chmod,
        checksum: add.checksum,
        exclude: add.exclude,
        link: add.link,
        parents: false,
        keep_git_dir: add.keep_git_dir,
        unpack: add.unpack,
    };
    transfer.apply(step)?;
    for path in paths {
        if !path.starts_with("http://") && !path.starts_with("https://") {
            step.use_context(&path);
        }
    }
    Ok(())
}
