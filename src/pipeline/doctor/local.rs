//! What can be found here: in the config, the checkout, the Dockerfile and the search path.

use super::{Check, workspace::workspace};
use crate::{
    config::{Config, CredentialSource, Functions},
    plan::{Context, SyncPlan},
};
use std::{
    ffi::OsStr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

/// What the local checks look at.
#[derive(Debug)]
pub struct Local<'a> {
    /// The config file.
    pub config: &'a Config,
    /// The deploy that it makes.
    pub plan: &'a SyncPlan,
    /// The search path for programs.
    pub search: &'a OsStr,
}

/// Looks at config, checkout, Dockerfile and search path.
pub fn local(local: &Local<'_>) -> Vec<Check> {
    let Local { config, plan, .. } = local;
    let mut checks =
        vec![Check::ok("config", "file", format!("`{}` is well-formed", config.path.display()))];
    checks.push(match &plan.git {
        None => Check::warning(
            "checkout",
            "git",
            "there is no commit here that a receipt could name",
            "deploy from a git checkout",
        ),
        Some(git) if git.dirty => Check::warning(
            "checkout",
            "git",
            format!("{} is checked out, with changes that are not committed", git.commit),
            "commit or stash them, or decide with `[image] dirty`",
        ),
        Some(git) => Check::ok("checkout", "git", format!("{} is checked out", git.commit)),
    });
    checks.extend(programs(local));
    checks.push(platforms(plan));
    if let Context::Directory(context) = &plan.build.context {
        let file = match &plan.build.file {
            Some(file) => PathBuf::from(file),
            None => context.join("Dockerfile"),
        };
        checks.extend(workspace(context, &file));
    }
    checks.extend(timeouts(config, plan));
    checks.extend(inngest(config));
    checks
}

/// A build for no platform in particular is for the builder's, and the cluster may be another.
fn platforms(plan: &SyncPlan) -> Check {
    match plan.build.platforms.as_slice() {
        [] => Check::warning(
            "image",
            "platform",
            "no platform is named, so the image is for the builder's: on other nodes it ends with \
             `exec format error`",
            "set `platforms = [\"linux/arm64\"]` in `[build]`, or what the nodes are",
        ),
        platforms => Check::ok("image", "platform", platforms.join(", ")),
    }
}

/// Programs that a deploy would run, and that are not there: launchd and cron search few places.
fn programs(local: &Local<'_>) -> Vec<Check> {
    let sections = &local.config.sections;
    let mut wanted: Vec<(&'static str, String)> = vec![("git", "git".to_owned())];
    for section in sections.registries.values() {
        if let CredentialSource::Command(words) = &section.source {
            wanted.extend(words.first().map(|word| ("credentials", word.value.clone())));
        }
        let revoke = section.revoke.iter().flatten().next();
        wanted.extend(revoke.map(|word| ("revoke", word.value.clone())));
    }
    let record = sections.record.command.iter().flatten().next();
    wanted.extend(record.map(|word| ("record", word.value.clone())));
    for hook in &sections.hooks {
        wanted.extend(hook.command.first().map(|word| ("hook", word.value.clone())));
    }
    let missing: Vec<String> = wanted
        .iter()
        .filter(|(_, program)| !is_there(program, local.search))
        .map(|(purpose, program)| format!("`{program}` ({purpose})"))
        .collect();
    if missing.is_empty() {
        return vec![Check::ok("config", "programs", "every program that is named is there")];
    }
    vec![Check::failed(
        "config",
        "programs",
        format!("not found in `PATH`: {}", missing.join(", ")),
        "install them, write their whole path, or set `PATH` where bk-sync is started (launchd and \
         cron search few places)",
    )]
}

fn is_there(program: &str, search: &OsStr) -> bool {
    let runs = |path: &Path| {
        path.metadata().is_ok_and(|one| one.is_file() && one.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        return runs(Path::new(program));
    }
    std::env::split_paths(search).any(|directory| runs(&directory.join(program)))
}

/// Leases that end before the push may, and times that contradict each other.
fn timeouts(config: &Config, plan: &SyncPlan) -> Vec<Check> {
    let mut checks = Vec::new();
    for (host, section) in &config.sections.registries {
        let CredentialSource::Command(words) = &section.source else { continue };
        let after = words.iter().skip_while(|word| word.value != "--ttl").nth(1);
        let Some(ttl) = after.and_then(|word| crate::config::parse_time(&word.value).ok()) else {
            continue;
        };
        let push = plan.deadlines.get(&crate::plan::SyncStage::Push).copied().unwrap_or_default();
        if ttl < Duration::from_secs(push) {
            checks.push(Check::warning(
                "registry",
                "lease",
                format!("the lease for `{host}` ends after {} s, and a push may take {push} s", ttl.as_secs()),
                "lease for longer, or lower `deploy.deadlines.push`; the lease is renewed where it can be",
            ));
        }
        if section.revoke.is_none() {
            checks.push(Check::warning(
                "registry",
                "lease",
                format!("nothing gives the lease for `{host}` back"),
                "add `revoke = [\"secrets\", \"revoke\", \"{lease_id}\"]`",
            ));
        }
    }
    checks
}

/// Checks of Inngest that could take one app for another.
fn inngest(config: &Config) -> Vec<Check> {
    let Some(check) = &config.sections.verify.inngest else { return Vec::new() };
    if check.app.is_none() {
        return vec![Check::failed(
            "inngest",
            "app",
            "`[verify.inngest]` names no app, and a server may know several",
            "add `app = \"…\"`, the id that the worker registers as",
        )];
    }
    let listed = match &check.functions {
        Some(Functions::Ids(ids)) => format!("{} functions are expected", ids.len()),
        _ => "the new pod says which functions are expected".to_owned(),
    };
    vec![Check::ok("inngest", "app", listed)]
}
