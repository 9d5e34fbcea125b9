//! `CMD`, `ENTRYPOINT` and `SHELL`, and the command of a `RUN`.

use super::{Cause, Fault, Request};
use crate::dockerfile::ast::{CommandLine, InlineScript};

pub(super) fn read(request: &Request<'_>) -> Result<CommandLine, Fault> {
    request.no_flags()?;
    Ok(line(request))
}

/// The command, without a look at the flags.
pub(super) fn line(request: &Request<'_>) -> CommandLine {
    let heredocs = request.node.heredocs.iter().map(|heredoc| InlineScript {
        name: heredoc.announced.name.clone(),
        data: String::from_utf8_lossy(&heredoc.content).into_owned(),
        chomp: heredoc.announced.chomp,
    });
    CommandLine {
        words: request.words().to_vec(),
        shell: !request.is_json(),
        heredocs: heredocs.collect(),
    }
}

pub(super) fn read_shell(request: &Request<'_>) -> Result<Vec<String>, Fault> {
    request.no_flags()?;
    match (request.words(), request.is_json()) {
        ([], _) => Err(Cause::NoArgument(request.name).into()),
        (words, true) => Ok(words.to_vec()),
        (_, false) => Err(Cause::ShellNotJson.into()),
    }
}
