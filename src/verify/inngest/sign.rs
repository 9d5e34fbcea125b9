//! Signatures that a worker with a signing key asks for. Pure.

use crate::credential::Secret;
use ring::{digest, hmac};
use std::fmt::Write as _;
use zeroize::Zeroizing;

/// The header that carries the signature.
pub const HEADER: &str = "x-inngest-signature";

/// Signs a request with `body` (canonical JSON, or nothing) at `now`, in seconds since 1970.
/// Workers take it for five minutes.
pub fn signature(key: &Secret, body: &[u8], now: u64) -> String {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, bare(key)));
    context.update(body);
    context.update(now.to_string().as_bytes());
    let mut text = format!("t={now}&s=");
    for byte in context.sign().as_ref() {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The `Authorization` that a server takes for `key`: its hash, so that the key itself stays here.
pub fn bearer(key: &Secret) -> Zeroizing<Vec<u8>> {
    let bare = bare(key);
    let environment = key.expose().strip_suffix(bare).unwrap_or_default();
    let mut value = Zeroizing::new(b"Bearer ".to_vec());
    value.extend_from_slice(environment);
    match unhex(bare) {
        Some(bytes) => {
            for byte in digest::digest(&digest::SHA256, &bytes).as_ref() {
                value.extend_from_slice(format!("{byte:02x}").as_bytes());
            }
        }
        // What is no hexadecimal number is not hashed.
        None => value.extend_from_slice(bare),
    }
    value
}

fn unhex(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let digit =
        |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.chunks(2);
    let bytes: Option<Vec<u8>> = pairs
        .map(|pair| match pair {
            [high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        })
        .collect();
    bytes.filter(|bytes| !bytes.is_empty()).map(Zeroizing::new)
}

/// A key without the `signkey-ENVIRONMENT-` in front of it.
fn bare(key: &Secret) -> &[u8] {
    let bytes = key.expose();
    let Some(rest) = bytes.strip_prefix(b"signkey-") else { return bytes };
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let end = rest.iter().position(|byte| !word(byte));
    match end.and_then(|end| rest.split_at_checked(end)) {
        Some((environment, key)) if !environment.is_empty() => {
            key.strip_prefix(b"-").unwrap_or(bytes)
        }
        _ => bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::{bare, bearer, signature};
    use crate::credential::Secret;

    #[test]
    fn the_environment_is_no_part_of_the_key() {
        for (key, expected) in [
            ("signkey-prod-abc", "abc"),
            ("signkey-test-", ""),
            ("signkey-branch_x-12", "12"),
            ("abc", "abc"),
            ("signkey--abc", "signkey--abc"),
        ] {
            assert_eq!(bare(&Secret::new(key)), expected.as_bytes(), "{key}");
        }
    }

    /// Computed with `printf '1700000000' | openssl dgst -sha256 -hmac abc`.
    #[test]
    fn the_time_is_signed_after_the_body() {
        let key = Secret::new("signkey-prod-abc");
        let signed = signature(&key, b"", 1_700_000_000);
        assert_eq!(signed, format!("t=1700000000&s={EMPTY}"));
        assert_eq!(signature(&key, b"{}", 1_700_000_000), format!("t=1700000000&s={OBJECT}"));
    }

    /// Computed with `printf 00ff | xxd -r -p | sha256sum`.
    #[test]
    fn servers_get_the_keys_hash() {
        let shown = |key: &str| String::from_utf8(bearer(&Secret::new(key)).to_vec()).unwrap();
        assert_eq!(shown("signkey-prod-00ff"), format!("Bearer signkey-prod-{HASH}"));
        assert_eq!(shown("plain"), "Bearer plain");
    }

    const HASH: &str = "06eb7d6a69ee19e5fbdf749018d3d2abfa04bcbd1365db312eb86dc7169389b8";
    const EMPTY: &str = "1b082bd6acd41b65ea38f5c2524b9d6353442c2bab8ac390d96ce473e8005dfd";
    const OBJECT: &str = "f145730bae76abc6a1dc8611d0bee5b1c74b2f6cde056d8d932404e921c14290";
}
