//! `EXPOSE`

use core::net::IpAddr;

use crate::compile::dispatch::Step;
use crate::compile::error::{CompileError, Fault};
use crate::dockerfile::lint::rules;
use crate::dockerfile::quote;

pub(in crate::compile) fn apply(
    step: &mut Step<'_, '_>,
    ports: &[String],
) -> Result<(), CompileError> {
    let mut words = Vec::with_capacity(ports.len());
    for port in ports {
        let env = step.stage.state.environment();
        words.extend(step.shared.expander.words(port, env).map_err(Fault::from)?);
    }
    let mut exposed = Vec::with_capacity(words.len());
    for word in &words {
        let spec = PortSpec::split(word);
        let (port, protocol) = split_protocol(&spec.container)
            .map_err(|reason| Fault::Port(format!("invalid port: {}: {reason}", quote(word))))?;
        if protocol != protocol.to_lowercase() {
            let rule = &rules::EXPOSE_PROTO_CASING;
            step.scope.report(rule, step.lines(), (rule.message)(word));
        }
        if !spec.ip.is_empty() || !spec.host.is_empty() {
            let rule = &rules::EXPOSE_INVALID_FORMAT;
            step.scope.report(rule, step.lines(), (rule.message)(word));
        }
        let (first, last) = spec.check(&port).map_err(Fault::Port)?;
        let protocol = protocol.to_lowercase();
        exposed.extend((first..=last).map(|port| format!("{port}/{protocol}")));
    }
    let text = format!("EXPOSE [{}]", exposed.join(" "));
    step.write(text.len())?;
    step.stage.image.config_mut().config.exposed_ports.extend(exposed);
    step.commit(text);
    Ok(())
}

/// `[ip:][host port:]container port[/protocol]`: what is before the container's port means nothing
/// to `EXPOSE`, and must be right all the same.
struct PortSpec {
    ip: String,
    host: String,
    container: String,
}

impl PortSpec {
    fn split(text: &str) -> Self {
        let mut parts = text.rsplitn(3, ':');
        let mut next = || parts.next().unwrap_or_default().to_owned();
        let (container, host, ip) = (next(), next(), next());
        Self { ip, host, container }
    }

    /// The first and the last port of the container.
    fn check(&self, port: &str) -> Result<(u16, u16), String> {
        if !self.ip.is_empty() {
            let bare = if self.ip.starts_with('[') {
                let inner = self.ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']'));
                inner.ok_or_else(|| format!("invalid IP address {}", self.ip))?
            } else {
                &self.ip
            };
            // A zone says through which interface an address is reached; there is none here.
            bare.parse::<IpAddr>().map_err(|_| format!("invalid IP address: {bare}"))?;
        }
        let (first, last) =
            port_range(port).ok_or_else(|| format!("invalid containerPort: {port}"))?;
        if !self.host.is_empty() {
            let (host_first, host_last) =
                port_range(&self.host).ok_or_else(|| format!("invalid hostPort: {}", self.host))?;
            if last != first && last - first != host_last - host_first {
                return Err(format!(
                    "invalid ranges specified for container and host Ports: {port} and {}",
                    self.host
                ));
            }
        }
        Ok((first, last))
    }
}

fn split_protocol(text: &str) -> Result<(String, String), String> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, ""));
    if port.is_empty() {
        return Err("no port specified".into());
    }
    match protocol.to_lowercase().as_str() {
        "" => Ok((port.into(), "tcp".into())),
        "tcp" | "udp" | "sctp" => Ok((port.into(), protocol.into())),
        _ => Err(format!("invalid proto: {protocol}")),
    }
}

fn port_range(text: &str) -> Option<(u16, u16)> {
    let number = |text: &str| text.parse::<u16>().ok();
    match text.split_once('-') {
        None => number(text).map(|port| (port, port)),
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some((first, last))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<(u16, u16), String> {
        let spec = PortSpec::split(text);
        let (port, _) = split_protocol(&spec.container)?;
        spec.check(&port)
    }

    #[test]
    fn ports_stand_alone_or_in_ranges() {
        assert_eq!(parsed("80"), Ok((80, 80)));
        assert_eq!(parsed("8000-8002/udp"), Ok((8000, 8002)));
        assert_eq!(parsed("127.0.0.1:80:90"), Ok((90, 90)));
        assert_eq!(parsed("[::1]:80:90"), Ok((90, 90)));
        assert_eq!(parsed("::1:80:90"), Ok((90, 90)));
        assert_eq!(parsed("8000-9000:80"), Ok((80, 80)));
    }

    #[test]
    fn wrong_ports_say_what_is_wrong() {
        for (text, expected) in [
            ("", "no port specified"),
            ("/tcp", "no port specified"),
            ("80/http", "invalid proto: http"),
            ("65536", "invalid containerPort: 65536"),
            ("2-1", "invalid containerPort: 2-1"),
            ("x:80", "invalid hostPort: x"),
            ("nowhere:1:2", "invalid IP address: nowhere"),
            ("1-2:3-5", "invalid ranges specified for container and host Ports: 3-5 and 1-2"),
        ] {
            assert_eq!(parsed(text), Err(expected.into()), "{text}");
        }
    }
}
