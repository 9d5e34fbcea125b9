//! Dockerfile text to spanned instructions: directives, continuations, heredocs, words, expansion,
//! flags, lint. Pure.
//!
//! [`ast`] is what comes out. [`expand`] is for whoever gives variables their values, and [`lint`]
//! for whoever finds what is legal but unwise.

pub mod ast;
pub mod directive;
pub mod expand;
pub mod lint;
mod place;
mod quote;
pub mod scalar;
mod source;
mod suggest;

pub use place::{Lines, Span};
pub use quote::{quote, quote_list};
pub use suggest::{suggest, suggest_ignoring_case};
