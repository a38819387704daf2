//! What `/metrics` shows of requests, asked as those ask it who were made for other meshes.

use std::sync::Arc;

use heddle_model::workload::{InboundMode, NodeProbes};
use heddle_telemetry::prometheus::{self, Sample};
use prometheus_client::registry::Registry;

use super::*;
use crate::http::grpc::{Code, GrpcStatus};
use crate::metrics::calls::CallGroup;
use crate::metrics::method::Method;

fn labels(direction: Direction, status: u16) -> CallLabels {
    let (service, backend) = match direction {
        Direction::Inbound => ("", "application"),
        Direction::Outbound => ("shop/api:80", "shop/api-v1:8080"),
    };
    CallLabels {
        status,
        method: Method::Get,
        grpc_status: GrpcStatus::NotGrpc,
        tls: Protection::Mutual,
        error: "",
        group: CallGroup { direction, service: service.into(), backend: backend.into() },
        route: "".into(),
        peer: "".into(),
    }
}

/// What is shown by the proxy of a pod of the deployment `till`, after 3 good inbound requests, 2 bad
/// ones, one call of gRPC that failed, and 4 outbound requests; each of 18 ms.
fn shown() -> String {
    let table = CallTable::default();
    let record = |labels: &CallLabels, count| {
        for _ in 0..count {
            table.series(labels).durations.record(18_000_000);
        }
    };
    record(&labels(Direction::Inbound, 200), 3);
    record(&labels(Direction::Inbound, 503), 2);
    let grpc_status = GrpcStatus::Ended(Code::Internal);
    record(&CallLabels { grpc_status, ..labels(Direction::Inbound, 200) }, 1);
    record(&labels(Direction::Outbound, 200), 1);
    let route: Arc<str> = "split".into();
    record(&CallLabels { route, method: Method::Put, ..labels(Direction::Outbound, 200) }, 3);
    let (store, writer, _asks) = crate::discovery::store::channel();
    writer.set_workload(Workload {
        namespace: "shop".to_owned(),
        name: "till-7d9f8-x2x4z".to_owned(),
        pod_uid: "uid-1".parse().unwrap(),
        inbound_mode: InboundMode::Strict,
        ports: Vec::new(),
        rate_limits: Vec::new(),
        zone: String::new(),
        node: String::new(),
        probes: NodeProbes::default(),
        access_log: Default::default(),
    });
    let own = OwnWorkload::new(store, Some("Deployment/till".parse().unwrap()));
    let mut registry = Registry::default();
    registry.register_collector(Box::new(DrawnCalls::new(table, own)));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    text
}

/// A selector of PromQL: what it asks of labels.
struct Selector<'a> {
    name: &'a str,
    equal: &'static [(&'static str, &'static str)],
    unequal: &'static [(&'static str, &'static str)],
}

fn sum(samples: &[Sample], selector: &Selector<'_>) -> f64 {
    let matches = |sample: &&Sample| {
        sample.name == selector.name
            && selector.equal.iter().all(|(name, value)| sample.label(name) == *value)
            && selector.unequal.iter().all(|(name, value)| sample.label(name) != *value)
    };
    samples.iter().filter(matches).map(|sample| sample.value).sum()
}

/// The selectors of Flagger's `linkerd` and `http` observers (pkg/metrics/observers), for the target
/// `till` in `shop`, and those of Argo Rollouts' and Linkerd's documents.
#[test]
fn the_queries_of_flagger_and_argo_rollouts_find_what_they_ask_for() {
    let samples = prometheus::parse(&shown()).unwrap();
    let own: &[_] = &[("namespace", "shop"), ("deployment", "till"), ("direction", "inbound")];
    let good: &[_] = &[
        ("namespace", "shop"),
        ("deployment", "till"),
        ("direction", "inbound"),
        ("classification", "success"),
    ];
    let not_failed: &[_] = &[("classification", "failure")];
    let pod: &[_] =
        &[("kubernetes_namespace", "shop"), ("kubernetes_pod_name", "till-7d9f8-x2x4z")];
    let to: &[_] = &[
        ("direction", "outbound"),
        ("dst_service", "api-v1"),
        ("dst_namespace", "shop"),
        ("tls", "true"),
    ];
    let below: &[_] =
        &[("namespace", "shop"), ("deployment", "till"), ("direction", "inbound"), ("le", "20.0")];
    for (case, name, equal, unequal, expected) in [
        ("Flagger: responses", "response_total", own, &[][..], 6.0),
        ("Flagger: without failures", "response_total", own, not_failed, 3.0),
        ("Argo Rollouts: successes", "response_total", good, &[], 3.0),
        ("Linkerd: to a service", "response_total", to, &[], 4.0),
        ("Flagger: a range of latencies", "response_latency_ms_bucket", below, &[], 6.0),
        ("Flagger: all latencies", "response_latency_ms_count", own, &[], 6.0),
        ("Flagger, http: requests", "http_request_duration_seconds_count", pod, &[], 6.0),
        (
            "Flagger, http: 200",
            "http_request_duration_seconds_count",
            pod,
            &[("status", "503")],
            4.0,
        ),
    ] {
        let selector = Selector { name, equal, unequal };
        assert_eq!(sum(&samples, &selector), expected, "case: {case}\n{}", shown());
    }
}

#[test]
fn requests_of_one_backend_are_one_histogram() {
    let samples = prometheus::parse(&shown()).unwrap();
    let below: &[_] = &[("backend", "shop/api-v1:8080"), ("le", "0.01")];
    let not_below: &[_] = &[("service", "shop/api:80"), ("le", "0.025")];
    let all: &[_] = &[("direction", "outbound"), ("le", "+Inf")];
    for (suffix, equal, expected) in [
        ("_count", &[("direction", "outbound")][..], 4.0),
        ("_bucket", below, 0.0),
        ("_bucket", not_below, 4.0),
        ("_bucket", all, 4.0),
        ("_count", &[("direction", "inbound")], 6.0),
    ] {
        let name = format!("heddle_http_request_duration_seconds{suffix}");
        let selector = Selector { name: &name, equal, unequal: &[] };
        assert_eq!(sum(&samples, &selector), expected, "case: {name} {equal:?}");
        let shown = samples.iter().filter(|sample| sample.name == name).count();
        assert!(shown > 0 && shown <= 2 * 15, "case: {name}: {shown} lines");
    }
}
