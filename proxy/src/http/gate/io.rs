//! The client's side of an HTTP/1 server connection: beneath hyper, it reads what comes, hands on
//! the requests that pass in their canonical form, and keeps everything else. What passes is
//! decided by framing.rs, and how long it may take by timers.rs.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::http::gate::exchanges::{Exchanges, Tunnel};
use crate::http::gate::framing::{Framer, Phase};
use crate::http::gate::refusal::Refusal;
use crate::http::gate::timers::{Limits, Overdue, Timer, Waiting};

/// A connection whose reader gets admitted requests only.
#[derive(Debug)]
pub struct Gated<I> {
    io: I,
    framer: Framer,
    exchanges: Exchanges,
    /// What came and is not used up: at most the head of a request, or what one read brought.
    unread: BytesMut,
    /// What passed and was not taken yet.
    passed: Vec<u8>,
    taken: usize,
    waiting: Waiting,
    limits: Limits,
    timer: Timer,
    /// Since when the client takes nothing of an answer.
    blocked: Option<Instant>,
    write_timer: Timer,
    end: End,
}

/// How the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    /// The client is told of the end, and what it still sends is thrown away so that it can read
    /// what it was told: the close of a socket with unread bytes destroys what is under way.
    Lingering {
        until: Instant,
        dropped: usize,
    },
}

/// What to do after having looked for more.
enum Step {
    /// There is something to look at.
    Again,
    /// The reader is told.
    Tell(io::Result<()>),
}

impl<I> Gated<I> {
    /// Reads from `io`; `exchanges` is shared with who answers the requests.
    pub fn new(io: I, exchanges: Exchanges, limits: Limits) -> Self {
        Self {
            io,
            framer: Framer::new(),
            exchanges,
            unread: BytesMut::new(),
            passed: Vec::new(),
            taken: 0,
            waiting: Waiting::new(limits),
            limits,
            timer: Timer::default(),
            blocked: None,
            write_timer: Timer::default(),
            end: End::Open,
        }
    }

    /// Hands over what has passed; whether there was anything.
    fn give(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let Some(rest @ [_, ..]) = self.passed.get(self.taken..) else { return false };
        let length = rest.len().min(buffer.remaining());
        buffer.put_slice(rest.get(..length).unwrap_or_default());
        self.taken += length;
        if self.taken == self.passed.len() {
            self.taken = 0;
            self.passed.clear();
            self.passed.shrink_to(READ_BYTES);
        }
        true
    }

    /// Reads on in what is there; whether that came to anything.
    fn advance(&mut self) -> Result<bool, Refusal> {
        let before = self.framer.heads();
        // Rarely more than what it is made of.
        self.passed.reserve(self.unread.len());
        let used = self.framer.read(&self.unread, &mut self.passed)?;
        self.unread.advance(used);
        if self.unread.is_empty() && self.unread.capacity() > READ_BYTES {
            self.unread = BytesMut::new();
        }
        if self.framer.heads() > before {
            self.exchanges.begin(self.framer.asks_for_tunnel());
            self.waiting.begin_body();
        }
        Ok(used > 0)
    }

    /// A request that is not there to its end is answered in its turn: what hyper gets in its place
    /// is known by its number, and is the last. Of one whose head has passed, the body breaks.
    fn refuse(&mut self, refusal: Refusal, phase: Phase) -> Step {
        self.framer.refuse(refusal);
        self.unread = BytesMut::new();
        if matches!(phase, Phase::Body { .. }) {
            return Step::Tell(Err(refusal.into()));
        }
        self.exchanges.refuse(refusal);
        self.passed.clear();
        self.taken = 0;
        self.passed.extend_from_slice(STAND_IN);
        Step::Again
    }
}

impl<I: AsyncRead + Unpin> Gated<I> {
    fn poll_request(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if buffer.remaining() == 0 || self.give(buffer) {
                return Poll::Ready(Ok(()));
            }
            let phase = self.framer.phase(self.unread.len());
            let step = match phase {
                Phase::Refused => return Poll::Pending,
                Phase::Asked => ready!(self.poll_asked(context)),
                Phase::Tunnel if self.unread.is_empty() => {
                    return Pin::new(&mut self.io).poll_read(context, buffer);
                }
                Phase::Tunnel => {
                    let unread = self.unread.split();
                    self.passed.extend_from_slice(&unread);
                    Step::Again
                }
                Phase::Body { .. } if self.unread.is_empty() && self.framer.passable() > 0 => {
                    ready!(self.poll_body(context, buffer, phase))
                }
                Phase::Between | Phase::Head | Phase::Body { .. } => match self.advance() {
                    Ok(true) => Step::Again,
                    Ok(false) => ready!(self.poll_more(context, phase)),
                    Err(refusal) => self.refuse(refusal, phase),
                },
            };
            match step {
                Step::Again => {}
                Step::Tell(told) => return Poll::Ready(told),
            }
        }
    }

    /// Straight from the client to the reader.
    fn poll_body(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        phase: Phase,
    ) -> Poll<Step> {
        let before = buffer.filled().len();
        let mut part = (&mut self.io).take(self.framer.passable());
        match Pin::new(&mut part).poll_read(context, buffer) {
            Poll::Ready(Ok(())) => {
                let length = buffer.filled().len() - before;
                self.framer.pass(length);
                self.waiting.receive(length, Instant::now);
                Poll::Ready(Step::Tell(Ok(())))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Step::Tell(Err(error))),
            Poll::Pending => self.poll_overdue(context, phase),
        }
    }

    /// Reads more, to be looked at.
    fn poll_more(&mut self, context: &mut Context<'_>, phase: Phase) -> Poll<Step> {
        match self.poll_fill(context) {
            Poll::Ready(Ok(0)) if self.framer.is_cut_off() => {
                Poll::Ready(self.refuse(Refusal::Incomplete, phase))
            }
            Poll::Ready(Ok(0)) => Poll::Ready(Step::Tell(Ok(()))),
            Poll::Ready(Ok(length)) => {
                self.waiting.receive(length, Instant::now);
                Poll::Ready(Step::Again)
            }
            Poll::Ready(Err(error)) => Poll::Ready(Step::Tell(Err(error))),
            Poll::Pending => self.poll_overdue(context, phase),
        }
    }

    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.unread.reserve(READ_BYTES);
        // Nothing is lost with the future: it has no state of its own.
        let polled = pin!(self.io.read_buf(&mut self.unread)).poll(context);
        if polled.is_pending() && self.unread.is_empty() {
            // Most connections wait most of the time, and need no room for that.
            self.unread = BytesMut::new();
        }
        polled
    }

    /// A tunnel was asked for. What the client sends before the answer might be meant for either
    /// outcome, and goes nowhere.
    fn poll_asked(&mut self, context: &mut Context<'_>) -> Poll<Step> {
        match self.exchanges.tunnel() {
            Tunnel::Agreed => self.framer.answer_tunnel(true),
            Tunnel::Declined => self.framer.answer_tunnel(false),
            Tunnel::Dropped => return Poll::Pending,
            Tunnel::None | Tunnel::Asked { .. } => {
                if !self.unread.is_empty() {
                    self.exchanges.go_on();
                    return Poll::Pending;
                }
                match ready!(self.poll_fill(context)) {
                    Ok(0) => return Poll::Ready(Step::Tell(Ok(()))),
                    Ok(_length) => {}
                    Err(error) => return Poll::Ready(Step::Tell(Err(error))),
                }
            }
        }
        Poll::Ready(Step::Again)
    }

    fn poll_overdue(&mut self, context: &mut Context<'_>, phase: Phase) -> Poll<Step> {
        let now = Instant::now();
        let is_idle = phase == Phase::Between && self.exchanges.is_idle();
        let Some((until, overdue)) = self.waiting.until(phase, is_idle, now) else {
            return Poll::Pending;
        };
        if now < until {
            if is_idle {
                // Thousands of connections wait for their next request for minutes.
                self.unread = BytesMut::new();
                self.passed = Vec::new();
            }
            self.timer.arm(until, context);
            return Poll::Pending;
        }
        Poll::Ready(match overdue {
            Overdue::Idle => {
                self.exchanges.reach("http1_idle");
                Step::Tell(Ok(()))
            }
            Overdue::Request(refusal) => {
                self.exchanges.reach(refusal.reason());
                self.refuse(refusal, phase)
            }
        })
    }

    /// Throws away what comes until the client closes its side, within limits.
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let End::Lingering { until, mut dropped } = self.end else { return Poll::Ready(()) };
        loop {
            self.unread.clear();
            match self.poll_fill(context) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(length)) => {
                    dropped = dropped.saturating_add(length);
                    self.end = End::Lingering { until, dropped };
                    if dropped > LINGER_LIMIT_BYTES {
                        return Poll::Ready(());
                    }
                }
                Poll::Pending => {
                    if Instant::now() >= until {
                        return Poll::Ready(());
                    }
                    self.timer.arm(until, context);
                    return Poll::Pending;
                }
            }
        }
    }
}

impl<I: AsyncWrite + Unpin> Gated<I> {
    /// Whether the client takes nothing of an answer for too long.
    fn watch_written<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() || self.framer.phase(0) == Phase::Tunnel {
            self.blocked = None;
            return written;
        }
        let now = Instant::now();
        let until = *self.blocked.get_or_insert(now) + self.limits.answer;
        if now < until {
            self.write_timer.arm(until, context);
            return Poll::Pending;
        }
        self.exchanges.reach(RESPONSE_UNREAD);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Gated<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_request(context, buffer)
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Gated<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.watch_written(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, slices);
        self.watch_written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was written may have gone no further than a buffer of TLS.
        let flushed = Pin::new(&mut self.io).poll_flush(context);
        self.watch_written(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.end == End::Open {
            let ended = Pin::new(&mut self.io).poll_shutdown(context);
            ready!(self.watch_written(context, ended))?;
            match self.framer.phase(0) {
                Phase::Between | Phase::Head | Phase::Tunnel => return Poll::Ready(Ok(())),
                // RFC 9112, section 9.6: it may still be sending.
                Phase::Body { .. } | Phase::Asked | Phase::Refused => {}
            }
            self.end = End::Lingering { until: Instant::now() + LINGER_TIME, dropped: 0 };
        }
        self.poll_linger(context).map(Ok)
    }
}

/// The limit, as a metric label, on a client that does not take its answer.
pub const RESPONSE_UNREAD: &str = "response_unread";
/// What hyper gets in the place of a request that does not pass, and server.rs answers. It is known
/// by its number: a client that sends the same gets it forwarded.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";
/// What is asked for at once where it has to be looked at.
pub const READ_BYTES: usize = 8 * 1024;
/// nginx's lingering_timeout is 5 s; clients that read what they were told need less.
const LINGER_TIME: Duration = Duration::from_secs(2);
/// As much as a client may have had under way.
const LINGER_LIMIT_BYTES: usize = 1024 * 1024;

#[cfg(test)]
mod tests;
