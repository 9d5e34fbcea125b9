//! Private keys as `cosign generate-key-pair` leaves them: in NaCl's secret box, under a key that
//! scrypt makes out of a password.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use crypto_secretbox::{Key, KeyInit as _, Nonce, XSalsa20Poly1305, aead::Aead as _};
use serde::Deserialize;
use zeroize::Zeroizing;

/// Bytes of a key and of a nonce of the box.
const KEY: usize = 32;
const NONCE: usize = 24;
/// What scrypt may be asked to spend, as the product of its numbers: 256 MiB are more than any tool
/// asks for, and a file that asks for more wants to stop us.
const MAX_COST: u64 = 256 << 20;

#[derive(Deserialize)]
struct Sealed {
    kdf: Derivation,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Deserialize)]
struct Derivation {
    name: String,
    params: Cost,
    salt: String,
}

#[derive(Deserialize)]
struct Cost {
    #[serde(rename = "N")]
    rounds: u64,
    #[serde(rename = "r")]
    block: u32,
    #[serde(rename = "p")]
    lanes: u32,
}

#[derive(Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
}

/// Why a sealed key stays shut.
pub(super) enum Shut {
    /// It is not in the form that its label says.
    Malformed,
    /// The password is another one.
    WrongPassword,
}

/// Opens what is in an `ENCRYPTED SIGSTORE PRIVATE KEY`: a private key as PKCS #8 in DER.
pub(super) fn open(content: &[u8], password: &[u8]) -> Result<Zeroizing<Vec<u8>>, Shut> {
    let sealed: Sealed = serde_json::from_slice(content).map_err(|_| Shut::Malformed)?;
    if sealed.kdf.name != "scrypt" || sealed.cipher.name != "nacl/secretbox" {
        return Err(Shut::Malformed);
    }
    let decode = |text: &str| BASE64_STANDARD.decode(text).map_err(|_| Shut::Malformed);
    let (salt, nonce) = (decode(&sealed.kdf.salt)?, decode(&sealed.cipher.nonce)?);
    let shut = decode(&sealed.ciphertext)?;
    let Cost { rounds, block, lanes } = sealed.kdf.params;
    let cost = rounds.saturating_mul(128).saturating_mul(u64::from(block));
    if !rounds.is_power_of_two() || cost.saturating_mul(u64::from(lanes)) > MAX_COST {
        return Err(Shut::Malformed);
    }
    let rounds = u8::try_from(rounds.ilog2()).map_err(|_| Shut::Malformed)?;
    let cost = scrypt::Params::new(rounds, block, lanes).map_err(|_| Shut::Malformed)?;
    let mut key = Zeroizing::new([0; KEY]);
    scrypt::scrypt(password, &salt, &cost, &mut *key).map_err(|_| Shut::Malformed)?;
    let nonce: [u8; NONCE] = nonce.try_into().map_err(|_| Shut::Malformed)?;
    let cipher = XSalsa20Poly1305::new(&Key::from(*key));
    let opened = cipher.decrypt(&Nonce::from(nonce), shut.as_slice());
    opened.map(Zeroizing::new).map_err(|_| Shut::WrongPassword)
}

#[cfg(test)]
mod tests {
    use super::{Shut, open};

    #[test]
    fn what_asks_for_too_much_or_is_another_form_stays_shut() {
        let text = |kdf: &str, rounds: &str| {
            format!(
                r#"{{"kdf":{{"name":"{kdf}","params":{{"N":{rounds},"r":8,"p":1}},"salt":"aGk="}},
                "cipher":{{"name":"nacl/secretbox","nonce":"aGk="}},"ciphertext":"aGk="}}"#
            )
        };
        for text in [
            text("argon2", "16"),
            text("scrypt", "17"),
            text("scrypt", "0"),
            text("scrypt", "1"),
            text("scrypt", "9223372036854775808"),
            text("scrypt", "16"),
            "{}".to_owned(),
        ] {
            assert!(matches!(open(text.as_bytes(), b""), Err(Shut::Malformed)), "{text}");
        }
    }
}
