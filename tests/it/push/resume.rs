//! Uploads that are cut go on where the registry says they stopped: before a real registry that keeps
//! them (distribution 3), counted at the proxy in between.

use super::{
    image::{Layout, Reader, layout},
    proxy::{Asked, Fault, Proxy, Seen},
    result,
};
use crate::bed;
use crate::command::{Stranger, run, succeed, unique};
use http::Method;
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// What a cut may cost.
const LOSS: u64 = 4 << 20;
const LARGE: usize = 24 << 20;

/// Pushes one large layer and a small one through a proxy with `plan`, and insists on the content.
fn pushed(
    plan: impl FnMut(&Asked) -> Option<Fault> + Send + 'static,
) -> (Vec<Seen>, Layout, String) {
    let stranger = Stranger::new();
    let seed = rand::random::<u64>() >> 1;
    let image = layout(&stranger.join("image"), &[(seed, LARGE), (seed + 1, 1000)]);
    let name = unique("goes-on");
    let proxy = Proxy::start(bed::registry_second(), plan);
    let reference = format!("{}/push/{name}:v1", proxy.address);
    let said =
        succeed(stranger.bk_sync().args(["push", "image", &reference, "--progress", "plain"]));
    Reader::new(bed::registry_second()).holds(&format!("push/{name}"), "v1", &image);
    (proxy.seen(), image, said.stderr)
}

/// Fails the first bodies that are larger than 1 MiB, one after the other.
fn in_turn(faults: Vec<Fault>) -> impl FnMut(&Asked) -> Option<Fault> + Send + 'static {
    let mut faults = faults.into_iter();
    move |asked| if asked.length > 1 << 20 { faults.next() } else { None }
}

/// Bytes of the uploads that came from the client, and that the registry was given.
fn traffic(seen: &[Seen]) -> (u64, u64) {
    let uploads = seen.iter().filter(|one| one.is_upload());
    uploads.fold((0, 0), |(received, given), one| (received + one.received, given + one.bytes))
}

#[test]
fn only_the_rest_is_sent_after_a_cut() {
    let cuts = vec![Fault::Cut(9 << 20), Fault::Cut(7 << 20), Fault::Cut(3 << 20)];
    let (seen, image, told) = pushed(in_turn(cuts));
    let needed: u64 = image.blobs.iter().map(|(_, size)| size).sum();
    let (received, given) = traffic(&seen);
    assert!(given >= needed && given - needed <= 3 * LOSS, "{given} of {needed}: {seen:?}");
    assert!(received - needed <= 3 * LOSS, "{received} of {needed}: {seen:?}");
    // One upload from its beginning to its end, asked for after each cut.
    let mut uploads: Vec<&str> = seen
        .iter()
        .filter(|one| one.is_upload() && one.bytes > 1 << 20)
        .filter_map(|one| one.path.split('?').next())
        .collect();
    uploads.dedup();
    assert_eq!(uploads.len(), 1, "{seen:?}");
    let asked = seen.iter().filter(|one| one.method == Method::GET && one.is_upload());
    assert!(asked.count() >= 3, "{seen:?}");
    assert!(told.contains("retry budget left"), "{told}");
}

#[test]
fn a_registry_that_is_still_given_what_was_sent_is_asked_until_it_has_it() {
    // For a second and a half after the connection has ended.
    let (seen, image, told) = pushed(in_turn(vec![Fault::CutAhead(9 << 20, 6 << 20)]));
    let needed: u64 = image.blobs.iter().map(|(_, size)| size).sum();
    let (_, given) = traffic(&seen);
    assert!(given >= needed && given - needed <= LOSS, "{given} of {needed}: {seen:?}\n{told}");
    let asked = seen.iter().filter(|one| one.method == Method::GET && one.is_upload());
    assert!(asked.count() >= 3, "{seen:?}");
}

#[test]
fn what_the_registry_says_of_the_next_place_need_not_be_true() {
    for wrong in
        ["http://127.0.0.1:1/v2/x/blobs/uploads/1", "/v2/elsewhere/blobs/uploads/1", "http://["]
    {
        let faults = vec![Fault::Location(wrong.to_owned())];
        let (seen, image, _) = pushed(in_turn(faults));
        let needed: u64 = image.blobs.iter().map(|(_, size)| size).sum();
        assert_eq!(traffic(&seen), (needed, needed), "no byte twice: {wrong} {seen:?}");
    }
}

/// It is found out with a part, not with all of a layer.
#[test]
fn an_upload_that_leads_out_of_its_repository_is_tried_with_a_part() {
    let mut is_found_out = false;
    let most = Arc::new(AtomicU64::new(0));
    let announced = Arc::clone(&most);
    let (seen, image, _) = pushed(move |asked| {
        if asked.path.starts_with("/v2/elsewhere/") {
            announced.fetch_max(asked.length, Ordering::Relaxed);
        }
        let opens = asked.method == Method::POST && asked.path.ends_with("/blobs/uploads/");
        is_found_out |= asked.length > 1 << 20;
        if !opens || is_found_out {
            return None;
        }
        Some(Fault::Location("/v2/elsewhere/blobs/uploads/1".to_owned()))
    });
    let needed: u64 = image.blobs.iter().map(|(_, size)| size).sum();
    let astray: Vec<_> = seen.iter().filter(|one| one.path.starts_with("/v2/elsewhere/")).collect();
    // Not only what came before the answer, but what would have come.
    assert_eq!(most.load(Ordering::Relaxed), LOSS, "{astray:?}");
    let received: u64 = astray.iter().map(|one| one.received).sum();
    assert!(received <= LOSS + (64 << 10), "{received}: {astray:?}");
    assert_eq!(traffic(&seen).0, needed + received, "the rest goes once: {seen:?}");
}

/// Some registries have their uploads elsewhere, and mean it: one part shows that, for all layers.
#[test]
fn uploads_that_live_elsewhere_get_the_rest_at_once() {
    let stranger = Stranger::new();
    let seed = rand::random::<u64>() >> 1;
    let layers = [(seed, LARGE), (seed + 1, LARGE), (seed + 2, LARGE), (seed + 3, LARGE)];
    let image = layout(&stranger.join("image"), &layers);
    let name = unique("lives-elsewhere");
    let proxy = Proxy::start(bed::registry_second(), |asked| {
        asked.path.contains("/blobs/uploads/").then_some(Fault::Elsewhere)
    });
    let reference = format!("{}/push/{name}:v1", proxy.address);
    succeed(stranger.bk_sync().args(["push", "image", &reference]));
    Reader::new(bed::registry_second()).holds(&format!("push/{name}"), "v1", &image);
    let seen = proxy.seen();
    let needed: u64 = image.blobs.iter().map(|(_, size)| size).sum();
    assert_eq!(traffic(&seen), (needed, needed), "no byte twice: {seen:?}");
    let parts = seen.iter().filter(|one| one.method == Method::PATCH);
    let parts: Vec<_> = parts.map(|one| (one.path.starts_with("/elsewhere/"), one.bytes)).collect();
    assert!(parts.iter().all(|(elsewhere, _)| *elsewhere), "{parts:?}");
    assert!(parts.iter().any(|(_, bytes)| *bytes == LOSS), "the first is careful: {parts:?}");
    // Those that began before the first answer are careful as well, each once.
    assert!(parts.len() <= 2 * layers.len(), "{parts:?}");
}

/// A registry takes its time to store a layer: that keeps no other from being sent.
#[test]
fn what_a_registry_still_stores_holds_nothing_up() {
    const LAYERS: u64 = 8;
    // Sent with the request that ends an upload, and before it.
    for size in [1_u64 << 20, 5 << 20] {
        let stranger = Stranger::new();
        let layer = |_| (rand::random::<u64>() >> 1, usize::try_from(size).unwrap());
        let layers: Vec<_> = (0..LAYERS).map(layer).collect();
        let image = layout(&stranger.join("image"), &layers);
        let name = unique("stores");
        let proxy = Proxy::start(bed::registry_second(), move |asked| {
            (asked.length >= 1 << 20).then_some(Fault::Hold(LAYERS * size))
        });
        let reference = format!("{}/push/{name}:v1", proxy.address);
        succeed(stranger.bk_sync().args(["push", "image", &reference]));
        Reader::new(bed::registry_second()).holds(&format!("push/{name}"), "v1", &image);
        let seen = proxy.seen();
        assert!(seen.iter().all(|one| one.status.is_some_and(|status| status < 500)), "{seen:?}");
    }
}

/// The first thing that a registry is asked is never answered: a wrong name, most likely.
#[test]
fn a_registry_that_never_answered_is_not_waited_for() {
    let stranger = Stranger::new();
    layout(&stranger.join("image"), &[(1, 1000)]);
    for nowhere in ["127.0.0.1:1/a:1", "registry.invalid/a:1"] {
        let began = Instant::now();
        let said = run(stranger.bk_sync().args(["push", "image", nowhere, "--format", "json"]));
        assert_eq!(said.code, 12, "{nowhere}: {}", said.stdout);
        assert!(said.stdout.contains("PUSH_UNREACHABLE"), "{nowhere}: {}", said.stdout);
        assert!(began.elapsed() < Duration::from_secs(25), "{nowhere}: {:?}", began.elapsed());
    }
}

/// The network goes away in the middle of a push, for longer than a wrong name is tried.
#[test]
fn a_registry_that_went_away_is_waited_for() {
    let stranger = Stranger::new();
    let seed = rand::random::<u64>() >> 1;
    let image = layout(&stranger.join("image"), &[(seed, 3 << 20), (seed + 1, 1000)]);
    let name = unique("away");
    let began = Instant::now();
    let mut ill_since = None;
    let proxy = Proxy::start(bed::registry_second(), move |asked| {
        if asked.path.contains("/blobs/") {
            ill_since.get_or_insert(began.elapsed());
        }
        let is_ill =
            ill_since.is_some_and(|since| began.elapsed() < since + Duration::from_secs(8));
        is_ill.then_some(Fault::Cut(0))
    });
    let reference = format!("{}/push/{name}:v1", proxy.address);
    let pushed = result(stranger.bk_sync().args(["push", "image", &reference]));
    assert_eq!(pushed["push"]["blobs"]["uploaded"], 3, "{pushed}");
    Reader::new(bed::registry_second()).holds(&format!("push/{name}"), "v1", &image);
}

/// Two servers behind one name that do not know of each other's uploads: each second request finds the
/// wrong one. That ends, and says why.
#[test]
fn a_registry_that_loses_every_upload_is_given_up() {
    const PARTS: u64 = 4 << 20;
    let stranger = Stranger::new();
    layout(&stranger.join("image"), &[(rand::random::<u64>() >> 1, LARGE)]);
    let mut begun = BTreeSet::new();
    let proxy = Proxy::start(bed::registry_second(), move |asked| {
        let upload = asked.path.split('?').next().unwrap_or_default().to_owned();
        if !upload.contains("/blobs/uploads/") || asked.method == Method::POST {
            return None;
        }
        if asked.length > PARTS {
            return Some(Fault::Status(416, 0));
        }
        let is_large = asked.length == PARTS || begun.contains(&upload);
        let is_first = asked.method == Method::PATCH && begun.insert(upload);
        (is_large && !is_first).then_some(Fault::Status(404, 0))
    });
    let reference = format!("{}/push/{}:v1", proxy.address, unique("forgets"));
    let said = run(stranger.bk_sync().args(["push", "image", &reference, "--format", "json"]));
    assert_eq!(said.code, 12, "{}", said.stdout);
    assert!(said.stdout.contains("PUSH_UPLOAD_LOST"), "{}", said.stdout);
    let parts = proxy.seen().iter().filter(|one| one.bytes == PARTS).count();
    assert!((2..20).contains(&parts), "{parts} parts were sent");
}
