//! The corpus's cases, laid out to be built.

use super::needs::Needs;
use crate::build::program;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The same for everybody, so that the images are the same.
const EPOCH: &str = "1735689600";

/// Paths that are directories, which the graph does not tell: cases copy out of them, or copy them
/// over directories.
const DIRECTORIES: &[(&str, &[&str])] = &[
    ("copy-basic", &["src"]),
    ("real-cpp-cmake", &["cmake"]),
    (
        "real-pnpm-bun-worker",
        &[
            "apps",
            "packages",
            "repo/packages/almanac",
            "repo/packages/buoy-client",
            "repo/packages/ledger",
            "repo/packages/tide-worker",
        ],
    ),
    ("real-rails", &["bundle", "log"]),
];

/// The corpus.
pub fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/llb")
}

/// A JSON file of it.
pub fn read_json(path: &str) -> Value {
    serde_json::from_slice(&fs::read(corpus().join(path)).unwrap()).unwrap()
}

/// A case as it stands in the corpus.
#[derive(Debug)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// What it needs to be built.
    pub needs: Needs,
    options: Value,
    health: bool,
}

impl Case {
    /// Reads a case, where there are the images `known`.
    pub fn read(name: &str, known: &Value) -> Self {
        let options = read_json(&format!("{name}/case.json"));
        let requests = read_json(&format!("{name}/expected/requests.json"));
        let attrs = requests["attrs"].as_object().unwrap().iter();
        let mut attrs: BTreeMap<String, String> =
            attrs.map(|(name, value)| (name.clone(), value.as_str().unwrap().into())).collect();
        attrs.insert("platform".into(), "linux/amd64".into());
        let file = options["file"].as_str().unwrap_or("Dockerfile");
        let context = corpus().join(name).join("ctx");
        let dockerfile = fs::read(context.join(file))
            .or_else(|_| fs::read(context.join(file.to_lowercase())))
            .expect(name);
        let health = String::from_utf8_lossy(&dockerfile).to_uppercase().contains("HEALTHCHECK");
        let mut needs = Needs::of(dockerfile, attrs, known)
            .unwrap_or_else(|error| panic!("{name} does not compile for amd64: {error}"));
        let directories = DIRECTORIES.iter().filter(|(case, _)| *case == name);
        for path in directories.flat_map(|(_, paths)| *paths) {
            let inside = format!("{path}/kept");
            for paths in needs.directories.values_mut().chain([&mut needs.made]) {
                if paths.contains(*path) {
                    paths.insert(inside.clone());
                }
            }
        }
        Self { name: name.to_owned(), needs, options, health }
    }

    /// The directories that it names, and where they are.
    fn directories(&self) -> BTreeMap<String, String> {
        let mut directories = BTreeMap::from([("context".to_owned(), "ctx".to_owned())]);
        for (name, value) in self.options["build_contexts"].as_object().into_iter().flatten() {
            if let Some(dir) = value.as_str().unwrap().strip_prefix("../") {
                directories.insert(name.clone(), dir.to_owned());
            }
        }
        directories
    }

    /// The file that it is built from, in its context.
    fn file(&self) -> &str {
        self.options["file"].as_str().unwrap_or("Dockerfile")
    }

    /// The context that is a layout of the client's, with the image that is in it.
    fn layout<'a>(&self, images: &'a BTreeMap<String, String>) -> Option<(&str, &'a str)> {
        let mut attrs = self.options["frontend_attrs"].as_object()?.iter();
        attrs.find_map(|(attr, value)| {
            value.as_str()?.strip_prefix("oci-layout://")?;
            let name = attr.strip_prefix("context:")?;
            let (_, image) = images.iter().find(|(image, _)| {
                familiar(image).strip_prefix(name).is_some_and(|rest| rest.starts_with('@'))
            })?;
            Some((name, image.as_str()))
        })
    }

    /// Lays it out below `root`, in a directory of its name; its images are `images`, and its files
    /// hold the mark.
    pub fn lay_out(&self, root: &Path, images: &BTreeMap<String, String>, mark: &str) {
        for (name, dir) in self.directories() {
            let to = root.join(&self.name).join(&dir);
            copy(&corpus().join(&self.name).join(&dir), &to);
            let paths = self.needs.directories.get(&name).cloned().unwrap_or_default();
            for path in files(&paths) {
                let file = to.join(&path);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                if !file.exists() {
                    fs::write(file, format!("{path} {mark}\n")).unwrap();
                }
            }
        }
        // No context stands in for an image that is named by its digest.
        let file = root.join(&self.name).join("ctx").join(self.file());
        for (name, image) in images.iter().filter(|(name, _)| name.contains('@')) {
            if let Ok(text) = fs::read_to_string(&file) {
                fs::write(&file, text.replace(familiar(name), image)).unwrap();
            }
        }
        if let Some((_, image)) = self.layout(images) {
            let (name, digest) = image.split_once('@').unwrap();
            let from = format!("docker://{}@{digest}", name.rsplit_once(':').unwrap().0);
            let to = format!("oci:{}:latest", root.join(&self.name).join("layout").display());
            program("skopeo", &["copy", "-q", "--src-tls-verify=false", &from, &to]);
        }
    }

    /// Whether it asks for steps to run though they are cached.
    pub fn refuses_cache(&self) -> bool {
        ["no_cache", "no_cache_filter"].iter().any(|option| !self.options[*option].is_null())
    }

    /// Whether its image says how its health is checked.
    pub fn checks_health(&self) -> bool {
        self.health
    }

    /// Whether anything of it is other than it was in another run.
    pub fn is_marked(&self) -> bool {
        !self.needs.images.is_empty() || !self.needs.directories.is_empty()
    }

    /// How it is built where its images are `images`, as a target of a bake file: what `docker buildx`
    /// reads, and we make flags of.
    pub fn target(&self, images: &BTreeMap<String, String>) -> Value {
        let own = |dir: &str| format!("{}/{dir}", self.name);
        let mut contexts: BTreeMap<String, String> = images
            .iter()
            .filter(|(name, _)| !name.contains('@'))
            .map(|(name, image)| (familiar(name).to_owned(), format!("docker-image://{image}")))
            .collect();
        if let Some((name, _)) = self.layout(images) {
            let layout = format!("oci-layout://{}:latest", own("layout"));
            contexts.insert(name.to_owned(), layout);
        }
        for (name, value) in self.options["build_contexts"].as_object().into_iter().flatten() {
            let value = value.as_str().unwrap();
            let value = if let Some(dir) = value.strip_prefix("../") {
                own(dir)
            } else if let Some(image) = value.strip_prefix("docker-image://") {
                let image = images.iter().find(|(name, _)| familiar(name) == image);
                let Some((_, image)) = image else { continue };
                format!("docker-image://{image}")
            } else {
                value.to_owned()
            };
            contexts.insert(name.clone(), value);
        }
        let mut args = json!({ "SOURCE_DATE_EPOCH": EPOCH });
        for (name, value) in self.options["build_args"].as_object().into_iter().flatten() {
            args[name] = value.clone();
        }
        if let Some(epoch) = self.options["source_date_epoch"].as_str() {
            args["SOURCE_DATE_EPOCH"] = epoch.into();
        }
        let secrets = self.needs.secrets.iter().map(|id| format!("id={id},src=secret"));
        let agents = self.needs.agents.iter().map(|id| format!("{id}=key"));
        let mut target = json!({
            "context": own("ctx"),
            "contexts": contexts,
            "args": args,
            "platforms": ["linux/amd64"],
            "entitlements": ["network.host"],
            "secret": secrets.collect::<Vec<_>>(),
            "ssh": agents.collect::<Vec<_>>(),
        });
        for (from, to) in [
            ("file", "dockerfile"),
            ("target", "target"),
            ("labels", "labels"),
            ("shm_size", "shm-size"),
            ("ulimits", "ulimits"),
            ("network", "network"),
            ("no_cache", "no-cache"),
            ("no_cache_filter", "no-cache-filter"),
        ] {
            if !self.options[from].is_null() {
                target[to] = self.options[from].clone();
            }
        }
        // One host alone: bake keeps them without an order, and an op has one.
        for host in self.options["add_hosts"].as_array().into_iter().flatten().take(1) {
            let (name, address) = host.as_str().unwrap().split_once('=').unwrap();
            target["extra-hosts"][name] = address.into();
        }
        target
    }
}

/// Files at `paths`: where another path goes on behind one, that one is a directory.
pub fn files(paths: &BTreeSet<String>) -> Vec<String> {
    let is_directory = |path: &String| {
        let inside = format!("{path}/");
        paths.iter().any(|other| other.starts_with(&inside))
    };
    paths.iter().filter(|path| !is_directory(path)).cloned().collect()
}

/// An image's name as Dockerfiles write it.
fn familiar(name: &str) -> &str {
    let name = name.trim_start_matches("docker.io/").trim_start_matches("library/");
    name.trim_end_matches(":latest")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    // A directory of the corpus that holds nothing is not there.
    for entry in fs::read_dir(from).into_iter().flatten() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}
