//! What can be found at the registry: whether credentials can be had, and whether they may push.

use super::Check;
use crate::{
    buildkit::session::RegistryAuth as _, credential::RegistryHost, image::reference::Reference,
    pipeline::login::Login, plan::SyncPlan,
};
use futures::future::join_all;
use std::collections::BTreeSet;

/// Looks at the registries of the image. What is lent for it is for the caller to give back; an
/// upload may be opened, and is cancelled then.
pub async fn registry(plan: &SyncPlan, login: &Login) -> Vec<Check> {
    let names = plan.build.tags.iter().filter_map(|tag| Reference::parse(tag).ok());
    let repositories: BTreeSet<(RegistryHost, String)> =
        names.map(|name| (RegistryHost::new(name.domain()), name.path().to_owned())).collect();
    let hosts: BTreeSet<&RegistryHost> = repositories.iter().map(|(host, _)| host).collect();
    let mut checks = join_all(hosts.into_iter().map(|host| credentials(host, login))).await;
    checks.extend(join_all(repositories.iter().map(|(host, path)| push(host, path, login))).await);
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

async fn push(host: &RegistryHost, path: &str, login: &Login) -> Check {
    match login.may_push(host, path, false).await {
        Ok(()) => Check::ok("registry", "push", format!("`{host}/{path}` takes pushes")),
        Err(failure) if failure.is_refusal() => {
            Check::failed("registry", "push", failure.to_string(), failure.hint())
        }
        Err(failure) => Check::skipped("registry", "push", failure.to_string()),
    }
}
