//! What one `build` is asked to do, resolved from flags, config and environment.

use super::{BaseKey, Pinning, SigningPlan, SourcePolicy};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf};

/// Everything that decides what a build does, except who runs it (the builder) and what may prove
/// who we are (credentials). Serialisable, and free of secrets: a secret is named by its source.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct BuildPlan {
    /// The main context.
    pub context: Context,
    /// The Dockerfile, where it is not `Dockerfile` in the context: a path as the user gave it
    /// (relative to the working directory), `-` for stdin, or for a remote context a path in it.
    pub file: Option<String>,
    /// The stage to build; the last one where none is named.
    pub target: Option<String>,
    /// Platforms such as `linux/arm64`, in the order given; the builder's own where none is given.
    pub platforms: Vec<String>,
    /// `--build-arg`, by name; a name without a value has been resolved from the environment.
    pub args: BTreeMap<String, String>,
    /// `--build-context`, by name, in the order given.
    pub named_contexts: Vec<NamedContext>,
    /// What builds make that a named context means (`target:NAME`), by that name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub linked: BTreeMap<String, Self>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--annotation`, as given (with its level and platform prefix).
    pub annotations: Vec<String>,
    /// `-t/--tag`: references as the user gave them.
    pub tags: Vec<String>,
    /// `--secret`.
    pub secrets: Vec<SecretSpec>,
    /// `--ssh`.
    pub ssh: Vec<AgentForward>,
    /// `--no-cache`.
    pub no_cache: bool,
    /// `--no-cache-filter`: stages whose cache is not used.
    pub no_cache_filter: Vec<String>,
    /// `--pull`: ask the registries for base images even where the builder has them.
    pub pull: bool,
    /// `--push`: short for an image output with `push=true`.
    pub push: bool,
    /// `--load`: short for handing the image to Docker.
    pub load: bool,
    /// `-o/--output`, in the order given.
    pub outputs: Vec<Output>,
    /// `--cache-from`.
    pub cache_from: Vec<CacheEntry>,
    /// `--cache-to`.
    pub cache_to: Vec<CacheEntry>,
    /// `--cache-deadline`: how long writing caches may take once the image is there, in seconds.
    pub cache_deadline: u64,
    /// `--attest`, `--provenance`, `--sbom` by type (`provenance`, `sbom`): the attributes, or none
    /// where it is switched off.
    pub attestations: BTreeMap<String, Option<String>>,
    /// `--allow`: entitlements granted.
    pub allow: Vec<String>,
    /// `--add-host`.
    pub extra_hosts: Vec<ExtraHost>,
    /// `--network`.
    pub network: Network,
    /// `--shm-size` in bytes.
    pub shm_size: Option<u64>,
    /// `--ulimit`.
    pub ulimits: Vec<Ulimit>,
    /// `--cgroup-parent`.
    pub cgroup_parent: Option<String>,
    /// `--frontend`.
    pub frontend: FrontendChoice,
    /// `--push-via`.
    pub push_via: PushVia,
    /// `--strict`: an image leaves only where nothing is wrong with it.
    pub strict: bool,
    /// `--compression` and its companions, as the exporters' attributes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub compression: BTreeMap<String, String>,
    /// `--iidfile`: gets the image's digest.
    pub iid_file: Option<PathBuf>,
    /// `--metadata-file`: gets the build's metadata as buildx writes it.
    pub metadata_file: Option<PathBuf>,
    /// What that file holds besides the exporters' answers.
    pub metadata: MetadataDetail,
    /// Whether images go without the attestation that is added where nobody asks for one.
    pub no_default_attestations: bool,
    /// What the builder may read, and what it reads in its place.
    pub source_policy: Option<SourcePolicy>,
    /// The checkout that the context lies in, for the attestation; none where it is in none or not
    /// to be told.
    pub checkout: Option<Checkout>,
    /// `--reproducible`: the time that the image has, in seconds since 1970.
    pub reproducible: Option<i64>,
    /// How far images are held by their digests.
    pub pinning: Pinning,
    /// How the image is signed once it is pushed; none where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signing: Option<SigningPlan>,
    /// By whom images have to be signed that the build starts from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub base_keys: Vec<BaseKey>,
}

impl BuildPlan {
    /// How far images are held by their digests: as is asked, and each by the digest that it has now
    /// where signatures are checked, which are of digests.
    pub fn pinned(&self) -> Pinning {
        match (&self.pinning, self.base_keys.is_empty()) {
            (Pinning::Off, false) => Pinning::Open,
            (pinning, _) => pinning.clone(),
        }
    }

    /// Whether the context or the Dockerfile comes on stdin.
    pub fn reads_stdin(&self) -> bool {
        self.context == Context::Stdin || self.file.as_deref() == Some("-")
    }
}

/// What a metadata file holds besides the exporters' answers.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct MetadataDetail {
    /// How much of what the image was built from.
    pub provenance: ProvenanceDetail,
    /// Whether the build's warnings.
    pub warnings: bool,
}

/// How much of an image's provenance is told.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProvenanceDetail {
    /// What it was built from and how it was asked for.
    #[default]
    Min,
    /// All that the builder recorded.
    Max,
    /// Nothing.
    Disabled,
}

/// The state of a git checkout.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Checkout {
    /// The remote's URL, without credentials.
    pub source: Option<String>,
    /// The commit's full hash, with `-dirty` behind it where that was looked for and is so.
    pub revision: String,
}

/// Where the files of a build come from.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Context {
    /// A directory on this machine.
    Directory(PathBuf),
    /// `-`: a tar archive, plain or compressed, or a bare Dockerfile, on stdin.
    Stdin,
    /// A git URL, fetched by the builder.
    Git(String),
    /// An http(s) URL of an archive or a Dockerfile, fetched by the builder.
    Http(String),
}

impl Default for Context {
    fn default() -> Self {
        Self::Directory(PathBuf::from("."))
    }
}

/// A `--build-context NAME=VALUE`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct NamedContext {
    /// The name that the Dockerfile uses.
    pub name: String,
    /// A directory, a git or http(s) URL, `docker-image://…`, `oci-layout://…` or `target:…`, as
    /// given.
    pub value: String,
}

/// A `--secret`: its id and where its content is read from when the builder asks.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct SecretSpec {
    /// The id that the Dockerfile uses.
    pub id: String,
    /// Where its content is.
    pub source: SecretSource,
}

/// Where a secret's content is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretSource {
    /// A variable of our environment.
    Env(String),
    /// A file.
    File(PathBuf),
}

/// An `--ssh ID[=PATH…]`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct AgentForward {
    /// The id that the Dockerfile uses; `default` where none is given.
    pub id: String,
    /// An agent's socket, or private keys; the agent of the environment where none is given.
    pub paths: Vec<PathBuf>,
}

/// An exporter with its attributes and where its result goes.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Output {
    /// What is written.
    pub kind: OutputKind,
    /// Attributes for the exporter, less `type` and `dest`.
    pub attributes: BTreeMap<String, String>,
    /// Where the result goes, for kinds that send it here.
    pub target: Option<OutputTarget>,
}

/// The exporters that users can name.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputKind {
    /// Nothing is written; the cache is warmed.
    CacheOnly,
    /// An archive as `docker load` reads it.
    Docker,
    /// An image in the builder's store, pushed with `push=true`.
    Image,
    /// The root file system, in a directory here.
    Local,
    /// An OCI layout, as an archive or a directory.
    Oci,
    /// The root file system, as an archive.
    Tar,
}

/// Where a result that is sent here goes.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputTarget {
    /// A file or, for `local`, a directory.
    Path(PathBuf),
    /// `-`: stdout.
    Stdout,
}

/// A `--cache-from` or `--cache-to`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct CacheEntry {
    /// The backend: `registry`, `inline`, `local`, `gha`, `s3`, `azblob`.
    pub kind: String,
    /// Its attributes, less `type`.
    pub attributes: BTreeMap<String, String>,
}

/// An `--add-host HOST:IP`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ExtraHost {
    /// The name.
    pub host: String,
    /// An address, or `host-gateway`.
    pub ip: String,
}

/// A `--ulimit NAME=SOFT[:HARD]`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Ulimit {
    /// Such as `nofile`.
    pub name: String,
    /// The soft limit; -1 for none.
    pub soft: i64,
    /// The hard limit; -1 for none.
    pub hard: i64,
}

/// The network of `RUN` steps.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// One of the build's own.
    #[default]
    Default,
    /// The builder's host's; needs the entitlement `network.host`.
    Host,
    /// None.
    None,
}

/// Who compiles the Dockerfile.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FrontendChoice {
    /// As the Dockerfile's `# syntax` line asks.
    #[default]
    Auto,
    /// The builder's own frontend.
    Daemon,
    /// This process.
    Native,
}

/// Who talks to the registry.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PushVia {
    /// As suits the builder.
    #[default]
    Auto,
    /// The builder, with credentials lent over the session.
    Builder,
    /// This process.
    Client,
}
