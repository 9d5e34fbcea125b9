//! Private keys in files, and what signs with them.

use super::frame::{Reader, put_mpint, put_string};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::{
    rand::SystemRandom,
    rsa::{KeyPairComponents, PublicKeyComponents},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512,
        RsaKeyPair,
    },
};
use std::fmt;
use zeroize::Zeroizing;

/// Flags of a request for an RSA signature.
const RSA_SHA2_256: u32 = 2;
const RSA_SHA2_512: u32 = 4;

/// A private key with what is shown of it.
pub(super) struct PrivateKey {
    /// The public key as SSH writes it.
    pub(super) public: Vec<u8>,
    /// Where it comes from, for people.
    pub(super) comment: String,
    signer: Signer,
}

enum Signer {
    Ecdsa(&'static Curve, Box<EcdsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
    Rsa(Box<RsaKeyPair>),
}

struct Curve {
    name: &'static str,
    kind: &'static str,
    algorithm: &'static EcdsaSigningAlgorithm,
    /// Bytes of a scalar.
    size: usize,
}

static CURVES: [Curve; 2] = [
    Curve {
        name: "nistp256",
        kind: "ecdsa-sha2-nistp256",
        algorithm: &ECDSA_P256_SHA256_FIXED_SIGNING,
        size: 32,
    },
    Curve {
        name: "nistp384",
        kind: "ecdsa-sha2-nistp384",
        algorithm: &ECDSA_P384_SHA384_FIXED_SIGNING,
        size: 48,
    },
];

/// Why a private key cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyError {
    /// It needs a passphrase.
    #[error("it has a passphrase; add it to an agent with `ssh-add` and forward that")]
    Encrypted,
    /// It begins like a private key and goes on like none.
    #[error("it is damaged")]
    Malformed,
    /// It is something else.
    #[error("it is not a private key")]
    NotAKey,
    /// A kind that we cannot sign with.
    #[error(
        "{kind} keys can only be used through an agent: add it with `ssh-add` and forward that"
    )]
    Unsupported {
        /// The kind.
        kind: String,
    },
}

impl PrivateKey {
    /// Reads a key file: OpenSSH's own format, PKCS#8, or PKCS#1, without a passphrase.
    pub(super) fn parse(file: &[u8], comment: &str) -> Result<Self, KeyError> {
        let text = std::str::from_utf8(file).map_err(|_| KeyError::NotAKey)?;
        let (label, body) = pem(text)?;
        let (signer, comment) = match label {
            "OPENSSH PRIVATE KEY" => openssh(&body, comment)?,
            "PRIVATE KEY" => (pkcs8(&body)?, comment.to_owned()),
            "RSA PRIVATE KEY" => {
                let pair = RsaKeyPair::from_der(&body).map_err(|_| KeyError::Malformed)?;
                (Signer::Rsa(Box::new(pair)), comment.to_owned())
            }
            "ENCRYPTED PRIVATE KEY" => return Err(KeyError::Encrypted),
            other if other.ends_with("PRIVATE KEY") => {
                let kind = other.trim_end_matches("PRIVATE KEY").trim().to_owned();
                return Err(KeyError::Unsupported { kind });
            }
            _ => return Err(KeyError::NotAKey),
        };
        Ok(Self { public: signer.public(), comment, signer })
    }

    /// Signs `data`; none if the key cannot sign in the way that `flags` asks for.
    pub(super) fn sign(&self, data: &[u8], flags: u32) -> Option<Vec<u8>> {
        let mut signature = Vec::new();
        match &self.signer {
            Signer::Ed25519(pair) => {
                put_string(&mut signature, b"ssh-ed25519");
                put_string(&mut signature, pair.sign(data).as_ref());
            }
            Signer::Ecdsa(curve, pair) => {
                let fixed = pair.sign(&SystemRandom::new(), data).ok()?;
                let (r, s) = fixed.as_ref().split_at_checked(curve.size)?;
                let mut numbers = Vec::new();
                put_mpint(&mut numbers, r);
                put_mpint(&mut numbers, s);
                put_string(&mut signature, curve.kind.as_bytes());
                put_string(&mut signature, &numbers);
            }
            Signer::Rsa(pair) => {
                // Without a flag it is SHA-1 that is asked for, which no server should take.
                let (kind, padding) = if flags & RSA_SHA2_512 != 0 {
                    ("rsa-sha2-512", &RSA_PKCS1_SHA512)
                } else if flags & RSA_SHA2_256 != 0 {
                    ("rsa-sha2-256", &RSA_PKCS1_SHA256)
                } else {
                    return None;
                };
                let mut raw = vec![0; pair.public().modulus_len()];
                pair.sign(padding, &SystemRandom::new(), data, &mut raw).ok()?;
                put_string(&mut signature, kind.as_bytes());
                put_string(&mut signature, &raw);
            }
        }
        Some(signature)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("PrivateKey").field(&self.comment).finish()
    }
}

impl Signer {
    /// The public key as SSH writes it.
    fn public(&self) -> Vec<u8> {
        let mut public = Vec::new();
        match self {
            Self::Ed25519(pair) => {
                put_string(&mut public, b"ssh-ed25519");
                put_string(&mut public, pair.public_key().as_ref());
            }
            Self::Ecdsa(curve, pair) => {
                put_string(&mut public, curve.kind.as_bytes());
                put_string(&mut public, curve.name.as_bytes());
                put_string(&mut public, pair.public_key().as_ref());
            }
            Self::Rsa(pair) => {
                let PublicKeyComponents { n, e } =
                    PublicKeyComponents::<Vec<u8>>::from(pair.public());
                put_string(&mut public, b"ssh-rsa");
                put_mpint(&mut public, &e);
                put_mpint(&mut public, &n);
            }
        }
        public
    }
}

/// The label and content of the first PEM block.
fn pem(text: &str) -> Result<(&str, Zeroizing<Vec<u8>>), KeyError> {
    let mut lines = text.lines().map(str::trim);
    let label = lines
        .find_map(|line| line.strip_prefix("-----BEGIN ")?.strip_suffix("-----"))
        .ok_or(KeyError::NotAKey)?;
    let mut body = Zeroizing::new(String::with_capacity(text.len()));
    for line in lines {
        if line.starts_with("-----END ") {
            let content = STANDARD.decode(body.as_bytes()).map_err(|_| KeyError::Malformed)?;
            return Ok((label, Zeroizing::new(content)));
        }
        // Only the old format has headers, and only to say how it is encrypted.
        if line.contains(':') {
            return Err(KeyError::Encrypted);
        }
        body.push_str(line);
    }
    Err(KeyError::Malformed)
}

fn pkcs8(der: &[u8]) -> Result<Signer, KeyError> {
    if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
        return Ok(Signer::Ed25519(Box::new(pair)));
    }
    if let Ok(pair) = RsaKeyPair::from_pkcs8(der) {
        return Ok(Signer::Rsa(Box::new(pair)));
    }
    for curve in &CURVES {
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(curve.algorithm, der, &SystemRandom::new()) {
            return Ok(Signer::Ecdsa(curve, Box::new(pair)));
        }
    }
    Err(KeyError::Unsupported { kind: "these PKCS#8".to_owned() })
}

/// OpenSSH's `PROTOCOL.key`.
fn openssh(body: &[u8], fallback: &str) -> Result<(Signer, String), KeyError> {
    let malformed = KeyError::Malformed;
    let body = body.strip_prefix(b"openssh-key-v1\0").ok_or_else(|| malformed.clone())?;
    let mut outer = Reader(body);
    let mut next = || outer.string().ok_or_else(|| malformed.clone());
    let (cipher, _kdf, _options) = (next()?, next()?, next()?);
    if cipher != b"none" {
        return Err(KeyError::Encrypted);
    }
    let one = outer.u32() == Some(1);
    let section = outer.string().and_then(|_public| outer.string()).filter(|_| one);
    let mut inner = Reader(section.ok_or_else(|| malformed.clone())?);
    let whole = inner.u32().zip(inner.u32()).is_some_and(|(one, other)| one == other);
    let kind = inner.string().filter(|_| whole).ok_or_else(|| malformed.clone())?;
    let signer = match kind {
        b"ssh-ed25519" => ed25519(&mut inner),
        b"ssh-rsa" => rsa(&mut inner),
        _ => {
            let Some(curve) = CURVES.iter().find(|curve| curve.kind.as_bytes() == kind) else {
                let kind = String::from_utf8_lossy(kind).into_owned();
                return Err(KeyError::Unsupported { kind });
            };
            ecdsa(&mut inner, curve)
        }
    };
    let signer = signer.ok_or(malformed)?;
    let comment = inner.string().and_then(|comment| std::str::from_utf8(comment).ok());
    let comment = comment.filter(|comment| !comment.is_empty()).unwrap_or(fallback);
    Ok((signer, comment.to_owned()))
}

fn ed25519(fields: &mut Reader<'_>) -> Option<Signer> {
    let (public, private) = (fields.string()?, fields.string()?);
    let seed = private.get(..32)?;
    let pair = Ed25519KeyPair::from_seed_and_public_key(seed, public).ok()?;
    Some(Signer::Ed25519(Box::new(pair)))
}

fn ecdsa(fields: &mut Reader<'_>, curve: &'static Curve) -> Option<Signer> {
    let (_name, public, scalar) = (fields.string()?, fields.string()?, fields.mpint()?);
    let mut padded = Zeroizing::new(vec![0; curve.size.checked_sub(scalar.len())?]);
    padded.extend_from_slice(scalar);
    let random = SystemRandom::new();
    let pair =
        EcdsaKeyPair::from_private_key_and_public_key(curve.algorithm, &padded, public, &random);
    Some(Signer::Ecdsa(curve, Box::new(pair.ok()?)))
}

#[expect(clippy::many_single_char_names, reason = "RSA's numbers have no other names")]
fn rsa(fields: &mut Reader<'_>) -> Option<Signer> {
    let mut number = || fields.mpint();
    let (n, e, d, inverse, p, q) =
        (number()?, number()?, number()?, number()?, number()?, number()?);
    // The format leaves out what can be computed: d mod (p - 1) and d mod (q - 1).
    let (exponent_p, exponent_q) = (remainder(d, &less_one(p)), remainder(d, &less_one(q)));
    let pair = RsaKeyPair::from_components(&KeyPairComponents {
        public_key: PublicKeyComponents { n, e },
        d,
        p,
        q,
        dP: exponent_p.as_slice(),
        dQ: exponent_q.as_slice(),
        qInv: inverse,
    });
    Some(Signer::Rsa(Box::new(pair.ok()?)))
}

/// An odd number less one.
fn less_one(number: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut number = Zeroizing::new(number.to_vec());
    if let Some(last) = number.last_mut() {
        *last &= 0xfe;
    }
    number
}

/// `number` mod `modulus`, both most significant byte first, bit by bit. Done once a key.
fn remainder(number: &[u8], modulus: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut rest = Zeroizing::new(vec![0_u8; modulus.len()]);
    for byte in number {
        for bit in (0..8).rev() {
            let mut carry = byte >> bit & 1;
            for digit in rest.iter_mut().rev() {
                let out = *digit >> 7;
                *digit = *digit << 1 | carry;
                carry = out;
            }
            // `rest` was below the modulus, so one subtraction is enough.
            if carry == 1 || rest.as_slice() >= modulus {
                let mut borrow = false;
                for (digit, &less) in rest.iter_mut().zip(modulus).rev() {
                    let (value, first) = digit.overflowing_sub(less);
                    let (value, second) = value.overflowing_sub(u8::from(borrow));
                    *digit = value;
                    borrow = first || second;
                }
            }
        }
    }
    let zeros = rest.iter().position(|&byte| byte != 0).unwrap_or(rest.len());
    rest.drain(..zeros);
    rest
}

#[cfg(test)]
mod tests {
    use super::{KeyError, PrivateKey, remainder};
    use proptest::prelude::*;

    #[test]
    fn what_is_no_usable_key_is_told_apart() {
        let parse = |text: &str| PrivateKey::parse(text.as_bytes(), "k").unwrap_err();
        assert_eq!(parse("ssh-ed25519 AAAA"), KeyError::NotAKey);
        assert_eq!(parse("-----BEGIN CERTIFICATE-----\n-----END C-----"), KeyError::NotAKey);
        assert_eq!(parse("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA"), KeyError::Malformed);
        let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAA\n-----END R-----";
        assert_eq!(parse(old), KeyError::Encrypted);
        let dsa = "-----BEGIN DSA PRIVATE KEY-----\nAAAA\n-----END DSA PRIVATE KEY-----";
        assert_eq!(parse(dsa), KeyError::Unsupported { kind: "DSA".to_owned() });
        assert_eq!(PrivateKey::parse(&[0xff], "k").unwrap_err(), KeyError::NotAKey);
    }

    proptest! {
        #[test]
        fn remainders_are_those_of_arithmetic(number: u128, modulus in 1_u64..) {
            let found = remainder(&number.to_be_bytes(), &modulus.to_be_bytes());
            let value = found.iter().fold(0_u128, |value, &byte| value << 8 | u128::from(byte));
            prop_assert_eq!(value, number % u128::from(modulus));
        }

        #[test]
        fn no_file_makes_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            use base64::Engine as _;
            let mut whole = b"openssh-key-v1\0".to_vec();
            whole.extend(body);
            let text = base64::engine::general_purpose::STANDARD.encode(whole);
            let pem = format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{text}\n-----END O-----");
            prop_assert!(PrivateKey::parse(pem.as_bytes(), "k").is_err());
        }
    }
}
