//! `--reproducible`: the time that an image has, and the lock that its base images come from.

use super::{refused_file, usage};
use crate::{
    config::{Config, Origin, Setting},
    diagnostic::Diagnostic,
    plan::ImageLock,
};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

/// The build argument that frontends and exporters take the time from.
const ARGUMENT: &str = "SOURCE_DATE_EPOCH";

/// The lock's name.
const FILE_NAME: &str = "bk-sync.lock";

/// The time of a reproducible build, told to `args` too. Where nobody says one it is 1970's begin: a time
/// that moved with every commit would give every layer a new digest.
pub(super) fn epoch(
    flag: Option<&str>,
    args: &mut BTreeMap<String, Setting<String>>,
) -> Result<Option<i64>, Box<Diagnostic>> {
    let Some(given) = flag else { return Ok(None) };
    let known = args.get(ARGUMENT).map(|setting| setting.value.clone());
    let text = match (given, known) {
        ("", Some(known)) => known,
        ("", None) => "0".to_owned(),
        (given, _) => given.to_owned(),
    };
    let epoch: i64 = text.parse().ok().filter(|epoch| *epoch >= 0).ok_or_else(|| {
        usage(
            format!("`--reproducible` cannot take the time `{text}`"),
            "give it in seconds since 1970, such as `--reproducible=$(git log -1 --format=%ct)`",
        )
    })?;
    let setting = Setting { value: epoch.to_string(), origin: Origin::Flag("--reproducible") };
    args.insert(ARGUMENT.to_owned(), setting);
    Ok(Some(epoch))
}

/// Where the lock lies: beside the config, else in the working directory.
pub(in crate::cli) fn path(config: Option<&Config>) -> PathBuf {
    config.map_or_else(|| PathBuf::from(FILE_NAME), |config| config.directory().join(FILE_NAME))
}

/// The lock in `path`; an empty one where there is none.
pub(in crate::cli) fn read(path: &Path) -> Result<ImageLock, Box<Diagnostic>> {
    match std::fs::read_to_string(path) {
        Ok(text) => {
            ImageLock::parse(&text).map_err(|error| refused_file("--reproducible", path, &error))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(ImageLock::default()),
        Err(error) => Err(refused_file("--reproducible", path, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_comes_before_the_argument_before_nothing() {
        let of = |flag: Option<&str>, known: Option<&str>| {
            let mut args = BTreeMap::new();
            if let Some(value) = known {
                let value = value.to_owned();
                args.insert(ARGUMENT.to_owned(), Setting { value, origin: Origin::Default });
            }
            epoch(flag, &mut args).map_err(|error| error.message).inspect(|found| {
                let told = args.get(ARGUMENT).map(|setting| setting.value.clone());
                assert!(found.is_none() || told == found.map(|epoch| epoch.to_string()));
            })
        };
        assert_eq!(of(None, Some("7")), Ok(None));
        assert_eq!(of(Some(""), None), Ok(Some(0)));
        assert_eq!(of(Some(""), Some("7")), Ok(Some(7)));
        assert_eq!(of(Some("9"), Some("7")), Ok(Some(9)));
        assert!(of(Some("today"), None).is_err() && of(Some("-1"), None).is_err());
    }
}
