//! What a large rollout costs: requests to the API server, and memory.

use super::shop::{Kind, PATIENCE, Shop, new, old, workload};
use crate::bed;
use serde_json::{Value, json};
use std::{
    io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    process::Stdio,
};

const PODS: usize = 500;
/// Requests that the rollout of many pods may cost: lists by the page, watches that are taken up
/// again every 45 s, the lock's renewals, and what the preflight asks.
const MOST_REQUESTS: usize = 250;
/// In KiB.
const MOST_MEMORY: u64 = 64 << 10;

#[test]
fn a_rollout_of_many_pods_costs_few_requests_and_little_memory() {
    let mut object = workload(Kind::Deployment);
    object["spec"]["replicas"] = json!(PODS);
    object["spec"]["strategy"] = json!({"type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": "50%", "maxUnavailable": "50%"}});
    let shop = Shop::open();
    shop.apply(&object);
    let timeout = format!("--timeout={}s", 3 * PATIENCE.as_secs());
    crate::command::succeed(&mut shop.kubectl(&["rollout", "status", "deployment/web", &timeout]));
    assert_eq!(shop.image("deployment/web"), old());

    let mut log =
        std::fs::File::open(bed::part("BK_SYNC_TEST_KUBE_AUDIT_LOG")).expect("the audit log");
    log.seek(SeekFrom::End(0)).unwrap();
    // A pipe that nobody reads meanwhile would hold the report of many pods up.
    let mut said = tempfile::tempfile().unwrap();
    let mut child = shop
        .command("deployment/web", &new(), &["--timeout", "9m"])
        .stdout(said.try_clone().unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let exit = loop {
        if let Ok(text) = std::fs::read_to_string(&status) {
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
            peak = kib.unwrap_or(peak).max(peak);
        }
        if let Some(exit) = child.try_wait().unwrap() {
            break exit;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    said.rewind().unwrap();
    let mut text = String::new();
    said.read_to_string(&mut text).unwrap();
    assert!(exit.success(), "{text}");
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["result"]["workloads"][0]["pods"].as_array().unwrap().len(), PODS);

    // The audit log is written in batches.
    std::thread::sleep(std::time::Duration::from_secs(3));
    let ours = BufReader::new(log)
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| serde_json::from_str::<Value>(&line).ok())
        .filter(|entry| {
            let agent = entry["userAgent"].as_str().unwrap_or_default();
            let namespace = entry["objectRef"]["namespace"].as_str().unwrap_or_default();
            agent.starts_with("bk-sync/") && namespace == shop.namespace
        })
        .count();
    eprintln!("{PODS} pods: {ours} requests, peak {peak} KiB, {} ms", report["result"]["total_ms"]);
    assert!(ours > 0, "the audit log names nothing of ours");
    assert!(ours <= MOST_REQUESTS, "{ours} requests");
    assert!(peak < MOST_MEMORY, "{peak} KiB");
}
