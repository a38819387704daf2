//! One end of a channel. Its methods stay out of line: they would make those of `Transport`, which bytes that the mesh does not
//! read pass as well, too large to be inlined themselves. Closing it before it has ended in order breaks it off, for the other side as well.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http::breaker::Reset;
use crate::multiplex::Session;

/// See the module.
#[derive(Debug)]
pub struct Channel {
    session: Arc<Session>,
    id: u32,
}

impl Channel {
    pub(super) fn new(session: Arc<Session>, id: u32) -> Self {
        Self { session, id }
    }

    /// What it shares with others.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Whether there is nothing to be read, not even an end.
    pub fn is_silent(&self) -> bool {
        self.session.state.lock().is_silent(self.id)
    }
}

impl Reset for Channel {
    fn reset(&self) {
        self.session.change(|state| state.reset(self.id));
    }
}

impl AsyncRead for Channel {
    #[inline(never)]
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.session.change(|state| state.poll_read(self.id, context, buffer))
    }
}

impl AsyncWrite for Channel {
    #[inline(never)]
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.session.change(|state| state.poll_write(self.id, context, octets))
    }

    /// What was written is the connection's, which writes it as soon as it can.
    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    #[inline(never)]
    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.session.change(|state| state.end(self.id));
        Poll::Ready(Ok(()))
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.session.change(|state| state.leave(self.id));
    }
}
