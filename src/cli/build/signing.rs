//! `--sign-key` and `--no-sign`, which `push` takes too.

use super::refused;
use crate::{
    config::{SignOverride, values},
    diagnostic::Diagnostic,
};
use clap::Args;

/// How what is pushed is signed, as flags say it.
#[derive(Args, Clone, Debug, Default)]
pub(in crate::cli) struct SigningArguments {
    /// Sign what is pushed with this private key, as cosign checks it: a file, or `env:NAME`; its
    /// password is in `COSIGN_PASSWORD`
    #[arg(hide_short_help = true, long, value_name = "KEY", help_heading = "Output options")]
    sign_key: Option<String>,
    /// Sign nothing, whatever bk-sync.toml says
    #[arg(
        hide_short_help = true,
        long,
        help_heading = "Output options",
        conflicts_with = "sign_key"
    )]
    no_sign: bool,
}

impl SigningArguments {
    /// What they say.
    ///
    /// # Errors
    /// A key is not named as one can be.
    pub(in crate::cli) fn given(&self) -> Result<SignOverride, Box<Diagnostic>> {
        let key = self.sign_key.as_deref().map(values::sign_key).transpose();
        Ok(match key.map_err(|error| refused("--sign-key", error))? {
            Some(source) => SignOverride::Key(source),
            None if self.no_sign => SignOverride::Off,
            None => SignOverride::Unsaid,
        })
    }
}
