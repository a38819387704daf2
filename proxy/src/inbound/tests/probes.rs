//! The workload's node, in front of a proxy that takes nobody else in plain text.

use heddle_model::workload::{Probe, ProbeKind};
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
    ProbeKind::Http { path: "/healthz".to_owned() }
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
async fn the_applications_own_tls_is_carried_if_the_node_probes_by_it() {
    let echo = listen(application_address(), |mut stream, _number| async move {
        let (mut reader, mut writer) = stream.split();
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
    })
    .await;
    let pair = Pair::new(echo, InboundMode::Strict, "server").await;
    // A whole ClientHello, with neither a name nor protocols.
    let hello =
        [&[22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 3][..], &[7; 32], &[0, 0, 2, 0x13, 1, 1, 0]].concat();
    let mut probe = knock(&pair, NODE, ProbeKind::Https).await;
    probe.write_all(&hello).await.unwrap();
    let mut answer = vec![0; hello.len()];
    probe.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, hello);
    let ended = ending(knock(&pair, NODE, healthz()).await, &hello).await;
    assert_eq!(ended, Err(io::ErrorKind::ConnectionReset), "where it is not probed by TLS");
}
