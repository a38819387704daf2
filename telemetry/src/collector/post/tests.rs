//! Exports by HTTP to receivers over loopback: how many connections they take, and what becomes of what is lost with one.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::service::service_fn;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::batch::record::{Record, Teller};
use crate::batch::{Told, queue};
use crate::collector::Collector;
use crate::exporter::Outcome;
use crate::settings::{Signal, TelemetrySettings};

/// What connections share: how many there were, and the names of the spans that came.
#[derive(Clone)]
struct Seen {
    connections: Arc<AtomicUsize>,
    names: mpsc::Sender<String>,
}

impl Seen {
    fn new() -> (Self, mpsc::Receiver<String>) {
        let (names, receiver) = mpsc::channel(1000);
        (Self { connections: Arc::default(), names }, receiver)
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// Takes all that it is sent, until it is dropped.
async fn receiver(address: SocketAddr, seen: &Seen) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = seen.clone();
    let mut running = JoinSet::new();
    running.spawn(async move {
        let mut served = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            seen.connections.fetch_add(1, Ordering::Relaxed);
            served.spawn(serve(stream, seen.clone()));
        }
    });
    (address, running)
}

async fn serve(stream: TcpStream, seen: Seen) {
    let service = service_fn(move |request: Request<Incoming>| {
        let seen = seen.clone();
        async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let message = ExportTraceServiceRequest::decode(body).unwrap();
            for span in &message.resource_spans[0].scope_spans[0].spans {
                seen.names.try_send(span.name.clone()).unwrap();
            }
            let answer = ExportTraceServiceResponse::default().encode_to_vec();
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(answer)))
        }
    });
    let builder = hyper::server::conn::http1::Builder::new();
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

/// By hand: one connection after the other, each by its own script.
async fn scripted(scripts: Vec<Vec<Step>>, seen: &Seen) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind(ANYWHERE).await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = seen.clone();
    let mut running = JoinSet::new();
    running.spawn(async move {
        // None is closed by being forgotten.
        let mut open = Vec::new();
        for script in scripts {
            let (mut stream, _) = listener.accept().await.unwrap();
            seen.connections.fetch_add(1, Ordering::Relaxed);
            let mut is_open = true;
            for step in script {
                match step {
                    Step::Read => whole_request(&mut stream).await,
                    Step::ReadHead => _ = stream.read_u8().await.unwrap(),
                    Step::Answer(text) => stream.write_all(text.as_bytes()).await.unwrap(),
                    Step::Close => is_open = false,
                }
            }
            open.extend(is_open.then_some(stream));
        }
        std::future::pending().await
    });
    (address, running)
}

enum Step {
    /// A request, with its body.
    Read,
    /// Its beginning, and no more.
    ReadHead,
    Answer(&'static str),
    Close,
}

async fn whole_request(stream: &mut TcpStream) {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read).to_lowercase();
        if let Some(end) = text.find("\r\n\r\n") {
            let length = text.split("content-length: ").nth(1).unwrap();
            let length: usize = length.split('\r').next().unwrap().parse().unwrap();
            if read.len() >= end + 4 + length {
                return;
            }
        }
        stream.read_buf(&mut read).await.unwrap();
    }
}

fn settings(address: SocketAddr) -> TelemetrySettings {
    let endpoint = format!("http://{address}");
    let read = TelemetrySettings::read(&|name| match name {
        "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(endpoint.clone()),
        "OTEL_EXPORTER_OTLP_TIMEOUT" => Some("2000".to_owned()),
        "OTEL_BSP_SCHEDULE_DELAY" => Some("1".to_owned()),
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE" => Some("1".to_owned()),
        _ => None,
    });
    read.unwrap()
}

fn collector(address: SocketAddr) -> Collector {
    Collector::new(settings(address).traces.unwrap(), None).unwrap()
}

fn span(name: &str, bytes: usize) -> Span {
    Span { name: name.to_owned(), trace_state: "a".repeat(bytes), ..Span::default() }
}

async fn send(collector: &Collector, span: Span) -> Result<(), SendError> {
    let message = Span::request(Teller::default(), vec![span]).encode_to_vec();
    let sent = collector.send::<ExportTraceServiceResponse>(Signal::Traces, message.into());
    within(sent).await.map(drop)
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("in time")
}

fn all(received: &mut mpsc::Receiver<String>) -> Vec<String> {
    std::iter::from_fn(|| received.try_recv().ok()).collect()
}

const ANYWHERE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
const GOOD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

#[tokio::test]
async fn many_exports_take_one_connection() {
    let (seen, mut received) = Seen::new();
    let (address, _running) = receiver(ANYWHERE, &seen).await;
    let collector = collector(address);
    for name in ["0", "1", "2", "3", "4"] {
        send(&collector, span(name, 100_000)).await.unwrap();
    }
    assert_eq!(seen.connections(), 1);
    assert_eq!(all(&mut received), ["0", "1", "2", "3", "4"]);
}

#[tokio::test]
async fn a_collector_that_is_started_anew_between_batches_gets_each_once_and_at_once() {
    let (seen, mut received) = Seen::new();
    let (address, mut running) = receiver(ANYWHERE, &seen).await;
    let settings = settings(address);
    let collector = Collector::new(settings.traces.clone().unwrap(), None).unwrap();
    let (sender, mut told) = mpsc::channel(100);
    let tell = Arc::new(move |one| sender.try_send(one).unwrap());
    let (queue, batches) = queue(settings.spans, tell);
    let drain = CancellationToken::new();
    let mut exporting = JoinSet::new();
    exporting.spawn(batches.run(collector, Teller::default, drain.clone()));
    for round in ["0", "1", "2"] {
        for batch in ["a", "b", "c"] {
            assert!(queue.offer(|| span(&format!("{round}{batch}"), 0)));
            // Once, and not after it was tried in vain.
            assert_eq!(within(told.recv()).await, Some(Told::Export(Outcome::Succeeded)));
        }
        running.shutdown().await;
        (_, running) = receiver(address, &seen).await;
    }
    assert_eq!(seen.connections(), 3);
    let names = ["0a", "0b", "0c", "1a", "1b", "1c", "2a", "2b", "2c"];
    assert_eq!(all(&mut received), names);
    drain.cancel();
    within(exporting.join_all()).await;
}

#[tokio::test]
async fn what_is_lost_with_a_kept_connection_is_sent_once_more_over_a_new_one() {
    let (seen, _received) = Seen::new();
    let first = vec![Step::Read, Step::Answer(GOOD), Step::Read, Step::Close];
    let (address, _running) =
        scripted(vec![first, vec![Step::Read, Step::Answer(GOOD)]], &seen).await;
    let collector = collector(address);
    send(&collector, span("0", 0)).await.unwrap();
    send(&collector, span("1", 0)).await.unwrap();
    assert_eq!(seen.connections(), 2);
}

#[tokio::test]
async fn what_is_lost_with_a_new_connection_is_told_and_not_sent_again() {
    let (seen, _received) = Seen::new();
    let lost = || vec![Step::Read, Step::Close];
    let (address, _running) = scripted(vec![lost(), lost()], &seen).await;
    let collector = collector(address);
    let error = send(&collector, span("0", 0)).await.unwrap_err();
    assert!(matches!(error, SendError::Http(_)), "{error:?}");
    assert_eq!(seen.connections(), 1);
}

#[tokio::test]
async fn a_connection_on_which_something_is_open_is_not_used_again() {
    for (case, first) in [
        ("an answer is late", vec![Step::Read]),
        ("it was refused unread", {
            let refusal = "HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n";
            vec![Step::ReadHead, Step::Answer(refusal)]
        }),
        ("it is to be closed", {
            let last = "HTTP/1.1 503 No\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
            vec![Step::Read, Step::Answer(last)]
        }),
        ("it is answered twice", {
            let twice = "HTTP/1.1 400 No\r\ncontent-length: 0\r\n\r\nHTTP/1.1 400 No\r\ncontent-length: 0\r\n\r\n";
            vec![Step::Read, Step::Answer(twice)]
        }),
    ] {
        let (seen, _received) = Seen::new();
        let (address, _running) =
            scripted(vec![first, vec![Step::Read, Step::Answer(GOOD)]], &seen).await;
        let collector = collector(address);
        // More than the buffers of a connection take.
        send(&collector, span("0", 16 << 20)).await.expect_err(case);
        send(&collector, span("1", 0)).await.expect(case);
        assert_eq!(seen.connections(), 2, "case: {case}");
    }
}

#[tokio::test]
async fn a_connection_that_lay_idle_for_long_is_not_used_again() {
    let (seen, mut received) = Seen::new();
    let (address, _running) = receiver(ANYWHERE, &seen).await;
    let collector = collector(address);
    for (name, idle, connections) in [
        ("0", Duration::ZERO, 1),
        ("1", IDLE_LIMIT - Duration::from_secs(10), 1),
        ("2", IDLE_LIMIT, 2),
    ] {
        tokio::time::pause();
        tokio::time::advance(idle).await;
        tokio::time::resume();
        send(&collector, span(name, 0)).await.unwrap();
        assert_eq!(seen.connections(), connections, "after {idle:?}");
    }
    assert_eq!(all(&mut received), ["0", "1", "2"]);
}

#[tokio::test]
async fn a_connection_grows_only_so_old() {
    let (seen, mut received) = Seen::new();
    let (address, _running) = receiver(ANYWHERE, &seen).await;
    let collector = collector(address);
    let step = IDLE_LIMIT - Duration::from_secs(10);
    // The last export of the first connection is the first one after its time.
    let last = AGE_LIMIT.as_secs().div_ceil(step.as_secs());
    for number in 0..=last + 1 {
        send(&collector, span(&number.to_string(), 0)).await.unwrap();
        let connections = if number <= last { 1 } else { 2 };
        assert_eq!(seen.connections(), connections, "after {number} steps of {step:?}");
        tokio::time::pause();
        tokio::time::advance(step).await;
        tokio::time::resume();
    }
    let names: Vec<String> = (0..=last + 1).map(|number| number.to_string()).collect();
    assert_eq!(all(&mut received), names);
}
