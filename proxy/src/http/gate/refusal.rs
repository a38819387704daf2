//! Why a request is not let through: one closed set of rules, each with its status, its word and
//! where it comes from.

use std::error::Error;
use std::io;

use http::StatusCode;

/// The rule that a request broke. RFC 9112 is HTTP/1.1, 9113 is HTTP/2, 9110 is both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{}", self.telling().2)]
pub enum Refusal {
    /// RFC 9112, section 2.2: lines end in CRLF. A lone LF is a line's end to some readers only.
    BareLineFeed,
    /// RFC 9112, section 2.2: a CR that no LF follows.
    BareCarriageReturn,
    /// RFC 9112, section 2.2: one empty line before a request is ignored, more are not.
    BlankLines,
    /// RFC 9112, section 3.1.
    Method,
    /// RFC 9112, section 3: a method longer than any that is known.
    MethodTooLong,
    /// RFC 9112, section 3: `method SP target SP version CRLF`, and nothing else.
    RequestLine,
    /// RFC 9112, section 2.3: HTTP/1.0 and HTTP/1.1.
    Version,
    /// RFC 9112, section 3.
    TargetTooLong,
    /// RFC 9112, section 3.2: none of the four forms, or not the one of its method.
    Target,
    /// RFC 9112, section 3.2: a fragment is no part of a target.
    Fragment,
    /// RFC 9110, section 4.2.4: a user in an authority deceives readers.
    UserInfo,
    /// RFC 9110, section 4.2: `http` and `https`.
    Scheme,
    /// RFC 9112, section 5.1: a field's name is a token, and a colon follows it.
    FieldName,
    /// RFC 9112, section 5.1: a space before the colon.
    SpaceBeforeColon,
    /// RFC 9112, section 5.2: a line that goes on with the value of the one before.
    Folded,
    /// RFC 9110, section 5.5: control octets in a value.
    FieldValue,
    /// RFC 9113, section 8.2.1: a value that begins or ends in a space.
    Padded,
    /// RFC 6585, section 5: more fields, or longer ones, than are read.
    FieldsTooLarge,
    /// RFC 9112, section 3.2.
    HostMissing,
    /// RFC 9112, section 3.2.
    HostRepeated,
    /// RFC 9110, section 7.2: not `host[:port]`.
    Host,
    /// RFC 9113, section 8.3.1: `host` and `:authority` differ.
    HostConflict,
    /// RFC 9110, section 8.6, also if all say the same.
    ContentLengthRepeated,
    /// RFC 9110, section 8.6: not a number.
    ContentLength,
    /// RFC 9112, section 6.1: both say where the body ends.
    LengthAndCoding,
    /// RFC 9112, section 6.1.
    TransferEncodingRepeated,
    /// RFC 9112, section 6.1: not `chunked`.
    TransferEncoding,
    /// RFC 9112, section 6.1: codings that are not undone here.
    TransferCoding,
    /// RFC 9112, section 6.1: HTTP/1.0 has none.
    TransferEncodingOld,
    /// A name that servers which read `_` as `-` take for one that says where the body ends.
    FramingLookalike,
    /// RFC 9110, section 7.6.1: `Connection` names what is not a token.
    ConnectionOption,
    /// RFC 9110, section 7.6.1: `Connection` names what is meant for the recipient.
    ConnectionNames,
    /// RFC 9110, section 10.1.1.
    Expectation,
    /// RFC 9110, sections 9.3.6 and 9.3.8: CONNECT and TRACE have none.
    UnexpectedBody,
    /// RFC 9112, section 7.1: the size of a chunk.
    ChunkSize,
    /// RFC 9112, section 7.1.1: longer than is read.
    ChunkExtension,
    /// RFC 9112, section 7.1: the end of a chunk.
    ChunkEnd,
    /// RFC 9112, section 8: the connection ended in the head of a request.
    Incomplete,
    /// RFC 9110, section 7.8: bytes of the next protocol before the server has agreed to it.
    EarlyBytes,
    /// RFC 9113, section 8.3.1: a path, which begins with a slash.
    Path,
    /// RFC 3986, section 6.2.2.3: `.` and `..` are gone from a path before it is sent. Who removes them
    /// later reads another path than the one that was routed and authorised.
    DotSegments,
    /// RFC 9113, section 8.5; RFC 8441, section 4.
    ConnectOfHttp2,
    /// See [`crate::listen::REQUEST_HEAD_TIMEOUT`].
    HeadTimeout,
    /// See [`crate::listen::BODY_IDLE_TIMEOUT`].
    BodyTimeout,
    /// See [`crate::listen::REQUEST_BODY_RATE`].
    BodyTooSlow,
}

impl Refusal {
    /// How the client is told.
    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.telling().0).unwrap_or(StatusCode::BAD_REQUEST)
    }

    /// One word, from a closed set: the metric label.
    pub fn rule(self) -> &'static str {
        self.telling().1
    }

    /// What `x-heddle-error` says, and `heddle_http_errors_total` counts.
    pub fn reason(self) -> &'static str {
        match self.telling().0 {
            408 => self.rule(),
            501 => "not_supported",
            _ => "bad_request",
        }
    }

    /// What broke a body, if the gate did.
    pub fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(refusal) = error.downcast_ref::<Self>() {
                return Some(*refusal);
            }
            // The source of an I/O error is that of the error it holds.
            let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            if let Some(refusal) = held.and_then(|held| held.downcast_ref::<Self>()) {
                return Some(*refusal);
            }
            next = error.source();
        }
        None
    }

    fn telling(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::BareLineFeed => (400, "bare_line_feed", "a line ends without a carriage return"),
            Self::BareCarriageReturn => {
                (400, "bare_carriage_return", "a carriage return stands alone")
            }
            Self::BlankLines => (400, "blank_lines", "it begins with empty lines"),
            Self::Method => (400, "method", "its method is no token"),
            Self::MethodTooLong => (501, "method_too_long", "its method is too long"),
            Self::RequestLine => (400, "request_line", "its first line is no request line"),
            Self::Version => (505, "version", "its version is not HTTP/1.0 or HTTP/1.1"),
            Self::TargetTooLong => (414, "target_too_long", "its target is too long"),
            Self::Target => (400, "target", "its target has no valid form"),
            Self::Fragment => (400, "fragment", "its target has a fragment"),
            Self::UserInfo => (400, "user_info", "it names a user beside the host"),
            Self::Scheme => (400, "scheme", "its scheme is not http or https"),
            Self::FieldName => (400, "field_name", "the name of a field is not valid"),
            Self::SpaceBeforeColon => (400, "space_before_colon", "a space precedes a colon"),
            Self::Folded => (400, "folded", "a field goes on in the next line"),
            Self::FieldValue => (400, "field_value", "a field has a control character"),
            Self::Padded => (400, "padded", "a field begins or ends in a space"),
            Self::FieldsTooLarge => (431, "fields_too_large", "its fields are too large"),
            Self::HostMissing => (400, "host_missing", "it names no host"),
            Self::HostRepeated => (400, "host_repeated", "it names several hosts"),
            Self::Host => (400, "host", "its host is not valid"),
            Self::HostConflict => (400, "host_conflict", "its host is not its authority"),
            Self::ContentLengthRepeated => {
                (400, "content_length_repeated", "it has several lengths")
            }
            Self::ContentLength => (400, "content_length", "its length is no number"),
            Self::LengthAndCoding => {
                (400, "length_and_coding", "it has both a length and a transfer coding")
            }
            Self::TransferEncodingRepeated => {
                (400, "transfer_encoding_repeated", "it has several transfer codings")
            }
            Self::TransferEncoding => (400, "transfer_encoding", "its transfer coding is odd"),
            Self::TransferCoding => (501, "transfer_coding", "its transfer coding is not known"),
            Self::TransferEncodingOld => {
                (400, "transfer_encoding_old", "HTTP/1.0 has no transfer codings")
            }
            Self::FramingLookalike => {
                (400, "framing_lookalike", "a field could be taken for its length")
            }
            Self::ConnectionOption => (400, "connection_option", "its connection options are odd"),
            Self::ConnectionNames => {
                (400, "connection_names", "it would have a field removed that it needs")
            }
            Self::Expectation => (417, "expectation", "its expectation is not 100-continue"),
            Self::UnexpectedBody => (400, "unexpected_body", "its method has no body"),
            Self::ChunkSize => (400, "chunk_size", "the size of a chunk is not valid"),
            Self::ChunkExtension => (400, "chunk_extension", "the extension of a chunk is odd"),
            Self::ChunkEnd => (400, "chunk_end", "a chunk does not end where it should"),
            Self::Incomplete => (400, "incomplete", "it ended in its head"),
            Self::EarlyBytes => (400, "early_bytes", "it goes on before the upgrade was agreed to"),
            Self::Path => (400, "path", "its path is not valid"),
            Self::DotSegments => (400, "dot_segments", "its path has a segment of dots"),
            Self::ConnectOfHttp2 => {
                (400, "connect_of_http2", "its CONNECT is for no authority, or has no protocol")
            }
            Self::HeadTimeout => (408, "head_timeout", "its head took too long"),
            Self::BodyTimeout => (408, "body_timeout", "its body stopped coming"),
            Self::BodyTooSlow => (408, "body_too_slow", "its body came too slowly"),
        }
    }
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        Self::new(io::ErrorKind::InvalidData, refusal)
    }
}
