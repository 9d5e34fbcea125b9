//! agent-secrets: a daemon on a Unix socket that lends secrets for a time and takes them back.
//! JSON-RPC 2.0, one message a line.

use super::{
    Lease, Lessor, Origin, Problem, Secret,
    envelope::{checked, printable},
};
use futures::future::BoxFuture;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{io, path::PathBuf, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::timeout,
};
use zeroize::Zeroizing;

/// The daemon's own client waits as long.
const LIMIT: Duration = Duration::from_secs(5);
/// No answer is this big.
const MAX_ANSWER: usize = 1 << 20;
/// What the daemon answers where the lease is not there any more.
const GONE: [i64; 2] = [-32001, -32002];

/// A secret of the daemon's by name.
#[derive(Clone, Debug)]
pub struct AgentLease {
    /// The daemon's socket.
    pub socket: PathBuf,
    /// The secret's name.
    pub name: String,
    /// How long it is wanted, as the daemon reads it: `20m`.
    pub ttl: String,
    /// Who we say we are; the daemon's audit log shows it.
    pub client_id: String,
}

#[derive(Deserialize)]
struct Lent {
    lease_id: String,
    value: Secret,
    expires_at: Option<String>,
}

#[derive(Deserialize)]
struct Answer<T> {
    result: Option<T>,
    error: Option<RpcError>,
}

#[derive(Deserialize)]
struct RpcError {
    #[serde(default)]
    code: i64,
    #[serde(default)]
    message: String,
}

impl AgentLease {
    async fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        params: Value,
    ) -> Result<T, AgentError> {
        let socket = || self.socket.clone();
        let answer = timeout(LIMIT, self.exchange(method, params))
            .await
            .map_err(|_| AgentError::Silent { socket: socket(), limit: LIMIT })?
            .map_err(|cause| AgentError::Unreachable { socket: socket(), cause })?;
        // The error's own text may quote the secret, so it is not kept.
        let answer: Answer<T> = serde_json::from_slice(&answer)
            .map_err(|_| AgentError::Garbled { socket: socket() })?;
        match answer {
            Answer { error: Some(RpcError { code, message }), .. } => Err(AgentError::Refused {
                name: self.name.clone(),
                code,
                words: printable(&message),
            }),
            Answer { result: Some(result), .. } => Ok(result),
            Answer { .. } => Err(AgentError::Garbled { socket: socket() }),
        }
    }

    async fn exchange(&self, method: &str, params: Value) -> io::Result<Zeroizing<Vec<u8>>> {
        let mut stream = UnixStream::connect(&self.socket).await?;
        let request = json!({ "jsonrpc": "2.0", "method": method, "params": params, "id": 1 });
        stream.write_all(format!("{request}\n").as_bytes()).await?;
        let mut answer = Zeroizing::new(Vec::with_capacity(64 << 10));
        while answer.len() < MAX_ANSWER && !answer.ends_with(b"\n") {
            if stream.read_buf(&mut *answer).await? == 0 {
                break;
            }
        }
        Ok(answer)
    }

    async fn ask(&self) -> Result<Lease, AgentError> {
        let params = json!({
            "secret_name": self.name, "client_id": self.client_id, "ttl": self.ttl
        });
        let Lent { lease_id, value, expires_at } = self.call("secrets.lease", params).await?;
        let expires_at = expires_at.and_then(|text| text.parse::<jiff::Timestamp>().ok());
        let expires_in = expires_at.map(super::until);
        let Ok(value) = checked(value) else {
            // It is no use, and stands all the same.
            drop(self.give_back(&lease_id).await);
            return Err(AgentError::NoSecret { name: self.name.clone() });
        };
        Ok(Lease { value, id: Some(lease_id), expires_in })
    }

    async fn give_back(&self, id: &str) -> Result<(), AgentError> {
        match self.call::<Value>("secrets.revoke", json!({ "lease_id": id })).await {
            Ok(_) => Ok(()),
            Err(AgentError::Refused { code, .. }) if GONE.contains(&code) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Lessor for AgentLease {
    fn lease(&self) -> BoxFuture<'_, Result<Lease, Problem>> {
        Box::pin(async { self.ask().await.map_err(Problem::Agent) })
    }

    fn revoke<'a>(&'a self, id: Option<&'a str>) -> BoxFuture<'a, Result<(), Problem>> {
        Box::pin(async move {
            match id {
                Some(id) => self.give_back(id).await.map_err(Problem::Agent),
                None => Ok(()),
            }
        })
    }

    fn origin(&self) -> Origin {
        Origin::Lease { name: self.name.clone() }
    }
}

/// Why the daemon lent nothing, or took nothing back.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// An answer that is none.
    #[error("what answers at `{}` is no agent-secrets", socket.display())]
    Garbled {
        /// The socket.
        socket: PathBuf,
    },
    /// The secret is empty, or a failure in a secret's place.
    #[error("the secret `{name}` of agent-secrets holds no password")]
    NoSecret {
        /// The secret's name.
        name: String,
    },
    /// The daemon said no.
    #[error("agent-secrets refused `{name}`: {words}")]
    Refused {
        /// The secret's name.
        name: String,
        /// The JSON-RPC error code.
        code: i64,
        /// What it said.
        words: String,
    },
    /// No answer in time.
    #[error("agent-secrets at `{}` gave no answer within {} s", socket.display(), limit.as_secs())]
    Silent {
        /// The socket.
        socket: PathBuf,
        /// How long it had.
        limit: Duration,
    },
    /// Nobody listens there.
    #[error("agent-secrets cannot be reached at `{}`: {cause}", socket.display())]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
}

impl AgentError {
    /// What the user can do about it, in one line.
    pub fn hint(&self) -> String {
        match self {
            Self::Garbled { .. } | Self::Unreachable { .. } => {
                "start it with `secrets serve`, or name its socket: `secret_lease = { name = \
                 \"NAME\", socket = \"PATH\" }`"
                    .to_owned()
            }
            Self::NoSecret { name } => format!("store it anew: `secrets add {name}`"),
            Self::Refused { name, code: -32000, .. } => {
                format!("add it with `secrets add {name}`, or mend the name in `secret_lease`")
            }
            Self::Refused { .. } | Self::Silent { .. } => {
                "look at it with `secrets status` and `secrets health`".to_owned()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::AgentLease;
    use crate::credential::Lessor as _;
    use serde_json::{Value, json};
    use std::{
        io::{BufRead as _, BufReader, Write as _},
        os::unix::net::UnixListener,
        path::PathBuf,
    };
    use tempfile::TempDir;

    /// Answers each request in turn with the next of `answers`, and returns what was asked.
    fn daemon(answers: &[Value]) -> (TempDir, AgentLease, std::thread::JoinHandle<Vec<Value>>) {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("agent.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let answers = answers.to_vec();
        let thread = std::thread::spawn(move || {
            let mut asked = Vec::new();
            for answer in answers {
                let (stream, _) = listener.accept().unwrap();
                let mut line = String::new();
                BufReader::new(&stream).read_line(&mut line).unwrap();
                asked.push(serde_json::from_str(&line).unwrap());
                (&stream).write_all(format!("{answer}\n").as_bytes()).unwrap();
            }
            asked
        });
        let lease = AgentLease {
            socket,
            name: "ghcr_pat".to_owned(),
            ttl: "20m".to_owned(),
            client_id: "bk-sync".to_owned(),
        };
        (directory, lease, thread)
    }

    fn result(result: &Value) -> Value {
        json!({"jsonrpc": "2.0", "id": 1, "result": result})
    }

    fn error(code: i64, message: &str) -> Value {
        json!({"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": message}})
    }

    #[tokio::test]
    async fn a_lease_is_taken_and_given_back() {
        let (_directory, agent, thread) = daemon(&[
            result(&json!({"lease_id": "l", "value": "pw", "expires_at": "2999-01-01T00:00:00Z"})),
            result(&json!({"success": true, "message": "revoked"})),
        ]);
        let lease = agent.lease().await.unwrap();
        assert_eq!((lease.value.expose(), lease.id.as_deref()), (&b"pw"[..], Some("l")));
        assert!(lease.expires_in.unwrap().as_secs() > 3600);
        agent.revoke(lease.id.as_deref()).await.unwrap();
        let asked = thread.join().unwrap();
        assert_eq!(
            asked[0],
            json!({"jsonrpc": "2.0", "id": 1, "method": "secrets.lease",
                "params": {"secret_name": "ghcr_pat", "client_id": "bk-sync", "ttl": "20m"}})
        );
        assert_eq!(asked[1]["method"], "secrets.revoke");
        assert_eq!(asked[1]["params"], json!({"lease_id": "l"}));
    }

    #[tokio::test]
    async fn refusals_are_told_and_a_lease_that_is_gone_is_given_back() {
        let (_directory, agent, _thread) = daemon(&[
            error(-32000, "secret \"ghcr_pat\" not found"),
            error(-32001, "lease not found"),
            error(-32603, "disk full"),
        ]);
        let refused = agent.lease().await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            "agent-secrets refused `ghcr_pat`: secret \"ghcr_pat\" not found"
        );
        assert!(refused.hint().contains("secrets add ghcr_pat"));
        agent.revoke(Some("l")).await.unwrap();
        agent.revoke(Some("l")).await.unwrap_err();
    }

    #[tokio::test]
    async fn a_failure_in_the_secrets_place_is_refused_and_its_lease_given_back() {
        let value = r#"{"success":false,"error":"hunter2"}"#;
        let (_directory, agent, thread) = daemon(&[
            result(&json!({"lease_id": "l", "value": value, "expires_at": "x"})),
            result(&json!({"success": true})),
        ]);
        let refused = agent.lease().await.unwrap_err();
        assert!(!format!("{refused} {refused:?}").contains("hunter2"));
        assert_eq!(thread.join().unwrap()[1]["method"], "secrets.revoke");
    }

    #[tokio::test]
    async fn what_is_no_daemon_is_told() {
        let (directory, mut agent, _thread) = daemon(&[json!("hunter2")]);
        let garbled = agent.lease().await.unwrap_err();
        assert!(garbled.to_string().contains("is no agent-secrets"), "{garbled}");
        agent.socket = PathBuf::from(directory.path()).join("none.sock");
        let missing = agent.lease().await.unwrap_err();
        assert!(missing.hint().starts_with("start it with `secrets serve`"), "{}", missing.hint());
    }
}
