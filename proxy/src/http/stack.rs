//! What wraps a request, in which order: the one file that composes tower layers.
//!
//! Outbound: observe (metrics, trace, answer to errors) → gate → route (rule, filters, backend) → time
//! limit → deliver (faults, mirrors, retries) → send.
//! Inbound: observe → gate → probes (where only the node comes in) → rate limit → caller → send.
//!
//! Inside, layers are plain generics; the boxed type is at the seam to server.rs.

mod deliver;
mod limit;
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
use tracing::{debug, trace};

use crate::balance::balancer::Balancer;
use crate::balance::callers::CallerPlaces;
use crate::balance::endpoint::BalancedEndpoint;
use crate::balance::rate_limit::RateLimits;
use crate::connect::Dialer;
use crate::discovery::resolved::Resolved;
use crate::http::body::Body;
use crate::http::gate::admitted::Admitted;
use crate::http::grpc::{self, Code, Ending, GrpcStatus};
use crate::http::headers::{self, Caller};
use crate::http::mirror::MirrorPlaces;
use crate::http::respond::{Asked, Audience, ProxyError, Teller, client_closed, respond};
use crate::http::send::{Answer, Failure, Outgoing, send};
use crate::http::stack::deliver::deliver;
use crate::http::stack::limit::limit_time;
use crate::http::stack::routing::{After, Routed, route};
use crate::http::{HttpService, HttpVersion};
use crate::inbound::probes::{Passing, ProbeRequests};
use crate::metrics::{Direction, Protection, RequestLabels, RequestOutcome};

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
    let watching = Observer {
        dialer: Arc::clone(&call.dialer),
        direction: Direction::Outbound,
        service: Arc::clone(&call.service),
        inbound_tls: None,
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
    let watching = Observer {
        dialer: Arc::clone(&call.dialer),
        direction: Direction::Inbound,
        service: "".into(),
        inbound_tls: Some(match call.caller {
            Caller::Plaintext => Protection::Plaintext,
            Caller::Mutual { .. } => Protection::Mutual,
        }),
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

/// Who answered a request.
enum Reply {
    Backend(Answer),
    /// The proxy, as a filter has it.
    Own(Response<Body>),
}

/// A failure, and what is done to the response that tells of it.
struct Undelivered {
    failure: Failure,
    after: Option<Box<After>>,
}

impl<E: Into<Failure>> From<E> for Undelivered {
    fn from(error: E) -> Self {
        Self { failure: error.into(), after: None }
    }
}

/// What is the same for all requests of a connection.
#[derive(Clone)]
struct Observer {
    dialer: Arc<Dialer>,
    direction: Direction,
    service: Arc<str>,
    /// How an inbound connection is protected; outbound it depends on the endpoint.
    inbound_tls: Option<Protection>,
}

fn observe<S>(
    observer: Observer,
    inner: S,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = ProxyError, Future: Send>
+ Clone
+ Send
+ Sync
where
    S: Service<Request<Body>, Response = Reply, Error = Undelivered, Future: Send>,
    S: Clone + Send + Sync + 'static,
{
    let observer = Arc::new(observer);
    service_fn(move |request: Request<Body>| {
        let (observer, inner) = (Arc::clone(&observer), inner.clone());
        async move {
            let start = Instant::now();
            let asked = Asked::new(&request);
            trace!(direction = observer.direction.as_str(), method = %request.method(), "request");
            let waiting = Waiting { observer: &observer, asked, has_ended: false };
            let outcome = inner.oneshot(request).await;
            waiting.end();
            Ok(match outcome {
                Ok(Reply::Backend(answer)) => observer.answered(answer, asked, start),
                Ok(Reply::Own(response)) => {
                    let status = response.status().as_u16();
                    let code = grpc::status_at_head(status, response.headers());
                    let code = code.filter(|_code| asked.is_grpc());
                    observer.count_without_endpoint(None, status, code.into());
                    response
                }
                Err(Undelivered { failure, after }) => {
                    let response = observer.failed(&failure, asked, start);
                    match after {
                        Some(after) => after.dress(response),
                        None => response,
                    }
                }
            })
        }
    })
}

/// Counts a request that nobody waits for any more.
struct Waiting<'a> {
    observer: &'a Observer,
    asked: Asked,
    has_ended: bool,
}

impl Waiting<'_> {
    fn end(mut self) {
        self.has_ended = true;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.observer.dialer.metrics.count_cancelled();
            let grpc = self.asked.is_grpc().then_some(Code::Cancelled).into();
            self.observer.count_without_endpoint(None, client_closed().as_u16(), grpc);
        }
    }
}

impl Observer {
    fn answered(self: &Arc<Self>, answer: Answer, asked: Asked, start: Instant) -> Response<Body> {
        let Answer { response, endpoint, backend } = answer;
        self.observe_duration(&backend, start);
        let status = response.status().as_u16();
        if !asked.is_grpc() {
            self.count(&endpoint, status, GrpcStatus::NotGrpc);
            return response;
        }
        if let Some(code) = grpc::status_at_head(status, response.headers()) {
            self.count(&endpoint, status, GrpcStatus::Ended(code));
            return response;
        }
        let observer = Arc::clone(self);
        let ending = Ending::new(move |grpc| observer.count(&endpoint, status, grpc));
        response.map(|body| body.told_by(ending))
    }

    fn failed(&self, failure: &Failure, asked: Asked, start: Instant) -> Response<Body> {
        let Failure { error, backend, endpoint, .. } = failure;
        self.dialer.metrics.count_error(error);
        let teller = Teller {
            source: self.direction,
            audience: match (self.direction, self.inbound_tls) {
                (Direction::Inbound, Some(Protection::Plaintext)) => Audience::Outsider,
                (Direction::Inbound | Direction::Outbound, _) => Audience::Mesh,
            },
            pod: endpoint.as_ref().map(|endpoint| endpoint.endpoint.pod.as_str()),
        };
        let response = respond(error, asked, teller);
        let status = response.status().as_u16();
        let grpc = asked.code(error).into();
        match endpoint {
            Some(endpoint) => self.count(endpoint, status, grpc),
            None => self.count_without_endpoint(backend.as_deref(), status, grpc),
        }
        if let Some(backend) = backend {
            self.observe_duration(backend, start);
        }
        debug!(
            direction = self.direction.as_str(),
            service = %self.service,
            reason = error.reason(),
            error = %heddle_runtime::logging::Chain(error),
            "request failed"
        );
        response
    }

    fn count(&self, endpoint: &BalancedEndpoint, status: u16, grpc_status: GrpcStatus) {
        let tls = self.protection(&endpoint.endpoint);
        let outcome = RequestOutcome { status, grpc_status, tls };
        endpoint.count_request(&self.dialer.metrics, self.direction, &self.service, outcome);
    }

    /// The series is no endpoint's, so that none takes it away; there is one for each backend.
    fn count_without_endpoint(
        &self,
        backend: Option<&Balancer>,
        status: u16,
        grpc_status: GrpcStatus,
    ) {
        let labels = RequestLabels {
            direction: self.direction,
            service: Arc::clone(&self.service),
            backend: backend.map_or_else(|| "".into(), |backend| Arc::clone(backend.label())),
            backend_pod: "".into(),
            status,
            grpc_status,
            tls: self.inbound_tls.unwrap_or(Protection::Plaintext),
        };
        self.dialer.metrics.requests.family().get_or_create(&labels).inc();
    }

    fn protection(&self, endpoint: &heddle_model::endpoint::Endpoint) -> Protection {
        self.inbound_tls.unwrap_or_else(|| self.dialer.protection(endpoint))
    }

    fn observe_duration(&self, backend: &Arc<Balancer>, start: Instant) {
        backend
            .durations(&self.dialer.metrics, self.direction, &self.service)
            .observe(start.elapsed().as_secs_f64());
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
            Ok(Reply::Backend(inner.oneshot(outgoing).await?))
        }
    })
}

/// The name under which a service is called in metrics.
pub fn service_label(service: Option<&ServicePort>) -> Arc<str> {
    service.map_or_else(|| "".into(), |service| service.to_string().into())
}

#[cfg(test)]
mod tests;
