//! Ignore files with Docker's semantics (not git's). Pure.
