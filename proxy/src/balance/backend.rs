//! What all endpoints of one backend share: its policy, what of it is in use, and who of them is left
//! out. The endpoints themselves are in set.rs.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use heddle_model::policy::BackendPolicy;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;

use crate::balance::budget::RetryBudget;
use crate::balance::ejection::Bench;
use crate::balance::queue::{Queue, Slots};
use crate::metrics::leased::{HeldSeries, Series};
use crate::metrics::{BackendLabels, EjectionLabels, EjectionReason, Metrics};

/// Shared by a balancer and its endpoints; outlives every change of either.
pub struct BackendState {
    /// The backend's name in logs and metrics.
    pub label: Arc<str>,
    /// Requests under way.
    pub requests: Arc<Slots>,
    /// Connections open.
    pub connections: Arc<Slots>,
    /// Requests and connections that wait.
    pub queue: Queue,
    /// Those of them that wait for a connection.
    pub connections_wanted: Queue,
    /// How many requests may be repeated.
    pub budget: RetryBudget,
    policy: ArcSwap<BackendPolicy>,
    born: Instant,
    bench: Mutex<Bench>,
    /// Since `born`: until then it is worth looking which endpoints are healthy.
    troubled_until: AtomicU64,
    ejections: HeldSeries<EjectionLabels, Counter>,
    ejected: OnceLock<Series<BackendLabels, Gauge>>,
}

impl BackendState {
    /// With the default policy.
    pub fn new(label: Arc<str>) -> Arc<Self> {
        let policy = BackendPolicy::default();
        Arc::new(Self {
            label,
            requests: Slots::new(size(policy.limits.requests)),
            connections: Slots::new(size(policy.limits.connections)),
            queue: Queue::default(),
            connections_wanted: Queue::default(),
            budget: RetryBudget::default(),
            policy: ArcSwap::from_pointee(policy),
            born: Instant::now(),
            bench: Mutex::default(),
            troubled_until: AtomicU64::new(0),
            ejections: HeldSeries::default(),
            ejected: OnceLock::new(),
        })
    }

    /// How the endpoints are used.
    pub fn policy(&self) -> arc_swap::Guard<Arc<BackendPolicy>> {
        self.policy.load()
    }

    /// Replaces the policy. What is in use stays so.
    pub fn set_policy(&self, policy: Arc<BackendPolicy>) {
        self.requests.resize(size(policy.limits.requests));
        self.connections.resize(size(policy.limits.connections));
        self.policy.store(policy);
    }

    /// Time on the clock of everything here.
    pub fn since_born(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.born)
    }

    /// The endpoints have changed; `is_kept` are those that are the same as before.
    pub fn set_endpoints(&self, total: usize, is_kept: impl Fn(SocketAddr) -> bool) {
        self.bench.lock().set_endpoints(total, is_kept);
        self.show_ejected();
    }

    /// Leaves one endpoint out, unless too many are.
    pub fn admit_ejection(&self, address: SocketAddr, (now, until): (Instant, Instant)) -> bool {
        let maximum_percent = self.policy().ejection.maximum_percent;
        self.bench.lock().admit(address, (now, until), maximum_percent)
    }

    /// Counts an ejection.
    pub fn count_ejection(&self, metrics: &Metrics, reason: EjectionReason) {
        let backend = || Arc::clone(&self.label);
        self.ejections
            .metric(
                &metrics.ejections,
                |labels| labels.reason == reason,
                || EjectionLabels { backend: backend(), reason },
            )
            .inc();
        self.ejected.get_or_init(|| metrics.ejected.lease(&BackendLabels { backend: backend() }));
        self.show_ejected();
    }

    /// Who is left out by now.
    pub fn show_ejected(&self) {
        if let Some(ejected) = self.ejected.get() {
            let count = self.bench.lock().len(Instant::now());
            ejected.metric().set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// An endpoint is not healthy until then, or until it shows otherwise.
    pub fn set_troubled(&self, until: Instant) {
        let until = nanoseconds(self.since_born(until));
        self.troubled_until.fetch_max(until, Ordering::Relaxed);
    }

    /// Whether an endpoint may be unhealthy.
    pub fn is_troubled(&self, now: Instant) -> bool {
        nanoseconds(self.since_born(now)) < self.troubled_until.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for BackendState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendState").field("label", &self.label).finish_non_exhaustive()
    }
}

/// A time as one word.
pub fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn size(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}
