//! Taps: requests that somebody looks at while they happen. The control plane says which are looked for
//! (`client.rs`), `filter.rs` finds them, `redact.rs` leaves out what is not to be seen, and `trace.rs` puts requests
//! into a trace that is followed. While nobody looks a request costs one atomic load. Nobody waits for whoever looks:
//! what is more than the rate, or than is taken, is counted and left out.

pub mod client;
pub mod exchange;
pub mod filter;
pub mod live;
pub mod metrics;
pub mod rate;
pub mod redact;
pub mod trace;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use heddle_model::tap::Tap;
use heddle_proto::tap as wire;
use http::Request;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::http::body::Body;
use crate::http::call_record::CallRecord;
use crate::http::witness::{Asking, Interest, Witness};
use crate::tap::live::{Live, Taken};
use crate::tap::metrics::TapMetrics;

/// The taps that this proxy looks for.
#[derive(Debug, Default)]
pub struct Taps {
    /// Whether there are any. Whoever reads this late looks at none, or finds none.
    is_tapped: AtomicBool,
    live: ArcSwap<Vec<Arc<Live>>>,
    metrics: TapMetrics,
}

/// Why a tap is not begun.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{TAPS_LIMIT} taps are looked for already")]
pub struct TooMany;

/// An exchange on its way to whoever asked for it: of which tap, and what.
pub type Telling = (u64, wire::Exchange);

impl Taps {
    /// None, counted there.
    pub fn new(metrics: TapMetrics) -> Self {
        Self { metrics, ..Self::default() }
    }

    /// Looks for requests from now on; one of the same number is replaced. What is found goes into `queue`, while there
    /// is room. One at a time: called by whoever holds the stream to the control plane.
    pub fn begin(
        &self,
        number: u64,
        (tap, marks): (Tap, bool),
        queue: mpsc::Sender<Telling>,
    ) -> Result<(), TooMany> {
        let mut live = Vec::clone(&self.live.load());
        live.retain(|one| one.number != number);
        if live.len() >= TAPS_LIMIT {
            return Err(TooMany);
        }
        live.push(Arc::new(Live::new(number, tap, marks, queue)));
        self.set(live);
        Ok(())
    }

    /// Looks for it no more.
    pub fn end(&self, number: u64) {
        let mut live = Vec::clone(&self.live.load());
        live.retain(|one| one.number != number);
        self.set(live);
    }

    /// Looks for nothing any more.
    pub fn clear(&self) {
        self.set(Vec::new());
    }

    /// Ends those whose time is over, and tells how much was left out of each since this was asked last, where it was
    /// anything.
    pub fn left_out(&self, now: Instant) -> Vec<(u64, u64)> {
        let live = self.live.load();
        if live.iter().any(|one| one.is_over(now)) {
            self.set(live.iter().filter(|one| !one.is_over(now)).map(Arc::clone).collect());
        }
        live.iter()
            .map(|one| (one.number, one.left_out.swap(0, Ordering::Relaxed)))
            .filter(|(_, left_out)| *left_out > 0)
            .collect()
    }

    fn set(&self, live: Vec<Arc<Live>>) {
        self.metrics.running(live.len());
        let any = !live.is_empty();
        self.live.store(Arc::new(live));
        self.is_tapped.store(any, Ordering::Release);
    }
}

impl Witness for Taps {
    fn wants(&self, request: &mut Request<Body>, asked: &Asking<'_>) -> Interest {
        if !self.is_tapped.load(Ordering::Relaxed) {
            return Interest::Nothing;
        }
        let now = Instant::now();
        let live = self.live.load();
        let wishes = live.iter().map(|one| one.wants(request, asked, now));
        wishes.max().unwrap_or_default()
    }

    fn may_want(&self) -> bool {
        self.is_tapped.load(Ordering::Relaxed)
    }

    fn tell(&self, record: &CallRecord<'_>) {
        let now = Instant::now();
        for one in self.live.load().iter() {
            match one.take(record, now) {
                Some(Taken::Told) => self.metrics.told.inc(),
                Some(Taken::LeftOut) => self.metrics.left_out.inc(),
                None => 0,
            };
        }
    }
}

/// At once, so that each request is held against a bounded number.
pub const TAPS_LIMIT: usize = 16;

#[cfg(test)]
mod tests;
