//! Durations that are shown as a classic histogram, and exported as an exponential one: both are drawn
//! from one recorder. Those of requests have more attributes than `/metrics` shows: calls.rs.

use std::sync::Arc;

use heddle_telemetry::recorder::{Quantity, Recorder};
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};
use tokio::time::Instant;

/// Where durations are recorded. Clones share it.
#[derive(Clone, Debug)]
pub struct Timing(Arc<Recorder>);

impl Timing {
    /// What was recorded.
    pub fn recorder(&self) -> &Recorder {
        &self.0
    }

    /// Records how long it takes until what is returned is dropped.
    pub fn begin(&self) -> Timed {
        Timed { timing: self.clone(), begun: Instant::now() }
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self(Arc::new(Recorder::new(Quantity::Duration)))
    }
}

/// Something that takes time, until it is dropped.
#[derive(Debug)]
pub struct Timed {
    timing: Timing,
    begun: Instant,
}

impl Drop for Timed {
    fn drop(&mut self) {
        self.timing.0.record_duration(self.begun.elapsed());
    }
}

impl TypedMetric for Timing {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Timing {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let classic = Classic::of(&self.0, &WAIT_BOUNDS_SECONDS);
        encoder.encode_histogram::<NoLabelSet>(classic.sum, classic.count, &classic.buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// A classic histogram, as Prometheus' client library takes it: each range's own count.
#[derive(Clone, Debug, PartialEq)]
pub struct Classic {
    /// Of all values.
    pub sum: f64,
    /// Of all values.
    pub count: u64,
    /// Upper bounds, the last of which is infinite.
    pub buckets: Vec<(f64, u64)>,
}

impl Classic {
    /// Draws one with these bounds.
    pub fn of<const BOUNDS: usize>(recorder: &Recorder, bounds: &[f64; BOUNDS]) -> Self {
        let (below, count) = recorder.not_above(bounds);
        let below = bounds.iter().copied().zip(below).chain([(f64::INFINITY, count)]);
        let buckets = below.scan(0, |seen, (bound, below)| {
            let own = below - *seen;
            *seen = below;
            Some((bound, own))
        });
        Self { sum: recorder.sum(), count, buckets: buckets.collect() }
    }

    /// Adds another with the same bounds.
    pub fn add(&mut self, other: &Self) {
        self.sum += other.sum;
        self.count += other.count;
        for ((_, count), (_, more)) in self.buckets.iter_mut().zip(&other.buckets) {
            *count += more;
        }
    }
}

/// From a millisecond, to the hours for which connections are open.
const WAIT_BOUNDS_SECONDS: [f64; 12] =
    [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0];
