//! Reads a chunked body (RFC 9112, section 7.1) and writes it anew: the same data, in the same
//! chunks, without extensions. Holds no data and allocates nothing for a chunk.

use std::io::Write as _;

use crate::http::gate::head::{Head, HeadReader};
use crate::http::gate::refusal::Refusal;
use crate::http::gate::{fields, octets};

/// A reader of one body.
#[derive(Clone, Debug)]
pub struct ChunkReader {
    state: State,
    /// Octets of extensions so far, of the whole body.
    extension_bytes: usize,
    /// Octets of data so far.
    passed: u64,
    /// Where, in what was written last, the last chunk is, and what follows it.
    end: Option<std::ops::Range<usize>>,
    limits: Limits,
}

/// What may be written in a body beside its data.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// The line of a size may be filled up: with spaces behind it, and zeros before it.
    may_be_padded: bool,
    extensions: usize,
    trailers: usize,
}

impl Limits {
    const REQUEST: Self = Self {
        may_be_padded: false,
        extensions: EXTENSIONS_LIMIT_BYTES,
        trailers: TRAILERS_LIMIT_BYTES,
    };
    /// Servers are known to do so. As much as hyper takes.
    const RESPONSE: Self = Self { may_be_padded: true, extensions: 16 * 1024, trailers: 16 * 1024 };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size {
        size: u64,
        digits: usize,
    },
    /// Spaces after the size.
    Padding {
        size: u64,
    },
    /// After the size, up to the end of its line.
    Extension {
        size: u64,
    },
    SizeEnd {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataEnd,
    DataEndLine,
    Trailers,
    Done,
}

/// What reading on came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunked {
    /// It needs more octets.
    Short,
    /// The body has ended.
    Done,
}

impl ChunkReader {
    /// At the beginning of a body.
    pub fn new() -> Self {
        let state = State::Size { size: 0, digits: 0 };
        Self { state, extension_bytes: 0, passed: 0, end: None, limits: Limits::REQUEST }
    }

    /// The same of a response.
    pub fn of_response() -> Self {
        Self { limits: Limits::RESPONSE, ..Self::new() }
    }

    /// The fields after the body, as they were written by the call that ended it.
    pub fn trailers<'a>(&self, output: &'a [u8]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let end = self.end.clone().and_then(|end| output.get(end)).unwrap_or_default();
        end.split(|octet| *octet == b'\n').filter_map(|line| {
            let colon = line.iter().position(|octet| *octet == b':')?;
            let (name, value) = line.split_at_checked(colon)?;
            Some((name, value.get(1..)?.trim_ascii()))
        })
    }

    /// Where the last chunk is in what was written by the call that ended the body.
    pub fn last_chunk(&self) -> Option<usize> {
        self.end.as_ref().map(|end| end.start)
    }

    /// How much data has passed so far.
    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// How much data comes next, which may be passed on as it is.
    pub fn data(&self) -> u64 {
        match self.state {
            State::Data { left } => left,
            State::Size { .. }
            | State::Padding { .. }
            | State::Extension { .. }
            | State::SizeEnd { .. }
            | State::DataEnd
            | State::DataEndLine
            | State::Trailers
            | State::Done => 0,
        }
    }

    /// So much data was passed on, at most [`Self::data`].
    pub fn pass(&mut self, length: u64) {
        if let State::Data { left } = self.state {
            self.passed += length.min(left);
            let left = left.saturating_sub(length);
            self.state = if left == 0 { State::DataEnd } else { State::Data { left } };
        }
    }

    /// Reads `input`, writes `output`; the length of what it used up, and what that came to.
    /// `trailers` is to be fresh at the body's beginning.
    pub fn read(
        &mut self,
        input: &[u8],
        trailers: &mut HeadReader,
        output: &mut Vec<u8>,
    ) -> Result<(usize, Chunked), Refusal> {
        let mut used = 0;
        loop {
            let rest = input.get(used..).unwrap_or_default();
            match self.state {
                State::Done => return Ok((used, Chunked::Done)),
                State::Trailers => match trailers.read(rest)? {
                    None if rest.len() > self.limits.trailers => {
                        return Err(Refusal::FieldsTooLarge);
                    }
                    None => return Ok((used, Chunked::Short)),
                    Some(length) if length > self.limits.trailers => {
                        return Err(Refusal::FieldsTooLarge);
                    }
                    Some(length) => {
                        let from = output.len();
                        end(trailers.head(rest), output);
                        self.end = Some(from..output.len());
                        used += length;
                        self.state = State::Done;
                    }
                },
                State::Data { left } => {
                    let length = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    let Some(data @ [_, ..]) = rest.get(..length) else {
                        return Ok((used, Chunked::Short));
                    };
                    output.extend_from_slice(data);
                    used += length;
                    self.pass(u64::try_from(length).unwrap_or(u64::MAX));
                }
                State::Size { .. }
                | State::Padding { .. }
                | State::Extension { .. }
                | State::SizeEnd { .. }
                | State::DataEnd
                | State::DataEndLine => {
                    let Some(octet) = rest.first() else { return Ok((used, Chunked::Short)) };
                    self.state = self.step(*octet, trailers, output)?;
                    used += 1;
                }
            }
        }
    }

    fn step(
        &mut self,
        octet: u8,
        trailers: &mut HeadReader,
        output: &mut Vec<u8>,
    ) -> Result<State, Refusal> {
        match (self.state, octet) {
            (State::Size { size, digits }, octet) => self.size(size, digits, octet),
            (state @ State::Padding { .. }, b' ' | b'\t') => Ok(state),
            (State::Padding { size }, b';') => Ok(State::Extension { size }),
            (State::Padding { size } | State::Extension { size }, b'\r') => {
                Ok(State::SizeEnd { size })
            }
            (State::Padding { .. }, b'\n') => Err(Refusal::BareLineFeed),
            (State::Padding { .. }, _) => Err(Refusal::ChunkSize),
            (State::Extension { size }, octet) if octets::is_value(octet) => {
                self.extension_bytes += 1;
                if self.extension_bytes > self.limits.extensions {
                    return Err(Refusal::ChunkExtension);
                }
                Ok(State::Extension { size })
            }
            (State::Extension { .. } | State::DataEnd, b'\n') => Err(Refusal::BareLineFeed),
            (State::Extension { .. }, _) => Err(Refusal::ChunkExtension),
            (State::SizeEnd { size: 0 }, b'\n') => {
                trailers.reset_to_trailers();
                Ok(State::Trailers)
            }
            (State::SizeEnd { size }, b'\n') => {
                // Writing to a vector cannot fail.
                let _ = write!(output, "{size:x}\r\n");
                Ok(State::Data { left: size })
            }
            (State::DataEnd, b'\r') => Ok(State::DataEndLine),
            (State::DataEndLine, b'\n') => {
                output.extend_from_slice(b"\r\n");
                Ok(State::Size { size: 0, digits: 0 })
            }
            (State::SizeEnd { .. }, _) => Err(Refusal::BareCarriageReturn),
            (State::DataEnd | State::DataEndLine, _) => Err(Refusal::ChunkEnd),
            (state @ (State::Data { .. } | State::Trailers | State::Done), _) => Ok(state),
        }
    }

    fn size(&self, size: u64, digits: usize, octet: u8) -> Result<State, Refusal> {
        match (char::from(octet).to_digit(16), octet) {
            (Some(_), _) if digits == SIZE_LIMIT_DIGITS => Err(Refusal::ChunkSize),
            (Some(digit), _) => {
                let is_zero_before = self.limits.may_be_padded && size == 0;
                let digits = if is_zero_before { 1 } else { digits + 1 };
                Ok(State::Size { size: size << 4 | u64::from(digit), digits })
            }
            (None, _) if digits == 0 => Err(Refusal::ChunkSize),
            (None, b'\r') => Ok(State::SizeEnd { size }),
            (None, b';') => Ok(State::Extension { size }),
            (None, b' ' | b'\t') if self.limits.may_be_padded => Ok(State::Padding { size }),
            (None, b'\n') => Err(Refusal::BareLineFeed),
            (None, _) => Err(Refusal::ChunkSize),
        }
    }
}

impl Default for ChunkReader {
    fn default() -> Self {
        Self::new()
    }
}

/// The last chunk, and those trailers that may be sent as such.
fn end(trailers: Head<'_>, output: &mut Vec<u8>) {
    output.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.fields().filter(|(name, _value)| fields::may_trail(name)) {
        fields::write(output, name, value);
    }
    output.extend_from_slice(b"\r\n");
}

/// Fifteen digits are a petabyte.
const SIZE_LIMIT_DIGITS: usize = 15;
/// Of one body. Nobody is known to send any.
const EXTENSIONS_LIMIT_BYTES: usize = 4096;
/// Less than hyper reads.
const TRAILERS_LIMIT_BYTES: usize = 8192;
