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
    let hex: Vec<String> = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{}", hex.concat())
}

fn store(path: &Path, bytes: &[u8]) -> (String, u64) {
    let digest = named(bytes);
    let file = path.join("blobs").join(digest.replace(':', "/"));
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, bytes).unwrap();
    (digest, bytes.len() as u64)
}

/// Layers of noise, of these sizes, each with a seed of its own.
pub fn layout(path: &Path, layers: &[(u64, usize)]) -> Layout {
    let mut blobs = Vec::new();
    for (seed, size) in layers {
        let mut bytes = vec![0; *size];
        SmallRng::seed_from_u64(*seed).fill_bytes(&mut bytes);
        blobs.push(store(path, &bytes));
    }
    let config = json!({
        "architecture": "arm64",
        "os": "linux",
        "rootfs": {
            "type": "layers",
            "diff_ids": blobs.iter().map(|(digest, _)| digest).collect::<Vec<_>>(),
        },
    });
    let config = store(path, config.to_string().as_bytes());
    let entry = |(digest, size): &(String, u64), kind: &str| -> Value {
        json!({ "mediaType": kind, "digest": digest, "size": size })
    };
    let layer = "application/vnd.oci.image.layer.v1.tar";
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
            let url = format!("{}/v2/{path}", self.base);
            let request = self.client.get(url);
            let accept = "application/vnd.oci.image.manifest.v1+json, \
                          application/vnd.oci.image.index.v1+json";
            let response = request.header("accept", accept).send().await.expect("an answer");
            let found = response.status().is_success();
            let bytes = response.bytes().await.expect("a body");
            found.then(|| bytes.to_vec())
        })
    }

    /// Insists on that `repository` has the image whole under `tag`, byte for byte.
    pub fn holds(&self, repository: &str, tag: &str, image: &Layout) {
        let manifest = self.get(&format!("{repository}/manifests/{tag}")).expect("the tag");
        assert_eq!(named(&manifest), image.digest, "{repository}:{tag}");
        for (digest, size) in &image.blobs {
            let blob = self.get(&format!("{repository}/blobs/{digest}"));
            let blob = blob.unwrap_or_else(|| panic!("{repository} lacks {digest}"));
            assert_eq!((named(&blob), blob.len() as u64), (digest.clone(), *size), "{repository}");
        }
    }

    /// Whether there is a tag.
    pub fn has(&self, repository: &str, tag: &str) -> bool {
        self.get(&format!("{repository}/manifests/{tag}")).is_some()
    }
}
