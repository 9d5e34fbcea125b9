//! The Inngest check as a whole: register anew, read back, judge, and again until it is right.

use super::{
    app::App,
    cron,
    judge::{Rules, judge},
    runs::WhileRunning,
    server::{Server, ServerError},
    sign, source,
    worker::{self, Worker},
};
use crate::{
    credential::Secret,
    verify::{
        PAUSES,
        http::unanswered,
        pods::{PodRequest, Pods},
        report::{Check, CheckedPod, Finding},
    },
};
use serde_json::Value;
use std::time::{Duration, Instant, SystemTime};

/// What is checked.
#[derive(Clone, Debug)]
pub struct InngestCheck {
    /// The server's address.
    pub url: String,
    /// The app, by the id that the worker chose.
    pub app: String,
    /// Who registers the worker anew.
    pub sync: Sync,
    /// Which functions must be there.
    pub expected: Expected,
    /// The signing key, where there is one.
    pub signing_key: Option<Secret>,
    /// Apps with one of these texts in their name or address are stale.
    pub stale_match: Vec<String>,
    /// Whether apps that are stale by that rule are deleted.
    pub delete: bool,
    /// How old the last completed run of a cron may be, in multiples of its cadence; not looked at
    /// where it is not given.
    pub cron_age: Option<u32>,
    /// What becomes of a deploy while runs of the app go on; not asked where it is not given.
    pub running: Option<WhileRunning>,
    /// Functions that are written and in no index.
    pub unindexed: Vec<source::Unindexed>,
    /// How often it is tried before it counts as failed; at least once.
    pub attempts: usize,
    /// How long all of it may take.
    pub timeout: Duration,
}

/// How long one request to the pod may take. Registering takes long on a server with a backlog.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// The body of the request to register: some frameworks hand workers an object where there is
/// none, and its signature would be another.
const NOTHING: &[u8] = b"{}";

/// Who registers the worker anew.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Sync {
    /// Nobody: it is expected to have done so itself.
    Nobody,
    /// The server, which is told to ask the worker at this address; without one, at the address
    /// that it has for the app.
    Server(Option<String>),
    /// The worker, which is told to by a `PUT` to where it serves.
    Worker {
        /// The pod's port.
        port: u16,
        /// The path.
        path: String,
    },
}

/// Which functions must be there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Expected {
    /// These.
    Ids(Vec<String>),
    /// Those that the new pod itself lists.
    Worker {
        /// The pod's port.
        port: u16,
        /// The path of its account of itself.
        path: String,
    },
}

/// Runs the check against `pod`.
pub async fn run(check: &InngestCheck, pods: &Pods, pod: &CheckedPod) -> Check {
    let began = Instant::now();
    let mut attempts = 0;
    let findings = match Server::new(&check.url, check.signing_key.clone()) {
        Ok(server) => {
            let asking = Asking { check, pods, pod, server };
            let tried = asking.until_right(&mut attempts);
            tokio::time::timeout(check.timeout, tried).await.unwrap_or_else(|_| {
                let message = format!("it was not right within {} s", check.timeout.as_secs());
                vec![Finding::fatal("INNGEST_SLOW", message)]
            })
        }
        Err(error) => vec![no_answer(&error)],
    };
    let mut findings = findings;
    findings.extend(check.unindexed.iter().map(|function| {
        Finding::told(
            "INNGEST_UNINDEXED",
            format!("`{}` in `{}` is in no index: no worker has it", function.id, function.path),
        )
    }));
    let subject = format!("app `{}`", check.app);
    Check::new("inngest", subject, Some(pod.clone()), findings)
        .took(attempts.max(1), began.elapsed())
}

struct Asking<'a> {
    check: &'a InngestCheck,
    pods: &'a Pods,
    pod: &'a CheckedPod,
    server: Server,
}

impl Asking<'_> {
    /// Tries until nothing fatal is found, or the pauses are used up.
    async fn until_right(&self, attempts: &mut u32) -> Vec<Finding> {
        let mut pauses = PAUSES.iter().cycle().take(self.check.attempts.saturating_sub(1));
        loop {
            *attempts += 1;
            let (findings, hopeless) = self.once().await;
            let wrong = findings.iter().any(|finding| finding.fatal);
            match pauses.next().filter(|_| wrong && !hopeless) {
                Some(pause) => tokio::time::sleep(*pause).await,
                None => return findings,
            }
        }
    }

    /// One try: what was found, and whether another would come to the same.
    async fn once(&self) -> (Vec<Finding>, bool) {
        let worker = match self.expected().await {
            Ok(worker) => worker,
            Err(finding) => return (vec![finding], false),
        };
        // Whatever registering comes to, what the server then has decides; but its failure explains.
        let mut findings: Vec<Finding> = self.register().await.into_iter().collect();
        let apps = match self.server.apps(&self.check.app).await {
            Ok(apps) => apps,
            Err(error) => {
                findings.push(no_answer(&error));
                return (findings, !error.may_pass());
            }
        };
        let rules = Rules {
            app: self.check.app.clone(),
            expected: worker.functions,
            duplicates: worker.duplicates,
            stale_match: self.check.stale_match.clone(),
            delete: self.check.delete,
        };
        let verdict = judge(&rules, &apps);
        findings.extend(verdict.findings);
        if findings.iter().any(|finding| finding.fatal) {
            return (findings, false);
        }
        // Only when all else is right: nothing is deleted before its successor is there.
        for (id, name) in verdict.delete {
            findings.push(match self.server.delete(&id).await {
                Ok(()) => Finding::told(
                    "INNGEST_APP_DELETED",
                    format!("the stale app `{name}` was deleted, as the config says"),
                ),
                Err(error) => no_answer(&error),
            });
        }
        if let Some(age) = self.check.cron_age {
            findings.extend(self.crons(age).await);
        }
        (findings, true)
    }

    /// What the worker should have registered.
    async fn expected(&self) -> Result<Worker, Finding> {
        let (port, path) = match &self.check.expected {
            Expected::Ids(functions) => {
                return Ok(Worker { functions: functions.clone(), ..Worker::default() });
            }
            Expected::Worker { port, path } => (*port, path.clone()),
        };
        let request = PodRequest {
            method: http::Method::GET,
            port,
            path: path.clone(),
            ..PodRequest::default()
        };
        let answer = self.pods.request(self.pod, &request, REQUEST_LIMIT).await;
        let answer = answer.map_err(|error| unanswered(&error))?;
        worker::read(&answer.body).ok_or_else(|| {
            Finding::fatal(
                "INNGEST_WORKER_SILENT",
                format!(
                    "the worker's `GET :{port}{path}` ({}) does not list its functions",
                    answer.status
                ),
            )
            .with_fix("name them: `functions = [\"…\"]` in `[verify.inngest]`")
        })
    }

    /// Has the worker registered anew. A refusal is told, whether it matters or not.
    async fn register(&self) -> Option<Finding> {
        let refused = |words: String| {
            Finding::fatal("INNGEST_SYNC_FAILED", format!("the worker was not registered: {words}"))
        };
        match &self.check.sync {
            Sync::Nobody => None,
            Sync::Server(url) => {
                let url = match url {
                    Some(url) => url.clone(),
                    // Its address is known from its last registration.
                    None => self.known_url().await?,
                };
                let pinged = self.server.ping(&url).await;
                pinged.err().map(|error| refused(error.to_string()))
            }
            Sync::Worker { port, path } => {
                let headers = self.check.signing_key.as_ref().map(|key| {
                    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                    let now = now.unwrap_or_default().as_secs();
                    (sign::HEADER, sign::signature(key, NOTHING, now))
                });
                let request = PodRequest {
                    method: http::Method::PUT,
                    port: *port,
                    path: path.clone(),
                    headers: headers.into_iter().collect(),
                    body: NOTHING.to_vec(),
                };
                match self.pods.request(self.pod, &request, REQUEST_LIMIT).await {
                    Ok(answer) if (200..300).contains(&answer.status) => None,
                    Ok(answer) => Some(put_refused(answer.status, &answer.body)),
                    Err(error) => Some(refused(error.to_string())),
                }
            }
        }
    }

    async fn known_url(&self) -> Option<String> {
        let apps: Vec<App> = self.server.apps(&self.check.app).await.ok()?;
        apps.into_iter().find(|app| app.name == self.check.app)?.url
    }

    async fn crons(&self, times: u32) -> Vec<Finding> {
        let crons = match self.server.crons(&self.check.app).await {
            Ok(crons) => crons,
            Err(error) => return vec![no_answer(&error)],
        };
        let now = jiff::Timestamp::now();
        let mut findings = Vec::new();
        for cron in crons {
            let Some(cadence) = cron::cadence(&cron.schedule) else {
                let message =
                    format!("the schedule `{}` of `{}` cannot be read", cron.schedule, cron.slug);
                findings.push(Finding::told("INNGEST_CRON_UNREADABLE", message));
                continue;
            };
            let age = cadence * times;
            let back = i64::try_from(age.as_secs().saturating_mul(cron::SEEN)).unwrap_or(i64::MAX);
            let from = jiff::Timestamp::from_second(now.as_second().saturating_sub(back));
            let from = from.unwrap_or(jiff::Timestamp::UNIX_EPOCH);
            match self.server.last_run(&cron.id, from).await {
                Ok(last) => findings.extend(cron::judge(&cron, last, now, age)),
                Err(error) => findings.push(no_answer(&error)),
            }
        }
        findings
    }
}

/// A `PUT` that the worker, or the server behind it, refused.
fn put_refused(status: u16, body: &[u8]) -> Finding {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let words = ["message", "error"].iter().find_map(|key| json.get(key)?.as_str());
    let words = words.map(|words| format!(": {words}")).unwrap_or_default();
    let finding = Finding::fatal(
        "INNGEST_SYNC_FAILED",
        format!("the worker was not registered: its serve address answered {status}{words}"),
    );
    match status {
        401 | 403 => {
            finding.with_fix("give the worker's signing key: `signing_key = \"VARIABLE\"`")
        }
        404 | 405 => finding.with_fix("mend `verify.inngest.serve`"),
        _ => finding,
    }
}

fn no_answer(error: &ServerError) -> Finding {
    Finding::fatal("INNGEST_SERVER_SILENT", error.to_string())
        .with_fix("see that `verify.inngest.url` is reachable from here")
}
