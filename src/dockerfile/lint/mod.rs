//! Lint: what is legal but unwise. Rules are data ([`rules`]); [`Linter`] decides which of them speak
//! and collects what they say. Rules that need no more than the instructions are checked here
//! ([`check`]) or while reading; the others by `compile`, which reports through the same linter.

pub mod check;
mod linter;
mod options;
pub mod rules;

pub use linter::{Linter, Scope, Violations, Warning};
pub use options::{Options, OptionsError, Selection};
