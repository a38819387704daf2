//! Sends a request to an endpoint of its backend, and to another if the first cannot be reached.
//!
//! Nothing is sent twice that may have been processed, with one exception: a request that may be
//! repeated by its method (RFC 9110, section 9.2.2) and has no body is repeated once, if the used
//! connection it went over was closed before it was answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use heddle_model::policy::SessionPersistence;
use heddle_runtime::clock;
use http::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use crate::balance::balancer::{Balancer, NotAdmitted};
use crate::balance::callers::CallerPlace;
use crate::balance::endpoint::BalancedEndpoint;
use crate::balance::session::Session;
use crate::balance::set::{PickContext, Purpose};
use crate::connect::{ConnectError, Dialer};
use crate::http::attempt::{Agreed, Attempt, Limit, Lost, Unanswered};
use crate::http::body::Body;
use crate::http::breaker::Breaker;
use crate::http::call_record::Notes;
use crate::http::gate::exchanges::Permit;
use crate::http::gate::refusal::Refusal;
use crate::http::respond::{ERROR_HEADER, ProxyError, name_peer_of_error, strip_error};
use crate::http::upgrade::{End, Ends, tunnel};
use crate::http::{HttpVersion, headers, outcome};
use crate::metrics::{Direction, Protection};

/// A request on its way to a backend.
#[derive(Debug)]
pub struct Outgoing {
    /// Ready to be sent but for its hop-by-hop headers. In a box, since it is handed on and on.
    pub request: Box<Request<Body>>,
    /// What to speak.
    pub version: HttpVersion,
    /// Where to.
    pub backend: Arc<Balancer>,
    /// Endpoints that let the request down before; they get it only if there is no other.
    pub avoid: Vec<SocketAddr>,
    /// How requests of one client stay with one endpoint; `None`: as the backend's policy has it.
    pub session: Option<Arc<SessionPersistence>>,
    /// How long one attempt may take.
    pub attempt_limit: Option<Duration>,
    /// Seen from the workload.
    pub direction: Direction,
    /// What the caller has of its share, until the request has ended.
    pub place: Option<CallerPlace>,
}

/// A response, and who gave it.
#[derive(Debug)]
pub struct Answer {
    /// Its body holds what the exchange holds.
    pub response: Response<Body>,
    /// Who gave it.
    pub endpoint: Arc<BalancedEndpoint>,
    /// What it was chosen from.
    pub backend: Arc<Balancer>,
}

/// An error, and how far the request had come.
#[derive(Debug)]
pub struct Failure {
    /// What happened.
    pub error: ProxyError,
    /// What the request was routed to, if it was.
    pub backend: Option<Arc<Balancer>>,
    /// Where it was sent last, if it was.
    pub endpoint: Option<Arc<BalancedEndpoint>>,
    /// The request, if nothing of it was sent to anybody.
    pub unsent: Option<Box<Request<Body>>>,
}

impl From<ProxyError> for Failure {
    fn from(error: ProxyError) -> Self {
        Self { error, backend: None, endpoint: None, unsent: None }
    }
}

/// What a request has already been through.
pub(super) struct History {
    avoid: Vec<SocketAddr>,
    pub(super) tried: Vec<SocketAddr>,
    /// A connection was found closed: use none that was opened before.
    pub(super) closed_at: Option<Instant>,
    pub(super) may_repeat: bool,
    last: Option<(ProxyError, Arc<BalancedEndpoint>)>,
}

/// The response of an endpoint, or why there is none.
pub async fn send(dialer: &Dialer, outgoing: Outgoing) -> Result<Answer, Failure> {
    let Outgoing { mut request, version, backend, avoid, session, attempt_limit, direction, place } =
        outgoing;
    let wants_tunnel = headers::wants_tunnel(&request);
    headers::strip_request(request.headers_mut(), wants_tunnel);
    let notes = request.extensions_mut().remove::<Notes>();
    let (permit, client) = if wants_tunnel { for_tunnel(&mut request) } else { (None, None) };
    let key = backend.key(request.headers(), &dialer.own);
    let session = backend.session(session, request.headers());
    let mut history = History::new(avoid);
    for _attempt in 0..ATTEMPT_LIMIT {
        let context = PickContext {
            tried: &history.tried,
            avoid: &history.avoid,
            key,
            session: session.as_ref().and_then(Session::endpoint),
            purpose: Purpose::Request,
            metrics: Some(&dialer.metrics),
        };
        let admitted = backend.admit(&context, dialer.settings.requests_per_endpoint).await;
        let in_flight = match admitted {
            Ok(in_flight) => in_flight.with_place(place.clone()),
            Err(NotAdmitted::NoOther) => break,
            Err(refused) => return Err(failure(not_admitted(refused, &backend), &backend, None)),
        };
        let endpoint = Arc::clone(in_flight.endpoint());
        let attempt = Attempt {
            dialer,
            backend: &backend,
            endpoint: &endpoint,
            version,
            limit: attempt_limit.map(Limit::from_now),
            closed_at: history.closed_at,
            may_repeat: history.may_repeat,
            notes: notes.as_ref(),
        };
        match attempt.run(request, in_flight).await {
            Ok(mut response) => {
                receive(dialer, &endpoint, &mut response);
                if response.extensions().get::<Agreed>().is_some()
                    && let Some(Err(refusal)) = permit.as_ref().map(Permit::agree)
                {
                    close_after(dialer, client);
                    let error = ProxyError::BadRequest { refusal };
                    return Err(failure(error, &backend, Some(endpoint)));
                }
                finish(dialer, direction, &mut response, client);
                if let Some(session) = &session {
                    session.tell(endpoint.number(), response.headers_mut(), clock::now());
                }
                return Ok(Answer { response, endpoint, backend });
            }
            Err(unanswered) => {
                unanswered.tell_of(&endpoint, &dialer.metrics);
                request = history.learn(*unanswered, &backend, endpoint)?;
            }
        }
    }
    Err(history.into_failure(Some(request), &backend))
}

/// What it takes to make a tunnel of the client's connection.
fn for_tunnel(request: &mut Request<Body>) -> (Option<Permit>, Option<End>) {
    let breaker = request.extensions_mut().remove::<Breaker>().unwrap_or_default();
    let permit = request.extensions_mut().remove::<Permit>();
    (permit, Some(End { upgrade: hyper::upgrade::on(request), breaker }))
}

/// Notes what a response tells of its endpoint, and whose the error is that it may tell of.
fn receive(dialer: &Dialer, endpoint: &BalancedEndpoint, response: &mut Response<Body>) {
    let is_mesh = dialer.protection(&endpoint.endpoint) == Protection::Mutual;
    if is_mesh && tells_of_dead_application(response.headers()) {
        endpoint.connection_failed(&dialer.metrics);
    } else if let Some(sign) = outcome::of_head(response.status(), response.headers()) {
        endpoint.observe(sign, &dialer.metrics);
    }
    if is_mesh {
        name_peer_of_error(response.headers_mut(), &endpoint.endpoint.pod);
    } else {
        strip_error(response.headers_mut());
    }
}

pub(super) fn not_admitted(refused: NotAdmitted, backend: &Balancer) -> ProxyError {
    let backend = backend.label().to_string();
    match refused {
        NotAdmitted::NoOther | NotAdmitted::NoEndpoint => ProxyError::NoEndpoint { backend },
        NotAdmitted::Overloaded => ProxyError::Overloaded { backend },
        NotAdmitted::QueueTimeout => ProxyError::QueueTimeout { backend },
    }
}

pub(super) fn failure(
    error: ProxyError,
    backend: &Arc<Balancer>,
    endpoint: Option<Arc<BalancedEndpoint>>,
) -> Failure {
    Failure { error, backend: Some(Arc::clone(backend)), endpoint, unsent: None }
}

impl History {
    pub(super) fn new(avoid: Vec<SocketAddr>) -> Self {
        Self { avoid, tried: Vec::new(), closed_at: None, may_repeat: true, last: None }
    }

    /// Nobody is left to send it to; the request is kept only if it was tried to send it.
    pub(super) fn into_failure(
        self,
        request: Option<Box<Request<Body>>>,
        backend: &Arc<Balancer>,
    ) -> Failure {
        let Some((error, endpoint)) = self.last else {
            let error = ProxyError::NoEndpoint { backend: backend.label().to_string() };
            return failure(error, backend, None);
        };
        Failure { unsent: request, ..failure(error, backend, Some(endpoint)) }
    }

    /// The request to try again, or the failure.
    pub(super) fn learn<R>(
        &mut self,
        unanswered: Unanswered<R>,
        backend: &Arc<Balancer>,
        endpoint: Arc<BalancedEndpoint>,
    ) -> Result<R, Failure> {
        let label = || backend.label().to_string();
        match unanswered {
            Unanswered::NotConnected { error: ConnectError::TooMany, .. } => {
                Err(failure(ProxyError::Overloaded { backend: label() }, backend, Some(endpoint)))
            }
            Unanswered::NotConnected { request, error } => {
                // Whose connection failed before has marked it; the time does not begin anew.
                if !error.is_local() && !matches!(error, ConnectError::FailedBefore { .. }) {
                    endpoint.mark_failing();
                }
                self.tried.push(endpoint.endpoint.address);
                self.last = Some((
                    ProxyError::Connect { backend: label(), source: Box::new(error) },
                    endpoint,
                ));
                Ok(request)
            }
            Unanswered::NotSent { request, error } => {
                self.closed_at = Some(Instant::now());
                let error = ProxyError::BackendLost { backend: label(), source: error };
                self.last = Some((error, endpoint));
                Ok(request)
            }
            Unanswered::Lost(Lost { again: Some(request), is_closed, .. }) => {
                if is_closed {
                    self.closed_at = Some(Instant::now());
                }
                self.may_repeat = false;
                Ok(request)
            }
            Unanswered::Lost(Lost { error, again: None, is_new, .. }) => {
                if is_new {
                    endpoint.mark_failing();
                }
                let error = ProxyError::BackendLost { backend: label(), source: error };
                Err(failure(error, backend, Some(endpoint)))
            }
            // No endpoint has to do with it.
            Unanswered::NotAllThere { error } => {
                let error = match Refusal::of(&error) {
                    Some(refusal) => ProxyError::BadRequest { refusal },
                    None => ProxyError::ClientLost { source: error },
                };
                Err(failure(error, backend, None))
            }
            Unanswered::Ambiguous { fault } => {
                let error = ProxyError::BadResponse { backend: label(), fault };
                Err(failure(error, backend, Some(endpoint)))
            }
            Unanswered::NotTaken => {
                let error = ProxyError::NotSupported { what: NO_EXTENDED_CONNECT };
                Err(failure(error, backend, Some(endpoint)))
            }
            Unanswered::TooLate { limit } => {
                Err(failure(ProxyError::BackendTimeout { limit }, backend, Some(endpoint)))
            }
        }
    }
}

/// Whether the answer is another proxy's, whose application cannot be connected to. It comes faster
/// than any answer of an application: by its load alone the endpoint would be the best.
pub(super) fn tells_of_dead_application(headers: &HeaderMap) -> bool {
    headers.get(ERROR_HEADER).is_some_and(|reason| is_of_dead_application(reason.as_bytes()))
}

/// The same by the reason that it gives.
pub(super) fn is_of_dead_application(reason: &[u8]) -> bool {
    reason.starts_with(b"connect")
}

/// Hands the connections of an upgrade to each other, and strips what is for one hop only.
fn finish(
    dialer: &Dialer,
    direction: Direction,
    response: &mut Response<Body>,
    client: Option<End>,
) {
    let agreed = response.extensions_mut().remove::<Agreed>();
    headers::strip_response(response.headers_mut(), agreed.is_some());
    let Some(client) = client else { return };
    match agreed.and_then(|agreed| agreed.take()) {
        Some((server, tunnelled)) => tunnel(dialer, direction, Ends { client, server }, tunnelled),
        None => close_after(dialer, Some(client)),
    }
}

/// Hyper hands over a connection that ends after a request for a tunnel, whatever the answer was, and
/// leaves its end to whoever takes it. At most one is waited for on each connection.
fn close_after(dialer: &Dialer, client: Option<End>) {
    let Some(client) = client else { return };
    dialer.tasks.spawn_quiet(async move {
        if let Ok(upgraded) = client.upgrade.await {
            // A client that is gone needs no end.
            let _ = TokioIo::new(upgraded).shutdown().await;
        }
    });
}

/// Different endpoints, or connections, that one request may be tried on.
pub(super) const ATTEMPT_LIMIT: usize = 3;
const NO_EXTENDED_CONNECT: &str = "extended CONNECT to a server that does not";

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_a_failed_connection_tells_of_a_dead_application() {
        for (reason, expected) in [
            (None, false),
            (Some("connect"), true),
            (Some("connect_timeout"), true),
            (Some("overloaded"), false),
            (Some("backend_lost"), false),
        ] {
            let headers = reason
                .map(|reason| (ERROR_HEADER, HeaderValue::from_static(reason)))
                .into_iter()
                .collect();
            assert_eq!(tells_of_dead_application(&headers), expected, "case: {reason:?}");
        }
    }
}
