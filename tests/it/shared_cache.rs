//! Cases of the conformance corpus that build on the bed, built by `docker buildx` and by us in
//! turns, on every builder: what one builds the other finds in its cache, and both make the same
//! image config.

use crate::{
    bed,
    build::{Builder, builders, unique},
    cli::Place,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

/// Some cases of every kind that needs nothing of its images but a shell, and what of their contexts the corpus leaves out; a name with a slash at its end is a
/// directory.
const CASES: &[(&str, &[&str])] = &[
    ("arg-global-scope", &[]),
    ("copy-chmod-forms", &["b/", "a/", "b.tar"]),
    ("copy-exclude", &["app/", "docs/", "logs/"]),
    ("copy-link-chmod", &["notice.txt", "start.sh", "shared/"]),
    ("heredoc-copy-files", &["list.txt"]),
    ("mount-bind", &["data/", "go.sum", "go.mod"]),
    ("onbuild-in-file", &["cargo/"]),
    ("vars-pattern-removal", &["archive.tar.gz"]),
];

/// The same for everybody, so that the images are the same.
const EPOCH: &str = "1735689600";

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/llb")
}

/// A case laid out to be built, in a way in which nobody built it before.
struct Case {
    place: Place,
    flags: Vec<String>,
}

impl Case {
    fn new(name: &str, missing: &[&str]) -> Self {
        let place = Place::new();
        let mark = unique();
        let from = corpus().join(name);
        copy(&from.join("ctx"), &place.work().join("ctx"));
        for path in missing {
            let (path, text) = (format!("ctx/{path}"), format!("{path} {mark}\n"));
            let path = if path.ends_with('/') { path + "file.txt" } else { path };
            place.write(&path, &text);
        }
        let options: Value =
            serde_json::from_slice(&fs::read(from.join("case.json")).unwrap()).unwrap();
        let mut flags: Vec<String> = Vec::new();
        let mut flag = |name: &str, value: String| flags.extend([format!("--{name}"), value]);
        if let Some(file) = options["file"].as_str() {
            flag("file", format!("ctx/{file}"));
        }
        if let Some(target) = options["target"].as_str() {
            flag("target", target.to_owned());
        }
        for (name, value) in options["build_args"].as_object().into_iter().flatten() {
            flag("build-arg", format!("{name}={}", value.as_str().unwrap()));
        }
        flag("build-arg", format!("SOURCE_DATE_EPOCH={EPOCH}"));
        // A step that copies nothing is told from those of other runs by the hosts that it knows.
        flag("add-host", format!("m{mark}.test:192.0.2.1"));
        flag("platform", "linux/amd64".to_owned());
        for image in images() {
            flag("build-context", format!("{image}=docker-image://{}", bed::base_multi()));
        }
        Self { place, flags }
    }

    /// Builds it with `docker buildx`.
    fn buildx(&self, builder: Builder) -> Made {
        let (metadata, home) = ("buildx.json", self.place.work().join("../home"));
        let run = |arguments: &[&str]| {
            let mut command = Command::new(bed::program("docker-buildx"));
            command.args(arguments).current_dir(self.place.work()).env_clear();
            command.env("HOME", &home).env("PATH", "/usr/local/bin:/usr/bin:/bin");
            if let Some(host) = builder.docker_host {
                command.env("DOCKER_HOST", host);
            }
            let output = command.output().unwrap();
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{builder:?} {:?}: {told}", self.flags);
            told
        };
        let mut arguments = vec!["build", "--progress", "rawjson", "--provenance", "false"];
        if builder.docker_host.is_none() {
            run(&["create", "--name", "bed", "--driver", "remote", builder.address]);
            arguments.extend(["--builder", "bed"]);
        }
        arguments.extend(output(builder));
        arguments.extend(["--metadata-file", metadata]);
        arguments.extend(self.flags.iter().map(String::as_str));
        arguments.push("ctx");
        self.made(&run(&arguments), metadata)
    }

    /// Builds it with us.
    fn ours(&self, builder: Builder) -> Made {
        let metadata = "ours.json";
        let head = ["--builder", builder.address, "--progress", "rawjson", "build"];
        let more = ["--metadata-file", metadata, "--frontend", "native", "--provenance=false"];
        let flags = self.flags.iter().map(String::as_str);
        let arguments: Vec<&str> = head
            .into_iter()
            .chain(more)
            .chain(output(builder))
            .chain(flags)
            .chain(["ctx"])
            .collect();
        let ran = self.place.run(&arguments);
        assert_eq!(ran.code, Some(0), "{builder:?} {:?}: {ran:?}", self.flags);
        self.made(&ran.stderr, metadata)
    }

    fn made(&self, progress: &str, metadata: &str) -> Made {
        let mut steps = BTreeMap::new();
        for line in progress.lines() {
            let Ok(status) = serde_json::from_str::<Value>(line) else { continue };
            for vertex in status["vertexes"].as_array().into_iter().flatten() {
                let name = vertex["name"].as_str().unwrap_or_default();
                let is_step = ["] RUN", "] COPY", "] ADD", "] WORKDIR"];
                if vertex["completed"].is_string() && is_step.iter().any(|one| name.contains(one)) {
                    let cached = vertex["cached"] == true;
                    steps.insert(vertex["digest"].to_string(), (name.to_owned(), cached));
                }
            }
        }
        let text = fs::read(self.place.work().join(metadata)).unwrap();
        let metadata: Value = serde_json::from_slice(&text).unwrap();
        let config = metadata["containerimage.config.digest"].as_str().map(str::to_owned);
        Made { steps, config }
    }
}

/// What came of a build.
struct Made {
    /// The steps: their names, and whether they came out of the cache.
    steps: BTreeMap<String, (String, bool)>,
    /// The digest of the image's config.
    config: Option<String>,
}

impl Made {
    fn names(&self) -> BTreeSet<&str> {
        self.steps.values().map(|(name, _)| name.as_str()).collect()
    }

    fn uncached(&self) -> Vec<&str> {
        self.steps.values().filter(|(_, cached)| !cached).map(|(name, _)| name.as_str()).collect()
    }
}

/// An output that every builder of that kind can make, and that names the image's config.
fn output(builder: Builder) -> [&'static str; 2] {
    if builder.docker_host.is_none() {
        ["--output", "type=oci,dest=image.tar"]
    } else {
        ["--output", "type=docker"]
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
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Builds by one and then by the other, and says what is not as it should be.
fn held(name: &str, builder: Builder, first: &Made, second: &Made) -> Vec<String> {
    let mut wrong = Vec::new();
    if first.uncached().is_empty() {
        wrong.push(format!("{name}: {}: nothing was built at first", builder.address));
    }
    if !second.uncached().is_empty() {
        let steps = second.uncached();
        wrong.push(format!("{name}: {}: built again: {steps:?}", builder.address));
    }
    // The manifests around the configs are of one kind or another, by the output's form.
    if first.config != second.config || first.config.is_none() {
        let (one, other) = (&first.config, &second.config);
        wrong.push(format!("{name}: {}: configs differ: {one:?} {other:?}", builder.address));
    }
    // Their digests differ where they copy from the context: the session is part of them.
    if first.names() != second.names() {
        let (one, other) = (first.names(), second.names());
        wrong.push(format!("{name}: {}: other steps: {one:?} {other:?}", builder.address));
    }
    wrong
}

fn both_ways(builder: Builder) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, missing) in CASES {
        let case = Case::new(name, missing);
        let (first, second) = (case.ours(builder), case.buildx(builder));
        wrong.extend(held(name, builder, &first, &second));
        let case = Case::new(name, missing);
        let (first, second) = (case.buildx(builder), case.ours(builder));
        wrong.extend(held(name, builder, &first, &second));
    }
    wrong
}

#[test]
fn the_corpus_shares_cache_with_buildx_both_ways_and_gives_equal_configs() {
    let wrong: Vec<String> = thread::scope(|scope| {
        let running = builders().map(|builder| scope.spawn(move || both_ways(builder)));
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
