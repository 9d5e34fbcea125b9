//! Why a cluster cannot be spoken to.

use kube::config::KubeconfigError;
use std::path::PathBuf;

/// Why a cluster cannot be spoken to. Nothing was sent to it yet.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// No client can be made of what the kubeconfig says.
    #[error("no connection to {server} can be made: {source}")]
    Client {
        /// The API server.
        server: String,
        /// Why.
        #[source]
        source: kube::Error,
    },
    /// We run in a pod whose service account cannot be used.
    #[error("the pod's service account cannot be used: {cause}")]
    InCluster {
        /// Why.
        cause: String,
    },
    /// The context cannot be used: its cluster or user is missing, or a plugin failed.
    #[error("the context `{context}` of {} cannot be used: {source}", list(paths))]
    Invalid {
        /// The context.
        context: String,
        /// The kubeconfig's files.
        paths: Vec<PathBuf>,
        /// Why.
        #[source]
        source: Box<KubeconfigError>,
    },
    /// The kubeconfig has no context of that name.
    #[error("{} has no context `{name}`; it has {}", list(paths), names(known))]
    NoContext {
        /// The context that was asked for.
        name: String,
        /// Those that there are.
        known: Vec<String>,
        /// The kubeconfig's files.
        paths: Vec<PathBuf>,
    },
    /// No context was asked for and none is current.
    #[error("{} names no current context; it has {}", list(paths), names(known))]
    NoCurrentContext {
        /// Those that there are.
        known: Vec<String>,
        /// The kubeconfig's files.
        paths: Vec<PathBuf>,
    },
    /// There is no kubeconfig, and we run in no pod.
    #[error("no cluster is known: there is no kubeconfig{}", tried_at(tried))]
    NoKubeconfig {
        /// Where one was looked for.
        tried: Vec<PathBuf>,
    },
    /// The kubeconfig cannot be read or is none.
    #[error("the kubeconfig `{}` cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<KubeconfigError>,
    },
}

impl AccessError {
    /// What to do about it.
    pub fn fix(&self) -> &'static str {
        match self {
            Self::Client { .. } | Self::Invalid { .. } => {
                "see whether `kubectl get namespaces` works with the same context"
            }
            Self::InCluster { .. } => {
                "give the pod a service account, or name a kubeconfig with `--kubeconfig`"
            }
            Self::NoContext { .. } | Self::NoCurrentContext { .. } => {
                "name one of them with `--context`"
            }
            Self::NoKubeconfig { .. } => {
                "name one with `--kubeconfig FILE` or the variable `KUBECONFIG`"
            }
            Self::Unreadable { .. } => {
                "name a kubeconfig that can be read with `--kubeconfig FILE`"
            }
        }
    }
}

/// What the API server, or who stands in for it, said: its own words where there are some.
pub fn api_words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        kube::Error::Api(status) => format!("{} (status {})", status.reason, status.code),
        other => {
            let mut words = Vec::new();
            let mut next: Option<&dyn std::error::Error> = Some(other);
            while let Some(error) = next {
                words.push(error.to_string());
                next = error.source();
            }
            // The innermost knows what happened; the outer ones only who noticed.
            words.pop().unwrap_or_default()
        }
    }
}

/// Whether the API server was reached at all, whatever it answered.
pub fn reaches_server(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(_) | kube::Error::SerdeError(_))
}

fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths.iter().map(|path| format!("`{}`", path.display())).collect();
    if paths.is_empty() { "the kubeconfig".to_owned() } else { paths.join(", ") }
}

fn tried_at(paths: &[PathBuf]) -> String {
    if paths.is_empty() { String::new() } else { format!(" at {}", list(paths)) }
}

fn names(known: &[String]) -> String {
    if known.is_empty() {
        return "none".to_owned();
    }
    let known: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
    known.join(", ")
}
