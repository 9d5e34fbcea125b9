//! Pushes through a proxy that fails at random places. Every run ends with exactly the right
//! content, or with a typed error and a state that another run finishes from.

use super::{
    image::{Layout, Reader, layout},
    json,
    proxy::{Asked, Fault, Proxy, Seen},
};
use crate::bed;
use crate::command::{Stranger, run, unique};
use http::Method;
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

/// Runs and size: small here, the full ones by `BK_SYNC_TEST_PUSH_RUNS=200` and
/// `BK_SYNC_TEST_PUSH_MIB=1024`.
fn knob(name: &str, usual: usize) -> usize {
    #[expect(clippy::disallowed_methods, reason = "a test's knob is no setting of the program")]
    let value = std::env::var(name);
    value.ok().map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

/// What may go wrong in one run.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Cut,
    CutAnswer,
    Truncate,
    Status(u16),
    RetryAfter(u16),
    TokenEnded,
    Slow,
    SessionLost,
    SmallParts,
    Location,
}

const KINDS: [Kind; 13] = [
    Kind::Cut,
    Kind::Status(500),
    Kind::TokenEnded,
    Kind::SessionLost,
    Kind::SmallParts,
    Kind::Location,
    Kind::Truncate,
    Kind::Status(502),
    Kind::RetryAfter(503),
    Kind::RetryAfter(429),
    Kind::CutAnswer,
    Kind::Slow,
    Kind::Cut,
];

/// A plan with up to three faults of one kind, among the requests of an upload.
fn plan(kind: Kind, seed: u64) -> impl FnMut(&Asked) -> Option<Fault> + Send + 'static {
    let mut chance = SmallRng::seed_from_u64(seed);
    let mut left = chance.random_range(1..=3);
    let mut skip = chance.random_range(0..20);
    move |asked| {
        let uploads = asked.path.contains("/blobs/uploads/");
        let fits = match kind {
            Kind::Location | Kind::SmallParts => uploads,
            _ => uploads && asked.length > 0,
        };
        if let Kind::SmallParts = kind {
            // Not now and then, but always: this registry takes no large parts.
            let large = asked.method == Method::PATCH && asked.length > 4 << 20;
            if large {
                return Some(Fault::Status(416, 0));
            }
            if fits && asked.length > 5 << 20 && left > 0 {
                left -= 1;
                return Some(Fault::Cut(chance.random_range(0..asked.length)));
            }
            return None;
        }
        if !fits || left == 0 {
            return None;
        }
        if skip > 0 {
            skip -= 1;
            return None;
        }
        left -= 1;
        skip = chance.random_range(0..6);
        let place = chance.random_range(0..=asked.length);
        Some(match kind {
            Kind::Cut | Kind::SmallParts => Fault::Cut(place),
            Kind::CutAnswer => Fault::CutAnswer,
            Kind::Truncate => Fault::Truncate(place),
            Kind::Status(status) => Fault::Status(status, place),
            Kind::RetryAfter(status) => {
                Fault::StatusWith(status, vec![("retry-after", "1".to_owned())])
            }
            Kind::TokenEnded => {
                let challenge = "Basic realm=\"again\"".to_owned();
                Fault::StatusWith(401, vec![("www-authenticate", challenge)])
            }
            Kind::Slow => Fault::Slow(place, 20_000),
            Kind::SessionLost => Fault::Status(404, place),
            Kind::Location => match chance.random_range(0..3) {
                0 => Fault::Location("http://127.0.0.1:1/v2/x/blobs/uploads/1".to_owned()),
                1 => Fault::Location("/v2/elsewhere/blobs/uploads/1".to_owned()),
                _ => Fault::Location("http://[".to_owned()),
            },
        })
    }
}

/// Bytes of each upload that the registry was given, by the digest that it was closed with, and how
/// often it was closed.
fn by_digest(seen: &[Seen]) -> BTreeMap<String, (u64, usize)> {
    let upload = |one: &Seen| one.path.split('?').next().unwrap_or_default().to_owned();
    let mut bytes: BTreeMap<String, u64> = BTreeMap::new();
    for one in seen.iter().filter(|one| one.is_upload()) {
        *bytes.entry(upload(one)).or_default() += one.bytes;
    }
    let mut digests: BTreeMap<String, (u64, usize)> = BTreeMap::new();
    for one in seen.iter().filter(|one| one.status == Some(201)) {
        if let Some(digest) = one.digest() {
            let known = digests.entry(digest).or_default();
            known.0 += bytes.get(&upload(one)).copied().unwrap_or(0);
            known.1 += 1;
        }
    }
    digests
}

fn one_run(kind: Kind, seed: u64, image: &Layout, path: &Path) -> bool {
    let stranger = Stranger::new();
    let name = unique("faults");
    let proxy = Proxy::start(bed::registry(), plan(kind, seed));
    let reference = format!("{}/push/{name}:v1", proxy.address);
    let push = |arguments: &[&str]| {
        run(stranger.bk_sync().arg("push").args(arguments).args([
            "--format",
            "json",
            "--progress",
            "quiet",
            "--retry-budget",
            "20s",
        ]))
    };
    let said = push(&[path.to_str().unwrap(), &reference]);
    let what = format!("{kind:?} {seed}: {}{}", said.stdout, said.stderr);
    let clean = said.code == 0;
    if !clean {
        assert_eq!(said.code, 12, "{what}");
        let envelope = json(&said);
        let code = envelope["error"]["code"].as_str().unwrap_or_default();
        assert!(code.starts_with("PUSH_"), "{what}");
        let id = envelope["error"]["details"]["resume"].as_str().expect("an id to go on with");
        let mut resumed = push(&["--resume", id]);
        // A plan of three faults may have some left.
        if resumed.code != 0 {
            resumed = push(&["--resume", id]);
        }
        assert_eq!(resumed.code, 0, "{what}\n{}{}", resumed.stdout, resumed.stderr);
    }
    Reader::new(bed::registry()).holds(&format!("push/{name}"), "v1", image);
    let seen = proxy.seen();
    let faults = seen.iter().filter(|one| one.fault.is_some()).count();
    for (digest, size) in &image.blobs {
        let (given, closed) = by_digest(&seen).get(digest).copied().unwrap_or_default();
        // None where the end of the last request was cut, and all of it had arrived.
        assert!(closed <= 1, "a finished blob is sent once: {digest} {what} {seen:?}");
        let lost = given.saturating_sub(*size);
        let most = u64::try_from(faults).unwrap() * (4 << 20);
        assert!(lost <= most, "{lost} bytes of {digest} twice: {what}");
    }
    clean
}

#[test]
fn random_faults_never_lose_a_byte_and_never_end_without_a_way_on() {
    let runs = knob("BK_SYNC_TEST_PUSH_RUNS", 39);
    let mib = knob("BK_SYNC_TEST_PUSH_MIB", 16);
    let seed = knob("BK_SYNC_TEST_PUSH_SEED", 1);
    let home = tempfile::tempdir().unwrap();
    // One large layer, three middling ones, sixteen small ones.
    let unit = (mib << 20) / 64;
    let sizes = (0..20).map(|at| match at {
        0 => 32 * unit,
        1..=3 => 8 * unit,
        _ => unit / 2,
    });
    let layers: Vec<_> = sizes.enumerate().map(|(at, size)| (at as u64 + 900, size)).collect();
    let path = home.path().join("image");
    let image = layout(&path, &layers);
    let (next, clean) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= runs {
                        return;
                    }
                    let kind = KINDS[at % KINDS.len()];
                    if one_run(kind, (seed * 1000 + at) as u64, &image, &path) {
                        clean.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let clean = clean.into_inner();
    eprintln!("{runs} runs of {mib} MiB: {clean} ended well, {} after a resume", runs - clean);
    assert!(clean * 10 >= runs * 9, "{clean} of {runs} ended well by themselves");
}
