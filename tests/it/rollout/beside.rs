//! kubectl's own `rollout status`, run beside a rollout of ours, so that the two verdicts can be held
//! against each other.

use super::shop::{PATIENCE, Shop};
use crate::command::run;
use std::{
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// What kubectl said in the end, and when.
#[derive(Debug)]
pub struct Verdict {
    pub code: i32,
    pub at: Instant,
}

/// kubectl, waiting.
pub struct Beside(JoinHandle<Verdict>);

impl Beside {
    /// Begins as soon as the first container of `workload` is to run `image`.
    pub fn of(shop: &Shop, workload: &str, image: &str) -> Self {
        let path = "{.spec.template.spec.containers[0].image}";
        let condition = format!("--for=jsonpath={path}={image}");
        let timeout = format!("--timeout={}s", PATIENCE.as_secs());
        let mut set = shop.kubectl(&["wait", workload, &condition, &timeout]);
        let mut status = shop.kubectl(&["rollout", "status", workload, &timeout]);
        let thread = std::thread::spawn(move || {
            let is_set = run(&mut set);
            assert_eq!(is_set.code, 0, "the image is never set: {}", is_set.stderr);
            let said = run(&mut status);
            eprintln!("kubectl: {}{}", said.stdout, said.stderr);
            Verdict { code: said.code, at: Instant::now() }
        });
        Self(thread)
    }

    /// Its verdict, which it has to have by now.
    pub fn verdict(self) -> Verdict {
        let began = Instant::now();
        while !self.0.is_finished() {
            assert!(began.elapsed() < Duration::from_secs(30), "kubectl has no verdict");
            std::thread::sleep(Duration::from_millis(50));
        }
        self.0.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}
