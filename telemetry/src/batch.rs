//! Tells a collector of records that are told once: spans, records of a log. They wait in a queue of
//! bounded number and size, and go in batches; a batch that is not taken is tried again for a while.
//! Whoever has a record never waits: it is dropped, and counted, if there is no room.

mod again;
pub mod record;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use heddle_runtime::backoff::Backoff;
use heddle_runtime::logging::Chain;
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::batch::again::{Again, again};
use crate::batch::record::{Record, Teller};
use crate::collector::{Collector, SendError};
use crate::exporter::{Outcome, PART_LIMIT_BYTES, WARN_INTERVAL};
use crate::settings::batch::BatchSettings;

/// What became of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// A batch was sent once.
    Export(Outcome),
    /// So many are lost.
    Dropped(DropReason, u64),
}

/// Why records are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// Too many waited.
    QueueFull,
    /// The collector did not take them in time, or refused them, or the process ended before.
    NotTaken,
    /// The collector took others of their batch.
    Rejected,
}

impl DropReason {
    /// The word for it in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::NotTaken => "not_taken",
            Self::Rejected => "rejected",
        }
    }
}

/// Is told of what became of records.
pub type Tell = Arc<dyn Fn(Told) + Send + Sync>;

/// Where records wait. Clones share it.
#[derive(Clone)]
pub struct Queue<R> {
    sender: mpsc::Sender<Waiting<R>>,
    bytes: Arc<AtomicUsize>,
    tell: Tell,
}

/// The other end of a queue.
pub struct Batches<R> {
    settings: BatchSettings,
    receiver: mpsc::Receiver<Waiting<R>>,
    bytes: Arc<AtomicUsize>,
    tell: Tell,
    /// It had no room in the batch before.
    carried: Option<Waiting<R>>,
    /// How many are being sent.
    under_way: usize,
    warned_at: Option<Instant>,
}

struct Waiting<R> {
    record: R,
    length_bytes: usize,
}

/// A queue, and what empties it.
pub fn queue<R: Record>(settings: BatchSettings, tell: Tell) -> (Queue<R>, Batches<R>) {
    let (sender, receiver) = mpsc::channel(settings.queue_limit);
    let bytes = Arc::new(AtomicUsize::new(0));
    let queue = Queue { sender, bytes: Arc::clone(&bytes), tell: Arc::clone(&tell) };
    let batches =
        Batches { settings, receiver, bytes, tell, carried: None, under_way: 0, warned_at: None };
    (queue, batches)
}

impl<R> fmt::Debug for Queue<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let room = self.sender.capacity();
        f.debug_struct("Queue").field("room", &room).finish_non_exhaustive()
    }
}

impl<R: Record> Queue<R> {
    /// Takes a record, which is made only if there is room; never waits. False: it is dropped, and that
    /// is told.
    pub fn offer(&self, make: impl FnOnce() -> R) -> bool {
        let is_taken = self.try_offer(make).is_some();
        if !is_taken {
            (self.tell)(Told::Dropped(DropReason::QueueFull, 1));
        }
        is_taken
    }

    fn try_offer(&self, make: impl FnOnce() -> R) -> Option<()> {
        let place = self.sender.try_reserve().ok()?;
        if self.bytes.load(Ordering::Relaxed) >= QUEUE_LIMIT_BYTES {
            return None;
        }
        let record = make();
        let length_bytes = record.encoded_len();
        self.bytes.fetch_add(length_bytes, Ordering::Relaxed);
        place.send(Waiting { record, length_bytes });
        Some(())
    }
}

impl<R: Record> Batches<R> {
    /// Sends what waits until drained, and then what still waits, for a moment.
    pub async fn run(
        mut self,
        collector: Collector,
        teller: impl Fn() -> Teller + Send + Sync,
        drain: CancellationToken,
    ) {
        tokio::select! {
            () = self.send_all(&collector, &teller, &drain) => {}
            () = last_call(&drain) => {}
        }
        let left = self.under_way + self.receiver.len() + usize::from(self.carried.is_some());
        if left > 0 {
            self.lost(DropReason::NotTaken, left);
            warn!(signal = R::SIGNAL.as_str(), records = left, "dropped at the end");
        }
    }

    async fn send_all(
        &mut self,
        collector: &Collector,
        teller: &(impl Fn() -> Teller + Sync),
        drain: &CancellationToken,
    ) {
        loop {
            let records = self.next_batch(drain).await;
            if records.is_empty() {
                return;
            }
            self.under_way = records.len();
            let message = R::request(teller(), records).encode_to_vec().into();
            self.deliver(collector, message, drain).await;
            self.under_way = 0;
        }
    }

    /// What goes together; nothing once the queue is empty and drained.
    async fn next_batch(&mut self, drain: &CancellationToken) -> Vec<R> {
        let (mut records, mut bytes) = (Vec::new(), 0);
        let mut due = None;
        while records.len() < self.settings.batch_limit {
            let next = match self.carried.take() {
                Some(carried) => Some(carried),
                None => self.next(due, drain).await,
            };
            let Some(next) = next else { break };
            if !records.is_empty() && bytes + next.length_bytes > PART_LIMIT_BYTES {
                self.carried = Some(next);
                break;
            }
            due = due.or_else(|| Some(Instant::now() + self.settings.delay));
            bytes += next.length_bytes;
            records.push(next.record);
        }
        records
    }

    /// The next that waits; `None` once it is due, and when nothing waits and nothing may be waited for.
    async fn next(
        &mut self,
        due: Option<Instant>,
        drain: &CancellationToken,
    ) -> Option<Waiting<R>> {
        let is_due = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let next = tokio::select! {
            // What waits goes first, also at the end.
            biased;
            next = self.receiver.recv() => next,
            () = is_due => None,
            () = drain.cancelled() => None,
        };
        if let Some(next) = &next {
            self.bytes.fetch_sub(next.length_bytes, Ordering::Relaxed);
        }
        next
    }

    async fn deliver(&mut self, collector: &Collector, message: Bytes, drain: &CancellationToken) {
        let until = Instant::now() + self.settings.timeout;
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        loop {
            let error = match collector.send(R::SIGNAL, message.clone()).await {
                Ok(response) => return self.taken(response),
                Err(error) => error,
            };
            (self.tell)(Told::Export(Outcome::of(&error)));
            let wait = match again(&error) {
                Again::Never => None,
                Again::Later => Some(backoff.next_delay()),
                Again::After(wait) => Some(wait),
            };
            let next = wait.and_then(|wait| Instant::now().checked_add(wait));
            let Some(next) = next.filter(|next| *next < until) else {
                return self.not_taken(&error);
            };
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                // Once more at once, and then it is over.
                () = drain.cancelled(), if !drain.is_cancelled() => {}
            }
        }
    }

    fn taken(&mut self, response: R::Response) {
        let (rejected, error) = R::rejected(response);
        let rejected = rejected.unsigned_abs();
        (self.tell)(Told::Export(match rejected {
            0 => Outcome::Succeeded,
            rejected => Outcome::Partial { rejected },
        }));
        if rejected > 0 {
            (self.tell)(Told::Dropped(DropReason::Rejected, rejected));
        }
        if !error.is_empty() {
            debug!(signal = R::SIGNAL.as_str(), %error, "records taken with a remark");
        }
    }

    fn not_taken(&mut self, error: &SendError) {
        self.lost(DropReason::NotTaken, self.under_way);
        let now = Instant::now();
        if self.warned_at.is_none_or(|at| now.duration_since(at) >= WARN_INTERVAL) {
            self.warned_at = Some(now);
            let (signal, records) = (R::SIGNAL.as_str(), self.under_way);
            warn!(signal, records, error = %Chain(error), "records not taken, and dropped");
        }
    }

    fn lost(&self, reason: DropReason, records: usize) {
        let records = u64::try_from(records).unwrap_or(u64::MAX);
        (self.tell)(Told::Dropped(reason, records));
    }
}

/// Ends a moment after the drain has begun.
async fn last_call(drain: &CancellationToken) {
    drain.cancelled().await;
    tokio::time::sleep(DRAIN_LIMIT).await;
}

/// Of all that waits, as it is sent; in memory it is a few times that. Beside it there is one batch.
const QUEUE_LIMIT_BYTES: usize = 4 * 1024 * 1024;
/// Before a batch is sent a second time; the specification wants it to grow, and leaves it open to what.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Between two of the last times.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// How long what waits may take to be sent at the end: a process has a second for it.
const DRAIN_LIMIT: Duration = Duration::from_millis(800);

#[cfg(test)]
mod tests;
