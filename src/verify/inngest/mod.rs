//! What an Inngest server knows of a worker. That a worker was registered proves nothing by itself:
//! the functions of the new pod must be those that the server has for *its* app, the server must
//! reach it, and crons must have run.
//!
//! [`app`], [`cron`], [`judge`], [`runs`], [`sign`], [`source`] and [`worker`] are pure; [`server`] asks.

pub mod app;
pub mod checks;
pub mod cron;
pub mod judge;
pub mod runs;
pub mod server;
pub mod sign;
pub mod source;
pub mod worker;
