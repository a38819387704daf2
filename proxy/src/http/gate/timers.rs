//! How long an HTTP/1 client may take for what it sends, phase by phase. Pure but for the one sleep
//! that io.rs and the lane poll; the moment is passed in.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::task::coop::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::http::gate::framing::Phase;
use crate::http::gate::refusal::Refusal;
use crate::listen::{REQUEST_BODY_GRACE, REQUEST_BODY_RATE};

/// How long each phase may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Without a request.
    pub idle: Duration,
    /// From the first octet of a head to its end.
    pub head: Duration,
    /// Without an octet of a body that is waited for.
    pub body: Duration,
    /// Without taking an octet of an answer that is there.
    pub answer: Duration,
}

/// What is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// The connection was of no use for long.
    Idle,
    /// The client is told.
    Request(Refusal),
}

/// Since when the client is waited for, in the phase that it is in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    limits: Limits,
    /// For a request, or for the rest of its head.
    since: Option<(Phase, Instant)>,
    /// For more of a body.
    body_since: Option<Instant>,
    /// In all, for the body so far.
    body_waited: Duration,
    body_received: u64,
}

/// One sleep, made when it is first needed and set anew as rarely as can be.
#[derive(Debug, Default)]
pub struct Timer(Option<Armed>);

#[derive(Debug)]
struct Armed {
    sleep: Pin<Box<Sleep>>,
    /// Of the task that it wakes.
    waker: Waker,
}

impl Armed {
    /// Wakes the task at `until`, or now. It is looked at only if that is another task or another time than before.
    fn poll(&mut self, until: Instant, context: &mut Context<'_>) -> Poll<()> {
        let is_set = !self.sleep.is_elapsed() && self.sleep.deadline() <= until;
        if is_set && self.waker.will_wake(context.waker()) {
            // If it ends meanwhile, the task is woken.
            return Poll::Pending;
        }
        if !is_set {
            self.sleep.as_mut().reset(until);
        }
        self.waker.clone_from(context.waker());
        // To a task that has had its turn, a sleep would say that it wakes it later, and know no waker.
        pin!(unconstrained(self.sleep.as_mut())).poll(context)
    }
}

impl Timer {
    /// Wakes the task at `until` or before, when it is to look again.
    pub fn arm(&mut self, until: Instant, context: &mut Context<'_>) {
        let armed = self.armed(until);
        if armed.poll(until, context).is_ready() && armed.poll(until, context).is_ready() {
            context.waker().wake_by_ref();
        }
    }

    /// Ready at `until`, and not before. The clock is read only when the sleep has ended: what is waited for comes before,
    /// mostly.
    pub fn poll_until(&mut self, until: Instant, context: &mut Context<'_>) -> Poll<()> {
        let armed = self.armed(until);
        loop {
            if armed.sleep.is_elapsed() && Instant::now() >= until {
                return Poll::Ready(());
            }
            ready!(armed.poll(until, context));
        }
    }

    fn armed(&mut self, until: Instant) -> &mut Armed {
        let made = || Armed { sleep: Box::pin(sleep_until(until)), waker: Waker::noop().clone() };
        self.0.get_or_insert_with(made)
    }
}

impl Waiting {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            since: None,
            body_since: None,
            body_waited: Duration::ZERO,
            body_received: 0,
        }
    }

    /// A body begins.
    pub(super) fn begin_body(&mut self) {
        self.since = None;
        self.body_since = None;
        self.body_waited = Duration::ZERO;
        self.body_received = 0;
    }

    /// So much came; `now` is asked for only if it was waited for.
    pub(super) fn receive(&mut self, length: usize, now: impl FnOnce() -> Instant) {
        if let Some(since) = self.body_since.take() {
            self.body_waited += now().saturating_duration_since(since);
        }
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        self.body_received = self.body_received.saturating_add(length);
    }

    /// Nothing is there: until when to wait, and what is over then.
    pub(super) fn until(
        &mut self,
        phase: Phase,
        is_idle: bool,
        now: Instant,
    ) -> Option<(Instant, Overdue)> {
        match phase {
            Phase::Between if is_idle => {
                Some((self.since(phase, now) + self.limits.idle, Overdue::Idle))
            }
            Phase::Head => {
                let overdue = Overdue::Request(Refusal::HeadTimeout);
                Some((self.since(phase, now) + self.limits.head, overdue))
            }
            Phase::Body { is_sized } => Some(self.body_until(is_sized, now)),
            // Others wait for the proxy.
            Phase::Between | Phase::Asked | Phase::Tunnel | Phase::Refused => {
                self.since = None;
                None
            }
        }
    }

    fn since(&mut self, phase: Phase, now: Instant) -> Instant {
        match self.since {
            Some((known, since)) if known == phase => since,
            Some(_) | None => {
                self.since = Some((phase, now));
                now
            }
        }
    }

    fn body_until(&mut self, is_sized: bool, now: Instant) -> (Instant, Overdue) {
        let since = *self.body_since.get_or_insert(now);
        let idle = (since + self.limits.body, Overdue::Request(Refusal::BodyTimeout));
        if !is_sized {
            return idle;
        }
        let earned = Duration::from_secs(self.body_received / REQUEST_BODY_RATE);
        let left = (REQUEST_BODY_GRACE + earned).saturating_sub(self.body_waited);
        let slow = (since + left, Overdue::Request(Refusal::BodyTooSlow));
        if slow.0 < idle.0 { slow } else { idle }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;

    use futures_util::StreamExt;
    use futures_util::stream::FuturesUnordered;
    use tokio::task::coop::{consume_budget, has_budget_remaining};

    use super::*;

    const LIMITS: Limits = Limits {
        idle: Duration::from_secs(600),
        head: Duration::from_secs(10),
        body: Duration::from_secs(300),
        answer: Duration::from_secs(300),
    };

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_ends_at_its_time_whatever_it_was_set_to_before() {
        let begun = Instant::now();
        let mut timer = Timer::default();
        for until in [7, 3, 8, 8] {
            let until = begun + seconds(until);
            // It is polled for other times before, as one is that is set anew with each request.
            poll_fn(|context| {
                let _ = timer.poll_until(until + seconds(1), context);
                timer.poll_until(until, context)
            })
            .await;
            assert!(Instant::now() >= until && Instant::now() < begun + seconds(9), "{until:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_wakes_a_task_that_had_had_its_turn_when_it_was_set() {
        let until = Instant::now() + seconds(5);
        let mut timer = Timer::default();
        let mut is_set = false;
        let waiting = poll_fn(|context| {
            if !std::mem::replace(&mut is_set, true) {
                while has_budget_remaining() {
                    let _ = pin!(consume_budget()).poll(context);
                }
                timer.arm(until, context);
                return Poll::Pending;
            }
            timer.poll_until(until, context)
        });
        assert!(tokio::time::timeout(seconds(60), waiting).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_wakes_the_task_that_polled_it_last() {
        let timer = Arc::new(parking_lot::Mutex::new(Timer::default()));
        let until = Instant::now() + seconds(5);
        let before = poll_fn(|context| Poll::Ready(timer.lock().poll_until(until, context))).await;
        assert!(before.is_pending());
        let moved = Arc::clone(&timer);
        let waiting = poll_fn(move |context| moved.lock().poll_until(until, context));
        let mut waiting = FuturesUnordered::from_iter([waiting]);
        assert!(tokio::time::timeout(seconds(60), waiting.next()).await.is_ok());
        assert_eq!(Instant::now(), until);
    }

    #[tokio::test(start_paused = true)]
    async fn each_phase_has_its_own_limit() {
        let now = Instant::now();
        let head = Overdue::Request(Refusal::HeadTimeout);
        let body = Overdue::Request(Refusal::BodyTimeout);
        for (case, phase, is_idle, expected) in [
            ("idle", Phase::Between, true, Some((seconds(600), Overdue::Idle))),
            ("in flight", Phase::Between, false, None),
            ("head", Phase::Head, false, Some((seconds(10), head))),
            ("chunks", Phase::Body { is_sized: false }, false, Some((seconds(300), body))),
            (
                "length",
                Phase::Body { is_sized: true },
                false,
                Some((REQUEST_BODY_GRACE, Overdue::Request(Refusal::BodyTooSlow))),
            ),
            ("asked", Phase::Asked, false, None),
            ("tunnel", Phase::Tunnel, false, None),
        ] {
            let mut waiting = Waiting::new(LIMITS);
            let found = waiting.until(phase, is_idle, now);
            assert_eq!(found, expected.map(|(after, what)| (now + after, what)), "case: {case}");
            let later = waiting.until(phase, is_idle, now + seconds(5));
            assert_eq!(later, found, "case: {case}, later");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_has_its_time_from_its_first_octet() {
        let now = Instant::now();
        let mut waiting = Waiting::new(LIMITS);
        waiting.until(Phase::Between, true, now);
        let begun = now + seconds(599);
        let (until, _overdue) = waiting.until(Phase::Head, false, begun).unwrap();
        assert_eq!(until, begun + LIMITS.head);
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_earns_time_and_a_drip_does_not_earn_enough() {
        let phase = Phase::Body { is_sized: true };
        for (bytes_per_second, expected) in [(1, Some(20)), (REQUEST_BODY_RATE, None)] {
            let mut waiting = Waiting::new(LIMITS);
            let mut now = Instant::now();
            let start = now;
            let mut over = None;
            for _second in 0..1000 {
                let (until, _overdue) = waiting.until(phase, false, now).unwrap();
                let next = now + seconds(1);
                if until < next {
                    over = Some((until - start).as_secs());
                    break;
                }
                now = next;
                waiting.receive(usize::try_from(bytes_per_second).unwrap(), || now);
            }
            assert_eq!(over, expected, "{bytes_per_second} bytes a second");
        }
    }
}
