//! Certificates and discovery against a control plane that speaks the real protocol over real TLS.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, also in what its functions share"
)]

#[path = "discovery/server.rs"]
mod server;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use heddle_model::names::{ObjectReference, Port, Protocol, ServiceName, ServicePort};
use heddle_model::resource::ResourceKey;
use heddle_proto::discovery as wire;
use heddle_proto::discovery::proxy_message::Message;
use heddle_proto::discovery::update::Resource;
use heddle_proxy::app;
use heddle_proxy::config::{self, Config};
use heddle_proxy::control_plane;
use heddle_proxy::discovery::resolved::Resolved;
use heddle_proxy::discovery::store::Store;
use heddle_runtime::clock;
use heddle_runtime::readiness::Readiness;
use heddle_runtime::tasks::Tasks;
use heddle_tls::authority::request::public_key;
use heddle_tls::credentials::Credentials;
use prometheus_client::registry::Registry;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::Instant;

use server::{PATIENCE, Shared, TestControlPlane, TestStream, pod_uid};

/// The part of a proxy that talks to the control plane.
struct Proxy {
    directory: TempDir,
    registry: Arc<Mutex<Registry>>,
    readiness: Readiness,
    tasks: Tasks,
    store: Store,
    credentials: Credentials,
}

impl Proxy {
    async fn start(shared: &Shared, control_plane: SocketAddr) -> Self {
        let directory = TempDir::new().unwrap();
        let (anchors, token) = (directory.path().join("anchors"), directory.path().join("token"));
        std::fs::write(&anchors, shared.authority().bundle().to_pem()).unwrap();
        std::fs::write(&token, "first token\n").unwrap();
        let arguments = [
            "run".to_owned(),
            format!("--control-plane={control_plane}"),
            format!("--trust-anchors={}", anchors.display()),
            format!("--token-file={}", token.display()),
            format!("--pod-uid={}", pod_uid()),
        ];
        let matches = config::command("run").try_get_matches_from(arguments).unwrap();
        let config = Config::read(&matches).unwrap();
        let registry = Arc::new(Mutex::new(Registry::default()));
        let readiness = Readiness::new(&["identity", "discovery"]);
        let tasks = Tasks::new();
        let connect = control_plane::tcp(None);
        let starting = app::start_control(&config, connect, &registry, &readiness, &tasks);
        let control = starting.await.unwrap();
        let app::Control { store, credentials, .. } = control;
        Self { directory, registry, readiness, tasks, store, credentials }
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    async fn shows(&self, line: &str) {
        let shown = || async { self.metrics().lines().any(|found| found == line) };
        eventually(line, shown).await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.tasks.begin_drain();
    }
}

async fn eventually<F>(what: &str, holds: impl Fn() -> F)
where
    F: Future<Output = bool>,
{
    let begin = Instant::now();
    while !holds().await {
        assert!(begin.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn address() -> SocketAddr {
    "10.43.0.7:80".parse().unwrap()
}

fn service() -> ServicePort {
    let service = ServiceName { namespace: "default".into(), name: "api".into() };
    ServicePort { service, port: Port::new(80).unwrap() }
}

fn update(key: &ResourceKey, version: u64, resource: Resource) -> wire::Update {
    let key = Some(wire::ResourceKey::from(key));
    wire::Update { key, version, digest: version + 1000, resource: Some(resource) }
}

fn workload(version: u64) -> wire::Update {
    let workload = wire::Workload {
        namespace: "default".into(),
        name: "api-1".into(),
        pod_uid: pod_uid().to_string(),
        inbound_mode: wire::InboundMode::Permissive.into(),
        ..wire::Workload::default()
    };
    update(&ResourceKey::Workload(pod_uid()), version, Resource::Workload(workload))
}

fn endpoints(version: u64) -> wire::Update {
    let endpoint = wire::Endpoint {
        address: Some("10.42.0.9:8080".parse::<SocketAddr>().unwrap().into()),
        pod: "api-1".into(),
        ..wire::Endpoint::default()
    };
    let endpoints = wire::Endpoints { upserted: vec![endpoint], ..wire::Endpoints::default() };
    update(&ResourceKey::Endpoints(service()), version, Resource::Endpoints(endpoints))
}

fn destination(version: u64, regex: &str) -> wire::Update {
    let service = Some(wire::ServicePort::from(&service()));
    let path = wire::path_match::Path::Regex(regex.into());
    let route = ObjectReference {
        kind: "HTTPRoute".into(),
        namespace: "default".into(),
        name: "canary".into(),
    };
    let rule = wire::HttpRule {
        matches: vec![wire::HttpMatch {
            path: Some(wire::PathMatch { path: Some(path) }),
            ..wire::HttpMatch::default()
        }],
        backends: vec![wire::HttpBackend {
            backend: service.clone(),
            weight: 1,
            filters: Vec::new(),
        }],
        origin: Some(wire::ObjectReference::from(&route)),
        field: "spec.rules[2]".into(),
        ..wire::HttpRule::default()
    };
    let destination = wire::Destination {
        destination: Some(wire::destination::Destination::Service(wire::ServiceDestination {
            service,
            protocol: wire::Protocol::Http1.into(),
            http_rules: vec![rule],
            tls_rules: Vec::new(),
            connections: Some(wire::ConnectionRule::default()),
        })),
    };
    update(&ResourceKey::Destination(address()), version, Resource::Destination(destination))
}

fn name(key: Option<wire::ResourceKey>) -> String {
    ResourceKey::try_from(key.unwrap()).unwrap().to_string()
}

async fn subscribed(stream: &mut TestStream) -> (String, u64, u64) {
    let message = stream.next().await;
    let Message::Subscribe(message) = message else { panic!("no subscription: {message:?}") };
    (name(message.key), message.known_version, message.known_digest)
}

async fn acknowledged(stream: &mut TestStream) -> (String, u64) {
    let message = stream.next().await;
    let Message::Ack(message) = message else { panic!("no acknowledgement: {message:?}") };
    (name(message.key), message.version)
}

async fn greeted(stream: &mut TestStream) {
    let message = stream.next().await;
    assert!(matches!(message, Message::Hello(_)), "no greeting: {message:?}");
}

/// Lets the proxy ask for a destination, and answers.
async fn discover(proxy: &Proxy, stream: &mut TestStream) -> watch::Receiver<Resolved> {
    let answer = async {
        assert_eq!(subscribed(stream).await, ("destination 10.43.0.7:80".into(), 0, 0));
        stream.update(endpoints(10)).await;
        stream.update(destination(10, "/v[0-9]+")).await;
        assert_eq!(acknowledged(stream).await, ("endpoints default/api:80".into(), 10));
        assert_eq!(acknowledged(stream).await, ("destination 10.43.0.7:80".into(), 10));
    };
    let (resolved, ()) = tokio::join!(proxy.store.destination(address()), answer);
    resolved.unwrap()
}

fn protocol_and_endpoints(resolved: &watch::Receiver<Resolved>) -> (Protocol, usize) {
    match &*resolved.borrow() {
        Resolved::Service(service) => {
            (service.protocol, service.rules[0].backends[0].balancer.len())
        }
        Resolved::PassThrough | Resolved::Refused { .. } | Resolved::Endpoint(_) => {
            panic!("not a service")
        }
    }
}

async fn started(shared: &Arc<Shared>) -> (TestControlPlane, Proxy, TestStream) {
    let mut control_plane = TestControlPlane::start(shared, 0);
    let proxy = Proxy::start(shared, control_plane.address).await;
    let mut stream = control_plane.stream().await;
    assert_eq!(stream.peer.pod_uid, pod_uid());
    greeted(&mut stream).await;
    assert_eq!(subscribed(&mut stream).await, ("workload uid-1".into(), 0, 0));
    stream.update(workload(9)).await;
    assert_eq!(acknowledged(&mut stream).await, ("workload uid-1".into(), 9));
    (control_plane, proxy, stream)
}

const AN_HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn an_older_update_is_ignored_and_a_bad_route_is_refused_and_the_old_one_stays() {
    let shared = Shared::new(AN_HOUR);
    let (_control_plane, proxy, mut stream) = started(&shared).await;
    assert_eq!(proxy.readiness.missing(), Vec::<&str>::new());
    let resolved = discover(&proxy, &mut stream).await;
    assert_eq!(protocol_and_endpoints(&resolved), (Protocol::Http1, 1));

    let refused = wire::Destination {
        destination: Some(wire::destination::Destination::Refused(wire::Refused {
            reason: "old".into(),
        })),
    };
    let key = ResourceKey::Destination(address());
    stream.update(update(&key, 9, Resource::Destination(refused))).await;
    let (_, version) = acknowledged(&mut stream).await;
    assert_eq!(version, 10, "what is held is what is acknowledged");
    assert_eq!(protocol_and_endpoints(&resolved), (Protocol::Http1, 1));
    proxy.shows("heddle_config_updates_total{outcome=\"ignored_older\"} 1").await;

    stream.update(destination(11, "/v[0-9")).await;
    let Message::Nack(nack) = stream.next().await else { panic!("the bad route was taken") };
    assert_eq!(nack.version, 11);
    assert_eq!(ObjectReference::from(nack.origin.unwrap()).name, "canary");
    assert!(nack.field.starts_with("spec.rules[2].matches[0]"), "{}", nack.field);
    assert!(!nack.reason.is_empty());
    assert_eq!(protocol_and_endpoints(&resolved), (Protocol::Http1, 1));
    proxy.shows("heddle_config_updates_total{outcome=\"nacked\"} 1").await;
    proxy.shows("heddle_config_version 10").await;
}

#[tokio::test]
async fn without_its_control_plane_a_proxy_goes_on_and_then_resumes_with_what_it_knows() {
    let shared = Shared::new(AN_HOUR);
    let (control_plane, proxy, mut stream) = started(&shared).await;
    let resolved = discover(&proxy, &mut stream).await;
    let port = control_plane.address.port();
    proxy.shows("heddle_discovery_connected 1").await;
    drop((stream, control_plane));
    proxy.shows("heddle_discovery_connected 0").await;
    assert_eq!(proxy.readiness.missing(), Vec::<&str>::new(), "it stays ready");
    let again = proxy.store.destination(address()).await.unwrap();
    assert_eq!(protocol_and_endpoints(&again), (Protocol::Http1, 1));

    let restarted = Instant::now();
    let mut control_plane = TestControlPlane::start(&shared, port);
    let mut stream = control_plane.stream().await;
    let took = restarted.elapsed();
    assert!(took < Duration::from_secs(2), "it came back only after {took:?}");
    greeted(&mut stream).await;
    let held = ("endpoints default/api:80".into(), 10, 1010);
    assert_eq!(subscribed(&mut stream).await, held, "before what needs them");
    assert_eq!(subscribed(&mut stream).await, ("workload uid-1".into(), 9, 1009));
    assert_eq!(subscribed(&mut stream).await, ("destination 10.43.0.7:80".into(), 10, 1010));

    // The endpoint is gone meanwhile.
    let gone = wire::Endpoints::default();
    let key = ResourceKey::Endpoints(service());
    stream.update(update(&key, 20, Resource::Endpoints(gone))).await;
    assert_eq!(acknowledged(&mut stream).await, ("endpoints default/api:80".into(), 20));
    assert_eq!(protocol_and_endpoints(&resolved), (Protocol::Http1, 0));
}

#[tokio::test]
async fn a_certificate_is_renewed_at_half_life_with_a_new_key_and_the_token_of_the_moment() {
    let left = Duration::from_secs(4);
    let shared = Shared::new(left);
    let (_control_plane, proxy, _stream) = started(&shared).await;
    let first = proxy.credentials.leaf_not_after().unwrap();
    let asked_at = Instant::now();
    std::fs::write(proxy.directory.path().join("token"), "second token").unwrap();
    eventually("renewal", || async { shared.requests.lock().unwrap().len() > 1 }).await;
    let took = asked_at.elapsed();
    assert!(took > left.mul_f64(0.3) && took < left.mul_f64(0.7), "renewed after {took:?}");

    let requests = shared.requests.lock().unwrap().clone();
    assert_eq!(requests[0].token, "first token");
    assert_eq!(requests[1].token, "second token");
    let key = |index: usize| public_key(&requests[index].csr_der).unwrap();
    assert_ne!(key(0), key(1), "each certificate has a key of its own");
    let renewed = || async { proxy.credentials.leaf_not_after().unwrap() > first };
    eventually("the new one is in use", renewed).await;
    proxy.shows("heddle_certificate_renewals_total{outcome=\"succeeded\"} 2").await;
}

#[tokio::test]
async fn a_good_certificate_is_kept_while_renewal_fails_and_an_expired_proxy_comes_back() {
    let shared = Shared::new(Duration::from_secs(3));
    let (control_plane, proxy, stream) = started(&shared).await;
    let first = proxy.credentials.leaf_not_after().unwrap();
    *shared.life_left.lock().unwrap() = None;
    eventually("a failed renewal", || async { proxy.metrics().contains("{outcome=\"failed\"} 1") })
        .await;
    assert_eq!(proxy.credentials.leaf_not_after(), Some(first), "it is kept");
    eventually("expiry", || async { clock::now() > first }).await;

    let port = control_plane.address.port();
    drop((stream, control_plane));
    let mut control_plane = TestControlPlane::start(&shared, port);
    *shared.life_left.lock().unwrap() = Some(AN_HOUR);
    let mut stream = control_plane.stream().await;
    greeted(&mut stream).await;
    assert_eq!(subscribed(&mut stream).await, ("workload uid-1".into(), 9, 1009));
    assert!(proxy.credentials.leaf_not_after().unwrap() > first);
}

fn goes_by(shared: &Shared) -> (Vec<u8>, Vec<u8>) {
    let authority = shared.authority();
    (authority.bundle().digest().to_bytes(), authority.issuer_digest().to_bytes())
}

fn told(shared: &Shared) -> Option<(Vec<u8>, Vec<u8>)> {
    let acknowledged = shared.acknowledged.lock().unwrap();
    let last = acknowledged.last()?.clone();
    Some((last.trust_bundle_digest, last.issuer_digest))
}

#[tokio::test]
async fn a_proxy_tells_what_it_goes_by_at_once_and_whenever_that_is_another() {
    let shared = Shared::new(Duration::from_secs(3600));
    let mut control_plane = TestControlPlane::start(&shared, 0);
    let proxy = Proxy::start(&shared, control_plane.address).await;
    let _stream = control_plane.stream().await;
    eventually("told of the first", || async { told(&shared) == Some(goes_by(&shared)) }).await;
    let issuer = shared.authority().issuer_digest();
    let announced = shared.authority().with_next_root(clock::now()).unwrap();
    control_plane.rotate(&shared, announced);
    eventually("told of the new bundle", || async { told(&shared) == Some(goes_by(&shared)) })
        .await;
    // Its certificate is not below the anchor of the moment any more, so it asks for another.
    let switched = shared.authority().with_switched_issuer(clock::now()).unwrap();
    control_plane.rotate(&shared, switched.with_current_anchor_only().unwrap());
    eventually("told of the new issuer", || async { told(&shared) == Some(goes_by(&shared)) })
        .await;
    assert_ne!(proxy.credentials.held().unwrap().issuer, Some(issuer));
    assert!(proxy.credentials.own_is_vouched_for());
}

#[tokio::test]
async fn a_proxy_that_was_away_during_a_rotation_comes_back_by_the_file_of_trust_anchors() {
    let shared = Shared::new(Duration::from_secs(3600));
    let mut control_plane = TestControlPlane::start(&shared, 0);
    let address = control_plane.address;
    let proxy = Proxy::start(&shared, address).await;
    let stream = control_plane.stream().await;
    drop((stream, control_plane));
    let before = shared.authority().bundle().clone();
    let announced = shared.authority().with_next_root(clock::now()).unwrap();
    let switched = announced.with_switched_issuer(clock::now()).unwrap();
    shared.rotate(switched.with_current_anchor_only().unwrap());
    let mut control_plane = TestControlPlane::start(&shared, address.port());
    // By the file of before there is no way back, and nothing that could be mistaken for one.
    let opened = tokio::time::timeout(Duration::from_secs(5), control_plane.streams.recv()).await;
    assert!(opened.is_err(), "a control plane that nobody vouched for was trusted");
    assert_eq!(proxy.credentials.bundle(), Some(before));
    let anchors = shared.authority().bundle().to_pem();
    std::fs::write(proxy.directory.path().join("anchors"), anchors).unwrap();
    let _stream = control_plane.stream().await;
    assert_eq!(proxy.credentials.bundle().as_ref(), Some(shared.authority().bundle()));
    eventually("told", || async { told(&shared) == Some(goes_by(&shared)) }).await;
}
