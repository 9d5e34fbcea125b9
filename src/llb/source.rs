//! Where file systems come from: images, directories of the client, the web, git, OCI layouts.

use std::collections::{BTreeMap, BTreeSet};

use super::caps;
use super::git_url::{GitUrl, Scheme};
use super::metadata::Constraints;
use super::path;
use super::state::State;
use super::vertex::{Kind, Output};
use crate::image::json;

#[derive(Debug)]
pub(super) struct SourceOp {
    pub(super) identifier: String,
    pub(super) attrs: BTreeMap<String, String>,
    pub(super) caps: BTreeSet<&'static str>,
}

impl SourceOp {
    /// Whether the op carries a platform: only what is looked up in an index does.
    pub(super) fn is_for_a_platform(&self) -> bool {
        ["docker-image://", "oci-layout://"].iter().any(|kind| self.identifier.starts_with(kind))
    }
}

struct Builder {
    op: SourceOp,
}

impl Builder {
    fn new(identifier: String, cap: &'static str) -> Self {
        let caps = BTreeSet::from([cap]);
        Self { op: SourceOp { identifier, attrs: BTreeMap::new(), caps } }
    }

    fn set(&mut self, attr: &str, value: impl Into<String>) {
        self.op.attrs.insert(attr.into(), value.into());
    }

    fn need(&mut self, cap: &'static str) {
        self.op.caps.insert(cap);
    }

    /// An attribute and the capability that comes with it, unless the value is empty.
    fn set_filled(&mut self, attr: &str, value: &str, cap: &'static str) {
        if !value.is_empty() {
            self.set(attr, value);
            self.need(cap);
        }
    }

    fn state(self, constraints: Constraints) -> State {
        State::from_output(Output::of(Kind::Source(self.op), constraints, 0))
    }
}

/// Where an image may be looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ResolveMode {
    /// Wherever the builder thinks best.
    #[default]
    Default,
    /// In its registry, even if the builder has one of that name.
    ForcePull,
    /// On the builder first.
    PreferLocal,
}

impl ResolveMode {
    /// The word of the wire: `default`, `pull` or `local`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::ForcePull => "pull",
            Self::PreferLocal => "local",
        }
    }
}

/// An image of a registry.
#[derive(Clone, Debug, Default)]
pub struct Image {
    reference: String,
    mode: ResolveMode,
    internal: bool,
    layer_limit: Option<u32>,
    checksum: String,
}

impl Image {
    /// An image by its full name, as `docker.io/library/alpine:3.21`, best with a digest.
    pub fn new(reference: impl Into<String>) -> Self {
        Self { reference: reference.into(), ..Self::default() }
    }

    /// Where it may be looked for.
    #[must_use]
    pub fn resolve_mode(mut self, mode: ResolveMode) -> Self {
        self.mode = mode;
        self
    }

    /// Keeps it out of what a user counts as the build's inputs.
    #[must_use]
    pub fn internal(mut self) -> Self {
        self.internal = true;
        self
    }

    /// Takes only the first layers.
    #[must_use]
    pub fn layer_limit(mut self, layers: u32) -> Self {
        self.layer_limit = Some(layers);
        self
    }

    /// The digest that the image must have.
    #[must_use]
    pub fn checksum(mut self, digest: impl Into<String>) -> Self {
        self.checksum = digest.into();
        self
    }

    /// The image as a state.
    pub fn state(self, constraints: Constraints) -> State {
        let mut source = Builder::new(format!("docker-image://{}", self.reference), caps::IMAGE);
        if self.mode != ResolveMode::Default {
            source.set("image.resolvemode", self.mode.as_str());
        }
        if self.mode == ResolveMode::ForcePull {
            source.need(caps::IMAGE_RESOLVE_MODE);
        }
        if self.internal {
            source.set("image.recordtype", "internal");
        }
        if let Some(limit) = self.layer_limit {
            source.set("image.layerlimit", limit.to_string());
            source.need(caps::IMAGE_LAYER_LIMIT);
        }
        source.set_filled("image.checksum", &self.checksum, caps::IMAGE_CHECKSUM);
        source.state(constraints)
    }
}

/// A directory of the client, sent over its session.
#[derive(Clone, Debug, Default)]
pub struct Local {
    name: String,
    session: String,
    include: Vec<String>,
    exclude: Vec<String>,
    follow: Vec<String>,
    shared_key: String,
    always_send: bool,
}

impl Local {
    /// A directory by the name that the session knows it by.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// The session that has it; without one the source is unlike any other of the build.
    #[must_use]
    pub fn session(mut self, id: impl Into<String>) -> Self {
        self.session = id.into();
        self
    }

    /// What is sent, as patterns; all without any.
    #[must_use]
    pub fn include(mut self, patterns: Vec<String>) -> Self {
        self.include = patterns;
        self
    }

    /// What is not sent, as patterns of an ignore file.
    #[must_use]
    pub fn exclude(mut self, patterns: Vec<String>) -> Self {
        self.exclude = patterns;
        self
    }

    /// The paths that are sent, with what their links lead to; all without any.
    #[must_use]
    pub fn follow(mut self, paths: Vec<String>) -> Self {
        self.follow = paths;
        self
    }

    /// What names the directory from one build to the next, so that only changes are sent.
    #[must_use]
    pub fn shared_key(mut self, hint: impl Into<String>) -> Self {
        self.shared_key = hint.into();
        self
    }

    /// Sends files whether they changed or not.
    #[must_use]
    pub fn always_send(mut self) -> Self {
        self.always_send = true;
        self
    }

    /// The directory as a state.
    pub fn state(self, constraints: Constraints) -> State {
        let mut source = Builder::new(format!("local://{}", self.name), caps::LOCAL);
        let list = |values: &[String]| {
            if values.is_empty() { String::new() } else { json::to_string(&values) }
        };
        source.set_filled("local.session", &self.session, caps::LOCAL_SESSION_ID);
        let include = list(&self.include);
        source.set_filled("local.includepattern", &include, caps::LOCAL_INCLUDE_PATTERNS);
        source.set_filled("local.followpaths", &list(&self.follow), caps::LOCAL_FOLLOW_PATHS);
        let exclude = list(&self.exclude);
        source.set_filled("local.excludepatterns", &exclude, caps::LOCAL_EXCLUDE_PATTERNS);
        source.set_filled("local.sharedkeyhint", &self.shared_key, caps::LOCAL_SHARED_KEY_HINT);
        if self.always_send {
            source.set("local.differ", "none");
        }
        source.state(constraints)
    }
}

/// A file of the web.
#[derive(Clone, Debug, Default)]
pub struct Http {
    url: String,
    filename: String,
    checksum: String,
    mode: u32,
}

impl Http {
    /// A file by its address, `http://` or `https://`.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), ..Self::default() }
    }

    /// What the file is called in the state.
    #[must_use]
    pub fn filename(mut self, name: impl Into<String>) -> Self {
        self.filename = name.into();
        self
    }

    /// The digest that the file must have.
    #[must_use]
    pub fn checksum(mut self, digest: impl Into<String>) -> Self {
        self.checksum = digest.into();
        self
    }

    /// The permissions of the file.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode & 0o777;
        self
    }

    /// The file as a state that holds it alone.
    pub fn state(self, constraints: Constraints) -> State {
        let mut source = Builder::new(self.url, caps::HTTP);
        source.set_filled("http.checksum", &self.checksum, caps::HTTP_CHECKSUM);
        if !self.filename.is_empty() {
            source.set("http.filename", self.filename);
        }
        if self.mode != 0 {
            source.set("http.perm", format!("0{:o}", self.mode));
            source.need(caps::HTTP_PERM);
        }
        source.state(constraints)
    }
}

/// A git repository at one commit.
#[derive(Clone, Debug, Default)]
pub struct Git {
    remote: String,
    reference: String,
    subdir: String,
    checksum: String,
    mtime: String,
    keep_git_dir: bool,
    skip_submodules: bool,
    fetch_by_commit: bool,
    known_hosts: String,
}

impl Git {
    /// A repository by its address: a URL, or `user@host:path`.
    pub fn new(remote: impl Into<String>) -> Self {
        Self { remote: remote.into(), ..Self::default() }
    }

    /// A branch, tag or commit; the remote's default without one.
    #[must_use]
    pub fn reference(mut self, reference: impl Into<String>) -> Self {
        self.reference = reference.into();
        self
    }

    /// The directory inside the repository that is taken.
    #[must_use]
    pub fn subdir(mut self, dir: impl Into<String>) -> Self {
        self.subdir = dir.into();
        self
    }

    /// The commit that the reference must lead to.
    #[must_use]
    pub fn checksum(mut self, commit: impl Into<String>) -> Self {
        self.checksum = commit.into();
        self
    }

    /// What modification times come from: `checkout` or `commit`.
    #[must_use]
    pub fn mtime(mut self, policy: impl Into<String>) -> Self {
        self.mtime = policy.into();
        self
    }

    /// Keeps the `.git` directory.
    #[must_use]
    pub fn keep_git_dir(mut self) -> Self {
        self.keep_git_dir = true;
        self
    }

    /// Leaves submodules alone.
    #[must_use]
    pub fn skip_submodules(mut self) -> Self {
        self.skip_submodules = true;
        self
    }

    /// Trusts the checksum as the commit to fetch and does not ask the remote for the reference.
    #[must_use]
    pub fn fetch_by_commit(mut self) -> Self {
        self.fetch_by_commit = true;
        self
    }

    /// The keys by which an SSH host is known, as lines of a `known_hosts` file.
    #[must_use]
    pub fn known_hosts(mut self, lines: impl Into<String>) -> Self {
        self.known_hosts = lines.into();
        self
    }

    /// The repository as a state.
    pub fn state(self, constraints: Constraints) -> State {
        let url = GitUrl::parse(&self.remote)
            .or_else(|_| GitUrl::parse(&format!("https://{}", self.remote)));
        let mut remote = self.remote;
        let mut identifier = remote.clone();
        let mut over_ssh = false;
        if let Ok(url) = url {
            // The protocol is left out, so that one repository is one source however it is reached.
            identifier = format!("{}{}", url.host, path::join(["/", &url.path]));
            if !self.reference.is_empty() || !self.subdir.is_empty() {
                identifier.push('#');
                identifier.push_str(&self.reference);
                if !self.subdir.is_empty() {
                    identifier.push(':');
                    identifier.push_str(&self.subdir);
                }
            }
            over_ssh = url.scheme == Scheme::Ssh;
            remote = url.remote;
        }
        let mut source = Builder::new(format!("git://{identifier}"), caps::GIT);
        if self.keep_git_dir {
            source.set("git.keepgitdir", "true");
            source.need(caps::GIT_KEEP_DIR);
        }
        source.set_filled("git.fullurl", &remote, caps::GIT_FULL_URL);
        source.set("git.authtokensecret", "GIT_AUTH_TOKEN");
        source.set("git.authheadersecret", "GIT_AUTH_HEADER");
        if over_ssh {
            if !self.known_hosts.is_empty() {
                source.set("git.knownsshhosts", self.known_hosts);
            }
            source.need(caps::GIT_KNOWN_SSH_HOSTS);
            source.set("git.mountsshsock", "default");
            source.need(caps::GIT_MOUNT_SSH_SOCK);
        }
        source.set_filled("git.checksum", &self.checksum, caps::GIT_CHECKSUM);
        if self.skip_submodules {
            source.set("git.skipsubmodules", "true");
            source.need(caps::GIT_SKIP_SUBMODULES);
        }
        source.set_filled("git.mtime", &self.mtime, caps::GIT_MTIME);
        if self.fetch_by_commit {
            source.set("git.fetchbycommit", "true");
            source.need(caps::GIT_FETCH_BY_COMMIT);
        }
        source.state(constraints)
    }
}

/// An image of an OCI layout that the client holds.
#[derive(Clone, Debug, Default)]
pub struct OciLayout {
    reference: String,
    session: String,
    store: String,
    layer_limit: Option<u32>,
}

impl OciLayout {
    /// An image by a name, which is only shown, and a digest, which is looked for.
    pub fn new(reference: impl Into<String>) -> Self {
        Self { reference: reference.into(), ..Self::default() }
    }

    /// The session that has the layout, and the name that it knows the layout by.
    #[must_use]
    pub fn store(mut self, session: impl Into<String>, store: impl Into<String>) -> Self {
        self.session = session.into();
        self.store = store.into();
        self
    }

    /// Takes only the first layers.
    #[must_use]
    pub fn layer_limit(mut self, layers: u32) -> Self {
        self.layer_limit = Some(layers);
        self
    }

    /// The image as a state.
    pub fn state(self, constraints: Constraints) -> State {
        let mut source = Builder::new(format!("oci-layout://{}", self.reference), caps::OCI_LAYOUT);
        if !self.session.is_empty() {
            source.set("oci.session", self.session);
        }
        if !self.store.is_empty() {
            source.set("oci.store", self.store);
        }
        if let Some(limit) = self.layer_limit {
            source.set("oci.layerlimit", limit.to_string());
        }
        source.state(constraints)
    }
}
