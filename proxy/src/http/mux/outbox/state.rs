//! How what waits leaves.

use std::sync::Arc;

use tokio::time::Instant;

use crate::http::mux::frame::{self, code};
use crate::http::mux::outbox::stream::{Ending, Stream};
use crate::http::mux::outbox::{Credit, News, READY_LIMIT_BYTES, Role, State, signed};

impl State {
    /// Moves what waits to what is ready, as far as there is room.
    pub(super) fn move_waiting(&mut self) -> Vec<Credit> {
        let mut credits = Vec::new();
        self.has_to_move = false;
        for _turn in 0..self.waiting.len() {
            if self.frames.len() >= READY_LIMIT_BYTES {
                break;
            }
            let Some(stream) = self.waiting.pop_front() else { break };
            let Some(one) = self.streams.get_mut(&stream) else { continue };
            let window = if self.is_reserved { 0 } else { self.window.min(one.window) };
            let window = usize::try_from(window).unwrap_or_default();
            let length = one.pending.len().min(window).min(self.frame_limit);
            let is_last = length == one.pending.len();
            if length > 0 || is_last {
                let data: Vec<u8> = one.pending.drain(..length).collect();
                one.window -= signed(length);
                self.window -= signed(length);
                one.moved = Instant::now();
                let free = length.min(one.unsourced);
                one.unsourced -= free;
                if length > free
                    && let Some((source, of)) = &one.source
                {
                    credits.push((Arc::clone(source), *of, length - free));
                }
                let ending = if is_last { one.ending.take() } else { None };
                let ends_here = matches!(ending, Some(Ending::Data));
                if length > 0 || ends_here {
                    frame::data(&mut self.frames, stream, &data, ends_here);
                }
                one.is_queued = !is_last;
                match ending {
                    None => {}
                    Some(Ending::Data) => self.sent(stream),
                    Some(Ending::Trailers(block)) => {
                        frame::headers(&mut self.frames, (stream, true), &block, self.frame_limit);
                        self.sent(stream);
                    }
                }
            }
            if !is_last {
                self.waiting.push_back(stream);
            }
        }
        credits
    }

    /// Whether the task has something to do.
    pub(super) fn has_something(&self) -> bool {
        !self.frames.is_empty() || !self.news.is_empty() || self.has_to_move
    }

    /// A stream is over.
    pub(super) fn remove(&mut self, stream: u32) -> Option<Stream> {
        let known = self.streams.remove(&stream)?;
        if known.is_queued {
            self.waiting.retain(|waiting| *waiting != stream);
        }
        Some(known)
    }

    /// All of this side's part of a stream has left.
    pub(super) fn sent(&mut self, stream: u32) {
        match self.role {
            Role::Client => {
                if let Some(one) = self.streams.get_mut(&stream) {
                    one.is_sent = true;
                }
            }
            Role::Server => {
                let Some(one) = self.streams.remove(&stream) else { return };
                if !one.has_all {
                    // RFC 9113, section 8.1: the rest of the request is not needed.
                    frame::reset(&mut self.frames, stream, code::NO_ERROR);
                }
                self.news.push(News::Ended(stream));
            }
        }
    }
}
