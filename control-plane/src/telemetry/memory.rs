//! What all proxies of this control plane told in the last hour, within a bound: when it is reached, the oldest goes,
//! and when nothing old is left, new series are refused.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use heddle_model::identity::PodUid;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::metrics::Metrics;
use crate::telemetry::labels::Texts;
use crate::telemetry::point::{Point, Refusal};
use crate::telemetry::proxy::{Moment, Origin, ProxyMemory};
use crate::telemetry::series::{CHUNK_STEPS, STEPS, Step};

/// The memory. Clones share it.
#[derive(Clone, Debug)]
pub struct Memory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    proxies: Mutex<HashMap<PodUid, Entry>>,
    texts: Texts,
    limit_bytes: usize,
    used_bytes: AtomicUsize,
    /// Nothing before this step is kept.
    floor: AtomicU32,
    metrics: Metrics,
}

#[derive(Clone, Debug)]
struct Entry {
    proxy: Arc<Mutex<ProxyMemory>>,
    used_bytes: Arc<AtomicUsize>,
}

impl Memory {
    /// An empty one.
    pub fn new(now: SystemTime, limit_bytes: usize, metrics: Metrics) -> Self {
        Self(Arc::new(Inner {
            proxies: Mutex::default(),
            texts: Texts::default(),
            limit_bytes,
            used_bytes: AtomicUsize::new(0),
            floor: AtomicU32::new(Step::at(now).0),
            metrics,
        }))
    }

    /// Takes what a proxy told. Points that are not kept are told, each with its reason.
    pub fn take(&self, origin: Origin, points: Vec<Point>, now: SystemTime) -> Vec<Refusal> {
        let Some(entry) = self.entry(origin.clone()) else {
            return vec![Refusal::TooManyProxies; points.len()];
        };
        let moment = Moment {
            now: now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
            step: Step::at(now),
            has_room: self.used_bytes() < self.0.limit_bytes,
            texts: &self.0.texts,
        };
        let refused = {
            let mut proxy = lock(&entry.proxy);
            proxy.origin = origin;
            let refused = proxy.take(points, moment);
            self.account(&entry, &proxy);
            refused
        };
        if self.used_bytes() > self.0.limit_bytes {
            self.shorten(now);
        }
        refused
    }

    fn entry(&self, origin: Origin) -> Option<Entry> {
        let mut proxies = self.lock();
        if let Some(known) = proxies.get(&origin.pod_uid) {
            return Some(known.clone());
        }
        if proxies.len() >= PROXIES_LIMIT {
            return None;
        }
        let uid = origin.pod_uid.clone();
        let entry = Entry {
            proxy: Arc::new(Mutex::new(ProxyMemory::new(origin))),
            used_bytes: Arc::default(),
        };
        proxies.insert(uid, entry.clone());
        Some(entry)
    }

    /// All proxies that told something, in no order.
    pub fn proxies(&self) -> Vec<Arc<Mutex<ProxyMemory>>> {
        self.lock().values().map(|entry| Arc::clone(&entry.proxy)).collect()
    }

    /// The step that the memory reaches back to.
    pub fn floor(&self) -> Step {
        Step(self.0.floor.load(Ordering::Relaxed))
    }

    /// What it takes, about.
    pub fn used_bytes(&self) -> usize {
        self.0.used_bytes.load(Ordering::Relaxed)
    }

    /// Drops what is older than an hour, until the drain.
    pub async fn sweep(self, drain: CancellationToken, now: fn() -> SystemTime) {
        let mut due = tokio::time::interval(SWEEP_INTERVAL);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = drain.cancelled() => return,
                _ = due.tick() => self.forget(now()),
            }
        }
    }

    /// Drops what is older than an hour, and proxies of which nothing is left.
    pub fn forget(&self, now: SystemTime) {
        self.forget_before(Step::at(now).before(STEPS), now);
        let mut proxies = self.lock();
        proxies.retain(|_, entry| {
            // Nobody is about to add to it.
            let is_free = Arc::strong_count(&entry.proxy) == 1;
            let gone = is_free && lock(&entry.proxy).is_empty();
            if gone {
                let used = entry.used_bytes.load(Ordering::Relaxed);
                self.0.used_bytes.fetch_sub(used, Ordering::Relaxed);
            }
            !gone
        });
        proxies.shrink_to_fit();
        drop(proxies);
        self.0.texts.forget_unused();
        let series: usize = self.proxies().iter().map(|proxy| lock(proxy).series_count()).sum();
        let metrics = &self.0.metrics;
        metrics.telemetry_series.set(i64::try_from(series).unwrap_or(i64::MAX));
        metrics.telemetry_bytes.set(i64::try_from(self.used_bytes()).unwrap_or(i64::MAX));
    }

    /// Drops the oldest until there is room again. What was dropped is not asked about any more: see [`Self::floor`].
    fn shorten(&self, now: SystemTime) {
        let newest = Step::at(now);
        let mut floor = self.floor().max(newest.before(STEPS));
        if floor >= newest {
            return;
        }
        while self.used_bytes() > self.0.limit_bytes / 100 * SHORTENED_TO_PERCENT && floor < newest
        {
            floor = Step(floor.0.saturating_add(CHUNK_STEPS)).min(newest);
            self.forget_before(floor, now);
        }
        self.0.metrics.telemetry_shortened.inc();
        let reaches_seconds = newest.0.saturating_sub(floor.0).saturating_mul(10);
        warn!(reaches_seconds, "the memory of traffic is full and reaches back less than an hour");
    }

    fn forget_before(&self, step: Step, now: SystemTime) {
        self.0.floor.fetch_max(step.0, Ordering::Relaxed);
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let entries: Vec<Entry> = self.lock().values().cloned().collect();
        for entry in entries {
            let mut proxy = lock(&entry.proxy);
            proxy.forget_before(step, now);
            self.account(&entry, &proxy);
        }
    }

    /// While the proxy is locked.
    fn account(&self, entry: &Entry, proxy: &ProxyMemory) {
        let used = proxy.bytes();
        let before = entry.used_bytes.swap(used, Ordering::Relaxed);
        self.0.used_bytes.fetch_add(used, Ordering::Relaxed);
        self.0.used_bytes.fetch_sub(before, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PodUid, Entry>> {
        self.0.proxies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For a moment; never held across an await.
pub fn lock(proxy: &Mutex<ProxyMemory>) -> MutexGuard<'_, ProxyMemory> {
    proxy.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What all of it may take, about: a third of what the chart gives the control plane. A thousand workloads with ten
/// busy series each have room in it for their hour; see docs/stat.md.
pub const LIMIT_BYTES: usize = 160 << 20;
/// As many as one control plane serves.
const PROXIES_LIMIT: usize = 10_000;
/// So that not every export makes room for itself alone.
const SHORTENED_TO_PERCENT: usize = 90;
/// How long what is too old may stay.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
