//! The body of an answer on its way to the client: where it ends, and how that is told.

use std::io::Write as _;

use bytes::{Buf, BytesMut};

use crate::balance::ejection::Sign;
use crate::http::gate::chunked::{ChunkReader, Chunked};
use crate::http::gate::head::HeadReader;
use crate::http::gate::refusal::Refusal;
use crate::http::outcome::{GRPC_STATUS, of_grpc_status};

/// Where a body ends.
#[derive(Debug)]
pub(super) enum Framing {
    /// There is none.
    Nothing,
    /// After so many octets.
    Length(u64),
    /// With its last chunk.
    Chunked(Box<(ChunkReader, HeadReader)>),
    /// With its connection. To the client it is in chunks, so that it can be told from half of it.
    UntilClose,
    /// It has.
    Ended,
}

/// What passing on came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Passed {
    /// Octets of the body.
    pub(super) data: usize,
    /// All of it has passed.
    pub(super) has_ended: bool,
    /// What followed it tells of the endpoint.
    pub(super) sign: Option<Sign>,
}

impl Framing {
    /// At the beginning of chunks.
    pub(super) fn chunked() -> Self {
        Self::Chunked(Box::new((ChunkReader::of_response(), HeadReader::default())))
    }

    /// Passes on what is there of the body, and leaves what follows it.
    pub(super) fn pass(
        &mut self,
        input: &mut BytesMut,
        output: &mut Vec<u8>,
    ) -> Result<Passed, Refusal> {
        let before = input.len();
        let mut sign = None;
        let (data, has_ended) = match self {
            Self::Nothing | Self::Ended => (0, true),
            Self::Length(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(before);
                output.extend_from_slice(input.get(..length).unwrap_or_default());
                input.advance(length);
                *left -= u64::try_from(length).unwrap_or(*left).min(*left);
                (length, *left == 0)
            }
            Self::Chunked(reader) => {
                let (chunks, trailers) = &mut **reader;
                let passed = chunks.passed();
                let (used, read) = chunks.read(input, trailers, output)?;
                input.advance(used);
                let data = usize::try_from(chunks.passed() - passed).unwrap_or(usize::MAX);
                sign = chunks
                    .trailers(output)
                    .find(|(name, _)| name.eq_ignore_ascii_case(GRPC_STATUS.as_bytes()))
                    .map(|(_, status)| of_grpc_status(status));
                if let Some(last_chunk) = chunks.last_chunk() {
                    // RFC 9110, section 6.5.1: whoever takes trailers says so in `TE`, and is not here.
                    output.truncate(last_chunk);
                    output.extend_from_slice(LAST_CHUNK);
                }
                (data, read == Chunked::Done)
            }
            Self::UntilClose => {
                if before > 0 {
                    // Writing to a vector cannot fail.
                    let _ = write!(output, "{before:x}\r\n");
                    output.extend_from_slice(input);
                    output.extend_from_slice(b"\r\n");
                    input.clear();
                }
                (before, false)
            }
        };
        Ok(Passed { data, has_ended, sign })
    }

    /// The connection has ended: whether the body has, too.
    pub(super) fn end(&mut self, output: &mut Vec<u8>) -> bool {
        let is_its_end = matches!(self, Self::UntilClose);
        if is_its_end {
            output.extend_from_slice(LAST_CHUNK);
            *self = Self::Ended;
        }
        is_its_end
    }
}

const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(framing: &mut Framing, text: &str) -> (Result<Passed, Refusal>, String, String) {
        let (mut input, mut output) = (BytesMut::from(text), Vec::new());
        let passed = framing.pass(&mut input, &mut output);
        let rest = String::from_utf8(input.to_vec()).unwrap();
        (passed, String::from_utf8(output).unwrap(), rest)
    }

    #[test]
    fn a_body_ends_where_it_says_and_what_follows_stays() {
        for (case, mut framing, text, data, has_ended, output, rest) in [
            ("none", Framing::Nothing, "more", 0, true, "", "more"),
            ("a length", Framing::Length(4), "fourmore", 4, true, "four", "more"),
            ("half of it", Framing::Length(8), "four", 4, false, "four", ""),
            (
                "chunks",
                Framing::chunked(),
                "04 \t\r\nfour\r\n1 ;a=b\r\nx\r\n0\r\nX-A: 1\r\nContent-Length: 3\r\n\r\nmore",
                5,
                true,
                "4\r\nfour\r\n1\r\nx\r\n0\r\n\r\n",
                "more",
            ),
            ("half a chunk", Framing::chunked(), "5\r\nfour", 4, false, "5\r\nfour", ""),
            ("until it closes", Framing::UntilClose, "four", 4, false, "4\r\nfour\r\n", ""),
        ] {
            let (passed, written, left) = pass(&mut framing, text);
            assert_eq!(passed, Ok(Passed { data, has_ended, sign: None }), "case: {case}");
            assert_eq!((written.as_str(), left.as_str()), (output, rest), "case: {case}");
        }
    }

    #[test]
    fn only_a_body_until_the_close_ends_with_the_connection() {
        let mut output = Vec::new();
        assert!(!Framing::Length(1).end(&mut output));
        assert!(!Framing::chunked().end(&mut output));
        assert!(output.is_empty());
        let mut framing = Framing::UntilClose;
        assert!(framing.end(&mut output));
        assert_eq!(output, b"0\r\n\r\n");
        assert_eq!(pass(&mut framing, "").0, Ok(Passed { data: 0, has_ended: true, sign: None }));
    }

    #[test]
    fn a_body_may_be_padded_for_as_long_as_it_is() {
        let mut framing = Framing::chunked();
        for _chunk in 0..10_000 {
            let (passed, written, _rest) = pass(&mut framing, "0000000000000001    \r\nx\r\n");
            assert_eq!(passed, Ok(Passed { data: 1, has_ended: false, sign: None }));
            assert_eq!(written, "1\r\nx\r\n");
        }
    }

    #[test]
    fn what_follows_a_body_may_tell_of_the_endpoint() {
        for (trailers, expected) in [
            ("", None),
            ("x-a: 14\r\n", None),
            ("Grpc-Status: 14\r\n", Some(Sign::BadResponse)),
            ("x-a: b\r\ngrpc-status: 0\r\n", Some(Sign::GoodResponse)),
        ] {
            let text = format!("2\r\nok\r\n0\r\n{trailers}\r\n");
            let (passed, _written, _rest) = pass(&mut Framing::chunked(), &text);
            let expected = Passed { data: 2, has_ended: true, sign: expected };
            assert_eq!(passed, Ok(expected), "case: {trailers}");
        }
    }

    #[test]
    fn chunks_that_are_none_are_refused() {
        assert!(pass(&mut Framing::chunked(), "x\r\n").0.is_err());
        assert!(pass(&mut Framing::chunked(), "4 4\r\nfour\r\n").0.is_err());
        assert!(pass(&mut Framing::chunked(), "1\r\nfour\r\n").0.is_err());
    }
}
