//! The checks after a rollout, through a real client of the Kubernetes API.

pub mod stand_in;

use bk_sync::{
    credential::Secret,
    event::Events,
    pipeline::verify::{Checks, VerifyInputs, verify},
    verify::{
        expect::Expectation,
        http::HttpCheck,
        inngest::checks::{Expected, InngestCheck, Sync},
        pods::Pods,
        report::{CheckedPod, VerifyReport},
    },
};
use serde_json::{Value, json};
use stand_in::{APP, Inngest, UID, Worker, World};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const KEY: &str = "signkey-prod-0011aabb";

fn ids(list: &[&str]) -> Vec<String> {
    list.iter().map(|&id| id.to_owned()).collect()
}

fn worker(functions: &[&str]) -> Worker {
    Worker { functions: ids(functions), ..Worker::default() }
}

fn check(world: &World) -> InngestCheck {
    InngestCheck {
        url: world.inngest_url.clone(),
        app: APP.to_owned(),
        sync: Sync::Worker { port: 3111, path: "/api/inngest".to_owned() },
        expected: Expected::Worker { port: 3111, path: "/".to_owned() },
        signing_key: None,
        stale_match: Vec::new(),
        delete: false,
        cron_age: None,
        running: None,
        unindexed: Vec::new(),
        attempts: 2,
        timeout: Duration::from_mins(1),
    }
}

async fn run(world: &World, uid: &str, checks: Checks) -> VerifyReport {
    drop(rustls::crypto::ring::default_provider().install_default());
    let config = kube::Config::new(world.cluster_url.parse().unwrap());
    let inputs = VerifyInputs {
        pods: Pods::new(kube::Client::try_from(config).unwrap(), "seed"),
        new: vec![CheckedPod { name: "worker-1".to_owned(), uid: uid.to_owned() }],
        events: Events::discard(),
        cancel: CancellationToken::new(),
    };
    verify(&checks, inputs).await.unwrap()
}

async fn inngest(world: &World, check: InngestCheck) -> VerifyReport {
    run(world, UID, Checks { inngest: Some(check), ..Checks::default() }).await
}

fn codes(report: &VerifyReport) -> Vec<&'static str> {
    let findings = report.checks.iter().flat_map(|check| &check.findings);
    findings.map(|finding| finding.code).collect()
}

fn http(expect: Value) -> Checks {
    let check = HttpCheck {
        port: 3111,
        path: "/".to_owned(),
        expect: Expectation { status: Some(200), json: Some(expect) },
        timeout: Duration::from_secs(20),
    };
    Checks { http: vec![check], ..Checks::default() }
}

#[tokio::test]
async fn a_worker_that_is_still_starting_is_asked_again() {
    let world = World::new(&Worker { starting: 2, ..worker(&["a"]) }, Inngest::default());
    let wanted = json!({"status": "running", "worker.hasDuplicateFunctionIds": false});
    let report = run(&world, UID, http(wanted)).await;
    assert!(report.ok(), "{report:?}");
    // The client of the cluster asks again by itself where it is told to come back later.
    assert_eq!(world.asked.lock().unwrap().len(), 3);
    assert_eq!(report.checks[0].pod.as_ref().unwrap().uid, UID);
}

/// An old pod that answers well proves nothing.
#[tokio::test]
async fn a_pod_that_was_replaced_is_not_asked() {
    let world = World::new(&worker(&["a"]), Inngest::default());
    let report = run(&world, "uid-old", http(json!({}))).await;
    assert_eq!(codes(&report), ["POD_GONE"]);
    assert!(world.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_right_that_is_missing_is_named() {
    let world = World::new(&worker(&["a"]), Inngest::default());
    let mut checks = http(json!({}));
    checks.http[0].port = 80;
    let report = run(&world, UID, checks).await;
    assert_eq!(codes(&report), ["POD_FORBIDDEN"]);
    let (_, finding) = report.failures().next().unwrap();
    assert!(finding.fix.as_ref().unwrap().contains("pods/proxy"), "{finding:?}");
}

/// The seed's `refresh` deleted `apps[0]`, whoever that was, before anything else was there.
#[tokio::test]
async fn registering_touches_no_other_app() {
    let host = ("system-bus-host".to_owned(), "http://host:3111/".to_owned(), true, ids(&["x"]));
    let world = World::new(
        &worker(&["a", "b"]),
        Inngest { apps: vec![host.clone()], ..Inngest::default() },
    );
    let report = inngest(&world, check(&world)).await;
    assert!(report.ok(), "{report:?}");
    let state = world.inngest.lock().unwrap();
    assert!(state.deleted.is_empty() && state.apps.contains(&host));
    assert!(state.apps.iter().any(|(name, _, _, functions)| name == APP && functions.len() == 2));
    assert_eq!(*world.asked.lock().unwrap(), ["GET /", "PUT /api/inngest"]);
}

/// "Successfully registered" proves nothing: what the server then has decides.
#[tokio::test]
async fn a_function_that_was_lost_on_the_way_is_named() {
    let world =
        World::new(&worker(&["a", "b"]), Inngest { loses: ids(&["b"]), ..Inngest::default() });
    let report = inngest(&world, check(&world)).await;
    assert_eq!(codes(&report), ["INNGEST_FUNCTIONS_MISSING"]);
    assert!(report.checks[0].findings[0].message.ends_with("`b`"), "{report:?}");
    assert_eq!(report.checks[0].attempts, 2);
}

#[tokio::test]
async fn a_worker_with_a_key_takes_signed_requests_only() {
    let world =
        World::new(&Worker { key: Some(KEY.to_owned()), ..worker(&["a"]) }, Inngest::default());
    let refused = inngest(&world, check(&world)).await;
    assert!(codes(&refused).contains(&"INNGEST_SYNC_FAILED"), "{refused:?}");
    assert!(refused.failures().any(|(_, finding)| {
        finding.fix.as_ref().is_some_and(|fix| fix.contains("signing key"))
    }));
    let signed = InngestCheck { signing_key: Some(Secret::new(KEY)), ..check(&world) };
    let report = inngest(&world, signed).await;
    assert!(report.ok(), "{report:?}");
}

#[tokio::test]
async fn without_graphql_the_rest_api_is_asked_with_the_key() {
    let world = World::new(&worker(&["a"]), Inngest { rest_only: true, ..Inngest::default() });
    let report = inngest(&world, check(&world)).await;
    assert_eq!(codes(&report), ["INNGEST_SERVER_SILENT"], "without a key there is nobody to ask");
    let keyed = InngestCheck { signing_key: Some(Secret::new(KEY)), ..check(&world) };
    let report = inngest(&world, keyed).await;
    assert!(report.ok(), "{report:?}");
}

#[tokio::test]
async fn stale_apps_are_deleted_by_a_rule_only_and_only_when_all_else_is_right() {
    let stale = |broken: &[&str]| Inngest {
        apps: vec![(
            "system-bus".to_owned(),
            "http://host.k3d.internal:3111/api/inngest".to_owned(),
            false,
            ids(&["a"]),
        )],
        loses: ids(broken),
        ..Inngest::default()
    };
    let rule = |world: &World, delete| InngestCheck {
        stale_match: ids(&["host.k3d.internal"]),
        delete,
        ..check(world)
    };
    let world = World::new(&worker(&["a"]), stale(&[]));
    let report = inngest(&world, rule(&world, false)).await;
    assert!(report.ok(), "{report:?}");
    assert_eq!(codes(&report), ["INNGEST_STALE_APP"]);
    assert!(world.inngest.lock().unwrap().deleted.is_empty());

    let failing = World::new(&worker(&["a"]), stale(&["a"]));
    let report = inngest(&failing, rule(&failing, true)).await;
    assert!(!report.ok());
    assert!(failing.inngest.lock().unwrap().deleted.is_empty());

    let report = inngest(&world, rule(&world, true)).await;
    assert_eq!(codes(&report), ["INNGEST_APP_DELETED"]);
    assert_eq!(world.inngest.lock().unwrap().deleted, ["system-bus"]);
}

/// Registered, and dead: the seed had three crons like that.
#[tokio::test]
async fn a_cron_that_has_stopped_is_found() {
    let ago = |seconds: i64| {
        let now = jiff::Timestamp::now().as_second();
        Some(jiff::Timestamp::from_second(now - seconds).unwrap().to_string())
    };
    let crons = vec![
        (format!("{APP}-a"), "*/5 * * * *".to_owned(), ago(60)),
        (format!("{APP}-b"), "*/5 * * * *".to_owned(), ago(3600)),
        ("other-c".to_owned(), "*/5 * * * *".to_owned(), ago(86400)),
    ];
    let world = World::new(&worker(&["a", "b"]), Inngest { crons, ..Inngest::default() });
    let report = inngest(&world, InngestCheck { cron_age: Some(2), ..check(&world) }).await;
    assert_eq!(codes(&report), ["INNGEST_CRON_STALE"]);
    assert!(report.checks[0].findings[0].message.contains(&format!("{APP}-b")), "{report:?}");
}
