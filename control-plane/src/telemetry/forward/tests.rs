//! A collector that is slow, dead or good, as seen from those who hand over exports.

use std::time::Duration;

use heddle_telemetry::otlp::text;
use heddle_telemetry::settings::{CollectorSettings, Protocol};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::metrics::v1::ResourceMetrics;
use opentelemetry_proto::tonic::resource::v1::Resource;
use tokio::net::TcpListener;
use tonic::{Request, Response, Status};

use super::*;
use crate::telemetry::proxy::Workload;

/// Says what it was sent.
struct Good(mpsc::Sender<ExportMetricsServiceRequest>);

#[tonic::async_trait]
impl MetricsService for Good {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.0.send(request.into_inner()).await.unwrap();
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, format!("http://{address}"))
}

fn settings(endpoint: &str, timeout: Duration) -> ForwardSettings {
    let collector = CollectorSettings {
        endpoint: endpoint.parse().unwrap(),
        protocol: Protocol::Grpc,
        headers: Vec::new(),
        timeout,
        certificate: None,
        client: None,
    };
    ForwardSettings { collector, resource: vec![("k8s.cluster.name".into(), "east".into())] }
}

fn origin(uid: &str) -> Origin {
    Origin {
        pod_uid: uid.parse().unwrap(),
        identity: "spiffe://cluster.local/ns/shop/sa/api".parse().unwrap(),
        workload: Workload::default(),
        pod: uid.to_owned(),
    }
}

/// Of about so many bytes.
fn export(bytes: usize) -> ExportMetricsServiceRequest {
    let attributes = vec![text("service.name", "x".repeat(bytes))];
    let resource = Some(Resource { attributes, ..Resource::default() });
    let resource = ResourceMetrics { resource, ..ResourceMetrics::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![resource] }
}

#[expect(clippy::disallowed_methods, reason = "tests have no tasks to name")]
fn spawn<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::spawn(future)
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("it takes too long")
}

fn uid(resource: &ResourceMetrics) -> String {
    let attributes = &resource.resource.as_ref().unwrap().attributes;
    let uid = attributes.iter().find(|attribute| attribute.key == "k8s.pod.uid").unwrap();
    format!("{:?}", uid.value.as_ref().unwrap().value)
}

#[tokio::test]
async fn what_waits_goes_together_and_says_whose_it_is() {
    let (listener, endpoint) = listener().await;
    let (seen, mut received) = mpsc::channel(100);
    let server =
        tonic::transport::Server::builder().add_service(MetricsServiceServer::new(Good(seen)));
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    spawn(async move { server.serve_with_incoming(incoming).await.unwrap() });
    let metrics = Metrics::default();
    let (forwarder, forwarding) =
        channel(settings(&endpoint, Duration::from_secs(10)), &metrics).unwrap();
    // Twenty small ones make one message, and a large one goes by itself.
    for number in 0..20 {
        forwarder.forward(export(10), &origin(&format!("uid-{number}")));
    }
    forwarder.forward(export(MESSAGE_LIMIT_BYTES), &origin("large"));
    forwarder.forward(export(10), &origin("last"));
    let drain = CancellationToken::new();
    let running = spawn(forwarding.run(drain.clone()));
    let mut messages = Vec::new();
    for _ in 0..3 {
        messages.push(within(received.recv()).await.unwrap().resource_metrics);
    }
    let lengths: Vec<_> = messages.iter().map(Vec::len).collect();
    assert_eq!(lengths, [20, 1, 1]);
    for (number, resource) in messages[0].iter().enumerate() {
        assert!(uid(resource).contains(&format!("\"uid-{number}\"")), "{resource:?}");
    }
    assert!(format!("{:?}", messages[2]).contains("east"), "{:?}", messages[2]);
    // What is handed over before the end goes, too.
    forwarder.forward(export(10), &origin("at the end".replace(' ', "-").as_str()));
    drain.cancel();
    within(running).await.unwrap();
    assert_eq!(within(received.recv()).await.unwrap().resource_metrics.len(), 1);
    assert_eq!(metrics.exports_forwarded("succeeded"), 23);
    assert_eq!(metrics.exports_forwarded(DROPPED), 0);
}

#[tokio::test]
async fn a_collector_that_does_not_answer_costs_a_bounded_memory_and_nobody_any_time() {
    // The system takes connections for it, and nobody reads.
    let (_listener, endpoint) = listener().await;
    let metrics = Metrics::default();
    let (forwarder, forwarding) =
        channel(settings(&endpoint, Duration::from_millis(200)), &metrics).unwrap();
    let running = spawn(forwarding.run(CancellationToken::new()));
    // Twice as much as there is room for. Nothing is awaited, so that nothing is taken meanwhile.
    const LENGTH: usize = 64 << 10;
    const COUNT: usize = 2 * WAITING_LIMIT_BYTES / LENGTH;
    for _ in 0..COUNT {
        forwarder.forward(export(LENGTH), &origin("uid"));
    }
    let dropped = metrics.exports_forwarded(DROPPED);
    let half = u64::try_from(COUNT / 2).unwrap();
    assert!((half..half + 8).contains(&dropped), "{dropped} of {COUNT}");
    within(async {
        while metrics.exports_forwarded("timed_out") == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    running.abort();
}

#[tokio::test]
async fn many_small_exports_wait_within_a_bound_of_their_own() {
    let (_listener, endpoint) = listener().await;
    let metrics = Metrics::default();
    let (forwarder, _forwarding) =
        channel(settings(&endpoint, Duration::from_secs(1)), &metrics).unwrap();
    for _ in 0..WAITING_LIMIT + 10 {
        forwarder.forward(ExportMetricsServiceRequest::default(), &origin("uid"));
    }
    assert_eq!(metrics.exports_forwarded(DROPPED), 10);
}

#[tokio::test]
async fn a_dead_collector_is_told_of_and_does_not_hold_up_the_end() {
    let (listener, endpoint) = listener().await;
    drop(listener);
    let metrics = Metrics::default();
    let (forwarder, forwarding) =
        channel(settings(&endpoint, Duration::from_secs(10)), &metrics).unwrap();
    let drain = CancellationToken::new();
    let running = spawn(forwarding.run(drain.clone()));
    forwarder.forward(export(10), &origin("uid"));
    within(async {
        while metrics.exports_forwarded("failed") == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    for _ in 0..20 {
        forwarder.forward(export(MESSAGE_LIMIT_BYTES), &origin("uid"));
    }
    drain.cancel();
    within(running).await.unwrap();
}
