//! Manifests, indexes, configs, references: what an image is, wherever it lies. Pure.

pub mod config;
pub mod document;
pub mod json;
pub mod reference;
