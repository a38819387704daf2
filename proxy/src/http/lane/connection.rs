//! A connection to an endpoint that the lane uses: one request at a time, without a task of its own. Which of them are
//! kept is in pool.rs.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_util::io::poll_read_buf;

use crate::balance::queue::Slot;
use crate::connect::{Opened, Transport};
use crate::http::gate::io::READ_BYTES;

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
        self.retire_at.is_none_or(|at| now < at) && self.is_silent()
    }

    /// Between two answers there is nothing to be read: an end is one, and all else belongs to no request.
    fn is_silent(&mut self) -> bool {
        let mut octet = [0];
        let context = &mut Context::from_waker(Waker::noop());
        Pin::new(&mut self.transport).poll_read(context, &mut ReadBuf::new(&mut octet)).is_pending()
    }

    /// An answer has ended.
    pub(in crate::http) fn rest(&mut self) {
        self.is_idle = true;
    }

    /// Sends a request.
    pub(super) async fn write(&mut self, octets: &[u8]) -> Result<(), WriteError> {
        self.is_idle = false;
        let mut rest = octets;
        poll_fn(|context| {
            while !rest.is_empty() {
                match ready!(Pin::new(&mut self.transport).poll_write(context, rest)) {
                    Ok(0) => return Poll::Ready(Err(WriteError::Sent)),
                    Ok(length) => rest = rest.get(length..).unwrap_or_default(),
                    Err(error) if rest.len() == octets.len() => {
                        return Poll::Ready(Err(WriteError::Unsent(error)));
                    }
                    Err(_error) => return Poll::Ready(Err(WriteError::Sent)),
                }
            }
            let flushed = Pin::new(&mut self.transport).poll_flush(context);
            flushed.map_err(|_error| WriteError::Sent)
        })
        .await
    }

    /// Reads what comes; zero: it has ended.
    pub(super) async fn read(&mut self, answer: &mut BytesMut) -> io::Result<usize> {
        poll_fn(|context| {
            answer.reserve(READ_BYTES);
            poll_read_buf(Pin::new(&mut self.transport), context, answer)
        })
        .await
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
