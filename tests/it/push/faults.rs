//! Pushes through a proxy that fails at random places: a small number of them, of a small image. With
//! `cargo bench --bench push -- faults` there are as many, and as large, as one likes.

use super::trial::{KINDS, Subject, image, one_run};
use crate::bed;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

#[test]
fn random_faults_never_lose_a_byte_and_never_end_without_a_way_on() {
    const RUNS: usize = 26;
    let home = tempfile::tempdir().unwrap();
    let image = image(&home.path().join("image"), 24);
    for (registry, keeps_uploads) in [(bed::registry(), false), (bed::registry_second(), true)] {
        let program = env!("CARGO_BIN_EXE_bk-sync");
        let subject = Subject { program, registry, keeps_uploads };
        let (next, clean, met) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        let lost = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        if at >= RUNS {
                            return;
                        }
                        let ending =
                            one_run(subject, KINDS[at % KINDS.len()], 1000 + at as u64, &image);
                        met.fetch_add(ending.faults, Ordering::Relaxed);
                        lost.fetch_add(ending.lost, Ordering::Relaxed);
                        clean.fetch_add(usize::from(ending.is_clean), Ordering::Relaxed);
                    }
                });
            }
        });
        let (clean, met) = (clean.into_inner(), met.into_inner());
        let lost = lost.into_inner();
        eprintln!("{}: {met} faults met in {RUNS} runs, {lost} bytes sent again", subject.registry);
        assert!(met >= RUNS, "only {met} faults were met");
        assert!(clean * 10 >= RUNS * 9, "{clean} of {RUNS} ended well by themselves");
    }
}
