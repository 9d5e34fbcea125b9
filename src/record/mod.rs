//! What is remembered of a deploy: the receipt, the history that keeps it, and those who are told.
//!
//! A [`Receipt`] is plain data that links git tree, graph, image, pods and checks. [`History`]
//! keeps receipts in the state directory, [`LoanNotes`] leases that are to be given back; the sinks hand them to a command or an address. Nothing
//! here knows the pipeline: it fills the receipt in.

mod annotations;
mod build;
mod history;
mod loans;
mod page;
mod receipt;
mod referrer;
mod sink;

pub use annotations::{ANNOTATION_PREFIX, annotations};
pub use build::BuildRecord;
pub use history::{History, HistoryError};
pub use loans::LoanNotes;
pub use receipt::{
    CheckRecord, FailureRecord, FileDigest, HookRecord, ImageRecord, LayerRecord, ManifestRecord,
    Outcome, PodRecord, Receipt, ReplicaSetRecord, RolloutRecord, StageRecord, StageState,
};
pub use referrer::{ARTIFACT_TYPE, Referrer};
pub(crate) use sink::child;
pub use sink::{SinkError, post, run};
