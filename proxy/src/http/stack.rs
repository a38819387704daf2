//! What wraps a request, in which order: the one file that composes tower layers.
//!
//! Outbound: observe (metrics, trace, answer to errors) → gate → route → time limit → send.
//! Inbound: observe → gate → caller → send.
//!
//! Inside, layers are plain generics; the boxed type is at the seam to server.rs.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use heddle_model::names::ServicePort;
use http::{Request, Response};
use tokio::sync::watch;
use tokio::time::Instant;
use tower::layer::layer_fn;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tracing::{debug, trace};

use crate::balance::balancer::Balancer;
use crate::balance::weighted;
use crate::connect::Dialer;
use crate::discovery::resolved::{Resolved, ResolvedService};
use crate::http::body::Body;
use crate::http::gate::admitted::Admitted;
use crate::http::headers::{self, Caller};
use crate::http::respond::{Asked, ProxyError, client_closed, respond};
use crate::http::send::{Answer, Failure, Outgoing, send};
use crate::http::{HttpService, HttpVersion};
use crate::metrics::{Direction, Protection, RequestLabels};

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
    let dialer = Arc::clone(&call.dialer);
    let (version, original) = (call.version, call.original);
    let stack = ServiceBuilder::new()
        .layer(layer_fn(move |inner| observe(watching.clone(), inner)))
        .layer(layer_fn(move |inner| admit(version, original, inner)))
        .layer(layer_fn(move |inner| route(Arc::clone(&call), inner)))
        .layer(layer_fn(limit_time))
        .service(service_fn(move |routed: Routed| send(Arc::clone(&dialer), routed.outgoing)));
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
    let stack = ServiceBuilder::new()
        .layer(layer_fn(move |inner| observe(watching.clone(), inner)))
        .layer(layer_fn(move |inner| admit(version, original, inner)))
        .layer(layer_fn(move |inner| tell_caller(Arc::clone(&call), inner)))
        .service(service_fn(move |outgoing: Outgoing| send(Arc::clone(&dialer), outgoing)));
    BoxCloneSyncService::new(stack)
}

/// A request whose rule is known.
struct Routed {
    outgoing: Outgoing,
    limit: Option<Duration>,
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
    S: Service<Request<Body>, Response = Answer, Error = Failure, Future: Send>,
    S: Clone + Send + Sync + 'static,
{
    let observer = Arc::new(observer);
    service_fn(move |request: Request<Body>| {
        let (observer, inner) = (Arc::clone(&observer), inner.clone());
        async move {
            let start = Instant::now();
            let asked = Asked::new(&request);
            trace!(direction = observer.direction.as_str(), method = %request.method(), "request");
            let waiting = Waiting { observer: &observer, has_ended: false };
            let outcome = inner.oneshot(request).await;
            waiting.end();
            Ok(match outcome {
                Ok(answer) => observer.answered(answer, start),
                Err(failure) => observer.failed(&failure, asked, start),
            })
        }
    })
}

/// Counts a request that nobody waits for any more.
struct Waiting<'a> {
    observer: &'a Observer,
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
            self.observer.count_without_endpoint(None, client_closed().as_u16());
        }
    }
}

impl Observer {
    fn answered(&self, answer: Answer, start: Instant) -> Response<Body> {
        let Answer { response, endpoint, backend } = answer;
        let metrics = &self.dialer.metrics;
        let tls = self.protection(&endpoint.endpoint);
        let status = response.status().as_u16();
        endpoint.count_request(metrics, self.direction, &self.service, (status, tls));
        self.observe_duration(&backend, start);
        response
    }

    fn failed(&self, failure: &Failure, asked: Asked, start: Instant) -> Response<Body> {
        let Failure { error, backend, endpoint } = failure;
        let metrics = &self.dialer.metrics;
        metrics.count_error(error);
        let response = respond(error, asked);
        let status = response.status().as_u16();
        match endpoint {
            Some(endpoint) => {
                let tls = self.protection(&endpoint.endpoint);
                endpoint.count_request(metrics, self.direction, &self.service, (status, tls));
            }
            None => self.count_without_endpoint(backend.as_deref(), status),
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

    /// The series is no endpoint's, so that none takes it away; there is one for each backend.
    fn count_without_endpoint(&self, backend: Option<&Balancer>, status: u16) {
        let labels = RequestLabels {
            direction: self.direction,
            service: Arc::clone(&self.service),
            backend: backend.map_or_else(|| "".into(), |backend| Arc::clone(backend.label())),
            backend_pod: "".into(),
            status,
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
) -> impl Service<Request<Body>, Response = Answer, Error = Failure, Future: Send> + Clone + Send + Sync
where
    S: Service<Admitted, Response = Answer, Error = Failure, Future: Send>,
    S: Clone + Send + Sync + 'static,
{
    service_fn(move |request: Request<Body>| {
        let inner = inner.clone();
        let admitted = Admitted::new(request, version, original);
        async move { inner.oneshot(admitted?).await }
    })
}

fn route<S>(
    call: Arc<OutboundCall>,
    inner: S,
) -> impl Service<Admitted, Response = Answer, Error = Failure, Future: Send> + Clone + Send + Sync
where
    S: Service<Routed, Response = Answer, Error = Failure, Future: Send>,
    S: Clone + Send + Sync + 'static,
{
    service_fn(move |admitted: Admitted| {
        let inner = inner.clone();
        // The value is read, and the lock on it released, before anything waits.
        let routed = route_one(&call, admitted);
        async move { inner.oneshot(routed?).await }
    })
}

fn route_one(call: &OutboundCall, admitted: Admitted) -> Result<Routed, Failure> {
    let resolved = call.destination.borrow().clone();
    let (backend, timeouts) = match resolved {
        Resolved::PassThrough => return Err(ProxyError::DestinationChanged.into()),
        Resolved::Refused { reason } => return Err(ProxyError::Refused { reason }.into()),
        Resolved::Endpoint(endpoint) => (Arc::clone(&endpoint.balancer), None),
        Resolved::Service(service) => {
            let (backend, timeouts) = pick_backend(&service, admitted.request())?;
            (backend, Some(timeouts))
        }
    };
    let outgoing = Outgoing {
        request: admitted.into_request(),
        version: call.version,
        backend,
        attempt_limit: timeouts.and_then(|timeouts| timeouts.backend_request),
        direction: Direction::Outbound,
    };
    Ok(Routed { outgoing, limit: timeouts.and_then(|timeouts| timeouts.request) })
}

fn pick_backend(
    service: &ResolvedService,
    request: &Request<Body>,
) -> Result<(Arc<Balancer>, heddle_model::route::Timeouts), ProxyError> {
    let rule = service
        .rules
        .iter()
        .find(|rule| rule.compiled.matches(request))
        .ok_or_else(|| ProxyError::NoRoute { service: service.service.to_string() })?;
    let weights = rule.backends.iter().map(|(_backend, weight)| *weight);
    // The last share is that of no backend.
    let weights = weights.chain(std::iter::once(rule.missing_weight));
    weighted::pick(weights, &mut rand::rng())
        .and_then(|index| rule.backends.get(index))
        .map(|(backend, _weight)| (Arc::clone(backend), rule.timeouts))
        .ok_or_else(|| ProxyError::NoBackend { service: service.service.to_string() })
}

fn limit_time<S>(
    inner: S,
) -> impl Service<Routed, Response = Answer, Error = Failure, Future: Send> + Clone + Send + Sync
where
    S: Service<Routed, Response = Answer, Error = Failure, Future: Send>,
    S: Clone + Send + Sync + 'static,
{
    service_fn(move |routed: Routed| {
        let inner = inner.clone();
        let limit = routed.limit;
        let backend = Arc::clone(&routed.outgoing.backend);
        async move {
            match limit {
                None => inner.oneshot(routed).await,
                Some(limit) => within(limit, backend, inner.oneshot(routed)).await,
            }
        }
    })
}

/// The limit is for the response's body too.
async fn within(
    limit: Duration,
    backend: Arc<Balancer>,
    answering: impl Future<Output = Result<Answer, Failure>>,
) -> Result<Answer, Failure> {
    let deadline = Instant::now() + limit;
    match tokio::time::timeout_at(deadline, answering).await {
        Ok(answered) => answered.map(|answer| Answer {
            response: answer.response.map(|body| body.until(deadline)),
            ..answer
        }),
        Err(_elapsed) => {
            let error = ProxyError::RequestTimeout { limit };
            Err(Failure { error, backend: Some(backend), endpoint: None })
        }
    }
}

fn tell_caller<S>(
    call: Arc<InboundCall>,
    inner: S,
) -> impl Service<Admitted, Response = Answer, Error = Failure, Future: Send> + Clone + Send + Sync
where
    S: Service<Outgoing, Response = Answer, Error = Failure, Future: Send>,
    S: Clone + Send + Sync + 'static,
{
    service_fn(move |mut admitted: Admitted| {
        let (call, inner) = (Arc::clone(&call), inner.clone());
        async move {
            headers::set_caller(admitted.headers_mut(), &call.caller);
            let outgoing = Outgoing {
                request: admitted.into_request(),
                version: call.version,
                backend: Arc::clone(&call.application),
                attempt_limit: None,
                direction: Direction::Inbound,
            };
            inner.oneshot(outgoing).await
        }
    })
}

/// The name under which a service is called in metrics.
pub fn service_label(service: Option<&ServicePort>) -> Arc<str> {
    service.map_or_else(|| "".into(), |service| service.to_string().into())
}

#[cfg(test)]
mod tests;
