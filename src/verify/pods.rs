//! The pods of the new revision, reached through the API server: nothing of the cluster's own
//! network needs to be within reach.

use super::report::CheckedPod;
use http_body_util::{BodyExt as _, Limited};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::AttachParams, client::Body};
use std::time::Duration;
use tokio::{io::AsyncReadExt as _, time::timeout};

/// No answer that is checked is bigger.
const MAX_ANSWER: usize = 4 << 20;
/// Of what a command says, this much is kept.
const MAX_OUTPUT: u64 = 64 << 10;

/// The pods of one namespace. Cheap to clone.
#[derive(Clone)]
pub struct Pods {
    client: Client,
    namespace: String,
}

impl std::fmt::Debug for Pods {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Pods({})", self.namespace)
    }
}

/// A request to a pod.
#[derive(Clone, Debug, Default)]
pub struct PodRequest {
    /// `GET`, `PUT`, …
    pub method: http::Method,
    /// The pod's port.
    pub port: u16,
    /// The path, with its query; it begins with a slash.
    pub path: String,
    /// More headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body; JSON where there is one.
    pub body: Vec<u8>,
}

/// What came back.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PodAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// What a command in a pod said.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Executed {
    /// What it exited with; none where the cluster does not say.
    pub exit_code: Option<i32>,
    /// Its stdout and stderr, begin only.
    pub output: String,
}

/// Why a pod gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum PodError {
    /// It has been replaced, or is being ended.
    #[error("the pod `{0}` is not the one that was rolled out any more")]
    Gone(String),
    /// The API server did not pass it on.
    #[error("`{pod}` cannot be reached through the API server: {words}")]
    Refused {
        /// The pod.
        pod: String,
        /// The HTTP status.
        status: u16,
        /// The API server's words.
        words: String,
    },
    /// No answer in time.
    #[error("`{pod}` gave no answer within {} s", limit.as_secs())]
    Silent {
        /// The pod.
        pod: String,
        /// How long it had.
        limit: Duration,
    },
    /// The answer is too big, or broke off.
    #[error("the answer of `{pod}` cannot be read: {cause}")]
    Unreadable {
        /// The pod.
        pod: String,
        /// What was seen.
        cause: String,
    },
    /// The API server cannot be reached, or says no.
    #[error("the cluster gave no answer about `{pod}`: {cause}")]
    Cluster {
        /// The pod.
        pod: String,
        /// What was seen.
        cause: String,
    },
}

impl PodError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused { status: 403, .. } => Some(
                "grant `create`, `get` and `update` on `pods/proxy`, and `create` on `pods/exec`"
                    .to_owned(),
            ),
            Self::Refused { .. } | Self::Silent { .. } => {
                Some("see that the process listens on that port on all addresses".to_owned())
            }
            Self::Gone(_) => Some("roll out again, or see what replaced it".to_owned()),
            Self::Cluster { .. } | Self::Unreadable { .. } => None,
        }
    }
}

impl Pods {
    /// The pods of `namespace`.
    pub fn new(client: Client, namespace: impl Into<String>) -> Self {
        Self { client, namespace: namespace.into() }
    }

    /// Sees that `pod` is there still, by its UID.
    ///
    /// # Errors
    /// It is not, or the cluster gives no answer.
    pub async fn prove(&self, pod: &CheckedPod) -> Result<(), PodError> {
        let found = self.api().get_opt(&pod.name).await.map_err(|error| failed(pod, &error))?;
        let metadata = found.map(|found| found.metadata).unwrap_or_default();
        let same = metadata.uid.as_deref() == Some(pod.uid.as_str());
        if same && metadata.deletion_timestamp.is_none() {
            Ok(())
        } else {
            Err(PodError::Gone(pod.name.clone()))
        }
    }

    /// Sends `request` to `pod` through the API server's proxy.
    ///
    /// # Errors
    /// The pod is gone or cannot be reached, or takes longer than `limit`.
    pub async fn request(
        &self,
        pod: &CheckedPod,
        request: &PodRequest,
        limit: Duration,
    ) -> Result<PodAnswer, PodError> {
        let asked = async {
            self.prove(pod).await?;
            self.proxied(pod, request).await
        };
        timeout(limit, asked)
            .await
            .map_err(|_| PodError::Silent { pod: pod.name.clone(), limit })?
    }

    async fn proxied(&self, pod: &CheckedPod, request: &PodRequest) -> Result<PodAnswer, PodError> {
        let unreadable = |cause: String| PodError::Unreadable { pod: pod.name.clone(), cause };
        let PodRequest { method, port, path, headers, body } = request;
        let slash = if path.starts_with('/') { "" } else { "/" };
        let uri = format!(
            "/api/v1/namespaces/{}/pods/{}:{port}/proxy{slash}{path}",
            self.namespace, pod.name
        );
        let mut call = http::Request::builder().method(method.clone()).uri(uri);
        for (name, value) in headers {
            call = call.header(*name, value);
        }
        if !body.is_empty() {
            call = call.header(http::header::CONTENT_TYPE, "application/json");
        }
        let call =
            call.body(Body::from(body.clone())).map_err(|error| unreadable(error.to_string()))?;
        let answer = self.client.send(call).await.map_err(|error| failed(pod, &error))?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| unreadable(error.to_string()))?.to_bytes().to_vec();
        match status_words(status, &body) {
            Some(words) => Err(PodError::Refused { pod: pod.name.clone(), status, words }),
            None => Ok(PodAnswer { status, body }),
        }
    }

    /// Runs `command` in `pod`.
    ///
    /// # Errors
    /// The pod is gone or cannot be reached, or it takes longer than `limit`.
    pub async fn exec(
        &self,
        pod: &CheckedPod,
        container: Option<&str>,
        command: &[String],
        limit: Duration,
    ) -> Result<Executed, PodError> {
        let run = async {
            self.prove(pod).await?;
            let mut parameters = AttachParams::default().stdin(false).stdout(true).stderr(true);
            parameters.container = container.map(str::to_owned);
            let mut process = self
                .api()
                .exec(&pod.name, command.to_vec(), &parameters)
                .await
                .map_err(|error| failed(pod, &error))?;
            let status = process.take_status();
            let mut output = Vec::new();
            let (stdout, stderr) = (process.stdout(), process.stderr());
            if let Some(stdout) = stdout {
                drop(stdout.take(MAX_OUTPUT).read_to_end(&mut output).await);
            }
            if let Some(stderr) = stderr {
                drop(stderr.take(MAX_OUTPUT).read_to_end(&mut output).await);
            }
            let status = match status {
                Some(status) => status.await,
                None => None,
            };
            let exit_code = status.and_then(|status| exit_code(&status));
            Ok(Executed { exit_code, output: String::from_utf8_lossy(&output).into_owned() })
        };
        timeout(limit, run).await.map_err(|_| PodError::Silent { pod: pod.name.clone(), limit })?
    }

    fn api(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

/// A call of the API server's that came to nothing.
fn failed(pod: &CheckedPod, error: &kube::Error) -> PodError {
    if let kube::Error::Api(status) = error {
        let words = status.message.clone();
        return PodError::Refused { pod: pod.name.clone(), status: status.code, words };
    }
    let mut cause = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(source) = next {
        cause = format!("{cause}: {source}");
        next = source.source();
    }
    PodError::Cluster { pod: pod.name.clone(), cause }
}

/// The API server's own words, where it and not the pod has answered.
fn status_words(status: u16, body: &[u8]) -> Option<String> {
    if status < 400 {
        return None;
    }
    if let Some(words) = body.strip_prefix(b"error trying to reach service:") {
        return Some(String::from_utf8_lossy(words).trim().to_owned());
    }
    let json: serde_json::Value = serde_json::from_slice(body).ok()?;
    if json.get("kind")? != "Status" || json.get("apiVersion")? != "v1" {
        return None;
    }
    Some(json.get("message")?.as_str()?.to_owned())
}

/// What a command exited with, out of what exec reports at the end.
fn exit_code(status: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Status) -> Option<i32> {
    if status.status.as_deref() == Some("Success") {
        return Some(0);
    }
    let causes = status.details.as_ref()?.causes.as_ref()?;
    let code = causes.iter().find(|cause| cause.reason.as_deref() == Some("ExitCode"))?;
    code.message.as_deref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::status_words;

    #[test]
    fn the_api_servers_words_are_told_from_the_pods() {
        let status = br#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"pods \"x\" not found","code":404}"#;
        assert_eq!(status_words(404, status).as_deref(), Some("pods \"x\" not found"));
        assert_eq!(status_words(200, status), None);
        assert_eq!(status_words(404, b"not here"), None);
        assert_eq!(status_words(500, br#"{"status":"starting"}"#), None);
        assert_eq!(
            status_words(503, b"error trying to reach service: dial tcp: refused").as_deref(),
            Some("dial tcp: refused")
        );
    }
}
