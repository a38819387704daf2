//! What there is to know of one stream, to send on it and to say what may be sent.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use crate::balance::endpoint::InFlight;
use crate::http::mux::frame::FRAME_LIMIT;
use crate::http::mux::outbox::Outbox;
use crate::http::progress::Waiting;
use crate::listen::HTTP2_STREAM_WINDOW_BYTES;

#[derive(Debug)]
pub(super) struct Stream {
    /// What the peer has room for.
    pub(super) window: i64,
    /// What has to wait for that.
    pub(super) pending: VecDeque<u8>,
    /// What follows it.
    pub(super) ending: Option<Ending>,
    /// Whether it is among those that wait.
    pub(super) is_queued: bool,
    /// Whose room becomes free by what leaves.
    pub(super) source: Option<(Arc<Outbox>, u32)>,
    /// How much at the front of what waits came from nobody who gets room back.
    pub(super) unsourced: usize,
    /// What the peer may send.
    pub(super) room: i64,
    /// What it has sent, and is not used up.
    pub(super) unused: i64,
    /// What is used up, and the peer has not been told of.
    pub(super) used: i64,
    /// It is not to be told yet.
    pub(super) is_held: bool,
    /// When a part of a head or body last passed, in either direction.
    pub(super) moved: Instant,
    /// The head of an answer has left.
    pub(super) has_head: bool,
    /// The peer has sent everything.
    pub(super) has_all: bool,
    /// This side has, too.
    pub(super) is_sent: bool,
    /// The load of the endpoint that has answered.
    pub(super) load: Option<InFlight>,
}

/// How what is sent on a stream ends.
#[derive(Debug)]
pub(super) enum Ending {
    /// With the body.
    Data,
    /// With trailers, which are this block.
    Trailers(Vec<u8>),
}

impl Stream {
    pub(super) fn new(window: i64) -> Self {
        Self {
            window,
            pending: VecDeque::new(),
            ending: None,
            is_queued: false,
            source: None,
            unsourced: 0,
            room: i64::from(HTTP2_STREAM_WINDOW_BYTES),
            unused: 0,
            used: 0,
            is_held: false,
            moved: Instant::now(),
            has_head: false,
            has_all: false,
            is_sent: false,
            load: None,
        }
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.ending.is_none()
    }

    /// Whether there is room for this; `window` is the connection's.
    pub(super) fn takes(&self, data: &[u8], window: i64) -> bool {
        let length = i64::try_from(data.len()).unwrap_or(i64::MAX);
        data.is_empty() || data.len() <= FRAME_LIMIT && length <= self.window && length <= window
    }

    /// By how much more the peer may send, if it is worth to tell it.
    pub(super) fn take_used(&mut self) -> Option<u32> {
        let is_worth = self.used >= i64::from(HTTP2_STREAM_WINDOW_BYTES) / 2;
        if !is_worth || self.is_held || self.has_all {
            return None;
        }
        self.room += self.used;
        u32::try_from(std::mem::take(&mut self.used)).ok()
    }

    /// Whose turn it is.
    pub(super) fn waiting(&self) -> Waiting {
        if !self.is_empty() {
            Waiting::Reader
        } else if !self.has_head && !self.has_all && self.unused == 0 {
            Waiting::Sender
        } else {
            Waiting::Anybody
        }
    }
}
