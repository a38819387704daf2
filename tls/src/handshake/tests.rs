//! Real handshakes, over a pipe, of good and of odd certificates.

use std::sync::Arc;

use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};
use rustls::client::Resumption;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, HandshakeKind, ServerConfig};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::accept::{AcceptError, Accepted, accept};
use crate::alpn::InnerProtocol;
use crate::config::{self, Audience, ClientBase};
use crate::connect::{self, ConnectError, connect};
use crate::control_plane;
use crate::credentials::{self, Credentials};
use crate::peer::PeerIdentity;
use crate::stream::{TlsStream, peer_not_after};
use crate::testing::{CarelessAuthority, OddLeaf, TestMesh, target, trust_domain, workload};

type Client = Result<TlsStream<DuplexStream>, ConnectError>;
type Server = Result<Accepted<DuplexStream>, AcceptError>;

/// Our accept, and any client.
async fn accepted(server: &Credentials, config: ClientConfig, name: &str) -> (Client, Server) {
    let (near, far) = duplex(PIPE_BYTES);
    let own = server.identity().unwrap().pod_uid;
    tokio::join!(
        connect::handshake(near, config, name.to_owned()),
        accept(far, server, &own, &InnerProtocol::ALL, HANDSHAKE_TIMEOUT)
    )
}

/// Our connect, and any server.
async fn connected(client: &Credentials, config: ServerConfig, to: &PeerIdentity) -> Client {
    let (near, far) = duplex(PIPE_BYTES);
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let target = target(to);
    let (client, _) =
        tokio::join!(connect(near, client, &target, InnerProtocol::Http2), acceptor.accept(far));
    client
}

fn client_config(mesh: &TestMesh, key: Option<&Arc<CertifiedKey>>) -> ClientConfig {
    ClientBase::new(&mesh.bundle, key).unwrap().for_peer(workload("api"), &[InnerProtocol::Http2])
}

fn server_config(mesh: &TestMesh, key: &Arc<CertifiedKey>) -> ServerConfig {
    config::server(Audience::Peers, &mesh.bundle, &workload("api"), key).unwrap()
}

#[tokio::test]
async fn two_proxies_know_each_other_after_a_handshake() {
    let mesh = TestMesh::new();
    let (frontend, api) = (workload("frontend"), workload("api"));
    let (_client_writer, client) = mesh.credentials(&frontend);
    let (server_writer, server) = mesh.credentials(&api);
    let earlier = crate::testing::now() - Duration::from_secs(60);
    server_writer.set_certificate(mesh.leaf_issued_at(&api, earlier)).unwrap();
    let (client_until, server_until) = (client.leaf_not_after(), server.leaf_not_after());
    for protocol in InnerProtocol::ALL {
        let (near, far) = duplex(PIPE_BYTES);
        let target = target(&api);
        let (client, server) = tokio::join!(
            connect(near, &client, &target, protocol),
            accept(far, &server, &api.pod_uid, &InnerProtocol::ALL, HANDSHAKE_TIMEOUT)
        );
        let (mut client, mut server) = (client.unwrap(), server.unwrap());
        assert_eq!(server.peer, frontend);
        assert_eq!(Some(server.peer_not_after), client_until);
        assert_eq!(peer_not_after(&client), server_until);
        assert_eq!(server.protocol, protocol);
        assert_eq!(server.server_name.port.number(), 8080);
        assert_eq!(server.server_name.pod_uid, api.pod_uid);
        echo(&mut client, &mut server.stream).await;
        let connection = server.stream.get_ref().1;
        assert_eq!(connection.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
        let suite = connection.negotiated_cipher_suite().unwrap().suite();
        assert_eq!(suite, rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
        let group = connection.negotiated_key_exchange_group().unwrap().name();
        assert_eq!(group, rustls::NamedGroup::X25519);
    }
}

/// What no end may present, and the reason that the other end must give.
fn odd_leaves(peer: &PeerIdentity) -> Vec<(&'static str, OddLeaf, &'static str)> {
    let good = || OddLeaf::like(peer);
    let uri = peer.identity.to_string();
    let other = "spiffe://other.local/ns/shop/sa/api".to_owned();
    let server_only = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let client_only = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let any = vec![ExtendedKeyUsagePurpose::Any];
    let ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let signs = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign];
    let dns = peer.dns_name();
    let of_other = vec!["api-1.pod.other.local".to_owned()];
    vec![
        ("good", good(), "accepted"),
        (
            "two URI names",
            OddLeaf { uris: vec![uri.clone(), other.clone()], ..good() },
            "two_uri_names",
        ),
        (
            "one URI name, twice",
            OddLeaf { uris: vec![uri.clone(), uri], ..good() },
            "two_uri_names",
        ),
        ("no URI name", OddLeaf { uris: vec![], ..good() }, "no_uri_name"),
        ("no names", OddLeaf { uris: vec![], dns: vec![], ..good() }, "no_uri_name"),
        ("a web address", OddLeaf { uris: vec!["https://a.b/".into()], ..good() }, "not_spiffe"),
        (
            "another trust domain, from our own anchor",
            OddLeaf { uris: vec![other], dns: of_other.clone(), ..good() },
            "wrong_trust_domain",
        ),
        ("no DNS name", OddLeaf { dns: vec![], ..good() }, "not_one_dns_name"),
        ("two DNS names", OddLeaf { dns: vec![dns.clone(), dns], ..good() }, "not_one_dns_name"),
        ("a pod of another domain", OddLeaf { dns: of_other, ..good() }, "not_a_pod_name"),
        ("a host name", OddLeaf { dns: vec!["api.shop".into()], ..good() }, "not_a_pod_name"),
        ("an e-mail name", OddLeaf { emails: vec!["a@b.c".into()], ..good() }, "other_names"),
        ("an authority", OddLeaf { is_ca: ca, ..good() }, "is_authority"),
        ("no key usage", OddLeaf { key_usages: vec![], ..good() }, "key_usage"),
        ("signs certificates", OddLeaf { key_usages: signs, ..good() }, "key_usage"),
        (
            "no extended usage",
            OddLeaf { extended_key_usages: vec![], ..good() },
            "extended_key_usage",
        ),
        (
            "server only",
            OddLeaf { extended_key_usages: server_only, ..good() },
            "extended_key_usage",
        ),
        (
            "client only",
            OddLeaf { extended_key_usages: client_only, ..good() },
            "extended_key_usage",
        ),
        (
            "any extended usage",
            OddLeaf { extended_key_usages: any, ..good() },
            "extended_key_usage",
        ),
        ("expired", OddLeaf { valid: (-120, -60), ..good() }, "expired"),
        ("not valid yet", OddLeaf { valid: (60, 120), ..good() }, "not_yet_valid"),
    ]
}

#[tokio::test]
async fn a_server_takes_good_client_certificates_only() {
    let mesh = TestMesh::new();
    let (_writer, server) = mesh.credentials(&workload("api"));
    for (case, leaf, expected) in odd_leaves(&workload("frontend")) {
        let key = mesh.careless.mint(&leaf);
        let (_, server) = accepted(&server, client_config(&mesh, Some(&key)), API_NAME).await;
        assert_eq!(accept_label(&server), expected, "case: {case}");
    }
}

#[tokio::test]
async fn a_client_takes_good_server_certificates_only() {
    let mesh = TestMesh::new();
    let api = workload("api");
    let (_writer, client) = mesh.credentials(&workload("frontend"));
    let mut cases = odd_leaves(&api);
    let mut other_pod = api.clone();
    other_pod.pod_uid = "api-2".parse().unwrap();
    cases.push(("another pod", OddLeaf::like(&other_pod), "wrong_pod"));
    let mut other_account = api.clone();
    other_account.identity = workload("store").identity;
    cases.push(("another account", OddLeaf::like(&other_account), "wrong_identity"));
    for (case, leaf, expected) in cases {
        let key = mesh.careless.mint(&leaf);
        let client = connected(&client, server_config(&mesh, &key), &api).await;
        assert_eq!(connect_label(&client), expected, "case: {case}");
    }
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_refused_by_both_ends() {
    let mesh = TestMesh::new();
    let (frontend, api) = (workload("frontend"), workload("api"));
    let (_client_writer, client) = mesh.credentials(&frontend);
    let (_server_writer, server) = mesh.credentials(&api);
    let stranger = CarelessAuthority::new();

    let key = stranger.mint(&OddLeaf::like(&frontend));
    let (_, server) = accepted(&server, client_config(&mesh, Some(&key)), API_NAME).await;
    assert_eq!(accept_label(&server), "unknown_authority");

    let key = stranger.mint(&OddLeaf::like(&api));
    let client = connected(&client, server_config(&mesh, &key), &api).await;
    assert_eq!(connect_label(&client), "unknown_authority");
}

#[tokio::test]
async fn another_mesh_is_called_that_and_not_merely_unknown() {
    let mesh = TestMesh::new();
    let (_server_writer, server) = mesh.credentials(&workload("api"));
    let mut leaf = OddLeaf::like(&workload("frontend"));
    leaf.uris = vec!["spiffe://other.local/ns/shop/sa/frontend".into()];
    leaf.dns = vec!["frontend-1.pod.other.local".into()];
    let key = CarelessAuthority::new().mint(&leaf);
    let (_, server) = accepted(&server, client_config(&mesh, Some(&key)), API_NAME).await;
    assert_eq!(accept_label(&server), "wrong_trust_domain");
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let mesh = TestMesh::new();
    let (_writer, server) = mesh.credentials(&workload("api"));
    let (client, server) = accepted(&server, client_config(&mesh, None), API_NAME).await;
    assert_eq!(accept_label(&server), "no_certificate");
    // The client's own handshake is over by then: it is told in its first read.
    let error = client.unwrap().read(&mut [0]).await.unwrap_err();
    assert_eq!(
        error.get_ref().unwrap().downcast_ref(),
        Some(&rustls::Error::AlertReceived(AlertDescription::CertificateRequired))
    );
}

#[tokio::test]
async fn a_server_answers_to_its_own_name_only() {
    let mesh = TestMesh::new();
    let (_writer, server) = mesh.credentials(&workload("api"));
    let (_client_writer, client) = mesh.credentials(&workload("frontend"));
    for (case, name) in [
        ("another pod", "8080.api-2.pod.cluster.local"),
        ("another trust domain", "8080.api-1.pod.other.local"),
        ("no port", "api-1.pod.cluster.local"),
        ("the control plane", "control-plane.pod.cluster.local"),
        ("a host name", "api.shop"),
        ("an address, which is no name", "10.42.0.7"),
    ] {
        let config = client.peer_client(workload("api"), &[InnerProtocol::Http2]).unwrap();
        let (client, server) = accepted(&server, config, name).await;
        assert_eq!(accept_label(&server), "wrong_server_name", "case: {case}");
        assert_eq!(connect_label(&client), "refused_by_peer", "case: {case}");
    }
}

#[tokio::test]
async fn a_connection_without_a_protocol_of_the_mesh_is_refused() {
    let mesh = TestMesh::new();
    let (_writer, server) = mesh.credentials(&workload("api"));
    let (_client_writer, client) = mesh.credentials(&workload("frontend"));
    for (case, protocols, client_sees) in [
        ("the application's own", vec![b"h2".to_vec(), b"http/1.1".to_vec()], "alpn"),
        ("none", vec![], "refused_by_peer"),
    ] {
        let mut config = client.peer_client(workload("api"), &[InnerProtocol::Http2]).unwrap();
        config.alpn_protocols = protocols;
        let (client, server) = accepted(&server, config, API_NAME).await;
        assert_eq!(accept_label(&server), "alpn", "case: {case}");
        assert_eq!(connect_label(&client), client_sees, "case: {case}");
    }
}

#[tokio::test]
async fn a_server_that_names_no_protocol_is_refused() {
    let mesh = TestMesh::new();
    let api = workload("api");
    let (_writer, client) = mesh.credentials(&workload("frontend"));
    let mut config = server_config(&mesh, mesh.leaf(&api).key());
    config.alpn_protocols = Vec::new();
    assert_eq!(connect_label(&connected(&client, config, &api).await), "alpn");
}

#[tokio::test]
async fn nothing_is_resumed_even_if_the_client_would() {
    let mesh = TestMesh::new();
    let api = workload("api");
    let (_writer, server) = mesh.credentials(&api);
    let mut config = client_config(&mesh, Some(mesh.leaf(&workload("frontend")).key()));
    config.resumption = Resumption::in_memory_sessions(8);
    config.enable_early_data = true;
    let connector = TlsConnector::from(Arc::new(config));
    for round in 1..=3 {
        let (near, far) = duplex(PIPE_BYTES);
        let name = ServerName::try_from(API_NAME).unwrap();
        let (client, server) = tokio::join!(
            connector.connect(name, near),
            accept(far, &server, &api.pod_uid, &InnerProtocol::ALL, HANDSHAKE_TIMEOUT)
        );
        let (mut client, mut server) = (client.unwrap(), server.unwrap());
        // Tickets, were there any, would come with the first bytes.
        echo(&mut client, &mut server.stream).await;
        let kind = client.get_ref().1.handshake_kind();
        assert_eq!(kind, Some(HandshakeKind::Full), "round {round}");
        assert_eq!(client.get_ref().1.tls13_tickets_received(), 0, "round {round}");
        let TlsStream::Server(stream) = server.stream else { panic!("not the server's end") };
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
    }
}

/// A server that would resume.
fn resuming(mut config: ServerConfig) -> TlsAcceptor {
    config.session_storage = rustls::server::ServerSessionMemoryCache::new(8);
    config.send_tls13_tickets = 2;
    TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn a_client_does_not_resume_even_if_the_server_would() {
    let mesh = TestMesh::new();
    let api = workload("api");
    let (_writer, client) = mesh.credentials(&workload("frontend"));
    let control_plane = PeerIdentity::control_plane(&trust_domain()).unwrap();
    let audience = Audience::ControlPlaneClients;
    let key = mesh.leaf(&control_plane);
    let config = config::server(audience, &mesh.bundle, &control_plane, key.key()).unwrap();
    let control_plane = resuming(config);
    let peer = resuming(server_config(&mesh, mesh.leaf(&api).key()));
    let target = target(&api);
    for round in 1..=3 {
        let (near, far) = duplex(PIPE_BYTES);
        let to_peer =
            tokio::join!(connect(near, &client, &target, InnerProtocol::Tcp), peer.accept(far));
        let (near, far) = duplex(PIPE_BYTES);
        let to_control_plane =
            tokio::join!(control_plane::connect(near, &client), control_plane.accept(far));
        for (client, server) in [to_peer, to_control_plane] {
            let (mut client, mut server) = (client.unwrap(), server.unwrap());
            echo(&mut client, &mut server).await;
            let kind = server.get_ref().1.handshake_kind();
            assert_eq!(kind, Some(HandshakeKind::Full), "round {round}");
        }
    }
}

#[tokio::test]
async fn a_swap_leaves_connections_up_and_new_ones_see_the_new_certificate() {
    let mesh = TestMesh::new();
    let api = workload("api");
    let (_client_writer, client) = mesh.credentials(&workload("frontend"));
    let (writer, server) = mesh.credentials(&api);
    let target = target(&api);
    let handshake = async || {
        let (near, far) = duplex(PIPE_BYTES);
        let (client, server) = tokio::join!(
            connect(near, &client, &target, InnerProtocol::Tcp),
            accept(far, &server, &api.pod_uid, &InnerProtocol::ALL, HANDSHAKE_TIMEOUT)
        );
        (client.unwrap(), server.unwrap().stream)
    };
    let (mut old_client, mut old_server) = handshake().await;

    let fresh = mesh.leaf(&api);
    writer.set_certificate(fresh.clone()).unwrap();
    let (new_client, _new_server) = handshake().await;
    assert_eq!(new_client.get_ref().1.peer_certificates().unwrap()[0], fresh.key().cert[0]);
    assert_ne!(old_client.get_ref().1.peer_certificates().unwrap()[0], fresh.key().cert[0]);

    // Nor does it matter to the old connection that its authority is not trusted any more.
    let anchor = CarelessAuthority::new().anchor();
    let bundle = crate::bundle::Bundle::from_der(trust_domain(), [anchor]).unwrap();
    writer.set_bundle(bundle).unwrap();
    echo(&mut old_client, &mut old_server).await;
    let (near, far) = duplex(PIPE_BYTES);
    let (_, refused) = tokio::join!(
        connect(near, &client, &target, InnerProtocol::Tcp),
        accept(far, &server, &api.pod_uid, &InnerProtocol::ALL, HANDSHAKE_TIMEOUT)
    );
    assert_eq!(accept_label(&refused), "unknown_authority");
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_given_up_on() {
    let mesh = TestMesh::new();
    let api = workload("api");
    let (_writer, credentials) = mesh.credentials(&api);
    let (_silent, far) = duplex(PIPE_BYTES);
    let began = tokio::time::Instant::now();
    assert_eq!(
        accept_label(
            &accept(far, &credentials, &api.pod_uid, &InnerProtocol::ALL, HANDSHAKE_TIMEOUT).await
        ),
        "timeout"
    );
    assert_eq!(began.elapsed(), HANDSHAKE_TIMEOUT);

    let (near, _silent) = duplex(PIPE_BYTES);
    let client = connect(near, &credentials, &target(&api), InnerProtocol::Tcp).await;
    assert_eq!(connect_label(&client), "timeout");
}

#[tokio::test]
async fn bytes_that_are_not_tls_are_refused() {
    let mesh = TestMesh::new();
    let api = workload("api");
    let (_writer, credentials) = mesh.credentials(&api);
    let (mut near, far) = duplex(PIPE_BYTES);
    near.write_all(b"GET / HTTP/1.1\r\nhost: api\r\n\r\n").await.unwrap();
    assert_eq!(
        accept_label(
            &accept(far, &credentials, &api.pod_uid, &InnerProtocol::ALL, HANDSHAKE_TIMEOUT).await
        ),
        "protocol"
    );

    let (near, far) = duplex(PIPE_BYTES);
    drop(near);
    assert_eq!(
        accept_label(
            &accept(far, &credentials, &api.pod_uid, &InnerProtocol::ALL, HANDSHAKE_TIMEOUT).await
        ),
        "io"
    );
}

#[tokio::test]
async fn without_a_certificate_there_is_no_handshake() {
    let mesh = TestMesh::new();
    let api = workload("api");
    let (writer, credentials) = credentials::channel(trust_domain());
    for step in ["nothing", "a bundle alone"] {
        let (near, far) = duplex(PIPE_BYTES);
        let server =
            accept(far, &credentials, &api.pod_uid, &InnerProtocol::ALL, HANDSHAKE_TIMEOUT).await;
        assert_eq!(accept_label(&server), "not_ready", "case: {step}");
        let client = connect(near, &credentials, &target(&api), InnerProtocol::Tcp).await;
        assert_eq!(connect_label(&client), "not_ready", "case: {step}");
        writer.set_bundle(mesh.bundle.clone()).unwrap();
    }
}

async fn to_control_plane(
    client: &Credentials,
    server: &Credentials,
) -> (Client, Result<Option<PeerIdentity>, AcceptError>) {
    let (near, far) = duplex(PIPE_BYTES);
    let (client, server) =
        tokio::join!(control_plane::connect(near, client), control_plane::accept(far, server));
    (client, server.map(|(_, peer)| peer))
}

#[tokio::test]
async fn a_new_proxy_reaches_the_control_plane_without_a_certificate() {
    let mesh = TestMesh::new();
    let own = PeerIdentity::control_plane(&trust_domain()).unwrap();
    let (_server_writer, server) = mesh.credentials(&own);
    let (writer, client) = credentials::channel(trust_domain());
    writer.set_bundle(mesh.bundle.clone()).unwrap();
    let (connected, peer) = to_control_plane(&client, &server).await;
    assert!(connected.is_ok());
    assert_eq!(peer.unwrap(), None);

    let frontend = workload("frontend");
    writer.set_certificate(mesh.leaf(&frontend)).unwrap();
    let (connected, peer) = to_control_plane(&client, &server).await;
    assert!(connected.is_ok());
    assert_eq!(peer.unwrap(), Some(frontend));
}

#[tokio::test]
async fn the_control_plane_refuses_a_bad_certificate_though_it_asks_for_none() {
    let mesh = TestMesh::new();
    let own = PeerIdentity::control_plane(&trust_domain()).unwrap();
    let (_writer, server) = mesh.credentials(&own);
    for (case, leaf, expected) in odd_leaves(&workload("frontend")) {
        let key = mesh.careless.mint(&leaf);
        let config = ClientBase::new(&mesh.bundle, Some(&key)).unwrap().for_control_plane();
        let (near, far) = duplex(PIPE_BYTES);
        let (_, server) = tokio::join!(
            connect::handshake(near, config, own.dns_name()),
            control_plane::accept(far, &server)
        );
        assert_eq!(label(&server, AcceptError::label), expected, "case: {case}");
    }
}

#[tokio::test]
async fn a_proxy_believes_nobody_else_to_be_the_control_plane() {
    let mesh = TestMesh::new();
    let own = PeerIdentity::control_plane(&trust_domain()).unwrap();
    let (_writer, client) = mesh.credentials(&workload("frontend"));
    for (case, leaf, expected) in [
        ("a workload", OddLeaf::like(&workload("api")), "wrong_identity"),
        (
            "a workload in its pod",
            OddLeaf { uris: vec![workload("api").identity.to_string()], ..OddLeaf::like(&own) },
            "wrong_identity",
        ),
        (
            "its account in another pod",
            OddLeaf { dns: vec!["api-1.pod.cluster.local".into()], ..OddLeaf::like(&own) },
            "wrong_pod",
        ),
    ] {
        let key = mesh.careless.mint(&leaf);
        let audience = Audience::ControlPlaneClients;
        let config = config::server(audience, &mesh.bundle, &own, &key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (near, far) = duplex(PIPE_BYTES);
        let (client, _) = tokio::join!(control_plane::connect(near, &client), acceptor.accept(far));
        assert_eq!(connect_label(&client), expected, "case: {case}");
    }
}

#[tokio::test]
async fn a_peers_protocol_does_not_reach_the_control_plane() {
    let mesh = TestMesh::new();
    let own = PeerIdentity::control_plane(&trust_domain()).unwrap();
    let (_server_writer, server) = mesh.credentials(&own);
    let (_writer, client) = mesh.credentials(&workload("frontend"));
    let config = client.peer_client(own.clone(), &[InnerProtocol::Http2]).unwrap();
    let (near, far) = duplex(PIPE_BYTES);
    let (client, server) = tokio::join!(
        connect::handshake(near, config, own.dns_name()),
        control_plane::accept(far, &server)
    );
    assert_eq!(label(&server, AcceptError::label), "alpn");
    assert_eq!(connect_label(&client), "alpn");
}

#[test]
fn the_futures_of_handshakes_stay_small() {
    let mesh = TestMesh::new();
    let api = workload("api");
    let (_writer, credentials) = mesh.credentials(&api);
    let (near, far) = duplex(PIPE_BYTES);
    let target = target(&api);
    let client = connect(near, &credentials, &target, InnerProtocol::Tcp);
    assert!(size_of_val(&client) <= FUTURE_LIMIT_BYTES, "{}", size_of_val(&client));
    let server = accept(far, &credentials, &api.pod_uid, &InnerProtocol::ALL, HANDSHAKE_TIMEOUT);
    assert!(size_of_val(&server) <= FUTURE_LIMIT_BYTES, "{}", size_of_val(&server));
}

fn label<T, E>(result: &Result<T, E>, of: impl Fn(&E) -> &'static str) -> &'static str {
    result.as_ref().map_or_else(of, |_| "accepted")
}

fn accept_label(result: &Server) -> &'static str {
    label(result, AcceptError::label)
}

fn connect_label(result: &Client) -> &'static str {
    label(result, ConnectError::label)
}

async fn echo<A, B>(client: &mut A, server: &mut B)
where
    A: AsyncReadExt + AsyncWriteExt + Unpin,
    B: AsyncReadExt + AsyncWriteExt + Unpin,
{
    let mut bytes = [0; 4];
    client.write_all(b"ping").await.unwrap();
    client.flush().await.unwrap();
    server.read_exact(&mut bytes).await.unwrap();
    server.write_all(&bytes).await.unwrap();
    server.flush().await.unwrap();
    client.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"ping");
}

const API_NAME: &str = "8080.api-1.pod.cluster.local";
const PIPE_BYTES: usize = 64 * 1024;
/// A quarter of clippy.toml's future-size-threshold: the callers' own futures hold it.
const FUTURE_LIMIT_BYTES: usize = 2048;
