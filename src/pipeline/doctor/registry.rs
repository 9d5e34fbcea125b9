//! What can be found at the registry: whether credentials can be had, and whether they may push.

use super::Check;
use crate::{
    buildkit::session::RegistryAuth as _,
    credential::RegistryHost,
    image::reference::Reference,
    pipeline::{error::PushFailure, login::Login, preflight_push, push::Targets},
    plan::SyncPlan,
    registry::{Reach, Repository},
};
use futures::future::join_all;
use std::collections::BTreeSet;

/// Looks at the registries of the image. What is lent for it is for the caller to give back; an
/// upload may be opened, and is cancelled then.
pub async fn registry(plan: &SyncPlan, login: &Login, reach: &Reach) -> Vec<Check> {
    let names = plan.build.tags.iter().filter_map(|tag| Reference::parse(tag).ok());
    let repositories = Targets::new(&names.collect::<Vec<_>>(), false, login, reach).repositories();
    let hosts: BTreeSet<&RegistryHost> =
        repositories.iter().map(|repository| repository.server().host()).collect();
    let mut checks = join_all(hosts.into_iter().map(|host| credentials(host, login))).await;
    checks.extend(join_all(repositories.iter().map(|repository| push(repository, login))).await);
    checks
}

async fn credentials(host: &RegistryHost, login: &Login) -> Check {
    if let Some(found) = login.credentials(host.as_str()).await {
        let finding = format!("those for `{host}` come from {}", found.origin);
        return Check::ok("registry", "credentials", finding);
    }
    match login.loss(host) {
        Some(problem) => Check::failed(
            "registry",
            "credentials",
            format!("none for `{host}`: {problem}"),
            problem.hint(),
        ),
        None => Check::warning(
            "registry",
            "credentials",
            format!("none for `{host}`: the push is anonymous"),
            format!("add `[registry.{:?}]` to bk-sync.toml", host.as_str()),
        ),
    }
}

async fn push(repository: &Repository, login: &Login) -> Check {
    match preflight_push::ask(repository, false).await {
        Ok(()) => Check::ok("registry", "push", format!("`{repository}` takes pushes")),
        Err(error) if error.is_refusal() => {
            let PushFailure { message, cause, fix, .. } =
                preflight_push::refused(repository, &error, login).await;
            let finding = match cause {
                Some(cause) => format!("{message}: {cause}"),
                None => message,
            };
            Check::failed("registry", "push", finding, fix.unwrap_or_default())
        }
        Err(error) => Check::skipped("registry", "push", error.explanation()),
    }
}
