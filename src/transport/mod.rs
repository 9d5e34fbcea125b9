//! Byte streams to a peer on this machine or elsewhere: Unix sockets, TCP, TLS, child processes.
//!
//! This room knows no protocol above bytes and TLS; `engine` and `buildkit` speak over it.

pub mod child;
mod error;
mod place;
mod stream;
pub mod tls;

pub use error::{OpenError, TlsError};
pub use place::{HostPort, PlaceError, SshTarget};
pub use stream::{ByteStream, Duplex, Witness};

use std::path::Path;
use tokio::net::{TcpStream, UnixStream};

/// Connects to the Unix socket at `path`.
///
/// # Errors
/// There is none, nobody listens there, or we may not speak to it.
pub async fn open_unix(path: &Path) -> Result<ByteStream, OpenError> {
    match UnixStream::connect(path).await {
        Ok(stream) => Ok(ByteStream::new(stream)),
        Err(source) => Err(OpenError::at_socket(path, source)),
    }
}

/// Connects to `host` (a name or an IP address, IPv6 without brackets) at `port`.
///
/// # Errors
/// The name does not resolve, or nobody answers at any of its addresses.
pub async fn open_tcp(host: &str, port: u16) -> Result<ByteStream, OpenError> {
    let addresses: Vec<_> = match tokio::net::lookup_host((host, port)).await {
        Ok(addresses) => addresses.collect(),
        Err(source) => return Err(OpenError::Resolve { host: host.to_owned(), source }),
    };
    match TcpStream::connect(addresses.as_slice()).await {
        Ok(stream) => {
            // Small messages must not wait for one another; a socket that refuses the option is
            // slower, and still right.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "TCP_NODELAY could not be set");
            }
            Ok(ByteStream::new(stream))
        }
        Err(source) => Err(OpenError::at_port(host, port, source)),
    }
}
