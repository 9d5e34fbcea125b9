//! A daemon that lends secrets as agent-secrets does: JSON-RPC 2.0 on a Unix socket, a line a
//! message, leases by id.

use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

/// The daemon, for as long as the test runs.
pub struct Agent {
    /// Its socket.
    pub socket: PathBuf,
    state: Arc<Mutex<State>>,
}

struct State {
    secrets: BTreeMap<String, String>,
    /// How long a lease holds, whatever was asked for, in seconds.
    life: i64,
    held: BTreeMap<String, Value>,
    lent: Vec<Value>,
}

impl Agent {
    /// One that knows `name`, below `directory`.
    pub fn start(directory: &Path, name: &str, value: &str, life: i64) -> Self {
        let socket = directory.join("agent.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let secrets = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let state = State { secrets, life, held: BTreeMap::new(), lent: Vec::new() };
        let state = Arc::new(Mutex::new(state));
        let served = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let served = served.clone();
                std::thread::spawn(move || serve(&stream.unwrap(), &served));
            }
        });
        Self { socket, state }
    }

    /// What was lent, in order, by the parameters of the requests.
    pub fn lent(&self) -> Vec<Value> {
        self.state.lock().unwrap().lent.clone()
    }

    /// The leases that were not given back.
    pub fn held(&self) -> usize {
        self.state.lock().unwrap().held.len()
    }
}

fn serve(stream: &UnixStream, state: &Mutex<State>) {
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { return };
        let request: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(request["jsonrpc"], "2.0");
        let params = &request["params"];
        let answer = state.lock().unwrap().answer(request["method"].as_str().unwrap(), params);
        let answer = match answer {
            Ok(result) => json!({"jsonrpc": "2.0", "result": result, "id": request["id"]}),
            Err((code, message)) => {
                let error = json!({"code": code, "message": message});
                json!({"jsonrpc": "2.0", "error": error, "id": request["id"]})
            }
        };
        if (&mut &*stream).write_all(format!("{answer}\n").as_bytes()).is_err() {
            return;
        }
    }
}

impl State {
    fn answer(&mut self, method: &str, params: &Value) -> Result<Value, (i64, String)> {
        let text = |key: &str| params[key].as_str().unwrap_or_default().to_owned();
        match method {
            "secrets.lease" => {
                let name = text("secret_name");
                if text("client_id").is_empty() {
                    return Err((-32603, "client_id is required".to_owned()));
                }
                let Some(value) = self.secrets.get(&name).cloned() else {
                    return Err((-32000, format!("secret {name:?} not found")));
                };
                let id = format!("lease-{}", self.lent.len());
                self.lent.push(params.clone());
                self.held.insert(id.clone(), params.clone());
                let now = jiff::Timestamp::now();
                let end = jiff::Timestamp::from_second(now.as_second() + self.life).unwrap();
                Ok(json!({"lease_id": id, "value": value, "expires_at": end.to_string()}))
            }
            "secrets.revoke" => match self.held.remove(&text("lease_id")) {
                Some(_) => Ok(json!({"success": true, "message": "lease revoked successfully"})),
                None => Err((-32001, "lease not found".to_owned())),
            },
            other => Err((-32601, format!("method not found: {other}"))),
        }
    }
}
