//! `rollout`, `rollback` and `status`.

use super::{Scene, transcript};
use crate::{
    bed,
    rollout::{
        refusals::grant,
        shop::{Kind, Shop, digest, new, old, on_pods, workload},
    },
};
use serde_json::json;

/// A namespace whose deployment `web` runs; pods of the new image do `what`. What their log says
/// goes by the name of the `container`.
fn shop(container: &str, what: &[(&str, &str)]) -> Shop {
    let mut object = workload(Kind::Deployment);
    object["spec"]["template"]["spec"]["containers"][0]["name"] = json!(container);
    object["spec"]["replicas"] = json!(1);
    let image = digest('b');
    let what: Vec<(&str, &str)> = match what {
        [] => Vec::new(),
        what => [what, &[("fail-image", image.as_str())]].concat(),
    };
    on_pods(&mut object, &what);
    Shop::with(&object)
}

fn scene(arguments: &[&str], namespace: &str) -> Scene {
    Scene::new(&[arguments, &["-n", namespace]].concat())
        .variable("KUBECONFIG", bed::part("BK_SYNC_TEST_KUBECONFIG"))
        .variable("USER", "ann")
        .named(namespace, "NAMESPACE")
        .named(&old(), "OLD-IMAGE")
        .named(&new(), "NEW-IMAGE")
}

fn rollout(flags: &[&str], container: &str, what: &[(&str, &str)]) -> Scene {
    let shop = shop(container, what);
    let image = new();
    let arguments = [&["rollout", "deployment/web", "--image", &image], flags].concat();
    scene(&arguments, &shop.namespace).keeping(shop)
}

#[test]
fn rollout_done() {
    transcript("rollout_done", || rollout(&["--settle", "0s"], "app", &[]));
}

#[test]
fn rollout_image_missing() {
    transcript("rollout_image_missing", || rollout(&[], "app", &[("fail", "ErrImagePull")]));
}

#[test]
fn rollout_crashing() {
    transcript("rollout_crashing", || {
        let what = [("fail", "CrashLoopBackOff"), ("exit-code", "3")];
        rollout(&["--on-failure", "keep"], "app", &what)
    });
}

#[test]
fn rollout_wrong_architecture() {
    transcript("rollout_wrong_architecture", || {
        rollout(&[], "exec-format", &[("fail", "ExecFormat")])
    });
}

#[test]
fn rollout_right_missing_and_status() {
    // Both change nothing: one namespace is enough.
    let shop = shop("app", &[]);
    transcript("status_done", || scene(&["status", "deployment/web"], &shop.namespace));
    let rules = json!([
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": ["apps"], "resources": ["replicasets"], "verbs": ["list", "watch"]},
    ]);
    grant(&shop, &rules);
    let who = format!("system:serviceaccount:{}:deployer", shop.namespace);
    let image = new();
    let arguments = ["rollout", "deployment/web", "--image", &image, "--as", &who];
    transcript("rollout_right_missing", || scene(&arguments, &shop.namespace));
}

#[test]
fn rollback_done() {
    transcript("rollback_done", || {
        let shop = shop("app", &[]);
        let namespace = shop.namespace.clone();
        let image = new();
        let first = ["rollout", "deployment/web", "--image", &image, "--settle", "0s", "-q"];
        scene(&["rollback", "deployment/web", "--settle", "0s"], &namespace)
            .after(&[&first[..], &["-n", &namespace]].concat())
            .keeping(shop)
    });
}

#[test]
fn no_cluster() {
    let kubeconfig = "apiVersion: v1\nkind: Config\ncurrent-context: gone\n\
        clusters: [{name: gone, cluster: {server: 'http://127.0.0.1:9'}}]\n\
        contexts: [{name: gone, context: {cluster: gone, user: me}}]\nusers: [{name: me, user: {}}]\n";
    let image = new();
    let arguments =
        ["rollout", "deployment/web", "--image", &image, "--kubeconfig", "config", "-n", "shop"];
    transcript("rollout_no_cluster", || {
        Scene::new(&arguments).file("config", kubeconfig).named(&image, "NEW-IMAGE")
    });
}
