//! Platforms: parsing, normal form and text form, by the rules of containerd.

use regex::Regex;
use std::sync::LazyLock;
use thiserror::Error;

use crate::proto::pb;

/// An operating system and a processor, with their variants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Platform {
    /// `linux`, `windows`, … in Go's words.
    pub os: String,
    /// `amd64`, `arm64`, … in Go's words.
    pub architecture: String,
    /// `v7` and its like; empty where the architecture says it all.
    pub variant: String,
    /// The version of the operating system; only Windows has one.
    pub os_version: String,
    /// Features that the operating system must have.
    pub os_features: Vec<String>,
}

/// Why a text is no platform.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PlatformError {
    /// The text holds a `*`.
    #[error("{0:?}: wildcards not yet supported: invalid argument")]
    Wildcard(String),
    /// The part before the first slash is no operating system.
    #[error(
        "{part:?} is an invalid OS component of {text:?}: OSAndVersion specifier component must \
         match {pattern:?}: invalid argument"
    )]
    Os {
        /// The part.
        part: String,
        /// The whole text.
        text: String,
        /// What the part should look like.
        pattern: &'static str,
    },
    /// A later part holds characters that no platform has.
    #[error(
        "{part:?} is an invalid component of {text:?}: platform specifier component must match \
         {pattern:?}: invalid argument"
    )]
    Component {
        /// The part.
        part: String,
        /// The whole text.
        text: String,
        /// What the part should look like.
        pattern: &'static str,
    },
    /// An escape or an empty name in the parentheses behind the operating system.
    #[error("{text:?} has an invalid OS version or feature {part:?}: invalid argument")]
    Option {
        /// What is in the parentheses.
        part: String,
        /// The whole text.
        text: String,
    },
    /// A single word that is neither an operating system nor an architecture.
    #[error("{0:?}: unknown operating system or architecture: invalid argument")]
    Unknown(String),
    /// Too many parts.
    #[error("{0:?}: cannot parse platform specifier: invalid argument")]
    Parts(String),
}

const OS_PATTERN: &str = r"^([A-Za-z0-9_-]+)(?:\(([A-Za-z0-9_.%-]*)((?:\+[A-Za-z0-9_.%-]+)*)\))?$";
const COMPONENT_PATTERN: &str = "^[A-Za-z0-9_.-]+$";

const KNOWN_OS: [&str; 17] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
    "zos",
];

const KNOWN_ARCHITECTURES: [&str; 24] = [
    "386",
    "amd64",
    "amd64p32",
    "arm",
    "arm64",
    "arm64be",
    "armbe",
    "loong64",
    "mips",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "mipsle",
    "ppc",
    "ppc64",
    "ppc64le",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "wasm",
];

impl Platform {
    /// A platform without a variant, in normal form.
    pub fn new(os: &str, architecture: &str) -> Self {
        Self { os: os.into(), architecture: architecture.into(), ..Self::default() }.normalized()
    }

    /// `linux` on the processor that this program was built for: the platform of a builder that
    /// names none.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86" => "386",
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "powerpc64" => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Self::new("linux", architecture)
    }

    /// Parses `os[(version+features)][/architecture[/variant]]`, or an architecture alone.
    ///
    /// # Errors
    /// [`PlatformError`], whose text says which part is wrong.
    pub fn parse(text: &str) -> Result<Self, PlatformError> {
        static OS: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(OS_PATTERN).ok());
        if text.contains('*') {
            return Err(PlatformError::Wildcard(text.into()));
        }
        let mut parts = text.splitn(4, '/');
        let first = parts.next().unwrap_or_default();
        let captures =
            OS.as_ref().and_then(|pattern| pattern.captures(first)).ok_or_else(|| {
                PlatformError::Os { part: first.into(), text: text.into(), pattern: OS_PATTERN }
            })?;
        let rest: Vec<&str> = parts.collect();
        let group = |at: usize| captures.get(at).map_or("", |group| group.as_str());
        let option = |part: &str| {
            percent_decode(part)
                .ok_or_else(|| PlatformError::Option { part: part.into(), text: text.into() })
        };
        let mut platform =
            Self { os: normal_os(group(1)), os_version: option(group(2))?, ..Self::default() };
        for feature in group(3).split('+').skip(1) {
            platform.os_features.push(option(feature)?);
        }
        for part in &rest {
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
            if part.is_empty() || !part.chars().all(fits) {
                return Err(PlatformError::Component {
                    part: (*part).into(),
                    text: text.into(),
                    pattern: COMPONENT_PATTERN,
                });
            }
        }
        match rest.as_slice() {
            [] => {
                if KNOWN_OS.contains(&platform.os.as_str()) {
                    platform.architecture = Self::host().architecture;
                    return Ok(platform);
                }
                let (architecture, variant) = normal_architecture(first, "");
                platform.variant = without_default_arm(&architecture, variant);
                platform.architecture = architecture;
                if KNOWN_ARCHITECTURES.contains(&platform.architecture.as_str()) {
                    platform.os = "linux".into();
                    return Ok(platform);
                }
                Err(PlatformError::Unknown(text.into()))
            }
            [architecture] => {
                let (architecture, variant) = normal_architecture(architecture, "");
                platform.variant = without_default_arm(&architecture, variant);
                platform.architecture = architecture;
                Ok(platform)
            }
            [architecture, variant] => {
                (platform.architecture, platform.variant) =
                    normal_architecture(architecture, variant);
                if platform.architecture == "arm64" && platform.variant.is_empty() {
                    platform.variant = "v8".into();
                }
                Ok(platform)
            }
            _ => Err(PlatformError::Parts(text.into())),
        }
    }

    /// The one form in which equal platforms are equal: lower case, usual names, no variant that
    /// is the default.
    #[must_use]
    pub fn normalized(&self) -> Self {
        let (architecture, variant) = normal_architecture(&self.architecture, &self.variant);
        let mut os_features = self.os_features.clone();
        os_features.sort();
        os_features.dedup();
        Self {
            os: normal_os(&self.os),
            architecture,
            variant,
            os_version: self.os_version.clone(),
            os_features,
        }
    }

    /// `os/architecture[/variant]`, or `unknown` without an operating system.
    pub fn format(&self) -> String {
        self.joined(self.os.clone())
    }

    /// Like [`Self::format`], with version and features in parentheses where there are any.
    pub fn format_all(&self) -> String {
        let mut features: Vec<&str> =
            self.os_features.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
        features.sort_unstable();
        features.dedup();
        if self.os_version.is_empty() && features.is_empty() {
            return self.format();
        }
        let mut os = format!("{}({}", self.os, percent_encode(&self.os_version));
        for feature in features {
            os.push('+');
            os.push_str(&percent_encode(feature));
        }
        os.push(')');
        self.joined(os)
    }

    fn joined(&self, os: String) -> String {
        if self.os.is_empty() {
            return "unknown".into();
        }
        let mut text = os;
        for part in [&self.architecture, &self.variant] {
            if !part.is_empty() {
                text.push('/');
                text.push_str(part);
            }
        }
        text
    }

    /// The message of the wire.
    pub fn to_pb(&self) -> pb::Platform {
        pb::Platform {
            architecture: self.architecture.clone(),
            os: self.os.clone(),
            variant: self.variant.clone(),
            os_version: self.os_version.clone(),
            os_features: self.os_features.clone(),
        }
    }
}

impl From<&pb::Platform> for Platform {
    fn from(message: &pb::Platform) -> Self {
        Self {
            os: message.os.clone(),
            architecture: message.architecture.clone(),
            variant: message.variant.clone(),
            os_version: message.os_version.clone(),
            os_features: message.os_features.clone(),
        }
    }
}

fn without_default_arm(architecture: &str, variant: String) -> String {
    if architecture == "arm" && variant == "v7" { String::new() } else { variant }
}

fn normal_os(os: &str) -> String {
    if os.is_empty() {
        return "linux".into();
    }
    let lower = os.to_lowercase();
    if lower == "macos" { "darwin".into() } else { lower }
}

fn normal_architecture(architecture: &str, variant: &str) -> (String, String) {
    let architecture = architecture.to_lowercase();
    let variant = variant.to_lowercase();
    match (architecture.as_str(), variant.as_str()) {
        ("i386", _) => ("386".into(), String::new()),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64".into(), String::new()),
        ("x86_64" | "x86-64" | "amd64", _) => ("amd64".into(), variant),
        ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64".into(), String::new()),
        ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => ("arm64".into(), "v9".into()),
        ("aarch64" | "arm64", _) => ("arm64".into(), variant),
        ("armel", _) => ("arm".into(), "v6".into()),
        ("armhf", _) | ("arm", "" | "7") => ("arm".into(), "v7".into()),
        ("arm", "5" | "6" | "8") => ("arm".into(), format!("v{variant}")),
        _ => (architecture, variant),
    }
}

fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '%' => encoded.push_str("%25"),
            '+' => encoded.push_str("%2B"),
            '(' => encoded.push_str("%28"),
            ')' => encoded.push_str("%29"),
            '/' => encoded.push_str("%2F"),
            _ => encoded.push(c),
        }
    }
    encoded
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            decoded.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn parsed(text: &str) -> String {
        match Platform::parse(text) {
            Ok(platform) => platform.format_all(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn usual_names_and_aliases_parse() {
        assert_eq!(parsed("linux/arm64"), "linux/arm64");
        assert_eq!(parsed("linux/arm64/v8"), "linux/arm64/v8");
        assert_eq!(parsed("Linux/x86_64"), "linux/amd64");
        assert_eq!(parsed("macos/aarch64"), "darwin/arm64");
        assert_eq!(parsed("linux/arm/v7"), "linux/arm/v7");
        assert_eq!(parsed("linux/armhf"), "linux/arm");
        assert_eq!(parsed("arm64"), "linux/arm64");
        assert_eq!(parsed("windows(10.0.17763+win32k)/amd64"), "windows(10.0.17763+win32k)/amd64");
    }

    #[test]
    fn what_is_no_platform_says_why() {
        assert_eq!(
            parsed("linux/arm64/v8/extra"),
            r#""linux/arm64/v8/extra": cannot parse platform specifier: invalid argument"#
        );
        assert!(parsed("linux/*").contains("wildcards"));
        assert!(parsed("").contains("invalid OS component"));
        assert!(parsed("linux/a b").contains("invalid component"));
        assert!(parsed("toaster").contains("unknown operating system"));
    }

    #[test]
    fn normal_form_drops_default_variants() {
        let platform = |text| Platform::parse(text).unwrap().normalized().format();
        assert_eq!(platform("linux/arm64/v8"), "linux/arm64");
        assert_eq!(platform("linux/amd64/v1"), "linux/amd64");
        assert_eq!(platform("linux/arm"), "linux/arm/v7");
        assert_eq!(platform("linux/arm/6"), "linux/arm/v6");
    }
}
