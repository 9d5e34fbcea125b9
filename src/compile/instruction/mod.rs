//! What each instruction does to its stage: one file each.

pub(super) mod add;
pub(super) mod arg;
pub(super) mod cmd;
pub(super) mod copy;
pub(super) mod entrypoint;
pub(super) mod env;
pub(super) mod expose;
mod files;
pub(super) mod healthcheck;
pub(super) mod label;
pub(super) mod maintainer;
mod mount;
pub(super) mod onbuild;
mod remote;
pub(super) mod run;
pub(super) mod shell;
pub(super) mod stopsignal;
pub(super) mod user;
pub(super) mod volume;
pub(super) mod workdir;
