//! Keeps what is known of a workload up to date: by watches, which are taken up again wherever they
//! break off (they expire, the API server starts anew, the network is away), never by polling.

use super::{
    api::{resource, revisions, value},
    observed::{Note, Observed, Pod, Revision},
    workload::{Workload, WorkloadName},
};
use crate::cluster::{Cluster, api_words};
use futures::{FutureExt as _, Stream, StreamExt as _, stream::BoxStream};
use k8s_openapi::api::core::v1 as core;
use kube::{
    Api, Resource,
    api::DynamicObject,
    runtime::{
        WatchStreamExt as _,
        utils::Backoff,
        watcher::{self, Event},
    },
};
use serde::de::DeserializeOwned;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};
use tokio::time::Instant;

/// The API server ends a watch after this many seconds, and one that fell silent is given up soon
/// after: what was missed while the network was away must not be missed for long.
const WATCH_SECONDS: u32 = 45;
/// Objects of a page of a list: few enough that a page takes little memory.
const PAGE: u32 = 100;
/// How long it takes until a broken watch is tried again, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(3));

/// Keeps what is known of a workload up to date.
pub struct Watch {
    observed: Observed,
    stream: BoxStream<'static, Change>,
    pending: Pending,
    trouble: BTreeMap<Source, Trouble>,
    begun: [bool; 4],
}

impl fmt::Debug for Watch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Watch").field("trouble", &self.trouble).finish_non_exhaustive()
    }
}

/// Which of the watches.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Source {
    Notes,
    Pods,
    Revisions,
    Workload,
}

/// What a watch says of its objects.
enum Change {
    Note(Said<Note>),
    Pod(Said<Pod>),
    Revision(Said<Revision>),
    Workload(Said<Workload>),
    Trouble(Source, watcher::Error),
}

/// What a watch says, with the uid of what it says it of.
enum Said<T> {
    Is(String, Box<T>),
    Gone(String),
    ListBegins,
    ListEnds,
}

/// What a list that is not complete has named so far.
#[derive(Default)]
struct Pending {
    notes: BTreeSet<String>,
    pods: BTreeSet<String>,
    revisions: BTreeSet<String>,
    workload: bool,
}

/// A watch that does not come about.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// Since when.
    pub since: Instant,
    /// What was said last.
    pub words: String,
    /// Whether we may not watch.
    pub forbidden: bool,
}

impl Watch {
    /// Begins to watch a workload whose pods `selector` names.
    pub fn begin(cluster: &Cluster, name: &WorkloadName, selector: &str) -> Self {
        let namespace = &cluster.namespace;
        let client = || cluster.client.clone();
        let kind = name.kind;
        let config = || watcher::Config::default().timeout(WATCH_SECONDS).page_size(PAGE);
        let workloads: Api<DynamicObject> =
            Api::namespaced_with(client(), namespace, &resource(kind));
        let only = config().fields(&format!("metadata.name={}", name.name));
        let mut streams: Vec<BoxStream<'static, Change>> = vec![said(
            workloads,
            only,
            Source::Workload,
            move |object: DynamicObject| Workload::read(kind, &value(&object)).ok(),
            Change::Workload,
        )];
        if kind.rolls() {
            let sets: Api<DynamicObject> =
                Api::namespaced_with(client(), namespace, &revisions(kind));
            let pods: Api<core::Pod> = Api::namespaced(client(), namespace);
            let events: Api<core::Event> = Api::namespaced(client(), namespace);
            let owner = name.name.clone();
            streams.push(said(
                sets,
                config().labels(selector),
                Source::Revisions,
                |object: DynamicObject| Some(Revision::read(&value(&object))),
                Change::Revision,
            ));
            streams.push(said(
                pods,
                config().labels(selector),
                Source::Pods,
                |pod: core::Pod| Some(Pod::read(&pod)),
                Change::Pod,
            ));
            streams.push(said(
                events,
                config().fields("type=Warning"),
                Source::Notes,
                move |event: core::Event| {
                    // Names of what belongs to a workload begin with its own.
                    let about = event.involved_object.name.as_deref().unwrap_or_default();
                    about.starts_with(&owner).then(|| Note::read(&event))
                },
                Change::Note,
            ));
        }
        let rolls = kind.rolls();
        Self {
            observed: Observed::default(),
            stream: futures::stream::select_all(streams).boxed(),
            pending: Pending::default(),
            trouble: BTreeMap::new(),
            begun: [false, !rolls, !rolls, !rolls],
        }
    }

    /// What is known now.
    pub fn observed(&self) -> &Observed {
        &self.observed
    }

    /// Whether everything was listed once. Events may be missing: they are no condition.
    pub fn is_complete(&self) -> bool {
        let [workload, revisions, pods, _] = self.begun;
        workload && revisions && pods
    }

    /// The watch that has not come about for the longest time.
    pub fn trouble(&self) -> Option<&Trouble> {
        self.trouble
            .iter()
            .filter(|(source, _)| **source != Source::Notes)
            .map(|(_, trouble)| trouble)
            .min_by_key(|trouble| trouble.since)
    }

    /// Waits for news, and takes in all that are there.
    pub async fn next(&mut self) {
        if let Some(change) = self.stream.next().await {
            self.take(change);
        }
        while let Some(Some(change)) = self.stream.next().now_or_never() {
            self.take(change);
        }
    }

    /// Takes in what a change of ours returned: the watch tells it too, but later.
    pub fn changed(&mut self, workload: Workload) {
        self.observed.workload = Some(workload);
    }

    fn take(&mut self, change: Change) {
        let source = match &change {
            Change::Note(_) => Source::Notes,
            Change::Pod(_) => Source::Pods,
            Change::Revision(_) => Source::Revisions,
            Change::Workload(_) => Source::Workload,
            Change::Trouble(source, error) => {
                let (words, forbidden) = told(error);
                tracing::debug!(?source, %words, "a watch broke off");
                let since = Instant::now();
                let trouble = self.trouble.entry(*source).or_insert(Trouble {
                    since,
                    words: String::new(),
                    forbidden,
                });
                trouble.words = words;
                trouble.forbidden = forbidden;
                return;
            }
        };
        let is_answer = !matches!(
            &change,
            Change::Note(Said::ListBegins)
                | Change::Pod(Said::ListBegins)
                | Change::Revision(Said::ListBegins)
                | Change::Workload(Said::ListBegins)
        );
        if is_answer {
            self.trouble.remove(&source);
        }
        let [workload_begun, revisions_begun, pods_begun, notes_begun] = &mut self.begun;
        let Observed { workload, revisions, pods, notes } = &mut self.observed;
        match change {
            Change::Note(said) => keep(notes, &mut self.pending.notes, said, notes_begun),
            Change::Pod(said) => keep(pods, &mut self.pending.pods, said, pods_begun),
            Change::Revision(said) => {
                keep(revisions, &mut self.pending.revisions, said, revisions_begun);
            }
            Change::Workload(said) => match said {
                Said::Is(_, seen) => {
                    self.pending.workload = true;
                    let is_news = workload.as_ref().is_none_or(|known| {
                        known.uid != seen.uid || known.generation <= seen.generation
                    });
                    if is_news {
                        *workload = Some(*seen);
                    }
                }
                Said::Gone(_) => *workload = None,
                Said::ListBegins => self.pending.workload = false,
                Said::ListEnds => {
                    *workload_begun = true;
                    if !self.pending.workload {
                        *workload = None;
                    }
                }
            },
            Change::Trouble(..) => {}
        }
    }
}

/// Keeps `known` as the watch has it. What a new list does not name any more is gone.
fn keep<T>(
    known: &mut BTreeMap<String, T>,
    pending: &mut BTreeSet<String>,
    said: Said<T>,
    begun: &mut bool,
) {
    match said {
        Said::Is(uid, seen) => {
            if !*begun || !pending.is_empty() {
                pending.insert(uid.clone());
            }
            known.insert(uid, *seen);
        }
        Said::Gone(uid) => drop(known.remove(&uid)),
        Said::ListBegins => {
            *begun = false;
            pending.clear();
        }
        Said::ListEnds => {
            known.retain(|uid, _| pending.contains(uid));
            pending.clear();
            *begun = true;
        }
    }
}

/// A watch as a stream that never ends.
fn said<K, T>(
    api: Api<K>,
    config: watcher::Config,
    source: Source,
    read: impl Fn(K) -> Option<T> + Send + 'static,
    change: impl Fn(Said<T>) -> Change + Send + 'static,
) -> BoxStream<'static, Change>
where
    K: Resource + Clone + DeserializeOwned + fmt::Debug + Send + 'static,
    T: Send + 'static,
{
    let stream = watcher::watcher(api, config).backoff(Retry(None));
    let changes: std::pin::Pin<Box<dyn Stream<Item = Change> + Send>> =
        Box::pin(stream.filter_map(move |event| {
            let is = |object: K| {
                let uid = object.meta().uid.clone().unwrap_or_default();
                read(object).map(|seen| Said::Is(uid, Box::new(seen)))
            };
            let said = match event {
                Ok(Event::Apply(object) | Event::InitApply(object)) => is(object).map(&change),
                Ok(Event::Delete(object)) => {
                    Some(change(Said::Gone(object.meta().uid.clone().unwrap_or_default())))
                }
                Ok(Event::Init) => Some(change(Said::ListBegins)),
                Ok(Event::InitDone) => Some(change(Said::ListEnds)),
                Err(error) => Some(Change::Trouble(source, error)),
            };
            futures::future::ready(said)
        }));
    changes
}

/// What a watch's error says, and whether it is that we may not.
fn told(error: &watcher::Error) -> (String, bool) {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => {
            let forbidden = matches!(error, kube::Error::Api(status) if status.code == 403);
            (api_words(error), forbidden)
        }
        watcher::Error::WatchError(status) => (status.message.clone(), status.code == 403),
        watcher::Error::NoResourceVersion => (error.to_string(), false),
    }
}

/// Waits longer from failure to failure, and soon again after a success.
struct Retry(Option<Duration>);

impl Iterator for Retry {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let (first, most) = RETRY;
        let wait = self.0.map_or(first, |last| (last * 2).min(most));
        self.0 = Some(wait);
        Some(wait)
    }
}

impl Backoff for Retry {
    fn reset(&mut self) {
        self.0 = None;
    }
}
