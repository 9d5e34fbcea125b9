//! Dockerfile text to spanned instructions: directives, continuations, heredocs, words, expansion,
//! flags, lint. Pure.
//!
//! [`ast`] is what comes out. [`expand`] is for whoever gives variables their values, and [`lint`]
//! for whoever finds what is legal but unwise.
//!
//! # Example
//!
//! ```
//! use bk_sync::dockerfile::{self, ast::Kind, lint::Linter};
//!
//! let text = b"FROM alpine AS build\nRUN make\nFROM scratch\nCOPY --from=build /out /\nCMD run\n";
//! let mut linter = Linter::default();
//! let file = dockerfile::parse(text, &mut linter)?;
//!
//! let stages: Vec<_> = file.stages.iter().map(|stage| stage.from.base.as_str()).collect();
//! assert_eq!(stages, ["alpine", "scratch"]);
//! assert_eq!(file.stages[0].from.name.as_deref(), Some("build"));
//! assert!(matches!(file.stages[0].instructions[0].kind, Kind::Run(_)));
//! # Ok::<(), bk_sync::dockerfile::Errors>(())
//! ```
//!
//! What is wrong has a place:
//!
//! ```
//! use bk_sync::dockerfile::{self, lint::Linter};
//!
//! let errors = dockerfile::parse(b"FROM alpine\nRUNN make\n", &mut Linter::default()).unwrap_err();
//! assert!(errors.to_string().contains("unknown instruction: RUNN"));
//! ```

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
