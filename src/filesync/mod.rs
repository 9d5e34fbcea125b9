//! BuildKit's file-transfer protocol as state machines: walk, filter, order. No sockets.
//!
//! A transfer copies a tree from a **sender** to a **receiver**. The sender announces all entries in
//! one [order], and the receiver asks for the content of the files that it lacks. Towards a
//! builder we are the sender (build contexts); for `local` outputs we are the receiver.
//!
//! Nothing here knows a socket or a runtime. Packets go in and out as values; whoever drives the
//! machines owns the threads and the wire.

pub mod alike;
pub mod follow;
pub mod ledger;
pub mod mode;
pub mod order;
pub mod sender;

mod filter;
mod ledger_file;
mod receiver;
mod target;
mod tree;
mod walk;

pub use filter::{Filter, FilterError, FilterLists, Level, Verdict};
pub use ledger::{Judgement, Ledger};
pub use ledger_file::LedgerFile;
pub use receiver::{Receiver, ReceiverError, Step};
pub use sender::{Asked, Request, Sender, SenderError};
pub use target::{Target, TargetError};
pub use tree::{CHUNK, Content, Facts, Source, Tree, TreeError};
pub use walk::{Entry, Walk, WalkError};
