//! The time line of a run, as it arrives in a file and at a collector.

use crate::{
    bed,
    command::{run, unique, write_files},
    rollout::shop::{Kind, Shop, on_pods, workload},
    verify::stand_in::{Asked, serve},
};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// A build that is pushed and rolled out: its exit code, the trace file, and what the collector got.
fn traced(shop: &Shop) -> (i32, Value, Asked) {
    let context = tempfile::tempdir().unwrap();
    let word = unique("word");
    let dockerfile = format!("FROM {}\nCOPY word /word\nRUN echo {word}\n", bed::base_multi());
    write_files(context.path(), &[("Dockerfile", &dockerfile), ("word", &word)]);
    let got: Arc<Mutex<Vec<Asked>>> = Arc::default();
    let into = Arc::clone(&got);
    let port = serve(move |asked| {
        into.lock().unwrap().push(asked.clone());
        (200, json!({}))
    });
    let file = context.path().join("trace.json");
    let name = format!("{}/trace/{}:1", bed::registry(), unique("app"));
    let mut command = shop.bk_sync();
    command
        .args(["build", "--builder", bed::buildkitd(), "--platform", "linux/arm64"])
        .args(["-t", &name, "--push", "--rollout", "deployment/web", "-n", &shop.namespace])
        .arg("--trace")
        .arg(&file)
        .arg(context.path())
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{port}"))
        .env("OTEL_EXPORTER_OTLP_HEADERS", "x-team=a%20b")
        .env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
        .env("TRACEPARENT", PARENT);
    let said = run(&mut command);
    let trace = std::fs::read_to_string(&file)
        .unwrap_or_else(|error| panic!("no trace ({error}): {}", said.stderr));
    let got = std::mem::take(&mut *got.lock().unwrap());
    let [asked] = &got[..] else { panic!("{} exports: {}", got.len(), said.stderr) };
    (said.code, serde_json::from_str(&trace).unwrap(), asked.clone())
}

/// What a file's events, or a collector's spans, are called.
fn names(list: &Value) -> Vec<&str> {
    let list = list.as_array().unwrap();
    list.iter().map(|one| one["name"].as_str().unwrap()).collect()
}

#[test]
fn steps_transfers_uploads_and_the_rollout_are_in_it() {
    let shop = Shop::with(&workload(Kind::Deployment));
    let (code, trace, asked) = traced(&shop);
    assert_eq!(code, 0);

    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/v1/traces"));
    assert_eq!(asked.headers["content-type"], "application/json");
    assert_eq!(asked.headers["x-team"], "a b");
    let export: Value = serde_json::from_slice(&asked.body).unwrap();
    let resource = export.pointer("/resourceSpans/0/resource/attributes").unwrap().to_string();
    for word in ["service.name", "bk-sync", "deployment.environment"] {
        assert!(resource.contains(word), "{resource}");
    }
    let spans = export.pointer("/resourceSpans/0/scopeSpans/0/spans").unwrap();
    let all = spans.as_array().unwrap();
    let (_, parent) = PARENT.split_once('-').unwrap();
    let root = &all[0];
    assert!(parent.contains(root["traceId"].as_str().unwrap()));
    assert_eq!(root["parentSpanId"], "b7ad6b7169203331");
    assert_eq!(root["status"]["code"], 1);
    let moment =
        |span: &Value, name: &str| -> u128 { span[name].as_str().unwrap().parse().unwrap() };
    let mut ids: Vec<&str> = all.iter().map(|span| span["spanId"].as_str().unwrap()).collect();
    for span in &all[1..] {
        assert_eq!(span["traceId"], root["traceId"]);
        assert!(ids.contains(&span["parentSpanId"].as_str().unwrap()), "{span:#}");
        assert!(moment(span, "startTimeUnixNano") <= moment(span, "endTimeUnixNano"), "{span:#}");
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all.len(), "an id stands for one span");

    let events = trace["traceEvents"].as_array().unwrap();
    for event in events {
        assert!(matches!(event["ph"].as_str(), Some("M" | "X")), "{event:#}");
        if event["ph"] == "X" {
            assert!(event["ts"].is_u64() && event["dur"].is_u64() && event["tid"].is_u64());
        }
    }
    for names in [names(spans), names(&trace["traceEvents"])] {
        for begin in
            ["[2/3] COPY word /word", "transferring context", "[push] ", "uploading ", "[rollout] "]
        {
            assert!(names.iter().any(|name| name.starts_with(begin)), "{begin}: {names:#?}");
        }
    }
    // What overlaps lies side by side.
    let mut spans: Vec<(u64, u64, u64)> = events
        .iter()
        .filter(|event| event["ph"] == "X")
        .map(|event| {
            let [lane, at, length] = ["tid", "ts", "dur"].map(|name| event[name].as_u64().unwrap());
            (lane, at, at + length)
        })
        .collect();
    spans.sort_unstable();
    for pair in spans.windows(2) {
        assert!(pair[0].0 != pair[1].0 || pair[0].2 <= pair[1].1, "{pair:?}");
    }
}

#[test]
fn a_run_that_fails_is_traced_too() {
    let mut object = workload(Kind::Deployment);
    on_pods(&mut object, &[("fail", "ErrImagePull"), ("fail-image", "/trace/")]);
    let shop = Shop::with(&object);
    let (code, trace, asked) = traced(&shop);
    assert_eq!(code, 13);
    let export: Value = serde_json::from_slice(&asked.body).unwrap();
    let spans = export.pointer("/resourceSpans/0/scopeSpans/0/spans").unwrap();
    assert_eq!(spans[0]["status"]["code"], 2, "the run");
    let spans = spans.as_array().unwrap();
    let rollout = spans
        .iter()
        .find(|span| span["name"].as_str().is_some_and(|name| name.starts_with("[rollout]")));
    let status = &rollout.unwrap()["status"];
    assert_eq!(status["code"], 2);
    assert!(status["message"].as_str().unwrap().contains("the registry has no"), "{status}");
    assert!(names(&trace["traceEvents"]).iter().any(|name| name.starts_with("[rollback]")));
}
