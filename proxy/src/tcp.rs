//! Copies bytes both ways between two streams: half-close is passed on, memory is bounded, bytes are
//! counted as they pass, and silence has an end. Who the two ends are is in outbound.rs and inbound.rs.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::{Instant, Sleep};

use crate::warm::frame::PAYLOAD_LIMIT_BYTES;

/// Where the bytes of one connection are counted.
#[derive(Clone, Debug)]
pub struct ByteCounters {
    /// From the side that opened the connection.
    pub to_server: FlowCounter,
    /// To the side that opened the connection.
    pub to_client: FlowCounter,
}

/// Bytes that flow one way. Clones share them.
#[derive(Clone, Debug)]
pub struct FlowCounter {
    /// Of all connections.
    all: Counter,
    own: Arc<AtomicU64>,
}

impl FlowCounter {
    /// Of one connection, whose bytes count among `all`.
    pub fn new(all: Counter) -> Self {
        Self { all, own: Arc::default() }
    }

    /// Of all connections.
    pub fn all(&self) -> u64 {
        self.all.get()
    }

    /// Of this one.
    pub fn own(&self) -> u64 {
        self.own.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.all.inc_by(bytes);
        self.own.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Why a copy did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// One of the two broke.
    #[error(transparent)]
    Broken(#[from] io::Error),
    /// Both were silent.
    #[error("no byte in either direction for {0:?}")]
    Idle(Duration),
}

/// Copies until both directions have ended. When one ends, its end is passed on and the other goes
/// on. Fails at the first error of either end, and when nothing was read or written for as long as
/// `idle`; the caller then resets what it can, so that bytes cut short do not look like an end.
pub async fn copy<A, B>(
    client: &mut A,
    server: &mut B,
    counters: &ByteCounters,
    idle: Duration,
) -> Result<(), CopyError>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    Copy {
        client,
        server,
        to_server: Direction::new(counters.to_server.clone()),
        to_client: Direction::new(counters.to_client.clone()),
        silence: Silence::new(idle),
    }
    .await
}

/// The future of [`copy`].
struct Copy<'a, A, B> {
    client: &'a mut A,
    server: &'a mut B,
    to_server: Direction,
    to_client: Direction,
    silence: Silence,
}

impl<A, B> Future for Copy<'_, A, B>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    type Output = Result<(), CopyError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), CopyError>> {
        let this = &mut *self;
        let to_server = this.to_server.poll(context, this.client, this.server)?;
        let to_client = this.to_client.poll(context, this.server, this.client)?;
        if to_server.is_ready() && to_client.is_ready() {
            return Poll::Ready(Ok(()));
        }
        let has_moved = this.to_server.has_moved() | this.to_client.has_moved();
        ready!(this.silence.poll(context, has_moved));
        Poll::Ready(Err(CopyError::Idle(this.silence.limit)))
    }
}

/// How long nothing has moved. The timer is set again only when it runs out: not for each byte.
struct Silence {
    limit: Duration,
    since: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Silence {
    fn new(limit: Duration) -> Self {
        Self { limit, since: Instant::now(), timer: Box::pin(tokio::time::sleep(limit)) }
    }

    fn poll(&mut self, context: &mut Context<'_>, has_moved: bool) -> Poll<()> {
        if has_moved {
            self.since = Instant::now();
        }
        loop {
            ready!(self.timer.as_mut().poll(context));
            let end = self.since + self.limit;
            if end <= Instant::now() {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(end);
        }
    }
}

/// One direction.
struct Direction {
    /// What was read last. Without room while nothing is to be written and nothing was to be read:
    /// an idle connection holds no buffer. Its room is not zeroed, which would cost more than all
    /// else that is done for a small message.
    buffer: BytesMut,
    /// How much of it is written.
    start: usize,
    /// What the next buffer's room will be.
    buffer_bytes: usize,
    phase: Phase,
    /// Whether something was written that a flush has not covered.
    unflushed: bool,
    /// Whether something was read or written since somebody asked.
    moved: bool,
    counter: FlowCounter,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Copying,
    /// The reader has ended; its end is being passed on.
    Closing,
    Ended,
}

impl Direction {
    fn new(counter: FlowCounter) -> Self {
        Self {
            buffer: BytesMut::new(),
            start: 0,
            buffer_bytes: BUFFER_BYTES,
            phase: Phase::Copying,
            unflushed: false,
            moved: false,
            counter,
        }
    }

    fn has_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    fn poll<R, W>(
        &mut self,
        context: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        // After so many buffers the other direction and other tasks get their turn.
        for _turn in 0..TURNS_PER_POLL {
            match self.phase {
                Phase::Copying => {
                    if self.start == self.buffer.len() {
                        ready!(self.poll_fill(context, reader, writer))?;
                    } else {
                        ready!(self.poll_drain(context, writer))?;
                    }
                }
                Phase::Closing => {
                    ready!(Pin::new(&mut *writer).poll_shutdown(context))?;
                    self.phase = Phase::Ended;
                }
                Phase::Ended => return Poll::Ready(Ok(())),
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_fill<R, W>(
        &mut self,
        context: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        self.start = 0;
        self.buffer.clear();
        if self.buffer.capacity() < self.buffer_bytes {
            self.buffer = BytesMut::with_capacity(self.buffer_bytes);
        }
        // Nothing is lost with the future: it has no state of its own.
        match pin!(reader.read_buf(&mut self.buffer)).poll(context) {
            Poll::Ready(result) => {
                let length = result?;
                self.moved = true;
                if length == 0 {
                    self.phase = Phase::Closing;
                    self.buffer = BytesMut::new();
                } else if length >= self.buffer_bytes {
                    // It came faster than this buffer takes it: bulk.
                    self.buffer_bytes = (self.buffer_bytes * 2).min(BUFFER_LIMIT_BYTES);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Pending => {
                self.buffer = BytesMut::new();
                // Only now: while more was to be read, a flush would have cut records short.
                if self.unflushed {
                    ready!(Pin::new(writer).poll_flush(context))?;
                    self.unflushed = false;
                }
                Poll::Pending
            }
        }
    }

    fn poll_drain<W>(&mut self, context: &mut Context<'_>, writer: &mut W) -> Poll<io::Result<()>>
    where
        W: AsyncWrite + Unpin,
    {
        let rest = self.buffer.get(self.start..).unwrap_or_default();
        let written = ready!(Pin::new(writer).poll_write(context, rest))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.start += written;
        self.unflushed = true;
        self.moved = true;
        self.counter.add(written);
        Poll::Ready(Ok(()))
    }
}

/// One TLS record's worth.
const BUFFER_BYTES: usize = 16 * 1024;
/// Larger ones gain nothing over TLS, whose library holds at most 64 KiB unsent: that is one frame.
const BUFFER_LIMIT_BYTES: usize = PAYLOAD_LIMIT_BYTES;
const TURNS_PER_POLL: usize = 16;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    struct Ends {
        client: DuplexStream,
        server: DuplexStream,
        counters: ByteCounters,
        copying: tokio::task::JoinHandle<Result<(), CopyError>>,
    }

    #[expect(clippy::disallowed_methods, reason = "a test's own task")]
    fn start(capacity_bytes: usize) -> Ends {
        let (client, mut near) = duplex(capacity_bytes);
        let (server, mut far) = duplex(capacity_bytes);
        let counter = || FlowCounter::new(Counter::default());
        let counters = ByteCounters { to_server: counter(), to_client: counter() };
        let counted = counters.clone();
        let copying = tokio::spawn(async move { copy(&mut near, &mut far, &counted, IDLE).await });
        Ends { client, server, counters, copying }
    }

    #[tokio::test]
    async fn after_one_side_has_ended_the_other_still_answers() {
        let Ends { mut client, mut server, counters, copying } = start(64);
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut question = String::new();
        server.read_to_string(&mut question).await.unwrap();
        assert_eq!(question, "question");
        server.write_all(b"a long answer").await.unwrap();
        drop(server);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "a long answer");
        copying.await.unwrap().unwrap();
        assert_eq!((counters.to_server.own(), counters.to_client.all()), (8, 13));
    }

    #[tokio::test]
    async fn bulk_arrives_whole_through_small_pipes() {
        let Ends { mut client, mut server, counters, copying } = start(1000);
        let sent: Vec<u8> = (0..1_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
        let expected = sent.clone();
        let write = async {
            client.write_all(&sent).await.unwrap();
            client.shutdown().await.unwrap();
        };
        let mut received = Vec::new();
        let read = async {
            server.read_to_end(&mut received).await.unwrap();
            server.shutdown().await.unwrap();
        };
        tokio::join!(write, read);
        assert!(received == expected);
        assert_eq!(counters.to_server.all(), 1_000_000);
        copying.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn an_end_that_breaks_is_an_error() {
        let Ends { mut client, server, copying, .. } = start(64);
        drop(server);
        client.write_all(b"into the void").await.unwrap();
        assert!(copying.await.unwrap().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn silence_of_both_sides_ends_it() {
        let Ends { mut client, mut server, copying, .. } = start(64);
        // Either side's bytes begin it anew.
        for minute in 0..5 {
            tokio::time::sleep(IDLE - Duration::from_secs(1)).await;
            let (from, to) = match minute % 2 {
                0 => (&mut client, &mut server),
                _ => (&mut server, &mut client),
            };
            from.write_all(b"a").await.unwrap();
            assert_eq!(to.read_u8().await.unwrap(), b'a');
        }
        let spoken = Instant::now();
        let ended = copying.await.unwrap();
        assert!(matches!(ended, Err(CopyError::Idle(IDLE))), "{ended:?}");
        assert_eq!(spoken.elapsed(), IDLE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_that_is_half_closed_and_silent_ends_too() {
        let Ends { mut client, server, copying, .. } = start(64);
        client.shutdown().await.unwrap();
        let ended = copying.await.unwrap();
        assert!(matches!(ended, Err(CopyError::Idle(IDLE))), "{ended:?}");
        drop(server);
    }

    #[tokio::test(start_paused = true)]
    async fn a_side_that_does_not_take_what_it_is_sent_is_silent() {
        let Ends { mut client, server, copying, .. } = start(64);
        let sending = client.write_all(&[0; 100_000]);
        let (sent, ended) = tokio::join!(sending, copying);
        assert!(matches!(ended.unwrap(), Err(CopyError::Idle(IDLE))));
        assert!(sent.is_err());
        drop(server);
    }
}
