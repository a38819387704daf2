//! Connections to one endpoint that can be used again. Opening them is in client.rs.
//!
//! HTTP/1: a stack of idle connections, the warmest on top; those of the lane are in pool/lane.rs, and what carries many of
//! them in pool/sessions.rs. HTTP/2: a few connections that requests
//! share; those of its lane are in pool/upstreams.rs. A connection takes no new request after the certificate that authenticated it is near its
//! end; requests in flight finish. While draining nothing is kept.

pub mod lane;
mod sessions;
pub mod upstreams;

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::HeaderMap;
use hyper::client::conn::{http1, http2};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::balance::ejection::Sign;
use crate::balance::endpoint::{BalancedEndpoint, InFlight};
use crate::http::body::{Body, BodyError};
use crate::http::breaker::Breaker;
use crate::http::outcome;
use crate::http::peer_settings::PeerSettings;
use crate::http::pool::lane::LaneConnections;
use crate::http::pool::sessions::Sessions;
use crate::http::pool::upstreams::Upstreams;
use crate::metrics::Metrics;

/// The connections to one endpoint.
#[derive(Default)]
pub struct Pool {
    state: Mutex<State>,
    /// Held by who opens an HTTP/2 connection, so that a burst opens one and not one for each.
    pub opening: tokio::sync::Mutex<()>,
    /// The same for one of HTTP/1 that many share.
    pub opening_session: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    idle: Vec<Http1Connection>,
    /// Requests that may not open another, the first in front.
    waiting: VecDeque<oneshot::Sender<Http1Connection>>,
    shared: Vec<Http2Connection>,
    /// Of the lane of HTTP/1.
    lane: LaneConnections,
    /// What carries those of the lane, where another proxy answers.
    sessions: Sessions,
    /// Of that of HTTP/2.
    upstreams: Upstreams,
    life: Life,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Life {
    /// Holds nothing, so that no task looks after it.
    #[default]
    Empty,
    /// A task closes what is idle or retired.
    Kept,
    /// The process drains: nothing is kept.
    Closed,
}

/// An HTTP/1 connection between two requests.
#[derive(Debug)]
pub struct Http1Connection {
    /// Sends one request at a time.
    pub sender: http1::SendRequest<Body>,
    /// Makes it end in a reset.
    pub breaker: Breaker,
    /// When it is to take no new request; `None`: never.
    pub retire_at: Option<Instant>,
    /// Since when it is idle.
    pub idle_since: Instant,
    /// How often, without a pause, it went from one request to one that waited.
    pub handed_over: u32,
}

/// A shared HTTP/2 connection.
#[derive(Clone, Debug)]
pub struct Http2Connection {
    /// Sends many requests.
    pub sender: http2::SendRequest<Body>,
    /// When it is to take no new request; `None`: never.
    pub retire_at: Option<Instant>,
    /// What the peer takes.
    pub settings: PeerSettings,
    shared: Arc<Shared>,
    opened_at: Instant,
    idle_since: Instant,
}

/// What the streams of a connection have in common.
#[derive(Debug, Default)]
struct Shared {
    streams: AtomicUsize,
    /// One of them has told that the connection is lost.
    is_loss_told: AtomicBool,
}

/// A place on a shared connection, until dropped.
#[derive(Debug)]
pub struct StreamPlace(Arc<Shared>);

impl Http2Connection {
    /// Without streams yet.
    pub fn new(
        sender: http2::SendRequest<Body>,
        retire_at: Option<Instant>,
        settings: PeerSettings,
    ) -> Self {
        let now = Instant::now();
        Self {
            sender,
            retire_at,
            settings,
            shared: Arc::default(),
            opened_at: now,
            idle_since: now,
        }
    }

    /// Takes a place for one request.
    pub fn place(&self) -> StreamPlace {
        self.shared.streams.fetch_add(1, Ordering::Relaxed);
        StreamPlace(Arc::clone(&self.shared))
    }

    fn stream_count(&self) -> usize {
        self.shared.streams.load(Ordering::Relaxed)
    }
}

impl StreamPlace {
    /// Whether a failure tells something of the endpoint that is not known yet: a connection is lost
    /// once, however many streams it had. A stream that is reset has failed by itself.
    pub fn is_news(&self, error: &hyper::Error) -> bool {
        is_of_one_stream(error) || !self.0.is_loss_told.swap(true, Ordering::Relaxed)
    }
}

fn is_of_one_stream(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    cause.is_some_and(h2::Error::is_reset)
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pool {
    /// An idle connection that is ready for a request, and was idle for less than `idle_limit`. If
    /// there are only older ones, the oldest makes room for the one that is now opened: or else
    /// requests that always find them too old would add one each.
    pub fn take_http1(&self, now: Instant, idle_limit: Duration) -> Option<Http1Connection> {
        let mut state = self.state.lock();
        state.idle.retain(|connection| connection.is_usable(now));
        // One whose last response has just ended may still be finishing its request.
        let is_ready = |connection: &Http1Connection| connection.sender.is_ready();
        let fresh = state
            .idle
            .iter()
            .rposition(|connection| is_ready(connection) && connection.idle_for(now) < idle_limit);
        if let Some(fresh) = fresh {
            return Some(state.idle.remove(fresh));
        }
        if let Some(oldest) = state.idle.iter().position(is_ready) {
            drop(state.idle.remove(oldest));
        }
        None
    }

    /// Gives a connection back after its response has ended.
    pub fn put_http1(&self, mut connection: Http1Connection, now: Instant) {
        connection.idle_since = now;
        connection.handed_over = 0;
        let mut state = self.state.lock();
        if state.life != Life::Closed && state.idle.len() < IDLE_LIMIT && connection.is_usable(now)
        {
            state.idle.push(connection);
        }
    }

    /// The next connection that is handed over, perhaps before it is ready for a request.
    pub fn wait_http1(&self) -> oneshot::Receiver<Http1Connection> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state.lock();
        state.waiting.retain(|waiting| !waiting.is_closed());
        state.waiting.push_back(sender);
        receiver
    }

    /// Hands a connection to who has waited longest for one to this endpoint. `wanted` is how many
    /// wait for one to any: if nobody waits for this, it is closed, and makes room for another.
    fn hand_over(&self, mut connection: Http1Connection, wanted: usize) {
        let mut state = self.state.lock();
        state.waiting.retain(|waiting| !waiting.is_closed());
        // Who waits for another endpoint must have a turn, too.
        let is_unfair = wanted > state.waiting.len() && connection.handed_over >= HANDOVER_LIMIT;
        if is_unfair || !connection.is_usable(Instant::now()) {
            return;
        }
        connection.handed_over += 1;
        while let Some(waiting) = state.waiting.pop_front() {
            match waiting.send(connection) {
                Ok(()) => return,
                Err(back) => connection = back,
            }
        }
    }

    /// The shared connection with the fewest requests, and a place on it; with `opened_since`, only
    /// one that was not open before. `None` if another may, and should, be opened.
    pub fn take_http2(
        &self,
        now: Instant,
        opened_since: Option<Instant>,
    ) -> Option<(Http2Connection, StreamPlace)> {
        let mut state = self.state.lock();
        state.shared.retain(|connection| connection.is_usable(now));
        // When there are as many as may be, one of them has to do.
        let may_open = state.shared.len() < SHARED_LIMIT;
        let is_fit = |connection: &Http2Connection| {
            connection.stream_count() < STREAM_LIMIT
                && opened_since.is_none_or(|since| connection.opened_at >= since)
        };
        let chosen = state
            .shared
            .iter_mut()
            .filter(|connection| !may_open || is_fit(connection))
            .min_by_key(|connection| connection.stream_count())?;
        chosen.idle_since = now;
        Some((chosen.clone(), chosen.place()))
    }

    /// Shares a new connection.
    pub fn add_http2(&self, connection: Http2Connection) {
        let mut state = self.state.lock();
        if state.life != Life::Closed {
            state.shared.push(connection);
        }
    }

    /// True for the first who asks while the pool is empty: it runs [`keep`].
    pub fn begin_keeping(&self) -> bool {
        let mut state = self.state.lock();
        let begins = state.life == Life::Empty;
        if begins {
            state.life = Life::Kept;
        }
        begins
    }

    /// Drops what is idle for long or retired; true if nothing is left, nothing is in use that
    /// could come back, and who keeps it may stop.
    ///
    /// Load is asked for under the lock: a request gives its connection back before it stops being
    /// load.
    fn sweep(&self, now: Instant, idle_timeout: Duration, load: impl FnOnce() -> usize) -> bool {
        let mut state = self.state.lock();
        state.idle.retain(|connection| {
            connection.is_usable(now) && connection.idle_for(now) < idle_timeout
        });
        state.shared.retain(|connection| {
            connection.is_usable(now)
                && (connection.stream_count() > 0
                    || now.duration_since(connection.idle_since) < idle_timeout)
        });
        let is_lane_empty = state.lane.sweep(now, idle_timeout);
        let is_lane_empty = state.upstreams.sweep(now, idle_timeout) && is_lane_empty;
        let is_lane_empty = state.sessions.sweep(now, idle_timeout) && is_lane_empty;
        let is_over =
            state.idle.is_empty() && state.shared.is_empty() && is_lane_empty && load() == 0;
        if is_over {
            state.life = Life::Empty;
        }
        is_over
    }

    /// Closes the connection that was idle for longest, or one that is shared by none; says whether
    /// there was one.
    pub fn close_idle(&self) -> bool {
        let mut state = self.state.lock();
        if !state.idle.is_empty() {
            drop(state.idle.remove(0));
            return true;
        }
        if state.lane.close_oldest() || state.upstreams.close_idle() {
            return true;
        }
        let idle = state.shared.iter().position(|connection| connection.stream_count() == 0);
        idle.map(|index| state.shared.remove(index)).is_some()
    }

    fn close(&self) {
        let before = {
            let mut state = self.state.lock();
            std::mem::replace(&mut *state, State { life: Life::Closed, ..State::default() })
        };
        before.upstreams.tell_waiting();
    }
}

impl Http1Connection {
    fn idle_for(&self, now: Instant) -> Duration {
        now.duration_since(self.idle_since)
    }

    fn is_usable(&self, now: Instant) -> bool {
        !self.sender.is_closed() && self.retire_at.is_none_or(|at| now < at)
    }
}

impl Http2Connection {
    fn is_usable(&self, now: Instant) -> bool {
        !self.sender.is_closed() && self.retire_at.is_none_or(|at| now < at)
    }
}

/// Closes the idle and the retired until nothing is left or in use, the endpoint is gone, or the process
/// drains.
pub async fn keep(endpoint: Weak<BalancedEndpoint>, drain: CancellationToken) {
    loop {
        let is_draining = tokio::select! {
            () = drain.cancelled() => true,
            () = tokio::time::sleep(SWEEP_INTERVAL) => false,
        };
        let Some(endpoint) = endpoint.upgrade() else { return };
        if is_draining {
            endpoint.pool.close();
            return;
        }
        if endpoint.pool.sweep(Instant::now(), endpoint.idle_timeout(), || endpoint.load()) {
            return;
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

/// What a request holds until its response has ended.
#[derive(Debug)]
pub struct Exchange {
    /// The load.
    pub in_flight: InFlight,
    /// The connection.
    pub connection: HeldConnection,
    /// Where it is counted how it ends.
    pub metrics: Arc<Metrics>,
}

/// The connection that a response comes over.
#[derive(Debug)]
pub enum HeldConnection {
    /// All of it.
    Http1(Http1Connection),
    /// A place on it.
    Http2(StreamPlace),
}

impl HeldConnection {
    fn is_news(&self, error: &hyper::Error) -> bool {
        match self {
            Self::Http1(_) => true,
            Self::Http2(place) => place.is_news(error),
        }
    }
}

impl Exchange {
    /// The response has ended as it should: the connection can be used again.
    pub fn complete(self) {
        self.in_flight.endpoint().observe(Sign::GoodConnection, &self.metrics);
        match self.connection {
            HeldConnection::Http1(connection) => {
                let endpoint = self.in_flight.endpoint();
                match endpoint.backend().connections_wanted.len() {
                    0 => endpoint.pool.put_http1(connection, Instant::now()),
                    wanted => endpoint.pool.hand_over(connection, wanted),
                }
            }
            HeldConnection::Http2(place) => drop(place),
        }
    }

    /// The response broke off: its connection is not used again.
    pub fn fail(self, error: &BodyError) {
        self.metrics.response_broken.inc();
        match error {
            BodyError::Broken(error) if self.connection.is_news(error) => {
                self.in_flight.endpoint().observe(Sign::BadConnection, &self.metrics);
            }
            BodyError::Broken(_) | BodyError::TooLate | BodyError::Unwanted => {}
        }
    }

    /// What came after the body may say how the request went.
    pub fn learn(&self, trailers: &HeaderMap) {
        if let Some(sign) = outcome::of_trailers(trailers) {
            self.in_flight.endpoint().observe(sign, &self.metrics);
        }
    }
}

/// Less than [`crate::listen::INBOUND_IDLE_TIMEOUT`]: the side that sends requests closes first, so
/// that no request meets a connection that is just being closed. Policies can have it shorter.
pub const IDLE_TIMEOUT_LIMIT: Duration = Duration::from_secs(110);
/// Idle HTTP/1 connections kept for one endpoint; more are closed after use. So many are in use at once
/// where callers have no limit, and each that is closed costs a handshake. The policy's limit on
/// connections holds for those that are idle, too.
pub const IDLE_LIMIT: usize = 1024;
/// Requests that a connection serves one after the other while some wait for another endpoint's.
const HANDOVER_LIMIT: u32 = 16;
/// Requests on one HTTP/2 connection before another is opened; below the peer's
/// [`crate::listen::HTTP2_STREAM_LIMIT`], for which the windows are made.
pub const STREAM_LIMIT: usize = 200;
/// Shared HTTP/2 connections to one endpoint, enough for
/// [`crate::listen::REQUESTS_PER_ENDPOINT`].
pub const SHARED_LIMIT: usize = 24;
const _: () = assert!(STREAM_LIMIT * SHARED_LIMIT >= crate::listen::REQUESTS_PER_ENDPOINT);
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);
