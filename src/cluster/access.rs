//! Which cluster is meant and as whom, by kubectl's rules: a kubeconfig with its contexts, exec
//! plugins, certificates and tokens, or the service account of the pod that we run in.

use super::AccessError;
use http::{HeaderValue, header};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use std::{
    ffi::{OsStr, OsString},
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

/// Where a pod finds its service account.
const SERVICE_ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// What we call ourselves.
const AGENT: &str = concat!("bk-sync/", env!("CARGO_PKG_VERSION"));
/// How long a TCP connection to the API server may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What decides which cluster is meant. Nothing here is looked up: who calls says it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AccessSettings {
    /// `--kubeconfig`: this file and no other.
    pub kubeconfig: Option<PathBuf>,
    /// The variable `KUBECONFIG`: a list of files that are merged.
    pub kubeconfig_list: Option<OsString>,
    /// The home directory, for `~/.kube/config`.
    pub home: Option<PathBuf>,
    /// `--context`, else the kubeconfig's current one.
    pub context: Option<String>,
    /// `-n/--namespace`, else the context's, else `default`.
    pub namespace: Option<String>,
    /// `--as`: the user to act as.
    pub impersonate: Option<String>,
    /// `--as-group`: the groups to act as.
    pub impersonate_groups: Vec<String>,
}

/// A cluster that we may speak to. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    /// The client; every call of it goes to one API server as one user.
    pub client: Client,
    /// The namespace that holds where nothing else is said.
    pub namespace: String,
    /// The kubeconfig's context; none inside a pod.
    pub context: Option<String>,
    /// The API server's address, for people.
    pub server: String,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Cluster")
            .field("server", &self.server)
            .field("context", &self.context)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// Reads what is needed to speak to the cluster. Nothing is sent before the first call, but an
    /// exec plugin of the kubeconfig may run.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub async fn connect(settings: &AccessSettings) -> Result<Self, AccessError> {
        let (mut config, context) = match kubeconfig(settings)? {
            Some((kubeconfig, paths)) => from_kubeconfig(kubeconfig, &paths, settings).await?,
            None if Path::new(SERVICE_ACCOUNT_TOKEN).exists() => {
                let config = Config::incluster()
                    .map_err(|source| AccessError::InCluster { cause: source.to_string() })?;
                (config, None)
            }
            None => return Err(AccessError::NoKubeconfig { tried: candidates(settings) }),
        };
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        // Who reads the API server's audit log finds us in it.
        config.headers.push((header::USER_AGENT, HeaderValue::from_static(AGENT)));
        if let Some(user) = &settings.impersonate {
            config.auth_info.impersonate = Some(user.clone());
        }
        if !settings.impersonate_groups.is_empty() {
            config.auth_info.impersonate_groups = Some(settings.impersonate_groups.clone());
        }
        if let Some(namespace) = &settings.namespace {
            config.default_namespace.clone_from(namespace);
        }
        let namespace = config.default_namespace.clone();
        let server = config.cluster_url.to_string();
        let server = server.trim_end_matches('/').to_owned();
        let client = Client::try_from(config)
            .map_err(|source| AccessError::Client { server: server.clone(), source })?;
        Ok(Self { client, namespace, context, server })
    }

    /// The same cluster, with another namespace where one is named.
    #[must_use]
    pub fn in_namespace(mut self, namespace: Option<&str>) -> Self {
        if let Some(namespace) = namespace {
            namespace.clone_into(&mut self.namespace);
        }
        self
    }
}

/// The files that a kubeconfig is looked for in.
pub fn candidates(settings: &AccessSettings) -> Vec<PathBuf> {
    if let Some(path) = &settings.kubeconfig {
        return vec![path.clone()];
    }
    let list = settings.kubeconfig_list.as_deref().filter(|list| !list.is_empty());
    match (list, &settings.home) {
        (Some(list), _) => split(list),
        (None, Some(home)) => vec![home.join(".kube/config")],
        (None, None) => Vec::new(),
    }
}

fn split(list: &OsStr) -> Vec<PathBuf> {
    std::env::split_paths(list).filter(|path| !path.as_os_str().is_empty()).collect()
}

/// The kubeconfig and the files that it was merged from; none where there is none. Files of the
/// variable's list may be missing, as kubectl has it; a file that a flag names may not.
fn kubeconfig(
    settings: &AccessSettings,
) -> Result<Option<(Kubeconfig, Vec<PathBuf>)>, AccessError> {
    let mut merged: Option<Kubeconfig> = None;
    let mut read = Vec::new();
    for path in candidates(settings) {
        if settings.kubeconfig.is_none() && !path.exists() {
            continue;
        }
        let unreadable =
            |source| AccessError::Unreadable { path: path.clone(), source: Box::new(source) };
        let next = Kubeconfig::read_from(&path).map_err(unreadable)?;
        merged = Some(match merged {
            Some(merged) => merged.merge(next).map_err(unreadable)?,
            None => next,
        });
        read.push(path);
    }
    Ok(merged.map(|merged| (merged, read)))
}

async fn from_kubeconfig(
    kubeconfig: Kubeconfig,
    paths: &[PathBuf],
    settings: &AccessSettings,
) -> Result<(Config, Option<String>), AccessError> {
    let known: Vec<String> =
        kubeconfig.contexts.iter().map(|context| context.name.clone()).collect();
    let context = settings
        .context
        .clone()
        .or_else(|| kubeconfig.current_context.clone())
        .filter(|context| !context.is_empty());
    match &context {
        Some(name) if !known.contains(name) => {
            return Err(AccessError::NoContext {
                name: name.clone(),
                known,
                paths: paths.to_vec(),
            });
        }
        None if known.is_empty() => {
            return Err(AccessError::NoKubeconfig { tried: paths.to_vec() });
        }
        None => return Err(AccessError::NoCurrentContext { known, paths: paths.to_vec() }),
        Some(_) => {}
    }
    let options = KubeConfigOptions { context: context.clone(), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|source| {
        AccessError::Invalid {
            context: context.clone().unwrap_or_default(),
            paths: paths.to_vec(),
            source: Box::new(source),
        }
    })?;
    Ok((config, context))
}

#[cfg(test)]
mod tests {
    use super::{AccessSettings, Cluster, candidates};
    use crate::cluster::AccessError;
    use std::{io::Write as _, path::PathBuf};

    const KUBECONFIG: &str = "apiVersion: v1
kind: Config
current-context: here
clusters:
- name: c
  cluster: {server: 'https://127.0.0.1:1', insecure-skip-tls-verify: true}
users:
- name: u
  user: {token: a-token}
contexts:
- name: here
  context: {cluster: c, user: u, namespace: shop}
- name: there
  context: {cluster: c, user: u}
";

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn connect(settings: &AccessSettings) -> Result<Cluster, AccessError> {
        drop(rustls::crypto::ring::default_provider().install_default());
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(Cluster::connect(settings))
    }

    #[test]
    fn the_flag_is_stronger_than_the_variable_and_that_than_home() {
        let mut settings =
            AccessSettings { home: Some("/home/ann".into()), ..AccessSettings::default() };
        assert_eq!(candidates(&settings), [PathBuf::from("/home/ann/.kube/config")]);
        settings.kubeconfig_list = Some("/a::/b".into());
        assert_eq!(candidates(&settings), [PathBuf::from("/a"), PathBuf::from("/b")]);
        settings.kubeconfig_list = Some("".into());
        assert_eq!(candidates(&settings), [PathBuf::from("/home/ann/.kube/config")]);
        settings.kubeconfig = Some("/c".into());
        assert_eq!(candidates(&settings), [PathBuf::from("/c")]);
    }

    #[test]
    fn context_and_namespace_are_the_kubeconfigs_unless_they_are_named() {
        let file = file(KUBECONFIG);
        let settings = AccessSettings {
            kubeconfig: Some(file.path().to_owned()),
            ..AccessSettings::default()
        };
        let cluster = connect(&settings).unwrap();
        assert_eq!(
            (cluster.namespace.as_str(), cluster.context.as_deref()),
            ("shop", Some("here"))
        );
        assert_eq!(cluster.server, "https://127.0.0.1:1");
        let there = AccessSettings { context: Some("there".to_owned()), ..settings.clone() };
        assert_eq!(connect(&there).unwrap().namespace, "default");
        let named = AccessSettings { namespace: Some("ci".to_owned()), ..settings };
        assert_eq!(connect(&named).unwrap().namespace, "ci");
    }

    #[test]
    fn what_is_missing_is_named() {
        let file = file(KUBECONFIG);
        let settings = AccessSettings {
            kubeconfig: Some(file.path().to_owned()),
            context: Some("nowhere".to_owned()),
            ..AccessSettings::default()
        };
        let text = connect(&settings).unwrap_err().to_string();
        assert!(text.contains("`nowhere`"), "{text}");
        let settings = AccessSettings {
            kubeconfig: Some("/nonexistent/kubeconfig".into()),
            ..AccessSettings::default()
        };
        let text = connect(&settings).unwrap_err().to_string();
        assert!(text.contains("/nonexistent/kubeconfig"), "{text}");
        let nothing = connect(&AccessSettings::default()).unwrap_err();
        assert!(matches!(nothing, AccessError::NoKubeconfig { .. }), "{nothing}");
    }

    #[test]
    fn files_of_the_list_may_be_missing() {
        let file = file(KUBECONFIG);
        let list = std::env::join_paths(["/nonexistent".as_ref(), file.path()]).unwrap();
        let settings = AccessSettings { kubeconfig_list: Some(list), ..AccessSettings::default() };
        assert_eq!(connect(&settings).unwrap().namespace, "shop");
    }
}
