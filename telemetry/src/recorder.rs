//! Where a request's path leaves what it measured: a histogram of atomic counts, at one fixed scale, so
//! that a record is two additions and nothing waits for another. What is read of it is an
//! [`Exponential`].

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::exponential::Exponential;

/// Counts durations or sizes. The memory of an octave, 256 bytes, is taken when something first falls
/// into it: of a series that is asked for little time most are never taken.
pub struct Recorder {
    quantity: Quantity,
    octaves: Box<[OnceLock<Box<Octave>>]>,
    zero_count: AtomicU64,
    /// In the smallest unit: it goes round after 584 years of requests.
    sum: AtomicU64,
}

/// What is measured, and in what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// Seconds, recorded in nanoseconds; from a microsecond to more than an hour.
    Duration,
    /// Bytes, to a terabyte.
    Size,
}

impl Quantity {
    /// What one of what is recorded is in the unit that is shown.
    fn unit(self) -> f64 {
        match self {
            Self::Duration => 1e-9,
            Self::Size => 1.0,
        }
    }

    /// What is not above two to this is counted as zero.
    fn smallest_exponent(self) -> i32 {
        match self {
            Self::Duration => -20,
            // One byte is the end of the range below it.
            Self::Size => -1,
        }
    }

    fn octaves(self) -> usize {
        match self {
            Self::Duration => 32,
            Self::Size => 41,
        }
    }

    /// The name of the unit, as OpenTelemetry has it.
    pub fn unit_name(self) -> &'static str {
        match self {
            Self::Duration => "s",
            Self::Size => "By",
        }
    }
}

type Octave = [AtomicU64; STEPS];

impl Recorder {
    /// Without any value.
    pub fn new(quantity: Quantity) -> Self {
        Self {
            quantity,
            octaves: (0..quantity.octaves()).map(|_octave| OnceLock::new()).collect(),
            zero_count: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        }
    }

    /// Adds a duration.
    pub fn record_duration(&self, duration: Duration) {
        self.record(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Adds an amount: nanoseconds of a duration, bytes of a size. What is above the largest range is
    /// counted in it.
    pub fn record(&self, amount: u64) {
        self.sum.fetch_add(amount, Ordering::Relaxed);
        let Some((octave, step)) = self.place(amount) else {
            self.zero_count.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let last = self.octaves.len() - 1;
        let (octave, step) = if octave > last { (last, STEPS - 1) } else { (octave, step) };
        if let Some(octave) = self.octaves.get(octave) {
            let counts = octave.get_or_init(Box::default);
            if let Some(count) = counts.get(step) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// What is counted by now. Its sum may be ahead of its counts, or behind, by what is under way.
    pub fn read(&self) -> Exponential {
        let mut counts = Vec::new();
        for octave in &self.octaves {
            match octave.get() {
                Some(steps) => {
                    counts.extend(steps.iter().map(|count| count.load(Ordering::Relaxed)))
                }
                None => counts.resize(counts.len() + STEPS, 0),
            }
        }
        let smallest = self.quantity.smallest_exponent();
        let zeros = (f64::from(smallest).exp2(), self.zero_count.load(Ordering::Relaxed));
        Exponential::from_parts(SCALE, zeros, (smallest << SCALE, &counts), self.sum())
    }

    /// How many values are not above each of `bounds`, which rise: to the nearest end of a range, and
    /// so off by 1.1 % of the bound at most. With all that are above the last, these are all values.
    pub fn not_above<const BOUNDS: usize>(&self, bounds: &[f64; BOUNDS]) -> ([u64; BOUNDS], u64) {
        let mut counts = [0; BOUNDS];
        let mut seen = self.zero_count.load(Ordering::Relaxed);
        let mut waiting = counts.iter_mut().zip(bounds).peekable();
        for (octave, exponent) in self.octaves.iter().zip(self.quantity.smallest_exponent()..) {
            let steps = octave.get();
            for (step, start) in STARTS.iter().enumerate() {
                let middle = start * HALF_STEP * f64::from(exponent).exp2();
                while let Some((count, _)) = waiting.next_if(|(_, bound)| middle > **bound) {
                    *count = seen;
                }
                let here = steps.and_then(|steps| steps.get(step));
                seen += here.map_or(0, |count| count.load(Ordering::Relaxed));
            }
        }
        for (count, _) in waiting {
            *count = seen;
        }
        (counts, seen)
    }

    /// The sum of all values, in the unit that is shown.
    #[expect(clippy::cast_precision_loss, reason = "a sum is shown as a double")]
    pub fn sum(&self) -> f64 {
        self.sum.load(Ordering::Relaxed) as f64 * self.quantity.unit()
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        let octaves = self.octaves.iter().filter_map(OnceLock::get);
        let counts = octaves.flat_map(|octave| octave.iter());
        let zeros = self.zero_count.load(Ordering::Relaxed);
        counts.fold(zeros, |sum, count| sum + count.load(Ordering::Relaxed))
    }

    /// What is measured.
    pub fn quantity(&self) -> Quantity {
        self.quantity
    }

    /// The octave from the smallest, and the step in it; `None` for what counts as zero.
    #[expect(clippy::cast_precision_loss, reason = "the ranges are wider than what is lost")]
    fn place(&self, amount: u64) -> Option<(usize, usize)> {
        let value = amount as f64 * self.quantity.unit();
        let bits = value.to_bits();
        // No value is below zero, so that there is no sign; zero has the smallest exponent of all.
        let exponent = i32::try_from(bits >> MANTISSA_BITS).unwrap_or(0) - EXPONENT_BIAS;
        let octave = exponent - self.quantity.smallest_exponent();
        let mantissa = bits & MANTISSA_MASK;
        if mantissa == 0 {
            // A power of two is the end of the octave below.
            return usize::try_from(octave - 1).ok().map(|octave| (octave, STEPS - 1));
        }
        let octave = usize::try_from(octave).ok()?;
        let mantissa = f64::from_bits(mantissa | ONE);
        let cell = usize::try_from((bits & MANTISSA_MASK) >> (MANTISSA_BITS - CELL_BITS)).ok()?;
        let guess = usize::from(*CELL_STEPS.get(cell)?);
        // A cell is narrower than a step, so that at most one step begins in it.
        let is_in_next = STARTS.get(guess + 1).is_some_and(|next| mantissa > *next);
        Some((octave, guess + usize::from(is_in_next)))
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").field("quantity", &self.quantity).finish_non_exhaustive()
    }
}

/// 32 steps to a factor of two: quantiles are off by 1.1 % at most, and what a service answers in
/// mostly, from 1 to 30 times the fastest, is within the ranges that a message may have.
const SCALE: i32 = 5;
const STEPS: usize = 1 << SCALE;
/// From the start of a step to its middle.
const HALF_STEP: f64 = 1.010_889_286_051_700_5;
const MANTISSA_BITS: u32 = 52;
const MANTISSA_MASK: u64 = (1 << MANTISSA_BITS) - 1;
const EXPONENT_BIAS: i32 = 1023;
const ONE: u64 = 1023 << MANTISSA_BITS;
const CELL_BITS: u32 = 6;

/// 2^(i/32): where the steps of the octave from 1 to 2 begin.
const STARTS: [f64; STEPS] = [
    1.0,
    1.021_897_148_654_116_6,
    1.044_273_782_427_413_8,
    1.067_140_400_676_823_7,
    1.090_507_732_665_257_7,
    1.114_386_742_595_892_4,
    1.138_788_634_756_691_6,
    1.163_724_858_777_577_5,
    1.189_207_115_002_721,
    1.215_247_359_980_469,
    1.241_857_812_073_484,
    1.269_050_957_191_733_2,
    1.296_839_554_651_009_6,
    1.325_236_643_159_741_3,
    1.354_255_546_936_892_7,
    1.383_909_881_963_832,
    std::f64::consts::SQRT_2,
    1.445_180_806_977_046_7,
    1.476_826_145_939_499_3,
    1.509_164_427_593_422_8,
    1.542_210_825_407_940_7,
    1.575_980_845_107_886_5,
    1.610_490_331_949_254_3,
    1.645_755_478_153_965,
    1.681_792_830_507_429,
    1.718_619_298_122_478,
    1.756_252_160_373_299_5,
    1.794_709_075_003_107_2,
    1.834_008_086_409_342_4,
    1.874_167_634_110_3,
    1.915_206_561_397_147_4,
    1.957_144_124_175_400_2,
];

/// The step in which each 64th part of the octave begins.
const CELL_STEPS: [u8; 1 << CELL_BITS] = cell_steps();

#[expect(clippy::indexing_slicing, reason = "a constant: whatever is wrong does not compile")]
#[expect(clippy::cast_possible_truncation, reason = "there are 32 steps")]
#[expect(clippy::cast_precision_loss, reason = "there are 64 cells")]
const fn cell_steps() -> [u8; 1 << CELL_BITS] {
    let mut found = [0; 1 << CELL_BITS];
    let (mut cell, mut step) = (0, 0);
    while cell < found.len() {
        let start = 1.0 + cell as f64 / found.len() as f64;
        while step + 1 < STEPS && STARTS[step + 1] <= start {
            step += 1;
        }
        found[cell] = step as u8;
        cell += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: [f64; 4] = [0.001, 0.01, 1.0, 10.0];

    fn recorded(quantity: Quantity, amounts: &[u64]) -> Recorder {
        let recorder = Recorder::new(quantity);
        for amount in amounts {
            recorder.record(*amount);
        }
        recorder
    }

    #[test]
    fn the_table_is_what_it_says() {
        for (step, start) in STARTS.iter().enumerate() {
            let exact = (step as f64 / STEPS as f64).exp2();
            assert!((start - exact).abs() < 1e-15, "step {step}");
        }
        assert!((HALF_STEP - (0.5 / STEPS as f64).exp2()).abs() < 1e-15);
    }

    #[test]
    fn extremes_are_counted() {
        for quantity in [Quantity::Duration, Quantity::Size] {
            let recorder = recorded(quantity, &[0, 1, u64::MAX / 4, u64::MAX / 4]);
            assert_eq!((recorder.count(), recorder.read().count()), (4, 4), "case: {quantity:?}");
            assert_eq!(recorder.not_above(&BOUNDS).1, 4, "case: {quantity:?}");
        }
        let sizes = recorded(Quantity::Size, &[0, 0, 1]).read();
        assert_eq!((sizes.zero_count(), sizes.quantile(1.0).map(f64::round)), (2, Some(1.0)));
    }

    #[test]
    fn many_threads_lose_nothing() {
        let recorder = Recorder::new(Quantity::Duration);
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let recorder = &recorder;
                scope.spawn(move || {
                    for request in 0..1000 {
                        recorder.record((thread + 1) * request * 1000);
                    }
                });
            }
        });
        assert_eq!(recorder.count(), 4000);
        assert!((recorder.sum() - 10.0 * 499_500.0 * 1e-6).abs() < 1e-9);
    }

    #[test]
    fn what_falls_on_a_bound_is_below_it() {
        let second = 1_000_000_000;
        let recorder =
            recorded(Quantity::Duration, &[500, second / 2, second, second * 2, second * 99]);
        assert_eq!(recorder.not_above(&BOUNDS), ([1, 1, 3, 4], 5));
    }

    proptest! {
        #[test]
        fn it_counts_as_the_plain_histogram_does(
            amounts in prop::collection::vec(2_000u64..1_000_000_000_000, 1..200),
        ) {
            let recorder = recorded(Quantity::Duration, &amounts);
            let mut plain = Exponential::new(SCALE);
            for amount in &amounts {
                plain.record(*amount as f64 * 1e-9);
            }
            let read = recorder.read();
            prop_assert_eq!(read.scale(), plain.scale());
            prop_assert_eq!(read.positive(), plain.positive());
            prop_assert!((read.sum() / plain.sum() - 1.0).abs() < 1e-9);
        }

        #[test]
        fn counts_below_bounds_rise_and_are_near_the_truth(
            amounts in prop::collection::vec(0u64..20_000_000_000, 1..200),
        ) {
            let (counts, all) = recorded(Quantity::Duration, &amounts).not_above(&BOUNDS);
            prop_assert!(counts.is_sorted());
            prop_assert_eq!(all, amounts.len() as u64);
            for (count, bound) in counts.into_iter().zip(BOUNDS) {
                let truly = |bound: f64| {
                    amounts.iter().filter(|amount| **amount as f64 * 1e-9 <= bound).count() as u64
                };
                prop_assert!(truly(bound / 1.011) <= count && count <= truly(bound * 1.011));
            }
        }
    }
}
