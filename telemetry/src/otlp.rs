//! Small parts of OTLP's messages, as everything that is exported needs them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Metric,
    NumberDataPoint, Sum, number_data_point,
};

/// An attribute that is a text.
pub fn text(key: &str, value: impl Into<String>) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

/// An attribute that is a number.
pub fn number(key: &str, value: i64) -> KeyValue {
    attribute(key, Value::IntValue(value))
}

/// An attribute that is true or false.
pub fn boolean(key: &str, value: bool) -> KeyValue {
    attribute(key, Value::BoolValue(value))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// A moment, as messages have it. What is before 1970 is 1970.
pub fn unix_nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// What is the same for a metric's points.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// Of the metric.
    pub name: &'a str,
    /// As UCUM writes it; empty if there is none.
    pub unit: &'a str,
    /// For people.
    pub description: &'a str,
}

impl About<'_> {
    /// What only grows, from a start on.
    pub fn counter(self, data_points: Vec<NumberDataPoint>) -> Metric {
        self.sum(data_points, true)
    }

    /// What is added to and taken from.
    pub fn up_down_counter(self, data_points: Vec<NumberDataPoint>) -> Metric {
        self.sum(data_points, false)
    }

    /// What is so now.
    pub fn gauge(self, data_points: Vec<NumberDataPoint>) -> Metric {
        self.metric(Data::Gauge(Gauge { data_points }))
    }

    /// How values are spread, from a start on.
    pub fn histogram(self, data_points: Vec<ExponentialHistogramDataPoint>) -> Metric {
        let aggregation_temporality = AggregationTemporality::Cumulative.into();
        let histogram = ExponentialHistogram { data_points, aggregation_temporality };
        self.metric(Data::ExponentialHistogram(histogram))
    }

    fn sum(self, data_points: Vec<NumberDataPoint>, is_monotonic: bool) -> Metric {
        let aggregation_temporality = AggregationTemporality::Cumulative.into();
        self.metric(Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic }))
    }

    fn metric(self, data: Data) -> Metric {
        Metric {
            name: self.name.to_owned(),
            unit: self.unit.to_owned(),
            description: self.description.to_owned(),
            data: Some(data),
            ..Metric::default()
        }
    }
}

/// From when on values count, and when they were read: nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// From when on they count.
    pub start: u64,
    /// When they were read.
    pub now: u64,
}

impl Span {
    /// One value. Whole numbers are told as such.
    pub fn point(self, attributes: Vec<KeyValue>, value: f64) -> NumberDataPoint {
        #[expect(clippy::cast_possible_truncation, reason = "it is a whole number, and below 2^53")]
        let value = match value.fract() == 0.0 && value.abs() < EXACT_LIMIT {
            true => number_data_point::Value::AsInt(value as i64),
            false => number_data_point::Value::AsDouble(value),
        };
        NumberDataPoint {
            attributes,
            start_time_unix_nano: self.start,
            time_unix_nano: self.now,
            value: Some(value),
            ..NumberDataPoint::default()
        }
    }
}

/// Below this a double holds every whole number.
const EXACT_LIMIT: f64 = 9_007_199_254_740_992.0;
