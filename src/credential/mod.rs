//! Where secrets come from, and how they are held.

mod secret;

pub use secret::Secret;
