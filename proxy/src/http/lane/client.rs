//! The client's side of a connection in the lane: reading its requests, writing to it, and finding out that it has
//! gone or takes nothing.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_util::io::poll_read_buf;

use crate::http::breaker::Reset;
use crate::http::gate::head::{Head, HeadReader};
use crate::http::gate::io::{READ_BYTES, RESPONSE_UNREAD};
use crate::http::gate::timers::{Limits, Timer};
use crate::http::lane::buffers;
use crate::rewind::Rewind;

/// A client.
pub(super) struct Client<I, F> {
    io: I,
    /// What came and is not used up.
    unread: BytesMut,
    reader: HeadReader,
    limits: Limits,
    timer: Timer,
    /// Since when it is without a request.
    idle_since: Option<Instant>,
    /// Since when it takes nothing of an answer.
    blocked_since: Option<Instant>,
    /// When it is to end after what is under way; `None`: it is.
    called_off: Option<F>,
    is_last: bool,
}

/// What a client does next.
pub(super) enum Next {
    /// It asks for something: the length of the head.
    Head(usize),
    /// It sends what the general path has to look at.
    General,
    /// It has ended, or is to end.
    Ended,
    /// It was without a request for as long as it may be.
    Idle,
    /// It is gone.
    Broken(io::Error),
}

/// The connection is over: nobody is there to get an answer, or none can be given.
#[derive(Debug)]
pub(super) struct Gone;

impl<I, F> Client<I, F> {
    /// `called_off` tells when it is to end after what is under way.
    pub(super) fn new(io: I, limits: Limits, called_off: F) -> Self {
        Self {
            io,
            unread: BytesMut::new(),
            reader: HeadReader::default(),
            limits,
            timer: Timer::default(),
            idle_since: None,
            blocked_since: None,
            called_off: Some(called_off),
            is_last: false,
        }
    }

    /// From the first octet that was not used up.
    pub(super) fn into_rewind(self) -> Rewind<I> {
        Rewind::new(self.unread.freeze(), self.io)
    }

    /// The head that was read, and what follows it.
    pub(super) fn head(&self, length: usize) -> Option<(Head<'_>, &[u8])> {
        let (head, following) = self.unread.split_at_checked(length)?;
        Some((self.reader.head(head), following))
    }

    /// So much of what came was a request; whether it is the last one.
    pub(super) fn used(&mut self, length: usize, is_last: bool) {
        self.idle_since = None;
        self.unread.advance(length.min(self.unread.len()));
        self.reader.reset();
        self.is_last |= is_last;
    }

    /// It waits for its next request since `now`, or a little longer.
    pub(super) fn rests(&mut self, now: Instant) {
        self.idle_since = Some(now);
    }

    /// Whether the connection ends after what is under way.
    pub(super) fn is_last(&self) -> bool {
        self.is_last
    }

    pub(super) fn set_last(&mut self, is_last: bool) {
        self.is_last |= is_last;
    }
}

impl<I: Reset, F> Client<I, F> {
    /// The answer cannot be finished: the client is to see that.
    pub(super) fn reset(&self) {
        self.io.reset();
    }
}

impl<I, F> Client<I, F>
where
    I: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = ()> + Unpin,
{
    /// Waits for a request.
    pub(super) async fn next(&mut self) -> Next {
        poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Next> {
        loop {
            if !self.unread.is_empty() {
                match self.reader.read(&self.unread) {
                    Ok(Some(length)) => return Poll::Ready(Next::Head(length)),
                    // What was read to find out the protocol is only its beginning.
                    Ok(None) if matches!(self.poll_fill(context), Poll::Ready(Ok(1..))) => continue,
                    // What is not there at once, and what is refused, takes longer anyway.
                    Ok(None) | Err(_) => return Poll::Ready(Next::General),
                }
            }
            match self.poll_fill(context) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Next::Ended),
                Poll::Ready(Ok(_length)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Next::Broken(error)),
                Poll::Pending => return self.poll_idle(context),
            }
        }
    }

    /// Whether more is there at once.
    pub(super) async fn has_more(&mut self) -> bool {
        poll_fn(|context| Poll::Ready(matches!(self.poll_fill(context), Poll::Ready(Ok(1..)))))
            .await
    }

    /// Nothing is there.
    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<Next> {
        // Most connections wait most of the time, and need no room for that.
        buffers::read(std::mem::take(&mut self.unread));
        self.poll_called_off(context);
        if self.is_last {
            return Poll::Ready(Next::Ended);
        }
        let until = *self.idle_since.get_or_insert_with(Instant::now) + self.limits.idle;
        self.timer.poll_until(until, context).map(|()| Next::Idle)
    }

    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.unread.capacity() == 0 {
            self.unread = buffers::for_reading();
        }
        self.unread.reserve(READ_BYTES);
        poll_read_buf(Pin::new(&mut self.io), context, &mut self.unread)
    }

    fn poll_called_off(&mut self, context: &mut Context<'_>) {
        if let Some(called_off) = &mut self.called_off
            && Pin::new(called_off).poll(context).is_ready()
        {
            self.called_off = None;
            self.is_last = true;
        }
    }

    /// What comes of `work`, unless the client goes before.
    pub(super) async fn unless_gone<T>(
        &mut self,
        mut work: Pin<&mut impl Future<Output = T>>,
    ) -> Result<T, Gone> {
        poll_fn(|context| {
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(Ok(done));
            }
            self.poll_called_off(context);
            self.poll_gone(context).map(Err)
        })
        .await
    }

    /// Whether the client has ended. What it sends meanwhile is its next request.
    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<Gone> {
        while self.unread.len() < READ_BYTES {
            match self.poll_fill(context) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Gone),
                Poll::Ready(Ok(_length)) => {}
                Poll::Pending => {
                    // Most say nothing before they have their answer.
                    if self.unread.is_empty() {
                        buffers::read(std::mem::take(&mut self.unread));
                    }
                    return Poll::Pending;
                }
            }
        }
        // It is not read on: that it has gone is seen when it gets its answer.
        Poll::Pending
    }

    /// Writes all of it, and sees to it that it leaves; fails if the client is gone, or takes nothing for as long as it
    /// may: with the limit, as a metric label.
    pub(super) async fn write(&mut self, mut octets: &[u8]) -> Result<(), Option<&'static str>> {
        poll_fn(|context| {
            while !octets.is_empty() {
                let written = Pin::new(&mut self.io).poll_write(context, octets);
                match ready!(self.watch(context, written))? {
                    0 => return Poll::Ready(Err(None)),
                    length => octets = octets.get(length..).unwrap_or_default(),
                }
            }
            let flushed = Pin::new(&mut self.io).poll_flush(context);
            self.watch(context, flushed)
        })
        .await
    }

    /// Ends the connection in order.
    pub(super) async fn shut_down(&mut self) -> Result<(), Option<&'static str>> {
        poll_fn(|context| {
            let ended = Pin::new(&mut self.io).poll_shutdown(context);
            self.watch(context, ended)
        })
        .await
    }

    fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<Result<T, Option<&'static str>>> {
        if let Poll::Ready(written) = written {
            self.blocked_since = None;
            return Poll::Ready(written.map_err(|_gone| None));
        }
        // It rests from when it has taken its answer, and not from when that was there.
        self.idle_since = None;
        let now = Instant::now();
        let until = *self.blocked_since.get_or_insert(now) + self.limits.answer;
        if now < until {
            self.timer.arm(until, context);
            return Poll::Pending;
        }
        Poll::Ready(Err(Some(RESPONSE_UNREAD)))
    }
}
