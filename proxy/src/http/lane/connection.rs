//! A connection to an endpoint that the lane uses: one request at a time, without a task of its own. Which of them are
//! kept is in pool.rs.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::unconstrained;
use tokio::time::Instant;
use tokio_util::io::poll_read_buf;

use crate::balance::queue::Slot;
use crate::connect::{Opened, Transport};
use crate::http::gate::io::READ_BYTES;
use crate::http::lane::buffers;

/// A connection.
#[derive(Debug)]
pub struct Connection {
    transport: Transport,
    /// Of the backend's connections.
    _slot: Slot,
    /// When it is to take no new request; `None`: never.
    retire_at: Option<Instant>,
    /// Since when it is idle.
    pub idle_since: Instant,
    /// How often, without a pause, it went from one request to one that waited.
    pub handed_over: u32,
    /// Nothing is under way.
    is_idle: bool,
}

/// How much of a request was written when its connection failed.
#[derive(Debug)]
pub(super) enum WriteError {
    /// Nothing.
    Unsent(io::Error),
    /// Perhaps some.
    Sent,
}

impl Connection {
    /// One that was just opened.
    pub fn new(Opened { transport, retire_at }: Opened, slot: Slot) -> Self {
        let idle_since = Instant::now();
        Self { transport, _slot: slot, retire_at, idle_since, handed_over: 0, is_idle: true }
    }

    /// Whether it may take another request by now.
    pub fn is_usable(&mut self, now: Instant) -> bool {
        self.retire_at.is_none_or(|at| now < at) && self.transport.takes_more() && self.is_silent()
    }

    /// Whether what carried it is of no more use.
    pub(super) fn is_closed(&self) -> bool {
        self.transport.is_spent()
    }

    /// Whether its failure tells something that is not known yet.
    pub(in crate::http) fn is_news(&self) -> bool {
        self.transport.is_news()
    }

    /// Between two answers there is nothing to be read: an end is one, and all else belongs to no request.
    fn is_silent(&mut self) -> bool {
        if self.transport.is_surely_silent() {
            return true;
        }
        let mut octet = [0];
        let mut buffer = ReadBuf::new(&mut octet);
        let reading =
            poll_fn(|context| Pin::new(&mut self.transport).poll_read(context, &mut buffer));
        // Whether the task has done much already makes no difference to that.
        let mut reading = pin!(unconstrained(reading));
        reading.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// An answer has ended.
    pub(in crate::http) fn rest(&mut self) {
        self.is_idle = true;
    }

    /// Sends the `rest` of a request of this length; whether the other side has taken all of it. If it says something
    /// before, that is in `answer`.
    pub(super) async fn write(
        &mut self,
        length: usize,
        rest: &mut &[u8],
        answer: &mut BytesMut,
    ) -> Result<bool, WriteError> {
        self.is_idle = false;
        poll_fn(|context| {
            match self.poll_write(context, length, rest) {
                Poll::Ready(written) => Poll::Ready(written.map(|()| true)),
                // Whoever answers a request may not read the rest of it.
                Poll::Pending => match self.poll_read(context, answer) {
                    Poll::Ready(Ok(1..)) => Poll::Ready(Ok(false)),
                    Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(Err(WriteError::Sent)),
                    Poll::Pending => Poll::Pending,
                },
            }
        })
        .await
    }

    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        length: usize,
        rest: &mut &[u8],
    ) -> Poll<Result<(), WriteError>> {
        while !rest.is_empty() {
            match ready!(Pin::new(&mut self.transport).poll_write(context, rest)) {
                Ok(0) => return Poll::Ready(Err(WriteError::Sent)),
                Ok(written) => *rest = rest.get(written..).unwrap_or_default(),
                Err(error) if rest.len() == length && is_unread(&self.transport, length) => {
                    return Poll::Ready(Err(WriteError::Unsent(error)));
                }
                Err(_error) => return Poll::Ready(Err(WriteError::Sent)),
            }
        }
        let flushed = Pin::new(&mut self.transport).poll_flush(context);
        flushed.map_err(|_error| WriteError::Sent)
    }

    /// Reads what comes; zero: it has ended.
    pub(super) async fn read(&mut self, answer: &mut BytesMut) -> io::Result<usize> {
        poll_fn(|context| self.poll_read(context, answer)).await
    }

    /// The same, while what is `unsent` of a request goes on being sent: so many octets at its end.
    pub(super) async fn read_on(
        &mut self,
        (octets, unsent): (&[u8], &mut Option<usize>),
        answer: &mut BytesMut,
    ) -> io::Result<usize> {
        poll_fn(|context| {
            if let Some(length) = unsent {
                let from = octets.len().saturating_sub(*length);
                let mut rest = octets.get(from..).unwrap_or_default();
                let written = self.poll_write(context, usize::MAX, &mut rest);
                // That it is refused is no failure: it is answered already.
                *unsent = if written.is_pending() { Some(rest.len()) } else { None };
            }
            self.poll_read(context, answer)
        })
        .await
    }

    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        answer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        if answer.capacity() == 0 {
            *answer = buffers::for_reading();
        }
        answer.reserve(READ_BYTES);
        let read = poll_read_buf(Pin::new(&mut self.transport), context, answer);
        if read.is_pending() && answer.is_empty() {
            // Whoever waits for an application needs no room for that.
            buffers::read(std::mem::take(answer));
        }
        read
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.is_idle {
            // The other side is told of an end in order, as far as that takes no wait.
            let context = &mut Context::from_waker(Waker::noop());
            let _ = Pin::new(&mut self.transport).poll_shutdown(context);
        }
    }
}

/// Whether the other side surely reads none of `length` octets when writing the first of them fails.
fn is_unread(transport: &Transport, length: usize) -> bool {
    match transport {
        // What it does not take stays here.
        Transport::Channel(_) => true,
        // Of one record of TLS nobody reads a part.
        Transport::Plain(_) | Transport::Mutual(_) => length <= RECORD_BYTES,
        // Headers of frames share its records.
        Transport::Warm(_) => false,
    }
}

/// RFC 8446, section 5.1: as much as a record of TLS holds.
const RECORD_BYTES: usize = 1 << 14;
