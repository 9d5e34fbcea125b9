//! When what ran: the spans of a run, and their form for trace viewers and collectors. Pure.

use super::state::State;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    time::{Duration, SystemTime},
};

/// Parts of one step that are kept; the longest stay.
const MAX_PARTS: usize = 64;

/// What ran when.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// When the run began.
    pub started: Option<SystemTime>,
    /// When it ended.
    pub ended: Option<SystemTime>,
    /// Whether all went well.
    pub well: bool,
    /// Its steps, in the order in which they began.
    pub steps: Vec<Span>,
}

/// A step, or a part of one.
#[derive(Clone, Debug)]
pub struct Span {
    /// Its name on the screen.
    pub name: String,
    /// The op's digest, where it stands for one; else a text of its own.
    pub id: String,
    /// The ids of the steps that it is built on.
    pub inputs: Vec<String>,
    /// When it began.
    pub started: SystemTime,
    /// When it ended.
    pub ended: SystemTime,
    /// Whether its result was there already.
    pub cached: bool,
    /// Why it failed; empty otherwise.
    pub error: String,
    /// Bytes that it moved, where it moved any.
    pub bytes: Option<u64>,
    /// What it was made of: transfers, layers, pods.
    pub parts: Vec<Self>,
}

impl Span {
    /// How long it took.
    pub fn duration(&self) -> Duration {
        self.ended.duration_since(self.started).unwrap_or_default()
    }

    /// Which lane of a viewer it belongs to: its stage.
    fn lane(&self) -> &str {
        let Some((inside, _)) = self.name.strip_prefix('[').and_then(|rest| rest.split_once(']'))
        else {
            return "builder";
        };
        match inside.trim().rsplit_once(' ') {
            Some((stage, number)) if number.contains('/') => stage.trim_end(),
            None if inside.contains('/') => "build",
            _ => inside,
        }
    }
}

impl Timeline {
    /// The timeline of what `state` knows, at its end.
    pub(super) fn of(state: &State, well: bool, started: SystemTime, ended: SystemTime) -> Self {
        let mut steps: Vec<Span> = Vec::new();
        for step in state.steps().iter().filter(|step| !step.hidden) {
            let Some((first, last)) = step.bounds(ended) else { continue };
            let mut parts: Vec<Span> = step
                .parts
                .iter()
                .filter_map(|part| {
                    let started = part.started?;
                    Some(Span {
                        name: part.id.clone(),
                        id: format!("{} {}", step.id, part.id),
                        inputs: Vec::new(),
                        started,
                        ended: part.completed.or(part.timestamp).unwrap_or(last),
                        cached: false,
                        error: String::new(),
                        bytes: (part.total > 0 || part.id.starts_with("transferring"))
                            .then(|| u64::try_from(part.current).unwrap_or_default()),
                        parts: Vec::new(),
                    })
                })
                .collect();
            parts.sort_by_key(|part| std::cmp::Reverse(part.duration()));
            parts.truncate(MAX_PARTS);
            parts.sort_by_key(|part| part.started);
            let bytes = parts.iter().filter_map(|part| part.bytes).fold(0, u64::saturating_add);
            steps.push(Span {
                name: step.name.clone(),
                id: step.id.clone(),
                inputs: step.inputs.clone(),
                started: first,
                ended: last,
                cached: step.cached,
                error: step.error.clone(),
                bytes: (bytes > 0).then_some(bytes),
                parts,
            });
        }
        steps.sort_by_key(|step| step.started);
        Self { started: Some(started), ended: Some(ended), well, steps }
    }

    /// The events of Chrome's trace format, which Perfetto opens, too.
    pub fn to_chrome(&self) -> Value {
        let origin = self.origin();
        let micros = |at: SystemTime| {
            u64::try_from(at.duration_since(origin).unwrap_or_default().as_micros())
                .unwrap_or(u64::MAX)
        };
        let mut lanes = Lanes::default();
        let mut events = vec![json!({
            "ph": "M", "pid": 1, "name": "process_name", "args": {"name": "bk-sync"},
        })];
        for step in &self.steps {
            let lane = lanes.place(step.lane(), step.started, step.ended);
            let event = |span: &Span, category: &str| {
                let start = micros(span.started);
                json!({
                    "ph": "X",
                    "pid": 1,
                    "tid": lane,
                    "cat": category,
                    "name": span.name,
                    "ts": start,
                    "dur": micros(span.ended).saturating_sub(start),
                    "args": {
                        "id": span.id,
                        "cached": span.cached,
                        "error": span.error,
                        "bytes": span.bytes,
                    },
                })
            };
            events.push(event(step, "step"));
            // A viewer nests what lies within: a part that sticks out gets a lane of its own.
            for part in &step.parts {
                let mut shown = event(part, "part");
                let lane = lanes.place(&format!("{} parts", step.lane()), part.started, part.ended);
                if let Some(fields) = shown.as_object_mut() {
                    fields.insert("tid".to_owned(), json!(lane));
                }
                events.push(shown);
            }
        }
        for (name, number) in lanes.names() {
            events.push(json!({
                "ph": "M", "pid": 1, "tid": number, "name": "thread_name", "args": {"name": name},
            }));
            events.push(json!({
                "ph": "M", "pid": 1, "tid": number, "name": "thread_sort_index",
                "args": {"sort_index": number},
            }));
        }
        json!({ "displayTimeUnit": "ms", "traceEvents": events })
    }

    /// The body of an OTLP/HTTP export in JSON: one trace, whose root is the run. `service` is its
    /// name, `resource` more attributes, and `parent` the W3C `traceparent` that it belongs under.
    pub fn to_otlp(
        &self,
        service: &str,
        resource: &[(String, String)],
        name: &str,
        parent: Option<&str>,
    ) -> Value {
        let (Some(started), Some(ended)) = (self.started, self.ended) else { return json!({}) };
        let given = parent.and_then(Parent::read);
        let seed = format!("{name} {started:?} {ended:?} {}", self.steps.len());
        let trace = given.as_ref().map_or_else(|| hex(&seed, 16), |given| given.trace.clone());
        let root = hex(&format!("{trace} root"), 8);
        let mut spans = vec![json!({
            "traceId": trace,
            "spanId": root,
            "parentSpanId": given.map_or_else(String::new, |given| given.span),
            "name": name,
            "kind": 1,
            "startTimeUnixNano": nanos(started),
            "endTimeUnixNano": nanos(ended),
            "attributes": [],
            "status": {"code": if self.well { 1 } else { 2 }},
        })];
        for step in &self.steps {
            let id = hex(&format!("{trace} {}", step.id), 8);
            spans.push(otlp_span(step, &trace, &id, &root));
            for part in &step.parts {
                let own = hex(&format!("{trace} {}", part.id), 8);
                spans.push(otlp_span(part, &trace, &own, &id));
            }
        }
        let mut attributes = vec![attribute("service.name", &json!({"stringValue": service}))];
        attributes.extend(
            resource.iter().map(|(key, value)| attribute(key, &json!({"stringValue": value}))),
        );
        json!({
            "resourceSpans": [{
                "resource": {"attributes": attributes},
                "scopeSpans": [{
                    "scope": {"name": "bk-sync", "version": env!("CARGO_PKG_VERSION")},
                    "spans": spans,
                }],
            }],
        })
    }

    fn origin(&self) -> SystemTime {
        let first = self.steps.iter().map(|step| step.started).min();
        [self.started, first].into_iter().flatten().min().unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

fn otlp_span(span: &Span, trace: &str, id: &str, parent: &str) -> Value {
    let mut attributes = vec![attribute("bk_sync.cached", &json!({"boolValue": span.cached}))];
    if let Some(bytes) = span.bytes {
        attributes.push(attribute("bk_sync.bytes", &json!({"intValue": bytes.to_string()})));
    }
    if span.id.starts_with("sha256:") {
        attributes.push(attribute("bk_sync.vertex", &json!({"stringValue": span.id})));
    }
    let status = if span.error.is_empty() {
        json!({"code": 1})
    } else {
        json!({"code": 2, "message": span.error})
    };
    json!({
        "traceId": trace,
        "spanId": id,
        "parentSpanId": parent,
        "name": span.name,
        "kind": 1,
        "startTimeUnixNano": nanos(span.started),
        "endTimeUnixNano": nanos(span.ended.max(span.started)),
        "attributes": attributes,
        "status": status,
    })
}

fn attribute(key: &str, value: &Value) -> Value {
    json!({"key": key, "value": value})
}

/// 64-bit numbers are texts in OTLP's JSON.
fn nanos(at: SystemTime) -> String {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}

/// An id of `bytes` bytes, the same for the same seed.
fn hex(seed: &str, bytes: usize) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(seed.as_bytes()).iter().take(bytes) {
        let _cannot_fail = write!(text, "{byte:02x}");
    }
    text
}

/// Where a trace belongs, as W3C's `traceparent` says it.
struct Parent {
    trace: String,
    span: String,
}

impl Parent {
    fn read(text: &str) -> Option<Self> {
        let mut words = text.trim().split('-');
        let (_version, trace, span) = (words.next()?, words.next()?, words.next()?);
        let is_hex = |word: &str, length: usize| {
            word.len() == length
                && word.chars().all(|c| c.is_ascii_hexdigit())
                && word.chars().any(|c| c != '0')
        };
        (is_hex(trace, 32) && is_hex(span, 16))
            .then(|| Self { trace: trace.to_owned(), span: span.to_owned() })
    }
}

/// The lanes of a viewer: in each, nothing overlaps.
#[derive(Default)]
struct Lanes {
    /// By name: the lanes' numbers, and until when each is taken.
    taken: BTreeMap<String, Vec<(usize, SystemTime)>>,
    count: usize,
}

impl Lanes {
    /// The number of a lane called `name` that is free from `start` on; it is taken until `end`.
    fn place(&mut self, name: &str, start: SystemTime, end: SystemTime) -> usize {
        let lanes = self.taken.entry(name.to_owned()).or_default();
        if let Some((number, until)) = lanes.iter_mut().find(|(_, until)| *until <= start) {
            *until = end;
            return *number;
        }
        self.count += 1;
        lanes.push((self.count, end));
        self.count
    }

    fn names(&self) -> Vec<(String, usize)> {
        let mut all: Vec<(String, usize)> = self
            .taken
            .iter()
            .flat_map(|(name, lanes)| lanes.iter().map(|(number, _)| (name.clone(), *number)))
            .collect();
        all.sort_by_key(|(_, number)| *number);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::{Parent, Span, Timeline};
    use std::time::{Duration, SystemTime};

    fn at(milliseconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(1_800_000_000_000 + milliseconds)
    }

    fn span(name: &str, started: u64, ended: u64) -> Span {
        Span {
            name: name.to_owned(),
            id: format!("sha256:{name}"),
            inputs: Vec::new(),
            started: at(started),
            ended: at(ended),
            cached: false,
            error: String::new(),
            bytes: None,
            parts: Vec::new(),
        }
    }

    fn timeline() -> Timeline {
        let part = Span { bytes: Some(9), ..span("transferring context:", 10, 20) };
        let failed = Span { error: "exit code: 2".to_owned(), ..span("[build 2/2] RUN b", 40, 90) };
        Timeline {
            started: Some(at(0)),
            ended: Some(at(100)),
            well: false,
            steps: vec![
                Span { parts: vec![part], ..span("[internal] load build context", 5, 30) },
                span("[build 1/2] RUN a", 30, 60),
                failed,
            ],
        }
    }

    #[test]
    fn in_a_trace_what_overlaps_lies_in_lanes_of_its_own() {
        let trace = timeline().to_chrome();
        let events = trace["traceEvents"].as_array().unwrap();
        let lane = |name: &str| {
            let event = events.iter().find(|event| event["name"] == name).unwrap();
            (event["tid"].clone(), event["ts"].clone(), event["dur"].clone())
        };
        let (first, start, length) = lane("[build 1/2] RUN a");
        assert_eq!((start, length), (30_000.into(), 30_000.into()));
        assert_ne!(first, lane("[build 2/2] RUN b").0, "they overlap");
        let names: Vec<&str> = events
            .iter()
            .filter(|event| event["name"] == "thread_name")
            .map(|event| event["args"]["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["internal", "internal parts", "build", "build"]);
    }

    #[test]
    fn an_export_is_one_trace_under_the_parent_that_was_given() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let export = timeline().to_otlp("bk-sync", &[], "bk-sync build", Some(parent));
        let spans = export.pointer("/resourceSpans/0/scopeSpans/0/spans").unwrap();
        let spans = spans.as_array().unwrap();
        assert_eq!(spans.len(), 5);
        assert!(spans.iter().all(|span| span["traceId"] == "0af7651916cd43dd8448eb211c80319c"));
        assert_eq!(spans[0]["parentSpanId"], "b7ad6b7169203331");
        assert_eq!(spans[1]["parentSpanId"], spans[0]["spanId"]);
        assert_eq!(spans[2]["parentSpanId"], spans[1]["spanId"], "a part is under its step");
        assert_eq!(spans[4]["status"]["message"], "exit code: 2");
        assert_eq!(spans[0]["status"]["code"], 2, "the run failed");
        assert_eq!(spans[0]["startTimeUnixNano"], "1800000000000000000");
        assert!(Parent::read("00-0-0-01").is_none());
    }
}
