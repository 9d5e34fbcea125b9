//! Capabilities: what a builder says it can do with LLB.
//!
//! Each op names the capabilities that it needs in its metadata; a builder lists those that it has
//! in the answer to `Ping`. Where a capability is missing, some ops are expressed otherwise (see
//! [`super::Exec`]), and the rest must be refused before the graph is sent.

use std::collections::BTreeSet;

/// The capability `constraints`.
pub const CONSTRAINTS: &str = "constraints";
/// The capability `platform`.
pub const PLATFORM: &str = "platform";
/// The capability `meta.description`.
pub const META_DESCRIPTION: &str = "meta.description";
/// The capability `meta.exportcache`.
pub const META_EXPORT_CACHE: &str = "meta.exportcache";
/// The capability `meta.ignorecache`.
pub const META_IGNORE_CACHE: &str = "meta.ignorecache";
/// The capability `diffop`.
pub const DIFF: &str = "diffop";
/// The capability `mergeop`.
pub const MERGE: &str = "mergeop";
/// The capability `exec.meta.base`.
pub const EXEC_BASE: &str = "exec.meta.base";
/// The capability `exec.meta.cdi`.
pub const EXEC_CDI: &str = "exec.meta.cdi";
/// The capability `exec.meta.cgroup.parent`.
pub const EXEC_CGROUP_PARENT: &str = "exec.meta.cgroup.parent";
/// The capability `exec.meta.linux.resources`.
pub const EXEC_LINUX_RESOURCES: &str = "exec.meta.linux.resources";
/// The capability `exec.meta.network`.
pub const EXEC_NETWORK: &str = "exec.meta.network";
/// The capability `exec.meta.proxyenv`.
pub const EXEC_PROXY: &str = "exec.meta.proxyenv";
/// The capability `exec.meta.security`.
pub const EXEC_SECURITY: &str = "exec.meta.security";
/// The capability `exec.meta.setsdefaultpath`.
pub const EXEC_SETS_DEFAULT_PATH: &str = "exec.meta.setsdefaultpath";
/// The capability `exec.meta.ulimit`.
pub const EXEC_ULIMIT: &str = "exec.meta.ulimit";
/// The capability `exec.validexitcode`.
pub const EXEC_VALID_EXIT_CODE: &str = "exec.validexitcode";
/// The capability `exec.secretenv`.
pub const EXEC_SECRET_ENV: &str = "exec.secretenv";
/// The capability `exec.mount.bind`.
pub const MOUNT_BIND: &str = "exec.mount.bind";
/// The capability `exec.mount.bind.readwrite-nooutput`.
pub const MOUNT_BIND_NO_OUTPUT: &str = "exec.mount.bind.readwrite-nooutput";
/// The capability `exec.mount.cache`.
pub const MOUNT_CACHE: &str = "exec.mount.cache";
/// The capability `exec.mount.cache.sharing`.
pub const MOUNT_CACHE_SHARING: &str = "exec.mount.cache.sharing";
/// The capability `exec.mount.secret`.
pub const MOUNT_SECRET: &str = "exec.mount.secret";
/// The capability `exec.mount.selector`.
pub const MOUNT_SELECTOR: &str = "exec.mount.selector";
/// The capability `exec.mount.ssh`.
pub const MOUNT_SSH: &str = "exec.mount.ssh";
/// The capability `exec.mount.tmpfs`.
pub const MOUNT_TMPFS: &str = "exec.mount.tmpfs";
/// The capability `exec.mount.tmpfs.size`.
pub const MOUNT_TMPFS_SIZE: &str = "exec.mount.tmpfs.size";
/// The capability `file.base`.
pub const FILE_BASE: &str = "file.base";
/// The capability `source.git`.
pub const GIT: &str = "source.git";
/// The capability `source.git.checksum`.
pub const GIT_CHECKSUM: &str = "source.git.checksum";
/// The capability `source.git.fetchbycommit`.
pub const GIT_FETCH_BY_COMMIT: &str = "source.git.fetchbycommit";
/// The capability `source.git.fullurl`.
pub const GIT_FULL_URL: &str = "source.git.fullurl";
/// The capability `source.git.httpauth`.
pub const GIT_HTTP_AUTH: &str = "source.git.httpauth";
/// The capability `source.git.keepgitdir`.
pub const GIT_KEEP_DIR: &str = "source.git.keepgitdir";
/// The capability `source.git.knownsshhosts`.
pub const GIT_KNOWN_SSH_HOSTS: &str = "source.git.knownsshhosts";
/// The capability `source.git.mountsshsock`.
pub const GIT_MOUNT_SSH_SOCK: &str = "source.git.mountsshsock";
/// The capability `source.git.mtime`.
pub const GIT_MTIME: &str = "source.git.mtime";
/// The capability `source.git.skipsubmodules`.
pub const GIT_SKIP_SUBMODULES: &str = "source.git.skipsubmodules";
/// The capability `source.http`.
pub const HTTP: &str = "source.http";
/// The capability `source.http.auth`.
pub const HTTP_AUTH: &str = "source.http.auth";
/// The capability `source.http.checksum`.
pub const HTTP_CHECKSUM: &str = "source.http.checksum";
/// The capability `source.http.perm`.
pub const HTTP_PERM: &str = "source.http.perm";
/// Owner of a downloaded file; the misspelling is the wire's.
pub const HTTP_OWNER: &str = "soruce.http.uidgid";
/// The capability `source.image`.
pub const IMAGE: &str = "source.image";
/// The capability `source.image.checksum`.
pub const IMAGE_CHECKSUM: &str = "source.image.checksum";
/// The capability `source.image.layerlimit`.
pub const IMAGE_LAYER_LIMIT: &str = "source.image.layerlimit";
/// The capability `source.image.resolvemode`.
pub const IMAGE_RESOLVE_MODE: &str = "source.image.resolvemode";
/// The capability `source.local`.
pub const LOCAL: &str = "source.local";
/// The capability `source.local.differ`.
pub const LOCAL_DIFFER: &str = "source.local.differ";
/// The capability `source.local.excludepatterns`.
pub const LOCAL_EXCLUDE_PATTERNS: &str = "source.local.excludepatterns";
/// The capability `source.local.followpaths`.
pub const LOCAL_FOLLOW_PATHS: &str = "source.local.followpaths";
/// The capability `source.local.includepatterns`.
pub const LOCAL_INCLUDE_PATTERNS: &str = "source.local.includepatterns";
/// The capability `source.local.sessionid`.
pub const LOCAL_SESSION_ID: &str = "source.local.sessionid";
/// The capability `source.local.sharedkeyhint`.
pub const LOCAL_SHARED_KEY_HINT: &str = "source.local.sharedkeyhint";
/// The capability `source.local.unique`.
pub const LOCAL_UNIQUE: &str = "source.local.unique";
/// The capability `source.ocilayout`.
pub const OCI_LAYOUT: &str = "source.ocilayout";

/// Every capability that BuildKit v0.32 knows, sorted.
const KNOWN: [&str; 88] = [
    "cache.azblob",
    "cache.gha",
    "cache.s3",
    "constraints",
    "diffop",
    "exec.cgroup",
    "exec.meta.base",
    "exec.meta.cdi",
    "exec.meta.cgroup.parent",
    "exec.meta.linux.resources",
    "exec.meta.network",
    "exec.meta.network.proxy",
    "exec.meta.proxyenv",
    "exec.meta.security",
    "exec.meta.security.devices.v1",
    "exec.meta.setsdefaultpath",
    "exec.meta.ulimit",
    "exec.mount.bind",
    "exec.mount.bind.readwrite-nooutput",
    "exec.mount.cache",
    "exec.mount.cache.content",
    "exec.mount.cache.sharing",
    "exec.mount.secret",
    "exec.mount.selector",
    "exec.mount.ssh",
    "exec.mount.tmpfs",
    "exec.mount.tmpfs.size",
    "exec.secretenv",
    "exec.validexitcode",
    "exporter.image.annotations",
    "exporter.image.attestations",
    "exporter.multiple",
    "exporter.session",
    "exporter.sourcedateepoch",
    "file.base",
    "file.copy.alwaysreplaceexistingdestpaths",
    "file.copy.includeexcludepatterns",
    "file.copy.requiredpaths",
    "file.rm.nofollowsymlink",
    "file.rm.wildcard",
    "file.symlink.create",
    "gc.freespacefilter",
    "history.filter",
    "mergeop",
    "meta.description",
    "meta.exportcache",
    "meta.ignorecache",
    "passthroughop",
    "platform",
    "soruce.http.uidgid",
    "source.buildop.llbfilename",
    "source.git",
    "source.git.bundle",
    "source.git.checkoutbundle",
    "source.git.checksum",
    "source.git.fetchbycommit",
    "source.git.fullurl",
    "source.git.httpauth",
    "source.git.keepgitdir",
    "source.git.knownsshhosts",
    "source.git.mountsshsock",
    "source.git.mtime",
    "source.git.signatureverify",
    "source.git.skipsubmodules",
    "source.git.subdir",
    "source.http",
    "source.http.auth",
    "source.http.checksum",
    "source.http.header",
    "source.http.perm",
    "source.http.signatureverify",
    "source.image",
    "source.image.checksum",
    "source.image.layerlimit",
    "source.image.resolvemode",
    "source.imageblob",
    "source.local",
    "source.local.differ",
    "source.local.excludepatterns",
    "source.local.followpaths",
    "source.local.includepatterns",
    "source.local.metadatatransfer",
    "source.local.sessionid",
    "source.local.sharedkeyhint",
    "source.local.unique",
    "source.ocilayout",
    "source.policy",
    "source.policy.session",
];

/// The capabilities of one builder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caps {
    enabled: BTreeSet<String>,
}

impl Caps {
    /// What a builder named as enabled.
    ///
    /// Those that BuildKit v0.32 does not know are dropped: a graph made here cannot need them.
    pub fn of<I, T>(enabled: I) -> Self
    where
        I: IntoIterator<Item = T>,
        T: AsRef<str>,
    {
        let known = enabled.into_iter().filter_map(|id| {
            let at = KNOWN.binary_search(&id.as_ref()).ok()?;
            KNOWN.get(at).map(|id| (*id).to_owned())
        });
        Self { enabled: known.collect() }
    }

    /// All that BuildKit v0.32 has.
    pub fn all() -> Self {
        Self { enabled: KNOWN.iter().map(|id| (*id).to_owned()).collect() }
    }

    /// The same without one capability.
    #[must_use]
    pub fn without(mut self, id: &str) -> Self {
        self.enabled.remove(id);
        self
    }

    /// Whether the builder has a capability.
    pub fn supports(&self, id: &str) -> bool {
        self.enabled.contains(id)
    }
}

impl Default for Caps {
    fn default() -> Self {
        Self::all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_list_is_sorted_so_that_it_can_be_searched() {
        assert!(KNOWN.is_sorted());
    }

    #[test]
    fn unknown_capabilities_of_a_newer_builder_are_dropped() {
        let caps = Caps::of(["mergeop", "teleport"]);
        assert!(caps.supports(MERGE));
        assert!(!caps.supports("teleport"));
        assert!(!caps.supports(DIFF));
    }

    #[test]
    fn a_capability_can_be_taken_away() {
        assert!(Caps::all().supports(MERGE));
        assert!(!Caps::all().without(MERGE).supports(MERGE));
    }
}
