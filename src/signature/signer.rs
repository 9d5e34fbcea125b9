//! A private key that signs what is pushed.

use super::{
    key::Trusted,
    pem,
    sealed::{self, Shut},
};
use rustls::{
    SignatureScheme,
    crypto::ring::sign::any_supported_type,
    pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer},
    sign::SigningKey,
};
use std::{fmt, sync::Arc};

/// What cosign checks a key's signatures by, where nobody tells it otherwise.
const SCHEMES: [SignatureScheme; 3] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ED25519,
    SignatureScheme::RSA_PKCS1_SHA256,
];

/// A private key, ready to sign. It cannot be printed.
#[derive(Clone)]
pub struct Signer {
    key: Arc<dyn SigningKey>,
    public: Vec<u8>,
}

impl fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Signer(..)")
    }
}

/// Why a text is no key that can sign.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SigningKeyError {
    /// There is no private key in it.
    #[error("it has no private key in PEM")]
    Nothing,
    /// It has a password, and none is given.
    #[error("it has a password")]
    NoPassword,
    /// The password is another one.
    #[error("its password is another one")]
    WrongPassword,
    /// It is sealed in a way that is not read.
    #[error("it is encrypted in the way of PKCS #8, and only cosign's is read")]
    Encrypted,
    /// The key is damaged, or of a kind that nobody checks signatures of.
    #[error("it is damaged, or neither ECDSA on P-256, Ed25519 nor RSA")]
    Unsupported,
}

impl Signer {
    /// Reads a private key in PEM: as cosign seals it with `password`, or PKCS #8, SEC 1 or PKCS #1
    /// without one.
    ///
    /// # Errors
    /// See [`SigningKeyError`].
    pub fn parse(text: &str, password: Option<&[u8]>) -> Result<Self, SigningKeyError> {
        let is_private = |block: &pem::Block| block.label.ends_with("PRIVATE KEY");
        // Old OpenSSL puts the name of a curve before the key.
        let block = pem::blocks(text).into_iter().find(is_private);
        let block = block.ok_or(if text.contains("Proc-Type: 4,ENCRYPTED") {
            SigningKeyError::Encrypted
        } else {
            SigningKeyError::Nothing
        })?;
        let content = block.content;
        match block.label.as_str() {
            "ENCRYPTED SIGSTORE PRIVATE KEY" | "ENCRYPTED COSIGN PRIVATE KEY" => {
                let opened = match sealed::open(&content, password.unwrap_or_default()) {
                    Ok(opened) => opened,
                    Err(Shut::Malformed) => return Err(SigningKeyError::Unsupported),
                    // An empty password is a password too.
                    Err(Shut::WrongPassword) if password.is_none() => {
                        return Err(SigningKeyError::NoPassword);
                    }
                    Err(Shut::WrongPassword) => return Err(SigningKeyError::WrongPassword),
                };
                Self::of(&PrivatePkcs8KeyDer::from(opened.as_slice()).into())
            }
            "PRIVATE KEY" => Self::of(&PrivatePkcs8KeyDer::from(content.as_slice()).into()),
            "EC PRIVATE KEY" => Self::of(&PrivateSec1KeyDer::from(content.as_slice()).into()),
            "RSA PRIVATE KEY" => Self::of(&PrivatePkcs1KeyDer::from(content.as_slice()).into()),
            "ENCRYPTED PRIVATE KEY" => Err(SigningKeyError::Encrypted),
            _ => Err(SigningKeyError::Unsupported),
        }
    }

    fn of(key: &PrivateKeyDer<'_>) -> Result<Self, SigningKeyError> {
        let key = any_supported_type(key).map_err(|_| SigningKeyError::Unsupported)?;
        let public = key.public_key().map(|public| public.as_ref().to_vec());
        let can_sign = key.choose_scheme(&SCHEMES).is_some();
        match public {
            Some(public) if can_sign => Ok(Self { key, public }),
            _ => Err(SigningKeyError::Unsupported),
        }
    }

    /// The signature of `message`: ECDSA in DER, Ed25519 of the message itself, RSA in PKCS #1 v1.5.
    ///
    /// # Errors
    /// [`SigningKeyError::Unsupported`] where the key cannot sign, as one of RSA that is too short.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningKeyError> {
        let signer = self.key.choose_scheme(&SCHEMES).ok_or(SigningKeyError::Unsupported)?;
        signer.sign(message).map_err(|_| SigningKeyError::Unsupported)
    }

    /// What checks its signatures.
    pub fn trusted(&self) -> Trusted {
        Trusted::of_key(self.public.clone())
    }
}
