//! Two proxies between a client and an application, over loopback sockets and real certificates.
//! The redirect is what is missing: the tests say where a connection was going.

mod probes;
mod settings_first;
mod warm;

use std::io;
use std::time::Duration;

use bytes::Bytes;
use heddle_model::endpoint::{Endpoint, ExpectedPeer};
use heddle_model::names::Port;
use heddle_model::route::Timeouts;
use heddle_model::workload::{InboundMode, InboundPort, NodeProbes};
use heddle_tls::alpn::InnerProtocol;
use heddle_tls::connect::PeerTarget;
use heddle_tls::credentials::CredentialsWriter;
use http_body_util::Empty;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

use super::*;
use crate::discovery::store::{self, StoreWriter};
use crate::metrics::Side;
use crate::multiplex::driver::drive;
use crate::multiplex::{Role, Session};
use crate::outbound::Outbound;
use crate::testing::{
    Backend, Client, Mesh, balancer, dialer_with, identity, listen, pod_uid, resolved, tcp_pair,
};

/// A client's proxy, a server's proxy, and an application at the same port of another address.
struct Pair {
    outbound: Arc<Outbound>,
    inbound: Arc<Inbound>,
    application: SocketAddr,
    /// Where the server's proxy takes connections.
    gate: SocketAddr,
    destination: watch::Sender<crate::discovery::resolved::Resolved>,
    mesh: Mesh,
    client_writer: CredentialsWriter,
    server_writer: CredentialsWriter,
    /// What the server's proxy knows of its workload.
    own_writer: StoreWriter,
}

const LIFETIME: Duration = Duration::from_secs(3600);

fn workload(name: &str, inbound_mode: InboundMode, port: u16, protocol: Protocol) -> Workload {
    Workload {
        namespace: "default".to_owned(),
        name: name.to_owned(),
        pod_uid: pod_uid(name),
        inbound_mode,
        ports: vec![InboundPort { port: Port::new(port).unwrap(), protocol }],
        rate_limits: Vec::new(),
        zone: String::new(),
        node: String::new(),
        probes: NodeProbes::default(),
        access_log: Default::default(),
    }
}

impl Pair {
    /// The client expects the pod `expected` where the pod `server` answers.
    async fn new(application: SocketAddr, mode: InboundMode, expected: &str) -> Self {
        Self::living(LIFETIME, application, mode, expected).await
    }

    /// The same with certificates of this lifetime.
    async fn living(
        lifetime: Duration,
        application: SocketAddr,
        mode: InboundMode,
        expected: &str,
    ) -> Self {
        Self::set(lifetime, application, (mode, expected), |_client, _server| {}).await
    }

    /// The same with settings of their own.
    async fn set(
        lifetime: Duration,
        application: SocketAddr,
        (mode, expected): (InboundMode, &str),
        change: impl FnOnce(&mut Dialer, &mut Dialer),
    ) -> Self {
        let mesh = Mesh::new();
        let (client_writer, client) = mesh.credentials("client", lifetime);
        let (server_writer, server) = mesh.credentials("server", lifetime);
        let [mut client, mut server] = [("client", client), ("server", server)]
            .map(|(name, credentials)| Arc::into_inner(dialer_with(name, credentials)).unwrap());
        change(&mut client, &mut server);
        let server = Arc::new(server);
        let (own, own_writer, _asks) = store::channel();
        let inbound = Inbound::new(server, own);
        let workload = workload("server", mode, application.port(), Protocol::Detect);
        own_writer.set_workload(workload);
        let taking = Arc::clone(&inbound);
        // The name in the handshake holds the port that the connection came to.
        let gate = SocketAddr::from(([127, 0, 0, 3], application.port()));
        let gate = listen(gate, move |stream, _number| {
            let taking = Arc::clone(&taking);
            async move {
                let workload = taking.store.workload();
                taking.carry(stream, application, workload).await;
            }
        })
        .await;
        let endpoint = Endpoint {
            address: gate,
            peer: ExpectedPeer::Mesh { identity: identity("server"), pod_uid: pod_uid(expected) },
            zone: String::new(),
            node: String::new(),
            pod: "server".to_owned(),
        };
        let (store, _writer, _asks) = store::channel();
        let outbound = Outbound::new(Arc::new(client), store);
        let backends = vec![(balancer("api", vec![endpoint]), 1)];
        let destination = watch::Sender::new(resolved(backends, Timeouts::default()));
        Self {
            outbound,
            inbound,
            application,
            gate,
            destination,
            mesh,
            client_writer,
            server_writer,
            own_writer,
        }
    }

    /// The application's end of a connection that the client's proxy has taken.
    async fn connect(&self) -> TcpStream {
        let (near, far) = tcp_pair().await;
        let outbound = Arc::clone(&self.outbound);
        let destination = self.destination.subscribe();
        crate::testing::spawn(async move {
            outbound.carry_to(far, ([10, 0, 0, 1], 80).into(), destination).await;
        });
        near
    }

    fn handshakes(&self, outcome: &'static str) -> u64 {
        let labels = crate::metrics::HandshakeLabels { side: Side::Server, outcome };
        self.inbound.dialer.metrics.handshakes.get_or_create(&labels).get()
    }
}

/// An address of the loopback network that is not the one the gate is at.
fn application_address() -> SocketAddr {
    ([127, 0, 0, 2], 0).into()
}

#[tokio::test]
async fn http_goes_encrypted_from_proxy_to_proxy() {
    let backend = Backend::at(application_address(), "application").await;
    let pair = Pair::new(backend.address, InboundMode::Strict, "server").await;
    let mut client = Client::new(pair.connect().await).await;
    for _request in 0..10 {
        let answer = client.get("/").await.unwrap();
        assert_eq!((answer.status, answer.text.as_str()), (200, "application"));
        let expected = format!("By={};URI={}", identity("server"), identity("client"));
        assert_eq!(answer.headers["seen-x-forwarded-client-cert"], expected);
    }
    assert_eq!(pair.handshakes("ok"), 1, "pooled");
}

#[tokio::test]
async fn a_pod_other_than_the_expected_one_gets_no_request() {
    let backend = Backend::at(application_address(), "application").await;
    let pair = Pair::new(backend.address, InboundMode::Permissive, "another").await;
    let answer = Client::new(pair.connect().await).await.get("/").await.unwrap();
    assert_eq!(answer.status, 503);
    assert_eq!(answer.headers["x-heddle-error"], "tls");
    assert_eq!(backend.connections(), 0);
}

#[tokio::test]
async fn a_strict_workload_takes_no_plain_connection() {
    let backend = Backend::at(application_address(), "application").await;
    let pair = Pair::new(backend.address, InboundMode::Strict, "server").await;
    let mut plain = TcpStream::connect(pair.gate).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let read = plain.read_to_end(&mut answer).await;
    assert_eq!(read.map_err(|error| error.kind()), Err(io::ErrorKind::ConnectionReset));
    assert!(answer.is_empty());
    assert_eq!(backend.connections(), 0);
}

#[tokio::test]
async fn nothing_known_of_the_workload_means_no_connection() {
    let backend = Backend::at(application_address(), "application").await;
    let pair = Pair::new(backend.address, InboundMode::Permissive, "server").await;
    let (mut near, far) = tcp_pair().await;
    near.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    pair.inbound.carry(far, pair.application, None).await;
    let read = near.read_u8().await;
    assert_eq!(read.map_err(|error| error.kind()), Err(io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn an_address_that_is_not_ours_is_not_connected_to() {
    let backend = Backend::at(application_address(), "application").await;
    let pair = Pair::new(backend.address, InboundMode::Permissive, "server").await;
    let workload = workload("server", InboundMode::Permissive, 80, Protocol::Detect);
    let (mut near, far) = tcp_pair().await;
    let elsewhere = ([192, 0, 2, 1], 80).into();
    pair.inbound.carry(far, elsewhere, Some(Arc::new(workload))).await;
    let read = near.read_u8().await;
    assert_eq!(read.map_err(|error| error.kind()), Err(io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn a_permissive_workload_serves_plain_http() {
    let backend = Backend::at(application_address(), "application").await;
    let pair = Pair::new(backend.address, InboundMode::Permissive, "server").await;
    let plain = TcpStream::connect(pair.gate).await.unwrap();
    let answer = Client::new(plain).await.get("/").await.unwrap();
    assert_eq!((answer.status, answer.text.as_str()), (200, "application"));
    assert!(!answer.headers.contains_key("seen-x-forwarded-client-cert"));
}

/// Greets, then answers each line with itself.
async fn greeter() -> SocketAddr {
    listen(application_address(), |mut stream, _number| async move {
        stream.write_all(b"220 hello\n").await.unwrap();
        let (mut reader, mut writer) = stream.split();
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
        let _ = writer.shutdown().await;
    })
    .await
}

async fn converse(mut stream: TcpStream) {
    let mut greeting = [0; 10];
    let start = tokio::time::Instant::now();
    stream.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"220 hello\n");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    stream.write_all(b"quit\n").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "quit\n");
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard() {
    let pair = Pair::new(greeter().await, InboundMode::Strict, "server").await;
    converse(pair.connect().await).await;
    assert_eq!(pair.handshakes("ok"), 1);
    let pair = Pair::new(greeter().await, InboundMode::Permissive, "server").await;
    converse(TcpStream::connect(pair.gate).await.unwrap()).await;
}

#[tokio::test]
async fn a_slow_client_of_http_is_still_routed_as_http() {
    let backend = Backend::at(application_address(), "application").await;
    let pair = Pair::new(backend.address, InboundMode::Permissive, "server").await;
    for (way, stream) in [
        ("through both proxies", pair.connect().await),
        ("plain", TcpStream::connect(pair.gate).await.unwrap()),
    ] {
        // Longer than the silence after which the server might have had to speak first.
        tokio::time::sleep(Duration::from_millis(120)).await;
        let answer = Client::new(stream).await.get("/").await.unwrap();
        assert_eq!(answer.text, "application", "case: {way}");
    }
    let labels = crate::metrics::DetectionLabels { protocol: "http1" };
    let detections = &pair.outbound.metrics().detections;
    assert_eq!(detections.get_or_create(&labels).get(), 1);
}

#[tokio::test]
async fn bytes_are_carried_encrypted_and_ends_are_passed_on() {
    let echo = listen(application_address(), |mut stream, _number| async move {
        let (mut reader, mut writer) = stream.split();
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
        let _ = writer.shutdown().await;
    })
    .await;
    let pair = Pair::new(echo, InboundMode::Strict, "server").await;
    let mut stream = pair.connect().await;
    let sent = vec![0x80; 300_000];
    let (mut reader, mut writer) = stream.split();
    let write = async {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let mut received = Vec::new();
    let (read, ()) = tokio::join!(reader.read_to_end(&mut received), write);
    read.unwrap();
    assert!(received == sent);
    assert_eq!(pair.handshakes("ok"), 1);
    let bytes = pair.inbound.dialer.metrics.bytes(Direction::Inbound);
    assert_eq!((bytes.to_server.all(), bytes.to_client.all()), (300_000, 300_000));
}

#[tokio::test]
async fn a_server_that_breaks_off_is_a_reset_and_no_end_at_the_client() {
    let breaks = listen(application_address(), |mut stream, _number| async move {
        let _ = stream.read_u8().await;
        let _ = stream.write_all(b"\x80half").await;
        reset_on_close(&stream);
    })
    .await;
    let pair = Pair::new(breaks, InboundMode::Strict, "server").await;
    let mut stream = pair.connect().await;
    stream.write_all(b"\x80").await.unwrap();
    let mut received = Vec::new();
    assert!(stream.read_to_end(&mut received).await.is_err());
}

#[tokio::test]
async fn a_refused_destination_is_reset() {
    let mesh = Mesh::new();
    let (_writer, credentials) = mesh.credentials("client", LIFETIME);
    let (store, _store_writer, _asks) = store::channel();
    let outbound = Outbound::new(dialer_with("client", credentials), store);
    let refused = crate::discovery::resolved::Resolved::Refused { reason: "no port".to_owned() };
    let destination = watch::Sender::new(refused);
    let (mut near, far) = tcp_pair().await;
    outbound.carry_to(far, ([10, 0, 0, 1], 81).into(), destination.subscribe()).await;
    let read = near.read_u8().await;
    assert_eq!(read.map_err(|error| error.kind()), Err(io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn what_the_mesh_does_not_know_passes_through() {
    let backend = Backend::new("elsewhere").await;
    let mesh = Mesh::new();
    let (_writer, credentials) = mesh.credentials("client", LIFETIME);
    let (store, _store_writer, _asks) = store::channel();
    let outbound = Outbound::new(dialer_with("client", credentials), store);
    let destination = watch::Sender::new(crate::discovery::resolved::Resolved::PassThrough);
    let (near, far) = tcp_pair().await;
    let (address, receiver) = (backend.address, destination.subscribe());
    crate::testing::spawn(async move { outbound.carry_to(far, address, receiver).await });
    let answer = Client::new(near).await.get("/").await.unwrap();
    assert_eq!(answer.text, "elsewhere");
    assert!(!answer.headers.contains_key("x-heddle-error"));
}

/// A tenth of the lifetime is what the last request on a connection has; nine tenths what a renewal
/// may be late by. It has a task of its own, which the clients cannot hold up.
#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_lost_while_certificates_of_seconds_are_renewed() {
    const LIFETIME: Duration = Duration::from_secs(10);
    const CLIENTS: usize = 4;
    let backend = Backend::at(application_address(), "application").await;
    let pair = Pair::living(LIFETIME, backend.address, InboundMode::Strict, "server").await;
    let pair = Arc::new(pair);
    let done = tokio_util::sync::CancellationToken::new();
    let (renewing, ending) = (Arc::clone(&pair), done.clone());
    crate::testing::spawn(async move {
        let mut interval = tokio::time::interval(LIFETIME / 10);
        // Each client's connection was opened anew at least twice.
        while renewing.handshakes("ok") < u64::try_from(3 * CLIENTS).unwrap() {
            interval.tick().await;
            renewing.mesh.renew("client", LIFETIME, &renewing.client_writer);
            renewing.mesh.renew("server", LIFETIME, &renewing.server_writer);
        }
        ending.cancel();
    });
    let clients = (0..CLIENTS).map(|_number| async {
        let mut client = Client::new(pair.connect().await).await;
        let mut count = 0;
        while !done.is_cancelled() {
            let answer = client.post("/").await.unwrap();
            let reason = answer.headers.get("x-heddle-error").cloned();
            assert_eq!((answer.status, reason), (200, None), "after {count}");
            count += 1;
        }
        assert!(count > 1, "{count}");
    });
    let clients = futures_util::future::join_all(clients);
    let ended = tokio::time::timeout(12 * LIFETIME, clients).await;
    ended.expect("connections are opened anew");
}

#[tokio::test]
async fn an_own_certificate_that_has_expired_is_told_and_not_held_against_the_endpoint() {
    let backend = Backend::at(application_address(), "application").await;
    let lifetime = Duration::from_secs(1);
    let pair = Pair::living(lifetime, backend.address, InboundMode::Strict, "server").await;
    tokio::time::sleep(lifetime).await;
    let mut client = Client::new(pair.connect().await).await;
    for _request in 0..2 {
        let answer = client.get("/").await.unwrap();
        assert_eq!(answer.status, 503);
        assert_eq!(answer.headers["x-heddle-error"], "certificate_expired");
    }
    pair.mesh.renew("client", LIFETIME, &pair.client_writer);
    pair.mesh.renew("server", LIFETIME, &pair.server_writer);
    assert_eq!(client.get("/").await.unwrap().status, 200);
}

#[tokio::test]
async fn connections_of_http_do_not_outlive_the_callers_certificate() {
    let backend = Backend::at(application_address(), "application").await;
    let pair = Pair::new(backend.address, InboundMode::Strict, "server").await;
    for protocol in [InnerProtocol::Http1, InnerProtocol::SharedHttp1, InnerProtocol::Http2] {
        let (_writer, credentials) = pair.mesh.credentials("client", Duration::from_secs(2));
        let target = PeerTarget {
            identity: identity("server"),
            pod_uid: pod_uid("server"),
            port: Port::new(pair.gate.port()).unwrap(),
        };
        let stream = TcpStream::connect(pair.gate).await.unwrap();
        let mut stream =
            heddle_tls::connect::connect(stream, &credentials, &target, protocol).await.unwrap();
        let ended = async {
            match protocol {
                InnerProtocol::Http1 | InnerProtocol::Tcp | InnerProtocol::Warm => {
                    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
                    stream.read_to_end(&mut Vec::new()).await.unwrap();
                }
                InnerProtocol::SharedHttp1 => {
                    let session = Session::new(Role::Client);
                    let mut channel = session.open().unwrap();
                    let asked = async move {
                        channel.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
                        channel.read_to_end(&mut Vec::new()).await.unwrap();
                    };
                    let driven = drive(stream, &session, None, drop);
                    assert!(tokio::join!(asked, driven).1.is_ok());
                }
                InnerProtocol::Http2 => {
                    let (_sender, connection) = http2::Builder::new(TokioExecutor::new())
                        .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
                        .await
                        .unwrap();
                    connection.await.unwrap();
                }
            }
        };
        let ended = tokio::time::timeout(Duration::from_secs(5), ended).await;
        assert!(ended.is_ok(), "case: {protocol}");
        assert!(credentials.leaf_not_after().unwrap() <= clock::now(), "case: {protocol}");
    }
}

/// Takes one connection to the application by itself, with little patience, and gives its other end.
async fn hasty(application: SocketAddr, protocol: Protocol) -> TcpStream {
    let (_writer, credentials) = Mesh::new().credentials("server", LIFETIME);
    let mut dialer = Arc::into_inner(dialer_with("server", credentials)).unwrap();
    dialer.settings.inbound_idle = Duration::from_millis(200);
    let inbound = Inbound::new(Arc::new(dialer), store::channel().0);
    let workload = workload("server", InboundMode::Permissive, application.port(), protocol);
    let (near, far) = tcp_pair().await;
    crate::testing::spawn(async move {
        inbound.carry(far, application, Some(Arc::new(workload))).await;
    });
    near
}

async fn rest(mut stream: TcpStream) -> io::Result<String> {
    let mut rest = String::new();
    tokio::time::timeout(Duration::from_secs(5), stream.read_to_string(&mut rest)).await??;
    Ok(rest)
}

#[tokio::test]
async fn a_silent_client_whose_turn_it_is_to_speak_is_closed() {
    let silent = listen(application_address(), |mut stream, _number| async move {
        let _ = stream.read_u8().await;
    })
    .await;
    for protocol in [Protocol::Http1, Protocol::Http2, Protocol::Tls] {
        let stream = hasty(silent, protocol).await;
        assert_eq!(rest(stream).await.unwrap(), "", "case: {protocol:?}");
    }
}

#[tokio::test]
async fn a_connection_that_may_be_kept_for_later_is_not_closed_for_its_silence() {
    let backend = Backend::at(application_address(), "application").await;
    for protocol in [Protocol::Detect, Protocol::Opaque] {
        let stream = hasty(backend.address, protocol).await;
        // Longer than `hasty` waits for those who have to speak.
        tokio::time::sleep(Duration::from_millis(400)).await;
        let answer = Client::new(stream).await.get("/").await.unwrap();
        assert_eq!(answer.text, "application", "case: {protocol:?}");
    }
}

#[tokio::test]
async fn a_server_that_ends_before_anything_was_said_is_not_waited_for() {
    let application = listen(application_address(), |_stream, _number| async {}).await;
    let pair = Pair::new(application, InboundMode::Permissive, "server").await;
    let plain = TcpStream::connect(pair.gate).await.unwrap();
    assert_eq!(rest(plain).await.unwrap(), "");
}

#[tokio::test]
async fn requests_in_odd_shapes_do_not_pass_as_bytes() {
    let backend = Backend::at(application_address(), "application").await;
    let pair = Pair::new(backend.address, InboundMode::Permissive, "server").await;
    for (line, status) in [
        ("\r\nGET / HTTP/1.1", "HTTP/1.1 200 "),
        ("GET  / HTTP/1.1", "HTTP/1.1 400 "),
        ("GET\t/\tHTTP/1.1", "HTTP/1.1 400 "),
    ] {
        let mut plain = TcpStream::connect(pair.gate).await.unwrap();
        let head = "host: a\r\nconnection: close\r\nx-forwarded-client-cert: forged\r\n\r\n";
        plain.write_all(format!("{line}\r\n{head}").as_bytes()).await.unwrap();
        let answer = rest(plain).await.unwrap();
        assert!(answer.starts_with(status), "case: {line:?}: {answer}");
        assert!(!answer.contains("forged"), "case: {line:?}: {answer}");
    }
}

#[tokio::test]
async fn a_proxy_brings_no_bytes_to_a_port_of_http() {
    let backend = Backend::at(application_address(), "application").await;
    let application = backend.address;
    let mesh = Mesh::new();
    let (_server_writer, server) = mesh.credentials("server", LIFETIME);
    let (_client_writer, client) = mesh.credentials("client", LIFETIME);
    let inbound = Inbound::new(dialer_with("server", server), store::channel().0);
    let workload = workload("server", InboundMode::Strict, application.port(), Protocol::Http1);
    let (near, far) = tcp_pair().await;
    let target = PeerTarget {
        identity: identity("server"),
        pod_uid: pod_uid("server"),
        port: Port::new(application.port()).unwrap(),
    };
    let called = async {
        let mut stream =
            heddle_tls::connect::connect(near, &client, &target, InnerProtocol::Tcp).await.unwrap();
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        stream.read_u8().await
    };
    let carried = inbound.carry(far, application, Some(Arc::new(workload)));
    let (read, ()) = tokio::join!(called, carried);
    assert!(read.is_err());
    assert_eq!(backend.connections(), 0);
    let refused = &inbound.dialer.metrics.refused;
    let labels =
        crate::metrics::RefusedLabels { direction: Direction::Inbound, reason: "other_protocol" };
    assert_eq!(refused.get_or_create(&labels).get(), 1);
}

#[tokio::test]
async fn a_connection_has_room_for_one_phase_alone() {
    let application = Backend::new("unasked").await;
    let pair = Pair::new(application.address, InboundMode::Strict, "server").await;
    let original = application.address;
    let (_near, far) = tcp_pair().await;
    let passage = Passage::begin(Direction::Inbound, &far, Some(original));
    let workload = pair.inbound.store.workload().unwrap();
    let client = Rewind::new(Bytes::new(), far);
    let mesh = pair.inbound.mesh(client, (passage, original), &workload, Protocol::Http1);
    let held_bytes = size_of_val(&mesh);
    assert!(held_bytes <= 1536, "{held_bytes}");
    drop(mesh);
    let (_near, far) = tcp_pair().await;
    let held_bytes = size_of_val(&Arc::clone(&pair.inbound).serve(far));
    assert!(held_bytes <= 1024, "{held_bytes}");
}
