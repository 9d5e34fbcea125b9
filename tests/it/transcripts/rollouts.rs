//! `rollout`, `rollback` and `status`.

use super::{Scene, transcript};
use crate::{
    bed,
    rollout::shop::{Kind, Shop, digest, new, old, on_pods, workload},
};

/// `arguments` in a namespace whose deployment `web` runs; pods of the new image do `what`.
fn scene(arguments: &[&str], what: &[(&str, &str)]) -> Scene {
    let mut object = workload(Kind::Deployment);
    let image = digest('b');
    let what: Vec<(&str, &str)> = match what {
        [] => Vec::new(),
        what => [what, &[("fail-image", image.as_str())]].concat(),
    };
    on_pods(&mut object, &what);
    let shop = Shop::with(&object);
    let namespace = shop.namespace.clone();
    let arguments = [arguments, &["-n", &namespace]].concat();
    Scene::new(&arguments)
        .variable("KUBECONFIG", bed::part("BK_SYNC_TEST_KUBECONFIG"))
        .variable("USER", "ann")
        .named(&namespace, "NAMESPACE")
        .named(&old(), "OLD-IMAGE")
        .named(&new(), "NEW-IMAGE")
        .keeping(shop)
}

fn rollout(flags: &[&str], what: &[(&str, &str)]) -> Scene {
    scene(&[&["rollout", "deployment/web", "--image", &new()], flags].concat(), what)
}

#[test]
fn rollout_done() {
    transcript("rollout_done", || rollout(&["--settle", "0s"], &[]));
}

#[test]
fn rollout_unchanged() {
    let arguments = ["rollout", "deployment/web", "--image", &old()];
    transcript("rollout_unchanged", || scene(&arguments, &[]));
}

#[test]
fn rollout_image_missing() {
    transcript("rollout_image_missing", || rollout(&[], &[("fail", "ErrImagePull")]));
}

#[test]
fn rollout_crashing() {
    transcript("rollout_crashing", || {
        rollout(&["--on-failure", "keep"], &[("fail", "CrashLoopBackOff"), ("exit-code", "3")])
    });
}

#[test]
fn rollout_wrong_architecture() {
    transcript("rollout_wrong_architecture", || rollout(&[], &[("fail", "ExecFormat")]));
}

#[test]
fn rollout_workload_missing() {
    let arguments = ["rollout", "deployment/wob", "--image", &new()];
    transcript("rollout_workload_missing", || scene(&arguments, &[]));
}

#[test]
fn status_done() {
    transcript("status_done", || scene(&["status", "deployment/web"], &[]));
}

#[test]
fn rollback_without_an_image_before() {
    transcript("rollback_nothing_before", || scene(&["rollback", "deployment/web"], &[]));
}

#[test]
fn no_cluster() {
    let kubeconfig = "apiVersion: v1\nkind: Config\ncurrent-context: gone\n\
        clusters: [{name: gone, cluster: {server: 'http://127.0.0.1:9'}}]\n\
        contexts: [{name: gone, context: {cluster: gone, user: me}}]\nusers: [{name: me, user: {}}]\n";
    let arguments =
        ["rollout", "deployment/web", "--image", &new(), "--kubeconfig", "config", "-n", "shop"];
    transcript("rollout_no_cluster", || {
        Scene::new(&arguments).file("config", kubeconfig).named(&new(), "NEW-IMAGE")
    });
}
