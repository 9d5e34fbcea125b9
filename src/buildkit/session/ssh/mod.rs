//! SSH agents, lent to build steps: one of this machine's, or private key files that we sign with
//! ourselves. A step can list keys and have data signed; it can neither add nor remove a key.

mod frame;
mod key;
mod keyring;

pub use key::KeyError;

use self::{
    frame::{Frames, allowed, failure, framed},
    keyring::Keyring,
};
use super::Attachable;
use crate::proto::moby::sshforward::v1::{
    BytesMessage, CheckAgentRequest, CheckAgentResponse,
    ssh_server::{self, SshServer},
};
use bytes::Bytes;
use std::{
    collections::BTreeMap,
    fmt, fs, io,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::mpsc,
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming, service::RoutesBuilder};

/// The id of an agent that is not named.
const DEFAULT_ID: &str = "default";
/// Answers that wait for the builder to take them.
const QUEUE: usize = 4;
/// One read of an agent's answer.
const READ: usize = 16 << 10;

/// The SSH service: agents by id.
#[derive(Clone)]
pub struct SshAgents {
    agents: Arc<BTreeMap<String, Agent>>,
}

#[derive(Clone)]
enum Agent {
    Keys(Arc<Keyring>),
    Socket(PathBuf),
}

impl SshAgents {
    /// A service with no agent.
    pub fn new() -> Self {
        Self { agents: Arc::default() }
    }

    /// Offers, under `id`, the agent whose socket `paths` is, or one that holds the private keys in
    /// the files that `paths` are. Without paths it is `agent`, the socket of the user's own
    /// (`SSH_AUTH_SOCK`).
    ///
    /// # Errors
    /// See [`SshError`].
    pub fn with(
        mut self,
        id: &str,
        paths: &[PathBuf],
        agent: Option<&Path>,
    ) -> Result<Self, SshError> {
        let id = if id.is_empty() { DEFAULT_ID } else { id };
        let paths = match (paths, agent) {
            ([], None) => return Err(SshError::NoAgent { id: id.to_owned() }),
            ([], Some(agent)) => vec![agent.to_owned()],
            (paths, _) => paths.to_vec(),
        };
        let opened = open(&paths)?;
        if Arc::make_mut(&mut self.agents).insert(id.to_owned(), opened).is_some() {
            return Err(SshError::SameId { id: id.to_owned() });
        }
        Ok(self)
    }

    fn find(&self, id: &str) -> Result<&Agent, Status> {
        let id = if id.is_empty() { DEFAULT_ID } else { id };
        // Optional mounts are passed over whatever the code is.
        self.agents
            .get(id)
            .ok_or_else(|| Status::not_found(format!("no SSH agent `{id}` was given")))
    }
}

impl Default for SshAgents {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SshAgents {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.agents.keys()).finish()
    }
}

fn open(paths: &[PathBuf]) -> Result<Agent, SshError> {
    let mut keyring = Keyring::default();
    for path in paths {
        let unreadable = |error: io::Error| SshError::Unreadable {
            path: path.clone(),
            cause: error.to_string(),
        };
        if fs::metadata(path).map_err(unreadable)?.file_type().is_socket() {
            return match paths {
                [socket] => Ok(Agent::Socket(socket.clone())),
                _ => Err(SshError::SocketAmongKeys { path: path.clone() }),
            };
        }
        keyring.add(path)?;
    }
    Ok(Agent::Keys(Arc::new(keyring)))
}

/// Why an agent cannot be offered.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SshError {
    /// A private key that we cannot use.
    #[error("SSH key `{}`: {cause}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: KeyError,
    },
    /// Neither a path was given nor is there an agent.
    #[error("no SSH agent for `{id}`: `SSH_AUTH_SOCK` is not set and no key was given")]
    NoAgent {
        /// The agent's id.
        id: String,
    },
    /// Two agents by one name.
    #[error("SSH agent `{id}` is given twice")]
    SameId {
        /// The agent's id.
        id: String,
    },
    /// An agent's socket cannot be mixed with keys or other sockets.
    #[error("`{}` is an agent's socket and must be the only path of its id", path.display())]
    SocketAmongKeys {
        /// The socket.
        path: PathBuf,
    },
    /// A path that cannot be read.
    #[error("cannot read `{}`: {cause}", path.display())]
    Unreadable {
        /// The path.
        path: PathBuf,
        /// What the system said.
        cause: String,
    },
}

impl Attachable for SshAgents {
    fn methods(&self) -> &'static [&'static str] {
        &["/moby.sshforward.v1.SSH/CheckAgent", "/moby.sshforward.v1.SSH/ForwardAgent"]
    }

    fn register(self: Box<Self>, routes: &mut RoutesBuilder) {
        routes.add_service(SshServer::new(*self));
    }
}

#[tonic::async_trait]
impl ssh_server::Ssh for SshAgents {
    type ForwardAgentStream = ReceiverStream<Result<BytesMessage, Status>>;

    async fn check_agent(
        &self,
        request: Request<CheckAgentRequest>,
    ) -> Result<Response<CheckAgentResponse>, Status> {
        self.find(&request.into_inner().id)?;
        Ok(Response::new(CheckAgentResponse {}))
    }

    async fn forward_agent(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::ForwardAgentStream>, Status> {
        let id = request.metadata().get("buildkit.ssh.id").and_then(|id| id.to_str().ok());
        let mut backend = match self.find(id.unwrap_or_default())? {
            Agent::Keys(keyring) => Backend::Keys(keyring.clone()),
            Agent::Socket(path) => {
                let socket = UnixStream::connect(path).await.map_err(|error| {
                    let path = path.display();
                    Status::unavailable(format!("cannot reach the SSH agent at `{path}`: {error}"))
                })?;
                Backend::Socket(socket, Frames::default())
            }
        };
        let mut questions = request.into_inner();
        let (sender, answers) = mpsc::channel(QUEUE);
        // Ends with either direction of the stream, and so with the session.
        tokio::spawn(async move {
            let mut frames = Frames::default();
            while let Some(Ok(message)) = questions.next().await {
                frames.extend(&message.data);
                loop {
                    let answer = match frames.next() {
                        Ok(Some(question)) => backend.answer(&question).await,
                        Ok(None) => break,
                        Err(error) => Err(Status::invalid_argument(error.to_string())),
                    };
                    let failed = answer.is_err();
                    let answer = answer.map(|data| BytesMessage { data });
                    if sender.send(answer).await.is_err() || failed {
                        return;
                    }
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

/// Who answers one connection.
enum Backend {
    Keys(Arc<Keyring>),
    Socket(UnixStream, Frames),
}

impl Backend {
    /// The answer to one message. Agents answer in order, one answer a question.
    async fn answer(&mut self, question: &[u8]) -> Result<Bytes, Status> {
        if !allowed(question) {
            return Ok(failure());
        }
        match self {
            Self::Keys(keyring) => Ok(keyring.answer(question)),
            Self::Socket(socket, frames) => {
                let lost = |error| Status::unavailable(format!("the SSH agent was lost: {error}"));
                socket.write_all(&framed(question)).await.map_err(lost)?;
                let mut buffer = vec![0; READ];
                loop {
                    let answer = frames.next();
                    if let Some(answer) = answer.map_err(|e| Status::aborted(e.to_string()))? {
                        return Ok(framed(&answer));
                    }
                    let read = socket.read(&mut buffer).await.map_err(lost)?;
                    if read == 0 {
                        return Err(lost(io::ErrorKind::UnexpectedEof.into()));
                    }
                    frames.extend(buffer.get(..read).unwrap_or_default());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
