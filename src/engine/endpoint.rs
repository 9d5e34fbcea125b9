//! Where a Docker Engine listens, as `DOCKER_HOST` and Docker contexts say it.

use crate::transport::{HostPort, PlaceError, SshTarget};
use std::{fmt, path::PathBuf, str::FromStr};
use thiserror::Error;

/// The port of an Engine that speaks plain HTTP.
const PORT: u16 = 2375;

/// Where a Docker Engine listens.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Endpoint {
    /// `unix:///path/docker.sock`.
    Unix(PathBuf),
    /// `tcp://host[:port]`, with or without TLS.
    Tcp(HostPort),
    /// `ssh://[user@]host[:port][/socket]`: `docker system dial-stdio` at the far end.
    Ssh {
        /// Where to log in.
        target: SshTarget,
        /// The Engine's socket there, where it is not the one that `docker` finds there.
        socket: Option<String>,
    },
}

impl Endpoint {
    /// Whether the Engine is on another machine.
    pub fn is_remote(&self) -> bool {
        match self {
            Self::Unix(_) => false,
            Self::Tcp(place) => !place.is_loopback(),
            Self::Ssh { .. } => true,
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let text = text.trim();
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(EndpointError::NoScheme { given: text.to_owned() });
        };
        let place = |source| EndpointError::Place { scheme: scheme.to_owned(), source };
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Self::Unix(PathBuf::from(rest))),
            "unix" => Err(EndpointError::RelativeSocket { given: text.to_owned() }),
            "tcp" | "http" | "https" => HostPort::parse(rest.trim_end_matches('/'), Some(PORT))
                .map(Self::Tcp)
                .map_err(place),
            "ssh" => {
                let (target, socket) = match rest.split_once('/') {
                    Some((target, "")) => (target, None),
                    Some((target, path)) => (target, Some(format!("/{path}"))),
                    None => (rest, None),
                };
                Ok(Self::Ssh { target: target.parse().map_err(place)?, socket })
            }
            _ => Err(EndpointError::Scheme { scheme: scheme.to_owned() }),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(formatter, "unix://{}", path.display()),
            Self::Tcp(place) => write!(formatter, "tcp://{place}"),
            Self::Ssh { target, socket } => {
                write!(formatter, "ssh://{target}{}", socket.as_deref().unwrap_or_default())
            }
        }
    }
}

/// Why a text is no Engine's address.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum EndpointError {
    /// There is no scheme.
    #[error("`{given}` has no scheme (such as `unix://` or `tcp://`)")]
    NoScheme {
        /// The text.
        given: String,
    },
    /// The host or port is wrong. (The text is not shown: there may be a password in it.)
    #[error("the `{scheme}://` address is not one: {source}")]
    Place {
        /// The scheme.
        scheme: String,
        /// What is wrong.
        source: PlaceError,
    },
    /// The socket's path is relative.
    #[error("`{given}` needs an absolute path (three slashes: `unix:///run/docker.sock`)")]
    RelativeSocket {
        /// The text.
        given: String,
    },
    /// The scheme is none of those that can be spoken here.
    #[error("a Docker Engine cannot be reached by `{scheme}://` from here (only unix, tcp, ssh)")]
    Scheme {
        /// The scheme.
        scheme: String,
    },
}

#[cfg(test)]
mod tests {
    use super::Endpoint;

    #[test]
    fn what_docker_host_may_say() {
        for (text, shown) in [
            ("unix:///var/run/docker.sock", "unix:///var/run/docker.sock"),
            ("tcp://10.1.2.3:2376", "tcp://10.1.2.3:2376"),
            ("tcp://engine", "tcp://engine:2375"),
            ("tcp://[::1]:2375/", "tcp://[::1]:2375"),
            ("ssh://ann@host", "ssh://ann@host"),
            ("ssh://ann@host:22/run/d.sock", "ssh://ann@host:22/run/d.sock"),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_it_may_not_say() {
        for (text, error) in [
            (
                "/var/run/docker.sock",
                "`/var/run/docker.sock` has no scheme (such as `unix://` or `tcp://`)",
            ),
            (
                "unix://docker.sock",
                "`unix://docker.sock` needs an absolute path (three slashes: `unix:///run/docker.sock`)",
            ),
            (
                "npipe:////./pipe/docker",
                "a Docker Engine cannot be reached by `npipe://` from here (only unix, tcp, ssh)",
            ),
            (
                "ssh://ann:pw@host",
                "the `ssh://` address is not one: a password cannot be part of an address",
            ),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap_err().to_string(), error);
        }
    }
}
