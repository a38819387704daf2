//! Connections that are carried as bytes, by the server name of their ClientHello and by weight, over
//! loopback sockets. The handshake is not finished: who got its beginning is what is asked.

use std::io;
use std::time::Duration;

use heddle_model::endpoint::Endpoint;
use heddle_model::route::{ConnectionRule, Hostname, RuleOrigin, TlsRule, WeightedBackend};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::discovery::resolved::{ResolvedConnections, ResolvedService};
use crate::discovery::store;
use crate::metrics::RefusedLabels;
use crate::testing::{balancer, dialer, listen, loopback, plain, routed, service, spawn, tcp_pair};

/// Answers the first bytes of each connection with its name.
async fn named(name: &'static str) -> Vec<Endpoint> {
    let address = listen(loopback(), move |mut stream, _number| async move {
        let mut first = vec![0; 4096];
        if stream.read(&mut first).await.unwrap_or(0) > 0 {
            let _ = stream.write_all(name.as_bytes()).await;
        }
    })
    .await;
    vec![plain(address)]
}

fn rule(hostnames: &[Hostname], backend: &str, missing_weight: u32) -> TlsRule {
    let connections = ConnectionRule {
        backends: vec![WeightedBackend { backend: service(backend), weight: 1 }],
        missing_weight,
        origin: RuleOrigin::ServiceDefault,
    };
    TlsRule { hostnames: hostnames.to_vec(), connections }
}

fn exact(name: &str) -> Hostname {
    Hostname::Exact(name.to_owned())
}

/// RFC 8446, section 4.1.2, with one cipher suite and the server name.
fn client_hello(server_name: Option<&str>) -> Vec<u8> {
    let long = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
    let extensions = match server_name {
        Some(name) => {
            let list = long(&[&[0][..], &long(name.as_bytes())].concat());
            [&[0, 0][..], &long(&list)].concat()
        }
        None => Vec::new(),
    };
    let fixed = [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0x13, 1], &[1, 0]].concat();
    let body = [fixed, long(&extensions)].concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let message = [&[1][..], &length[1..], &body].concat();
    [&[22, 3, 1][..], &long(&message)].concat()
}

struct Bench {
    outbound: Arc<Outbound>,
    destination: watch::Sender<Resolved>,
}

impl Bench {
    fn new(resolved: Resolved) -> Self {
        let (store, _writer, _asks) = store::channel();
        let outbound = Outbound::new(dialer("client"), store);
        Self { outbound, destination: watch::Sender::new(resolved) }
    }

    async fn connect(&self) -> TcpStream {
        let (near, far) = tcp_pair().await;
        let (outbound, destination) = (Arc::clone(&self.outbound), self.destination.subscribe());
        spawn(async move {
            outbound.carry_to(far, ([10, 0, 0, 1], 80).into(), destination).await;
        });
        near
    }

    /// Who answers the parts, sent one after the other; `None`: the connection is reset.
    async fn ask(&self, parts: &[&[u8]]) -> Option<String> {
        let mut stream = self.connect().await;
        for (number, part) in parts.iter().enumerate() {
            if number > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            // One that is reset already says so when it is read.
            let _ = stream.write_all(part).await;
        }
        let mut answer = String::new();
        let reading = tokio::time::timeout(Duration::from_secs(10), async {
            stream.read_to_string(&mut answer).await
        });
        match reading.await.expect("it is answered, or reset") {
            Ok(_length) => Some(answer),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
                None
            }
        }
    }

    fn refused(&self, reason: &'static str) -> u64 {
        let labels = RefusedLabels { direction: Direction::Outbound, reason };
        self.outbound.metrics().refused.get_or_create(&labels).get()
    }
}

/// A service of its parts, some of them replaced.
fn changed(resolved: Resolved, change: impl FnOnce(&mut ResolvedService)) -> Resolved {
    let Resolved::Service(service) = resolved else { panic!("not a service") };
    let mut service = Arc::into_inner(service).unwrap();
    change(&mut service);
    Resolved::Service(Arc::new(service))
}

async fn two_names() -> Resolved {
    let rules = vec![
        rule(&[exact("a.example.com"), exact("b.example.com")], "one", 0),
        rule(&[Hostname::Below("example.com".to_owned())], "two", 0),
    ];
    routed(Vec::new(), rules, vec![("one", named("one").await), ("two", named("two").await)])
}

#[tokio::test]
async fn encrypted_connections_go_by_their_server_name() {
    for declared in [Protocol::Detect, Protocol::Tls, Protocol::Opaque] {
        let bench = Bench::new(changed(two_names().await, |service| service.protocol = declared));
        for (name, expected) in [
            (Some("a.example.com"), Some("one")),
            (Some("B.Example.com"), Some("one")),
            (Some("c.example.com"), Some("two")),
            (Some("d.c.example.com"), Some("two")),
            (Some("example.com"), None),
            (Some("a.example.org"), None),
            (None, None),
        ] {
            let found = bench.ask(&[&client_hello(name)]).await;
            assert_eq!(found.as_deref(), expected, "case: {name:?}, {declared:?}");
        }
        assert_eq!(bench.refused("no_tls_route"), 3);
    }
}

#[tokio::test]
async fn a_hello_in_pieces_is_put_together() {
    let bench = Bench::new(two_names().await);
    let hello = client_hello(Some("a.example.com"));
    let (first, rest) = hello.split_at(3);
    let (second, third) = rest.split_at(40);
    assert_eq!(bench.ask(&[first, second, third]).await.as_deref(), Some("one"));
}

#[tokio::test]
async fn a_client_that_is_silent_at_first_is_not_given_up_where_only_tls_has_a_way() {
    let bench = Bench::new(two_names().await);
    let mut stream = bench.connect().await;
    // Longer than the silence after which the server would be asked to speak.
    tokio::time::sleep(Duration::from_millis(150)).await;
    stream.write_all(&client_hello(Some("c.example.com"))).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "two");
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard_beside_routes_by_server_name() {
    let greeting = listen(loopback(), |mut stream, _number| async move {
        let _ = stream.write_all(b"220 ready").await;
        let _ = stream.read(&mut [0; 1]).await;
    })
    .await;
    for declared in [Protocol::Detect, Protocol::Opaque] {
        let other = vec![(balancer("other", vec![plain(greeting)]), 1)];
        let connections = ResolvedConnections { backends: other, missing_weight: 0 };
        let bench = Bench::new(changed(two_names().await, |service| {
            service.protocol = declared;
            service.connections = connections;
        }));
        let mut stream = bench.connect().await;
        let mut greeted = [0; 9];
        // Less than clients are given to begin with a name.
        let reading = tokio::time::timeout(Duration::from_secs(5), stream.read_exact(&mut greeted));
        reading.await.expect("it is not waited for the client").unwrap();
        assert_eq!(&greeted, b"220 ready", "case: {declared:?}");
    }
}

#[tokio::test]
async fn a_rule_without_names_takes_every_name_and_none() {
    let rules = vec![rule(&[exact("a.example.com")], "one", 0), rule(&[], "two", 0)];
    let endpoints = vec![("one", named("one").await), ("two", named("two").await)];
    let bench = Bench::new(routed(Vec::new(), rules, endpoints));
    for (name, expected) in
        [(Some("a.example.com"), "one"), (Some("b.example.com"), "two"), (None, "two")]
    {
        let found = bench.ask(&[&client_hello(name)]).await;
        assert_eq!(found.as_deref(), Some(expected), "case: {name:?}");
    }
}

#[tokio::test]
async fn what_is_not_encrypted_goes_where_other_connections_go() {
    let other = vec![(balancer("other", named("other").await), 1)];
    let connections = ResolvedConnections { backends: other, missing_weight: 0 };
    let resolved = changed(two_names().await, |service| service.connections = connections);
    let bench = Bench::new(resolved);
    assert_eq!(bench.ask(&[b"\x00\x01bytes"]).await.as_deref(), Some("other"));
    assert_eq!(bench.ask(&[b"\x16\x03\x01\x00\x00\x01"]).await.as_deref(), Some("other"));
    let found = bench.ask(&[&client_hello(Some("a.example.com"))]).await;
    assert_eq!(found.as_deref(), Some("one"));
    bench.destination.send_modify(|resolved| {
        let Resolved::Service(service) = &*resolved else { panic!("not a service") };
        let tls = service.connections.backends.clone();
        let connections = ResolvedConnections { backends: tls, missing_weight: 0 };
        let (service, protocol) = (service.service.clone(), service.protocol);
        let (rules, tls_rules) = (Vec::new(), Vec::new());
        let service = ResolvedService { service, protocol, rules, tls_rules, connections };
        *resolved = Resolved::Service(Arc::new(service));
    });
    let found = bench.ask(&[&client_hello(Some("a.example.com"))]).await;
    assert_eq!(found.as_deref(), Some("other"), "without rules for it");
}

#[tokio::test]
async fn the_share_of_a_backend_that_does_not_exist_is_reset() {
    let one = named("one").await;
    let tls = routed(Vec::new(), vec![rule(&[], "one", 1)], vec![("one", one.clone())]);
    let backends = vec![(balancer("one", one), 1)];
    let connections = ResolvedConnections { backends, missing_weight: 1 };
    let bytes = changed(routed(Vec::new(), Vec::new(), Vec::new()), |service| {
        service.connections = connections;
    });
    for (case, resolved, first) in
        [("by name", tls, client_hello(None)), ("as bytes", bytes, b"\x00\x01bytes".to_vec())]
    {
        let bench = Bench::new(resolved);
        let mut served = 0;
        for _connection in 0..100 {
            served += u64::from(bench.ask(&[&first]).await.is_some());
        }
        // All but one in ten thousand million runs.
        assert!((20..=80).contains(&served), "{served}, case: {case}");
        assert_eq!(bench.refused("no_backend"), 100 - served, "case: {case}");
    }
}

#[tokio::test]
async fn a_connection_has_room_for_one_phase_alone() {
    let bench = Bench::new(Resolved::PassThrough);
    let (_near, far) = tcp_pair().await;
    let held_bytes = size_of_val(&Arc::clone(&bench.outbound).serve(far));
    assert!(held_bytes <= 1536, "{held_bytes}");
}
