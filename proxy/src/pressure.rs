//! How near the process is to its memory limit, and whether it takes new connections. What is refused
//! or closed for it is in listen.rs and http/server.rs; where the numbers come from is in
//! pressure/memory.rs.

mod memory;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use heddle_runtime::tasks::Tasks;
use heddle_runtime::throttle::Throttle;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::metrics::{Direction, Metrics};
use crate::pressure::memory::Memory;

/// How near memory is to its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// There is room.
    Calm,
    /// No more connections than there were are taken.
    Full,
    /// Connections that are idle are closed besides.
    Critical,
}

/// What is known of memory at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Usage {
    used_bytes: u64,
    limit_bytes: u64,
}

impl Level {
    /// The level after it was `self`. One is left only well below where it was entered, so that
    /// connections are not refused and taken in turn.
    fn next(self, usage: Usage) -> Self {
        let Usage { used_bytes, limit_bytes } = usage;
        let is_over = |percent: u64| used_bytes >= limit_bytes / 100 * percent;
        let stays = |level: Self, percent: u64| self >= level && is_over(percent);
        if is_over(CRITICAL_PERCENT) || stays(Self::Critical, CRITICAL_UNTIL_PERCENT) {
            Self::Critical
        } else if is_over(FULL_PERCENT) || stays(Self::Full, FULL_UNTIL_PERCENT) {
            Self::Full
        } else {
            Self::Calm
        }
    }
}

/// The level of this process. Clones share it.
#[derive(Clone, Debug)]
pub struct Pressure {
    level: watch::Receiver<Level>,
    ceilings: Arc<Ceilings>,
}

/// How many connections may be open while it is not calm. Each direction has its own: a flood that
/// comes in takes no place from the workload's own calls.
#[derive(Debug, Default)]
struct Ceilings {
    inbound: AtomicUsize,
    outbound: AtomicUsize,
}

impl Ceilings {
    fn of(&self, direction: Direction) -> &AtomicUsize {
        match direction {
            Direction::Inbound => &self.inbound,
            Direction::Outbound => &self.outbound,
        }
    }
}

impl Pressure {
    /// Without a limit there is no pressure.
    pub fn none() -> Self {
        let (_level, receiver) = watch::channel(Level::Calm);
        Self { level: receiver, ceilings: Arc::default() }
    }

    /// Memory is short.
    #[cfg(test)]
    pub(crate) fn exhausted() -> Self {
        let (_level, receiver) = watch::channel(Level::Critical);
        Self { level: receiver, ceilings: Arc::default() }
    }

    /// Whether one more connection is taken while this many are open in its direction.
    ///
    /// Not by the level alone: memory that was given back to the allocator is not always given back
    /// to the system, and serves the next connection as well.
    pub fn admits(&self, direction: Direction, open: impl FnOnce() -> usize) -> bool {
        match *self.level.borrow() {
            Level::Calm => true,
            Level::Full | Level::Critical => {
                open() < self.ceilings.of(direction).load(Ordering::Relaxed)
            }
        }
    }

    /// Completes when connections that are idle should close; soon, if they should already: one that
    /// was let in has the time to be of use.
    ///
    /// Cancel safe.
    pub async fn critical(&self) {
        tokio::time::sleep(PRESSURE_PAUSE).await;
        let mut level = self.level.clone();
        let critical = level.wait_for(|level| *level == Level::Critical).await.is_ok();
        if !critical {
            std::future::pending::<()>().await;
        }
    }
}

/// Watches memory, in a task. `own_limit_bytes` is a limit besides the container's.
pub fn watch(own_limit_bytes: Option<u64>, metrics: Arc<Metrics>, tasks: &Tasks) -> Pressure {
    let (level, receiver) = watch::channel(Level::Calm);
    let ceilings = Arc::<Ceilings>::default();
    let pressure = Pressure { level: receiver, ceilings: Arc::clone(&ceilings) };
    let drain = tasks.drain().clone();
    tasks.spawn("pressure.watch", async move {
        let memory = Memory::of_this_process(own_limit_bytes);
        let warnings = Throttle::default();
        loop {
            match memory.usage() {
                Ok(usage) => judge(usage, &level, &ceilings, &metrics),
                Err(error) => {
                    if warnings.is_due() {
                        warn!(%error, "cannot tell how much memory is used");
                    }
                }
            }
            tokio::select! {
                () = drain.cancelled() => return,
                () = tokio::time::sleep(CHECK_INTERVAL) => {}
            }
        }
    });
    pressure
}

fn judge(
    usage: Option<Usage>,
    level: &watch::Sender<Level>,
    ceilings: &Ceilings,
    metrics: &Metrics,
) {
    let before = *level.borrow();
    let after = usage.map_or(Level::Calm, |usage| before.next(usage));
    if let Some(Usage { used_bytes, limit_bytes }) = usage {
        metrics.memory_used.set(i64::try_from(used_bytes).unwrap_or(i64::MAX));
        metrics.memory_limit.set(i64::try_from(limit_bytes).unwrap_or(i64::MAX));
    }
    if before == after {
        return;
    }
    if before < after {
        let [inbound, outbound] = [Direction::Inbound, Direction::Outbound].map(|direction| {
            let open = metrics.open.count(direction);
            ceilings.of(direction).store(allowed_at(open), Ordering::Relaxed);
            open
        });
        warn!(?after, inbound, outbound, ?usage, "memory is short");
    } else {
        info!(?after, ?usage, "memory is less short");
    }
    // Whoever waits for it has gone with the data path, if nobody does.
    let _ = level.send(after);
}

/// How many connections of a direction may be open when memory became short with this many open.
fn allowed_at(open: usize) -> usize {
    (open - open / 8).max(CONNECTIONS_ALWAYS)
}

/// Room for what is under way to grow, and for the time between two looks.
const FULL_PERCENT: u64 = 85;
const FULL_UNTIL_PERCENT: u64 = 75;
const CRITICAL_PERCENT: u64 = 95;
const CRITICAL_UNTIL_PERCENT: u64 = 85;
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// How long a connection that is new, or in use, is left alone.
const PRESSURE_PAUSE: Duration = Duration::from_secs(1);
/// If memory is short with fewer than these in one direction, it is not for the connections.
const CONNECTIONS_ALWAYS: usize = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(percent: u64) -> Usage {
        Usage { used_bytes: percent, limit_bytes: 100 }
    }

    #[test]
    fn levels_are_left_later_than_they_are_entered() {
        use Level::{Calm, Critical, Full};

        for (case, before, percent, expected) in [
            ("room", Calm, 84, Calm),
            ("full", Calm, 85, Full),
            ("still full", Full, 75, Full),
            ("room again", Full, 74, Calm),
            ("critical at once", Calm, 95, Critical),
            ("critical", Full, 95, Critical),
            ("still critical", Critical, 85, Critical),
            ("less", Critical, 84, Full),
            ("much less", Critical, 10, Calm),
            ("over the limit", Calm, 150, Critical),
        ] {
            assert_eq!(before.next(at(percent)), expected, "case: {case}");
        }
    }

    proptest! {
        #[test]
        fn more_memory_is_never_a_lower_level(before in 0..3_usize, low in 0..200_u64, more in 0..200_u64) {
            let before = [Level::Calm, Level::Full, Level::Critical][before];
            prop_assert!(before.next(at(low)) <= before.next(at(low + more)));
        }
    }

    #[test]
    fn while_memory_is_short_places_are_only_given_again() {
        let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
        let _inbound: Vec<_> =
            (0..800).map(|_number| metrics.open.begin(Direction::Inbound)).collect();
        let _outbound = metrics.open.begin(Direction::Outbound);
        let (level, receiver) = watch::channel(Level::Calm);
        let ceilings = Arc::<Ceilings>::default();
        let pressure = Pressure { level: receiver, ceilings: Arc::clone(&ceilings) };
        assert!(pressure.admits(Direction::Inbound, || 9000));
        judge(Some(at(90)), &level, &ceilings, &metrics);
        for (case, direction, open, expected) in [
            ("one too many", Direction::Inbound, 700, false),
            ("a place given again", Direction::Inbound, 699, true),
            ("the workload's own, beside the flood", Direction::Outbound, 1, true),
            ("the last of its own", Direction::Outbound, CONNECTIONS_ALWAYS - 1, true),
            ("too many of its own", Direction::Outbound, CONNECTIONS_ALWAYS, false),
        ] {
            assert_eq!(pressure.admits(direction, || open), expected, "case: {case}");
        }
    }

    #[tokio::test]
    async fn without_a_limit_there_is_no_pressure() {
        let pressure = Pressure::none();
        assert!(pressure.admits(Direction::Outbound, || usize::MAX));
        let critical = pressure.critical();
        assert!(tokio::time::timeout(Duration::from_millis(10), critical).await.is_err());
    }
}
