//! Exports to receivers over loopback: good ones, and such as never answer, refuse, or take a part.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsPartialSuccess;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::metrics::v1::{ResourceMetrics, ScopeMetrics};
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::settings::TelemetrySettings;

/// What a receiver was sent: the number of its resources, and a header.
type Seen = (usize, Option<String>);

#[derive(Clone, Copy)]
enum Answer {
    Good,
    Partial,
    Refuse,
    Never,
}

struct GrpcReceiver {
    answer: Answer,
    seen: mpsc::Sender<Seen>,
}

#[tonic::async_trait]
impl MetricsService for GrpcReceiver {
    async fn export(
        &self,
        request: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, tonic::Status> {
        let key = request.metadata().get("api-key").map(|value| value.to_str().unwrap().to_owned());
        let _ = self.seen.try_send((request.get_ref().resource_metrics.len(), key));
        let mut response = ExportMetricsServiceResponse::default();
        match self.answer {
            Answer::Good => {}
            Answer::Partial => {
                let error_message = "three are bad".to_owned();
                response.partial_success =
                    Some(ExportMetricsPartialSuccess { rejected_data_points: 3, error_message });
            }
            Answer::Refuse => return Err(tonic::Status::resource_exhausted("full")),
            Answer::Never => std::future::pending().await,
        }
        Ok(tonic::Response::new(response))
    }
}

async fn listener() -> (TcpListener, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn grpc_receiver(answer: Answer) -> (std::net::SocketAddr, mpsc::Receiver<Seen>) {
    let (listener, address) = listener().await;
    let (seen, received) = mpsc::channel(1000);
    let service = MetricsServiceServer::new(GrpcReceiver { answer, seen });
    let router = tonic::transport::Server::builder().add_service(service);
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    spawn(async move { router.serve_with_incoming(incoming).await.unwrap() });
    (address, received)
}

async fn http_receiver(answer: Answer) -> (std::net::SocketAddr, mpsc::Receiver<Seen>) {
    let (listener, address) = listener().await;
    let (seen, received) = mpsc::channel(1000);
    spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let seen = seen.clone();
            let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let seen = seen.clone();
                async move {
                    assert_eq!(request.uri().path(), "/v1/metrics");
                    assert_eq!(request.headers()["content-type"], "application/x-protobuf");
                    let key = request.headers().get("api-key");
                    let key = key.map(|value| value.to_str().unwrap().to_owned());
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let message = ExportMetricsServiceRequest::decode(body).unwrap();
                    let _ = seen.try_send((message.resource_metrics.len(), key));
                    let mut answered = ExportMetricsServiceResponse::default();
                    let mut response = http::Response::new(Full::<bytes::Bytes>::default());
                    match answer {
                        Answer::Good => {}
                        Answer::Partial => {
                            answered.partial_success = Some(ExportMetricsPartialSuccess {
                                rejected_data_points: 3,
                                ..Default::default()
                            });
                        }
                        Answer::Refuse => *response.status_mut() = http::StatusCode::BAD_GATEWAY,
                        Answer::Never => std::future::pending().await,
                    }
                    *response.body_mut() = Full::from(answered.encode_to_vec());
                    Ok::<_, Infallible>(response)
                }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            spawn(async move {
                let _ = connection.await;
            });
        }
    });
    (address, received)
}

fn collector(address: std::net::SocketAddr, protocol: &str) -> Receiver {
    let endpoint = format!("http://{address}");
    let settings = TelemetrySettings::read(&|name| match name {
        "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(endpoint.clone()),
        "OTEL_EXPORTER_OTLP_PROTOCOL" => Some(protocol.to_owned()),
        "OTEL_EXPORTER_OTLP_HEADERS" => Some("api-key=abc".to_owned()),
        "OTEL_EXPORTER_OTLP_TIMEOUT" => Some("300".to_owned()),
        _ => None,
    });
    let settings = settings.unwrap().metrics.unwrap();
    Receiver::Collector(crate::collector::Collector::new(settings, None).unwrap())
}

fn request() -> ExportMetricsServiceRequest {
    counted("a", 1)
}

fn counted(name: &str, count: u32) -> ExportMetricsServiceRequest {
    let metric = crate::otlp::About { name, unit: "", description: "" };
    let point = crate::otlp::Span { start: 1, now: 2 }.point(Vec::new(), f64::from(count));
    let scope = ScopeMetrics { metrics: vec![metric.counter(vec![point])], ..Default::default() };
    let resource = ResourceMetrics { scope_metrics: vec![scope], ..Default::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![resource] }
}

/// The first outcomes of an exporter that runs, and how often it has gathered by then.
async fn outcomes(receiver: Receiver, wanted: usize) -> (Vec<Outcome>, usize) {
    let (sender, mut told) = mpsc::channel(1000);
    let gathered = Arc::new(AtomicUsize::new(0));
    let drain = CancellationToken::new();
    let gather = {
        let gathered = Arc::clone(&gathered);
        move || {
            gathered.fetch_add(1, Ordering::Relaxed);
            request()
        }
    };
    let tell = move |outcome| {
        let _ = sender.try_send(outcome);
    };
    let interval = Duration::from_millis(20);
    let running = spawn(run(receiver, interval, gather, tell, drain.clone()));
    let mut outcomes = Vec::new();
    while outcomes.len() < wanted {
        let outcome = tokio::time::timeout(Duration::from_secs(30), told.recv()).await;
        outcomes.push(outcome.expect("an outcome in time").expect("the exporter runs"));
    }
    let count = gathered.load(Ordering::Relaxed);
    drain.cancel();
    tokio::time::timeout(Duration::from_secs(30), running).await.expect("it ends").unwrap();
    (outcomes, count)
}

#[expect(clippy::disallowed_methods, reason = "tests have no tasks to name")]
fn spawn<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::spawn(future)
}

#[tokio::test]
async fn both_protocols_bring_metrics_and_headers_to_a_collector() {
    for (protocol, (address, mut seen)) in [
        ("grpc", grpc_receiver(Answer::Good).await),
        ("http/protobuf", http_receiver(Answer::Good).await),
    ] {
        let (outcomes, _) = outcomes(collector(address, protocol), 2).await;
        assert_eq!(outcomes, [Outcome::Succeeded; 2], "case: {protocol}");
        assert_eq!(seen.recv().await, Some((1, Some("abc".to_owned()))), "case: {protocol}");
    }
}

#[tokio::test]
async fn what_becomes_of_an_export_is_told() {
    for (answer, expected) in
        [(Answer::Partial, Outcome::Partial { rejected: 3 }), (Answer::Refuse, Outcome::Failed)]
    {
        let (address, _seen) = grpc_receiver(answer).await;
        assert_eq!(outcomes(collector(address, "grpc"), 2).await.0, [expected; 2]);
        let (address, _seen) = http_receiver(answer).await;
        assert_eq!(outcomes(collector(address, "http/protobuf"), 2).await.0, [expected; 2]);
    }
}

#[tokio::test]
async fn a_receiver_that_never_answers_holds_one_export_and_no_more() {
    for (protocol, (address, mut seen)) in [
        ("grpc", grpc_receiver(Answer::Never).await),
        ("http/protobuf", http_receiver(Answer::Never).await),
    ] {
        let (outcomes, gathered) = outcomes(collector(address, protocol), 2).await;
        assert_eq!(outcomes, [Outcome::TimedOut; 2], "case: {protocol}");
        // One a time: what was not taken is not kept beside what follows it.
        assert!(gathered <= 3, "case: {protocol}: {gathered}");
        assert!(seen.recv().await.is_some(), "case: {protocol}");
    }
}

#[tokio::test]
async fn a_receiver_that_is_not_there_is_tried_again_until_it_is() {
    let (listener, address) = listener().await;
    drop(listener);
    for protocol in ["grpc", "http/protobuf"] {
        assert_eq!(outcomes(collector(address, protocol), 2).await.0, [Outcome::Failed; 2]);
    }
    let (connection, connected) = watch::channel(None);
    let timeout = Duration::from_secs(5);
    let headers = Vec::new();
    let quiet = Duration::ZERO;
    let receiver = Receiver::ControlPlane { connection: connected, timeout, headers, quiet };
    assert_eq!(outcomes(receiver.clone(), 2).await.0, [Outcome::NotConnected; 2]);
    let (address, _seen) = grpc_receiver(Answer::Good).await;
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    connection.send_replace(Some(channel.connect().await.unwrap()));
    assert_eq!(outcomes(receiver, 2).await.0, [Outcome::Succeeded; 2]);
}

/// A control plane that takes what it is told, and a connection to it.
async fn control_plane() -> (tonic::transport::Channel, mpsc::Receiver<Seen>) {
    let (address, seen) = grpc_receiver(Answer::Good).await;
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    (channel.connect().await.unwrap(), seen)
}

#[tokio::test]
async fn a_control_plane_is_told_again_when_there_is_traffic_or_another_connection() {
    let (channel, mut seen) = control_plane().await;
    let (connection, connected) = watch::channel(Some(channel));
    let receiver = Receiver::ControlPlane {
        connection: connected,
        timeout: Duration::from_secs(5),
        headers: Vec::new(),
        quiet: Duration::from_secs(3600),
    };
    let (count, gathered) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let gather = {
        let (count, gathered) = (Arc::clone(&count), Arc::clone(&gathered));
        move || {
            gathered.fetch_add(1, Ordering::Relaxed);
            let count = u32::try_from(count.load(Ordering::Relaxed)).unwrap();
            counted("heddle.tcp.connections", count)
        }
    };
    let drain = CancellationToken::new();
    let interval = Duration::from_millis(10);
    let running = spawn(run(receiver, interval, gather, |_| {}, drain.clone()));
    let is_told = async |seen: &mut mpsc::Receiver<Seen>, case: &str| {
        let told = tokio::time::timeout(Duration::from_secs(30), seen.recv()).await;
        assert!(told.unwrap_or_else(|_| panic!("not told in time: {case}")).is_some());
    };
    let looks = async |more: usize| {
        let until = gathered.load(Ordering::Relaxed) + more;
        while gathered.load(Ordering::Relaxed) < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    is_told(&mut seen, "at first").await;
    looks(5).await;
    assert!(seen.try_recv().is_err(), "nothing is new");
    count.store(1, Ordering::Relaxed);
    is_told(&mut seen, "traffic").await;
    looks(5).await;
    assert!(seen.try_recv().is_err(), "nothing is new since");
    let (channel, mut seen_elsewhere) = control_plane().await;
    connection.send_replace(Some(channel));
    is_told(&mut seen_elsewhere, "another control plane").await;
    looks(5).await;
    assert!(seen.try_recv().is_err() && seen_elsewhere.try_recv().is_err());
    drain.cancel();
    is_told(&mut seen_elsewhere, "the last one").await;
    tokio::time::timeout(Duration::from_secs(30), running).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn a_control_plane_hears_of_a_quiet_proxy_now_and_then() {
    let (channel, mut seen) = control_plane().await;
    let (_connection, connected) = watch::channel(Some(channel));
    let quiet = Duration::from_millis(100);
    let (timeout, headers) = (Duration::from_secs(5), Vec::new());
    let receiver = Receiver::ControlPlane { connection: connected, timeout, headers, quiet };
    let began = Instant::now();
    assert_eq!(outcomes(receiver, 3).await.0, [Outcome::Succeeded; 3]);
    assert!(began.elapsed() >= quiet * 2, "{:?}", began.elapsed());
    assert!(seen.recv().await.is_some());
}
