//! What an export of OTLP metrics tells, as far as the memory keeps it. Pure. Metrics that it does not keep are passed
//! over; points of those that it does are read as a whole, or refused with a reason.

use std::collections::BTreeMap;
use std::sync::Arc;

use heddle_telemetry::exponential::InvalidPoint;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AttributeValue;
use opentelemetry_proto::tonic::metrics::v1 as otlp;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point;
use sha2::{Digest, Sha256};

use crate::telemetry::labels::{Direction, Labels, Transport};
use crate::telemetry::latency::Latency;
use crate::telemetry::outcome::{self, Outcome};

/// What one point counted since it began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// The same in every export of a proxy.
    pub fingerprint: Fingerprint,
    /// Where it is kept.
    pub labels: Labels,
    /// Since when it counts; nanoseconds since 1970, by the proxy's clock.
    pub start_nanos: u64,
    /// When it was looked at, likewise.
    pub time_nanos: u64,
    /// What it counted.
    pub value: Value,
}

/// Of a metric's name and all attributes of a point.
pub type Fingerprint = [u8; 16];

/// A number, and of what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Requests, and how long they took.
    Requests(Outcome, Latency),
    /// What a proxy itself took of a share of its requests.
    OwnTime(Latency),
    /// Connections carried as bytes, when set up.
    Connections(u64),
    /// Bytes carried from clients.
    ToServer(u64),
    /// Bytes carried to clients.
    ToClient(u64),
    /// Connections that are open: the only number that is not counted up.
    OpenConnections(u64),
}

/// Why a point is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Refusal {
    /// It counts since the last export.
    #[error("delta temporality (want cumulative)")]
    Delta,
    /// Such as a summary.
    #[error("a kind of data that this metric does not have")]
    Kind,
    /// No whole number, or a negative one.
    #[error("a value that is no count")]
    Count,
    /// It ends before it begins.
    #[error("no times, or in the wrong order")]
    Times,
    /// Of a label.
    #[error("a label that is too long, not printable or unknown")]
    Label,
    /// Its buckets.
    #[error("a histogram of no use")]
    Histogram,
    /// See `proxy.rs`.
    #[error("more points than are kept of one proxy")]
    TooManyPoints,
    /// See `proxy.rs`.
    #[error("more series than are kept of one proxy")]
    TooManySeries,
    /// See `memory.rs`.
    #[error("more proxies than are remembered")]
    TooManyProxies,
    /// See `memory.rs`.
    #[error("no memory left for new series")]
    MemoryFull,
}

impl From<InvalidPoint> for Refusal {
    fn from(_: InvalidPoint) -> Self {
        Self::Histogram
    }
}

/// What was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// What can be kept.
    pub points: Vec<Point>,
    /// How many cannot, and why.
    pub refused: BTreeMap<Refusal, u64>,
}

impl Reading {
    fn push(&mut self, point: Result<Option<Point>, Refusal>) {
        match point {
            Ok(point) => self.points.extend(point),
            Err(refusal) => *self.refused.entry(refusal).or_default() += 1,
        }
    }

    fn refuse(&mut self, refusal: Refusal, points: usize) {
        *self.refused.entry(refusal).or_default() += u64::try_from(points).unwrap_or(u64::MAX);
    }
}

/// Reads an export. What it claims of its resource does not count: its certificate tells who it is.
pub fn read(request: &ExportMetricsServiceRequest) -> Reading {
    let mut reading = Reading::default();
    let resources = request.resource_metrics.iter();
    for metric in resources.flat_map(|one| &one.scope_metrics).flat_map(|scope| &scope.metrics) {
        let known = METRICS.iter().find(|(name, _)| *name == metric.name);
        if let Some(((name, measure), data)) = known.zip(metric.data.as_ref()) {
            read_metric(name, *measure, data, &mut reading);
        }
    }
    reading
}

#[derive(Clone, Copy)]
enum Measure {
    Requests(Direction),
    OwnTime,
    Connections,
    Bytes,
    OpenConnections,
}

fn read_metric(name: &str, measure: Measure, data: &Data, reading: &mut Reading) {
    let cumulative = otlp::AggregationTemporality::Cumulative as i32;
    match (measure, data) {
        (Measure::Requests(_) | Measure::OwnTime, Data::ExponentialHistogram(histogram)) => {
            if histogram.aggregation_temporality != cumulative {
                return reading.refuse(Refusal::Delta, histogram.data_points.len());
            }
            for point in &histogram.data_points {
                reading.push(read_histogram(name, measure, point));
            }
        }
        (Measure::Connections | Measure::Bytes, Data::Sum(sum)) => {
            if sum.aggregation_temporality != cumulative {
                return reading.refuse(Refusal::Delta, sum.data_points.len());
            }
            if !sum.is_monotonic {
                return reading.refuse(Refusal::Kind, sum.data_points.len());
            }
            for point in &sum.data_points {
                reading.push(read_number(name, measure, point));
            }
        }
        (
            Measure::OpenConnections,
            Data::Sum(otlp::Sum { data_points, .. }) | Data::Gauge(otlp::Gauge { data_points }),
        ) => {
            for point in data_points {
                reading.push(read_number(name, measure, point));
            }
        }
        (_, Data::Gauge(gauge)) => reading.refuse(Refusal::Kind, gauge.data_points.len()),
        (_, Data::Sum(sum)) => reading.refuse(Refusal::Kind, sum.data_points.len()),
        (_, Data::Histogram(histogram)) => {
            reading.refuse(Refusal::Kind, histogram.data_points.len());
        }
        (_, Data::ExponentialHistogram(histogram)) => {
            reading.refuse(Refusal::Kind, histogram.data_points.len());
        }
        (_, Data::Summary(summary)) => reading.refuse(Refusal::Kind, summary.data_points.len()),
    }
}

fn read_histogram(
    name: &str,
    measure: Measure,
    point: &otlp::ExponentialHistogramDataPoint,
) -> Result<Option<Point>, Refusal> {
    let otlp::ExponentialHistogramDataPoint { start_time_unix_nano, time_unix_nano, flags, .. } =
        *point;
    if is_without_value(flags) {
        return Ok(None);
    }
    let attributes = Attributes(&point.attributes);
    let (start_nanos, time_nanos) = times(start_time_unix_nano, time_unix_nano)?;
    let latency = Latency::from_point(point)?;
    let (direction, value) = match measure {
        Measure::OwnTime => (attributes.direction()?, Value::OwnTime(latency)),
        Measure::Requests(direction) => {
            let answer = outcome::Answer {
                status: attributes.number(STATUS),
                grpc: attributes.text(GRPC_STATUS),
                error: attributes.text(ERROR),
            };
            (direction, Value::Requests(outcome::decide(&answer), latency))
        }
        Measure::Connections | Measure::Bytes | Measure::OpenConnections => {
            return Err(Refusal::Kind);
        }
    };
    Ok(Some(Point {
        fingerprint: attributes.fingerprint(name),
        labels: attributes.labels(direction)?,
        start_nanos,
        time_nanos,
        value,
    }))
}

fn read_number(
    name: &str,
    measure: Measure,
    point: &otlp::NumberDataPoint,
) -> Result<Option<Point>, Refusal> {
    if is_without_value(point.flags) {
        return Ok(None);
    }
    let attributes = Attributes(&point.attributes);
    let number = match point.value {
        Some(number_data_point::Value::AsInt(number)) => u64::try_from(number).ok(),
        Some(number_data_point::Value::AsDouble(number)) => whole(number),
        None => None,
    };
    let number = number.ok_or(Refusal::Count)?;
    let value = match measure {
        Measure::Connections => Value::Connections(number),
        Measure::OpenConnections => Value::OpenConnections(number),
        Measure::Bytes => match attributes.text(FLOW).as_deref() {
            Some("to_server") => Value::ToServer(number),
            Some("to_client") => Value::ToClient(number),
            Some(_) | None => return Err(Refusal::Label),
        },
        Measure::Requests(_) | Measure::OwnTime => return Err(Refusal::Kind),
    };
    let direction = attributes.direction()?;
    let start_nanos = match value {
        Value::OpenConnections(_) => point.time_unix_nano,
        Value::Requests(..)
        | Value::OwnTime(_)
        | Value::Connections(_)
        | Value::ToServer(_)
        | Value::ToClient(_) => point.start_time_unix_nano,
    };
    let (start_nanos, time_nanos) = times(start_nanos, point.time_unix_nano)?;
    Ok(Some(Point {
        fingerprint: attributes.fingerprint(name),
        labels: attributes.labels(direction)?,
        start_nanos,
        time_nanos,
        value,
    }))
}

/// A count that was sent as a double; `None`: it is none.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "whole, and within what doubles tell apart"
)]
fn whole(number: f64) -> Option<u64> {
    let is_count = (0.0..=WHOLE_LIMIT).contains(&number) && number.fract() == 0.0;
    is_count.then_some(number as u64)
}

fn is_without_value(flags: u32) -> bool {
    flags & otlp::DataPointFlags::NoRecordedValueMask as u32 != 0
}

fn times(start: u64, time: u64) -> Result<(u64, u64), Refusal> {
    if start == 0 || start > time { Err(Refusal::Times) } else { Ok((start, time)) }
}

struct Attributes<'a>(&'a [KeyValue]);

impl Attributes<'_> {
    fn find(&self, key: &str) -> Option<&AttributeValue> {
        let found = self.0.iter().find(|attribute| attribute.key == key)?;
        found.value.as_ref()?.value.as_ref()
    }

    /// A text, or a number as one.
    fn text(&self, key: &str) -> Option<String> {
        match self.find(key)? {
            AttributeValue::StringValue(text) => Some(text.clone()),
            AttributeValue::IntValue(number) => Some(number.to_string()),
            AttributeValue::BoolValue(_)
            | AttributeValue::DoubleValue(_)
            | AttributeValue::ArrayValue(_)
            | AttributeValue::KvlistValue(_)
            | AttributeValue::BytesValue(_)
            | AttributeValue::StringValueStrindex(_) => None,
        }
    }

    fn number(&self, key: &str) -> Option<i64> {
        self.text(key)?.parse().ok()
    }

    fn direction(&self) -> Result<Direction, Refusal> {
        match self.text(DIRECTION).as_deref() {
            Some("inbound") => Ok(Direction::Inbound),
            Some("outbound") => Ok(Direction::Outbound),
            Some(_) | None => Err(Refusal::Label),
        }
    }

    fn labels(&self, direction: Direction) -> Result<Labels, Refusal> {
        let label = |key: &str| -> Result<Arc<str>, Refusal> {
            let text = self.text(key).unwrap_or_default();
            let good =
                text.len() <= LABEL_LIMIT_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic());
            if good { Ok(text.into()) } else { Err(Refusal::Label) }
        };
        let transport = match self.text(TLS).as_deref() {
            Some("mtls") => Transport::Mtls,
            // Who does not say that it is secured does not count as secured.
            Some("plaintext") | None => Transport::Plaintext,
            Some(_) => return Err(Refusal::Label),
        };
        Ok(Labels {
            direction,
            service: label(SERVICE)?,
            backend: label(BACKEND)?,
            route: label(ROUTE)?,
            peer: label(PEER)?,
            transport,
        })
    }

    /// Their order does not count, and neither does how they are told apart on the wire.
    fn fingerprint(&self, metric: &str) -> Fingerprint {
        let mut all: Vec<(&str, String)> = self
            .0
            .iter()
            .map(|attribute| {
                let value = attribute.value.as_ref().and_then(|value| value.value.as_ref());
                (attribute.key.as_str(), format!("{value:?}"))
            })
            .collect();
        all.sort();
        let mut hash = Sha256::new();
        let mut put = |text: &str| {
            hash.update(text.len().to_le_bytes());
            hash.update(text);
        };
        put(metric);
        for (key, value) in &all {
            put(key);
            put(value);
        }
        let mut fingerprint = Fingerprint::default();
        for (byte, hashed) in fingerprint.iter_mut().zip(hash.finalize()) {
            *byte = hashed;
        }
        fingerprint
    }
}

/// What is kept: all that `heddle_telemetry::traffic` names, since proxies tell at once of that alone.
const METRICS: [(&str, Measure); 6] = [
    ("http.server.request.duration", Measure::Requests(Direction::Inbound)),
    ("http.client.request.duration", Measure::Requests(Direction::Outbound)),
    ("heddle.proxy.duration", Measure::OwnTime),
    ("heddle.tcp.connections", Measure::Connections),
    ("heddle.tcp.bytes", Measure::Bytes),
    ("heddle.tcp.open_connections", Measure::OpenConnections),
];
const STATUS: &str = "http.response.status_code";
const GRPC_STATUS: &str = "rpc.response.status_code";
const ERROR: &str = "error.type";
const SERVICE: &str = "heddle.service";
const BACKEND: &str = "heddle.backend";
const ROUTE: &str = "heddle.route";
const PEER: &str = "heddle.peer.identity";
const TLS: &str = "heddle.tls";
const DIRECTION: &str = "heddle.direction";
const FLOW: &str = "heddle.flow";
/// 2^53: doubles do not tell larger whole numbers apart.
const WHOLE_LIMIT: f64 = 9_007_199_254_740_992.0;
/// Two names of Kubernetes, or a SPIFFE ID of names as long as they may be.
const LABEL_LIMIT_BYTES: usize = 600;

#[cfg(test)]
mod tests;
