//! Which exchanges count, and what is kept of them.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::time::Instant;

use super::plan::Extent;

/// A part of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Caches fill, pools connect.
    Warm,
    /// What ends now counts.
    Measured,
    /// No new exchange begins.
    Over,
}

/// The time in which exchanges count, and how many may still begin.
#[derive(Debug)]
pub struct Window {
    phase: AtomicU8,
    left: AtomicU64,
    warm: AtomicU64,
}

impl Window {
    /// One that is not yet open; or, for a number of requests, open until they are used up.
    pub fn new(extent: Extent) -> Self {
        let (phase, left) = match extent {
            Extent::Time { .. } => (WARM, u64::MAX),
            Extent::Requests(number) => (MEASURED, number),
        };
        Self { phase: AtomicU8::new(phase), left: AtomicU64::new(left), warm: AtomicU64::new(0) }
    }

    /// Goes on to a phase.
    pub fn enter(&self, phase: Phase) {
        let value = match phase {
            Phase::Warm => WARM,
            Phase::Measured => MEASURED,
            Phase::Over => OVER,
        };
        self.phase.store(value, Ordering::Relaxed);
    }

    /// Which it is now.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            WARM => Phase::Warm,
            MEASURED => Phase::Measured,
            _over => Phase::Over,
        }
    }

    /// Another worker has done its first exchange.
    pub fn count_warm(&self) {
        self.warm.fetch_add(1, Ordering::Relaxed);
    }

    /// How many have.
    pub fn warm(&self) -> u64 {
        self.warm.load(Ordering::Relaxed)
    }

    /// Takes one of the exchanges that are left, if there is one and it is not over.
    pub fn may_begin(&self) -> bool {
        let take = |left: u64| left.checked_sub(1);
        self.phase() != Phase::Over
            && self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

/// What one worker has done.
#[derive(Debug, Default)]
pub struct Recorder {
    /// All that ended well.
    pub completed: u64,
    /// All that did not.
    pub failed: u64,
    /// Why.
    pub first_failure: Option<String>,
    /// Those that ended well while it counted.
    pub measured: u64,
    /// Their bytes.
    pub measured_bytes: u64,
    /// How long they took in nanoseconds; more than four seconds count as that. Exact rather than in buckets: a load of
    /// three seconds has not even a million.
    pub latencies: Vec<u32>,
}

impl Recorder {
    /// Notes the end of an exchange.
    pub fn note(&mut self, phase: Phase, began: Instant, bytes: Result<u64>) {
        match bytes {
            Err(error) => {
                self.failed += 1;
                self.first_failure.get_or_insert_with(|| format!("{error:#}"));
            }
            Ok(bytes) => {
                self.completed += 1;
                if phase == Phase::Measured {
                    self.measured += 1;
                    self.measured_bytes += bytes;
                    self.keep(began.elapsed());
                }
            }
        }
    }

    /// Takes over what another one has noted.
    pub fn add(&mut self, other: Self) {
        self.completed += other.completed;
        self.failed += other.failed;
        self.measured += other.measured;
        self.measured_bytes += other.measured_bytes;
        self.latencies.extend(other.latencies);
        if self.first_failure.is_none() {
            self.first_failure = other.first_failure;
        }
    }

    fn keep(&mut self, latency: Duration) {
        if self.latencies.len() < LATENCIES_LIMIT {
            self.latencies.push(u32::try_from(latency.as_nanos()).unwrap_or(u32::MAX));
        }
    }
}

const WARM: u8 = 0;
const MEASURED: u8 = 1;
const OVER: u8 = 2;
/// Of one worker; a hundred seconds of the fastest.
const LATENCIES_LIMIT: usize = 10_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_may_begin() {
        let window = Window::new(Extent::Requests(2));
        assert_eq!([(); 4].map(|()| window.may_begin()), [true, true, false, false]);
    }

    #[test]
    fn only_what_ends_in_the_window_counts() {
        let second = Duration::from_secs(1);
        let window = Window::new(Extent::Time { warm: second, measured: second });
        let mut recorder = Recorder::default();
        let mut note = |bytes| recorder.note(window.phase(), Instant::now(), bytes);
        note(Ok(1));
        window.enter(Phase::Measured);
        note(Ok(10));
        note(Err(anyhow::anyhow!("broken")));
        window.enter(Phase::Over);
        note(Ok(100));
        assert!(!window.may_begin());
        let counted = (recorder.completed, recorder.measured, recorder.measured_bytes);
        assert_eq!((counted, recorder.failed), ((3, 1, 10), 1));
        assert_eq!(recorder.first_failure.as_deref(), Some("broken"));
    }
}
