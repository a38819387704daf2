//! A connection of HTTP/2 whose frames are counted as they pass. What is too much is decided in
//! frames.rs.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::http::frames::{Budgets, Excess, FrameCounter};

/// Passes bytes on, and fails to read once the client has sent too much of a kind, which ends the
/// connection. h2 then has no way to send a GOAWAY: nothing that it waits for is read any more.
#[derive(Debug)]
pub struct Metered<I> {
    io: I,
    begun: Instant,
    meter: Meter,
}

/// What was counted so far. Clones share it.
#[derive(Clone, Debug)]
pub struct Meter(Arc<Mutex<FrameCounter>>);

/// The client has sent too much of a kind of frame.
#[derive(Debug, thiserror::Error)]
#[error("too many frames: {}", .0.as_str())]
struct TooMany(Excess);

impl Meter {
    /// What there was too much of.
    pub fn excess(&self) -> Option<Excess> {
        self.0.lock().excess()
    }

    /// Whether the client has sent its whole preface.
    pub fn is_begun(&self) -> bool {
        self.0.lock().is_begun()
    }
}

impl<I> Metered<I> {
    /// Counts from here on; nothing of the connection was read or written yet.
    pub fn new(io: I, budgets: Budgets) -> (Self, Meter) {
        let meter = Meter(Arc::new(Mutex::new(FrameCounter::new(budgets))));
        (Self { io, begun: Instant::now(), meter: meter.clone() }, meter)
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Metered<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(context, buffer))?;
        let read = buffer.filled().get(before..).unwrap_or_default();
        let mut counter = self.meter.0.lock();
        counter.receive(read, self.begun.elapsed());
        match counter.excess() {
            Some(excess) if !excess.is_bounded_by_h2() => {
                Poll::Ready(Err(io::Error::other(TooMany(excess))))
            }
            Some(_) | None => Poll::Ready(Ok(())),
        }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Metered<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(context, bytes))?;
        self.meter.0.lock().send(bytes.get(..written).unwrap_or_default());
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(context, slices))?;
        let mut counter = self.meter.0.lock();
        let mut left = written;
        for slice in slices {
            let part = slice.get(..left.min(slice.len())).unwrap_or_default();
            counter.send(part);
            left -= part.len();
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
