//! Events to a pure state, and the state to a screen, lines or JSON.
//!
//! ```text
//! Event ─synthetic→ Told ─state→ Change ─plain→ lines
//!                        │   └──────────tty→ frames
//!                        └──────────rawjson→ objects
//! ```
//!
//! Everything but [`Reporter`] is pure: it gets what was told and the time, and gives text.

mod closing;
mod overflow;
mod pace;
mod plain;
mod rawjson;
mod reporter;
mod state;
mod summary;
mod synthetic;
mod text;
mod timeline;
mod tty;

pub use reporter::{Mode, Reporter, Terminal};
pub use summary::{Lint, Summary};
pub use timeline::{Span, Timeline};
pub use tty::{Look, Size};
