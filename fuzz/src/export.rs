//! An export of metrics: how much memory it takes is told from its bytes, before it is read.

use heddle_telemetry::footprint::{Unreadable, footprint_bytes};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogramDataPoint, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
    ScopeMetrics, SummaryDataPoint,
};
use prost::Message;

/// Of whatever can be read, no less is told than its lists take; what cannot be read may be told anything about.
pub(crate) fn check(data: &[u8]) {
    let told = footprint_bytes(data);
    let Ok(read) = ExportMetricsServiceRequest::decode(data) else { return };
    let told = match told {
        Ok(told) => told,
        // Prost passes over groups.
        Err(Unreadable::Group) => return,
        Err(error) => panic!("it can be read, and {error}"),
    };
    let held = held(&read);
    assert!(told >= held, "{told} bytes are told of, and {held} are held");
}

/// What the lists of an export take: its largest parts, down to points.
fn held(export: &ExportMetricsServiceRequest) -> usize {
    let resources = &export.resource_metrics;
    let scopes = resources.iter().map(|resource| &resource.scope_metrics);
    let metrics = scopes.clone().flatten().map(|scope| &scope.metrics);
    let points = metrics.clone().flatten().map(|metric| match &metric.data {
        None => 0,
        Some(Data::Gauge(gauge)) => gauge.data_points.capacity() * size_of::<NumberDataPoint>(),
        Some(Data::Sum(sum)) => sum.data_points.capacity() * size_of::<NumberDataPoint>(),
        Some(Data::Histogram(histogram)) => {
            histogram.data_points.capacity() * size_of::<HistogramDataPoint>()
        }
        Some(Data::ExponentialHistogram(histogram)) => {
            histogram.data_points.capacity() * size_of::<ExponentialHistogramDataPoint>()
        }
        Some(Data::Summary(summary)) => {
            summary.data_points.capacity() * size_of::<SummaryDataPoint>()
        }
    });
    resources.capacity() * size_of::<ResourceMetrics>()
        + scopes.map(|list| list.capacity() * size_of::<ScopeMetrics>()).sum::<usize>()
        + metrics.map(|list| list.capacity() * size_of::<Metric>()).sum::<usize>()
        + points.sum::<usize>()
}
