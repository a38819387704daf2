//! Writes out what is in an outbox.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

use crate::http::lane::buffers;
use crate::http::mux::outbox::{Credit, Outbox};

/// What is being written.
#[derive(Debug, Default)]
pub(super) struct Writer {
    octets: Vec<u8>,
    written: usize,
    /// Something was written and may be kept back beneath.
    is_unflushed: bool,
}

impl Writer {
    /// Writes everything; pending while the other side takes no more.
    pub(super) fn poll(
        &mut self,
        mut io: Pin<&mut impl AsyncWrite>,
        outbox: &Outbox,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            while let Some(rest) = self.octets.get(self.written..).filter(|rest| !rest.is_empty()) {
                let written = ready!(io.as_mut().poll_write(context, rest))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.written += written;
                self.is_unflushed = true;
            }
            self.written = 0;
            self.octets.clear();
            if self.octets.capacity() == 0 {
                self.octets = buffers::for_writing();
            }
            give_back(outbox.take(&mut self.octets));
            if self.octets.is_empty() {
                buffers::written(std::mem::take(&mut self.octets));
                break;
            }
        }
        if self.is_unflushed {
            ready!(io.as_mut().poll_flush(context))?;
            self.is_unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Whether nothing is under way.
    pub(super) fn is_done(&self) -> bool {
        self.octets.is_empty() && !self.is_unflushed
    }
}

/// Gives room back that has become free.
pub(super) fn give_back(credits: Vec<Credit>) {
    for (outbox, stream, length) in credits {
        outbox.give_back(stream, length);
    }
}
