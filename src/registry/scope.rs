//! What a token is good for: `repository:NAME:pull,push` (the distribution project's token scope
//! grammar).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use std::{collections::BTreeSet, fmt, str::FromStr};

/// Actions on one resource.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Scope {
    /// `repository`, `registry`, …
    pub kind: String,
    /// The repository's name, which may hold colons.
    pub name: String,
    /// Such as `pull`, `push`, `delete`, `*`.
    pub actions: BTreeSet<String>,
}

impl FromStr for Scope {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (kind, rest) = text.split_once(':').ok_or(())?;
        let (name, actions) = rest.rsplit_once(':').ok_or(())?;
        let actions = actions.split(',').filter(|one| !one.is_empty()).map(str::to_owned);
        Ok(Self { kind: kind.to_owned(), name: name.to_owned(), actions: actions.collect() })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let actions: Vec<&str> = self.actions.iter().map(String::as_str).collect();
        write!(formatter, "{}:{}:{}", self.kind, self.name, actions.join(","))
    }
}

/// What was asked for and not granted, where the token says what it grants. A token server answers
/// with a token that is good for less, rather than with a refusal; the registry then refuses, and
/// its words leave open what was missing.
pub(super) fn refused(asked: &[String], token: &[u8]) -> Vec<Scope> {
    let Some(granted) = granted(token) else { return Vec::new() };
    // One request may hold several scopes in one string.
    let asked =
        asked.iter().flat_map(|scopes| scopes.split(' ')).filter_map(|one| one.parse().ok());
    asked
        .filter_map(|mut scope: Scope| {
            let held: BTreeSet<&str> = granted
                .iter()
                .filter(|access| access.name == scope.name && access.kind == scope.kind)
                .flat_map(|access| access.actions.iter().map(String::as_str))
                .collect();
            if held.contains("*") {
                return None;
            }
            scope.actions.retain(|action| !held.contains(action.as_str()));
            (!scope.actions.is_empty()).then_some(scope)
        })
        .collect()
}

/// Whether the token says itself that it is good for all that was asked for.
pub(super) fn grants(asked: &[String], token: &[u8]) -> bool {
    granted(token).is_some() && refused(asked, token).is_empty()
}

#[derive(Deserialize)]
struct Access {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    #[serde(default)]
    actions: Vec<String>,
}

#[derive(Deserialize)]
struct Claims {
    access: Option<Vec<Access>>,
}

/// The `access` claim of a JSON web token. Its signature is the registry's matter: this is read to
/// explain, not to decide.
fn granted(token: &[u8]) -> Option<Vec<Access>> {
    let payload = token.split(|&byte| byte == b'.').nth(1)?;
    let end = payload.iter().rposition(|&byte| byte != b'=')?;
    let json = URL_SAFE_NO_PAD.decode(payload.get(..=end)?).ok()?;
    serde_json::from_slice::<Claims>(&json).ok()?.access
}

#[cfg(test)]
mod tests {
    use super::{Scope, refused};
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

    fn token(claims: &str) -> Vec<u8> {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims)).into_bytes()
    }

    fn shown(asked: &[&str], claims: &str) -> Vec<String> {
        let asked: Vec<String> = asked.iter().map(|&one| one.to_owned()).collect();
        refused(&asked, &token(claims)).iter().map(Scope::to_string).collect()
    }

    #[test]
    fn names_may_hold_colons() {
        let scope: Scope = "repository:host:5000/a/b:pull,push".parse().unwrap();
        assert_eq!(scope.name, "host:5000/a/b");
        assert_eq!(scope.to_string(), "repository:host:5000/a/b:pull,push");
        assert!("repository".parse::<Scope>().is_err());
    }

    #[test]
    fn what_the_token_does_not_grant_is_named() {
        let pull = r#"{"access":[{"type":"repository","name":"a","actions":["pull"]}]}"#;
        assert_eq!(shown(&["repository:a:pull,push"], pull), ["repository:a:push"]);
        assert_eq!(shown(&["repository:a:pull"], pull), [""; 0]);
        assert_eq!(shown(&["repository:a:pull repository:b:pull"], pull), ["repository:b:pull"]);
        assert_eq!(shown(&["repository:a:push"], r#"{"access":[]}"#), ["repository:a:push"]);
        let all = r#"{"access":[{"type":"repository","name":"a","actions":["*"]}]}"#;
        assert_eq!(shown(&["repository:a:pull,push"], all), [""; 0]);
    }

    #[test]
    fn tokens_that_do_not_say_are_not_judged() {
        assert!(refused(&["repository:a:push".to_owned()], b"opaque").is_empty());
        assert_eq!(shown(&["repository:a:push"], "{}"), [""; 0]);
        assert_eq!(shown(&["repository:a:push"], r#"{"access":null}"#), [""; 0]);
        let asked = ["repository:a:push".to_owned()];
        assert!(!super::grants(&asked, b"opaque"));
        let push = r#"{"access":[{"type":"repository","name":"a","actions":["push"]}]}"#;
        assert!(super::grants(&asked, &token(push)));
        assert!(!super::grants(&asked, &token(r#"{"access":[]}"#)));
    }
}
