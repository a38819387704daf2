//! How long an endpoint takes to answer: a moving average that jumps to each peak and forgets with
//! time. Source: Finagle's and Linkerd's peak EWMA. Reads no clock: the time is passed in.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The estimate of one endpoint. Neither reading nor writing waits.
///
/// Both parts are in one word, so that they belong together: the seconds, in single precision, and
/// when they were last changed, in milliseconds that begin anew after 49 days. Zero: nothing was
/// seen yet.
#[derive(Debug, Default)]
pub struct Latency(AtomicU64);

impl Latency {
    /// An answer took `sample`. `now` is since any fixed moment.
    pub fn observe(&self, sample: Duration, now: Duration, decay: Duration) {
        let now = milliseconds(now);
        let update = |held: u64| {
            let (seconds, since) = unpack(held);
            let age = Duration::from_millis(u64::from(now.wrapping_sub(since)));
            Some(pack(next(seconds, sample.as_secs_f64(), age, decay), now))
        };
        // It never refuses.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
    }

    /// In seconds; `None` if nothing was seen yet. While `is_busy` nothing is forgotten: who does
    /// not answer at all does not become better by that.
    pub fn estimate(&self, now: Duration, decay: Duration, is_busy: bool) -> Option<f64> {
        let (seconds, since) = unpack(self.0.load(Ordering::Relaxed));
        if seconds == 0.0 {
            return None;
        }
        if is_busy {
            return Some(seconds);
        }
        let age = Duration::from_millis(u64::from(milliseconds(now).wrapping_sub(since)));
        Some((seconds * kept(age, decay)).max(LEAST_SECONDS))
    }
}

/// The average after a sample: a peak is believed at once, what is better only as time passes.
fn next(held: f64, sample: f64, age: Duration, decay: Duration) -> f64 {
    let sample = sample.max(LEAST_SECONDS);
    if sample > held {
        return sample;
    }
    let kept = kept(age, decay);
    held * kept + sample * (1.0 - kept)
}

/// The part that is left of what was seen before `age`.
fn kept(age: Duration, decay: Duration) -> f64 {
    if decay.is_zero() {
        return 0.0;
    }
    // Of many answers in one millisecond, all but the first.
    if age.is_zero() { 1.0 } else { (-age.as_secs_f64() / decay.as_secs_f64()).exp() }
}

fn pack(seconds: f64, since: u32) -> u64 {
    #[expect(clippy::cast_possible_truncation, reason = "single precision is enough to compare by")]
    let seconds = seconds as f32;
    u64::from(seconds.to_bits()) << 32 | u64::from(since)
}

fn unpack(word: u64) -> (f64, u32) {
    let half = |word: u64| u32::try_from(word & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    (f64::from(f32::from_bits(half(word >> 32))), half(word))
}

fn milliseconds(time: Duration) -> u32 {
    u32::try_from(time.as_millis() & u128::from(u32::MAX)).unwrap_or(u32::MAX)
}

/// Nothing is faster, so that the load always counts.
const LEAST_SECONDS: f64 = 1e-6;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DECAY: Duration = Duration::from_secs(10);

    fn seconds(latency: &Latency, now: u64) -> f64 {
        latency.estimate(Duration::from_secs(now), DECAY, false).unwrap()
    }

    #[test]
    fn averages_follow_what_was_seen() {
        let millis = Duration::from_millis;
        for (case, samples, at, expected) in [
            ("the first", &[(0, 50)][..], 0, 0.05),
            ("a peak is believed at once", &[(0, 50), (0, 500)], 0, 0.5),
            ("what is better only with time", &[(0, 500), (0, 50)], 0, 0.5),
            ("after one decay", &[(0, 500), (10, 50)], 10, 0.2155),
            ("after many", &[(0, 500), (100, 50)], 100, 0.05),
            ("without use it is forgotten", &[(0, 500)], 10, 0.1839),
            ("but never free", &[(0, 500)], 1_000_000, 1e-6),
        ] {
            let latency = Latency::default();
            for (second, sample) in samples {
                latency.observe(millis(*sample), Duration::from_secs(*second), DECAY);
            }
            let found = seconds(&latency, at);
            assert!((found - expected).abs() < 1e-3 * expected + 1e-6, "case: {case}: {found}");
        }
    }

    #[test]
    fn nothing_is_known_before_the_first_answer() {
        assert_eq!(Latency::default().estimate(DECAY, DECAY, false), None);
    }

    #[test]
    fn who_does_not_answer_is_not_forgiven() {
        let latency = Latency::default();
        latency.observe(Duration::from_millis(500), Duration::ZERO, DECAY);
        assert_eq!(latency.estimate(Duration::from_secs(100), DECAY, true), Some(0.5));
    }

    #[test]
    fn many_samples_in_each_millisecond_are_forgotten_as_fast() {
        let latency = Latency::default();
        latency.observe(Duration::from_millis(100), Duration::ZERO, DECAY);
        for tick in 0..40_000 {
            latency.observe(Duration::from_millis(1), Duration::from_micros(250 * tick), DECAY);
        }
        let found = seconds(&latency, 10);
        assert!((found - 0.0374).abs() < 0.001, "{found}");
    }

    proptest! {
        #[test]
        fn the_average_is_between_what_was_held_and_what_is_seen(
            held in 1_u64..10_000_000, sample in 1_u64..10_000_000, age in 0_u64..100_000,
        ) {
            let seconds = |micros: u64| Duration::from_micros(micros).as_secs_f64();
            let (held, sample) = (seconds(held), seconds(sample));
            let found = next(held, sample, Duration::from_millis(age), DECAY);
            prop_assert!(found >= held.min(sample) * 0.999_999 && found <= held.max(sample) * 1.000_001);
        }

        #[test]
        fn what_is_packed_is_unpacked(micros in 1_u64..100_000_000, since: u32) {
            let seconds = Duration::from_micros(micros).as_secs_f64();
            let (found, at) = unpack(pack(seconds, since));
            prop_assert!((found - seconds).abs() <= seconds * 1e-6);
            prop_assert_eq!(at, since);
        }
    }
}
