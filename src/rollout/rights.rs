//! The rights that a rollout needs: each call that we make. README's Role lists exactly these. Pure.

use super::workload::Kind;

/// A call that we make of the API server.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Call {
    /// The API group; empty for the core's.
    pub group: &'static str,
    /// Such as `deployments`, or `pods/log`.
    pub resource: &'static str,
    /// Such as `patch`.
    pub verb: &'static str,
    /// Whether the resource belongs to no namespace.
    pub cluster_wide: bool,
    /// Whether a rollout goes on without it, and what it does not do then.
    pub without: Option<&'static str>,
}

/// The calls that checks of pods make through the API server: requests of these methods' verbs
/// (`get` for `GET`, `update` for `PUT`), and commands.
pub fn calls_of_checks(verbs: &[&'static str], commands: bool) -> Vec<Call> {
    let call =
        |resource, verb| Call { group: "", resource, verb, cluster_wide: false, without: None };
    let mut calls: Vec<Call> = verbs.iter().map(|verb| call("pods/proxy", *verb)).collect();
    if commands {
        // A command comes over a connection that begins as a GET; newer servers want both.
        calls.extend(["get", "create"].map(|verb| call("pods/exec", verb)));
    }
    if !calls.is_empty() {
        calls.push(call("pods", "get"));
    }
    calls
}

/// The calls that a rollout of `kind` makes.
pub fn calls(kind: Kind) -> Vec<Call> {
    let call =
        |group, resource, verb| Call { group, resource, verb, cluster_wide: false, without: None };
    let mut calls: Vec<Call> = ["get", "list", "watch", "patch"]
        .map(|verb| call(kind.group(), kind.plural(), verb))
        .to_vec();
    calls.extend(
        ["get", "create", "update"].map(|verb| call("coordination.k8s.io", "leases", verb)),
    );
    if kind.rolls() {
        let revisions = match kind {
            Kind::Deployment => "replicasets",
            _ => "controllerrevisions",
        };
        for verb in ["list", "watch"] {
            calls.push(call("apps", revisions, verb));
            calls.push(call("", "pods", verb));
            let without = Some("what only events tell (probes, volumes, quotas) is not diagnosed");
            calls.push(Call { without, ..call("", "events", verb) });
        }
        let without = Some("the last lines of a container that ended are not shown");
        calls.push(Call { without, ..call("", "pods/log", "get") });
        if kind == Kind::StatefulSet {
            let without =
                Some("a pod that holds an ordered StatefulSet up is not taken out of the way");
            calls.push(Call { without, ..call("", "pods", "delete") });
        }
    }
    let without = Some("the pull secret is not looked at");
    calls.push(Call { without, ..call("", "secrets", "get") });
    calls.push(Call { without, ..call("", "serviceaccounts", "get") });
    let without = Some("the image's platforms are not held against the nodes");
    calls.push(Call { without, cluster_wide: true, ..call("", "nodes", "list") });
    calls
}
