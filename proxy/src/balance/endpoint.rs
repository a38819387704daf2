//! One endpoint of a backend, with what is kept for it: its load, how fast it answers, whether it
//! fails, its pool. Which one is picked is in set.rs.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use heddle_model::endpoint::{Endpoint, ExpectedPeer};
use heddle_model::policy::Balance;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::time::Instant;
use tracing::info;

use crate::balance::backend::{BackendState, nanoseconds};
use crate::balance::callers::CallerPlace;
use crate::balance::ejection::{Record, Sign};
use crate::balance::ewma::Latency;
use crate::balance::hash::hash;
use crate::balance::queue::Slot;
use crate::balance::slow_start;
use crate::http::pool::{IDLE_TIMEOUT_LIMIT, Pool};
use crate::metrics::leased::HeldSeries;
use crate::metrics::{Direction, EjectionReason, Metrics, RequestLabels, RequestOutcome};

/// One endpoint of one backend.
pub struct BalancedEndpoint {
    /// Where it is and who must answer there.
    pub endpoint: Arc<Endpoint>,
    /// Connections to it that can be used again.
    pub pool: Pool,
    backend: Arc<BackendState>,
    pod: Arc<str>,
    number: u64,
    in_flight: AtomicUsize,
    latency: Latency,
    /// Times are on the backend's clock; zero: never.
    warm_from: AtomicU64,
    failing_until: AtomicU64,
    ejected_until: AtomicU64,
    on_probation: AtomicBool,
    /// Good signs change nothing.
    is_spotless: AtomicBool,
    record: Mutex<Record>,
    unreachable_at: Mutex<Option<Instant>>,
    requests: HeldSeries<RequestLabels, Counter>,
}

/// Whether an endpoint is picked; the better first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Nothing speaks against it.
    Good,
    /// It failed a moment ago, or has yet to show that it works again: others are preferred.
    Avoided,
    /// It is left out.
    Ejected,
}

impl BalancedEndpoint {
    /// `warms_up`: it gets its full share only after some time, if the policy has it.
    pub fn new(endpoint: Arc<Endpoint>, backend: Arc<BackendState>, warms_up: bool) -> Arc<Self> {
        let since = nanoseconds(backend.since_born(Instant::now())).max(1);
        Arc::new(Self {
            pod: endpoint.pod.as_str().into(),
            number: number(&endpoint),
            endpoint,
            pool: Pool::default(),
            backend,
            in_flight: AtomicUsize::new(0),
            latency: Latency::default(),
            warm_from: AtomicU64::new(if warms_up { since } else { 0 }),
            failing_until: AtomicU64::new(0),
            ejected_until: AtomicU64::new(0),
            on_probation: AtomicBool::new(false),
            is_spotless: AtomicBool::new(true),
            record: Mutex::default(),
            unreachable_at: Mutex::new(None),
            requests: HeldSeries::default(),
        })
    }

    /// What it shares with the backend's other endpoints.
    pub fn backend(&self) -> &Arc<BackendState> {
        &self.backend
    }

    /// Names the pod's port, without telling where it is. The same in every proxy.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// How long a connection to it is kept without a request.
    pub fn idle_timeout(&self) -> Duration {
        self.backend.policy().keep_alive.idle_timeout.min(IDLE_TIMEOUT_LIMIT)
    }

    /// Takes on one more request or connection, which holds `slot`; `None` if it has `limit`.
    pub fn begin(self: &Arc<Self>, slot: Slot, limit: usize) -> Option<InFlight> {
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let in_flight = InFlight { endpoint: Arc::clone(self), _slot: slot, place: None };
        (before < limit).then_some(in_flight)
    }

    /// Requests and connections that it has.
    pub fn load(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// A request that was sent then is answered, or was waited for until now.
    pub fn observe_latency(&self, sent_at: Instant) {
        self.observe_latency_until(sent_at, Instant::now());
    }

    /// The same until `now`.
    pub fn observe_latency_until(&self, sent_at: Instant, now: Instant) {
        let decay = match self.backend.policy().balance {
            Balance::PeakEwma { decay } => decay,
            Balance::RoundRobin | Balance::Random | Balance::ConsistentHash(_) => return,
        };
        let took = now.saturating_duration_since(sent_at);
        self.latency.observe(took, self.backend.since_born(now), decay);
    }

    /// What a request more would cost here, by load and latency. One that has answered nothing yet
    /// is tried at once, by one request; what it is taken for then is Linkerd's default.
    pub fn latency_cost(&self, now: Instant, decay: Duration) -> f64 {
        let load = self.load_cost();
        match self.latency.estimate(self.backend.since_born(now), decay, load > 0.0) {
            Some(seconds) => seconds * (load + 1.0),
            None if load == 0.0 => 0.0,
            None => UNKNOWN_LATENCY.as_secs_f64() * (load + 1.0),
        }
    }

    /// What one more would cost here, by load only.
    pub fn load_cost(&self) -> f64 {
        f64::from(u32::try_from(self.load()).unwrap_or(u32::MAX))
    }

    /// Its part of a full share.
    pub fn weight(&self, now: Instant, slow_start: Option<Duration>) -> f64 {
        let (Some(window), from) = (slow_start, self.warm_from.load(Ordering::Relaxed)) else {
            return 1.0;
        };
        if from == 0 {
            return 1.0;
        }
        let age = self.backend.since_born(now).saturating_sub(Duration::from_nanos(from));
        slow_start::weight(age, window)
    }

    /// Something happened that tells of its health. Ejects it if that is too much; logs that.
    pub fn observe(&self, sign: Sign, metrics: &Metrics) {
        let is_good = match sign {
            Sign::GoodResponse | Sign::GoodConnection => true,
            Sign::BadResponse | Sign::BadConnection => false,
        };
        if is_good && self.is_spotless.load(Ordering::Relaxed) {
            return;
        }
        let now = Instant::now();
        // What fails that began before it was ejected tells nothing new.
        if self.ejected_until.load(Ordering::Relaxed) > self.clock(now) {
            return;
        }
        let rules = self.backend.policy().ejection;
        let mut record = self.record.lock();
        if let Some(cause) = record.note(sign, &rules) {
            let until = record.sentence(&rules, now);
            if self.backend.admit_ejection(self.endpoint.address, (now, until)) {
                record.eject(until, now);
                self.ejected_until.store(self.clock(until).max(1), Ordering::Relaxed);
                self.backend.set_troubled(until);
                let reason = EjectionReason::from(cause);
                self.backend.count_ejection(metrics, reason);
                info!(
                    backend = %self.backend.label,
                    pod = %self.pod,
                    reason = reason.as_str(),
                    seconds = until.duration_since(now).as_secs(),
                    "endpoint ejected"
                );
            }
        }
        self.show(&record);
    }

    /// A connection to it could not be made, or was lost while it was new.
    pub fn connection_failed(&self, metrics: &Metrics) {
        self.mark_failing();
        self.observe(Sign::BadConnection, metrics);
    }

    /// There is reason to think that it does not work: for a short time others are preferred.
    pub fn mark_failing(&self) {
        let until = Instant::now() + FAILING_FOR;
        self.failing_until.store(self.clock(until), Ordering::Relaxed);
        self.backend.set_troubled(until);
    }

    /// It could not be connected to.
    pub fn mark_unreachable(&self) {
        self.mark_failing();
        self.fail_waiting();
    }

    /// Whoever waits for the same connection has failed, too.
    pub fn fail_waiting(&self) {
        *self.unreachable_at.lock() = Some(Instant::now());
    }

    /// Whether it could not be connected to since `instant`.
    pub fn was_unreachable_since(&self, instant: Instant) -> bool {
        self.unreachable_at.lock().is_some_and(|failed| failed >= instant)
    }

    /// Whether it is to be picked. Ends an ejection whose time is over.
    pub fn standing(&self, now: Instant) -> Standing {
        let clock = self.clock(now);
        let ejected_until = self.ejected_until.load(Ordering::Relaxed);
        if ejected_until > clock {
            return Standing::Ejected;
        }
        if ejected_until != 0 {
            self.come_back(ejected_until, clock);
        }
        let is_failing = self.failing_until.load(Ordering::Relaxed) > clock;
        let is_tested = self.on_probation.load(Ordering::Relaxed) && self.load() > 0;
        if is_failing || is_tested { Standing::Avoided } else { Standing::Good }
    }

    fn come_back(&self, ejected_until: u64, clock: u64) {
        let mut record = self.record.lock();
        let ended = self.ejected_until.compare_exchange(
            ejected_until,
            0,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        if ended.is_ok() {
            record.return_on_probation();
            self.warm_from.store(clock.max(1), Ordering::Relaxed);
            self.show(&record);
            self.backend.show_ejected();
            info!(backend = %self.backend.label, pod = %self.pod, "endpoint is back on probation");
        }
    }

    /// For those who do not wait for the lock.
    fn show(&self, record: &Record) {
        self.on_probation.store(record.is_on_probation(), Ordering::Relaxed);
        self.is_spotless.store(record.is_spotless(), Ordering::Relaxed);
    }

    fn clock(&self, instant: Instant) -> u64 {
        nanoseconds(self.backend.since_born(instant))
    }

    /// Counts a request that was answered by this endpoint.
    pub fn count_request(
        &self,
        metrics: &Metrics,
        direction: Direction,
        service: &Arc<str>,
        outcome: RequestOutcome,
    ) {
        let RequestOutcome { status, grpc_status, tls } = outcome;
        let is_it = |labels: &RequestLabels| {
            labels.status == status
                && labels.grpc_status == grpc_status
                && labels.service == *service
                && labels.direction == direction
                && labels.tls == tls
        };
        let make = || RequestLabels {
            direction,
            service: Arc::clone(service),
            backend: Arc::clone(&self.backend.label),
            backend_pod: Arc::clone(&self.pod),
            status,
            grpc_status,
            tls,
        };
        self.requests.metric(&metrics.requests, is_it, make).inc();
    }
}

/// A pod's UID tells nothing, and is never used again. Without one there are only name and address.
fn number(endpoint: &Endpoint) -> u64 {
    let Endpoint { address, peer, pod, .. } = endpoint;
    match peer {
        ExpectedPeer::Mesh { pod_uid, .. } => {
            hash(format!("{}:{}", pod_uid.as_str(), address.port()).as_bytes())
        }
        ExpectedPeer::Plaintext => hash(format!("{address} {pod}").as_bytes()),
    }
}

impl fmt::Debug for BalancedEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BalancedEndpoint").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// One request or connection that an endpoint has; its load until it is dropped.
#[derive(Debug)]
pub struct InFlight {
    endpoint: Arc<BalancedEndpoint>,
    /// Of what the whole backend may have.
    _slot: Slot,
    /// Of what its caller may have.
    place: Option<CallerPlace>,
}

impl InFlight {
    /// Whose load it is.
    pub fn endpoint(&self) -> &Arc<BalancedEndpoint> {
        &self.endpoint
    }

    /// Holds its caller's place besides.
    pub fn with_place(mut self, place: Option<CallerPlace>) -> Self {
        self.place = place;
        self
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.endpoint.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Long enough that a burst goes elsewhere, short enough that an endpoint which stays dead is tried
/// often enough to be ejected within seconds.
pub const FAILING_FOR: Duration = Duration::from_millis(500);
/// Linkerd's default (`linkerd-proxy-balance`).
const UNKNOWN_LATENCY: Duration = Duration::from_millis(30);
