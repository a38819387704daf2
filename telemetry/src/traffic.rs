//! Which metrics tell of traffic, and whether they tell of more than they did. Pure.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{Metric, number_data_point};

/// The metrics of a proxy that the control plane remembers, all of which tell of traffic. docs/stat.md has the list.
pub const TRAFFIC: [&str; 6] = [
    "http.server.request.duration",
    "http.client.request.duration",
    "heddle.proxy.duration",
    "heddle.tcp.connections",
    "heddle.tcp.bytes",
    "heddle.tcp.open_connections",
];

/// What an export tells of traffic, so far as it takes to see that another one tells of more. When it was read does not count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic(HashMap<u64, u64>);

impl Traffic {
    /// Looks at an export.
    pub fn of(request: &ExportMetricsServiceRequest) -> Self {
        let mut found = Self::default();
        let resources = request.resource_metrics.iter();
        for metric in resources.flat_map(|one| &one.scope_metrics).flat_map(|scope| &scope.metrics)
        {
            if is_traffic(&metric.name) {
                found.look_at(metric);
            }
        }
        found
    }

    fn look_at(&mut self, metric: &Metric) {
        match &metric.data {
            Some(Data::ExponentialHistogram(histogram)) => {
                for point in &histogram.data_points {
                    self.note(&metric.name, &point.attributes, point.count);
                }
            }
            Some(Data::Sum(sum)) => {
                for point in &sum.data_points {
                    self.note(&metric.name, &point.attributes, bits(point.value));
                }
            }
            Some(Data::Gauge(gauge)) => {
                for point in &gauge.data_points {
                    self.note(&metric.name, &point.attributes, bits(point.value));
                }
            }
            // No proxy has any.
            Some(Data::Histogram(_) | Data::Summary(_)) | None => {}
        }
    }

    fn note(&mut self, metric: &str, attributes: &[KeyValue], value: u64) {
        let mut hasher = DefaultHasher::new();
        metric.hash(&mut hasher);
        // Whoever gathers them has them in the same order each time; if not, it tells once more than it has to.
        for attribute in attributes {
            attribute.key.hash(&mut hasher);
            format!("{:?}", attribute.value).hash(&mut hasher);
        }
        self.0.insert(hasher.finish(), value);
    }
}

/// Of requests everything, also what is for collectors alone, such as how long bodies are.
fn is_traffic(metric: &str) -> bool {
    metric.starts_with("http.") || TRAFFIC.contains(&metric)
}

fn bits(value: Option<number_data_point::Value>) -> u64 {
    match value {
        Some(number_data_point::Value::AsInt(number)) => number.cast_unsigned(),
        Some(number_data_point::Value::AsDouble(number)) => number.to_bits(),
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::metrics::v1::{
        ExponentialHistogramDataPoint, ResourceMetrics, ScopeMetrics,
    };

    use super::*;
    use crate::otlp::{About, Span, text};

    fn request(now: u64, count: u64, (open, memory): (f64, f64), backend: &str) -> Traffic {
        let span = Span { start: 1, now };
        let about = |name| About { name, unit: "", description: "" };
        let attributes = vec![text("heddle.backend", backend)];
        let point = ExponentialHistogramDataPoint {
            attributes: attributes.clone(),
            count,
            time_unix_nano: now,
            ..ExponentialHistogramDataPoint::default()
        };
        let metrics = vec![
            about("http.server.request.duration").histogram(vec![point]),
            about("heddle.tcp.open_connections").gauge(vec![span.point(attributes, open)]),
            about("heddle.memory.used").gauge(vec![span.point(Vec::new(), memory)]),
        ];
        let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
        let resource = ResourceMetrics { scope_metrics, ..ResourceMetrics::default() };
        Traffic::of(&ExportMetricsServiceRequest { resource_metrics: vec![resource] })
    }

    #[test]
    fn only_traffic_counts() {
        let before = request(2, 5, (1.0, 10.0), "a");
        for (case, now, is_same) in [
            ("later", request(9, 5, (1.0, 10.0), "a"), true),
            ("more memory", request(9, 5, (1.0, 99.0), "a"), true),
            ("another request", request(9, 6, (1.0, 10.0), "a"), false),
            ("another connection", request(9, 5, (2.0, 10.0), "a"), false),
            ("another backend", request(9, 5, (1.0, 10.0), "b"), false),
            ("nothing", Traffic::default(), false),
        ] {
            assert_eq!(now == before, is_same, "case: {case}");
        }
    }
}
