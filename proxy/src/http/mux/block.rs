//! The head of a message that comes in several frames.

use crate::http::frames::head::{Head, flag};
use crate::listen::HEADERS_LIMIT_BYTES;

/// What is there of it.
#[derive(Debug)]
pub(super) struct Block {
    stream: u32,
    has_ended: bool,
    octets: Vec<u8>,
    continuations: u32,
}

impl Block {
    /// HEADERS have come, of which this is the content.
    pub(super) fn begin(head: Head, part: &[u8]) -> Self {
        let has_ended = head.has(flag::END_STREAM);
        Self { stream: head.stream, has_ended, octets: part.to_vec(), continuations: 0 }
    }

    /// CONTINUATION has come; false if that is too much.
    pub(super) fn add(&mut self, part: &[u8]) -> bool {
        self.continuations += 1;
        self.octets.extend_from_slice(part);
        self.octets.len() <= LIMIT_BYTES && self.continuations <= CONTINUATION_LIMIT
    }

    /// Whose it is.
    pub(super) fn stream(&self) -> u32 {
        self.stream
    }

    /// Whether no body follows.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// All of it, once it is whole.
    pub(super) fn octets(&self) -> &[u8] {
        &self.octets
    }
}

/// Compressed, a head can be a little larger than what it is limited to (RFC 7541, section 6.2: five octets a field).
const LIMIT_BYTES: usize = HEADERS_LIMIT_BYTES + HEADERS_LIMIT_BYTES / 4;
/// One more than h2 makes of the limit on headers and the largest frame; see frames.rs.
const CONTINUATION_LIMIT: u32 = 6;
