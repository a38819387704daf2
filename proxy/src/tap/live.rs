//! One tap: what it wants to know, and what it is told, within its rate.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use heddle_model::tap::{Follow, Tap};
use http::Request;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::http::body::Body;
use crate::http::call_record::CallRecord;
use crate::http::witness::{Asking, Interest};
use crate::tap::filter::{self, Head, Seen};
use crate::tap::rate::Bucket;
use crate::tap::{Telling, exchange, trace};

/// A tap.
#[derive(Debug)]
pub struct Live {
    /// Which.
    pub number: u64,
    /// Exchanges left out since this was told last.
    pub left_out: AtomicU64,
    tap: Tap,
    /// Whether requests are put into the trace that is followed.
    marks: bool,
    /// Not before this: who is asked is to follow it, and the caller before all.
    marks_from: Instant,
    told: Mutex<Bucket>,
    marked: Mutex<Bucket>,
    queue: mpsc::Sender<Telling>,
    ends_at: Instant,
}

/// What became of an exchange that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is on its way.
    Told,
    /// It is more than the rate, or than is taken.
    LeftOut,
}

impl Live {
    /// From now on.
    pub fn new(number: u64, tap: Tap, marks: bool, queue: mpsc::Sender<Telling>) -> Self {
        let now = Instant::now();
        Self {
            number,
            left_out: AtomicU64::new(0),
            marks,
            marks_from: now + HEAD_START,
            told: Mutex::new(Bucket::new(tap.limits.per_second, now)),
            marked: Mutex::new(Bucket::new(MARKS_PER_SECOND, now)),
            queue,
            ends_at: now + tap.limits.lifetime,
            tap,
        }
    }

    /// Whether its time is over: the control plane says so earlier, if it is there.
    pub fn is_over(&self, now: Instant) -> bool {
        now >= self.ends_at
    }

    /// How much it wants to know of a request; puts it into the trace that is followed, if it is one for that.
    pub fn wants(&self, request: &mut Request<Body>, asked: &Asking<'_>, now: Instant) -> Interest {
        if self.is_over(now) {
            return Interest::Nothing;
        }
        let head = Head {
            direction: asked.direction,
            method: request.method().as_str(),
            path: request.uri().path(),
            caller: asked.caller,
        };
        let may_match = filter::may_match(&self.tap.filter, &head);
        let wants = match self.tap.follow {
            None => may_match,
            Some(Follow::Trace(trace)) => {
                let known = request.extensions().get().copied();
                trace::ids(known, request.headers()).is_some_and(|ids| ids.trace == trace)
            }
            Some(Follow::Mark(mark)) => {
                let marks = self.marks && now >= self.marks_from && may_match;
                let begins = || marks && self.marked.lock().take(now);
                trace::follow(request, mark, begins, &mut rand::rng())
            }
        };
        match (wants, self.tap.shown.headers || self.tap.follow.is_some()) {
            (false, _) => Interest::Nothing,
            (true, false) => Interest::Call,
            (true, true) => Interest::Headers,
        }
    }

    /// Takes an exchange that it wants; `None`: it does not.
    pub fn take(&self, record: &CallRecord<'_>, now: Instant) -> Option<Taken> {
        let is_match = filter::matches(&self.tap.filter, &Seen::of(record));
        let is_wanted = match self.tap.follow {
            None => is_match,
            Some(follow) => trace::is_followed(record, follow),
        };
        if self.is_over(now) || !is_wanted {
            return None;
        }
        let is_told = self.told.lock().take(now)
            && self
                .queue
                // What is told is made only if there is room for it.
                .try_reserve()
                .map(|place| {
                    let exchange = exchange::of(record, &self.tap.shown, is_match);
                    place.send((self.number, exchange));
                })
                .is_ok();
        if is_told {
            return Some(Taken::Told);
        }
        self.left_out.fetch_add(1, Ordering::Relaxed);
        Some(Taken::LeftOut)
    }
}

/// How long proxies wait until they put requests into traces. All that a tap is for are told of it meanwhile, so that
/// a trace begins where its request does, and not at the first proxy that was told.
pub const HEAD_START: Duration = Duration::from_millis(500);
/// How many requests one proxy puts into traces for one tap: whoever waits for one wants one.
const MARKS_PER_SECOND: u32 = 5;
