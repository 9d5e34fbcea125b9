//! Simple signing, as cosign attaches it to an image.

use super::{Unproven, key::Trusted};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The media type of a payload.
pub const SIMPLE_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The annotation of a payload that has its signature, in Base64.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// What a payload says that it is.
const KIND: &str = "cosign container image signature";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";

/// The tag beside an image under which its signatures are; `digest` is the image's.
pub fn attached_tag(digest: &str) -> String {
    format!("{}.sig", digest.replace(':', "-"))
}

/// What is signed: which image it is, and words of whoever signs.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Payload {
    critical: Critical,
    /// Words of whoever signs.
    #[serde(default)]
    pub optional: Option<BTreeMap<String, Value>>,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Critical {
    identity: Identity,
    image: ImageDigest,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Identity {
    docker_reference: String,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct ImageDigest {
    docker_manifest_digest: String,
}

impl Payload {
    /// What is signed of the image `digest` in `repository`, such as `ghcr.io/me/app`.
    pub fn new(repository: &str, digest: &str, annotations: &BTreeMap<String, String>) -> Self {
        let words = annotations.iter().map(|(key, value)| (key.clone(), json!(value)));
        Self {
            critical: Critical {
                identity: Identity { docker_reference: repository.to_owned() },
                image: ImageDigest { docker_manifest_digest: digest.to_owned() },
                kind: KIND.to_owned(),
            },
            optional: (!annotations.is_empty()).then(|| words.collect()),
        }
    }

    /// Its bytes, which are what a signature is of.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// A payload in a registry, with the annotations that it has there.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attached {
    /// What it is: [`SIMPLE_TYPE`], or something else that is of no interest.
    pub media_type: String,
    /// The payload's digest.
    pub digest: String,
    /// Its size in bytes.
    pub size: u64,
    /// The signature, and what else is said of it.
    #[serde(default, deserialize_with = "crate::image::json::nullable")]
    pub annotations: BTreeMap<String, String>,
}

impl Attached {
    /// The payload `digest` of `size` bytes, signed with `signature`.
    pub fn new(digest: &str, size: usize, signature: &[u8]) -> Self {
        let signature = BASE64_STANDARD.encode(signature);
        Self {
            media_type: SIMPLE_TYPE.to_owned(),
            digest: digest.to_owned(),
            size: u64::try_from(size).unwrap_or(u64::MAX),
            annotations: BTreeMap::from([(SIGNATURE.to_owned(), signature)]),
        }
    }

    /// The signature; none where it has none that can be read.
    pub fn signature(&self) -> Option<Vec<u8>> {
        let text = self.annotations.get(SIGNATURE)?;
        BASE64_STANDARD.decode(text.trim()).ok().filter(|_| self.media_type == SIMPLE_TYPE)
    }

    /// Those that the manifest `bytes` lists; empty where it is none.
    pub fn of_manifest(bytes: &[u8]) -> Vec<Self> {
        #[derive(Deserialize)]
        struct Manifest {
            #[serde(default)]
            layers: Vec<Attached>,
        }
        serde_json::from_slice::<Manifest>(bytes).map(|read| read.layers).unwrap_or_default()
    }
}

/// The manifest that lists `all`, and the config that it names: media types, and bytes. `digest` makes
/// the digest of bytes.
pub fn manifest(all: &[Attached], digest: impl Fn(&[u8]) -> String) -> (Vec<u8>, Vec<u8>) {
    let payloads: Vec<&str> = all.iter().map(|one| one.digest.as_str()).collect();
    let never = "0001-01-01T00:00:00Z";
    let config = json!({
        "architecture": "", "os": "", "created": never, "config": {},
        "history": payloads.iter().map(|_| json!({ "created": never })).collect::<Vec<_>>(),
        "rootfs": { "type": "layers", "diff_ids": payloads },
    });
    let config = config.to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": { "mediaType": CONFIG_TYPE, "digest": digest(&config), "size": config.len() },
        "layers": all,
    });
    (manifest.to_string().into_bytes(), config)
}

/// Whether `signature` of `payload` vouches for the image `digest`.
///
/// # Errors
/// See [`Unproven`].
pub fn check_simple(
    payload: &[u8],
    signature: &[u8],
    digest: &str,
    trusted: &Trusted,
) -> Result<(), Unproven> {
    // Nothing of a payload is believed before its signature is.
    trusted.check(payload, signature)?;
    let payload: Payload = serde_json::from_slice(payload).map_err(|_| Unproven::Malformed)?;
    if payload.critical.kind != KIND {
        return Err(Unproven::Malformed);
    }
    Unproven::unless(payload.critical.image.docker_manifest_digest == digest)
}
