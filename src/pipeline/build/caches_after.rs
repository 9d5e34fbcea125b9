//! Caches that are written when the image is where it belongs: what goes wrong with them, or takes too
//! long, costs the image nothing.
//!
//! All steps are cached on the builder by then, so each cache is one more solve of the same graph, with
//! nothing exported but the cache.

use super::{Inputs, Prepared};
use crate::{
    event::{Event, Events, Stage, Warning},
    pipeline::{
        builder::Builder,
        caches::{Caches, caches},
        error::{Error, Refusal},
        frontend::frontend,
    },
    plan::{BuildPlan, CacheEntry, Output, OutputKind},
};
use futures::future::join_all;
use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};
use tokio::time::{sleep, timeout};

/// The attribute that lets a build go on where its cache cannot be written; buildx's word.
const IGNORE_ERROR: &str = "ignore-error";
/// The kind that is a part of the image.
const INLINE: &str = "inline";
/// How long a write that is given up may take to end.
const CLEAN_UP: Duration = Duration::from_secs(5);

/// Caches that are still to be written.
pub struct CacheExports {
    writes: Vec<(CacheEntry, BuildPlan, Inputs)>,
    limit: Duration,
    events: Events,
}

impl fmt::Debug for CacheExports {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.writes.iter().map(|(entry, ..)| entry);
        formatter.debug_list().entries(entries.map(shown)).finish()
    }
}

/// The plan of the image alone, and the caches to be written after it. What belongs to the image stays
/// with it: an inline cache, and one whose failure is to be the build's (`ignore-error=false`). Where
/// what the build reads can be read only once, all stay, and their failures are ignored on the builder.
///
/// # Errors
/// The builder cannot write such a cache.
pub(super) fn apart(
    plan: &BuildPlan,
    inputs: &Inputs,
) -> Result<(BuildPlan, Option<CacheExports>), Refusal> {
    let is_lenient = |entry: &CacheEntry| {
        let said = entry.attributes.get(IGNORE_ERROR).map(String::as_str);
        entry.kind != INLINE && !matches!(said, Some("false" | "0"))
    };
    let (later, mut with): (Vec<CacheEntry>, Vec<CacheEntry>) =
        plan.cache_to.iter().cloned().partition(is_lenient);
    let Some(again) = inputs.again() else {
        for mut entry in later {
            entry.attributes.insert(IGNORE_ERROR.to_owned(), "true".to_owned());
            with.push(entry);
        }
        return Ok((BuildPlan { cache_to: with, ..plan.clone() }, None));
    };
    let builder = Builder::reached(&inputs.connection);
    let mut writes = Vec::new();
    for entry in later {
        let alone = BuildPlan { cache_from: Vec::new(), ..of(plan, entry.clone()) };
        let Caches { exports, warnings, .. } =
            caches(&alone, &builder, &inputs.directory, &inputs.cache_defaults)?;
        for warning in warnings {
            inputs.events.emit(Event::Warning(warning));
        }
        if !exports.is_empty() {
            writes.push((entry.clone(), of(plan, entry), again.twin()));
        }
    }
    let limit = Duration::from_secs(plan.cache_deadline);
    let events = inputs.events.clone();
    let exports = (!writes.is_empty()).then_some(CacheExports { writes, limit, events });
    Ok((BuildPlan { cache_to: with, ..plan.clone() }, exports))
}

/// The plan that writes one cache, and nothing else.
fn of(plan: &BuildPlan, entry: CacheEntry) -> BuildPlan {
    let nothing = Output { kind: OutputKind::CacheOnly, attributes: BTreeMap::new(), target: None };
    BuildPlan {
        push: false,
        load: false,
        outputs: vec![nothing],
        annotations: Vec::new(),
        attestations: BTreeMap::new(),
        no_default_attestations: true,
        // What the image was made of is what the builder has made last.
        no_cache: false,
        no_cache_filter: Vec::new(),
        pull: false,
        strict: false,
        iid_file: None,
        metadata_file: None,
        cache_to: vec![entry],
        ..plan.clone()
    }
}

/// A cache as a user knows it.
fn shown(entry: &CacheEntry) -> String {
    let place = ["ref", "dest", "name", "scope", "bucket"]
        .iter()
        .find_map(|key| entry.attributes.get(*key).filter(|value| !value.is_empty()));
    place.map_or_else(|| entry.kind.clone(), |place| format!("{} {place}", entry.kind))
}

impl CacheExports {
    /// Writes the caches, side by side, within their deadline. A failure is a warning. What the
    /// exporters answered.
    ///
    /// # Errors
    /// The user wants no more of it.
    pub async fn write(self) -> Result<BTreeMap<String, String>, Error> {
        let Self { writes, limit, events } = self;
        let subject: Vec<String> = writes.iter().map(|(entry, ..)| shown(entry)).collect();
        let subject = subject.join(", ");
        events.emit(Event::StageStarted { stage: Stage::Cache, subject });
        let written = join_all(writes.into_iter().map(async |(entry, plan, inputs)| {
            let began = Instant::now();
            let written = within(limit, &plan, inputs).await;
            (shown(&entry), began.elapsed(), written)
        }));
        let (mut response, mut ok, mut interrupted) = (BTreeMap::new(), true, false);
        for (name, took, written) in written.await {
            let problem = match written {
                Ok(Some(answer)) => {
                    response.extend(answer);
                    continue;
                }
                Ok(None) => format!("it took longer than {} s", limit.as_secs()),
                Err(Error::Interrupted) => {
                    interrupted = true;
                    continue;
                }
                Err(error) => error.to_string(),
            };
            ok = false;
            tracing::debug!(name, ?took, problem, "a cache was not written");
            events.emit(Event::Warning(Warning {
                code: "CACHE_EXPORT_FAILED",
                message: format!("the cache `{name}` was not written: {problem}"),
                hint: Some(
                    "the image is as good as with it; see `--cache-deadline`, or let it fail the \
                     build with `ignore-error=false`"
                        .to_owned(),
                ),
            }));
        }
        events.emit(Event::StageEnded { stage: Stage::Cache, ok: ok && !interrupted });
        if interrupted { Err(Error::Interrupted) } else { Ok(response) }
    }
}

/// Writes one cache; none where that takes longer than `limit`.
async fn within(
    limit: Duration,
    plan: &BuildPlan,
    mut inputs: Inputs,
) -> Result<Option<BTreeMap<String, String>>, Error> {
    let outer = inputs.cancel.clone();
    let cancel = outer.child_token();
    inputs.cancel = cancel.clone();
    let mut writing = Box::pin(async {
        let prepared = Prepared::new(plan, inputs, None).await?;
        prepared.run(plan, frontend(plan.frontend).as_ref()).await
    });
    let written = tokio::select! {
        written = &mut writing => written,
        () = outer.cancelled() => Err(Error::Interrupted),
        () = sleep(limit) => {
            cancel.cancel();
            drop(timeout(CLEAN_UP, writing).await);
            return Ok(None);
        }
    };
    Ok(Some(written?.exporter_response))
}
