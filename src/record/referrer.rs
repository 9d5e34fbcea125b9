//! A receipt as an OCI referrer of the image that it tells of.

use super::Receipt;
use crate::registry::digest;
use serde_json::json;

/// What kind of artifact a receipt is.
pub const ARTIFACT_TYPE: &str = "application/vnd.bk-sync.receipt.v1+json";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";

/// An artifact whose subject is the image: its blobs, and the manifest that holds them together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Referrer {
    /// The bytes of each blob, to be uploaded before the manifest.
    pub blobs: Vec<Vec<u8>>,
    /// The manifest's media type.
    pub media_type: &'static str,
    /// The manifest.
    pub manifest: Vec<u8>,
}

impl Referrer {
    /// The receipt beside the image whose manifest has `media_type` and `size`. None where no image
    /// was made.
    pub fn new(receipt: &Receipt, media_type: &str, size: u64) -> Option<Self> {
        let subject = &receipt.image.as_ref()?.digest;
        let document = serde_json::to_vec(receipt).ok()?;
        let empty = b"{}".to_vec();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": ARTIFACT_TYPE,
            "config": { "mediaType": EMPTY_TYPE, "digest": digest(&empty), "size": empty.len() },
            "layers": [{
                "mediaType": ARTIFACT_TYPE,
                "digest": digest(&document),
                "size": document.len(),
                "annotations": { "org.opencontainers.image.title": "receipt.json" },
            }],
            "subject": { "mediaType": media_type, "digest": subject, "size": size },
            "annotations": { "org.opencontainers.image.created": receipt.started },
        });
        let manifest = serde_json::to_vec(&manifest).ok()?;
        Some(Self { blobs: vec![empty, document], media_type: MANIFEST_TYPE, manifest })
    }
}

#[cfg(test)]
mod tests {
    use super::Referrer;
    use crate::{
        record::{ImageRecord, Receipt},
        registry::digest,
    };

    #[test]
    fn the_subject_is_the_image_and_every_blob_is_named() {
        assert_eq!(Referrer::new(&Receipt::default(), "m", 1), None);
        let image = ImageRecord { digest: "sha256:aa".to_owned(), ..ImageRecord::default() };
        let receipt = Receipt { image: Some(image), ..Receipt::default() };
        let referrer = Referrer::new(&receipt, "application/x", 7).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&referrer.manifest).unwrap();
        assert_eq!(manifest["subject"]["digest"], "sha256:aa");
        assert_eq!(manifest["subject"]["size"], 7);
        let named = [&manifest["config"]["digest"], &manifest["layers"][0]["digest"]];
        for (blob, named) in referrer.blobs.iter().zip(named) {
            assert_eq!(*named, digest(blob));
        }
        assert_eq!(
            digest(&referrer.blobs[0]),
            "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
        );
    }
}
