//! What is refused before anything changes, and what the cluster's policies refuse afterwards.

use super::shop::{Kind, Rolled, Shop, digest, name_of, new, old, workload};
use crate::command::{run, succeed, unique};
use serde_json::{Value, json};
use std::time::Instant;

const KINDS: [Kind; 3] = [Kind::Deployment, Kind::StatefulSet, Kind::DaemonSet];

/// A rollout that is refused with `code`, and leaves the workload as it was.
fn refused(shop: &Shop, workload: &str, flags: &[&str], code: &str) -> Rolled {
    let before =
        run(&mut shop.kubectl(&["get", workload, "-o", "jsonpath={.metadata.generation}"]));
    let rolled = shop.rollout(workload, &new(), flags);
    rolled.ended(17, code);
    let after = run(&mut shop.kubectl(&["get", workload, "-o", "jsonpath={.metadata.generation}"]));
    assert_eq!(before.stdout, after.stdout, "it was changed");
    rolled
}

#[test]
fn a_workload_or_a_container_that_is_not_there() {
    let mut object = workload(Kind::Deployment);
    object["spec"]["template"]["spec"]["containers"] = json!([
        {"name": "web", "image": "registry.example/web:1"},
        {"name": "proxy", "image": "registry.example/proxy:1"}]);
    let shop = Shop::with(&object);
    refused(&shop, "deployment/nope", &[], "WORKLOAD_NOT_FOUND");
    refused(&shop, "deployment/web", &["--container", "nope"], "CONTAINER_UNKNOWN");
    // Two containers, and none runs an image of that repository.
    let rolled = refused(&shop, "deployment/web", &[], "CONTAINER_UNKNOWN");
    assert!(rolled.json["error"]["message"].as_str().unwrap().contains("`proxy`"));
}

#[test]
fn a_paused_deployment() {
    let shop = Shop::with(&workload(Kind::Deployment));
    succeed(&mut shop.kubectl(&["rollout", "pause", "deployment/web"]));
    refused(&shop, "deployment/web", &[], "WORKLOAD_PAUSED");
}

#[test]
fn a_job_whose_template_cannot_change() {
    let shop = Shop::open();
    let pod = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "app", "image": old()}]}});
    shop.apply(&json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "web"},
        "spec": {"template": pod}}));
    refused(&shop, "job/web", &[], "TEMPLATE_IMMUTABLE");
}

#[test]
fn a_pull_secret_that_is_missing_or_for_another_registry() {
    let mut object = workload(Kind::Deployment);
    object["spec"]["template"]["spec"]["imagePullSecrets"] = json!([{"name": "pull"}]);
    let shop = Shop::with(&object);
    refused(&shop, "deployment/web", &[], "PULL_SECRET_MISSING");
    let secret = |registry: &str| {
        let registry = format!("--docker-server={registry}");
        let arguments = [
            "create",
            "secret",
            "docker-registry",
            "pull",
            &registry,
            "--docker-username=u",
            "--docker-password=p",
        ];
        succeed(&mut shop.kubectl(&arguments));
    };
    secret("elsewhere.example");
    let rolled = refused(&shop, "deployment/web", &[], "IMAGE_PULL_DENIED");
    assert!(rolled.json["error"]["message"].as_str().unwrap().contains("elsewhere.example"));
    succeed(&mut shop.kubectl(&["delete", "secret", "pull"]));
    secret("registry.example");
    shop.rollout("deployment/web", &new(), &[]).ended(0, "");
}

#[test]
fn an_image_that_can_change_is_a_usage_error() {
    let shop = Shop::open();
    shop.rollout("deployment/web", "registry.example/shop/app:1", &[]).ended(2, "IMAGE_NOT_PINNED");
    shop.rollout("pod/web", &new(), &[]).ended(2, "USAGE");
}

#[test]
fn a_cluster_that_is_not_there() {
    let shop = Shop::open();
    let kubeconfig = shop.get("namespaces");
    assert!(kubeconfig["items"].is_array());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        file.path(),
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         clusters: [{name: c, cluster: {server: 'https://127.0.0.1:9'}}]\n\
         users: [{name: u, user: {}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n",
    )
    .unwrap();
    let path = file.path().to_str().unwrap();
    let began = Instant::now();
    shop.rollout("deployment/web", &new(), &["--kubeconfig", path])
        .ended(17, "CLUSTER_UNREACHABLE");
    assert!(began.elapsed() < super::shop::PATIENCE);
    shop.rollout("deployment/web", &new(), &["--kubeconfig", path, "--context", "nope"])
        .ended(17, "CLUSTER_UNKNOWN");
}

/// Flags to act as a service account that has `rules` and no other right.
fn least(shop: &Shop, rules: &Value) -> Vec<String> {
    grant(shop, rules);
    vec!["--as".to_owned(), format!("system:serviceaccount:{}:deployer", shop.namespace)]
}

/// Makes a service account `deployer` that has `rules` and no other right.
pub fn grant(shop: &Shop, rules: &Value) {
    shop.apply(
        &json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "deployer"}}),
    );
    shop.apply(&json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "deployer"}, "rules": rules}));
    shop.apply(&json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "deployer"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "deployer"},
        "subjects": [{"kind": "ServiceAccount", "name": "deployer"}]}));
}

/// The rules of the Role in README.
pub fn readme_rules() -> Value {
    let readme = include_str!("../../../README.md");
    let at = readme.find("kind: Role\n").expect("README has the Role");
    let text = &readme[at..];
    let text = &text[..text.find("```").expect("the end of the block")];
    let mut rules = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| line.starts_with("- {")) {
        let list = |name: &str| -> Vec<String> {
            let rest = &line[line.find(name).expect(name) + name.len()..];
            let inner = &rest[rest.find('[').unwrap() + 1..rest.find(']').unwrap()];
            inner.split(',').map(|word| word.trim().trim_matches('"').to_owned()).collect()
        };
        rules.push(json!({"apiGroups": list("apiGroups"), "resources": list("resources"),
            "verbs": list("verbs")}));
    }
    assert!(rules.len() > 3, "{text}");
    json!(rules)
}

#[test]
fn the_rights_that_readme_lists_are_enough_and_none_is_too_many() {
    let rules = readme_rules();
    for kind in [Kind::Deployment, Kind::StatefulSet, Kind::DaemonSet] {
        let mut object = workload(kind);
        super::shop::on_pods(
            &mut object,
            &[("fail", "CrashLoopBackOff"), ("fail-image", &digest('c'))],
        );
        let shop = Shop::with(&object);
        let who = least(&shop, &rules);
        let flags: Vec<&str> = who.iter().map(String::as_str).collect();
        let name = name_of(&object);
        let rolled = shop.rollout(&name, &new(), &flags);
        rolled.ended(0, "");
        shop.runs(&new(), 2);
        // A rollback needs no more.
        let rolled = shop.rollout(&name, &super::shop::other(), &flags);
        rolled.ended(13, "CRASH_LOOP");
        shop.runs(&new(), 2);
    }
}

#[test]
fn rights_that_are_missing_are_named() {
    let shop = Shop::with(&workload(Kind::Deployment));
    let rules = json!([{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]}]);
    let who = least(&shop, &rules);
    let flags: Vec<&str> = who.iter().map(String::as_str).collect();
    let rolled = refused(&shop, "deployment/web", &flags, "RIGHTS_MISSING");
    let message = rolled.json["error"]["message"].as_str().unwrap();
    for call in ["patch deployments", "create leases", "watch pods", "list replicasets"] {
        assert!(message.contains(call), "{message}");
    }
}

#[test]
fn a_policy_that_refuses_the_change_is_known_before_it() {
    let shop = Shop::with(&workload(Kind::Deployment));
    let name = unique("policy");
    deny(
        &shop,
        &name,
        "apps",
        "deployments",
        &format!(
            "!object.spec.template.spec.containers.exists(c, c.image.endsWith('{}'))",
            digest('b')
        ),
    );
    shop.until("the policy", |shop| {
        let set = format!("app={}", new());
        run(&mut shop.kubectl(&["set", "image", "deployment/web", &set, "--dry-run=server"])).code
            != 0
    });
    refused(&shop, "deployment/web", &[], "ADMISSION_REFUSED");
    undeny(&shop, &name);
}

#[test]
fn a_policy_that_refuses_the_pods_is_diagnosed() {
    for kind in KINDS {
        let object = workload(kind);
        let shop = Shop::with(&object);
        let name = unique("policy");
        let expression =
            format!("!object.spec.containers.exists(c, c.image.endsWith('{}'))", digest('b'));
        deny(&shop, &name, "", "pods", &expression);
        shop.until("the policy", |shop| {
            let image = format!("--image={}", new());
            run(&mut shop.kubectl(&["run", "probe", &image, "--dry-run=server"])).code != 0
        });
        let rolled = shop.rollout(&name_of(&object), &new(), &["--timeout", "120s"]);
        rolled.ended(13, "ADMISSION_REFUSED");
        undeny(&shop, &name);
        shop.runs(&old(), 2);
    }
}

/// A policy of the API server for this namespace alone.
fn deny(shop: &Shop, name: &str, group: &str, resource: &str, expression: &str) {
    shop.apply(&json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name}, "spec": {"failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [{"apiGroups": [group], "apiVersions": ["v1"],
                "operations": ["CREATE", "UPDATE"], "resources": [resource]}]},
            "validations": [{"expression": expression, "message": "not this one"}]}}));
    shop.apply(&json!({"apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector":
                {"matchLabels": {"kubernetes.io/metadata.name": shop.namespace}}}}}));
}

fn undeny(shop: &Shop, name: &str) {
    succeed(&mut shop.kubectl(&["delete", "validatingadmissionpolicybinding", name]));
    succeed(&mut shop.kubectl(&["delete", "validatingadmissionpolicy", name]));
}

#[test]
fn a_quota_without_room_is_diagnosed() {
    let mut object = workload(Kind::Deployment);
    object["spec"]["strategy"] = json!({"type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}});
    let shop = Shop::with(&object);
    shop.apply(&json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "two"},
        "spec": {"hard": {"pods": "2"}}}));
    shop.until("the quota's count", |shop| {
        shop.get("resourcequota/two")["status"]["used"]["pods"] == "2"
    });
    let rolled = shop.rollout("deployment/web", &new(), &["--timeout", "120s"]);
    rolled.ended(13, "QUOTA_EXCEEDED");
    shop.runs(&old(), 2);
}

#[test]
fn pod_security_is_diagnosed() {
    for kind in KINDS {
        let object = workload(kind);
        let shop = Shop::with(&object);
        let label = "pod-security.kubernetes.io/enforce=restricted";
        succeed(&mut shop.kubectl(&["label", "namespace", &shop.namespace, label]));
        // Pods that go before their successors come cannot come back either.
        let (timeout, code) = if kind == Kind::Deployment { ("120s", 13) } else { ("20s", 14) };
        let rolled = shop.rollout(&name_of(&object), &new(), &["--timeout", timeout]);
        rolled.ended(code, "ADMISSION_REFUSED");
        assert_eq!(shop.image(&name_of(&object)), old());
    }
}
