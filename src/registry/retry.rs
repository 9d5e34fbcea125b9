//! How long a push goes on trying: pauses that grow and jitter, within a budget. Pure: time and
//! chance are handed in.

use std::time::Duration;

/// The first pause, at most: most of what fails is a connection, and a new one is good at once.
const BASE: Duration = Duration::from_millis(100);
/// The longest pause that we choose ourselves.
const LONGEST: Duration = Duration::from_secs(20);

/// So often a registry is tried again that has never answered; each time is some tries by itself.
const FIRST_TRIES: u32 = 1;

/// What a blob may spend on failures.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RetryBudget {
    /// How long a blob is tried without getting further; whatever gets further starts it anew.
    pub without_progress: Duration,
    /// How long a connection may be still before it is given up.
    pub still: Duration,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { without_progress: Duration::from_mins(5), still: Duration::from_mins(1) }
    }
}

/// The patience with one blob.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    budget: RetryBudget,
    failures: u32,
    spent_since: Option<Duration>,
}

/// What comes after a failure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// Try again after `pause`; `left` is what then remains of the budget.
    Again { pause: Duration, left: Duration },
    /// The budget is used up.
    GiveUp,
}

impl Patience {
    pub(super) fn new(budget: RetryBudget) -> Self {
        Self { budget, failures: 0, spent_since: None }
    }

    /// The blob got further.
    pub(super) fn progress(&mut self) {
        self.failures = 0;
        self.spent_since = None;
    }

    /// Failures since the blob last got further.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether it is time to give up on somebody who has never answered: their name or address is
    /// wrong, far more often than that they are away.
    pub(super) fn is_in_vain(&self, has_served: bool) -> bool {
        !has_served && self.failures >= FIRST_TRIES
    }

    /// Decides after a failure at `now` (since any fixed moment). `asked` is what the registry
    /// wants us to wait; `chance` is evenly spread over 0..1.
    pub(super) fn failed(
        &mut self,
        now: Duration,
        asked: Option<Duration>,
        chance: f64,
    ) -> Verdict {
        let since = *self.spent_since.get_or_insert(now);
        let exponent = self.failures.min(16);
        self.failures = self.failures.saturating_add(1);
        let ceiling = BASE.saturating_mul(1 << exponent).min(LONGEST);
        // Half of it always, so that a busy registry is left alone for a moment.
        let ours = ceiling.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0);
        let pause = asked.map_or(ours, |asked| asked.saturating_add(ours / 4));
        let spent = now.saturating_sub(since).saturating_add(pause);
        match self.budget.without_progress.checked_sub(spent) {
            Some(left) => Verdict::Again { pause, left },
            None => Verdict::GiveUp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LONGEST, Patience, RetryBudget, Verdict};
    use proptest::prelude::*;
    use std::time::Duration;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn pauses_grow_until_the_budget_ends_and_progress_starts_anew() {
        let budget = RetryBudget { without_progress: s(60), still: s(60) };
        let mut patience = Patience::new(budget);
        let mut now = s(100);
        let mut pauses = Vec::new();
        while let Verdict::Again { pause, .. } = patience.failed(now, None, 1.0) {
            pauses.push(pause);
            now += pause;
        }
        assert!(pauses.windows(2).all(|pair| pair[0] <= pair[1]), "{pauses:?}");
        assert!(pauses.len() > 6 && pauses.iter().sum::<Duration>() <= s(60), "{pauses:?}");
        patience.progress();
        assert!(!patience.is_in_vain(false));
        assert!(matches!(patience.failed(now, None, 0.0), Verdict::Again { .. }));
        assert!(patience.is_in_vain(false), "who never answered is not waited for");
        assert!(!patience.is_in_vain(true), "who went away is");
    }

    #[test]
    fn a_registry_that_asks_for_more_than_there_is_ends_it() {
        let mut patience = Patience::new(RetryBudget { without_progress: s(60), still: s(60) });
        let Verdict::Again { pause, left } = patience.failed(s(0), Some(s(7)), 0.5) else {
            panic!("there is time")
        };
        assert!(pause >= s(7) && pause < s(8) && left > s(50));
        assert_eq!(patience.failed(s(8), Some(s(600)), 0.5), Verdict::GiveUp);
    }

    proptest! {
        #[test]
        fn no_chance_makes_a_pause_too_long(failures in 0_u32..50, chance in -1.0..2.0_f64) {
            let mut patience = Patience::new(RetryBudget::default());
            for _ in 0..failures {
                patience.failed(s(0), None, chance);
            }
            if let Verdict::Again { pause, .. } = patience.failed(s(0), None, chance) {
                prop_assert!(pause <= LONGEST);
            }
        }
    }
}
