//! Keys and signatures that others made, and ours.

use super::{
    Attached, Payload, Signer, SigningKeyError, Trusted, Unproven, attached_tag, check_simple,
    manifest,
};
use std::collections::BTreeMap;

/// A key pair that the library made which cosign seals its keys with; see `tests/signature`.
const SEALED: &str = include_str!("../../tests/signature/cosign.key");
const PUBLIC: &str = include_str!("../../tests/signature/cosign.pub");
const PASSWORD: &[u8] = b"correct horse";
const DIGEST: &str = "sha256:4bc453b53cb3d914b45f4b250294236adba2c0e09ff6f03793949e7e39fd4cc1";

#[test]
fn a_sealed_key_opens_with_its_password_alone() {
    let signer = Signer::parse(SEALED, Some(PASSWORD)).unwrap();
    assert_eq!(signer.trusted(), Trusted::parse(PUBLIC).unwrap());
    assert_eq!(format!("{signer:?}"), "Signer(..)");
    let failure = |password: Option<&[u8]>| Signer::parse(SEALED, password).map(drop).unwrap_err();
    assert_eq!(failure(None), SigningKeyError::NoPassword);
    assert_eq!(failure(Some(b"correct hors")), SigningKeyError::WrongPassword);
}

#[test]
fn a_payload_vouches_for_one_image_by_one_key() {
    let signer = Signer::parse(SEALED, Some(PASSWORD)).unwrap();
    let trusted = Trusted::parse(PUBLIC).unwrap();
    let words = BTreeMap::from([("team".to_owned(), "a".to_owned())]);
    let payload = Payload::new("ghcr.io/me/app", DIGEST, &words).to_bytes();
    assert_eq!(
        String::from_utf8(payload.clone()).unwrap(),
        format!(
            "{{\"critical\":{{\"identity\":{{\"docker-reference\":\"ghcr.io/me/app\"}},\
             \"image\":{{\"docker-manifest-digest\":\"{DIGEST}\"}},\
             \"type\":\"cosign container image signature\"}},\"optional\":{{\"team\":\"a\"}}}}"
        )
    );
    let signature = signer.sign(&payload).unwrap();
    let check = |payload: &[u8], signature: &[u8], digest: &str, trusted: &Trusted| {
        check_simple(payload, signature, digest, trusted)
    };
    assert_eq!(check(&payload, &signature, DIGEST, &trusted), Ok(()));
    let other = DIGEST.replace('4', "5");
    assert_eq!(check(&payload, &signature, &other, &trusted), Err(Unproven::OtherImage));
    let mut longer = payload.clone();
    longer.push(b' ');
    assert_eq!(check(&longer, &signature, DIGEST, &trusted), Err(Unproven::OtherKey));
    let mut broken = signature.clone();
    *broken.last_mut().unwrap() ^= 1;
    assert_eq!(check(&payload, &broken, DIGEST, &trusted), Err(Unproven::OtherKey));
    assert_eq!(check(&payload, &signature, DIGEST, &Trusted::default()), Err(Unproven::OtherKey));
    // What the key has signed for another purpose is no signature of an image.
    let other = br#"{"critical":{"type":"another"}}"#;
    let signed = signer.sign(other).unwrap();
    assert_eq!(check(other, &signed, DIGEST, &trusted), Err(Unproven::Malformed));
}

#[test]
fn what_is_attached_is_read_as_it_was_written() {
    let one = Attached::new("sha256:aa", 7, b"signature");
    let digest = |bytes: &[u8]| format!("sha256:{}", bytes.len());
    let (written, config) = manifest(std::slice::from_ref(&one), digest);
    assert_eq!(Attached::of_manifest(&written), std::slice::from_ref(&one));
    assert_eq!(one.signature().unwrap(), b"signature");
    let manifest: serde_json::Value = serde_json::from_slice(&written).unwrap();
    assert_eq!(manifest["config"]["digest"], digest(&config));
    assert_eq!(attached_tag("sha256:aa"), "sha256-aa.sig");
    assert!(Attached::of_manifest(b"{}").is_empty() && Attached::of_manifest(b"no").is_empty());
    let other = Attached { media_type: "text/plain".to_owned(), ..one };
    assert_eq!(other.signature(), None);
}

#[test]
fn texts_that_hold_no_key_are_told_apart() {
    let block = |label: &str| format!("-----BEGIN {label}-----\naGk=\n-----END {label}-----\n");
    for (text, error) in [
        (String::new(), SigningKeyError::Nothing),
        (PUBLIC.to_owned(), SigningKeyError::Nothing),
        (block("ENCRYPTED PRIVATE KEY"), SigningKeyError::Encrypted),
        (block("PRIVATE KEY"), SigningKeyError::Unsupported),
        (block("EC PRIVATE KEY"), SigningKeyError::Unsupported),
        (block("RSA PRIVATE KEY"), SigningKeyError::Unsupported),
        (block("OPENSSH PRIVATE KEY"), SigningKeyError::Unsupported),
        (block("ENCRYPTED SIGSTORE PRIVATE KEY"), SigningKeyError::Unsupported),
    ] {
        assert_eq!(Signer::parse(&text, None).map(drop), Err(error), "{text}");
    }
}
