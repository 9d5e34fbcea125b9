//! A namespace with a workload in it, and what is asked of both.

use crate::bed;
use crate::command::{Said, Stranger, run, succeed, unique};
use serde_json::{Value, json};
use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// How long the cluster may take for what it does by itself, on a machine that has other work.
pub const PATIENCE: Duration = Duration::from_mins(3);

/// The image that runs first.
pub fn old() -> String {
    image('a')
}

/// The image that is rolled out.
pub fn new() -> String {
    image('b')
}

/// Another one.
pub fn other() -> String {
    image('c')
}

fn image(digit: char) -> String {
    format!("registry.example/shop/app@{}", digest(digit))
}

/// A digest of one digit.
pub fn digest(digit: char) -> String {
    format!("sha256:{}", digit.to_string().repeat(64))
}

/// The kinds that roll.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    DaemonSet,
    Deployment,
    StatefulSet,
}

impl Kind {
    pub fn word(self) -> &'static str {
        match self {
            Self::DaemonSet => "daemonset",
            Self::Deployment => "deployment",
            Self::StatefulSet => "statefulset",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::DaemonSet => "DaemonSet",
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
        }
    }
}

/// A workload named `web` with two pods of the first image.
pub fn workload(kind: Kind) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": kind.name(), "metadata": {"name": "web"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}, "annotations": {}},
                "spec": {
                    "containers": [{"name": "app", "image": old()}],
                    "nodeSelector": {"kubernetes.io/arch": "arm64"},
                    "terminationGracePeriodSeconds": 0,
                },
            },
        },
    });
    match kind {
        Kind::DaemonSet => {}
        Kind::Deployment => object["spec"]["replicas"] = json!(2),
        Kind::StatefulSet => {
            object["spec"]["replicas"] = json!(2);
            object["spec"]["serviceName"] = json!("web");
        }
    }
    object
}

/// The same under another name, with pods of its own.
pub fn named(kind: Kind, name: &str) -> Value {
    let mut object = workload(kind);
    object["metadata"]["name"] = json!(name);
    object["spec"]["selector"] = json!({"matchLabels": {"app": name}});
    object["spec"]["template"]["metadata"]["labels"] = json!({"app": name});
    object
}

/// Says on the pods of `object` what a node does with them.
pub fn on_pods(object: &mut Value, what: &[(&str, &str)]) {
    let annotations = &mut object["spec"]["template"]["metadata"]["annotations"];
    for (name, value) in what {
        annotations[format!("bk-sync.test/{name}")] = json!(value);
    }
}

/// A namespace, removed at the end.
pub struct Shop {
    pub namespace: String,
    stranger: Stranger,
    kubeconfig: String,
}

impl Shop {
    /// A new one.
    pub fn open() -> Self {
        let kubeconfig = bed::part("BK_SYNC_TEST_KUBECONFIG").to_owned();
        let shop = Self { namespace: unique("shop"), stranger: Stranger::new(), kubeconfig };
        succeed(&mut shop.kubectl(&["create", "namespace", &shop.namespace]));
        shop
    }

    /// A new one with `object` in it, whose pods are ready.
    pub fn with(object: &Value) -> Self {
        let shop = Self::open();
        shop.apply(object);
        shop.settled(object);
        shop
    }

    /// Waits until `object` is rolled out, by kubectl's word.
    pub fn settled(&self, object: &Value) {
        let name = name_of(object);
        let timeout = format!("--timeout={}s", PATIENCE.as_secs());
        succeed(&mut self.kubectl(&["rollout", "status", &name, &timeout]));
    }

    /// kubectl in this namespace.
    pub fn kubectl(&self, arguments: &[&str]) -> Command {
        let mut command = self.stranger.command(bed::program("kubectl"));
        command.env("KUBECONFIG", &self.kubeconfig).args(["-n", &self.namespace]).args(arguments);
        command
    }

    /// What kubectl prints as JSON.
    pub fn get(&self, what: &str) -> Value {
        let said = succeed(&mut self.kubectl(&["get", what, "-o", "json"]));
        serde_json::from_str(&said.stdout).expect("JSON of kubectl")
    }

    /// Makes or changes an object.
    pub fn apply(&self, object: &Value) {
        let mut command = self.kubectl(&["apply", "-f", "-"]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl starts");
        let mut stdin = child.stdin.take().expect("stdin");
        stdin.write_all(object.to_string().as_bytes()).expect("kubectl reads");
        drop(stdin);
        let output = child.wait_with_output().expect("kubectl ends");
        assert!(
            output.status.success(),
            "kubectl apply: {}\n{object}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// `bk-sync` with the cluster's kubeconfig.
    pub fn bk_sync(&self) -> Command {
        let mut command = self.stranger.bk_sync();
        command.env("KUBECONFIG", &self.kubeconfig).env("USER", "ann");
        command
    }

    /// `bk-sync rollout` of `image`, as JSON.
    pub fn command(&self, workload: &str, image: &str, flags: &[&str]) -> Command {
        let mut command = self.bk_sync();
        command
            .args(["rollout", workload, "--image", image, "-n", &self.namespace])
            .args(["--format", "json", "--progress", "plain"])
            .args(flags);
        command
    }

    /// Rolls `image` out.
    pub fn rollout(&self, workload: &str, image: &str, flags: &[&str]) -> Rolled {
        let began = Instant::now();
        let said = run(&mut self.command(workload, image, flags));
        Rolled::new(said, began.elapsed())
    }

    /// The same, with what it says on stderr and when it says it.
    pub fn timed(&self, workload: &str, image: &str, flags: &[&str]) -> (Rolled, Lines) {
        timed(&mut self.command(workload, image, flags))
    }

    /// The image of the container `app` of a workload's template.
    pub fn image(&self, workload: &str) -> String {
        let object = self.get(workload);
        let containers =
            object["spec"]["template"]["spec"]["containers"].as_array().unwrap().clone();
        let app = containers.iter().find(|one| one["name"] == "app").expect("a container `app`");
        app["image"].as_str().unwrap().to_owned()
    }

    /// The images of the pods that are not over or on their way out, and whether all are ready.
    pub fn pods(&self) -> (Vec<String>, bool) {
        let pods = self.get("pods");
        let pods: Vec<&Value> = pods["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|pod| {
                pod["metadata"]["deletionTimestamp"].is_null() && pod["status"]["phase"] != "Failed"
            })
            .collect();
        let images = pods
            .iter()
            .map(|pod| pod["spec"]["containers"][0]["image"].as_str().unwrap().to_owned())
            .collect();
        let ready = pods.iter().all(|pod| {
            let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True")
        });
        (images, ready)
    }

    /// Insists that `count` pods run `image`, all of them ready, and nothing else.
    pub fn runs(&self, image: &str, count: usize) {
        let (images, ready) = self.pods();
        assert_eq!(images, vec![image; count], "the pods' images");
        assert!(ready, "not all pods are ready");
    }

    /// What kubectl's own `rollout status` says: whether it calls the rollout done.
    pub fn kubectl_calls_it_done(&self, workload: &str) -> bool {
        run(&mut self.kubectl(&["rollout", "status", workload, "--timeout=1s"])).code == 0
    }

    /// Waits until `what` holds.
    pub fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !holds(self) {
            assert!(began.elapsed() < PATIENCE, "{what} does not come about");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Starts a rollout, and waits until its image is set.
    pub fn set(&self, workload: &str, image: &str, flags: &[&str]) -> Child {
        let child = self
            .command(workload, image, flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("bk-sync starts");
        self.until("the new image", |shop| shop.image(workload) == image);
        child
    }

    /// Whether nobody holds the lock of a workload.
    pub fn is_unlocked(&self, lease: &str) -> bool {
        let said = run(&mut self.kubectl(&["get", "lease", lease, "-o", "json"]));
        if said.code != 0 {
            return true;
        }
        let lease: Value = serde_json::from_str(&said.stdout).expect("JSON");
        lease["spec"]["holderIdentity"].as_str().is_none_or(str::is_empty)
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        let delete = ["delete", "namespace", &self.namespace, "--wait=false"];
        drop(self.kubectl(&delete).stdout(Stdio::null()).stderr(Stdio::null()).status());
    }
}

/// What was said on stderr, and when.
#[derive(Debug)]
pub struct Lines(Vec<(Instant, String)>);

impl Lines {
    /// When `words` were first said.
    pub fn first(&self, words: &str) -> Option<Instant> {
        self.0.iter().find(|(_, line)| line.contains(words)).map(|(at, _)| *at)
    }
}

/// Runs `command` to its end, and keeps the time of each line of its stderr.
pub fn timed(command: &mut Command) -> (Rolled, Lines) {
    let began = Instant::now();
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("bk-sync starts");
    let stderr = BufReader::new(child.stderr.take().expect("stderr"));
    let reader = std::thread::spawn(move || {
        let lines = stderr.lines().map_while(Result::ok);
        lines.map(|line| (Instant::now(), line)).collect::<Vec<_>>()
    });
    let output = child.wait_with_output().expect("bk-sync ends");
    let lines = reader.join().expect("the reader ends");
    let mut said = crate::command::said(&output);
    let text: Vec<&str> = lines.iter().map(|(_, line)| line.as_str()).collect();
    said.stderr = text.join("\n");
    (Rolled::new(said, began.elapsed()), Lines(lines))
}

/// `deployment/web`.
pub fn name_of(object: &Value) -> String {
    let kind = object["kind"].as_str().unwrap().to_lowercase();
    format!("{kind}/{}", object["metadata"]["name"].as_str().unwrap())
}

/// How a rollout ended.
#[derive(Debug)]
pub struct Rolled {
    pub code: i32,
    pub json: Value,
    pub stderr: String,
    pub took: Duration,
}

impl Rolled {
    pub fn new(said: Said, took: Duration) -> Self {
        let json = serde_json::from_str(&said.stdout).unwrap_or_else(|error| {
            panic!("no JSON ({error}): {}\nstderr: {}", said.stdout, said.stderr)
        });
        Self { code: said.code, json, stderr: said.stderr, took }
    }

    /// The first workload's report.
    pub fn workload(&self) -> &Value {
        let report = if self.json["ok"] == true {
            &self.json["result"]
        } else {
            &self.json["error"]["details"]["rollout"]
        };
        &report["workloads"][0]
    }

    /// How a process that was started ended.
    pub fn of(child: Child) -> Self {
        let said = crate::command::said(&child.wait_with_output().expect("bk-sync ends"));
        Self::new(said, Duration::ZERO)
    }

    /// Insists on an exit code and an error code; `""` for none.
    pub fn ended(&self, exit: i32, code: &str) {
        let found = self.json["error"]["code"].as_str().unwrap_or_default();
        assert_eq!((self.code, found), (exit, code), "{:#}\n{}", self.json, self.stderr);
    }
}
