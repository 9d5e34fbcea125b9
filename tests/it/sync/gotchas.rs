//! The traps that the seed's runbook warns of, each reproduced, with what a deploy does instead. Those
//! that need more than this have their tests, named `gotcha_…` too, where the rest of it is: in
//! `preflight`, `plan`, `doctor` and `whole`.

use super::seed::{Seed, WORKLOAD, kubectl};
use crate::{
    bed,
    command::{run, succeed, unique},
    credential::agent::Agent,
    verify::stand_in::Inngest,
};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

const APP: &str = "system-bus-cluster";

/// An app as the stand-in has it: name, address, whether it is reached, functions.
fn app(
    name: &str,
    url: &str,
    connected: bool,
    functions: &[&str],
) -> (String, String, bool, Vec<String>) {
    let functions = functions.iter().map(|&id| id.to_owned()).collect();
    (name.to_owned(), url.to_owned(), connected, functions)
}

/// A system whose Inngest server knows `known`; `more` is added to `[verify.inngest]`.
fn with_inngest(known: Inngest, more: &str) -> (Seed, Arc<Mutex<Inngest>>) {
    let (inngest, port) = known.listen();
    let section = format!(
        "[verify.inngest]\nurl = \"http://127.0.0.1:{port}\"\napp = \"{APP}\"\nfunctions = [\"a\"]\nattempts = 2\n{more}"
    );
    (Seed::new(&section, &json!({})), inngest)
}

fn edit(seed: &Seed, from: &str, to: &str) {
    let path = seed.project.path().join("bk-sync.toml");
    let config = std::fs::read_to_string(path).expect("the config");
    assert!(config.contains(from), "no {from} in {config}");
    seed.project.write("bk-sync.toml", &config.replace(from, to));
    seed.project.commit("edit the config");
}

#[test]
fn gotcha_stale_app_registrations_are_told_and_go_only_by_a_rule_that_names_them() {
    let known = Inngest {
        // The other worker's app comes first: `apps[0]` is what the runbook's command deleted.
        apps: vec![
            app("system-bus-host", "http://host:3111/api/inngest", true, &["b"]),
            app("system-bus", "http://host.k3d.internal:3111/api/inngest", false, &["a"]),
            app(APP, "http://w:3111/api/inngest", true, &["a"]),
        ],
        ..Inngest::default()
    };
    let (seed, inngest) = with_inngest(known, "stale_match = [\"host.k3d.internal\"]\n");
    let doctor = seed.json(&["doctor"], 0).to_string();
    assert!(doctor.contains("looks like a leftover"), "{doctor}");
    let done = seed.json(&["sync"], 0);
    assert!(done["warnings"].to_string().contains("INNGEST_STALE_APP"), "{done}");
    assert_eq!(inngest.lock().unwrap().deleted, Vec::<String>::new());
    edit(&seed, "stale_match", "stale_apps = \"delete\"\nstale_match");
    let verified = seed.run(&["verify"]);
    assert_eq!(verified.code, 0, "{}", verified.stderr);
    assert_eq!(inngest.lock().unwrap().deleted, ["system-bus"]);
}

#[test]
fn gotcha_unable_to_reach_sdk_url_fails_the_check_and_says_where() {
    let apps = vec![app(APP, "http://localhost:3111/api/inngest", false, &["a"])];
    let (seed, _) = with_inngest(Inngest { apps, ..Inngest::default() }, "");
    let doctor = seed.json(&["doctor"], 0).to_string();
    assert!(doctor.contains("does not reach"), "{doctor}");
    let failed = seed.json(&["sync"], 15);
    assert_eq!(failed["error"]["code"], "INNGEST_UNREACHABLE", "{failed}");
    assert!(
        failed["error"]["message"].as_str().expect("words").contains("http://localhost:3111"),
        "{failed}"
    );
    assert!(failed["fix"].as_str().expect("a fix").contains("INNGEST_SERVE_HOST"), "{failed}");
    assert_eq!(seed.told(), Vec::<String>::new(), "a deploy that failed is not recorded as one");
}

#[test]
fn gotcha_runs_in_flight_are_lost_with_their_pod() {
    let slug = format!("{APP}-a");
    let known = Inngest {
        apps: vec![app(APP, "http://w/", true, &["a"])],
        crons: vec![(slug.clone(), "*/5 * * * *".to_owned(), None)],
        running: vec![slug],
        ..Inngest::default()
    };
    let (seed, inngest) = with_inngest(known, "running = \"refuse\"\n");
    let before = seed.image();
    let refused = seed.json(&["sync"], 17);
    assert_eq!(refused["error"]["code"], "INNGEST_RUNS_ACTIVE", "{refused}");
    assert!(refused["error"]["details"]["receipt"]["stages"]["build"].is_null(), "{refused}");
    assert_eq!(seed.image(), before);
    edit(&seed, "running = \"refuse\"", "running = \"report\"");
    let done = seed.json(&["sync"], 0);
    assert!(done["warnings"].to_string().contains("INNGEST_RUNS_ACTIVE"), "{done}");
    inngest.lock().unwrap().running.clear();
    edit(&seed, "running = \"report\"", "running = \"refuse\"");
    assert_eq!(seed.run(&["sync"]).code, 0, "nothing runs any more");
}

/// `secrets lease … | docker login --password-stdin` sends JSON as the password, and a failure ends
/// with 0.
#[test]
fn gotcha_secrets_lease_prints_json_where_the_password_should_be() {
    let seed = Seed::new("", &json!({}));
    let vault = seed.project.stranger.join("vault");
    let source = format!("command = [\"cat\", \"{}\"]", vault.display());
    edit(&seed, "env = \"GHCR_TOKEN\"", &source);
    let failure = json!({ "success": false, "error": "daemon is not running", "exit_code": 69 });
    std::fs::write(&vault, failure.to_string()).expect("a vault");
    let refused = seed.json(&["sync"], 17);
    assert_eq!(refused["error"]["code"], "PUSH_DENIED", "{refused}");
    assert!(refused.to_string().contains("daemon is not running"), "{refused}");
    assert!(refused["error"]["details"]["receipt"]["stages"]["build"].is_null(), "{refused}");
    let lease = json!({ "success": true, "message": "Lease acquired",
        "data": { "lease_id": "l-1", "secret_name": "ghcr_pat", "value": bed::user().1 } });
    std::fs::write(&vault, lease.to_string()).expect("a vault");
    let done = run(seed.command(&["sync", "--format", "json"]).env_remove("GHCR_TOKEN"));
    assert_eq!(done.code, 0, "{}\n{}", done.stdout, done.stderr);
}

/// A lease that is over before the push is taken anew, and the user hears that it was too short.
#[test]
fn gotcha_a_lease_that_ends_before_the_push_is_renewed_and_told() {
    let seed = Seed::new("", &json!({}));
    let agent = Agent::start(seed.project.stranger.path(), "pat", bed::user().1, 4);
    let source = format!(
        "secret_lease = {{ name = \"pat\", ttl = \"4s\", client_id = \"t\", socket = \"{}\" }}",
        agent.socket.display()
    );
    let file = "packages/system-bus/Dockerfile";
    let text = std::fs::read_to_string(seed.project.path().join(file)).expect("a Dockerfile");
    let slow = format!("RUN echo {} && sleep 6\nRUN echo installed", unique("slow"));
    seed.project.write(file, &text.replace("RUN echo installed", &slow));
    edit(&seed, "env = \"GHCR_TOKEN\"", &source);
    let done = seed.json(&["sync"], 0);
    assert!(done["warnings"].to_string().contains("LEASE_RENEWED"), "{done}");
    assert!(agent.lent().len() >= 2, "{:?}", agent.lent());
    assert_eq!(agent.held(), 0, "every lease was given back");
}

/// The runbook takes the line with `credsStore` out of the file, and puts the file back at the end: what
/// is killed in between leaves a token behind.
#[test]
fn gotcha_credential_helper_fails_and_config_json_is_not_touched() {
    let seed = Seed::new("", &json!({}));
    let config = seed.project.stranger.join(".docker/config.json");
    let text = "{\n  \"auths\": {},\n  \"credsStore\": \"desktop\"\n}\n";
    std::fs::write(&config, text).expect("a Docker config");
    let changed = || std::fs::metadata(&config).expect("metadata").modified().expect("a time");
    let before = changed();
    let done = seed.run(&["sync"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(std::fs::read_to_string(&config).expect("the config"), text);
    assert_eq!(changed(), before);
    let beside =
        std::fs::read_dir(config.parent().expect("a directory")).expect("a directory").count();
    assert_eq!(beside, 1, "nothing lies beside it");
}

#[test]
fn gotcha_a_dirty_tree_gets_no_clean_sha() {
    let seed = Seed::new("", &json!({}));
    seed.project.write("packages/memory/new.ts", "");
    let before = seed.image();
    let refused = seed.json(&["sync"], 17);
    assert_eq!(refused["error"]["code"], "CHECKOUT_DIRTY", "{refused}");
    assert_eq!(seed.image(), before);
    let done = seed.json(&["sync", "--dirty", "suffix"], 0);
    let tags = done["result"]["image"]["tags"].to_string();
    let commit = seed.project.git(&["rev-parse", "HEAD"]);
    assert!(tags.contains(&format!(":{commit}-dirty")), "{tags}");
    assert_eq!(done["result"]["git"]["dirty"], true);
    assert_eq!(seed.deployment()["metadata"]["annotations"]["bk-sync/git-dirty"], "true");
}

/// Nine days of `ErrImagePull` behind a pod of before that served: nobody looked.
#[test]
fn gotcha_nine_day_outage_a_half_finished_rollout_is_seen_and_mended() {
    let seed = Seed::new("", &json!({}));
    let namespace = seed.namespace.clone();
    let fail =
        json!({ "bk-sync.test/fail": "ErrImagePull", "bk-sync.test/fail-image": "20260714" });
    let patch = json!({ "spec": { "template": {
        "metadata": { "annotations": fail },
        "spec": { "containers": [{ "name": WORKLOAD, "image": format!("{}:20260714", seed.repository) }] } } } });
    succeed(
        kubectl(&["-n", &namespace, "patch", "deployment", WORKLOAD, "-p"]).arg(patch.to_string()),
    );
    let began = std::time::Instant::now();
    let doctor = loop {
        let doctor = seed.json(&["doctor"], 0).to_string();
        if doctor.contains("half-finished") || began.elapsed().as_secs() > 60 {
            break doctor;
        }
    };
    assert!(doctor.contains("half-finished"), "{doctor}");
    let status = seed.json(&["status", &format!("deployment/{WORKLOAD}"), "-n", &namespace], 0);
    assert_eq!(status["result"]["workloads"][0]["settled"], false, "{status}");
    let done = seed.json(&["sync"], 0);
    assert_eq!(seed.image(), done["result"]["image"]["reference"].as_str().expect("an image"));
    let status = seed.json(&["status", &format!("deployment/{WORKLOAD}"), "-n", &namespace], 0);
    assert_eq!(status["result"]["workloads"][0]["settled"], true, "{status}");
}

/// One of the four pipelines catches the failure of its rollout, and goes on.
#[test]
fn gotcha_a_rollout_that_fails_is_no_success_and_nobody_is_told_of_one() {
    let seed = Seed::new("", &json!({}));
    let patch = json!({ "spec": { "template": { "metadata": { "annotations": {
        "bk-sync.test/fail": "CrashLoopBackOff", "bk-sync.test/fail-image": format!("{}@", seed.repository) } } } } });
    succeed(
        kubectl(&["-n", &seed.namespace, "patch", "deployment", WORKLOAD, "-p"])
            .arg(patch.to_string()),
    );
    succeed(&mut kubectl(&["-n", &seed.namespace, "rollout", "status", "deployment", WORKLOAD]));
    let failed = seed.json(&["sync"], 13);
    assert_eq!(failed["error"]["code"], "CRASH_LOOP", "{failed}");
    assert_eq!(seed.told(), Vec::<String>::new());
    let receipt: &Value = &failed["error"]["details"]["receipt"];
    assert!(
        receipt["stages"]["verify"].is_null() && receipt["stages"]["record"].is_null(),
        "{receipt}"
    );
}
