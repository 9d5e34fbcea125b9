//! What goes wrong with a Docker Engine.

use crate::transport::OpenError;
use std::time::Duration;
use thiserror::Error;

/// A call to a Docker Engine that failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The Engine's answer is longer than an answer to that call can be.
    #[error("the Docker Engine's answer to `{path}` is longer than {limit} bytes")]
    AnswerTooLong {
        /// What was asked.
        path: String,
        /// How much was read.
        limit: usize,
    },
    /// The connection broke, or what came was not HTTP.
    #[error("the Docker Engine broke off at `{path}`: {source}")]
    Broken {
        /// What was asked.
        path: String,
        /// What the HTTP client saw.
        source: hyper::Error,
    },
    /// The Engine's answer is not what the API says.
    #[error("the Docker Engine's answer to `{path}` cannot be read: {problem}")]
    Garbled {
        /// What was asked.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Something in the request cannot be put into HTTP.
    #[error("`{path}` cannot be asked of a Docker Engine: {source}")]
    Request {
        /// What was to be asked.
        path: String,
        /// Why not.
        source: http::Error,
    },
    /// It speaks HTTP, but no Engine API.
    #[error("what listens there is an HTTP server, but no Docker Engine ({answered})")]
    NotAnEngine {
        /// What it answered.
        answered: String,
    },
    /// It could not be reached.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The Engine said no.
    #[error("the Docker Engine refused `{path}`: {message} (status {status})")]
    Refused {
        /// What was asked.
        path: String,
        /// The HTTP status.
        status: u16,
        /// What it said.
        message: String,
    },
    /// It did not answer in time.
    #[error("the Docker Engine did not answer `{path}` within {} s", after.as_secs())]
    Silent {
        /// What was asked.
        path: String,
        /// How long we waited.
        after: Duration,
    },
    /// The child process that carries the connection ended.
    #[error("the way to the Docker Engine ended: {words}")]
    WayEnded {
        /// What it said last.
        words: String,
    },
    /// An image could not be pushed or loaded; the Engine says why in the middle of its report.
    #[error("{message}")]
    Image {
        /// What it said.
        message: String,
        /// The HTTP status that the registry gave, where the Engine tells it.
        code: Option<u16>,
    },
}

impl Error {
    /// The HTTP status, where the Engine itself refused.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// What the user can do, where there is something.
    pub fn fix(&self) -> Option<String> {
        match self {
            Self::Open(error) => error.fix(),
            Self::NotAnEngine { .. } => {
                Some("correct the address: it must be a Docker Engine's or buildkitd's".to_owned())
            }
            _ => None,
        }
    }
}
