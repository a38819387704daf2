//! What is to be sent on one connection of HTTP/2: frames that are ready, and bodies that wait for room. Who reads one
//! connection writes here what goes to another; whose connection it is writes it out.
//!
//! Nothing here waits, and no other lock is taken under this one: room that becomes free elsewhere by what leaves here is
//! returned, and given back afterwards.

mod state;
mod stream;

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::balance::endpoint::InFlight;
use crate::http::mux::frame::{self, FRAME_LIMIT, code};
use crate::http::mux::numbers::IdHasher;
use crate::http::mux::outbox::stream::{Ending, Stream};
use crate::http::mux::upstream::Lost;
use crate::http::progress::{Limits, Waiting};
use crate::listen::HTTP2_STREAM_WINDOW_BYTES;

/// See the module.
#[derive(Debug)]
pub struct Outbox(Mutex<State>);

/// Which side of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Answers: a stream is over when its answer has left.
    Server,
    /// Asks: a stream is over when the answer is there.
    Client,
}

#[derive(Debug)]
struct State {
    role: Role,
    /// To be written next.
    frames: Vec<u8>,
    /// Of the task whose connection it is, while that waits.
    waker: Option<Waker>,
    is_waiting: bool,
    /// What the peer has room for, on the whole connection.
    window: i64,
    /// And on a stream that begins.
    stream_window: i64,
    /// The largest payload that the peer takes.
    frame_limit: usize,
    streams: HashMap<u32, Stream, BuildHasherDefault<IdHasher>>,
    /// Streams whose bodies wait for room, the first in front.
    waiting: VecDeque<u32>,
    /// What came and is not used up.
    unused: i64,
    /// How much of that there may be.
    room: i64,
    /// What is used up and the peer has not been told of.
    used: i64,
    /// What happened to streams that whoever reads this connection has to know of.
    news: Vec<News>,
    /// Something that waits has room by now.
    has_to_move: bool,
    /// The room of the connection is for what others hold back.
    is_reserved: bool,
    is_closed: bool,
    is_over: bool,
}

/// What happened to a stream.
#[derive(Debug)]
pub enum News {
    /// Its answer has left: nothing is left to be done.
    Ended(u32),
    /// Its other side is lost before there was an answer.
    Lost(u32, Box<Lost>),
    /// It has stood still for too long.
    Overdue(u32),
    /// The connection that it waits for is open, or will not be.
    Opened(u32),
}

/// Room that a peer gets back: on whose connection, of which stream, how many octets.
pub type Credit = (Arc<Outbox>, u32, usize);

/// The peer sends more than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// On one stream.
    Stream,
    /// On all together.
    Connection,
}

impl Outbox {
    /// Of a connection that begins, whose peer may have so many octets under way.
    pub fn new(role: Role, room: u32) -> Self {
        Self(Mutex::new(State {
            role,
            frames: Vec::new(),
            waker: None,
            is_waiting: false,
            window: INITIAL_WINDOW,
            stream_window: INITIAL_WINDOW,
            frame_limit: FRAME_LIMIT,
            streams: HashMap::default(),
            waiting: VecDeque::new(),
            unused: 0,
            room: i64::from(room),
            used: 0,
            news: Vec::new(),
            has_to_move: false,
            is_reserved: false,
            is_closed: false,
            is_over: false,
        }))
    }

    /// The task looks at everything from here on: it need not be woken.
    pub fn begin_turn(&self) {
        self.0.lock().is_waiting = false;
    }

    /// The task is woken from here on when there is something to do; whether there is already.
    pub fn end_turn(&self, waker: &Waker) -> bool {
        let mut state = self.0.lock();
        state.is_waiting = true;
        if !state.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            state.waker = Some(waker.clone());
        }
        state.has_something()
    }

    /// Whether something has happened that was not asked for yet.
    pub fn has_news(&self) -> bool {
        !self.0.lock().news.is_empty()
    }

    /// Exchanges what is to be written for `empty`, if there is anything.
    pub fn take(&self, empty: &mut Vec<u8>) -> Vec<Credit> {
        let mut state = self.0.lock();
        let credits = state.move_waiting();
        if !state.frames.is_empty() {
            std::mem::swap(&mut state.frames, empty);
        }
        credits
    }

    /// How much is ready to be written, in octets.
    pub fn ready(&self) -> usize {
        self.0.lock().frames.len()
    }

    /// What happened since this was asked last.
    pub fn take_news(&self) -> Vec<News> {
        std::mem::take(&mut self.0.lock().news)
    }

    /// Something happened to a stream.
    pub fn tell(&self, news: News) {
        self.change(|state| state.news.push(news));
    }

    /// Writes frames that are whole.
    pub fn write(&self, write: impl FnOnce(&mut Vec<u8>)) {
        self.change(|state| write(&mut state.frames));
    }

    /// A stream of the client's begins. `has_all`: its body is there. `is_held`: what the client has sent may have to be
    /// sent elsewhere, so that it gets no more room on the stream.
    pub fn accept(&self, stream: u32, has_all: bool, is_held: bool) {
        let mut state = self.0.lock();
        let opened = Stream { has_all, is_held, ..Stream::new(state.stream_window) };
        state.streams.insert(stream, opened);
    }

    /// A stream begins with this head; `has_ended`: no body follows.
    pub fn ask(&self, stream: u32, block: &[u8], has_ended: bool) {
        self.change(|state| {
            let opened = Stream { is_sent: has_ended, ..Stream::new(state.stream_window) };
            state.streams.insert(stream, opened);
            frame::headers(&mut state.frames, (stream, has_ended), block, state.frame_limit);
        });
    }

    /// The head of an answer; `has_ended`: no body follows.
    pub fn answer(&self, stream: u32, block: &[u8], has_ended: bool) {
        self.change(|state| {
            let Some(one) = state.streams.get_mut(&stream) else { return };
            (one.has_head, one.moved) = (true, Instant::now());
            frame::headers(&mut state.frames, (stream, has_ended), block, state.frame_limit);
            if has_ended {
                state.sent(stream);
            }
        });
    }

    /// A piece of a body, which came from `source`, if from anywhere. Says how much of it has left; the rest waits.
    pub fn data(
        &self,
        stream: u32,
        (data, has_ended): (&[u8], bool),
        source: Option<(&Arc<Self>, u32)>,
    ) -> usize {
        self.change(|state| {
            // Whoever is gone takes nothing, and nobody waits for that.
            let Some(one) = state.streams.get_mut(&stream) else { return data.len() };
            one.moved = Instant::now();
            let window = if state.is_reserved { 0 } else { state.window };
            if one.is_empty() && state.frames.len() < READY_LIMIT_BYTES && one.takes(data, window) {
                let length = signed(data.len());
                one.window -= length;
                state.window -= length;
                frame::data(&mut state.frames, stream, data, has_ended);
                if has_ended {
                    state.sent(stream);
                }
                return data.len();
            }
            one.pending.extend(data);
            state.has_to_move |= window > 0 && one.window > 0;
            if has_ended {
                one.ending = Some(Ending::Data);
            }
            match source {
                Some((outbox, of)) => one.source = Some((Arc::clone(outbox), of)),
                None => one.unsourced += data.len(),
            }
            if !one.is_queued {
                one.is_queued = true;
                state.waiting.push_back(stream);
            }
            0
        })
    }

    /// What comes after a body.
    pub fn trailers(&self, stream: u32, block: &[u8]) {
        self.change(|state| {
            let Some(one) = state.streams.get_mut(&stream) else { return };
            one.moved = Instant::now();
            if one.is_empty() {
                frame::headers(&mut state.frames, (stream, true), block, state.frame_limit);
                state.sent(stream);
            } else {
                one.ending = Some(Ending::Trailers(block.to_vec()));
            }
        });
    }

    /// The stream is over: what waits of it is dropped, and the peer is told so if there is a code.
    pub fn forget(&self, stream: u32, code: Option<u32>) {
        let known = self.change(|state| {
            let known = state.remove(stream);
            if let (Some(_), Some(code)) = (&known, code) {
                frame::reset(&mut state.frames, stream, code);
            }
            known
        });
        drop_pending(known);
    }

    /// The peer's answer is whole: if all of the request has not left, the rest is not needed.
    pub fn finish(&self, stream: u32) {
        let known = self.change(|state| {
            let known = state.remove(stream);
            if known.as_ref().is_some_and(|one| !one.is_sent) {
                frame::reset(&mut state.frames, stream, code::CANCEL);
            }
            known
        });
        drop_pending(known);
    }

    /// Has the task look at its connection.
    pub fn wake(&self) {
        let waker = {
            let mut state = self.0.lock();
            state.is_waiting = false;
            state.waker.clone()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The peer has sent so much of a body, `has_ended` with it.
    pub fn receive(&self, stream: u32, length: usize, has_ended: bool) -> Result<(), Excess> {
        let mut state = self.0.lock();
        let length = signed(length);
        state.unused += length;
        if state.unused > state.room {
            return Err(Excess::Connection);
        }
        let Some(one) = state.streams.get_mut(&stream) else { return Ok(()) };
        one.room -= length;
        one.unused += length;
        one.moved = Instant::now();
        one.has_all |= has_ended;
        if one.room < 0 { Err(Excess::Stream) } else { Ok(()) }
    }

    /// So much of what the peer has sent is used up: it may send as much again, once that is worth a frame.
    pub fn give_back(&self, stream: u32, length: usize) {
        self.change(|state| {
            let length = signed(length);
            state.unused -= length;
            state.used += length;
            if state.used >= state.room.min(RETURN_BYTES)
                && let Ok(used) = u32::try_from(state.used)
            {
                state.used = 0;
                frame::window_update(&mut state.frames, 0, used);
            }
            let Some(one) = state.streams.get_mut(&stream) else { return };
            one.unused -= length;
            one.used += length;
            if let Some(by) = one.take_used() {
                frame::window_update(&mut state.frames, stream, by);
            }
        });
    }

    /// What came on a stream will not be sent elsewhere any more.
    pub fn release(&self, stream: u32) {
        self.change(|state| {
            let Some(one) = state.streams.get_mut(&stream) else { return };
            one.is_held = false;
            if let Some(by) = one.take_used() {
                frame::window_update(&mut state.frames, stream, by);
            }
        });
    }

    /// A stream is somebody else's from here on, who gets so much of what came on it and gives back the room for that.
    pub fn hand_over(&self, stream: u32, length: usize) {
        self.change(|state| {
            let known = state.remove(stream);
            if let Some(one) = &known {
                state.unused -= one.unused;
                state.used += one.unused - signed(length);
                // What the stream was filled up with is nobody's to give back but this one's.
                let lacking = i64::from(HTTP2_STREAM_WINDOW_BYTES) - one.room - signed(length);
                if !one.has_all
                    && let Ok(by @ 1..) = u32::try_from(lacking)
                {
                    frame::window_update(&mut state.frames, stream, by);
                }
            }
            known
        });
    }

    /// Holds what is the endpoint's load until all of the answer has left.
    pub fn hold(&self, stream: u32, load: InFlight) {
        let mut load = Some(load);
        self.change(|state| {
            if let Some(one) = state.streams.get_mut(&stream) {
                one.load = load.take();
            }
        });
    }

    /// The peer has more room, on the connection (0) or on a stream; false if that is more than can be (RFC 9113,
    /// section 6.9.1).
    pub fn widen(&self, stream: u32, by: u32) -> (bool, Vec<Credit>) {
        self.change(|state| {
            let window = match stream {
                0 => Some(&mut state.window),
                _ => state.streams.get_mut(&stream).map(|one| &mut one.window),
            };
            let Some(window) = window else { return (true, Vec::new()) };
            *window += i64::from(by);
            let is_possible = *window <= WINDOW_LIMIT;
            (is_possible, state.move_waiting())
        })
    }

    /// The same of the connection, of which nothing uses the new room before somebody is asked to.
    pub fn widen_connection(&self, by: u32) -> bool {
        let mut state = self.0.lock();
        state.window += i64::from(by);
        state.window <= WINDOW_LIMIT
    }

    /// Whether bodies leave the connection's room to what somebody else holds back.
    pub fn reserve_all(&self, is_reserved: bool) -> Vec<Credit> {
        self.change(|state| {
            state.is_reserved = is_reserved;
            state.move_waiting()
        })
    }

    /// Takes so much of the connection's room for what somebody else writes, if it is there.
    pub fn reserve(&self, length: usize) -> bool {
        let mut state = self.0.lock();
        let has_room = signed(length) <= state.window;
        if has_room {
            state.window -= signed(length);
        }
        has_room
    }

    /// What the peer has said that it takes.
    pub fn set(&self, settings: &frame::Settings) -> Vec<Credit> {
        self.change(|state| {
            if let Some(window) = settings.stream_window {
                let window = i64::from(window);
                let by = window - std::mem::replace(&mut state.stream_window, window);
                for one in state.streams.values_mut() {
                    one.window += by;
                }
            }
            if let Some(limit) = settings.frame_limit {
                state.frame_limit = usize::try_from(limit).unwrap_or(FRAME_LIMIT).min(FRAME_LIMIT);
            }
            state.move_waiting()
        })
    }

    /// Whether there is a stream that is not over.
    pub fn has_streams(&self) -> bool {
        !self.0.lock().streams.is_empty()
    }

    /// Nobody but the lane uses the connection any more.
    pub fn finish_general(&self) {
        self.0.lock().is_over = true;
    }

    /// Whether that is so.
    pub fn is_over(&self) -> bool {
        self.0.lock().is_over
    }

    /// Streams that have stood still for as long as they may, and when to look again.
    pub fn overdue(&self, limits: Limits, now: Instant) -> (Vec<(u32, Waiting)>, Instant) {
        let state = self.0.lock();
        let mut again = now + limits.shortest();
        let mut overdue = Vec::new();
        for (stream, one) in &state.streams {
            let waiting = one.waiting();
            let at = one.moved + limits.of(waiting);
            if at <= now {
                overdue.push((*stream, waiting));
            } else {
                again = again.min(at);
            }
        }
        (overdue, again)
    }

    /// Nobody writes it out any more: what waits is dropped, and what comes.
    pub fn close(&self) {
        let (streams, news) = {
            let mut state = self.0.lock();
            (state.is_closed, state.is_waiting, state.waker) = (true, false, None);
            (state.frames, state.waiting) = (Vec::new(), VecDeque::new());
            (std::mem::take(&mut state.streams), std::mem::take(&mut state.news))
        };
        // What they hold goes outside the lock.
        drop_pending(streams.into_values());
        drop(news);
    }

    /// Changes something, and wakes the task if it waits and there is something to do.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.0.lock();
        let changed = change(&mut state);
        if state.is_closed {
            let (frames, news) =
                (std::mem::take(&mut state.frames), std::mem::take(&mut state.news));
            drop(state);
            drop((frames, news));
            return changed;
        }
        if state.is_waiting && state.has_something() {
            state.is_waiting = false;
            let waker = state.waker.clone();
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
        changed
    }
}

/// What waits on these streams goes nowhere any more: whoever sent it gets its room back.
fn drop_pending(streams: impl IntoIterator<Item = Stream>) {
    for stream in streams {
        if let (Some((source, of)), false) = (stream.source, stream.pending.is_empty()) {
            source.give_back(of, stream.pending.len() - stream.unsourced);
        }
    }
}

/// As a window, of which there may be less than nothing.
fn signed(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

/// RFC 9113, section 6.9.2.
pub const INITIAL_WINDOW: i64 = 65_535;
/// RFC 9113, section 6.9.1.
pub const WINDOW_LIMIT: i64 = (1 << 31) - 1;
/// What is ready and not written: bodies wait beyond that, so that those of many streams share a connection that is slow.
const READY_LIMIT_BYTES: usize = 128 * 1024;
/// What is used up on a connection before the peer is told: a fraction of what it may have under way.
const RETURN_BYTES: i64 = 256 * 1024;

#[cfg(test)]
mod tests;
