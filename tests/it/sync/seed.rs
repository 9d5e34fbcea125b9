//! The whole runbook on a system shaped like the one that it was written for: a workspace of
//! packages, a registry that wants a token, a cluster, and a recorder in the place of `slog`.

use super::{Project, repository};
use crate::{
    bed,
    command::{Said, run, unique, write_files},
    push::proxy::{Fault, Proxy},
    verify::stand_in::{Inngest, serve},
};
use serde_json::{Value, json};
use std::{
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

pub(super) const WORKLOAD: &str = "system-bus-worker";

/// The seed's system, with a namespace of its own.
pub(super) struct Seed {
    pub(super) project: Project,
    pub(super) namespace: String,
    pub(super) repository: String,
}

impl Drop for Seed {
    fn drop(&mut self) {
        let name = self.namespace.as_str();
        drop(kubectl(&["delete", "namespace", name, "--wait=false"]).output());
    }
}

pub(super) fn kubectl(arguments: &[&str]) -> Command {
    let mut command = Command::new(bed::program("kubectl"));
    command.arg("--kubeconfig").arg(bed::kubeconfig()).args(arguments);
    command
}

fn apply(object: &Value) {
    let mut child = kubectl(&["apply", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kubectl starts");
    let mut stdin = child.stdin.take().expect("its stdin");
    std::io::Write::write_all(&mut stdin, object.to_string().as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{output:?}");
}

impl Seed {
    /// A deployment that runs an old image, and a checkout that would replace it. `more` is added
    /// to the config; `annotations` tell the nodes how its pods behave.
    pub(super) fn new(more: &str, annotations: &Value) -> Self {
        let namespace = unique("sync");
        let repository = repository(bed::registry_token());
        apply(
            &json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } }),
        );
        let labels = json!({ "app": WORKLOAD });
        apply(&json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": { "name": WORKLOAD, "namespace": namespace },
            "spec": {
                "replicas": 1,
                "selector": { "matchLabels": labels },
                "template": {
                    "metadata": { "labels": labels, "annotations": annotations },
                    "spec": {
                        "nodeSelector": { "kubernetes.io/arch": "arm64" },
                        "tolerations": [{ "operator": "Exists", "effect": "NoSchedule", "key": "kwok.x-k8s.io/node" }],
                        "containers": [{
                            "name": WORKLOAD,
                            "image": format!("{repository}-old:20260101-000000"),
                            "ports": [{ "containerPort": 3111 }],
                        }],
                    },
                },
            },
        }));
        let output = kubectl(&["-n", &namespace, "rollout", "status", "deployment", WORKLOAD])
            .arg("--timeout=180s")
            .output()
            .expect("kubectl starts");
        assert!(output.status.success(), "the old image does not run: {output:?}");
        let base = bed::base_arm64();
        let dockerfile = format!(
            "FROM {base} AS deps\nWORKDIR /app\nCOPY pnpm-workspace.yaml package.json ./\n\
             COPY packages/ packages/\nRUN echo installed > /app/installed\n\
             FROM {base}\nWORKDIR /app\nCOPY --from=deps /app/installed .\n\
             COPY --from=deps /app/packages/system-bus packages/system-bus\n\
             COPY --from=deps /app/packages/memory packages/memory\n\
             ENV NODE_ENV=production\nEXPOSE 3111\nCMD [\"/bin/busybox\", \"httpd\", \"-f\"]\n"
        );
        let config = format!(
            "[build]\nbuilder = \"{builder}\"\nfile = \"packages/system-bus/Dockerfile\"\n\
             platforms = [\"linux/arm64\"]\n\
             [image]\nname = \"{repository}\"\ntags = [\"{{git.sha}}\", \"latest\"]\n\
             [registry.\"{registry}\"]\nusername = \"{user}\"\nenv = \"GHCR_TOKEN\"\n\
             [rollout]\nnamespace = \"{namespace}\"\nworkload = \"deployment/{WORKLOAD}\"\n\
             container = \"{WORKLOAD}\"\ntimeout = \"180s\"\n\
             [record]\ncommand = [\"slog\", \"write\", \"--action\", \"deploy\", \"--tool\", \
             \"{{workload.name}}\", \"--detail\", \"deployed {{image}} to \
             {{namespace}}/{{workload.name}}\", \"--reason\", \"{{reason}}\"]\n{more}",
            builder = bed::buildkitd(),
            registry = bed::registry_token(),
            user = bed::user().0,
        );
        let project = Project::new(&[
            ("packages/system-bus/Dockerfile", &dockerfile),
            (
                "packages/system-bus/package.json",
                r#"{"name":"@joelclaw/system-bus","dependencies":{"@joelclaw/memory":"workspace:*"}}"#,
            ),
            ("packages/system-bus/src/serve.ts", &unique("export const started =")),
            ("packages/memory/package.json", r#"{"name":"@joelclaw/memory"}"#),
            ("pnpm-workspace.yaml", "packages:\n  - packages/*\n"),
            ("package.json", r#"{"name":"joelclaw","private":true}"#),
            ("bk-sync.toml", &config),
        ]);
        // The recorder keeps what it is told; it is not in the checkout.
        let bin = project.stranger.join("bin");
        write_files(&bin, &[("slog", "#!/bin/sh\nprintf '%s\\n' \"$*\" >> \"$HOME/slog.txt\"\n")]);
        let slog = bin.join("slog");
        std::fs::set_permissions(&slog, std::fs::Permissions::from_mode(0o755)).expect("a mode");
        Self { project, namespace, repository }
    }

    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.project.command(arguments);
        let bin = self.project.stranger.join("bin");
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display());
        command
            .env("PATH", path)
            .env("KUBECONFIG", bed::kubeconfig())
            .env("GHCR_TOKEN", bed::user().1);
        command
    }

    pub(super) fn json(&self, arguments: &[&str], code: i32) -> Value {
        let said = run(self.command(arguments).args(["--format", "json"]));
        assert_eq!(said.code, code, "{arguments:?}\n{}\n{}", said.stdout, said.stderr);
        serde_json::from_str(&said.stdout).expect("JSON")
    }

    pub(super) fn run(&self, arguments: &[&str]) -> Said {
        run(&mut self.command(arguments))
    }

    pub(super) fn deployment(&self) -> Value {
        let output = kubectl(&["-n", &self.namespace, "get", "deployment", WORKLOAD, "-o", "json"])
            .output()
            .expect("kubectl starts");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    }

    pub(super) fn image(&self) -> String {
        let deployment = self.deployment();
        let image = &deployment["spec"]["template"]["spec"]["containers"][0]["image"];
        image.as_str().expect("an image").to_owned()
    }

    /// Leases of the namespace that somebody holds.
    pub(super) fn locks(&self) -> Vec<String> {
        let output = kubectl(&["-n", &self.namespace, "get", "leases", "-o", "json"])
            .output()
            .expect("kubectl starts");
        let list: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let held = |lease: &&Value| {
            lease["spec"]["holderIdentity"].as_str().is_some_and(|holder| !holder.is_empty())
        };
        let items = list["items"].as_array().expect("items");
        items.iter().filter(held).map(|lease| lease["metadata"]["name"].to_string()).collect()
    }

    pub(super) fn told(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.project.stranger.join("slog.txt"));
        text.unwrap_or_default().lines().map(str::to_owned).collect()
    }
}

#[test]
fn one_command_does_the_eight_steps_the_second_does_nothing_and_a_change_rolls_out() {
    let seed = Seed::new("", &json!({}));
    let first = seed.json(&["sync", "--reason", "runbook"], 0);
    let receipt = &first["result"];
    let digest = receipt["image"]["digest"].as_str().expect("a digest");
    assert_eq!(seed.image(), format!("{}@{digest}", seed.repository));
    let rollout = &receipt["rollout"];
    assert_eq!(rollout["workload"], format!("deployment/{WORKLOAD}").as_str(), "{first}");
    assert_eq!(
        rollout["previous_image"],
        format!("{}-old:20260101-000000", seed.repository).as_str()
    );
    assert!(rollout["replica_set"]["uid"].is_string(), "{rollout}");
    assert!(rollout["pods"][0]["uid"].is_string(), "{rollout}");
    let deployment = seed.deployment();
    let annotations = &deployment["metadata"]["annotations"];
    assert_eq!(annotations["bk-sync/receipt"], receipt["id"], "{annotations}");
    assert_eq!(annotations["bk-sync/git-tree"], receipt["git"]["tree"]);
    assert_eq!(
        seed.told(),
        [format!(
            "write --action deploy --tool {WORKLOAD} --detail deployed {}@{digest} to {}/{WORKLOAD} \
             --reason runbook",
            seed.repository, seed.namespace
        )]
    );
    assert_eq!(seed.locks(), Vec::<String>::new());

    let second = seed.run(&["sync"]);
    assert_eq!(second.code, 0, "{}", second.stderr);
    assert!(second.stdout.starts_with("unchanged: "), "{}", second.stdout);
    assert_eq!(second.stdout.lines().count(), 1);
    let generation = |deployment: &Value| deployment["metadata"]["generation"].clone();
    let after = seed.deployment();
    assert_eq!(generation(&after), generation(&deployment));
    assert_eq!(after["metadata"]["annotations"], deployment["metadata"]["annotations"]);
    assert_eq!((seed.told().len(), seed.project.receipts().len()), (1, 1));

    seed.project.write("packages/system-bus/src/serve.ts", &unique("// one line"));
    seed.project.commit("one line");
    let third = seed.json(&["sync"], 0);
    let changed = third["result"]["image"]["digest"].as_str().expect("a digest");
    assert_ne!(changed, digest);
    assert_eq!(seed.image(), format!("{}@{changed}", seed.repository));
    assert_eq!((seed.told().len(), seed.project.receipts().len()), (2, 2));
}

#[test]
fn a_rollout_that_fails_goes_back_and_resuming_does_not_build_again() {
    let seed = Seed::new("", &json!({}));
    // Pods of images that hold this text never start; the old one's do, pinned or not.
    let annotations = json!({ "spec": { "template": { "metadata": { "annotations": {
        "bk-sync.test/fail": "ErrImagePull",
        "bk-sync.test/fail-image": format!("{}@", seed.repository),
    } } } } });
    let patched = kubectl(&["-n", &seed.namespace, "patch", "deployment", WORKLOAD, "-p"])
        .arg(annotations.to_string())
        .output()
        .expect("kubectl starts");
    assert!(patched.status.success(), "{patched:?}");
    let waited = kubectl(&["-n", &seed.namespace, "rollout", "status", "deployment", WORKLOAD])
        .output()
        .expect("kubectl starts");
    assert!(waited.status.success(), "{waited:?}");
    let before = seed.image();
    let failed = seed.json(&["sync"], 13);
    let receipt = &failed["error"]["details"]["receipt"];
    assert_eq!(receipt["failure"]["stage"], "rollout", "{failed}");
    assert_eq!(receipt["rolled_back"], true);
    // The tag that ran before comes back with the digest that it stood for.
    let after = seed.image();
    assert!(after == before || after.starts_with(&format!("{before}@sha256:")), "{after}");
    let next = failed["next_actions"].as_array().expect("actions");
    assert!(next.iter().any(|action| action["command"] == "bk-sync sync --resume"), "{failed}");

    let mended = json!({ "spec": { "template": { "metadata": { "annotations": {
        "bk-sync.test/fail": null, "bk-sync.test/fail-image": null,
    } } } } });
    let patched = kubectl(&["-n", &seed.namespace, "patch", "deployment", WORKLOAD, "-p"])
        .arg(mended.to_string())
        .output()
        .expect("kubectl starts");
    assert!(patched.status.success(), "{patched:?}");
    // With a builder that is not there: what goes on from the push needs none.
    let mut resume = seed.command(&["sync", "--resume", "--format", "json"]);
    let resumed = run(resume.args(["--builder", "unix:///no/such.sock"]));
    assert_eq!(resumed.code, 0, "{}\n{}", resumed.stdout, resumed.stderr);
    let resumed: Value = serde_json::from_str(&resumed.stdout).expect("JSON");
    assert_eq!(resumed["result"]["resumes"], receipt["id"]);
    assert_eq!(resumed["result"]["stages"]["build"]["state"], "skipped");
    assert_eq!(seed.image(), receipt["image"]["reference"].as_str().expect("a reference"));
}

#[test]
fn a_cluster_that_refuses_is_found_before_anything_is_built() {
    let seed = Seed::new("", &json!({}));
    let refused = seed.json(&["sync", "--workload", "deployment/nobody"], 17);
    let receipt = &refused["error"]["details"]["receipt"];
    assert_eq!(receipt["failure"]["stage"], "preflight", "{refused}");
    assert!(receipt["image"].is_null());
    let refused = seed.json(&["sync", "--platform", "linux/amd64"], 17);
    let words = refused.to_string();
    assert!(words.contains("arm64") && words.contains("amd64"), "exec format error: {words}");
}

/// Secrets of every kind that a deploy may hold, each of its own word, traced through all that it does: they
/// are on no disk, in no output, in no argument, and in the environment of no child.
#[test]
fn canary_secrets_are_nowhere_but_where_they_are_used() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let sink = heard.clone();
    let http = serve(move |asked| {
        sink.lock().unwrap().push(asked.clone());
        (200, json!({}))
    });
    let known = ("a-bus".to_owned(), "http://w/".to_owned(), true, vec!["a".to_owned()]);
    let (_, port) = Inngest { apps: vec![known], ..Inngest::default() }.listen();
    let mut hooks = String::new();
    for stage in ["build", "push", "rollout", "verify", "record"] {
        for when in ["before", "after"] {
            let hook = "[[hook]]\nstage = \"STAGE\"\nwhen = \"WHEN\"\ncommand = [\"sh\", \"-c\", \"cat >> $HOME/hooks\"]\n";
            hooks.push_str(&hook.replace("STAGE", stage).replace("WHEN", when));
        }
    }
    let more = format!(
        "timeout = \"60s\"\nhttp = {{ url = \"http://127.0.0.1:{http}/\", token_env = \"RECORD_TOKEN\" }}\n\
         [verify.inngest]\nurl = \"http://127.0.0.1:{port}\"\napp = \"a-bus\"\nfunctions = [\"a\"]\nsigning_key_env = \"SIGNING_KEY\"\n{hooks}"
    );
    let seed = Seed::new(&more, &json!({}));
    let canaries = [
        ("RECORD_TOKEN", "canary-record-5d1c"),
        ("SIGNING_KEY", "signkey-prod-00ffcanary77"),
        ("BUILD_SECRET", "canary-build-90aa"),
    ];
    let trace = seed.project.stranger.join("trace");
    let mut command = seed.project.stranger.command(bed::program("strace"));
    let bin = seed.project.stranger.join("bin");
    command
        .current_dir(seed.project.path())
        .args(["-f", "-v", "-s", "262144", "-e", "trace=execve", "-o"])
        .arg(&trace)
        .arg(env!("CARGO_BIN_EXE_bk-sync"))
        .args(["sync", "-vv", "--format", "json", "--secret", "id=s,env=BUILD_SECRET"])
        .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display()))
        .env("KUBECONFIG", bed::kubeconfig())
        .env("GHCR_TOKEN", bed::user().1)
        .envs(canaries);
    let said = run(&mut command);
    assert_eq!(said.code, 0, "{}\n{}", said.stdout, said.stderr);
    let traced = std::fs::read_to_string(&trace).expect("a trace");
    std::fs::remove_file(&trace).expect("the trace");
    let children: Vec<&str> = traced
        .lines()
        .filter(|line| line.contains("execve(") && !line.contains("bk-sync\", [\""))
        .collect();
    // git, the hooks, their `cat`, and the recorder.
    assert!(children.len() > 12, "{}", children.len());
    let history = run(&mut seed.command(&["history", "--format", "json"])).stdout;
    let places = [
        ("stdout", said.stdout),
        ("stderr", said.stderr),
        ("the workload", seed.deployment().to_string()),
        ("the history", history),
        ("a child's arguments or environment", children.join("\n")),
        (
            "the receipt that was posted",
            String::from_utf8_lossy(&heard.lock().unwrap()[0].body).into_owned(),
        ),
    ];
    for secret in canaries.map(|(_, secret)| secret).into_iter().chain([bed::user().1]) {
        for (place, text) in &places {
            assert!(!text.contains(secret), "`{secret}` is in {place}");
        }
        let mut waiting = vec![seed.project.stranger.path().to_owned()];
        while let Some(directory) = waiting.pop() {
            for entry in std::fs::read_dir(directory).expect("a directory").flatten() {
                let path = entry.path();
                if path.is_dir() {
                    waiting.push(path);
                } else if let Ok(bytes) = std::fs::read(&path) {
                    let text = String::from_utf8_lossy(&bytes);
                    assert!(!text.contains(secret), "`{secret}` is in {}", path.display());
                }
            }
        }
    }
    // And there they are used.
    let authorization = heard.lock().unwrap()[0].headers["authorization"].clone();
    assert_eq!(authorization, "Bearer canary-record-5d1c");
    let hooks = std::fs::read_to_string(seed.project.stranger.join("hooks"))
        .expect("what hooks were given");
    assert_eq!(hooks.matches("\"version\":").count(), 10, "each hook got the receipt so far");
}

#[test]
fn init_finds_the_workload_and_doctor_looks_at_it() {
    let seed = Seed::new("", &json!({}));
    let shown = seed.run(&["init", "--stdout", "--image", &seed.repository]);
    assert_eq!(shown.code, 0, "{}", shown.stderr);
    // Others deploy to this cluster too, so that it is one of several.
    let alone = format!("namespace = \"{}\"", seed.namespace);
    let among = format!("{}: deployment/{WORKLOAD}", seed.namespace);
    assert!(shown.stdout.contains(&alone) || shown.stdout.contains(&among), "{}", shown.stdout);

    let healthy = seed.json(&["doctor"], 0);
    let checks = healthy["result"]["checks"].as_array().expect("checks");
    let found = |name: &str| {
        let of = |check: &&Value| check["area"] == "cluster" && check["name"] == name;
        checks.iter().find(of).unwrap_or_else(|| panic!("no {name} in {healthy}"))
    };
    assert_eq!(found("answers")["state"], "ok");
    assert_eq!(found("rollout")["state"], "ok");
    // The seed deploys tags; what runs under one can change.
    assert_eq!(found("pinned")["state"], "warning");
}

#[test]
fn caches_are_written_beside_the_rollout_and_hold_up_nothing_but_the_end() {
    let hangs = Proxy::start(bed::registry(), |asked| {
        (asked.method != "GET" && asked.method != "HEAD").then_some(Fault::Hang)
    });
    let cache = format!("type=registry,ref={}/{}", hangs.address, unique("cache"));
    let more = format!("[build.cache]\nto = [\"{cache}\"]\ndeadline = \"12s\"\n");
    let seed = Seed::new(&more, &json!({}));
    let began = Instant::now();
    let envelope = seed.json(&["sync"], 0);
    let took = began.elapsed();
    let receipt = &envelope["result"];
    assert_eq!(receipt["outcome"], "done", "{envelope:#}");
    assert!(seed.image().ends_with(receipt["image"]["digest"].as_str().unwrap()));
    let codes: Vec<&Value> =
        envelope["warnings"].as_array().unwrap().iter().map(|warning| &warning["code"]).collect();
    assert_eq!(codes, ["CACHE_EXPORT_FAILED"], "{envelope:#}");
    assert!(!hangs.seen().is_empty(), "nothing was asked of the cache's registry");
    // The rollout began while the cache hung, and not after it.
    let time = |stage: &str| -> jiff::Timestamp {
        receipt["stages"][stage]["started"].as_str().unwrap().parse().unwrap()
    };
    let wait = time("rollout").duration_since(time("push")).as_secs();
    assert!(wait < 12 && took > Duration::from_secs(12), "{wait} s, {took:?}: {receipt:#}");
}
