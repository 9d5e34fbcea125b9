//! What programs print when they are asked for a secret: the secret itself, or JSON around it. Pure.
//!
//! Programs that lend secrets print failures the same way, and some of them end with 0 all the
//! same, so that a script takes the failure's JSON for the password. Hence the content decides
//! here, and never the exit status alone.

use super::Secret;
use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, value::MapAccessDeserializer},
};
use std::fmt;

/// Of a program's words, this much is shown.
const MAX_WORDS: usize = 300;

/// A secret with what is known of the lease that it comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Envelope {
    /// The secret.
    pub(super) value: Secret,
    /// The lease's id.
    pub(super) lease_id: Option<String>,
    /// When the lease ends.
    pub(super) expires_at: Option<jiff::Timestamp>,
}

/// Why there is no secret in what was printed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EnvelopeError {
    /// Nothing was printed, or the secret is the empty string.
    #[error("it printed nothing")]
    Empty,
    /// JSON without a secret in a place that we know.
    #[error("it printed JSON without `value`, `token`, `secret`, `data.value` or `result`")]
    NoSecret,
    /// More than one line: no password and no token is that.
    #[error("it printed more than one line")]
    NotOneLine,
    /// JSON that says that it failed.
    #[error("it printed a failure{}", Said(words))]
    Refused {
        /// The failure's words; may be empty.
        words: String,
    },
}

struct Said<'a>(&'a str);

impl fmt::Display for Said<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(formatter, ": {}", self.0) }
    }
}

/// Reads what a program printed.
pub(super) fn read(output: &[u8]) -> Result<Envelope, EnvelopeError> {
    let text = output.trim_ascii();
    if !text.starts_with(b"{") {
        let value = checked(Secret::new(text))?;
        return Ok(Envelope { value, lease_id: None, expires_at: None });
    }
    let object: Object = serde_json::from_slice(text).map_err(|_| EnvelopeError::NoSecret)?;
    if object.failed() {
        return Err(EnvelopeError::Refused { words: object.words() });
    }
    let Object { value, token, secret, result, data, lease_id, expires_at, .. } = object;
    let mut found = Found { lease_id, expires_at, ..Found::default() };
    for node in [value, token, secret, result, data].into_iter().flatten() {
        found.take(node)?;
    }
    let Found { value, lease_id, expires_at } = found;
    Ok(Envelope {
        value: checked(value.ok_or(EnvelopeError::NoSecret)?)?,
        lease_id: lease_id.and_then(Node::text),
        expires_at: expires_at.and_then(Node::text).and_then(|text| text.parse().ok()),
    })
}

/// Refuses what cannot be a secret, and what is a failure in a secret's place.
pub(super) fn checked(value: Secret) -> Result<Secret, EnvelopeError> {
    let bytes = value.expose().trim_ascii();
    if bytes.is_empty() {
        return Err(EnvelopeError::Empty);
    }
    if bytes.starts_with(b"{") {
        let words = serde_json::from_slice::<Object>(bytes).map(|object| object.words());
        return Err(EnvelopeError::Refused { words: words.unwrap_or_default() });
    }
    if bytes.iter().any(|&byte| byte == b'\n' || byte == b'\r' || byte == 0) {
        return Err(EnvelopeError::NotOneLine);
    }
    Ok(if bytes.len() == value.expose().len() { value } else { Secret::new(bytes) })
}

/// The first line of what a program said, with nothing in it that a terminal would act on.
pub(super) fn printable(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no output");
    line.chars().filter(|c| !c.is_control()).take(MAX_WORDS).collect()
}

#[derive(Default)]
struct Found {
    value: Option<Secret>,
    lease_id: Option<Node>,
    expires_at: Option<Node>,
}

impl Found {
    /// Looks into a node that may be the secret, or an object that holds it.
    fn take(&mut self, node: Node) -> Result<(), EnvelopeError> {
        let secret = match node {
            Node::Text(secret) => Some(secret),
            Node::Object(inner) => {
                if inner.failed() {
                    return Err(EnvelopeError::Refused { words: inner.words() });
                }
                let Object { value, token, secret, lease_id, expires_at, .. } = *inner;
                self.lease_id = self.lease_id.take().or(lease_id);
                self.expires_at = self.expires_at.take().or(expires_at);
                [value, token, secret].into_iter().flatten().find_map(|node| match node {
                    Node::Text(secret) => Some(secret),
                    Node::Flag(_) | Node::Object(_) | Node::Other => None,
                })
            }
            Node::Flag(_) | Node::Other => None,
        };
        self.value = self.value.take().or(secret);
        Ok(())
    }
}

/// The keys that matter, on any level. All text is held as a secret, since it may be one.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Object {
    success: Option<Node>,
    ok: Option<Node>,
    error: Option<Node>,
    message: Option<Node>,
    value: Option<Node>,
    token: Option<Node>,
    secret: Option<Node>,
    result: Option<Node>,
    data: Option<Node>,
    #[serde(alias = "leaseId")]
    lease_id: Option<Node>,
    #[serde(alias = "expiresAt")]
    expires_at: Option<Node>,
}

impl Object {
    fn failed(&self) -> bool {
        let denied = |node: &Option<Node>| matches!(node, Some(Node::Flag(false)));
        let error = match &self.error {
            None | Some(Node::Flag(false)) => false,
            Some(Node::Text(text)) => !text.is_empty(),
            Some(_) => true,
        };
        denied(&self.success) || denied(&self.ok) || error
    }

    /// What a failure says of itself.
    fn words(&self) -> String {
        let of = |node: &Option<Node>| match node {
            Some(Node::Text(text)) => text.expose_str().map(printable),
            Some(Node::Object(inner)) => match &inner.message {
                Some(Node::Text(text)) => text.expose_str().map(printable),
                _ => None,
            },
            _ => None,
        };
        of(&self.error).or_else(|| of(&self.message)).unwrap_or_default()
    }
}

/// A value on the way to a secret.
enum Node {
    Text(Secret),
    Flag(bool),
    Object(Box<Object>),
    Other,
}

impl Node {
    /// Text that is no secret.
    fn text(self) -> Option<String> {
        let Self::Text(text) = self else { return None };
        text.expose_str().map(str::to_owned)
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> de::Visitor<'de> for Any {
            type Value = Node;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON value")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Node, E> {
                Ok(Node::Text(Secret::new(text)))
            }

            fn visit_bool<E: de::Error>(self, flag: bool) -> Result<Node, E> {
                Ok(Node::Flag(flag))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Node, A::Error> {
                Object::deserialize(MapAccessDeserializer::new(map)).map(Box::new).map(Node::Object)
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Node::Other)
            }

            fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
                Ok(Node::Other)
            }

            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Node, E> {
                Ok(Node::Other)
            }

            fn visit_u64<E: de::Error>(self, _: u64) -> Result<Node, E> {
                Ok(Node::Other)
            }

            fn visit_f64<E: de::Error>(self, _: f64) -> Result<Node, E> {
                Ok(Node::Other)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::{EnvelopeError, read};
    use proptest::prelude::*;

    fn value(output: &str) -> Result<String, EnvelopeError> {
        read(output.as_bytes()).map(|read| read.value.expose_str().unwrap().to_owned())
    }

    #[test]
    fn every_form_of_a_secret_is_read() {
        for output in [
            "hunter2",
            "hunter2\n",
            "  hunter2\r\n",
            r#"{"value":"hunter2"}"#,
            r#"{"token":"hunter2","error":null}"#,
            r#"{"secret":"hunter2"}"#,
            r#"{"result":"hunter2"}"#,
            r#"{"ok":true,"result":{"value":"hunter2","lease_id":"l"}}"#,
            r#"{"success":true,"message":"Lease acquired","data":{"lease_id":"l","secret_name":"x","value":"hunter2","ttl":"20m"},"actions":[{"name":"revoke"}]}"#,
        ] {
            assert_eq!(value(output).as_deref(), Ok("hunter2"), "{output}");
        }
    }

    #[test]
    fn the_lease_comes_with_it_on_either_level_and_in_either_spelling() {
        for output in [
            r#"{"value":"v","lease_id":"l-1","expires_at":"2026-11-25T22:00:00Z"}"#,
            r#"{"result":{"value":"v","leaseId":"l-1","expiresAt":"2026-11-25T23:00:00+01:00"}}"#,
            r#"{"data":{"value":"v","lease_id":"l-1","expires_at":"2026-11-25T22:00:00.000Z"}}"#,
        ] {
            let envelope = read(output.as_bytes()).unwrap();
            assert_eq!(envelope.lease_id.as_deref(), Some("l-1"), "{output}");
            assert_eq!(envelope.expires_at, "2026-11-25T22:00:00Z".parse().ok(), "{output}");
        }
    }

    #[test]
    fn failures_are_refused_whatever_they_carry() {
        for (output, words) in [
            (
                r#"{"success":false,"error":"daemon not running","exit_code":69}"#,
                "daemon not running",
            ),
            (r#"{"ok":false,"error":{"code":"X","message":"no such secret"}}"#, "no such secret"),
            (r#"{"success":false,"message":"denied","value":"x"}"#, "denied"),
            (r#"{"error":"bad","value":"hunter2"}"#, "bad"),
            (r#"{"value":"{\"success\":false,\"error\":\"inner\"}"}"#, "inner"),
            (r#"{"result":{"ok":false,"message":"nested"}}"#, "nested"),
            (r#"{"error":true}"#, ""),
        ] {
            let refused = EnvelopeError::Refused { words: words.to_owned() };
            assert_eq!(value(output), Err(refused), "{output}");
        }
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        for (output, error) in [
            ("", EnvelopeError::Empty),
            (" \n", EnvelopeError::Empty),
            (r#"{"value":""}"#, EnvelopeError::Empty),
            ("{}", EnvelopeError::NoSecret),
            ("{not json", EnvelopeError::NoSecret),
            (r#"{"value":12}"#, EnvelopeError::NoSecret),
            (r#"{"data":{"data":{"value":"deep"}}}"#, EnvelopeError::NoSecret),
            ("one\ntwo", EnvelopeError::NotOneLine),
        ] {
            assert_eq!(value(output), Err(error), "{output}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_begins_as_json_is_ever_a_secret(output in "\\{.{0,60}") {
            if let Ok(value) = value(&output) {
                prop_assert_ne!(value.bytes().next(), Some(b'\x7b'));
            }
        }
    }
}
