//! TLS as a client: rustls, with files as Docker and `buildctl` name them.

use super::{ByteStream, TlsError};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio_rustls::TlsConnector;

/// Where the material for TLS lies, and whom to expect.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Files {
    /// Authorities to trust, PEM; without it the system's are trusted.
    pub ca: Option<PathBuf>,
    /// Our certificate (and its chain), PEM.
    pub cert: Option<PathBuf>,
    /// Its key, PEM.
    pub key: Option<PathBuf>,
    /// The name that the peer's certificate must carry; without it, the host of the address.
    pub server_name: Option<String>,
}

impl Files {
    /// Whether nothing is set: then there is no TLS at all, as with `buildctl`.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The application protocol that is offered in the handshake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// HTTP/1.1: the Docker Engine API.
    Http1,
    /// HTTP/2: gRPC.
    Http2,
}

/// TLS that is ready to be spoken.
#[derive(Clone)]
pub struct Client {
    connector: TlsConnector,
    server_name: Option<String>,
}

impl Client {
    /// Reads `files`.
    ///
    /// # Errors
    /// A file is missing or does not hold what it should, or only one of certificate and key is
    /// given.
    pub fn load(files: &Files, protocol: Protocol) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = &files.ca {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|_| TlsError::NoPem {
                    path: path.clone(),
                    wanted: "certificate of an authority",
                })?;
            }
        } else {
            // A system without any authority trusts nobody, which the handshake then says.
            let system = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(system.certs);
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Handshake {
                place: "this process".to_owned(),
                source: io::Error::other(error),
            })?
            .with_root_certificates(roots);
        let mut config = match (&files.cert, &files.key) {
            (Some(cert), Some(key)) => builder
                .with_client_auth_cert(certificates(cert)?, private_key(key)?)
                .map_err(|source| TlsError::Identity { path: cert.clone(), source })?,
            (None, None) => builder.with_no_client_auth(),
            (Some(_), None) => return Err(TlsError::HalfIdentity { given: "certificate" }),
            (None, Some(_)) => return Err(TlsError::HalfIdentity { given: "key" }),
        };
        config.alpn_protocols = vec![match protocol {
            Protocol::Http1 => b"http/1.1".to_vec(),
            Protocol::Http2 => b"h2".to_vec(),
        }];
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            server_name: files.server_name.clone(),
        })
    }

    /// The name that the certificate of the peer at `host` must carry.
    pub fn name_for<'a>(&'a self, host: &'a str) -> &'a str {
        self.server_name.as_deref().unwrap_or(host)
    }

    /// Speaks TLS over `stream` to the peer at `host`, known to the user as `place`.
    ///
    /// # Errors
    /// The handshake failed, for one of the reasons that [`TlsError`] tells apart.
    pub async fn wrap(
        &self,
        stream: ByteStream,
        host: &str,
        place: &str,
    ) -> Result<ByteStream, TlsError> {
        let name = self.name_for(host);
        let server = ServerName::try_from(name.to_owned())
            .map_err(|_| TlsError::Name { name: name.to_owned() })?;
        match self.connector.connect(server, stream).await {
            Ok(stream) => Ok(ByteStream::new(stream)),
            Err(source) => Err(explain(source, place, name)),
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Client")
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

/// Says what a failed handshake, or the first read after one, means. (In TLS 1.3 a server looks at
/// our certificate after we hold the handshake to be done.)
pub fn explain(source: io::Error, place: &str, name: &str) -> TlsError {
    let place = place.to_owned();
    let inner = source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).cloned();
    match inner {
        Some(rustls::Error::InvalidMessage(_)) => TlsError::NotTls { place },
        Some(source @ rustls::Error::AlertReceived(_)) if is_about_us(&source) => {
            TlsError::Refused { place, source }
        }
        Some(source @ rustls::Error::InvalidCertificate(_)) => match &source {
            rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ) => TlsError::WrongName { place, name: name.to_owned(), source },
            _ => TlsError::Untrusted { place, source },
        },
        _ => TlsError::Handshake { place, source },
    }
}

/// Whether an alert says that the server did not like our certificate.
fn is_about_us(error: &rustls::Error) -> bool {
    matches!(
        error,
        rustls::Error::AlertReceived(
            AlertDescription::AccessDenied
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateRequired
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateUnknown
                | AlertDescription::HandshakeFailure
                | AlertDescription::UnknownCA
                | AlertDescription::UnsupportedCertificate
        )
    )
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let none = || TlsError::NoPem { path: path.to_owned(), wanted: "certificate" };
    let pem = read(path)?;
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|_| none())?;
    if found.is_empty() { Err(none()) } else { Ok(found) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let pem = zeroize::Zeroizing::new(read(path)?);
    PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| TlsError::NoPem { path: path.to_owned(), wanted: "private key" })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::{Client, Files, Protocol};
    use crate::transport::TlsError;

    #[test]
    fn a_certificate_without_its_key_is_refused_with_the_fix() {
        let folder = tempfile::tempdir().unwrap();
        let key = rcgen::generate_simple_self_signed(["builder".to_owned()]).unwrap();
        let path = folder.path().join("cert.pem");
        std::fs::write(&path, key.cert.pem()).unwrap();
        let files = Files { ca: Some(path.clone()), cert: Some(path), ..Files::default() };
        let error = Client::load(&files, Protocol::Http2).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a client certificate needs its key: only the certificate is given"
        );
        assert_eq!(error.fix().unwrap(), "give both `--tlscert` and `--tlskey`, or neither");
    }

    #[test]
    fn files_are_named_when_they_are_missing_or_hold_something_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let files = Files { ca: Some(path.clone()), ..Files::default() };
        let missing = Client::load(&files, Protocol::Http2).unwrap_err();
        assert!(matches!(&missing, TlsError::Read { path: named, .. } if *named == path));
        std::fs::write(&path, "no PEM at all").unwrap();
        let empty = Client::load(&files, Protocol::Http2).unwrap_err();
        assert_eq!(
            empty.to_string(),
            format!("`{}` holds no certificate in PEM form", path.display())
        );
    }

    #[test]
    fn nothing_set_means_no_tls() {
        assert!(Files::default().is_empty());
        assert!(!Files { server_name: Some("builder".to_owned()), ..Files::default() }.is_empty());
    }
}
