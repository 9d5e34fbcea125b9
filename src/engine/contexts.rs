//! Which Engine `docker` itself would speak to: `DOCKER_HOST`, Docker contexts, the usual socket.

use super::{Endpoint, EndpointError};
use crate::transport::tls;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io,
    path::{Path, PathBuf},
};
use thiserror::Error;

/// The context that stands for `DOCKER_HOST` or the usual socket.
const DEFAULT_CONTEXT: &str = "default";
/// Where an Engine listens when nobody said otherwise.
const USUAL_SOCKET: &str = "/var/run/docker.sock";

/// What decides which Engine `docker` would speak to, as read from the environment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Settings {
    /// `DOCKER_HOST`.
    pub host: Option<String>,
    /// `DOCKER_CONTEXT`.
    pub context: Option<String>,
    /// `DOCKER_CONFIG`, or `.docker` in the home directory.
    pub config_dir: Option<PathBuf>,
    /// Whether `DOCKER_TLS_VERIFY` is set to anything: then `DOCKER_HOST` is spoken to over TLS.
    pub tls_verify: bool,
    /// `DOCKER_CERT_PATH`: where the material for that lies, else in the config directory.
    pub cert_path: Option<PathBuf>,
}

/// An Engine, and how to speak to it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// Material for TLS; empty where there is none.
    pub tls: tls::Files,
    /// Who said so.
    pub origin: Origin,
}

/// Who named an Engine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Origin {
    /// This Docker context.
    Context(String),
    /// `DOCKER_HOST`.
    Host,
    /// Nobody: it is the usual socket.
    Usual,
}

/// Why it cannot be said which Engine is meant.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ContextError {
    /// `DOCKER_HOST` is no address.
    #[error("`DOCKER_HOST`: {source}")]
    Host {
        /// Why.
        source: EndpointError,
    },
    /// There is no such context.
    #[error("there is no Docker context `{name}`")]
    Missing {
        /// The context.
        name: String,
    },
    /// The context's address is none that can be spoken to.
    #[error("the Docker context `{name}`: {source}")]
    Endpoint {
        /// The context.
        name: String,
        /// Why.
        source: EndpointError,
    },
    /// A context without an Engine, such as one for Kubernetes alone.
    #[error("the Docker context `{name}` names no Docker Engine")]
    NoEngine {
        /// The context.
        name: String,
    },
    /// A file of Docker's config cannot be read.
    #[error("`{}` cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of Docker's config is not what it should be.
    #[error("`{}` is not what Docker writes: {source}", path.display())]
    Garbled {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The context asks us to trust whoever answers.
    #[error(
        "the Docker context `{name}` asks to skip the check of the server's certificate, which bk-sync never does"
    )]
    Unverified {
        /// The context.
        name: String,
    },
}

impl ContextError {
    /// What the user can do.
    pub fn fix(&self) -> String {
        match self {
            Self::Host { .. } => "correct or unset `DOCKER_HOST`".to_owned(),
            Self::Missing { .. } | Self::NoEngine { .. } | Self::Endpoint { .. } => {
                "choose one that `docker context ls` lists".to_owned()
            }
            Self::Read { path, .. } | Self::Garbled { path, .. } => {
                format!("mend or remove `{}`", path.display())
            }
            Self::Unverified { .. } => {
                "give the context the authority of the server: `docker context update --docker \
                 host=…,ca=…`"
                    .to_owned()
            }
        }
    }
}

/// Reads a whole file; tests give their own.
pub type Reader<'a> = &'a dyn Fn(&Path) -> io::Result<Vec<u8>>;

#[derive(Deserialize)]
struct ConfigFile {
    #[serde(rename = "currentContext", default)]
    current_context: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(rename = "Endpoints", default)]
    endpoints: BTreeMap<String, EndpointMetadata>,
}

#[derive(Deserialize)]
struct EndpointMetadata {
    #[serde(rename = "Host", default)]
    host: String,
    #[serde(rename = "SkipTLSVerify", default)]
    skip_tls_verify: bool,
}

impl Settings {
    /// The Engine of the context `explicit`, or the one that `docker` would choose: `DOCKER_HOST`,
    /// then `DOCKER_CONTEXT`, then the current context of the config file, then the usual socket.
    ///
    /// # Errors
    /// What was chosen does not exist, cannot be read or is no Engine's address.
    pub fn resolve(
        &self,
        explicit: Option<&str>,
        read: Reader<'_>,
    ) -> Result<Target, ContextError> {
        let host = self.host.as_deref().filter(|host| !host.is_empty());
        let chosen = match (explicit, host) {
            (Some(name), _) => Some(name.to_owned()),
            (None, Some(_)) => None,
            (None, None) => match self.context.clone().filter(|name| !name.is_empty()) {
                Some(name) => Some(name),
                None => self.current_context(read)?,
            },
        };
        match (chosen.filter(|name| name != DEFAULT_CONTEXT), host) {
            (Some(name), _) => self.of_context(name, read),
            (None, Some(host)) => {
                let endpoint: Endpoint =
                    host.parse().map_err(|source| ContextError::Host { source })?;
                let tls = self.host_tls(&endpoint, read);
                Ok(Target { endpoint, tls, origin: Origin::Host })
            }
            (None, None) => Ok(Target {
                endpoint: Endpoint::Unix(PathBuf::from(USUAL_SOCKET)),
                tls: tls::Files::default(),
                origin: Origin::Usual,
            }),
        }
    }

    fn current_context(&self, read: Reader<'_>) -> Result<Option<String>, ContextError> {
        let Some(folder) = &self.config_dir else { return Ok(None) };
        let path = folder.join("config.json");
        let bytes = match read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(ContextError::Read { path, source }),
        };
        match serde_json::from_slice::<ConfigFile>(&bytes) {
            Ok(file) => Ok(file.current_context.filter(|name| !name.is_empty())),
            Err(source) => Err(ContextError::Garbled { path, source }),
        }
    }

    fn of_context(&self, name: String, read: Reader<'_>) -> Result<Target, ContextError> {
        let Some(folder) = &self.config_dir else { return Err(ContextError::Missing { name }) };
        let id = directory_of(&name);
        let path = folder.join("contexts/meta").join(&id).join("meta.json");
        let bytes = match read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ContextError::Missing { name });
            }
            Err(source) => return Err(ContextError::Read { path, source }),
        };
        let metadata: Metadata = serde_json::from_slice(&bytes)
            .map_err(|source| ContextError::Garbled { path, source })?;
        let Some(docker) = metadata.endpoints.get("docker").filter(|one| !one.host.is_empty())
        else {
            return Err(ContextError::NoEngine { name });
        };
        let endpoint: Endpoint = match docker.host.parse() {
            Ok(endpoint) => endpoint,
            Err(source) => return Err(ContextError::Endpoint { name, source }),
        };
        let tls = match endpoint {
            Endpoint::Tcp(_) if docker.skip_tls_verify => {
                return Err(ContextError::Unverified { name });
            }
            Endpoint::Tcp(_) => {
                present(&folder.join("contexts/tls").join(&id).join("docker"), read)
            }
            Endpoint::Unix(_) | Endpoint::Ssh { .. } => tls::Files::default(),
        };
        Ok(Target { endpoint, tls, origin: Origin::Context(name) })
    }

    fn host_tls(&self, endpoint: &Endpoint, read: Reader<'_>) -> tls::Files {
        match (endpoint, self.cert_path.as_ref().or(self.config_dir.as_ref())) {
            (Endpoint::Tcp(place), Some(folder)) if self.tls_verify => {
                let files = present(folder, read);
                // The wish for TLS stands even where no file does: the system's authorities count.
                if files.is_empty() {
                    tls::Files { server_name: Some(place.host.clone()), ..files }
                } else {
                    files
                }
            }
            _ => tls::Files::default(),
        }
    }
}

/// The files for TLS that are there, under the names that Docker gives them.
fn present(folder: &Path, read: Reader<'_>) -> tls::Files {
    let file = |name: &str| {
        let path = folder.join(name);
        let missing = matches!(read(&path), Err(error) if error.kind() == io::ErrorKind::NotFound);
        (!missing).then_some(path)
    };
    tls::Files {
        ca: file("ca.pem"),
        cert: file("cert.pem"),
        key: file("key.pem"),
        server_name: None,
    }
}

/// The directory of a context: Docker names it by the digest of the context's name.
fn directory_of(context: &str) -> String {
    Sha256::digest(context.as_bytes()).iter().fold(String::new(), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _infallible = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::{ContextError, Origin, Settings, Target};
    use std::{
        collections::BTreeMap,
        io,
        path::{Path, PathBuf},
    };

    fn resolve(
        settings: &Settings,
        explicit: Option<&str>,
        files: &[(&str, &str)],
    ) -> Result<Target, ContextError> {
        let files: BTreeMap<PathBuf, String> = files
            .iter()
            .map(|(path, text)| {
                (
                    PathBuf::from(path.replace("FAR", &super::directory_of("far"))),
                    (*text).to_owned(),
                )
            })
            .collect();
        let read = |path: &Path| match files.get(path) {
            Some(text) if text == "DENIED" => Err(io::ErrorKind::PermissionDenied.into()),
            Some(text) => Ok(text.clone().into_bytes()),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        settings.resolve(explicit, &read)
    }

    fn settings() -> Settings {
        Settings { config_dir: Some(PathBuf::from("/h/.docker")), ..Settings::default() }
    }

    const META: &str = "/h/.docker/contexts/meta/FAR/meta.json";
    const FAR_UNIX: (&str, &str) = (
        META,
        r#"{"Name":"far","Metadata":{},"Endpoints":{"docker":{"Host":"unix:///far.sock","SkipTLSVerify":false}}}"#,
    );
    const FAR_TCP: (&str, &str) =
        (META, r#"{"Name":"far","Endpoints":{"docker":{"Host":"tcp://far:2376"}}}"#);
    const CURRENT: (&str, &str) = ("/h/.docker/config.json", r#"{"currentContext":"far"}"#);

    #[test]
    fn directories_are_named_by_digest() {
        assert_eq!(
            super::directory_of("desktop-linux"),
            "fe9c6bd7a66301f49ca9b6a70b217107cd1284598bfc254700c989b916da791e"
        );
    }

    #[test]
    fn the_order_is_dockers() {
        let target = resolve(&settings(), None, &[]).unwrap();
        assert_eq!(target.endpoint.to_string(), "unix:///var/run/docker.sock");
        assert_eq!(target.origin, Origin::Usual);

        let target = resolve(&settings(), None, &[CURRENT, FAR_UNIX]).unwrap();
        assert_eq!(target.endpoint.to_string(), "unix:///far.sock");
        assert_eq!(target.origin, Origin::Context("far".to_owned()));

        let by_env = Settings { context: Some("far".to_owned()), ..settings() };
        assert_eq!(resolve(&by_env, None, &[FAR_UNIX]).unwrap(), target);
        assert_eq!(resolve(&settings(), Some("far"), &[FAR_UNIX]).unwrap(), target);

        let with_host = Settings { host: Some("unix:///h.sock".to_owned()), ..by_env };
        let target = resolve(&with_host, None, &[CURRENT, FAR_UNIX]).unwrap();
        assert_eq!(target.endpoint.to_string(), "unix:///h.sock");
        assert_eq!(target.origin, Origin::Host);

        let back = Settings { context: Some("default".to_owned()), ..settings() };
        let target = resolve(&back, None, &[CURRENT, FAR_UNIX]).unwrap();
        assert_eq!(target.origin, Origin::Usual);

        let target = resolve(&with_host, Some("far"), &[FAR_UNIX]).unwrap();
        assert_eq!(target.origin, Origin::Context("far".to_owned()));
    }

    #[test]
    fn a_context_brings_its_own_tls() {
        let folder = "/h/.docker/contexts/tls/FAR/docker";
        let ca = format!("{folder}/ca.pem");
        let cert = format!("{folder}/cert.pem");
        let key = format!("{folder}/key.pem");
        let files = [FAR_TCP, (ca.as_str(), "x"), (cert.as_str(), "x"), (key.as_str(), "x")];
        let target = resolve(&settings(), Some("far"), &files).unwrap();
        assert!(target.tls.ca.unwrap().ends_with("docker/ca.pem"));
        assert!(target.tls.cert.unwrap().ends_with("docker/cert.pem"));
        assert!(target.tls.key.unwrap().ends_with("docker/key.pem"));
        let bare = resolve(&settings(), Some("far"), &[FAR_TCP]).unwrap();
        assert!(bare.tls.is_empty());
    }

    #[test]
    fn docker_host_takes_tls_from_the_cert_path() {
        let verified = Settings {
            host: Some("tcp://far:2376".to_owned()),
            tls_verify: true,
            cert_path: Some(PathBuf::from("/certs")),
            ..settings()
        };
        let target = resolve(&verified, None, &[("/certs/ca.pem", "x")]).unwrap();
        assert_eq!(target.tls.ca, Some(PathBuf::from("/certs/ca.pem")));
        assert_eq!(target.tls.cert, None);
        let bare = resolve(&verified, None, &[]).unwrap();
        assert_eq!(bare.tls.server_name.as_deref(), Some("far"));
        let plain = Settings { tls_verify: false, ..verified };
        assert!(resolve(&plain, None, &[("/certs/ca.pem", "x")]).unwrap().tls.is_empty());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (explicit, files, message) in [
            (Some("far"), vec![], "there is no Docker context `far`"),
            (None, vec![CURRENT], "there is no Docker context `far`"),
            (
                None,
                vec![("/h/.docker/config.json", "{")],
                "`/h/.docker/config.json` is not what Docker writes",
            ),
            (
                None,
                vec![("/h/.docker/config.json", "DENIED")],
                "`/h/.docker/config.json` cannot be read",
            ),
            (Some("far"), vec![(META, "{}")], "the Docker context `far` names no Docker Engine"),
            (
                Some("far"),
                vec![(META, r#"{"Endpoints":{"docker":{"Host":"npipe:////./x"}}}"#)],
                "the Docker context `far`: a Docker Engine cannot be reached by `npipe://`",
            ),
            (
                Some("far"),
                vec![(META, r#"{"Endpoints":{"docker":{"Host":"tcp://x","SkipTLSVerify":true}}}"#)],
                "the Docker context `far` asks to skip",
            ),
        ] {
            let error = resolve(&settings(), explicit, &files).unwrap_err();
            assert!(error.to_string().starts_with(message), "{error}");
            assert!(!error.fix().is_empty());
        }
        let bad = Settings { host: Some("docker.sock".to_owned()), ..settings() };
        assert!(resolve(&bad, None, &[]).unwrap_err().to_string().starts_with("`DOCKER_HOST`: "));
    }
}
