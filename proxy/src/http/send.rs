//! Sends a request to an endpoint of its backend, and to another if the first cannot be reached.
//!
//! Nothing is sent twice that may have been processed, with one exception: a request that may be
//! repeated by its method (RFC 9110, section 9.2.2) and has no body is repeated once, if the used
//! connection it went over was closed before it was answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;
use tracing::debug;

use crate::balance::balancer::{BalancedEndpoint, Balancer, InFlight};
use crate::connect::{ConnectError, Dialer};
use crate::http::body::Body;
use crate::http::pool::{Exchange, HeldConnection, Http2Connection, IDLE_TIMEOUT, StreamPlace};
use crate::http::respond::ProxyError;
use crate::http::upgrade::{Ends, tunnel};
use crate::http::{HttpVersion, client, headers};
use crate::metrics::Direction;

/// A request on its way to a backend.
#[derive(Debug)]
pub struct Outgoing {
    /// Ready to be sent but for its hop-by-hop headers.
    pub request: Request<Body>,
    /// What to speak.
    pub version: HttpVersion,
    /// Where to.
    pub backend: Arc<Balancer>,
    /// How long one attempt may take.
    pub attempt_limit: Option<Duration>,
    /// Seen from the workload.
    pub direction: Direction,
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
}

impl From<ProxyError> for Failure {
    fn from(error: ProxyError) -> Self {
        Self { error, backend: None, endpoint: None }
    }
}

/// What became of one attempt.
#[expect(clippy::large_enum_variant, reason = "the large one is the usual one")]
enum Attempt {
    Answered(Response<Body>),
    Failed(Box<Unanswered>),
}

/// Why there is no answer, and what may be done about it.
enum Unanswered {
    /// Nothing was sent.
    NotConnected { request: Request<Body>, error: ConnectError },
    /// Nothing was sent: the connection, open until a moment ago, was closed.
    NotSent { request: Request<Body>, error: hyper::Error },
    /// It may have been processed. `again` is there if it may be sent again all the same.
    Lost { error: hyper::Error, again: Option<Request<Body>> },
}

impl From<Unanswered> for Attempt {
    fn from(unanswered: Unanswered) -> Self {
        Self::Failed(Box::new(unanswered))
    }
}

/// What a request has already been through.
struct History {
    tried: Vec<SocketAddr>,
    /// A connection has failed: use none that was opened before.
    failed_at: Option<Instant>,
    may_repeat: bool,
    last: Option<(ProxyError, Arc<BalancedEndpoint>)>,
}

/// The response of an endpoint, or why there is none.
pub async fn send(dialer: Arc<Dialer>, outgoing: Outgoing) -> Result<Answer, Failure> {
    let Outgoing { mut request, version, backend, attempt_limit, direction } = outgoing;
    let wants_tunnel = headers::wants_tunnel(&request);
    headers::strip_request(request.headers_mut(), wants_tunnel);
    let client = wants_tunnel.then(|| hyper::upgrade::on(&mut request));
    let mut history = History { tried: Vec::new(), failed_at: None, may_repeat: true, last: None };
    for _attempt in 0..ATTEMPT_LIMIT {
        let Some(endpoint) = backend.pick(&history.tried, &mut rand::rng()) else { break };
        let Some(in_flight) = endpoint.begin(dialer.settings.requests_per_endpoint) else {
            let error = ProxyError::Overloaded { backend: backend.label().to_string() };
            return Err(failure(error, &backend, Some(endpoint)));
        };
        let attempt = Trying { dialer: &dialer, endpoint: &endpoint, version, history: &history };
        let attempted = match attempt_limit {
            None => attempt.run(request, in_flight).await,
            Some(limit) => {
                match tokio::time::timeout(limit, attempt.run(request, in_flight)).await {
                    Ok(attempted) => attempted,
                    Err(_elapsed) => {
                        let error = ProxyError::BackendTimeout { limit };
                        return Err(failure(error, &backend, Some(endpoint)));
                    }
                }
            }
        };
        match attempted {
            Attempt::Answered(mut response) => {
                finish(&dialer, direction, &mut response, client);
                return Ok(Answer { response, endpoint, backend });
            }
            Attempt::Failed(unanswered) => {
                request = history.learn(*unanswered, &backend, endpoint)?;
            }
        }
    }
    Err(match history.last {
        Some((error, endpoint)) => failure(error, &backend, Some(endpoint)),
        None => {
            failure(ProxyError::NoEndpoint { backend: backend.label().to_string() }, &backend, None)
        }
    })
}

fn failure(
    error: ProxyError,
    backend: &Arc<Balancer>,
    endpoint: Option<Arc<BalancedEndpoint>>,
) -> Failure {
    Failure { error, backend: Some(Arc::clone(backend)), endpoint }
}

impl History {
    /// The request to try again, or the failure.
    fn learn(
        &mut self,
        unanswered: Unanswered,
        backend: &Arc<Balancer>,
        endpoint: Arc<BalancedEndpoint>,
    ) -> Result<Request<Body>, Failure> {
        let label = || backend.label().to_string();
        match unanswered {
            Unanswered::NotConnected { request, error } => {
                if !error.is_local() {
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
                self.failed_at = Some(Instant::now());
                let error = ProxyError::BackendLost { backend: label(), source: error };
                self.last = Some((error, endpoint));
                Ok(request)
            }
            Unanswered::Lost { again: Some(request), .. } => {
                self.failed_at = Some(Instant::now());
                self.may_repeat = false;
                Ok(request)
            }
            Unanswered::Lost { error, again: None } => {
                let error = ProxyError::BackendLost { backend: label(), source: error };
                Err(failure(error, backend, Some(endpoint)))
            }
        }
    }
}

/// Hands the connections of an upgrade to each other, and strips what is for one hop only.
fn finish(
    dialer: &Dialer,
    direction: Direction,
    response: &mut Response<Body>,
    client: Option<OnUpgrade>,
) {
    let agreed = response.extensions_mut().remove::<Agreed>();
    headers::strip_response(response.headers_mut(), agreed.is_some());
    if let (Some(Agreed { server, in_flight }), Some(client)) = (agreed, client)
        && let (Some(server), Some(in_flight)) = (server.take(), in_flight.take())
    {
        tunnel(dialer, direction, Ends { client, server }, in_flight);
    }
}

/// Travels with a response that ends HTTP on its connection. Extensions must be clones, and these
/// cannot be: each is taken once.
#[derive(Clone)]
struct Agreed {
    server: Once<OnUpgrade>,
    in_flight: Once<InFlight>,
}

struct Once<T>(Arc<parking_lot::Mutex<Option<T>>>);

impl<T> Once<T> {
    fn new(value: T) -> Self {
        Self(Arc::new(parking_lot::Mutex::new(Some(value))))
    }

    fn take(&self) -> Option<T> {
        self.0.lock().take()
    }
}

impl<T> Clone for Once<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// One attempt at one endpoint.
struct Trying<'a> {
    dialer: &'a Dialer,
    endpoint: &'a Arc<BalancedEndpoint>,
    version: HttpVersion,
    history: &'a History,
}

impl Trying<'_> {
    async fn run(self, request: Request<Body>, in_flight: InFlight) -> Attempt {
        match self.version {
            HttpVersion::Http1 => self.http1(request, in_flight).await,
            HttpVersion::Http2 => self.http2(request, in_flight).await,
        }
    }

    async fn http1(self, request: Request<Body>, in_flight: InFlight) -> Attempt {
        let used = match self.history.failed_at {
            Some(_) => None,
            None => self.endpoint.pool.take_http1(Instant::now(), IDLE_TIMEOUT),
        };
        let is_used = used.is_some();
        let mut connection = match used {
            Some(connection) => connection,
            None => match client::http1(self.dialer, self.endpoint).await {
                Ok(connection) => connection,
                Err(error) => {
                    return Unanswered::NotConnected { request, error }.into();
                }
            },
        };
        let again = self.copy_for_repeating(&request, is_used);
        let is_connect = request.method() == Method::CONNECT;
        match connection.sender.try_send_request(request).await {
            Ok(response) => Attempt::Answered(if agrees(&response, is_connect) {
                agreed(response, in_flight)
            } else {
                self.hold(response, in_flight, HeldConnection::Http1(connection))
            }),
            Err(error) => unsuccessful(error, again),
        }
    }

    async fn http2(self, request: Request<Body>, in_flight: InFlight) -> Attempt {
        let (mut connection, place, is_used) = match self.http2_connection().await {
            Ok(found) => found,
            Err(error) => return Unanswered::NotConnected { request, error }.into(),
        };
        let again = self.copy_for_repeating(&request, is_used);
        match connection.sender.try_send_request(request).await {
            Ok(response) => {
                Attempt::Answered(self.hold(response, in_flight, HeldConnection::Http2(place)))
            }
            Err(error) => unsuccessful(error, again),
        }
    }

    /// A shared connection, or a new one, which is then shared. The third says whether it was used.
    async fn http2_connection(&self) -> Result<(Http2Connection, StreamPlace, bool), ConnectError> {
        let pool = &self.endpoint.pool;
        let start = Instant::now();
        if let Some((connection, place)) = pool.take_http2(start, self.history.failed_at) {
            return Ok((connection, place, true));
        }
        let _opening = pool.opening.lock().await;
        if self.endpoint.has_failed_since(start) {
            return Err(ConnectError::FailedBefore { address: self.endpoint.endpoint.address });
        }
        // Whoever opened one while this waited opened it for all.
        if let Some((connection, place)) = pool.take_http2(Instant::now(), self.history.failed_at) {
            return Ok((connection, place, true));
        }
        let connection = client::http2(self.dialer, self.endpoint).await.inspect_err(|error| {
            // Before those who wait for their turn get it.
            if !error.is_local() {
                self.endpoint.mark_failing();
            }
        })?;
        let place = connection.place();
        pool.add_http2(connection.clone());
        Ok((connection, place, false))
    }

    /// A new connection's failure tells of the backend; a used one's may tell only of its age.
    fn copy_for_repeating(&self, request: &Request<Body>, is_used: bool) -> Option<Request<Body>> {
        let has_body = !http_body::Body::is_end_stream(request.body());
        if !is_used || has_body || !self.history.may_repeat || !is_repeatable(request.method()) {
            return None;
        }
        let mut copy = Request::new(Body::empty());
        *copy.method_mut() = request.method().clone();
        *copy.uri_mut() = request.uri().clone();
        *copy.version_mut() = request.version();
        *copy.headers_mut() = request.headers().clone();
        Some(copy)
    }

    fn hold(
        &self,
        response: Response<Incoming>,
        in_flight: InFlight,
        connection: HeldConnection,
    ) -> Response<Body> {
        let broken = self.dialer.metrics.response_broken.clone();
        let exchange = Exchange { in_flight, connection, broken };
        response.map(|incoming| Body::of_exchange(incoming, exchange))
    }
}

fn unsuccessful(mut error: TrySendError<Request<Body>>, again: Option<Request<Body>>) -> Attempt {
    let unsent = error.take_message();
    let error = error.into_error();
    debug!(%error, sent = unsent.is_none(), "no answer");
    match unsent {
        Some(request) => Unanswered::NotSent { request, error }.into(),
        None => Unanswered::Lost { error, again }.into(),
    }
}

/// RFC 9110, section 9.2.2.
fn is_repeatable(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE]
        .contains(method)
}

fn agrees<B>(response: &Response<B>, is_connect: bool) -> bool {
    response.status() == StatusCode::SWITCHING_PROTOCOLS
        || (is_connect && response.status().is_success())
}

fn agreed(mut response: Response<Incoming>, in_flight: InFlight) -> Response<Body> {
    let server = Once::new(hyper::upgrade::on(&mut response));
    let (mut parts, _no_body) = response.into_parts();
    parts.extensions.insert(Agreed { server, in_flight: Once::new(in_flight) });
    Response::from_parts(parts, Body::empty())
}

/// Different endpoints, or connections, that one request may be tried on.
const ATTEMPT_LIMIT: usize = 3;
