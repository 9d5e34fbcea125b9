//! When a view that is redrawn may be drawn again. Pure: the clock is handed in.

use std::time::{Duration, Instant};

/// A view is redrawn no more often than this.
const FRAME: Duration = Duration::from_millis(100);

/// Keeps frames apart.
#[derive(Debug, Default)]
pub(super) struct Pace {
    last: Option<Instant>,
}

impl Pace {
    /// Whether a frame may be drawn at `now`; where it may, it counts as drawn.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.last.is_none_or(|last| now.saturating_duration_since(last) >= FRAME);
        if is_due {
            self.last = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::Pace;
    use std::time::{Duration, Instant};

    #[test]
    fn a_storm_of_events_draws_ten_frames_a_second() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let at = |tenths: u64| start + Duration::from_micros(100 * tenths);
        let drawn: Vec<u64> = (0..50_000).filter(|&tenths| pace.is_due(at(tenths))).collect();
        assert_eq!(drawn.len(), 50, "in five seconds");
        assert!(drawn.windows(2).all(|pair| pair[1] - pair[0] >= 1000), "{drawn:?}");
    }

    #[test]
    fn the_first_frame_and_one_after_a_pause_are_drawn_at_once() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        assert!(pace.is_due(start));
        assert!(!pace.is_due(start + Duration::from_millis(99)));
        assert!(pace.is_due(start + Duration::from_secs(9)));
        assert!(!pace.is_due(start + Duration::from_millis(9050)));
    }
}
