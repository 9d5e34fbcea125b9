//! Why a byte stream could not be opened.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};
use thiserror::Error;

/// A peer that could not be reached.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The program that should carry the stream could not be started.
    #[error("`{program}` could not be started: {source}")]
    Program {
        /// The program's name, as it was looked for in `PATH`.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// The socket is there and we may not speak to it.
    #[error("permission denied on the socket `{}`", path.display())]
    Denied {
        /// The socket.
        path: PathBuf,
    },
    /// There is nothing at the socket's path.
    #[error("there is no socket `{}`", path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// Nobody listens there.
    #[error("nobody listens at `{place}`")]
    Refused {
        /// The socket's path, or `host:port`.
        place: String,
    },
    /// The host name has no address.
    #[error("the host `{host}` cannot be resolved: {source}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// Nobody answered in time.
    #[error("`{place}` did not answer within {} s", after.as_secs())]
    TimedOut {
        /// Who was asked.
        place: String,
        /// How long we waited.
        after: Duration,
    },
    /// TLS could not be agreed on.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Any other failure of the system's.
    #[error("`{place}` cannot be reached: {source}")]
    Unreachable {
        /// The socket's path, or `host:port`.
        place: String,
        /// What the system said.
        source: io::Error,
    },
}

impl OpenError {
    pub(super) fn at_socket(path: &Path, source: io::Error) -> Self {
        let place = path.display().to_string();
        match source.kind() {
            io::ErrorKind::NotFound => Self::Missing { path: path.to_owned() },
            io::ErrorKind::PermissionDenied => Self::Denied { path: path.to_owned() },
            io::ErrorKind::ConnectionRefused => Self::Refused { place },
            _ => Self::Unreachable { place, source },
        }
    }

    pub(super) fn at_port(host: &str, port: u16, source: io::Error) -> Self {
        let place =
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        match source.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused { place },
            _ => Self::Unreachable { place, source },
        }
    }

    /// What the user can do, where there is something.
    pub fn fix(&self) -> Option<String> {
        match self {
            Self::Denied { path } if path.to_string_lossy().contains("docker") => Some(
                "add yourself to the group `docker` (`sudo usermod -aG docker $USER`, then log in \
                 again), or use a rootless Docker"
                    .to_owned(),
            ),
            Self::Denied { .. } => {
                Some("ask for access to the socket's group, or run as a user who has it".to_owned())
            }
            Self::Missing { .. } => {
                Some("start the daemon, or name another builder with `--builder`".to_owned())
            }
            Self::Refused { .. } => {
                Some("start the daemon that should listen there, or correct the address".to_owned())
            }
            Self::Resolve { .. } => Some("check the host name in the builder's address".to_owned()),
            Self::Program { program, .. } => {
                Some(format!("install `{program}`, or put it in `PATH`"))
            }
            Self::TimedOut { .. } | Self::Unreachable { .. } => {
                Some("check that the address is right and the network lets you through".to_owned())
            }
            Self::Tls(error) => error.fix(),
        }
    }
}

/// Why TLS could not be set up or agreed on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The certificate and the key must come together.
    #[error("a client certificate needs its key: only the {given} is given")]
    HalfIdentity {
        /// `certificate` or `key`.
        given: &'static str,
    },
    /// The file has no usable PEM in it.
    #[error("`{}` holds no {wanted} in PEM form", path.display())]
    NoPem {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        wanted: &'static str,
    },
    /// The certificate and the key do not fit, or the key's kind is unknown.
    #[error("the client certificate `{}` cannot be used: {source}", path.display())]
    Identity {
        /// The certificate's file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The server's name cannot be one.
    #[error("`{name}` is not a host name or IP address that a certificate can carry")]
    Name {
        /// The name.
        name: String,
    },
    /// The peer does not speak TLS.
    #[error("`{place}` does not speak TLS")]
    NotTls {
        /// The peer.
        place: String,
    },
    /// The file could not be read.
    #[error("`{}` cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The peer refused our certificate, or wanted one.
    #[error("`{place}` refused us in the TLS handshake: {source}")]
    Refused {
        /// The peer.
        place: String,
        /// The alert.
        source: rustls::Error,
    },
    /// The peer's certificate is for other names.
    #[error("the certificate of `{place}` is not for the name `{name}`: {source}")]
    WrongName {
        /// The peer.
        place: String,
        /// The name that we hold it to.
        name: String,
        /// The names that it carries.
        source: rustls::Error,
    },
    /// The peer's certificate does not come from the authority that we trust.
    #[error("the certificate of `{place}` is not trusted: {source}")]
    Untrusted {
        /// The peer.
        place: String,
        /// Why.
        source: rustls::Error,
    },
    /// Anything else.
    #[error("no TLS with `{place}`: {source}")]
    Handshake {
        /// The peer.
        place: String,
        /// Why.
        source: io::Error,
    },
}

impl TlsError {
    /// What the user can do, where there is something.
    pub fn fix(&self) -> Option<String> {
        Some(match self {
            Self::HalfIdentity { .. } => {
                "give both `--tlscert` and `--tlskey`, or neither".to_owned()
            }
            Self::NotTls { .. } => {
                "leave the TLS options out, or ask for the port that speaks TLS".to_owned()
            }
            Self::Refused { .. } => {
                "give a client certificate that the builder's authority signed: \
                                     `--tlscert` and `--tlskey`"
                    .to_owned()
            }
            Self::WrongName { .. } => {
                "name the builder as its certificate does with `--tlsservername`".to_owned()
            }
            Self::Untrusted { .. } => {
                "give the authority that signed the builder's certificate with `--tlscacert`"
                    .to_owned()
            }
            _ => return None,
        })
    }
}
