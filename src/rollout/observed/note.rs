//! What components of the cluster say of an object: Kubernetes' events.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;

/// What is kept of an event.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Note {
    /// The uid of the object that it is about.
    pub object_uid: String,
    /// Such as `FailedMount`.
    pub reason: String,
    /// In words.
    pub message: String,
    /// When it was last said.
    pub last: Option<Timestamp>,
}

impl Note {
    /// Reads an event.
    pub fn read(event: &Event) -> Self {
        let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref());
        let last = series
            .map(|time| time.0)
            .or_else(|| event.last_timestamp.as_ref().map(|time| time.0))
            .or_else(|| event.event_time.as_ref().map(|time| time.0))
            .or_else(|| event.metadata.creation_timestamp.as_ref().map(|time| time.0));
        Self {
            object_uid: event.involved_object.uid.clone().unwrap_or_default(),
            reason: event.reason.clone().unwrap_or_default(),
            message: event.message.clone().unwrap_or_default(),
            last,
        }
    }
}
