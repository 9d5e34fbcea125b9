//! `RUN`.

use super::{Cause, Fault, Request, command, device, mount};
use crate::dockerfile::ast::{Network, Run, Security};
use crate::dockerfile::flags::Shape;

pub(super) fn read(request: &Request<'_>) -> Result<Run, Fault> {
    let mut flags = request.flags(&[
        ("device", Shape::Texts),
        ("mount", Shape::Texts),
        ("network", Shape::Text),
        ("security", Shape::Text),
    ])?;
    let names = flags.names().map(str::to_owned).collect();
    let located = |span| move |cause: Cause| Fault { cause: Box::new(cause), span: Some(span) };
    let devices = flags
        .texts("device")
        .into_iter()
        .map(|(text, span)| device::read(&text).map_err(|error| located(span)(error.into())))
        .collect::<Result<_, _>>()?;
    let mounts = flags
        .texts("mount")
        .into_iter()
        .map(|(text, span)| mount::read(text, span).map_err(|error| located(span)(error.into())))
        .collect::<Result<_, _>>()?;
    let network = match flags.texts("network").pop() {
        None => Network::Default,
        Some((text, span)) => match text.as_str() {
            "default" => Network::Default,
            "none" => Network::None,
            "host" => Network::Host,
            _ => return Err(located(span)(Cause::Network(text))),
        },
    };
    let security = match flags.texts("security").pop() {
        None => Security::Sandbox,
        Some((text, span)) => match text.as_str() {
            "sandbox" => Security::Sandbox,
            "insecure" => Security::Insecure,
            _ => return Err(located(span)(Cause::Security(text))),
        },
    };
    let command = command::line(request);
    Ok(Run { command, mounts, network, security, devices, flags: names })
}
