//! A Kubernetes cluster: which one is meant, as whom we speak to it, and the byte streams that its
//! API server carries. What is done there is the business of `rollout`, `verify` and `buildkit`.

mod access;
mod error;
mod exec;

pub use access::{AccessSettings, Cluster, candidates};
pub use error::{AccessError, api_words, reaches_server};
pub use exec::{ExecError, PodVoice};
