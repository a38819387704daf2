//! The task of a connection to an endpoint: writes what is sent, reads answers, and asks for a sign of life where none comes.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use heddle_runtime::logging::Chain;
use tokio::io::AsyncWrite;
use tokio::time::{Instant, Sleep};
use tokio_util::io::poll_read_buf;
use tracing::debug;

use crate::balance::queue::Slot;
use crate::connect::Transport;
use crate::http::frames::head::{Head, flag, kind};
use crate::http::hpack::decoder::{DecodeError, Decoder};
use crate::http::hpack::fields::Fields;
use crate::http::lane::buffers;
use crate::http::mux::READ_BYTES;
use crate::http::mux::block::Block;
use crate::http::mux::frame::{self, PREFACE, TABLE_BYTES, code, setting};
use crate::http::mux::outbox::{Excess, INITIAL_WINDOW};
use crate::http::mux::upstream::Upstream;
use crate::http::mux::writer::{Writer, give_back};
use crate::listen::{
    DataPathSettings, HEADERS_LIMIT_BYTES, HTTP2_CONNECTION_WINDOW_BYTES, HTTP2_STREAM_WINDOW_BYTES,
};

/// Runs a connection to its end. `slot` is held until then.
pub async fn drive(
    upstream: Arc<Upstream>,
    transport: Transport,
    slot: Slot,
    settings: DataPathSettings,
) {
    let closing = Closing(&upstream);
    let mut driver = Driver {
        transport,
        upstream: &upstream,
        writer: Writer::default(),
        input: BytesMut::new(),
        decoder: Decoder::new(usize::try_from(TABLE_BYTES).unwrap_or_default()),
        fields: Fields::default(),
        block: None,
        vigil: Vigil {
            settings,
            alarm: Box::pin(tokio::time::sleep(settings.http2_ping_interval)),
            heard_at: Instant::now(),
            is_asked: false,
        },
        is_cut_short: false,
    };
    let ended = poll_fn(|context| driver.poll(context)).await;
    let cause = match &ended {
        Ok(()) => "the connection ended".to_owned(),
        Err(error) => Chain(error).to_string(),
    };
    debug!(%cause, "connection ended");
    upstream.close(&cause);
    drop(closing);
    if ended.is_ok() {
        // The other side is told of an end in order, as far as that takes no wait.
        poll_fn(|context| {
            let _ = Pin::new(&mut driver.transport).poll_shutdown(context);
            Poll::Ready(())
        })
        .await;
    }
    drop(slot);
}

/// Whoever waits for answers learns of the end, also if the task is ended from outside.
struct Closing<'a>(&'a Upstream);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close("its task has ended");
    }
}

/// What a client says first.
pub(super) fn begin(output: &mut Vec<u8>) {
    output.extend_from_slice(PREFACE);
    let fields_limit = u32::try_from(HEADERS_LIMIT_BYTES).unwrap_or(u32::MAX);
    let values = [
        (setting::PUSH, 0),
        (setting::STREAM_WINDOW, HTTP2_STREAM_WINDOW_BYTES),
        (setting::FIELDS_LIMIT, fields_limit),
    ];
    frame::settings(output, &values);
    let more = i64::from(HTTP2_CONNECTION_WINDOW_BYTES) - INITIAL_WINDOW;
    frame::window_update(output, 0, u32::try_from(more).unwrap_or_default());
}

struct Driver<'a> {
    transport: Transport,
    upstream: &'a Upstream,
    writer: Writer,
    /// What came and was not looked at.
    input: BytesMut,
    decoder: Decoder,
    fields: Fields,
    /// A head of which more is to come.
    block: Option<Block>,
    vigil: Vigil,
    /// What is to be written had to leave before all was read.
    is_cut_short: bool,
}

/// Finds a peer that has vanished without a word.
struct Vigil {
    settings: DataPathSettings,
    alarm: Pin<Box<Sleep>>,
    heard_at: Instant,
    /// For a sign of life.
    is_asked: bool,
}

/// Why the connection cannot go on.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the other side breaks the rules of HTTP/2 ({0})")]
    Rules(u32),
    #[error("the other side gives no sign of life")]
    Silent,
    #[error("the other side has ended the connection")]
    Ended,
}

impl From<Broken> for io::Error {
    fn from(broken: Broken) -> Self {
        Self::other(broken)
    }
}

impl Driver<'_> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let upstream = self.upstream;
        upstream.outbox.begin_turn();
        loop {
            let is_blocked = self.write(context)?.is_pending();
            let has_read = match self.read(context) {
                Ok(has_read) => has_read,
                Err(error) => {
                    // The other side is told why, as far as that takes no wait.
                    let _ = self.write(context);
                    return Poll::Ready(Err(error));
                }
            };
            let is_blocked = is_blocked || self.write(context)?.is_pending();
            let is_cut_short = upstream.outbox.ready() < ANSWER_LIMIT_BYTES && self.is_cut_short;
            if self.vigil.poll(context, upstream)? {
                continue;
            }
            if upstream.is_over() && self.writer.is_done() && upstream.outbox.ready() == 0 {
                return Poll::Ready(Ok(()));
            }
            let has_more = upstream.outbox.end_turn(context.waker()) || is_cut_short;
            if has_read && self.input.is_empty() {
                buffers::read(std::mem::take(&mut self.input));
            }
            if !has_more || is_blocked {
                return Poll::Pending;
            }
            upstream.outbox.begin_turn();
        }
    }

    fn write(&mut self, context: &mut Context<'_>) -> io::Result<Poll<()>> {
        let transport = Pin::new(&mut self.transport);
        match self.writer.poll(transport, &self.upstream.outbox, context) {
            Poll::Ready(written) => written.map(Poll::Ready),
            Poll::Pending => Ok(Poll::Pending),
        }
    }

    /// Reads what is there; whether there was anything.
    fn read(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        let mut has_read = false;
        self.is_cut_short = true;
        // What it is answered with has to leave first.
        while self.upstream.outbox.ready() < ANSWER_LIMIT_BYTES {
            if self.input.capacity() == 0 {
                self.input = buffers::for_reading();
            }
            self.input.reserve(READ_BYTES);
            let transport = Pin::new(&mut self.transport);
            match poll_read_buf(transport, context, &mut self.input)? {
                Poll::Ready(0) if self.upstream.is_over() => return Ok(has_read),
                Poll::Ready(0) => return Err(Broken::Ended.into()),
                Poll::Ready(_length) => {
                    has_read = true;
                    self.vigil.heard();
                    self.look()?;
                }
                Poll::Pending => {
                    self.is_cut_short = false;
                    break;
                }
            }
        }
        Ok(has_read)
    }

    /// Looks at all frames that are whole.
    fn look(&mut self) -> io::Result<()> {
        let mut input = std::mem::take(&mut self.input);
        let mut rest: &[u8] = &input;
        let mut outcome = Ok(());
        loop {
            match frame::split(rest) {
                Ok(Some((head, payload, after))) => {
                    rest = after;
                    if let Err(broken) = self.on_frame(head, payload) {
                        outcome = Err(broken);
                        break;
                    }
                }
                Ok(None) => break,
                Err(frame::TooLarge) => {
                    outcome = Err(Broken::Rules(code::FRAME_SIZE_ERROR));
                    break;
                }
            }
        }
        let left = rest.len();
        input.advance(input.len() - left);
        self.input = input;
        if let Err(Broken::Rules(code)) = &outcome {
            self.upstream.outbox.write(|output| frame::go_away(output, 0, *code));
        }
        outcome.map_err(Into::into)
    }

    fn on_frame(&mut self, head: Head, payload: &[u8]) -> Result<(), Broken> {
        if self.block.is_some() && head.kind != kind::CONTINUATION {
            return Err(Broken::Rules(code::PROTOCOL_ERROR));
        }
        let upstream = self.upstream;
        match head.kind {
            kind::DATA => self.on_data(head, payload),
            kind::HEADERS => {
                let part = frame::content(head, payload).filter(|_| head.stream != 0);
                let part = part.ok_or(Broken::Rules(code::PROTOCOL_ERROR))?;
                if head.has(flag::END_HEADERS) {
                    return self.on_block((head.stream, head.has(flag::END_STREAM)), part);
                }
                self.block = Some(Block::begin(head, part));
                Ok(())
            }
            kind::CONTINUATION => {
                let block = self.block.as_mut().filter(|block| block.stream() == head.stream);
                let block = block.ok_or(Broken::Rules(code::PROTOCOL_ERROR))?;
                if !block.add(payload) {
                    return Err(Broken::Rules(code::ENHANCE_YOUR_CALM));
                }
                match self.block.take_if(|_block| head.has(flag::END_HEADERS)) {
                    Some(block) => self.on_block((head.stream, block.has_ended()), block.octets()),
                    None => Ok(()),
                }
            }
            kind::RST_STREAM => {
                let code = number(payload)?;
                upstream.on_reset(head.stream, code);
                Ok(())
            }
            kind::SETTINGS if head.has(flag::ACK) => Ok(()),
            kind::SETTINGS if !payload.len().is_multiple_of(SETTING_BYTES) => {
                Err(Broken::Rules(code::FRAME_SIZE_ERROR))
            }
            kind::SETTINGS => {
                let settings = frame::Settings::parse(payload);
                let settings = settings.ok_or(Broken::Rules(code::PROTOCOL_ERROR))?;
                upstream.on_settings(&settings);
                upstream.outbox.write(frame::settings_taken);
                Ok(())
            }
            kind::PUSH_PROMISE => Err(Broken::Rules(code::PROTOCOL_ERROR)),
            kind::PING if payload.len() != PING_BYTES => Err(Broken::Rules(code::FRAME_SIZE_ERROR)),
            kind::PING if head.has(flag::ACK) => Ok(()),
            kind::PING => {
                upstream.outbox.write(|output| frame::ping(output, payload, true));
                Ok(())
            }
            kind::GOAWAY => {
                let last = payload.first_chunk().copied().map(u32::from_be_bytes);
                let last = last.ok_or(Broken::Rules(code::FRAME_SIZE_ERROR))?;
                upstream.on_go_away(last & (u32::MAX >> 1));
                Ok(())
            }
            kind::WINDOW_UPDATE => {
                // The highest bit is reserved.
                self.on_window(head.stream, number(payload)? & (u32::MAX >> 1))
            }
            _ => Ok(()),
        }
    }

    fn on_data(&mut self, head: Head, payload: &[u8]) -> Result<(), Broken> {
        let data = frame::content(head, payload).filter(|_| head.stream != 0);
        let data = data.ok_or(Broken::Rules(code::PROTOCOL_ERROR))?;
        let has_ended = head.has(flag::END_STREAM);
        match self.upstream.outbox.receive(head.stream, payload.len(), has_ended) {
            Ok(()) => {
                self.upstream.on_data(head.stream, data, payload.len(), has_ended);
                Ok(())
            }
            Err(Excess::Stream | Excess::Connection) => {
                Err(Broken::Rules(code::FLOW_CONTROL_ERROR))
            }
        }
    }

    fn on_block(&mut self, (stream, has_ended): (u32, bool), block: &[u8]) -> Result<(), Broken> {
        self.fields.clear();
        match self.decoder.decode(block, HEADERS_LIMIT_BYTES, &mut self.fields) {
            Ok(()) => {
                self.upstream.on_fields(stream, &self.fields, has_ended);
                if self.fields.is_large() {
                    self.fields = Fields::default();
                }
            }
            Err(DecodeError::TooLarge) => self.upstream.fail(stream, code::PROTOCOL_ERROR),
            Err(DecodeError::Malformed(_)) => {
                return Err(Broken::Rules(code::COMPRESSION_ERROR));
            }
        }
        Ok(())
    }

    fn on_window(&mut self, stream: u32, by: u32) -> Result<(), Broken> {
        if by == 0 && stream == 0 {
            return Err(Broken::Rules(code::PROTOCOL_ERROR));
        }
        let (is_possible, credits) = self.upstream.outbox.widen(stream, by);
        give_back(credits);
        match (is_possible && by > 0, stream) {
            (true, _) => Ok(()),
            (false, 0) => Err(Broken::Rules(code::FLOW_CONTROL_ERROR)),
            (false, stream) => {
                self.upstream.fail(stream, code::FLOW_CONTROL_ERROR);
                Ok(())
            }
        }
    }
}

impl Vigil {
    fn heard(&mut self) {
        self.heard_at = Instant::now();
        self.is_asked = false;
    }

    /// Asks for a sign of life if none came for long; whether it did.
    fn poll(&mut self, context: &mut Context<'_>, upstream: &Upstream) -> Result<bool, Broken> {
        if self.alarm.as_mut().poll(context).is_pending() {
            return Ok(false);
        }
        let now = Instant::now();
        let DataPathSettings { http2_ping_interval, http2_ping_timeout, .. } = self.settings;
        let silent_at = self.heard_at + http2_ping_interval;
        if self.is_asked {
            return Err(Broken::Silent);
        }
        // Nobody waits for a connection without requests.
        let asks = silent_at <= now && !(upstream.is_idle() && upstream.outbox.ready() == 0);
        let next = if asks {
            self.is_asked = true;
            upstream.outbox.write(|output| frame::ping(output, &[0; PING_BYTES], false));
            now + http2_ping_timeout
        } else {
            silent_at.max(now + SHORTEST_WATCH)
        };
        self.alarm.as_mut().reset(next);
        // It has to be polled to be woken by it.
        let _ = self.alarm.as_mut().poll(context);
        Ok(asks)
    }
}

fn number(payload: &[u8]) -> Result<u32, Broken> {
    frame::number(payload).ok_or(Broken::Rules(code::FRAME_SIZE_ERROR))
}

/// RFC 9113, section 6.5.1.
const SETTING_BYTES: usize = 6;
/// RFC 9113, section 6.7.
const PING_BYTES: usize = 8;
/// What waits to be written before nothing more is read: answers to what a peer sends for nothing.
const ANSWER_LIMIT_BYTES: usize = 512 * 1024;
/// Between two looks at a connection without requests.
const SHORTEST_WATCH: std::time::Duration = std::time::Duration::from_secs(1);
