//! `HEALTHCHECK`.

use super::{Cause, Fault, Request, typed};
use crate::dockerfile::ast::Healthcheck;
use crate::dockerfile::flags::{Shape, Values};
use crate::dockerfile::scalar;

const MILLISECOND: i64 = 1_000_000;

pub(super) fn read(request: &Request<'_>) -> Result<Healthcheck, Fault> {
    let Some((written, command)) = typed(request.node).filter(|(kind, _)| !kind.is_empty()) else {
        return Err(Cause::NoArgument(request.name).into());
    };
    let kind = written.to_uppercase();
    let (words, is_json) = command.words();
    if kind == "NONE" {
        // Its flags are never looked at.
        return if words.is_empty() {
            Ok(Healthcheck { test: vec![kind], ..Healthcheck::default() })
        } else {
            Err(Cause::HealthcheckNoneArguments.into())
        };
    }
    let mut flags = request.flags(&[
        ("interval", Shape::Text),
        ("timeout", Shape::Text),
        ("start-period", Shape::Text),
        ("start-interval", Shape::Text),
        ("retries", Shape::Text),
    ])?;
    if kind != "CMD" {
        return Err(Cause::HealthcheckType(kind).into());
    }
    if words.is_empty() {
        return Err(Cause::HealthcheckWithoutCommand.into());
    }
    let kind = if is_json { "CMD" } else { "CMD-SHELL" };
    let test = std::iter::once(kind.to_owned()).chain(words.iter().cloned()).collect();
    Ok(Healthcheck {
        test,
        interval: duration(&mut flags, "interval")?,
        timeout: duration(&mut flags, "timeout")?,
        start_period: duration(&mut flags, "start-period")?,
        start_interval: duration(&mut flags, "start-interval")?,
        retries: retries(&mut flags)?,
    })
}

fn duration(flags: &mut Values, name: &'static str) -> Result<i64, Fault> {
    let Some((text, span)) = flags.texts(name).pop().filter(|(text, _)| !text.is_empty()) else {
        return Ok(0);
    };
    let fault = |cause| Fault { cause: Box::new(cause), span: Some(span) };
    let duration = scalar::duration(&text).map_err(|error| fault(error.into()))?;
    if duration != 0 && duration < MILLISECOND {
        return Err(fault(Cause::DurationTooShort(name)));
    }
    Ok(duration)
}

fn retries(flags: &mut Values) -> Result<i32, Fault> {
    let Some((text, span)) = flags.texts("retries").pop().filter(|(text, _)| !text.is_empty())
    else {
        return Ok(0);
    };
    let fault = |cause| Fault { cause: Box::new(cause), span: Some(span) };
    let retries: i32 = text.parse().map_err(|_| fault(Cause::Retries(text)))?;
    if retries < 0 { Err(fault(Cause::NegativeRetries(retries))) } else { Ok(retries) }
}
