//! The binary: install the TLS provider, run the command line, end with its exit code.

use bk_sync::cli::{self, Environment};
use std::process::ExitCode;

fn main() -> ExitCode {
    // The one line that chooses the TLS provider; it fails only where one is installed already.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    cli::run(std::env::args_os(), &Environment::process())
}
