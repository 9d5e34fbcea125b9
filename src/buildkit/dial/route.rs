//! The ways to a builder: each opens a byte stream on which the builder speaks HTTP/2.

use super::{Cause, Options};
use crate::{
    buildkit::address::{Address, Docker, KubePod},
    cluster::{AccessSettings, Cluster, PodVoice},
    engine,
    transport::{
        ByteStream, HostPort, SshTarget,
        child::{LastWords, Program},
        open_tcp, open_unix, tls,
    },
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::OnceCell;

/// A way to a builder, ready to be gone as often as the connection breaks.
#[derive(Clone, Debug)]
pub(super) enum Route {
    /// `buildctl dial-stdio`, where a command can be run.
    Elsewhere(Elsewhere),
    /// `/grpc` of a Docker Engine.
    Engine(engine::Client),
    Tcp {
        place: HostPort,
        tls: Option<tls::Client>,
    },
    Unix(PathBuf),
}

/// A place where commands are run for us, with their stdin and stdout here.
#[derive(Clone, Debug)]
pub(super) enum Elsewhere {
    /// A container of a Docker Engine.
    Container { client: engine::Client, container: String },
    /// A pod of a Kubernetes cluster.
    Pod(Arc<PodRoute>),
    /// A container of Podman's. Its name was checked: it cannot be taken for an option.
    Podman(String),
    /// Another machine; `socket` is buildkitd's, where it is not the one that `buildctl` finds there.
    Ssh { target: SshTarget, socket: Option<String> },
}

impl Elsewhere {
    /// Runs a command there.
    pub(super) async fn run(&self, command: &[&str]) -> Result<Opened, Cause> {
        let (stream, voice) = match self {
            Self::Container { client, container } => {
                let (stream, voice) = client.exec(container, command).await?;
                (stream, Carrier::Exec(voice))
            }
            Self::Pod(pod) => {
                let (stream, voice) = pod.run(command).await?;
                (stream, Carrier::Pod(voice))
            }
            Self::Podman(container) => start(&podman(container, command))?,
            Self::Ssh { target, .. } => start(&target.program(command))?,
        };
        Ok(Opened { stream, voice: Some(voice) })
    }

    /// The command that makes a stream of buildkitd's socket there.
    fn dial_stdio(&self) -> Vec<String> {
        let mut command = vec!["buildctl".to_owned()];
        if let Self::Ssh { socket: Some(path), .. } = self {
            command.extend(["--addr".to_owned(), format!("unix://{path}")]);
        }
        command.push("dial-stdio".to_owned());
        command
    }
}

fn start(program: &Program) -> Result<(ByteStream, Carrier), Cause> {
    let (stream, voice) = program.start()?;
    Ok((stream, Carrier::Child(voice)))
}

/// A way into a pod.
#[derive(Debug)]
pub(super) struct PodRoute {
    access: AccessSettings,
    pod: String,
    container: Option<String>,
    /// The cluster, reached: the kubeconfig is read and its plugins run once.
    cluster: OnceCell<Cluster>,
}

impl PodRoute {
    fn to(pod: &KubePod, usual: &AccessSettings) -> Self {
        Self {
            access: access(pod, usual),
            pod: pod.pod.clone(),
            container: pod.container.clone(),
            cluster: OnceCell::new(),
        }
    }

    async fn run(&self, command: &[&str]) -> Result<(ByteStream, PodVoice), Cause> {
        let reached = self.cluster.get_or_try_init(|| Cluster::connect(&self.access)).await;
        let cluster = reached.map_err(|error| Cause::Pod(error.into()))?;
        Ok(cluster.exec(&self.pod, self.container.as_deref(), command).await?)
    }
}

/// A stream to a builder, and the voice of what carries it.
pub(super) struct Opened {
    pub(super) stream: ByteStream,
    pub(super) voice: Option<Carrier>,
}

/// What carries a stream and can say why it ended.
#[derive(Clone, Debug)]
pub(super) enum Carrier {
    Child(LastWords),
    Exec(engine::ExecVoice),
    Pod(PodVoice),
}

impl Carrier {
    /// What it said last and how it ended, where there is something to tell.
    pub(super) async fn tell(&mut self) -> Option<String> {
        match self {
            Self::Child(words) => words.tell().await,
            Self::Exec(voice) => voice.tell().await,
            Self::Pod(voice) => voice.tell().await,
        }
    }
}

impl Route {
    /// The way to `address`.
    pub(super) fn to(address: &Address, options: &Options) -> Result<Self, Cause> {
        Ok(match address {
            Address::Unix(path) => Self::Unix(path.clone()),
            Address::Tcp(place) => {
                let tls = if options.tls.is_empty() {
                    None
                } else {
                    Some(tls::Client::load(&options.tls, tls::Protocol::Http2)?)
                };
                Self::Tcp { place: place.clone(), tls }
            }
            Address::Docker(docker) => Self::Engine(engine_of(docker, options)?),
            Address::DockerContainer { container, context } => {
                let docker = context.clone().map_or(Docker::Default, Docker::Context);
                let client = engine_of(&docker, options)?;
                Self::Elsewhere(Elsewhere::Container { client, container: container.clone() })
            }
            Address::PodmanContainer { container } => {
                Self::Elsewhere(Elsewhere::Podman(container.clone()))
            }
            Address::KubePod(pod) => {
                let pod = PodRoute::to(pod, &options.cluster);
                Self::Elsewhere(Elsewhere::Pod(Arc::new(pod)))
            }
            Address::Ssh { target, socket } => {
                let (target, socket) = (target.clone(), socket.clone());
                Self::Elsewhere(Elsewhere::Ssh { target, socket })
            }
        })
    }

    /// The Engine at the same place, for a socket that turns out to be one.
    pub(super) fn as_engine(&self, options: &Options) -> Option<Result<engine::Client, Cause>> {
        let endpoint = match self {
            Self::Unix(path) => engine::Endpoint::Unix(path.clone()),
            Self::Tcp { place, .. } => engine::Endpoint::Tcp(place.clone()),
            Self::Elsewhere(_) | Self::Engine(_) => return None,
        };
        Some(engine::Client::new(endpoint, &options.tls).map_err(Cause::from))
    }

    /// The Engine that this way leads through.
    pub(super) fn engine(&self) -> Option<&engine::Client> {
        match self {
            Self::Engine(client) => Some(client),
            _ => None,
        }
    }

    /// Goes it.
    pub(super) async fn open(&self) -> Result<Opened, Cause> {
        let stream = match self {
            Self::Unix(path) => open_unix(path).await?,
            Self::Tcp { place, tls } => {
                let stream = open_tcp(&place.host, place.port).await?;
                match tls {
                    Some(tls) => tls.wrap(stream, &place.host, &place.to_string()).await?,
                    None => stream,
                }
            }
            Self::Engine(client) => upgrade(client).await?,
            Self::Elsewhere(place) => {
                let command = place.dial_stdio();
                let command: Vec<&str> = command.iter().map(String::as_str).collect();
                return place.run(&command).await;
            }
        };
        Ok(Opened { stream, voice: None })
    }
}

fn podman(container: &str, command: &[&str]) -> Program {
    let words = ["exec", "-i", container].into_iter().chain(command.iter().copied());
    Program {
        name: "podman".to_owned(),
        arguments: words.map(str::to_owned).collect(),
        environment: Vec::new(),
    }
}

/// Which cluster a pod's address means: what it does not say is as usual.
fn access(pod: &KubePod, usual: &AccessSettings) -> AccessSettings {
    let mut access = usual.clone();
    if let Some(kubeconfig) = &pod.kubeconfig {
        access.kubeconfig = Some(kubeconfig.clone());
    }
    if let Some(context) = &pod.context {
        access.context = Some(context.clone());
    }
    if let Some(namespace) = &pod.namespace {
        access.namespace = Some(namespace.clone());
    }
    access
}

/// The Engine that `docker` names.
fn engine_of(docker: &Docker, options: &Options) -> Result<engine::Client, Cause> {
    let read = |path: &Path| std::fs::read(path);
    let (endpoint, files) = match docker {
        Docker::At(endpoint) => (endpoint.clone(), options.tls.clone()),
        Docker::Context(name) => {
            let target = options.docker.resolve(Some(name), &read)?;
            (target.endpoint, target.tls)
        }
        Docker::Default => {
            let target = options.docker.resolve(None, &read)?;
            (target.endpoint, target.tls)
        }
    };
    Ok(engine::Client::new(endpoint, &files)?)
}

/// BuildKit's API inside a Docker Engine.
async fn upgrade(client: &engine::Client) -> Result<ByteStream, Cause> {
    let error = match client.upgrade("/grpc", "h2c").await {
        Ok(stream) => return Ok(stream),
        Err(error) => error,
    };
    // Who does not know the path is an Engine without BuildKit, or no Engine at all.
    match &error {
        engine::Error::Refused { status, message, .. } => {
            let answered = format!("`POST /grpc`: {message}, status {status}");
            let greeting = client.greet().await?;
            let engine = if greeting.podman {
                "Podman".to_owned()
            } else {
                format!("the Docker Engine `{}`", greeting.server)
            };
            Err(Cause::EngineWithoutBuildkit { engine, answered, podman: greeting.podman })
        }
        _ => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Elsewhere, Route, access, podman};
    use crate::{
        buildkit::{address::Address, dial::Options},
        cluster::AccessSettings,
    };

    fn words(address: &str) -> String {
        let route = Route::to(&address.parse().unwrap(), &Options::default()).unwrap();
        let Route::Elsewhere(place) = route else { panic!("{route:?}") };
        let command = place.dial_stdio();
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let program = match &place {
            Elsewhere::Podman(container) => podman(container, &command),
            Elsewhere::Ssh { target, .. } => target.program(&command),
            other => panic!("{other:?}"),
        };
        format!("{} {}", program.name, program.arguments.join(" "))
    }

    #[test]
    fn programs_that_carry_a_connection() {
        assert_eq!(
            words("ssh://ann@host:22"),
            "ssh -o BatchMode=yes -T -l ann -p 22 -- host buildctl dial-stdio"
        );
        assert_eq!(
            words("ssh://host/run/b k.sock"),
            "ssh -o BatchMode=yes -T -- host buildctl --addr 'unix:///run/b k.sock' dial-stdio"
        );
        assert_eq!(words("podman-container://b"), "podman exec -i b buildctl dial-stdio");
    }

    #[test]
    fn a_pods_cluster_is_the_usual_one_but_for_what_its_address_says() {
        let usual = AccessSettings {
            kubeconfig_list: Some("/a:/b".into()),
            context: Some("here".to_owned()),
            ..AccessSettings::default()
        };
        let of = |address: &str| match address.parse().unwrap() {
            Address::KubePod(pod) => access(&pod, &usual),
            other => panic!("{other}"),
        };
        assert_eq!(of("kube-pod://b"), usual);
        let named = of("kube-pod://b?context=there&namespace=ci&kubeconfig=/k");
        let expected = AccessSettings {
            kubeconfig: Some("/k".into()),
            context: Some("there".to_owned()),
            namespace: Some("ci".to_owned()),
            ..usual.clone()
        };
        assert_eq!(named, expected);
    }
}
