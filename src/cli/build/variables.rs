//! The variables of buildx and BuildKit that users set for good: what they mean for a build.

use super::{refused_file, usage};
use crate::{
    cli::Environment,
    config::{Git, Origin, Setting},
    credential::Secret,
    diagnostic::Diagnostic,
    pipeline::CacheDefault,
    plan::{BuildPlan, Checkout, Context, MetadataDetail, ProvenanceDetail, SourcePolicy},
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// The time that builds take for now, in seconds since 1970; also a build argument.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// A boolean variable, in Go's spellings; `otherwise` where it is not set.
pub(super) fn switch(
    environment: &Environment,
    name: &str,
    otherwise: bool,
) -> Result<bool, Box<Diagnostic>> {
    match environment.non_empty(name).as_deref() {
        None => Ok(otherwise),
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(other) => Err(usage(
            format!("`{name}` cannot be `{other}`"),
            format!("set `{name}` to `true` or `false`"),
        )),
    }
}

/// What the metadata file holds.
pub(super) fn metadata(environment: &Environment) -> Result<MetadataDetail, Box<Diagnostic>> {
    const NAME: &str = "BUILDX_METADATA_PROVENANCE";
    let provenance = match environment.non_empty(NAME).as_deref() {
        None | Some("min") => ProvenanceDetail::Min,
        Some("max") => ProvenanceDetail::Max,
        Some("disabled" | "false" | "0") => ProvenanceDetail::Disabled,
        Some(other) => {
            return Err(usage(
                format!("`{NAME}` cannot be `{other}`"),
                format!("set `{NAME}` to `min`, `max` or `disabled`"),
            ));
        }
    };
    let warnings = switch(environment, "BUILDX_METADATA_WARNINGS", false)?;
    Ok(MetadataDetail { provenance, warnings })
}

/// The source policy of a file that a flag or a variable names.
pub(super) fn source_policy(
    flag: Option<&Path>,
    environment: &Environment,
) -> Result<Option<SourcePolicy>, Box<Diagnostic>> {
    const NAME: &str = "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY";
    let (name, path) = match flag {
        Some(path) => ("--source-policy", path.to_owned()),
        None => match environment.path(NAME) {
            Some(path) => (NAME, path),
            None => return Ok(None),
        },
    };
    let text = std::fs::read(&path).map_err(|error| refused_file(name, &path, &error))?;
    let policy =
        serde_json::from_slice(&text).map_err(|error| refused_file(name, &path, &error))?;
    Ok(Some(policy))
}

/// The time of `SOURCE_DATE_EPOCH`, where no build argument says another.
pub(super) fn epoch(args: &mut BTreeMap<String, Setting<String>>, environment: &Environment) {
    if let Some(value) = environment.text(EPOCH) {
        let origin = Origin::Environment(EPOCH);
        args.entry(EPOCH.to_owned()).or_insert(Setting { value, origin });
    }
}

/// What the caches of `plan` need and the environment has, as buildx takes it from there.
pub(in crate::cli) fn cache_defaults(
    plan: &BuildPlan,
    environment: &Environment,
) -> Vec<CacheDefault> {
    const TABLE: [(&str, &str, &[&str]); 6] = [
        ("gha", "token", &["ACTIONS_RUNTIME_TOKEN"]),
        ("gha", "url", &["ACTIONS_CACHE_URL"]),
        ("gha", "url_v2", &["ACTIONS_RESULTS_URL"]),
        ("s3", "access_key_id", &["AWS_ACCESS_KEY_ID"]),
        ("s3", "secret_access_key", &["AWS_SECRET_ACCESS_KEY"]),
        ("s3", "session_token", &["AWS_SESSION_TOKEN"]),
    ];
    let used =
        |kind: &str| plan.cache_from.iter().chain(&plan.cache_to).any(|entry| entry.kind == kind);
    let mut defaults: Vec<CacheDefault> = TABLE
        .into_iter()
        .filter(|(kind, ..)| used(kind))
        .filter_map(|(kind, attribute, names)| {
            let value = names.iter().find_map(|name| environment.secret(name))?;
            Some(CacheDefault { kind, attribute, value })
        })
        .collect();
    // The second version of that service is the one that is left; old runners do not name it.
    if defaults.iter().any(|default| default.attribute == "url_v2") {
        defaults.push(CacheDefault { kind: "gha", attribute: "version", value: Secret::new("2") });
    }
    defaults
}

/// Tells the plan of the checkout that its context lies in: for the attestation, and as labels where
/// they are asked for. Where there is no checkout, there is nothing to tell.
pub(in crate::cli) fn tell_checkout(
    plan: &mut BuildPlan,
    environment: &Environment,
) -> Result<(), Box<Diagnostic>> {
    // Asking git takes time, and only a provenance tells of it.
    let has_provenance = match plan.attestations.get("provenance") {
        Some(asked) => asked.is_some(),
        None => !plan.no_default_attestations,
    };
    let wants_facts = switch(environment, "BUILDX_GIT_INFO", true)? && has_provenance;
    let labels = environment.non_empty("BUILDX_GIT_LABELS");
    let wants_all_labels = labels.as_deref() == Some("full");
    let wants_labels =
        wants_all_labels || labels.is_some() && switch(environment, "BUILDX_GIT_LABELS", false)?;
    let looks_for_changes = switch(environment, "BUILDX_GIT_CHECK_DIRTY", false)?;
    let Context::Directory(directory) = &plan.context else { return Ok(()) };
    if !wants_facts && !wants_labels {
        return Ok(());
    }
    let git = Git::new(directory);
    let Ok(mut revision) = git.sha() else { return Ok(()) };
    if looks_for_changes && git.is_dirty().unwrap_or(false) {
        revision.push_str("-dirty");
    }
    let source = git.remote().ok().map(|url| without_password(&url));
    if wants_labels {
        let mut label = |name: &str, value: String| {
            plan.labels.entry(name.to_owned()).or_insert(value);
        };
        label("org.opencontainers.image.revision", revision.clone());
        if wants_all_labels {
            if let Some(source) = &source {
                label("org.opencontainers.image.source", source.clone());
            }
            if let Some(entry) = entry_point(&git, plan.file.as_deref(), directory) {
                label("com.docker.image.source.entrypoint", entry);
            }
        }
    }
    if wants_facts {
        plan.checkout = Some(Checkout { source, revision });
    }
    Ok(())
}

/// The Dockerfile's path from the top of the checkout.
fn entry_point(git: &Git, file: Option<&str>, context: &Path) -> Option<String> {
    let file = match file {
        Some("-") => return None,
        Some(file) => PathBuf::from(file),
        None => context.join("Dockerfile"),
    };
    let top = git.top().ok()?.canonicalize().ok()?;
    let file = file.canonicalize().ok()?;
    Some(file.strip_prefix(top).ok()?.to_string_lossy().into_owned())
}

/// A URL without the user and the password in it.
fn without_password(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme @ ("http" | "https"), rest)) => {
            let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
            format!("{scheme}://{host}/{path}")
        }
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::CacheEntry;

    #[test]
    fn a_password_in_a_remotes_url_is_told_to_nobody() {
        assert_eq!(without_password("https://me:secret@host/a.git"), "https://host/a.git");
        assert_eq!(without_password("https://host/a@b.git"), "https://host/a@b.git");
        assert_eq!(without_password("git@host:a.git"), "git@host:a.git");
    }

    #[test]
    fn variables_mean_what_they_mean_to_buildx() {
        let set = |pairs: &[(&str, &str)]| Environment::fixed(pairs.iter().copied());
        assert_eq!(metadata(&set(&[])).unwrap(), MetadataDetail::default());
        let full = metadata(&set(&[
            ("BUILDX_METADATA_PROVENANCE", "max"),
            ("BUILDX_METADATA_WARNINGS", "1"),
        ]));
        let expected = MetadataDetail { provenance: ProvenanceDetail::Max, warnings: true };
        assert_eq!(full.unwrap(), expected);
        let wrong = metadata(&set(&[("BUILDX_METADATA_WARNINGS", "perhaps")])).unwrap_err();
        assert!(wrong.message.contains("BUILDX_METADATA_WARNINGS"), "{wrong:?}");
        let mut args = BTreeMap::new();
        epoch(&mut args, &set(&[(EPOCH, "7")]));
        assert_eq!(args.get(EPOCH).map(|setting| setting.value.as_str()), Some("7"));
    }

    #[test]
    fn a_cache_gets_the_credentials_of_its_kind_only() {
        let s3 = CacheEntry { kind: "s3".to_owned(), attributes: BTreeMap::new() };
        let plan = BuildPlan { cache_from: vec![s3], ..BuildPlan::default() };
        let environment =
            Environment::fixed([("AWS_SESSION_TOKEN", "a"), ("ACTIONS_RUNTIME_TOKEN", "b")]);
        let defaults = cache_defaults(&plan, &environment);
        let names: Vec<_> = defaults.iter().map(|one| (one.kind, one.attribute)).collect();
        assert_eq!(names, [("s3", "session_token")]);
    }
}
