//! Pushes through a proxy that fails at random places: a small number of them, of a small image. With
//! `cargo bench --bench push -- faults` there are as many, and as large, as one likes.

use super::trial::{KINDS, Subject, image, one_run};
use crate::bed;
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn random_faults_never_lose_a_byte_and_never_end_without_a_way_on() {
    const RUNS: usize = 26;
    let home = tempfile::tempdir().unwrap();
    let image = image(&home.path().join("image"), 24);
    for subject in [
        Subject { registry: bed::registry(), keeps_uploads: false },
        Subject { registry: bed::registry_second(), keeps_uploads: true },
    ] {
        let (next, clean, met) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
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
                        clean.fetch_add(usize::from(ending.is_clean), Ordering::Relaxed);
                    }
                });
            }
        });
        let (clean, met) = (clean.into_inner(), met.into_inner());
        assert!(met >= RUNS, "only {met} faults were met");
        assert!(clean * 10 >= RUNS * 9, "{clean} of {RUNS} ended well by themselves");
    }
}
