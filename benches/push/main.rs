//! Pushes under strain.
//!
//! `cargo bench --bench push -- faults [--runs 200] [--mib 1024] [--seed 1] [--jobs 2] [--kind NAME]
//! [--program PATH] [--registry HOST:PORT [--forgets]]` pushes an image through a proxy that fails at
//! random places, before the test bed's distribution 3, and insists on the right content, on no finished
//! blob being sent twice and on 4 MiB lost by a cut at most. `--forgets` is for a registry that cancels
//! uploads that were cut; `--program` is another `bk-sync` than the one that cargo has just built.
//!
//! `cargo bench --bench push -- proxy late|cutting [HOST:PORT]` is the proxy of `bench/push.sh`: it says its
//! address and works until its stdin ends.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark prints, and stops when wrong"
)]
#![expect(unreachable_pub, reason = "the modules are shared with the integration tests")]

#[path = "../../tests/it/bed.rs"]
#[expect(dead_code, reason = "the tests need more of the bed than this")]
mod bed;
#[path = "../../tests/it/command.rs"]
#[expect(dead_code, reason = "the tests run more than this")]
mod command;
#[path = "../../tests/it/push/image.rs"]
#[expect(dead_code, reason = "the tests make more of it")]
mod image;
#[path = "../../tests/it/push/proxy.rs"]
#[expect(dead_code, reason = "the tests look at more of what went through")]
mod proxy;
#[path = "../../tests/it/push/trial.rs"]
mod trial;

use proxy::{Fault, Proxy};
use rand::Rng as _;
use std::{
    io::Read as _,
    sync::{
        Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use trial::{KINDS, Subject};

fn main() {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["faults", options @ ..] => faults(options),
        ["proxy", kind] => serve(kind, bed::registry()),
        ["proxy", kind, upstream] => serve(kind, upstream),
        _ => eprintln!("name what to do: `faults` or `proxy late|cutting`"),
    }
}

/// The value behind `name`, or `usual`.
fn number(options: &[&str], name: &str, usual: usize) -> usize {
    text(options, name).map_or(usual, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name} takes a number, not {text}"))
    })
}

fn text<'a>(options: &[&'a str], name: &str) -> Option<&'a str> {
    let at = options.iter().position(|word| *word == name)?;
    options.get(at + 1).copied()
}

fn faults(options: &[&str]) {
    let runs = number(options, "--runs", 200);
    let mib = number(options, "--mib", 1024);
    let seed = number(options, "--seed", 1);
    let jobs = number(options, "--jobs", 2);
    let subject = Subject {
        program: text(options, "--program").unwrap_or(env!("CARGO_BIN_EXE_bk-sync")),
        registry: text(options, "--registry").unwrap_or_else(|| bed::registry_second()),
        keeps_uploads: !options.contains(&"--forgets"),
    };
    let kinds: Vec<_> = KINDS
        .into_iter()
        .filter(|kind| {
            text(options, "--kind").is_none_or(|name| format!("{kind:?}").contains(name))
        })
        .collect();
    assert!(!kinds.is_empty(), "no kind of fault is called so: {KINDS:?}");
    let home = tempfile::tempdir().expect("a directory");
    let image = trial::image(&home.path().join("image"), mib);
    let began = Instant::now();
    let (next, clean, met) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let (lost, failed) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= runs {
                        return;
                    }
                    let kind = kinds[at % kinds.len()];
                    let seed = (seed * 1000 + at) as u64;
                    let started = Instant::now();
                    let run = || trial::one_run(subject, kind, seed, &image);
                    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) {
                        Ok(ending) => {
                            let seconds = started.elapsed().as_secs_f64();
                            eprintln!("{at}: {kind:?} {seed}: {ending:?} in {seconds:.1} s");
                            clean.fetch_add(usize::from(ending.is_clean), Ordering::Relaxed);
                            met.fetch_add(ending.faults, Ordering::Relaxed);
                            lost.fetch_max(ending.lost, Ordering::Relaxed);
                        }
                        Err(_) => failed.lock().unwrap().push(format!("{kind:?} {seed}")),
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    println!(
        "{runs} runs of {mib} MiB in {} s: {} faults met, {} runs ended well by themselves, {} after a resume, {} \
         not as they must; at most {} bytes of one run were sent in vain",
        began.elapsed().as_secs(),
        met.into_inner(),
        clean.load(Ordering::Relaxed),
        runs - clean.load(Ordering::Relaxed) - failed.len(),
        failed.len(),
        lost.into_inner(),
    );
    assert!(failed.is_empty(), "{failed:?}");
}

fn serve(kind: &str, upstream: &str) {
    let (delay, is_cutting) = match kind {
        "late" => (Duration::from_millis(80), false),
        "cutting" => (Duration::ZERO, true),
        _ => panic!("late or cutting, not {kind}"),
    };
    let proxy = Proxy::with_delay(upstream, delay, move |asked| {
        let mut chance = rand::rng();
        (is_cutting && chance.random_range(0..100) == 0)
            .then(|| Fault::Cut(chance.random_range(0..=asked.length)))
    });
    println!("{}", proxy.address);
    let mut rest = Vec::new();
    std::io::stdin().read_to_end(&mut rest).expect("stdin");
}
