//! What becomes of a rollout when its nodes are full, lost, or not what its pods ask for.

use super::shop::{Kind, Rolled, Shop, new, old, on_pods, workload};
use crate::command::{run, succeed, unique};
use serde_json::{Value, json};
use std::process::Stdio;

/// The label by which only this test's pods come to this test's node.
const OWN: &str = "bk-sync.test/of";

/// A node of kwok's that only pods come to which ask for it. Its architecture is none that other
/// tests' DaemonSets ask for.
struct Node<'s> {
    shop: &'s Shop,
    name: String,
}

impl<'s> Node<'s> {
    fn with(shop: &'s Shop, cpu: &str) -> Self {
        let name = unique("node");
        shop.apply(&json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": {
                "bk-sync.test/node": "kwok", OWN: name, "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux", "kubernetes.io/arch": "riscv64"}},
            "status": {
                "allocatable": {"cpu": cpu, "memory": "64Gi", "pods": "100"},
                "capacity": {"cpu": cpu, "memory": "64Gi", "pods": "100"}},
        }));
        let node = Self { shop, name };
        shop.until("a ready node", |shop| {
            let object = shop.get(&format!("node/{}", node.name));
            is_ready(&object) && object["spec"]["taints"].is_null()
        });
        node
    }

    fn label(&self, label: &str) {
        succeed(&mut self.shop.kubectl(&["label", "node", &self.name, label]));
    }
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        let delete = ["delete", "node", &self.name, "--wait=false"];
        drop(self.shop.kubectl(&delete).stdout(Stdio::null()).stderr(Stdio::null()).status());
    }
}

fn is_ready(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True")
}

/// A workload whose pods ask for `node`.
fn on(node: &Node<'_>, kind: Kind) -> Value {
    let mut object = workload(kind);
    object["spec"]["template"]["spec"]["nodeSelector"] = json!({OWN: node.name});
    object
}

#[test]
fn pods_that_ask_for_a_label_that_went_are_unschedulable() {
    // What a StatefulSet has taken down cannot come back there either.
    for (kind, exit, rollback) in
        [(Kind::Deployment, 13, "verified"), (Kind::StatefulSet, 14, "failed")]
    {
        let shop = Shop::open();
        let node = Node::with(&shop, "8");
        let object = on(&node, kind);
        shop.apply(&object);
        shop.settled(&object);
        node.label(&format!("{OWN}-"));
        let rolled = shop.rollout(&format!("{}/web", kind.word()), &new(), &["--timeout", "60s"]);
        rolled.ended(exit, "UNSCHEDULABLE");
        let web = rolled.workload();
        assert_eq!(web["outcome"], "failed", "{web:#}");
        assert_eq!(web["rollback"]["outcome"], rollback, "{web:#}");
        let message = rolled.json["error"]["message"].as_str().unwrap();
        assert!(message.contains("labels that no node has"), "{message}");
        assert_eq!(shop.image(&format!("{}/web", kind.word())), old());
    }
}

#[test]
fn a_node_without_room_is_waited_for_and_named() {
    let shop = Shop::open();
    let node = Node::with(&shop, "2");
    let mut object = on(&node, Kind::Deployment);
    object["spec"]["template"]["spec"]["containers"][0]["resources"] =
        json!({"requests": {"cpu": "1"}});
    shop.apply(&object);
    shop.settled(&object);
    let rolled = shop.rollout("deployment/web", &new(), &["--timeout", "12s"]);
    rolled.ended(13, "UNSCHEDULABLE");
    assert_eq!(rolled.workload()["outcome"], "timed_out");
    let message = rolled.json["error"]["message"].as_str().unwrap();
    assert!(message.contains("more than any node has free"), "{message}");
    shop.runs(&old(), 2);
    // With room it goes on by itself.
    let roomy = json!({"status": {"allocatable": {"cpu": "8"}, "capacity": {"cpu": "8"}}});
    let name = format!("node/{}", node.name);
    let child = shop.set("deployment/web", &new(), &["--timeout", "120s"]);
    succeed(&mut shop.kubectl(&["patch", &name, "--subresource=status", "-p", &roomy.to_string()]));
    Rolled::of(child).ended(0, "");
    shop.runs(&new(), 2);
}

#[test]
fn a_node_that_is_lost_is_named() {
    let shop = Shop::open();
    let node = Node::with(&shop, "8");
    let object = on(&node, Kind::Deployment);
    shop.apply(&object);
    shop.settled(&object);
    // The pods run and are watched for a while; meanwhile their node falls silent. The cluster gives
    // it up after 50 s.
    let flags = ["--timeout", "100s", "--settle", "95s", "--on-failure", "keep"];
    let child = shop.set("deployment/web", &new(), &flags);
    shop.until("two new pods", |shop| shop.pods() == (vec![new(); 2], true));
    node.label("bk-sync.test/node-");
    let rolled = Rolled::of(child);
    rolled.ended(14, "NODE_LOST");
    let web = rolled.workload();
    assert_eq!(web["outcome"], "timed_out", "{web:#}");
    assert_eq!(web["diagnoses"][0]["node"], node.name, "{web:#}");
}

#[test]
fn a_pod_that_is_evicted_on_the_way_is_replaced_and_ends_nothing() {
    let mut object = workload(Kind::Deployment);
    on_pods(&mut object, &[("delay", "3s")]);
    let shop = Shop::with(&object);
    let child = shop.set("deployment/web", &new(), &["--timeout", "120s"]);
    shop.until("a new pod", |shop| shop.pods().0.contains(&new()));
    let pods = shop.get("pods");
    let pod = pods["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|pod| pod["spec"]["containers"][0]["image"] == new())
        .and_then(|pod| pod["metadata"]["name"].as_str())
        .unwrap();
    let eviction = tempfile::NamedTempFile::new().unwrap();
    let body = json!({"apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": pod, "namespace": shop.namespace}});
    std::fs::write(eviction.path(), body.to_string()).unwrap();
    let path = format!("/api/v1/namespaces/{}/pods/{pod}/eviction", shop.namespace);
    let file = eviction.path().to_str().unwrap();
    succeed(&mut shop.kubectl(&["create", "--raw", &path, "-f", file]));
    let rolled = Rolled::of(child);
    rolled.ended(0, "");
    let web = rolled.workload();
    assert!(web["pods"].as_array().unwrap().iter().all(|one| one["name"] != pod), "{web:#}");
    shop.runs(&new(), 2);
    assert_ne!(run(&mut shop.kubectl(&["get", "pod", pod])).code, 0, "it was not evicted");
}

#[test]
fn a_claim_that_is_being_deleted_is_named() {
    let shop = Shop::open();
    let volume = unique("volume");
    let size = json!({"storage": "1Gi"});
    shop.apply(&json!({"apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": volume}, "spec": {"capacity": size, "accessModes": ["ReadWriteMany"],
            "persistentVolumeReclaimPolicy": "Retain", "storageClassName": "",
            "hostPath": {"path": "/nonexistent"},
            "claimRef": {"namespace": shop.namespace, "name": "data"}}}));
    shop.apply(&json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteMany"],
            "storageClassName": "", "volumeName": volume, "resources": {"requests": size}}}));
    let mut object = workload(Kind::Deployment);
    object["spec"]["template"]["spec"]["volumes"] =
        json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]);
    shop.apply(&object);
    shop.settled(&object);
    // It stays for as long as the old pods have it; new ones get it no more.
    succeed(&mut shop.kubectl(&["delete", "pvc", "data", "--wait=false"]));
    let rolled = shop.rollout("deployment/web", &new(), &["--timeout", "60s"]);
    succeed(&mut shop.kubectl(&["delete", "pv", &volume, "--wait=false"]));
    rolled.ended(13, "VOLUME_CLAIM_PENDING");
    let message = rolled.json["error"]["message"].as_str().unwrap();
    let words = &rolled.workload()["diagnoses"][0]["evidence"];
    assert!(message.contains("`data`") && message.contains("being deleted"), "{message}: {words}");
    shop.runs(&old(), 2);
}
