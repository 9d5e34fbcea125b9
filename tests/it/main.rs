//! All integration tests, in one binary. Each module is a file beside this one; tests that need a
//! real part read its address from `target/services.env` (`make services` writes it) and fail,
//! never skip, where it is missing.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::string_slice,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

mod bed;
mod build;
mod cli;
mod codes;
mod command;
mod compile_properties;
mod completion;
mod conformance_corners;
mod conformance_filesync;
mod conformance_ignore;
mod conformance_llb;
mod credential;
mod dial;
mod dial_failures;
mod differential;
mod dockerfile;
mod dockerfile_properties;
mod edges;
mod engine;
mod expand;
mod filesync_live;
mod generated;
mod graphs;
mod inspect;
mod progress;
mod push;
mod rollout;
mod schema;
mod session;
mod shared_cache;
mod sync;
mod trace;
mod transcripts;
mod verify;
mod why;
