//! Stand-ins for what cannot run everywhere: an Inngest server and a worker behind an API server's
//! pod proxy. They speak plain HTTP/1.1 and hold to what is known of the real ones: GraphQL at
//! `/v0/gql` without authentication, REST at `/v1/apps/NAME/functions` with it, registration by a
//! `PUT` to the worker, which is signed where the worker has a key, and which makes the worker's SDK
//! post all its functions to `/fn/register`, with the key's hash.

use bk_sync::{credential::Secret, verify::inngest::sign};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

/// A request, as far as it matters.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `GET`, …
    pub method: String,
    /// The path.
    pub path: String,
    /// Headers, by lower-case name.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

/// A status and a body.
pub type Answer = (u16, Value);

/// Serves `answer` on a port of this machine, which is returned.
pub fn serve(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> u16 {
    serve_at("127.0.0.1", answer)
}

/// The same at an address of this machine.
fn serve_at(address: &str, answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            std::thread::spawn(move || converse(&stream, &*answer));
        }
    });
    port
}

fn converse(stream: &TcpStream, answer: &dyn Fn(&Asked) -> Answer) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (status, json) = answer(&Asked { method, path, headers, body });
    let json = json.to_string();
    let text = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{json}",
        json.len()
    );
    let mut stream = stream;
    stream.write_all(text.as_bytes()).ok()
}

/// What an Inngest server knows.
#[derive(Default)]
pub struct Inngest {
    /// Apps: name, address, connected, functions.
    pub apps: Vec<(String, String, bool, Vec<String>)>,
    /// Functions that it drops at every registration.
    pub loses: Vec<String>,
    /// Whether GraphQL is switched off.
    pub rest_only: bool,
    /// The last completed runs of crons: slug, schedule, time.
    pub crons: Vec<(String, String, Option<String>)>,
    /// Names of apps that were deleted.
    pub deleted: Vec<String>,
    /// The slugs of functions with a run that goes on, once for each run.
    pub running: Vec<String>,
    /// The signing key, whose hash registrations by an SDK must carry.
    pub key: Option<String>,
    /// Apps that were registered by an SDK, each time, with the SDK's version.
    pub registered: Vec<(String, String)>,
}

impl Inngest {
    fn register(&mut self, app: &str, url: &str, functions: &[String]) {
        let kept: Vec<String> =
            functions.iter().filter(|id| !self.loses.contains(id)).cloned().collect();
        self.apps.retain(|(name, ..)| name != app);
        self.apps.push((app.to_owned(), url.to_owned(), true, kept));
    }

    /// A server by itself, for workers that are real: it listens on all addresses of this machine. What it
    /// knows, and its port.
    pub fn listen(self) -> (Arc<Mutex<Self>>, u16) {
        let state = Arc::new(Mutex::new(self));
        let served = state.clone();
        let port = serve_at("0.0.0.0", move |asked| served.lock().unwrap().answer(asked));
        (state, port)
    }

    /// The functions of the app `name`, sorted.
    pub fn functions(&self, name: &str) -> Vec<String> {
        let of = |(app, _, _, ids): &(String, String, bool, Vec<String>)| {
            (app == name).then(|| ids.clone())
        };
        let mut ids: Vec<String> = self.apps.iter().filter_map(of).flatten().collect();
        ids.sort();
        ids
    }

    /// What an SDK posts when it is told to register: the app with all its functions, whose ids begin with
    /// the app's. Those that are not among them are gone.
    fn registration(&mut self, asked: &Asked) -> Answer {
        if let Some(key) = &self.key {
            let wanted = sign::bearer(&Secret::new(key.as_str()));
            let wanted = String::from_utf8(wanted.to_vec()).unwrap();
            if asked.headers.get("authorization") != Some(&wanted) {
                return (401, json!({"error": "invalid signing key", "status": 401}));
            }
        }
        let told: Value = serde_json::from_slice(&asked.body).unwrap();
        let app = told["appName"].as_str().unwrap().to_owned();
        let own = |function: &Value| {
            let id = function["id"].as_str().unwrap();
            id.strip_prefix(&format!("{app}-")).unwrap_or(id).to_owned()
        };
        let functions: Vec<String> =
            told["functions"].as_array().unwrap().iter().map(own).collect();
        self.registered.push((app.clone(), told["sdk"].as_str().unwrap_or_default().to_owned()));
        self.register(&app, told["url"].as_str().unwrap(), &functions);
        (200, json!({"ok": true, "modified": true}))
    }

    fn answer(&mut self, asked: &Asked) -> Answer {
        if asked.path.starts_with("/fn/register") {
            return self.registration(asked);
        }
        if let Some(rest) = asked.path.strip_prefix("/v1/apps/") {
            if !asked.headers.get("authorization").is_some_and(|v| v.starts_with("Bearer signkey-"))
            {
                return (401, json!({"error": "unauthorized"}));
            }
            let name = rest.strip_suffix("/functions").unwrap_or(rest);
            let functions = self.apps.iter().filter(|(app, ..)| app == name);
            let list: Vec<Value> = functions
                .flat_map(|(app, _, _, ids)| {
                    ids.iter().map(move |id| json!({"slug": format!("{app}-{id}")}))
                })
                .collect();
            return (200, json!(list));
        }
        if self.rest_only || asked.path != "/v0/gql" {
            return (404, json!({}));
        }
        let question: Value = serde_json::from_slice(&asked.body).unwrap();
        let query = question["query"].as_str().unwrap();
        let variables = &question["variables"];
        if query.contains("deleteApp") {
            let id = variables["id"].as_str().unwrap().to_owned();
            self.apps.retain(|(name, ..)| format!("id-{name}") != id);
            self.deleted.push(id.trim_start_matches("id-").to_owned());
            return (200, json!({"data": {"deleteApp": id}}));
        }
        if query.contains("{ functions {") {
            let list: Vec<Value> = self
                .crons
                .iter()
                .map(|(slug, schedule, _)| {
                    json!({"id": slug, "slug": slug, "triggers": [{"type": "CRON", "value": schedule}]})
                })
                .collect();
            return (200, json!({"data": {"functions": list}}));
        }
        if query.contains("runs(") && variables["filter"]["status"][0] == "RUNNING" {
            let asked = variables["filter"]["functionIDs"].as_array().unwrap();
            let runs = self.running.iter().filter(|slug| asked.contains(&json!(slug)));
            let edges: Vec<Value> =
                runs.map(|slug| json!({"node": {"id": format!("run-of-{slug}")}})).collect();
            return (200, json!({"data": {"runs": {"edges": edges}}}));
        }
        if query.contains("runs(") {
            let wanted = variables["filter"]["functionIDs"][0].as_str().unwrap();
            let last =
                self.crons.iter().find(|(slug, ..)| slug == wanted).and_then(|c| c.2.clone());
            let edges: Vec<Value> =
                last.into_iter().map(|at| json!({"node": {"startedAt": at}})).collect();
            return (200, json!({"data": {"runs": {"edges": edges}}}));
        }
        let apps: Vec<Value> = self
            .apps
            .iter()
            .map(|(name, url, connected, ids)| {
                let functions: Vec<Value> = ids
                    .iter()
                    .map(|id| json!({"slug": format!("{name}-{id}"), "name": id}))
                    .collect();
                json!({"id": format!("id-{name}"), "name": name, "externalID": name, "url": url,
                    "connected": connected, "error": null, "functions": functions})
            })
            .collect();
        (200, json!({"data": {"apps": apps}}))
    }
}

/// A worker, and the cluster that it runs in.
pub struct World {
    /// What the server knows.
    pub inngest: Arc<Mutex<Inngest>>,
    /// The server's address.
    pub inngest_url: String,
    /// What was asked of the pod, method and path.
    pub asked: Arc<Mutex<Vec<String>>>,
    /// The API server's address.
    pub cluster_url: String,
}

/// How a worker behaves.
#[derive(Clone, Default)]
pub struct Worker {
    /// Its functions.
    pub functions: Vec<String>,
    /// Its signing key, where it wants signatures.
    pub key: Option<String>,
    /// How often it answers that it is still starting.
    pub starting: usize,
}

/// The app of every worker here.
pub const APP: &str = "system-bus-cluster";
/// The UID of the pod.
pub const UID: &str = "uid-new";

impl World {
    /// A cluster with one pod, `worker-1` in the namespace `seed`, and an Inngest server.
    pub fn new(worker: &Worker, inngest: Inngest) -> Self {
        let inngest = Arc::new(Mutex::new(inngest));
        let served = inngest.clone();
        let server = serve(move |asked| served.lock().unwrap().answer(asked));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, state, worker) = (asked.clone(), inngest.clone(), Mutex::new(worker.clone()));
        let cluster = serve(move |asked| {
            let pod = "/api/v1/namespaces/seed/pods/worker-1";
            if asked.path == pod {
                return (
                    200,
                    json!({"apiVersion": "v1", "kind": "Pod",
                    "metadata": {"name": "worker-1", "namespace": "seed", "uid": UID}}),
                );
            }
            let Some(path) = asked.path.strip_prefix(&format!("{pod}:3111/proxy")) else {
                return (
                    403,
                    json!({"apiVersion": "v1", "kind": "Status", "status": "Failure",
                    "message": "pods is forbidden: cannot get resource \"pods/proxy\"",
                    "reason": "Forbidden", "code": 403}),
                );
            };
            log.lock().unwrap().push(format!("{} {path}", asked.method));
            worker.lock().unwrap().answer(asked, path, &mut state.lock().unwrap())
        });
        Self {
            inngest,
            inngest_url: format!("http://127.0.0.1:{server}"),
            asked,
            cluster_url: format!("http://127.0.0.1:{cluster}"),
        }
    }
}

impl Worker {
    fn answer(&mut self, asked: &Asked, path: &str, inngest: &mut Inngest) -> Answer {
        if self.starting > 0 {
            self.starting -= 1;
            return (503, json!({"status": "starting"}));
        }
        match (asked.method.as_str(), path) {
            ("GET", "/") => (
                200,
                json!({"service": "system-bus", "status": "running", "functions": self.functions,
                    "count": self.functions.len(), "worker": {"hasDuplicateFunctionIds": false}}),
            ),
            ("PUT", "/api/inngest") => {
                if let Some(key) = &self.key {
                    let given = asked.headers.get(sign::HEADER).cloned().unwrap_or_default();
                    let time = given.strip_prefix("t=").and_then(|rest| rest.split('&').next());
                    let time = time.and_then(|text| text.parse().ok()).unwrap_or(0);
                    let key = Secret::new(key.as_str());
                    if given != sign::signature(&key, &asked.body, time) {
                        return (401, json!({"message": "Invalid signature"}));
                    }
                }
                inngest.register(APP, "http://system-bus-worker:3111/api/inngest", &self.functions);
                (200, json!({"message": "Successfully registered", "modified": true}))
            }
            _ => (405, json!({})),
        }
    }
}
