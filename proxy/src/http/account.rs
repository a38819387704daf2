//! What is measured of one request, from its head to the last byte of its response: recorded when it has
//! ended, and its sizes when both bodies have. Which series it is recorded in is in metrics/calls.rs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use heddle_runtime::clock;
use http::{HeaderMap, Request};
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;

use crate::balance::endpoint::BalancedEndpoint;
use crate::http::body::Body;
use crate::http::call_record::{CallEnd, CallHead, CallRecord, Notes};
use crate::http::grpc::GrpcStatus;
use crate::http::witness::{Asking, Interest, Interested, Witnesses};
use crate::metrics::calls::{CallKey, CallSeries, CallTable, RecentSeries};
use crate::metrics::leased::Series;
use crate::metrics::method::Method;
use crate::metrics::{ActiveLabels, Direction, Metrics, Protection};

/// What the requests of one connection have in common.
#[derive(Debug)]
pub struct CallSource {
    table: CallTable,
    recent: RecentSeries,
    active: Series<ActiveLabels, Gauge>,
    direction: Direction,
    service: Arc<str>,
    peer: Arc<str>,
    /// The peer's whole name: what a series has of it is bounded.
    caller: Arc<str>,
    nothing: Arc<str>,
    witnesses: Witnesses,
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended<'a> {
    /// The HTTP status.
    pub status: u16,
    /// If it was a call of gRPC.
    pub grpc_status: GrpcStatus,
    /// On the hop between proxies.
    pub tls: Protection,
    /// Why it failed in this proxy; empty if it did not.
    pub error: &'static str,
    /// What it was routed to, if it was.
    pub backend: Option<&'a Arc<str>>,
    /// The name of the route's object, if there was one.
    pub route: Option<&'a Arc<str>>,
    /// Who answered, or was asked last.
    pub endpoint: Option<&'a Arc<BalancedEndpoint>>,
}

impl Ended<'_> {
    fn to_end(self, nothing: &Arc<str>) -> CallEnd {
        CallEnd {
            status: self.status,
            grpc_status: self.grpc_status,
            tls: self.tls,
            error: self.error,
            backend: Arc::clone(self.backend.unwrap_or(nothing)),
            route: Arc::clone(self.route.unwrap_or(nothing)),
            endpoint: self.endpoint.map(Arc::clone),
        }
    }
}

impl CallSource {
    /// Of a connection to `service`, which is empty inbound; `peer` is who is at its other end, if that
    /// is known.
    pub fn new(
        (metrics, witnesses): (&Metrics, &Witnesses),
        direction: Direction,
        service: Arc<str>,
        peer: Option<&str>,
    ) -> Self {
        let nothing: Arc<str> = "".into();
        let caller = peer.map_or_else(|| Arc::clone(&nothing), Arc::from);
        let peer = peer.map_or_else(|| Arc::clone(&nothing), |peer| metrics.calls.peer(peer));
        let active = ActiveLabels { direction, service: Arc::clone(&service) };
        Self {
            table: metrics.calls.clone(),
            recent: RecentSeries::default(),
            active: metrics.active.lease(&active),
            direction,
            service,
            peer,
            caller,
            nothing,
            witnesses: witnesses.clone(),
        }
    }

    /// What is kept of a request beyond what is measured of each, if anybody wants to know of it.
    fn witnessed(&self, request: &mut Request<Body>) -> Option<Box<Witnessed>> {
        let asked =
            Asking { direction: self.direction, service: &self.service, caller: &self.caller };
        let (interest, interested) = self.witnesses.ask(request, &asked);
        if interest == Interest::Nothing {
            return None;
        }
        let notes = Notes::default();
        request.extensions_mut().insert(notes.clone());
        let (names, with_headers) = ((&self.service, &self.caller), interest == Interest::Headers);
        let head = CallHead::new(request, clock::now(), self.direction, names, with_headers);
        Some(Box::new(Witnessed {
            interested,
            head,
            notes,
            with_headers,
            response_headers: OnceLock::new(),
            end: OnceLock::new(),
            is_whole: AtomicBool::new(false),
        }))
    }

    fn series(&self, method: Method, ended: Ended<'_>) -> Arc<CallSeries> {
        let Ended { status, grpc_status, tls, error, backend, route, endpoint: _ } = ended;
        let key = CallKey {
            status,
            method,
            grpc_status,
            tls,
            error,
            direction: self.direction,
            service: &self.service,
            backend: backend.unwrap_or(&self.nothing),
            route: route.unwrap_or(&self.nothing),
            peer: &self.peer,
        };
        self.recent.series(&self.table, key)
    }
}

/// One request. It is under way until this is dropped: by its body and by its response's.
#[derive(Debug)]
pub struct Account {
    source: Arc<CallSource>,
    method: Method,
    begun: Instant,
    took: OnceLock<Duration>,
    request_bytes: AtomicU64,
    response_bytes: AtomicU64,
    series: OnceLock<Arc<CallSeries>>,
    witnessed: Option<Box<Witnessed>>,
}

/// What is kept of a request for those who want to know of it.
#[derive(Debug)]
struct Witnessed {
    interested: Interested,
    head: CallHead,
    notes: Notes,
    with_headers: bool,
    response_headers: OnceLock<HeaderMap>,
    end: OnceLock<CallEnd>,
    is_whole: AtomicBool,
}

impl Account {
    /// Its head is there.
    pub fn begin(source: &Arc<CallSource>, request: &mut Request<Body>) -> Arc<Self> {
        Self::begin_at(source, request, Instant::now())
    }

    /// The same, since `begun`.
    pub fn begin_at(
        source: &Arc<CallSource>,
        request: &mut Request<Body>,
        begun: Instant,
    ) -> Arc<Self> {
        let witnessed = source.witnessed(request);
        Self::new(source, request.method().into(), witnessed, begun)
    }

    /// The same of a request that nobody has to be asked about.
    pub fn begin_unseen(source: &Arc<CallSource>, method: Method, begun: Instant) -> Arc<Self> {
        Self::new(source, method, None, begun)
    }

    fn new(
        source: &Arc<CallSource>,
        method: Method,
        witnessed: Option<Box<Witnessed>>,
        begun: Instant,
    ) -> Arc<Self> {
        source.active.metric().inc();
        Arc::new(Self {
            source: Arc::clone(source),
            method,
            witnessed,
            begun,
            took: OnceLock::new(),
            request_bytes: AtomicU64::new(0),
            response_bytes: AtomicU64::new(0),
            series: OnceLock::new(),
        })
    }

    /// The head of its response is there, or there will be none: that is how long it took.
    pub fn answered(&self) {
        // A reading of the clock is not for nothing.
        self.took.get_or_init(|| self.begun.elapsed());
    }

    /// The same at a time that is known.
    pub fn answered_at(&self, now: Instant) {
        self.took.get_or_init(|| now.saturating_duration_since(self.begun));
    }

    /// It is known how it ended. Only the first call counts.
    pub fn end(&self, ended: Ended<'_>) {
        let series = self.source.series(self.method, ended);
        if self.series.set(Arc::clone(&series)).is_ok() {
            series.durations.record_duration(*self.took.get_or_init(|| self.begun.elapsed()));
            if let Some(witnessed) = &self.witnessed {
                let _ = witnessed.end.set(ended.to_end(&self.source.nothing));
            }
        }
    }

    /// This is what the client gets.
    pub fn answers(&self, headers: &HeaderMap) {
        if let Some(witnessed) = self.witnessed.as_ref().filter(|witnessed| witnessed.with_headers)
        {
            let _ = witnessed.response_headers.set(headers.clone());
        }
    }

    /// So much of its body has passed.
    pub fn add_request_bytes(&self, bytes: usize) {
        add(&self.request_bytes, bytes);
    }

    /// So much of the response's has passed.
    pub fn add_response_bytes(&self, bytes: usize) {
        add(&self.response_bytes, bytes);
    }

    /// The response is over, all of it has passed or not.
    pub fn left(&self, is_whole: bool) {
        if let Some(witnessed) = &self.witnessed {
            witnessed.is_whole.store(is_whole, Ordering::Relaxed);
        }
    }

    /// Whether somebody wants to know of the headers that the client gets.
    pub fn wants_headers(&self) -> bool {
        self.witnessed.as_ref().is_some_and(|witnessed| witnessed.with_headers)
    }

    /// Where it is noted how often it is sent, if anybody wants to know.
    pub fn notes(&self) -> Option<&Notes> {
        self.witnessed.as_ref().map(|witnessed| &witnessed.notes)
    }

    fn tell(&self, witnessed: &Witnessed) {
        let Some(end) = witnessed.end.get() else { return };
        let (attempts, answered_in) = witnessed.notes.read();
        let took = self.begun.elapsed();
        let record = CallRecord {
            head: &witnessed.head,
            end,
            took_to_head: self.took.get().map_or(took, |took| *took),
            took,
            answered_in,
            attempts,
            request_bytes: self.request_bytes.load(Ordering::Relaxed),
            response_bytes: self.response_bytes.load(Ordering::Relaxed),
            is_whole: witnessed.is_whole.load(Ordering::Relaxed),
            response_headers: witnessed.response_headers.get(),
        };
        self.source.witnesses.tell(witnessed.interested, &record);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.source.active.metric().dec();
        if let Some(series) = self.series.get() {
            series.request_sizes.record(*self.request_bytes.get_mut());
            series.response_sizes.record(*self.response_bytes.get_mut());
        }
        if let Some(witnessed) = &self.witnessed {
            self.tell(witnessed);
        }
    }
}

/// A body whose bytes are counted.
#[derive(Debug)]
pub enum Counted {
    /// A request's.
    Request(Arc<Account>),
    /// A response's.
    Response(Arc<Account>),
}

impl Counted {
    /// So many have passed.
    pub fn add(&self, bytes: usize) {
        match self {
            Self::Request(account) => account.add_request_bytes(bytes),
            Self::Response(account) => account.add_response_bytes(bytes),
        }
    }

    /// It goes, all of it has passed or not; which of it is only asked if anybody wants to know.
    pub fn left(&self, is_whole: impl FnOnce() -> bool) {
        if let Self::Response(account) = self
            && account.witnessed.is_some()
        {
            account.left(is_whole());
        }
    }
}

fn add(sum: &AtomicU64, bytes: usize) {
    sum.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
}
