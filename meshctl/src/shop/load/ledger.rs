//! The load generator's books: whose turn it is, what is under way and what became of it. Reads no
//! clock and no socket.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::shop::load::connection::Outcome;
use crate::shop::load::latency::Latencies;
use crate::shop::load::plan::Pace;
use crate::shop::load::report::{LatencyReport, Report};

/// How many different versions are told apart; answers with yet another count as `(others)`.
const MAX_VERSIONS: usize = 64;

/// Shared by all workers.
pub struct Ledger {
    pace: Pace,
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    /// When turn 0 is due.
    start: Option<Instant>,
    turns_taken: u64,
    began: Option<Instant>,
    last_ended: Option<Instant>,
    sent: u64,
    succeeded: u64,
    failed: u64,
    /// Numbers of the requests under way; never more than there are workers.
    in_flight: BTreeSet<u64>,
    failures: BTreeMap<String, u64>,
    versions: BTreeMap<String, u64>,
    latencies: Latencies,
    attempts: u64,
}

impl Ledger {
    /// Empty books for a run at this pace.
    pub fn new(pace: Pace) -> Self {
        Self { pace, books: Mutex::new(Books::default()) }
    }

    /// Turns are due from now on.
    pub fn start(&self, now: Instant) {
        let mut books = self.books.lock();
        books.start = Some(now);
        books.began.get_or_insert(now);
    }

    /// The next turn's due time; `None` when all are taken. At a rate that time may be in the past:
    /// then the workers are behind, and catch up.
    pub fn take_turn(&self, now: Instant) -> Option<Instant> {
        let mut books = self.books.lock();
        let turn = books.turns_taken;
        if self.pace.requests.is_some_and(|requests| turn >= requests.get()) {
            return None;
        }
        books.turns_taken += 1;
        if self.pace.spacing.is_zero() {
            return Some(now);
        }
        let start = books.start.unwrap_or(now);
        let after = self.pace.spacing.as_secs_f64() * turn_as_f64(turn);
        Some(start + Duration::from_secs_f64(after))
    }

    /// A request is about to be sent; its number.
    pub fn begin(&self) -> u64 {
        self.books.lock().begin()
    }

    /// What became of the request with this number; its latency counts from `since`.
    pub fn finish(&self, number: u64, since: Instant, outcome: Outcome, now: Instant) {
        self.books.lock().finish(number, since, outcome, now);
    }

    /// A target that was waited for has answered: this is the first request, and takes a turn.
    pub fn count_first(&self, began: Instant, outcome: Outcome, now: Instant) {
        let mut books = self.books.lock();
        books.began = Some(began);
        books.turns_taken += 1;
        let number = books.begin();
        books.finish(number, began, outcome, now);
    }

    /// A target that is waited for has not answered yet.
    pub fn count_attempt(&self) {
        self.books.lock().attempts += 1;
    }

    /// The books as they are.
    pub fn report(&self, now: Instant) -> Report {
        self.books.lock().report(now)
    }
}

impl Books {
    fn begin(&mut self) -> u64 {
        self.sent += 1;
        self.in_flight.insert(self.sent);
        self.sent
    }

    fn finish(&mut self, number: u64, since: Instant, outcome: Outcome, now: Instant) {
        self.in_flight.remove(&number);
        self.last_ended = Some(now);
        match outcome {
            Outcome::Succeeded { version } => {
                self.succeeded += 1;
                self.latencies.record(now.saturating_duration_since(since));
                if let Some(version) = version {
                    let known = self.versions.contains_key(&version);
                    let room = self.versions.len() < MAX_VERSIONS;
                    let key = if known || room { version } else { "(others)".to_owned() };
                    *self.versions.entry(key).or_default() += 1;
                }
            }
            Outcome::Failed(reason) => {
                self.failed += 1;
                *self.failures.entry(reason.label()).or_default() += 1;
            }
        }
    }

    fn report(&self, now: Instant) -> Report {
        let in_flight = u64::try_from(self.in_flight.len()).unwrap_or(u64::MAX);
        let until = if in_flight > 0 { Some(now) } else { self.last_ended };
        let seconds = match (self.began, until) {
            (Some(began), Some(until)) => until.saturating_duration_since(began).as_secs_f64(),
            (None, _) | (_, None) => 0.0,
        };
        let millis =
            |latency: Option<Duration>| latency.map(|latency| latency.as_secs_f64() * 1000.0);
        Report {
            sent: self.sent,
            succeeded: self.succeeded,
            failed: self.failed,
            in_flight,
            completed_through: self.in_flight.first().map_or(self.sent, |oldest| oldest - 1),
            failures: self.failures.clone(),
            versions: self.versions.clone(),
            latency_ms: LatencyReport {
                p50: millis(self.latencies.quantile(0.5)),
                p99: millis(self.latencies.quantile(0.99)),
                longest: millis(self.latencies.longest()),
            },
            seconds,
            attempts_before_first_answer: self.attempts,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "turns stay far below 2^53")]
fn turn_as_f64(turn: u64) -> f64 {
    turn as f64
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;
    use crate::shop::load::connection::FailureReason;
    use proptest::prelude::*;

    fn succeeded(version: &str) -> Outcome {
        Outcome::Succeeded { version: Some(version.to_owned()) }
    }

    #[tokio::test(start_paused = true)]
    async fn turns_are_due_at_the_rate_and_end_with_the_number_of_requests() {
        let pace = Pace { spacing: Duration::from_millis(10), requests: NonZeroU64::new(3) };
        let ledger = Ledger::new(pace);
        let now = Instant::now();
        ledger.start(now);
        let turns: Vec<_> = std::iter::from_fn(|| ledger.take_turn(now)).collect();
        let millis: Vec<_> =
            turns.iter().map(|turn| turn.duration_since(now).as_millis()).collect();
        assert_eq!(millis, [0, 10, 20]);
    }

    #[tokio::test(start_paused = true)]
    async fn completed_through_is_the_last_request_before_the_oldest_under_way() {
        let ledger = Ledger::new(Pace { spacing: Duration::ZERO, requests: None });
        let now = Instant::now();
        ledger.start(now);
        let (one, two, three) = (ledger.begin(), ledger.begin(), ledger.begin());
        assert_eq!((one, two, three), (1, 2, 3));
        ledger.finish(two, now, succeeded("v1"), now);
        assert_eq!(ledger.report(now).completed_through, 0);
        ledger.finish(one, now, Outcome::Failed(FailureReason::Status(503)), now);
        assert_eq!(ledger.report(now).completed_through, 2);
        ledger.finish(three, now, succeeded("v2"), now);
        let report = ledger.report(now);
        assert_eq!((report.completed_through, report.in_flight), (3, 0));
        assert_eq!(report.failures, BTreeMap::from([("status_503".to_owned(), 1)]));
        assert_eq!(report.versions, BTreeMap::from([("v1".to_owned(), 1), ("v2".to_owned(), 1)]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_target_that_invents_versions_does_not_fill_the_memory() {
        let ledger = Ledger::new(Pace { spacing: Duration::ZERO, requests: None });
        let now = Instant::now();
        for version in 0..200 {
            let number = ledger.begin();
            ledger.finish(number, now, succeeded(&version.to_string()), now);
        }
        let report = ledger.report(now);
        assert_eq!(report.versions.len(), MAX_VERSIONS + 1);
        assert_eq!(report.versions.get("(others)"), Some(&136));
        assert_eq!(report.versions.values().sum::<u64>(), 200);
    }

    proptest! {
        #[test]
        fn the_books_always_balance(ends in proptest::collection::vec(any::<(bool, u8)>(), 0..60)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                let ledger = Ledger::new(Pace { spacing: Duration::ZERO, requests: None });
                let now = Instant::now();
                let mut open = Vec::new();
                for (good, pick) in ends {
                    open.push(ledger.begin());
                    if pick % 2 == 0 {
                        let number = open.swap_remove(usize::from(pick) % open.len());
                        let failed = Outcome::Failed(FailureReason::Timeout);
                        let outcome = if good { succeeded("v1") } else { failed };
                        ledger.finish(number, now, outcome, now);
                    }
                    let report = ledger.report(now);
                    assert_eq!(report.sent, report.succeeded + report.failed + report.in_flight);
                    let oldest = open.iter().min().copied().unwrap_or(report.sent + 1);
                    assert_eq!(report.completed_through, oldest - 1);
                }
            });
        }
    }
}
