//! The images of cases, in the bed's registry: configured as the corpus says, on a base whose shell says
//! of everything that it worked, with the files in place that a case expects.

use super::case::{Case, files};
use crate::{bed, build::program};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};

const REPOSITORY: &str = "shared-cache/images";
/// Programs that work whatever they are told.
const OBLIGING: [&str; 7] = [
    "bin/sh",
    "bin/bash",
    "usr/bin/cmd",
    "usr/bin/env",
    "usr/bin/powershell",
    "usr/bin/pwsh",
    "usr/bin/python3",
];
/// Users that cases run steps as.
const USERS: [(&str, u32); 4] =
    [("node", 1000), ("captain", 1001), ("nonroot", 65532), ("nobody", 65534)];
/// When all of it was made.
const CREATED: &str = "2026-01-01T00:00:00Z";
/// Pushes at a time.
const ABREAST: usize = 8;

/// What the images are built on.
struct Base {
    /// Its layers, as its manifest lists them.
    layers: Vec<Value>,
    diff_ids: Vec<Value>,
}

impl Base {
    fn read() -> Self {
        let base = bed::base_multi();
        let inspect = |reference: &str, more: &[&str]| -> Value {
            let name = format!("docker://{reference}");
            let arguments = ["inspect", "--tls-verify=false", "--raw"];
            let text = program("skopeo", &[&arguments, more, &[&name]].concat());
            serde_json::from_str(&text).unwrap()
        };
        let index = inspect(base, &[]);
        let entries = index["manifests"].as_array().unwrap();
        let own = entries.iter().find(|one| one["platform"]["architecture"] == "amd64").unwrap();
        let (name, _) = base.rsplit_once(':').unwrap();
        let own = format!("{name}@{}", own["digest"].as_str().unwrap());
        let list = |value: &Value| value.as_array().unwrap().clone();
        Self {
            layers: list(&inspect(&own, &[])["layers"]),
            diff_ids: list(&inspect(&own, &["--config"])["rootfs"]["diff_ids"]),
        }
    }
}

/// Where the images of each case are, by the name that the corpus has for them.
pub type Images = BTreeMap<String, BTreeMap<String, String>>;

/// Makes the images of `cases`, other ones for each mark.
pub fn publish(cases: &[Case], known: &Value, mark: &str) -> Images {
    drop(rustls::crypto::ring::default_provider().install_default());
    let base = Base::read();
    let registry = Registry {
        base: format!("http://{}/v2", bed::registry()),
        client: reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        registry.mount(&base).await;
        let each = stream::iter(cases).map(async |case| {
            let images = registry.images(case, known, &base, mark).await?;
            Ok::<_, reqwest::Error>((case.name.clone(), images))
        });
        each.buffer_unordered(ABREAST).try_collect().await.unwrap()
    })
}

struct Registry {
    base: String,
    client: reqwest::Client,
}

impl Registry {
    async fn images(
        &self,
        case: &Case,
        known: &Value,
        base: &Base,
        mark: &str,
    ) -> Result<BTreeMap<String, String>, reqwest::Error> {
        let layer = layer(&case.needs.made, &format!("{} {mark}", case.name));
        let layer = self.blob(layer, "application/vnd.oci.image.layer.v1.tar").await?;
        let mut images = BTreeMap::new();
        for (at, name) in (0..).zip(&case.needs.images) {
            let mut config = known[name]["platforms"]["linux/amd64"].clone();
            let diff_ids = base.diff_ids.iter().chain([&layer["digest"]]).cloned().collect();
            config["rootfs"] = json!({ "type": "layers", "diff_ids": Value::Array(diff_ids) });
            let entry = json!({ "created": CREATED, "created_by": "a layer" });
            config["history"] = Value::Array(vec![entry; base.layers.len() + 1]);
            let config = config.to_string().into_bytes();
            let config = self.blob(config, "application/vnd.oci.image.config.v1+json").await?;
            let layers: Vec<_> = base.layers.iter().chain([&layer]).cloned().collect();
            let kind = "application/vnd.oci.image.manifest.v1+json";
            let manifest = json!({
                "schemaVersion": 2,
                "mediaType": kind,
                "config": config,
                "layers": layers,
            });
            let manifest = manifest.to_string();
            let digest = digest(manifest.as_bytes());
            let tag = format!("{mark}-{}-{at}", case.name);
            let url = format!("{}/{REPOSITORY}/manifests/{tag}", self.base);
            let put = self.client.put(url).header("content-type", kind).body(manifest);
            put.send().await?.error_for_status()?;
            let reference = format!("{}/{REPOSITORY}:{tag}@{digest}", bed::registry());
            images.insert(name.clone(), reference);
        }
        Ok(images)
    }

    /// Takes the layers of the base over.
    async fn mount(&self, base: &Base) {
        let from = bed::base_multi().split_once('/').unwrap().1.rsplit_once(':').unwrap().0;
        for layer in &base.layers {
            let digest = layer["digest"].as_str().unwrap();
            let url =
                format!("{}/{REPOSITORY}/blobs/uploads/?mount={digest}&from={from}", self.base);
            let answer = self.client.post(url).send().await.unwrap();
            assert_eq!(answer.status(), 201, "{answer:?}");
        }
    }

    /// Uploads a blob. Its descriptor.
    async fn blob(&self, bytes: Vec<u8>, kind: &str) -> Result<Value, reqwest::Error> {
        let (digest, size) = (digest(&bytes), bytes.len());
        let url = format!("{}/{REPOSITORY}/blobs/uploads/", self.base);
        let opened = self.client.post(url).send().await?.error_for_status()?;
        let location = opened.headers()["location"].to_str().unwrap();
        let separator = if location.contains('?') { '&' } else { '?' };
        let url = format!("{location}{separator}digest={digest}");
        self.client.put(url).body(bytes).send().await?.error_for_status()?;
        Ok(json!({ "mediaType": kind, "digest": digest, "size": size }))
    }
}

fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let hex: Vec<String> = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{}", hex.concat())
}

/// The layer over the base: files at `made`, each a directory where another path goes on behind it.
fn layer(made: &BTreeSet<String>, mark: &str) -> Vec<u8> {
    // Nobody waits for a network.
    let shell = "#!/bin/busybox sh\n\
                 case \"$*\" in *://*|*ping*) exit 0 ;; esac\n\
                 /bin/busybox sh \"$@\"\nexit 0\n";
    let lines = |line: &dyn Fn(&str, u32) -> String| {
        USERS.iter().map(|(name, id)| line(name, *id)).collect::<Vec<_>>().concat()
    };
    let users = lines(&|name, id| format!("{name}:x:{id}:{id}::/:/bin/sh\n"));
    let groups = lines(&|name, id| format!("{name}:x:{id}:\n"));
    let mut own: BTreeMap<String, String> =
        OBLIGING.iter().map(|path| ((*path).to_owned(), shell.to_owned())).collect();
    own.insert("etc/passwd".to_owned(), format!("root:x:0:0::/:/bin/sh\n{users}"));
    own.insert("etc/group".to_owned(), format!("root:x:0:\ncrew:x:700:\n{groups}"));
    own.insert("etc/mark".to_owned(), mark.to_owned());
    // The base's own.
    let paths = own.keys().chain(made).cloned().chain(["bin/busybox".to_owned()]).collect();
    let mut archive = tar::Builder::new(Vec::new());
    for path in files(&paths).iter().filter(|path| *path != "bin/busybox") {
        let text = own.get(path).cloned().unwrap_or_else(|| format!("{path} {mark}\n"));
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o755);
        archive.append_data(&mut header, path, text.as_bytes()).unwrap();
    }
    archive.into_inner().unwrap()
}
