//! Source policies: what a build may read, and what it reads in its place.

use serde::{Deserialize, Deserializer, Serialize, de};
use std::collections::BTreeMap;

/// A source policy, in the JSON that `buildctl --source-policy-file` reads. The builder holds it: it
/// applies to every source of a build, whoever compiled the Dockerfile.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SourcePolicy {
    /// The version of the form; 0 and 1 are the same.
    #[serde(default)]
    pub version: i64,
    /// The rules, in their order: the last one that applies decides.
    #[serde(default)]
    pub rules: Vec<PolicyRule>,
}

/// A rule of a policy.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyRule {
    /// What is done with the source.
    pub action: PolicyAction,
    /// Which sources are meant.
    pub selector: PolicySelector,
    /// What a converted source becomes.
    #[serde(default)]
    pub updates: Option<PolicyUpdate>,
}

/// What is done with a source.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PolicyAction {
    /// It may be read.
    Allow,
    /// A build that reads it fails.
    Deny,
    /// Another one is read in its place.
    Convert,
}

/// Which sources are meant.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySelector {
    /// Such as `docker-image://docker.io/library/alpine:*`.
    pub identifier: String,
    /// How `identifier` is read.
    #[serde(default, alias = "matchType")]
    pub match_type: PolicyMatch,
    /// What the source's attributes have to be besides.
    #[serde(default)]
    pub constraints: Vec<PolicyConstraint>,
}

/// How a selector's identifier is read.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PolicyMatch {
    /// `*` stands for any text.
    #[default]
    Wildcard,
    /// As it is.
    Exact,
    /// A regular expression.
    Regex,
}

/// What an attribute of a source has to be.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyConstraint {
    /// The attribute.
    pub key: String,
    /// What it is compared with.
    #[serde(default)]
    pub value: String,
    /// How.
    #[serde(default)]
    pub condition: PolicyCondition,
}

/// How an attribute is compared.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PolicyCondition {
    /// It is the same.
    #[default]
    Equal,
    /// It is another.
    #[serde(rename = "NOTEQUAL")]
    NotEqual,
    /// A regular expression matches it.
    Matches,
}

/// What a converted source becomes.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyUpdate {
    /// The source that is read; the same one where this is empty.
    #[serde(default)]
    pub identifier: String,
    /// Attributes that it gets.
    #[serde(default)]
    pub attrs: BTreeMap<String, String>,
}

/// A name of a protocol's enumeration, in any case, or its number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Word {
    Name(String),
    Number(i64),
}

macro_rules! by_name_or_number {
    ($kind:ty: $($name:literal = $number:literal => $value:expr),+) => {
        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let word = Word::deserialize(from)?;
                match &word {
                    $(Word::Number($number) => return Ok($value),)+
                    $(Word::Name(name) if name.eq_ignore_ascii_case($name) => return Ok($value),)+
                    _ => {}
                }
                let known = [$($name),+].join(", ");
                Err(de::Error::custom(match word {
                    Word::Name(name) => format!("`{name}` is none of {known}"),
                    Word::Number(number) => format!("{number} is none of {known}"),
                }))
            }
        }
    };
}

by_name_or_number!(PolicyAction: "ALLOW" = 0 => Self::Allow, "DENY" = 1 => Self::Deny, "CONVERT" = 2 => Self::Convert);
by_name_or_number!(PolicyMatch: "WILDCARD" = 0 => Self::Wildcard, "EXACT" = 1 => Self::Exact, "REGEX" = 2 => Self::Regex);
by_name_or_number!(PolicyCondition: "EQUAL" = 0 => Self::Equal, "NOTEQUAL" = 1 => Self::NotEqual, "MATCHES" = 2 => Self::Matches);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_read_as_buildctl_reads_it() {
        let text = r#"{"version": 1, "rules": [
            {"action": "DENY", "selector": {"identifier": "docker-image://*"}},
            {"action": 2, "selector": {"identifier": "a", "matchType": "exact", "constraints": [{"key": "k", "value": "v", "condition": "NOTEQUAL"}]},
             "updates": {"identifier": "b", "attrs": {"http.checksum": "sha256:1"}}}]}"#;
        let policy: SourcePolicy = serde_json::from_str(text).expect("a policy");
        let [deny, convert] = policy.rules.as_slice() else { panic!("{policy:?}") };
        assert_eq!(
            (deny.action, deny.selector.match_type),
            (PolicyAction::Deny, PolicyMatch::Wildcard)
        );
        assert_eq!(
            (convert.action, convert.selector.match_type),
            (PolicyAction::Convert, PolicyMatch::Exact)
        );
        assert_eq!(
            convert.selector.constraints.first().map(|one| one.condition),
            Some(PolicyCondition::NotEqual)
        );
        assert_eq!(convert.updates.as_ref().map(|update| update.identifier.as_str()), Some("b"));
    }

    #[test]
    fn a_typing_error_is_no_rule_that_never_applies() {
        for text in [
            r#"{"rules": [{"action": "DENI", "selector": {"identifier": "a"}}]}"#,
            r#"{"rules": [{"action": "DENY", "selectr": {"identifier": "a"}}]}"#,
            r#"{"rules": [{"action": 7, "selector": {"identifier": "a"}}]}"#,
            r#"{"rule": []}"#,
        ] {
            assert!(serde_json::from_str::<SourcePolicy>(text).is_err(), "{text}");
        }
    }
}
