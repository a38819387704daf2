//! The whole stack between real clients and real servers, over loopback sockets.

#[path = "tests/breaking.rs"]
mod breaking;
#[path = "tests/channels.rs"]
mod channels;
#[path = "tests/filters.rs"]
mod filters;
#[path = "tests/http2.rs"]
mod http2;
#[path = "tests/measured.rs"]
mod measured;
#[path = "tests/mirrors.rs"]
mod mirrors;
#[path = "tests/policy.rs"]
mod policy;
#[path = "tests/recorder.rs"]
mod recorder;
#[path = "tests/retries.rs"]
mod retries;
#[path = "tests/shared.rs"]
mod shared;
#[path = "tests/tapped.rs"]
mod tapped;
#[path = "tests/witnessed.rs"]
mod witnessed;

use std::time::Duration;

use heddle_model::route::Timeouts;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::balance::endpoint::BalancedEndpoint;
use crate::balance::set::{PickContext, Purpose};
use crate::http::frames::Budgets;
use crate::http::grpc::GrpcStatus;
use crate::http::pool;
use crate::http::server::{Serving, serve};
use crate::metrics::RequestLabels;
use crate::testing::{
    Backend, Client, answered, balancer, dialer, identity, listen, loopback, places, plain,
    resolved, slot, spawn, tcp_pair,
};

/// Whether these run past the lane, as all requests do that are not simple.
fn is_general() -> bool {
    module_path!().ends_with("general_tests")
}

struct Proxy {
    dialer: Arc<Dialer>,
    destination: watch::Sender<Resolved>,
}

impl Proxy {
    fn new(resolved: Resolved) -> Self {
        Self { dialer: dialer("client"), destination: watch::Sender::new(resolved) }
    }

    fn to(endpoints: Vec<heddle_model::endpoint::Endpoint>) -> Self {
        Self::new(resolved(vec![(balancer("api", endpoints), 1)], Timeouts::default()))
    }

    /// The application's end of a connection that the proxy serves.
    async fn connection(&self, version: HttpVersion) -> TcpStream {
        self.mirroring(version, MirrorPlaces::default()).await
    }

    /// The same, of a proxy with these places for copies.
    async fn mirroring(&self, version: HttpVersion, mirrors: MirrorPlaces) -> TcpStream {
        let call = OutboundCall {
            dialer: Arc::clone(&self.dialer),
            destination: self.destination.subscribe(),
            original: ([10, 0, 0, 1], 80).into(),
            version,
            service: "default/api:80".into(),
            mirrors,
        };
        self.serve(outbound(call), version, None).await
    }

    async fn serve(
        &self,
        service: Answering,
        version: HttpVersion,
        drain: Option<tokio_util::sync::CancellationToken>,
    ) -> TcpStream {
        let service = Answering { express: service.express.filter(|_| !is_general()), ..service };
        let (near, far) = tcp_pair().await;
        let window_bytes = crate::listen::HTTP2_CONNECTION_WINDOW_BYTES;
        let idle = Duration::from_secs(60);
        let (direction, budgets) = (Direction::Outbound, Budgets::TRUSTED);
        let serving =
            Serving { direction, version, idle, window_bytes, budgets, drain, until: None };
        let dialer = Arc::clone(&self.dialer);
        spawn(async move {
            let _ = serve(far, service, serving, &dialer).await;
        });
        near
    }

    async fn client(&self) -> Client {
        Client::new(self.connection(HttpVersion::Http1).await).await
    }

    fn count(&self, matches: impl Fn(&RequestLabels) -> bool, labels: &[RequestLabels]) -> u64 {
        let family = self.dialer.metrics.requests.family();
        labels
            .iter()
            .filter(|labels| matches(labels))
            .filter_map(|labels| family.get(labels).map(|counter| counter.get()))
            .sum()
    }
}

fn labels(backend: &str, status: u16) -> RequestLabels {
    RequestLabels {
        direction: Direction::Outbound,
        service: "default/api:80".into(),
        backend: format!("default/{backend}:80").into(),
        backend_pod: "pod".into(),
        status,
        grpc_status: GrpcStatus::NotGrpc,
        tls: Protection::Plaintext,
    }
}

/// A server that reads the head of each request and answers these bytes, once for each connection,
/// and then closes.
async fn raw_server(answer: &'static [u8]) -> std::net::SocketAddr {
    listen(loopback(), move |mut stream, _number| async move {
        let mut head = vec![0; 4096];
        let _ = stream.read(&mut head).await;
        let _ = stream.write_all(answer).await;
    })
    .await
}

#[tokio::test]
async fn connections_to_a_backend_are_used_again() {
    let backend = Backend::new("one").await;
    let proxy = Proxy::to(vec![backend.endpoint()]);
    for _client in 0..3 {
        let mut client = proxy.client().await;
        for _request in 0..5 {
            let answer = client.get("/").await.unwrap();
            assert_eq!((answer.status, answer.text.as_str()), (200, "one"));
        }
    }
    assert_eq!(backend.connections(), 1);
    assert_eq!(proxy.count(|_| true, &[labels("api", 200)]), 15);
}

#[tokio::test]
async fn a_changed_split_reaches_a_connection_that_is_open() {
    let (old, new) = (Backend::new("old").await, Backend::new("new").await);
    let to = |backend: &Backend, name| {
        let balancer = balancer(name, vec![backend.endpoint()]);
        resolved(vec![(balancer, 1)], Timeouts::default())
    };
    let proxy = Proxy::new(to(&old, "api-v1"));
    let mut client = proxy.client().await;
    assert_eq!(client.get("/").await.unwrap().text, "old");
    proxy.destination.send_replace(to(&new, "api-v2"));
    assert_eq!(client.get("/").await.unwrap().text, "new");
    proxy.destination.send_replace(Resolved::Refused { reason: "it is gone".to_owned() });
    let answer = client.get("/").await.unwrap();
    assert_eq!(answer.status, 503);
    assert_eq!(answer.headers["x-heddle-error"], "refused");
    assert!(client.get("/").await.is_err(), "the connection was closed");
}

#[tokio::test]
async fn http_2_is_carried_as_http_2_over_one_connection() {
    let backend = Backend::new("two").await;
    let proxy = Proxy::to(vec![backend.endpoint()]);
    let stream = proxy.connection(HttpVersion::Http2).await;
    let (sender, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(stream),
    )
    .await
    .unwrap();
    spawn(async move {
        let _ = connection.await;
    });
    let requests = (0..50).map(|_number| {
        let mut sender = sender.clone();
        async move {
            let request = Request::get("http://api/")
                .header("te", "trailers")
                .body(http_body_util::Empty::<bytes::Bytes>::new())
                .unwrap();
            answered(sender.send_request(request).await.unwrap()).await.unwrap()
        }
    });
    for answer in futures_util::future::join_all(requests).await {
        assert_eq!((answer.status, answer.text.as_str()), (200, "two"));
        assert_eq!(answer.headers["seen-version"], "HTTP/2.0");
        assert_eq!(answer.headers["seen-te"], "trailers");
    }
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_reached_is_passed_over() {
    let backend = Backend::new("alive").await;
    let dead = listen(loopback(), |_stream, _number| async {}).await;
    // Nobody listens there any more: the port was free, and is on another address.
    let dead = std::net::SocketAddr::from(([127, 0, 0, 9], dead.port()));
    let proxy = Proxy::to(vec![plain(dead), backend.endpoint()]);
    let mut client = proxy.client().await;
    for _request in 0..20 {
        assert_eq!(client.get("/").await.unwrap().text, "alive");
    }
}

#[tokio::test]
async fn what_cannot_be_sent_anywhere_is_answered_with_a_reason() {
    let nobody = std::net::SocketAddr::from(([127, 0, 0, 9], 9));
    let empty = || balancer("api", Vec::new());
    let Resolved::Service(missing) = resolved(vec![(empty(), 1)], Timeouts::default()) else {
        panic!("not a service")
    };
    let mut missing = Arc::into_inner(missing).unwrap();
    Arc::get_mut(&mut missing.rules[0]).unwrap().missing_weight = u32::MAX;
    for (case, destination, status, reason) in [
        ("does not exist", Resolved::Service(Arc::new(missing)), 500, "no_backend"),
        ("no endpoint", resolved(vec![(empty(), 1)], Timeouts::default()), 503, "no_endpoint"),
        ("no weight", resolved(vec![(empty(), 0)], Timeouts::default()), 500, "no_backend"),
        (
            "nobody listens",
            resolved(vec![(balancer("api", vec![plain(nobody)]), 1)], Timeouts::default()),
            503,
            "connect",
        ),
        ("not in the mesh", Resolved::PassThrough, 503, "destination_changed"),
    ] {
        let answer = Proxy::new(destination).client().await.get("/").await.unwrap();
        assert_eq!(answer.status, status, "case: {case}");
        assert_eq!(answer.headers["x-heddle-error"], reason, "case: {case}");
    }
}

#[tokio::test]
async fn a_backend_that_dies_in_its_answer_is_an_error_at_the_client() {
    for (case, answer) in [
        ("by length", &b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort"[..]),
        ("chunked", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nshort\r\n"),
    ] {
        let proxy = Proxy::to(vec![plain(raw_server(answer).await)]);
        assert!(proxy.client().await.get("/").await.is_err(), "case: {case}");
    }
}

#[tokio::test]
async fn a_backend_that_dies_before_it_answers_is_a_502_and_is_not_asked_again() {
    let backend = raw_server(b"").await;
    let proxy = Proxy::to(vec![plain(backend)]);
    let mut client = proxy.client().await;
    let answer = client.send(Request::post("/")).await.unwrap();
    assert_eq!(answer.status, 502);
    assert_eq!(answer.headers["x-heddle-error"], "backend_lost");
}

/// Answers one request on its first connection and closes it unasked when the next one comes; its
/// other connections answer `again`.
async fn closes_first_connection() -> std::net::SocketAddr {
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n";
    listen(loopback(), |mut stream, number| async move {
        let mut head = vec![0; 4096];
        for text in [&b"first"[..], b"again"] {
            if stream.read(&mut head).await.unwrap_or(0) == 0 {
                return;
            }
            if number == 0 && text == b"again" {
                return;
            }
            let text = if number == 0 { text } else { b"again" };
            let _ = stream.write_all(&[ANSWER, text].concat()).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_used_connection_that_is_closed_costs_a_get_nothing_and_a_post_an_error() {
    let proxy = Proxy::to(vec![plain(closes_first_connection().await)]);
    let mut client = proxy.client().await;
    assert_eq!(client.get("/").await.unwrap().text, "first");
    assert_eq!(client.get("/").await.unwrap().text, "again");

    let proxy = Proxy::to(vec![plain(closes_first_connection().await)]);
    let mut client = proxy.client().await;
    assert_eq!(client.get("/").await.unwrap().text, "first");
    assert_eq!(client.send(Request::post("/")).await.unwrap().status, 502);
    assert_eq!(client.send(Request::post("/")).await.unwrap().text, "again");
}

#[tokio::test]
async fn limits_on_time_are_kept() {
    let silent = breaking::silent_server().await;
    let limit = Some(Duration::from_millis(50));
    for (timeouts, reason) in [
        (Timeouts { request: limit, backend_request: None }, "request_timeout"),
        (Timeouts { request: None, backend_request: limit }, "backend_timeout"),
    ] {
        let balancer = balancer("api", vec![plain(silent)]);
        let proxy = Proxy::new(resolved(vec![(balancer, 1)], timeouts));
        let answer = proxy.client().await.get("/").await.unwrap();
        assert_eq!(answer.status, 504);
        assert_eq!(answer.headers["x-heddle-error"], reason);
    }
}

#[tokio::test]
async fn an_error_that_the_application_passes_on_is_not_its_proxys() {
    const PASSED_ON: &[u8] =
        b"HTTP/1.1 503 x\r\nx-heddle-error: connect\r\ncontent-length: 0\r\n\r\n";
    let proxy = Proxy::to(Vec::new());
    let application = raw_server(PASSED_ON).await;
    let call = InboundCall {
        dialer: Arc::clone(&proxy.dialer),
        application: balancer("application", vec![plain(application)]),
        original: application,
        version: HttpVersion::Http1,
        caller: Caller::Plaintext,
        limits: Arc::default(),
        places: places(),
        probes: None,
    };
    let stream = proxy.serve(inbound(call), HttpVersion::Http1, None).await;
    let answer = Client::new(stream).await.get("/").await.unwrap();
    assert_eq!(answer.status, 503);
    assert!(!answer.headers.contains_key("x-heddle-error"));
}

#[tokio::test]
async fn an_upgrade_becomes_a_tunnel() {
    const AGREED: &[u8] =
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    let echo = listen(loopback(), |mut stream, _number| async move {
        let mut buffer = vec![0; 4096];
        let length = stream.read(&mut buffer).await.unwrap();
        let head = String::from_utf8_lossy(&buffer[..length]).to_lowercase();
        assert!(head.contains("upgrade: echo") && head.contains("connection: upgrade"), "{head}");
        stream.write_all(AGREED).await.unwrap();
        let (mut reader, mut writer) = stream.split();
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
        let _ = writer.shutdown().await;
    })
    .await;
    let proxy = Proxy::to(vec![plain(echo)]);
    let mut stream = proxy.connection(HttpVersion::Http1).await;
    let ask = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: echo\r\n\r\n";
    stream.write_all(ask).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut echoed = String::new();
    stream.read_to_string(&mut echoed).await.unwrap();
    assert_eq!(echoed, "hello");
}

#[tokio::test]
async fn the_application_hears_of_the_caller_from_its_certificate_only() {
    let backend = Backend::new("application").await;
    let proxy = Proxy::to(Vec::new());
    let own = identity("api");
    for (case, caller, expected) in [
        ("plain", Caller::Plaintext, None),
        (
            "authenticated",
            Caller::Mutual { caller: identity("web"), own: own.clone() },
            Some(format!("By={own};URI={}", identity("web"))),
        ),
    ] {
        let call = InboundCall {
            dialer: Arc::clone(&proxy.dialer),
            application: balancer("application", vec![backend.endpoint()]),
            original: backend.address,
            version: HttpVersion::Http1,
            caller,
            limits: Arc::default(),
            places: places(),
            probes: None,
        };
        let stream = proxy.serve(inbound(call), HttpVersion::Http1, None).await;
        let forged = Request::get("/").header("x-forwarded-client-cert", "URI=spiffe://forged");
        let answer = Client::new(stream).await.send(forged).await.unwrap();
        let seen = answer.headers.get("seen-x-forwarded-client-cert");
        let seen = seen.map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(seen, expected, "case: {case}");
    }
}

/// One frame of HTTP/2 on the first stream.
fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, kind, flags, 0, 0, 0, u8::from(kind < 2)], payload].concat()
}

/// `POST http://api/` with so many pieces of a body that are empty, and then one that is not. True if it
/// was answered with 200.
async fn post_in_empty_pieces(mut stream: TcpStream, pieces: usize) -> bool {
    let head = [&[0x83, 0x86, 0x84, 0x01, 3][..], b"api"].concat();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend([frame(4, 0, &[]), frame(1, 4, &head)].concat());
    bytes.extend(frame(0, 0, &[]).repeat(pieces));
    bytes.extend(frame(0, 1, b"x"));
    stream.write_all(&bytes).await.unwrap();
    let mut read = Vec::new();
    let answered = async {
        // HEADERS that begin with the number of `:status: 200` in the static table.
        while !read.windows(10).any(|part| part[3] == 1 && part[9] == 0x88) {
            if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return false;
            }
        }
        true
    };
    tokio::time::timeout(Duration::from_secs(5), answered).await.unwrap_or(false)
}

#[tokio::test]
async fn pieces_without_a_byte_of_many_clients_do_not_end_the_connection_that_they_share() {
    let backend = Backend::new("two").await;
    let proxy = Proxy::to(vec![backend.endpoint()]);
    // Each is within what h2 takes on one connection, which is 100; all are not. Hyper passes none on.
    for client in 0..4 {
        let stream = proxy.connection(HttpVersion::Http2).await;
        assert!(post_in_empty_pieces(stream, 80).await, "client {client}");
    }
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn a_draining_server_tells_clients_to_close() {
    let backend = Backend::new("application").await;
    let proxy = Proxy::to(vec![backend.endpoint()]);
    let call = InboundCall {
        dialer: Arc::clone(&proxy.dialer),
        application: balancer("application", vec![backend.endpoint()]),
        original: backend.address,
        version: HttpVersion::Http1,
        caller: Caller::Plaintext,
        limits: Arc::default(),
        places: places(),
        probes: None,
    };
    let drain = proxy.dialer.tasks.drain().clone();
    let stream = proxy.serve(inbound(call), HttpVersion::Http1, Some(drain)).await;
    let mut client = Client::new(stream).await;
    let before = client.get("/").await.unwrap();
    assert!(!before.headers.contains_key("connection"));
    proxy.dialer.tasks.begin_drain();
    let after = client.get("/").await.unwrap();
    assert_eq!(after.headers["connection"], "close");
    assert_eq!(after.text, "application");
}

#[tokio::test]
async fn a_retired_connection_takes_no_new_request() {
    let backend = Backend::new("one").await;
    let dialer = dialer("client");
    let balancer = balancer("api", vec![backend.endpoint()]);
    let endpoint = balancer.pick(&PickContext::first(Purpose::Request), &mut rand::rng()).unwrap();
    let mut connection = crate::http::client::http1(&dialer, &endpoint, slot()).await.unwrap();
    connection.sender.ready().await.unwrap();
    let now = Instant::now();
    connection.retire_at = Some(now + Duration::from_secs(10));
    endpoint.pool.put_http1(connection, now);
    let take = |after| {
        endpoint.pool.take_http1(now + Duration::from_secs(after), pool::IDLE_TIMEOUT_LIMIT)
    };
    let connection = take(9).unwrap();
    endpoint.pool.put_http1(connection, now);
    assert!(take(10).is_none());

    let mut connection = crate::http::client::http2(&dialer, &endpoint, slot()).await.unwrap();
    connection.retire_at = Some(now + Duration::from_secs(10));
    endpoint.pool.add_http2(connection);
    assert!(endpoint.pool.take_http2(now, None).is_some());
    assert!(endpoint.pool.take_http2(now, Some(Instant::now())).is_none(), "opened before");
    assert!(endpoint.pool.take_http2(now + Duration::from_secs(10), None).is_none());
}

#[tokio::test]
async fn a_connection_that_is_idle_for_long_takes_no_new_request() {
    let backend = Backend::new("one").await;
    let dialer = dialer("client");
    let balancer = balancer("api", vec![backend.endpoint()]);
    let endpoint = balancer.pick(&PickContext::first(Purpose::Request), &mut rand::rng()).unwrap();
    let mut connection = crate::http::client::http1(&dialer, &endpoint, slot()).await.unwrap();
    connection.sender.ready().await.unwrap();
    let now = Instant::now();
    endpoint.pool.put_http1(connection, now);
    let second = Duration::from_secs(1);
    assert!(endpoint.pool.take_http1(now + second, second).is_none(), "too long for this request");
    assert!(
        endpoint
            .pool
            .take_http1(now + pool::IDLE_TIMEOUT_LIMIT, pool::IDLE_TIMEOUT_LIMIT)
            .is_none()
    );
    assert!(endpoint.pool.take_http1(now, second).is_none(), "it was closed");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_was_in_use_for_long_is_still_looked_after() {
    let backend = Backend::new("one").await;
    let dialer = dialer("client");
    let balancer = balancer("api", vec![backend.endpoint()]);
    let endpoint = balancer.pick(&PickContext::first(Purpose::Request), &mut rand::rng()).unwrap();
    let in_flight = endpoint.begin(slot(), 1).unwrap();
    let mut connection = crate::http::client::http1(&dialer, &endpoint, slot()).await.unwrap();
    connection.sender.ready().await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    endpoint.pool.put_http1(connection, Instant::now());
    drop(in_flight);
    dialer.tasks.begin_drain();
    let closes = dialer.tasks.shutdown(Duration::from_secs(1)).await;
    assert!(
        endpoint.pool.take_http1(Instant::now(), pool::IDLE_TIMEOUT_LIMIT).is_none(),
        "{closes:?}"
    );
}

#[test]
fn the_side_that_sends_requests_closes_idle_connections_first() {
    assert!(pool::IDLE_TIMEOUT_LIMIT < crate::listen::INBOUND_IDLE_TIMEOUT);
    assert!(pool::STREAM_LIMIT < usize::try_from(crate::listen::HTTP2_STREAM_LIMIT).unwrap());
}
