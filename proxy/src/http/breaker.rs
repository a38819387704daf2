//! Ends a connection in a reset when what it carried was cut short. A body without a length ends
//! with its connection: an orderly end would make of half of it a whole one.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use heddle_tls::stream::TlsStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::connect::{Transport, reset_on_close};
use crate::rewind::Rewind;

/// Tripped by who finds that something broke; read by the connection when it is dropped.
#[derive(Clone, Debug, Default)]
pub struct Breaker(Arc<AtomicBool>);

impl Breaker {
    /// The connection ends in a reset.
    pub fn trip(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_tripped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A connection that can end in a reset.
pub trait Reset {
    /// Makes the close that follows a reset.
    fn reset(&self);
}

impl Reset for TcpStream {
    fn reset(&self) {
        reset_on_close(self);
    }
}

impl Reset for Transport {
    fn reset(&self) {
        self.reset_on_close();
    }
}

impl<S: Reset> Reset for Rewind<S> {
    fn reset(&self) {
        self.stream().reset();
    }
}

impl<S: Reset> Reset for TlsStream<S> {
    fn reset(&self) {
        self.get_ref().0.reset();
    }
}

/// A connection with its breaker.
#[derive(Debug)]
pub struct Breakable<I: Reset> {
    io: I,
    breaker: Breaker,
}

impl<I: Reset> Breakable<I> {
    /// Ends in a reset if `breaker` was tripped by then.
    pub fn new(io: I, breaker: Breaker) -> Self {
        Self { io, breaker }
    }
}

impl<I: Reset> Drop for Breakable<I> {
    fn drop(&mut self) {
        if self.breaker.is_tripped() {
            self.io.reset();
        }
    }
}

impl<I: Reset + AsyncRead + Unpin> AsyncRead for Breakable<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<I: Reset + AsyncWrite + Unpin> AsyncWrite for Breakable<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.breaker.is_tripped() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
