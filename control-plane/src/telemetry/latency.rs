//! How long requests took, as an exponential histogram of few buckets: what the memory keeps, subtracts, merges and
//! asks for quantiles. Pure. What proxies record is finer, and dense: `heddle_telemetry::exponential`.

use heddle_telemetry::exponential::{Exponential, InvalidPoint, SCALE_FLOOR, SCALE_LIMIT};
use opentelemetry_proto::tonic::metrics::v1::ExponentialHistogramDataPoint;

/// A histogram of seconds. Its buckets are in order, and none is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latency {
    scale: i8,
    zero: u64,
    buckets: Vec<(i32, u64)>,
}

impl Default for Latency {
    fn default() -> Self {
        Self { scale: SCALE, zero: 0, buckets: Vec::new() }
    }
}

impl Latency {
    /// Reads a point's buckets, and makes them as coarse as what is kept.
    pub fn from_point(point: &ExponentialHistogramDataPoint) -> Result<Self, InvalidPoint> {
        let mut read = Exponential::from_point(point)?;
        let finer = read.scale().saturating_sub(i32::from(SCALE));
        read.downscale(u32::try_from(finer).unwrap_or(0));
        let scale = i8::try_from(read.scale()).map_err(|_| InvalidPoint::Scale(read.scale()))?;
        let (offset, counts) = read.positive();
        let buckets = (offset..).zip(counts.iter().copied()).filter(|(_, count)| *count > 0);
        Ok(Self { scale, zero: read.zero_count(), buckets: buckets.collect() })
    }

    /// Of these buckets, each an index and its count, in order; made as coarse as what is kept. `None`: there is no such
    /// scale, or no number is in such a bucket.
    pub fn new(scale: i8, zero: u64, buckets: Vec<(i32, u64)>) -> Option<Self> {
        let within = SCALE_FLOOR..=SCALE_LIMIT;
        let farthest = EXPONENT_LIMIT.checked_shl(u32::try_from(scale).unwrap_or(0))?;
        if !within.contains(&i32::from(scale))
            || buckets.iter().any(|(index, _)| index.abs() > farthest)
        {
            return None;
        }
        let mut latency = Self { scale, zero, buckets };
        latency.coarsen(SCALE);
        Some(latency)
    }

    /// The binary logarithm of the number of buckets for each doubling.
    pub fn scale(&self) -> i8 {
        self.scale
    }

    /// How many took no time that could be measured.
    pub fn zero(&self) -> u64 {
        self.zero
    }

    /// Indices and counts, in order of the indices.
    pub fn buckets(&self) -> &[(i32, u64)] {
        &self.buckets
    }

    /// How many there are in all; `None`: more than can be counted.
    pub fn count(&self) -> Option<u64> {
        self.buckets.iter().try_fold(self.zero, |sum, (_, count)| sum.checked_add(*count))
    }

    /// Nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.zero == 0 && self.buckets.is_empty()
    }

    /// Adds what another one counted.
    pub fn merge(&mut self, other: &Self) {
        if other.is_empty() {
            return;
        }
        if other.scale > self.scale {
            let mut coarse = other.clone();
            coarse.coarsen(self.scale);
            return self.add_alike(&coarse);
        }
        self.coarsen(other.scale);
        self.add_alike(other);
    }

    /// Of the same scale. That nearly all buckets are there already is the rule where many are added up.
    fn add_alike(&mut self, other: &Self) {
        self.zero = self.zero.saturating_add(other.zero);
        let mut missing = Vec::new();
        let mut known = self.buckets.iter_mut().peekable();
        for (index, more) in &other.buckets {
            while known.next_if(|(before, _)| before < index).is_some() {}
            match known.next_if(|(same, _)| same == index) {
                Some((_, count)) => *count = count.saturating_add(*more),
                None => missing.push((*index, *more)),
            }
        }
        if !missing.is_empty() {
            self.buckets.append(&mut missing);
            self.buckets.sort_unstable_by_key(|(index, _)| *index);
        }
    }

    /// What was counted since `earlier`; `None` if that counted something which this one did not.
    pub fn since(&self, earlier: &Self) -> Option<Self> {
        let scale = self.scale.min(earlier.scale);
        let (mut now, mut before) = (self.clone(), earlier.clone());
        now.coarsen(scale);
        before.coarsen(scale);
        let zero = now.zero.checked_sub(before.zero)?;
        let mut left = before.buckets.into_iter().peekable();
        let mut buckets = Vec::new();
        for (index, count) in now.buckets {
            let known = match left.peek() {
                Some((known, _)) if *known < index => return None,
                Some((known, _)) if *known == index => left.next().map_or(0, |(_, count)| count),
                Some(_) | None => 0,
            };
            let more = count.checked_sub(known)?;
            if more > 0 {
                buckets.push((index, more));
            }
        }
        left.next().is_none().then_some(Self { scale, zero, buckets })
    }

    /// Seconds that this share of the requests took at most: the middle of a bucket, at [`SCALE`] within five percent
    /// of the true value. `None`: nothing was measured.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate; the share is within 0 and 1"
    )]
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let count = self.count().filter(|count| *count > 0)?;
        let rank = ((share.clamp(0.0, 1.0) * count as f64).ceil() as u64).clamp(1, count);
        let mut seen = self.zero;
        if rank <= seen {
            return Some(0.0);
        }
        let found = self.buckets.iter().find(|(_, count)| {
            seen = seen.saturating_add(*count);
            rank <= seen
        });
        let middle = |index: i32| (f64::from(index) + 0.5) / f64::from(self.scale).exp2();
        found.map(|(index, _)| middle(*index).exp2())
    }

    fn coarsen(&mut self, scale: i8) {
        let Ok(shift @ 1..) = u32::try_from(i32::from(self.scale) - i32::from(scale)) else {
            return;
        };
        self.scale = scale;
        for (index, _) in &mut self.buckets {
            *index = index.checked_shr(shift).unwrap_or(if *index < 0 { -1 } else { 0 });
        }
        self.buckets.dedup_by(|(later, more), (first, count)| {
            let same = later == first;
            if same {
                *count = count.saturating_add(*more);
            }
            same
        });
    }
}

/// What is kept has eight buckets for each doubling.
pub const SCALE: i8 = 3;
/// See `f64::MIN_EXP` and the numbers below the normal ones.
const EXPONENT_LIMIT: i32 = 1076;

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
    use proptest::prelude::*;

    fn point(scale: i32, offset: i32, counts: &[u64]) -> ExponentialHistogramDataPoint {
        ExponentialHistogramDataPoint {
            scale,
            count: counts.iter().sum(),
            sum: Some(1.0),
            positive: Some(Buckets { offset, bucket_counts: counts.to_vec() }),
            ..Default::default()
        }
    }

    fn of(scale: i8, buckets: &[(i32, u64)]) -> Latency {
        Latency::new(scale, 0, buckets.to_vec()).unwrap()
    }

    #[test]
    fn buckets_are_read_and_made_coarse() {
        for (case, point, expected) in [
            ("as kept", point(3, -4, &[1, 0, 2]), of(3, &[(-4, 1), (-2, 2)])),
            ("finer", point(5, -4, &[1, 1, 1, 1, 1]), of(3, &[(-1, 4), (0, 1)])),
            ("the finest", point(20, -1, &[1, 1]), of(3, &[(-1, 1), (0, 1)])),
            ("coarser", point(-1, 0, &[7]), of(-1, &[(0, 7)])),
            ("nothing", point(0, 0, &[]), of(0, &[])),
        ] {
            assert_eq!(Latency::from_point(&point), Ok(expected), "case: {case}");
        }
        let other_count = ExponentialHistogramDataPoint { count: 9, ..point(0, 0, &[1]) };
        assert_eq!(Latency::from_point(&other_count), Err(InvalidPoint::Count));
    }

    #[test]
    fn buckets_that_no_number_is_in_are_none() {
        for (case, scale, index, good) in [
            ("a number", 3, 8 * 1024, true),
            ("too far", 3, 8 * 1077, false),
            ("too low", 0, -1077, false),
            ("coarse", -10, 1, true),
            ("too fine", 21, 0, false),
            ("finer than there is", 100, 0, false),
            ("too coarse", -11, 0, false),
        ] {
            let found = Latency::new(scale, 0, vec![(index, 1)]);
            assert_eq!(found.is_some(), good, "case: {case}");
        }
    }

    #[test]
    fn what_is_less_than_before_is_no_difference() {
        let before = of(3, &[(1, 5), (4, 1)]);
        for (case, now, expected) in [
            ("the same", before.clone(), Some(of(3, &[]))),
            ("more", of(3, &[(0, 1), (1, 7), (4, 1)]), Some(of(3, &[(0, 1), (1, 2)]))),
            ("less in one", of(3, &[(1, 4), (4, 9)]), None),
            ("one is gone", of(3, &[(1, 5)]), None),
            ("one between is gone", of(3, &[(1, 5), (5, 1)]), None),
            ("coarser now", of(2, &[(0, 6), (2, 1)]), Some(of(2, &[(0, 1)]))),
        ] {
            assert_eq!(now.since(&before), expected, "case: {case}");
        }
    }

    #[test]
    fn quantiles_are_near_what_was_measured() {
        assert_eq!(Latency::default().quantile(0.5), None);
        // One to a hundred milliseconds, one request each, in buckets of the finest scale that fits.
        let mut buckets = std::collections::BTreeMap::new();
        for millis in 1..=100_i32 {
            let exact = f64::from(millis) / 1000.0;
            #[expect(clippy::cast_possible_truncation, reason = "a bucket's index")]
            let index = (exact.log2() * 32.0).ceil() as i32 - 1;
            *buckets.entry(index).or_insert(0) += 1;
        }
        let latency = Latency::new(5, 0, buckets.into_iter().collect()).unwrap();
        for (share, expected) in
            [(0.0, 0.001), (0.5, 0.050), (0.95, 0.095), (0.99, 0.099), (1.0, 0.1)]
        {
            let found = latency.quantile(share).unwrap();
            assert!((found / expected - 1.0).abs() < 0.07, "{share}: {found} for {expected}");
        }
        let mut zeros = Latency::new(3, 9, vec![(0, 1)]).unwrap();
        assert_eq!(zeros.quantile(0.9), Some(0.0));
        zeros.merge(&latency);
        assert_eq!(zeros.count(), Some(110));
    }

    prop_compose! {
        fn any_latency()(
            scale in -4_i8..=8,
            zero in 0_u64..5,
            buckets in proptest::collection::btree_map(-200_i32..200, 1_u64..50, 0..40),
        ) -> Latency {
            Latency::new(scale, zero, buckets.into_iter().collect()).unwrap()
        }
    }

    proptest! {
        #[test]
        fn what_was_added_is_the_difference(one in any_latency(), other in any_latency()) {
            let mut both = one.clone();
            both.merge(&other);
            let mut reversed = other.clone();
            reversed.merge(&one);
            prop_assert_eq!(both.count(), Some(one.count().unwrap() + other.count().unwrap()));
            if !one.is_empty() && !other.is_empty() {
                prop_assert_eq!(&both, &reversed);
            }
            let mut expected = other.clone();
            expected.coarsen(both.scale());
            let found = both.since(&one).unwrap();
            prop_assert_eq!(found.count(), expected.count());
            prop_assert_eq!(found.buckets(), expected.buckets());
        }
    }
}
