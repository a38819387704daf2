//! What a client sends, frame by frame.

use crate::http::frames::head::{Head, flag, kind};
use crate::http::hpack::decoder::DecodeError;
use crate::http::hpack::fields::Fields;
use crate::http::mux::block::Block;
use crate::http::mux::frame::{self, TABLE_BYTES, code};
use crate::http::mux::outbox::Excess;
use crate::http::mux::split::Lane;
use crate::http::mux::writer::give_back;
use crate::listen::{HEADERS_LIMIT_BYTES, HTTP2_STREAM_LIMIT};

/// Fails with the code that ends the connection.
type Outcome = Result<(), u32>;

impl Lane {
    pub(super) fn on_frame(&mut self, head: Head, payload: &[u8]) -> Outcome {
        if self.block.is_some() && head.kind != kind::CONTINUATION {
            return Err(code::PROTOCOL_ERROR);
        }
        match head.kind {
            kind::DATA => self.on_data(head, payload),
            kind::HEADERS => {
                let part = frame::content(head, payload).filter(|_| head.stream % 2 == 1);
                let part = part.ok_or(code::PROTOCOL_ERROR)?;
                if head.has(flag::END_HEADERS) {
                    return self.on_block((head.stream, head.has(flag::END_STREAM)), part);
                }
                self.block = Some(Block::begin(head, part));
                Ok(())
            }
            kind::CONTINUATION => {
                let block = self.block.as_mut().filter(|block| block.stream() == head.stream);
                if !block.ok_or(code::PROTOCOL_ERROR)?.add(payload) {
                    return Err(code::ENHANCE_YOUR_CALM);
                }
                match self.block.take_if(|_block| head.has(flag::END_HEADERS)) {
                    Some(block) => self.on_block((head.stream, block.has_ended()), block.octets()),
                    None => Ok(()),
                }
            }
            kind::RST_STREAM => {
                frame::number(payload).ok_or(code::FRAME_SIZE_ERROR)?;
                self.check_begun(head.stream)?;
                self.general.pass(head, payload);
                self.streams.remove(head.stream);
                // Whose answer may still be on its way to it.
                self.outbox.forget(head.stream, None);
                Ok(())
            }
            kind::WINDOW_UPDATE => self.on_window(head, payload),
            kind::SETTINGS => {
                self.on_settings(head, payload);
                Ok(())
            }
            kind::PING if self.general.is_over() => {
                if !head.has(flag::ACK) {
                    self.outbox.write(|output| frame::ping(output, payload, true));
                }
                Ok(())
            }
            kind::PING => {
                if head.has(flag::ACK) {
                    self.general.answered(payload);
                }
                self.general.pass(head, payload);
                // It may be the answer after which h2 takes no new streams: none that follows is to be taken here.
                self.is_h2s_turn = head.has(flag::ACK);
                Ok(())
            }
            kind::GOAWAY if self.general.is_over() => Ok(()),
            kind::GOAWAY => {
                self.general.pass(head, payload);
                Ok(())
            }
            kind::PUSH_PROMISE => Err(code::PROTOCOL_ERROR),
            kind::PRIORITY if payload.len() == PRIORITY_BYTES && head.stream != 0 => Ok(()),
            kind::PRIORITY => Err(code::PROTOCOL_ERROR),
            // RFC 9113, section 4.1: what is unknown is ignored. How much of it there may be is counted beneath.
            _ => Ok(()),
        }
    }

    fn on_settings(&mut self, head: Head, payload: &[u8]) {
        let is_answer = head.has(flag::ACK);
        if !is_answer && let Some(settings) = frame::Settings::parse(payload) {
            give_back(self.outbox.set(&settings));
            if settings.table_limit.is_some_and(|limit| limit < TABLE_BYTES) {
                // h2 has to tell the client that it has understood that, with the next head.
                self.streams.switch_off();
            }
        }
        // Whether they can be meant is for h2 to say, as it is to answer.
        match (self.general.is_over(), is_answer) {
            (false, true) => self.general.pass(head, payload),
            (false, false) => self.general.pass_settings(payload),
            (true, false) => self.outbox.write(frame::settings_taken),
            (true, true) => {}
        }
    }

    fn on_data(&mut self, head: Head, payload: &[u8]) -> Outcome {
        let stream = head.stream;
        self.check_begun(stream)?;
        if self.general.has(stream) {
            self.general.pass(head, payload);
            return Ok(());
        }
        let has_ended = head.has(flag::END_STREAM);
        let data = frame::content(head, payload).ok_or(code::PROTOCOL_ERROR)?;
        if data.is_empty() && !has_ended {
            self.empty += 1;
            if self.empty > EMPTY_DATA_LIMIT {
                return Err(code::ENHANCE_YOUR_CALM);
            }
        }
        match self.outbox.receive(stream, payload.len(), has_ended) {
            Err(Excess::Connection) => return Err(code::FLOW_CONTROL_ERROR),
            Err(Excess::Stream) => {
                self.outbox.give_back(stream, payload.len());
                self.reset(stream, code::FLOW_CONTROL_ERROR);
                return Ok(());
            }
            Ok(()) => {}
        }
        if !self.streams.has(stream) {
            // It has ended a moment ago, or was never looked at.
            self.outbox.give_back(stream, payload.len());
            return Ok(());
        }
        match self.streams.data(stream, (data, has_ended), payload.len() - data.len()) {
            Ok(()) => {}
            Err(code) => {
                self.outbox.give_back(stream, payload.len());
                self.reset(stream, code);
            }
        }
        Ok(())
    }

    fn on_window(&mut self, head: Head, payload: &[u8]) -> Outcome {
        let by = frame::number(payload).ok_or(code::FRAME_SIZE_ERROR)? & (u32::MAX >> 1);
        let stream = head.stream;
        if stream == 0 {
            if by == 0 {
                return Err(code::PROTOCOL_ERROR);
            }
            let is_possible = self.outbox.widen_connection(by);
            self.general.widen(&self.outbox);
            return if is_possible { Ok(()) } else { Err(code::FLOW_CONTROL_ERROR) };
        }
        self.check_begun(stream)?;
        if self.general.has(stream) {
            self.general.pass(head, payload);
            return Ok(());
        }
        let (is_possible, credits) = self.outbox.widen(stream, by);
        give_back(credits);
        match (by, is_possible) {
            (0, _) => self.reset(stream, code::PROTOCOL_ERROR),
            (_, false) => self.reset(stream, code::FLOW_CONTROL_ERROR),
            (_, true) => {}
        }
        Ok(())
    }

    /// RFC 9113, section 5.1: nothing but a head comes on a stream that has not begun.
    fn check_begun(&self, stream: u32) -> Outcome {
        let has_begun = stream % 2 == 1 && stream <= self.seen;
        if has_begun { Ok(()) } else { Err(code::PROTOCOL_ERROR) }
    }

    /// A head, or what comes after a body, is whole.
    fn on_block(&mut self, (stream, has_ended): (u32, bool), block: &[u8]) -> Outcome {
        self.fields.clear();
        let is_too_large = match self.decoder.decode(block, HEADERS_LIMIT_BYTES, &mut self.fields) {
            Ok(()) => false,
            Err(DecodeError::TooLarge) => true,
            Err(DecodeError::Malformed(_)) => return Err(code::COMPRESSION_ERROR),
        };
        let outcome = self.on_fields((stream, has_ended), is_too_large);
        if self.fields.is_large() {
            self.fields = Fields::default();
        }
        outcome
    }

    fn on_fields(&mut self, (stream, has_ended): (u32, bool), is_too_large: bool) -> Outcome {
        if stream > self.seen {
            return self.begin(stream, has_ended, is_too_large);
        }
        if self.general.has(stream) {
            self.general.end(stream, &self.fields, has_ended);
        } else if self.streams.is_waiting(stream) && has_ended && !is_too_large {
            // Trailers are not kept.
            self.hand_over_waiting(stream);
            self.general.end(stream, &self.fields, has_ended);
        } else if self.streams.has(stream)
            && (is_too_large || !has_ended || !self.streams.end(stream, &self.fields))
        {
            self.reset(stream, code::PROTOCOL_ERROR);
        }
        // Else it was reset a moment ago: what follows means nothing.
        Ok(())
    }

    fn begin(&mut self, stream: u32, has_ended: bool, is_too_large: bool) -> Outcome {
        self.seen = stream;
        if self.general.is_gone() {
            // RFC 9113, section 6.8: the client knows that nothing becomes of it.
            return Ok(());
        }
        self.last = stream;
        let limit = usize::try_from(HTTP2_STREAM_LIMIT).unwrap_or(usize::MAX);
        if self.streams.len() + self.general.len() >= limit {
            // Some may have ended that nobody has looked at yet.
            self.take_news();
        }
        if self.general.is_over() || self.streams.len() + self.general.len() >= limit {
            self.outbox.write(|output| frame::reset(output, stream, code::REFUSED_STREAM));
            return Ok(());
        }
        if is_too_large || !self.streams.begin(stream, &self.fields, has_ended) {
            self.general.begin(stream, &self.fields, has_ended, is_too_large);
        }
        Ok(())
    }

    /// Gives up a stream of the lane's.
    pub(super) fn reset(&mut self, stream: u32, code: u32) {
        self.outbox.forget(stream, Some(code));
        self.streams.remove(stream);
    }
}

/// RFC 9113, section 6.3.
const PRIORITY_BYTES: usize = 5;
/// As h2 has it; see frames.rs.
const EMPTY_DATA_LIMIT: u32 = 100;
