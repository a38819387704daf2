//! What the pure parts of the data plane cost, without a socket: `cargo bench -p heddle-bench`.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use heddle_model::destination::{Destination, ServiceDestination};
use heddle_model::endpoint::{Endpoint, ExpectedPeer};
use heddle_model::names::{Port, Protocol, ServiceName, ServicePort};
use heddle_model::route::{
    HttpMatch, HttpRule, NamedMatch, PathMatch, RuleOrigin, Timeouts, ValueMatch, WeightedBackend,
};
use heddle_proto::discovery as wire;
use heddle_proxy::balance::balancer::Balancer;
use heddle_proxy::balance::{p2c, weighted};
use heddle_proxy::detect::detect;
use heddle_proxy::http::{headers, route};
use heddle_tls::hello;
use prost::Message as _;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

fn first_bytes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("first bytes");
    let hello = client_hello();
    for (name, bytes) in [
        ("detect http1", REQUEST.as_bytes()),
        ("detect http2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("detect tls", hello.as_slice()),
        ("detect opaque", b"\x4a\0\0\0\x0a8.0.36"),
    ] {
        group.bench_function(name, |bencher| bencher.iter(|| detect(black_box(bytes))));
    }
    group.bench_function("peek SNI and ALPN", |bencher| {
        bencher.iter(|| hello::peek(black_box(&hello)));
    });
}

fn request_head(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("request head");
    group.bench_function("parse, as hyper does", |bencher| {
        bencher.iter(|| {
            let mut headers = [httparse::EMPTY_HEADER; 32];
            let mut request = httparse::Request::new(&mut headers);
            request.parse(black_box(REQUEST.as_bytes())).map(|status| status.is_complete())
        });
    });
    let mut head = http::HeaderMap::new();
    for (name, value) in HEADERS {
        head.insert(name, http::HeaderValue::from_static(value));
    }
    group.bench_function("strip hop-by-hop headers", |bencher| {
        bencher.iter_batched(
            || head.clone(),
            |mut head| {
                headers::strip_request(&mut head, false);
                head
            },
            criterion::BatchSize::SmallInput,
        );
    });
}

fn routes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route");
    let rules = route::compile(&rules()).unwrap_or_default();
    let request = |path: &str| {
        let request = http::Request::builder().uri(path).header("x-canary", "no");
        request.body(()).unwrap_or_default()
    };
    for (name, path) in [("first of ten rules", "/api/v0/orders"), ("none of ten", "/other")] {
        let request = request(path);
        group.bench_function(name, |bencher| {
            bencher.iter(|| rules.iter().position(|rule| rule.matches(black_box(&request))));
        });
    }
}

fn picks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pick");
    let mut random = SmallRng::seed_from_u64(1);
    let loads: Vec<u64> = (0..100).map(|number| number % 7).collect();
    group.bench_function("p2c of 100", |bencher| {
        bencher.iter(|| {
            p2c::pick(loads.len(), |index| loads.get(index).copied(), black_box(&mut random))
        });
    });
    group.bench_function("weighted of 3", |bencher| {
        bencher.iter(|| weighted::pick(black_box([90, 9, 1]).into_iter(), &mut random));
    });
    let balancer = Balancer::labelled(Arc::from("shop/api:80"));
    balancer.update((0..100).map(endpoint).collect());
    group.bench_function("balancer with 100 endpoints", |bencher| {
        bencher.iter(|| balancer.pick(black_box(&[]), &mut random));
    });
}

fn wire_decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wire");
    let service = ServiceDestination {
        service: backend(),
        protocol: Protocol::Http1,
        http_rules: rules(),
        tcp_backends: Vec::new(),
    };
    let bytes = wire::Destination::from(&Destination::Service(service)).encode_to_vec();
    group.bench_function("destination with ten rules", |bencher| {
        bencher.iter(|| wire::Destination::decode(black_box(&*bytes)).map(Destination::try_from));
    });
    let bytes = wire::Endpoint::from(&endpoint(1)).encode_to_vec();
    group.bench_function("endpoint", |bencher| {
        bencher.iter(|| wire::Endpoint::decode(black_box(&*bytes)).map(Endpoint::try_from));
    });
}

/// As the proxies send it, but for the protocols.
fn client_hello() -> Vec<u8> {
    let config = ClientConfig::builder()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let mut bytes = Vec::new();
    if let Ok(name) = "8080.0f3c.pod.mesh.local".try_into()
        && let Ok(mut connection) = ClientConnection::new(Arc::new(config), name)
    {
        let _ = connection.write_tls(&mut bytes);
    }
    bytes
}

fn rules() -> Vec<HttpRule> {
    (0..10)
        .map(|number| HttpRule {
            matches: vec![HttpMatch {
                path: Some(PathMatch::Prefix(format!("/api/v{number}"))),
                headers: vec![NamedMatch {
                    name: "x-canary".to_owned(),
                    value: ValueMatch::Exact("no".to_owned()),
                }],
                ..HttpMatch::default()
            }],
            backends: vec![WeightedBackend { backend: backend(), weight: 1 }],
            missing_weight: 0,
            timeouts: Timeouts::default(),
            origin: RuleOrigin::ServiceDefault,
        })
        .collect()
}

#[expect(clippy::expect_used, reason = "8080 is a port")]
fn backend() -> ServicePort {
    ServicePort {
        service: ServiceName { namespace: "shop".to_owned(), name: "api".to_owned() },
        port: Port::new(8080).expect("a port"),
    }
}

#[expect(clippy::expect_used, reason = "both are in the form that is asked for")]
fn endpoint(number: u8) -> Endpoint {
    Endpoint {
        address: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, number)), 8080),
        peer: ExpectedPeer::Mesh {
            identity: "spiffe://mesh.local/ns/shop/sa/api".parse().expect("an identity"),
            pod_uid: format!("pod-{number}").parse().expect("a pod's UID"),
        },
        zone: "a".to_owned(),
        pod: format!("api-{number}"),
    }
}

const HEADERS: [(&str, &str); 5] = [
    ("host", "api.shop:8080"),
    ("user-agent", "heddle-bench"),
    ("accept", "*/*"),
    ("connection", "keep-alive, x-hop"),
    ("x-request-id", "0f3c5d1e-9a52-4b1c-8d37-2f6f1b7c9a10"),
];
const REQUEST: &str = "GET /api/v1/orders/17?expand=items HTTP/1.1\r\nhost: api.shop:8080\r\n\
    user-agent: heddle-bench\r\naccept: */*\r\nconnection: keep-alive\r\n\
    x-request-id: 0f3c5d1e-9a52-4b1c-8d37-2f6f1b7c9a10\r\n\r\n";

criterion_group!(pure, first_bytes, request_head, routes, picks, wire_decode);
criterion_main!(pure);
