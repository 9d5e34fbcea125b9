//! Manifests, indexes, configs, references: what an image is, wherever it lies. Pure.
