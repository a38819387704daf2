//! The taps that run here, and what proxies told for each. Bounded: so many taps, so many exchanges that wait to be read;
//! what there is no room for is counted, and nobody waits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use heddle_model::tap::TapRequest;
use heddle_proto::tap as wire;
use tokio::sync::{mpsc, watch};

use crate::metrics::Metrics;
use crate::snapshot::Contents;
use crate::tap::subject::{self, Part};
use crate::translate::pod::Pod;

/// The taps that run. Clones share them.
#[derive(Clone, Debug)]
pub struct Taps(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// How often they have changed.
    changed: watch::Sender<u64>,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    live: BTreeMap<u64, Arc<Live>>,
}

/// A tap that runs.
#[derive(Debug)]
pub struct Live {
    /// What is looked for.
    pub request: TapRequest,
    /// What may be told of; `None`: all.
    pub namespaces: Option<BTreeSet<String>>,
    exchanges: mpsc::Sender<wire::Exchange>,
    left_out: AtomicU64,
    looking: AtomicU32,
}

/// One that was begun, until it is dropped.
#[derive(Debug)]
pub struct Watched {
    /// What proxies tell.
    pub exchanges: mpsc::Receiver<wire::Exchange>,
    number: u64,
    live: Arc<Live>,
    taps: Taps,
}

/// A proxy looks for the requests of a tap, until this is dropped.
#[derive(Debug)]
pub struct Looking(Arc<Live>);

/// There are as many taps as may run.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{TAPS_LIMIT} taps run already, and no more may at once: end one, or try again later")]
pub struct TooMany;

impl Taps {
    /// None runs.
    pub fn new(metrics: Metrics) -> Self {
        let (changed, _) = watch::channel(0);
        Self(Arc::new(Shared { state: Mutex::default(), changed, metrics }))
    }

    /// Begins one.
    pub fn begin(
        &self,
        request: TapRequest,
        namespaces: Option<BTreeSet<String>>,
    ) -> Result<Watched, TooMany> {
        let (exchanges, receiver) = mpsc::channel(EXCHANGES_QUEUED);
        let live = Arc::new(Live {
            request,
            namespaces,
            exchanges,
            left_out: AtomicU64::new(0),
            looking: AtomicU32::new(0),
        });
        let mut state = self.lock();
        if state.live.len() >= TAPS_LIMIT {
            return Err(TooMany);
        }
        let number = state.next;
        state.next += 1;
        state.live.insert(number, Arc::clone(&live));
        drop(state);
        self.0.metrics.taps.inc();
        self.0.changed.send_modify(|times| *times += 1);
        Ok(Watched { exchanges: receiver, number, live, taps: self.clone() })
    }

    /// Tells when taps begin and end.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// What a pod's proxy is to look for.
    pub fn wanted(&self, pod: &Pod, contents: &Contents) -> BTreeMap<u64, (Arc<Live>, Part)> {
        let live = self.lock().live.clone();
        let wanted = live.into_iter().filter_map(|(number, live)| {
            let part = subject::part(&live.request, live.namespaces.as_ref(), pod, contents)?;
            Some((number, (live, part)))
        });
        wanted.collect()
    }

    /// Whether none runs.
    pub fn is_empty(&self) -> bool {
        self.lock().live.is_empty()
    }

    /// Passes on what a proxy told.
    pub fn tell(&self, live: &Live, exchanges: Vec<wire::Exchange>, left_out: u64) {
        let mut lost = left_out;
        for exchange in exchanges {
            match live.exchanges.try_send(exchange) {
                Ok(()) => {
                    self.0.metrics.tap_exchanges.inc();
                }
                Err(_) => lost = lost.saturating_add(1),
            }
        }
        self.0.metrics.tap_left_out.inc_by(lost);
        live.left_out.fetch_add(lost, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    /// A proxy has begun.
    pub fn look(self: &Arc<Self>) -> Looking {
        self.looking.fetch_add(1, Ordering::Relaxed);
        Looking(Arc::clone(self))
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        self.0.looking.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Watched {
    /// How it is.
    pub fn standing(&self) -> wire::Standing {
        wire::Standing {
            proxies: self.live.looking.load(Ordering::Relaxed),
            left_out: self.live.left_out.load(Ordering::Relaxed),
            namespaces: self.live.namespaces.iter().flatten().cloned().collect(),
            ..wire::Standing::default()
        }
    }

    /// What is asked.
    pub fn request(&self) -> &TapRequest {
        &self.live.request
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.taps.lock().live.remove(&self.number);
        self.taps.0.metrics.taps.dec();
        self.taps.0.changed.send_modify(|times| *times += 1);
    }
}

/// As many as a proxy looks for at once (proxy/src/tap.rs).
const TAPS_LIMIT: usize = 16;
/// Of one tap, waiting to be read: a second's worth of a few proxies. Each takes some kilobytes at most.
const EXCHANGES_QUEUED: usize = 512;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use heddle_model::tap::{Filter, Limits, Shown, Subject, Tap};

    use super::*;

    fn request() -> TapRequest {
        let limits = Limits { per_second: 1, lifetime: Duration::from_secs(1) };
        let (filter, shown) = (Filter::default(), Shown::default());
        TapRequest { subject: Subject::All, tap: Tap { filter, limits, shown, follow: None } }
    }

    #[test]
    fn as_many_taps_run_as_may() {
        let taps = Taps::new(Metrics::default());
        let mut running: Vec<Watched> =
            (0..TAPS_LIMIT).map(|_| taps.begin(request(), None).unwrap()).collect();
        assert_eq!(taps.begin(request(), None).err(), Some(TooMany));
        running.pop();
        let last = taps.begin(request(), None).unwrap();
        assert_eq!(last.number, u64::try_from(TAPS_LIMIT).unwrap(), "a number was used again");
        drop((running, last));
        assert!(taps.is_empty());
    }

    #[test]
    fn what_nobody_reads_is_counted_and_not_kept() {
        let taps = Taps::new(Metrics::default());
        let mut watched = taps.begin(request(), None).unwrap();
        let exchange = wire::Exchange::default;
        taps.tell(&watched.live, vec![exchange(); 3], 5);
        assert_eq!(watched.standing().left_out, 5);
        for _ in 0..2 {
            taps.tell(&watched.live, vec![exchange(); EXCHANGES_QUEUED], 0);
        }
        let kept = std::iter::from_fn(|| watched.exchanges.try_recv().ok()).count();
        let queued = u64::try_from(EXCHANGES_QUEUED).unwrap();
        assert_eq!((kept, watched.standing().left_out), (EXCHANGES_QUEUED, queued + 3 + 5));
        taps.tell(&watched.live, vec![exchange()], 0);
        assert!(watched.exchanges.try_recv().is_ok(), "there is room again");
    }

    #[test]
    fn proxies_that_look_are_counted_until_they_go() {
        let taps = Taps::new(Metrics::default());
        let watched = taps.begin(request(), None).unwrap();
        let looking = [watched.live.look(), watched.live.look()];
        assert_eq!(watched.standing().proxies, 2);
        drop(looking);
        assert_eq!(watched.standing().proxies, 0);
    }
}
