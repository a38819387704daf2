//! The series of requests as OTLP: exponential histograms under the names and attributes of
//! OpenTelemetry's semantic conventions for HTTP and RPC.

use std::sync::Arc;

use heddle_telemetry::otlp::{About, boolean, number, text, unix_nanos};
use heddle_telemetry::recorder::Recorder;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::Metric;

use crate::http::grpc::GrpcStatus;
use crate::metrics::Direction;
use crate::metrics::calls::{CallSeries, CallTable, is_failure};

/// All histograms of requests, of what was counted until `now`, in nanoseconds since 1970.
pub fn metrics(table: &CallTable, now: u64) -> Vec<Metric> {
    let all = table.all();
    let mut metrics = Vec::new();
    for direction in [Direction::Inbound, Direction::Outbound] {
        let own: Vec<_> =
            all.iter().filter(|one| one.labels.group.direction == direction).collect();
        for measured in &MEASURED {
            metrics.push(metric(measured, direction, &own, now));
        }
    }
    metrics
}

/// A quantity that is measured of each request.
struct Measured {
    name: &'static str,
    description: &'static str,
    of: fn(&CallSeries) -> &Recorder,
}

const MEASURED: [Measured; 3] = [
    Measured {
        name: "request.duration",
        description: "From the head of the request to that of the response",
        of: |series| &series.durations,
    },
    Measured {
        name: "request.body.size",
        description: "Size of requests' bodies",
        of: |series| &series.request_sizes,
    },
    Measured {
        name: "response.body.size",
        description: "Size of responses' bodies",
        of: |series| &series.response_sizes,
    },
];

fn metric(measured: &Measured, direction: Direction, all: &[&Arc<CallSeries>], now: u64) -> Metric {
    let side = match direction {
        Direction::Inbound => "server",
        Direction::Outbound => "client",
    };
    let name = format!("http.{side}.{}", measured.name);
    let mut unit = "";
    let points = all.iter().filter_map(|series| {
        let recorder = (measured.of)(series);
        unit = recorder.quantity().unit_name();
        let histogram = recorder.read();
        // Sizes are there later than durations.
        let is_there = histogram.count() > 0;
        let point = || histogram.to_point(attributes(series), unix_nanos(series.since), now);
        is_there.then(point)
    });
    let points = points.collect();
    About { name: &name, unit, description: measured.description }.histogram(points)
}

fn attributes(series: &CallSeries) -> Vec<KeyValue> {
    if series.is_overflow {
        return vec![boolean("otel.metric.overflow", true)];
    }
    let labels = &series.labels;
    let mut attributes = vec![
        text("http.request.method", labels.method.as_str()),
        number("http.response.status_code", labels.status.into()),
        text("heddle.tls", labels.tls.as_str()),
    ];
    let error = error_type(labels.status, labels.grpc_status, labels.error);
    let status = grpc_status(labels.grpc_status);
    let texts: [(&str, &str); 7] = [
        ("error.type", &error),
        ("rpc.system.name", if status.is_empty() { "" } else { "grpc" }),
        ("rpc.response.status_code", status),
        ("heddle.service", &labels.group.service),
        ("heddle.backend", &labels.group.backend),
        ("heddle.route", &labels.route),
        ("heddle.peer.identity", &labels.peer),
    ];
    let said = texts.iter().filter(|(_, value)| !value.is_empty());
    attributes.extend(said.map(|(key, value)| text(key, *value)));
    attributes
}

/// Why it failed: the proxy's own reason, or else the status that tells of it. Empty: it did not.
pub(crate) fn error_type(status: u16, grpc: GrpcStatus, error: &str) -> String {
    if !error.is_empty() {
        return error.to_owned();
    }
    match (is_failure(status, grpc, error), grpc) {
        (false, _) => String::new(),
        (true, GrpcStatus::NotGrpc) => status.to_string(),
        (true, GrpcStatus::Ended(_) | GrpcStatus::Broken) => grpc_status(grpc).to_owned(),
    }
}

/// As semantic conventions name it; empty for what is no gRPC.
pub(crate) fn grpc_status(status: GrpcStatus) -> &'static str {
    match status {
        GrpcStatus::NotGrpc => "",
        GrpcStatus::Ended(code) => code.name(),
        GrpcStatus::Broken => "broken",
    }
}
