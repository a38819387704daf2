//! Traffic by time for machines: what `meshctl stat` tells, for each step of a window. Its fields are stable. Pure.

use std::collections::BTreeMap;

use heddle_proto::telemetry as wire;
use serde::Serialize;

use crate::stat::{self, Percentiles, What};

/// What was counted, by time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TimelineReport {
    /// What series are: `workload`, `pod`, `service`, `backend` or `route`.
    pub by: &'static str,
    /// Of what was asked for.
    pub name: String,
    /// What was asked for.
    pub window_seconds: u32,
    /// How long a step is.
    pub step_seconds: u32,
    /// When each step began, in seconds since 1970, oldest first. The step that has begun is left out.
    pub steps: Vec<u64>,
    /// By namespace and name.
    pub series: Vec<Series>,
    /// Control planes that did not answer: what proxies told them is missing.
    pub silent_replicas: Vec<String>,
}

/// One workload, pod, service, backend or route, named as in [`stat::Row`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Series {
    /// Its namespace.
    pub namespace: String,
    /// Its kind; empty but for workloads and pods.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Of backends and routes: which service was called.
    pub service: String,
    /// Of backends: what it was sent to.
    pub backend: String,
    /// One for each of [`TimelineReport::steps`].
    pub points: Vec<Point>,
}

/// What happened in a step.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Point {
    /// Answered, or failed.
    pub requests: u64,
    /// Those that failed.
    pub failures: u64,
    /// From 0 to 1; null: there were none.
    pub success_rate: Option<f64>,
    /// Per second of the step.
    pub requests_per_second: f64,
    /// Null: there were none.
    pub latency_seconds: Option<Percentiles>,
    /// Connections set up that are carried as bytes.
    pub connections: u64,
    /// Bytes carried that way, both ways together, per second of the step.
    pub bytes_per_second: f64,
}

impl TimelineReport {
    /// What was asked for, of what was answered.
    pub fn new(
        response: wire::TimelineResponse,
        what: What,
        request: &wire::TimelineRequest,
    ) -> Self {
        let steps: Vec<u64> = response.points.iter().map(|point| point.began_seconds).collect();
        let mut series: BTreeMap<[String; 5], Series> = BTreeMap::new();
        for (index, point) in response.points.into_iter().enumerate() {
            for group in point.groups {
                let row = stat::Row::new(group, what, f64::from(request.step_seconds));
                let key = [&row.namespace, &row.kind, &row.name, &row.service, &row.backend];
                let found = series.entry(key.map(Clone::clone)).or_insert_with(|| Series {
                    namespace: row.namespace.clone(),
                    kind: row.kind.clone(),
                    name: row.name.clone(),
                    service: row.service.clone(),
                    backend: row.backend.clone(),
                    points: vec![Point::default(); steps.len()],
                });
                if let Some(place) = found.points.get_mut(index) {
                    *place = Point::new(&row, request.step_seconds);
                }
            }
        }
        Self {
            by: what.noun(),
            name: request.name.clone(),
            window_seconds: request.window_seconds,
            step_seconds: request.step_seconds,
            steps,
            series: series.into_values().collect(),
            silent_replicas: response.silent_replicas,
        }
    }
}

impl Point {
    #[expect(clippy::cast_precision_loss, reason = "a rate, for people")]
    fn new(row: &stat::Row, step_seconds: u32) -> Self {
        let bytes = row.tcp.to_server_bytes.saturating_add(row.tcp.to_client_bytes);
        Self {
            requests: row.requests,
            failures: row.failures,
            success_rate: row.success_rate,
            requests_per_second: row.requests_per_second,
            latency_seconds: row.latency_seconds,
            connections: row.tcp.connections,
            bytes_per_second: bytes as f64 / f64::from(step_seconds.max(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_has_a_point_for_every_step() {
        let group = |backend: &str, count, failures| wire::Group {
            key: Some(wire::Key {
                namespace: "shop".to_owned(),
                service: "shop/api:80".to_owned(),
                backend: backend.to_owned(),
                ..Default::default()
            }),
            requests: Some(wire::Requests { count, failures, ..Default::default() }),
            ..Default::default()
        };
        let response = wire::TimelineResponse {
            points: vec![
                wire::TimelinePoint {
                    began_seconds: 100,
                    groups: vec![group("shop/v1:80", 40, 10)],
                },
                wire::TimelinePoint { began_seconds: 110, groups: Vec::new() },
                wire::TimelinePoint {
                    began_seconds: 120,
                    groups: vec![group("shop/v1:80", 5, 0), group("shop/v2:80", 5, 0)],
                },
            ],
            silent_replicas: Vec::new(),
        };
        let request =
            wire::TimelineRequest { window_seconds: 30, step_seconds: 10, ..Default::default() };
        let report = TimelineReport::new(response, What::Backends, &request);
        assert_eq!(report.steps, [100, 110, 120]);
        let told: Vec<_> = report
            .series
            .iter()
            .map(|series| {
                let counts = series.points.iter().map(|point| point.requests).collect::<Vec<_>>();
                (series.name.as_str(), counts)
            })
            .collect();
        assert_eq!(told, [("v1:80", vec![40, 0, 5]), ("v2:80", vec![0, 0, 5])]);
        let first = &report.series[0].points[0];
        assert_eq!((first.success_rate, first.requests_per_second), (Some(0.75), 4.0));
        assert_eq!(report.series[0].points[1].success_rate, None);
    }
}
