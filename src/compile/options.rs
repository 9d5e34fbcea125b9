//! The options of a build, read from the attributes that a frontend is given.
//!
//! Attributes are what buildx makes of its flags and what a builder keeps in its history, so they
//! are the one form in which options reach a compiler, this one as well as BuildKit's own.

use core::net::IpAddr;
use std::collections::BTreeMap;
use thiserror::Error;

use crate::dockerfile::{csv, lint, quote, scalar};
use crate::llb::{
    HostAddress, LinuxResources, Network, Platform, PlatformError, ProxyEnv, ResolveMode, Ulimit,
};

/// Attributes that cannot be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OptionError {
    /// A target platform that is none.
    #[error("failed to parse target platform {text}: {error}")]
    Platform {
        /// The platform.
        text: String,
        /// What is wrong with it.
        error: String,
    },
    /// A word that the attribute does not have.
    #[error("invalid {name}: {value}")]
    Word {
        /// The attribute.
        name: &'static str,
        /// The word.
        value: String,
    },
    /// A network that builds do not have.
    #[error("invalid netmode {0}")]
    Netmode(String),
    /// Hosts that cannot be read.
    #[error("failed to parse additional hosts: {0}")]
    Hosts(String),
    /// The size of `/dev/shm` is no number of bytes.
    #[error("failed to parse shm size: {} is not a number of bytes", quote(.0))]
    ShmSize(String),
    /// Limits that cannot be read.
    #[error("failed to parse ulimit: {0}")]
    Ulimit(String),
    /// A limit on processors or memory that cannot be.
    #[error("failed to parse resource limits: invalid {name} value: {value}: {reason}")]
    Resource {
        /// The attribute.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it must be, or what of it is wrong.
        reason: String,
    },
    /// Something else than a truth value.
    #[error("invalid boolean value for {name}: {value}")]
    Boolean {
        /// The attribute.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// Several platforms, and only one result wanted.
    #[error("conflicting config: returning multiple target platforms is not allowed")]
    OneResultForSeveralPlatforms,
    /// The lint options of the build argument.
    #[error("failed to parse build-arg:BUILDKIT_DOCKERFILE_CHECK: {0}")]
    Check(lint::OptionsError),
    /// Something that BuildKit has given up.
    #[error("support for {name:?}{kind} was removed in BuildKit 0.11")]
    Removed {
        /// The attribute or build argument.
        name: &'static str,
        /// ` build-arg` where it is one, or nothing.
        kind: &'static str,
    },
}

/// What a build is asked to do.
#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    pub(super) build_args: BTreeMap<String, String>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) target: String,
    pub(super) platforms: Vec<Platform>,
    pub(super) multi_platform: bool,
    pub(super) resolve_mode: ResolveMode,
    pub(super) hosts: Vec<HostAddress>,
    pub(super) ulimits: Vec<Ulimit>,
    pub(super) shm_size: i64,
    pub(super) cgroup_parent: String,
    pub(super) hostname: String,
    pub(super) network: Network,
    pub(super) resources: Option<LinuxResources>,
    pub(super) cache_namespace: String,
    pub(super) no_cache: NoCache,
    pub(super) lint: Option<lint::Options>,
    pub(super) filename: String,
    pub(super) context: ContextOptions,
    pub(super) contexts: BTreeMap<String, String>,
    pub(super) shared_keys: BTreeMap<String, String>,
    pub(super) sessions: BTreeMap<String, String>,
}

/// Which stages are run even if their results are in the cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum NoCache {
    #[default]
    None,
    All,
    Stages(Vec<String>),
}

impl NoCache {
    pub(super) fn holds(&self, stage: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Stages(names) => names.iter().any(|name| name.eq_ignore_ascii_case(stage)),
        }
    }
}

/// Where the main context and the Dockerfile come from.
#[derive(Clone, Debug, Default)]
pub(super) struct ContextOptions {
    /// The address of a remote context; empty where the client has it.
    pub(super) address: String,
    /// The directory of a remote context that is meant.
    pub(super) subdir: Option<String>,
    /// The name of the local source that has the Dockerfile, where it is not in the context.
    pub(super) dockerfile_local: Option<String>,
    pub(super) keep_git_dir: bool,
}

type Attrs = BTreeMap<String, String>;

impl Options {
    pub(super) fn parse(attrs: &Attrs) -> Result<Self, OptionError> {
        refuse_removed(attrs)?;
        let get = |name: &str| attrs.get(name).map_or("", String::as_str);
        let platforms = platforms(get("platform"))?;
        let multi_platform = multi_platform(attrs, platforms.len() > 1)?;
        let lint = attrs.get("build-arg:BUILDKIT_DOCKERFILE_CHECK");
        let build_args = prefixed(attrs, "build-arg:");
        let hostname = match get("build-arg:BUILDKIT_SANDBOX_HOSTNAME") {
            "" => get("hostname"),
            name => name,
        };
        Ok(Self {
            labels: prefixed(attrs, "label:"),
            target: get("target").into(),
            platforms,
            multi_platform,
            resolve_mode: match get("image-resolve-mode") {
                "" | "default" => ResolveMode::Default,
                "pull" => ResolveMode::ForcePull,
                "local" => ResolveMode::PreferLocal,
                other => {
                    let value = other.into();
                    return Err(OptionError::Word { name: "image-resolve-mode", value });
                }
            },
            hosts: hosts(get("add-hosts"))?,
            ulimits: ulimits(get("ulimit"))?,
            shm_size: match get("shm-size") {
                "" => 0,
                text => text.parse().map_err(|_| OptionError::ShmSize(text.into()))?,
            },
            cgroup_parent: get("cgroup-parent").into(),
            hostname: hostname.into(),
            network: match get("force-network-mode") {
                "" | "sandbox" => Network::Sandbox,
                "host" => Network::Host,
                "none" => Network::None,
                other => {
                    return Err(OptionError::Netmode(other.into()));
                }
            },
            resources: resources(attrs)?,
            cache_namespace: get("build-arg:BUILDKIT_CACHE_MOUNT_NS").into(),
            no_cache: match attrs.get("no-cache").map(String::as_str) {
                None => NoCache::None,
                Some("") => NoCache::All,
                Some(names) => NoCache::Stages(names.split(',').map(str::to_owned).collect()),
            },
            lint: lint
                .map(|text| lint::Options::parse(text).map_err(OptionError::Check))
                .transpose()?,
            filename: attrs.get("filename").map_or_else(|| "Dockerfile".into(), Clone::clone),
            context: ContextOptions {
                address: get(attrs.get("contextkey").map_or("context", String::as_str)).into(),
                subdir: attrs.get("contextsubdir").cloned(),
                dockerfile_local: attrs.get("dockerfilekey").cloned(),
                keep_git_dir: scalar::boolean(get("build-arg:BUILDKIT_CONTEXT_KEEP_GIT_DIR"))
                    .unwrap_or_default(),
            },
            contexts: prefixed(attrs, "context:"),
            shared_keys: prefixed(attrs, "sharedkey:localdir:"),
            sessions: prefixed(attrs, "local-sessionid:"),
            build_args,
        })
    }

    /// The proxies that build arguments name, in whatever case.
    pub(super) fn proxy(build_args: &Attrs) -> Option<ProxyEnv> {
        let mut proxy = ProxyEnv::default();
        let mut found = false;
        for (name, value) in build_args {
            let slot = match name.to_ascii_lowercase().as_str() {
                "http_proxy" => &mut proxy.http,
                "https_proxy" => &mut proxy.https,
                "ftp_proxy" => &mut proxy.ftp,
                "no_proxy" => &mut proxy.no,
                "all_proxy" => &mut proxy.all,
                _ => continue,
            };
            slot.clone_from(value);
            found = true;
        }
        found.then_some(proxy)
    }
}

fn prefixed(attrs: &Attrs, prefix: &str) -> Attrs {
    attrs
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix(prefix)?.to_owned(), value.clone())))
        .collect()
}

fn refuse_removed(attrs: &Attrs) -> Result<(), OptionError> {
    if attrs.get("override-copy-image").is_some_and(|image| !image.is_empty()) {
        return Err(OptionError::Removed { name: "override-copy-image", kind: "" });
    }
    let name = "BUILDKIT_DISABLE_FILEOP";
    let value = attrs.get(&format!("build-arg:{name}"));
    if value.and_then(|value| scalar::boolean(value)) == Some(true) {
        return Err(OptionError::Removed { name, kind: " build-arg" });
    }
    Ok(())
}

fn platforms(text: &str) -> Result<Vec<Platform>, OptionError> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    text.split(',')
        .map(|text| {
            let platform = Platform::parse(text).map_err(|error: PlatformError| {
                OptionError::Platform { text: text.into(), error: error.to_string() }
            })?;
            Ok(platform.normalized())
        })
        .collect()
}

fn multi_platform(attrs: &Attrs, several: bool) -> Result<bool, OptionError> {
    let argument = attrs.get("build-arg:BUILDKIT_MULTI_PLATFORM").filter(|text| !text.is_empty());
    let Some(text) = argument.or(attrs.get("multi-platform")).filter(|text| !text.is_empty())
    else {
        return Ok(several);
    };
    let wanted = scalar::boolean(text)
        .ok_or_else(|| OptionError::Boolean { name: "multi-platform", value: text.clone() })?;
    if several && !wanted {
        return Err(OptionError::OneResultForSeveralPlatforms);
    }
    Ok(wanted)
}

fn hosts(text: &str) -> Result<Vec<HostAddress>, OptionError> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let fields = csv::fields(text).map_err(|error| OptionError::Hosts(error.to_string()))?;
    fields
        .iter()
        .map(|field| {
            let field = field.to_lowercase();
            let (host, address) = field
                .split_once('=')
                .ok_or_else(|| OptionError::Hosts(format!("invalid key-value pair {field}")))?;
            let parsed: IpAddr = address
                .parse()
                .map_err(|_| OptionError::Hosts(format!("failed to parse IP {address}")))?;
            Ok(HostAddress { host: host.into(), address: parsed.to_canonical() })
        })
        .collect()
}

/// The limits that a step can be given, as `docker run --ulimit` names them.
pub const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

fn ulimits(text: &str) -> Result<Vec<Ulimit>, OptionError> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let fields = csv::fields(text).map_err(|error| OptionError::Ulimit(error.to_string()))?;
    fields.iter().map(|field| ulimit(field)).collect()
}

fn ulimit(text: &str) -> Result<Ulimit, OptionError> {
    let wrong = |reason: String| OptionError::Ulimit(reason);
    let (name, limits) =
        text.split_once('=').ok_or_else(|| wrong(format!("invalid ulimit argument: {text}")))?;
    if !ULIMITS.contains(&name) {
        return Err(wrong(format!("invalid ulimit type: {name}")));
    }
    let number = |text: &str| {
        text.parse::<i64>().map_err(|_| wrong(format!("{text:?} is not a whole number")))
    };
    let limits: Vec<&str> = limits.split(':').collect();
    let (soft, hard) = match limits.as_slice() {
        [soft] => (number(soft)?, number(soft)?),
        [soft, hard] => (number(soft)?, number(hard)?),
        _ => return Err(wrong(format!("too many limits in {text:?}, at most soft and hard"))),
    };
    if hard != -1 && (soft == -1 || soft > hard) {
        let rule = "ulimit soft limit must be less than or equal to hard limit";
        let found = if soft == -1 {
            format!("soft: -1 (unlimited), hard: {hard}")
        } else {
            format!("{soft} > {hard}")
        };
        return Err(wrong(format!("{rule}: {found}")));
    }
    Ok(Ulimit { name: name.into(), soft, hard })
}

fn resources(attrs: &Attrs) -> Result<Option<LinuxResources>, OptionError> {
    let mut resources = LinuxResources::default();
    if let Some(value) = number(attrs, "memory", signed, "must be > 0", |number| number > 0)? {
        resources.memory = value;
    }
    let rule = "must be -1 (unlimited) or > 0";
    if let Some(value) =
        number(attrs, "memswap", signed, rule, |number| number == -1 || number > 0)?
    {
        resources.memory_swap = value;
    }
    let rule = "must be > 0";
    if let Some(value) = number(attrs, "cpushares", unsigned, rule, |number| number > 0)? {
        resources.cpu_shares = value;
    }
    if let Some(value) = number(attrs, "cpuperiod", unsigned, rule, |number| number > 0)? {
        resources.cpu_period = value;
    }
    if let Some(value) = number(attrs, "cpuquota", signed, rule, |number| number > 0)? {
        resources.cpu_quota = value;
    }
    resources.cpuset_cpus = cpuset(attrs, "cpusetcpus")?;
    resources.cpuset_mems = cpuset(attrs, "cpusetmems")?;
    Ok((resources != LinuxResources::default()).then_some(resources))
}

/// A number without a sign, as Go reads one: not even a plus may stand before it.
fn unsigned(text: &str) -> Option<u64> {
    text.parse().ok().filter(|_| !text.starts_with('+'))
}

fn signed(text: &str) -> Option<i64> {
    text.parse().ok()
}

fn number<T: Copy>(
    attrs: &Attrs,
    name: &'static str,
    parse: impl Fn(&str) -> Option<T>,
    rule: &'static str,
    fits: impl Fn(T) -> bool,
) -> Result<Option<T>, OptionError> {
    let Some(text) = attrs.get(name).filter(|text| !text.is_empty()) else { return Ok(None) };
    let wrong = |reason: &str| {
        let reason = reason.to_owned();
        OptionError::Resource { name, value: text.clone(), reason }
    };
    let number = parse(text).ok_or_else(|| wrong("not a whole number, or too large"))?;
    if fits(number) { Ok(Some(number)) } else { Err(wrong(rule)) }
}

/// The highest number of a processor or memory node that a set may name.
const MAX_CPU: u32 = 8192;

fn cpuset(attrs: &Attrs, name: &'static str) -> Result<String, OptionError> {
    let Some(text) = attrs.get(name) else { return Ok(String::new()) };
    let number = |text: &str| text.trim().parse::<u32>().ok();
    // What is wrong with a part of the set, if anything.
    let problem = |part: &str| {
        let (kind, highest) = match part.split_once('-') {
            None => ("element", number(part)),
            Some((low, high)) => {
                let ends = number(low).zip(number(high)).filter(|(low, high)| low <= high);
                ("range", ends.map(|(_, high)| high))
            }
        };
        match highest {
            None => Some(format!("invalid cpuset {kind} {}", quote(part))),
            Some(highest) if highest > MAX_CPU => {
                Some(format!("cpuset {kind} {} exceeds maximum {MAX_CPU}", quote(part)))
            }
            Some(_) => None,
        }
    };
    let mut parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    match parts.find_map(problem) {
        None => Ok(text.clone()),
        Some(reason) => Err(OptionError::Resource { name, value: text.clone(), reason }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(attrs: &[(&str, &str)]) -> Result<Options, String> {
        let attrs = attrs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Options::parse(&attrs).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_is_a_build_of_the_last_stage() {
        let options = parsed(&[]).unwrap();
        assert_eq!(options.filename, "Dockerfile");
        assert!(!options.multi_platform);
        assert!(!options.no_cache.holds("x"));
    }

    #[test]
    fn several_platforms_are_several_results() {
        let options = parsed(&[("platform", "linux/arm64/v8,linux/amd64")]).unwrap();
        assert!(options.multi_platform);
        assert_eq!(options.platforms[0].format(), "linux/arm64");
        let attrs = [("platform", "linux/arm64,linux/amd64"), ("multi-platform", "false")];
        assert!(parsed(&attrs).is_err());
        assert!(parsed(&[("build-arg:BUILDKIT_MULTI_PLATFORM", "1")]).unwrap().multi_platform);
    }

    #[test]
    fn limits_are_checked() {
        assert!(parsed(&[("ulimit", "nofile=1024:2048,core=0")]).is_ok());
        for text in ["nofile", "files=1", "nofile=2:1", "nofile=-1:5", "nofile=1:2:3"] {
            assert!(parsed(&[("ulimit", text)]).is_err(), "{text}");
        }
        assert!(parsed(&[("memory", "0")]).is_err());
        assert!(parsed(&[("memory", "+5")]).is_ok());
        assert!(parsed(&[("cpushares", "+5")]).is_err());
        assert!(parsed(&[("memswap", "-1")]).is_ok());
        assert!(parsed(&[("cpusetcpus", "0-3, 5")]).is_ok());
        assert!(parsed(&[("cpusetcpus", "3-1")]).is_err());
    }

    #[test]
    fn hosts_are_names_and_addresses() {
        let options = parsed(&[("add-hosts", "DB=10.0.0.1,six=::1")]).unwrap();
        assert_eq!(options.hosts[0].host, "db");
        assert!(parsed(&[("add-hosts", "db:10.0.0.1")]).is_err());
        assert!(parsed(&[("add-hosts", "db=host")]).is_err());
    }

    #[test]
    fn no_cache_is_for_all_or_for_some() {
        assert!(parsed(&[("no-cache", "")]).unwrap().no_cache.holds("x"));
        let some = parsed(&[("no-cache", "a,B")]).unwrap().no_cache;
        assert!(some.holds("b"));
        assert!(!some.holds("c"));
    }
}
