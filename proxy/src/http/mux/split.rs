//! Beneath h2: takes the frames of simple requests out of a client's connection, and leaves h2 all others. What h2 and the
//! lane have to say goes out together.

mod general;
mod incoming;
mod lost;
mod streams;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_util::io::poll_read_buf;

use crate::http::hpack::decoder::Decoder;
use crate::http::hpack::fields::Fields;
use crate::http::lane::buffers;
use crate::http::mux::READ_BYTES;
use crate::http::mux::block::Block;
use crate::http::mux::frame::{self, PREFACE, TABLE_BYTES};
use crate::http::mux::outbox::{Outbox, Role};
use crate::http::mux::split::general::General;
use crate::http::mux::split::streams::Streams;
use crate::http::mux::writer::Writer;
use crate::http::server::open::Openings;
use crate::http::stack::express::Express;

/// See the module.
#[derive(Debug)]
pub struct Split<I> {
    io: I,
    /// `None`: everything is h2's.
    lane: Option<Box<Lane>>,
}

/// What the lane needs of a connection.
pub struct Entrance {
    /// Decides on requests.
    pub express: Express,
    /// Counts streams.
    pub openings: Openings,
    /// What the client may have under way, in octets.
    pub window_bytes: u32,
    /// When to take no new request; `None`: never.
    pub until: Option<Instant>,
}

struct Lane {
    outbox: Arc<Outbox>,
    writer: Writer,
    /// What came and was not looked at.
    input: BytesMut,
    /// How much of the preface is to come.
    preface: usize,
    decoder: Decoder,
    fields: Fields,
    /// A head of which more is to come.
    block: Option<Block>,
    /// The last stream that the client began, and the last that was looked at: others come after h2 has said that it
    /// looks at no more.
    seen: u32,
    last: u32,
    /// DATA without data.
    empty: u32,
    streams: Streams,
    general: General,
    /// h2 has to look at what there is before more is looked at.
    is_h2s_turn: bool,
    has_ended: bool,
    /// Since when h2 has nothing more to do.
    finished_at: Option<Instant>,
}

impl<I> Split<I> {
    /// With `entrance`, the lane takes what it can; and who is told of streams that stand still.
    pub fn new(io: I, entrance: Option<Entrance>) -> (Self, Option<Arc<Outbox>>) {
        let Some(Entrance { express, openings, window_bytes, until }) = entrance else {
            return (Self { io, lane: None }, None);
        };
        let outbox = Arc::new(Outbox::new(Role::Server, window_bytes));
        let lane = Lane {
            outbox: Arc::clone(&outbox),
            writer: Writer::default(),
            input: BytesMut::new(),
            preface: PREFACE.len(),
            decoder: Decoder::new(usize::try_from(TABLE_BYTES).unwrap_or_default()),
            fields: Fields::default(),
            block: None,
            seen: 0,
            last: 0,
            empty: 0,
            streams: Streams::new((express, openings), until, &outbox),
            general: General::new(),
            is_h2s_turn: false,
            has_ended: false,
            finished_at: None,
        };
        (Self { io, lane: Some(Box::new(lane)) }, Some(outbox))
    }
}

impl Lane {
    /// Writes what there is, reads what there is, and writes what follows of that.
    fn turn<I>(&mut self, io: &mut I, context: &mut Context<'_>) -> io::Result<()>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        self.outbox.begin_turn();
        loop {
            if !self.is_h2s_turn {
                self.take_news();
            }
            let is_blocked = self.write(io, context)?.is_pending();
            let read = self.read(io, context);
            let is_blocked = is_blocked || self.write(io, context)?.is_pending();
            let is_cut_short = read?;
            let has_more = self.outbox.end_turn(context.waker()) || is_cut_short;
            let is_news_alone = is_blocked && !self.outbox.has_news();
            if !has_more || is_news_alone || self.is_h2s_turn {
                return Ok(());
            }
            self.outbox.begin_turn();
        }
    }

    fn write(
        &mut self,
        io: &mut (impl AsyncWrite + Unpin),
        context: &mut Context<'_>,
    ) -> io::Result<Poll<()>> {
        match self.writer.poll(Pin::new(io), &self.outbox, context) {
            Poll::Ready(written) => written.map(Poll::Ready),
            Poll::Pending => Ok(Poll::Pending),
        }
    }

    /// Whether more may be there, since what is to be written has to leave first.
    fn read(
        &mut self,
        io: &mut (impl AsyncRead + Unpin),
        context: &mut Context<'_>,
    ) -> io::Result<bool> {
        loop {
            self.look()?;
            let is_full = self.outbox.ready() >= ANSWER_LIMIT_BYTES;
            let is_h2s = self.is_h2s_turn || self.general.unread().len() >= UNREAD_LIMIT_BYTES;
            if self.has_ended || is_h2s || is_full {
                return Ok(is_full);
            }
            if self.input.capacity() == 0 {
                self.input = buffers::for_reading();
            }
            self.input.reserve(READ_BYTES);
            match poll_read_buf(Pin::new(&mut *io), context, &mut self.input)? {
                Poll::Ready(0) => self.has_ended = true,
                Poll::Ready(_length) => {}
                Poll::Pending => {
                    if self.input.is_empty() {
                        buffers::read(std::mem::take(&mut self.input));
                    }
                    return Ok(false);
                }
            }
        }
    }

    /// Looks at all frames that are whole.
    fn look(&mut self) -> io::Result<()> {
        let mut input = std::mem::take(&mut self.input);
        let mut rest: &[u8] = &input;
        let (preface, after) = rest.split_at(rest.len().min(self.preface));
        self.general.pass_raw(preface);
        self.preface -= preface.len();
        rest = after;
        let mut outcome = Ok(());
        while self.preface == 0
            && !self.is_h2s_turn
            && self.general.unread().len() < UNREAD_LIMIT_BYTES
            && outcome.is_ok()
        {
            match frame::split(rest) {
                Ok(Some((head, payload, after))) => {
                    rest = after;
                    outcome = self.on_frame(head, payload);
                }
                Ok(None) => break,
                Err(frame::TooLarge) => outcome = Err(frame::code::FRAME_SIZE_ERROR),
            }
        }
        let left = rest.len();
        input.advance(input.len() - left);
        self.input = input;
        outcome.map_err(|code| {
            let last = self.last;
            self.outbox.write(|output| frame::go_away(output, last, code));
            io::Error::other(BrokenRules(code))
        })
    }
}

/// A client breaks the rules of HTTP/2, with this code.
#[derive(Debug, thiserror::Error)]
#[error("the client breaks the rules of HTTP/2 ({0})")]
struct BrokenRules(u32);

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for Split<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { io, lane } = &mut *self;
        let Some(lane) = lane else { return Pin::new(io).poll_read(context, buffer) };
        lane.is_h2s_turn = false;
        lane.turn(io, context)?;
        let unread = lane.general.unread();
        if unread.is_empty() {
            return if lane.has_ended { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
        let part = unread.get(..unread.len().min(buffer.remaining())).unwrap_or_default();
        buffer.put_slice(part);
        let length = part.len();
        lane.general.consume(length);
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Split<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self { io, lane } = &mut *self;
        let Some(lane) = lane else { return Pin::new(io).poll_write(context, octets) };
        if lane.outbox.ready() >= ANSWER_LIMIT_BYTES {
            // What comes is looked at all the same.
            lane.turn(io, context)?;
            if lane.outbox.ready() >= ANSWER_LIMIT_BYTES {
                return Poll::Pending;
            }
            if lane.is_h2s_turn || lane.has_ended || !lane.general.unread().is_empty() {
                // h2 does not read again by itself.
                context.waker().wake_by_ref();
            }
        }
        lane.general.write(octets, &lane.outbox, lane.last);
        Poll::Ready(Ok(octets.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { io, lane } = &mut *self;
        let Some(lane) = lane else { return Pin::new(io).poll_flush(context) };
        lane.writer.poll(Pin::new(io), &lane.outbox, context)
    }

    /// h2 has nothing more to do: the lane's streams finish, unless the connection has failed.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { io, lane } = &mut *self;
        let Some(lane) = lane else { return Pin::new(io).poll_shutdown(context) };
        let finished_at = *lane.finished_at.get_or_insert_with(Instant::now);
        let patience = lane.streams.express.dialer().settings.body_idle;
        let is_busy = |lane: &Lane| {
            // The lane's streams have their own ends; what h2 has left behind waits for nobody for ever.
            let has_streams = !lane.streams.is_empty() || lane.outbox.has_streams();
            let has_more = has_streams || lane.general.holds() && finished_at.elapsed() < patience;
            has_more && !lane.has_ended && !lane.general.has_failed()
        };
        lane.general.finish();
        lane.is_h2s_turn = false;
        if is_busy(lane) {
            lane.turn(io, context)?;
            if is_busy(lane) {
                lane.outbox.finish_general();
                return Poll::Pending;
            }
        }
        ready!(lane.writer.poll(Pin::new(io), &lane.outbox, context))?;
        Pin::new(io).poll_shutdown(context)
    }
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").field("last", &self.last).finish_non_exhaustive()
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.outbox.close();
    }
}

/// What waits for h2, and what waits to be written, before nothing more is read.
const UNREAD_LIMIT_BYTES: usize = 256 * 1024;
const ANSWER_LIMIT_BYTES: usize = 512 * 1024;
