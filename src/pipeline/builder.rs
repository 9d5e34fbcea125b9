//! What kind of builder runs the build, as its workers say. No version is ever read.

use crate::{
    buildkit::dial::Connection, llb::Platform, proto::moby::buildkit::v1::types::WorkerRecord,
};
use std::collections::BTreeMap;

/// A Docker tells its workers the address that `host-gateway` stands for; nobody else does.
const HOST_GATEWAY_LABEL: &str = "org.mobyproject.buildkit.worker.moby.host-gateway-ip";

/// A worker that keeps snapshots itself names its snapshotter; Docker's graphdrivers do not.
const SNAPSHOTTER_LABEL: &str = "org.mobyproject.buildkit.worker.snapshotter";

/// What stands around the BuildKit that we speak to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum BuilderKind {
    /// A buildkitd of its own.
    #[default]
    Standalone,
    /// A Docker that keeps images in containerd's store, and exports like a buildkitd.
    DockerContainerd,
    /// A Docker with graphdrivers: one platform, no archives of images, pushes by itself only.
    DockerGraphdriver,
}

/// What a builder's workers say of themselves.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Builder {
    /// What stands around it.
    pub kind: BuilderKind,
    /// The address that `host-gateway` stands for.
    pub host_gateway: Option<String>,
    /// The platforms it runs, its own first.
    pub platforms: Vec<Platform>,
    /// Whether it is on another machine, so that its own way to a registry is the shorter one.
    pub is_remote: bool,
}

impl Builder {
    /// Reads the workers' records; the first worker is the builder's default.
    pub fn new(workers: &[WorkerRecord]) -> Self {
        let labels: BTreeMap<&str, &str> = workers
            .iter()
            .flat_map(|worker| &worker.labels)
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        let kind =
            match (labels.contains_key(HOST_GATEWAY_LABEL), labels.contains_key(SNAPSHOTTER_LABEL))
            {
                (false, _) => BuilderKind::Standalone,
                (true, true) => BuilderKind::DockerContainerd,
                (true, false) => BuilderKind::DockerGraphdriver,
            };
        let platforms = workers.first().map(|worker| worker.platforms.as_slice());
        Self {
            kind,
            host_gateway: labels
                .get(HOST_GATEWAY_LABEL)
                .filter(|address| !address.is_empty())
                .map(|address| (*address).to_owned()),
            platforms: platforms.unwrap_or_default().iter().map(platform).collect(),
            is_remote: false,
        }
    }

    /// The builder that is reached.
    pub fn reached(connection: &Connection) -> Self {
        let engine = connection.engine.as_ref().map(|engine| engine.endpoint().is_remote());
        let is_remote = engine.unwrap_or_else(|| connection.address.is_remote());
        Self { is_remote, ..Self::new(&connection.workers) }
    }

    /// Whether it is part of a Docker.
    pub fn is_docker(&self) -> bool {
        self.kind != BuilderKind::Standalone
    }

    /// Whether it can keep and export more than one manifest: several platforms, attestations.
    pub fn has_indexes(&self) -> bool {
        self.kind != BuilderKind::DockerGraphdriver
    }
}

/// A platform as the wire has it.
pub(super) fn platform(wire: &crate::proto::pb::Platform) -> Platform {
    Platform {
        architecture: wire.architecture.clone(),
        os: wire.os.clone(),
        variant: wire.variant.clone(),
        os_version: wire.os_version.clone(),
        os_features: wire.os_features.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(labels: &[(&str, &str)]) -> WorkerRecord {
        WorkerRecord {
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ..WorkerRecord::default()
        }
    }

    #[test]
    fn kinds_are_told_apart_by_labels() {
        let snapshotter = (SNAPSHOTTER_LABEL, "overlayfs");
        let gateway = (HOST_GATEWAY_LABEL, "172.17.0.1");
        let kind = |labels: &[(&str, &str)]| Builder::new(&[worker(labels)]).kind;
        assert_eq!(kind(&[snapshotter]), BuilderKind::Standalone);
        assert_eq!(kind(&[snapshotter, gateway]), BuilderKind::DockerContainerd);
        assert_eq!(kind(&[gateway]), BuilderKind::DockerGraphdriver);
        assert_eq!(kind(&[]), BuilderKind::Standalone);
        assert_eq!(Builder::new(&[]).kind, BuilderKind::Standalone);
    }

    #[test]
    fn an_empty_gateway_address_is_none() {
        let builder = Builder::new(&[worker(&[(HOST_GATEWAY_LABEL, "")])]);
        assert!(builder.is_docker());
        assert_eq!(builder.host_gateway, None);
    }
}
