//! A watch of the tests' own: it says when a node or the scheduler reported what, by the clock of
//! this process, so that it can be held against when `bk-sync` named it.

use crate::bed;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::{
    Api, Client, Config,
    api::{ApiResource, DynamicObject},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::{watcher, watcher::Config as Watched, watcher::Event as Change},
};
use serde_json::Value;
use std::{
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How what fails is reported.
#[derive(Clone, Copy, Debug)]
pub enum Report {
    /// An event of this reason.
    Event(&'static str),
    /// The pod is over, for this reason.
    Over(&'static str),
    /// A container waits, for this reason.
    Waiting(&'static str),
}

impl Report {
    /// How kwok's nodes report the kind of failure `fail` (scripts/bed/kwok.sh lists them).
    pub fn of(fail: &'static str) -> Self {
        let kind = fail.split('-').next().unwrap();
        match kind {
            "ErrImagePull" | "InitErrImagePull" | "RateLimited" => Self::Waiting("ErrImagePull"),
            "CrashLoopBackOff" | "OOMKilled" | "Completed" | "LivenessFailing"
            | "StartupFailing" | "InitFailing" | "ExecFormat" => Self::Waiting("CrashLoopBackOff"),
            "ReadinessFailing" => Self::Event("Unhealthy"),
            "FailedMount" | "FailedAttachVolume" | "FailedCreatePodSandBox" => Self::Event(kind),
            "Evicted" | "OutOfcpu" => Self::Over(kind),
            "NodeShutdown" => Self::Over("Terminated"),
            _ => Self::Waiting(kind),
        }
    }

    /// Whether `object` is this report of a pod with `image`.
    fn is(self, object: &Value, image: &str) -> bool {
        match self {
            Self::Event(reason) => object["reason"] == reason,
            Self::Over(reason) => {
                runs(object, image)
                    && object["status"]["phase"] == "Failed"
                    && object["status"]["reason"] == reason
            }
            Self::Waiting(reason) => {
                let statuses = ["initContainerStatuses", "containerStatuses"]
                    .into_iter()
                    .filter_map(|list| object["status"][list].as_array())
                    .flatten();
                runs(object, image)
                    && statuses.into_iter().any(|one| one["state"]["waiting"]["reason"] == reason)
            }
        }
    }
}

fn runs(pod: &Value, image: &str) -> bool {
    let lists = ["initContainers", "containers"];
    let mut containers =
        lists.into_iter().filter_map(|list| pod["spec"][list].as_array()).flatten();
    containers.any(|one| one["image"] == image)
}

/// From the report of what stands in the way to its name on the screen.
const NAMED_WITHIN: Duration = Duration::from_secs(3);
/// The same to the end of the wait, where waiting cannot help: some reports may pass within moments,
/// and the last lines of a log are fetched.
const ENDED_WITHIN: Duration = Duration::from_secs(6);
/// How often a rollout may be late, on a machine that is busy with something else.
const TURNS: usize = 3;

/// How long after the node's report a failure had its name, and the wait its end.
#[derive(Debug)]
pub struct Told {
    pub named: Duration,
    pub ended: Option<Duration>,
}

/// Insists that one of `TURNS` is told in time; what else it insists on, it does in each of them.
pub fn in_time(mut turn: impl FnMut() -> Told) {
    let mut late = Vec::new();
    while late.len() < TURNS {
        let told = turn();
        eprintln!("{told:?}");
        if told.named <= NAMED_WITHIN && told.ended.is_none_or(|ended| ended <= ENDED_WITHIN) {
            return;
        }
        late.push(told);
    }
    panic!("late each time: {late:?}");
}

type Seen = Arc<Mutex<Vec<(Instant, Value)>>>;

/// Who watches the pods and the events of a namespace.
pub struct Observer {
    seen: Seen,
    _stop: DropGuard,
}

impl Observer {
    /// Begins; what comes from now on is seen.
    pub fn of(namespace: &str) -> Self {
        let seen = Seen::default();
        let stop = CancellationToken::new();
        let (begun, both) = mpsc::channel();
        let (namespace, into, cancel) = (namespace.to_owned(), Arc::clone(&seen), stop.clone());
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let client = client().await;
                let pods =
                    watch(&client, &namespace, ApiResource::erase::<Pod>(&()), &into, &begun);
                let events =
                    watch(&client, &namespace, ApiResource::erase::<Event>(&()), &into, &begun);
                tokio::select! {
                    ((), ()) = async { tokio::join!(pods, events) } => {}
                    () = cancel.cancelled() => {}
                }
            });
        });
        for _ in 0..2 {
            both.recv_timeout(super::shop::PATIENCE).expect("the watch begins");
        }
        Self { seen, _stop: stop.drop_guard() }
    }

    /// When `report` first came of a pod with `image`.
    pub fn first(&self, report: Report, image: &str) -> Option<Instant> {
        let seen = self.seen.lock().unwrap();
        seen.iter().find(|(_, object)| report.is(object, image)).map(|(at, _)| *at)
    }
}

/// A client of the cluster's administrator.
pub async fn client() -> Client {
    drop(rustls::crypto::ring::default_provider().install_default());
    let kubeconfig = Kubeconfig::read_from(bed::kubeconfig()).expect("a kubeconfig");
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.expect("a config");
    Client::try_from(config).expect("a client")
}

async fn watch(
    client: &Client,
    namespace: &str,
    resource: ApiResource,
    seen: &Seen,
    begun: &mpsc::Sender<()>,
) {
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let mut changes = watcher(api, Watched::default()).boxed();
    while let Some(change) = changes.next().await {
        match change {
            Ok(Change::Apply(object)) => {
                let object = serde_json::to_value(&object).expect("JSON");
                seen.lock().unwrap().push((Instant::now(), object));
            }
            Ok(Change::InitDone) => drop(begun.send(())),
            Ok(_) => {}
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}
