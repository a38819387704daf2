//! One try of a request at one endpoint, over a connection that is open or a new one. What follows
//! from how it went is in send.rs.

use std::error::Error as _;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use heddle_model::endpoint::ExpectedPeer;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::ext::Protocol;
use tokio::time::Instant;
use tracing::debug;

use crate::balance::balancer::Balancer;
use crate::balance::ejection::Sign;
use crate::balance::endpoint::{BalancedEndpoint, InFlight};
use crate::connect::{ConnectError, Dialer};
use crate::http::body::{Body, BodyError};
use crate::http::breaker::Breaker;
use crate::http::call_record::Notes;
use crate::http::gate::response::{self, Fault};
use crate::http::headers::Caller;
use crate::http::pool::{Exchange, HeldConnection, Http1Connection, Http2Connection, StreamPlace};
use crate::http::respond::Cause;
use crate::http::upgrade::{End, Tunnelled};
use crate::http::{HttpVersion, client, expect, headers};
use crate::metrics::{Metrics, Protection};

/// One attempt at one endpoint.
pub(super) struct Attempt<'a> {
    pub(super) dialer: &'a Dialer,
    pub(super) backend: &'a Balancer,
    pub(super) endpoint: &'a Arc<BalancedEndpoint>,
    pub(super) version: HttpVersion,
    /// How long it may take, the response's body included.
    pub(super) limit: Option<Limit>,
    /// A connection was found closed: use none that was opened before.
    pub(super) closed_at: Option<Instant>,
    /// Whether the request may be sent again although it may have been processed.
    pub(super) may_repeat: bool,
    /// Where it is noted, if anybody wants to know.
    pub(super) notes: Option<&'a Notes>,
}

#[derive(Clone, Copy)]
pub(super) struct Limit {
    duration: Duration,
    deadline: Instant,
}

impl Limit {
    pub(super) fn from_now(duration: Duration) -> Self {
        Self { duration, deadline: Instant::now() + duration }
    }
}

/// Why there is no answer, and what may be done about it. `R` is the request, or what stands for it.
pub(super) enum Unanswered<R> {
    /// Nothing was sent.
    NotConnected { request: R, error: ConnectError },
    /// Nothing was sent: the connection, open until a moment ago, was closed.
    NotSent { request: R, error: Cause },
    /// It may have been processed.
    Lost(Lost<R>),
    /// The client did not send all of the request.
    NotAllThere { error: hyper::Error },
    /// What came could be read in two ways.
    Ambiguous { fault: Fault },
    /// Nothing was sent: the backend does not take extended CONNECT (RFC 8441).
    NotTaken,
    /// The backend took longer than one attempt may.
    TooLate { limit: Duration },
}

impl<R> Unanswered<R> {
    /// Tells what it means for the endpoint's health.
    pub(super) fn tell_of(&self, endpoint: &BalancedEndpoint, metrics: &Metrics) {
        if let Some(sign) = self.sign() {
            endpoint.observe(sign, metrics);
        }
    }

    fn sign(&self) -> Option<Sign> {
        match self {
            // Whoever tried to connect before has told of it.
            Self::NotConnected { error: ConnectError::FailedBefore { .. }, .. } => None,
            Self::NotConnected { error, .. } if error.is_local() => None,
            // Another request has told that the connection they shared is lost.
            Self::Lost(Lost { is_news: false, .. }) => None,
            Self::NotConnected { .. } | Self::Lost(Lost { again: None, .. }) => {
                Some(Sign::BadConnection)
            }
            Self::Ambiguous { .. } | Self::TooLate { .. } => Some(Sign::BadResponse),
            // A connection that has been idle is closed at any time.
            Self::NotSent { .. } | Self::Lost(Lost { again: Some(_), .. }) => None,
            Self::NotAllThere { .. } | Self::NotTaken => None,
        }
    }
}

pub(super) struct Lost<R> {
    pub(super) error: Cause,
    /// There if it may be sent again all the same.
    pub(super) again: Option<R>,
    /// Whether the whole connection has ended, and not only this exchange.
    pub(super) is_closed: bool,
    /// Whether it was opened for this request, so that its end tells of the endpoint.
    pub(super) is_new: bool,
    /// Whether no other exchange of the connection has told of its end.
    pub(super) is_news: bool,
}

/// Large errors would make every answer as large.
type Outcome<T> = Result<T, Box<Unanswered<Box<Request<Body>>>>>;

impl Attempt<'_> {
    pub(super) async fn run(
        self,
        mut request: Box<Request<Body>>,
        in_flight: InFlight,
    ) -> Outcome<Response<Body>> {
        self.tell_own_application(&mut request);
        if let Some(notes) = self.notes {
            notes.count_attempt();
        }
        match self.version {
            HttpVersion::Http1 => self.http1(request, in_flight).await,
            HttpVersion::Http2 => self.http2(request, in_flight).await,
        }
    }

    /// A workload that calls itself does so past its own inbound side, which would have told it.
    fn tell_own_application(&self, request: &mut Request<Body>) {
        if let ExpectedPeer::Mesh { identity, pod_uid } = &self.endpoint.endpoint.peer
            && *pod_uid == self.dialer.own
        {
            let caller = Caller::Mutual { caller: identity.clone(), own: identity.clone() };
            headers::set_caller(request.headers_mut(), &caller);
        }
    }

    async fn http1(
        self,
        mut request: Box<Request<Body>>,
        in_flight: InFlight,
    ) -> Outcome<Response<Body>> {
        let used = match self.closed_at {
            Some(_) => None,
            None => self.endpoint.pool.take_http1(Instant::now(), self.idle_limit(&request)),
        };
        let connected = match used {
            Some(connection) => Ok((connection, false)),
            None => self.connected(Box::pin(self.new_http1())).await,
        };
        let (mut connection, is_new) = match connected {
            Ok(found) => found,
            Err(error) => return Err(Unanswered::NotConnected { request, error }.into()),
        };
        let again = self.copy_for_repeating(&request, is_new);
        let is_connect = request.method() == Method::CONNECT;
        let asked = headers::wants_tunnel(&request);
        expect::ask_backend(&mut request);
        let answering = pin!(connection.sender.try_send_request(*request));
        match self.exchange(answering).await? {
            Ok(response) => match response::judge(&response, asked) {
                Err(fault) => Err(Unanswered::Ambiguous { fault }.into()),
                Ok(()) if agrees(&response, is_connect) => {
                    let breaker = connection.breaker.clone();
                    Ok(agreed(response, breaker, Tunnelled::new(in_flight, None)))
                }
                Ok(()) => Ok(self.hold(response, in_flight, HeldConnection::Http1(connection))),
            },
            // One exchange at a time: without an answer there is no other.
            Err(error) => Err(unsuccessful(error, again, true, is_new, |_error| true)),
        }
    }

    async fn http2(
        self,
        request: Box<Request<Body>>,
        in_flight: InFlight,
    ) -> Outcome<Response<Body>> {
        let shared = self.endpoint.pool.take_http2(Instant::now(), self.closed_at);
        let connected = match shared {
            Some((connection, place)) => Ok((connection, place, false)),
            None => self.connected(Box::pin(self.http2_connection())).await,
        };
        let (mut connection, place, is_new) = match connected {
            Ok(found) => found,
            Err(error) => return Err(Unanswered::NotConnected { request, error }.into()),
        };
        if request.extensions().get::<Protocol>().is_some()
            && !self.in_time(Box::pin(connection.settings.take_extended_connect())).await?
        {
            return Err(Unanswered::NotTaken.into());
        }
        let again = self.copy_for_repeating(&request, is_new);
        let is_connect = request.method() == Method::CONNECT;
        let answering = pin!(connection.sender.try_send_request(*request));
        match self.exchange(answering).await? {
            Ok(response) if is_connect && response.status().is_success() => {
                Ok(agreed(response, Breaker::default(), Tunnelled::new(in_flight, Some(place))))
            }
            Ok(response) => Ok(self.hold(response, in_flight, HeldConnection::Http2(place))),
            Err(error) => {
                // If it has ended and that is not known yet, the next attempt on it is not sent.
                let is_closed = connection.sender.is_closed();
                let is_news = |error: &hyper::Error| place.is_news(error);
                Err(unsuccessful(error, again, is_closed, is_new, is_news))
            }
        }
    }

    /// A new connection; or, if no other may be opened, one that comes back in time. The second says
    /// whether it is new.
    async fn new_http1(&self) -> Result<(Http1Connection, bool), ConnectError> {
        let handed_over = async {
            let mut connection = self.endpoint.pool.wait_http1().await.ok()?;
            connection.sender.ready().await.ok().map(|()| connection)
        };
        let slot = tokio::select! {
            biased;
            // Usually there is one, and nothing is waited for.
            slot = self.backend.connection(&self.dialer.metrics) => slot,
            Some(connection) = handed_over => return Ok((connection, false)),
        };
        let slot = slot.map_err(|_refused| ConnectError::TooMany)?;
        let connecting = Connecting::begin(self.endpoint);
        let opened = client::http1(self.dialer, self.endpoint, slot).await;
        connecting.end();
        opened.map(|connection| (connection, true))
    }

    /// A new connection, which is then shared; or one that somebody else opened meanwhile. The third says whether it is
    /// new.
    async fn http2_connection(&self) -> Result<(Http2Connection, StreamPlace, bool), ConnectError> {
        let pool = &self.endpoint.pool;
        let start = Instant::now();
        let _opening = pool.opening.lock().await;
        if self.endpoint.was_unreachable_since(start) {
            return Err(ConnectError::FailedBefore { address: self.endpoint.endpoint.address });
        }
        // Whoever opened one while this waited opened it for all.
        if let Some((connection, place)) = pool.take_http2(Instant::now(), self.closed_at) {
            return Ok((connection, place, false));
        }
        let slot = self.backend.connection(&self.dialer.metrics).await.map_err(|_refused| {
            // Those who wait for their turn have waited as long.
            self.endpoint.fail_waiting();
            ConnectError::TooMany
        })?;
        let connecting = Connecting::begin(self.endpoint);
        let opened = client::http2(self.dialer, self.endpoint, slot).await;
        connecting.end();
        let connection = opened.inspect_err(|error| {
            // Before those who wait for their turn get it.
            if !error.is_local() {
                self.endpoint.mark_unreachable();
            }
        })?;
        let place = connection.place();
        pool.add_http2(connection.clone());
        Ok((connection, place, true))
    }

    /// A connection that takes longer than the attempt may counts as none: nothing was sent.
    async fn connected<C>(
        &self,
        connecting: Pin<Box<impl Future<Output = Result<C, ConnectError>>>>,
    ) -> Result<C, ConnectError> {
        let Some(Limit { duration, deadline }) = self.limit else { return connecting.await };
        tokio::time::timeout_at(deadline, connecting).await.unwrap_or_else(|_elapsed| {
            let address = self.endpoint.endpoint.address;
            Err(ConnectError::Timeout { address, limit: duration })
        })
    }

    /// The answer; how long it took is noted.
    async fn exchange<T, E>(
        &self,
        answering: Pin<&mut impl Future<Output = Result<T, E>>>,
    ) -> Outcome<Result<T, E>> {
        let sent_at = Instant::now();
        let answered = self.in_time(answering).await;
        if let (Ok(Ok(_)), Some(notes)) = (&answered, self.notes) {
            notes.answered_in(sent_at.elapsed());
        }
        // A connection that breaks is no fast answer.
        match &answered {
            Ok(Ok(_)) | Err(_) => self.endpoint.observe_latency(sent_at),
            Ok(Err(_)) => {}
        }
        answered
    }

    /// A future that is handed over as it is would be held twice, by who hands it over and by who waits for it.
    async fn in_time<T>(&self, answering: impl Future<Output = T> + Unpin) -> Outcome<T> {
        let Some(Limit { duration, deadline }) = self.limit else { return Ok(answering.await) };
        tokio::time::timeout_at(deadline, answering)
            .await
            .map_err(|_elapsed| Unanswered::TooLate { limit: duration }.into())
    }

    /// How long a connection may have been idle to be used for this request. Other proxies keep
    /// theirs for longer than this one does; an application may close its own at any moment, and
    /// the request that crosses with that must be one that can be repeated.
    fn idle_limit(&self, request: &Request<Body>) -> Duration {
        idle_limit(self.dialer, self.endpoint, is_repeatable(request))
    }

    /// A new connection's failure tells of the backend; a used one's may tell only of its age.
    fn copy_for_repeating(
        &self,
        request: &Request<Body>,
        is_new: bool,
    ) -> Option<Box<Request<Body>>> {
        if is_new || !self.may_repeat || !is_repeatable(request) {
            return None;
        }
        let mut copy = Request::new(Body::empty());
        *copy.method_mut() = request.method().clone();
        *copy.uri_mut() = request.uri().clone();
        *copy.version_mut() = request.version();
        *copy.headers_mut() = request.headers().clone();
        Some(Box::new(copy))
    }

    fn hold(
        &self,
        response: Response<Incoming>,
        in_flight: InFlight,
        connection: HeldConnection,
    ) -> Response<Body> {
        let metrics = Arc::clone(&self.dialer.metrics);
        let exchange = Exchange { in_flight, connection, metrics };
        response.map(|incoming| {
            let body = Body::of_exchange(incoming, exchange);
            match self.limit {
                Some(Limit { deadline, .. }) => body.until(deadline),
                None => body,
            }
        })
    }
}

/// Marks an endpoint as failing if whoever waits for a connection to it gives up, so that the next
/// request does not wait for the same if it can go elsewhere. Others who wait for it already are
/// not refused: they may have more patience.
pub(super) struct Connecting<'a> {
    endpoint: &'a BalancedEndpoint,
    since: Instant,
    has_ended: bool,
}

impl<'a> Connecting<'a> {
    pub(super) fn begin(endpoint: &'a BalancedEndpoint) -> Self {
        Self { endpoint, since: Instant::now(), has_ended: false }
    }

    pub(super) fn end(mut self) {
        self.has_ended = true;
    }
}

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        // A client that gives up at once tells nothing of the endpoint.
        if !self.has_ended && self.since.elapsed() >= SLOW_CONNECT {
            self.endpoint.mark_failing();
        }
    }
}

fn unsuccessful(
    mut error: TrySendError<Request<Body>>,
    again: Option<Box<Request<Body>>>,
    is_closed: bool,
    is_new: bool,
    is_news: impl FnOnce(&hyper::Error) -> bool,
) -> Box<Unanswered<Box<Request<Body>>>> {
    let unsent = error.take_message();
    let error = error.into_error();
    debug!(%error, sent = unsent.is_none(), "no answer");
    let is_of_request = error.source().is_some_and(|source| source.is::<BodyError>());
    Box::new(match unsent {
        Some(request) => Unanswered::NotSent { request: Box::new(request), error: error.into() },
        None if is_of_request => Unanswered::NotAllThere { error },
        None => {
            // One that is sent again tells nothing.
            let is_news = again.is_none() && is_news(&error);
            Unanswered::Lost(Lost { error: error.into(), again, is_closed, is_new, is_news })
        }
    })
}

/// See [`Attempt::idle_limit`].
pub(super) fn idle_limit(
    dialer: &Dialer,
    endpoint: &BalancedEndpoint,
    is_repeatable: bool,
) -> Duration {
    match dialer.protection(&endpoint.endpoint) {
        Protection::Plaintext if !is_repeatable => FRESH,
        Protection::Plaintext | Protection::Mutual => endpoint.idle_timeout(),
    }
}

/// By its method; and there must be no body, which is not kept.
fn is_repeatable(request: &Request<Body>) -> bool {
    http_body::Body::is_end_stream(request.body()) && is_idempotent(request.method())
}

/// Source: RFC 9110, section 9.2.2.
pub(super) fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE]
        .contains(method)
}

fn agrees<B>(response: &Response<B>, is_connect: bool) -> bool {
    response.status() == StatusCode::SWITCHING_PROTOCOLS
        || (is_connect && response.status().is_success())
}

fn agreed(
    mut response: Response<Incoming>,
    breaker: Breaker,
    tunnelled: Tunnelled,
) -> Response<Body> {
    let upgrade = hyper::upgrade::on(&mut response);
    let server = End { upgrade, breaker };
    let (mut parts, _no_body) = response.into_parts();
    parts.extensions.insert(Agreed(Arc::new(parking_lot::Mutex::new(Some((server, tunnelled))))));
    Response::from_parts(parts, Body::empty())
}

/// Travels with a response that ends HTTP on its connection. Extensions must be clones, and what
/// this holds cannot be: it is taken once.
#[derive(Clone)]
pub(super) struct Agreed(Arc<parking_lot::Mutex<Option<(End, Tunnelled)>>>);

impl Agreed {
    pub(super) fn take(&self) -> Option<(End, Tunnelled)> {
        self.0.lock().take()
    }
}

/// Slower than any handshake in one network, on machines that are not overloaded.
const SLOW_CONNECT: Duration = Duration::from_millis(20);
/// Less than servers keep idle connections for.
const FRESH: Duration = Duration::from_secs(1);
