//! The two who build: `docker buildx` and we.

use super::{case::Case, images::Images};
use crate::{
    bed,
    build::{Builder, graphdriver},
    cli::Place,
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};

/// What comes of several builds: each case with what came of it.
pub type Built<'a> = BTreeMap<&'a str, Made>;

/// What came of a build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// The names of the steps that run or copy something, and whether they came out of the cache.
    pub steps: BTreeMap<String, bool>,
    /// The digest of the image's config, or of the image where it is for several platforms.
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

/// Cases laid out side by side, in a way in which nobody built them before.
pub struct Group<'a> {
    cases: &'a [&'a Case],
    place: Place,
    images: &'a Images,
}

impl<'a> Group<'a> {
    /// Lays the cases out, whose images are `images`.
    pub fn new(cases: &'a [&'a Case], mark: &str, images: &'a Images) -> Self {
        let place = Place::new();
        for case in cases {
            case.lay_out(&place.work(), &images[&case.name], mark);
        }
        place.write("secret", "not told");
        let key = ["-q", "-t", "ed25519", "-N", "", "-f", "key"];
        let made = Command::new("ssh-keygen").args(key).current_dir(place.work()).status();
        assert!(made.unwrap().success());
        Self { cases, place, images }
    }

    fn target(&self, case: &Case, builder: Builder) -> Value {
        let mut target = case.target(&self.images[&case.name]);
        // An output that the builder can make, and that names the image's config.
        let archive = format!("type=oci,dest={}.tar", case.name);
        let is_old = builder.address == graphdriver().address;
        let output = if is_old { "type=docker" } else { &archive };
        target["output"] = json!([output]);
        target
    }

    /// Builds them all with `docker buildx`, in one call.
    ///
    /// # Errors
    /// What it says where one failed.
    pub fn buildx(&self, builder: Builder) -> Result<Built<'a>, String> {
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
            if output.status.success() { Ok(told) } else { Err(without_progress(&told)) }
        };
        let names: Vec<&str> = self.cases.iter().map(|case| case.name.as_str()).collect();
        let targets = self.cases.iter().map(|case| (&*case.name, self.target(case, builder)));
        let targets: BTreeMap<&str, Value> = targets.collect();
        let bake = json!({ "target": targets, "group": { "default": { "targets": names } } });
        self.place.write("bake.json", &bake.to_string());
        let mut arguments = vec!["bake", "--file", "bake.json", "--progress", "rawjson"];
        arguments.extend(["--provenance=false", "--allow=network.host", "--allow=ssh"]);
        arguments.extend(["--metadata-file", "buildx.json"]);
        if builder.docker_host.is_none() {
            run(&["create", "--name", "bed", "--driver", "remote", builder.address])?;
            arguments.extend(["--builder", "bed"]);
        }
        let steps = steps(&run(&arguments)?);
        let metadata = self.json("buildx.json");
        // Of several builds at once, each step is marked with its build.
        let is_several = names.len() > 1;
        let made = names.into_iter().map(|name| {
            let mark = format!("[{name} ");
            let own = steps.iter().filter_map(|(step, cached)| {
                let step = if is_several {
                    format!("[{}", step.strip_prefix(&mark)?)
                } else {
                    step.clone()
                };
                Some((step, *cached))
            });
            (name, Made { steps: own.collect(), config: config(&metadata[name]) })
        });
        Ok(made.collect())
    }

    /// Builds them with us, one after the other.
    ///
    /// # Errors
    /// What we say where one failed.
    pub fn ours(&self, builder: Builder) -> Result<Built<'a>, String> {
        let each = self.cases.iter();
        each.map(|case| Ok((case.name.as_str(), self.one(case, builder)?))).collect()
    }

    fn one(&self, case: &Case, builder: Builder) -> Result<Made, String> {
        let target = self.target(case, builder);
        let mut flags: Vec<String> = Vec::new();
        let mut flag = |name: &str, value: &str| flags.push(format!("--{name}={value}"));
        if let Some(file) = target["dockerfile"].as_str() {
            flag("file", &format!("{}/ctx/{file}", case.name));
        }
        for name in ["target", "shm-size", "network"] {
            target[name].as_str().into_iter().for_each(|value| flag(name, value));
        }
        for (name, key, joint) in [
            ("build-arg", "args", '='),
            ("build-context", "contexts", '='),
            ("label", "labels", '='),
            ("add-host", "extra-hosts", ':'),
        ] {
            for (one, value) in target[key].as_object().into_iter().flatten() {
                flag(name, &format!("{one}{joint}{}", value.as_str().unwrap()));
            }
        }
        for (name, key) in [
            ("platform", "platforms"),
            ("secret", "secret"),
            ("ssh", "ssh"),
            ("ulimit", "ulimits"),
            ("no-cache-filter", "no-cache-filter"),
            ("output", "output"),
        ] {
            for value in target[key].as_array().into_iter().flatten() {
                flag(name, value.as_str().unwrap());
            }
        }
        if target["no-cache"] == true {
            flags.push("--no-cache".to_owned());
        }
        let head = ["--builder", builder.address, "--progress", "rawjson", "build"];
        let more = ["--frontend", "native", "--provenance=false", "--allow", "network.host"];
        let metadata = ["--metadata-file", "ours.json"];
        let flags = flags.iter().map(String::as_str);
        let context = target["context"].as_str();
        let arguments: Vec<&str> =
            head.into_iter().chain(more).chain(metadata).chain(flags).chain(context).collect();
        let ran = self.place.run(&arguments);
        if ran.code != Some(0) {
            return Err(format!("{}: {}", case.name, without_progress(&ran.stderr)));
        }
        Ok(Made { steps: steps(&ran.stderr), config: config(&self.json("ours.json")) })
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.place.work().join(name)).unwrap()).unwrap()
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

/// What is told, without the progress.
fn without_progress(told: &str) -> String {
    told.lines().filter(|line| !line.starts_with('{')).collect::<Vec<_>>().join("\n")
}

fn config(metadata: &Value) -> Option<String> {
    let of = |what| metadata[format!("containerimage.{what}")].as_str();
    of("config.digest").or_else(|| of("digest")).map(str::to_owned)
}
