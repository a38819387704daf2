//! Copies bytes both ways until both ends have said all they had to say. A connection that is still holds no buffer:
//! all connections of the thread read into the same one, and only what could not be written on at once is kept.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Copies until both directions have ended, or one has failed.
pub async fn copy<A, B>(mut near: A, mut far: B) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut out, mut back) = (Direction::default(), Direction::default());
    std::future::poll_fn(|context| {
        let out = out.poll(context, &mut near, &mut far)?;
        let back = back.poll(context, &mut far, &mut near)?;
        if out.is_ready() && back.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

/// One of the two.
#[derive(Debug, Default)]
struct Direction {
    /// Read and not yet written, from `written` on.
    kept: Vec<u8>,
    written: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// Everything is read.
    Ending,
    Ended,
}

impl Direction {
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_write_kept(context, to))?;
            match self.state {
                State::Ended => return Poll::Ready(Ok(())),
                State::Ending => {
                    ready!(Pin::new(&mut *to).poll_shutdown(context))?;
                    self.state = State::Ended;
                }
                State::Open => {
                    let moved = SCRATCH
                        .with_borrow_mut(|scratch| self.poll_move(context, from, to, scratch));
                    if moved.is_pending() {
                        // Nothing more to read for now: what was written is not to wait for more.
                        ready!(Pin::new(&mut *to).poll_flush(context))?;
                        return Poll::Pending;
                    }
                    ready!(moved)?;
                }
            }
        }
    }

    /// Reads once, and writes what it can of that.
    fn poll_move(
        &mut self,
        context: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        scratch: &mut [u8],
    ) -> Poll<io::Result<()>> {
        let mut buffer = ReadBuf::new(scratch);
        ready!(Pin::new(from).poll_read(context, &mut buffer))?;
        if buffer.filled().is_empty() {
            self.state = State::Ending;
        }
        let mut rest = buffer.filled();
        while !rest.is_empty() {
            match Pin::new(&mut *to).poll_write(context, rest)? {
                Poll::Ready(written) => rest = rest.get(written..).unwrap_or_default(),
                Poll::Pending => {
                    self.kept.extend_from_slice(rest);
                    break;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_kept(
        &mut self,
        context: &mut Context<'_>,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        while let Some(rest) = self.kept.get(self.written..).filter(|rest| !rest.is_empty()) {
            self.written += ready!(Pin::new(&mut *to).poll_write(context, rest))?;
        }
        (self.kept, self.written) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH_BYTES]);
}

/// Four whole TLS records.
const SCRATCH_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn all_bytes_arrive_in_order_and_each_end_is_passed_on() {
        // Smaller than what is sent, so that much of it has to be kept.
        let (mut client, near) = duplex(1000);
        let (far, mut server) = duplex(700);
        let sent: Vec<u8> = (0..300_000_u32).map(|number| number.to_le_bytes()[0]).collect();
        let expected = sent.clone();
        let talk = async {
            client.write_all(&sent).await.unwrap();
            client.shutdown().await.unwrap();
            let mut back = Vec::new();
            client.read_to_end(&mut back).await.unwrap();
            back
        };
        let answer = async {
            let mut heard = Vec::new();
            server.read_to_end(&mut heard).await.unwrap();
            server.write_all(b"heard").await.unwrap();
            server.shutdown().await.unwrap();
            heard
        };
        let (copied, back, heard) = tokio::join!(copy(near, far), talk, answer);
        copied.unwrap();
        assert_eq!((back.as_slice(), heard), (&b"heard"[..], expected));
    }
}
