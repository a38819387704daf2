//! Decides a connection's protocol from its first bytes. Reads no socket: see opening.rs.
//!
//! HTTP that passes for something else reaches an application without what the proxy does to HTTP,
//! above all with whatever `x-forwarded-client-cert` its sender wrote. So what servers in the wild
//! might take for a request counts as HTTP, and it is for the proxy's own parser to refuse it. That
//! narrows the gap and cannot close it, as servers take more than can be foreseen: that header can be
//! relied on only where the port is declared to be HTTP.

use crate::http::gate::octets::is_token;

/// What the first bytes of a connection say.
///
/// More bytes never change a verdict other than [`Verdict::NeedMore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A request line of HTTP, also one that no good client sends.
    Http1,
    /// HTTP/2 with prior knowledge: the client's preface.
    Http2,
    /// A TLS handshake record with a ClientHello.
    Tls,
    /// None of these.
    Opaque,
    /// A beginning of more than one of these.
    NeedMore,
}

impl Verdict {
    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Tls => "tls",
            Self::Opaque => "opaque",
            Self::NeedMore => "undecided",
        }
    }
}

/// What the first bytes of a server say that spoke before its client did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// SETTINGS: RFC 9113, section 3.4 lets servers send them before they have heard the client,
    /// who speaks all the same. Nothing is known of the connection by that.
    Http2,
    /// The server's turn it was.
    Other,
    /// A beginning of either.
    NeedMore,
}

/// How many bytes a verdict may need. A request line that is still unfinished after that counts as
/// HTTP/1 as long as its method and the start of its target could be those of a request.
pub const LIMIT_BYTES: usize = 8 * 1024;

/// Reads at most [`LIMIT_BYTES`] of `bytes`.
pub fn detect(bytes: &[u8]) -> Verdict {
    let bytes = bytes.get(..LIMIT_BYTES).unwrap_or(bytes);
    let Some(first) = bytes.first() else { return Verdict::NeedMore };
    if *first == TLS_HANDSHAKE_RECORD {
        return tls(bytes);
    }
    match http2(bytes) {
        Some(verdict) => verdict,
        None => http1(bytes),
    }
}

/// What bytes count as that were not decided by when they had to be: a request line that is merely
/// late must not be carried as something else.
pub fn overdue(bytes: &[u8]) -> Verdict {
    match detect(bytes) {
        Verdict::NeedMore if bytes.first() == Some(&TLS_HANDSHAKE_RECORD) => Verdict::Opaque,
        Verdict::NeedMore if bytes.is_empty() => Verdict::Opaque,
        Verdict::NeedMore => Verdict::Http1,
        verdict @ (Verdict::Http1 | Verdict::Http2 | Verdict::Tls | Verdict::Opaque) => verdict,
    }
}

/// Whether a server that speaks first is one of HTTP/2. Looks at the head of a frame only.
///
/// RFC 9113, sections 4.1, 4.2 and 6.5: no frame is longer than 2^14 octets before the client has
/// allowed that, settings have six octets each, and those of a preface acknowledge none.
pub fn greeting(bytes: &[u8]) -> Greeting {
    let shape: [fn(u8) -> bool; HTTP2_FRAME_HEAD_BYTES] = [
        |length| length == 0,
        |length| length <= 0x40,
        |_length| true,
        |kind| kind == HTTP2_SETTINGS,
        |flags| flags == 0,
        // The first bit of these is reserved, and to be ignored.
        |stream| stream & 0x7f == 0,
        |stream| stream == 0,
        |stream| stream == 0,
        |stream| stream == 0,
    ];
    if !bytes.iter().zip(shape).all(|(byte, accepts)| accepts(*byte)) {
        return Greeting::Other;
    }
    let (Some([_, high, low]), true) = (bytes.first_chunk(), bytes.len() >= shape.len()) else {
        return Greeting::NeedMore;
    };
    match u16::from_be_bytes([*high, *low]) {
        length if length <= HTTP2_FRAME_LIMIT_BYTES && length % HTTP2_SETTING_BYTES == 0 => {
            Greeting::Http2
        }
        _length => Greeting::Other,
    }
}

/// RFC 8446, section 5.1: a record of type 22 with a legacy version of 3.x, and the first message in
/// it is a ClientHello (1).
fn tls(bytes: &[u8]) -> Verdict {
    let shape: [fn(u8) -> bool; 6] = [
        |kind| kind == TLS_HANDSHAKE_RECORD,
        |major| major == 3,
        |minor| minor <= 4,
        |_length| true,
        |_length| true,
        |message| message == TLS_CLIENT_HELLO,
    ];
    if !bytes.iter().zip(shape).all(|(byte, accepts)| accepts(*byte)) {
        Verdict::Opaque
    } else if bytes.len() < shape.len() {
        Verdict::NeedMore
    } else {
        Verdict::Tls
    }
}

/// `None` if the bytes are not on their way to the preface. While they are, they are also on their
/// way to a request line with the method `PRI`, which RFC 9113, section 11.6 reserves.
fn http2(bytes: &[u8]) -> Option<Verdict> {
    if bytes.starts_with(HTTP2_PREFACE) {
        Some(Verdict::Http2)
    } else if HTTP2_PREFACE.starts_with(bytes) {
        Some(Verdict::NeedMore)
    } else {
        None
    }
}

/// `method SP target SP HTTP/`, as RFC 9112, section 3 has it, with what its section 2.2 and 3 let
/// servers take besides: empty lines and spaces before it, and several spaces or others for one.
/// Which version it is, and whether it may look like this, is for the parser.
fn http1(bytes: &[u8]) -> Verdict {
    let verdict = match version(bytes) {
        Ok(version) if version.starts_with(HTTP_VERSION) => Verdict::Http1,
        Ok(version) if HTTP_VERSION.starts_with(version) => Verdict::NeedMore,
        Ok(_other) => Verdict::Opaque,
        Err(verdict) => verdict,
    };
    if verdict == Verdict::NeedMore && bytes.len() >= LIMIT_BYTES {
        Verdict::Http1
    } else {
        verdict
    }
}

/// The third word of the first line that is not empty.
fn version(bytes: &[u8]) -> Result<&[u8], Verdict> {
    let blank = bytes.iter().take_while(|byte| is_space(**byte) || is_line_end(**byte)).count();
    let bytes = bytes.get(blank..).unwrap_or_default();
    if bytes.is_empty() {
        return Err(Verdict::NeedMore);
    }
    let bytes = after(bytes, is_token, METHOD_LIMIT_BYTES)?;
    let bytes = after(bytes, is_space, LIMIT_BYTES)?;
    let bytes = after(bytes, is_target_byte, LIMIT_BYTES)?;
    after(bytes, is_space, LIMIT_BYTES)
}

/// What follows the bytes that pass, of which there is one at least and `limit` at most.
fn after(bytes: &[u8], passes: fn(u8) -> bool, limit: usize) -> Result<&[u8], Verdict> {
    let length = bytes.iter().take_while(|byte| passes(**byte)).count();
    if length == 0 || length > limit {
        return Err(Verdict::Opaque);
    }
    match bytes.get(length..) {
        None | Some([]) => Err(Verdict::NeedMore),
        Some(rest) => Ok(rest),
    }
}

/// RFC 9112, section 3: what a lenient server may take for the space in a request line. A carriage
/// return alone is among them and left out, since it cannot be told from the end of a line in time.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | 0x0b | 0x0c)
}

fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

/// Anything visible; bytes above ASCII are accepted by many servers.
fn is_target_byte(byte: u8) -> bool {
    byte > b' ' && byte != 0x7f
}

const TLS_HANDSHAKE_RECORD: u8 = 22;
const TLS_CLIENT_HELLO: u8 = 1;
/// RFC 9113, section 3.4.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HTTP2_FRAME_HEAD_BYTES: usize = 9;
const HTTP2_FRAME_LIMIT_BYTES: u16 = 1 << 14;
const HTTP2_SETTING_BYTES: u16 = 6;
const HTTP2_SETTINGS: u8 = 4;
const HTTP_VERSION: &[u8] = b"HTTP/";
/// The longest registered method, `BASELINE-CONTROL` or `UPDATEREDIRECTREF`, has 17.
const METHOD_LIMIT_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn first_bytes_decide_the_protocol() {
        let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(LIMIT_BYTES));
        for (case, bytes, expected) in [
            ("nothing", &b""[..], Verdict::NeedMore),
            ("a request line", b"GET / HTTP/1.1\r\n", Verdict::Http1),
            ("an absolute target", b"GET http://a/b HTTP/1.1\r\n", Verdict::Http1),
            ("options", b"OPTIONS * HTTP/1.1\r\n", Verdict::Http1),
            ("connect", b"CONNECT a:443 HTTP/1.1\r\n", Verdict::Http1),
            ("an old client", b"POST /a HTTP/1.0\r\n", Verdict::Http1),
            ("an unknown method", b"BREW /pot HTTP/1.1\r\n", Verdict::Http1),
            ("half a method", b"GE", Verdict::NeedMore),
            ("half a target", b"GET /ab", Verdict::NeedMore),
            ("half a version", b"GET / HTT", Verdict::NeedMore),
            ("a target beyond the limit", long.as_bytes(), Verdict::Http1),
            ("no version", b"GET /\r\n", Verdict::Opaque),
            ("another version", b"GET / HTTP/3", Verdict::Http1),
            ("a version of something else", b"OPTIONS * RTSP/1.0\r\n", Verdict::Opaque),
            ("an empty line first", b"\r\nGET / HTTP/1.1\r\n", Verdict::Http1),
            ("an empty line and no more", b"\r\n", Verdict::NeedMore),
            ("two spaces", b"GET  /  HTTP/1.1\r\n", Verdict::Http1),
            ("tabs", b"GET\t/\tHTTP/1.1\r\n", Verdict::Http1),
            ("any token for a method", b"M.1 / HTTP/1.1\r\n", Verdict::Http1),
            ("a method that ends", b"GET ", Verdict::NeedMore),
            ("a target that ends", b"GET / ", Verdict::NeedMore),
            ("half an h2 preface", b"PRI * HT", Verdict::NeedMore),
            ("an h2 preface", HTTP2_PREFACE, Verdict::Http2),
            ("a broken preface", b"PRI * HTTP/2.0\r\n\r\nSN", Verdict::Http1),
            ("a hello", b"\x16\x03\x01\x02\x00\x01\x00", Verdict::Tls),
            ("half a hello", b"\x16\x03\x01", Verdict::NeedMore),
            ("a record of no hello", b"\x16\x03\x03\x00\x10\x02", Verdict::Opaque),
            ("mysql", b"\x4a\0\0\0", Verdict::Opaque),
            ("postgres", b"\0\0\0\x08\x04\xd2\x16\x2f", Verdict::Opaque),
            ("redis", b"*1\r\n$4\r\nPING\r\n", Verdict::Opaque),
            ("redis by hand", b"PING\r\n", Verdict::Opaque),
            ("ssh", b"SSH-2.0-OpenSSH_9.6\r\n", Verdict::Opaque),
            ("irc", b"USER a 0 * :b\r\n", Verdict::Opaque),
            ("memcached", b"get a\r\n", Verdict::Opaque),
            ("a space first", b" GET / HTTP/1.1\r\n", Verdict::Http1),
            ("json", b"{\"a\": 1}", Verdict::Opaque),
        ] {
            assert_eq!(detect(bytes), expected, "case: {case}");
        }
    }

    #[test]
    fn a_request_line_that_is_late_is_still_one() {
        for (case, bytes, expected) in [
            ("half a method", &b"GE"[..], Verdict::Http1),
            ("an empty line", b"\r\n", Verdict::Http1),
            ("half an h2 preface", b"PRI * HT", Verdict::Http1),
            ("half a hello", b"\x16\x03\x01", Verdict::Opaque),
            ("redis by hand", b"PING\r\n", Verdict::Opaque),
            ("nothing", b"", Verdict::Opaque),
        ] {
            assert_eq!(overdue(bytes), expected, "case: {case}");
        }
    }

    #[test]
    fn a_server_that_speaks_first_is_told_from_one_of_http2() {
        for (case, bytes, expected) in [
            ("nothing", &b""[..], Greeting::NeedMore),
            ("no settings", b"\0\0\0\x04\0\0\0\0\0", Greeting::Http2),
            ("three settings", b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x7f", Greeting::Http2),
            ("the longest", b"\0\x3f\xfc\x04\0\0\0\0\0", Greeting::Http2),
            ("a reserved bit", b"\0\0\0\x04\0\x80\0\0\0", Greeting::Http2),
            ("all but one octet", b"\0\0\x12\x04\0\0\0\0", Greeting::NeedMore),
            ("one octet", b"\0", Greeting::NeedMore),
            ("half a setting", b"\0\0\x03\x04\0\0\0\0\0", Greeting::Other),
            ("too long", b"\0\x40\x02\x04\0\0\0\0\0", Greeting::Other),
            ("much too long", b"\x01\0\0\x04\0\0\0\0\0", Greeting::Other),
            ("an acknowledgement", b"\0\0\0\x04\x01\0\0\0\0", Greeting::Other),
            ("of a stream", b"\0\0\0\x04\0\0\0\0\x01", Greeting::Other),
            ("another frame", b"\0\0\x08\x07\0\0\0\0\0", Greeting::Other),
            ("mysql", b"\x4a\0\0\0\x0a8.0.36\0", Greeting::Other),
            ("ssh", b"SSH-2.0-OpenSSH_9.6\r\n", Greeting::Other),
            ("smtp", b"220 a\r\n", Greeting::Other),
            ("an answer to nothing", b"HTTP/1.1 408 Request Timeout\r\n", Greeting::Other),
        ] {
            assert_eq!(greeting(bytes), expected, "case: {case}");
        }
    }

    fn plausible() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..64),
            "[\r\n ]{0,3}[A-Z]{0,40}[ \t]{0,2}[!-~]{0,20}[ \t]{0,2}(HTTP/[0-9.]{0,3})?[a-z\r\n]{0,8}"
                .prop_map(String::into_bytes),
            (0..=HTTP2_PREFACE.len(), proptest::collection::vec(any::<u8>(), 0..8))
                .prop_map(|(length, rest)| [&HTTP2_PREFACE[..length], &rest[..]].concat()),
            proptest::collection::vec(any::<u8>(), 0..8).prop_map(|rest| [
                &b"\x16\x03\x01"[..],
                &rest[..]
            ]
            .concat()),
        ]
    }

    proptest! {
        #[test]
        fn more_bytes_never_change_a_verdict(bytes in plausible(), more in plausible()) {
            let before = detect(&bytes);
            let after = detect(&[&bytes[..], &more[..]].concat());
            prop_assert!(before == Verdict::NeedMore || before == after, "{before:?} then {after:?}");
        }

        #[test]
        fn more_bytes_never_change_what_a_server_is(
            length in prop_oneof![Just([0, 0, 0]), any::<[u8; 3]>()],
            kind in prop_oneof![Just(4), any::<u8>()],
            rest in prop_oneof![Just([0; 5]), any::<[u8; 5]>()],
            cut in 0..9_usize,
        ) {
            let bytes = [&length[..], &[kind], &rest[..]].concat();
            let (before, after) = (greeting(&bytes[..cut]), greeting(&bytes));
            prop_assert!(before == Greeting::NeedMore || before == after, "{before:?}, {after:?}");
            prop_assert_ne!(after, Greeting::NeedMore);
        }

        #[test]
        fn enough_bytes_always_decide(bytes in proptest::collection::vec(any::<u8>(), 1..64)) {
            let many: Vec<u8> = bytes.iter().copied().cycle().take(LIMIT_BYTES).collect();
            prop_assert_ne!(detect(&many), Verdict::NeedMore);
        }
    }
}
