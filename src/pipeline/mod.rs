//! The one place that knows all stages: what runs in which order, what ends it, what it made.

pub mod attributes;
pub mod builder;
pub mod error;
pub mod frontend;
pub mod journal;
pub mod login;

pub use error::Error;
