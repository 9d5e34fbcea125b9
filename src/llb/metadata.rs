//! What an op says about itself beside what it does: names, caching, capabilities, places.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::platform::Platform;
use super::source_map::{Range, SourceLocation, SourceMap};
use crate::proto::pb;

/// The key of an op's name in its description.
pub const NAME_KEY: &str = "llb.customname";

/// The key under which the Dockerfile frontend keeps the instruction an op was made of.
pub const COMMAND_KEY: &str = "com.docker.dockerfile.v1.command";

/// Several ops shown as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgressGroup {
    /// The same for all ops of the group.
    pub id: String,
    /// What a user reads.
    pub name: String,
    /// Whether the group is shown only where it holds more than this op.
    pub weak: bool,
}

/// Limits for the processes of an exec op; they are no part of its cache key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinuxResources {
    /// Memory, in bytes.
    pub memory: i64,
    /// Memory and swap together, in bytes; -1 is no limit.
    pub memory_swap: i64,
    /// Relative weight.
    pub cpu_shares: u64,
    /// Scheduling period, in microseconds.
    pub cpu_period: u64,
    /// Time per period, in microseconds.
    pub cpu_quota: i64,
    /// Processors, like `0-3,5`.
    pub cpuset_cpus: String,
    /// Memory nodes, like `0,1`.
    pub cpuset_mems: String,
}

/// Platform, names and metadata of one op.
#[derive(Clone, Debug, Default)]
pub struct Constraints {
    pub(super) platform: Option<Platform>,
    pub(super) ignore_cache: bool,
    pub(super) description: BTreeMap<String, String>,
    pub(super) export_cache: Option<bool>,
    pub(super) progress_group: Option<ProgressGroup>,
    pub(super) linux_resources: Option<LinuxResources>,
    pub(super) filters: Vec<String>,
    pub(super) locations: Vec<SourceLocation>,
}

impl Constraints {
    /// Nothing set.
    pub fn new() -> Self {
        Self::default()
    }

    /// An op with this name.
    pub fn named(name: impl Into<String>) -> Self {
        Self::new().name(name)
    }

    /// The name that progress shows for the op.
    #[must_use]
    pub fn name(self, name: impl Into<String>) -> Self {
        self.describe(NAME_KEY, name)
    }

    /// One entry of the description.
    #[must_use]
    pub fn describe(mut self, key: &str, value: impl Into<String>) -> Self {
        self.description.insert(key.into(), value.into());
        self
    }

    /// The platform that the op is for.
    #[must_use]
    pub fn platform(mut self, platform: Platform) -> Self {
        self.platform = Some(platform);
        self
    }

    /// Runs the op even if its result is in the cache.
    #[must_use]
    pub fn ignore_cache(mut self) -> Self {
        self.ignore_cache = true;
        self
    }

    /// Whether an exported cache holds the op's result, where the default does not fit.
    #[must_use]
    pub fn export_cache(mut self, export: bool) -> Self {
        self.export_cache = Some(export);
        self
    }

    /// Shows the op as part of a group.
    #[must_use]
    pub fn progress_group(mut self, group: ProgressGroup) -> Self {
        self.progress_group = Some(group);
        self
    }

    /// Limits the processes of the op.
    #[must_use]
    pub fn linux_resources(mut self, resources: LinuxResources) -> Self {
        self.linux_resources = Some(resources);
        self
    }

    /// Asks for a worker that matches a filter.
    #[must_use]
    pub fn worker_filter(mut self, filter: impl Into<String>) -> Self {
        self.filters.push(filter.into());
        self
    }

    /// Says which lines of a file the op stands for.
    #[must_use]
    pub fn location(mut self, map: &Arc<SourceMap>, ranges: Vec<Range>) -> Self {
        self.locations.push(SourceLocation { map: Arc::clone(map), ranges });
        self
    }

    pub(super) fn metadata(&self, caps: &BTreeSet<&'static str>) -> pb::OpMetadata {
        pb::OpMetadata {
            ignore_cache: self.ignore_cache,
            description: self.description.clone(),
            export_cache: self.export_cache.map(|value| pb::ExportCache { value }),
            caps: caps.iter().map(|id| ((*id).to_owned(), true)).collect(),
            progress_group: self.progress_group.as_ref().map(|group| pb::ProgressGroup {
                id: group.id.clone(),
                name: group.name.clone(),
                weak: group.weak,
            }),
            linux_resources: self.linux_resources.as_ref().map(|limits| pb::LinuxResources {
                memory: limits.memory,
                memory_swap: limits.memory_swap,
                cpu_shares: limits.cpu_shares,
                cpu_period: limits.cpu_period,
                cpu_quota: limits.cpu_quota,
                cpuset_cpus: limits.cpuset_cpus.clone(),
                cpuset_mems: limits.cpuset_mems.clone(),
            }),
        }
    }

    pub(super) fn filters(&self) -> pb::WorkerConstraints {
        pb::WorkerConstraints { filter: self.filters.clone() }
    }
}

/// Adds the metadata of another op with the same digest: what the later one says wins.
pub(super) fn merge(into: &mut pb::OpMetadata, later: pb::OpMetadata) {
    into.ignore_cache |= later.ignore_cache;
    into.description.extend(later.description);
    into.caps.extend(later.caps);
    if later.export_cache.is_some() {
        into.export_cache = later.export_cache;
    }
    if later.progress_group.is_some() {
        into.progress_group = later.progress_group;
    }
    if later.linux_resources.is_some() {
        into.linux_resources = later.linux_resources;
    }
}
