//! Flags about signatures: `--sign-key`, `--base-key`.

use super::ValueError;
use crate::{
    image::reference::Reference,
    plan::{BaseKey, SecretSource},
};

/// What begins the name of a variable that holds a key.
const VARIABLE: &str = "env:";

/// `FILE` or `env:NAME`: where a private key is.
pub(crate) fn sign_key(text: &str) -> Result<SecretSource, ValueError> {
    let hint = "write a file with a private key, or `env:NAME`";
    match text.strip_prefix(VARIABLE) {
        Some("") => Err(ValueError::new(format!("`{text}` names no variable"), hint)),
        Some(name) => Ok(SecretSource::Env(name.to_owned())),
        None if text.is_empty() => Err(ValueError::new("no key is named", hint)),
        None => Ok(SecretSource::File(text.into())),
    }
}

/// `[IMAGES=]FILE`: a key, and which images it holds for; all where it is not said.
pub(crate) fn base_key(text: &str) -> Result<BaseKey, ValueError> {
    let (of, key) = text.split_once('=').unwrap_or(("*", text));
    if key.is_empty() {
        return Err(ValueError::new(
            format!("`{text}` names no key"),
            "write `[IMAGES=]FILE`, such as `docker.io/library/*=library.pub`",
        ));
    }
    Ok(BaseKey { images: images(of)?, key: key.into() })
}

/// Images by their names in full, in which `*` stands for any text.
pub(crate) fn images(text: &str) -> Result<String, ValueError> {
    if text.contains('*') {
        return Ok(text.to_owned());
    }
    let reference = Reference::parse(text).map_err(|error| {
        ValueError::new(
            format!("`{text}` is no image: {error}"),
            "name an image, or several as in `ghcr.io/me/*`",
        )
    })?;
    if reference.tag().is_some() || reference.digest().is_some() {
        return Err(ValueError::new(
            format!("`{text}` is one version of an image, and a key holds for all"),
            format!("write `{}`", reference.name()),
        ));
    }
    Ok(reference.name())
}

#[cfg(test)]
mod tests {
    use super::{base_key, images, sign_key};
    use crate::plan::SecretSource;

    #[test]
    fn keys_are_files_or_variables() {
        assert_eq!(sign_key("a/k.pem").unwrap(), SecretSource::File("a/k.pem".into()));
        assert_eq!(sign_key("env:KEY").unwrap(), SecretSource::Env("KEY".to_owned()));
        assert!(sign_key("").is_err() && sign_key("env:").is_err());
    }

    #[test]
    fn a_key_holds_for_images_by_name() {
        let read = |text: &str| base_key(text).map(|one| (one.images, one.key));
        assert_eq!(read("k.pub").unwrap(), ("*".to_owned(), "k.pub".into()));
        assert_eq!(read("alpine=k").unwrap(), ("docker.io/library/alpine".to_owned(), "k".into()));
        assert_eq!(read("ghcr.io/*=k").unwrap(), ("ghcr.io/*".to_owned(), "k".into()));
        for wrong in ["", "alpine=", "alpine:3=k", "A b=k"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(images("alpine@sha256:1").is_err());
    }
}
