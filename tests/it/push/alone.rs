//! `push` without a build: sources, what travels, what is said, and going on.

use super::{
    image::{Reader, archive, layout},
    json,
    proxy::{Asked, Fault, Proxy, Seen, stranger as foreign_server},
    result, skopeo,
};
use crate::bed;
use crate::command::{Stranger, run, succeed, unique};
use bk_sync::{
    credential::{Given, RegistryHost, Secret},
    registry::{Reach, Repository, Server, token::TokenClient},
};
use http::Method;
use std::{sync::Arc, time::Duration};

/// Twenty layers of 20 kB; the last one by its own seed.
fn twenty(last: u64) -> Vec<(u64, usize)> {
    (0..19).map(|seed| (seed, 20_000)).chain([(last, 20_000)]).collect()
}

fn count(seen: &[Seen], method: &Method) -> usize {
    seen.iter().filter(|one| one.method == *method).count()
}

#[test]
fn a_layout_and_an_archive_are_pushed_and_only_what_is_new_travels() {
    let stranger = Stranger::new();
    let name = unique("alone");
    let proxy = Proxy::start(bed::registry(), |_| None);
    let reference = format!("{}/push/{name}:v1", proxy.address);
    let first = layout(&stranger.join("first"), &twenty(100));
    let result_of = |source: &str| result(stranger.bk_sync().args(["push", source, &reference]));

    let pushed = result_of("first");
    assert_eq!(pushed["image"]["digest"], first.digest.as_str());
    assert_eq!(pushed["push"]["via"], "client");
    assert_eq!(pushed["push"]["blobs"]["uploaded"], 21);
    let reader = Reader::new(bed::registry());
    reader.holds(&format!("push/{name}"), "v1", &first);
    assert_eq!(pushed["push"]["requests"], proxy.seen().len(), "every request is counted");

    // Nothing changed: one look.
    proxy.forget();
    let again = result_of("first");
    assert_eq!(again["push"]["blobs"]["existing"], 21);
    assert_eq!(again["push"]["bytes"]["uploaded"], 0);
    let seen = proxy.seen();
    let after_hello = seen.iter().filter(|one| one.path != "/v2/").count();
    assert!(after_hello <= 3, "{seen:?}");
    assert_eq!(count(&seen, &Method::PUT), 0, "{seen:?}");

    // One of twenty layers changed: that layer, one config, one manifest.
    proxy.forget();
    let second = layout(&stranger.join("second"), &twenty(101));
    archive(&second.path, &stranger.join("second.tar"));
    let changed = result_of("second.tar");
    assert_eq!(changed["push"]["blobs"]["uploaded"], 2);
    let seen = proxy.seen();
    let puts = seen.iter().filter(|one| one.method == Method::PUT);
    let (manifests, blobs): (Vec<_>, Vec<_>) =
        puts.partition(|one| one.path.contains("/manifests/"));
    assert_eq!((manifests.len(), blobs.len()), (1, 2), "{seen:?}");
    let sent: u64 = blobs.iter().map(|one| one.bytes).sum();
    let new: u64 = second.blobs[19..].iter().map(|(_, size)| size).sum();
    assert_eq!(sent, new, "the layer and the config");
    reader.holds(&format!("push/{name}"), "v1", &second);

    let inspected = skopeo(&stranger, &format!("{}/push/{name}:v1", bed::registry()), &["--raw"]);
    assert_eq!(inspected["layers"].as_array().unwrap().len(), 20);
}

#[test]
fn several_names_in_several_repositories_take_from_one_another() {
    let stranger = Stranger::new();
    let name = unique("several");
    let proxy = Proxy::start(bed::registry(), |_| None);
    let image = layout(&stranger.join("image"), &[(7, 300_000), (8, 10)]);
    let names = ["a:1", "a:2", "b:1"].map(|tail| format!("{}/push/{name}/{tail}", proxy.address));
    let pushed = result(stranger.bk_sync().args(["push", "image"]).args(&names));
    assert_eq!(pushed["push"]["blobs"]["uploaded"], 3);
    assert_eq!(pushed["push"]["blobs"]["mounted"], 3);
    let seen = proxy.seen();
    let manifests = seen
        .iter()
        .filter(|one| one.method == Method::PUT && one.path.contains("/manifests/"))
        .count();
    assert_eq!(manifests, 3, "one for each name: {seen:?}");
    let reader = Reader::new(bed::registry());
    for (repository, tag) in [("a", "1"), ("a", "2"), ("b", "1")] {
        reader.holds(&format!("push/{name}/{repository}"), tag, &image);
    }
    // Another run knows where the blobs are.
    let other = format!("{}/push/{name}/c:1", proxy.address);
    let mounted = result(stranger.bk_sync().args(["push", "image", &other]));
    assert_eq!(mounted["push"]["blobs"]["mounted"], 3);
    assert_eq!(mounted["push"]["blobs"]["uploaded"], 0);
}

#[test]
fn what_docker_saves_is_pushed() {
    let stranger = Stranger::new();
    let name = unique("saved");
    for host in [bed::dockerd_host(), bed::dockerd_graphdriver_host()] {
        let docker = |arguments: &[&str]| {
            succeed(
                stranger.command(bed::program("docker")).env("DOCKER_HOST", host).args(arguments),
            )
        };
        docker(&["pull", "--platform", "linux/arm64", bed::base_arm64()]);
        docker(&["save", "-o", "saved.tar", bed::base_arm64()]);
        let reference = format!("{}/push/{name}:v1", bed::registry());
        result(stranger.bk_sync().args(["push", "saved.tar", &reference]));
        let config = skopeo(&stranger, &reference, &["--config", "--override-arch", "arm64"]);
        assert_eq!(config["architecture"], "arm64");
        // What skopeo copies, it unpacks no further than to check every digest.
        succeed(
            stranger
                .command(bed::program("skopeo"))
                .args(["copy", "--src-tls-verify=false", "--override-arch", "arm64"])
                .arg(format!("docker://{reference}"))
                .arg(format!("dir:{}", stranger.join(unique("copy")).display())),
        );
    }
}

#[test]
fn every_registry_takes_a_push_also_with_tokens_that_end() {
    let stranger = Stranger::new();
    let image = layout(&stranger.join("image"), &[(1, 400_000), (2, 400_000)]);
    for (registry, (user, password)) in [
        (bed::registry_token(), bed::user()),
        (bed::registry_token(), bed::brief_user()),
        (bed::registry_basic(), bed::user()),
    ] {
        let name = unique("who");
        let reference = format!("{registry}/push/{name}:v1");
        let pushed = result(
            stranger
                .bk_sync()
                .env("BK_SYNC_REGISTRY_USERNAME", user)
                .env("BK_SYNC_REGISTRY_PASSWORD", password)
                .args(["push", "image", &reference]),
        );
        assert_eq!(pushed["image"]["digest"], image.digest.as_str(), "{registry} {user}");
    }
}

#[test]
fn a_refusal_names_what_is_missing() {
    let stranger = Stranger::new();
    layout(&stranger.join("image"), &[(1, 1000)]);
    let name = unique("refused");
    let reference = format!("{}/push/{name}:v1", bed::registry_token());
    let (user, password) = bed::pull_only_user();
    let said = run(stranger
        .bk_sync()
        .env("BK_SYNC_REGISTRY_USERNAME", user)
        .env("BK_SYNC_REGISTRY_PASSWORD", password)
        .args(["push", "image", &reference, "--format", "json"]));
    assert_eq!(said.code, 12, "{}", said.stdout);
    let envelope = json(&said);
    assert_eq!(envelope["error"]["code"], "PUSH_DENIED", "{envelope}");
    let told = envelope["error"]["details"]["causes"][0].as_str().unwrap_or_default();
    assert!(told.contains("push") && told.contains(user), "{envelope}");
    assert!(!said.stdout.contains(password) && !said.stderr.contains(password));
    // What is refused can be gone on with by somebody who may.
    let id = envelope["error"]["details"]["resume"].as_str().expect("an id");
    let (user, password) = bed::user();
    let resumed = result(
        stranger
            .bk_sync()
            .env("BK_SYNC_REGISTRY_USERNAME", user)
            .env("BK_SYNC_REGISTRY_PASSWORD", password)
            .args(["push", "--resume", id]),
    );
    assert_eq!(resumed["push"]["blobs"]["uploaded"], 2);
    let said = run(stranger.bk_sync().args(["push", "--resume"]));
    assert_eq!(said.code, 2, "{}", said.stderr);
}

#[test]
fn each_kind_of_failure_has_its_code() {
    let image_of = |stranger: &Stranger| layout(&stranger.join("image"), &[(1, 1000)]);
    for (status, code) in [
        (403, "PUSH_DENIED"),
        (413, "PUSH_TOO_LARGE"),
        (429, "PUSH_THROTTLED"),
        (500, "PUSH_REGISTRY_FAILED"),
        (507, "PUSH_QUOTA"),
        (404, "PUSH_NAME_UNKNOWN"),
    ] {
        let stranger = Stranger::new();
        image_of(&stranger);
        let proxy = Proxy::start(bed::registry(), move |asked| {
            (asked.method == Method::POST).then_some(Fault::Status(status, 0))
        });
        let reference = format!("{}/push/{}:v1", proxy.address, unique("code"));
        let said = run(stranger.bk_sync().args(["push", "image", &reference]).args([
            "--retry-budget",
            "1500ms",
            "--format",
            "json",
        ]));
        assert_eq!(said.code, 12, "{status}: {}", said.stdout);
        let envelope = json(&said);
        assert_eq!(envelope["error"]["code"], code, "{status}: {envelope}");
        assert!(envelope["fix"].as_str().unwrap().contains("--resume"), "{envelope}");
    }
}

/// Pushes one layer of 9 MiB through a proxy with `plan`, insists on success and on the content,
/// and gives what went through.
fn survives(plan: impl FnMut(&Asked) -> Option<Fault> + Send + 'static) -> (Vec<Seen>, String) {
    let stranger = Stranger::new();
    let image = layout(&stranger.join("image"), &[(unique_seed(), 9 << 20)]);
    let name = unique("survives");
    let proxy = Proxy::start(bed::registry(), plan);
    let reference = format!("{}/push/{name}:v1", proxy.address);
    let said =
        succeed(stranger.bk_sync().args(["push", "image", &reference, "--progress", "plain"]));
    Reader::new(bed::registry()).holds(&format!("push/{name}"), "v1", &image);
    (proxy.seen(), said.stderr)
}

fn unique_seed() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |now| u64::try_from(now.as_nanos() & u128::from(u64::MAX)).unwrap_or(0))
}

/// Fails the first request that carries the big layer.
fn first_big(fault: Fault) -> impl FnMut(&Asked) -> Option<Fault> + Send + 'static {
    let mut fault = Some(fault);
    move |asked| if asked.length > 5 << 20 { fault.take() } else { None }
}

/// Bytes of blobs that the registry was given.
fn given(seen: &[Seen]) -> u64 {
    seen.iter().filter(|one| one.is_upload()).map(|one| one.bytes).sum()
}

/// This registry keeps what arrived of a part, and then cancels the upload when it is asked for it
/// with the state of before; so the blob is sent once more, and never twice.
#[test]
fn an_upload_that_is_cut_is_asked_for_and_arrives_whole() {
    for fault in [Fault::Cut(6 << 20), Fault::Truncate(6 << 20)] {
        let (seen, told) = survives(first_big(fault.clone()));
        let sent = given(&seen);
        // The whole layer, a small config, and what was lost.
        assert!(sent < (9 << 20) + (6 << 20) + 5000, "{fault:?}: {sent} {seen:?}");
        assert!(seen.iter().any(|one| one.method == Method::GET && one.is_upload()), "it asks");
        assert!(seen.iter().any(|one| one.method == Method::PATCH), "{seen:?}");
        assert!(told.contains("retry budget left"), "{told}");
    }
}

#[test]
fn an_answer_that_is_lost_costs_no_byte() {
    // The request that closes the upload of the large layer has no body.
    let mut fault = Some(Fault::CutAnswer);
    let (seen, _) = survives(move |asked| {
        let closes = asked.path.contains("/blobs/uploads/") && asked.method == Method::PUT;
        if closes && asked.length == 0 { fault.take() } else { None }
    });
    assert!(seen.iter().any(|one| one.fault.is_some()), "{seen:?}");
    let sent = given(&seen);
    assert!(sent < (9 << 20) + 5000, "{sent} {seen:?}");
}

#[test]
fn a_registry_that_caps_parts_teaches_us_the_cap() {
    // The first request is cut, so that parts are needed; then parts over 4 MiB are refused.
    let mut cut = Some(Fault::Cut(1 << 20));
    let (seen, _) = survives(move |asked| {
        if asked.length > 5 << 20 && asked.method == Method::PUT {
            return cut.take();
        }
        let big = asked.method == Method::PATCH && asked.length > 4 << 20;
        big.then_some(Fault::Status(416, u64::MAX))
    });
    let parts: Vec<_> = seen.iter().filter(|one| one.method == Method::PATCH).collect();
    let refused = parts.iter().filter(|one| one.status == Some(416)).count();
    assert_eq!(refused, 1, "learned once: {parts:?}");
    assert!(parts.len() >= 3, "{parts:?}");
}

#[test]
fn a_body_that_is_too_large_goes_in_parts() {
    let (seen, _) =
        survives(|asked| (asked.length > 4 << 20).then_some(Fault::Status(413, u64::MAX)));
    assert!(seen.iter().filter(|one| one.method == Method::PATCH).count() >= 3, "{seen:?}");
}

#[test]
fn a_registry_that_is_ill_for_a_while_is_waited_for() {
    let wait = vec![("retry-after", "1".to_owned())];
    for fault in [
        Fault::Status(500, 1 << 20),
        Fault::Status(502, 0),
        Fault::StatusWith(503, wait.clone()),
        Fault::StatusWith(429, wait.clone()),
        Fault::Status(404, 0),
    ] {
        let (seen, _) = survives(first_big(fault.clone()));
        let closed = seen.iter().filter(|one| one.status == Some(201) && one.digest().is_some());
        assert_eq!(closed.count(), 2, "each blob once: {fault:?} {seen:?}");
    }
}

#[test]
fn a_location_that_leads_to_a_stranger_gets_no_credentials() {
    let foreign = foreign_server();
    let stranger = Stranger::logged_in(&[bed::registry_basic()], bed::user());
    let image = layout(&stranger.join("image"), &[(3, 1000)]);
    let to = format!("http://{}/v2/x/blobs/uploads/1", foreign.address);
    let mut first = Some(Fault::Location(to));
    let proxy = Proxy::start(bed::registry_basic(), move |asked| {
        if asked.method == Method::POST { first.take() } else { None }
    });
    let (user, password) = bed::user();
    let reference = format!("{}/push/{}:v1", proxy.address, unique("foreign"));
    let pushed = result(
        stranger
            .bk_sync()
            .env("BK_SYNC_REGISTRY_USERNAME", user)
            .env("BK_SYNC_REGISTRY_PASSWORD", password)
            .args(["push", "image", &reference]),
    );
    assert_eq!(pushed["image"]["digest"], image.digest.as_str());
    let seen = foreign.seen();
    assert!(!seen.is_empty(), "it is tried");
    assert!(seen.iter().all(|one| !one.authorized), "{seen:?}");
    assert!(proxy.seen().iter().any(|one| one.authorized));
}

#[test]
fn a_push_that_was_killed_is_finished_by_another_process() {
    let stranger = Stranger::new();
    let image = layout(&stranger.join("image"), &[(unique_seed(), 3 << 20), (5, 100)]);
    let name = unique("killed");
    let proxy = Proxy::start(bed::registry(), |asked| {
        (asked.length > 1 << 20).then_some(Fault::Slow(1 << 20, 1 << 19))
    });
    let reference = format!("{}/push/{name}:v1", proxy.address);
    let mut child = stranger.bk_sync().args(["push", "image", &reference, "-q"]).spawn().unwrap();
    // Into the middle of the big layer.
    while !proxy.seen().iter().any(|one| one.bytes > 1 << 20) {
        assert!(child.try_wait().unwrap().is_none(), "it ended early: {:?}", proxy.seen());
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let reader = Reader::new(bed::registry());
    assert!(!reader.has(&format!("push/{name}"), "v1"));
    // Through the same address, which the note names.
    result(stranger.bk_sync().args(["push", "--resume"]));
    reader.holds(&format!("push/{name}"), "v1", &image);
    let said = run(stranger.bk_sync().args(["push", "--resume"]));
    assert_eq!(said.code, 2, "it is done: {}", said.stderr);
}

#[test]
fn what_a_registry_warns_of_is_told_once() {
    let stranger = Stranger::new();
    layout(&stranger.join("image"), &[(1, 1000)]);
    let proxy = Proxy::start(bed::registry(), |_| {
        Some(Fault::Header("warning", "299 - \"pushes end on Friday\"".to_owned()))
    });
    let reference = format!("{}/push/{}:v1", proxy.address, unique("warned"));
    let said = succeed(stranger.bk_sync().args(["push", "image", &reference, "--format", "json"]));
    let envelope = json(&said);
    let warnings = envelope["warnings"].as_array().unwrap();
    let told = warnings.iter().filter(|one| one["code"] == "REGISTRY_WARNING");
    assert_eq!(told.clone().count(), 1, "{envelope}");
    let words = told.map(|one| one["message"].to_string()).collect::<String>();
    assert!(words.contains("pushes end on Friday"), "{envelope}");
}

/// Files are not hashed here before the registry finds something else in them; then it is said which
/// blob it is, and what its bytes are.
#[test]
fn bytes_that_are_not_what_the_index_says_are_found_and_named() {
    for registry in [bed::registry(), bed::registry_second()] {
        let stranger = Stranger::new();
        let image = layout(&stranger.join("image"), &twenty(rand::random::<u64>() >> 1));
        let (digest, _) = &image.blobs[19];
        let file = image.path.join("blobs").join(digest.replace(':', "/"));
        let mut bytes = std::fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&file, &bytes).unwrap();
        let name = unique("tampered");
        let reference = format!("{registry}/push/{name}:v1");
        let said = run(stranger.bk_sync().args(["push", "image", &reference, "--format", "json"]));
        assert_eq!(said.code, 12, "{}\n{}", said.stdout, said.stderr);
        let envelope = json(&said);
        assert_eq!(envelope["error"]["code"], "PUSH_SOURCE", "{envelope}");
        let found = bk_sync::registry::digest(&bytes);
        let error = envelope["error"].to_string();
        assert!(error.contains(digest) && error.contains(&found), "{envelope}");
        assert!(!Reader::new(registry).has(&format!("push/{name}"), "v1"));
    }
}

/// A registry that lists no referrers itself has a tag for each image that holds the list.
#[test]
fn what_refers_to_an_image_is_found_by_it() {
    for registry in [bed::registry(), bed::registry_second()] {
        let stranger = Stranger::new();
        let name = format!("push/{}", unique("subject"));
        let image = layout(&stranger.join("image"), &[(1, 1000)]);
        result(stranger.bk_sync().args(["push", "image", &format!("{registry}/{name}:v1")]));
        let mut expected = Vec::new();
        for (seed, kind) in [(2, "signature"), (3, "sbom")] {
            let referrer = stranger.join(kind);
            let of = layout(&referrer, &[(seed, 1000)]).about(&image, kind);
            let reference = format!("{registry}/{name}:{kind}");
            result(stranger.bk_sync().args(["push", kind, &reference]));
            expected.push(of.digest);
        }
        drop(rustls::crypto::ring::default_provider().install_default());
        let nobody = Given::new(Vec::new(), "nobody", Secret::new("nothing"), "NOTHING");
        let host = RegistryHost::new(registry);
        let tokens = TokenClient::new("bk-sync/test");
        let server = Server::new(host, Reach::default(), Arc::new(nobody), &tokens, "bk-sync/test");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listed = runtime.block_on(Repository::new(server, name).referrers(&image.digest));
        let listed: Vec<_> = listed.unwrap().into_iter().map(|one| one.digest).collect();
        assert_eq!(listed, expected, "{registry}");
    }
}
