//! The streams that h2 serves: its frames have numbers of their own, so that it sees a connection without any other
//! streams, and all of the connection's room that is left.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;

use crate::http::frames::head::{HEAD_BYTES, Head, flag, kind};
use crate::http::hpack::encoder;
use crate::http::hpack::fields::{FieldRef, Fields};
use crate::http::mux::frame::{self, FRAME_LIMIT, code, setting};
use crate::http::mux::numbers::IdHasher;
use crate::http::mux::outbox::{INITIAL_WINDOW, Outbox};
use crate::http::mux::writer::give_back;
use crate::listen::HEADERS_LIMIT_BYTES;

type Numbers<T> = HashMap<u32, T, BuildHasherDefault<IdHasher>>;

/// What h2 reads, and what it wrote.
#[derive(Debug)]
pub(super) struct General {
    /// For h2 to read, from `read` on.
    input: Vec<u8>,
    read: usize,
    /// What h2 wrote of a frame that is not whole.
    cut: Vec<u8>,
    /// Frames of a head that is not whole, and whose it is: nothing may come between them.
    open: Vec<u8>,
    open_stream: u32,
    /// Frames that wait for room on the connection, how much of a body is in them, and how many there are of each
    /// stream: these keep their order.
    held: VecDeque<Held>,
    held_octets: i64,
    held_of: Numbers<usize>,
    /// What h2 believes to have room for on the connection: never more than [`GRANT_BYTES`], whatever the client has, so
    /// that no more than that is held.
    window: i64,
    /// Whose turn it is to use the connection's room when there is more: h2's, or the lane's.
    is_next: bool,
    /// By their numbers on the wire.
    streams: Numbers<Stream>,
    /// From h2's numbers to those on the wire.
    wire: Numbers<u32>,
    next: u32,
    /// With which code it has said that it looks at no more streams, if it has.
    gone: Option<u32>,
    /// It has said that it will: after the client's answer to the PING that goes with it, no stream is looked at.
    is_ending: bool,
    /// It has ended: what else comes for it is not read.
    is_over: bool,
}

#[derive(Debug)]
struct Stream {
    number: u32,
    has_all: bool,
    is_sent: bool,
}

/// Frames, and how much they take of the connection's room.
#[derive(Debug)]
struct Held {
    stream: u32,
    octets: usize,
    frames: Vec<u8>,
}

impl General {
    pub(super) fn new() -> Self {
        Self {
            input: Vec::new(),
            read: 0,
            cut: Vec::new(),
            open: Vec::new(),
            open_stream: 0,
            held: VecDeque::new(),
            held_octets: 0,
            held_of: Numbers::default(),
            window: INITIAL_WINDOW,
            is_next: false,
            streams: Numbers::default(),
            wire: Numbers::default(),
            next: 1,
            gone: None,
            is_ending: false,
            is_over: false,
        }
    }

    /// How many streams it has.
    pub(super) fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether something of its streams waits for room.
    pub(super) fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether a stream is its.
    pub(super) fn has(&self, stream: u32) -> bool {
        self.streams.contains_key(&stream)
    }

    /// Whether no new stream is looked at, which the client was told.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.is_some()
    }

    /// The client has answered a PING: h2 says at once that it looks at no more streams, if it is about to.
    pub(super) fn answered(&mut self, payload: &[u8]) {
        if self.is_ending && payload == SHUTDOWN_PING {
            self.gone = self.gone.or(Some(code::NO_ERROR));
        }
    }

    /// It has ended.
    pub(super) fn finish(&mut self) {
        (self.is_over, self.input, self.read) = (true, Vec::new(), 0);
    }

    /// Whether it has.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether it ends for a fault.
    pub(super) fn has_failed(&self) -> bool {
        self.gone.is_some_and(|code| code != code::NO_ERROR)
    }

    /// What h2 is to read.
    pub(super) fn unread(&self) -> &[u8] {
        self.input.get(self.read..).unwrap_or_default()
    }

    /// So much of it was read.
    pub(super) fn consume(&mut self, length: usize) {
        self.read += length;
        if self.read >= self.input.len() {
            self.read = 0;
            if self.input.capacity() > KEPT_BYTES {
                self.input = Vec::new();
            }
            self.input.clear();
        }
    }

    /// Passes on what belongs to no frame: the preface.
    pub(super) fn pass_raw(&mut self, octets: &[u8]) {
        self.input.extend_from_slice(octets);
    }

    /// Passes a frame on, of a stream that it has or of the connection.
    pub(super) fn pass(&mut self, head: Head, payload: &[u8]) {
        let mut head = head;
        if head.stream != 0 {
            let Some(stream) = self.streams.get_mut(&head.stream) else { return };
            let wire = std::mem::replace(&mut head.stream, stream.number);
            let ends =
                matches!(head.kind, kind::DATA | kind::HEADERS) && head.has(flag::END_STREAM);
            stream.has_all |= ends;
            if head.kind == kind::RST_STREAM || (stream.has_all && stream.is_sent) {
                self.wire.remove(&head.stream);
                self.streams.remove(&wire);
            }
        }
        frame::write(&mut self.input, head, payload);
    }

    /// A stream begins with this head. `is_too_large`: these are not all of its fields, and with these it has too many.
    pub(super) fn begin(
        &mut self,
        stream: u32,
        fields: &Fields,
        has_ended: bool,
        is_too_large: bool,
    ) {
        let number = self.begin_stream(stream, has_ended);
        let mut block = Vec::new();
        if is_too_large {
            // All of them could be more than h2 takes in frames, which would end the connection.
            let is_short =
                |field: &FieldRef<'_>| field.name.len() + field.value.len() < SHORT_BYTES;
            let is_of_line =
                |field: &FieldRef<'_>| field.name.first() == Some(&b':') && is_short(field);
            for field in fields.iter().filter(is_of_line) {
                encoder::field(field.name, field.value, field.static_name, false, &mut block);
            }
            encoder::field(b"x", &[b'a'; HEADERS_LIMIT_BYTES], 0, false, &mut block);
        } else {
            encode(fields, &mut block);
        }
        frame::headers(&mut self.input, (number, has_ended), &block, FRAME_LIMIT);
    }

    /// The same of a request that was written to somebody else, who has done nothing of it: its head and what there is of
    /// its body.
    pub(super) fn begin_again(
        &mut self,
        stream: u32,
        (block, data): (&[u8], &[u8]),
        has_ended: bool,
    ) {
        let number = self.begin_stream(stream, has_ended);
        frame::headers(&mut self.input, (number, has_ended && data.is_empty()), block, FRAME_LIMIT);
        let mut pieces = data.chunks(FRAME_LIMIT).peekable();
        while let Some(piece) = pieces.next() {
            frame::data(&mut self.input, number, piece, has_ended && pieces.peek().is_none());
        }
    }

    /// What comes after the body of a stream that it has.
    pub(super) fn end(&mut self, stream: u32, fields: &Fields, has_ended: bool) {
        let Some(one) = self.streams.get_mut(&stream) else { return };
        one.has_all |= has_ended;
        let (number, is_over) = (one.number, one.has_all && one.is_sent);
        let mut block = Vec::new();
        encode(fields, &mut block);
        frame::headers(&mut self.input, (number, has_ended), &block, FRAME_LIMIT);
        if is_over {
            self.wire.remove(&number);
            self.streams.remove(&stream);
        }
    }

    fn begin_stream(&mut self, stream: u32, has_all: bool) -> u32 {
        let number = self.next;
        self.next += 2;
        self.streams.insert(stream, Stream { number, has_all, is_sent: false });
        self.wire.insert(number, stream);
        number
    }

    /// h2 writes: what is whole goes out. `last` is the last stream on the wire that was looked at.
    pub(super) fn write(&mut self, octets: &[u8], outbox: &Outbox, last: u32) {
        self.cut.extend_from_slice(octets);
        let cut = std::mem::take(&mut self.cut);
        let mut rest: &[u8] = &cut;
        while let Some((head, after)) = rest.split_first_chunk::<HEAD_BYTES>() {
            let head = Head::parse(*head);
            let length = usize::try_from(head.length).unwrap_or(usize::MAX);
            let Some((payload, after)) = after.split_at_checked(length) else { break };
            rest = after;
            self.send(head, payload, outbox, last);
        }
        self.cut = rest.to_vec();
        self.grant(outbox);
    }

    fn send(&mut self, mut head: Head, payload: &[u8], outbox: &Outbox, last: u32) {
        if head.kind == kind::GOAWAY {
            let (payload, code) = self.go_away(payload, last);
            // A fault is not hidden by an end in order before.
            self.gone = code.filter(|code| *code != code::NO_ERROR).or(self.gone).or(code);
            outbox.write(|output| frame::write(output, head, &payload));
            return;
        }
        if !self.open.is_empty() {
            // Also of a stream that was given up meanwhile: what was begun has to end.
            frame::write(&mut self.open, Head { stream: self.open_stream, ..head }, payload);
        }
        if head.kind == kind::DATA {
            self.window -= i64::from(head.length);
        }
        if head.stream != 0 {
            let Some(wire) = self.wire.get(&head.stream).copied() else {
                return self.end_open(head, outbox);
            };
            let number = std::mem::replace(&mut head.stream, wire);
            let is_of_body = matches!(head.kind, kind::DATA | kind::HEADERS);
            let ends = is_of_body && head.has(flag::END_STREAM);
            let Some(stream) = self.streams.get_mut(&wire) else { return };
            stream.is_sent |= ends;
            if head.kind == kind::RST_STREAM || (stream.has_all && stream.is_sent && !is_open(head))
            {
                self.streams.remove(&wire);
                self.wire.remove(&number);
            }
        }
        if !self.open.is_empty() {
            return self.end_open(head, outbox);
        }
        if is_open(head) {
            self.open_stream = head.stream;
            frame::write(&mut self.open, head, payload);
            return;
        }
        let write = |output: &mut Vec<u8>| frame::write(output, head, payload);
        match head.kind {
            kind::DATA => self.send_in_order(head.stream, payload.len(), outbox, write),
            kind::HEADERS | kind::RST_STREAM => self.send_in_order(head.stream, 0, outbox, write),
            _ => outbox.write(write),
        }
    }

    /// A head has come to its end, if this was it.
    fn end_open(&mut self, head: Head, outbox: &Outbox) {
        if !self.open.is_empty() && !is_open(head) {
            let (stream, frames) = (self.open_stream, std::mem::take(&mut self.open));
            self.send_in_order(stream, 0, outbox, |output| output.extend_from_slice(&frames));
        }
    }

    /// Frames do not pass those of their stream that wait; `octets` is what they take of the connection's room.
    fn send_in_order(
        &mut self,
        stream: u32,
        octets: usize,
        outbox: &Outbox,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let has_to_wait = self.held_of.contains_key(&stream)
            || octets > 0 && (!self.held.is_empty() || !outbox.reserve(octets));
        if !has_to_wait {
            outbox.write(write);
            return;
        }
        let mut frames = Vec::new();
        write(&mut frames);
        self.held_octets += i64::try_from(octets).unwrap_or(i64::MAX);
        *self.held_of.entry(stream).or_default() += 1;
        self.held.push_back(Held { stream, octets, frames });
    }

    /// What is said on the wire of the end of the connection, and why it ends, if that is final.
    fn go_away(&mut self, payload: &[u8], last: u32) -> (Vec<u8>, Option<u32>) {
        let Some((said, rest)) = payload.split_first_chunk::<4>() else {
            return (payload.to_vec(), None);
        };
        let code = rest.first_chunk().copied().map_or(0, u32::from_be_bytes);
        // The first of two of an end in order, which names no stream (RFC 9113, section 6.8).
        if u32::from_be_bytes(*said) == u32::MAX >> 1 && code == code::NO_ERROR {
            self.is_ending = true;
            return (payload.to_vec(), None);
        }
        ([&last.to_be_bytes()[..], rest].concat(), Some(code))
    }

    /// The connection has more room: h2 and the lane use it by turns.
    pub(super) fn widen(&mut self, outbox: &Outbox) {
        if self.is_next {
            let has_sent = self.send_held(outbox);
            // What there is does for no frame of its: it grows until it does.
            self.is_next = !has_sent && !self.held.is_empty();
            give_back(outbox.reserve_all(self.is_next));
        } else {
            give_back(outbox.reserve_all(false));
            self.send_held(outbox);
            self.is_next = !self.held.is_empty();
        }
        self.grant(outbox);
    }

    fn send_held(&mut self, outbox: &Outbox) -> bool {
        let mut has_sent = false;
        while let Some(first) = self.held.pop_front() {
            if first.octets > 0 && !outbox.reserve(first.octets) {
                self.held.push_front(first);
                break;
            }
            has_sent = true;
            self.held_octets -= i64::try_from(first.octets).unwrap_or(i64::MAX);
            if let Some(count) = self.held_of.get_mut(&first.stream) {
                *count -= 1;
                if *count == 0 {
                    self.held_of.remove(&first.stream);
                }
            }
            outbox.write(|output| output.extend_from_slice(&first.frames));
        }
        has_sent
    }

    /// Tells h2 that it has room, if it is worth a frame.
    fn grant(&mut self, outbox: &Outbox) {
        let more = GRANT_BYTES - self.window - self.held_octets;
        if more >= GRANT_BYTES / 2
            && let Ok(by) = u32::try_from(more)
        {
            self.window += more;
            frame::window_update(&mut self.input, 0, by);
            // It has to look.
            outbox.wake();
        }
    }

    /// What the client says that it takes, for h2: without a table for fields, so that what it writes means the same
    /// whatever of it is left out.
    pub(super) fn pass_settings(&mut self, payload: &[u8]) {
        let is_valid = frame::Settings::parse(payload).is_some();
        let mut said = Vec::with_capacity(payload.len() + SETTING_BYTES);
        for setting in payload.chunks(SETTING_BYTES) {
            // Larger frames could wait for room that is never there at once. What cannot be meant is for h2 to refuse.
            let is_kept = setting.starts_with(&setting::TABLE_LIMIT.to_be_bytes())
                || is_valid && setting.starts_with(&setting::FRAME_LIMIT.to_be_bytes());
            if !is_kept {
                said.extend_from_slice(setting);
            }
        }
        if payload.len().is_multiple_of(SETTING_BYTES) {
            said.extend_from_slice(&setting::TABLE_LIMIT.to_be_bytes());
            said.extend_from_slice(&0_u32.to_be_bytes());
        }
        let head = Head { length: 0, kind: kind::SETTINGS, flags: 0, stream: 0 };
        frame::write(&mut self.input, head, &said);
    }
}

/// Whether more of a block is to come.
fn is_open(head: Head) -> bool {
    matches!(head.kind, kind::HEADERS | kind::CONTINUATION) && !head.has(flag::END_HEADERS)
}

fn encode(fields: &Fields, block: &mut Vec<u8>) {
    for field in fields.iter() {
        encoder::field(field.name, field.value, field.static_name, field.is_sensitive, block);
    }
}

/// What h2 may have under way on the connection beyond what the client has taken: as much as a stream's buffer in h2.
const GRANT_BYTES: i64 = 64 * 1024;
/// What h2 asks with before it ends a connection in order (`Ping::SHUTDOWN`).
const SHUTDOWN_PING: &[u8] = &[0x0b, 0x7b, 0xa2, 0xf0, 0x8b, 0x9b, 0xfe, 0x54];
/// RFC 9113, section 6.5.1.
const SETTING_BYTES: usize = 6;
/// What of a head that is too large is told to h2, which answers it whatever it is.
const SHORT_BYTES: usize = 256;
/// Room that is kept for the next time.
const KEPT_BYTES: usize = 16 * 1024;
