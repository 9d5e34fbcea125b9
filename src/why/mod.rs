//! Why a step was not cached: what a build was made of, compared with the build before it.
//!
//! A [`Record`] is kept of each build: its graph, how each step went, and the index of the context
//! files that it took in. [`explain`] compares two of them. Pure: where records lie is the
//! pipeline's matter.
//!
//! A builder decides by content, and so does this: a file counts as changed where its content, mode
//! or link is another, whatever its times say.

mod advice;
mod align;
mod cause;
mod files;
mod graph;
mod properties;
mod record;
mod text;

pub use advice::Advice;
pub use cause::{Cause, Explained, Report, State, explain};
pub use files::{Change, FileChange};
pub use graph::{Went, steps};
pub use properties::kept;
pub use record::{Entry, Record, RecordError, Selection, Step};
