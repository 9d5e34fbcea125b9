//! A digest goes in; verified pods come out, or what stands in their way and a verified way back.
//!
//! What is decided is decided by pure functions of what was observed: which container gets the image
//! ([`patch`]), whether the rollout is done ([`status`]), what stands in its way ([`diagnose`]).

pub mod api;
pub mod code;
pub mod diagnose;
pub mod drive;
pub mod lock;
pub mod observed;
pub mod patch;
pub mod platforms;
pub mod preflight;
pub mod proof;
pub mod report;
pub mod request;
pub mod rights;
pub mod status;
pub mod watch;
pub mod way_back;
pub mod workload;

pub use code::Code;
pub use report::{Diagnosis, RolloutReport, WorkloadReport};
pub use request::{OnFailure, PinnedImage, Provenance, Request};
pub use workload::{Kind, WorkloadName};
