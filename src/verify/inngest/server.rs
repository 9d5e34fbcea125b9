//! An Inngest server, asked over GraphQL, and over REST where GraphQL is switched off.

use super::{
    app::{self, App, AppsError},
    cron, runs, sign,
};
use crate::credential::Secret;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use std::time::Duration;
use url::{Host, Url};

/// Servers with a backlog are slow.
const LIMIT: Duration = Duration::from_secs(20);
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Runs that began before are not waited for by anybody.
const DAY: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);
/// No answer is bigger.
const MAX_ANSWER: usize = 16 << 20;

/// One server.
#[derive(Clone, Debug)]
pub struct Server {
    url: Url,
    key: Option<Secret>,
    client: reqwest::Client,
}

/// Why the server gave no answer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ServerError {
    /// Its address is none.
    #[error("`{0}` is no address of an Inngest server")]
    Address(String),
    /// It answered something else.
    #[error("the Inngest server at `{server}`: {cause}")]
    Answer {
        /// The server.
        server: String,
        /// What is wrong with the answer.
        cause: AppsError,
    },
    /// It refused.
    #[error("the Inngest server at `{server}` answered {status}{}", hint(*status))]
    Refused {
        /// The server.
        server: String,
        /// The HTTP status.
        status: u16,
    },
    /// It cannot be reached.
    #[error("the Inngest server at `{server}` cannot be reached: {cause}")]
    Unreachable {
        /// The server.
        server: String,
        /// What was seen.
        cause: String,
    },
}

fn hint(status: u16) -> &'static str {
    match status {
        401 | 403 => ": it wants the signing key",
        404 => ": its API is switched off, or that is no Inngest server",
        _ => "",
    }
}

impl ServerError {
    /// Whether another try may come to something else.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Address(_) | Self::Answer { .. } => false,
            Self::Refused { status, .. } => *status >= 500 || *status == 429,
            Self::Unreachable { .. } => true,
        }
    }
}

impl Server {
    /// The server at `url`; `key` is the signing key, for servers that want it.
    ///
    /// # Errors
    /// The address is none, or TLS cannot be set up.
    pub fn new(url: &str, key: Option<Secret>) -> Result<Self, ServerError> {
        let address = || ServerError::Address(url.to_owned());
        let parsed: Url = url.parse().map_err(|_| address())?;
        let host = parsed.host().filter(|_| matches!(parsed.scheme(), "http" | "https"));
        let host = host.ok_or_else(address)?.to_owned();
        let local = match host {
            Host::Ipv4(address) => address.is_loopback(),
            Host::Ipv6(address) => address.is_loopback(),
            Host::Domain(name) => name == "localhost",
        };
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("bk-sync/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_LIMIT)
            .timeout(LIMIT)
            .redirect(reqwest::redirect::Policy::none());
        if local {
            builder = builder.no_proxy();
        }
        if parsed.scheme() == "http" {
            // Root certificates need not be there.
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().map_err(|error| ServerError::Unreachable {
            server: url.to_owned(),
            cause: error.to_string(),
        })?;
        Ok(Self { url: parsed, key, client })
    }

    /// All apps with their functions; over REST, only the app `name`, and without its address.
    ///
    /// # Errors
    /// The server cannot be reached, refuses, or answers something else.
    pub async fn apps(&self, name: &str) -> Result<Vec<App>, ServerError> {
        match self.ask(&app::question()).await {
            Ok(body) => app::read(&body).map_err(|cause| self.garbled(cause)),
            Err(ServerError::Refused { status: 404 | 405, .. }) if self.key.is_some() => {
                let path = format!("v1/apps/{name}/functions");
                let body = self.get(&path).await?;
                let functions =
                    app::read_functions(name, &body).map_err(|cause| self.garbled(cause))?;
                Ok(vec![App { name: name.to_owned(), functions, ..App::default() }])
            }
            Err(error) => Err(error),
        }
    }

    /// Has the server itself ask the worker at `url` for its functions.
    ///
    /// # Errors
    /// It cannot be reached, or does not reach the worker.
    pub async fn ping(&self, url: &str) -> Result<(), ServerError> {
        let question = json!({
            "query": "mutation($input: CreateAppInput!) { createApp(input: $input) { id } }",
            "variables": { "input": { "url": url } },
        });
        self.mutate(&question).await
    }

    /// Deletes the app with the server's id `id`.
    ///
    /// # Errors
    /// It cannot be reached, or refuses.
    pub async fn delete(&self, id: &str) -> Result<(), ServerError> {
        let question = json!({
            "query": "mutation($id: String!) { deleteApp(id: $id) }",
            "variables": { "id": id },
        });
        self.mutate(&question).await
    }

    /// The crons of `app`.
    ///
    /// # Errors
    /// As for [`Self::apps`].
    pub async fn crons(&self, app: &str) -> Result<Vec<cron::Cron>, ServerError> {
        let body = self.ask(&cron::functions_question()).await?;
        cron::read_crons(app, &body).map_err(|cause| self.garbled(cause))
    }

    /// When the last completed run of a function since `from` began.
    ///
    /// # Errors
    /// As for [`Self::apps`].
    pub async fn last_run(
        &self,
        function: &str,
        from: jiff::Timestamp,
    ) -> Result<Option<jiff::Timestamp>, ServerError> {
        let body = self.ask(&cron::run_question(function, &from.to_string())).await?;
        cron::read_run(&body).map_err(|cause| self.garbled(cause))
    }

    /// How many runs of `app`'s functions go on that began in the last day; a few are told for many.
    ///
    /// # Errors
    /// As for [`Self::apps`].
    pub async fn running(&self, app: &str, now: jiff::Timestamp) -> Result<usize, ServerError> {
        let body = self.ask(&cron::functions_question()).await?;
        let functions = runs::read_ids(app, &body).map_err(|cause| self.garbled(cause))?;
        if functions.is_empty() {
            return Ok(0);
        }
        let from = now.checked_sub(DAY).unwrap_or(now);
        let body = self.ask(&runs::question(&functions, &from.to_string())).await?;
        runs::read(&body).map_err(|cause| self.garbled(cause))
    }

    async fn mutate(&self, question: &Value) -> Result<(), ServerError> {
        let body = self.ask(question).await?;
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        match answer.pointer("/errors/0/message").and_then(Value::as_str) {
            Some(words) => Err(self.garbled(AppsError::Refused(words.to_owned()))),
            None => Ok(()),
        }
    }

    async fn ask(&self, question: &Value) -> Result<Vec<u8>, ServerError> {
        let url = self.join("v0/gql");
        self.send(self.client.post(url).json(question)).await
    }

    async fn get(&self, path: &str) -> Result<Vec<u8>, ServerError> {
        let url = self.join(path);
        let mut call = self.client.get(url);
        if let Some(key) = &self.key
            && let Ok(mut value) = HeaderValue::from_bytes(&sign::bearer(key))
        {
            value.set_sensitive(true);
            call = call.header(header::AUTHORIZATION, value);
        }
        self.send(call).await
    }

    async fn send(&self, call: reqwest::RequestBuilder) -> Result<Vec<u8>, ServerError> {
        let unreachable = |error: reqwest::Error| {
            let error = error.without_url();
            let mut cause = error.to_string();
            let mut next = std::error::Error::source(&error);
            while let Some(source) = next {
                cause = format!("{cause}: {source}");
                next = source.source();
            }
            ServerError::Unreachable { server: self.shown(), cause }
        };
        let mut answer = call.send().await.map_err(unreachable)?;
        let status = answer.status();
        if status != StatusCode::OK {
            return Err(ServerError::Refused { server: self.shown(), status: status.as_u16() });
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(self.garbled(AppsError::Unreadable));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn join(&self, path: &str) -> Url {
        let mut url = self.url.clone();
        url.set_path(&format!("{}/{path}", self.url.path().trim_end_matches('/')));
        url
    }

    /// The address, less what nobody needs to see of it.
    fn shown(&self) -> String {
        let port = self.url.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}://{}{port}", self.url.scheme(), self.url.host_str().unwrap_or_default())
    }

    fn garbled(&self, cause: AppsError) -> ServerError {
        ServerError::Answer { server: self.shown(), cause }
    }
}
