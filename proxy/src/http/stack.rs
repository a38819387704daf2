//! What is done with a request, in which order.
//!
//! Outbound: observe (metrics, trace, answer to errors) → gate → route (rule, filters, backend) → time
//! limit → deliver (faults, mirrors, retries) → send.
//! Inbound: observe → gate → probes (where only the node comes in) → rate limit → caller → send.
//!
//! The seam to server.rs is a service of tower; inside it, these are functions that call each other. As layers
//! they were a service each, whose future held that of the next one, twice: 70 KB, copied at each.

mod deliver;
pub mod express;
mod limit;
mod observe;
mod routing;

use std::net::SocketAddr;
use std::sync::Arc;

use heddle_model::names::ServicePort;
use http::{Request, Response};
use tokio::sync::watch;
use tokio::time::Instant;
use tower::service_fn;
use tower::util::BoxCloneSyncService;

use crate::balance::balancer::Balancer;
use crate::balance::callers::{CallerPlace, CallerPlaces};
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
use crate::http::stack::express::Express;
use crate::http::stack::limit::within;
use crate::http::stack::observe::Observer;
use crate::http::stack::routing::{After, Routed, Stopped};
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

/// What answers the requests of one connection.
#[derive(Clone)]
pub struct Answering {
    /// All of them.
    pub general: HttpService,
    /// Simple ones, past the general path; `None`: none is.
    pub express: Option<Express>,
}

impl From<HttpService> for Answering {
    fn from(general: HttpService) -> Self {
        Self { general, express: None }
    }
}

/// What answers the requests of an outbound connection.
pub fn outbound(call: OutboundCall) -> Answering {
    let service = Arc::clone(&call.service);
    let source = CallSource::new(watched(&call.dialer), Direction::Outbound, service, None);
    let observer = Observer {
        dialer: Arc::clone(&call.dialer),
        direction: Direction::Outbound,
        service: Arc::clone(&call.service),
        inbound_tls: None,
        source: Arc::new(source),
    };
    let (call, observer) = (Arc::new(call), Arc::new(observer));
    let express = Some(Express::outbound(&call, &observer));
    let general = BoxCloneSyncService::new(service_fn(move |request: Request<Body>| {
        let mut request = Box::new(request);
        let (call, observer) = (Arc::clone(&call), Arc::clone(&observer));
        async move {
            let observed = observer.begin(&mut request);
            let outcome = call.deliver(request).await;
            Ok(observed.end(outcome))
        }
    }));
    Answering { general, express }
}

/// What answers the requests of an inbound connection.
pub fn inbound(call: InboundCall) -> Answering {
    let peer = call.caller.identity().map(ToString::to_string);
    let source =
        CallSource::new(watched(&call.dialer), Direction::Inbound, "".into(), peer.as_deref());
    let observer = Observer {
        dialer: Arc::clone(&call.dialer),
        direction: Direction::Inbound,
        service: "".into(),
        inbound_tls: Some(match call.caller {
            Caller::Plaintext => Protection::Plaintext,
            Caller::Mutual { .. } => Protection::Mutual,
        }),
        source: Arc::new(source),
    };
    let (call, observer) = (Arc::new(call), Arc::new(observer));
    let express = Some(Express::inbound(&call, &observer));
    let general = BoxCloneSyncService::new(service_fn(move |request: Request<Body>| {
        let mut request = Box::new(request);
        let (call, observer) = (Arc::clone(&call), Arc::clone(&observer));
        async move {
            let observed = observer.begin(&mut request);
            let outcome = call.deliver(request).await;
            Ok(observed.end(outcome))
        }
    }));
    Answering { general, express }
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

impl OutboundCall {
    async fn deliver(&self, request: Box<Request<Body>>) -> Result<Reply, Undelivered> {
        let admitted = Admitted::new(request, self.version, self.original)?;
        // The destination is read, and the lock on it released, before anything waits.
        let Routed { outgoing, limit, plan, after, route } = match routing::route(self, admitted) {
            Ok(routed) => routed,
            Err(Stopped::Answered(response, route)) => return Ok(Reply::Own(*response, route)),
            Err(Stopped::Failed(undelivered)) => return Err(*undelivered),
        };
        let delivered = match limit {
            None => deliver(&self.dialer, &self.mirrors, outgoing, plan).await,
            Some(limit) => {
                let backend = Arc::clone(&outgoing.backend);
                let delivering = deliver(&self.dialer, &self.mirrors, outgoing, plan);
                Box::pin(within(limit, backend, delivering)).await
            }
        };
        match (delivered, after) {
            (Ok(answer), None) => Ok(Reply::Backend(answer, route)),
            (Ok(answer), Some(after)) => {
                let response = after.dress(answer.response);
                Ok(Reply::Backend(Answer { response, ..answer }, route))
            }
            (Err(failure), after) => {
                Err(Undelivered { failure, after: after.map(Box::new), route })
            }
        }
    }
}

impl InboundCall {
    async fn deliver(&self, request: Box<Request<Body>>) -> Result<Reply, Undelivered> {
        let admitted = Admitted::new(request, self.version, self.original)?;
        let admitted = match &self.probes {
            // A node that is told to come again kills a workload that is merely busy.
            Some(probes) => admit_probe(probes, self.version, admitted)?,
            None => {
                self.take_rate()?;
                admitted
            }
        };
        let outgoing = self.told_caller(admitted)?;
        Ok(Reply::Backend(send(&self.dialer, outgoing).await?, None))
    }

    fn take_rate(&self) -> Result<(), ProxyError> {
        let identity = self.caller.identity();
        let taken = self.limits.take(self.original.port(), identity, Instant::now());
        taken.map_err(|retry_after| ProxyError::RateLimited { retry_after })
    }

    fn take_place(&self) -> Result<CallerPlace, ProxyError> {
        let overloaded =
            || ProxyError::Overloaded { backend: self.application.label().to_string() };
        self.places.take().ok_or_else(overloaded)
    }

    /// The request, with who asks in it.
    fn told_caller(&self, mut admitted: Admitted) -> Result<Outgoing, ProxyError> {
        headers::set_caller(admitted.headers_mut(), &self.caller);
        let request = admitted.into_request();
        let place = self.take_place()?;
        Ok(Outgoing {
            request,
            version: self.version,
            backend: Arc::clone(&self.application),
            avoid: Vec::new(),
            session: None,
            attempt_limit: None,
            direction: Direction::Inbound,
            place: Some(place),
        })
    }
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

/// The name under which a service is called in metrics.
pub fn service_label(service: Option<&ServicePort>) -> Arc<str> {
    service.map_or_else(|| "".into(), |service| service.to_string().into())
}

#[cfg(test)]
mod tests;

#[cfg(test)]
#[expect(clippy::duplicate_mod, reason = "the same past the lane")]
#[path = "stack/tests.rs"]
mod general_tests;
