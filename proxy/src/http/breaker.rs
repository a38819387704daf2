//! Ends a connection in a reset when what it carried was cut short. A body without a length ends
//! with its connection: an orderly end would make of half of it a whole one.
//!
//! And the other way round, keeps an answer from being lost to a reset: the kernel sends one when a
//! connection is closed of which not all was read, and when the other side writes to one that is
//! closed. An answer that came before its request was all there would then be lost on its way.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use heddle_tls::stream::TlsStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use crate::connect::{Transport, reset_on_close};
use crate::rewind::Rewind;

/// Tripped by who finds that something broke; read by the connection when it is dropped.
#[derive(Clone, Debug, Default)]
pub struct Breaker(Arc<Findings>);

#[derive(Debug, Default)]
struct Findings {
    broke: AtomicBool,
    left_unread: AtomicBool,
}

impl Breaker {
    /// The connection ends in a reset.
    pub fn trip(&self) {
        self.0.broke.store(true, Ordering::Relaxed);
    }

    /// Not all of a request is read: the connection is closed only after the client has closed it, or
    /// a while.
    pub fn leave_unread(&self) {
        self.0.left_unread.store(true, Ordering::Relaxed);
    }

    fn is_tripped(&self) -> bool {
        self.0.broke.load(Ordering::Relaxed)
    }

    fn is_left_unread(&self) -> bool {
        self.0.left_unread.load(Ordering::Relaxed)
    }
}

/// A connection that can end in a reset.
pub trait Reset {
    /// Makes the close that follows a reset.
    fn reset(&self);
}

/// A connection, whatever carries it: what serves it is there once, and not for each kind.
pub trait ByteStream: AsyncRead + AsyncWrite + Reset + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Reset + Unpin + Send> ByteStream for S {}

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

impl<S: Reset + ?Sized> Reset for Box<S> {
    fn reset(&self) {
        (**self).reset();
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
    hearing: Hearing,
    /// After the own side has ended: until when the other's is awaited.
    linger: Option<Pin<Box<Sleep>>>,
}

/// Whether the other side takes what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hearing {
    /// If it does not, the connection is broken.
    Required,
    Expected,
    /// It does not: what is written is thrown away, so that what it said before is still read.
    Deaf,
}

impl<I: Reset> Breakable<I> {
    /// Ends in a reset if `breaker` was tripped by then.
    pub fn new(io: I, breaker: Breaker) -> Self {
        Self { io, breaker, hearing: Hearing::Required, linger: None }
    }

    /// The same for a side that may answer before it has heard all: that it refuses what is written
    /// is no failure. The read that follows is one, unless the answer is there and tells its own end.
    pub fn to_server(io: I, breaker: Breaker) -> Self {
        Self { io, breaker, hearing: Hearing::Expected, linger: None }
    }

    fn is_deaf(&self) -> bool {
        self.hearing == Hearing::Deaf
    }

    fn forgive(&mut self, written: io::Result<usize>, length: usize) -> io::Result<usize> {
        match (self.hearing, written) {
            (Hearing::Expected | Hearing::Deaf, Err(error)) if is_refused(&error) => {
                self.hearing = Hearing::Deaf;
                Ok(length)
            }
            (_, written) => written,
        }
    }
}

impl<I: Reset + AsyncRead + Unpin> Breakable<I> {
    /// Reads what still comes, and throws it away.
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let sleep = || Box::pin(tokio::time::sleep(LINGER_LIMIT));
        let limit = self.linger.get_or_insert_with(sleep);
        if limit.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let mut thrown_away = [0; LINGER_BUFFER_BYTES];
        for _turn in 0..LINGER_TURNS_PER_POLL {
            let mut buffer = ReadBuf::new(&mut thrown_away);
            let read = ready!(Pin::new(&mut self.io).poll_read(context, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                return Poll::Ready(());
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

fn is_refused(error: &io::Error) -> bool {
    [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset].contains(&error.kind())
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
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(context, buffer))?;
        // The error that told of the reset was taken for a deaf ear: this is no end.
        if self.is_deaf() && buffer.filled().len() == before {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: Reset + AsyncRead + AsyncWrite + Unpin> AsyncWrite for Breakable<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_deaf() {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = ready!(Pin::new(&mut self.io).poll_write(context, bytes));
        Poll::Ready(self.forgive(written, bytes.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        if self.is_deaf() {
            return Poll::Ready(Ok(length));
        }
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(context, slices));
        Poll::Ready(self.forgive(written, length))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_deaf() {
            return Poll::Ready(Ok(()));
        }
        let flushed = ready!(Pin::new(&mut self.io).poll_flush(context)).map(|()| 0);
        Poll::Ready(self.forgive(flushed, 0).map(drop))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.breaker.is_tripped() {
            return Poll::Ready(Ok(()));
        }
        if self.linger.is_none() {
            ready!(Pin::new(&mut self.io).poll_shutdown(context))?;
        }
        if self.breaker.is_left_unread() {
            ready!(self.poll_linger(context));
        }
        Poll::Ready(Ok(()))
    }
}

/// As long as a client may go on sending, after the answer, what nobody reads.
const LINGER_LIMIT: Duration = Duration::from_secs(5);
const LINGER_BUFFER_BYTES: usize = 4 * 1024;
const LINGER_TURNS_PER_POLL: usize = 16;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::time::Instant;

    use super::*;

    /// A connection whose other side has reset it after it said something.
    struct ResetAfter(DuplexStream);

    impl Reset for ResetAfter {
        fn reset(&self) {}
    }

    impl AsyncRead for ResetAfter {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(context, buffer)
        }
    }

    impl AsyncWrite for ResetAfter {
        fn poll_write(
            self: Pin<&mut Self>,
            _context: &mut Context<'_>,
            _bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Tests have no sockets where the clock is theirs.
    impl Reset for DuplexStream {
        fn reset(&self) {}
    }

    #[tokio::test]
    async fn what_a_server_said_before_it_refused_is_heard_and_its_end_is_no_end() {
        let (mut near, far) = duplex(64);
        near.write_all(b"answer").await.unwrap();
        drop(near);
        let mut server = Breakable::to_server(ResetAfter(far), Breaker::default());
        server.write_all(b"a body that nobody takes").await.unwrap();
        let mut answer = [0; 6];
        server.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"answer");
        let end = server.read(&mut answer).await;
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);

        let (_near, far) = duplex(64);
        let mut client = Breakable::new(ResetAfter(far), Breaker::default());
        let refused = client.write_all(b"an answer that the client does not take").await;
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_with_something_unread_waits_for_its_client_but_not_for_ever() {
        for (case, is_unread, client_leaves, waits) in [
            ("all was read", false, false, Duration::ZERO),
            ("the client leaves", true, true, Duration::ZERO),
            ("the client stays", true, false, LINGER_LIMIT),
        ] {
            let (mut near, far) = duplex(64);
            let breaker = Breaker::default();
            let mut connection = Breakable::new(far, breaker.clone());
            if is_unread {
                breaker.leave_unread();
            }
            near.write_all(b"the rest of a body").await.unwrap();
            if client_leaves {
                near.shutdown().await.unwrap();
            }
            let began = Instant::now();
            connection.shutdown().await.unwrap();
            let waited = began.elapsed();
            let tolerance = Duration::from_millis(10);
            assert!(waited >= waits && waited < waits + tolerance, "{case}: {waited:?}");
            let mut end = Vec::new();
            near.read_to_end(&mut end).await.unwrap();
            assert!(end.is_empty(), "{case}");
        }
    }
}
