//! The binary: install the TLS provider, run the command line, end with its exit code.

use bk_sync::cli::{self, Environment};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::process::ExitCode;

fn main() -> ExitCode {
    // What this process holds in memory is nothing for a file: no core is written, however it ends.
    let Rlimit { maximum, .. } = getrlimit(Resource::Core);
    // A system that lets nobody lower this writes none either.
    let _lowered = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum });
    // The one line that chooses the TLS provider; it fails only where one is installed already.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    cli::run(std::env::args_os(), &Environment::process())
}
