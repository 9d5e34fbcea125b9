//! A deploy that is ended in the middle: by Ctrl-C, which it hears, and by a kill, which nobody hears.
//! Wherever it was, the cluster has the old or the new image, nothing is held for longer than its time,
//! and `sync --resume` completes.

use super::seed::{Seed, WORKLOAD, kubectl};
use crate::{
    bed,
    command::{run, succeed, unique},
    credential::agent::Agent,
    push::proxy::{Fault, Proxy},
    verify::stand_in::Inngest,
};
use serde_json::{Value, json};
use std::{
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// Where a deploy is ended: before a stage begins, or while it is at work.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    /// A hook before the stage has the floor.
    Before(&'static str),
    /// The password is being asked for.
    InPreflight,
    /// A step runs on the builder.
    InBuild,
    /// A blob is on its way to the registry.
    InPush,
    /// New pods are waited for.
    InRollout,
    /// The Inngest server does not know the functions yet.
    InVerify,
    /// The recorder is being told.
    InRecord,
}

const PLACES: [Place; 12] = [
    Place::Before("preflight"),
    Place::InPreflight,
    Place::Before("build"),
    Place::InBuild,
    Place::Before("push"),
    Place::InPush,
    Place::Before("rollout"),
    Place::InRollout,
    Place::Before("verify"),
    Place::InVerify,
    Place::Before("record"),
    Place::InRecord,
];

/// The app whose functions the last check wants.
const APP: &str = "system-bus-cluster";

/// A deploy that stops at one place until it is let go on.
struct Scene {
    seed: Seed,
    agent: Agent,
    inngest: Arc<Mutex<Inngest>>,
    proxy: Proxy,
    /// Whether what held the deploy up lets it pass.
    passes: Arc<AtomicBool>,
    /// Whether a blob has reached the proxy.
    sending: Arc<AtomicBool>,
    place: Place,
}

impl Scene {
    fn new(place: Place) -> Self {
        let (passes, sending) =
            (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (gate, heard) = (passes.clone(), sending.clone());
        let proxy = Proxy::start(bed::registry_token(), move |asked| {
            let is_blob = asked.path.contains("/blobs/uploads/") && asked.length > 500_000;
            if !is_blob || place != Place::InPush || gate.load(Ordering::SeqCst) {
                return None;
            }
            heard.store(true, Ordering::SeqCst);
            Some(Fault::Slow(1000, 1000))
        });
        let known = (APP.to_owned(), "http://w/".to_owned(), true, vec!["a".to_owned()]);
        let apps = if place == Place::InVerify { Vec::new() } else { vec![known] };
        let (inngest, port) = Inngest { apps, ..Inngest::default() }.listen();
        let stops = "test -e $HOME/went && exit 0; touch $HOME/here; sleep 300";
        let mut more = format!(
            "[verify.inngest]\nurl = \"http://127.0.0.1:{port}\"\napp = \"{APP}\"\nfunctions = [\"a\"]\nattempts = 20\n"
        );
        if let Place::Before(stage) = place {
            let hook = "[[hook]]\nstage = \"STAGE\"\nwhen = \"before\"\ntimeout = \"5m\"\ncommand = [\"sh\", \"-c\", \"STOPS\"]\n";
            more.push_str(&hook.replace("STAGE", stage).replace("STOPS", stops));
        }
        let seed = Seed::new(&more, &json!({}));
        let agent = Agent::start(seed.project.stranger.path(), "pat", bed::user().1, 1200);
        let scene = Self { seed, agent, inngest, proxy, passes, sending, place };
        scene.configure(stops);
        if place == Place::InRollout {
            scene.hold_pods(&json!("Stuck"), &json!(scene.repository()));
        }
        scene
    }

    /// The image's repository, behind the proxy.
    fn repository(&self) -> String {
        let (_, path) = self.seed.repository.split_once('/').expect("a registry");
        format!("{}/{path}", self.proxy.address)
    }

    /// Credentials that are lent, the proxy in front of the registry, and what holds the deploy up.
    fn configure(&self, stops: &str) {
        let path = self.seed.project.path().join("bk-sync.toml");
        let lease = format!(
            "secret_lease = {{ name = \"pat\", ttl = \"20m\", client_id = \"t\", socket = \"{}\" }}",
            self.agent.socket.display()
        );
        let source = match self.place {
            // The password comes from a command that does not answer until it may.
            Place::InPreflight => "command = [\"sh\", \"-c\", \"test -e $HOME/went || { touch $HOME/here; sleep 300; }; cat $HOME/vault\"]".to_owned(),
            _ => lease,
        };
        let config = std::fs::read_to_string(&path).expect("the config");
        let mut config = config
            .replace("env = \"GHCR_TOKEN\"", &source)
            .replace(
                &format!("\"{}\"", self.seed.repository),
                &format!("\"{}\"", self.repository()),
            )
            .replace(
                &format!("[registry.\"{}\"]", bed::registry_token()),
                &format!("[registry.\"{}\"]", self.proxy.address),
            );
        if self.place == Place::InRecord {
            config = config.replace(
                "command = [\"slog\"",
                &format!("timeout = \"5m\"\ncommand = [\"sh\", \"-c\", \"{stops}\", \"slog\""),
            );
        }
        std::fs::write(&path, config).expect("the config");
        if self.place == Place::InPreflight {
            let vault = self.seed.project.stranger.join("vault");
            std::fs::write(vault, bed::user().1).expect("a vault");
        }
        if self.place == Place::InBuild {
            let file = "packages/system-bus/Dockerfile";
            let text =
                std::fs::read_to_string(self.seed.project.path().join(file)).expect("a Dockerfile");
            let slow = format!("RUN echo {} && sleep 12", unique("slow"));
            self.seed.project.write(
                file,
                &text.replace("RUN echo installed", &format!("{slow}\nRUN echo installed")),
            );
        }
        self.seed.project.commit("behind a proxy");
    }

    /// Has pods of images whose name holds `image` behave as kwok's annotations say.
    fn hold_pods(&self, fail: &Value, image: &Value) {
        let patch = json!({ "spec": { "template": { "metadata": { "annotations": {
            "bk-sync.test/fail": fail, "bk-sync.test/fail-image": image } } } } });
        let namespace = self.seed.namespace.as_str();
        succeed(
            kubectl(&["-n", namespace, "patch", "deployment", WORKLOAD, "-p"])
                .arg(patch.to_string()),
        );
        if patch["spec"]["template"]["metadata"]["annotations"]["bk-sync.test/fail"].is_string() {
            succeed(&mut kubectl(&[
                "-n",
                namespace,
                "rollout",
                "status",
                "deployment",
                WORKLOAD,
                "--timeout=120s",
            ]));
        }
    }

    fn start(&self) -> Child {
        self.seed
            .command(&["sync", "--progress", "plain", "--push-via", "client"])
            .stdout(Stdio::null())
            .stderr(
                std::fs::File::create(self.seed.project.stranger.join("stderr")).expect("a file"),
            )
            .spawn()
            .expect("bk-sync starts")
    }

    /// Waits until the deploy is where it is to be ended.
    fn arrive(&self, child: &mut Child, before: &str) {
        let began = Instant::now();
        let home = &self.seed.project.stranger;
        loop {
            let is_there = match self.place {
                Place::Before(_) | Place::InPreflight | Place::InRecord => {
                    home.join("here").exists()
                }
                Place::InBuild => std::fs::read_to_string(home.join("stderr"))
                    .unwrap_or_default()
                    .contains(" slow-"),
                Place::InPush => self.sending.load(Ordering::SeqCst),
                Place::InRollout => self.seed.image() != before,
                Place::InVerify => self.stage_runs("verify"),
            };
            if is_there {
                return;
            }
            let ended = child.try_wait().expect("a child");
            let said = || std::fs::read_to_string(home.join("stderr")).unwrap_or_default();
            assert!(ended.is_none(), "{:?}: it ended with {ended:?}: {}", self.place, said());
            assert!(
                began.elapsed() < Duration::from_mins(4),
                "{:?} was never reached: {}",
                self.place,
                said()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn stage_runs(&self, stage: &str) -> bool {
        let receipts = self.seed.project.receipts();
        receipts.first().is_some_and(|receipt| receipt["stages"][stage]["state"] == "running")
    }

    /// Takes away what held the deploy up.
    fn let_go_on(&self) {
        self.passes.store(true, Ordering::SeqCst);
        std::fs::write(self.seed.project.stranger.join("went"), "").expect("a mark");
        match self.place {
            Place::InVerify => {
                let app = (APP.to_owned(), "http://w/".to_owned(), true, vec!["a".to_owned()]);
                self.inngest.lock().unwrap().apps.push(app);
            }
            Place::InRollout => self.hold_pods(&Value::Null, &Value::Null),
            _ => {}
        }
    }
}

/// How long a lock of somebody who was killed may be one, with a margin for a slow machine.
const TTL: Duration = Duration::from_secs(45);

/// Leases of the namespace whose holder has renewed them in time.
fn live_locks(seed: &Seed) -> Vec<Value> {
    let said = succeed(&mut kubectl(&["-n", &seed.namespace, "get", "leases", "-o", "json"]));
    let list: Value = serde_json::from_str(&said.stdout).expect("JSON");
    let lives = |lease: &&Value| {
        let spec = &lease["spec"];
        let held = spec["holderIdentity"].as_str().is_some_and(|holder| !holder.is_empty());
        let renewed: Option<jiff::Timestamp> =
            spec["renewTime"].as_str().and_then(|text| text.parse().ok());
        let until = renewed.map_or(i64::MAX, |at| {
            at.as_second() + spec["leaseDurationSeconds"].as_i64().unwrap_or(0)
        });
        held && until > jiff::Timestamp::now().as_second()
    };
    list["items"].as_array().expect("items").iter().filter(lives).cloned().collect()
}

fn ended_at(place: Place, signal: &str) {
    let scene = Scene::new(place);
    let seed = &scene.seed;
    let before = seed.image();
    let mut child = scene.start();
    scene.arrive(&mut child, &before);
    let pid = child.id().to_string();
    assert!(Command::new("kill").args([signal, &pid]).status().expect("kill starts").success());
    let asked = Instant::now();
    let status = child.wait().expect("it ends");
    assert!(
        asked.elapsed() < Duration::from_mins(1),
        "{place:?}: it took {:?} to end",
        asked.elapsed()
    );
    let receipts = seed.project.receipts();
    if signal == "-INT" {
        assert_eq!(status.code(), Some(130), "{place:?}");
        assert_eq!(scene.agent.held(), 0, "{place:?}: a lease is held");
        assert_eq!(seed.locks(), Vec::<String>::new(), "{place:?}");
        assert_eq!(receipts[0]["outcome"], "interrupted", "{place:?}");
    } else {
        assert_eq!(receipts[0]["outcome"], "running", "{place:?}: the truth is on the disk");
    }
    let image = seed.image();
    let pushed = receipts[0]["image"]["reference"].clone();
    let is_old = image == before || image.starts_with(&format!("{before}@"));
    assert!(is_old || pushed == image.as_str(), "{place:?}: {image} is neither old nor new");

    scene.let_go_on();
    // A lock of somebody who was killed is nobody's when its half minute is over.
    let mut resume =
        seed.command(&["sync", "--resume", "--format", "json", "--push-via", "client"]);
    let resumed = run(resume.args(["--lock-wait", "90s"]));
    assert_eq!(resumed.code, 0, "{place:?} {signal}: {}\n{}", resumed.stdout, resumed.stderr);
    let resumed: Value = serde_json::from_str(&resumed.stdout).expect("JSON");
    assert_eq!(resumed["result"]["outcome"], "done", "{place:?}");
    // Whoever was killed while being lent something never learned its id.
    let unknown = usize::from(signal == "-KILL" && place == Place::InPreflight);
    assert!(scene.agent.held() <= unknown, "{place:?} {signal}: a lease is held");
    assert_eq!(seed.image(), resumed["result"]["image"]["reference"].as_str().expect("an image"));
    // What a kill left behind holds nobody up once its time is over.
    while !live_locks(seed).is_empty() {
        assert!(signal == "-KILL", "{place:?}: {:?}", seed.locks());
        assert!(asked.elapsed() < TTL, "{place:?}: {:?}", live_locks(seed));
        std::thread::sleep(Duration::from_secs(1));
    }
    if matches!(place, Place::Before("verify" | "record") | Place::InVerify | Place::InRecord) {
        assert_eq!(resumed["result"]["stages"]["rollout"]["state"], "skipped", "{place:?}");
    }
    if !matches!(
        place,
        Place::Before("preflight" | "build" | "push")
            | Place::InPreflight
            | Place::InBuild
            | Place::InPush
    ) {
        assert_eq!(resumed["result"]["stages"]["build"]["state"], "skipped", "{place:?}");
    }
}

#[test]
fn ctrl_c_at_each_boundary_and_in_each_stage_leaves_old_or_new_and_resuming_completes() {
    for place in PLACES {
        ended_at(place, "-INT");
    }
}

#[test]
fn a_kill_at_each_boundary_and_in_each_stage_leaves_old_or_new_and_resuming_completes() {
    for place in PLACES {
        ended_at(place, "-KILL");
    }
}
