//! A plan as a frontend reads it: attributes, in the words that every BuildKit frontend knows.
//! Nothing secret goes in here, because builders keep them in their history.

use super::{builder::Builder, caches::import_list, error::Refusal};
use crate::{
    buildkit::capabilities::Capabilities,
    llb::{Platform, caps},
    plan::{BuildPlan, Network},
};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// Names of attributes to their values.
pub type Attributes = BTreeMap<String, String>;

/// The attestation that every image gets unless the user says otherwise, as buildx adds it: what
/// the image was built from, where an exporter can put that into the image.
pub(super) const DEFAULT_PROVENANCE: &str = "mode=min,inline-only=true";

/// The attribute with the caches to read, less what is secret of them.
pub(super) const CACHE_IMPORTS: &str = "cache-imports";

/// The entitlement that a build on the host's network needs.
const HOST_NETWORK_ENTITLEMENT: &str = "network.host";

/// The attributes that say what is built and how; those that say from which files come with the
/// [sources](super::sources).
///
/// # Errors
/// The plan asks for what this builder cannot do, or for what is no platform or address.
pub fn attributes(plan: &BuildPlan, builder: &Builder) -> Result<Attributes, Refusal> {
    let mut attributes = Attributes::new();
    let mut set = |key: &str, value: String| {
        attributes.insert(key.to_owned(), value);
    };

    for (name, value) in &plan.args {
        set(&format!("build-arg:{name}"), value.clone());
    }
    for (name, value) in &plan.labels {
        set(&format!("label:{name}"), value.clone());
    }
    if let Some(target) = &plan.target {
        set("target", target.clone());
    }
    let platforms = platforms(plan, builder)?;
    if !platforms.is_empty() {
        set("platform", platforms.join(","));
    }
    if plan.args.get("BUILDKIT_MULTI_PLATFORM").is_some_and(|value| is_true(value)) {
        set("multi-platform", "true".to_owned());
    }
    if plan.no_cache {
        set("no-cache", String::new());
    } else if !plan.no_cache_filter.is_empty() {
        set("no-cache", plan.no_cache_filter.join(","));
    }
    if plan.pull {
        set("image-resolve-mode", "pull".to_owned());
    } else if builder.is_docker() {
        // People expect of a Docker that it builds from the images that it holds.
        set("image-resolve-mode", "local".to_owned());
    }
    match plan.network {
        Network::Default => {}
        Network::Host => set("force-network-mode", "host".to_owned()),
        Network::None => set("force-network-mode", "none".to_owned()),
    }
    if !plan.extra_hosts.is_empty() {
        set("add-hosts", extra_hosts(plan, builder)?);
    }
    if let Some(size) = plan.shm_size.filter(|size| *size > 0) {
        set("shm-size", size.to_string());
    }
    if !plan.ulimits.is_empty() {
        let limits: Vec<String> = plan
            .ulimits
            .iter()
            .map(|limit| format!("{}={}:{}", limit.name, limit.soft, limit.hard))
            .collect();
        set("ulimit", limits.join(","));
    }
    if let Some(parent) = &plan.cgroup_parent {
        set("cgroup-parent", parent.clone());
    }
    for (kind, value) in attestations(plan, builder)? {
        set(&format!("attest:{kind}"), value);
    }
    if let Some(checkout) = &plan.checkout {
        set("vcs:revision", checkout.revision.clone());
        if let Some(source) = &checkout.source {
            set("vcs:source", source.clone());
        }
    }
    if !plan.cache_from.is_empty() {
        let entries = plan.cache_from.iter().map(|entry| (&entry.kind, &entry.attributes));
        set(CACHE_IMPORTS, import_list(entries));
    }
    Ok(attributes)
}

/// The entitlements that the builder is asked to grant.
pub fn entitlements(plan: &BuildPlan) -> Vec<String> {
    let mut granted = plan.allow.clone();
    let host = HOST_NETWORK_ENTITLEMENT.to_owned();
    if plan.network == Network::Host && !granted.contains(&host) {
        granted.push(host);
    }
    granted
}

/// The platforms in BuildKit's spelling.
fn platforms(plan: &BuildPlan, builder: &Builder) -> Result<Vec<String>, Refusal> {
    if plan.platforms.len() > 1 && !builder.has_indexes() {
        return Err(Refusal::new(
            "PLATFORMS_UNSUPPORTED",
            "this Docker keeps images of one platform only",
        )
        .with_fix("name one --platform, turn on Docker's containerd image store, or use another --builder"));
    }
    plan.platforms
        .iter()
        .map(|text| match Platform::parse(text) {
            Ok(platform) => Ok(platform.normalized().format_all()),
            Err(error) => {
                Err(Refusal::new("PLATFORM_INVALID", format!("`{text}` is no platform: {error}"))
                    .with_fix("write it as OS/ARCH[/VARIANT], such as linux/arm64"))
            }
        })
        .collect()
}

/// `HOST=IP` pairs; a name with several addresses comes several times.
fn extra_hosts(plan: &BuildPlan, builder: &Builder) -> Result<String, Refusal> {
    let mut pairs = Vec::new();
    for extra in &plan.extra_hosts {
        if extra.ip == "host-gateway" {
            let address = builder.host_gateway.as_deref().ok_or_else(|| {
                Refusal::new(
                    "HOST_GATEWAY_UNKNOWN",
                    "this builder does not say which address `host-gateway` is",
                )
                .with_fix(format!("write --add-host {}:ADDRESS", extra.host))
            })?;
            pairs.push(format!("{}={address}", extra.host));
            continue;
        }
        for part in extra.ip.split(',') {
            let bare =
                part.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(part);
            let address: IpAddr = bare.parse().map_err(|_| {
                Refusal::new("HOST_INVALID", format!("`{part}` is no address of `{}`", extra.host))
                    .with_fix("write --add-host HOST:IP, or HOST:host-gateway")
            })?;
            // As given, but for addresses that Go prints otherwise.
            let text = match address {
                IpAddr::V4(v4) => Ipv4Addr::to_string(&v4),
                IpAddr::V6(v6) => Ipv6Addr::to_string(&v6),
            };
            pairs.push(format!("{}={text}", extra.host));
        }
    }
    Ok(pairs.join(","))
}

/// What the plan needs and only the running build can be asked for.
///
/// # Errors
/// The builder lacks it.
pub fn check(
    plan: &BuildPlan,
    exporters: usize,
    capabilities: &Capabilities,
) -> Result<(), Refusal> {
    if exporters > 1 && !capabilities.has_llb("exporter.multiple") {
        return Err(Refusal::new("OUTPUTS_UNSUPPORTED", "this builder makes one output at a time")
            .with_fix("name one -o/--output, or use a newer builder"));
    }
    if plan.attestations.values().any(Option::is_some)
        && !capabilities.has_llb("exporter.image.attestations")
    {
        return Err(no_attestations(plan));
    }
    // Frontends leave out of the graph what the builder does not know, without a word.
    let needs = [
        (plan.shm_size.is_some_and(|size| size > 0), caps::MOUNT_TMPFS_SIZE, "--shm-size"),
        (!plan.ulimits.is_empty(), caps::EXEC_ULIMIT, "--ulimit"),
        (plan.cgroup_parent.is_some(), caps::EXEC_CGROUP_PARENT, "--cgroup-parent"),
        (plan.network != Network::Default, caps::EXEC_NETWORK, "--network"),
    ];
    for (is_needed, capability, flag) in needs {
        if is_needed && !capabilities.has_llb(capability) {
            return Err(Refusal::new(
                "FLAG_UNSUPPORTED",
                format!("this builder does not know {flag} (it lacks `{capability}`)"),
            )
            .with_fix(format!("leave {flag} out, or use a newer builder")));
        }
    }
    Ok(())
}

/// Attestations by type: what the user asked for, and by default what buildx adds. Builders that
/// know none pass over them.
fn attestations(plan: &BuildPlan, builder: &Builder) -> Result<Vec<(String, String)>, Refusal> {
    let mut asked: Vec<(String, String)> = plan
        .attestations
        .iter()
        .filter_map(|(kind, value)| Some((kind.clone(), value.clone()?)))
        .collect();
    if plan.reproducible.is_some() {
        if asked.is_empty() {
            return Ok(asked);
        }
        return Err(Refusal::new(
            "ATTESTATIONS_NOT_REPRODUCIBLE",
            "an attestation says when it was made, so no two are the same",
        )
        .with_fix("leave out --attest, --provenance and --sbom, or --reproducible"));
    }
    if !builder.has_indexes() {
        return if asked.is_empty() { Ok(asked) } else { Err(no_attestations(plan)) };
    }
    if !plan.no_default_attestations && !plan.attestations.contains_key("provenance") {
        asked.push(("provenance".to_owned(), DEFAULT_PROVENANCE.to_owned()));
    }
    Ok(asked)
}

fn no_attestations(plan: &BuildPlan) -> Refusal {
    let kinds: Vec<&str> = plan
        .attestations
        .iter()
        .filter(|(_, value)| value.is_some())
        .map(|(kind, _)| kind.as_str())
        .collect();
    Refusal::new(
        "ATTESTATIONS_UNSUPPORTED",
        format!("this builder cannot attach attestations ({})", kinds.join(", ")),
    )
    .with_fix("leave out --attest, --provenance and --sbom, or use another --builder")
}

/// Go's reading of a true value.
pub fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        pipeline::builder::BuilderKind,
        plan::{CacheEntry, ExtraHost, Ulimit},
    };

    fn docker() -> Builder {
        Builder {
            kind: BuilderKind::DockerContainerd,
            host_gateway: Some("10.0.0.1".to_owned()),
            platforms: Vec::new(),
        }
    }

    fn capable() -> Capabilities {
        let llb = ["exporter.image.attestations", "exec.meta.ulimit"].map(str::to_owned).into();
        Capabilities { llb, ..Capabilities::default() }
    }

    fn host(host: &str, ip: &str) -> ExtraHost {
        ExtraHost { host: host.to_owned(), ip: ip.to_owned() }
    }

    #[test]
    fn a_full_plan_is_told_in_buildkits_words() {
        let plan = BuildPlan {
            target: Some("app".to_owned()),
            platforms: vec!["linux/arm64/v8".to_owned(), "amd64".to_owned()],
            args: BTreeMap::from([("A".to_owned(), "1 2".to_owned())]),
            labels: BTreeMap::from([("l".to_owned(), "x".to_owned())]),
            no_cache_filter: vec!["a".to_owned(), "b".to_owned()],
            pull: true,
            network: Network::Host,
            extra_hosts: vec![host("h", "host-gateway"), host("six", "[::1],10.0.0.2")],
            shm_size: Some(1 << 26),
            ulimits: vec![Ulimit { name: "nofile".to_owned(), soft: 10, hard: -1 }],
            cgroup_parent: Some("/g".to_owned()),
            attestations: BTreeMap::from([("provenance".to_owned(), None)]),
            cache_from: vec![CacheEntry {
                kind: "registry".to_owned(),
                attributes: BTreeMap::from([("ref".to_owned(), "r/c".to_owned())]),
            }],
            ..BuildPlan::default()
        };
        let attributes = attributes(&plan, &docker()).expect("attributes");
        let expected: Vec<(&str, &str)> = vec![
            ("add-hosts", "h=10.0.0.1,six=::1,six=10.0.0.2"),
            ("build-arg:A", "1 2"),
            ("cache-imports", r#"[{"Type":"registry","Attrs":{"ref":"r/c"}}]"#),
            ("cgroup-parent", "/g"),
            ("force-network-mode", "host"),
            ("image-resolve-mode", "pull"),
            ("label:l", "x"),
            ("no-cache", "a,b"),
            ("platform", "linux/arm64,linux/amd64"),
            ("shm-size", "67108864"),
            ("target", "app"),
            ("ulimit", "nofile=10:-1"),
        ];
        let actual: Vec<(&str, &str)> =
            attributes.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(actual, expected);
        assert_eq!(entitlements(&plan), ["network.host"]);
    }

    #[test]
    fn provenance_is_added_where_the_builder_can_and_nobody_said_no() {
        let plain = BuildPlan::default();
        let with = attributes(&plain, &Builder::default()).expect("attributes");
        assert_eq!(with.get("attest:provenance").map(String::as_str), Some(DEFAULT_PROVENANCE));
        let old = Builder { kind: BuilderKind::DockerGraphdriver, ..Builder::default() };
        let without = attributes(&plain, &old).expect("attributes");
        assert!(!without.contains_key("attest:provenance"));
        let off = BuildPlan { no_default_attestations: true, ..BuildPlan::default() };
        let without = attributes(&off, &Builder::default()).expect("attributes");
        assert!(!without.contains_key("attest:provenance"));
    }

    #[test]
    fn what_only_the_build_can_be_asked_for_is_checked_then() {
        let sbom = BTreeMap::from([("sbom".to_owned(), Some(String::new()))]);
        let asking = BuildPlan { attestations: sbom, ..BuildPlan::default() };
        let code = |plan: &BuildPlan, exporters, capabilities: &Capabilities| {
            check(plan, exporters, capabilities).map_err(|refusal| refusal.code)
        };
        let none = Capabilities::default();
        assert_eq!(code(&asking, 1, &capable()), Ok(()));
        assert_eq!(code(&asking, 1, &none), Err("ATTESTATIONS_UNSUPPORTED"));
        assert_eq!(code(&BuildPlan::default(), 1, &none), Ok(()));
        assert_eq!(code(&BuildPlan::default(), 2, &none), Err("OUTPUTS_UNSUPPORTED"));
        let limit = Ulimit { name: "nofile".to_owned(), soft: 1, hard: 1 };
        let limited = BuildPlan { ulimits: vec![limit], ..BuildPlan::default() };
        assert_eq!(code(&limited, 1, &capable()), Ok(()));
        assert_eq!(code(&limited, 1, &none), Err("FLAG_UNSUPPORTED"));
        let parent = BuildPlan { cgroup_parent: Some("a".to_owned()), ..BuildPlan::default() };
        assert_eq!(code(&parent, 1, &capable()), Err("FLAG_UNSUPPORTED"));
    }

    #[test]
    fn what_the_builder_cannot_do_is_refused_with_a_code() {
        let old = Builder { kind: BuilderKind::DockerGraphdriver, ..Builder::default() };
        let code = |plan: &BuildPlan| attributes(plan, &old).map_err(|r| r.code);
        let two = vec!["linux/arm64".to_owned(), "linux/amd64".to_owned()];
        assert_eq!(
            code(&BuildPlan { platforms: two, ..BuildPlan::default() }),
            Err("PLATFORMS_UNSUPPORTED")
        );
        let sbom = BTreeMap::from([("sbom".to_owned(), Some(String::new()))]);
        assert_eq!(
            code(&BuildPlan { attestations: sbom, ..BuildPlan::default() }),
            Err("ATTESTATIONS_UNSUPPORTED")
        );
        let gateway = vec![host("h", "host-gateway")];
        assert_eq!(
            code(&BuildPlan { extra_hosts: gateway, ..BuildPlan::default() }),
            Err("HOST_GATEWAY_UNKNOWN")
        );
        assert_eq!(
            code(&BuildPlan { platforms: vec!["a b".to_owned()], ..BuildPlan::default() }),
            Err("PLATFORM_INVALID")
        );
    }
}
