//! Manifests, indexes, configs, references: what an image is, wherever it lies. Pure.

pub mod compare;
pub mod config;
pub mod copied;
pub mod document;
pub mod elf;
pub mod inspect;
pub mod json;
pub mod reference;
pub mod tree;
