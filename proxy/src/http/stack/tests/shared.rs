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
use crate::http::pool::Http2Connection;
use crate::listen::HTTP2_STREAM_WINDOW_BYTES;

/// A server, and how many frames of one octet it has had to give.
struct Server {
    address: std::net::SocketAddr,
    octets: Arc<AtomicUsize>,
}

type ServerBody = BoxBody<Bytes, Infallible>;

impl Server {
    async fn new() -> Self {
        let octets = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&octets);
        let address = listen(loopback(), move |stream, _number| {
            let counted = Arc::clone(&counted);
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let body = body(request.uri().path(), Arc::clone(&counted));
                async move { Ok::<_, Infallible>(Response::new(body)) }
            });
            async move {
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            }
        })
        .await;
        Self { address, octets }
    }

    async fn connect(&self, dialer: &Dialer) -> Http2Connection {
        let balancer = balancer("api", vec![plain(self.address)]);
        let context = PickContext::first(Purpose::Request);
        let endpoint = balancer.pick(&context, &mut rand::rng()).unwrap();
        crate::http::client::http2(dialer, &endpoint, slot()).await.unwrap()
    }
}

fn body(path: &str, octets: Arc<AtomicUsize>) -> ServerBody {
    match path {
        "/octets" => {
            let frames = (0..OCTETS).map(move |_number| {
                octets.fetch_add(1, Ordering::SeqCst);
                Ok(Frame::data(Bytes::from_static(b"a")))
            });
            StreamBody::new(stream::iter(frames)).boxed()
        }
        _ => Full::new(Bytes::from(vec![b'a'; LARGE_BYTES])).boxed(),
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

/// More than any stream's window.
const LARGE_BYTES: usize = 512 * 1024;
/// As well.
const OCTETS: usize = 300_000;
const DEADLINE: Duration = Duration::from_secs(30);
