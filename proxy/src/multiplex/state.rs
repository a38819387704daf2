//! What is known of the channels of a connection, and what is to be sent of them. Pure: no sockets.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::io;
use std::task::{Context, Poll, Waker};

use tokio::io::ReadBuf;

use crate::http::lane::buffers;
use crate::http::mux::numbers::IdHasher;
use crate::multiplex::entry::{Entry, WINDOW_BYTES};
use crate::multiplex::frame::{DATA_BYTES, Frame, FrameError};
use crate::multiplex::{CHANNEL_LIMIT, Role};

/// See the module.
#[derive(Debug)]
pub(super) struct State {
    pub(super) role: Role,
    pub(super) life: Life,
    pub(super) channels: HashMap<u32, Entry, BuildHasherDefault<IdHasher>>,
    /// How many of them may still carry something.
    pub(super) open: usize,
    /// How many somebody on this side has.
    pub(super) held: usize,
    /// The channel that was begun last.
    last: u32,
    /// Frames that are to be sent.
    output: Vec<u8>,
    /// Counts how often that was taken.
    turn: u64,
    /// Somebody waits for the next time.
    is_awaited: bool,
    /// Nothing is read, since too many channels are being ended.
    is_paused: bool,
    /// What channels may have under way to here beyond [`WINDOW_BYTES`] each.
    extra: usize,
    /// The other side has said that it opens no more.
    is_agreed: bool,
    /// Of the connection's task.
    task: Option<Waker>,
    is_waiting: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Open,
    /// It takes no new channel.
    Closing,
    Closed,
}

/// What the other side may not do.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("it is not for this side to open channels")]
    Role,
    #[error("channel {0} is not a new one")]
    Again(u32),
    #[error("more than {CHANNEL_LIMIT} channels")]
    TooMany,
    #[error("more on channel {0} than there is room for")]
    NoRoom(u32),
    #[error(transparent)]
    Frame(#[from] FrameError),
}

impl State {
    pub(super) fn new(role: Role) -> Self {
        Self {
            role,
            life: Life::Open,
            channels: HashMap::default(),
            open: 0,
            held: 0,
            last: 0,
            output: Vec::new(),
            turn: 0,
            is_awaited: false,
            is_paused: false,
            extra: 0,
            is_agreed: false,
            task: None,
            is_waiting: false,
        }
    }

    pub(super) fn open(&mut self) -> Option<u32> {
        if self.life != Life::Open || self.open >= CHANNEL_LIMIT {
            return None;
        }
        let Some(next) = self.last.checked_add(1) else {
            self.life = Life::Closing;
            return None;
        };
        self.last = next;
        self.open += 1;
        self.held += 1;
        self.channels.insert(next, Entry::new());
        // At once: they begin in the order of their numbers.
        Frame::Open(next).write(&mut self.output);
        Some(next)
    }

    pub(super) fn retire(&mut self) {
        if self.life == Life::Open {
            self.life = Life::Closing;
            if self.role == Role::Server {
                Frame::Closing.write(&mut self.output);
            }
        }
    }

    /// Nothing comes or goes any more. Whoever waits is to look.
    pub(super) fn close(&mut self) -> (Vec<u8>, Vec<Waker>) {
        self.life = Life::Closed;
        self.is_waiting = false;
        self.task = None;
        let mut wakers = Vec::new();
        for entry in self.channels.values_mut() {
            entry.is_reset |= !entry.is_over();
            entry.is_counted = false;
            wakers.extend(entry.reader.take());
            wakers.extend(entry.writer.take());
        }
        self.channels.retain(|_id, entry| !entry.is_left);
        self.open = 0;
        (std::mem::take(&mut self.output), wakers)
    }

    /// How much waits to be sent.
    pub(super) fn ready(&self) -> usize {
        self.output.len()
    }

    /// How much room what came takes.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.channels.values().map(|entry| entry.inbox.capacity()).sum()
    }

    /// Moves what is to be sent into an empty `octets`.
    pub(super) fn take_output(&mut self, octets: &mut Vec<u8>, wakers: &mut Vec<Waker>) {
        std::mem::swap(&mut self.output, octets);
        self.turn += 1;
        if std::mem::take(&mut self.is_awaited) {
            wakers.extend(self.channels.values_mut().filter_map(|entry| entry.writer.take()));
        }
    }

    /// Whether all is done: there is no channel, and there will be none.
    pub(super) fn is_over(&self) -> bool {
        match (self.life, self.role) {
            (Life::Open, _) => false,
            // What still comes would go to nobody.
            (Life::Closing | Life::Closed, Role::Client) => self.held == 0,
            // The client has read all, or it would not have ended its channels.
            (Life::Closing | Life::Closed, Role::Server) => {
                self.is_agreed && self.channels.is_empty()
            }
        }
    }

    /// Asks for a sign of life, unless nobody would miss it.
    pub(super) fn ping(&mut self) -> bool {
        let is_missed = !self.channels.is_empty();
        if is_missed {
            Frame::Ping.write(&mut self.output);
        }
        is_missed
    }

    pub(super) fn begin_turn(&mut self) {
        self.is_waiting = false;
    }

    /// Whether the task has something to do; if not, it is woken when it has.
    pub(super) fn end_turn(&mut self, task: &Waker) -> bool {
        if self.has_something() {
            return true;
        }
        if self.task.as_ref().is_none_or(|known| !known.will_wake(task)) {
            self.task = Some(task.clone());
        }
        self.is_waiting = true;
        false
    }

    fn has_something(&self) -> bool {
        let may_go_on = self.is_paused && self.channels.len() < ENDING_LIMIT;
        !self.output.is_empty() || self.is_over() || may_go_on
    }

    /// Whether nothing is to be read before channels that were reset are ended. Whoever ends one wakes the task.
    pub(super) fn pauses(&mut self) -> bool {
        self.is_paused = self.channels.len() >= ENDING_LIMIT;
        self.is_paused
    }

    pub(super) fn task_to_wake(&mut self) -> Option<Waker> {
        if !self.is_waiting || !self.has_something() {
            return None;
        }
        self.is_waiting = false;
        self.task.clone()
    }

    /// Takes what can be taken off the front of `input`; whether that was a whole frame. Channels that begin are added
    /// to `begun`.
    pub(super) fn hear(
        &mut self,
        input: &mut &[u8],
        begun: &mut Vec<u32>,
        wakers: &mut Vec<Waker>,
    ) -> Result<bool, Fault> {
        let mut rest = *input;
        let Some(frame) = Frame::read(&mut rest)? else { return Ok(false) };
        match frame {
            Frame::Open(id) => {
                self.begin(id)?;
                begun.push(id);
            }
            Frame::Data(id, length) => {
                let Some((data, after)) = rest.split_at_checked(length) else { return Ok(false) };
                rest = after;
                self.on_data(id, data, wakers)?;
            }
            Frame::End(id) => {
                if let Some(entry) = self.channels.get_mut(&id) {
                    entry.is_ended = true;
                    wakers.extend(entry.reader.take());
                    // It may have nothing to say any more.
                    wakers.extend(entry.writer.take());
                    self.answer_end(id);
                    self.settle(id);
                }
            }
            Frame::Reset(id) => {
                if let Some(entry) = self.channels.get_mut(&id) {
                    entry.is_reset = true;
                    if self.role == Role::Server {
                        // Nobody waits for what was asked for; an answer may have come before its request was all there.
                        entry.drop_unread();
                    }
                    wakers.extend(entry.reader.take());
                    wakers.extend(entry.writer.take());
                    self.settle(id);
                }
            }
            Frame::Room(id, by) => {
                if let Some(entry) = self.channels.get_mut(&id) {
                    entry.room =
                        entry.room.saturating_add(usize::try_from(by).unwrap_or(usize::MAX));
                    wakers.extend(entry.writer.take());
                }
            }
            Frame::Closing => self.on_closing(),
            Frame::Ping => Frame::Pong.write(&mut self.output),
            Frame::Pong => {}
        }
        *input = rest;
        Ok(true)
    }

    fn begin(&mut self, id: u32) -> Result<(), Fault> {
        if self.role == Role::Client || self.is_agreed {
            return Err(Fault::Role);
        }
        if id <= self.last {
            return Err(Fault::Again(id));
        }
        // Those that were reset, and are still being ended, count as well (CVE-2023-44487).
        if self.open >= CHANNEL_LIMIT || self.channels.len() >= 4 * ENDING_LIMIT {
            return Err(Fault::TooMany);
        }
        self.last = id;
        self.open += 1;
        self.held += 1;
        self.channels.insert(id, Entry::new());
        Ok(())
    }

    fn on_data(&mut self, id: u32, data: &[u8], wakers: &mut Vec<Waker>) -> Result<(), Fault> {
        // What comes after a channel has broken off was on its way before.
        let Some(entry) = self.channels.get_mut(&id).filter(|entry| !entry.is_reset) else {
            return Ok(());
        };
        entry.received += u64::try_from(data.len()).unwrap_or(u64::MAX);
        if entry.received > entry.granted || entry.is_ended {
            return Err(Fault::NoRoom(id));
        }
        if entry.is_left {
            // Nobody is there to read it.
            entry.is_reset = true;
            Frame::Reset(id).write(&mut self.output);
            self.settle(id);
            return Ok(());
        }
        entry.is_short |= entry.received == entry.granted_before || entry.received == entry.granted;
        if entry.inbox.capacity() == 0 {
            entry.inbox = buffers::for_writing();
        } else if entry.taken >= entry.inbox.len() / 2 {
            // What was taken is room again: whoever reads may never come to the end.
            entry.inbox.drain(..entry.taken);
            entry.taken = 0;
        }
        entry.inbox.extend_from_slice(data);
        wakers.extend(entry.reader.take());
        Ok(())
    }

    fn on_closing(&mut self) {
        match self.role {
            Role::Client => {
                if self.life == Life::Open {
                    self.life = Life::Closing;
                }
                if !std::mem::replace(&mut self.is_agreed, true) {
                    Frame::Closing.write(&mut self.output);
                }
            }
            Role::Server => self.is_agreed = true,
        }
    }

    /// Reads what came on a channel; without anything at its end.
    pub(super) fn poll_read(
        &mut self,
        id: u32,
        context: &Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(entry) = self.channels.get_mut(&id) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let there = entry.inbox.get(entry.taken..).unwrap_or_default();
        let part = there.get(..buffer.remaining()).unwrap_or(there);
        if !part.is_empty() {
            buffer.put_slice(part);
            let length = part.len();
            entry.taken += length;
            if entry.taken == entry.inbox.len() {
                entry.taken = 0;
                buffers::written(std::mem::take(&mut entry.inbox));
            }
            if let Some(by) = entry.use_up(length, &mut self.extra) {
                Frame::Room(id, by).write(&mut self.output);
            }
            self.answer_end(id);
            return Poll::Ready(Ok(()));
        }
        // What has ended has, whatever becomes of the connection after that.
        if entry.is_ended || buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if entry.is_reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        remember(&mut entry.reader, context);
        Poll::Pending
    }

    /// Whether there is nothing to be read, not even an end.
    pub(super) fn is_silent(&self, id: u32) -> bool {
        self.channels
            .get(&id)
            .is_some_and(|entry| entry.inbox.is_empty() && !entry.is_ended && !entry.is_reset)
    }

    pub(super) fn poll_write(
        &mut self,
        id: u32,
        context: &Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some(entry) = self.channels.get_mut(&id) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        if entry.is_reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if entry.has_ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if entry.turn != self.turn {
            (entry.turn, entry.in_turn) = (self.turn, 0);
        }
        // What those had written who have given up is there as well.
        let is_full = self.output.len() >= ANSWER_LIMIT_BYTES / 2;
        let part = if is_full { 0 } else { PART_BYTES.saturating_sub(entry.in_turn) };
        let length = octets.len().min(entry.room).min(part);
        if length == 0 && !octets.is_empty() {
            // Whoever lacks room is woken by what gives it.
            self.is_awaited |= part == 0;
            remember(&mut entry.writer, context);
            return Poll::Pending;
        }
        if self.output.capacity() == 0 {
            self.output = buffers::for_writing();
        }
        let (octets, _rest) = octets.split_at_checked(length).unwrap_or_default();
        for part in octets.chunks(DATA_BYTES) {
            Frame::Data(id, part.len()).write(&mut self.output);
            self.output.extend_from_slice(part);
        }
        entry.room -= length;
        entry.in_turn += length;
        Poll::Ready(Ok(length))
    }

    /// A client has nothing to say to a server that has ended, once it has read that: what it would ask for then was not
    /// sent, and the server knows that all it has sent was read.
    fn answer_end(&mut self, id: u32) {
        let Some(entry) = self.channels.get(&id) else { return };
        if self.role == Role::Client && entry.is_ended && entry.inbox.is_empty() {
            self.end(id);
        }
    }

    /// Ends this side's direction.
    pub(super) fn end(&mut self, id: u32) {
        if let Some(entry) = self.channels.get_mut(&id)
            && !entry.has_ended
            && !entry.is_reset
        {
            entry.has_ended = true;
            Frame::End(id).write(&mut self.output);
            self.settle(id);
        }
    }

    pub(super) fn reset(&mut self, id: u32) {
        if let Some(entry) = self.channels.get_mut(&id)
            && !entry.is_over()
        {
            entry.is_reset = true;
            Frame::Reset(id).write(&mut self.output);
            self.settle(id);
        }
    }

    /// Nobody has this side's end any more: what has not ended breaks off.
    pub(super) fn leave(&mut self, id: u32) {
        let Some(entry) = self.channels.get_mut(&id) else { return };
        entry.is_left = true;
        self.held = self.held.saturating_sub(1);
        (entry.reader, entry.writer) = (None, None);
        if !entry.has_ended || !entry.inbox.is_empty() {
            entry.drop_unread();
            self.reset(id);
        }
        self.settle(id);
    }

    /// Forgets a channel that is over.
    fn settle(&mut self, id: u32) {
        let Some(entry) = self.channels.get_mut(&id) else { return };
        if entry.is_over() && std::mem::take(&mut entry.is_counted) {
            self.open = self.open.saturating_sub(1);
        }
        if entry.is_left && entry.is_over() {
            self.extra = self.extra.saturating_sub(entry.window - WINDOW_BYTES);
            self.channels.remove(&id);
        }
    }
}

fn remember(waker: &mut Option<Waker>, context: &Context<'_>) {
    if waker.as_ref().is_none_or(|known| !known.will_wake(context.waker())) {
        *waker = Some(context.waker().clone());
    }
}

/// Channels at once, with those that are reset and still being ended: with more, nothing is read before these are.
pub(super) const ENDING_LIMIT: usize = 2 * CHANNEL_LIMIT;
/// What a channel may send at once, before what others have sent has left.
const PART_BYTES: usize = 32 * 1024;
/// What waits to be sent when nothing more is read: more than all channels together can send at once, or both sides could
/// wait for each other.
pub(super) const ANSWER_LIMIT_BYTES: usize = 2 * CHANNEL_LIMIT * PART_BYTES;
