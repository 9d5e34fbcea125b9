//! What would fail later is found before anything is built: exit 17, and neither builder, registry nor
//! cluster is changed.

use super::{Project, repository};
use crate::{
    bed,
    command::{Said, run, succeed, unique},
    push::proxy::Proxy,
};
use serde_json::{Value, json};
use std::process::Command;

/// A project that pushes to `image`; `more` is added to its config.
fn project(image: &str, platform: &str, dockerfile: &str, more: &str) -> Project {
    let config = format!(
        "[build]\nbuilder = \"{}\"\nplatforms = [\"{platform}\"]\n\
         [image]\nname = \"{image}\"\ntags = [\"{{git.sha}}\", \"latest\"]\n{more}",
        bed::buildkitd()
    );
    Project::new(&[("Dockerfile", dockerfile), ("f", &unique("f")), ("bk-sync.toml", &config)])
}

/// A step that no builder has run before.
fn dockerfile() -> String {
    format!("FROM {}\nCOPY f /f\nRUN echo ran-{}\n", bed::base_arm64(), unique("step"))
}

/// Insists that the deploy was refused with `code` before its build; the error, with its fix.
fn refused(said: &Said, code: &str) -> Value {
    assert_eq!(said.code, 17, "{}\n{}", said.stdout, said.stderr);
    let envelope: Value = serde_json::from_str(&said.stdout).expect("JSON");
    let error = &envelope["error"];
    assert_eq!(error["code"], code, "{envelope}");
    let receipt = &error["details"]["receipt"];
    assert_eq!(receipt["failure"]["stage"], "preflight", "{envelope}");
    assert!(receipt["stages"]["build"].is_null() && receipt["image"].is_null(), "{envelope}");
    assert!(!said.stderr.contains("ran-"), "a step has run: {}", said.stderr);
    let mut error = error.clone();
    error["fix"] = envelope["fix"].clone();
    error
}

#[test]
fn gotcha_403_on_blob_head_is_told_before_the_build_and_leaves_nothing_open() {
    let proxy = Proxy::start(bed::registry_token(), |_| None);
    let (user, password) = bed::pull_only_user();
    let more =
        format!("[registry.\"{}\"]\nusername = \"{user}\"\nenv = \"TOKEN\"\n", proxy.address);
    let project = project(&repository(&proxy.address), "linux/arm64", &dockerfile(), &more);
    let said = run(project
        .command(&["sync", "--format", "json", "--progress", "plain"])
        .env("TOKEN", password));
    let error = refused(&said, "PUSH_DENIED");
    assert!(error["fix"].as_str().expect("a fix").contains("write access"), "{error}");
    let doctor = run(project.command(&["doctor", "--format", "json"]).env("TOKEN", password));
    assert_eq!(doctor.code, 17, "{}", doctor.stderr);
    let doctor: Value = serde_json::from_str(&doctor.stdout).expect("JSON");
    let checks = doctor["error"]["details"]["checks"].as_array().expect("checks");
    let push = checks.iter().find(|check| check["area"] == "registry" && check["name"] == "push");
    assert_eq!(push.expect("a check of pushes")["state"], "failed", "{doctor}");
    // Nothing but questions has reached the registry: an upload that was opened was cancelled.
    let seen = proxy.seen();
    assert!(!seen.is_empty());
    let opened = seen.iter().filter(|one| one.method == "POST" && one.status == Some(202)).count();
    let cancelled = seen.iter().filter(|one| one.method == "DELETE").count();
    assert_eq!(opened, cancelled, "{seen:?}");
    assert!(!seen.iter().any(|one| one.method == "PUT" || one.method == "PATCH"), "{seen:?}");
}

#[test]
fn gotcha_builder_disk_that_is_too_full_builds_nothing() {
    let more = "[deploy]\nfree_disk = \"4000t\"\n";
    let project = project(&repository(bed::registry()), "linux/arm64", &dockerfile(), more);
    let said = run(&mut project.command(&["sync", "--format", "json", "--progress", "plain"]));
    let error = refused(&said, "BUILDER_DISK_FULL");
    assert!(error["details"]["free"].as_u64().expect("bytes") > 0, "{error}");
    assert!(error["fix"].as_str().expect("a fix").contains("builder prune"), "{error}");
    let doctor = project.json(&["doctor"], 17).to_string();
    assert!(doctor.contains("4398046511104000") || doctor.contains("MB are free"), "{doctor}");
}

/// Where commands can be run, a builder elsewhere is asked too.
#[test]
fn gotcha_builder_disk_that_is_too_full_elsewhere_builds_nothing() {
    let more = "[deploy]\nfree_disk = \"4000t\"\n";
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", bed::ssh_path());
    for (builder, variable) in [
        (bed::ssh(), ("PATH", path.as_str())),
        (bed::kube_pod(), ("KUBECONFIG", bed::kubeconfig().to_str().expect("a path"))),
    ] {
        let project = project(&repository(bed::registry()), "linux/arm64", &dockerfile(), more);
        let mut sync = project.command(&["sync", "--format", "json", "--progress", "plain"]);
        let said = run(sync.args(["--builder", builder]).env(variable.0, variable.1));
        let error = refused(&said, "BUILDER_DISK_FULL");
        assert!(error["details"]["free"].as_u64().expect("bytes") > 0, "{error}");
    }
}

#[test]
fn gotcha_exec_format_error_of_a_builder_that_emulates_nothing() {
    let steps = format!("FROM {}\nCOPY f /f\nRUN echo ran\n", bed::base_multi());
    // A base image for that platform is not needed to see that a step would run on it.
    let steps = steps.replace("FROM ", "FROM --platform=$BUILDPLATFORM ");
    let elsewhere = project(
        &repository(bed::registry()),
        "linux/s390x",
        "FROM scratch\nCOPY f /f\nRUN [\"/f\"]\n",
        "",
    );
    let said = run(&mut elsewhere.command(&["sync", "--format", "json", "--progress", "plain"]));
    let error = refused(&said, "EMULATION_MISSING");
    assert!(error["message"].as_str().expect("words").contains("exec format error"), "{error}");
    // Files that are only copied, and steps that run on the builder's own platform, need no emulator.
    for dockerfile in [
        "FROM scratch\nCOPY f /f\n".to_owned(),
        format!("{steps}FROM scratch\nCOPY --from=0 /f /f\n"),
    ] {
        let project = project(&repository(bed::registry()), "linux/s390x", &dockerfile, "");
        let done = project.json(&["sync"], 0);
        assert_eq!(done["result"]["outcome"], "done");
    }
}

/// A Deployment on kwok's nodes, in a namespace of its own.
struct Place(String);

impl Drop for Place {
    fn drop(&mut self) {
        drop(kubectl(&["delete", "namespace", &self.0, "--wait=false"]).output());
    }
}

fn kubectl(arguments: &[&str]) -> Command {
    let mut command = Command::new(bed::program("kubectl"));
    command.arg("--kubeconfig").arg(bed::kubeconfig()).args(arguments);
    command
}

impl Place {
    fn new(architecture: &str) -> Self {
        let place = Self(unique("preflight"));
        succeed(&mut kubectl(&["create", "namespace", &place.0]));
        let labels = json!({ "app": "web" });
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
            "spec": { "replicas": 1, "selector": { "matchLabels": labels }, "template": {
                "metadata": { "labels": labels },
                "spec": {
                    "nodeSelector": { "kubernetes.io/arch": architecture, "bk-sync.test/node": "kwok" },
                    "tolerations": [{ "operator": "Exists", "effect": "NoSchedule", "key": "kwok.x-k8s.io/node" }],
                    "containers": [{ "name": "web", "image": "registry.example/web:1" }],
                } } },
        });
        place.apply(&object);
        place
    }

    fn apply(&self, object: &Value) {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), object.to_string()).expect("it takes text");
        let path = file.path().to_str().expect("a path");
        succeed(&mut kubectl(&["-n", &self.0, "apply", "-f", path]));
    }

    fn generation(&self) -> Value {
        let said =
            succeed(&mut kubectl(&["-n", &self.0, "get", "deployment", "web", "-o", "json"]));
        let deployment: Value = serde_json::from_str(&said.stdout).expect("JSON");
        deployment["metadata"]["generation"].clone()
    }

    fn config(&self) -> String {
        format!("[rollout]\nnamespace = \"{}\"\nworkload = \"deployment/web\"\n", self.0)
    }
}

fn sync(project: &Project) -> Said {
    run(project
        .command(&["sync", "--format", "json", "--progress", "plain"])
        .env("KUBECONFIG", bed::kubeconfig()))
}

#[test]
fn gotcha_exec_format_error_of_an_image_for_no_platform_in_particular() {
    let place = Place::new("arm64");
    let project =
        project(&repository(bed::registry()), "linux/arm64", &dockerfile(), &place.config());
    let config = std::fs::read_to_string(project.path().join("bk-sync.toml")).expect("the config");
    project.write("bk-sync.toml", &config.replace("platforms = [\"linux/arm64\"]\n", ""));
    project.commit("as three of the four pipelines had it");
    let before = place.generation();
    let error = refused(&sync(&project), "ARCH_MISMATCH");
    let words = error["message"].as_str().expect("words");
    assert!(words.contains("linux/amd64") && words.contains("arm64"), "{error}");
    assert_eq!(place.generation(), before);
}

#[test]
fn checks_that_nobody_will_answer_are_found_before_the_build() {
    let place = Place::new("arm64");
    // A port that was free a moment ago, and where nobody listens.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .expect("a port")
        .local_addr()
        .expect("its number")
        .port();
    let more = format!(
        "{}[verify.inngest]\nurl = \"http://127.0.0.1:{port}\"\napp = \"a\"\nserve = {{ port = 3111 }}\n",
        place.config()
    );
    let project = project(&repository(bed::registry()), "linux/arm64", &dockerfile(), &more);
    let error = refused(&sync(&project), "INNGEST_SERVER_SILENT");
    assert!(error["message"].as_str().expect("words").contains(&port.to_string()), "{error}");
}

#[test]
fn rights_that_checks_need_are_looked_at_before_the_build_and_all_is_told_at_once() {
    let place = Place::new("arm64");
    place.apply(&json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "deployer" } }));
    let rule = |groups: &[&str], resources: &[&str]| json!({ "apiGroups": groups, "resources": resources, "verbs": ["*"] });
    place.apply(&json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": { "name": "deployer" },
        "rules": [rule(&["apps"], &["deployments", "replicasets"]), rule(&[""], &["pods", "pods/log", "events", "secrets", "serviceaccounts"]),
            rule(&["coordination.k8s.io"], &["leases"])] }));
    place.apply(&json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": { "name": "deployer" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "deployer" },
        "subjects": [{ "kind": "ServiceAccount", "name": "deployer" }] }));
    let token = succeed(&mut kubectl(&["-n", &place.0, "create", "token", "deployer"]));
    let more = format!(
        "{}[[verify.http]]\nport = 3111\n[[verify.exec]]\ncommand = [\"true\"]\n[deploy]\nfree_disk = \"4000t\"\n",
        place.config()
    );
    let project = project(&repository(bed::registry()), "linux/arm64", &dockerfile(), &more);
    let flat = succeed(&mut kubectl(&["config", "view", "--raw", "--flatten", "-o", "json"]));
    let mut kubeconfig: Value = serde_json::from_str(&flat.stdout).expect("JSON");
    kubeconfig["users"][0]["user"] = json!({ "token": token.stdout.trim() });
    let path = project.stranger.join("kubeconfig.json");
    std::fs::write(&path, kubeconfig.to_string()).expect("a kubeconfig");
    let said = run(project
        .command(&["sync", "--format", "json", "--progress", "plain"])
        .env("KUBECONFIG", &path));
    // The first obstacle has the floor; the others stand beside it.
    refused(&said, "BUILDER_DISK_FULL");
    assert!(said.stdout.contains("RIGHTS_MISSING"), "{}", said.stdout);
    for right in ["get pods/proxy", "get pods/exec", "create pods/exec"] {
        assert!(said.stdout.contains(right), "{right}: {}", said.stdout);
    }
}
