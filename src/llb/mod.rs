//! The build graph: ops, states, deterministic marshalling, digests, source map. Pure.
