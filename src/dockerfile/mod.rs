//! Dockerfile text to spanned instructions: directives, continuations, heredocs, words, expansion,
//! flags, lint. Pure.
//!
//! [`ast`] is what comes out. [`expand`] is for whoever gives variables their values, and [`lint`]
//! for whoever finds what is legal but unwise.

pub mod ast;
pub(crate) mod csv;
pub mod directive;
pub mod error;
pub mod expand;
mod flags;
mod heredoc;
mod instruction;
mod json;
pub mod lint;
mod node;
mod parse;
mod place;
mod quote;
mod reader;
pub mod scalar;
mod source;
mod suggest;
mod word;

pub use csv::CsvError;
pub use error::{Cause, DeviceError, Error, Errors, MountError};
pub use parse::{parse, parse_trigger};
pub use place::{Lines, Span};
pub use quote::{quote, quote_list};
pub use suggest::{suggest, suggest_ignoring_case};
