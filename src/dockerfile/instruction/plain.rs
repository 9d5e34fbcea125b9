//! Instructions with plain arguments: `EXPOSE`, `MAINTAINER`, `USER`, `VOLUME`, `WORKDIR`.

use super::{Cause, Fault, Request, Scope};
use crate::dockerfile::lint::rules;

pub(super) fn read_one(request: &Request<'_>) -> Result<String, Fault> {
    let word = request.one_word()?;
    request.no_flags()?;
    Ok(word)
}

pub(super) fn read_maintainer(
    request: &Request<'_>,
    scope: &mut Scope<'_>,
) -> Result<String, Fault> {
    let rule = &rules::MAINTAINER_DEPRECATED;
    scope.report(rule, request.node.lines, (rule.message)());
    read_one(request)
}

pub(super) fn read_expose(request: &Request<'_>) -> Result<Vec<String>, Fault> {
    let mut ports = request.words().to_vec();
    if ports.is_empty() {
        return Err(Cause::NoArgument(request.name).into());
    }
    request.no_flags()?;
    ports.sort_unstable();
    Ok(ports)
}

pub(super) fn read_volume(request: &Request<'_>) -> Result<Vec<String>, Fault> {
    if request.words().is_empty() {
        return Err(Cause::NoArgument(request.name).into());
    }
    request.no_flags()?;
    let volumes: Vec<String> =
        request.words().iter().map(|volume| volume.trim().to_owned()).collect();
    if volumes.iter().any(String::is_empty) {
        return Err(Cause::EmptyVolume.into());
    }
    Ok(volumes)
}
