//! The one place that knows all stages: what runs in which order, what ends it, what it made.

pub mod attributes;
mod build;
pub mod builder;
pub mod built;
mod docker;
pub mod doctor;
pub mod error;
pub mod frontend;
mod hooks;
pub mod imagined;
pub mod journal;
pub mod login;
mod native;
pub mod outputs;
pub mod push;
mod receive;
pub mod rollout;
mod services;
pub mod sources;
pub mod sync;

pub use build::{Inputs, build, look};
pub use built::Built;
pub use error::Error;
