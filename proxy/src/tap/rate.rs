//! So many in a second, and no more at once. Pure: time is given.

use std::time::Duration;

use tokio::time::Instant;

/// A token bucket that holds what one second gives.
#[derive(Debug)]
pub struct Bucket {
    per_second: u32,
    /// Each is one nanosecond of a second's `per_second`, so that nothing is lost by rounding.
    filled: u128,
    at: Instant,
}

impl Bucket {
    /// Full.
    pub fn new(per_second: u32, now: Instant) -> Self {
        Self { per_second, filled: full(per_second), at: now }
    }

    /// Whether there is one more, which is taken then.
    pub fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_nanos();
        self.at = self.at.max(now);
        let grown = self.filled.saturating_add(passed.saturating_mul(u128::from(self.per_second)));
        self.filled = grown.min(full(self.per_second));
        match self.filled.checked_sub(SECOND) {
            Some(left) => {
                self.filled = left;
                true
            }
            None => false,
        }
    }
}

fn full(per_second: u32) -> u128 {
    SECOND.saturating_mul(u128::from(per_second))
}

const SECOND: u128 = Duration::from_secs(1).as_nanos();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_rate_passes() {
        let start = Instant::now();
        let mut bucket = Bucket::new(3, start);
        for (case, after_ms, expected) in [
            ("the first", 0, true),
            ("at once", 0, true),
            ("the last that it holds", 0, true),
            ("one more", 0, false),
            ("a third of a second, nearly", 333, false),
            ("a third of a second", 334, true),
            ("again at once", 334, false),
            ("an earlier time", 100, false),
            ("long after", 100_000, true),
            ("and another", 100_000, true),
            ("and the third", 100_000, true),
            ("but no more than a second's", 100_000, false),
        ] {
            let now = start + Duration::from_millis(after_ms);
            assert_eq!(bucket.take(now), expected, "case: {case}");
        }
    }

    #[test]
    fn a_steady_stream_is_cut_to_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(100, start);
        let taken = (0..10_000_u64)
            .filter(|millisecond| bucket.take(start + Duration::from_millis(*millisecond)))
            .count();
        // What it held at first, and ten seconds of its rate.
        assert!((1090..=1100).contains(&taken), "{taken}");
    }
}
