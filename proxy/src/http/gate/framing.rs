//! Divides what an HTTP/1 client sends into requests, and writes those that may pass anew in one
//! canonical form. Whoever reads what it writes sees the requests that it saw, and no others.
//! Reads no socket and knows no clock: see io.rs.

use std::io::Write as _;

use crate::http::gate::chunked::{ChunkReader, Chunked};
use crate::http::gate::fields::{self, Known};
use crate::http::gate::head::{self, Field, Head, HeadReader};
use crate::http::gate::lines::Lines;
use crate::http::gate::refusal::Refusal;
use crate::http::gate::request::{BodyLength, Line, Meaning, Version, judge_known, read_target};

/// A reader of one connection.
///
/// How its input is cut makes no difference, and more input never changes what it has said: after a
/// refusal there is nothing but that refusal.
#[derive(Clone, Debug)]
pub struct Framer {
    state: State,
    reader: HeadReader,
    tunnel: bool,
    heads: u64,
}

#[derive(Clone, Debug)]
enum State {
    Head,
    Fixed {
        left: u64,
    },
    Chunks(ChunkReader),
    /// A tunnel was asked for.
    Asked,
    /// It was agreed to.
    Tunnel,
    Refused(Refusal),
}

/// Where a client is in its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Before the first octet of a head.
    Between,
    /// In a head.
    Head,
    /// In a body.
    Body {
        /// Its length is known.
        is_sized: bool,
    },
    /// It asked for a tunnel, and has to wait for the answer.
    Asked,
    /// What it sends is not HTTP any more.
    Tunnel,
    /// Something was refused.
    Refused,
}

impl Framer {
    /// At the beginning of a connection.
    pub fn new() -> Self {
        Self { state: State::Head, reader: HeadReader::default(), tunnel: false, heads: 0 }
    }

    /// Reads `input`, writes `output`, up to the end of a head or of a body; what it used up. The
    /// rest of `input` is to come again, with more behind it.
    pub fn read(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<usize, Refusal> {
        let read = match &mut self.state {
            State::Head => self.read_head(input, output),
            State::Fixed { left } => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                output.extend_from_slice(input.get(..length).unwrap_or_default());
                self.pass(length);
                Ok(length)
            }
            State::Chunks(chunks) => match chunks.read(input, &mut self.reader, output) {
                Ok((used, Chunked::Short)) => Ok(used),
                Ok((used, Chunked::Done)) => {
                    self.end_body();
                    Ok(used)
                }
                Err(refusal) => Err(refusal),
            },
            State::Asked | State::Tunnel => Ok(0),
            State::Refused(refusal) => Err(*refusal),
        };
        read.inspect_err(|refusal| self.refuse(*refusal))
    }

    /// How much comes next that can be passed on as it is, without [`Self::read`].
    pub fn passable(&self) -> u64 {
        match &self.state {
            State::Fixed { left } => *left,
            State::Chunks(chunks) => chunks.data(),
            State::Tunnel => u64::MAX,
            State::Head | State::Asked | State::Refused(_) => 0,
        }
    }

    /// So much was passed on, at most [`Self::passable`].
    pub fn pass(&mut self, length: usize) {
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        match &mut self.state {
            State::Fixed { left } => {
                *left = left.saturating_sub(length);
                if *left == 0 {
                    self.end_body();
                }
            }
            State::Chunks(chunks) => chunks.pass(length),
            State::Head | State::Asked | State::Tunnel | State::Refused(_) => {}
        }
    }

    /// Where the client is, if `unread` of what it sent was not used up yet.
    pub fn phase(&self, unread: usize) -> Phase {
        match &self.state {
            State::Head if unread == 0 => Phase::Between,
            State::Head => Phase::Head,
            State::Fixed { .. } => Phase::Body { is_sized: true },
            State::Chunks(_) => Phase::Body { is_sized: false },
            State::Asked => Phase::Asked,
            State::Tunnel => Phase::Tunnel,
            State::Refused(_) => Phase::Refused,
        }
    }

    /// How many requests have passed, or have at least their head.
    pub fn heads(&self) -> u64 {
        self.heads
    }

    /// Whether the last request asks for a tunnel.
    pub fn asks_for_tunnel(&self) -> bool {
        self.tunnel
    }

    /// Refuses whatever comes.
    pub fn refuse(&mut self, refusal: Refusal) {
        self.state = State::Refused(refusal);
    }

    /// The answer to who asked for a tunnel.
    pub fn answer_tunnel(&mut self, is_agreed: bool) {
        if matches!(self.state, State::Asked) {
            self.state = if is_agreed { State::Tunnel } else { State::Head };
        }
    }

    /// The client sends no more: whether it ended in the head of a request.
    pub fn is_cut_off(&self) -> bool {
        matches!(self.state, State::Head) && self.reader.has_begun()
    }

    fn read_head(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<usize, Refusal> {
        let Some(length) = self.reader.read(input)? else { return Ok(0) };
        let head = self.reader.head(input);
        let meaning = understand(&head)?;
        write_head(&head, &meaning, output);
        let Meaning { body, tunnel, .. } = meaning;
        self.reader.reset();
        self.heads += 1;
        self.tunnel = tunnel;
        match body {
            BodyLength::None | BodyLength::Known(0) => self.end_body(),
            BodyLength::Known(left) => self.state = State::Fixed { left },
            BodyLength::Chunked => self.state = State::Chunks(ChunkReader::new()),
        }
        Ok(length)
    }

    fn end_body(&mut self) {
        self.reader.reset();
        self.state = if self.tunnel { State::Asked } else { State::Head };
    }
}

impl Default for Framer {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether a head may pass, and what it means.
pub fn understand<'a>(head: &Head<'a>) -> Result<Meaning<'a>, Refusal> {
    let version = match head.version() {
        head::Version::Http10 => Version::Http10,
        head::Version::Http11 => Version::Http11,
    };
    let method = head.method();
    let target = read_target(method, head.target())?;
    judge_known(Line { method, target, version }, head.known())
}

/// The same request with one way to write it: fields keep their order and the case of their names.
fn write_head(head: &Head<'_>, meaning: &Meaning<'_>, output: &mut Vec<u8>) {
    write_lines(head, meaning, |_field| false, output);
    output.extend_from_slice(b"\r\n");
}

/// The head but for its end, as it goes on, without the fields that are left out. Lines that stay as they are, as most do,
/// are written together with those around them.
pub(in crate::http) fn write_lines(
    head: &Head<'_>,
    meaning: &Meaning<'_>,
    is_left_out: impl Fn(&Field<'_>) -> bool,
    output: &mut Vec<u8>,
) {
    let mut host = meaning.host;
    let target = match (meaning.path, meaning.host) {
        // CONNECT.
        ([], Some(authority)) => authority,
        (path, _) => path,
    };
    let mut first = head.request_line();
    if target != head.target() {
        let is_old = head.version() == head::Version::Http10;
        let version: &[u8] = if is_old { b" HTTP/1.0\r\n" } else { b" HTTP/1.1\r\n" };
        for part in [head.method(), b" ", target, version] {
            output.extend_from_slice(part);
        }
        first.start = first.end;
    }
    let mut lines = Lines::new(head.octets(), first);
    for field in head.lines().filter(|field| !is_left_out(field)) {
        if stays(&field, meaning) {
            lines.keep(&field, output);
        } else {
            lines.flush(output);
            write_field(output, &field, meaning, &mut host);
        }
        if field.known == Known::Host {
            host = None;
        }
    }
    lines.flush(output);
    if let Some(host) = host {
        fields::write(output, b"host", host);
    }
}

/// Whether what is written of a field is what it says.
fn stays(field: &Field<'_>, meaning: &Meaning<'_>) -> bool {
    match field.known {
        Known::Host => meaning.host.is_none_or(|host| host == field.value),
        // Without zeros before it.
        Known::ContentLength => matches!(field.value, [b'0'] | [b'1'..=b'9', ..]),
        Known::Upgrade => meaning.tunnel,
        Known::TransferEncoding | Known::Expect | Known::Claim | Known::Lookalike => false,
        Known::Connection | Known::Te | Known::ContentType | Known::Hop | Known::Other => true,
    }
}

/// Writes a field as it goes on, or leaves it out. `host` is what a field `host` says, until it is written.
pub(in crate::http) fn write_field(
    output: &mut Vec<u8>,
    field: &Field<'_>,
    meaning: &Meaning<'_>,
    host: &mut Option<&[u8]>,
) {
    let Field { name, value, .. } = *field;
    match field.known {
        Known::Host => fields::write(output, name, host.take().unwrap_or(value)),
        Known::ContentLength => write_length(output, name, meaning.body),
        Known::TransferEncoding => fields::write(output, name, b"chunked"),
        Known::Upgrade if meaning.tunnel => fields::write(output, name, value),
        Known::Expect if meaning.expects => fields::write(output, name, b"100-continue"),
        Known::Upgrade | Known::Expect | Known::Claim | Known::Lookalike => {}
        Known::Connection | Known::Te | Known::ContentType | Known::Hop | Known::Other => {
            fields::write(output, name, value);
        }
    }
}

fn write_length(output: &mut Vec<u8>, name: &[u8], body: BodyLength) {
    if let BodyLength::Known(length) = body {
        output.extend_from_slice(name);
        // Writing to a vector cannot fail.
        let _ = write!(output, ": {length}\r\n");
    }
}

#[cfg(test)]
mod tests;
