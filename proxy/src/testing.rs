//! Real sockets for tests of the data path: backends, proxies with certificates, clients.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use heddle_model::destination::ServiceDestination;
use heddle_model::endpoint::{Endpoint, EndpointSet, ExpectedPeer};
use heddle_model::identity::{PodUid, SpiffeId};
use heddle_model::names::{Port, Protocol, ServiceName, ServicePort};
use heddle_model::policy::BackendPolicy;
use heddle_model::route::{ConnectionRule, HttpRule, RuleOrigin, Timeouts, TlsRule};
use heddle_runtime::clock;
use heddle_runtime::tasks::Tasks;
use heddle_runtime::throttle::Throttle;
use heddle_tls::authority::Authority;
use heddle_tls::bundle::Bundle;
use heddle_tls::certificate::CertificateRequest;
use heddle_tls::credentials::{self, Credentials, CredentialsWriter};
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};

use crate::access_log::AccessLog;
use crate::balance::balancer::Balancer;
use crate::balance::callers::{CallerPlaces, Callers};
use crate::balance::locality::Place;
use crate::balance::queue::{Slot, Slots};
use crate::connect::Dialer;
use crate::discovery::resolved::{
    Resolved, ResolvedBackend, ResolvedConnections, ResolvedRule, ResolvedService, Resolver,
};
use crate::discovery::state::Meaning;
use crate::http::route::compile;
use crate::http::witness::Witnesses;
use crate::listen::DataPathSettings;
use crate::metrics::Metrics;
use crate::pressure::Pressure;
use crate::warm::dial::PeerStream;
use crate::warm::pool::{KEPT_FOR_PEER, KEPT_LIMIT, Pool, PoolLimits};

pub(crate) fn service(name: &str) -> ServicePort {
    ServicePort {
        service: ServiceName { namespace: "default".to_owned(), name: name.to_owned() },
        port: Port::new(80).unwrap(),
    }
}

pub(crate) fn plain(address: SocketAddr) -> Endpoint {
    let peer = ExpectedPeer::Plaintext;
    Endpoint { address, peer, zone: String::new(), node: String::new(), pod: "pod".to_owned() }
}

pub(crate) fn balancer(name: &str, endpoints: Vec<Endpoint>) -> Arc<Balancer> {
    let balancer = Balancer::new(service(name));
    balancer.update(EndpointSet { endpoints, ..EndpointSet::default() }, &Place::default());
    balancer
}

/// A slot of its own.
pub(crate) fn slot() -> Slot {
    Slots::new(1).try_take().unwrap()
}

/// The places of a caller who is the only one.
pub(crate) fn places() -> CallerPlaces {
    Callers::default().places_of(loopback(), None, 100)
}

/// A service with one rule for every request.
pub(crate) fn resolved(backends: Vec<(Arc<Balancer>, u32)>, timeouts: Timeouts) -> Resolved {
    let rule = HttpRule { timeouts, ..HttpRule::to(Vec::new(), RuleOrigin::ServiceDefault) };
    let compiled = compile(std::slice::from_ref(&rule)).unwrap().remove(0);
    let is_plain = compiled.is_plain() && timeouts == Timeouts::default();
    let resolve = |(balancer, weight): &(Arc<Balancer>, u32)| ResolvedBackend {
        balancer: Arc::clone(balancer),
        weight: *weight,
        mirrors: Vec::new(),
    };
    Resolved::Service(Arc::new(ResolvedService {
        service: service("api"),
        protocol: Protocol::Detect,
        rules: vec![Arc::new(ResolvedRule {
            is_plain,
            compiled,
            backends: backends.iter().map(resolve).collect(),
            missing_weight: rule.missing_weight,
            mirrors: Vec::new(),
            session: None,
            timeouts: rule.timeouts,
            route: crate::discovery::resolved::route_name(&rule.origin),
            origin: rule.origin,
        })],
        tls_rules: Vec::new(),
        connections: ResolvedConnections { backends, missing_weight: 0 },
    }))
}

/// A service whose routes are these, with the endpoints of what they refer to.
pub(crate) fn routed(
    http_rules: Vec<HttpRule>,
    tls_rules: Vec<TlsRule>,
    endpoints: Vec<(&str, Vec<Endpoint>)>,
) -> Resolved {
    let compiled = compile(&http_rules).unwrap();
    let destination = ServiceDestination {
        service: service("api"),
        protocol: Protocol::Detect,
        http_rules,
        tls_rules,
        connections: ConnectionRule {
            backends: Vec::new(),
            missing_weight: 0,
            origin: RuleOrigin::ServiceDefault,
        },
    };
    let meaning = Meaning::Service { service: Box::new(destination), compiled };
    let mut resolver = Resolver::default();
    let resolved = resolver.resolve(([10, 0, 0, 1], 80).into(), meaning);
    for (name, endpoints) in endpoints {
        let set = EndpointSet { endpoints, policy: BackendPolicy::default() };
        resolver.update(&service(name), set);
    }
    resolved
}

/// Issues certificates.
pub(crate) struct Mesh {
    authority: Authority,
}

impl Mesh {
    pub(crate) fn new() -> Self {
        let trust_domain = "cluster.local".parse().unwrap();
        let created = clock::now() - Duration::from_secs(60);
        Self { authority: Authority::create(trust_domain, created).unwrap() }
    }

    pub(crate) fn credentials(
        &self,
        name: &str,
        lifetime: Duration,
    ) -> (CredentialsWriter, Credentials) {
        let (writer, credentials) = credentials::channel("cluster.local".parse().unwrap());
        writer.set_bundle(self.bundle()).unwrap();
        self.renew(name, lifetime, &writer);
        (writer, credentials)
    }

    /// Whom this mesh trusts.
    pub(crate) fn bundle(&self) -> Bundle {
        self.authority.bundle().clone()
    }

    /// Gives a certificate that is good for `left`. The authority issues none that lives less than
    /// half a minute, but it may have issued it some time ago.
    pub(crate) fn renew(&self, name: &str, left: Duration, writer: &CredentialsWriter) {
        let lifetime = left.max(Duration::from_secs(30));
        let issued = clock::now() - (lifetime - left);
        let request = CertificateRequest::generate().unwrap();
        let (id, uid) = (identity(name), pod_uid(name));
        let chain = self.authority.issue(request.der(), &id, &uid, lifetime, issued).unwrap();
        writer.set_certificate(request.into_leaf(chain).unwrap()).unwrap();
    }
}

pub(crate) fn identity(name: &str) -> SpiffeId {
    format!("spiffe://cluster.local/ns/default/sa/{name}").parse().unwrap()
}

pub(crate) fn pod_uid(name: &str) -> PodUid {
    name.parse().unwrap()
}

/// What a proxy of this pod works with; plain connections only.
pub(crate) fn dialer(name: &str) -> Arc<Dialer> {
    let (_writer, credentials) = credentials::channel("cluster.local".parse().unwrap());
    dialer_with(name, credentials)
}

pub(crate) fn dialer_with(name: &str, credentials: Credentials) -> Arc<Dialer> {
    Arc::new(Dialer {
        credentials,
        own: pod_uid(name),
        metrics: Metrics::register(&mut Registry::default()),
        witnesses: Witnesses::default(),
        access_log: AccessLog::default(),
        tasks: Tasks::new(),
        pressure: Pressure::none(),
        settings: DataPathSettings::default(),
        warm: warm_pool(KEPT_FOR_PEER),
        warnings: Throttle::default(),
        local_warnings: Throttle::default(),
    })
}

#[expect(clippy::disallowed_methods, reason = "a test's own task")]
pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(task));
}

/// Keeps so many connections to one peer.
pub(crate) fn warm_pool(of_peer: usize) -> Arc<Pool<PeerStream>> {
    Arc::new(Pool::new(PoolLimits { of_peer, in_all: KEPT_LIMIT }, Gauge::default()))
}

/// A listener that hands every connection to `serve`.
pub(crate) async fn listen<F>(
    address: SocketAddr,
    serve: impl Fn(TcpStream, usize) -> F + Send + 'static,
) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn(async move {
        let mut count = 0;
        while let Ok((stream, _client)) = listener.accept().await {
            spawn(serve(stream, count));
            count += 1;
        }
    });
    address
}

pub(crate) fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

/// A real HTTP server, of both versions.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Backend {
    /// Answers every request with this text, and what it heard of the caller.
    pub(crate) async fn new(text: &'static str) -> Self {
        Self::at(loopback(), text).await
    }

    pub(crate) async fn at(address: SocketAddr, text: &'static str) -> Self {
        let connections = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&connections);
        let address = listen(address, move |stream, _number| {
            counting.fetch_add(1, Ordering::SeqCst);
            async move {
                let service = service_fn(move |request: Request<Incoming>| async move {
                    Ok::<_, Infallible>(answer(text, request).await)
                });
                let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            }
        })
        .await;
        Self { address, connections }
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        plain(self.address)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn answer(text: &'static str, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let mut response = Response::builder();
    for (name, value) in request.headers() {
        response = response.header(format!("seen-{name}"), value);
    }
    response = response.header("seen-version", format!("{:?}", request.version()));
    let _ = request.into_body().collect().await;
    response.body(Full::new(Bytes::from_static(text.as_bytes()))).unwrap()
}

/// Two ends of a TCP connection.
pub(crate) async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    (near.unwrap(), far.unwrap().0)
}

/// A real HTTP/1 client.
pub(crate) struct Client {
    sender: hyper::client::conn::http1::SendRequest<Empty<Bytes>>,
}

/// A response with its whole body.
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) text: String,
}

impl Client {
    pub(crate) async fn new(stream: TcpStream) -> Self {
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        spawn(async move {
            let _ = connection.await;
        });
        Self { sender }
    }

    pub(crate) async fn post(&mut self, path: &str) -> Result<Answered, hyper::Error> {
        self.send(Request::post(path)).await
    }

    pub(crate) async fn get(&mut self, path: &str) -> Result<Answered, hyper::Error> {
        self.send(Request::get(path)).await
    }

    pub(crate) async fn send(
        &mut self,
        request: http::request::Builder,
    ) -> Result<Answered, hyper::Error> {
        let request = request.header("host", "api").body(Empty::new()).unwrap();
        self.sender.ready().await?;
        answered(self.sender.send_request(request).await?).await
    }
}

pub(crate) async fn answered(response: Response<Incoming>) -> Result<Answered, hyper::Error> {
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await?.to_bytes();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    Ok(Answered { status: parts.status.as_u16(), headers: parts.headers, text })
}
