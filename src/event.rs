//! What every stage tells while it works. Plain data; [`crate::progress`] is the only reader.
