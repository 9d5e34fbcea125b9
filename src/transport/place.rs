//! Hosts, ports and ssh destinations, out of text that a user wrote.

use super::child::Program;
use std::{fmt, str::FromStr};
use thiserror::Error;

/// What is wrong with a host, a port or an ssh destination.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum PlaceError {
    /// The host holds characters that no host name has, or begins with a dash.
    #[error("the host name is not one")]
    Host,
    /// There is no host.
    #[error("it names no host")]
    NoHost,
    /// There is no port.
    #[error("it names no port")]
    NoPort,
    /// The port is not a number from 1 to 65535.
    #[error("the port is not a number from 1 to 65535")]
    Port,
    /// Passwords in addresses end up in process lists and logs.
    #[error("a password cannot be part of an address")]
    Password,
    /// The user name holds characters that would not reach ssh unharmed.
    #[error("the user name is not one")]
    User,
}

/// A host and a port.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct HostPort {
    /// A name or an IP address; IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl HostPort {
    /// Whether it is on this machine.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost"
            || self.host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// Parses `HOST[:PORT]`, with `default` where there is no port.
    ///
    /// # Errors
    /// See [`PlaceError`].
    pub fn parse(text: &str, default: Option<u16>) -> Result<Self, PlaceError> {
        let (host, port) = split_port(text)?;
        let port = port.or(default).ok_or(PlaceError::NoPort)?;
        Ok(Self { host: host.to_owned(), port })
    }
}

impl FromStr for HostPort {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        Self::parse(text, None)
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", Bracketed(&self.host), self.port)
    }
}

/// Where `ssh` should log in.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct SshTarget {
    /// The user, where it is not ssh's to choose.
    pub user: Option<String>,
    /// The host, or an alias out of ssh's own config.
    pub host: String,
    /// The port, where it is not ssh's to choose.
    pub port: Option<u16>,
}

impl SshTarget {
    /// The `ssh` process that runs `command` there with its stdin and stdout.
    pub fn program(&self, command: &[&str]) -> Program {
        // Nobody can answer a question: the process has neither our terminal nor our stdin.
        let mut arguments = vec!["-o".to_owned(), "BatchMode=yes".to_owned(), "-T".to_owned()];
        if let Some(user) = &self.user {
            arguments.extend(["-l".to_owned(), user.clone()]);
        }
        if let Some(port) = self.port {
            arguments.extend(["-p".to_owned(), port.to_string()]);
        }
        arguments.extend(["--".to_owned(), self.host.clone()]);
        // sshd hands one string to the user's shell.
        let quoted: Vec<_> = command.iter().map(|word| quote(word)).collect();
        arguments.push(quoted.join(" "));
        Program { name: "ssh".to_owned(), arguments, environment: Vec::new() }
    }
}

impl FromStr for SshTarget {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let (user, place) = match text.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, text),
        };
        if let Some(user) = user {
            if user.contains(':') {
                return Err(PlaceError::Password);
            }
            let plain = |c: char| c.is_alphanumeric() || "._-\\+@".contains(c);
            if user.is_empty() || user.starts_with('-') || !user.chars().all(plain) {
                return Err(PlaceError::User);
            }
        }
        let (host, port) = split_port(place)?;
        Ok(Self { user: user.map(str::to_owned), host: host.to_owned(), port })
    }
}

impl fmt::Display for SshTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(formatter, "{user}@")?;
        }
        write!(formatter, "{}", Bracketed(&self.host))?;
        match self.port {
            Some(port) => write!(formatter, ":{port}"),
            None => Ok(()),
        }
    }
}

struct Bracketed<'a>(&'a str);

impl fmt::Display for Bracketed<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains(':') {
            write!(formatter, "[{}]", self.0)
        } else {
            formatter.write_str(self.0)
        }
    }
}

fn split_port(text: &str) -> Result<(&str, Option<u16>), PlaceError> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or(PlaceError::Host)?;
        host.parse::<std::net::Ipv6Addr>().map_err(|_| PlaceError::Host)?;
        match after.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if after.is_empty() => (host, None),
            None => return Err(PlaceError::Host),
        }
    } else {
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        let plain = |c: char| c.is_alphanumeric() || "._-".contains(c);
        if host.is_empty() {
            return Err(PlaceError::NoHost);
        }
        if host.starts_with('-') || !host.chars().all(plain) {
            return Err(PlaceError::Host);
        }
        (host, port)
    };
    let port = match port {
        None => None,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(digits.parse().ok().filter(|port| *port != 0).ok_or(PlaceError::Port)?)
        }
        Some(_) => return Err(PlaceError::Port),
    };
    Ok((host, port))
}

/// `word` for a POSIX shell.
fn quote(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::{HostPort, PlaceError, SshTarget};

    #[test]
    fn hosts_and_ports() {
        for text in ["builder:1234", "10.0.0.1:80", "[::1]:65535", "a-b.c_d:1"] {
            assert_eq!(text.parse::<HostPort>().unwrap().to_string(), text);
        }
        for (text, error) in [
            ("", PlaceError::NoHost),
            (":80", PlaceError::NoHost),
            ("builder", PlaceError::NoPort),
            ("builder:", PlaceError::Port),
            ("builder:0", PlaceError::Port),
            ("builder:65536", PlaceError::Port),
            ("builder:+80", PlaceError::Port),
            ("::1:80", PlaceError::NoHost),
            ("fe80::1:80", PlaceError::Port),
            ("[::1]80", PlaceError::Host),
            ("[builder]:80", PlaceError::Host),
            ("-oProxyCommand=x:80", PlaceError::Host),
            ("a b:80", PlaceError::Host),
        ] {
            assert_eq!(text.parse::<HostPort>(), Err(error), "{text}");
        }
    }

    #[test]
    fn ssh_destinations_reach_ssh_as_operands() {
        let target: SshTarget = "ann@[::1]:22".parse().unwrap();
        assert_eq!(target.to_string(), "ann@[::1]:22");
        let program = target.program(&["buildctl", "--addr", "unix:///a b'c", "dial-stdio"]);
        assert_eq!(program.name, "ssh");
        assert_eq!(
            program.arguments,
            [
                "-o",
                "BatchMode=yes",
                "-T",
                "-l",
                "ann",
                "-p",
                "22",
                "--",
                "::1",
                r"buildctl --addr 'unix:///a b'\''c' dial-stdio"
            ]
        );
    }

    #[test]
    fn ssh_destinations_that_are_refused() {
        for (text, error) in [
            ("-oProxyCommand=evil", PlaceError::Host),
            ("ann@-oProxyCommand=evil", PlaceError::Host),
            ("-lroot@host", PlaceError::User),
            ("@host", PlaceError::User),
            ("ann:secret@host", PlaceError::Password),
            ("ann@", PlaceError::NoHost),
            ("host:x", PlaceError::Port),
        ] {
            assert_eq!(text.parse::<SshTarget>(), Err(error), "{text}");
        }
    }
}
