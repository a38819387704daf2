//! Streams of one shared connection of HTTP/2, and what one of them can do to the others.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream;
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;
use crate::balance::endpoint::Standing;
use crate::http::pool::{Exchange, HeldConnection, Http2Connection};
use crate::listen::HTTP2_STREAM_WINDOW_BYTES;

/// A server, and how many frames of one octet it has had to give.
struct Server {
    address: std::net::SocketAddr,
    octets: Arc<AtomicUsize>,
    /// Tells it what to break.
    breaks: watch::Sender<Broken>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    Nothing,
    Streams,
    Connections,
}

type ServerBody = BoxBody<Bytes, std::io::Error>;

impl Server {
    async fn new() -> Self {
        let octets = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&octets);
        let breaks = watch::Sender::new(Broken::Nothing);
        let told = breaks.clone();
        let address = listen(loopback(), move |stream, _number| {
            let (counted, told, mut end) = (Arc::clone(&counted), told.clone(), told.subscribe());
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let body = body(request.uri().path(), Arc::clone(&counted), told.subscribe());
                async move { Ok::<_, Infallible>(Response::new(body)) }
            });
            async move {
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::select! {
                    _ended = builder.serve_connection(TokioIo::new(stream), service) => {}
                    _told = end.wait_for(|broken| *broken == Broken::Connections) => {}
                }
            }
        })
        .await;
        Self { address, octets, breaks }
    }

    async fn connect(&self, dialer: &Dialer) -> Http2Connection {
        crate::http::client::http2(dialer, &self.endpoint(), slot()).await.unwrap()
    }

    /// One of two: the only one would never be ejected.
    fn endpoint(&self) -> Arc<BalancedEndpoint> {
        let other = plain(([127, 0, 0, 1], 1).into());
        let tried = [other.address];
        let balancer = balancer("api", vec![plain(self.address), other]);
        let context = PickContext { tried: &tried, ..PickContext::first(Purpose::Request) };
        balancer.pick(&context, &mut rand::rng()).unwrap()
    }
}

fn body(path: &str, octets: Arc<AtomicUsize>, mut told: watch::Receiver<Broken>) -> ServerBody {
    match path {
        "/octets" => {
            let frames = (0..OCTETS).map(move |_number| {
                octets.fetch_add(1, Ordering::SeqCst);
                Ok(Frame::data(Bytes::from_static(b"a")))
            });
            StreamBody::new(stream::iter(frames)).boxed()
        }
        "/broken" => {
            let broken = async move {
                let _ = told.wait_for(|broken| *broken == Broken::Streams).await;
                Err(std::io::Error::other("broken on purpose"))
            };
            StreamBody::new(stream::once(broken)).boxed()
        }
        _ => {
            Full::new(Bytes::from(vec![b'a'; LARGE_BYTES])).map_err(|never| match never {}).boxed()
        }
    }
}

async fn ask(connection: &Http2Connection, path: &str) -> Response<Incoming> {
    let request = Request::get(format!("http://api{path}")).body(Body::empty()).unwrap();
    connection.sender.clone().send_request(request).await.unwrap()
}

/// Whole answers come over this connection.
async fn is_of_use(connection: &Http2Connection) {
    for _request in 0..10 {
        let read = async { ask(connection, "/large").await.into_body().collect().await };
        let answer = tokio::time::timeout(DEADLINE, read).await.expect("it stands still").unwrap();
        assert_eq!(answer.to_bytes().len(), LARGE_BYTES);
    }
}

#[tokio::test]
async fn answers_that_nobody_reads_do_not_stop_the_others() {
    let dialer = dialer("client");
    let server = Server::new().await;
    let connection = server.connect(&dialer).await;
    let unread = join_all((1..pool::STREAM_LIMIT).map(|_number| ask(&connection, "/large"))).await;
    is_of_use(&connection).await;
    for answer in unread {
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes().len(), LARGE_BYTES);
    }
}

#[tokio::test]
async fn an_answer_of_tiny_pieces_that_nobody_reads_does_not_end_the_connection() {
    let dialer = dialer("client");
    let server = Server::new().await;
    let connection = server.connect(&dialer).await;
    let unread = ask(&connection, "/octets").await;
    let window = usize::try_from(HTTP2_STREAM_WINDOW_BYTES).unwrap();
    let filled = async {
        while server.octets.load(Ordering::SeqCst) < window {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, filled).await.expect("the window is not used");
    is_of_use(&connection).await;
    assert_eq!(unread.into_body().collect().await.unwrap().to_bytes().len(), OCTETS);
}

/// How an endpoint stands after many answers broke off that came over one connection.
async fn standing_after(broken: Broken) -> Standing {
    let dialer = dialer("client");
    let server = Server::new().await;
    let endpoint = server.endpoint();
    let connection = crate::http::client::http2(&dialer, &endpoint, slot()).await.unwrap();
    let answers = (0..20).map(|_number| async {
        let exchange = Exchange {
            in_flight: endpoint.begin(slot(), 100).unwrap(),
            connection: HeldConnection::Http2(connection.place()),
            metrics: Arc::clone(&dialer.metrics),
        };
        Body::of_exchange(ask(&connection, "/broken").await.into_body(), exchange)
    });
    let answers = join_all(answers).await;
    server.breaks.send_replace(broken);
    for answer in answers {
        let ended = tokio::time::timeout(DEADLINE, answer.collect()).await.expect("it goes on");
        assert!(ended.is_err(), "{broken:?}");
    }
    assert_eq!(dialer.metrics.response_broken.get(), 20, "{broken:?}");
    endpoint.standing(Instant::now())
}

#[tokio::test]
async fn a_connection_that_is_lost_is_one_failure_and_each_stream_that_is_reset_is_one() {
    assert_eq!(standing_after(Broken::Connections).await, Standing::Good);
    assert_eq!(standing_after(Broken::Streams).await, Standing::Ejected);
}

/// More than any stream's window.
const LARGE_BYTES: usize = 512 * 1024;
/// As well.
const OCTETS: usize = 300_000;
const DEADLINE: Duration = Duration::from_secs(30);
