//! What a builder can do, as its answer to `Ping` says. Decisions are made from this and never
//! from a version, because distributions build BuildKit with versions of their own.

use crate::proto::moby::buildkit::v1::{apicaps::ApiCap, frontend::PongResponse, types};
use std::collections::BTreeSet;

/// The gateway's capabilities of builders that are older than `Ping`'s lists.
const FROZEN_FRONTEND: &[&str] = &["readfile", "resolveimage", "solve.base", "solve.inlinereturn"];

/// The graph's capabilities of builders that are older than `Ping`'s lists. The odd spelling is
/// the one on the wire.
const FROZEN_LLB: &[&str] = &[
    "constraints",
    "exec.meta.base",
    "exec.meta.proxyenv",
    "exec.mount.bind",
    "exec.mount.cache",
    "exec.mount.cache.sharing",
    "exec.mount.secret",
    "exec.mount.selector",
    "exec.mount.tmpfs",
    "meta.description",
    "meta.exportcache",
    "meta.ignorecache",
    "platform",
    "soruce.http.uidgid",
    "source.buildop.llbfilename",
    "source.git",
    "source.git.fullurl",
    "source.git.keepgitdir",
    "source.http",
    "source.http.checksum",
    "source.http.perm",
    "source.image",
    "source.local",
    "source.local.excludepatterns",
    "source.local.followpaths",
    "source.local.includepatterns",
    "source.local.sessionid",
    "source.local.sharedkeyhint",
    "source.local.unique",
];

/// What a builder can do and who does it there.
#[derive(Clone, Debug, Default)]
pub struct Capabilities {
    /// Enabled capabilities of the gateway's calls.
    pub frontend: BTreeSet<String>,
    /// Enabled capabilities of the graph.
    pub llb: BTreeSet<String>,
    /// The workers; the first one is the default.
    pub workers: Vec<types::WorkerRecord>,
}

impl Capabilities {
    /// Reads an answer to `Ping`.
    pub fn new(pong: PongResponse) -> Self {
        Self {
            frontend: enabled(&pong.frontend_api_caps, FROZEN_FRONTEND),
            llb: enabled(&pong.llb_caps, FROZEN_LLB),
            workers: pong.workers,
        }
    }

    /// Whether the gateway can do `id`.
    pub fn has_frontend(&self, id: &str) -> bool {
        self.frontend.contains(id)
    }

    /// Whether the graph can hold `id`.
    pub fn has_llb(&self, id: &str) -> bool {
        self.llb.contains(id)
    }
}

fn enabled(capabilities: &[ApiCap], frozen: &[&str]) -> BTreeSet<String> {
    if capabilities.is_empty() {
        return frozen.iter().map(|id| (*id).to_owned()).collect();
    }
    capabilities.iter().filter(|cap| cap.enabled).map(|cap| cap.id.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_builder_without_lists_has_the_frozen_ones() {
        let old = Capabilities::new(PongResponse::default());
        assert!(old.has_frontend("readfile") && !old.has_frontend("return"));
        assert!(old.has_llb("source.local") && !old.has_llb("mergeop"));
    }

    #[test]
    fn a_disabled_capability_is_none() {
        let cap = |id: &str, enabled| ApiCap { id: id.to_owned(), enabled, ..ApiCap::default() };
        let pong = PongResponse {
            llb_caps: vec![cap("mergeop", true), cap("diffop", false)],
            ..PongResponse::default()
        };
        let capabilities = Capabilities::new(pong);
        assert!(capabilities.has_llb("mergeop"));
        assert!(!capabilities.has_llb("diffop") && !capabilities.has_llb("source.local"));
    }
}
