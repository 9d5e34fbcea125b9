//! References: names of images, by the grammar of the distribution project.
//!
//! `alpine` is short for `docker.io/library/alpine:latest`; a reference in full has a domain, a
//! path, and a tag or a digest or both.

use regex::Regex;
use std::fmt;
use std::sync::LazyLock;
use thiserror::Error;

/// The name of an image in full: domain, path, tag, digest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<String>,
}

/// Why a text names no image.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ReferenceError {
    /// 64 hexadecimal digits are the id of an image, not its name.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    Id(String),
    /// The path has capitals.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// It follows the grammar but for capitals somewhere.
    #[error("repository name must be lowercase")]
    NameUppercase,
    /// It does not follow the grammar.
    #[error("invalid reference format")]
    Format,
    /// There is nothing.
    #[error("repository name must have at least one component")]
    Empty,
    /// The path is longer than 255 bytes.
    #[error("repository name must not be more than 255 characters")]
    TooLong,
    /// The digest has an algorithm that nobody knows.
    #[error("unsupported digest algorithm")]
    DigestAlgorithm,
    /// The digest has too few or too many digits for its algorithm.
    #[error("invalid checksum digest length")]
    DigestLength,
    /// The digest has no form of a digest.
    #[error("invalid checksum digest format")]
    DigestFormat,
}

const TAG: &str = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}";
const DIGEST: &str = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}";
const DOMAIN: &str = concat!(
    r"(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])",
    r"(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*",
    r"|\[(?:[a-fA-F0-9:]+)\])(?::[0-9]+)?"
);
const PATH: &str = concat!(
    r"[a-z0-9]+(?:(?:[._]|__|[-]+)[a-z0-9]+)*",
    r"(?:/[a-z0-9]+(?:(?:[._]|__|[-]+)[a-z0-9]+)*)*"
);

static REFERENCE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(&format!("^((?:{DOMAIN}/)?{PATH})(?::({TAG}))?(?:@({DIGEST}))?$")).ok()
});
static NAME: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(&format!("^(?:({DOMAIN})/)?({PATH})$")).ok());

impl Reference {
    /// Parses a name as a user writes it.
    ///
    /// # Errors
    /// [`ReferenceError`].
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let is_id =
            text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if is_id {
            return Err(ReferenceError::Id(text.into()));
        }
        let (domain, remainder) = split_domain(text);
        let remote = remainder.split(':').next().unwrap_or_default();
        if remote.to_lowercase() != remote {
            return Err(ReferenceError::Uppercase(remote.into()));
        }
        Self::parse_exact(&format!("{domain}/{remainder}"))
    }

    /// Parses a name that is written in full, or one that has no registry at all, such as that of
    /// a layout: nothing is filled in.
    ///
    /// # Errors
    /// [`ReferenceError`].
    pub fn parse_exact(text: &str) -> Result<Self, ReferenceError> {
        let pattern = REFERENCE.as_ref().ok_or(ReferenceError::Format)?;
        let captures = pattern.captures(text).ok_or_else(|| {
            if text.is_empty() {
                ReferenceError::Empty
            } else if pattern.is_match(&text.to_lowercase()) {
                ReferenceError::NameUppercase
            } else {
                ReferenceError::Format
            }
        })?;
        let group = |at: usize| captures.get(at).map(|group| group.as_str());
        let name = group(1).unwrap_or_default();
        let parts = NAME.as_ref().and_then(|pattern| pattern.captures(name));
        let part = |at: usize| parts.as_ref().and_then(|parts| parts.get(at));
        let domain = part(1).map_or("", |part| part.as_str());
        let path = part(2).map_or(name, |part| part.as_str());
        if path.len() > 255 {
            return Err(ReferenceError::TooLong);
        }
        let digest = group(3).map(|digest| check_digest(digest).map(|()| digest.to_owned()));
        Ok(Self {
            domain: domain.into(),
            path: path.into(),
            tag: group(2).map(str::to_owned),
            digest: digest.transpose()?,
        })
    }

    /// With the tag `latest` where it has neither tag nor digest.
    #[must_use]
    pub fn or_latest(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some("latest".into());
        }
        self
    }

    /// The same name with this digest.
    ///
    /// # Errors
    /// [`ReferenceError::DigestFormat`] where it is none.
    pub fn with_digest(mut self, digest: &str) -> Result<Self, ReferenceError> {
        static PATTERN: LazyLock<Option<Regex>> =
            LazyLock::new(|| Regex::new(&format!("^{DIGEST}$")).ok());
        if !PATTERN.as_ref().is_some_and(|pattern| pattern.is_match(digest)) {
            return Err(ReferenceError::DigestFormat);
        }
        self.digest = Some(digest.into());
        Ok(self)
    }

    /// The registry, as `docker.io` or `registry.example.test:5000`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The path in the registry, as `library/alpine`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Domain and path.
    pub fn name(&self) -> String {
        if self.domain.is_empty() {
            self.path.clone()
        } else {
            format!("{}/{}", self.domain, self.path)
        }
    }

    /// The tag.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// The name as a user would write it: without Docker's registry and its `library/`.
    pub fn familiar(&self) -> String {
        let mut short = self.clone();
        if short.domain == "docker.io" {
            short.domain.clear();
            if let Some(rest) = short.path.strip_prefix("library/")
                && !rest.contains('/')
            {
                short.path = rest.into();
            }
        }
        short.to_string()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// The domain that is meant, and the rest.
fn split_domain(text: &str) -> (&str, String) {
    let Some((first, rest)) = text.split_once('/') else {
        return ("docker.io", format!("library/{text}"));
    };
    let (domain, remainder) = if first == "index.docker.io" {
        ("docker.io", rest)
    } else if first == "localhost" || first.contains(['.', ':']) || first.to_lowercase() != first {
        (first, rest)
    } else {
        ("docker.io", text)
    };
    if domain == "docker.io" && !remainder.contains('/') {
        return (domain, format!("library/{remainder}"));
    }
    (domain, remainder.into())
}

/// Whether a text is a digest, as `sha256:…` with as many digits as its algorithm has.
///
/// # Errors
/// One of [`ReferenceError`]'s three kinds of wrong digests.
pub fn check_digest(text: &str) -> Result<(), ReferenceError> {
    let Some((algorithm, hex)) = text.split_once(':').filter(|(_, hex)| !hex.is_empty()) else {
        return Err(ReferenceError::DigestFormat);
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '.' | '-' | '_');
    if algorithm.is_empty() || !algorithm.chars().all(fits) {
        return Err(ReferenceError::DigestFormat);
    }
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return Err(ReferenceError::DigestAlgorithm),
    };
    if hex.len() != length {
        return Err(ReferenceError::DigestLength);
    }
    if !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(ReferenceError::DigestFormat);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn full(text: &str) -> String {
        match Reference::parse(text) {
            Ok(reference) => reference.or_latest().to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn names_are_filled_in() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, expected) in [
            ("alpine", "docker.io/library/alpine:latest".to_owned()),
            ("team/app:1", "docker.io/team/app:1".into()),
            ("index.docker.io/alpine", "docker.io/library/alpine:latest".into()),
            ("localhost/app", "localhost/app:latest".into()),
            ("[::1]:5000/app", "[::1]:5000/app:latest".into()),
            ("Host/app", "Host/app:latest".into()),
            (&format!("a@{digest}"), format!("docker.io/library/a@{digest}")),
            (&format!("a:1@{digest}"), format!("docker.io/library/a:1@{digest}")),
        ] {
            assert_eq!(full(text), expected);
        }
    }

    #[test]
    fn what_names_no_image_says_why() {
        let cases = [
            (
                "Alpine:3.21",
                "invalid reference format: repository name (library/Alpine) must be lowercase",
            ),
            ("", "invalid reference format"),
            ("a b", "invalid reference format"),
            ("a:", "invalid reference format"),
            ("a@sha256:00", "invalid reference format"),
        ];
        for (text, expected) in cases {
            assert_eq!(full(text), expected, "{text}");
        }
        assert!(full(&"0".repeat(64)).contains("64-byte"));
        let short = format!("a@sha256:{}", "0".repeat(63));
        assert_eq!(full(&short), "invalid checksum digest length");
    }

    #[test]
    fn familiar_names_are_short() {
        let familiar = |text| Reference::parse(text).unwrap().familiar();
        assert_eq!(familiar("docker.io/library/alpine:3"), "alpine:3");
        assert_eq!(familiar("docker.io/team/app"), "team/app");
        assert_eq!(familiar("example.test/app"), "example.test/app");
    }
}
