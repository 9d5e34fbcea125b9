//! Images made of noise, as OCI layouts, and a look at what a registry has of them.

use rand::{RngCore as _, SeedableRng as _, rngs::SmallRng};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

/// A layout with one image in it.
pub struct Layout {
    /// Its directory.
    pub path: PathBuf,
    /// The manifest's digest.
    pub digest: String,
    /// Digest and size of config and layers.
    pub blobs: Vec<(String, u64)>,
}

fn named(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(hash: &[u8]) -> String {
    let hex: Vec<String> = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{}", hex.concat())
}

fn store(path: &Path, bytes: &[u8]) -> (String, u64) {
    let digest = named(bytes);
    let file = path.join("blobs").join(digest.replace(':', "/"));
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, bytes).unwrap();
    (digest, bytes.len() as u64)
}

/// A layer of about `size` bytes: one file of noise in a tar archive, in gzip that does not try to make it
/// smaller. With the digest of the archive.
fn noise(seed: u64, size: usize) -> (Vec<u8>, String) {
    let mut bytes = vec![0; size];
    SmallRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    let mut header = tar::Header::new_gnu();
    header.set_size(size as u64);
    header.set_mode(0o644);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, format!("noise-{seed}"), &*bytes).unwrap();
    let archive = archive.into_inner().unwrap();
    let mut packed =
        flate2::GzBuilder::new().write(Vec::with_capacity(size), flate2::Compression::none());
    packed.write_all(&archive).unwrap();
    (packed.finish().unwrap(), named(&archive))
}

/// Layers of noise, of about these sizes, each with a seed of its own.
pub fn layout(path: &Path, layers: &[(u64, usize)]) -> Layout {
    let (mut blobs, mut unpacked) = (Vec::new(), Vec::new());
    for (seed, size) in layers {
        let (bytes, archive) = noise(*seed, *size);
        blobs.push(store(path, &bytes));
        unpacked.push(archive);
    }
    let config = json!({
        "architecture": "arm64",
        "os": "linux",
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": unpacked },
    });
    let config = store(path, config.to_string().as_bytes());
    let entry = |(digest, size): &(String, u64), kind: &str| -> Value {
        json!({ "mediaType": kind, "digest": digest, "size": size })
    };
    let layer = "application/vnd.oci.image.layer.v1.tar+gzip";
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": entry(&config, "application/vnd.oci.image.config.v1+json"),
        "layers": blobs.iter().map(|blob| entry(blob, layer)).collect::<Vec<_>>(),
    });
    let manifest = store(path, manifest.to_string().as_bytes());
    let index = json!({
        "schemaVersion": 2,
        "manifests": [entry(&manifest, "application/vnd.oci.image.manifest.v1+json")],
    });
    fs::write(path.join("index.json"), index.to_string()).unwrap();
    fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    blobs.push(config);
    Layout { path: path.to_owned(), digest: manifest.0, blobs }
}

impl Layout {
    /// The same image, which says that it is about `subject`.
    pub fn about(self, subject: &Self, kind: &str) -> Self {
        let of = |image: &Self| image.path.join("blobs").join(image.digest.replace(':', "/"));
        let manifest = fs::read(of(&self)).unwrap();
        let mut manifest: Value = serde_json::from_slice(&manifest).unwrap();
        manifest["artifactType"] = json!(format!("application/vnd.example.{kind}"));
        manifest["subject"] = json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": subject.digest,
            "size": fs::metadata(of(subject)).unwrap().len(),
        });
        let (digest, size) = store(&self.path, manifest.to_string().as_bytes());
        let index = json!({
            "schemaVersion": 2,
            "manifests": [{
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": digest,
                "size": size,
            }],
        });
        fs::write(self.path.join("index.json"), index.to_string()).unwrap();
        Self { digest, ..self }
    }
}

/// Packs a layout into an archive.
pub fn archive(layout: &Path, to: &Path) {
    let mut archive = tar::Builder::new(fs::File::create(to).unwrap());
    archive.append_dir_all("", layout).unwrap();
    archive.into_inner().unwrap().flush().unwrap();
}

/// Who reads from a registry, and how.
pub struct Reader {
    /// `http://host:port`.
    base: String,
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

impl Reader {
    /// Of the registry at `host`, which asks nobody who they are.
    pub fn new(host: &str) -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client =
            reqwest::Client::builder().no_proxy().tls_certs_only([]).build().expect("a client");
        Self { base: format!("http://{host}"), client, runtime }
    }

    fn get(&self, path: &str) -> Option<Vec<u8>> {
        self.runtime.block_on(async {
            let response = self.ask(path).await;
            let found = response.status().is_success();
            let bytes = response.bytes().await.expect("a body");
            found.then(|| bytes.to_vec())
        })
    }

    async fn ask(&self, path: &str) -> reqwest::Response {
        let url = format!("{}/v2/{path}", self.base);
        let accept = "application/vnd.oci.image.manifest.v1+json, \
                      application/vnd.oci.image.index.v1+json";
        self.client.get(url).header("accept", accept).send().await.expect("an answer")
    }

    /// Digest and length of a blob, which may be large.
    fn blob(&self, repository: &str, digest: &str) -> Option<(String, u64)> {
        self.runtime.block_on(async {
            let mut response = self.ask(&format!("{repository}/blobs/{digest}")).await;
            if !response.status().is_success() {
                return None;
            }
            let (mut hash, mut length) = (Sha256::new(), 0);
            while let Some(chunk) = response.chunk().await.expect("a body") {
                hash.update(&chunk);
                length += chunk.len() as u64;
            }
            Some((hex(&hash.finalize()), length))
        })
    }

    /// Insists on that `repository` has the image whole under `tag`, byte for byte.
    pub fn holds(&self, repository: &str, tag: &str, image: &Layout) {
        let manifest = self.get(&format!("{repository}/manifests/{tag}")).expect("the tag");
        assert_eq!(named(&manifest), image.digest, "{repository}:{tag}");
        for (digest, size) in &image.blobs {
            let blob = self.blob(repository, digest);
            let blob = blob.unwrap_or_else(|| panic!("{repository} lacks {digest}"));
            assert_eq!(blob, (digest.clone(), *size), "{repository}");
        }
    }

    /// Whether there is a tag.
    pub fn has(&self, repository: &str, tag: &str) -> bool {
        self.get(&format!("{repository}/manifests/{tag}")).is_some()
    }
}
