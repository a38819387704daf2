//! Exponential histograms as OpenTelemetry's data model has them: how many values were in ranges whose
//! bounds are powers of one base. Plain values, for whoever merges, stores and asks them; what is recorded
//! into on a request's path is in recorder.rs.

mod buckets;
mod point;

use crate::exponential::buckets::Buckets;

/// How many ranges a histogram holds at most: the default that OpenTelemetry's SDKs have. What needs more
/// is held at a smaller scale.
pub const BUCKET_LIMIT: usize = 160;
/// The finest scale: OpenTelemetry's SDKs have no finer one.
pub const SCALE_LIMIT: i32 = 20;
/// The coarsest: one range holds all that a double may be.
pub const SCALE_FLOOR: i32 = -10;

/// How values are spread. No value is negative: durations and sizes are not.
///
/// At scale *s* the base is 2^(2^-*s*), and the range with index *i* holds what is above base^*i* and
/// not above base^(*i*+1).
#[derive(Clone, Debug, PartialEq)]
pub struct Exponential {
    scale: i32,
    zero_count: u64,
    /// What is not above it is counted as zero.
    zero_threshold: f64,
    positive: Buckets,
    sum: f64,
}

/// Why something is no histogram that can be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPoint {
    /// Negative values.
    #[error("it has negative values")]
    Negative,
    /// Beyond [`SCALE_FLOOR`] and [`SCALE_LIMIT`].
    #[error("its scale {0} is not one from -10 to 20")]
    Scale(i32),
    /// No double is in its ranges.
    #[error("its ranges are beyond all numbers")]
    Offset,
    /// More ranges than are read.
    #[error("it has {0} ranges")]
    TooManyBuckets(usize),
    /// Its parts are not its count, or more than can be counted.
    #[error("its ranges do not add up to its count")]
    Count,
    /// No sum, or one that is no number, or a threshold that is none.
    #[error("its sum or its threshold is no number from zero")]
    Sum,
}

impl Exponential {
    /// Without any value. Scales beyond the limits are the limits.
    pub fn new(scale: i32) -> Self {
        Self {
            scale: scale.clamp(SCALE_FLOOR, SCALE_LIMIT),
            zero_count: 0,
            zero_threshold: 0.0,
            positive: Buckets::default(),
            sum: 0.0,
        }
    }

    /// Of what was counted elsewhere: `counts` of ranges from index `offset` on.
    pub(crate) fn from_parts(
        scale: i32,
        (zero_threshold, zero_count): (f64, u64),
        (offset, counts): (i32, &[u64]),
        sum: f64,
    ) -> Self {
        let positive = Buckets::new(offset, counts);
        let mut made = Self { zero_count, zero_threshold, positive, sum, ..Self::new(scale) };
        made.limit();
        made
    }

    /// Adds a value. One that is below zero, or no number, is left out.
    pub fn record(&mut self, value: f64) {
        if !value.is_finite() || value < 0.0 {
            return;
        }
        self.sum += value;
        if value <= self.zero_threshold {
            self.zero_count = self.zero_count.saturating_add(1);
            return;
        }
        let mut index = index_of(value, self.scale);
        let needed = shifts_needed(self.positive.bounds_with(index));
        if needed > 0 {
            self.downscale(needed);
            index = index_of(value, self.scale);
        }
        self.positive.add(index, 1);
    }

    /// Adds all values of another. The result is at the coarser of both scales, or coarser still if it
    /// needs more than [`BUCKET_LIMIT`] ranges at that.
    pub fn merge(&mut self, other: &Self) {
        let mut other = other.clone();
        self.meet(&mut other);
        self.positive.add_all(&other.positive);
        self.limit();
        self.zero_count = self.zero_count.saturating_add(other.zero_count);
        self.zero_threshold = self.zero_threshold.max(other.zero_threshold);
        self.sum += other.sum;
    }

    /// What was added since `earlier`, if this is what `earlier` became: `None` if values are gone, as
    /// when the one that counts began anew.
    pub fn since(&self, earlier: &Self) -> Option<Self> {
        let (mut now, mut earlier) = (self.clone(), earlier.clone());
        now.meet(&mut earlier);
        now.positive = now.positive.without(&earlier.positive)?;
        now.zero_count = now.zero_count.checked_sub(earlier.zero_count)?;
        // Sums are rounded, so that a little may seem to be gone.
        now.sum = (now.sum - earlier.sum).max(0.0);
        Some(now)
    }

    /// Halves the scale's fineness so many times.
    pub fn downscale(&mut self, times: u32) {
        let times = times.min(self.scale.abs_diff(SCALE_FLOOR));
        self.positive.merge_neighbours(times);
        self.scale = self.scale.saturating_sub_unsigned(times);
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.positive.counts().iter().fold(self.zero_count, |sum, count| sum.saturating_add(*count))
    }

    /// The sum of all values.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// How fine the ranges are.
    pub fn scale(&self) -> i32 {
        self.scale
    }

    /// How many values were zero, or as good as zero.
    pub fn zero_count(&self) -> u64 {
        self.zero_count
    }

    /// The index of the first range, and how many values are in it and those that follow.
    pub fn positive(&self) -> (i32, &[u64]) {
        (self.positive.offset(), self.positive.counts())
    }

    /// The value that the share `quantile` (from 0 to 1) of all values is not above: `None` without
    /// values. It is off by at most [`relative_error`](Self::relative_error).
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 || quantile.is_nan() {
            return None;
        }
        // The nearest rank: the first value is number 1, also for 0.
        let rank = (quantile.clamp(0.0, 1.0) * to_float(count)).ceil().max(1.0);
        let mut seen = to_float(self.zero_count);
        if seen >= rank {
            return Some(0.0);
        }
        let mut last = None;
        for (index, count) in self.positive.iter().filter(|(_, count)| *count > 0) {
            seen += to_float(count);
            last = Some(index);
            if seen >= rank {
                break;
            }
        }
        last.map(|index| middle(index, self.scale)).or(Some(0.0))
    }

    /// By how much of itself a quantile may differ from the true value.
    pub fn relative_error(&self) -> f64 {
        power_of_two(0.5, self.scale) - 1.0
    }

    /// How many values are not above `bound`, to the nearest end of a range.
    pub fn not_above(&self, bound: f64) -> u64 {
        let inside =
            self.positive.iter().take_while(|(index, _)| middle(*index, self.scale) <= bound);
        let zeros = if bound >= 0.0 { self.zero_count } else { 0 };
        inside.fold(zeros, |sum, (_, count)| sum.saturating_add(count))
    }

    /// Brings both to the coarser of their scales.
    fn meet(&mut self, other: &mut Self) {
        let (own, others) = (self.scale, other.scale);
        self.downscale(own.saturating_sub(others).try_into().unwrap_or(0));
        other.downscale(others.saturating_sub(own).try_into().unwrap_or(0));
    }

    fn limit(&mut self) {
        let needed = shifts_needed(self.positive.bounds());
        self.downscale(needed);
    }
}

/// How often neighbours are merged until what is from the first to the last index is few enough.
fn shifts_needed(bounds: Option<(i32, i32)>) -> u32 {
    let Some((first, last)) = bounds else { return 0 };
    let fits = |shift: &u32| {
        let width = i64::from(last >> shift) - i64::from(first >> shift) + 1;
        usize::try_from(width).is_ok_and(|width| width <= BUCKET_LIMIT)
    };
    (0..i32::BITS).find(fits).unwrap_or(i32::BITS - 1)
}

/// The range that a value above zero is in.
fn index_of(value: f64, scale: i32) -> i32 {
    // A power of two is the end of its range, which no rounding of a logarithm may move.
    let bits = value.to_bits();
    let exponent = i64::try_from((bits >> MANTISSA_BITS) & 0x7ff).unwrap_or(0) - 1023;
    let is_power = value.is_normal() && bits & ((1 << MANTISSA_BITS) - 1) == 0;
    let last = if is_power {
        let exponent = to_index(exponent);
        if scale >= 0 { exponent << scale } else { -((-exponent) >> -scale) }
    } else {
        let exact = value.log2() * f64::from(scale).exp2();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "logarithms of doubles are from -1074 to 1024, times 2^20 at most"
        )]
        let last = exact.ceil() as i32;
        last
    };
    last - 1
}

fn to_index(exponent: i64) -> i32 {
    i32::try_from(exponent).unwrap_or(0)
}

/// The value in a range from which both its ends differ by the same factor.
fn middle(index: i32, scale: i32) -> f64 {
    power_of_two(f64::from(index) + 0.5, scale)
}

/// base^`index` at a scale.
fn power_of_two(index: f64, scale: i32) -> f64 {
    (index * f64::from(-scale).exp2()).exp2()
}

/// For shares of counts, where the last digits of more than 2^53 do not matter.
#[expect(clippy::cast_precision_loss, reason = "the last digits of more than 2^53 do not matter")]
fn to_float(count: u64) -> f64 {
    count as f64
}

/// Of a double.
const MANTISSA_BITS: u32 = 52;

#[cfg(test)]
mod tests;
