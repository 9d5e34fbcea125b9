//! The whole seed system with real parts: a workspace in git, BuildKit, a registry that wants a token,
//! a cluster whose node runs what was built, a worker that serves with the real `inngest` package, a
//! daemon that lends the password as agent-secrets does, and a recorder in the place of `slog`.
//!
//! The Inngest server alone is a stand-in: no registry here has its program. It answers what the real
//! one is known to answer, and is told by the real SDK, out of the pod.

use super::{Project, repository};
use crate::{
    bed,
    command::{Said, run, succeed, unique, write_files},
    credential::agent::Agent,
    verify::stand_in::Inngest,
};
use serde_json::{Value, json};
use std::{
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

const WORKLOAD: &str = "system-bus-worker";
/// The worker's app, as the server knows it.
const APP: &str = "system-bus-cluster";
/// The app of the other worker, which nobody here may touch.
const OTHER: &str = "system-bus-host";
const KEY: &str = "signkey-prod-0011aabbccddeeff";
/// What the seed's repository holds.
const FILES: [(&str, &str); 12] = [
    ("install.sh", include_str!("../../fixtures/seed/install.sh")),
    ("package.json", include_str!("../../fixtures/seed/package.json")),
    ("pnpm-workspace.yaml", include_str!("../../fixtures/seed/pnpm-workspace.yaml")),
    (
        "packages/memory/package.json",
        include_str!("../../fixtures/seed/packages/memory/package.json"),
    ),
    (
        "packages/memory/src/index.mjs",
        include_str!("../../fixtures/seed/packages/memory/src/index.mjs"),
    ),
    (
        "packages/system-bus/package.json",
        include_str!("../../fixtures/seed/packages/system-bus/package.json"),
    ),
    (
        "packages/system-bus/src/serve.mjs",
        include_str!("../../fixtures/seed/packages/system-bus/src/serve.mjs"),
    ),
    (CLUSTER_INDEX, include_str!("../../fixtures/seed/packages/system-bus/src/index.cluster.mjs")),
    (
        "packages/system-bus/src/index.host.mjs",
        include_str!("../../fixtures/seed/packages/system-bus/src/index.host.mjs"),
    ),
    (
        "packages/system-bus/src/functions/heartbeat.mjs",
        include_str!("../../fixtures/seed/packages/system-bus/src/functions/heartbeat.mjs"),
    ),
    (
        "packages/system-bus/src/functions/memory.mjs",
        include_str!("../../fixtures/seed/packages/system-bus/src/functions/memory.mjs"),
    ),
    (
        "packages/system-bus/src/functions/video.mjs",
        include_str!("../../fixtures/seed/packages/system-bus/src/functions/video.mjs"),
    ),
];
const CLUSTER_INDEX: &str = "packages/system-bus/src/index.cluster.mjs";

/// The seed's system on the real node, in a namespace of its own.
struct System {
    project: Project,
    namespace: String,
    repository: String,
    agent: Agent,
    inngest: Arc<Mutex<Inngest>>,
}

impl Drop for System {
    fn drop(&mut self) {
        let name = self.namespace.as_str();
        drop(kubectl(&["delete", "namespace", name, "--wait=false"]).output());
    }
}

fn kubectl(arguments: &[&str]) -> Command {
    let mut command = Command::new(bed::program("kubectl"));
    command.arg("--kubeconfig").arg(bed::kubeconfig()).args(arguments);
    command
}

fn create(namespace: &str, object: &Value) {
    let mut child = kubectl(&["-n", namespace, "create", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kubectl starts");
    let mut stdin = child.stdin.take().expect("its stdin");
    stdin.write_all(object.to_string().as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{output:?}");
}

/// The address of this machine that pods of the real node reach.
fn host_of_pods() -> String {
    let path = "jsonpath={.status.addresses[?(@.type==\"InternalIP\")].address}";
    let said = succeed(&mut kubectl(&["get", "node", bed::real_node(), "-o", path]));
    said.stdout
}

impl System {
    /// A worker of an old image that runs, and a checkout that would replace it; `more` is added to the
    /// config.
    fn new(more: &str) -> Self {
        let namespace = unique("whole");
        let repository = repository(bed::registry_token());
        let known = Inngest {
            key: Some(KEY.to_owned()),
            apps: vec![(
                OTHER.to_owned(),
                "http://host:3111/api/inngest".to_owned(),
                true,
                vec!["video/download".to_owned()],
            )],
            ..Inngest::default()
        };
        let (inngest, port) = known.listen();
        let dockerfile = include_str!("../../fixtures/seed/Dockerfile")
            .replace("{BASE}", bed::base_node_arm64());
        let project = Project::new(&FILES);
        project.write("packages/system-bus/Dockerfile", &dockerfile);
        let agent = Agent::start(project.stranger.path(), "ghcr_pat", bed::user().1, 1200);
        let system = Self { project, namespace, repository, agent, inngest };
        system.configure(port, more);
        system.record_with_slog();
        system.run_an_old_image(port);
        system
    }

    fn configure(&self, port: u16, more: &str) {
        let config = format!(
            "[build]\nbuilder = \"{builder}\"\nfile = \"packages/system-bus/Dockerfile\"\nplatforms = [\"linux/arm64\"]\n\
             [image]\nname = \"{image}\"\ntags = [\"{{git.sha}}\", \"latest\"]\n\
             [registry.\"{registry}\"]\nusername = \"{user}\"\n\
             secret_lease = {{ name = \"ghcr_pat\", ttl = \"20m\", client_id = \"bk-sync\", socket = \"{socket}\" }}\n\
             [rollout]\nnamespace = \"{namespace}\"\nworkload = \"deployment/{WORKLOAD}\"\ncontainer = \"{WORKLOAD}\"\ntimeout = \"170s\"\n\
             [[verify.http]]\nport = 3111\nexpect = {{ status = 200, json = {{ \"status\" = \"running\", \"worker.role\" = \"cluster\", \"worker.hasDuplicateFunctionIds\" = false }} }}\n\
             [[verify.exec]]\ncommand = [\"/bin/sh\", \"-c\", \"test -e packages/system-bus/node_modules/@joelclaw/memory/package.json && echo whole\"]\nexpect = {{ stdout = \"whole\" }}\ntimeout = \"60s\"\n\
             [verify.inngest]\nurl = \"http://127.0.0.1:{port}\"\napp = \"{APP}\"\nserve = {{ port = 3111, path = \"/api/inngest\" }}\n\
             functions = {{ from = \"worker\" }}\nsigning_key_env = \"INNGEST_SIGNING_KEY\"\nattempts = 3\n\
             sources = [\"packages/system-bus/src/functions/*.mjs\"]\nindexes = [\"packages/system-bus/src/index.*.mjs\"]\n\
             [record]\nreferrer = true\n\
             command = [\"slog\", \"write\", \"--action\", \"deploy\", \"--tool\", \"{{workload.name}}\", \"--detail\", \
             \"deployed {{image}} to {{namespace}}/{{workload.name}}\", \"--reason\", \"{{reason}}\"]\n{more}",
            builder = bed::buildkitd(),
            image = self.repository,
            registry = bed::registry_token(),
            user = bed::user().0,
            socket = self.agent.socket.display(),
            namespace = self.namespace,
        );
        self.project.write("bk-sync.toml", &config);
        self.project.commit("deploy with one command");
    }

    /// The recorder keeps its words and the environment that it was started with. It is not in the
    /// checkout.
    fn record_with_slog(&self) {
        let bin = self.project.stranger.join("bin");
        let script =
            "#!/bin/sh\nprintf '%s\\n' \"$*\" >> \"$HOME/slog.txt\"\nenv > \"$HOME/slog.env\"\n";
        write_files(&bin, &[("slog", script)]);
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(bin.join("slog"), mode).expect("a mode");
    }

    /// What runs before: an image that answers on the worker's port and knows nothing of Inngest.
    fn run_an_old_image(&self, port: u16) {
        let context = self.project.stranger.join("old");
        let dockerfile = format!(
            "FROM {}\nRUN mkdir /www && echo '{{\"status\":\"running\"}}' > /www/index.html\n\
             CMD [\"/bin/busybox\", \"httpd\", \"-f\", \"-p\", \"3111\", \"-h\", \"/www\"]\n",
            bed::base_arm64()
        );
        write_files(&context, &[("Dockerfile", &dockerfile)]);
        let old = format!("{}:old", self.repository);
        let (user, password) = bed::user();
        succeed(
            self.project
                .stranger
                .bk_sync()
                .env("BK_SYNC_REGISTRY_USERNAME", user)
                .env("BK_SYNC_REGISTRY_PASSWORD", password)
                .args(["--builder", bed::buildkitd(), "--progress", "plain", "build"])
                .args(["--platform", "linux/arm64", "--provenance=false", "--push", "-t", &old])
                .arg(&context),
        );
        let namespace = self.namespace.as_str();
        succeed(&mut kubectl(&["create", "namespace", namespace]));
        succeed(
            kubectl(&["-n", namespace, "create", "secret", "docker-registry", "ghcr-pull"])
                .arg(format!("--docker-server={}", bed::registry_token()))
                .arg(format!("--docker-username={user}"))
                .arg(format!("--docker-password={password}")),
        );
        let labels = json!({ "app": WORKLOAD });
        let variable = |name: &str, value: &str| json!({ "name": name, "value": value });
        create(
            namespace,
            &json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": WORKLOAD },
            "spec": { "selector": labels, "ports": [{ "port": 3111 }] } }),
        );
        create(
            namespace,
            &json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": WORKLOAD },
                "spec": {
                    "replicas": 1,
                    "selector": { "matchLabels": labels },
                    "template": { "metadata": { "labels": labels }, "spec": {
                        "nodeSelector": { "bk-sync.test/node": "real" },
                        "tolerations": [{ "key": "bk-sync.test/node", "operator": "Exists" }],
                        "terminationGracePeriodSeconds": 1,
                        "imagePullSecrets": [{ "name": "ghcr-pull" }],
                        "securityContext": { "runAsNonRoot": true, "runAsUser": 1000 },
                        "containers": [{
                            "name": WORKLOAD, "image": old, "imagePullPolicy": "Always",
                            "ports": [{ "containerPort": 3111 }],
                            "readinessProbe": { "httpGet": { "path": "/", "port": 3111 }, "periodSeconds": 2, "timeoutSeconds": 5, "failureThreshold": 10 },
                            "env": [
                                variable("WORKER_ROLE", "cluster"),
                                variable("INNGEST_APP_ID", APP),
                                variable("INNGEST_DEV", "0"),
                                variable("INNGEST_SIGNING_KEY", KEY),
                                variable("INNGEST_BASE_URL", &format!("http://{}:{port}", host_of_pods())),
                                variable("INNGEST_SERVE_HOST", "http://system-bus-worker:3111"),
                            ],
                        }],
                    } },
                },
            }),
        );
        let status = ["rollout", "status", "deployment", WORKLOAD, "--timeout=180s"];
        succeed(kubectl(&["-n", namespace]).args(status));
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.project.command(arguments);
        let bin = self.project.stranger.join("bin");
        command
            .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display()))
            .env("KUBECONFIG", bed::kubeconfig())
            .env("INNGEST_SIGNING_KEY", KEY);
        command
    }

    fn run(&self, arguments: &[&str]) -> Said {
        run(&mut self.command(arguments))
    }

    fn json(&self, arguments: &[&str], code: i32) -> Value {
        let said = run(self.command(arguments).args(["--format", "json"]));
        assert_eq!(said.code, code, "{arguments:?}\n{}\n{}", said.stdout, said.stderr);
        serde_json::from_str(&said.stdout).expect("JSON")
    }

    fn get(&self, what: &[&str]) -> Value {
        let said = succeed(kubectl(&["-n", &self.namespace, "get", "-o", "json"]).args(what));
        serde_json::from_str(&said.stdout).expect("JSON")
    }

    fn deployment(&self) -> Value {
        self.get(&["deployment", WORKLOAD])
    }

    fn image(&self) -> String {
        let image = &self.deployment()["spec"]["template"]["spec"]["containers"][0]["image"];
        image.as_str().expect("an image").to_owned()
    }

    /// UIDs of the pods that are not being ended.
    fn pods(&self) -> Vec<String> {
        let pods = self.get(&["pods"]);
        let live = pods["items"].as_array().expect("items").iter();
        let live = live.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        live.map(|pod| pod["metadata"]["uid"].as_str().expect("a UID").to_owned()).collect()
    }

    fn functions(&self, app: &str) -> Vec<String> {
        self.inngest.lock().unwrap().functions(app)
    }

    /// A function more, in the cluster's index where `indexed`.
    fn add_function(&self, id: &str, indexed: bool) {
        let name = id.rsplit('/').next().expect("a name");
        self.project.write(
            &format!("packages/system-bus/src/functions/{name}.mjs"),
            &format!("export const {name} = (inngest) =>\n  inngest.createFunction({{ id: \"{id}\" }}, {{ event: \"x\" }}, async () => 1);\n"),
        );
        if indexed {
            let index = self.project.path().join(CLUSTER_INDEX);
            let text = std::fs::read_to_string(&index).expect("the index");
            let text = format!(
                "import {{ {name} }} from \"./functions/{name}.mjs\";\n{}",
                text.replace("[heartbeat", &format!("[{name}, heartbeat"))
            );
            self.project.write(CLUSTER_INDEX, &text);
        }
        self.project.commit(&format!("add {id}"));
    }

    fn is_nowhere(&self, secret: &str, texts: &[(&str, &str)]) {
        for (place, text) in texts {
            assert!(!text.contains(secret), "a secret is in {place}");
        }
        for (path, bytes) in files(self.project.stranger.path()) {
            let text = String::from_utf8_lossy(&bytes);
            assert!(!text.contains(secret), "a secret is in {}", path.display());
        }
    }
}

/// Every file below a directory, with its content.
fn files(directory: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(directory).expect("a directory").flatten() {
            let path = entry.path();
            if path.is_dir() && !path.is_symlink() {
                waiting.push(path);
            } else if let Ok(bytes) = std::fs::read(&path) {
                found.push((path, bytes));
            }
        }
    }
    found
}

/// The receipt that lies beside an image in its registry.
fn referrer(repository: &str, digest: &str) -> Value {
    let (host, path) = repository.split_once('/').expect("a registry");
    let (user, password) = bed::user();
    let fetch = |rest: &str| -> Value {
        let challenge = succeed(
            Command::new("curl")
                .args(["-sS", "-o", "/dev/null", "-D", "-"])
                .arg(format!("http://{host}/v2/")),
        );
        let field = |name: &str| {
            let at =
                challenge.stdout.find(&format!("{name}=\"")).expect("a challenge") + name.len() + 2;
            challenge.stdout[at..].split('"').next().expect("a value").to_owned()
        };
        let token = succeed(
            Command::new("curl").args(["-fsS", "-u", &format!("{user}:{password}")]).arg(format!(
                "{}?service={}&scope=repository:{path}:pull",
                field("realm"),
                field("service")
            )),
        );
        let token: Value = serde_json::from_str(&token.stdout).expect("a token");
        let said = succeed(
            Command::new("curl")
                .args(["-fsS", "-H", &format!("Authorization: Bearer {}", token["token"].as_str().expect("a token"))])
                .args(["-H", "Accept: application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"])
                .arg(format!("http://{host}/v2/{path}/{rest}")),
        );
        serde_json::from_str(&said.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", said.stdout))
    };
    // This registry keeps no list of referrers: a tag stands in for it.
    let list = fetch(&format!("manifests/{}", digest.replace(':', "-")));
    let entry = &list["manifests"][0];
    assert_eq!(entry["artifactType"], "application/vnd.bk-sync.receipt.v1+json", "{list}");
    let manifest = fetch(&format!("manifests/{}", entry["digest"].as_str().expect("a digest")));
    assert_eq!(manifest["subject"]["digest"], digest);
    fetch(&format!("blobs/{}", manifest["layers"][0]["digest"].as_str().expect("a digest")))
}

#[test]
fn one_sync_does_the_eight_steps_the_second_nothing_and_a_changed_line_rolls_out() {
    let system = System::new("");
    let began = Instant::now();
    let said =
        run(system.command(&["sync", "--reason", "runbook"]).args(["--format", "json", "-vv"]));
    assert_eq!(said.code, 0, "{}\n{}", said.stdout, said.stderr);
    eprintln!("from a workspace to verified functions: {:?}", began.elapsed());
    let envelope: Value = serde_json::from_str(&said.stdout).expect("JSON");
    let receipt = &envelope["result"];
    let digest = receipt["image"]["digest"].as_str().expect("a digest").to_owned();
    // Build, push, rollout: what runs is the digest that was pushed.
    assert_eq!(system.image(), format!("{}@{digest}", system.repository));
    assert_eq!(receipt["rollout"]["pods"][0]["node"], bed::real_node());
    assert_eq!(
        json!(system.pods()),
        json!([receipt["rollout"]["pods"][0]["uid"]]),
        "the old pod is gone"
    );
    // Verify: the new pod was asked, and the real SDK in it has registered its functions, and no other app.
    let checks = receipt["checks"].as_array().expect("checks");
    assert_eq!(checks.len(), 3, "{receipt}");
    assert!(checks.iter().all(|check| check["ok"] == true), "{receipt}");
    assert_eq!(system.functions(APP), ["memory/observe", "system/heartbeat"]);
    assert_eq!(system.functions(OTHER), ["video/download"]);
    {
        let inngest = system.inngest.lock().unwrap();
        assert!(inngest.deleted.is_empty());
        let (app, sdk) = inngest.registered.last().expect("a registration");
        assert_eq!((app.as_str(), sdk.as_str()), (APP, "js:v3.21.2"));
    }
    // Record: the recorder's words, the annotations, and the receipt beside the image.
    let told =
        std::fs::read_to_string(system.project.stranger.join("slog.txt")).expect("slog was run");
    assert_eq!(
        told.trim(),
        format!(
            "write --action deploy --tool {WORKLOAD} --detail deployed {}@{digest} to {}/{WORKLOAD} --reason runbook",
            system.repository, system.namespace
        )
    );
    let deployment = system.deployment();
    assert_eq!(deployment["metadata"]["annotations"]["bk-sync/receipt"], receipt["id"]);
    let beside = referrer(&system.repository, &digest);
    assert_eq!((&beside["id"], &beside["outcome"]), (&receipt["id"], &json!("done")));
    assert_eq!(beside["git"]["commit"], receipt["git"]["commit"]);
    // The lease: one for the deploy, given back.
    assert_eq!((system.agent.lent().len(), system.agent.held()), (1, 0));
    // Secrets: nowhere that they do not belong.
    let texts = [
        ("stdout", said.stdout.as_str()),
        ("stderr", said.stderr.as_str()),
        ("annotations", &deployment["metadata"]["annotations"].to_string()),
        ("the receipt in the registry", &beside.to_string()),
    ];
    system.is_nowhere(bed::user().1, &texts);
    system.is_nowhere(KEY, &texts);

    let second = system.run(&["sync"]);
    assert_eq!(second.code, 0, "{}", second.stderr);
    assert!(second.stdout.starts_with("unchanged: "), "{}", second.stdout);
    assert_eq!(second.stdout.lines().count(), 1);
    let after = system.deployment();
    assert_eq!(after["metadata"]["generation"], deployment["metadata"]["generation"]);
    assert_eq!(after["metadata"]["annotations"], deployment["metadata"]["annotations"]);
    assert_eq!(system.agent.held(), 0);

    let before = system.pods();
    system.add_function("news/digest", true);
    let third = system.json(&["sync"], 0);
    assert_ne!(third["result"]["image"]["digest"], digest.as_str());
    assert_eq!(system.functions(APP), ["memory/observe", "news/digest", "system/heartbeat"]);
    assert_ne!(system.pods(), before);

    let verified = system.run(&["verify"]);
    assert_eq!(verified.code, 0, "{}", verified.stderr);
    assert_eq!(
        verified.stdout.lines().filter(|line| line.ends_with(": good")).count(),
        3,
        "{}",
        verified.stdout
    );
    let doctor = system.json(&["doctor"], 0);
    let found = |name: &str| {
        let checks = doctor["result"]["checks"].as_array().expect("checks").clone();
        checks
            .into_iter()
            .find(|check| check["area"] == "inngest" && check["name"] == name)
            .unwrap_or_else(|| panic!("{doctor}"))
    };
    assert_eq!(
        (&found("server")["state"], &found("registered")["state"]),
        (&json!("ok"), &json!("ok"))
    );
}

/// Pods that are ready and a server that has lost a function: the rollout stands, the check fails, and what
/// is resumed neither builds nor rolls out again.
#[test]
fn a_failed_check_is_gone_on_with_where_it_failed() {
    let system = System::new("");
    system.inngest.lock().unwrap().loses = vec!["system/heartbeat".to_owned()];
    let failed = system.json(&["sync"], 15);
    assert_eq!(failed["error"]["code"], "INNGEST_FUNCTIONS_MISSING", "{failed}");
    assert!(
        failed["error"]["message"].as_str().expect("words").contains("`system/heartbeat`"),
        "{failed}"
    );
    let receipt = &failed["error"]["details"]["receipt"];
    assert_eq!(receipt["failure"]["stage"], "verify");
    assert_eq!(system.agent.held(), 0, "the lease is still held");
    let (deployment, pods) = (system.deployment(), system.pods());
    let verified = system.json(&["verify"], 15);
    assert!(verified.to_string().contains("INNGEST_FUNCTIONS_MISSING"), "{verified}");

    system.inngest.lock().unwrap().loses.clear();
    let mut resume = system.command(&["sync", "--resume", "--format", "json"]);
    // With a builder that is not there: nothing is built.
    let resumed = run(resume.args(["--builder", "unix:///no/such.sock"]));
    assert_eq!(resumed.code, 0, "{}\n{}", resumed.stdout, resumed.stderr);
    let resumed: Value = serde_json::from_str(&resumed.stdout).expect("JSON");
    assert_eq!(resumed["result"]["resumes"], receipt["id"]);
    assert_eq!(resumed["result"]["stages"]["rollout"]["state"], "skipped", "{resumed}");
    assert_eq!(system.deployment()["spec"], deployment["spec"]);
    assert_eq!(system.pods(), pods, "the same pods, by their UIDs");
    assert_eq!(system.functions(APP), ["memory/observe", "system/heartbeat"]);
}

/// The worker is ready, and says itself that it is not well; with `on_verify_failure` the image before
/// it comes back.
#[test]
fn a_failed_check_brings_the_image_before_back_where_that_is_wanted() {
    let system = System::new("");
    let config =
        std::fs::read_to_string(system.project.path().join("bk-sync.toml")).expect("the config");
    let config = config
        .replace("timeout = \"170s\"\n", "timeout = \"170s\"\non_verify_failure = \"rollback\"\n");
    system.project.write("bk-sync.toml", &config);
    let serve = include_str!("../../fixtures/seed/packages/system-bus/src/serve.mjs");
    let serve = serve.replace("\"running\"", "\"degraded\"");
    system.project.write("packages/system-bus/src/serve.mjs", &serve);
    system.project.commit("a worker that is ready and not well");
    let before = system.image();
    let failed = system.json(&["sync"], 15);
    assert_eq!(failed["error"]["code"], "HTTP_JSON", "{failed}");
    assert!(failed["error"]["message"].to_string().contains("degraded"), "{failed}");
    let receipt = &failed["error"]["details"]["receipt"];
    assert_eq!(receipt["rolled_back"], true, "{failed}");
    let after = system.image();
    assert!(after == before || after.starts_with(&format!("{before}@sha256:")), "{before} {after}");
    let began = Instant::now();
    while system.pods().len() != 1 {
        assert!(began.elapsed() < Duration::from_mins(1), "{:?}", system.pods());
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// A function that is written and in no index is named, and stops nothing.
#[test]
fn gotcha_function_in_the_wrong_index_is_named() {
    let system = System::new("");
    system.add_function("lost/forgotten", false);
    let done = system.json(&["sync"], 0);
    let warnings = done["warnings"].to_string();
    assert!(
        warnings.contains("INNGEST_UNINDEXED") && warnings.contains("lost/forgotten"),
        "{warnings}"
    );
    assert!(!warnings.contains("video/download"), "it is in the other index: {warnings}");
    // Wanted of this app, and only in the index of the other one.
    let config =
        std::fs::read_to_string(system.project.path().join("bk-sync.toml")).expect("the config");
    let config =
        config.replace("{ from = \"worker\" }", "[\"system/heartbeat\", \"video/download\"]");
    system.project.write("bk-sync.toml", &config);
    system.project.commit("expect one of the host's");
    let failed = system.json(&["verify"], 15);
    let words = failed["error"]["message"].as_str().expect("words");
    assert!(words.contains("`video/download`") && words.contains(OTHER), "{failed}");
}
