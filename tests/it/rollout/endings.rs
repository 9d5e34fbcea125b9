//! What else may happen to a workload while it rolls out, and to what carries us to the cluster.

use super::shop::{Kind, Shop, digest, name_of, named, new, old, on_pods, other, workload};
use crate::{
    bed,
    command::{said, succeed},
};
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    process::{Child, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// A rollout whose new pods never start, on its way.
fn stuck(kind: Kind, flags: &[&str]) -> (Shop, Child) {
    let mut object = workload(kind);
    on_pods(&mut object, &[("fail", "Stuck"), ("fail-image", &digest('b'))]);
    let shop = Shop::with(&object);
    let name = name_of(&object);
    let child = shop
        .command(&name, &new(), flags)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    shop.until("the new image", |shop| shop.image(&name) == new());
    (shop, child)
}

fn ended(child: Child) -> (i32, Value) {
    let said = said(&child.wait_with_output().unwrap());
    let json = serde_json::from_str(&said.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}\n{}", said.stdout, said.stderr));
    (said.code, json)
}

const LONG: [&str; 2] = ["--timeout", "170s"];

#[test]
fn a_rival_patch_ends_it_and_is_not_undone() {
    for kind in [Kind::Deployment, Kind::StatefulSet, Kind::DaemonSet] {
        let (shop, child) = stuck(kind, &LONG);
        let name = format!("{}/web", kind.word());
        let set = format!("app={}", other());
        succeed(&mut shop.kubectl(&["set", "image", &name, &set]));
        let (code, json) = ended(child);
        assert_eq!((code, json["error"]["code"].as_str()), (14, Some("SUPERSEDED")), "{json:#}");
        assert!(json["error"]["message"].as_str().unwrap().contains("kubectl"), "{json:#}");
        assert_eq!(shop.image(&name), other());
    }
}

#[test]
fn a_rival_patch_ends_a_rollback_too() {
    let shop = Shop::with(&workload(Kind::Deployment));
    shop.rollout("deployment/web", &new(), &[]).ended(0, "");
    let stick = [("fail", "Stuck".to_owned()), ("fail-image", digest('a'))];
    let stick: serde_json::Map<String, Value> = stick
        .into_iter()
        .map(|(name, value)| (format!("bk-sync.test/{name}"), value.into()))
        .collect();
    let patch = json!({"spec": {"template": {"metadata": {"annotations": stick}}}}).to_string();
    succeed(&mut shop.kubectl(&["patch", "deployment/web", "-p", &patch]));
    let mut command = shop.bk_sync();
    command
        .args(["rollback", "deployment/web", "-n", &shop.namespace])
        .args(["--format", "json", "--progress", "plain"])
        .args(LONG);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    shop.until("the image before", |shop| shop.image("deployment/web") == old());
    let set = format!("app={}", other());
    succeed(&mut shop.kubectl(&["set", "image", "deployment/web", &set]));
    let (code, json) = ended(child);
    assert_eq!((code, json["error"]["code"].as_str()), (14, Some("SUPERSEDED")), "{json:#}");
    assert_eq!(shop.image("deployment/web"), other());
}

#[test]
fn a_workload_that_is_deleted_ends_it() {
    for kind in [Kind::Deployment, Kind::StatefulSet, Kind::DaemonSet] {
        let (shop, child) = stuck(kind, &LONG);
        succeed(&mut shop.kubectl(&["delete", &format!("{}/web", kind.word()), "--wait=false"]));
        let (code, json) = ended(child);
        assert_eq!(
            (code, json["error"]["code"].as_str()),
            (14, Some("WORKLOAD_DELETED")),
            "{json:#}"
        );
    }
}

#[test]
fn a_setting_that_changes_meanwhile_is_kept_by_the_way_back() {
    let mut object = workload(Kind::Deployment);
    on_pods(
        &mut object,
        &[("fail", "ErrImagePull"), ("fail-image", &digest('b')), ("delay", "4s")],
    );
    let shop = Shop::with(&object);
    let child = shop
        .command("deployment/web", &new(), &LONG)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    shop.until("the new image", |shop| shop.image("deployment/web") == new());
    succeed(&mut shop.kubectl(&["set", "env", "deployment/web", "MORE=1"]));
    let (code, json) = ended(child);
    assert_eq!((code, json["error"]["code"].as_str()), (13, Some("IMAGE_NOT_FOUND")), "{json:#}");
    let container = shop.get("deployment/web")["spec"]["template"]["spec"]["containers"][0].clone();
    assert_eq!(
        (&container["image"], &container["env"][0]["name"]),
        (&json!(old()), &json!("MORE"))
    );
    shop.runs(&old(), 2);
}

#[test]
fn the_time_that_is_up_is_told_and_rolled_back() {
    let (shop, child) = stuck(Kind::Deployment, &["--timeout", "10s"]);
    let (code, json) = ended(child);
    assert_eq!((code, json["error"]["code"].as_str()), (13, Some("ROLLOUT_TIMEOUT")), "{json:#}");
    shop.runs(&old(), 2);
}

#[test]
fn what_should_stay_stays() {
    let (shop, child) = stuck(Kind::Deployment, &["--timeout", "5s", "--on-failure", "keep"]);
    let (code, json) = ended(child);
    assert_eq!((code, json["error"]["code"].as_str()), (14, Some("ROLLOUT_TIMEOUT")), "{json:#}");
    assert_eq!(shop.image("deployment/web"), new());
    assert!(!shop.kubectl_calls_it_done("deployment/web"));
}

#[test]
fn a_first_deploy_that_fails_has_nothing_to_go_back_to() {
    let mut object = workload(Kind::Deployment);
    on_pods(&mut object, &[("fail", "ErrImagePull")]);
    let shop = Shop::open();
    shop.apply(&object);
    let rolled = shop.rollout("deployment/web", &new(), &LONG);
    rolled.ended(14, "IMAGE_NOT_FOUND");
    assert_eq!(rolled.workload()["rollback"]["outcome"], "nothing");
    assert!(rolled.json["error"]["details"]["notes"].to_string().contains("nothing to go back to"));
}

#[test]
fn half_a_rollout_of_old_is_gone_back_behind() {
    // The template says an image that never ran; pods of the one before serve beside it.
    let mut object = workload(Kind::Deployment);
    on_pods(&mut object, &[("fail", "ErrImagePull"), ("fail-image", "bbbbbbbb")]);
    let shop = Shop::with(&object);
    let set = format!("app={}", new());
    succeed(&mut shop.kubectl(&["set", "image", "deployment/web", &set]));
    shop.until("a pod of the broken image", |shop| shop.pods().0.contains(&new()));
    let broken =
        new().replace(&digest('b'), &format!("sha256:{}", "b".repeat(32) + &"d".repeat(32)));
    let rolled = shop.rollout("deployment/web", &broken, &LONG);
    rolled.ended(13, "IMAGE_NOT_FOUND");
    assert_eq!(rolled.workload()["previous_image"], new());
    assert_eq!(rolled.workload()["rollback"]["image"], old());
    shop.runs(&old(), 2);
}

#[test]
fn a_broken_stateful_set_is_mended_by_the_next_rollout() {
    // The controller waits for the broken pod for ever: it must be taken out of the way.
    let mut object = workload(Kind::StatefulSet);
    on_pods(&mut object, &[("fail", "CrashLoopBackOff"), ("fail-image", &digest('b'))]);
    let shop = Shop::with(&object);
    let kept =
        shop.rollout("statefulset/web", &new(), &["--on-failure", "keep", "--timeout", "150s"]);
    kept.ended(14, "CRASH_LOOP");
    let rolled = shop.rollout("statefulset/web", &other(), &LONG);
    rolled.ended(0, "");
    shop.runs(&other(), 2);
}

#[test]
fn a_pause_in_the_middle_is_told_when_the_time_is_up() {
    let (shop, child) = stuck(Kind::Deployment, &["--timeout", "12s"]);
    succeed(&mut shop.kubectl(&["rollout", "pause", "deployment/web"]));
    let (code, json) = ended(child);
    assert_eq!(code, 14, "{json:#}");
    let notes = json["error"]["details"]["notes"].to_string();
    assert!(notes.contains("paused"), "{json:#}");
}

/// A way to the API server that can be cut and mended.
struct Way {
    port: u16,
    open: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Way {
    fn to(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let open = Arc::new(AtomicBool::new(true));
        let streams: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let (is_open, all) = (Arc::clone(&open), Arc::clone(&streams));
        std::thread::spawn(move || {
            for here in listener.incoming() {
                let Ok(here) = here else { break };
                if !is_open.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(there) = TcpStream::connect(&target) else { continue };
                all.lock().unwrap().extend([here.try_clone().unwrap(), there.try_clone().unwrap()]);
                for (mut from, mut to) in
                    [(here.try_clone().unwrap(), there.try_clone().unwrap()), (there, here)]
                {
                    std::thread::spawn(move || {
                        let mut buffer = [0_u8; 16 << 10];
                        while let Ok(count @ 1..) = from.read(&mut buffer) {
                            if to.write_all(&buffer[..count]).is_err() {
                                break;
                            }
                        }
                        drop(to.shutdown(Shutdown::Both));
                    });
                }
            }
        });
        Self { port, open, streams }
    }

    fn cut(&self) {
        self.open.store(false, Ordering::SeqCst);
        for stream in self.streams.lock().unwrap().drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    fn mend(&self) {
        self.open.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_network_that_is_away_for_a_while_ends_nothing() {
    let way = Way::to(server_address());
    let file = kubeconfig_through(way.port);

    let mut object = workload(Kind::Deployment);
    on_pods(&mut object, &[("delay", "6s")]);
    let shop = Shop::with(&object);
    let child = shop
        .command("deployment/web", &new(), &["--kubeconfig", file.path().to_str().unwrap()])
        .args(LONG)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    shop.until("the new image", |shop| shop.image("deployment/web") == new());
    for _ in 0..2 {
        way.cut();
        std::thread::sleep(Duration::from_secs(2));
        way.mend();
        std::thread::sleep(Duration::from_secs(1));
    }
    let (code, json) = ended(child);
    assert_eq!(code, 0, "{json:#}");
    shop.runs(&new(), 2);
}

/// An API server beside the bed's own, on the same etcd: it can be killed without harm to others.
struct Sibling {
    arguments: Vec<String>,
    child: Child,
}

impl Sibling {
    fn start(port: u16) -> Self {
        let mut arguments = beds_api_server();
        // Of a flag that is given twice the last one holds. The audit log is the bed's own.
        arguments.push(format!("--secure-port={port}"));
        arguments.push("--audit-log-path=/dev/null".to_owned());
        let child = Self::spawn(&arguments);
        Self { arguments, child }
    }

    fn spawn(arguments: &[String]) -> Child {
        std::process::Command::new(&arguments[0])
            .args(&arguments[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("an API server starts")
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn restart(&mut self) {
        self.child = Self::spawn(&self.arguments);
    }
}

impl Drop for Sibling {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The command line of the bed's API server.
fn beds_api_server() -> Vec<String> {
    for entry in std::fs::read_dir("/proc").unwrap() {
        let Ok(line) = std::fs::read(entry.unwrap().path().join("cmdline")) else { continue };
        let words: Vec<String> = line
            .split(|byte| *byte == 0)
            .filter(|word| !word.is_empty())
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect();
        let is_server = words.first().is_some_and(|word| word.ends_with("kube-apiserver"));
        let port = server_address().rsplit_once(':').unwrap().1.to_owned();
        if is_server && words.iter().any(|word| word.contains(&port)) {
            return words;
        }
    }
    panic!("the bed's API server does not run: run `make services`");
}

/// `host:port` of the bed's API server.
pub fn server_address() -> String {
    let kubeconfig = std::fs::read_to_string(bed::part("BK_SYNC_TEST_KUBECONFIG")).unwrap();
    let at = kubeconfig.find("https://").unwrap() + "https://".len();
    kubeconfig[at..].chars().take_while(|c| !c.is_whitespace() && *c != '"' && *c != '\'').collect()
}

/// A kubeconfig that leads to another port.
pub fn kubeconfig_through(port: u16) -> tempfile::NamedTempFile {
    let kubeconfig = std::fs::read_to_string(bed::part("BK_SYNC_TEST_KUBECONFIG")).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let through = kubeconfig.replace(&server_address(), &format!("127.0.0.1:{port}"));
    std::fs::write(file.path(), through).unwrap();
    file
}

#[test]
fn an_api_server_that_is_killed_and_comes_back_ends_nothing() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut server = Sibling::start(port);
    let file = kubeconfig_through(port);
    let through = file.path().to_str().unwrap();
    let shop = Shop::open();
    // One of each kind, since each is watched in another way.
    let kinds = [Kind::Deployment, Kind::StatefulSet, Kind::DaemonSet];
    let objects = kinds.map(|kind| {
        let mut object = named(kind, kind.word());
        on_pods(&mut object, &[("delay", "5s")]);
        shop.apply(&object);
        object
    });
    for object in &objects {
        shop.settled(object);
    }
    shop.until("an API server of our own", |shop| {
        let ready = ["--kubeconfig", through, "get", "--raw", "/readyz"];
        crate::command::run(&mut shop.kubectl(&ready)).code == 0
    });
    let [first, rest @ ..] = objects.each_ref().map(name_of);
    let flags = ["--kubeconfig", through, "--timeout", "170s", "--together"];
    let child = shop
        .command(&first, &new(), &flags)
        .args(&rest)
        .env("BK_SYNC_LOG", "bk_sync=debug")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    shop.until("the new image", |shop| {
        objects.iter().all(|object| shop.image(&name_of(object)) == new())
    });
    server.kill();
    std::thread::sleep(Duration::from_secs(2));
    server.restart();
    let said = said(&child.wait_with_output().unwrap());
    assert_eq!(said.code, 0, "{}\n{}", said.stdout, said.stderr);
    // The new server knows nothing of what was before it: what was watched has to be listed anew.
    assert!(said.stderr.contains("too old resource version"), "{}", said.stderr);
    shop.runs(&new(), 6);
}

#[test]
fn who_keeps_the_image_too_is_told_before_and_named_when_it_sets_it_back() {
    let mut object = workload(Kind::Deployment);
    on_pods(&mut object, &[("fail", "Stuck"), ("fail-image", &digest('b'))]);
    let shop = Shop::open();
    let keep = |shop: &Shop, object: &Value| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), object.to_string()).unwrap();
        let apply = ["apply", "--server-side", "--force-conflicts", "--field-manager", "gitops"];
        succeed(shop.kubectl(&apply).arg("-f").arg(file.path()));
    };
    keep(&shop, &object);
    shop.settled(&object);
    let child = shop.set("deployment/web", &new(), &LONG);
    keep(&shop, &object);
    let rolled = super::shop::Rolled::of(child);
    rolled.ended(14, "SUPERSEDED");
    assert!(rolled.stderr.contains("`gitops` keeps the image"), "{}", rolled.stderr);
    let message = rolled.json["error"]["message"].as_str().unwrap();
    assert!(message.contains("gitops"), "{message}");
    assert_eq!(shop.image("deployment/web"), old());
}
