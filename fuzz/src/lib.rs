//! The rooms under test, taken in by their paths: none of them needs more than two libraries, and so
//! an instrumented build takes a minute and not an hour.

#[path = "../../src/dockerfile/mod.rs"]
pub mod dockerfile;
#[path = "../../src/ignorefile/mod.rs"]
pub mod ignorefile;
#[path = "../../src/image/reference.rs"]
pub mod reference;
