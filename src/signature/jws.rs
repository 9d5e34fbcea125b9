//! Notation's signatures: JWS in JSON, with the certificates of who signed.

use super::{Unproven, key::Trusted};
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use serde::Deserialize;
use std::time::Duration;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert, ring};

/// What kind of artefact a signature of notation is.
pub const NOTATION_TYPE: &str = "application/vnd.cncf.notary.signature";
/// What is signed.
const PAYLOAD: &str = "application/vnd.cncf.notary.payload.v1+json";
/// The scheme in which the signer's own certificates are what counts.
const SCHEME: &str = "notary.x509";
/// What certificates may be for: to sign code, `1.3.6.1.5.5.7.3.3`, less its tag and length.
const SIGNS_CODE: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 3];
/// What a signature may insist on that is understood here.
const UNDERSTOOD: [&str; 3] =
    ["io.cncf.notary.signingScheme", "io.cncf.notary.expiry", "io.cncf.notary.signingTime"];
/// What may vouch for a signer's certificate besides those that are trusted.
const CHAIN: [&dyn SignatureVerificationAlgorithm; 9] = [
    ring::ECDSA_P256_SHA256,
    ring::ECDSA_P256_SHA384,
    ring::ECDSA_P384_SHA256,
    ring::ECDSA_P384_SHA384,
    ring::ED25519,
    ring::RSA_PKCS1_2048_8192_SHA256,
    ring::RSA_PKCS1_2048_8192_SHA384,
    ring::RSA_PKCS1_2048_8192_SHA512,
    ring::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
];

#[derive(Deserialize)]
struct Envelope {
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

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    target_artifact: Target,
}

#[derive(Deserialize)]
struct Target {
    digest: String,
}

/// Whether a signature of notation vouches for the image `digest`. `now` is in seconds since 1970.
///
/// # Errors
/// See [`Unproven`].
pub fn check_jws(bytes: &[u8], digest: &str, trusted: &Trusted, now: i64) -> Result<(), Unproven> {
    let envelope: Envelope = serde_json::from_slice(bytes).map_err(|_| Unproven::Malformed)?;
    let decode = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| Unproven::Malformed);
    let protected = decode(&envelope.protected)?;
    let protected: Protected =
        serde_json::from_slice(&protected).map_err(|_| Unproven::Malformed)?;
    let understood = |name: &String| UNDERSTOOD.contains(&name.as_str());
    if protected.cty != PAYLOAD || protected.scheme != SCHEME {
        return Err(Unproven::Malformed);
    }
    if !protected.crit.iter().all(understood) {
        return Err(Unproven::Malformed);
    }
    let certificates = envelope.header.x5c.iter().map(|text| BASE64_STANDARD.decode(text));
    let certificates = certificates.collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|_| Unproven::Malformed)?;
    let certificates: Vec<_> = certificates.into_iter().map(CertificateDer::from).collect();
    let (first, others) = certificates.split_first().ok_or(Unproven::Malformed)?;
    let signer = EndEntityCert::try_from(first).map_err(|_| Unproven::Malformed)?;

    let mut signature = decode(&envelope.signature)?;
    let algorithm = match protected.alg.as_str() {
        "PS256" => ring::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
        "PS384" => ring::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
        "PS512" => ring::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
        "ES256" => ring::ECDSA_P256_SHA256,
        "ES384" => ring::ECDSA_P384_SHA384,
        _ => return Err(Unproven::Malformed),
    };
    if protected.alg.starts_with("ES") {
        signature = sequence(&signature).ok_or(Unproven::Malformed)?;
    }
    let message = format!("{}.{}", envelope.protected, envelope.payload);
    signer
        .verify_signature(algorithm, message.as_bytes(), &signature)
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

    if protected.expiry.is_some_and(|expiry| expiry.as_second() <= now) {
        return Err(Unproven::Expired);
    }
    let payload = decode(&envelope.payload)?;
    let payload: Payload = serde_json::from_slice(&payload).map_err(|_| Unproven::Malformed)?;
    Unproven::unless(payload.target_artifact.digest == digest)
}

/// The two numbers of an ECDSA signature, which JWS has side by side, as a sequence in DER.
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
