//! The one place that knows all stages: what runs in which order, what ends it, what it made.

mod answer;
pub mod attributes;
mod build;
pub mod builder;
pub mod built;
mod caches;
mod docker;
pub mod doctor;
pub mod error;
pub mod frontend;
mod hooks;
pub mod imagined;
pub mod journal;
pub mod login;
mod metadata;
mod native;
pub mod outputs;
mod policy;
mod receive;
pub mod rollout;
mod services;
pub mod sources;
pub mod sync;
mod web;

pub use answer::{Asked, ask};
pub use build::{Inputs, build, look};
pub use built::Built;
pub use caches::CacheDefault;
pub use error::Error;
