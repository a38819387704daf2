//! Whether an HTTP/2 stream moves, and whose turn it is if it does not. What then becomes of the stream
//! is up to server/http2.rs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use tokio::time::Instant;

/// Whom a stream waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// For nobody in particular: the server may take its time, and in a conversation either side may
    /// be silent for as long as there is nothing to say.
    Anybody,
    /// For the rest of the request. The server has taken what there was, and has not answered yet.
    Sender,
    /// For the client to make room for the response.
    Reader,
}

/// How long a stream may stand still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// While it is the client's turn.
    pub client: Duration,
    /// While it is nobody's in particular.
    pub anybody: Duration,
}

/// What there is to know of a stream that may stand still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// It has stood still for too long, and this was waited for.
    Overdue(Waiting),
    /// It has not, and need not be looked at before.
    Again(Instant),
}

impl Limits {
    /// No stream need be looked at sooner than so long after it began, or was looked at.
    pub fn shortest(self) -> Duration {
        self.client.min(self.anybody)
    }

    /// How long it may be while this is waited for.
    pub fn of(self, waiting: Waiting) -> Duration {
        match waiting {
            Waiting::Anybody => self.anybody,
            Waiting::Sender | Waiting::Reader => self.client,
        }
    }
}

/// When one stream last moved. Moves are heads and pieces of bodies; what keeps the connection alive,
/// such as PING, is none.
#[derive(Debug)]
pub struct Progress {
    begun: Instant,
    moved_ms: AtomicU64,
    waiting: AtomicU8,
}

/// Which body of a stream is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client's.
    Request,
    /// The server's.
    Response,
}

/// Tells a stream's progress of one of its bodies.
#[derive(Clone, Debug)]
pub struct Watch {
    progress: Arc<Progress>,
    side: Side,
}

impl Progress {
    /// A stream that has just begun.
    pub fn begin() -> Arc<Self> {
        Arc::new(Self {
            begun: Instant::now(),
            moved_ms: AtomicU64::new(0),
            waiting: AtomicU8::new(ANYBODY),
        })
    }

    /// Watches one of its bodies.
    pub fn watch(self: &Arc<Self>, side: Side) -> Watch {
        Watch { progress: Arc::clone(self), side }
    }

    /// The response's head was handed on, and its body is next, for which the client has to make
    /// room.
    pub fn answered(&self) {
        self.moved(READER);
    }

    /// Whether the stream has stood still for as long as it may by `now`, and whose turn it was.
    pub fn check(&self, limits: Limits, now: Instant) -> Check {
        let waiting = self.waiting();
        let moved = self.begun + Duration::from_millis(self.moved_ms.load(Ordering::Relaxed));
        let overdue = moved + limits.of(waiting);
        if overdue <= now {
            return Check::Overdue(waiting);
        }
        // Whose turn it is may change meanwhile, and with it the limit.
        Check::Again(overdue.min(now + limits.shortest()))
    }

    /// Completes when the stream has stood still for as long as it may, with whose turn it was.
    #[cfg(test)]
    async fn stands_still(&self, limits: Limits) -> Waiting {
        loop {
            match self.check(limits, Instant::now()) {
                Check::Overdue(waiting) => return waiting,
                Check::Again(at) => tokio::time::sleep_until(at).await,
            }
        }
    }

    fn waiting(&self) -> Waiting {
        match self.waiting.load(Ordering::Relaxed) {
            SENDER => Waiting::Sender,
            READER => Waiting::Reader,
            _ => Waiting::Anybody,
        }
    }

    fn moved(&self, waiting: u8) {
        let age_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved_ms.store(age_ms, Ordering::Relaxed);
        self.waiting.store(waiting, Ordering::Relaxed);
    }

    fn request_polled(&self, has_moved: bool) {
        let waiting = self.waiting.load(Ordering::Relaxed);
        match (has_moved, waiting) {
            (true, ANYBODY | SENDER) => self.moved(ANYBODY),
            (true, _) => self.moved(waiting),
            (false, ANYBODY) => self.waiting.store(SENDER, Ordering::Relaxed),
            // Once there is an answer, the rest of the request is a matter between the two.
            (false, _) => {}
        }
    }

    fn response_polled(&self, has_moved: bool) {
        if has_moved {
            self.moved(READER);
        } else {
            // The client has made room, and there is nothing to fill it with.
            self.waiting.store(ANSWERED, Ordering::Relaxed);
        }
    }
}

impl Watch {
    /// Takes note of what a poll of the body came to.
    pub fn polled<E>(&self, polled: &Poll<Option<Result<Frame<Bytes>, E>>>) {
        match self.side {
            Side::Request => self.progress.request_polled(polled.is_ready()),
            Side::Response => self.progress.response_polled(polled.is_ready()),
        }
    }
}

const ANYBODY: u8 = 0;
const SENDER: u8 = 1;
const READER: u8 = 2;
/// As [`ANYBODY`], after the response has begun.
const ANSWERED: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { client: Duration::from_secs(300), anybody: Duration::from_secs(3600) };
    const PIECE: Bytes = Bytes::from_static(b"piece");

    fn piece() -> Poll<Option<Result<Frame<Bytes>, ()>>> {
        Poll::Ready(Some(Ok(Frame::data(PIECE))))
    }

    fn nothing() -> Poll<Option<Result<Frame<Bytes>, ()>>> {
        Poll::Pending
    }

    /// One thing that happens on a stream.
    enum Step {
        Request(Poll<Option<Result<Frame<Bytes>, ()>>>),
        Answered,
        Response(Poll<Option<Result<Frame<Bytes>, ()>>>),
    }

    #[tokio::test(start_paused = true)]
    async fn whose_turn_it_is_decides_how_long_a_stream_may_stand_still() {
        use Step::{Answered, Request, Response};

        for (case, steps, expected) in [
            ("the server is slow", vec![], Waiting::Anybody),
            ("the body never comes", vec![Request(nothing())], Waiting::Sender),
            ("half a body", vec![Request(piece()), Request(nothing())], Waiting::Sender),
            ("the server does not take the body", vec![Request(piece())], Waiting::Anybody),
            (
                "a request that has ended",
                vec![Request(nothing()), Request(Poll::Ready(None))],
                Waiting::Anybody,
            ),
            ("the response's body is not wanted", vec![Answered], Waiting::Reader),
            (
                "half a response is wanted",
                vec![Answered, Response(nothing()), Response(piece())],
                Waiting::Reader,
            ),
            (
                "the response's source is dry",
                vec![Answered, Response(piece()), Response(nothing())],
                Waiting::Anybody,
            ),
            (
                "a conversation",
                vec![Answered, Response(nothing()), Request(piece()), Request(nothing())],
                Waiting::Anybody,
            ),
            (
                "a client that sends but does not read",
                vec![Answered, Response(piece()), Request(piece()), Request(nothing())],
                Waiting::Reader,
            ),
        ] {
            let start = Instant::now();
            let progress = Progress::begin();
            for step in &steps {
                match step {
                    Request(polled) => progress.watch(Side::Request).polled(polled),
                    Answered => progress.answered(),
                    Response(polled) => progress.watch(Side::Response).polled(polled),
                }
            }
            assert_eq!(progress.stands_still(LIMITS).await, expected, "case: {case}");
            assert_eq!(start.elapsed(), LIMITS.of(expected), "case: {case}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_moves_now_and_then_goes_on() {
        let progress = Progress::begin();
        progress.answered();
        let watch = progress.watch(Side::Response);
        let moving = async {
            for _minute in 0..600 {
                tokio::time::sleep(Duration::from_secs(60)).await;
                watch.polled(&piece());
                watch.polled(&nothing());
            }
        };
        tokio::select! {
            waiting = progress.stands_still(LIMITS) => panic!("{waiting:?}"),
            () = moving => {}
        }
    }
}
