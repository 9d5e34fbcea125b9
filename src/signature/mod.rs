//! Signatures of images: made in the form that cosign attaches to an image, and checked in the forms
//! that cosign and notation leave in a registry.
//!
//! - **Simple signing** (cosign 1 and 2, podman): the tag `sha256-HEX.sig` beside the image lists
//!   payloads, each with its signature in an annotation. See the [cosign specification].
//! - **Bundle** (cosign 3): a referrer of the image holds a DSSE envelope around an in-toto statement.
//!   See the [Sigstore bundle] and [DSSE].
//! - **Notation**: a referrer of the image holds a signed document, JWS or COSE, with the certificates
//!   of who signed. See the [Notary Project specification].
//!
//! Nothing here asks a transparency log: a key that the caller has is what is trusted.
//!
//! [cosign specification]: https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md
//! [Sigstore bundle]: https://github.com/sigstore/protobuf-specs
//! [DSSE]: https://github.com/secure-systems-lab/dsse
//! [Notary Project specification]: https://github.com/notaryproject/specifications

mod bundle;
mod key;
mod notation;
mod pem;
mod sealed;
mod signer;
mod simple;

pub use bundle::{BUNDLE_TYPE, check_bundle};
pub use key::{Trusted, UnreadableKey};
pub use notation::{NOTATION_TYPE, check_notation};
pub use signer::{Signer, SigningKeyError};
pub use simple::{Attached, Payload, SIMPLE_TYPE, attached_tag, check_simple, manifest};

/// Why something that lies beside an image does not vouch for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unproven {
    /// It is not in the form that it says.
    #[error("it cannot be read")]
    Malformed,
    /// It is of something else.
    #[error("it is of another image")]
    OtherImage,
    /// None of the keys made it.
    #[error("it is by another key")]
    OtherKey,
    /// Who signed is not, or no longer, vouched for by the certificate that is trusted.
    #[error("its certificate does not lead to the one that is trusted")]
    OtherAuthority,
    /// Its time is over.
    #[error("it has expired")]
    Expired,
}

impl Unproven {
    /// What is signed is of the image that is asked about, or it is not.
    fn unless(is_the_image: bool) -> Result<(), Self> {
        if is_the_image { Ok(()) } else { Err(Self::OtherImage) }
    }
}

#[cfg(test)]
mod tests;
