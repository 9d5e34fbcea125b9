//! An image that is kept in our state directory, as an OCI layout: for builders that do not keep
//! what they built.

use crate::{
    image::document::Descriptor,
    registry::{BlobSource, Graph, hex},
};
use futures::StreamExt as _;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::{
    io,
    path::{Path, PathBuf},
};
use tokio::{fs, io::AsyncWriteExt as _};

/// Copies the image `root` out of `source` into the layout `directory`. What is there already stays.
///
/// # Errors
/// The image cannot be read, or the layout cannot be written.
pub(super) async fn keep(
    root: &Descriptor,
    source: &dyn BlobSource,
    directory: &Path,
) -> io::Result<()> {
    let graph = Graph::load(root, source).await.map_err(io::Error::other)?;
    for document in graph.documents() {
        let path = place(directory, &document.digest)?;
        fs::create_dir_all(path.parent().unwrap_or(directory)).await?;
        fs::write(path, &document.bytes).await?;
    }
    for blob in graph.blobs() {
        copy(&blob.digest, source, directory).await?;
    }
    let index = json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": root.media_type,
            "digest": root.digest,
            "size": root.size,
        }],
    });
    fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).await?;
    // Last, since it makes a layout of the directory.
    fs::write(directory.join("index.json"), index.to_string()).await
}

async fn copy(name: &str, source: &dyn BlobSource, directory: &Path) -> io::Result<()> {
    let path = place(directory, name)?;
    if fs::try_exists(&path).await? {
        return Ok(());
    }
    fs::create_dir_all(path.parent().unwrap_or(directory)).await?;
    let part = path.with_extension("part");
    let mut file = fs::File::create(&part).await?;
    let mut stream = source.open(name, 0).await.map_err(io::Error::other)?;
    let mut hash = Sha256::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(io::Error::other)?;
        hash.update(&chunk);
        file.write_all(&chunk).await?;
    }
    file.flush().await?;
    let found = hex(&hash.finalize());
    if name.strip_prefix("sha256:").is_some_and(|expected| expected != found) {
        return Err(io::Error::other(format!("`{name}` has the digest sha256:{found}")));
    }
    fs::rename(part, path).await
}

fn place(directory: &Path, digest: &str) -> io::Result<PathBuf> {
    let wrong = |error| io::Error::other(format!("`{digest}`: {error}"));
    crate::image::reference::check_digest(digest).map_err(wrong)?;
    let (algorithm, hex) = digest.split_once(':').unwrap_or_default();
    Ok(directory.join("blobs").join(algorithm).join(hex))
}

#[cfg(test)]
mod tests {
    use super::keep;
    use crate::{
        pipeline::push::ImageFiles,
        registry::{Graph, digest},
    };
    use serde_json::json;
    use std::fs;

    #[tokio::test]
    async fn what_is_kept_is_the_image_again() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("from");
        let put = |bytes: &[u8]| {
            let path = from.join("blobs").join(digest(bytes).replace(':', "/"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
            json!({ "digest": digest(bytes), "size": bytes.len() })
        };
        let manifest = json!({"config": put(b"{}"), "layers": [put(b"layer")]}).to_string();
        let mut root = put(manifest.as_bytes());
        root["mediaType"] = json!("application/vnd.oci.image.manifest.v1+json");
        fs::write(from.join("index.json"), json!({ "manifests": [root] }).to_string()).unwrap();
        let image = ImageFiles::open(&from, &[]).unwrap();
        let to = folder.path().join("to");
        keep(&image.root, &image, &to).await.unwrap();
        let kept = ImageFiles::open(&to, &[]).unwrap();
        assert_eq!(kept.root.digest, image.root.digest);
        assert_eq!(Graph::load(&kept.root, &kept).await.unwrap().blobs().len(), 2);
        // A blob that is not what it is called is not kept.
        let layer = from.join("blobs").join(digest(b"layer").replace(':', "/"));
        fs::write(layer, b"other").unwrap();
        let elsewhere = folder.path().join("elsewhere");
        assert!(keep(&image.root, &image, &elsewhere).await.is_err());
        assert!(!elsewhere.join("index.json").exists());
    }
}
