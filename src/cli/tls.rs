//! The TLS flags as files. Their names and the names in `--tlsdir` are buildctl's.

use super::arguments::GlobalArguments;
use crate::{
    diagnostic::{Diagnostic, Exit},
    transport::tls::Files,
};
use std::path::{Path, PathBuf};

/// The material that the flags name.
///
/// # Errors
/// Where `--tlsdir` lacks a file.
pub(super) fn files(global: &GlobalArguments) -> Result<Files, Box<Diagnostic>> {
    let server_name = global.tlsservername.clone();
    let Some(directory) = &global.tlsdir else {
        return Ok(Files {
            ca: global.tlscacert.clone(),
            cert: global.tlscert.clone(),
            key: global.tlskey.clone(),
            server_name,
        });
    };
    Ok(Files {
        ca: Some(one_of(directory, "ca.pem", "ca.crt")?),
        cert: Some(one_of(directory, "cert.pem", "tls.crt")?),
        key: Some(one_of(directory, "key.pem", "tls.key")?),
        server_name,
    })
}

fn one_of(directory: &Path, first: &str, second: &str) -> Result<PathBuf, Box<Diagnostic>> {
    let paths = [directory.join(first), directory.join(second)];
    paths.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        let message = format!("`{}` has neither `{first}` nor `{second}`", directory.display());
        Diagnostic::new("USAGE", Exit::Usage, message)
            .with_fix("name each file with `--tlscacert`, `--tlscert` and `--tlskey`")
            .into()
    })
}
