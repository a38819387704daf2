//! All metrics of the proxy as one message: the histograms of requests, connections and queues from their
//! recorders, everything else from the registry, so that nothing that `/metrics` shows is forgotten.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use heddle_runtime::clock;
use heddle_telemetry::otlp::{About, Span, text, unix_nanos};
use heddle_telemetry::registry;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::{Metric, ResourceMetrics, ScopeMetrics};
use prometheus_client::registry::Registry;
use tracing::warn;

use crate::metrics::{ConnectionLabels, Direction, Metrics};
use crate::telemetry::calls;
use crate::telemetry::resource::Resource;

/// Reads all metrics when it is asked.
pub struct Gatherer {
    metrics: Arc<Metrics>,
    registry: Arc<Mutex<Registry>>,
    resource: Resource,
    since: SystemTime,
}

impl Gatherer {
    /// Counters count from now on.
    pub fn new(metrics: Arc<Metrics>, registry: Arc<Mutex<Registry>>, resource: Resource) -> Self {
        Self { metrics, registry, resource, since: clock::now() }
    }

    /// All metrics by now.
    pub fn gather(&self) -> ExportMetricsServiceRequest {
        let span = Span { start: unix_nanos(self.since), now: unix_nanos(clock::now()) };
        let mut metrics = calls::metrics(&self.metrics.calls, span.now);
        metrics.extend(self.active(span));
        metrics.push(self.connections(span));
        metrics.push(self.queued(span));
        metrics.push(self.own_time(span));
        metrics.extend(self.shown(span));
        metrics.retain(has_points);
        let scope = InstrumentationScope {
            name: SCOPE.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let scope_metrics =
            vec![ScopeMetrics { scope: Some(scope), metrics, ..ScopeMetrics::default() }];
        let resource_metrics = ResourceMetrics {
            resource: Some(self.resource.message()),
            scope_metrics,
            ..ResourceMetrics::default()
        };
        ExportMetricsServiceRequest { resource_metrics: vec![resource_metrics] }
    }

    fn active(&self, span: Span) -> [Metric; 2] {
        let all = self.metrics.active.all();
        [
            (Direction::Inbound, "http.server.active_requests"),
            (Direction::Outbound, "http.client.active_requests"),
        ]
        .map(|(direction, name)| {
            let own = all.iter().filter(|(labels, _)| labels.direction == direction);
            let points = own.map(|(labels, gauge)| {
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "so many requests are never under way"
                )]
                let count = gauge.get() as f64;
                span.point(named(&[("heddle.service", &labels.service)]), count)
            });
            let description = "Requests under way, to the last byte of their responses";
            About { name, unit: "{request}", description }.up_down_counter(points.collect())
        })
    }

    fn connections(&self, span: Span) -> Metric {
        let points = self.metrics.connection_durations.all().into_iter().map(|(labels, timing)| {
            let ConnectionLabels { direction, service, backend, tls, peer_identity } = labels;
            let attributes = named(&[
                ("heddle.direction", direction.as_str()),
                ("heddle.service", &service),
                ("heddle.backend", &backend),
                ("heddle.tls", tls.as_str()),
                ("heddle.peer.identity", &peer_identity),
            ]);
            timing.recorder().read().to_point(attributes, span.start, span.now)
        });
        let description = "How long connections carried as bytes were open";
        About { name: "heddle.tcp.connection.duration", unit: "s", description }
            .histogram(points.collect())
    }

    fn queued(&self, span: Span) -> Metric {
        let points = self.metrics.queued.all().into_iter().map(|(labels, timing)| {
            let attributes = named(&[("heddle.backend", &labels.backend)]);
            timing.recorder().read().to_point(attributes, span.start, span.now)
        });
        let description =
            "How long requests and connections waited for a place, of those that had to";
        About { name: "heddle.queue.duration", unit: "s", description }.histogram(points.collect())
    }

    fn own_time(&self, span: Span) -> Metric {
        let points = [Direction::Inbound, Direction::Outbound].map(|direction| {
            let attributes = named(&[("heddle.direction", direction.as_str())]);
            let recorded = self.metrics.own_time.recorder(direction).read();
            recorded.to_point(attributes, span.start, span.now)
        });
        let points: Vec<_> = points.into_iter().filter(|point| point.count > 0).collect();
        let description = "What the proxy itself takes from the head of a request to that of the response, of one in seventeen";
        About { name: "heddle.proxy.duration", unit: "s", description }.histogram(points)
    }

    fn shown(&self, span: Span) -> Vec<Metric> {
        let mut shown = String::new();
        {
            let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = prometheus_client::encoding::text::encode(&mut shown, &registry) {
                warn!(%error, "metrics cannot be shown");
                return Vec::new();
            }
        }
        registry::metrics(&shown, "heddle", &OTHERWISE, span).unwrap_or_else(|error| {
            warn!(%error, "metrics cannot be exported");
            Vec::new()
        })
    }
}

/// Without those that say nothing.
fn named(attributes: &[(&str, &str)]) -> Vec<KeyValue> {
    let said = attributes.iter().filter(|(_, value)| !value.is_empty());
    said.map(|(key, value)| text(key, *value)).collect()
}

fn has_points(metric: &Metric) -> bool {
    use opentelemetry_proto::tonic::metrics::v1::metric::Data;
    match &metric.data {
        Some(Data::Gauge(gauge)) => !gauge.data_points.is_empty(),
        Some(Data::Sum(sum)) => !sum.data_points.is_empty(),
        Some(Data::ExponentialHistogram(histogram)) => !histogram.data_points.is_empty(),
        Some(Data::Histogram(_) | Data::Summary(_)) | None => false,
    }
}

/// Who says so.
pub(super) const SCOPE: &str = "heddle.proxy";
/// Exported under the name that semantic conventions have for it.
const OTHERWISE: [&str; 1] = ["heddle_http_active_requests"];

#[cfg(test)]
mod tests;
