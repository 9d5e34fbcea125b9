//! How images are signed that are pushed, and by whom those have to be that a build starts from.

use super::SecretSource;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf};

/// How an image is signed once it is pushed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SigningPlan {
    /// Who signs.
    pub by: SignedBy,
    /// Words that are signed with the image's digest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Who signs an image.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SignedBy {
    /// This process, with a private key.
    Key {
        /// Where the key is, in PEM.
        source: SecretSource,
        /// The variable with its password.
        password_env: String,
    },
    /// A command. With `{image}` among its words it signs and leaves the signature in the registry by
    /// itself; without, it gets what is to be signed on stdin and writes the signature to stdout.
    Command(Vec<String>),
}

/// What stands for the image, with its digest, in a command that signs.
pub const IMAGE: &str = "{image}";

impl SigningPlan {
    /// Who signs, in a few words: the key's file or variable, or the command.
    pub fn who(&self) -> String {
        match &self.by {
            SignedBy::Key { source: SecretSource::Env(name), .. } => format!("${name}"),
            SignedBy::Key { source: SecretSource::File(path), .. } => path.display().to_string(),
            SignedBy::Command(words) => words.join(" "),
        }
    }

    /// The variables that it needs.
    pub fn variables(&self) -> Vec<&str> {
        match &self.by {
            SignedBy::Key { source: SecretSource::Env(name), password_env } => {
                vec![name, password_env]
            }
            SignedBy::Key { password_env, .. } => vec![password_env],
            SignedBy::Command(_) => Vec::new(),
        }
    }
}

/// A key by which images have to be signed that a build starts from.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct BaseKey {
    /// Which images: their names in full without tags, where `*` stands for any text.
    pub images: String,
    /// The file with the public key or certificate.
    pub key: PathBuf,
}

impl BaseKey {
    /// Whether it holds for the image of this name, such as `docker.io/library/alpine`.
    pub fn holds_for(&self, name: &str) -> bool {
        let mut parts = self.images.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(first) else { return false };
        let mut parts = parts.peekable();
        if parts.peek().is_none() {
            return rest.is_empty();
        }
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                return rest.ends_with(part);
            }
            match rest.split_once(part) {
                Some((_, after)) => rest = after,
                None => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::BaseKey;

    #[test]
    fn a_star_stands_for_any_text() {
        let holds = |images: &str, name: &str| {
            BaseKey { images: images.to_owned(), key: "k".into() }.holds_for(name)
        };
        for (images, name) in [
            ("*", "docker.io/library/alpine"),
            ("docker.io/library/*", "docker.io/library/alpine"),
            ("*/alpine", "docker.io/library/alpine"),
            ("docker.io/*/alpine", "docker.io/library/alpine"),
            ("docker.io/*l*e", "docker.io/library/alpine"),
            ("a", "a"),
            ("a*", "a"),
            ("a**", "a"),
        ] {
            assert!(holds(images, name), "{images} {name}");
        }
        for (images, name) in [
            ("a", "ab"),
            ("a*a", "a"),
            ("", "a"),
            ("ghcr.io/*", "docker.io/ghcr.io/a"),
            ("*alpine", "docker.io/library/alpine/x"),
            ("a*b*c", "acb"),
        ] {
            assert!(!holds(images, name), "{images} {name}");
        }
    }
}
