//! Tests of what is read of an export.

use super::*;
use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum, Summary,
};

const CUMULATIVE: i32 = otlp::AggregationTemporality::Cumulative as i32;

fn attributes(all: &[(&str, &str)]) -> Vec<KeyValue> {
    let attribute = |(key, text): &(&str, &str)| KeyValue {
        key: (*key).to_owned(),
        value: Some(AnyValue { value: Some(AttributeValue::StringValue((*text).to_owned())) }),
        key_strindex: 0,
    };
    all.iter().map(attribute).collect()
}

fn request(name: &str, data: Data) -> ExportMetricsServiceRequest {
    let metric = Metric { name: name.to_owned(), data: Some(data), ..Default::default() };
    let scope = ScopeMetrics { metrics: vec![metric], ..Default::default() };
    let resource = ResourceMetrics { scope_metrics: vec![scope], ..Default::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![resource] }
}

fn histogram_point(all: &[(&str, &str)]) -> ExponentialHistogramDataPoint {
    ExponentialHistogramDataPoint {
        attributes: attributes(all),
        start_time_unix_nano: 1,
        time_unix_nano: 2,
        count: 3,
        sum: Some(1.0),
        scale: 3,
        positive: Some(Buckets { offset: 0, bucket_counts: vec![1, 2] }),
        ..Default::default()
    }
}

fn histogram(point: ExponentialHistogramDataPoint) -> Data {
    Data::ExponentialHistogram(ExponentialHistogram {
        data_points: vec![point],
        aggregation_temporality: CUMULATIVE,
    })
}

fn number_point(all: &[(&str, &str)], number: i64) -> NumberDataPoint {
    NumberDataPoint {
        attributes: attributes(all),
        start_time_unix_nano: 1,
        time_unix_nano: 2,
        value: Some(number_data_point::Value::AsInt(number)),
        ..Default::default()
    }
}

fn sum(point: NumberDataPoint) -> Sum {
    Sum { data_points: vec![point], aggregation_temporality: CUMULATIVE, is_monotonic: true }
}

const SERVER: &str = "http.server.request.duration";
const CLIENT: &str = "http.client.request.duration";
const CONNECTIONS: &str = "heddle.tcp.connections";
const BYTES: &str = "heddle.tcp.bytes";
const OPEN: &str = "heddle.tcp.open_connections";

#[test]
fn a_request_is_read_with_its_labels() {
    let all = [
        ("http.request.method", "GET"),
        ("http.response.status_code", "503"),
        ("heddle.service", "shop/api:80"),
        ("heddle.backend", "shop/v2:80"),
        ("heddle.route", "canary"),
        ("heddle.tls", "mtls"),
    ];
    let reading = read(&request(CLIENT, histogram(histogram_point(&all))));
    assert_eq!(reading.refused, BTreeMap::new());
    let [point] = reading.points.as_slice() else { panic!("{reading:?}") };
    let expected = Labels {
        direction: Direction::Outbound,
        service: "shop/api:80".into(),
        backend: "shop/v2:80".into(),
        route: "canary".into(),
        peer: "".into(),
        transport: Transport::Mtls,
    };
    assert_eq!(point.labels, expected);
    assert_eq!((point.start_nanos, point.time_nanos), (1, 2));
    let latency = Latency::new(3, 0, vec![(0, 1), (1, 2)]).unwrap();
    assert_eq!(point.value, Value::Requests(Outcome::Failed, latency));
}

#[test]
fn connections_and_bytes_are_read_with_their_direction() {
    let outbound = [("heddle.direction", "outbound"), ("heddle.tls", "plaintext")];
    let flow = |flow| [outbound[0], outbound[1], ("heddle.flow", flow)];
    let gauge = |number| Data::Gauge(Gauge { data_points: vec![number_point(&outbound, number)] });
    let double = NumberDataPoint {
        value: Some(number_data_point::Value::AsDouble(7.0)),
        ..number_point(&outbound, 0)
    };
    let up_down = Sum { is_monotonic: false, ..sum(number_point(&outbound, 4)) };
    for (case, name, data, expected) in [
        ("set up", CONNECTIONS, Data::Sum(sum(number_point(&outbound, 3))), Value::Connections(3)),
        ("sent", BYTES, Data::Sum(sum(number_point(&flow("to_server"), 9))), Value::ToServer(9)),
        (
            "received",
            BYTES,
            Data::Sum(sum(number_point(&flow("to_client"), 8))),
            Value::ToClient(8),
        ),
        ("open", OPEN, gauge(5), Value::OpenConnections(5)),
        ("set up, as a double", CONNECTIONS, Data::Sum(sum(double)), Value::Connections(7)),
        ("open, counted up and down", OPEN, Data::Sum(up_down), Value::OpenConnections(4)),
    ] {
        let reading = read(&request(name, data));
        let [point] = reading.points.as_slice() else { panic!("case: {case}: {reading:?}") };
        assert_eq!(point.value, expected, "case: {case}");
        assert_eq!(point.labels.transport, Transport::Plaintext, "case: {case}");
    }
}

#[test]
fn what_cannot_be_kept_is_refused_with_its_reason() {
    let good = [("heddle.tls", "mtls")];
    let delta = ExponentialHistogram {
        data_points: vec![histogram_point(&good)],
        aggregation_temporality: otlp::AggregationTemporality::Delta as i32,
    };
    let inbound = [("heddle.direction", "inbound")];
    let number = |number| Data::Sum(sum(number_point(&inbound, number)));
    let fraction = NumberDataPoint {
        value: Some(number_data_point::Value::AsDouble(1.5)),
        ..number_point(&inbound, 0)
    };
    let endless = NumberDataPoint {
        value: Some(number_data_point::Value::AsDouble(f64::INFINITY)),
        ..number_point(&inbound, 0)
    };
    let long = "x".repeat(LABEL_LIMIT_BYTES + 1);
    let point = || histogram_point(&good);
    let backwards = ExponentialHistogramDataPoint { start_time_unix_nano: 3, ..point() };
    let timeless = ExponentialHistogramDataPoint { start_time_unix_nano: 0, ..point() };
    let uncounted = ExponentialHistogramDataPoint { count: 9, ..point() };
    let falling = Sum { is_monotonic: false, ..sum(number_point(&inbound, 1)) };
    let labelled = |key, text| histogram(histogram_point(&[(key, text)]));
    let explicit = Histogram {
        data_points: vec![otlp::HistogramDataPoint::default()],
        aggregation_temporality: CUMULATIVE,
    };
    let summary = Summary { data_points: vec![otlp::SummaryDataPoint::default()] };
    for (case, name, data, expected) in [
        ("delta", SERVER, Data::ExponentialHistogram(delta), Refusal::Delta),
        ("explicit buckets", SERVER, Data::Histogram(explicit), Refusal::Kind),
        ("a summary", SERVER, Data::Summary(summary), Refusal::Kind),
        ("a number for a duration", SERVER, number(1), Refusal::Kind),
        ("falls", CONNECTIONS, Data::Sum(falling), Refusal::Kind),
        ("negative", CONNECTIONS, number(-1), Refusal::Count),
        ("a fraction", CONNECTIONS, Data::Sum(sum(fraction)), Refusal::Count),
        ("more than can be", CONNECTIONS, Data::Sum(sum(endless)), Refusal::Count),
        ("no direction", CONNECTIONS, Data::Sum(sum(number_point(&[], 1))), Refusal::Label),
        ("no flow", BYTES, number(1), Refusal::Label),
        ("ends before it begins", SERVER, histogram(backwards), Refusal::Times),
        ("no times", SERVER, histogram(timeless), Refusal::Times),
        ("another count", SERVER, histogram(uncounted), Refusal::Histogram),
        ("too long", SERVER, labelled("heddle.service", &long), Refusal::Label),
        ("moves the cursor", SERVER, labelled("heddle.route", "\u{1b}[2J"), Refusal::Label),
        ("half secured", SERVER, labelled("heddle.tls", "maybe"), Refusal::Label),
    ] {
        let reading = read(&request(name, data));
        assert_eq!(reading.points, [], "case: {case}");
        assert_eq!(reading.refused, BTreeMap::from([(expected, 1)]), "case: {case}");
    }
}

#[test]
fn what_is_not_kept_by_design_is_passed_over() {
    let empty = ExponentialHistogramDataPoint {
        flags: otlp::DataPointFlags::NoRecordedValueMask as u32,
        ..Default::default()
    };
    for (case, request) in [
        ("another metric", request("process.cpu.time", histogram(histogram_point(&[])))),
        ("a point without a value", request(SERVER, histogram(empty))),
        ("nothing", ExportMetricsServiceRequest::default()),
    ] {
        assert_eq!(read(&request), Reading::default(), "case: {case}");
    }
}

#[test]
fn who_does_not_say_that_it_is_secured_is_not() {
    let reading = read(&request(SERVER, histogram(histogram_point(&[]))));
    assert_eq!(reading.points[0].labels.transport, Transport::Plaintext);
}

#[test]
fn points_are_told_apart_by_metric_and_attributes_whatever_their_order() {
    let print = |name: &str, all: &[(&str, &str)]| {
        read(&request(name, histogram(histogram_point(all)))).points[0].fingerprint
    };
    let (one, other) = (("http.request.method", "GET"), ("heddle.route", "a"));
    assert_eq!(print(SERVER, &[one, other]), print(SERVER, &[other, one]));
    assert_ne!(print(SERVER, &[one, other]), print(CLIENT, &[one, other]));
    assert_ne!(print(SERVER, &[one]), print(SERVER, &[("http.request.method", "PUT")]));
    assert_ne!(print(SERVER, &[("a", "bc")]), print(SERVER, &[("ab", "c")]));
}

#[test]
fn all_that_is_kept_is_what_proxies_tell_at_once() {
    let kept = METRICS.map(|(name, _)| name);
    assert_eq!(kept, heddle_telemetry::traffic::TRAFFIC);
}
