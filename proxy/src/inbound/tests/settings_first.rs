//! Servers of HTTP/2 that speak before their clients do, as most do: whoever waits for that, and
//! then makes requests, is served as any other client of HTTP.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use tokio::io::{AsyncRead, AsyncWrite};

use super::*;
use crate::testing::{Answered, answered, plain, spawn};

/// Says its settings at once. Answers with what it was told of the caller.
struct Server {
    address: SocketAddr,
    ended: Arc<AtomicUsize>,
}

impl Server {
    async fn new() -> Self {
        let ended = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&ended);
        let address = listen(application_address(), move |stream, _number| {
            let counting = Arc::clone(&counting);
            async move {
                let service = service_fn(|request: Request<Incoming>| async move {
                    let told = request.headers().get("x-forwarded-client-cert");
                    let told = told.map_or(Bytes::new(), |told| told.as_bytes().to_vec().into());
                    Ok::<_, Infallible>(Response::new(Full::new(told)))
                });
                let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
                counting.fetch_add(1, Ordering::SeqCst);
            }
        })
        .await;
        Self { address, ended }
    }

    /// Waits until a proxy has heard the settings, and given up the connection they came on.
    async fn was_given_up(&self) {
        let given_up = async {
            while self.ended.load(Ordering::SeqCst) == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let given_up = tokio::time::timeout(Duration::from_secs(30), given_up).await;
        given_up.expect("settings do not make a connection one of bytes");
    }
}

/// A request over HTTP/2 that claims to be somebody else's.
async fn forge<I>(stream: I) -> Answered
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream)).await.unwrap();
    spawn(async move {
        let _ = connection.await;
    });
    let request = Request::get("http://api/")
        .header("x-forwarded-client-cert", "forged")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let answering = async { answered(sender.send_request(request).await.unwrap()).await.unwrap() };
    tokio::time::timeout(Duration::from_secs(30), answering).await.expect("it is answered")
}

fn told() -> String {
    format!("By={};URI={}", identity("server"), identity("client"))
}

#[tokio::test]
async fn a_plain_client_that_waits_for_them_is_not_believed() {
    let server = Server::new().await;
    let pair = Pair::new(server.address, InboundMode::Permissive, "server").await;
    let stream = TcpStream::connect(pair.gate).await.unwrap();
    server.was_given_up().await;
    let answer = forge(stream).await;
    assert_eq!((answer.status, answer.text.as_str()), (200, ""));
}

#[tokio::test]
async fn a_proxy_that_brings_http_as_bytes_is_not_believed() {
    for mode in [InboundMode::Strict, InboundMode::Permissive] {
        for waits in [true, false] {
            let server = Server::new().await;
            let pair = Pair::new(server.address, mode, "server").await;
            let (_writer, credentials) = pair.mesh.credentials("client", LIFETIME);
            let target = PeerTarget {
                identity: identity("server"),
                pod_uid: pod_uid("server"),
                port: Port::new(pair.gate.port()).unwrap(),
            };
            let stream = TcpStream::connect(pair.gate).await.unwrap();
            let protocol = InnerProtocol::Tcp;
            let stream =
                heddle_tls::connect::connect(stream, &credentials, &target, protocol).await;
            if waits {
                server.was_given_up().await;
            }
            let answer = forge(stream.unwrap()).await;
            let case = format!("{mode:?}, waits: {waits}");
            assert_eq!((answer.status, answer.text), (200, told()), "case: {case}");
        }
    }
}

#[tokio::test]
async fn a_workload_that_waits_for_them_is_routed() {
    let server = Server::new().await;
    let mesh = Mesh::new();
    let (_writer, credentials) = mesh.credentials("client", LIFETIME);
    let (store, _store_writer, _asks) = store::channel();
    let outbound = Outbound::new(dialer_with("client", credentials), store);
    let backends = vec![(balancer("api", vec![plain(server.address)]), 1)];
    let destination = watch::Sender::new(resolved(backends, Timeouts::default()));
    let (near, far) = tcp_pair().await;
    let (carrying, receiver) = (Arc::clone(&outbound), destination.subscribe());
    spawn(async move { carrying.carry_to(far, ([10, 0, 0, 1], 80).into(), receiver).await });
    server.was_given_up().await;
    let answer = forge(near).await;
    assert_eq!((answer.status, answer.text.as_str()), (200, ""));
    let labels = crate::metrics::DetectionLabels { protocol: "http2" };
    assert_eq!(outbound.metrics().detections.get_or_create(&labels).get(), 1);
}

#[tokio::test]
async fn a_workload_that_waits_for_them_in_vain_is_served_through_both_proxies() {
    let server = Server::new().await;
    let pair = Pair::new(server.address, InboundMode::Strict, "server").await;
    let stream = pair.connect().await;
    server.was_given_up().await;
    let answer = forge(stream).await;
    assert_eq!((answer.status, answer.text), (200, told()));
}
