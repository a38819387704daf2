//! One export as several messages, none of which is too long for a receiver. Pure.

use std::collections::VecDeque;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogram, Gauge, Histogram, Metric, ResourceMetrics, ScopeMetrics, Sum, Summary,
};
use prost::Message;

/// The same metrics in messages of about `limit_bytes` at most: only a point that is longer by itself is a
/// longer message, and each tells of its resource again.
pub fn split(
    request: ExportMetricsServiceRequest,
    limit_bytes: usize,
) -> Vec<ExportMetricsServiceRequest> {
    let mut parts = Vec::new();
    for resource in request.resource_metrics {
        let ResourceMetrics { resource, scope_metrics, schema_url } = resource;
        for scope in scope_metrics {
            let ScopeMetrics { scope, metrics, schema_url: scope_schema_url } = scope;
            for metrics in grouped(metrics, limit_bytes) {
                let scope_metrics = vec![ScopeMetrics {
                    scope: scope.clone(),
                    metrics,
                    schema_url: scope_schema_url.clone(),
                }];
                let resource = resource.clone();
                let schema_url = schema_url.clone();
                let resource_metrics =
                    vec![ResourceMetrics { resource, scope_metrics, schema_url }];
                parts.push(ExportMetricsServiceRequest { resource_metrics });
            }
        }
    }
    parts
}

fn grouped(metrics: Vec<Metric>, limit_bytes: usize) -> Vec<Vec<Metric>> {
    let mut waiting: VecDeque<Metric> = metrics.into();
    let mut groups = Vec::new();
    let (mut group, mut bytes) = (Vec::new(), 0);
    while let Some(mut metric) = waiting.pop_front() {
        let length = metric.encoded_len();
        if bytes + length > limit_bytes {
            if !group.is_empty() {
                groups.push(std::mem::take(&mut group));
                bytes = 0;
                waiting.push_front(metric);
                continue;
            }
            if let Some(rest) = take_half(&mut metric) {
                waiting.push_front(rest);
                waiting.push_front(metric);
                continue;
            }
        }
        bytes += length;
        group.push(metric);
    }
    if !group.is_empty() {
        groups.push(group);
    }
    groups
}

/// The later half of a metric's points, as a metric; `None` if it has only one.
fn take_half(metric: &mut Metric) -> Option<Metric> {
    fn half<T>(points: &mut Vec<T>) -> Vec<T> {
        points.split_off(points.len().div_ceil(2))
    }
    let mut data = metric.data.take();
    let rest = data.as_mut().map(|data| match data {
        Data::Gauge(gauge) => {
            let data_points = half(&mut gauge.data_points);
            (data_points.is_empty(), Data::Gauge(Gauge { data_points }))
        }
        Data::Sum(sum) => {
            let rest = Sum { data_points: half(&mut sum.data_points), ..*sum };
            (rest.data_points.is_empty(), Data::Sum(rest))
        }
        Data::Histogram(histogram) => {
            let rest = Histogram { data_points: half(&mut histogram.data_points), ..*histogram };
            (rest.data_points.is_empty(), Data::Histogram(rest))
        }
        Data::ExponentialHistogram(histogram) => {
            let data_points = half(&mut histogram.data_points);
            let rest = ExponentialHistogram { data_points, ..*histogram };
            (rest.data_points.is_empty(), Data::ExponentialHistogram(rest))
        }
        Data::Summary(summary) => {
            let data_points = half(&mut summary.data_points);
            (data_points.is_empty(), Data::Summary(Summary { data_points }))
        }
    });
    let about = metric.clone();
    metric.data = data;
    rest.filter(|(is_empty, _)| !is_empty).map(|(_, rest)| Metric { data: Some(rest), ..about })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::{About, Span, text};

    fn request(series: &[u32]) -> ExportMetricsServiceRequest {
        let span = Span { start: 1, now: 2 };
        let metrics = series.iter().enumerate().map(|(index, count)| {
            let name = format!("metric {index}");
            let points = (0..*count)
                .map(|number| span.point(vec![text("key", number.to_string())], number.into()));
            About { name: &name, unit: "", description: "" }.counter(points.collect())
        });
        let scope = ScopeMetrics { metrics: metrics.collect(), ..ScopeMetrics::default() };
        let resource = ResourceMetrics { scope_metrics: vec![scope], ..ResourceMetrics::default() };
        ExportMetricsServiceRequest { resource_metrics: vec![resource] }
    }

    /// Names and values of all points, in order.
    fn points(requests: &[ExportMetricsServiceRequest]) -> Vec<(String, String)> {
        let resources = requests.iter().flat_map(|request| &request.resource_metrics);
        let metrics = resources.flat_map(|one| &one.scope_metrics).flat_map(|one| &one.metrics);
        let points = metrics.flat_map(|metric| {
            let Some(Data::Sum(sum)) = &metric.data else { panic!("{metric:?}") };
            let points = sum.data_points.iter();
            points.map(|point| (metric.name.clone(), format!("{:?}", point.value)))
        });
        points.collect()
    }

    #[test]
    fn parts_have_all_points_once_and_are_not_too_long() {
        for (case, series, limit, parts) in [
            ("one is enough", &[1, 2, 3][..], 10_000, 1),
            ("a metric that is too long", &[1, 400, 1], 10_000, 3),
            ("points that are too long", &[3], 1, 3),
            ("nothing", &[], 100, 0),
        ] {
            let whole = request(series);
            let split = split(whole.clone(), limit);
            assert!(split.len() >= parts, "case: {case}: {}", split.len());
            assert!(parts == 0 || parts > 1 || split.len() == 1, "case: {case}");
            assert_eq!(points(&split), points(&[whole]), "case: {case}");
            for part in &split {
                assert!(limit == 1 || part.encoded_len() <= limit + 100, "case: {case}");
            }
        }
    }
}
