//! The workload's node, in front of a proxy that takes nobody else in plain text.

use heddle_model::workload::{Probe, ProbeGet, ProbeKind};
use heddle_runtime::clock;
use heddle_tls::application::{self, ProbeAcceptor};
use http::Request;
use hyper::client::conn::http1;
use tokio::net::{TcpListener, TcpSocket};

use super::*;

const NODE: [u8; 4] = [127, 0, 0, 9];
const POD: [u8; 4] = [127, 0, 0, 10];

/// A connection from an address to the proxy of a strict workload, whose node may ask for `/healthz`.
async fn knock(pair: &Pair, from: [u8; 4], kind: ProbeKind) -> TcpStream {
    let port = Port::new(pair.application.port()).unwrap();
    let mut workload = workload("server", InboundMode::Strict, port.number(), Protocol::Opaque);
    workload.probes = NodeProbes { sources: vec![NODE.into()], probes: vec![Probe { port, kind }] };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let address = listener.local_addr().unwrap();
    let (near, far) = tokio::join!(socket.connect(address), listener.accept());
    let (inbound, application) = (Arc::clone(&pair.inbound), pair.application);
    let (far, _) = far.unwrap();
    crate::testing::spawn(async move {
        inbound.carry(far, application, Some(Arc::new(workload))).await;
    });
    near.unwrap()
}

fn healthz() -> ProbeKind {
    ProbeKind::Http(get(&[]))
}

fn get(headers: &[&str]) -> ProbeGet {
    let headers = headers.iter().map(|name| (*name).to_owned()).collect();
    ProbeGet { path: "/healthz".to_owned(), headers }
}

async fn ending(mut stream: TcpStream, bytes: &[u8]) -> Result<Vec<u8>, io::ErrorKind> {
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer).await;
    read.map(|_| answer).map_err(|error| error.kind())
}

#[tokio::test]
async fn the_node_may_ask_what_it_probes_and_nothing_else() {
    let backend = Backend::at(application_address(), "application").await;
    let pair = Pair::new(backend.address, InboundMode::Strict, "server").await;
    let mut client = Client::new(knock(&pair, NODE, healthz()).await).await;
    for _probe in 0..3 {
        let answer = client.get("/healthz").await.unwrap();
        assert_eq!((answer.status, answer.text.as_str()), (200, "application"));
    }
    let asked = backend.connections();
    for path in ["/", "/healthz/", "/healthz?x", "/admin"] {
        let mut client = Client::new(knock(&pair, NODE, healthz()).await).await;
        let answer = client.get(path).await.unwrap();
        assert_eq!(answer.status, 403, "case: {path}: {}", answer.text);
    }
    assert_eq!(backend.connections(), asked, "the application heard of none of it");
}

#[tokio::test]
async fn who_is_not_the_node_may_not_probe() {
    let backend = Backend::at(application_address(), "application").await;
    let pair = Pair::new(backend.address, InboundMode::Strict, "server").await;
    let request = b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n";
    let ended = ending(knock(&pair, POD, healthz()).await, request).await;
    assert_eq!(ended, Err(io::ErrorKind::ConnectionReset));
    let ended = ending(knock(&pair, NODE, ProbeKind::Tcp).await, request).await;
    assert_eq!(
        ended,
        Err(io::ErrorKind::ConnectionReset),
        "the node, to a port that it only opens"
    );
    let ended = ending(knock(&pair, NODE, healthz()).await, b"EHLO node\n").await;
    assert_eq!(ended, Err(io::ErrorKind::ConnectionReset), "no HTTP");
    assert_eq!(backend.connections(), 0);
}

#[tokio::test]
async fn a_connection_that_says_nothing_ends_quietly() {
    let backend = Backend::at(application_address(), "application").await;
    let pair = Pair::new(backend.address, InboundMode::Strict, "server").await;
    let mut probe = knock(&pair, NODE, ProbeKind::Tcp).await;
    probe.shutdown().await.unwrap();
    let mut answer = Vec::new();
    assert_eq!(probe.read_to_end(&mut answer).await.unwrap(), 0, "and is not reset");
    assert_eq!(backend.connections(), 0);
}

#[tokio::test]
async fn of_an_admitted_request_nothing_passes_that_the_node_would_not_send() {
    let backend = Backend::at(application_address(), "application").await;
    let pair = Pair::new(backend.address, InboundMode::Strict, "server").await;
    let mut probe = knock(&pair, NODE, ProbeKind::Http(get(&["x-told"]))).await;
    let request = "GET /healthz HTTP/1.1\r\nhost: a\r\nuser-agent: kube-probe/1.34\r\nx-told: yes\r\n\
                   cookie: a=b\r\nx-other: no\r\ncontent-length: 4\r\nconnection: close\r\n\r\nevil";
    probe.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    probe.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let seen: Vec<&str> = answer
        .lines()
        .filter_map(|line| line.strip_prefix("seen-"))
        .map(|line| line.split(':').next().unwrap())
        .collect();
    assert_eq!(seen, ["host", "user-agent", "x-told", "version"], "{answer}");
}

/// An application with TLS of its own, and the address that it is at.
async fn with_tls() -> (SocketAddr, Backend) {
    let backend = Backend::at(application_address(), "application").await;
    let (acceptor, behind) = (ProbeAcceptor::create(clock::now()).unwrap(), backend.address);
    let address = listen(application_address(), move |stream, _number| {
        let acceptor = acceptor.clone();
        async move {
            let mut near = acceptor.accept(stream, PATIENCE).await.unwrap();
            let mut far = TcpStream::connect(behind).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        }
    })
    .await;
    (address, backend)
}

async fn ask_by_tls(stream: TcpStream, path: &str) -> crate::testing::Answered {
    let stream = application::connect(stream, [127, 0, 0, 2].into(), PATIENCE).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    crate::testing::spawn(async move {
        let _ = connection.await;
    });
    let request = Request::get(path).header("host", "api").header("cookie", "a=b");
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    crate::testing::answered(sender.send_request(request).await.unwrap()).await.unwrap()
}

#[tokio::test]
async fn a_probe_by_tls_gets_the_applications_answer_and_nobody_gets_its_tls() {
    let (application, backend) = with_tls().await;
    let pair = Pair::new(application, InboundMode::Strict, "server").await;
    let asked = ask_by_tls(knock(&pair, NODE, ProbeKind::Https(get(&[]))).await, "/healthz").await;
    assert_eq!((asked.status, asked.text.as_str()), (200, "application"));
    assert_eq!(backend.connections(), 1);
    for path in ["/", "/admin", "/healthz?x"] {
        let probe = knock(&pair, NODE, ProbeKind::Https(get(&[]))).await;
        assert_eq!(ask_by_tls(probe, path).await.status, 403, "case: {path}");
    }
    assert_eq!(backend.connections(), 1, "the application heard of none of it");
    for (case, from, kind) in [
        ("where it is not probed by TLS", NODE, healthz()),
        ("from elsewhere", POD, ProbeKind::Https(get(&[]))),
    ] {
        let stranger = knock(&pair, from, kind).await;
        let ended = application::connect(stranger, [127, 0, 0, 2].into(), PATIENCE).await;
        assert!(ended.is_err(), "case: {case}");
    }
}

#[tokio::test]
async fn a_probe_by_tls_fails_when_the_application_does_not_answer_it() {
    let plain = Backend::at(application_address(), "no TLS").await;
    let pair = Pair::new(plain.address, InboundMode::Strict, "server").await;
    let asked = ask_by_tls(knock(&pair, NODE, ProbeKind::Https(get(&[]))).await, "/healthz").await;
    assert_eq!(asked.status, 503, "{}", asked.text);
    assert_eq!(asked.headers["x-heddle-error"], "application_tls");
}

const PATIENCE: Duration = Duration::from_secs(10);
