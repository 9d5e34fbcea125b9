//! The ways in which a cluster lets us in: an account inside a pod, a plugin, a token.

use super::{
    endings::server_address,
    refusals::{grant, readme_rules},
    shop::{Kind, Rolled, Shop, new, old},
};
use crate::{
    bed,
    command::{run, succeed},
};
use bk_sync::rollout::{rights::calls, workload};
use serde_json::{Value, json};
use std::{collections::BTreeSet, path::Path, process::Command, time::Duration};

/// Mounts a service account where a pod finds it, in a mount namespace of its own, and runs the rest
/// there.
const AS_IN_A_POD: &str = "set -e; at=/run/secrets/kubernetes.io/serviceaccount; \
    mount -t tmpfs none /run; mkdir -p $at; cp \"$0\"/* $at; exec \"$@\"";

fn authority() -> Vec<u8> {
    use base64::Engine as _;
    let text = std::fs::read_to_string(bed::kubeconfig()).unwrap();
    let line =
        text.lines().find_map(|line| line.trim().strip_prefix("certificate-authority-data:"));
    base64::engine::general_purpose::STANDARD.decode(line.unwrap().trim()).unwrap()
}

fn token(shop: &Shop) -> String {
    succeed(&mut shop.kubectl(&["create", "token", "deployer"])).stdout.trim().to_owned()
}

/// `command` as if it ran in a pod of `account`.
fn inside(command: &Command, account: &Path) -> Command {
    let mut inside = Command::new("unshare");
    inside
        .args(["--mount", "sh", "-c", AS_IN_A_POD])
        .arg(account)
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(command.get_current_dir().unwrap())
        .env_clear();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            inside.env(name, value);
        }
    }
    let (host, port) =
        server_address().rsplit_once(':').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    inside.env("KUBERNETES_SERVICE_HOST", host).env("KUBERNETES_SERVICE_PORT", port);
    inside.env_remove("KUBECONFIG");
    inside
}

#[test]
fn inside_a_pod_its_account_is_used_with_the_role_of_readme_alone() {
    let shop = Shop::with(&super::shop::workload(Kind::Deployment));
    grant(&shop, &readme_rules());
    let account = tempfile::tempdir().unwrap();
    std::fs::write(account.path().join("token"), token(&shop)).unwrap();
    std::fs::write(account.path().join("ca.crt"), authority()).unwrap();
    std::fs::write(account.path().join("namespace"), &shop.namespace).unwrap();
    let mut command = shop.bk_sync();
    command.args(["rollout", "deployment/web", "--image", &new()]).args([
        "--format",
        "json",
        "--progress",
        "plain",
    ]);
    let rolled = Rolled::new(run(&mut inside(&command, account.path())), Duration::ZERO);
    rolled.ended(0, "");
    // The namespace is the pod's own; there is no context.
    assert_eq!(rolled.json["result"]["namespace"], shop.namespace);
    assert!(rolled.json["result"]["context"].is_null());
    shop.runs(&new(), 2);
    // Whose account has no such right is refused as anybody.
    succeed(&mut shop.kubectl(&["delete", "rolebinding", "deployer"]));
    let refused = run(&mut inside(&command, account.path()));
    let refused = Rolled::new(refused, Duration::ZERO);
    refused.ended(17, "RIGHTS_MISSING");
}

#[test]
fn a_plugin_or_a_token_of_the_kubeconfig_lets_us_in() {
    use base64::Engine as _;
    let shop = Shop::with(&super::shop::workload(Kind::Deployment));
    grant(&shop, &readme_rules());
    let token = token(&shop);
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("plugin");
    let credential = json!({"apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential", "status": {"token": token}});
    std::fs::write(&plugin, format!("#!/bin/sh\ncat <<'END'\n{credential}\nEND\n")).unwrap();
    succeed(Command::new("chmod").arg("+x").arg(&plugin));
    let exec = json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1",
        "command": plugin, "interactiveMode": "Never"}});
    let authority = base64::engine::general_purpose::STANDARD.encode(authority());
    for (name, user) in [("plugin", exec), ("token", json!({"token": token}))] {
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "elsewhere",
            "clusters": [{"name": "c", "cluster": {"server": format!("https://{}", server_address()),
                "certificate-authority-data": authority}}],
            "users": [{"name": "u", "user": user}],
            "contexts": [
                {"name": "here", "context": {"cluster": "c", "user": "u", "namespace": shop.namespace}},
                {"name": "elsewhere", "context": {"cluster": "c", "user": "u", "namespace": "nowhere"}},
            ],
        });
        let file = folder.path().join(format!("{name}.json"));
        std::fs::write(&file, kubeconfig.to_string()).unwrap();
        let mut command = shop.bk_sync();
        command
            .args(["rollout", "deployment/web", "--image", &old(), "--format", "json"])
            .arg("--kubeconfig")
            .arg(&file)
            .args(["--context", "here"]);
        let rolled = Rolled::new(run(&mut command), Duration::ZERO);
        rolled.ended(0, "");
        assert_eq!(rolled.workload()["outcome"], "unchanged", "{name}");
        assert_eq!(rolled.json["result"]["context"], "here", "{name}");
    }
}

#[test]
fn readmes_role_lists_the_calls_that_are_made_and_no_other() {
    let kinds = [
        workload::Kind::CronJob,
        workload::Kind::DaemonSet,
        workload::Kind::Deployment,
        workload::Kind::Job,
        workload::Kind::StatefulSet,
    ];
    let made: BTreeSet<(String, String, String)> = kinds
        .into_iter()
        .flat_map(calls)
        .filter(|call| !call.cluster_wide)
        .map(|call| (call.group.to_owned(), call.resource.to_owned(), call.verb.to_owned()))
        .collect();
    let mut listed = BTreeSet::new();
    let rules = readme_rules();
    let words = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    for rule in rules.as_array().unwrap() {
        for group in words(&rule["apiGroups"]) {
            for resource in words(&rule["resources"]) {
                for verb in words(&rule["verbs"]) {
                    listed.insert((group.clone(), resource.clone(), verb));
                }
            }
        }
    }
    assert_eq!(made, listed);
}
