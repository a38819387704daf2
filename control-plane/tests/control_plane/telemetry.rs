//! What proxies export, and what is answered from it.

use std::time::{Duration, SystemTime};

use heddle_proto::telemetry::share_client::ShareClient;
use heddle_proto::telemetry::telemetry_client::TelemetryClient;
use heddle_proto::telemetry::{Grouping, QueryRequest, QueryResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Metric,
    ResourceMetrics, ScopeMetrics,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use tonic::{Code, Status};

use crate::client::Client;
use crate::world::World;

fn attributes(all: &[(&str, &str)]) -> Vec<KeyValue> {
    let attribute = |(key, text): &(&str, &str)| KeyValue {
        key: (*key).to_owned(),
        value: Some(AnyValue { value: Some(Value::StringValue((*text).to_owned())) }),
        key_strindex: 0,
    };
    all.iter().map(attribute).collect()
}

fn nanos(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos().try_into().unwrap()
}

/// Requests to `shop/api:80` that a proxy counted since a second ago, each of 100 ms, with the label given.
fn export(
    count: u64,
    label: (&str, &str),
    temporality: AggregationTemporality,
) -> ExportMetricsServiceRequest {
    let now = heddle_runtime::clock::now();
    let labels = [("heddle.service", "shop/api:80"), ("heddle.tls", "mtls"), label];
    let point = ExponentialHistogramDataPoint {
        attributes: attributes(&labels),
        start_time_unix_nano: nanos(now - Duration::from_secs(1)),
        time_unix_nano: nanos(now),
        count,
        sum: Some(0.1),
        scale: 3,
        positive: Some(Buckets { offset: -27, bucket_counts: vec![count] }),
        ..Default::default()
    };
    let histogram = ExponentialHistogram {
        data_points: vec![point],
        aggregation_temporality: temporality.into(),
    };
    let metric = Metric {
        name: "http.client.request.duration".to_owned(),
        data: Some(Data::ExponentialHistogram(histogram)),
        ..Default::default()
    };
    let claimed = [("service.name", "store"), ("k8s.pod.uid", "store-1")];
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(Resource { attributes: attributes(&claimed), ..Default::default() }),
            scope_metrics: vec![ScopeMetrics { metrics: vec![metric], ..Default::default() }],
            ..Default::default()
        }],
    }
}

async fn send(
    client: &Client,
    world: &World,
    request: ExportMetricsServiceRequest,
) -> Result<Option<ExportMetricsPartialSuccess>, Status> {
    let mut exporter = MetricsServiceClient::new(client.channel(world.address()).await);
    Ok(exporter.export(request).await?.into_inner().partial_success)
}

fn question(group_by: Grouping) -> QueryRequest {
    QueryRequest {
        window_seconds: 60,
        group_by: group_by.into(),
        namespace: String::new(),
        ..QueryRequest::default()
    }
}

async fn ask(world: &World, group_by: Grouping) -> QueryResponse {
    let mut client = TelemetryClient::new(world.admin().await);
    client.query(question(group_by)).await.unwrap().into_inner()
}

const CUMULATIVE: AggregationTemporality = AggregationTemporality::Cumulative;
const STATUS: (&str, &str) = ("http.response.status_code", "200");

#[tokio::test]
async fn what_a_proxy_exports_is_answered_under_its_own_name() {
    let world = World::start().await;
    let client = Client::certified(&world).await;
    for (count, status) in [(40, "200"), (2, "503")] {
        let request = export(count, ("http.response.status_code", status), CUMULATIVE);
        assert_eq!(send(&client, &world, request).await.unwrap(), None);
    }
    let services = ask(&world, Grouping::Service).await;
    let api = services
        .groups
        .iter()
        .find(|group| group.key.as_ref().is_some_and(|key| key.service == "shop/api:80"));
    let requests = api.unwrap().requests.clone().unwrap();
    assert_eq!((requests.count, requests.failures, requests.mtls), (42, 2, 42));
    let median = requests.latency.unwrap().p50_seconds.unwrap();
    assert!((0.096..0.105).contains(&median), "{median}");
    assert_eq!(services.proxies, 1);
    assert_eq!(services.silent_replicas, [""; 0]);
    // Nothing was sent to the other services, and all are told of.
    assert_eq!(services.groups.len(), 3);

    let edges = ask(&world, Grouping::Edge).await;
    let [edge] = edges.groups.as_slice() else { panic!("{edges:?}") };
    let key = edge.key.as_ref().unwrap();
    assert_eq!((key.namespace.as_str(), key.workload.as_str()), ("shop", "frontend"));
    assert_eq!(key.client_identity, "spiffe://cluster.local/ns/shop/sa/frontend");

    let workloads = ask(&world, Grouping::Workload).await;
    let meshed = workloads.groups.iter().map(|group| {
        let population = group.population.as_ref().unwrap();
        (group.key.as_ref().unwrap().workload.as_str(), population.meshed, population.pods)
    });
    assert_eq!(meshed.collect::<Vec<_>>(), [("api-v1", 1, 1), ("frontend", 1, 1)]);
}

#[tokio::test]
async fn what_is_not_kept_is_told_in_a_sentence() {
    let world = World::start().await;
    let client = Client::certified(&world).await;
    let request = export(1, STATUS, AggregationTemporality::Delta);
    let partial = send(&client, &world, request).await.unwrap().unwrap();
    assert_eq!(partial.rejected_data_points, 1);
    assert_eq!(
        partial.error_message,
        "the control plane does not remember: 1 for delta temporality (want cumulative)"
    );
    let services = ask(&world, Grouping::Service).await;
    assert!(services.groups.iter().all(|group| group.requests.as_ref().unwrap().count == 0));
}

#[tokio::test]
async fn nobody_exports_without_a_certificate_or_more_than_a_message_may_have() {
    let world = World::start().await;
    let stranger = Client::new(&world);
    let refused = send(&stranger, &world, export(1, STATUS, CUMULATIVE)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");

    let client = Client::certified(&world).await;
    let long = "x".repeat(5 << 20);
    let large = export(1, ("user_agent.original", &long), CUMULATIVE);
    let refused = send(&client, &world, large).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
    // The place that it had is free again.
    assert_eq!(send(&client, &world, export(1, STATUS, CUMULATIVE)).await.unwrap(), None);
}

#[tokio::test]
async fn a_share_is_told_to_no_workload() {
    let world = World::start().await;
    for client in [Client::new(&world), Client::certified(&world).await] {
        let channel = client.channel(world.address()).await;
        let refused = ShareClient::new(channel).query_share(question(Grouping::Edge)).await;
        assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    }
}

#[tokio::test]
async fn a_question_that_cannot_be_answered_is_refused_with_what_would_do() {
    let world = World::start().await;
    let mut client = TelemetryClient::new(world.admin().await);
    let request = QueryRequest { window_seconds: 5, ..question(Grouping::Pod) };
    let refused = client.query(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("want 10 to 3600"), "{refused}");
}
