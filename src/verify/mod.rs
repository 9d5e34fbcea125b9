//! Checks after a rollout: what the new pods answer, what a command in them says, and what an
//! Inngest server knows of them. A rollout that Kubernetes calls done may still serve nothing.
//!
//! [`expect`], [`report`] and what [`inngest`] judges are pure rules over what was seen;
//! [`pods`] and [`inngest::server`] are what sees it. The pods are always those of the new
//! revision, by their UIDs: an old pod that answers well proves nothing.

pub mod expect;
pub mod http;
pub mod inngest;
pub mod pods;
pub mod report;

use std::time::Duration;

/// Pauses between tries: a pod that is ready may still be warming up.
pub const PAUSES: [Duration; 5] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];
