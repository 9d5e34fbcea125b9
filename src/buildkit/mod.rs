//! The wire to a builder: addresses, dialling, control, gateway, sessions, status, errors.

pub mod address;
pub mod capabilities;
pub mod control;
pub mod dial;
pub mod discover;
pub mod errors;
pub mod gateway;
pub mod session;
pub mod solve;
pub mod status;
