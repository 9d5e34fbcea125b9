//! Docker's config file as a source of credentials. It is read, never written.

use super::{Credentials, Helper, Kind, Lookup, Origin, Problem, RegistryHost, Secret, Source};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::future::BoxFuture;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};
use zeroize::Zeroizing;

/// What a Docker config says about registries.
#[derive(Debug)]
pub struct DockerConfig {
    path: PathBuf,
    search: OsString,
    file: File,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    #[serde(default)]
    creds_store: String,
}

#[derive(Debug, Default, Deserialize)]
struct Entry {
    #[serde(default)]
    auth: Secret,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: Secret,
    #[serde(default, rename = "identitytoken")]
    identity_token: Secret,
    #[serde(default, rename = "registrytoken")]
    registry_token: Secret,
}

impl DockerConfig {
    /// Reads `config.json` in `directory` (`$DOCKER_CONFIG`, else `~/.docker`); where there is no
    /// such file, the config is empty. Its helpers are looked for in `search`, a `PATH`.
    ///
    /// # Errors
    /// The file cannot be read, or is not a Docker config.
    pub fn load(directory: &Path, search: impl Into<OsString>) -> Result<Self, ConfigError> {
        let path = directory.join("config.json");
        match fs::read(&path).map(Zeroizing::new) {
            Ok(text) => Self::parse(&text, path, search),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(Self { path, search: search.into(), file: File::default() })
            }
            Err(error) => Err(ConfigError::Unreadable { path, cause: error.to_string() }),
        }
    }

    /// Reads a config's text, which came from `path`.
    ///
    /// # Errors
    /// It is not a Docker config.
    pub fn parse(
        text: &[u8],
        path: impl Into<PathBuf>,
        search: impl Into<OsString>,
    ) -> Result<Self, ConfigError> {
        let path = path.into();
        // An editor's byte-order mark and an empty file are no reason to fail.
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let file = if text.trim_ascii().is_empty() {
            File::default()
        } else {
            // The error's own text may quote a password, so only its place is kept.
            serde_json::from_slice(text).map_err(|error| ConfigError::Malformed {
                path: path.clone(),
                line: error.line(),
                column: error.column(),
            })?
        };
        Ok(Self { path, search: search.into(), file })
    }

    /// The helper that is in charge of `host`, if any.
    fn helper(&self, host: &RegistryHost) -> Option<Helper> {
        let name = find(&self.file.cred_helpers, host).unwrap_or(&self.file.creds_store);
        (!name.is_empty()).then(|| Helper::new(name, &self.search, &self.path))
    }

    /// What the file itself holds for `host`.
    fn entry(&self, host: &RegistryHost) -> Option<Credentials> {
        let entry = find(&self.file.auths, host)?;
        let origin = Origin::ConfigFile { path: self.path.clone() };
        let made = |username: String, secret: Secret, kind| {
            (!secret.is_empty()).then_some(Credentials { username, secret, kind, origin })
        };
        if !entry.registry_token.is_empty() {
            return made(String::new(), entry.registry_token.clone(), Kind::RegistryToken);
        }
        if !entry.identity_token.is_empty() {
            return made(String::new(), entry.identity_token.clone(), Kind::IdentityToken);
        }
        match decode(&entry.auth) {
            Some((username, password)) => made(username, password, Kind::Password),
            None => made(entry.username.clone(), entry.password.clone(), Kind::Password),
        }
    }
}

impl Source for DockerConfig {
    /// Asks the helper in charge first. Where it fails or knows nothing, what the file holds is
    /// used: a config copied from a desktop to a server often names a helper that is not there.
    fn lookup<'a>(&'a self, host: &'a RegistryHost) -> BoxFuture<'a, Lookup> {
        Box::pin(async move {
            let mut problems = Vec::new();
            if let Some(helper) = self.helper(host) {
                match helper.get(host).await {
                    Ok(Some(credentials)) => {
                        return Lookup { credentials: Some(credentials), ..Lookup::default() };
                    }
                    Ok(None) => {}
                    Err(error) => problems.push(Arc::new(Problem::Helper(error))),
                }
            }
            Lookup { credentials: self.entry(host), problems, good_for: None }
        })
    }
}

/// The value filed under `host`: under its very name if there is one, else under a URL of it.
fn find<'a, V>(map: &'a BTreeMap<String, V>, host: &RegistryHost) -> Option<&'a V> {
    map.get(host.server())
        .or_else(|| map.get(host.as_str()))
        .or_else(|| map.iter().find(|(key, _)| RegistryHost::new(key) == *host).map(|(_, v)| v))
}

/// `auth` is `user:password` in base64; old clients padded the password with NULs.
fn decode(auth: &Secret) -> Option<(String, Secret)> {
    let plain = Zeroizing::new(STANDARD.decode(auth.expose().trim_ascii()).ok()?);
    let colon = plain.iter().position(|&byte| byte == b':')?;
    let (username, password) = plain.split_at_checked(colon)?;
    let password = password.strip_prefix(b":")?;
    let end = password.iter().rposition(|&byte| byte != 0).map_or(0, |last| last.saturating_add(1));
    Some((
        String::from_utf8(username.to_vec()).ok()?,
        Secret::new(password.get(..end).unwrap_or_default()),
    ))
}

/// Why a Docker config is of no use.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// It is not JSON, or not of a Docker config's shape.
    #[error("`{}`, line {line}, column {column}: not a Docker config", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// It is there and cannot be read.
    #[error("cannot read the Docker config `{}`: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: String,
    },
}

#[cfg(test)]
mod tests {
    use super::{ConfigError, DockerConfig};
    use crate::credential::{Credentials, Kind, Lookup, RegistryHost, Source as _};
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    async fn lookup(text: &str, host: &str) -> Lookup {
        let config = DockerConfig::parse(text.as_bytes(), "/c/config.json", "").unwrap();
        config.lookup(&RegistryHost::new(host)).await
    }

    async fn found(text: &str, host: &str) -> (String, String, Kind) {
        let Credentials { username, secret, kind, origin } =
            lookup(text, host).await.credentials.unwrap();
        assert_eq!(origin.to_string(), "`/c/config.json`");
        (username, secret.expose_str().unwrap().to_owned(), kind)
    }

    fn password(username: &str, password: &str) -> (String, String, Kind) {
        (username.to_owned(), password.to_owned(), Kind::Password)
    }

    #[tokio::test]
    async fn auth_is_user_and_password_in_base64() {
        let auth = STANDARD.encode("joe:p:w\0\0");
        let text = format!(r#"{{"auths":{{"ghcr.io":{{"auth":"{auth}"}}}}}}"#);
        assert_eq!(found(&text, "ghcr.io").await, password("joe", "p:w"));
        assert!(lookup(&text, "quay.io").await.credentials.is_none());
    }

    #[tokio::test]
    async fn urls_as_keys_are_their_hosts_and_an_exact_key_goes_first() {
        let text = r#"{"auths":{
            "https://ghcr.io/v2/":{"username":"url","password":"a"},
            "https://index.docker.io/v1/":{"username":"hub","password":"b"},
            "ghcr.io":{"username":"exact","password":"c"},
            "http://127.0.0.1:5000":{"username":"local","password":"d"}}}"#;
        assert_eq!(found(text, "ghcr.io").await, password("exact", "c"));
        assert_eq!(found(text, "registry-1.docker.io").await, password("hub", "b"));
        assert_eq!(found(text, "127.0.0.1:5000").await, password("local", "d"));
    }

    #[tokio::test]
    async fn tokens_keep_their_kind() {
        let text = r#"{"auths":{
            "a":{"auth":"ZHVtbXk6ZHVtbXk=","identitytoken":"refresh"},
            "b":{"registrytoken":"bearer"}}}"#;
        assert_eq!(found(text, "a").await, (String::new(), "refresh".into(), Kind::IdentityToken));
        assert_eq!(found(text, "b").await, (String::new(), "bearer".into(), Kind::RegistryToken));
    }

    #[tokio::test]
    async fn empty_entries_as_docker_leaves_them_beside_a_store_hold_nothing() {
        let lookup = lookup(r#"{"auths":{"ghcr.io":{}},"other":{"x":1}}"#, "ghcr.io").await;
        assert!(lookup.credentials.is_none() && lookup.problems.is_empty());
    }

    #[tokio::test]
    async fn a_missing_helper_is_a_problem_and_the_files_own_entry_is_used() {
        let text = r#"{"credsStore":"desktop","auths":{"a":{"username":"u","password":"p"}}}"#;
        let known = lookup(text, "a").await;
        assert_eq!(known.credentials.unwrap().username, "u");
        assert!(known.problems[0].to_string().contains("docker-credential-desktop"));
        let unknown = lookup(text, "b").await;
        assert!(unknown.credentials.is_none());
        assert_eq!(unknown.problems.len(), 1);
    }

    #[tokio::test]
    async fn a_registrys_own_helper_goes_before_the_store() {
        let text = r#"{"credsStore":"desktop","credHelpers":{"a":"ecr-login","b":""}}"#;
        assert!(lookup(text, "a").await.problems[0].to_string().contains("ecr-login"));
        assert!(lookup(text, "b").await.problems.is_empty(), "an empty name means no helper");
    }

    #[test]
    fn a_malformed_config_is_named_by_place_and_never_quoted() {
        let text = br#"{"auths":{"a":{"password":12,"auth":"hunter2"}}}"#;
        let error = DockerConfig::parse(text, "/c/config.json", "").unwrap_err();
        assert!(matches!(error, ConfigError::Malformed { line: 1, .. }), "{error}");
        let text = br#"{"auths":"hunter2"}"#;
        let error = DockerConfig::parse(text, "/c/config.json", "").unwrap_err();
        assert!(!format!("{error:?} {error}").contains("hunter2"));
    }

    #[test]
    fn no_config_and_an_empty_one_are_empty() {
        let directory = tempfile::tempdir().unwrap();
        assert!(DockerConfig::load(directory.path(), "").unwrap().file.auths.is_empty());
        std::fs::write(directory.path().join("config.json"), "\n").unwrap();
        assert!(DockerConfig::load(directory.path(), "").unwrap().file.auths.is_empty());
    }

    #[test]
    fn debug_of_a_config_shows_no_secret() {
        let text = br#"{"auths":{"a":{"auth":"aHVudGVyMg==","password":"hunter2"}}}"#;
        let config = DockerConfig::parse(text, "/c", "").unwrap();
        let shown = format!("{config:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("aHVudGVyMg"), "{shown}");
    }
}
