//! Clients and backends that break off, hang, or close at the wrong moment.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};

use heddle_model::endpoint::{Endpoint, ExpectedPeer};
use http_body_util::{BodyExt, Empty};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;
use crate::balance::endpoint::Standing;
use crate::connect::{Opened, Transport};
use crate::http::lane::connection::Connection;
use crate::http::pool::lane::put_back;
use crate::metrics::ReasonLabels;
use crate::testing::{Mesh, dialer_with, pod_uid};

/// Reads whatever comes and answers nothing.
pub(super) async fn silent_server() -> SocketAddr {
    listen(loopback(), |mut stream, _number| async move {
        let mut head = vec![0; 4096];
        while stream.read(&mut head).await.unwrap_or(0) > 0 {}
    })
    .await
}

/// Waits, with a deadline, until something is as it should be.
pub(super) async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.expect(what);
}

/// A balancer with one endpoint.
fn only(address: SocketAddr) -> (Arc<Balancer>, Arc<BalancedEndpoint>) {
    let balancer = balancer("api", vec![plain(address)]);
    let endpoint = balancer.pick(&PickContext::first(Purpose::Request), &mut rand::rng()).unwrap();
    (balancer, endpoint)
}

pub(super) fn errors(proxy: &Proxy, reason: &'static str) -> u64 {
    proxy.dialer.metrics.errors.get_or_create(&ReasonLabels { reason }).get()
}

#[tokio::test]
async fn a_client_that_goes_away_while_the_backend_is_silent_frees_its_place() {
    let (balancer, endpoint) = only(silent_server().await);
    let proxy = Proxy::new(resolved(vec![(balancer, 1)], Timeouts::default()));
    for is_reset in [false, true] {
        let mut stream = proxy.connection(HttpVersion::Http1).await;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        until("it is in flight", || endpoint.load() == 1).await;
        if is_reset {
            crate::connect::reset_on_close(&stream);
        }
        drop(stream);
        until("it is over", || endpoint.load() == 0).await;
    }
    until("both are counted", || errors(&proxy, "client_cancelled") == 2).await;
    let (backend, backend_pod) = ("".into(), "".into());
    let cancelled = RequestLabels { backend, backend_pod, ..labels("api", 499) };
    assert_eq!(proxy.count(|_| true, &[cancelled]), 2);
}

#[tokio::test]
async fn an_upload_that_breaks_off_is_the_clients_fault() {
    let (balancer, endpoint) = only(silent_server().await);
    let proxy = Proxy::new(resolved(vec![(balancer, 1)], Timeouts::default()));
    let mut stream = proxy.connection(HttpVersion::Http1).await;
    // A chunk's length that is none.
    let upload = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\nz\r\n";
    stream.write_all(upload).await.unwrap();
    until("it is counted", || errors(&proxy, "bad_request") == 1).await;
    let mut stream = proxy.connection(HttpVersion::Http1).await;
    stream.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\na").await.unwrap();
    stream.shutdown().await.unwrap();
    until("it is counted", || errors(&proxy, "client_lost") == 1).await;
    assert_eq!(errors(&proxy, "backend_lost"), 0);
    assert_eq!(endpoint.standing(Instant::now()), Standing::Good);
}

/// What a client of HTTP/1.0 reads of an answer without a length, and how it ends.
async fn read_without_length(
    timeouts: Timeouts,
    backend: SocketAddr,
) -> (Vec<u8>, std::io::Result<usize>) {
    let proxy = Proxy::new(resolved(vec![(only(backend).0, 1)], timeouts));
    let mut stream = proxy.connection(HttpVersion::Http1).await;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let end = stream.read_to_end(&mut answer).await;
    (answer, end)
}

const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nshort\r\n";

#[tokio::test]
async fn a_cut_off_answer_without_a_length_ends_in_a_reset() {
    let backend = raw_server(CHUNKED).await;
    let (_answer, end) = read_without_length(Timeouts::default(), backend).await;
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);

    let whole: &[u8] =
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nwhole\r\n0\r\n\r\n";
    let (answer, end) = read_without_length(Timeouts::default(), raw_server(whole).await).await;
    assert!(end.is_ok());
    assert!(answer.ends_with(b"whole"));
}

#[tokio::test]
async fn limits_on_time_are_for_the_body_too() {
    let limit = Some(Duration::from_millis(100));
    for timeouts in [
        Timeouts { request: limit, backend_request: None },
        Timeouts { request: None, backend_request: limit },
    ] {
        let endless = listen(loopback(), |mut stream, _number| async move {
            let mut head = vec![0; 4096];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(CHUNKED).await;
            while stream.read(&mut head).await.unwrap_or(0) > 0 {}
        })
        .await;
        let reading = read_without_length(timeouts, endless);
        let (_answer, end) = tokio::time::timeout(Duration::from_secs(10), reading).await.unwrap();
        assert!(end.is_err(), "case: {timeouts:?}");
    }
}

#[tokio::test]
async fn a_broken_tunnel_ends_in_a_reset() {
    let server = listen(loopback(), |mut stream, _number| async move {
        let mut head = vec![0; 4096];
        let _ = stream.read(&mut head).await;
        let agreed =
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
        let _ = stream.write_all(agreed).await;
        let _ = stream.read(&mut head).await;
        crate::connect::reset_on_close(&stream);
    })
    .await;
    let proxy = Proxy::to(vec![plain(server)]);
    let mut stream = proxy.connection(HttpVersion::Http1).await;
    let ask = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
    stream.write_all(ask).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    stream.write_all(b"hello").await.unwrap();
    let end = stream.read_to_end(&mut Vec::new()).await;
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

/// Serves HTTP/2; what the first connection does with its second request differs.
async fn http2_server(closes: bool) -> (SocketAddr, Arc<AtomicUsize>) {
    let connections = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&connections);
    let address = listen(loopback(), move |stream, number| {
        counting.fetch_add(1, Ordering::SeqCst);
        async move {
            let served = Arc::new(AtomicUsize::new(0));
            let closing = tokio_util::sync::CancellationToken::new();
            let close = closing.clone();
            let service = service_fn(move |_request: Request<hyper::body::Incoming>| {
                let is_first = number > 0 && closes || served.fetch_add(1, Ordering::SeqCst) == 0;
                let close = close.clone();
                async move {
                    if is_first {
                        return Ok(Response::new(Empty::<bytes::Bytes>::new()));
                    }
                    if closes {
                        close.cancel();
                        std::future::pending::<Infallible>().await;
                    }
                    // Resets the stream.
                    Err(std::io::Error::other("no"))
                }
            });
            let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                _ = serving => {}
                () = closing.cancelled() => {}
            }
        }
    })
    .await;
    (address, connections)
}

pub(super) async fn http2_client(
    proxy: &Proxy,
) -> hyper::client::conn::http2::SendRequest<Empty<bytes::Bytes>> {
    let stream = proxy.connection(HttpVersion::Http2).await;
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    spawn(async move {
        let _ = connection.await;
    });
    sender
}

async fn http2_statuses(proxy: &Proxy, count: usize) -> Vec<u16> {
    let mut sender = http2_client(proxy).await;
    let mut statuses = Vec::new();
    for _request in 0..count {
        let request = Request::get("http://api/").body(Empty::<bytes::Bytes>::new()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        statuses.push(response.status().as_u16());
        response.into_body().collect().await.unwrap();
    }
    statuses
}

#[tokio::test]
async fn a_backend_that_resets_streams_gets_no_more_connections() {
    let (address, connections) = http2_server(false).await;
    let statuses = http2_statuses(&Proxy::to(vec![plain(address)]), 5).await;
    assert_eq!(statuses, [200, 502, 502, 502, 502]);
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_shared_connection_that_is_closed_costs_a_get_nothing() {
    for _round in 0..20 {
        let (address, connections) = http2_server(true).await;
        let statuses = http2_statuses(&Proxy::to(vec![plain(address)]), 3).await;
        assert_eq!(statuses, [200, 200, 200]);
        assert_eq!(connections.load(Ordering::SeqCst), 2);
    }
}

/// Accepts connections and never answers a handshake.
async fn hanging(name: &str) -> Endpoint {
    let peer = ExpectedPeer::Mesh { identity: identity(name), pod_uid: pod_uid(name) };
    Endpoint { peer, ..plain(silent_server().await) }
}

#[tokio::test]
async fn an_endpoint_that_does_not_finish_connecting_is_passed_over() {
    let mesh = Mesh::new();
    let (_writer, credentials) = mesh.credentials("client", Duration::from_secs(3600));
    let dialer = dialer_with("client", credentials);
    let backend = Backend::new("alive").await;
    let limit = Some(Duration::from_millis(200));
    for (timeouts, failures) in [
        (Timeouts { request: None, backend_request: limit }, 0),
        (Timeouts { request: limit, backend_request: None }, 1),
    ] {
        let endpoints = vec![hanging("server").await, backend.endpoint()];
        let resolved = resolved(vec![(balancer("api", endpoints), 1)], timeouts);
        let destination = watch::Sender::new(resolved);
        let proxy = Proxy { dialer: Arc::clone(&dialer), destination };
        let mut client = proxy.client().await;
        let mut failed = 0;
        for _request in 0..20 {
            failed += usize::from(client.get("/").await.unwrap().status != 200);
        }
        assert!(failed <= failures, "{failed} failed, case: {timeouts:?}");
    }
}

/// Never finishes its first handshake, and serves HTTP/2 on all other connections.
async fn hanging_once(credentials: heddle_tls::credentials::Credentials) -> Endpoint {
    let address = listen(loopback(), move |mut stream, number| {
        let credentials = credentials.clone();
        async move {
            if number == 0 {
                let mut hello = vec![0; 4096];
                while stream.read(&mut hello).await.unwrap_or(0) > 0 {}
                return;
            }
            let own = pod_uid("server");
            let limit = Duration::from_secs(10);
            let protocols = &heddle_tls::alpn::InnerProtocol::ALL;
            let accepted = heddle_tls::accept::accept(stream, &credentials, &own, protocols, limit)
                .await
                .unwrap();
            let service = service_fn(|_request: Request<hyper::body::Incoming>| async {
                Ok::<_, Infallible>(Response::new(Empty::<bytes::Bytes>::new()))
            });
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(accepted.stream), service)
                .await;
        }
    })
    .await;
    let peer = ExpectedPeer::Mesh { identity: identity("server"), pod_uid: pod_uid("server") };
    Endpoint { peer, ..plain(address) }
}

#[tokio::test]
async fn a_client_that_gives_up_does_not_fail_those_who_wait_for_the_same_connection() {
    let mesh = Mesh::new();
    let (_client, credentials) = mesh.credentials("client", Duration::from_secs(3600));
    let (_server, server) = mesh.credentials("server", Duration::from_secs(3600));
    let balancer = balancer("api", vec![hanging_once(server).await]);
    let endpoint = balancer.pick(&PickContext::first(Purpose::Request), &mut rand::rng()).unwrap();
    let destination = watch::Sender::new(resolved(vec![(balancer, 1)], Timeouts::default()));
    let proxy = Proxy { dialer: dialer_with("client", credentials), destination };
    let mut sender = http2_client(&proxy).await;
    let request = || Request::get("http://api/").body(Empty::<bytes::Bytes>::new()).unwrap();
    let impatient = sender.send_request(request());
    until("it connects", || endpoint.load() == 1).await;
    let patient = sender.send_request(request());
    until("it waits", || endpoint.load() == 2).await;
    // Long enough for the endpoint to be held slow.
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(impatient);
    let answer = tokio::time::timeout(Duration::from_secs(10), patient).await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn a_backend_that_loses_a_new_connection_is_avoided() {
    let (balancer, endpoint) = only(raw_server(b"").await);
    let proxy = Proxy::new(resolved(vec![(balancer, 1)], Timeouts::default()));
    let answer = proxy.client().await.get("/").await.unwrap();
    assert_eq!(answer.headers["x-heddle-error"], "backend_lost");
    assert_eq!(endpoint.standing(Instant::now()), Standing::Avoided);
}

#[tokio::test]
async fn a_post_uses_no_connection_that_the_application_may_be_closing() {
    let backend = Backend::new("one").await;
    let (balancer, endpoint) = only(backend.address);
    let proxy = Proxy::new(resolved(vec![(balancer, 1)], Timeouts::default()));
    let mut client = proxy.client().await;
    client.get("/").await.unwrap();
    let second = Duration::from_secs(1);
    if is_general() {
        // The next test.
        return;
    }
    let connection = endpoint.pool.take(Instant::now(), second).unwrap();
    put_back(&endpoint, connection, Instant::now() - second);
    client.post("/").await.unwrap();
    assert_eq!(backend.connections(), 2);
    client.post("/").await.unwrap();
    client.get("/").await.unwrap();
    assert_eq!(backend.connections(), 2);
    let take = || endpoint.pool.take(Instant::now(), pool::IDLE_TIMEOUT_LIMIT);
    assert!(std::iter::from_fn(take).count() <= 1, "the new one took the place of the old one");
}

#[tokio::test]
async fn a_post_of_the_general_path_uses_no_connection_that_the_application_may_be_closing() {
    let backend = Backend::new("one").await;
    let (balancer, endpoint) = only(backend.address);
    let proxy = Proxy::new(resolved(vec![(balancer, 1)], Timeouts::default()));
    let mut client = proxy.client().await;
    // Not simple.
    client.send(Request::get("/").header("te", "trailers")).await.unwrap();
    let second = Duration::from_secs(1);
    let mut connection = endpoint.pool.take_http1(Instant::now(), second).unwrap();
    connection.sender.ready().await.unwrap();
    endpoint.pool.put_http1(connection, Instant::now() - second);
    client.post("/").await.unwrap();
    assert_eq!(backend.connections(), 2);
    client.post("/").await.unwrap();
    client.get("/").await.unwrap();
    assert_eq!(backend.connections(), 2);
    let take = || endpoint.pool.take_http1(Instant::now(), pool::IDLE_TIMEOUT_LIMIT);
    assert!(std::iter::from_fn(take).count() <= 1, "the new one took the place of the old one");
}

#[tokio::test]
async fn an_application_hears_that_it_calls_itself() {
    let backend = Backend::new("application").await;
    let peer = ExpectedPeer::Mesh { identity: identity("client"), pod_uid: pod_uid("client") };
    let proxy = Proxy::to(vec![Endpoint { peer, ..backend.endpoint() }]);
    let forged = Request::get("/").header("x-forwarded-client-cert", "URI=spiffe://forged");
    let answer = proxy.client().await.send(forged).await.unwrap();
    let own = identity("client");
    let seen = answer.headers["seen-x-forwarded-client-cert"].to_str().unwrap();
    assert_eq!(seen, format!("By={own};URI={own}"));
}

/// Reads no more than the head's beginning, and answers all the same.
async fn impatient_server() -> SocketAddr {
    listen(loopback(), |mut stream, _count| async move {
        let mut beginning = [0; 16];
        stream.read_exact(&mut beginning).await.unwrap();
        let answer = b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno";
        stream.write_all(answer).await.unwrap();
        // Nothing is read on, and nothing is closed: who wants to write all before it reads waits for ever.
        std::future::pending::<()>().await;
    })
    .await
}

#[tokio::test]
async fn an_answer_arrives_before_its_request_was_all_taken() {
    let (balancer, _endpoint) = only(impatient_server().await);
    let proxy = Proxy::new(resolved(vec![(balancer, 1)], Timeouts::default()));
    let mut client = proxy.connection(HttpVersion::Http1).await;
    let mut request = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 16000\r\n".to_vec();
    for number in 0..14 {
        request.extend_from_slice(format!("x-{number}: {}\r\n", "a".repeat(4000)).as_bytes());
    }
    request.extend_from_slice(b"\r\n");
    request.resize(request.len() + 16_000, b'a');
    let (mut reading, mut writing) = client.split();
    // A client that is told before it has said all need not be heard to the end.
    let write = async { writing.write_all(&request).await.is_ok() };
    let read = async {
        let mut answer = Vec::new();
        while !answer.ends_with(b"no") {
            assert!(reading.read_buf(&mut answer).await.unwrap() > 0, "{answer:?}");
        }
        String::from_utf8(answer).unwrap()
    };
    let both = async { tokio::join!(write, read).1 };
    let answer = tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
    assert!(answer.contains("413 Too Large"), "{answer}");
}

#[tokio::test]
async fn a_request_is_sent_to_its_end_although_its_answer_has_begun() {
    const SIZE: usize = 70_000;
    let server = listen(loopback(), |mut stream, _count| async move {
        let mut beginning = [0; 16];
        stream.read_exact(&mut beginning).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n").await.unwrap();
        let mut rest = vec![0; SIZE - beginning.len()];
        stream.read_exact(&mut rest).await.unwrap();
        stream.write_all(b"done").await.unwrap();
        std::future::pending::<()>().await;
    });
    let (balancer, _endpoint) = only(server.await);
    let proxy = Proxy::new(resolved(vec![(balancer, 1)], Timeouts::default()));
    let mut client = proxy.connection(HttpVersion::Http1).await;
    let mut request = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 16000\r\n".to_vec();
    for number in 10..24 {
        request.extend_from_slice(format!("x-{number}: {}\r\n", "a".repeat(3_980)).as_bytes());
    }
    request.extend_from_slice(b"\r\n");
    request.resize(request.len() + 16_000, b'a');
    assert!(request.len() >= SIZE, "{}", request.len());
    client.write_all(&request).await.unwrap();
    let mut answer = Vec::new();
    let read = async {
        while !answer.ends_with(b"done") {
            assert!(client.read_buf(&mut answer).await.unwrap() > 0, "{answer:?}");
        }
    };
    tokio::time::timeout(Duration::from_secs(20), read).await.unwrap();
}

#[tokio::test]
async fn connections_that_were_closed_while_they_were_idle_are_not_used_however_many_they_are() {
    // More than a task may do in one turn of the runtime.
    const MANY: usize = 200;
    let address = listen(loopback(), |mut stream, number| async move {
        if number >= MANY {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\none").await;
        }
    })
    .await;
    let (balancer, endpoint) = only(address);
    for _connection in 0..MANY {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.readable().await.unwrap();
        let opened = Opened { transport: Transport::Plain(stream), retire_at: None };
        put_back(&endpoint, Connection::new(opened, slot()), Instant::now());
    }
    let proxy = Proxy::new(resolved(vec![(balancer, 1)], Timeouts::default()));
    let answer = proxy.client().await.post("/").await.unwrap();
    assert_eq!((answer.status, answer.text.as_str()), (200, "one"));
}
