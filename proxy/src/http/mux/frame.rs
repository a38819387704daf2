//! Frames of HTTP/2, written and taken apart (RFC 9113, section 6).

use crate::http::frames::head::{HEAD_BYTES, Head, flag, kind};

/// HEADERS, continued as often as it takes; `(stream, has_ended)`.
pub fn headers(output: &mut Vec<u8>, (stream, has_ended): (u32, bool), block: &[u8], limit: usize) {
    let mut rest = block;
    let mut kind = kind::HEADERS;
    let mut flags = if has_ended { flag::END_STREAM } else { 0 };
    loop {
        let (part, after) = rest.split_at(rest.len().min(limit));
        if after.is_empty() {
            flags |= flag::END_HEADERS;
        }
        write(output, Head { length: 0, kind, flags, stream }, part);
        if after.is_empty() {
            return;
        }
        (rest, kind, flags) = (after, kind::CONTINUATION, 0);
    }
}

/// DATA.
pub fn data(output: &mut Vec<u8>, stream: u32, data: &[u8], has_ended: bool) {
    let flags = if has_ended { flag::END_STREAM } else { 0 };
    write(output, Head { length: 0, kind: kind::DATA, flags, stream }, data);
}

/// `RST_STREAM`.
pub fn reset(output: &mut Vec<u8>, stream: u32, code: u32) {
    let head = Head { length: 0, kind: kind::RST_STREAM, flags: 0, stream };
    write(output, head, &code.to_be_bytes());
}

/// `WINDOW_UPDATE`.
pub fn window_update(output: &mut Vec<u8>, stream: u32, by: u32) {
    let head = Head { length: 0, kind: kind::WINDOW_UPDATE, flags: 0, stream };
    write(output, head, &by.to_be_bytes());
}

/// PING, or the answer to one.
pub fn ping(output: &mut Vec<u8>, payload: &[u8], is_answer: bool) {
    let flags = if is_answer { flag::ACK } else { 0 };
    write(output, Head { length: 0, kind: kind::PING, flags, stream: 0 }, payload);
}

/// GOAWAY.
pub fn go_away(output: &mut Vec<u8>, last_stream: u32, code: u32) {
    let head = Head { length: 0, kind: kind::GOAWAY, flags: 0, stream: 0 };
    write(output, head, &[last_stream.to_be_bytes(), code.to_be_bytes()].concat());
}

/// SETTINGS, of numbers and values.
pub fn settings(output: &mut Vec<u8>, values: &[(u16, u32)]) {
    let head = Head { length: 0, kind: kind::SETTINGS, flags: 0, stream: 0 };
    let one = |(name, value): &(u16, u32)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat();
    write(output, head, &values.iter().flat_map(one).collect::<Vec<u8>>());
}

/// The answer to SETTINGS.
pub fn settings_taken(output: &mut Vec<u8>) {
    Head { length: 0, kind: kind::SETTINGS, flags: flag::ACK, stream: 0 }.write(output);
}

/// A frame with this payload; the head's length is made to be that.
pub fn write(output: &mut Vec<u8>, head: Head, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    Head { length, ..head }.write(output);
    output.extend_from_slice(payload);
}

/// A frame: its head, what it carries, and what follows it.
pub type Frame<'a> = (Head, &'a [u8], &'a [u8]);

/// The first frame, if all of it is there, and what follows it. Fails if it is larger than may be.
pub fn split(octets: &[u8]) -> Result<Option<Frame<'_>>, TooLarge> {
    let Some((head, rest)) = octets.split_first_chunk::<HEAD_BYTES>() else { return Ok(None) };
    let head = Head::parse(*head);
    let length = usize::try_from(head.length).unwrap_or(usize::MAX);
    if length > FRAME_LIMIT {
        return Err(TooLarge);
    }
    Ok(rest.split_at_checked(length).map(|(payload, rest)| (head, payload, rest)))
}

/// A frame is larger than [`FRAME_LIMIT`].
#[derive(Debug)]
pub struct TooLarge;

/// What a frame carries, without what it is filled up with and without a priority; `None`: it is none.
pub fn content(head: Head, payload: &[u8]) -> Option<&[u8]> {
    let mut rest = payload;
    let mut padding = 0;
    if head.has(flag::PADDED) {
        let (length, after) = rest.split_first()?;
        (padding, rest) = (usize::from(*length), after);
    }
    if head.kind == kind::HEADERS && head.has(flag::PRIORITY) {
        let (priority, after) = rest.split_first_chunk::<5>()?;
        let [d0, d1, d2, d3, _weight] = *priority;
        // RFC 9113, section 5.3.1 of its predecessor: a stream that waits for itself.
        if u32::from_be_bytes([d0, d1, d2, d3]) & (u32::MAX >> 1) == head.stream {
            return None;
        }
        rest = after;
    }
    rest.get(..rest.len().checked_sub(padding)?)
}

/// The number that a frame consists of.
pub fn number(payload: &[u8]) -> Option<u32> {
    payload.try_into().ok().map(u32::from_be_bytes)
}

/// What a peer says that it takes; `None`: it does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// On a stream that begins, in octets.
    pub stream_window: Option<u32>,
    /// Of a frame's payload, in octets.
    pub frame_limit: Option<u32>,
    /// At once.
    pub stream_limit: Option<u32>,
    /// Of what the peer keeps to read fields, in octets.
    pub table_limit: Option<u32>,
}

impl Settings {
    /// Reads them; `None`: they are none, or cannot be meant (RFC 9113, section 6.5.2).
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let mut settings = Self::default();
        let (values, rest) = payload.as_chunks::<6>();
        if !rest.is_empty() {
            return None;
        }
        for [n0, n1, v0, v1, v2, v3] in values {
            let value = u32::from_be_bytes([*v0, *v1, *v2, *v3]);
            match u16::from_be_bytes([*n0, *n1]) {
                setting::TABLE_LIMIT => settings.table_limit = Some(value),
                setting::STREAM_LIMIT => settings.stream_limit = Some(value),
                setting::STREAM_WINDOW if value > u32::MAX >> 1 => return None,
                setting::STREAM_WINDOW => settings.stream_window = Some(value),
                setting::FRAME_LIMIT if !(1 << 14..1 << 24).contains(&value) => return None,
                setting::FRAME_LIMIT => settings.frame_limit = Some(value),
                _ => {}
            }
        }
        Some(settings)
    }
}

/// What settings are about (RFC 9113, section 6.5.2).
pub mod setting {
    /// `SETTINGS_HEADER_TABLE_SIZE`.
    pub const TABLE_LIMIT: u16 = 1;
    /// Whether servers may push.
    pub const PUSH: u16 = 2;
    /// `SETTINGS_MAX_CONCURRENT_STREAMS`.
    pub const STREAM_LIMIT: u16 = 3;
    /// `SETTINGS_INITIAL_WINDOW_SIZE`.
    pub const STREAM_WINDOW: u16 = 4;
    /// `SETTINGS_MAX_FRAME_SIZE`.
    pub const FRAME_LIMIT: u16 = 5;
    /// `SETTINGS_MAX_HEADER_LIST_SIZE`.
    pub const FIELDS_LIMIT: u16 = 6;
}

/// Why a stream or a connection is given up (RFC 9113, section 7).
pub mod code {
    /// It is not.
    pub const NO_ERROR: u32 = 0;
    /// The peer does what it may not.
    pub const PROTOCOL_ERROR: u32 = 1;
    /// This side has failed.
    pub const INTERNAL_ERROR: u32 = 2;
    /// The peer sends more than there is room for.
    pub const FLOW_CONTROL_ERROR: u32 = 3;
    /// The stream has ended before.
    pub const STREAM_CLOSED: u32 = 5;
    /// A frame of the wrong size.
    pub const FRAME_SIZE_ERROR: u32 = 6;
    /// Nothing was done.
    pub const REFUSED_STREAM: u32 = 7;
    /// Nobody wants it any more.
    pub const CANCEL: u32 = 8;
    /// A head that cannot be read.
    pub const COMPRESSION_ERROR: u32 = 9;
    /// Too much of something.
    pub const ENHANCE_YOUR_CALM: u32 = 11;
}

/// What a client begins with (RFC 9113, section 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What a peer keeps to read fields, if it does not say (RFC 9113, section 6.5.2), in octets.
pub const TABLE_BYTES: u32 = 4096;
/// What every peer takes, and this one at most: a payload, in octets (RFC 9113, section 6.5.2).
pub const FRAME_LIMIT: usize = 1 << 14;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_that_is_too_large_for_a_frame_is_continued() {
        let mut output = Vec::new();
        headers(&mut output, (3, true), b"abcdefg", 3);
        let mut expected = Vec::new();
        for (kind, flags, part) in [
            (kind::HEADERS, flag::END_STREAM, &b"abc"[..]),
            (kind::CONTINUATION, 0, b"def"),
            (kind::CONTINUATION, flag::END_HEADERS, b"g"),
        ] {
            write(&mut expected, Head { length: 0, kind, flags, stream: 3 }, part);
        }
        assert_eq!(output, expected);
    }

    #[test]
    fn a_frame_is_there_when_all_of_it_is() {
        let mut frames = Vec::new();
        data(&mut frames, 1, b"abc", true);
        for length in 0..frames.len() {
            assert!(split(&frames[..length]).unwrap().is_none());
        }
        frames.extend_from_slice(b"next");
        let (head, payload, rest) = split(&frames).unwrap().unwrap();
        assert_eq!((head.length, payload, rest), (3, &b"abc"[..], &b"next"[..]));
        assert!(head.has(flag::END_STREAM));
        assert!(split(&[0, 0x40, 1, 0, 0, 0, 0, 0, 1]).is_err());
    }

    #[test]
    fn what_fills_a_frame_up_is_no_content() {
        let head = |flags| Head { length: 0, kind: kind::HEADERS, flags, stream: 5 };
        for (case, flags, payload, expected) in [
            ("nothing", 0, &b"ab"[..], Some(&b"ab"[..])),
            ("padding", flag::PADDED, b"\x01ab\0", Some(b"ab")),
            ("nothing but padding", flag::PADDED, b"\x02\0\0", Some(b"")),
            ("more padding than there is", flag::PADDED, b"\x03\0\0", None),
            ("no length of padding", flag::PADDED, b"", None),
            ("a priority", flag::PRIORITY, b"\x80\0\0\x03\x10ab", Some(b"ab")),
            ("of itself", flag::PRIORITY, b"\x80\0\0\x05\x10ab", None),
            ("a short one", flag::PRIORITY, b"\0\0\0\x03", None),
            ("both", flag::PADDED | flag::PRIORITY, b"\x01\0\0\0\x03\x10a\0", Some(b"a")),
        ] {
            assert_eq!(content(head(flags), payload), expected, "case: {case}");
        }
    }

    #[test]
    fn settings_are_read_or_cannot_be_meant() {
        let of = |values: &[(u16, u32)]| {
            let mut frame = Vec::new();
            settings(&mut frame, values);
            Settings::parse(&frame[HEAD_BYTES..])
        };
        let expected = Settings {
            stream_window: Some(7),
            frame_limit: Some(1 << 14),
            stream_limit: Some(3),
            table_limit: None,
        };
        let values = [(setting::STREAM_WINDOW, 7), (setting::FRAME_LIMIT, 1 << 14)];
        assert_eq!(
            of(&[&values[..], &[(setting::STREAM_LIMIT, 3), (99, 1)]].concat()),
            Some(expected)
        );
        assert_eq!(of(&[(setting::STREAM_WINDOW, 1 << 31)]), None);
        assert_eq!(of(&[(setting::FRAME_LIMIT, 16_383)]), None);
        assert_eq!(Settings::parse(b"12345"), None);
    }
}
