//! What the proxy itself takes of a request: the time from its head to that of the response, without the time between
//! sending it on and being answered. Measured of a share of all requests, as a witness of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use heddle_telemetry::recorder::{Quantity, Recorder};
use http::Request;
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::{MetricType, TypedMetric};

use crate::http::body::Body;
use crate::http::call_record::CallRecord;
use crate::http::witness::{Asking, Interest, Witness};
use crate::metrics::Direction;
use crate::metrics::timing::Classic;

/// `heddle_proxy_duration_seconds`, by direction. Clones share it.
#[derive(Clone, Debug)]
pub struct OwnTime {
    family: Family<OwnTimeLabels, OwnTimes>,
    inbound: OwnTimes,
    outbound: OwnTimes,
    /// Requests asked about so far.
    asked: Arc<AtomicU64>,
}

/// Seen from the workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OwnTimeLabels {
    direction: Direction,
}

/// Those of one direction.
#[derive(Clone, Debug)]
pub struct OwnTimes(Arc<Recorder>);

impl Default for OwnTime {
    fn default() -> Self {
        let family = Family::default();
        let of = |direction| family.get_or_create_owned(&OwnTimeLabels { direction });
        let (inbound, outbound) = (of(Direction::Inbound), of(Direction::Outbound));
        Self { family, inbound, outbound, asked: Arc::default() }
    }
}

impl OwnTime {
    /// What to register.
    pub fn family(&self) -> Family<OwnTimeLabels, OwnTimes> {
        self.family.clone()
    }

    /// What was recorded.
    pub fn recorder(&self, direction: Direction) -> &Recorder {
        match direction {
            Direction::Inbound => &self.inbound.0,
            Direction::Outbound => &self.outbound.0,
        }
    }
}

impl Witness for OwnTime {
    fn wants(&self, _request: &mut Request<Body>, _asked: &Asking<'_>) -> Interest {
        match self.asked.fetch_add(1, Ordering::Relaxed) % ONE_OF {
            0 => Interest::Call,
            _ => Interest::Nothing,
        }
    }

    fn may_want(&self) -> bool {
        self.asked.load(Ordering::Relaxed).is_multiple_of(ONE_OF)
    }

    fn passed_over(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
    }

    fn tell(&self, record: &CallRecord<'_>) {
        if let Some(own) = own_time(record.attempts, record.took_to_head, record.answered_in) {
            self.recorder(record.head.direction).record_duration(own);
        }
    }
}

/// `None`: nobody answered, or it was sent more than once, of which only the last answer is known: it is not known whose
/// the time was.
fn own_time(
    attempts: u32,
    took_to_head: Duration,
    answered_in: Option<Duration>,
) -> Option<Duration> {
    let answered_in = answered_in.filter(|_| attempts == 1)?;
    Some(took_to_head.saturating_sub(answered_in))
}

impl Default for OwnTimes {
    fn default() -> Self {
        Self(Arc::new(Recorder::new(Quantity::Duration)))
    }
}

impl TypedMetric for OwnTimes {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for OwnTimes {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let classic = Classic::of(&self.0, &BOUNDS_SECONDS);
        encoder.encode_histogram::<NoLabelSet>(classic.sum, classic.count, &classic.buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// How many requests there are for each that is measured: enough for percentiles within a minute of little traffic, and
/// few enough to cost nothing. A prime, so that traffic that goes round is not met at the same place each time.
const ONE_OF: u64 = 17;
/// From what a proxy takes that has nothing to wait for, to a second, which it takes when it waits.
const BOUNDS_SECONDS: [f64; 12] =
    [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_application_took_is_not_the_proxys() {
        let millis = Duration::from_millis;
        for (case, attempts, took, answered_in, expected) in [
            ("usual", 1, millis(12), Some(millis(10)), Some(millis(2))),
            ("clocks are read in turn", 1, millis(10), Some(millis(11)), Some(millis(0))),
            ("nobody answered", 1, millis(10), None, None),
            ("the first answer was no good", 2, millis(2000), Some(millis(5)), None),
        ] {
            assert_eq!(own_time(attempts, took, answered_in), expected, "case: {case}");
        }
    }

    #[test]
    fn one_request_of_seventeen_is_measured() {
        let own_time = OwnTime::default();
        let asked = Asking { direction: Direction::Inbound, service: "", caller: "" };
        let wanted = (0..170).filter(|_| {
            own_time.wants(&mut Request::new(Body::empty()), &asked) != Interest::Nothing
        });
        assert_eq!(wanted.count(), 10);
    }
}
