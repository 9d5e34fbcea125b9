//! Whom a caller trusts: public keys, and certificates of authorities.

use super::{Unproven, pem};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer};
use webpki::{RawPublicKeyEntity, anchor_from_trusted_cert, ring};

/// What cosign signs with: SHA-256, whatever the key; a curve of 384 bits with its own hash besides.
const ALGORITHMS: [&dyn SignatureVerificationAlgorithm; 5] = [
    ring::ECDSA_P256_SHA256,
    ring::ED25519,
    ring::RSA_PKCS1_2048_8192_SHA256,
    ring::ECDSA_P384_SHA256,
    ring::ECDSA_P384_SHA384,
];

/// What a caller trusts: public keys for signatures as cosign makes them, and certificates for
/// notation's.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Trusted {
    /// Public keys, as `SubjectPublicKeyInfo` in DER.
    keys: Vec<Vec<u8>>,
    /// Certificates, in DER.
    pub(super) certificates: Vec<Vec<u8>>,
}

/// Why a text is no key that signatures can be checked with.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UnreadableKey {
    /// There is neither a public key nor a certificate in it.
    #[error("it has neither a `PUBLIC KEY` nor a `CERTIFICATE`")]
    Nothing,
    /// It is a private key, which nobody but its owner should have.
    #[error("it is a private key: a check takes the public one")]
    Private,
    /// A block is not what its label says.
    #[error("it is damaged, or of a kind that signatures are not made with")]
    Damaged,
}

impl Trusted {
    /// Reads PEM: `PUBLIC KEY` (ECDSA on P-256 or P-384, Ed25519, RSA of 2048 bits and more) and
    /// `CERTIFICATE`, as many as there are.
    ///
    /// # Errors
    /// See [`UnreadableKey`].
    pub fn parse(text: &str) -> Result<Self, UnreadableKey> {
        let mut trusted = Self::default();
        let mut is_private = false;
        for block in pem::blocks(text) {
            let content = block.content.to_vec();
            match block.label.as_str() {
                "PUBLIC KEY" => {
                    let key = SubjectPublicKeyInfoDer::from(content.as_slice());
                    RawPublicKeyEntity::try_from(&key).map_err(|_| UnreadableKey::Damaged)?;
                    trusted.keys.push(content);
                }
                "CERTIFICATE" => {
                    let certificate = CertificateDer::from(content.as_slice());
                    anchor_from_trusted_cert(&certificate).map_err(|_| UnreadableKey::Damaged)?;
                    trusted.certificates.push(content);
                }
                other => is_private |= other.ends_with("PRIVATE KEY"),
            }
        }
        match (trusted == Self::default(), is_private) {
            (false, _) => Ok(trusted),
            (true, true) => Err(UnreadableKey::Private),
            (true, false) => Err(UnreadableKey::Nothing),
        }
    }

    /// Trusts what the public key `key` has signed: a `SubjectPublicKeyInfo` in DER.
    pub(super) fn of_key(key: Vec<u8>) -> Self {
        Self { keys: vec![key], certificates: Vec::new() }
    }

    /// Trusts what either trusts.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.keys.extend(other.keys.iter().cloned());
        self.certificates.extend(other.certificates.iter().cloned());
        self
    }

    /// Whether there is a public key in it.
    pub fn has_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Whether there is a certificate in it.
    pub fn has_certificates(&self) -> bool {
        !self.certificates.is_empty()
    }

    /// Whether one of the keys has made `signature` of `message`.
    pub fn made(&self, message: &[u8], signature: &[u8]) -> bool {
        self.check(message, signature).is_ok()
    }

    /// Whether one of the keys has made `signature` of `message`.
    ///
    /// # Errors
    /// [`Unproven::OtherKey`] where none has.
    pub(super) fn check(&self, message: &[u8], signature: &[u8]) -> Result<(), Unproven> {
        let by = |key: &Vec<u8>| {
            let key = SubjectPublicKeyInfoDer::from(key.as_slice());
            RawPublicKeyEntity::try_from(&key).is_ok_and(|key| {
                ALGORITHMS
                    .iter()
                    .any(|algorithm| key.verify_signature(*algorithm, message, signature).is_ok())
            })
        };
        if self.keys.iter().any(by) { Ok(()) } else { Err(Unproven::OtherKey) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Trusted, UnreadableKey};

    #[test]
    fn what_is_no_key_is_told_apart() {
        let text = |label: &str, body: &str| {
            format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
        };
        for (text, error) in [
            (String::new(), UnreadableKey::Nothing),
            (text("PRIVATE KEY", "aGk="), UnreadableKey::Private),
            (text("ENCRYPTED SIGSTORE PRIVATE KEY", "aGk="), UnreadableKey::Private),
            (text("PUBLIC KEY", "aGk="), UnreadableKey::Damaged),
            (text("CERTIFICATE", "aGk="), UnreadableKey::Damaged),
        ] {
            assert_eq!(Trusted::parse(&text), Err(error), "{text}");
        }
    }
}
