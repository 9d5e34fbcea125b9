//! Notation's signatures, in JSON (JWS, RFC 7515) or CBOR (COSE, RFC 9052), with the certificates of
//! who signed.

use super::{Unproven, key::Trusted};
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use coset::{
    CborSerializable as _, ContentType, CoseSign1, Header as CoseHeader, Label,
    RegisteredLabelWithPrivate, TaggedCborSerializable as _,
    cbor::Value,
    iana::{self, EnumI64 as _},
};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use serde::Deserialize;
use std::time::Duration;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert, ring};

/// What kind of artefact a signature of notation is.
pub const NOTATION_TYPE: &str = "application/vnd.cncf.notary.signature";
/// The media types of its two forms.
const JWS: &str = "application/jose+json";
const COSE: &str = "application/cose";
/// What is signed.
const PAYLOAD: &str = "application/vnd.cncf.notary.payload.v1+json";
/// The scheme in which the signer's own certificates are what counts.
const SCHEME: &str = "notary.x509";
/// What certificates may be for: to sign code, `1.3.6.1.5.5.7.3.3`, less its tag and length.
const SIGNS_CODE: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 3];
/// Where the scheme, and the time from which it holds no more, are in a header.
const IN_SCHEME: &str = "io.cncf.notary.signingScheme";
const EXPIRY: &str = "io.cncf.notary.expiry";
/// What a signature may insist on that is understood here.
const UNDERSTOOD: [&str; 3] = [IN_SCHEME, EXPIRY, "io.cncf.notary.signingTime"];
/// The header of COSE in which certificates are (RFC 9360).
const X5CHAIN: Label = Label::Int(33);
/// What may vouch for a signer's certificate besides those that are trusted.
const CHAIN: [&dyn SignatureVerificationAlgorithm; 11] = [
    ring::ECDSA_P256_SHA256,
    ring::ECDSA_P256_SHA384,
    ring::ECDSA_P384_SHA256,
    ring::ECDSA_P384_SHA384,
    ring::ED25519,
    ring::RSA_PKCS1_2048_8192_SHA256,
    ring::RSA_PKCS1_2048_8192_SHA384,
    ring::RSA_PKCS1_2048_8192_SHA512,
    ring::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    ring::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    ring::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
];

/// A signature, whichever form it came in.
struct Envelope {
    /// How it was made, in JWS's words.
    algorithm: &'static str,
    /// What was signed: header and payload, in the form's own way.
    message: Vec<u8>,
    signature: Vec<u8>,
    payload: Vec<u8>,
    content_type: String,
    scheme: String,
    /// What it insists on.
    critical: Vec<String>,
    /// From when it holds no more, in seconds since 1970.
    expiry: Option<i64>,
    /// The signer's certificate, and what vouches for it.
    certificates: Vec<Vec<u8>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    target_artifact: Target,
}

#[derive(Deserialize)]
struct Target {
    digest: String,
}

/// Whether a signature of notation, whose bytes have `media_type`, vouches for the image `digest`. `now`
/// is in seconds since 1970: a certificate must hold then, since no clock but the signer's says when it
/// was used.
///
/// # Errors
/// See [`Unproven`].
pub fn check_notation(
    (media_type, bytes): (&str, &[u8]),
    digest: &str,
    trusted: &Trusted,
    now: i64,
) -> Result<(), Unproven> {
    let envelope = match media_type {
        JWS => of_jws(bytes),
        COSE => of_cose(bytes),
        _ => None,
    };
    let envelope = envelope.ok_or(Unproven::Malformed)?;
    let understood = |name: &String| UNDERSTOOD.contains(&name.as_str());
    let is_known = envelope.content_type == PAYLOAD && envelope.scheme == SCHEME;
    if !is_known || !envelope.critical.iter().all(understood) {
        return Err(Unproven::Malformed);
    }
    let certificates: Vec<_> =
        envelope.certificates.into_iter().map(CertificateDer::from).collect();
    let (first, others) = certificates.split_first().ok_or(Unproven::Malformed)?;
    let signer = EndEntityCert::try_from(first).map_err(|_| Unproven::Malformed)?;

    let (algorithm, is_pair): (&dyn SignatureVerificationAlgorithm, bool) = match envelope.algorithm
    {
        "PS256" => (ring::RSA_PSS_2048_8192_SHA256_LEGACY_KEY, false),
        "PS384" => (ring::RSA_PSS_2048_8192_SHA384_LEGACY_KEY, false),
        "PS512" => (ring::RSA_PSS_2048_8192_SHA512_LEGACY_KEY, false),
        "ES256" => (ring::ECDSA_P256_SHA256, true),
        _ => (ring::ECDSA_P384_SHA384, true),
    };
    let signature = if is_pair {
        sequence(&envelope.signature).ok_or(Unproven::Malformed)?
    } else {
        envelope.signature
    };
    signer
        .verify_signature(algorithm, &envelope.message, &signature)
        .map_err(|_| Unproven::OtherKey)?;

    let roots: Vec<CertificateDer<'_>> =
        trusted.certificates.iter().map(|one| CertificateDer::from(one.as_slice())).collect();
    let anchors: Vec<_> =
        roots.iter().filter_map(|root| anchor_from_trusted_cert(root).ok()).collect();
    let since = Duration::from_secs(u64::try_from(now).unwrap_or_default());
    let usage = KeyUsage::required_if_present(SIGNS_CODE);
    let at = UnixTime::since_unix_epoch(since);
    signer
        .verify_for_usage(&CHAIN, &anchors, others, at, usage, None, None)
        .map_err(|_| Unproven::OtherAuthority)?;

    if envelope.expiry.is_some_and(|expiry| expiry <= now) {
        return Err(Unproven::Expired);
    }
    let payload: Payload =
        serde_json::from_slice(&envelope.payload).map_err(|_| Unproven::Malformed)?;
    Unproven::unless(payload.target_artifact.digest == digest)
}

/// The algorithms that notation signs with.
fn algorithm(name: &str) -> Option<&'static str> {
    ["PS256", "PS384", "PS512", "ES256", "ES384"].into_iter().find(|known| *known == name)
}

fn of_jws(bytes: &[u8]) -> Option<Envelope> {
    #[derive(Deserialize)]
    struct Jws {
        payload: String,
        protected: String,
        header: Header,
        signature: String,
    }
    #[derive(Deserialize)]
    struct Header {
        #[serde(default)]
        x5c: Vec<String>,
    }
    #[derive(Deserialize)]
    struct Protected {
        alg: String,
        #[serde(default)]
        crit: Vec<String>,
        cty: String,
        #[serde(rename = "io.cncf.notary.signingScheme")]
        scheme: String,
        #[serde(rename = "io.cncf.notary.expiry")]
        expiry: Option<jiff::Timestamp>,
    }
    let jws: Jws = serde_json::from_slice(bytes).ok()?;
    let decode = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).ok();
    let protected: Protected = serde_json::from_slice(&decode(&jws.protected)?).ok()?;
    let certificates = jws.header.x5c.iter().map(|text| BASE64_STANDARD.decode(text).ok());
    Some(Envelope {
        algorithm: algorithm(&protected.alg)?,
        message: format!("{}.{}", jws.protected, jws.payload).into_bytes(),
        signature: decode(&jws.signature)?,
        payload: decode(&jws.payload)?,
        content_type: protected.cty,
        scheme: protected.scheme,
        critical: protected.crit,
        expiry: protected.expiry.map(jiff::Timestamp::as_second),
        certificates: certificates.collect::<Option<_>>()?,
    })
}

fn of_cose(bytes: &[u8]) -> Option<Envelope> {
    let cose =
        CoseSign1::from_tagged_slice(bytes).or_else(|_| CoseSign1::from_slice(bytes)).ok()?;
    let header = &cose.protected.header;
    let word = |name: &str| entry(header, &Label::Text(name.to_owned()));
    let name = match header.alg.as_ref()? {
        RegisteredLabelWithPrivate::Assigned(known) => match known {
            iana::Algorithm::PS256 => "PS256",
            iana::Algorithm::PS384 => "PS384",
            iana::Algorithm::PS512 => "PS512",
            iana::Algorithm::ES256 => "ES256",
            iana::Algorithm::ES384 => "ES384",
            _ => return None,
        },
        _ => return None,
    };
    let critical = header.crit.iter().filter_map(|name| match name {
        // Those with a number are parts of COSE itself, and what is read of them is above.
        RegisteredLabelWithPrivate::Assigned(known)
            if known.to_i64() == iana::HeaderParameter::ContentType.to_i64() =>
        {
            None
        }
        RegisteredLabelWithPrivate::Text(name) => Some(name.clone()),
        _ => Some(String::new()),
    });
    let Some(ContentType::Text(content_type)) = &header.content_type else { return None };
    let expiry = match word(EXPIRY) {
        None => None,
        // A tag says that the number is a time.
        Some(Value::Tag(1, seconds)) => Some(i64::try_from(seconds.as_integer()?).ok()?),
        Some(_) => return None,
    };
    let certificates = match entry(&cose.unprotected, &X5CHAIN)? {
        Value::Bytes(only) => vec![only.clone()],
        Value::Array(several) => {
            several.iter().map(|one| one.as_bytes().cloned()).collect::<Option<_>>()?
        }
        _ => return None,
    };
    Some(Envelope {
        algorithm: algorithm(name)?,
        message: cose.tbs_data(b""),
        content_type: content_type.clone(),
        scheme: word(IN_SCHEME)?.as_text()?.to_owned(),
        critical: critical.collect(),
        expiry,
        certificates,
        payload: cose.payload?,
        signature: cose.signature,
    })
}

/// What a header of COSE has under a label that is none of its own.
fn entry<'h>(header: &'h CoseHeader, label: &Label) -> Option<&'h Value> {
    header.rest.iter().find(|(name, _)| name == label).map(|(_, value)| value)
}

/// The two numbers of an ECDSA signature, which both forms have side by side, as a sequence in DER.
fn sequence(pair: &[u8]) -> Option<Vec<u8>> {
    if pair.is_empty() || !pair.len().is_multiple_of(2) || pair.len() > 96 {
        return None;
    }
    let (one, other) = pair.split_at(pair.len() / 2);
    let mut body = Vec::new();
    for number in [one, other] {
        let start = number.iter().position(|byte| *byte != 0).unwrap_or(number.len() - 1);
        let digits = number.get(start..)?;
        // The first bit is the sign's.
        let sign = digits.first().is_some_and(|byte| *byte >= 0x80);
        body.extend([0x02, u8::try_from(digits.len() + usize::from(sign)).ok()?]);
        body.extend(sign.then_some(0));
        body.extend(digits);
    }
    let mut all = vec![0x30, u8::try_from(body.len()).ok().filter(|length| *length < 0x80)?];
    all.extend(body);
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::sequence;

    #[test]
    fn numbers_side_by_side_become_a_sequence() {
        let of = |pair: &[u8]| sequence(pair);
        assert_eq!(of(&[0, 1, 0, 0]), Some(vec![0x30, 6, 2, 1, 1, 2, 1, 0]));
        assert_eq!(of(&[0x80, 1, 0x7f, 2]), Some(vec![0x30, 9, 2, 3, 0, 0x80, 1, 2, 2, 0x7f, 2]));
        assert_eq!((of(&[]), of(&[1]), of(&[1; 98])), (None, None, None));
        assert_eq!(of(&[0xff; 96]).map(|all| all.len()), Some(2 + 2 * 51));
    }
}
