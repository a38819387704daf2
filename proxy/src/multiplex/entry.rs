//! What is known of one channel. Pure: no sockets.

use std::task::Waker;

use crate::http::lane::buffers;
use crate::multiplex::CHANNEL_LIMIT;

/// One channel.
#[derive(Debug)]
pub(super) struct Entry {
    /// What came, of which so much was taken.
    pub(super) inbox: Vec<u8>,
    pub(super) taken: usize,
    /// How much may be sent.
    pub(super) room: usize,
    /// When it last sent, by the state's count, and how much it has sent then.
    pub(super) turn: u64,
    pub(super) in_turn: usize,
    /// How much has come, and may come, since it began.
    pub(super) received: u64,
    pub(super) granted: u64,
    /// What had been granted before the last time: whoever comes to there and no further had to wait for more.
    pub(super) granted_before: u64,
    pub(super) is_short: bool,
    /// How much may be under way to here.
    pub(super) window: usize,
    /// What was taken since more was granted.
    pub(super) used: usize,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    /// This side has ended.
    pub(super) has_ended: bool,
    /// The other side has.
    pub(super) is_ended: bool,
    pub(super) is_reset: bool,
    /// Nobody on this side has it any more.
    pub(super) is_left: bool,
    /// It counts as one that may still carry something.
    pub(super) is_counted: bool,
}

impl Entry {
    pub(super) fn new() -> Self {
        let granted = u64::try_from(WINDOW_BYTES).unwrap_or(u64::MAX);
        Self {
            inbox: Vec::new(),
            taken: 0,
            room: WINDOW_BYTES,
            turn: 0,
            in_turn: 0,
            received: 0,
            granted,
            granted_before: granted,
            is_short: false,
            window: WINDOW_BYTES,
            used: 0,
            reader: None,
            writer: None,
            has_ended: false,
            is_ended: false,
            is_reset: false,
            is_left: false,
            is_counted: true,
        }
    }

    pub(super) fn drop_unread(&mut self) {
        self.taken = 0;
        buffers::written(std::mem::take(&mut self.inbox));
    }

    /// Whether nothing more can come or go.
    pub(super) fn is_over(&self) -> bool {
        self.is_reset || self.has_ended && self.is_ended
    }

    /// So much was taken: how much more may be sent, once that is worth a frame. Whoever had to wait for it, though all
    /// was taken in time, is far away, and gets more, as far as all of them have together.
    pub(super) fn use_up(&mut self, length: usize, extra: &mut usize) -> Option<u32> {
        self.used += length;
        if self.used < self.window / 2 || self.is_ended || self.is_reset {
            return None;
        }
        let mut by = std::mem::take(&mut self.used);
        let is_short = std::mem::take(&mut self.is_short);
        if is_short && 2 * self.window <= WINDOW_LIMIT_BYTES && *extra + self.window <= EXTRA_BYTES
        {
            by += self.window;
            *extra += self.window;
            self.window *= 2;
        }
        self.granted_before = self.granted;
        self.granted += u64::try_from(by).unwrap_or_default();
        u32::try_from(by).ok()
    }
}

/// What may be under way on one channel, to begin with. It takes most requests and answers; all channels of a connection
/// together bound its memory. Both sides rely on it: another number is another protocol.
pub(super) const WINDOW_BYTES: usize = 32 * 1024;
/// The same of one that always has more to carry: fills 1 Gbit/s at a round trip of 8 ms.
const WINDOW_LIMIT_BYTES: usize = 1024 * 1024;
/// What all channels of a connection may have beyond [`WINDOW_BYTES`] each: as much as these are together.
const EXTRA_BYTES: usize = CHANNEL_LIMIT * WINDOW_BYTES;
