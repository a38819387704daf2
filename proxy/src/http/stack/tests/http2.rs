//! Bodies, trailers and ends of streams of HTTP/2, whichever path they take.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream;
use http::HeaderMap;
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::breaking::until;
use super::*;

type Sent = BoxBody<Bytes, Infallible>;

/// Gives back what it is sent, trailers and all; of `/count`, how much that was. Each answer waits until `holds` says no.
async fn echo(holds: watch::Receiver<bool>) -> std::net::SocketAddr {
    listen(loopback(), move |stream, _number| {
        let holds = holds.clone();
        async move {
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let mut holds = holds.clone();
                async move {
                    let _ = holds.wait_for(|holds| !*holds).await;
                    let (parts, body) = request.into_parts();
                    if parts.uri.path() == "/count" {
                        let length = body.collect().await.unwrap().to_bytes().len();
                        return Ok::<_, Infallible>(answer(Full::from(length.to_string()).boxed()));
                    }
                    Ok(answer(body.map_err(|error| panic!("{error}")).boxed()))
                }
            });
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        }
    })
    .await
}

fn answer(body: BoxBody<Bytes, Infallible>) -> Response<BoxBody<Bytes, Infallible>> {
    Response::builder().header("content-type", "application/grpc").body(body).unwrap()
}

struct Proxied {
    proxy: Proxy,
    balancer: Arc<Balancer>,
    holds: watch::Sender<bool>,
    drain: CancellationToken,
}

impl Proxied {
    async fn new() -> Self {
        let holds = watch::Sender::new(false);
        let balancer = balancer("api", vec![plain(echo(holds.subscribe()).await)]);
        let to = resolved(vec![(Arc::clone(&balancer), 1)], Timeouts::default());
        Self { proxy: Proxy::new(to), balancer, holds, drain: CancellationToken::new() }
    }

    async fn client(&self) -> SendRequest<Sent> {
        let call = OutboundCall {
            dialer: Arc::clone(&self.proxy.dialer),
            destination: self.proxy.destination.subscribe(),
            original: ([10, 0, 0, 1], 80).into(),
            version: HttpVersion::Http2,
            service: "default/api:80".into(),
            mirrors: MirrorPlaces::default(),
        };
        let drain = Some(self.drain.clone());
        let stream = self.proxy.serve(outbound(call), HttpVersion::Http2, drain).await;
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
        spawn(async move {
            let _ = connection.await;
        });
        sender
    }

    fn endpoint(&self) -> Arc<BalancedEndpoint> {
        let picked = self.balancer.pick(&PickContext::first(Purpose::Request), &mut rand::rng());
        picked.unwrap()
    }
}

fn request(path: &str) -> http::request::Builder {
    Request::post(format!("http://api{path}")).header("content-type", "application/grpc")
}

fn body(length: usize, trailers: Option<HeaderMap>) -> Sent {
    let pieces = vec![7; length];
    let pieces: Vec<_> = pieces.chunks(50_000).map(Bytes::copy_from_slice).collect();
    let frames = pieces.into_iter().map(Frame::data).chain(trailers.map(Frame::trailers));
    StreamBody::new(stream::iter(frames.map(Ok::<_, Infallible>))).boxed()
}

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what).await.expect("it stands still")
}

#[tokio::test]
async fn large_bodies_pass_whole_in_both_directions_at_once() {
    let proxied = Proxied::new().await;
    let clients = join_all((0..3).map(|_client| proxied.client())).await;
    // More than the windows of a stream, and of a connection that nobody widens.
    let streams = (0..12).map(|number| {
        let mut client = clients[number % clients.len()].clone();
        async move {
            let path = if number % 3 == 0 { "/count" } else { "/" };
            let sent = request(path).body(body(LENGTH, None)).unwrap();
            let answer = client.send_request(sent).await.unwrap();
            assert_eq!(answer.status(), 200);
            let answer = answer.into_body().collect().await.unwrap().to_bytes();
            match path {
                "/count" => assert_eq!(answer, LENGTH.to_string()),
                _ => assert_eq!(
                    (answer.len(), answer.iter().all(|octet| *octet == 7)),
                    (LENGTH, true)
                ),
            }
        }
    });
    in_time(join_all(streams)).await;
    assert_eq!(
        proxied.endpoint().pool.take_upstream(Instant::now(), None).is_some(),
        !is_general()
    );
}

#[tokio::test]
async fn trailers_pass_in_both_directions_but_for_what_may_not_come_there() {
    let proxied = Proxied::new().await;
    let mut client = proxied.client().await;
    let mut trailers = HeaderMap::new();
    for (name, value) in [("grpc-status", "5"), ("x-checksum", "a"), ("content-type", "b")] {
        trailers.insert(name, value.parse().unwrap());
    }
    for length in [0, 10, LENGTH] {
        let sent = request("/").body(body(length, Some(trailers.clone()))).unwrap();
        let answer = in_time(client.send_request(sent)).await.unwrap();
        let answer = in_time(answer.into_body().collect()).await.unwrap();
        let mut expected = trailers.clone();
        expected.remove("content-type");
        assert_eq!(answer.trailers(), Some(&expected), "{length}");
        assert_eq!(answer.to_bytes().len(), length);
    }
    let labels = |status| RequestLabels {
        grpc_status: GrpcStatus::Ended(status),
        ..super::labels("api", 200)
    };
    let count = proxied.proxy.count(|_| true, &[labels(crate::http::grpc::Code::NotFound)]);
    assert_eq!(count, 3);
}

#[tokio::test]
async fn what_is_simple_and_what_is_not_share_a_connection() {
    let proxied = Proxied::new().await;
    let client = proxied.client().await;
    let streams = (0..40).map(|number| {
        let mut client = client.clone();
        async move {
            let mut sent = request("/count");
            if number % 2 == 0 {
                // Crumbs are for the general path.
                sent = sent.header("cookie", "a=b").header("cookie", "c=d");
            }
            let length = number * 5_000;
            let answer = client.send_request(sent.body(body(length, None)).unwrap()).await.unwrap();
            let answer = answer.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(answer, length.to_string());
        }
    });
    in_time(join_all(streams)).await;
    assert_eq!(proxied.endpoint().load(), 0);
}

#[tokio::test]
async fn a_client_that_gives_a_stream_up_frees_its_place_and_the_others_go_on() {
    let proxied = Proxied::new().await;
    let client = proxied.client().await;
    proxied.holds.send_replace(true);
    let mut other = client.clone();
    let mut under_way = JoinSet::new();
    under_way.spawn(async move {
        let sent = request("/count").body(body(10, None)).unwrap();
        other.send_request(sent).await.unwrap().status()
    });
    until("it is in flight", || proxied.endpoint().load() == 1).await;
    let mut given_up = JoinSet::new();
    for _stream in 0..5 {
        let mut client = client.clone();
        given_up.spawn(async move {
            let _ = client.send_request(request("/count").body(body(10, None)).unwrap()).await;
        });
    }
    until("they are in flight", || proxied.endpoint().load() == 6).await;
    given_up.abort_all();
    until("they have ended", || proxied.endpoint().load() == 1).await;
    proxied.holds.send_replace(false);
    assert_eq!(in_time(under_way.join_next()).await.unwrap().unwrap(), 200);
    until("all have ended", || proxied.endpoint().load() == 0).await;
    assert_eq!(super::breaking::errors(&proxied.proxy, crate::metrics::CLIENT_CANCELLED), 5);
}

#[tokio::test]
async fn a_connection_that_drains_finishes_what_is_under_way_and_then_ends() {
    for is_simple in [true, false] {
        drain_with_one_under_way(is_simple).await;
    }
}

/// A request is under way that is simple, or not.
async fn drain_with_one_under_way(is_simple: bool) {
    let proxied = Proxied::new().await;
    let mut client = proxied.client().await;
    proxied.holds.send_replace(true);
    let mut other = client.clone();
    let mut under_way = JoinSet::new();
    under_way.spawn(async move {
        let mut sent = request("/");
        if !is_simple {
            sent = sent.header("cookie", "a=b").header("cookie", "c=d");
        }
        let sent = sent.body(body(LENGTH, None)).unwrap();
        let answer = other.send_request(sent).await.unwrap();
        answer.into_body().collect().await.unwrap().to_bytes().len()
    });
    until("it is in flight", || proxied.endpoint().load() == 1).await;
    proxied.drain.cancel();
    // New requests are not taken on it: they fail, or wait for an end that does not come while one is under way.
    let probes = async {
        loop {
            let sent = request("/count").header("cookie", "a=b").header("cookie", "c=d");
            let asked = client.send_request(sent.body(body(1, None)).unwrap());
            if let Ok(Err(_refused)) = tokio::time::timeout(Duration::from_millis(50), asked).await
            {
                return;
            }
        }
    };
    in_time(probes).await;
    assert!(under_way.try_join_next().is_none());
    proxied.holds.send_replace(false);
    assert_eq!(in_time(under_way.join_next()).await.unwrap().unwrap(), LENGTH);
    until("it has ended", || client.is_closed()).await;
}

/// More than the windows of eight streams together take at once.
const LENGTH: usize = 1 << 20;
