//! Which rules speak: the options of the `check` directive and of the command line.

use std::collections::BTreeSet;

/// Which of a set of rules is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// All of them.
    pub all: bool,
    /// These, by name.
    pub rules: BTreeSet<String>,
}

impl Selection {
    /// Whether the rule is meant.
    pub fn contains(&self, rule: &str) -> bool {
        self.all || self.rules.contains(rule)
    }

    /// Reads `all`, which stays, or names, which take the place of those before.
    fn read(&mut self, value: &str) {
        match value.trim() {
            "all" => self.all = true,
            names => {
                self.rules = names.split(',').map(|rule| rule.trim().to_owned()).collect();
            }
        }
    }

    fn add(&mut self, other: &Self) {
        self.all |= other.all;
        self.rules.extend(other.rules.iter().cloned());
    }
}

/// Options for the rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Rules that keep silent.
    pub skip: Selection,
    /// Experimental rules that speak; the others keep silent.
    pub experimental: Selection,
    /// A build with a warning fails.
    pub error: bool,
}

/// Options that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// A part is not `NAME=VALUE`, or its name is unknown.
    #[error("invalid check option {}", crate::dockerfile::quote(.0))]
    Unknown(String),
    /// The value of `error` is no boolean.
    #[error("failed to parse check option {}: invalid boolean {}",
        crate::dockerfile::quote(.part), crate::dockerfile::quote(.value))]
    NotBoolean {
        /// The part.
        part: String,
        /// Its value.
        value: String,
    },
}

impl OptionsError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unknown(_) => {
                "options are `skip=RULE,…`, `skip=all`, `experimental=RULE,…`, `experimental=all` \
                 and `error=true`, with `;` between them"
            }
            Self::NotBoolean { .. } => "write `error=true` or `error=false`",
        }
    }
}

impl Options {
    /// Reads `skip=…;experimental=…;error=…`, each part at will.
    ///
    /// # Errors
    /// Where a part is unknown or its value cannot be read.
    pub fn parse(text: &str) -> Result<Self, OptionsError> {
        let text = text.trim();
        let mut options = Self::default();
        if text.is_empty() {
            return Ok(options);
        }
        for part in text.splitn(3, ';') {
            let Some((name, value)) = part.split_once('=') else {
                return Err(OptionsError::Unknown(part.to_owned()));
            };
            match name.trim() {
                "skip" => options.skip.read(value),
                "experimental" => options.experimental.read(value),
                "error" => {
                    let value = value.trim();
                    options.error = crate::dockerfile::scalar::boolean(value).ok_or_else(|| {
                        OptionsError::NotBoolean { part: part.to_owned(), value: value.to_owned() }
                    })?;
                }
                unknown => return Err(OptionsError::Unknown(unknown.to_owned())),
            }
        }
        Ok(options)
    }

    /// Adds what a `check` comment above one instruction says. Its `error` counts for nothing there.
    pub fn add(&mut self, other: &Self) {
        self.skip.add(&other.skip);
        self.experimental.add(&other.experimental);
    }

    /// The options in the first `check=…` among the comments above an instruction; none if there is
    /// none, or if it cannot be read.
    pub fn from_comments(comments: &[String]) -> Option<Self> {
        let value = comments.iter().find_map(|comment| {
            let directive = crate::dockerfile::directive::Reader::new("", 0).read(comment);
            directive
                .ok()
                .flatten()
                .filter(|directive| directive.name == crate::dockerfile::directive::Name::Check)
                .map(|directive| directive.value)
        })?;
        Self::parse(value.split(' ').next().unwrap_or_default()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::{Options, OptionsError};

    #[test]
    fn all_parts() {
        let options = Options::parse(" skip=A, B ;experimental=all;error=true").unwrap();
        assert!(options.skip.contains("A") && options.skip.contains("B"));
        assert!(!options.skip.contains("C"));
        assert!(options.experimental.contains("Anything"));
        assert!(options.error);
        assert_eq!(Options::parse(" ").unwrap(), Options::default());
        // What was said of all rules is not taken back.
        assert!(Options::parse("skip=all;skip=A").unwrap().skip.contains("B"));
    }

    #[test]
    fn what_cannot_be_read() {
        assert_eq!(Options::parse("loud").unwrap_err(), OptionsError::Unknown("loud".into()));
        assert_eq!(Options::parse("loud=1").unwrap_err(), OptionsError::Unknown("loud".into()));
        assert!(matches!(
            Options::parse("error=maybe").unwrap_err(),
            OptionsError::NotBoolean { .. }
        ));
    }

    #[test]
    fn the_first_check_comment_counts() {
        let comments =
            |texts: &[&str]| -> Vec<String> { texts.iter().map(|&text| text.to_owned()).collect() };
        let options =
            Options::from_comments(&comments(&["why", "check=skip=A", "check=skip=B"])).unwrap();
        assert!(options.skip.contains("A") && !options.skip.contains("B"));
        assert_eq!(Options::from_comments(&comments(&["check=loud", "check=skip=B"])), None);
        assert_eq!(Options::from_comments(&comments(&["no check"])), None);
    }
}
