//! Where cached results come from and go to: what the plan says, completed by credentials that only
//! this process has, and by what lies in directories here.

use super::{
    builder::{Builder, BuilderKind},
    error::{Error, Refusal},
};
use crate::{
    credential::Secret,
    event::Warning,
    plan::{BuildPlan, CacheEntry},
};
use serde::Serialize;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

/// The kind of cache that lies in a directory here.
const LOCAL: &str = "local";

/// What a local cache is called in its directory where nobody says otherwise.
const LATEST: &str = "latest";

/// The file of a layout that names what is in it.
const INDEX: &str = "index.json";

/// The annotation with such a name.
const NAME: &str = "org.opencontainers.image.ref.name";

/// Where a build answers what it wrote into a cache.
const MANIFEST: &str = "cache.manifest";

/// Attributes by name.
type Attributes = BTreeMap<String, String>;

/// Attributes whose values nobody may see. Builders keep a frontend's attributes in their history.
const SECRET_ATTRIBUTES: [&str; 6] =
    ["account_key", "secret_access_key", "secret_key", "session_token", "sas_token", "token"];

/// What a cache attribute is where the plan does not say: for a kind of cache, the attribute's name
/// and its value.
#[derive(Clone, Debug)]
pub struct CacheDefault {
    /// The kind of cache, such as `s3`.
    pub kind: &'static str,
    /// The attribute, such as `session_token`.
    pub attribute: &'static str,
    /// Its value.
    pub value: Secret,
}

/// The caches of a build.
#[derive(Debug, Default)]
pub(super) struct Caches {
    /// Where results go: kind and attributes.
    pub(super) exports: Vec<(String, Attributes)>,
    /// Where results come from: kind and attributes.
    pub(super) imports: Vec<(String, Attributes)>,
    /// Directories here that are read or written: what the builder calls them, where they are,
    /// and whether they are written.
    pub(super) directories: Vec<(String, PathBuf, bool)>,
    /// What is left out, and why.
    pub(super) warnings: Vec<Warning>,
}

/// Decides the caches of `plan` on `builder`. Relative paths start from `here`.
///
/// # Errors
/// The builder cannot write such a cache, or a local one has no directory.
pub(super) fn caches(
    plan: &BuildPlan,
    builder: &Builder,
    here: &Path,
    defaults: &[CacheDefault],
) -> Result<Caches, Refusal> {
    let mut made = Caches::default();
    for entry in &plan.cache_to {
        let is_known = match builder.kind {
            BuilderKind::Standalone => true,
            BuilderKind::DockerContainerd => !matches!(entry.kind.as_str(), "s3" | "azblob"),
            BuilderKind::DockerGraphdriver => entry.kind == "inline",
        };
        if !is_known {
            return Err(unsupported("writes", &entry.kind));
        }
        if entry.kind == LOCAL {
            let name = directory_of(entry, "dest")?;
            made.directories.push((name.to_owned(), here.join(name), true));
        }
        let completed = made.completed(entry, defaults);
        made.exports.extend(completed);
    }
    for entry in &plan.cache_from {
        // A builder that does not know a cache builds without it, and says so in its log only.
        let is_known = match builder.kind {
            BuilderKind::Standalone => true,
            BuilderKind::DockerContainerd => !matches!(entry.kind.as_str(), "s3" | "azblob"),
            BuilderKind::DockerGraphdriver => {
                !matches!(entry.kind.as_str(), "s3" | "azblob" | "gha")
            }
        };
        if !is_known {
            return Err(unsupported("reads", &entry.kind));
        }
        let completed = made.completed(entry, defaults);
        match completed {
            Some((kind, attributes)) if kind == LOCAL => {
                let name = directory_of(entry, "src")?;
                made.add_local(name, here, attributes);
            }
            completed => made.imports.extend(completed),
        }
    }
    Ok(made)
}

fn unsupported(does: &str, kind: &str) -> Refusal {
    Refusal::new("CACHE_UNSUPPORTED", format!("this Docker {does} no cache of type `{kind}`"))
        .with_fix("use `type=registry` or `type=inline`, or another --builder; only a Docker with containerd's image store writes more than `inline`")
}

impl Caches {
    /// A directory to read from. One that holds nothing yet is how a first build finds it.
    fn add_local(&mut self, name: &str, here: &Path, mut attributes: Attributes) {
        let directory = here.join(name);
        if !attributes.contains_key("digest") {
            let tag = attributes.get("tag").map_or(LATEST, String::as_str);
            match read_index(&directory, tag) {
                Ok(digest) => attributes.insert("digest".to_owned(), digest),
                Err(problem) => {
                    self.warnings.push(Warning {
                        code: "CACHE_SKIPPED",
                        message: format!("the cache in `{name}` is left out: {problem}"),
                        hint: None,
                    });
                    return;
                }
            };
        }
        self.directories.push((name.to_owned(), directory, false));
        self.imports.push((LOCAL.to_owned(), attributes));
    }

    /// Names in the local caches what a build has written into them, where it says what it wrote.
    ///
    /// # Errors
    /// A directory's index cannot be written.
    pub(super) fn name_written(
        exports: &[(String, Attributes)],
        here: &Path,
        response: &BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let descriptor = response.get(MANIFEST).and_then(|text| serde_json::from_str(text).ok());
        let Some(descriptor): Option<Value> = descriptor else { return Ok(()) };
        for (_, attributes) in exports.iter().filter(|(kind, _)| kind == LOCAL) {
            if let Some(name) = attributes.get("dest") {
                let tag = attributes.get("tag").map_or(LATEST, String::as_str);
                let directory = here.join(name);
                write_index(&directory, tag, &descriptor).map_err(|cause| Error::Io {
                    action: "cannot write the index of",
                    path: directory.clone(),
                    cause,
                })?;
            }
        }
        Ok(())
    }

    /// An entry with what the plan does not say; none where it can be of no use here.
    fn completed(
        &mut self,
        entry: &CacheEntry,
        defaults: &[CacheDefault],
    ) -> Option<(String, Attributes)> {
        let mut attributes = entry.attributes.clone();
        for default in defaults.iter().filter(|default| default.kind == entry.kind) {
            if let Some(value) = default.value.expose_str() {
                attributes.entry(default.attribute.to_owned()).or_insert_with(|| value.to_owned());
            }
        }
        let has = |name: &str| attributes.get(name).is_some_and(|value| !value.is_empty());
        if entry.kind == "gha" && !(has("token") && (has("url") || has("url_v2"))) {
            // The same command line has to work on a desk.
            self.warnings.push(Warning {
                code: "CACHE_SKIPPED",
                message: "the cache of GitHub Actions is left out: this is no job of it".to_owned(),
                hint: Some(
                    "pass ACTIONS_RUNTIME_TOKEN and ACTIONS_RESULTS_URL on to bk-sync".to_owned(),
                ),
            });
            return None;
        }
        Some((entry.kind.clone(), attributes))
    }
}

/// The directory of a local cache, under the name that the builder calls it by.
fn directory_of<'a>(entry: &'a CacheEntry, key: &str) -> Result<&'a str, Refusal> {
    entry.attributes.get(key).map(String::as_str).filter(|name| !name.is_empty()).ok_or_else(|| {
        Refusal::new("CACHE_INVALID", format!("a local cache needs `{key}`"))
            .with_fix(format!("write type=local,{key}=DIR"))
    })
}

/// The digest of what `tag` names in a layout's index.
fn read_index(directory: &Path, tag: &str) -> Result<String, String> {
    let path = directory.join(INDEX);
    let text = std::fs::read(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "there is none yet".to_owned(),
        _ => format!("cannot read `{}`: {error}", path.display()),
    })?;
    let index: Value = serde_json::from_slice(&text)
        .map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
    let entries = index.get("manifests").and_then(Value::as_array).map(Vec::as_slice);
    entries
        .unwrap_or_default()
        .iter()
        .find(|entry| name_of(entry) == Some(tag))
        .and_then(|entry| entry.get("digest")?.as_str())
        .map(str::to_owned)
        .ok_or_else(|| format!("it holds nothing under `{tag}`"))
}

/// What an entry of an index is called.
fn name_of(entry: &Value) -> Option<&str> {
    entry.get("annotations")?.get(NAME)?.as_str()
}

/// Lets `tag` name `descriptor` in a layout's index, which may not be there yet.
fn write_index(directory: &Path, tag: &str, descriptor: &Value) -> io::Result<()> {
    let path = directory.join(INDEX);
    let mut index: Value = match std::fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).map_err(io::Error::from)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [],
        }),
        Err(error) => return Err(error),
    };
    let mut named = descriptor.clone();
    let entries = index.get_mut("manifests").and_then(Value::as_array_mut);
    let (Some(fields), Some(entries)) = (named.as_object_mut(), entries) else {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    };
    let annotations = fields.entry("annotations").or_insert_with(|| json!({}));
    if let Some(annotations) = annotations.as_object_mut() {
        annotations.insert(NAME.to_owned(), Value::from(tag));
    }
    entries.retain(|entry| name_of(entry) != Some(tag));
    entries.push(named);
    std::fs::create_dir_all(directory)?;
    std::fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let mut file = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(directory)?;
    serde_json::to_writer(&mut file, &index)?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

#[derive(Serialize)]
struct Import<'a> {
    #[serde(rename = "Type")]
    kind: &'a str,
    #[serde(rename = "Attrs")]
    attributes: BTreeMap<&'a str, &'a str>,
}

/// The caches to read, as frontends are told of them, less what is secret.
pub(super) fn import_list<'a>(
    entries: impl Iterator<Item = (&'a String, &'a Attributes)>,
) -> String {
    listed(entries, |name| !SECRET_ATTRIBUTES.contains(&name))
}

/// The caches to read with all that the builder's own frontend needs to get at them.
pub(super) fn full_import_list(entries: &[(String, Attributes)]) -> String {
    listed(entries.iter().map(|(kind, attributes)| (kind, attributes)), |_| true)
}

fn listed<'a>(
    entries: impl Iterator<Item = (&'a String, &'a Attributes)>,
    is_shown: impl Fn(&str) -> bool,
) -> String {
    let entries: Vec<Import<'_>> = entries
        .map(|(kind, attributes)| Import {
            kind,
            attributes: attributes
                .iter()
                .filter(|(name, _)| is_shown(name))
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect(),
        })
        .collect();
    serde_json::to_string(&entries).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: &str, attributes: &[(&str, &str)]) -> CacheEntry {
        let attributes = attributes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        CacheEntry { kind: kind.to_owned(), attributes: attributes.collect() }
    }

    fn default(kind: &'static str, attribute: &'static str, value: &str) -> CacheDefault {
        CacheDefault { kind, attribute, value: Secret::new(value) }
    }

    #[test]
    fn credentials_complete_an_entry_and_stay_out_of_the_history() {
        let s3 = entry("s3", &[("bucket", "b"), ("access_key_id", "mine")]);
        let plan = BuildPlan { cache_from: vec![s3], ..BuildPlan::default() };
        let defaults = [
            default("s3", "access_key_id", "theirs"),
            default("s3", "secret_access_key", "hidden"),
        ];
        let made = caches(&plan, &Builder::default(), Path::new("."), &defaults).expect("caches");
        let (_, attributes) = made.imports.first().expect("an import");
        assert_eq!(attributes.get("access_key_id").map(String::as_str), Some("mine"));
        assert_eq!(attributes.get("secret_access_key").map(String::as_str), Some("hidden"));
        let shown = import_list(made.imports.iter().map(|(kind, attributes)| (kind, attributes)));
        assert_eq!(shown, r#"[{"Type":"s3","Attrs":{"access_key_id":"mine","bucket":"b"}}]"#);
        assert!(full_import_list(&made.imports).contains("hidden"));
    }

    #[test]
    fn outside_of_github_its_cache_is_left_out_and_that_is_said() {
        let plan = BuildPlan { cache_to: vec![entry("gha", &[])], ..BuildPlan::default() };
        let made = caches(&plan, &Builder::default(), Path::new("."), &[]).expect("caches");
        assert!(made.exports.is_empty());
        assert_eq!(made.warnings.first().map(|warning| warning.code), Some("CACHE_SKIPPED"));
        let defaults = [default("gha", "token", "t"), default("gha", "url_v2", "http://a")];
        let made = caches(&plan, &Builder::default(), Path::new("."), &defaults).expect("caches");
        assert_eq!((made.exports.len(), made.warnings.len()), (1, 0));
    }

    #[test]
    fn a_docker_that_writes_no_cache_refuses() {
        let old = Builder { kind: BuilderKind::DockerGraphdriver, ..Builder::default() };
        let code = |kind| {
            let plan = BuildPlan { cache_to: vec![entry(kind, &[])], ..BuildPlan::default() };
            caches(&plan, &old, Path::new("."), &[])
                .map(|made| made.exports.len())
                .map_err(|error| error.code)
        };
        assert_eq!(code("inline"), Ok(1));
        assert_eq!(code("registry"), Err("CACHE_UNSUPPORTED"));
        let plan = BuildPlan { cache_from: vec![entry("gha", &[])], ..BuildPlan::default() };
        assert!(caches(&plan, &old, Path::new("."), &[]).is_err());
    }

    #[test]
    fn a_local_cache_is_read_by_the_name_under_which_it_was_written() {
        let here = tempfile::tempdir().expect("a directory");
        let plan = BuildPlan {
            cache_from: vec![entry("local", &[("src", "c")])],
            cache_to: vec![entry("local", &[("dest", "c")])],
            ..BuildPlan::default()
        };
        let made = caches(&plan, &Builder::default(), here.path(), &[]).expect("caches");
        assert!(made.imports.is_empty());
        assert!(made.warnings.iter().any(|warning| warning.message.contains("none yet")));
        let written = |digest: &str| {
            let answer = json!({"mediaType": "m", "digest": digest, "size": 1}).to_string();
            let response = BTreeMap::from([(MANIFEST.to_owned(), answer)]);
            Caches::name_written(&made.exports, here.path(), &response).expect("an index");
        };
        written("sha256:a");
        written("sha256:b");
        let made = caches(&plan, &Builder::default(), here.path(), &[]).expect("caches");
        let (_, attributes) = made.imports.first().expect("an import");
        assert_eq!(attributes.get("digest").map(String::as_str), Some("sha256:b"));
        assert_eq!(made.directories.len(), 2);
        assert_eq!(
            read_index(&here.path().join("c"), "x"),
            Err("it holds nothing under `x`".to_owned())
        );
    }
}
