//! Finds a request's rule, does what its filters say, and picks the backend. Filters
//! are applied in this order: the rule's, then the backend's; to the response, too.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, Response};
use tokio::time::Instant;

use crate::balance::balancer::Balancer;
use crate::balance::weighted;
use crate::discovery::resolved::{Resolved, ResolvedRule, ResolvedService};
use crate::http::body::Body;
use crate::http::filter::{self, Found};
use crate::http::gate::admitted::Admitted;
use crate::http::headers::{strip_request, wants_tunnel};
use crate::http::respond::ProxyError;
use crate::http::send::Outgoing;
use crate::http::stack::deliver::Plan;
use crate::http::stack::{OutboundCall, Undelivered};
use crate::metrics::Direction;

/// A request whose rule is known.
pub(super) struct Routed {
    pub(super) outgoing: Outgoing,
    pub(super) limit: Option<Duration>,
    pub(super) plan: Plan,
    pub(super) after: Option<After>,
    /// The name of the route's object.
    pub(super) route: Option<Arc<str>>,
}

/// Why a request is not sent.
pub(super) enum Stopped {
    /// The proxy answers it, as a route has it.
    Answered(Box<Response<Body>>, Option<Arc<str>>),
    Failed(Box<Undelivered>),
}

impl<E: Into<Undelivered>> From<E> for Stopped {
    fn from(error: E) -> Self {
        Self::Failed(Box::new(error.into()))
    }
}

/// What is done to a response, whoever gives it.
#[derive(Debug)]
pub(super) struct After {
    rule: Arc<ResolvedRule>,
    backend: Option<usize>,
    origin: Option<HeaderValue>,
}

impl After {
    fn new(rule: &Arc<ResolvedRule>, request: &Request<Body>) -> Self {
        let origin = filter::origin(request).cloned();
        Self { rule: Arc::clone(rule), backend: None, origin }
    }

    pub(super) fn dress(&self, mut response: Response<Body>) -> Response<Body> {
        let compiled = &self.rule.compiled;
        let of_backend = self.backend.and_then(|index| compiled.backend_filters.get(index));
        for filters in std::iter::once(&compiled.filters).chain(of_backend) {
            filters.change_response(response.headers_mut(), self.origin.as_ref());
        }
        response
    }
}

pub(super) fn route(call: &OutboundCall, admitted: Admitted) -> Result<Routed, Stopped> {
    let request = admitted.into_request();
    let resolved = call.destination.borrow().clone();
    match resolved {
        Resolved::PassThrough => Err(ProxyError::DestinationChanged.into()),
        Resolved::Refused { reason } => Err(ProxyError::Refused { reason }.into()),
        Resolved::Endpoint(endpoint) => {
            let backend = Arc::clone(&endpoint.balancer);
            let outgoing = outgoing(call, request, backend, None);
            Ok(Routed { outgoing, limit: None, plan: Plan::default(), after: None, route: None })
        }
        Resolved::Service(service) => by_rule(call, &service, request),
    }
}

fn by_rule(
    call: &OutboundCall,
    service: &ResolvedService,
    request: Box<Request<Body>>,
) -> Result<Routed, Stopped> {
    let rule = service.rules.iter().find(|rule| rule.compiled.matches(&request));
    let rule = rule.ok_or_else(|| ProxyError::NoRoute { service: call.service.to_string() })?;
    // By the path as it came.
    let prefix = rule.compiled.prefix_to_replace(&request);
    let mut after = After::new(rule, &request);
    let found = Found { port: service.service.port, prefix };
    match follow(call, rule, found, request, &mut after) {
        Ok(routed) => Ok(Routed { after: rule.changes_responses().then_some(after), ..routed }),
        Err(Stopped::Answered(response, _)) => {
            let response = Box::new(after.dress(*response));
            Err(Stopped::Answered(response, rule.route.clone()))
        }
        Err(Stopped::Failed(undelivered)) => {
            let (failure, route) = (undelivered.failure, rule.route.clone());
            Err(Undelivered { failure, after: Some(Box::new(after)), route }.into())
        }
    }
}

/// Does what a rule says.
fn follow(
    call: &OutboundCall,
    rule: &ResolvedRule,
    found: Found<'_>,
    mut request: Box<Request<Body>>,
    after: &mut After,
) -> Result<Routed, Stopped> {
    let filters = &rule.compiled.filters;
    if let Some(answer) = filters.answer(&request, found)? {
        return Err(Stopped::Answered(Box::new(answer), None));
    }
    if rule.changes_requests() {
        let tunnel = wants_tunnel(&request);
        strip_request(request.headers_mut(), tunnel);
    }
    filters.change_request(&mut request, found.prefix)?;
    let random = &mut rand::rng();
    let injected = rule.compiled.fault.choose(random);
    let weights = rule.backends.iter().map(|backend| backend.weight);
    let known = rule.backend_of_session(request.headers());
    let picked = known.or_else(|| weighted::pick_of(weights, rule.missing_weight, random));
    let backend = picked.and_then(|index| rule.backends.get(index));
    let Some(backend) = backend else {
        // A fault comes in place of a backend, also of one that does not exist.
        return Err(match injected.abort {
            Some(abort) => ProxyError::from(abort).into(),
            None => ProxyError::NoBackend { service: call.service.to_string() }.into(),
        });
    };
    after.backend = picked;
    if let Some(filters) = picked.and_then(|index| rule.compiled.backend_filters.get(index)) {
        if let Some(answer) = filters.answer(&request, found)? {
            return Err(Stopped::Answered(Box::new(answer), None));
        }
        filters.change_request(&mut request, found.prefix)?;
    }
    let mut plan = Plan { injected, retry: rule.compiled.retry.clone(), mirrors: Vec::new() };
    plan.choose_mirrors(rule.mirrors.iter().chain(&backend.mirrors));
    let limit = rule.timeouts.backend_request;
    let outgoing = outgoing(call, request, Arc::clone(&backend.balancer), limit);
    let outgoing = Outgoing { session: rule.session.clone(), ..outgoing };
    let route = rule.route.clone();
    Ok(Routed { outgoing, limit: rule.timeouts.request, plan, after: None, route })
}

fn outgoing(
    call: &OutboundCall,
    request: Box<Request<Body>>,
    backend: Arc<Balancer>,
    attempt_limit: Option<Duration>,
) -> Outgoing {
    backend.count_request(Instant::now());
    Outgoing {
        request,
        version: call.version,
        backend,
        session: None,
        avoid: Vec::new(),
        attempt_limit,
        direction: Direction::Outbound,
        place: None,
    }
}
