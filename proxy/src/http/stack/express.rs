//! The stack for the lanes: the same as for requests of hyper, of a request that needs no map of headers to be decided on.

use std::fmt;
use std::sync::Arc;

use http::{Method, Request, Response};
use tokio::time::Instant;

use crate::balance::balancer::Balancer;
use crate::balance::callers::CallerPlace;
use crate::balance::endpoint::BalancedEndpoint;
use crate::balance::weighted;
use crate::connect::Dialer;
use crate::discovery::resolved::{Resolved, ResolvedBackend};
use crate::http::account::Account;
use crate::http::body::Body;
use crate::http::grpc::GrpcStatus;
use crate::http::headers::{caller_field, caller_line};
use crate::http::respond::{Asked, ProxyError};
use crate::http::send::Failure;
use crate::http::stack::observe::{Observed, Observer};
use crate::http::stack::{InboundCall, OutboundCall, Undelivered};

/// What is done with the simple requests of one connection.
#[derive(Clone)]
pub struct Express {
    side: Side,
    observer: Arc<Observer>,
    /// Who asks, as a line of a request's head; empty: it is not told.
    caller_line: Arc<str>,
    /// The same without the field's name.
    caller: Arc<str>,
}

#[derive(Clone)]
enum Side {
    Outbound(Arc<OutboundCall>),
    Inbound(Arc<InboundCall>),
}

/// Where a request goes.
#[derive(Debug)]
pub struct Chosen {
    /// Picks the endpoint.
    pub backend: Arc<Balancer>,
    /// The name of the route's object.
    pub route: Option<Arc<str>>,
}

impl Express {
    pub(super) fn outbound(call: &Arc<OutboundCall>, observer: &Arc<Observer>) -> Self {
        let side = Side::Outbound(Arc::clone(call));
        Self { side, observer: Arc::clone(observer), caller_line: "".into(), caller: "".into() }
    }

    pub(super) fn inbound(call: &Arc<InboundCall>, observer: &Arc<Observer>) -> Self {
        let caller_line = caller_line(&call.caller).into();
        let side = Side::Inbound(Arc::clone(call));
        let caller = caller_field(&call.caller).into();
        Self { side, observer: Arc::clone(observer), caller_line, caller }
    }

    /// Who asks, as a line of a request's head; empty: it is not told.
    pub fn caller_line(&self) -> &[u8] {
        self.caller_line.as_bytes()
    }

    /// Who asks, as what a field says; empty: it is not told.
    pub fn caller(&self) -> &[u8] {
        self.caller.as_bytes()
    }

    /// Opens connections.
    pub fn dialer(&self) -> &Arc<Dialer> {
        &self.observer.dialer
    }

    /// Where the next request goes; `None`: more is done to it, or decided by what is in it.
    pub fn choose(&self) -> Option<Chosen> {
        let chosen = match &self.side {
            Side::Outbound(call) => match &*call.destination.borrow() {
                Resolved::PassThrough | Resolved::Refused { .. } => return None,
                Resolved::Endpoint(endpoint) if endpoint.balancer.is_by_head() => return None,
                Resolved::Endpoint(endpoint) => {
                    Chosen { backend: Arc::clone(&endpoint.balancer), route: None }
                }
                Resolved::Service(service) => {
                    let rule = service.rules.first().filter(|rule| rule.is_plain)?;
                    // Before one is picked: the general path would pick anew.
                    let is_by_head =
                        |one: &ResolvedBackend| one.weight > 0 && one.balancer.is_by_head();
                    if rule.backends.iter().any(is_by_head) {
                        return None;
                    }
                    let weights = rule.backends.iter().map(|backend| backend.weight);
                    let picked = weighted::pick_of(weights, rule.missing_weight, &mut rand::rng())?;
                    let backend = Arc::clone(&rule.backends.get(picked)?.balancer);
                    Chosen { backend, route: rule.route.clone() }
                }
            },
            Side::Inbound(call) if call.probes.is_some() || call.application.is_by_head() => {
                return None;
            }
            Side::Inbound(call) => Chosen { backend: Arc::clone(&call.application), route: None },
        };
        Some(chosen)
    }

    /// A request is sent there, `now`.
    pub fn count(&self, chosen: &Chosen, now: Instant) {
        if let Side::Outbound(_) = self.side {
            chosen.backend.count_request(now);
        }
    }

    /// Whether somebody has to be asked about the next request, who wants to see it.
    pub fn has_to_be_seen(&self) -> bool {
        self.observer.dialer.witnesses.have_to_be_asked()
    }

    /// A request begins `now`; `seen` is what those see who have to be asked, and may add to.
    pub fn begin(
        &self,
        method: &Method,
        seen: Option<&mut Request<Body>>,
        now: Instant,
    ) -> Arc<Account> {
        match seen {
            Some(request) => Account::begin_at(&self.observer.source, request, now),
            None => Account::begin_unseen(&self.observer.source, method.into(), now),
        }
    }

    /// A request that is under way. One that nobody waits for any more is counted when this is dropped.
    pub fn observe(&self, account: &Arc<Account>) -> Under {
        Under(self.observer.observe(Arc::clone(account), Asked::of_http1()))
    }

    /// The same of a request of HTTP/2.
    pub fn observe_http2(&self, account: &Arc<Account>, is_grpc: bool) -> Under {
        Under(self.observer.observe(Arc::clone(account), Asked::of_http2(is_grpc)))
    }

    /// Whether the workload takes it; what it has of its caller's share.
    pub fn admit(&self) -> Result<Option<CallerPlace>, ProxyError> {
        match &self.side {
            Side::Outbound(_) => Ok(None),
            Side::Inbound(call) => {
                call.take_rate()?;
                call.take_place().map(Some)
            }
        }
    }
}

/// See [`Express::observe`].
pub struct Under(Observed);

impl Under {
    /// An endpoint has answered, and it is known how that ended: the status of HTTP, and of gRPC.
    pub fn answered(
        self,
        from: (&Arc<BalancedEndpoint>, &Balancer),
        route: Option<&Arc<str>>,
        outcome: (u16, GrpcStatus),
    ) {
        self.0.answered(from, route, outcome);
    }

    /// It has failed: what the client is told.
    pub fn fail(self, failure: Failure, route: Option<Arc<str>>) -> Response<Body> {
        self.0.end(Err(Undelivered { failure, after: None, route }))
    }

    /// It goes another way, and is counted there.
    pub fn forget(self) {
        self.0.forget();
    }
}

impl fmt::Debug for Under {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Under").finish_non_exhaustive()
    }
}
