//! The one place that reads the process's environment.

use crate::credential::{PASSWORD_VARIABLE, Secret};
use std::{collections::BTreeMap, ffi::OsString, path::PathBuf};

/// The variables that mean something to bk-sync, with what they mean. `--help` shows this table.
/// Besides these, `--build-arg NAME`, `--secret env=NAME` and `{env.NAME}` read what they name.
pub const VARIABLES: [(&str, &str); 32] = [
    ("BK_SYNC_BUILDER", "the builder's address, where `--builder` is not given"),
    ("BUILDKIT_HOST", "the same, as buildctl reads it"),
    ("DOCKER_HOST", "the Docker to use where no builder is named"),
    ("DOCKER_CONTEXT", "the Docker context to use instead of the current one"),
    ("DOCKER_CONFIG", "the directory of Docker's config, else `~/.docker`"),
    ("DOCKER_CERT_PATH", "certificates for a `tcp://` Docker"),
    ("DOCKER_TLS_VERIFY", "use TLS for a `tcp://` Docker"),
    ("BK_SYNC_REGISTRY_USERNAME", "the user for the registry that is pushed to"),
    (PASSWORD_VARIABLE, "that user's password or token"),
    ("BK_SYNC_REGISTRY_CA", "a file of certificates of registries' authorities, in PEM"),
    ("BK_SYNC_REGISTRY_INSECURE", "registries that may be spoken to without TLS, comma-separated"),
    ("BK_SYNC_REGISTRY_MIRRORS", "where to read first, as `REGISTRY=MIRROR`, comma-separated"),
    ("BUILDKIT_PROGRESS", "what `--progress` is where it is not given"),
    (
        "DOCKER_DEFAULT_PLATFORM",
        "the platform, where neither `--platform` nor the config names one",
    ),
    ("SOURCE_DATE_EPOCH", "the build argument of that name, where it is not given"),
    ("BUILDX_NO_DEFAULT_ATTESTATIONS", "no provenance where nobody asks for it"),
    (
        "BUILDX_METADATA_PROVENANCE",
        "`min`, `max` or `disabled`: what `--metadata-file` tells of it",
    ),
    ("BUILDX_METADATA_WARNINGS", "tell `--metadata-file` of the build's warnings"),
    ("BUILDX_GIT_INFO", "`false` to keep the commit out of the provenance"),
    ("BUILDX_GIT_LABELS", "`1` or `full`: label the image with the commit"),
    ("BUILDX_GIT_CHECK_DIRTY", "mark a commit with changes as `-dirty` there"),
    ("EXPERIMENTAL_BUILDKIT_SOURCE_POLICY", "what `--source-policy` is where it is not given"),
    ("ACTIONS_RUNTIME_TOKEN", "with `ACTIONS_RESULTS_URL`, what caches of type `gha` need"),
    ("AWS_ACCESS_KEY_ID", "with `AWS_SECRET_ACCESS_KEY`, what caches of type `s3` need"),
    ("BK_SYNC_LOG", "what to log to stderr, as tracing filters are written"),
    ("KUBECONFIG", "kubeconfigs for `rollout`, `rollback` and `status`, else `~/.kube/config`"),
    ("SSH_AUTH_SOCK", "the agent that `--ssh default` forwards"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "send traces there, as OTLP over HTTP in JSON"),
    ("OTEL_EXPORTER_OTLP_HEADERS", "headers for it, as NAME=VALUE,NAME=VALUE"),
    ("TRACEPARENT", "the trace that ours belongs to"),
    ("NO_COLOR", "no colours, where it is set and not empty"),
    ("TERM", "`dumb` for no colours and no redrawing"),
];

/// The environment of this process, or a fixed one.
#[derive(Clone, Debug)]
pub struct Environment(Source);

#[derive(Clone)]
enum Source {
    Process,
    Fixed(BTreeMap<String, OsString>),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values may be secrets.
        formatter.write_str(match self {
            Self::Process => "Process",
            Self::Fixed(_) => "Fixed",
        })
    }
}

impl Environment {
    /// The environment of this process.
    pub fn process() -> Self {
        Self(Source::Process)
    }

    /// An environment that holds nothing but `variables`.
    pub fn fixed<N: Into<String>, V: Into<OsString>>(
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let variables = variables.into_iter();
        Self(Source::Fixed(variables.map(|(name, value)| (name.into(), value.into())).collect()))
    }

    /// A variable as it is.
    pub fn raw(&self, name: &str) -> Option<OsString> {
        // The lookup of a name that no variable can have is undefined for the system's function.
        if name.is_empty() || name.contains(['=', '\0']) {
            return None;
        }
        match &self.0 {
            #[expect(clippy::disallowed_methods, reason = "this is that one place")]
            Source::Process => std::env::var_os(name),
            Source::Fixed(variables) => variables.get(name).cloned(),
        }
    }

    /// A variable's text. None where it is not set or no text.
    pub fn text(&self, name: &str) -> Option<String> {
        self.raw(name)?.into_string().ok()
    }

    /// A variable's text. None where it is empty, too.
    pub fn non_empty(&self, name: &str) -> Option<String> {
        self.text(name).filter(|text| !text.is_empty())
    }

    /// A variable's path. None where it is empty.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.raw(name).filter(|value| !value.is_empty()).map(PathBuf::from)
    }

    /// A variable whose value nobody may see.
    pub fn secret(&self, name: &str) -> Option<Secret> {
        self.raw(name)
            .filter(|value| !value.is_empty())
            .map(|value| Secret::new(value.into_encoded_bytes()))
    }

    /// The user's home directory.
    pub fn home(&self) -> Option<PathBuf> {
        self.path("HOME")
    }
}

/// The table of variables, as `--help` shows it.
pub(super) fn help() -> String {
    let width = VARIABLES.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let lines: Vec<_> =
        VARIABLES.iter().map(|(name, text)| format!("  {name:width$}  {text}")).collect();
    format!("Environment:\n{}", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::Environment;

    #[test]
    fn empty_is_not_set_where_that_is_asked() {
        let environment = Environment::fixed([("A", ""), ("B", "b")]);
        assert_eq!(environment.text("A").as_deref(), Some(""));
        assert_eq!(environment.non_empty("A"), None);
        assert_eq!(environment.non_empty("B").as_deref(), Some("b"));
        assert_eq!(environment.text("A=B"), None);
        assert!(!format!("{environment:?}").contains('b'.to_string().repeat(2).as_str()));
    }
}
