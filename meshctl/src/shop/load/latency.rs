//! A histogram of durations in bounded memory, exact to about 2 %. Pure.

use std::time::Duration;

/// Buckets per doubling; the relative error is at most one over this.
const STEPS: u64 = 64;
/// Enough doublings for days, counted in microseconds.
const DOUBLINGS: u64 = 36;

/// Durations, counted in buckets that grow with what they count.
#[derive(Clone, Debug)]
pub struct Latencies {
    buckets: Vec<u64>,
    count: u64,
    longest: Duration,
}

impl Default for Latencies {
    fn default() -> Self {
        let buckets = usize::try_from(STEPS * DOUBLINGS).unwrap_or(usize::MAX);
        Self { buckets: vec![0; buckets], count: 0, longest: Duration::ZERO }
    }
}

impl Latencies {
    /// Counts one.
    pub fn record(&mut self, latency: Duration) {
        let last = self.buckets.len().saturating_sub(1);
        let bucket = usize::try_from(bucket_of(latency)).unwrap_or(last).min(last);
        if let Some(count) = self.buckets.get_mut(bucket) {
            *count += 1;
        }
        self.count += 1;
        self.longest = self.longest.max(latency);
    }

    /// The duration that this share (0 to 1) of all stay within; `None` when nothing was counted.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        if self.count == 0 {
            return None;
        }
        let wanted = share.clamp(0.0, 1.0) * count_as_f64(self.count);
        let mut seen = 0;
        for (bucket, count) in (0_u64..).zip(&self.buckets) {
            seen += count;
            if *count > 0 && count_as_f64(seen) >= wanted {
                return Some(upper_bound(bucket).min(self.longest));
            }
        }
        Some(self.longest)
    }

    /// The longest counted.
    pub fn longest(&self) -> Option<Duration> {
        (self.count > 0).then_some(self.longest)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn count_as_f64(count: u64) -> f64 {
    count as f64
}

/// Below [`STEPS`] microseconds a bucket per microsecond; above, [`STEPS`] buckets per doubling.
fn bucket_of(latency: Duration) -> u64 {
    let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
    let Some(log) = micros.checked_ilog2().map(u64::from).filter(|log| *log > STEPS.ilog2().into())
    else {
        return micros;
    };
    let doubling = log - u64::from(STEPS.ilog2());
    // The top bits below the leading one say where in its doubling the value is.
    let step = (micros >> doubling) - STEPS;
    (doubling + 1) * STEPS + step
}

/// The largest duration that falls into a bucket.
fn upper_bound(bucket: u64) -> Duration {
    let (row, step) = (bucket / STEPS, bucket % STEPS);
    if row < 2 {
        return Duration::from_micros(bucket);
    }
    let doubling = row - 1;
    Duration::from_micros(((STEPS + step + 1) << doubling) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantiles_of_a_known_row() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile(0.5), None);
        for millis in 1..=100 {
            latencies.record(Duration::from_millis(millis));
        }
        let close = |share, expected: f64| {
            let found = latencies.quantile(share).unwrap().as_secs_f64() * 1000.0;
            assert!((found - expected).abs() <= expected * 0.02, "{share}: {found}");
        };
        close(0.5, 50.0);
        close(0.99, 99.0);
        close(1.0, 100.0);
        assert_eq!(latencies.longest(), Some(Duration::from_millis(100)));
    }

    proptest! {
        #[test]
        fn a_duration_is_found_again_to_two_percent(micros in 0_u64..10_000_000_000) {
            let bound = upper_bound(bucket_of(Duration::from_micros(micros))).as_micros();
            let micros = u128::from(micros);
            prop_assert!(bound >= micros);
            prop_assert!((bound - micros) * 50 <= micros, "{micros} in bucket to {bound}");
        }

        #[test]
        fn a_longer_duration_is_never_in_an_earlier_bucket(shorter: u64, more: u32) {
            let longer = shorter.saturating_add(more.into());
            prop_assert!(
                bucket_of(Duration::from_micros(shorter)) <= bucket_of(Duration::from_micros(longer))
            );
        }
    }
}
