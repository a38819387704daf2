//! What wraps a request, in which order: the one file that composes tower layers.
//!
//! Outbound: observe (metrics, trace, answer to errors) → gate → route (rule, filters, backend) → time
//! limit → deliver (faults, mirrors, retries) → send.
//! Inbound: observe → gate → probes (where only the node comes in) → rate limit → caller → send.
//!
//! Inside, layers are plain generics; the boxed type is at the seam to server.rs.

mod deliver;
mod limit;
mod observe;
mod routing;

use std::net::SocketAddr;
use std::sync::Arc;

use heddle_model::names::ServicePort;
use http::{Request, Response};
use tokio::sync::watch;
use tokio::time::Instant;
use tower::layer::layer_fn;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

use crate::balance::balancer::Balancer;
use crate::balance::callers::CallerPlaces;
use crate::balance::rate_limit::RateLimits;
use crate::connect::Dialer;
use crate::discovery::resolved::Resolved;
use crate::http::account::CallSource;
use crate::http::body::Body;
use crate::http::gate::admitted::Admitted;
use crate::http::headers::{self, Caller};
use crate::http::mirror::MirrorPlaces;
use crate::http::respond::ProxyError;
use crate::http::send::{Answer, Failure, Outgoing, send};
use crate::http::stack::deliver::deliver;
use crate::http::stack::limit::limit_time;
use crate::http::stack::observe::{Observer, observe};
use crate::http::stack::routing::{After, Routed, route};
use crate::http::witness::Witnesses;
use crate::http::{HttpService, HttpVersion};
use crate::inbound::probes::{Passing, ProbeRequests};
use crate::metrics::{Direction, Metrics, Protection};

/// One HTTP connection from the application.
#[derive(Clone)]
pub struct OutboundCall {
    /// Opens connections.
    pub dialer: Arc<Dialer>,
    /// What the connection's destination means; read again for each request, so that a change
    /// reaches connections that are open.
    pub destination: watch::Receiver<Resolved>,
    /// Where the connection was going.
    pub original: SocketAddr,
    /// What it speaks.
    pub version: HttpVersion,
    /// What was called, for metrics.
    pub service: Arc<str>,
    /// Bounds the copies of requests, of all connections together.
    pub mirrors: MirrorPlaces,
}

/// One HTTP connection to the application.
#[derive(Clone)]
pub struct InboundCall {
    /// Opens connections.
    pub dialer: Arc<Dialer>,
    /// The application's port.
    pub application: Arc<Balancer>,
    /// The same, for requests that do not say whom they are for.
    pub original: SocketAddr,
    /// What it speaks.
    pub version: HttpVersion,
    /// Who is at the other end.
    pub caller: Caller,
    /// How many requests are taken.
    pub limits: Arc<RateLimits>,
    /// How many the caller may have under way.
    pub places: CallerPlaces,
    /// The caller is the workload's node, and may ask nothing but this.
    pub probes: Option<ProbeRequests>,
}

/// The service of an outbound connection.
pub fn outbound(call: OutboundCall) -> HttpService {
    let call = Arc::new(call);
    let service = Arc::clone(&call.service);
    let source = CallSource::new(watched(&call.dialer), Direction::Outbound, service, None);
    let watching = Observer {
        dialer: Arc::clone(&call.dialer),
        direction: Direction::Outbound,
        service: Arc::clone(&call.service),
        inbound_tls: None,
        source: Arc::new(source),
    };
    let (dialer, places) = (Arc::clone(&call.dialer), call.mirrors.clone());
    let (version, original) = (call.version, call.original);
    let stack = ServiceBuilder::new()
        .layer(layer_fn(move |inner| observe(watching.clone(), inner)))
        .layer(layer_fn(move |inner| admit(version, original, inner)))
        .layer(layer_fn(move |inner| route(Arc::clone(&call), inner)))
        .layer(layer_fn(limit_time))
        .service(service_fn(move |Routed { outgoing, plan, .. }: Routed| {
            deliver(Arc::clone(&dialer), places.clone(), outgoing, plan)
        }));
    BoxCloneSyncService::new(stack)
}

/// The service of an inbound connection.
pub fn inbound(call: InboundCall) -> HttpService {
    let call = Arc::new(call);
    let peer = call.caller.identity().map(ToString::to_string);
    let source =
        CallSource::new(watched(&call.dialer), Direction::Inbound, "".into(), peer.as_deref());
    let watching = Observer {
        dialer: Arc::clone(&call.dialer),
        direction: Direction::Inbound,
        service: "".into(),
        inbound_tls: Some(match call.caller {
            Caller::Plaintext => Protection::Plaintext,
            Caller::Mutual { .. } => Protection::Mutual,
        }),
        source: Arc::new(source),
    };
    let dialer = Arc::clone(&call.dialer);
    let (version, original) = (call.version, call.original);
    let (limited, probed) = (Arc::clone(&call), Arc::clone(&call));
    let stack = ServiceBuilder::new()
        .layer(layer_fn(move |inner| observe(watching.clone(), inner)))
        .layer(layer_fn(move |inner| admit(version, original, inner)))
        .layer(layer_fn(move |inner| admit_probes(Arc::clone(&probed), inner)))
        .layer(layer_fn(move |inner| limit_rate(Arc::clone(&limited), inner)))
        .layer(layer_fn(move |inner| tell_caller(Arc::clone(&call), inner)))
        .service(service_fn(move |outgoing: Outgoing| send(Arc::clone(&dialer), outgoing)));
    BoxCloneSyncService::new(stack)
}

fn watched(dialer: &Dialer) -> (&Metrics, &Witnesses) {
    (&dialer.metrics, &dialer.witnesses)
}

/// Who answered a request, and the name of its route.
enum Reply {
    Backend(Answer, Option<Arc<str>>),
    /// The proxy, as a filter has it.
    Own(Response<Body>, Option<Arc<str>>),
}

/// A failure, what is done to the response that tells of it, and the name of its route.
struct Undelivered {
    failure: Failure,
    after: Option<Box<After>>,
    route: Option<Arc<str>>,
}

impl<E: Into<Failure>> From<E> for Undelivered {
    fn from(error: E) -> Self {
        Self { failure: error.into(), after: None, route: None }
    }
}

fn admit<S>(
    version: HttpVersion,
    original: SocketAddr,
    inner: S,
) -> impl Service<Request<Body>, Response = Reply, Error = Undelivered, Future: Send> + Clone + Send + Sync
where
    S: Service<Admitted, Response = Reply, Error = Undelivered, Future: Send>,
    S: Clone + Send + Sync + 'static,
{
    service_fn(move |request: Request<Body>| {
        let inner = inner.clone();
        let admitted = Admitted::new(request, version, original);
        async move { inner.oneshot(admitted?).await }
    })
}

fn admit_probes<S>(
    call: Arc<InboundCall>,
    inner: S,
) -> impl Service<Admitted, Response = Reply, Error = Undelivered, Future: Send> + Clone + Send + Sync
where
    S: Service<Admitted, Response = Reply, Error = Undelivered, Future: Send>,
    S: Clone + Send + Sync + 'static,
{
    service_fn(move |admitted: Admitted| {
        let inner = inner.clone();
        let admitted = match &call.probes {
            None => Ok(admitted),
            Some(probes) => admit_probe(probes, call.version, admitted),
        };
        async move { inner.oneshot(admitted?).await }
    })
}

/// A request of the node, as far as it may ask.
pub fn admit_probe(
    probes: &ProbeRequests,
    version: HttpVersion,
    admitted: Admitted,
) -> Result<Admitted, ProxyError> {
    let request = admitted.request();
    // A tunnel would carry anything.
    if headers::wants_tunnel(request) {
        return Err(ProxyError::Plaintext);
    }
    match probes.admit(version, request.method(), request.uri()) {
        None => Err(ProxyError::Plaintext),
        Some(Passing::Grpc) => Ok(admitted),
        Some(Passing::Get(headers)) => Ok(admitted.bare(&headers)),
    }
}

fn limit_rate<S>(
    call: Arc<InboundCall>,
    inner: S,
) -> impl Service<Admitted, Response = Reply, Error = Undelivered, Future: Send> + Clone + Send + Sync
where
    S: Service<Admitted, Response = Reply, Error = Undelivered, Future: Send>,
    S: Clone + Send + Sync + 'static,
{
    service_fn(move |admitted: Admitted| {
        let inner = inner.clone();
        // A node that is told to come again kills a workload that is merely busy.
        let is_probe = call.probes.is_some();
        let take =
            || call.limits.take(call.original.port(), call.caller.identity(), Instant::now());
        let taken = if is_probe { Ok(()) } else { take() };
        async move {
            taken.map_err(|retry_after| ProxyError::RateLimited { retry_after })?;
            inner.oneshot(admitted).await
        }
    })
}

fn tell_caller<S>(
    call: Arc<InboundCall>,
    inner: S,
) -> impl Service<Admitted, Response = Reply, Error = Undelivered, Future: Send> + Clone + Send + Sync
where
    S: Service<Outgoing, Response = Answer, Error = Failure, Future: Send>,
    S: Clone + Send + Sync + 'static,
{
    service_fn(move |mut admitted: Admitted| {
        let (call, inner) = (Arc::clone(&call), inner.clone());
        async move {
            headers::set_caller(admitted.headers_mut(), &call.caller);
            let mut request = admitted.into_request();
            let place = call.places.take().ok_or_else(|| ProxyError::Overloaded {
                backend: call.application.label().to_string(),
            })?;
            request.extensions_mut().insert(place);
            let outgoing = Outgoing {
                request,
                version: call.version,
                backend: Arc::clone(&call.application),
                avoid: Vec::new(),
                session: None,
                attempt_limit: None,
                direction: Direction::Inbound,
            };
            Ok(Reply::Backend(inner.oneshot(outgoing).await?, None))
        }
    })
}

/// The name under which a service is called in metrics.
pub fn service_label(service: Option<&ServicePort>) -> Arc<str> {
    service.map_or_else(|| "".into(), |service| service.to_string().into())
}

#[cfg(test)]
mod tests;
