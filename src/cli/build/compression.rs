//! `--compression` and what goes with it.

use super::usage;
use crate::diagnostic::Diagnostic;
use clap::{Args, ValueEnum};
use std::collections::BTreeMap;

/// How layers are compressed, as flags say it.
#[derive(Args, Clone, Debug)]
pub(super) struct CompressionArguments {
    /// How layers are compressed [default: gzip]
    #[arg(hide_short_help = true, long, value_name = "TYPE", help_heading = "Output options")]
    compression: Option<CompressionChoice>,
    /// How hard, as the type has it: 0-9 for gzip and estargz, 0-22 for zstd
    #[arg(
        hide_short_help = true,
        long,
        value_name = "N",
        help_heading = "Output options",
        requires = "compression"
    )]
    compression_level: Option<u8>,
    /// Compress layers anew that come compressed in another way, such as those of a base image
    #[arg(hide_short_help = true, long, help_heading = "Output options", requires = "compression")]
    force_compression: bool,
}

/// `--compression`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum CompressionChoice {
    /// Gzip, with an index of the files for lazy pullers
    Estargz,
    /// What every runtime reads
    Gzip,
    /// Not at all
    Uncompressed,
    /// Smaller and faster, for runtimes of the last years
    Zstd,
}

impl CompressionArguments {
    /// What the exporters are told of it.
    ///
    /// # Errors
    /// The level is one that the type does not have.
    pub(super) fn attributes(&self) -> Result<BTreeMap<String, String>, Box<Diagnostic>> {
        let Some(choice) = self.compression else { return Ok(BTreeMap::new()) };
        let (name, most) = match choice {
            CompressionChoice::Estargz => ("estargz", Some(9)),
            CompressionChoice::Gzip => ("gzip", Some(9)),
            CompressionChoice::Uncompressed => ("uncompressed", None),
            CompressionChoice::Zstd => ("zstd", Some(22)),
        };
        let mut attributes = BTreeMap::from([("compression".to_owned(), name.to_owned())]);
        match (self.compression_level, most) {
            (None, _) => {}
            (Some(level), Some(most)) if level <= most => {
                attributes.insert("compression-level".to_owned(), level.to_string());
            }
            (Some(level), Some(most)) => {
                return Err(usage(
                    format!("`--compression-level {level}` is more than {name} has"),
                    format!("give a level from 0 to {most}"),
                ));
            }
            (Some(_), None) => {
                return Err(usage(
                    "layers that are not compressed have no level",
                    "leave out `--compression-level`",
                ));
            }
        }
        if self.force_compression {
            attributes.insert("force-compression".to_owned(), "true".to_owned());
        }
        Ok(attributes)
    }
}
