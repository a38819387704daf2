//! One turn of a warm connection: reads and writes the application's bytes, as frames. Copies none of
//! them. A turn that ended on both sides gives the connection back; whatever else becomes of it, the
//! connection goes with it, so that no byte of one turn is ever read in another.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::num::NonZeroU16;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

use crate::http::breaker::Reset;
use crate::warm::frame::{Frame, FrameError, HEADER_BYTES, Heard, Hearing, PAYLOAD_LIMIT_BYTES};

/// A turn on the connection `S`.
#[derive(Debug)]
pub struct Carrier<S> {
    stream: S,
    hearing: Hearing,
    outbox: Outbox,
    /// So many bytes are promised by a header that was written.
    payload_left: usize,
    telling: Telling,
    /// What was told is in the connection, and has not left it.
    is_unsent: bool,
    /// What went wrong after something was read, which was handed on first.
    failed: Option<io::Error>,
}

/// What was said of the own side's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Telling {
    Open,
    /// It is in the outbox, or in the connection's own buffer.
    Ending,
    Ended,
}

/// How the other side began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// With the frame that a turn begins with.
    Begun,
    /// Not at all: it closed the connection between two turns.
    Closed,
}

impl<S> Carrier<S> {
    /// Opens a turn: that is told with the first bytes that are written, or when it is first read.
    pub fn opening(stream: S) -> Self {
        let mut carrier = Self::new(stream, Hearing::of_client());
        carrier.outbox.push(Frame::Open);
        carrier
    }

    /// Waits for the other side to open a turn.
    pub fn awaiting(stream: S) -> Self {
        Self::new(stream, Hearing::of_server())
    }

    fn new(stream: S, hearing: Hearing) -> Self {
        let (outbox, telling) = (Outbox::default(), Telling::Open);
        Self { stream, hearing, outbox, payload_left: 0, telling, is_unsent: false, failed: None }
    }

    /// The connection, for its socket.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// The connection, for another turn; `None` unless both sides have ended this one.
    pub fn finish(self) -> Option<S> {
        let is_over = self.hearing.has_ended() && self.telling == Telling::Ended;
        is_over.then_some(self.stream)
    }

    #[cfg(test)]
    pub(crate) fn finish_anyway(self) -> S {
        self.stream
    }
}

impl<S: AsyncBufRead + AsyncWrite + Unpin> Carrier<S> {
    /// Waits for the other side's first frame. What is not sent yet is sent before.
    ///
    /// Cancel safe: what was read of the frame is kept.
    pub async fn begun(&mut self) -> io::Result<Beginning> {
        poll_fn(|context| self.poll_begun(context)).await
    }

    fn poll_begun(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Beginning>> {
        self.poll_tell(context)?;
        loop {
            let bytes = match ready!(Pin::new(&mut self.stream).poll_fill_buf(context)) {
                Ok(bytes) => bytes,
                // The peer need not say that it closes a connection that carries nothing.
                Err(error)
                    if error.kind() == io::ErrorKind::UnexpectedEof
                        && self.hearing.is_untouched() =>
                {
                    return Poll::Ready(Ok(Beginning::Closed));
                }
                Err(error) => return Poll::Ready(Err(error)),
            };
            if bytes.is_empty() {
                let is_clean = self.hearing.is_untouched();
                let closed = if is_clean { Ok(Beginning::Closed) } else { Err(cut_short()) };
                return Poll::Ready(closed);
            }
            let (taken, heard) = self.hearing.hear(bytes).map_err(refused)?;
            Pin::new(&mut self.stream).consume(taken);
            match heard {
                Heard::Part => {}
                Heard::Begun => return Poll::Ready(Ok(Beginning::Begun)),
                // Nobody asks again once it has begun.
                Heard::Payload(_) | Heard::End => return Poll::Ready(Err(cut_short())),
            }
        }
    }

    /// Says that the turn is taken on.
    ///
    /// Cancel safe: no; dropped half way, it is said with the next bytes.
    pub async fn accept(&mut self) -> io::Result<()> {
        self.outbox.push(Frame::Accept);
        poll_fn(|context| Pin::new(&mut *self).poll_flush(context)).await
    }

    /// Whether the other side has kept still since the last turn. Asks no more than what is known
    /// without waiting.
    pub fn is_still(stream: &mut S) -> bool {
        let mut context = Context::from_waker(std::task::Waker::noop());
        Pin::new(stream).poll_fill_buf(&mut context).is_pending()
    }

    /// Writes what is in the outbox. Ready or not, reading goes on.
    fn poll_tell(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let has_something = self.is_unsent || !self.outbox.is_empty();
        if has_something && self.poll_outbox(context)?.is_ready() {
            self.is_unsent = Pin::new(&mut self.stream).poll_flush(context)?.is_pending();
        }
        Ok(())
    }

    fn poll_outbox(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outbox.is_empty() {
            let written =
                ready!(Pin::new(&mut self.stream).poll_write(context, self.outbox.bytes()))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outbox.took(written);
        }
        Poll::Ready(Ok(()))
    }

    /// Writes a part of `payload`, and before it what is in the outbox, in one.
    fn poll_payload(
        &mut self,
        context: &mut Context<'_>,
        payload: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let before = self.outbox.bytes().len();
            let stream = Pin::new(&mut self.stream);
            let written = if before == 0 {
                ready!(stream.poll_write(context, payload))?
            } else {
                let slices = [IoSlice::new(self.outbox.bytes()), IoSlice::new(payload)];
                ready!(stream.poll_write_vectored(context, &slices))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let headers = written.min(before);
            self.outbox.took(headers);
            if written > headers {
                return Poll::Ready(Ok(written - headers));
            }
        }
    }
}

impl<S: AsyncBufRead + AsyncWrite + Unpin> AsyncRead for Carrier<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        // A header whose payload waits for room is of no use alone.
        if this.payload_left == 0 {
            this.poll_tell(context)?;
        }
        if let Some(error) = this.failed.take() {
            return Poll::Ready(Err(error));
        }
        let before = buffer.filled().len();
        while !this.hearing.has_ended() {
            let has_read = buffer.filled().len() > before;
            // What is read of a frame is handed on in one, so that it is written in one.
            if buffer.remaining() == 0 || (has_read && !this.hearing.is_in_payload()) {
                break;
            }
            let bytes = match Pin::new(&mut this.stream).poll_fill_buf(context) {
                Poll::Ready(Ok(bytes)) if !bytes.is_empty() => bytes,
                // First what there is. An end stays one, but an error may be told only once.
                Poll::Ready(Err(error)) if has_read => {
                    this.failed = Some(error);
                    break;
                }
                _ if has_read => break,
                Poll::Ready(Ok(_)) => return Poll::Ready(Err(cut_short())),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            };
            let (header, heard) = this.hearing.hear(bytes).map_err(refused)?;
            let mut taken = header;
            if let Heard::Payload(most) = heard {
                let payload = bytes.get(header..).unwrap_or_default();
                let length = most.min(payload.len()).min(buffer.remaining());
                buffer.put_slice(payload.get(..length).unwrap_or_default());
                this.hearing.took(length);
                taken += length;
            }
            Pin::new(&mut this.stream).consume(taken);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncBufRead + AsyncWrite + Unpin> AsyncWrite for Carrier<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.telling != Telling::Open {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if this.payload_left == 0 {
            let length = u16::try_from(bytes.len().min(PAYLOAD_LIMIT_BYTES)).unwrap_or(u16::MAX);
            let Some(length) = NonZeroU16::new(length) else { return Poll::Ready(Ok(0)) };
            this.outbox.push(Frame::Data(length));
            this.payload_left = usize::from(length.get());
        }
        let length = bytes.len().min(this.payload_left);
        let payload = bytes.get(..length).unwrap_or_default();
        let written = ready!(this.poll_payload(context, payload))?;
        this.payload_left -= written;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_outbox(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    /// Ends this side's half of the turn. The connection stays.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.telling {
            Telling::Open if self.payload_left > 0 => {
                // The other side would take what comes next for the bytes that were promised.
                return Poll::Ready(Err(io::Error::other("ended in the middle of a frame")));
            }
            Telling::Open => {
                self.outbox.push(Frame::End);
                self.telling = Telling::Ending;
            }
            Telling::Ending => {}
            Telling::Ended => return Poll::Ready(Ok(())),
        }
        ready!(self.as_mut().poll_flush(context))?;
        self.telling = Telling::Ended;
        Poll::Ready(Ok(()))
    }
}

impl<S: Reset> Reset for Carrier<S> {
    fn reset(&self) {
        self.stream.reset();
    }
}

/// Headers on their way.
#[derive(Clone, Copy, Debug, Default)]
struct Outbox {
    bytes: [u8; OUTBOX_BYTES],
    start: usize,
    end: usize,
}

impl Outbox {
    fn push(&mut self, frame: Frame) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        for byte in frame.encode() {
            if let Some(place) = self.bytes.get_mut(self.end) {
                *place = byte;
                self.end += 1;
            }
        }
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn took(&mut self, length: usize) {
        self.start = (self.start + length).min(self.end);
    }
}

/// The other side has left where it may not.
fn cut_short() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the peer left in the middle of a turn")
}

fn refused(error: FrameError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// The beginning of a turn, one header of bytes that is half written, and one more.
const OUTBOX_BYTES: usize = 4 * HEADER_BYTES;

#[cfg(test)]
mod tests;
