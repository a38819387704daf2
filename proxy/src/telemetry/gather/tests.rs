//! What a proxy that has served requests exports, and what `/metrics` shows of the same.

use std::collections::HashMap;

use heddle_telemetry::exponential::Exponential;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;

use super::*;
use crate::http::grpc::{Code, GrpcStatus};
use crate::metrics::Protection;
use crate::metrics::calls::{CallGroup, CallLabels};
use crate::metrics::method::Method;
use crate::telemetry::resource::OwnWorkload;

fn gatherer() -> Gatherer {
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let (store, _writer, _asks) = crate::discovery::store::channel();
    let own = OwnWorkload::new(store, Some("Deployment/api".parse().unwrap()));
    let resource = Resource {
        own,
        pod_uid: "uid-1".parse().unwrap(),
        service_name: None,
        attributes: vec![("team".to_owned(), "shop".to_owned())],
    };
    Gatherer::new(metrics, Arc::new(Mutex::new(registry)), resource)
}

fn labels() -> CallLabels {
    CallLabels {
        status: 200,
        method: Method::Get,
        grpc_status: GrpcStatus::NotGrpc,
        tls: Protection::Mutual,
        error: "",
        group: CallGroup {
            direction: Direction::Outbound,
            service: "default/api:80".into(),
            backend: "default/api-v1:80".into(),
        },
        route: "split".into(),
        peer: "".into(),
    }
}

fn texts(attributes: &[KeyValue]) -> HashMap<String, String> {
    let text = |attribute: &KeyValue| match attribute.value.clone().unwrap().value.unwrap() {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        Value::BoolValue(is_so) => is_so.to_string(),
        other @ (Value::DoubleValue(_)
        | Value::ArrayValue(_)
        | Value::KvlistValue(_)
        | Value::BytesValue(_)
        | Value::StringValueStrindex(_)) => panic!("{other:?}"),
    };
    attributes.iter().map(|attribute| (attribute.key.clone(), text(attribute))).collect()
}

fn metrics(gatherer: &Gatherer) -> HashMap<String, Metric> {
    let mut request = gatherer.gather();
    let scope = request.resource_metrics.remove(0).scope_metrics.remove(0);
    scope.metrics.into_iter().map(|metric| (metric.name.clone(), metric)).collect()
}

#[test]
fn a_request_is_a_point_with_all_that_is_known_of_it() {
    let gatherer = gatherer();
    let calls = &gatherer.metrics.calls;
    calls.series(&labels()).durations.record(2_000_000);
    let failed = CallLabels { status: 503, error: "connect", ..labels() };
    calls.series(&failed).durations.record(1);
    let refused = CallLabels { status: 500, ..labels() };
    calls.series(&refused).durations.record(1);
    let grpc = GrpcStatus::Ended(Code::Unavailable);
    calls.series(&CallLabels { grpc_status: grpc, ..labels() }).durations.record(1);

    let found = metrics(&gatherer).remove("http.client.request.duration").unwrap();
    assert_eq!(found.unit, "s");
    let Some(Data::ExponentialHistogram(histogram)) = found.data else { panic!("{found:?}") };
    let mut points: Vec<_> = histogram
        .data_points
        .iter()
        .map(|point| (texts(&point.attributes), Exponential::from_point(point).unwrap()))
        .collect();
    points.sort_by_key(|(texts, _)| {
        (texts.get("rpc.system.name").cloned(), texts["http.response.status_code"].clone())
    });
    let (first, spread) = &points[0];
    let expected = [
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("heddle.tls", "mtls"),
        ("heddle.service", "default/api:80"),
        ("heddle.backend", "default/api-v1:80"),
        ("heddle.route", "split"),
    ];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(*first, HashMap::from(expected));
    assert!((spread.quantile(0.5).unwrap() - 0.002).abs() < 0.0001, "{spread:?}");
    let errors: Vec<_> = points.iter().map(|(texts, _)| texts.get("error.type")).collect();
    let expected = [None, Some("500"), Some("connect"), Some("UNAVAILABLE")];
    assert_eq!(
        errors,
        expected.map(|error| error.map(str::to_owned)).each_ref().map(Option::as_ref)
    );
    assert_eq!(points[3].0["rpc.response.status_code"], "UNAVAILABLE");
}

#[test]
fn connections_queues_and_the_registry_are_exported_too() {
    let gatherer = gatherer();
    gatherer.metrics.count_detection("http1");
    let backend = crate::metrics::BackendLabels { backend: "default/api:80".into() };
    let queued = gatherer.metrics.queued.lease(&backend);
    drop(queued.metric().begin());
    let active = crate::metrics::ActiveLabels { direction: Direction::Inbound, service: "".into() };
    let active = gatherer.metrics.active.lease(&active);
    active.metric().inc();
    let found = metrics(&gatherer);
    for name in
        ["heddle.protocol.detections", "heddle.queue.duration", "http.server.active_requests"]
    {
        assert!(found.contains_key(name), "{name} is not among {:?}", found.keys());
    }
    assert!(!found.contains_key("heddle.http.active_requests"), "it has a better name");
}

#[test]
fn the_resource_says_whose_it_is() {
    let request = gatherer().gather();
    let resource = request.resource_metrics[0].resource.clone().unwrap();
    let texts = texts(&resource.attributes);
    for (key, value) in [
        ("service.name", "api"),
        ("service.instance.id", "uid-1"),
        ("k8s.pod.uid", "uid-1"),
        ("k8s.deployment.name", "api"),
        ("heddle.proxy.version", env!("CARGO_PKG_VERSION")),
        ("team", "shop"),
    ] {
        assert_eq!(texts.get(key).map(String::as_str), Some(value), "{key}");
    }
}
