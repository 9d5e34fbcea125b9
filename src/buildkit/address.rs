//! Where a builder is, as `--builder`, `BUILDKIT_HOST` and a Docker context say it.

use crate::{
    engine::{Endpoint, EndpointError},
    transport::{HostPort, PlaceError, SshTarget},
};
use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};
use thiserror::Error;
use url::form_urlencoded;

/// A builder's address. Its text form is what users write, and parses back to the same value.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Address {
    /// `docker://`, `docker:///path/docker.sock`, `docker://host:port`,
    /// `docker+ssh://[user@]host[:port]`, `docker://?context=NAME`: the BuildKit inside a Docker
    /// Engine.
    Docker(Docker),
    /// `docker-container://CONTAINER[?context=NAME]`: buildkitd in a container of a Docker Engine.
    DockerContainer {
        /// The container's name or id.
        container: String,
        /// The Docker context whose Engine runs it, where it is not the current one.
        context: Option<String>,
    },
    /// `kube-pod://POD[?context=…&namespace=…&container=…&kubeconfig=…]`: buildkitd in a pod.
    KubePod(KubePod),
    /// `podman-container://CONTAINER`: buildkitd in a container of Podman.
    PodmanContainer {
        /// The container's name or id.
        container: String,
    },
    /// `ssh://[user@]host[:port][/socket]`: buildkitd on a machine where `buildctl` is installed.
    Ssh {
        /// Where to log in.
        target: SshTarget,
        /// buildkitd's socket there, where it is not the one that `buildctl` finds there.
        socket: Option<String>,
    },
    /// `tcp://host:port`, with or without TLS.
    Tcp(HostPort),
    /// `unix:///path/buildkitd.sock`.
    Unix(PathBuf),
}

/// Which Docker Engine.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Docker {
    /// The Engine that listens there.
    At(Endpoint),
    /// The Engine of a Docker context.
    Context(String),
    /// The one that `docker` itself would speak to.
    Default,
}

/// A pod with a buildkitd in it.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct KubePod {
    /// The pod's name.
    pub pod: String,
    /// Its namespace, where it is not the kubeconfig's.
    pub namespace: Option<String>,
    /// The kubeconfig's context, where it is not the current one.
    pub context: Option<String>,
    /// The container in the pod, where there are several.
    pub container: Option<String>,
    /// The kubeconfig's path, where it is not the usual one.
    pub kubeconfig: Option<PathBuf>,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        let wrong = |problem| AddressError { given: redacted(text), problem };
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(wrong(Problem::of_text_without_scheme(text)));
        };
        let place = |source| wrong(Problem::Place(source));
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) if scheme != "unix" => (rest, query),
            _ => (rest, ""),
        };
        let parameters = Parameters::parse(query);
        let address = match scheme {
            "docker" if rest.is_empty() => {
                parameters.only(&["context"]).map_err(wrong)?;
                match parameters.get("context") {
                    Some(context) => Self::Docker(Docker::Context(context)),
                    None => Self::Docker(Docker::Default),
                }
            }
            "docker" if rest.starts_with('/') => {
                parameters.only(&[]).map_err(wrong)?;
                Self::Docker(Docker::At(Endpoint::Unix(PathBuf::from(rest))))
            }
            "docker" => {
                parameters.only(&[]).map_err(wrong)?;
                let place_of = HostPort::parse(rest.trim_end_matches('/'), None).map_err(place)?;
                Self::Docker(Docker::At(Endpoint::Tcp(place_of)))
            }
            "docker+ssh" => {
                parameters.only(&[]).map_err(wrong)?;
                let endpoint = format!("ssh://{rest}").parse().map_err(|error| match error {
                    EndpointError::Place { source, .. } => place(source),
                    _ => wrong(Problem::Place(PlaceError::Host)),
                })?;
                Self::Docker(Docker::At(endpoint))
            }
            "docker-container" => {
                parameters.only(&["context"]).map_err(wrong)?;
                let container = container(rest).map_err(wrong)?;
                Self::DockerContainer { container, context: parameters.get("context") }
            }
            "kube-pod" => {
                parameters
                    .only(&["context", "namespace", "container", "kubeconfig"])
                    .map_err(wrong)?;
                Self::KubePod(kube_pod(rest, &parameters).map_err(wrong)?)
            }
            "podman-container" => {
                parameters.only(&[]).map_err(wrong)?;
                Self::PodmanContainer { container: container(rest).map_err(wrong)? }
            }
            "ssh" => {
                parameters.only(&[]).map_err(wrong)?;
                let (target, socket) = match rest.split_once('/') {
                    Some((target, "")) => (target, None),
                    Some((target, path)) => (target, Some(format!("/{path}"))),
                    None => (rest, None),
                };
                Self::Ssh { target: target.parse().map_err(place)?, socket }
            }
            "tcp" => {
                parameters.only(&[]).map_err(wrong)?;
                Self::Tcp(rest.trim_end_matches('/').parse().map_err(place)?)
            }
            "unix" if rest.starts_with('/') => Self::Unix(PathBuf::from(rest)),
            "unix" => return Err(wrong(Problem::RelativeSocket)),
            _ => return Err(wrong(Problem::Scheme { scheme: scheme.to_owned() })),
        };
        Ok(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Docker(Docker::Default) => formatter.write_str("docker://"),
            Self::Docker(Docker::Context(context)) => {
                write!(formatter, "docker://{}", query(&[("context", Some(context))]))
            }
            Self::Docker(Docker::At(Endpoint::Unix(path))) => {
                write!(formatter, "docker://{}", path.display())
            }
            Self::Docker(Docker::At(Endpoint::Tcp(place))) => write!(formatter, "docker://{place}"),
            Self::Docker(Docker::At(ssh @ Endpoint::Ssh { .. })) => {
                write!(formatter, "docker+{ssh}")
            }
            Self::DockerContainer { container, context } => write!(
                formatter,
                "docker-container://{container}{}",
                query(&[("context", context.as_deref())])
            ),
            Self::KubePod(pod) => {
                let kubeconfig = pod.kubeconfig.as_deref().map(Path::to_string_lossy);
                let query = query(&[
                    ("context", pod.context.as_deref()),
                    ("namespace", pod.namespace.as_deref()),
                    ("container", pod.container.as_deref()),
                    ("kubeconfig", kubeconfig.as_deref()),
                ]);
                write!(formatter, "kube-pod://{}{query}", pod.pod)
            }
            Self::PodmanContainer { container } => {
                write!(formatter, "podman-container://{container}")
            }
            Self::Ssh { target, socket } => {
                write!(formatter, "ssh://{target}{}", socket.as_deref().unwrap_or_default())
            }
            Self::Tcp(place) => write!(formatter, "tcp://{place}"),
            Self::Unix(path) => write!(formatter, "unix://{}", path.display()),
        }
    }
}

impl Address {
    /// Whether blobs from there cross a network to reach us: then the builder had better push.
    pub fn is_remote(&self) -> bool {
        match self {
            Self::Docker(Docker::At(Endpoint::Unix(_)) | Docker::Default)
            | Self::PodmanContainer { .. }
            | Self::Unix(_) => false,
            Self::Docker(Docker::At(Endpoint::Tcp(place))) | Self::Tcp(place) => {
                !place.is_loopback()
            }
            Self::DockerContainer { context, .. } => context.is_some(),
            Self::Docker(Docker::At(Endpoint::Ssh { .. }) | Docker::Context(_))
            | Self::KubePod(_)
            | Self::Ssh { .. } => true,
        }
    }
}

/// A text that is no builder's address.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("`{given}` is not a builder's address: {problem}")]
pub struct AddressError {
    /// The text, less any password in it.
    pub given: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with an address.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum Problem {
    /// The container's name is missing or cannot be one.
    #[error(
        "a container's name has only letters, digits and `_.-`, and begins with neither `.` nor `-`"
    )]
    Container,
    /// There is nothing.
    #[error("it is empty")]
    Empty,
    /// A name for Kubernetes is missing or cannot be one.
    #[error("the {what} is not a name that Kubernetes gives")]
    KubeName {
        /// `pod`, `namespace` or `container`.
        what: &'static str,
    },
    /// It has no scheme.
    #[error("it has no scheme")]
    NoScheme {
        /// What was probably meant.
        meant: Option<String>,
    },
    /// A query parameter that this kind of address does not have.
    #[error("it has no parameter `{name}`")]
    Parameter {
        /// The parameter.
        name: String,
        /// Those that it has.
        known: &'static [&'static str],
    },
    /// The host or port is wrong.
    #[error(transparent)]
    Place(PlaceError),
    /// The path of the socket is relative.
    #[error("the path of the socket is not absolute")]
    RelativeSocket,
    /// The scheme is unknown.
    #[error("there is no scheme `{scheme}`")]
    Scheme {
        /// The scheme.
        scheme: String,
    },
}

/// Every form of address, for messages.
const FORMS: &str = "`unix:///path`, `tcp://host:port`, `docker://`, `ssh://user@host`, \
                     `docker-container://name`, `podman-container://name` or `kube-pod://pod`";

impl AddressError {
    /// What to write instead.
    pub fn fix(&self) -> String {
        match &self.problem {
            Problem::Container => {
                "write `docker-container://NAME`, with the name that `docker ps` \
                                   shows"
                    .to_owned()
            }
            Problem::KubeName { .. } => {
                "write `kube-pod://POD?namespace=NAMESPACE&container=CONTAINER`".to_owned()
            }
            Problem::NoScheme { meant: Some(meant) } => format!("write `{meant}`"),
            Problem::Parameter { known: [], .. } => "leave out all that follows the `?`".to_owned(),
            Problem::Parameter { known, .. } => {
                format!("it takes `{}`", known.join("`, `"))
            }
            Problem::Place(PlaceError::NoPort) => {
                "add the port: buildkitd's is often 1234, Docker's 2375, or 2376 with TLS"
                    .to_owned()
            }
            Problem::Place(PlaceError::Password) => {
                "leave the password out, and give ssh a key".to_owned()
            }
            Problem::RelativeSocket => {
                "write three slashes and the whole path: `unix:///run/buildkit/buildkitd.sock`"
                    .to_owned()
            }
            Problem::Scheme { scheme } if scheme == "npipe" => {
                "named pipes are Windows' own: write `tcp://host:port` or `ssh://user@host`"
                    .to_owned()
            }
            Problem::Scheme { scheme } if matches!(scheme.as_str(), "http" | "https" | "grpc") => {
                "write `tcp://host:port` (TLS comes with `--tlscacert`, `--tlscert`, `--tlskey`)"
                    .to_owned()
            }
            Problem::Empty
            | Problem::NoScheme { .. }
            | Problem::Place(_)
            | Problem::Scheme { .. } => format!("write {FORMS}"),
        }
    }
}

impl Problem {
    fn of_text_without_scheme(text: &str) -> Self {
        if text.is_empty() {
            return Self::Empty;
        }
        let meant = if text.starts_with('/') {
            Some(format!("unix://{text}"))
        } else if text.parse::<HostPort>().is_ok() {
            Some(format!("tcp://{text}"))
        } else {
            None
        };
        Self::NoScheme { meant }
    }
}

/// `text` without what stands before an `@` after a `:`, which may be a password.
fn redacted(text: &str) -> String {
    let (head, rest) = text.split_once("://").map_or(("", text), |(head, rest)| (head, rest));
    let Some((user, place)) = rest.rsplit_once('@') else { return text.to_owned() };
    let user = match user.split_once(':') {
        Some((user, _)) => format!("{user}:…"),
        None => user.to_owned(),
    };
    if head.is_empty() { format!("{user}@{place}") } else { format!("{head}://{user}@{place}") }
}

struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn parse(query: &str) -> Self {
        Self(form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    fn only(&self, known: &'static [&'static str]) -> Result<(), Problem> {
        match self.0.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            Some((name, _)) => Err(Problem::Parameter { name: name.clone(), known }),
            None => Ok(()),
        }
    }

    fn get(&self, name: &str) -> Option<String> {
        let value = self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value);
        value.filter(|value| !value.is_empty()).cloned()
    }
}

fn query(parameters: &[(&str, Option<&str>)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in parameters {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    let query = query.finish();
    if query.is_empty() { query } else { format!("?{query}") }
}

fn container(text: &str) -> Result<String, Problem> {
    let name = text.strip_suffix('/').unwrap_or(text);
    let good = name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if good { Ok(name.to_owned()) } else { Err(Problem::Container) }
}

fn kube_pod(text: &str, parameters: &Parameters) -> Result<KubePod, Problem> {
    let name = |what, name: String| {
        let good = name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c));
        if good { Ok(name) } else { Err(Problem::KubeName { what }) }
    };
    let optional = |what| parameters.get(what).map(|value| name(what, value)).transpose();
    Ok(KubePod {
        pod: name("pod", text.strip_suffix('/').unwrap_or(text).to_owned())?,
        namespace: optional("namespace")?,
        container: optional("container")?,
        context: parameters.get("context"),
        kubeconfig: parameters.get("kubeconfig").map(PathBuf::from),
    })
}

#[cfg(test)]
mod tests {
    use super::{Address, Problem};

    #[test]
    fn addresses_come_back_as_they_went_in() {
        for text in [
            "unix:///run/buildkit/buildkitd.sock",
            "unix:///with space/and?mark",
            "tcp://127.0.0.1:1234",
            "tcp://[::1]:1234",
            "docker://",
            "docker:///var/run/docker.sock",
            "docker://engine:2376",
            "docker://?context=far+away",
            "docker+ssh://ann@host:2222",
            "docker+ssh://ann@host/run/docker.sock",
            "ssh://host",
            "ssh://ann@host:22/run/buildkitd.sock",
            "docker-container://buildx_buildkit_x0",
            "docker-container://b?context=desktop-linux",
            "podman-container://builder",
            "kube-pod://buildkitd-0",
            "kube-pod://b?context=arn%3Aaws%3Aeks%2Fx&namespace=ci&container=buildkitd&kubeconfig=%2Fk",
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
            assert_eq!(address.to_string().parse::<Address>().unwrap(), address);
        }
    }

    #[test]
    fn forms_that_mean_the_same() {
        for (text, shown) in [
            (" tcp://builder:1234/ ", "tcp://builder:1234"),
            ("docker-container://b/", "docker-container://b"),
            ("kube-pod://b?context=arn:aws:eks/x", "kube-pod://b?context=arn%3Aaws%3Aeks%2Fx"),
            ("kube-pod://b?context=&namespace=", "kube-pod://b"),
            ("ssh://host/", "ssh://host"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn wrong_addresses_say_what_and_how_to_mend_it() {
        for (text, message, fix) in [
            (
                "",
                "`` is not a builder's address: it is empty",
                "write `unix:///path`, `tcp://host:port`",
            ),
            ("/run/b.sock", "it has no scheme", "write `unix:///run/b.sock`"),
            ("builder:1234", "it has no scheme", "write `tcp://builder:1234`"),
            ("builder", "it has no scheme", "write `unix:///path`, `tcp://host:port`"),
            ("unix://run/b.sock", "the path of the socket is not absolute", "write three slashes"),
            ("tcp://builder", "it names no port", "add the port"),
            ("tcp://builder:1234/path", "the port is not a number", "write `unix:///path`"),
            ("https://builder:1234", "there is no scheme `https`", "write `tcp://host:port` (TLS"),
            ("npipe:////./pipe/x", "there is no scheme `npipe`", "named pipes are Windows' own"),
            (
                "docker-container://",
                "a container's name has only",
                "write `docker-container://NAME`",
            ),
            (
                "docker-container://--privileged",
                "a container's name has only",
                "write `docker-container://NAME`",
            ),
            (
                "podman-container://a b",
                "a container's name has only",
                "write `docker-container://NAME`",
            ),
            ("kube-pod://", "the pod is not a name", "write `kube-pod://POD?namespace"),
            (
                "kube-pod://b?namespace=A",
                "the namespace is not a name",
                "write `kube-pod://POD?namespace",
            ),
            (
                "kube-pod://b?name=x",
                "it has no parameter `name`",
                "it takes `context`, `namespace`, `container`, `kubeconfig`",
            ),
            ("ssh://host?x=y", "it has no parameter `x`", "leave out all that follows"),
            ("ssh://-oProxyCommand=x", "the host name is not one", "write `unix:///path`"),
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.to_string().contains(message), "{text}: {error}");
            assert!(error.fix().starts_with(fix), "{text}: {}", error.fix());
        }
    }

    #[test]
    fn passwords_are_not_repeated() {
        for text in
            ["ssh://ann:hunter2@host", "docker+ssh://ann:hunter2@host", "http://ann:hunter2@host:1"]
        {
            let error = text.parse::<Address>().unwrap_err();
            assert!(!format!("{error} {error:?} {}", error.fix()).contains("hunter2"), "{error}");
        }
        let error = "ssh://ann:hunter2@host".parse::<Address>().unwrap_err();
        assert_eq!(error.given, "ssh://ann:…@host");
        assert!(matches!(error.problem, Problem::Place(_)));
    }

    #[test]
    fn which_builders_are_far_away() {
        for (text, remote) in [
            ("unix:///run/b.sock", false),
            ("docker://", false),
            ("tcp://127.0.0.1:1", false),
            ("tcp://[::1]:1", false),
            ("tcp://builder:1", true),
            ("ssh://builder", true),
            ("kube-pod://b", true),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().is_remote(), remote, "{text}");
        }
    }
}
