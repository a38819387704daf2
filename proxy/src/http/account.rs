//! What is measured of one request, from its head to the last byte of its response: recorded when it has
//! ended, and its sizes when both bodies have. Which series it is recorded in is in metrics/calls.rs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;

use crate::http::grpc::GrpcStatus;
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
    nothing: Arc<str>,
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
}

impl CallSource {
    /// Of a connection to `service`, which is empty inbound; `peer` is who is at its other end, if that
    /// is known.
    pub fn new(
        metrics: &Metrics,
        direction: Direction,
        service: Arc<str>,
        peer: Option<&str>,
    ) -> Self {
        let nothing: Arc<str> = "".into();
        let peer = peer.map_or_else(|| Arc::clone(&nothing), |peer| metrics.calls.peer(peer));
        let active = ActiveLabels { direction, service: Arc::clone(&service) };
        Self {
            table: metrics.calls.clone(),
            recent: RecentSeries::default(),
            active: metrics.active.lease(&active),
            direction,
            service,
            peer,
            nothing,
        }
    }

    fn series(&self, method: Method, ended: Ended<'_>) -> Arc<CallSeries> {
        let Ended { status, grpc_status, tls, error, backend, route } = ended;
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
}

impl Account {
    /// Its head is there.
    pub fn begin(source: &Arc<CallSource>, method: &http::Method) -> Arc<Self> {
        source.active.metric().inc();
        Arc::new(Self {
            source: Arc::clone(source),
            method: method.into(),
            begun: Instant::now(),
            took: OnceLock::new(),
            request_bytes: AtomicU64::new(0),
            response_bytes: AtomicU64::new(0),
            series: OnceLock::new(),
        })
    }

    /// The head of its response is there, or there will be none: that is how long it took.
    pub fn answered(&self) {
        let _ = self.took.set(self.begun.elapsed());
    }

    /// It is known how it ended. Only the first call counts.
    pub fn end(&self, ended: Ended<'_>) {
        let series = self.source.series(self.method, ended);
        if self.series.set(Arc::clone(&series)).is_ok() {
            series.durations.record_duration(*self.took.get_or_init(|| self.begun.elapsed()));
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.source.active.metric().dec();
        if let Some(series) = self.series.get() {
            series.request_sizes.record(*self.request_bytes.get_mut());
            series.response_sizes.record(*self.response_bytes.get_mut());
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
        let sum = match self {
            Self::Request(account) => &account.request_bytes,
            Self::Response(account) => &account.response_bytes,
        };
        sum.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}
