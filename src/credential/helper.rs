//! Docker's credential helpers: `docker-credential-NAME get`, a registry on stdin, JSON on stdout.

use super::{
    Credentials, Kind, Origin, RegistryHost, Secret,
    envelope::printable,
    program::{Runner, Said, Unsaid},
};
use serde::Deserialize;
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

/// A helper may ask its user to unlock a keychain. BuildKit waits 60 s for our answer, so this is
/// less.
pub(super) const LIMIT: Duration = Duration::from_secs(45);
/// What helpers say, by their protocol, when they know nothing of a registry.
const NOT_FOUND: &str = "credentials not found in native keychain";
/// The user that stands for "the secret is an identity token".
const TOKEN_USER: &str = "<token>";

/// A credential helper by name.
#[derive(Clone, Debug)]
pub struct Helper {
    name: String,
    config: PathBuf,
    runner: Runner,
}

impl Helper {
    /// The helper `docker-credential-{name}`, to be found in `search` (a `PATH`); `config` is the
    /// file that named it.
    pub fn new(
        name: impl Into<String>,
        search: impl Into<OsString>,
        config: impl Into<PathBuf>,
    ) -> Self {
        let search = search.into();
        let runner = Runner { search, hidden: Vec::new(), limit: LIMIT, apart: false };
        Self { name: name.into(), config: config.into(), runner }
    }

    /// Sets how long it may take.
    #[must_use]
    pub fn with_limit(mut self, limit: Duration) -> Self {
        self.runner.limit = limit;
        self
    }

    /// Asks it for the credentials of `host`; `None` if it knows none.
    ///
    /// # Errors
    /// It is not there, cannot be run, fails, takes too long or says what no helper may say.
    pub async fn get(&self, host: &RegistryHost) -> Result<Option<Credentials>, HelperError> {
        let command = format!("docker-credential-{}", self.name);
        let program = self.find(&command).ok_or_else(|| HelperError::Missing {
            command: command.clone(),
            host: host.clone(),
            config: self.config.clone(),
        })?;
        let said = self.runner.ask(&program, &["get".to_owned()], host.server()).await;
        let Said { ok, output, .. } = said.map_err(|unsaid| match unsaid {
            Unsaid::Slow => {
                HelperError::Slow { command: command.clone(), limit: self.runner.limit }
            }
            Unsaid::Unusable(cause) => {
                HelperError::Unusable { command: command.clone(), cause: cause.to_string() }
            }
        })?;
        if ok {
            return parse(&output, &command);
        }
        // By the protocol, a failed helper says why on stdout; there is no secret in that.
        let words = printable(&String::from_utf8_lossy(&output));
        if words.contains(NOT_FOUND) {
            return Ok(None);
        }
        Err(HelperError::Failed { command, words })
    }

    /// The program. A name with a slash in it is no helper.
    fn find(&self, command: &str) -> Option<PathBuf> {
        Path::new(command).file_name().filter(|name| *name == command)?;
        self.runner.find(command)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    secret: Secret,
}

fn parse(output: &[u8], command: &str) -> Result<Option<Credentials>, HelperError> {
    // The JSON error would quote the answer, so it is not kept.
    let answer: Answer = serde_json::from_slice(output)
        .map_err(|_| HelperError::Unreadable { command: command.to_owned() })?;
    if answer.secret.is_empty() {
        return Ok(None);
    }
    let token = answer.username == TOKEN_USER;
    Ok(Some(Credentials {
        username: if token { String::new() } else { answer.username },
        secret: answer.secret,
        kind: if token { Kind::IdentityToken } else { Kind::Password },
        origin: Origin::Helper { command: command.to_owned() },
    }))
}

/// Why a credential helper gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// It ran and failed.
    #[error("the credential helper `{command}` failed: {words}")]
    Failed {
        /// The command.
        command: String,
        /// What it said.
        words: String,
    },
    /// It is not installed.
    #[error(
        "the credential helper `{command}`, which `{}` names for `{host}`, is not on the PATH",
        config.display()
    )]
    Missing {
        /// The command.
        command: String,
        /// The registry.
        host: RegistryHost,
        /// The file that names it.
        config: PathBuf,
    },
    /// It took too long.
    #[error("the credential helper `{command}` gave no answer within {} s", limit.as_secs())]
    Slow {
        /// The command.
        command: String,
        /// How long it had.
        limit: Duration,
    },
    /// It answered something else than credentials.
    #[error("the credential helper `{command}` answered something else than credentials in JSON")]
    Unreadable {
        /// The command.
        command: String,
    },
    /// It could not be run.
    #[error("the credential helper `{command}` cannot be run: {cause}")]
    Unusable {
        /// The command.
        command: String,
        /// What the system said.
        cause: String,
    },
}

impl HelperError {
    /// What the user can do about it, in one line.
    pub fn hint(&self) -> String {
        match self {
            Self::Missing { command, config, .. } => format!(
                "install `{command}`, or take `credsStore`/`credHelpers` out of `{}` and run \
                 `docker login` again",
                config.display()
            ),
            Self::Failed { command, .. }
            | Self::Slow { command, .. }
            | Self::Unreadable { command }
            | Self::Unusable { command, .. } => {
                format!("run `echo HOST | {command} get` with the registry as HOST to see why")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Helper, HelperError};
    use crate::credential::{Kind, RegistryHost};
    use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};
    use tempfile::TempDir;

    fn helper(script: &str) -> (TempDir, Helper) {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("docker-credential-probe");
        // Written by a child: a file that this process has open for writing cannot be run, and
        // another test's fork may hold it open.
        let status = std::process::Command::new("/bin/sh")
            .args(["-c", "cat > \"$0\"; chmod 755 \"$0\""])
            .arg(&program)
            .stdin({
                let source = directory.path().join("script");
                fs::write(&source, format!("#!/bin/sh\n{script}\n")).unwrap();
                fs::File::open(source).unwrap()
            })
            .status()
            .unwrap();
        assert!(status.success());
        assert_eq!(fs::metadata(&program).unwrap().permissions().mode() & 0o777, 0o755);
        let search = format!("{}:/usr/bin:/bin", directory.path().display());
        (directory, Helper::new("probe", search, "/config.json"))
    }

    fn host() -> RegistryHost {
        RegistryHost::new("ghcr.io")
    }

    #[tokio::test]
    async fn is_asked_for_the_registry_and_believed() {
        let (_directory, helper) = helper(
            r#"read server; [ "$1" = get ] && [ -z "$BK_SYNC_REGISTRY_PASSWORD" ] &&
               printf '{"ServerURL":"%s","Username":"joe","Secret":"p\\u0077-%s"}' "$server" "$server""#,
        );
        let found = helper.get(&host()).await.unwrap().unwrap();
        assert_eq!((found.username.as_str(), found.kind), ("joe", Kind::Password));
        assert_eq!(found.secret.expose_str(), Some("pw-ghcr.io"));
        let hub = helper.get(&RegistryHost::new("docker.io")).await.unwrap().unwrap();
        assert_eq!(hub.secret.expose_str(), Some("pw-https://index.docker.io/v1/"));
    }

    #[tokio::test]
    async fn the_token_user_means_an_identity_token() {
        let (_directory, helper) = helper(r#"echo '{"Username":"<token>","Secret":"t"}'"#);
        let found = helper.get(&host()).await.unwrap().unwrap();
        assert_eq!((found.username.as_str(), found.kind), ("", Kind::IdentityToken));
    }

    #[tokio::test]
    async fn knowing_nothing_is_no_failure() {
        let (_directory, helper) =
            helper("echo 'credentials not found in native keychain'; exit 1");
        assert!(helper.get(&host()).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_failure_is_told_in_its_own_words() {
        let (_directory, helper) = helper("printf 'vault is \\033[31mlocked\\n'; exit 1");
        let error = helper.get(&host()).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the credential helper `docker-credential-probe` failed: vault is [31mlocked"
        );
    }

    #[tokio::test]
    async fn an_unreadable_answer_is_never_shown() {
        let (_directory, helper) = helper(r#"echo '{"Username":1,"Secret":"hunter2"}'"#);
        let error = helper.get(&host()).await.unwrap_err();
        assert!(matches!(error, HelperError::Unreadable { .. }));
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }

    #[tokio::test]
    async fn one_that_hangs_is_killed_at_the_limit() {
        let (directory, helper) = helper("echo $$ > \"$(dirname \"$0\")/pid\"; exec sleep 600");
        let error = helper.with_limit(Duration::from_millis(500)).get(&host()).await.unwrap_err();
        assert!(matches!(error, HelperError::Slow { .. }));
        let pid = fs::read_to_string(directory.path().join("pid")).unwrap();
        let process = Path::new("/proc").join(pid.trim());
        let gone =
            || fs::read_to_string(process.join("stat")).map_or(true, |stat| stat.contains(") Z "));
        for _ in 0..100 {
            if gone() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the helper still runs");
    }

    #[tokio::test]
    async fn a_missing_helper_is_named_with_its_mend() {
        let missing = Helper::new("desktop", "/nonexistent", "/home/joe/.docker/config.json");
        let error = missing.get(&host()).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the credential helper `docker-credential-desktop`, which \
             `/home/joe/.docker/config.json` names for `ghcr.io`, is not on the PATH"
        );
        assert!(error.hint().starts_with("install `docker-credential-desktop`, or take"));
    }

    #[tokio::test]
    async fn a_name_with_a_slash_runs_nothing() {
        let helper = Helper::new("x/../../../bin/sh", "/bin", "/config.json");
        assert!(matches!(helper.get(&host()).await.unwrap_err(), HelperError::Missing { .. }));
    }
}
