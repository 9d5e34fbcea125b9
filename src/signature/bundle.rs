//! Sigstore's bundle, in which cosign 3 leaves a signature.

use super::{Unproven, key::Trusted};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Deserialize;
use std::collections::BTreeMap;

/// What bundles are called, less their version.
pub const BUNDLE_TYPE: &str = "application/vnd.dev.sigstore.bundle.";
/// What is in the envelope.
const STATEMENT: &str = "application/vnd.in-toto+json";
/// What a statement is about that is a signature: others say where an image comes from or what is in
/// it, and by that vouch for nothing.
const IS_SIGNATURE: &str = "https://sigstore.dev/cosign/sign/";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    dsse_envelope: Option<Envelope>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    #[serde(default)]
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Deserialize)]
struct EnvelopeSignature {
    sig: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(default)]
    subject: Vec<Subject>,
    predicate_type: String,
}

#[derive(Deserialize)]
struct Subject {
    #[serde(default)]
    digest: BTreeMap<String, String>,
}

/// Whether a bundle vouches for the image `digest`.
///
/// # Errors
/// See [`Unproven`].
pub fn check_bundle(bytes: &[u8], digest: &str, trusted: &Trusted) -> Result<(), Unproven> {
    let bundle: Bundle = serde_json::from_slice(bytes).map_err(|_| Unproven::Malformed)?;
    let envelope = bundle.dsse_envelope.ok_or(Unproven::Malformed)?;
    let decode = |text: &str| BASE64_STANDARD.decode(text).map_err(|_| Unproven::Malformed);
    let payload = decode(&envelope.payload)?;
    // DSSE's pre-authentication encoding.
    let kind = &envelope.payload_type;
    let mut message = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    message.extend(&payload);
    let signatures = envelope.signatures.iter().map(|one| decode(&one.sig));
    let signatures = signatures.collect::<Result<Vec<_>, _>>()?;
    if !signatures.iter().any(|signature| trusted.check(&message, signature).is_ok()) {
        return Err(Unproven::OtherKey);
    }
    let statement: Statement = serde_json::from_slice(&payload).map_err(|_| Unproven::Malformed)?;
    if kind != STATEMENT || !statement.predicate_type.starts_with(IS_SIGNATURE) {
        return Err(Unproven::Malformed);
    }
    let (algorithm, hex) = digest.split_once(':').ok_or(Unproven::Malformed)?;
    let is_it = |subject: &Subject| subject.digest.get(algorithm).is_some_and(|one| one == hex);
    Unproven::unless(statement.subject.iter().any(is_it))
}
