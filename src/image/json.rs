//! JSON as Go's encoder writes it. Its byte form: `<`, `>`, `&` and the two line separators of
//! JavaScript are escaped; digests of configs and of ops depend on it. And its `null`, which stands
//! for an empty list or map.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::ser::{CompactFormatter, Formatter};
use std::io;

struct GoFormatter;

impl Formatter for GoFormatter {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (plain, special) = rest.split_at(at);
            CompactFormatter.write_string_fragment(writer, plain)?;
            let mut chars = special.chars();
            if let Some(c) = chars.next() {
                write!(writer, "\\u{:04x}", u32::from(c))?;
            }
            rest = chars.as_str();
        }
        CompactFormatter.write_string_fragment(writer, rest)
    }
}

/// A value as Go writes it, without blanks; empty for what has no JSON form, which no type of this
/// crate is.
pub fn to_string<T: Serialize>(value: &T) -> String {
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, GoFormatter);
    if value.serialize(&mut serializer).is_err() {
        return String::new();
    }
    String::from_utf8(bytes).unwrap_or_default()
}

/// Reads a field whose `null` means that it is empty: Go writes a list or map that nobody filled so,
/// as BuildKit does with the `layers` of an image without files.
///
/// # Errors
/// What is there is neither `null` nor of the field's type.
pub fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_markup_are_escaped() {
        assert_eq!(
            to_string(&["a<b>&c", "\u{2028}", "\"\\\n\t\u{1}"]),
            "[\"a\\u003cb\\u003e\\u0026c\",\"\\u2028\",\"\\\"\\\\\\n\\t\\u0001\"]"
        );
    }
}
