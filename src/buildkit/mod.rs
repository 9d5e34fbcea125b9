//! The wire to a builder: addresses, dialling, control, gateway, sessions, status, errors.

pub mod session;
