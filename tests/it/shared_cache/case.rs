//! The corpus's cases, laid out to be built, and the two who build them.

use super::needs::Needs;
use crate::{
    bed,
    build::{Builder, buildkitd},
    cli::Place,
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The same for everybody, so that the images are the same.
const EPOCH: &str = "1735689600";

/// The corpus.
pub fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/llb")
}

/// A case as it stands in the corpus.
#[derive(Debug)]
pub struct Case {
    pub name: String,
    options: Value,
    dir: PathBuf,
    needs: Needs,
}

impl Case {
    /// Reads a case; none where it does not compile for the bed's platform.
    pub fn read(name: &str) -> Option<Self> {
        let dir = corpus().join(name);
        let json = |path: &str| -> Value {
            serde_json::from_slice(&fs::read(dir.join(path)).unwrap()).unwrap()
        };
        let options = json("case.json");
        let requests = json("expected/requests.json");
        let attrs = requests["attrs"].as_object().unwrap().iter();
        let mut attrs: BTreeMap<String, String> =
            attrs.map(|(name, value)| (name.clone(), value.as_str().unwrap().into())).collect();
        attrs.insert("platform".into(), "linux/amd64".into());
        let file = options["file"].as_str().unwrap_or("Dockerfile");
        let dockerfile = fs::read(dir.join("ctx").join(file))
            .or_else(|_| fs::read(dir.join("ctx").join(file.to_lowercase())))
            .ok()?;
        let needs = Needs::of(dockerfile, attrs)?;
        Some(Self { name: name.to_owned(), options, dir, needs })
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

    /// Lays it out below `root`, in a directory of its name; its files hold the mark.
    fn lay_out(&self, root: &Path, mark: &str) {
        for (name, dir) in self.directories() {
            let to = root.join(&self.name).join(&dir);
            copy(&self.dir.join(&dir), &to);
            write_all(&to, self.needs.directories.get(&name).into_iter().flatten(), mark);
        }
    }

    /// How it is built, as a target of a bake file: what `docker buildx` reads, and we make flags of.
    fn target(&self, image: &str) -> Value {
        let own = |dir: &str| format!("{}/{dir}", self.name);
        let mut contexts: BTreeMap<String, String> =
            images().into_iter().map(|name| (name, format!("docker-image://{image}"))).collect();
        for (name, value) in self.options["build_contexts"].as_object().into_iter().flatten() {
            let value = value.as_str().unwrap();
            let value = if let Some(dir) = value.strip_prefix("../") {
                own(dir)
            } else if value.starts_with("docker-image://") {
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
        let secrets: Vec<String> =
            self.needs.secrets.iter().map(|id| format!("id={id},src=secret")).collect();
        let mut target = json!({
            "context": own("ctx"),
            "contexts": contexts,
            "args": args,
            "platforms": ["linux/amd64"],
            "secret": secrets,
        });
        for (from, to) in [
            ("file", "dockerfile"),
            ("target", "target"),
            ("labels", "labels"),
            ("shm_size", "shm-size"),
            ("ulimits", "ulimits"),
            ("network", "network"),
        ] {
            if !self.options[from].is_null() {
                target[to] = self.options[from].clone();
            }
        }
        for host in self.options["add_hosts"].as_array().into_iter().flatten() {
            let (name, address) = host.as_str().unwrap().split_once('=').unwrap();
            target["extra-hosts"][name] = address.into();
        }
        target
    }
}

/// Cases laid out side by side, in a way in which nobody built them before.
pub struct Group<'a> {
    cases: &'a [&'a Case],
    place: Place,
    image: &'a str,
}

impl<'a> Group<'a> {
    /// Lays the cases out; every image that they name is `image`.
    pub fn new(cases: &'a [&'a Case], mark: &str, image: &'a str) -> Self {
        let place = Place::new();
        for case in cases {
            case.lay_out(&place.work(), mark);
        }
        place.write("secret", "not told");
        Self { cases, place, image }
    }

    /// Builds them all with `docker buildx`, in one call.
    pub fn buildx(&self, builder: Builder) -> BTreeMap<&'a str, Made> {
        let home = self.place.work().join("../home");
        let run = |arguments: &[&str]| {
            let mut command = Command::new(bed::program("docker-buildx"));
            command.args(arguments).current_dir(self.place.work()).env_clear();
            command.env("HOME", &home).env("PATH", "/usr/local/bin:/usr/bin:/bin");
            if let Some(host) = builder.docker_host {
                command.env("DOCKER_HOST", host);
            }
            let output = command.output().unwrap();
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{builder:?}: {}", without_progress(&told));
            told
        };
        let mut targets = serde_json::Map::new();
        for case in self.cases {
            let mut target = case.target(self.image);
            target["output"] = json!([output(builder, &case.name)]);
            targets.insert(case.name.clone(), target);
        }
        let names: Vec<&str> = self.cases.iter().map(|case| case.name.as_str()).collect();
        let bake = json!({ "target": targets, "group": { "default": { "targets": names } } });
        self.place.write("bake.json", &bake.to_string());
        let mut arguments = vec!["bake", "--file", "bake.json", "--progress", "rawjson"];
        arguments.extend(["--provenance=false", "--allow=network.host"]);
        arguments.extend(["--metadata-file", "buildx.json"]);
        if builder.docker_host.is_none() {
            run(&["create", "--name", "bed", "--driver", "remote", builder.address]);
            arguments.extend(["--builder", "bed"]);
        }
        let told = run(&arguments);
        let metadata = self.json("buildx.json");
        let steps = steps(&told);
        // Of several builds at once, each step is marked with its build.
        let several = self.cases.len() > 1;
        names
            .into_iter()
            .map(|name| {
                let mark = format!("[{name} ");
                let own = steps.iter().filter_map(|(step, cached)| {
                    if !several {
                        return Some((step.clone(), *cached));
                    }
                    Some((format!("[{}", step.strip_prefix(&mark)?), *cached))
                });
                (name, Made { steps: own.collect(), config: config(&metadata[name]) })
            })
            .collect()
    }

    /// Builds them with us, one after the other.
    pub fn ours(&self, builder: Builder) -> BTreeMap<&'a str, Made> {
        self.cases.iter().map(|case| (case.name.as_str(), self.one(case, builder))).collect()
    }

    fn one(&self, case: &Case, builder: Builder) -> Made {
        let target = case.target(self.image);
        let mut flags: Vec<String> = Vec::new();
        let mut flag = |name: &str, value: String| flags.push(format!("--{name}={value}"));
        let text = |value: &Value| value.as_str().map(str::to_owned);
        if let Some(file) = text(&target["dockerfile"]) {
            flag("file", format!("{}/ctx/{file}", case.name));
        }
        for (name, key) in [("target", "target"), ("shm-size", "shm-size"), ("network", "network")] {
            if let Some(value) = text(&target[key]) {
                flag(name, value);
            }
        }
        for (name, key) in [
            ("build-arg", "args"),
            ("build-context", "contexts"),
            ("label", "labels"),
            ("add-host", "extra-hosts"),
        ] {
            for (one, value) in target[key].as_object().into_iter().flatten() {
                let joint = if name == "add-host" { ':' } else { '=' };
                flag(name, format!("{one}{joint}{}", value.as_str().unwrap()));
            }
        }
        for (name, key) in [("platform", "platforms"), ("secret", "secret"), ("ulimit", "ulimits")] {
            for value in target[key].as_array().into_iter().flatten() {
                flag(name, value.as_str().unwrap().to_owned());
            }
        }
        flag("output", output(builder, &case.name));
        flag("metadata-file", "ours.json".into());
        flag("allow", "network.host".into());
        let context = target["context"].as_str().unwrap();
        let mut arguments = vec!["--builder", builder.address, "--progress", "rawjson", "build"];
        arguments.extend(["--frontend", "native", "--provenance=false"]);
        arguments.extend(flags.iter().map(String::as_str));
        arguments.push(context);
        let ran = self.place.run(&arguments);
        let told = without_progress(&ran.stderr);
        assert_eq!(ran.code, Some(0), "{builder:?} {arguments:?}: {} {told}", ran.stdout);
        Made { steps: steps(&ran.stderr), config: config(&self.json("ours.json")) }
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.place.work().join(name)).unwrap()).unwrap()
    }
}

/// What came of a build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// The names of the steps that run or copy something, and whether they came out of the cache.
    pub steps: BTreeMap<String, bool>,
    /// The digest of the image's config.
    pub config: Option<String>,
}

impl Made {
    /// The names of the steps.
    pub fn names(&self) -> BTreeSet<&str> {
        self.steps.keys().map(String::as_str).collect()
    }

    /// The steps that did not come out of the cache.
    pub fn uncached(&self) -> Vec<&str> {
        let uncached = self.steps.iter().filter(|(_, cached)| !**cached);
        uncached.map(|(name, _)| name.as_str()).collect()
    }
}

/// An image that fits every case: its shell says of everything that it worked, and what stages are
/// expected to have made is there. It is another one for each mark. Its name.
pub fn obliging_image(cases: &[Case], mark: &str) -> String {
    let place = Place::new();
    let made = cases.iter().flat_map(|case| &case.needs.made);
    write_all(&place.work().join("made"), made, mark);
    place.write("sh", &format!("#!/bin/busybox sh\n/bin/busybox sh \"$@\"\n# {mark}\nexit 0\n"));
    let base = bed::base_multi();
    place.write(
        "Dockerfile",
        &format!(
            "FROM {base}\n\
             COPY made /\n\
             COPY --chmod=755 sh /bin/obliging\n\
             RUN [\"/bin/busybox\", \"ln\", \"-sf\", \"obliging\", \"/bin/sh\"]\n\
             RUN [\"/bin/busybox\", \"ln\", \"-sf\", \"obliging\", \"/bin/bash\"]\n"
        ),
    );
    let name = format!("{}/shared-cache/obliging:{mark}", bed::registry());
    let builder = buildkitd().address;
    let ran = place.run(&[
        "--builder",
        builder,
        "build",
        "--platform",
        "linux/amd64",
        "--provenance=false",
        "-t",
        &name,
        "--push",
        ".",
    ]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    name
}

/// Writes a file at each of the paths, in a directory where another path goes on behind it.
fn write_all<'p, I: Iterator<Item = &'p String>>(root: &Path, paths: I, mark: &str) {
    let paths: BTreeSet<&String> = paths.collect();
    fs::create_dir_all(root).unwrap();
    for path in &paths {
        let inside = format!("{path}/");
        let is_directory = paths.iter().any(|other| other.starts_with(&inside));
        let file = if is_directory { root.join(path).join("file") } else { root.join(path) };
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        if !file.exists() {
            fs::write(file, format!("{path} {mark}\n")).unwrap();
        }
    }
}

/// An output that every builder of that kind can make, and that names the image's config.
fn output(builder: Builder, name: &str) -> String {
    if builder.docker_host.is_none() {
        format!("type=oci,dest={name}.tar")
    } else {
        "type=docker".to_owned()
    }
}

/// The images of the corpus, as Dockerfiles write them.
fn images() -> Vec<String> {
    let text = fs::read(corpus().join("images.json")).unwrap();
    let images: Value = serde_json::from_slice(&text).unwrap();
    let names = images.as_object().unwrap().keys();
    names
        .filter(|name| !name.contains('@') && !name.contains("windows"))
        .map(|name| name.trim_start_matches("docker.io/").trim_start_matches("library/").to_owned())
        .collect()
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

fn steps(progress: &str) -> BTreeMap<String, bool> {
    let mut steps = BTreeMap::new();
    for line in progress.lines() {
        let Ok(status) = serde_json::from_str::<Value>(line) else { continue };
        for vertex in status["vertexes"].as_array().into_iter().flatten() {
            let name = vertex["name"].as_str().unwrap_or_default();
            let is_step = ["] RUN", "] COPY", "] ADD", "] WORKDIR", "] LINK", "] ONBUILD"];
            if vertex["completed"].is_string() && is_step.iter().any(|one| name.contains(one)) {
                let cached = vertex["cached"] == true;
                let known = steps.entry(name.to_owned()).or_insert(true);
                *known &= cached;
            }
        }
    }
    steps
}

/// What is told, without the progress of what goes well.
fn without_progress(told: &str) -> String {
    let quiet = |line: &&str| !line.starts_with('{') || line.contains("\"error\"");
    told.lines().filter(quiet).collect::<Vec<_>>().join("\n")
}

fn config(metadata: &Value) -> Option<String> {
    metadata["containerimage.config.digest"].as_str().map(str::to_owned)
}
