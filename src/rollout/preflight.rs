//! Looks whether a rollout can come about, before anything changes.

use super::{
    api::{self, ApiError},
    code::Code,
    patch::{Chosen, NewImage, Remarks, choose, has, immutable, keeper, patch},
    platforms::fit,
    request::{PinnedImage, Request},
    rights::{Call, calls},
    workload::{Kind, Workload, WorkloadName},
};
use crate::{cluster::Cluster, image::reference::Reference};
use futures::future::join_all;
use k8s_openapi::{
    api::{
        authorization::v1::{
            ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
        },
        core::v1::{Node, Secret, ServiceAccount},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use serde_json::Value;

/// Why nothing is begun.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// Stable, `SCREAMING_SNAKE`.
    pub code: &'static str,
    /// What is wrong, without a full stop.
    pub message: String,
    /// The API server's own words.
    pub cause: Option<String>,
    /// What to do about it.
    pub fix: String,
}

/// Something that stops nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Doubt {
    /// Stable, `SCREAMING_SNAKE`.
    pub code: &'static str,
    /// One sentence without a full stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// What was found to be well.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// The workload as it is.
    pub workload: Workload,
    /// The containers that get the image.
    pub chosen: Vec<Chosen>,
    /// What stops nothing.
    pub doubts: Vec<Doubt>,
}

fn refusal(
    code: &'static str,
    message: impl Into<String>,
    cause: Option<String>,
    fix: impl Into<String>,
) -> Refusal {
    Refusal { code, message: message.into(), cause, fix: fix.into() }
}

/// Looks whether `request` can be done with the workload `name`. Changes nothing: what would be
/// changed is tried as a dry run.
///
/// # Errors
/// Everything that stands against it.
pub async fn check(
    cluster: &Cluster,
    request: &Request,
    name: &WorkloadName,
) -> Result<Checked, Vec<Refusal>> {
    let one = |refusal| vec![refusal];
    let workload =
        api::read(cluster, name).await.map_err(|error| one(unread(cluster, name, &error)))?;
    let (mut refusals, mut doubts) = rights(cluster, name.kind).await;
    if workload.deleting {
        refusals.push(refusal(
            "WORKLOAD_DELETED",
            format!("{name} is being deleted"),
            None,
            "make it anew first",
        ));
    }
    if workload.paused && name.kind == Kind::Deployment {
        refusals.push(refusal(
            "WORKLOAD_PAUSED",
            format!("{name} is paused, so a new image would start nothing"),
            None,
            format!("resume it first: `kubectl rollout resume {name}`"),
        ));
    }
    let chosen = match choose(&workload, request.container.as_deref(), &request.image.repository) {
        Ok(chosen) => chosen,
        Err(error) => {
            refusals.push(refusal(
                "CONTAINER_UNKNOWN",
                error.to_string(),
                None,
                "name one of them with `--container`",
            ));
            return Err(refusals);
        }
    };
    let change: Vec<&Chosen> = chosen.iter().filter(|one| !has(one, &request.image)).collect();
    if !change.is_empty() {
        if let Some(why) = immutable(name.kind) {
            refusals.push(refusal(
                "TEMPLATE_IMMUTABLE",
                format!("{name} cannot get another image: {why}"),
                None,
                "make a new Job, or roll out the CronJob that it comes from",
            ));
            return Err(refusals);
        }
        for one in &change {
            if let Some(writer) = keeper(&workload, &one.name) {
                doubts.push(Doubt {
                    code: "IMAGE_KEPT_ELSEWHERE",
                    message: format!(
                        "`{}` keeps the image of the container `{}` too, and may set it back",
                        writer.manager, one.name
                    ),
                    hint: Some(
                        "let it name this digest, or take the image out of its files".to_owned(),
                    ),
                });
            }
        }
    }
    // Before a build there is no digest that could be tried.
    if refusals.is_empty() && !change.is_empty() && !request.image.digest.is_empty() {
        refusals.extend(dry_run(cluster, request, &workload, &change).await);
    }
    let (platforms, secrets) = futures::join!(
        platforms(cluster, request, &workload),
        pull_secrets(cluster, request, &workload)
    );
    for found in platforms.into_iter().chain(secrets) {
        match found {
            Ok(doubt) => doubts.push(doubt),
            Err(refusal) => refusals.push(refusal),
        }
    }
    if workload.replicas == 0 && matches!(name.kind, Kind::Deployment | Kind::StatefulSet) {
        doubts.push(Doubt {
            code: "NO_REPLICAS",
            message: format!("{name} wants no pods, so nothing will prove that the image starts"),
            hint: Some(format!("scale it up: `kubectl scale {name} --replicas=1`")),
        });
    }
    if refusals.is_empty() { Ok(Checked { workload, chosen, doubts }) } else { Err(refusals) }
}

/// Why a workload cannot be read.
fn unread(cluster: &Cluster, name: &WorkloadName, error: &ApiError) -> Refusal {
    let server = &cluster.server;
    let words = Some(error.to_string());
    match error.status().map(|status| status.code) {
        Some(404) => refusal(
            "WORKLOAD_NOT_FOUND",
            format!("there is no {name} in the namespace `{}`", cluster.namespace),
            None,
            format!(
                "see what there is: `kubectl get {} -n {}`",
                name.kind.plural(),
                cluster.namespace
            ),
        ),
        Some(401) => refusal(
            "CLUSTER_DENIED",
            format!("{server} does not know us"),
            words,
            "log in anew, or name another context with `--context`",
        ),
        Some(403) => refusal(
            "RIGHTS_MISSING",
            format!("we may not read {name} in the namespace `{}`", cluster.namespace),
            words,
            "give us the Role that bk-sync's README lists",
        ),
        Some(_) => refusal(
            "CLUSTER_FAILED",
            format!("{server} does not tell of {name}"),
            words,
            "see whether the API server is well: `kubectl get --raw /readyz`",
        ),
        None => refusal(
            "CLUSTER_UNREACHABLE",
            format!("{server} does not answer"),
            words,
            "see whether `kubectl get namespaces` works with the same context",
        ),
    }
}

/// Asks for each call that we will make whether we may.
async fn rights(cluster: &Cluster, kind: Kind) -> (Vec<Refusal>, Vec<Doubt>) {
    let calls = calls(kind);
    let answers = join_all(calls.iter().map(|call| may(cluster, call))).await;
    let mut missing = Vec::new();
    let mut doubts = Vec::new();
    for (call, answer) in calls.iter().zip(answers) {
        // A server that does not answer this answers the call itself.
        if answer.unwrap_or(true) {
            continue;
        }
        let words = format!("{} {}", call.verb, call.resource);
        match call.without {
            None => missing.push(words),
            Some(without)
                if !doubts.iter().any(|doubt: &Doubt| doubt.message.ends_with(without)) =>
            {
                doubts.push(Doubt {
                    code: "RIGHTS_FEW",
                    message: format!("we may not {words}: {without}"),
                    hint: None,
                });
            }
            Some(_) => {}
        }
    }
    let refusals = if missing.is_empty() {
        Vec::new()
    } else {
        vec![refusal(
            "RIGHTS_MISSING",
            format!("we may not {} in the namespace `{}`", missing.join(", "), cluster.namespace),
            None,
            "give us the Role that bk-sync's README lists",
        )]
    };
    (refusals, doubts)
}

/// Those of `calls` that we may not make, as words such as `get pods/proxy`.
pub async fn missing_rights(cluster: &Cluster, calls: &[Call]) -> Vec<String> {
    let answers = join_all(calls.iter().map(|call| may(cluster, call))).await;
    let refused = calls.iter().zip(answers).filter(|(_, answer)| *answer == Some(false));
    refused.map(|(call, _)| format!("{} {}", call.verb, call.resource)).collect()
}

async fn may(cluster: &Cluster, call: &Call) -> Option<bool> {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(cluster.client.clone());
    let (resource, subresource) =
        call.resource.split_once('/').map_or((call.resource, None), |(a, b)| (a, Some(b)));
    let attributes = ResourceAttributes {
        group: Some(call.group.to_owned()),
        resource: Some(resource.to_owned()),
        subresource: subresource.map(str::to_owned),
        verb: Some(call.verb.to_owned()),
        namespace: (!call.cluster_wide).then(|| cluster.namespace.clone()),
        ..ResourceAttributes::default()
    };
    let review = SelfSubjectAccessReview {
        metadata: ObjectMeta::default(),
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            ..SelfSubjectAccessReviewSpec::default()
        },
        status: None,
    };
    match reviews.create(&PostParams::default(), &review).await {
        Ok(answer) => answer.status.map(|status| status.allowed),
        Err(error) => {
            tracing::debug!(%error, "the API server does not say what we may");
            None
        }
    }
}

/// Tries the change without its effect: what webhooks and the API server refuse is known then.
async fn dry_run(
    cluster: &Cluster,
    request: &Request,
    workload: &Workload,
    change: &[&Chosen],
) -> Option<Refusal> {
    let image = request.image.to_string();
    let images: Vec<NewImage> = change
        .iter()
        .map(|one| NewImage { container: (*one).clone(), image: image.clone() })
        .collect();
    let remarks = Remarks { provenance: &request.provenance, cause: cause(&request.image) };
    let body = patch(workload, &images, &remarks);
    let error = api::change(cluster, &workload.name, &body, true).await.err()?;
    // Another change is no refusal: the real one is made of what holds then.
    if error.is_conflict() || error.to_string().contains("does not support dry run") {
        return None;
    }
    Some(refused_change(&workload.name, &error))
}

/// Why the API server does not take the change.
pub fn refused_change(name: &WorkloadName, error: &ApiError) -> Refusal {
    let words = error.to_string();
    let is_policy = words.contains("admission webhook") || words.contains("denied");
    match error.status().map(|status| status.code) {
        Some(403) if !is_policy => refusal(
            "RIGHTS_MISSING",
            format!("we may not change {name}"),
            Some(words),
            "give us the Role that bk-sync's README lists",
        ),
        Some(_) => refusal(
            Code::AdmissionRefused.as_str(),
            format!("the API server does not take the new image of {name}"),
            Some(words),
            "mend what it names, or ask who keeps that policy",
        ),
        None => refusal(
            "CLUSTER_UNREACHABLE",
            "the API server does not answer",
            Some(words),
            "see whether `kubectl get namespaces` works with the same context",
        ),
    }
}

/// What is written beside a new image for `kubectl rollout history`.
pub fn cause(image: &PinnedImage) -> String {
    let tag = image.tag.as_ref().map(|tag| format!(" ({tag})")).unwrap_or_default();
    format!("bk-sync rollout --image {image}{tag}")
}

/// The image's platforms, where they are known, against the nodes that the pods may go to.
pub async fn platforms(
    cluster: &Cluster,
    request: &Request,
    workload: &Workload,
) -> Option<Result<Doubt, Refusal>> {
    if request.image.manifests.is_empty() {
        return None;
    }
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let nodes = nodes.list(&ListParams::default()).await.ok()?.items;
    let is_daemon = workload.name.kind == Kind::DaemonSet;
    let fit = fit(&workload.template, is_daemon, &nodes, &request.image.manifests);
    if fit.misfits.is_empty() {
        return None;
    }
    let has: Vec<&str> =
        request.image.manifests.iter().map(|manifest| manifest.platform.as_str()).collect();
    let misfits: Vec<String> = fit
        .misfits
        .iter()
        .take(3)
        .map(|misfit| format!("`{}` is {}", misfit.node, misfit.platform))
        .collect();
    let message = format!(
        "{} of {} nodes that the pods may go to cannot run the image: it is for {}, and {}",
        fit.misfits.len(),
        fit.eligible,
        has.join(", "),
        misfits.join(", ")
    );
    if request.tolerate.contains(&Code::ArchMismatch) {
        return Some(Ok(Doubt { code: "ARCH_MISMATCH", message, hint: None }));
    }
    Some(Err(refusal(
        Code::ArchMismatch.as_str(),
        message,
        None,
        "build the image for these nodes too (`bk-sync build --platform`), or keep the pods off them \
         with a nodeSelector on `kubernetes.io/arch`",
    )))
}

/// Whether the pull secrets are there, and one of them is for the image's registry.
async fn pull_secrets(
    cluster: &Cluster,
    request: &Request,
    workload: &Workload,
) -> Option<Result<Doubt, Refusal>> {
    let names = secret_names(cluster, workload).await;
    let registry = Reference::parse(&request.image.repository).ok()?.domain().to_owned();
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let mut held = Vec::new();
    for name in &names {
        match secrets.get_opt(name).await {
            Ok(Some(secret)) => held.extend(registries(&secret)),
            Ok(None) => {
                let message = format!(
                    "the pull secret `{name}` is not in the namespace `{}`",
                    cluster.namespace
                );
                return Some(judged(
                    request,
                    Code::PullSecretMissing,
                    message,
                    format!("make it, with credentials for {registry}"),
                ));
            }
            // Without the right to look, the node will tell.
            Err(_) => return None,
        }
    }
    let fits = held.iter().any(|host| same_registry(host, &registry));
    if names.is_empty() || fits {
        return None;
    }
    let message = format!(
        "the pull secret {} has credentials for {}, and the image lies at {registry}",
        names.join(", "),
        if held.is_empty() { "no registry".to_owned() } else { held.join(", ") }
    );
    Some(judged(
        request,
        Code::ImagePullDenied,
        message,
        format!(
            "add credentials for {registry} to it, or go on with `--tolerate IMAGE_PULL_DENIED`"
        ),
    ))
}

fn judged(request: &Request, code: Code, message: String, fix: String) -> Result<Doubt, Refusal> {
    if request.tolerate.contains(&code) {
        Ok(Doubt { code: code.as_str(), message, hint: Some(fix) })
    } else {
        Err(refusal(code.as_str(), message, None, fix))
    }
}

/// The pull secrets of the template, else those of its service account.
async fn secret_names(cluster: &Cluster, workload: &Workload) -> Vec<String> {
    let names = |list: Option<&Value>| -> Vec<String> {
        let list = list.and_then(Value::as_array);
        list.into_iter()
            .flatten()
            .filter_map(|secret| Some(secret.get("name")?.as_str()?.to_owned()))
            .collect()
    };
    let own = names(workload.template.pointer("/spec/imagePullSecrets"));
    if !own.is_empty() {
        return own;
    }
    let account = workload
        .template
        .pointer("/spec/serviceAccountName")
        .and_then(Value::as_str)
        .unwrap_or("default");
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    match accounts.get_opt(account).await {
        Ok(Some(account)) => {
            let secrets = account.image_pull_secrets.unwrap_or_default();
            secrets.into_iter().map(|secret| secret.name).filter(|name| !name.is_empty()).collect()
        }
        _ => Vec::new(),
    }
}

/// The hosts that a pull secret has credentials for.
fn registries(secret: &Secret) -> Vec<String> {
    let data = secret.data.as_ref();
    let field = |name: &str| data.and_then(|data| data.get(name)).map(|bytes| bytes.0.as_slice());
    let parse = |bytes: Option<&[u8]>| serde_json::from_slice::<Value>(bytes?).ok();
    let config = parse(field(".dockerconfigjson"));
    let old = parse(field(".dockercfg"));
    let auths = config.as_ref().and_then(|config| config.get("auths")).or(old.as_ref());
    auths.and_then(Value::as_object).into_iter().flatten().map(|(host, _)| host.clone()).collect()
}

/// Whether a secret's entry is for a registry, by the kubelet's rules as far as hosts go.
fn same_registry(entry: &str, registry: &str) -> bool {
    let host = entry.rsplit_once("://").map_or(entry, |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or_default();
    let hub = ["index.docker.io", "docker.io", "registry-1.docker.io"];
    if hub.contains(&registry) {
        return hub.contains(&host);
    }
    match host.strip_prefix("*.") {
        Some(rest) => registry.split_once('.').is_some_and(|(_, parent)| parent == rest),
        None => host == registry,
    }
}

#[cfg(test)]
mod tests {
    use super::{registries, same_registry};
    use k8s_openapi::{ByteString, api::core::v1::Secret};

    #[test]
    fn a_secret_is_for_its_registries() {
        let table = [
            ("ghcr.io", "ghcr.io", true),
            ("https://ghcr.io/v2/", "ghcr.io", true),
            ("ghcr.io", "quay.io", false),
            ("https://index.docker.io/v1/", "docker.io", true),
            ("*.example.com", "r.example.com", true),
            ("*.example.com", "example.com", false),
            ("127.0.0.1:5000", "127.0.0.1:5000", true),
        ];
        for (entry, registry, expected) in table {
            assert_eq!(same_registry(entry, registry), expected, "{entry} {registry}");
        }
        let config = br#"{"auths": {"ghcr.io": {"auth": "eA=="}}}"#.to_vec();
        let secret = Secret {
            data: Some([(".dockerconfigjson".to_owned(), ByteString(config))].into()),
            ..Secret::default()
        };
        assert_eq!(registries(&secret), ["ghcr.io"]);
    }
}
