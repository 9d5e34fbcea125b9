//! One push through a proxy that fails, and what may be expected of it: exactly the right content, or a
//! typed error and a state that another run finishes from. Shared by the tests and by `benches/push`,
//! which does it hundreds of times with a large image.

use super::{
    image::{Layout, Reader, layout},
    proxy::{Asked, Fault, Proxy, Seen},
};
use crate::command::{Stranger, run, unique};
use http::Method;
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use serde_json::Value;
use std::{collections::BTreeMap, path::Path};

/// What a cut may cost.
const LOSS: u64 = 4 << 20;
/// Runs that are tried to finish a push: a plan has three faults at most.
const RESUMES: usize = 3;

/// What may go wrong in one run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// The connection ends in the middle of a body.
    Cut,
    /// The connection ends before the answer.
    CutAnswer,
    /// The registry gets less than all of a body.
    Truncate,
    /// An error of the registry's.
    Status(u16),
    /// The same, with the wish to be left alone for a second.
    RetryAfter(u16),
    /// The token is not good any longer.
    TokenEnded,
    /// It slows to a crawl.
    Slow,
    /// The upload is not known any longer.
    SessionLost,
    /// Parts over 4 MiB are refused, all of them, and some bodies are cut.
    SmallParts,
    /// The registry says nonsense of where an upload goes on.
    Location,
}

/// All kinds, each as often as it is tried in turn.
pub const KINDS: [Kind; 13] = [
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

/// Who is tried.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The `bk-sync` that pushes.
    pub program: &'a str,
    /// `host:port` of the registry behind the proxy.
    pub registry: &'a str,
    /// Whether it keeps what has arrived of an upload that is cut. Distribution 2.8 does not: it cancels
    /// the upload when it is asked how far it has come.
    pub keeps_uploads: bool,
}

/// What became of one run.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    /// Whether it ended well by itself, and not only after a resume.
    pub is_clean: bool,
    /// Faults that were met.
    pub faults: usize,
    /// Bytes that the registry was given more often than once.
    pub lost: u64,
}

/// An image of `mib` MiB in 20 layers: one of half of it, three of an eighth, sixteen small ones.
pub fn image(path: &Path, mib: usize) -> Layout {
    let unit = (mib << 20) / 64;
    let sizes = (0..20).map(|at| match at {
        0 => 32 * unit,
        1..=3 => 8 * unit,
        _ => unit / 2,
    });
    let layers: Vec<_> = sizes.enumerate().map(|(at, size)| (at as u64 + 900, size)).collect();
    layout(path, &layers)
}

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
            if fits && asked.length > 1 << 20 && left > 0 {
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

/// An upload, by what names it.
fn upload(one: &Seen) -> String {
    one.path.split('?').next().unwrap_or_default().to_owned()
}

/// How often each blob was closed, and the bytes that the uploads which ended so were given.
fn closed(seen: &[Seen]) -> BTreeMap<String, (u64, usize)> {
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

/// Bytes that the registry was given in vain, in all uploads together.
fn lost(seen: &[Seen], image: &Layout) -> u64 {
    let given: u64 = seen.iter().filter(|one| one.is_upload()).map(|one| one.bytes).sum();
    given.saturating_sub(image.blobs.iter().map(|(_, size)| size).sum())
}

/// The uploads among what went through, in few words.
fn told(seen: &[Seen]) -> String {
    let uploads = seen.iter().filter(|one| one.path.contains("/blobs/uploads/"));
    let line = |one: &Seen| {
        let Seen { method, status, bytes, received, fault, .. } = one;
        let name: String = upload(one).chars().rev().take(4).collect();
        format!("{method} {name} {status:?} {bytes} of {received} {fault:?}\n")
    };
    uploads.map(line).collect()
}

/// Pushes `image` through a proxy with faults of `kind`, by `seed`, and insists on what every ending must
/// be.
pub fn one_run(subject: Subject<'_>, kind: Kind, seed: u64, image: &Layout) -> Ending {
    let stranger = Stranger::new();
    let name = unique("faults");
    let proxy = Proxy::start(subject.registry, plan(kind, seed));
    let reference = format!("{}/push/{name}:v1", proxy.address);
    let push = |arguments: &[&str]| {
        let options = ["--format", "json", "--progress", "quiet", "--retry-budget", "20s"];
        run(stranger.command(subject.program).arg("push").args(arguments).args(options))
    };
    let mut said = push(&[image.path.to_str().unwrap(), &reference]);
    let what = format!("{kind:?} {seed}: {}{}", said.stdout, said.stderr);
    let is_clean = said.code == 0;
    for _ in 0..RESUMES {
        if said.code == 0 {
            break;
        }
        assert_eq!(said.code, 12, "{what}");
        let envelope: Value = serde_json::from_str(&said.stdout).expect("JSON");
        let code = envelope["error"]["code"].as_str().unwrap_or_default();
        assert!(code.starts_with("PUSH_"), "{what}");
        let id = envelope["error"]["details"]["resume"].as_str().expect("an id to go on with");
        said = push(&["--resume", id]);
    }
    assert_eq!(said.code, 0, "{what}\n{}{}", said.stdout, said.stderr);
    Reader::new(subject.registry).holds(&format!("push/{name}"), "v1", image);

    let seen = proxy.seen();
    let faults = seen.iter().filter(|one| one.fault.is_some()).count();
    let most = u64::try_from(faults).unwrap() * LOSS;
    let (closed, lost) = (closed(&seen), lost(&seen, image));
    for (digest, size) in &image.blobs {
        let (given, times) = closed.get(digest).copied().unwrap_or_default();
        // None where the end of the last request was cut, and all of it had arrived.
        assert!(times <= 1, "a finished blob is sent once: {digest} {what}\n{}", told(&seen));
        let again = given.saturating_sub(*size);
        assert!(again <= most, "{again} bytes of {digest} twice: {what}");
    }
    // What was on its way when a process gave up begins anew in the next one.
    if subject.keeps_uploads && is_clean {
        assert!(lost <= most, "{lost} bytes lost by {faults} faults: {what}\n{}", told(&seen));
    }
    Ending { is_clean, faults, lost }
}
