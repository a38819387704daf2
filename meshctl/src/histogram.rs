//! Quantiles from the buckets of a Prometheus histogram, as `histogram_quantile` has it. Pure.

use std::time::Duration;

/// One bucket: how many values are at most `up_to`, with all smaller buckets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// Seconds; infinite for the last.
    pub up_to: f64,
    /// Cumulative.
    pub count: f64,
}

/// The value that this share (0 to 1) of all stay within, assuming that values are spread evenly
/// inside each bucket. `None` when nothing was counted.
///
/// A quantile in the last, unbounded bucket is told as the largest bound, as Prometheus does.
pub fn quantile(buckets: &[Bucket], share: f64) -> Option<Duration> {
    let mut buckets = buckets.to_vec();
    buckets.sort_by(|one, other| one.up_to.total_cmp(&other.up_to));
    let total = buckets.last()?.count;
    if total <= 0.0 {
        return None;
    }
    let wanted = share.clamp(0.0, 1.0) * total;
    let (mut lower, mut below) = (0.0, 0.0);
    for bucket in &buckets {
        if bucket.count >= wanted && bucket.count > below {
            if bucket.up_to.is_infinite() {
                return seconds(lower);
            }
            let part = ((wanted - below) / (bucket.count - below)).clamp(0.0, 1.0);
            return seconds(lower + (bucket.up_to - lower) * part);
        }
        (lower, below) = (bucket.up_to, bucket.count);
    }
    None
}

fn seconds(value: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn buckets(pairs: &[(f64, f64)]) -> Vec<Bucket> {
        pairs.iter().map(|&(up_to, count)| Bucket { up_to, count }).collect()
    }

    #[test]
    fn quantiles_lie_inside_their_bucket() {
        let all = f64::INFINITY;
        for (case, given, share, expected) in [
            ("nothing counted", buckets(&[(0.1, 0.0), (all, 0.0)]), 0.5, None),
            ("no buckets", vec![], 0.5, None),
            ("half way", buckets(&[(0.1, 0.0), (0.2, 10.0), (all, 10.0)]), 0.5, Some(0.15)),
            ("unsorted", buckets(&[(all, 10.0), (0.2, 10.0), (0.1, 0.0)]), 0.5, Some(0.15)),
            ("beyond the last bound", buckets(&[(0.1, 1.0), (all, 10.0)]), 0.9, Some(0.1)),
            ("all in the first", buckets(&[(0.1, 4.0), (all, 4.0)]), 0.25, Some(0.025)),
        ] {
            let found = quantile(&given, share).map(|found| found.as_secs_f64());
            let close = match (found, expected) {
                (Some(found), Some(expected)) => (found - expected).abs() < 1e-6,
                (found, expected) => found == expected,
            };
            assert!(close, "case: {case}: {found:?}");
        }
    }

    proptest! {
        #[test]
        fn a_larger_share_is_never_a_smaller_duration(
            counts in proptest::collection::vec(0_u16..50, 1..8),
            one in 0.0..1.0_f64,
            other in 0.0..1.0_f64,
        ) {
            let mut total = 0.0;
            let mut given = Vec::new();
            for (bound, count) in (1_u8..).zip(counts) {
                total += f64::from(count);
                given.push(Bucket { up_to: f64::from(bound), count: total });
            }
            let (small, large) = if one < other { (one, other) } else { (other, one) };
            prop_assert!(quantile(&given, small) <= quantile(&given, large));
        }
    }
}
