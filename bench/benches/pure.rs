//! What the pure parts of the data plane cost, without a socket: `cargo bench -p heddle-bench`.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use heddle_model::destination::Destination;
use heddle_model::endpoint::{Endpoint, EndpointSet};
use heddle_model::route::HttpRule;
use heddle_proto::discovery as wire;
use heddle_proxy::balance::balancer::Balancer;
use heddle_proxy::balance::locality::Place;
use heddle_proxy::balance::set::{PickContext, Purpose};
use heddle_proxy::balance::{p2c, weighted};
use heddle_proxy::detect::detect;
use heddle_proxy::http::gate::framing::Framer;
use heddle_proxy::http::gate::head::HeadReader;
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
    group.bench_function("gate: read, judge and write anew", |bencher| {
        let mut output = Vec::with_capacity(1024);
        bencher.iter(|| {
            output.clear();
            Framer::new().read(black_box(REQUEST.as_bytes()), &mut output)
        });
    });
    group.bench_function("gate: read only", |bencher| {
        let mut reader = HeadReader::default();
        bencher.iter(|| {
            reader.reset();
            reader.read(black_box(REQUEST.as_bytes()))
        });
    });
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
    let rules: Vec<HttpRule> =
        (0..10).filter_map(|number| HttpRule::try_from(rule(number)).ok()).collect();
    let rules = route::compile(&rules).unwrap_or_default();
    assert_eq!(rules.len(), 10, "rules that are none would be matched in no time");
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
            let cost = |index: usize| loads.get(index).copied();
            p2c::pick(loads.len(), cost, |_index| 1.0, black_box(&mut random))
        });
    });
    group.bench_function("weighted of 3", |bencher| {
        bencher.iter(|| weighted::pick(black_box([90, 9, 1]).into_iter(), &mut random));
    });
    let balancer = Balancer::labelled(Arc::from("shop/api:80"));
    let endpoints =
        (0..100).filter_map(|number| Endpoint::try_from(endpoint(number)).ok()).collect();
    balancer.update(EndpointSet { endpoints, ..EndpointSet::default() }, &Place::default());
    assert_eq!(balancer.len(), 100);
    group.bench_function("balancer with 100 endpoints", |bencher| {
        let context = PickContext::first(Purpose::Request);
        bencher.iter(|| balancer.pick(black_box(&context), &mut random));
    });
}

fn wire_decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wire");
    let service = wire::ServiceDestination {
        service: Some(backend()),
        protocol: wire::Protocol::Http1.into(),
        http_rules: (0..10).map(rule).collect(),
        connections: Some(wire::ConnectionRule::default()),
        ..wire::ServiceDestination::default()
    };
    let service = wire::destination::Destination::Service(service);
    let bytes = wire::Destination { destination: Some(service) }.encode_to_vec();
    group.bench_function("destination with ten rules", |bencher| {
        bencher.iter(|| wire::Destination::decode(black_box(&*bytes)).map(Destination::try_from));
    });
    let bytes = endpoint(1).encode_to_vec();
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

/// On the wire, where what is not named has a default: these stay right when the model grows.
fn rule(number: u8) -> wire::HttpRule {
    let canary = wire::value_match::Value::Exact("no".to_owned());
    let prefix = wire::path_match::Path::Prefix(format!("/api/v{number}"));
    wire::HttpRule {
        matches: vec![wire::HttpMatch {
            path: Some(wire::PathMatch { path: Some(prefix) }),
            headers: vec![wire::ValueMatch { name: "x-canary".to_owned(), value: Some(canary) }],
            ..wire::HttpMatch::default()
        }],
        backends: vec![wire::HttpBackend {
            backend: Some(backend()),
            weight: 1,
            ..wire::HttpBackend::default()
        }],
        ..wire::HttpRule::default()
    }
}

fn backend() -> wire::ServicePort {
    let service = wire::ServiceName { namespace: "shop".to_owned(), name: "api".to_owned() };
    wire::ServicePort { service: Some(service), port: 8080 }
}

fn endpoint(number: u8) -> wire::Endpoint {
    wire::Endpoint {
        address: Some(wire::SocketAddress { ip: vec![10, 0, 0, number], port: 8080 }),
        mesh: Some(wire::MeshPeer {
            identity: "spiffe://mesh.local/ns/shop/sa/api".to_owned(),
            pod_uid: format!("pod-{number}"),
        }),
        zone: "a".to_owned(),
        pod: format!("api-{number}"),
        ..wire::Endpoint::default()
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
