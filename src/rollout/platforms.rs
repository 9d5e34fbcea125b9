//! The platforms of an image against the nodes that a pod template may be scheduled on. Pure.

use super::request::PlatformManifest;
use k8s_openapi::api::core::v1::{
    Node, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration,
};
use serde_json::Value;

/// A node that the pods could go to, and that could not run the image.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Misfit {
    /// Its name.
    pub node: String,
    /// Such as `linux/arm64`.
    pub platform: String,
}

/// How an image fits the nodes that its pods may be scheduled on.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Fit {
    /// Nodes that the pods could go to.
    pub eligible: usize,
    /// Those of them that could not run the image.
    pub misfits: Vec<Misfit>,
}

/// How an image of `manifests` fits the nodes that pods of `template` may be scheduled on.
pub fn fit(
    template: &Value,
    is_daemon: bool,
    nodes: &[Node],
    manifests: &[PlatformManifest],
) -> Fit {
    let spec: PodSpec = template
        .get("spec")
        .cloned()
        .and_then(|spec| serde_json::from_value(spec).ok())
        .unwrap_or_default();
    let eligible: Vec<&Node> =
        nodes.iter().filter(|node| is_eligible(node, &spec, is_daemon)).collect();
    let misfits = eligible
        .iter()
        .filter_map(|node| {
            let platform = platform(node)?;
            let runs = manifests.iter().any(|manifest| runs(&platform, &manifest.platform));
            let node = node.metadata.name.clone().unwrap_or_default();
            (!runs).then_some(Misfit { node, platform })
        })
        .collect();
    Fit { eligible: eligible.len(), misfits }
}

/// What a node says it is, such as `linux/arm64`.
fn platform(node: &Node) -> Option<String> {
    let info = node.status.as_ref()?.node_info.as_ref()?;
    let os = if info.operating_system.is_empty() { "linux" } else { &info.operating_system };
    (!info.architecture.is_empty()).then(|| format!("{os}/{}", info.architecture))
}

/// Whether a node of platform `node` runs an image for `image`. 64-bit nodes also run their 32-bit
/// kin, as containerd has it.
fn runs(node: &str, image: &str) -> bool {
    let mut image = image.split('/');
    let (os, arch) = (image.next().unwrap_or_default(), image.next().unwrap_or_default());
    let Some((node_os, node_arch)) = node.split_once('/') else { return false };
    os == node_os
        && (arch == node_arch || matches!((node_arch, arch), ("amd64", "386") | ("arm64", "arm")))
}

fn is_eligible(node: &Node, spec: &PodSpec, is_daemon: bool) -> bool {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    if let Some(wanted) = spec.node_name.as_deref().filter(|name| !name.is_empty()) {
        return wanted == name;
    }
    let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
    if cordoned && !is_daemon {
        return false;
    }
    let label = |key: &str| {
        node.metadata.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str)
    };
    let selected =
        spec.node_selector.iter().flatten().all(|(key, value)| label(key) == Some(value.as_str()));
    let terms = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|node| node.required_during_scheduling_ignored_during_execution.as_ref())
        .map(|required| required.node_selector_terms.as_slice());
    let attracted =
        terms.is_none_or(|terms| terms.iter().any(|term| term_fits(term, name, &label)));
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    // What the node suffers from now may be over when the pods come.
    let tolerated = taints
        .iter()
        .filter(|taint| taint.effect != "PreferNoSchedule" && !is_passing(taint))
        .all(|taint| tolerations.iter().any(|toleration| tolerates(toleration, taint)));
    selected && attracted && tolerated
}

/// A taint that the cluster sets by itself for a state that passes.
fn is_passing(taint: &Taint) -> bool {
    taint.key.starts_with("node.kubernetes.io/")
}

fn term_fits<'n>(
    term: &NodeSelectorTerm,
    name: &'n str,
    label: &dyn Fn(&str) -> Option<&'n str>,
) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    // A term without requirements fits nothing.
    (!expressions.is_empty() || !fields.is_empty())
        && expressions.iter().all(|one| requirement_fits(one, label(&one.key)))
        && fields
            .iter()
            .all(|one| requirement_fits(one, (one.key == "metadata.name").then_some(name)))
}

fn requirement_fits(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let is_one = value.is_some_and(|value| values.iter().any(|other| other == value));
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
    let bound = number(values.first().map(String::as_str));
    match requirement.operator.as_str() {
        "In" => is_one,
        "NotIn" => !is_one,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => number(value).zip(bound).is_some_and(|(value, bound)| value > bound),
        "Lt" => number(value).zip(bound).is_some_and(|(value, bound)| value < bound),
        _ => false,
    }
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    let exists = toleration.operator.as_deref() == Some("Exists");
    let value = toleration.value.as_deref().unwrap_or_default();
    (effect.is_empty() || effect == taint.effect)
        && (key == taint.key || (key.is_empty() && exists))
        && (exists || value == taint.value.as_deref().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::{Misfit, fit};
    use crate::rollout::request::PlatformManifest;
    use k8s_openapi::api::core::v1::Node;
    use serde_json::{Value, json};

    fn node(name: &str, arch: &str, more: &Value) -> Node {
        let mut node = json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/arch": arch, "size": "4"}},
            "spec": {},
            "status": {"nodeInfo": {"architecture": arch, "operatingSystem": "linux",
                "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "",
                "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "", "osImage": "",
                "systemUUID": ""}},
        });
        node["spec"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(node).unwrap()
    }

    fn manifests(platforms: &[&str]) -> Vec<PlatformManifest> {
        let manifest = |platform: &&str| PlatformManifest {
            platform: (*platform).to_owned(),
            digest: String::new(),
        };
        platforms.iter().map(manifest).collect()
    }

    #[test]
    fn only_nodes_that_the_template_allows_count() {
        let taint =
            json!({"taints": [{"key": "dedicated", "value": "gpu", "effect": "NoSchedule"}]});
        let nodes = [
            node("arm", "arm64", &json!({})),
            node("amd", "amd64", &json!({})),
            node("gpu", "amd64", &taint),
            node("away", "amd64", &json!({"unschedulable": true})),
        ];
        let term = |expression: Value| {
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}}})
        };
        let table = [
            (json!({}), 2, vec!["amd"]),
            (json!({"nodeSelector": {"kubernetes.io/arch": "arm64"}}), 1, vec![]),
            (json!({"nodeSelector": {"kubernetes.io/arch": "riscv64"}}), 0, vec![]),
            (json!({"tolerations": [{"operator": "Exists"}]}), 3, vec!["amd", "gpu"]),
            (json!({"tolerations": [{"key": "dedicated", "value": "gpu"}]}), 3, vec!["amd", "gpu"]),
            (json!({"tolerations": [{"key": "dedicated", "value": "x"}]}), 2, vec!["amd"]),
            (
                term(
                    json!({"key": "kubernetes.io/arch", "operator": "NotIn", "values": ["amd64"]}),
                ),
                1,
                vec![],
            ),
            (term(json!({"key": "size", "operator": "Gt", "values": ["4"]})), 0, vec![]),
            (json!({"nodeName": "gpu"}), 1, vec!["gpu"]),
        ];
        for (spec, eligible, misfits) in table {
            let fit = fit(&json!({"spec": spec}), false, &nodes, &manifests(&["linux/arm64"]));
            let found: Vec<&str> = fit.misfits.iter().map(|misfit| misfit.node.as_str()).collect();
            assert_eq!((fit.eligible, found), (eligible, misfits), "{spec}");
        }
    }

    #[test]
    fn a_platform_is_more_than_its_text() {
        let nodes = [node("n", "arm64", &json!({}))];
        let misfits = |platforms: &[&str]| {
            fit(&json!({"spec": {}}), false, &nodes, &manifests(platforms)).misfits
        };
        assert_eq!(misfits(&["linux/arm64/v8"]), []);
        assert_eq!(misfits(&["linux/amd64", "linux/arm/v7"]), []);
        let expected = Misfit { node: "n".to_owned(), platform: "linux/arm64".to_owned() };
        assert_eq!(misfits(&["linux/amd64"]), std::slice::from_ref(&expected));
        assert_eq!(misfits(&["windows/arm64"]), [expected]);
    }
}
