//! Connections of real clients, and of one that writes its frames by hand, to a service that is slow.

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tower::service_fn;
use tower::util::BoxCloneSyncService;

use super::*;
use crate::http::HttpVersion;
use crate::http::frames::Budgets;
use crate::testing::{dialer, tcp_pair};

const SLOW: Duration = Duration::from_millis(600);

struct Server {
    dialer: Arc<Dialer>,
    client: TcpStream,
    serving: JoinHandle<Result<(), hyper::Error>>,
}

/// Serves one connection; what is asked for at `/slow` takes [`SLOW`].
#[expect(clippy::disallowed_methods, reason = "a test's own task")]
async fn server(idle: Duration) -> Server {
    let (client, far) = tcp_pair().await;
    let dialer = dialer("server");
    let serving = Serving {
        direction: Direction::Inbound,
        version: HttpVersion::Http2,
        idle,
        window_bytes: crate::listen::HTTP2_PLAINTEXT_CONNECTION_WINDOW_BYTES,
        budgets: Budgets::PLAINTEXT,
        drain: Some(dialer.tasks.drain().clone()),
        until: None,
    };
    let service = BoxCloneSyncService::new(service_fn(|request: Request<Body>| async move {
        if request.uri().path() == "/slow" {
            tokio::time::sleep(SLOW).await;
        }
        Ok(Response::new(Body::text(Bytes::from_static(b"answer"))))
    }));
    let own = Arc::clone(&dialer);
    let serving = tokio::spawn(async move { serve(far, service.into(), serving, &own).await });
    Server { dialer, client, serving }
}

impl Server {
    fn limits(&self, limit: &'static str) -> u64 {
        let labels = crate::metrics::LimitLabels { direction: Direction::Inbound, limit };
        self.dialer.metrics.limits.get_or_create(&labels).get()
    }
}

async fn client(stream: TcpStream) -> SendRequest<Empty<Bytes>> {
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    crate::testing::spawn(async move {
        let _ = connection.await;
    });
    sender
}

async fn get(mut sender: SendRequest<Empty<Bytes>>, path: &str) -> Result<Bytes, hyper::Error> {
    sender.ready().await?;
    let request = Request::get(format!("http://server{path}")).body(Empty::new()).unwrap();
    let response = sender.send_request(request).await?;
    Ok(response.into_body().collect().await?.to_bytes())
}

#[tokio::test]
async fn draining_finishes_what_is_in_flight_and_then_ends_the_connection() {
    let Server { dialer, client: stream, serving } = server(Duration::from_secs(60)).await;
    let sender = client(stream).await;
    let slow = get(sender.clone(), "/slow");
    let drain = async {
        tokio::time::sleep(SLOW / 3).await;
        dialer.tasks.begin_drain();
    };
    let (answer, ()) = tokio::join!(slow, drain);
    assert_eq!(answer.unwrap(), "answer");
    tokio::time::timeout(Duration::from_secs(5), serving).await.unwrap().unwrap().unwrap();
    assert!(get(sender, "/").await.is_err());
}

#[tokio::test]
async fn a_connection_with_an_open_stream_is_not_idle() {
    let Server { dialer, client: stream, serving } = server(SLOW / 6).await;
    let sender = client(stream).await;
    let slow = get(sender.clone(), "/slow");
    let other = async {
        // Longer than two periods of idleness.
        tokio::time::sleep(SLOW / 2).await;
        get(sender.clone(), "/").await
    };
    let (slow, other) = tokio::join!(slow, other);
    assert_eq!((slow.unwrap(), other.unwrap()), ("answer".into(), "answer".into()));
    tokio::time::timeout(Duration::from_secs(5), serving).await.unwrap().unwrap().unwrap();
    let labels = crate::metrics::LimitLabels { direction: Direction::Inbound, limit: "http2_idle" };
    assert_eq!(dialer.metrics.limits.get_or_create(&labels).get(), 1);
}

#[tokio::test]
async fn a_client_that_only_pings_is_ended_and_one_that_asks_meanwhile_is_not() {
    let mut flooded = server(Duration::from_secs(60)).await;
    let ping = [&[0, 0, 8, 6, 0, 0, 0, 0, 0][..], &[7; 8]].concat();
    let begin = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    // The server may have ended it before all is written.
    let _ = flooded.client.write_all(&begin).await;
    let _ = flooded.client.write_all(&ping.repeat(3000)).await;
    let reading = async { while let Ok(1..) = flooded.client.read(&mut [0; 4096]).await {} };
    tokio::time::timeout(Duration::from_secs(5), reading).await.unwrap();
    assert_eq!(flooded.limits("http2_ping"), 1);

    let asked = server(Duration::from_secs(60)).await;
    let sender = client(asked.client).await;
    for _request in 0..2000 {
        assert_eq!(get(sender.clone(), "/").await.unwrap(), "answer");
    }
}

#[tokio::test]
async fn a_preface_without_settings_is_not_waited_for_for_ever() {
    let mut dialer = Arc::into_inner(dialer("server")).unwrap();
    dialer.settings.detection_timeout = Duration::from_millis(100);
    let (mut client, far) = tcp_pair().await;
    let serving = Serving {
        direction: Direction::Inbound,
        version: HttpVersion::Http2,
        idle: Duration::from_secs(60),
        window_bytes: crate::listen::HTTP2_PLAINTEXT_CONNECTION_WINDOW_BYTES,
        budgets: Budgets::PLAINTEXT,
        drain: None,
        until: None,
    };
    let service = BoxCloneSyncService::new(service_fn(|_request: Request<Body>| async {
        Ok(Response::new(Body::empty()))
    }));
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let serving = serve(far, service.into(), serving, &dialer);
    tokio::time::timeout(Duration::from_secs(5), serving).await.unwrap().unwrap();
}
