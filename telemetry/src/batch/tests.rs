//! Batches to receivers over loopback: good ones, and such as never answer, refuse, or take a part.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Mutex;

use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use crate::settings::TelemetrySettings;

#[derive(Clone, Copy, Debug)]
enum Answer {
    Good,
    Partial,
    /// Of HTTP, and what of gRPC is alike.
    Refuse(u16, tonic::Code),
    Never,
}

/// What is answered, in this order; the last again and again.
struct Script {
    answers: Mutex<VecDeque<Answer>>,
    seen: mpsc::Sender<Vec<String>>,
}

impl Script {
    /// Sees the names of spans, and says what to answer.
    async fn answer(
        &self,
        request: ExportTraceServiceRequest,
    ) -> Result<ExportTraceServiceResponse, (u16, tonic::Code)> {
        let answer = {
            let mut answers = self.answers.lock().unwrap();
            if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0] }
        };
        let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
        let spans = scopes.flat_map(|scope| &scope.spans);
        let _ = self.seen.try_send(spans.map(|span| span.name.clone()).collect());
        match answer {
            Answer::Good => Ok(ExportTraceServiceResponse::default()),
            Answer::Partial => {
                let error_message = "two are bad".to_owned();
                let partial = ExportTracePartialSuccess { rejected_spans: 2, error_message };
                Ok(ExportTraceServiceResponse { partial_success: Some(partial) })
            }
            Answer::Refuse(status, code) => Err((status, code)),
            Answer::Never => std::future::pending().await,
        }
    }
}

struct Grpc(Arc<Script>);

#[tonic::async_trait]
impl TraceService for Grpc {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let answered = self.0.answer(request.into_inner()).await;
        answered.map(tonic::Response::new).map_err(|(_, code)| tonic::Status::new(code, "no"))
    }
}

async fn receiver(protocol: &str, answers: &[Answer]) -> (SocketAddr, mpsc::Receiver<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (seen, received) = mpsc::channel(1000);
    let answers = Mutex::new(answers.iter().copied().collect());
    let script = Arc::new(Script { answers, seen });
    if protocol == "grpc" {
        let router =
            tonic::transport::Server::builder().add_service(TraceServiceServer::new(Grpc(script)));
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        spawn(async move { router.serve_with_incoming(incoming).await.unwrap() });
    } else {
        spawn(serve_http(listener, script));
    }
    (address, received)
}

async fn serve_http(listener: TcpListener, script: Arc<Script>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let script = Arc::clone(&script);
        let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let script = Arc::clone(&script);
            async move {
                assert_eq!(request.uri().path(), "/v1/traces");
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let answered =
                    script.answer(ExportTraceServiceRequest::decode(body).unwrap()).await;
                let mut response = Response::new(Full::<Bytes>::default());
                match answered {
                    Ok(message) => *response.body_mut() = Full::from(message.encode_to_vec()),
                    Err((status, _)) => {
                        *response.status_mut() = StatusCode::from_u16(status).unwrap();
                    }
                }
                Ok::<_, Infallible>(response)
            }
        });
        let builder = hyper::server::conn::http1::Builder::new();
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        spawn(async move {
            let _ = connection.await;
        });
    }
}

/// Batches that run.
struct Running {
    queue: Queue<Span>,
    told: mpsc::Receiver<Told>,
    drain: CancellationToken,
    task: JoinHandle<()>,
}

/// With these settings: (variable, value).
fn start(address: SocketAddr, protocol: &str, set: &[(&str, &str)]) -> Running {
    let endpoint = format!("http://{address}");
    let settings = TelemetrySettings::read(&|name| match name {
        "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(endpoint.clone()),
        "OTEL_EXPORTER_OTLP_PROTOCOL" => Some(protocol.to_owned()),
        _ => set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()),
    });
    let settings = settings.unwrap();
    let collector = Collector::new(settings.traces.clone().unwrap(), None).unwrap();
    let (sender, told) = mpsc::channel(1000);
    let tell: Tell = Arc::new(move |one| {
        let _ = sender.try_send(one);
    });
    let (queue, batches) = queue(settings.spans, tell);
    let drain = CancellationToken::new();
    let task = spawn(batches.run(collector, Teller::default, drain.clone()));
    Running { queue, told, drain, task }
}

impl Running {
    fn offer(&self, names: std::ops::Range<usize>) -> usize {
        let taken = names.filter(|number| self.queue.offer(|| span(*number, 0)));
        taken.count()
    }

    async fn next(&mut self) -> Told {
        within(self.told.recv()).await.expect("batches run")
    }

    async fn end(self) {
        self.drain.cancel();
        within(self.task).await.unwrap();
    }
}

fn span(number: usize, bytes: usize) -> Span {
    let trace_state = "a".repeat(bytes);
    Span { name: number.to_string(), trace_state, ..Span::default() }
}

fn names(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| number.to_string()).collect()
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("in time")
}

#[expect(clippy::disallowed_methods, reason = "tests have no tasks to name")]
fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(future)
}

const BOTH: [&str; 2] = ["grpc", "http/protobuf"];
const SOON: (&str, &str) = ("OTEL_BSP_SCHEDULE_DELAY", "20");
const NEVER_DUE: (&str, &str) = ("OTEL_BSP_SCHEDULE_DELAY", "3600000");

#[tokio::test]
async fn a_batch_goes_when_it_is_full_or_due() {
    for protocol in BOTH {
        let (address, mut seen) = receiver(protocol, &[Answer::Good]).await;
        let full = [NEVER_DUE, ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "3")];
        let mut running = start(address, protocol, &full);
        assert_eq!(running.offer(0..7), 7);
        assert_eq!(within(seen.recv()).await, Some(names(0..3)), "case: {protocol}");
        assert_eq!(within(seen.recv()).await, Some(names(3..6)), "case: {protocol}");
        assert_eq!(running.next().await, Told::Export(Outcome::Succeeded));
        running.end().await;
        assert_eq!(within(seen.recv()).await, Some(names(6..7)), "case: {protocol}, at the end");
        let running = start(address, protocol, &[SOON]);
        running.offer(0..1);
        assert_eq!(within(seen.recv()).await, Some(names(0..1)), "case: {protocol}, when due");
    }
}

#[tokio::test]
async fn no_message_is_longer_than_its_limit() {
    let (address, mut seen) = receiver("grpc", &[Answer::Good]).await;
    let running = start(address, "grpc", &[SOON]);
    for number in 0..5 {
        assert!(running.queue.offer(|| span(number, 200_000)));
    }
    let mut sizes = Vec::new();
    while sizes.iter().sum::<usize>() < 5 {
        sizes.push(within(seen.recv()).await.unwrap().len());
    }
    assert!(sizes.iter().all(|size| *size <= 2), "{sizes:?}");
}

#[tokio::test]
async fn what_may_be_taken_later_is_sent_again_and_arrives_once() {
    for protocol in BOTH {
        let busy = Answer::Refuse(503, tonic::Code::Unavailable);
        let (address, mut seen) = receiver(protocol, &[busy, busy, Answer::Good]).await;
        let mut running = start(address, protocol, &[SOON]);
        running.offer(0..2);
        let mut told = Vec::new();
        while told.last() != Some(&Told::Export(Outcome::Succeeded)) {
            told.push(running.next().await);
        }
        let failed = Told::Export(Outcome::Failed);
        assert_eq!(told[..told.len() - 1], [failed; 2], "case: {protocol}");
        running.end().await;
        let mut all: Vec<String> = Vec::new();
        while let Ok(names) = seen.try_recv() {
            all.extend(names);
        }
        all.sort();
        assert_eq!(all, ["0", "0", "0", "1", "1", "1"], "case: {protocol}: three times, no more");
    }
}

#[tokio::test]
async fn what_is_refused_is_dropped_at_once_and_counted() {
    for protocol in BOTH {
        let refuse = Answer::Refuse(400, tonic::Code::InvalidArgument);
        let (address, _seen) = receiver(protocol, &[refuse, Answer::Partial]).await;
        let mut running = start(address, protocol, &[SOON]);
        running.offer(0..5);
        assert_eq!(running.next().await, Told::Export(Outcome::Failed), "case: {protocol}");
        let lost = Told::Dropped(DropReason::NotTaken, 5);
        assert_eq!(running.next().await, lost, "case: {protocol}");
        running.offer(0..5);
        let partial = Told::Export(Outcome::Partial { rejected: 2 });
        assert_eq!(running.next().await, partial, "case: {protocol}");
        let lost = Told::Dropped(DropReason::Rejected, 2);
        assert_eq!(running.next().await, lost, "case: {protocol}");
    }
}

#[tokio::test]
async fn a_receiver_that_never_answers_costs_no_more_than_the_queue() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for protocol in BOTH {
        let (silent, _seen) = receiver(protocol, &[Answer::Never]).await;
        for (case, address) in [("silent", silent), ("not there", gone)] {
            let set = [
                ("OTEL_EXPORTER_OTLP_TIMEOUT", "300"),
                ("OTEL_BSP_EXPORT_TIMEOUT", "400"),
                ("OTEL_BSP_MAX_QUEUE_SIZE", "10"),
                ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "5"),
                SOON,
            ];
            let mut running = start(address, protocol, &set);
            let (mut taken, mut dropped, mut not_taken) = (0, 0, 0);
            // There is always somebody who has something, until ten were given up.
            while not_taken < 10 {
                while running.queue.offer(|| span(0, 0)) {
                    taken += 1;
                }
                loop {
                    match running.next().await {
                        Told::Dropped(DropReason::QueueFull, records) => dropped += records,
                        Told::Dropped(DropReason::NotTaken, records) => {
                            not_taken += records;
                            break;
                        }
                        Told::Dropped(DropReason::Rejected, _) => panic!("nothing was taken"),
                        Told::Export(outcome) => {
                            assert_ne!(outcome, Outcome::Succeeded);
                            break;
                        }
                    }
                }
            }
            // What waits, and what is being sent.
            let limit: u64 = not_taken + 10 + 5;
            assert!(taken <= limit, "case: {protocol}, {case}: {taken}");
            assert!(dropped > 0, "case: {protocol}, {case}");
            running.end().await;
        }
    }
}

#[tokio::test]
async fn a_queue_is_bounded_in_bytes_and_makes_nothing_that_it_cannot_take() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&dropped);
    let tell: Tell = Arc::new(move |told| {
        assert_eq!(told, Told::Dropped(DropReason::QueueFull, 1));
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let settings = TelemetrySettings::read(&|_| None).unwrap().spans;
    let (queue, _batches) = queue::<Span>(settings, tell);
    let made = AtomicUsize::new(0);
    for number in 0..100 {
        queue.offer(|| {
            made.fetch_add(1, Ordering::Relaxed);
            span(number, 100_000)
        });
    }
    let made = made.into_inner();
    assert_eq!(made, QUEUE_LIMIT_BYTES.div_ceil(100_000));
    assert_eq!(dropped.load(Ordering::Relaxed), 100 - made);
}

#[tokio::test]
async fn at_the_end_a_silent_receiver_is_not_waited_for_and_what_is_lost_is_counted() {
    let (address, _seen) = receiver("grpc", &[Answer::Never]).await;
    let mut running = start(address, "grpc", &[SOON, ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")]);
    running.offer(0..7);
    running.drain.cancel();
    within(&mut running.task).await.unwrap();
    assert_eq!(running.next().await, Told::Dropped(DropReason::NotTaken, 7));
}
