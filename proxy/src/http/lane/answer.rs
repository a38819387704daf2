//! The head of a backend's answer: read, held against what may be forwarded, and written anew for the client.

use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::time::SystemTime;

use heddle_runtime::clock;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, DATE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body::Body as _;
use httparse::{Header, ParserConfig, Status};

use crate::balance::ejection::Sign;
use crate::http::body::Body;
use crate::http::gate::fields;
use crate::http::gate::response::Fault;
use crate::http::headers::is_of_hop;
use crate::http::lane::framing::Framing;
use crate::http::outcome::{self, GRPC_STATUS};
use crate::http::respond::{Cause, ERROR_HEADER, PEER_HEADER, SOURCE_HEADER};
use crate::http::send::is_of_dead_application;
use crate::listen::HEADERS_LIMIT_BYTES;

/// A head that was read.
#[derive(Debug)]
pub(super) struct AnswerHead {
    /// Of the head.
    pub(super) length: usize,
    /// Of HTTP; below 200 it is not the answer yet.
    pub(super) status: u16,
    /// Where its body ends.
    pub(super) framing: Framing,
    /// Whether the connection can be used again.
    pub(super) is_reusable: bool,
    /// What it tells of the endpoint.
    pub(super) sign: Option<Sign>,
    /// It is another proxy's, whose application cannot be connected to.
    pub(super) is_of_dead_application: bool,
    /// It says when it was made.
    pub(super) has_date: bool,
}

/// Why there is no head.
#[derive(Debug)]
pub(super) enum NoHead {
    /// It is no HTTP.
    Unreadable(Cause),
    /// It could be read in two ways.
    Ambiguous(Fault),
}

/// What a head says of its message.
#[derive(Default)]
struct Said<'a> {
    length: Option<u64>,
    has_codings: bool,
    is_chunked: bool,
    closes: bool,
    is_kept: bool,
    /// By the field `connection`: to be left out.
    named: Vec<&'a str>,
    content_type: Option<&'a [u8]>,
    grpc_status: Option<&'a [u8]>,
    error: Option<&'a [u8]>,
    has_date: bool,
}

/// Whether a head may be all there now; `looked` is how much was there when it was not. Whoever sends one octet by
/// octet is not read from the first one each time.
pub(super) fn may_be_whole(octets: &[u8], looked: usize) -> bool {
    let new = octets.get(looked.saturating_sub(2)..).unwrap_or_default();
    looked == 0
        || octets.len() > HEADERS_LIMIT_BYTES
        || new.windows(2).any(|two| two == b"\n\n")
        || new.windows(3).any(|three| three == b"\n\r\n")
}

/// Reads the head at the beginning of `octets`, and writes it to `reply` but for its end; `None` while it is not all
/// there. `is_head`: the request was one, so that no body follows. `mesh`: it is the proxy's of that pod, or else
/// anybody's, who tells nothing of the mesh's errors.
pub(super) fn read(
    octets: &[u8],
    is_head: bool,
    mesh: Option<&str>,
    reply: &mut Vec<u8>,
) -> Result<Option<AnswerHead>, NoHead> {
    let mut headers = [const { MaybeUninit::<Header<'_>>::uninit() }; FIELD_LIMIT];
    let mut response = httparse::Response::new(&mut []);
    let parsed = ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        octets,
        &mut headers,
    );
    let length = match parsed.map_err(|error| NoHead::Unreadable(error.into()))? {
        Status::Complete(length) => length,
        Status::Partial if octets.len() > HEADERS_LIMIT_BYTES => {
            return Err(NoHead::Unreadable("the head of the answer is too large".into()));
        }
        Status::Partial => return Ok(None),
    };
    let status = response.code.unwrap_or_default();
    if status < 100 {
        return Err(NoHead::Unreadable("a status that is none".into()));
    }
    let is_old = response.version != Some(1);
    let said = Said::of(response.headers, is_old)?;
    if status == SWITCHING_PROTOCOLS {
        return Err(NoHead::Ambiguous(Fault::UnaskedUpgrade));
    }
    if status >= 200 {
        write(&response, &said, mesh, reply);
    }
    let framing = match (is_head || has_no_body(status), said.is_chunked, said.length) {
        (true, _, _) => Framing::Nothing,
        (false, true, _) => Framing::chunked(),
        (false, false, Some(length)) => Framing::Length(length),
        (false, false, None) => Framing::UntilClose,
    };
    let is_kept = !said.closes && (!is_old || said.is_kept);
    let is_reusable = is_kept && !matches!(framing, Framing::UntilClose);
    Ok(Some(AnswerHead {
        length,
        status,
        is_reusable,
        framing,
        sign: outcome::of_fields(status, said.content_type, || said.grpc_status),
        is_of_dead_application: mesh.is_some() && said.error.is_some_and(is_of_dead_application),
        has_date: said.has_date,
    }))
}

impl<'a> Said<'a> {
    /// Fails for what is not to be forwarded: see gate/response.rs.
    fn of(headers: &[Header<'a>], is_old: bool) -> Result<Self, NoHead> {
        let mut said = Self::default();
        for Header { name, value } in headers {
            let is = |known: &HeaderName| name.eq_ignore_ascii_case(known.as_str());
            match name.len() {
                4 if is(&DATE) => said.has_date = true,
                10 if is(&CONNECTION) => said.add_options(value),
                11 if name.eq_ignore_ascii_case(GRPC_STATUS) => said.grpc_status = Some(value),
                12 if is(&CONTENT_TYPE) => said.content_type = Some(value),
                14 if is(&ERROR_HEADER) => said.error = Some(value),
                14 if is(&CONTENT_LENGTH) => said.add_length(value)?,
                17 if is(&TRANSFER_ENCODING) => {
                    if is_old {
                        return Err(NoHead::Unreadable("chunks of HTTP/1.0".into()));
                    }
                    if said.has_codings || !value.eq_ignore_ascii_case(b"chunked") {
                        return Err(NoHead::Ambiguous(Fault::TransferEncoding));
                    }
                    (said.has_codings, said.is_chunked) = (true, true);
                }
                _ => {}
            }
        }
        match (said.length, said.is_chunked) {
            (Some(_), true) => Err(NoHead::Ambiguous(Fault::LengthAndCoding)),
            (Some(_) | None, _) => Ok(said),
        }
    }

    /// As hyper has it, several that are the same are ambiguous, and all else is no head.
    fn add_length(&mut self, value: &[u8]) -> Result<(), NoHead> {
        let unreadable = || NoHead::Unreadable("a length that is no number".into());
        let mut is_list = self.length.is_some();
        for one in value.split(|octet| *octet == b',') {
            let length = number(one.trim_ascii()).ok_or_else(unreadable)?;
            if *self.length.get_or_insert(length) != length {
                return Err(NoHead::Unreadable("two lengths".into()));
            }
            is_list |= one.len() < value.len();
        }
        if is_list { Err(NoHead::Ambiguous(Fault::ContentLength)) } else { Ok(()) }
    }

    fn add_options(&mut self, value: &'a [u8]) {
        let options = value.split(|octet| *octet == b',').map(<[u8]>::trim_ascii);
        for option in options.filter_map(|option| std::str::from_utf8(option).ok()) {
            if option.eq_ignore_ascii_case("close") {
                self.closes = true;
            } else if option.eq_ignore_ascii_case("keep-alive") {
                self.is_kept = true;
            } else if !option.is_empty() && !option.eq_ignore_ascii_case("content-length") {
                // Where a body ends is for the whole way.
                self.named.push(option);
            }
        }
    }
}

fn write(
    response: &httparse::Response<'_, '_>,
    said: &Said<'_>,
    mesh: Option<&str>,
    reply: &mut Vec<u8>,
) {
    let status = response.code.unwrap_or_default();
    write_status(status, response.reason.unwrap_or_default(), reply);
    let is_error = |name: &str| {
        let is = |known: &HeaderName| name.eq_ignore_ascii_case(known.as_str());
        name.len() >= fields::MESH_PREFIX.len()
            && match (mesh, said.error) {
                (None, _) => is(&ERROR_HEADER) || is(&SOURCE_HEADER) || is(&PEER_HEADER),
                (Some(pod), Some(_)) => is(&PEER_HEADER) && !pod.is_empty(),
                (Some(_), None) => false,
            }
    };
    for Header { name, value } in response.headers.iter() {
        let is_named = said.named.iter().any(|named| named.eq_ignore_ascii_case(name));
        let has_no_length = status == NO_CONTENT && name.eq_ignore_ascii_case("content-length");
        if is_named || has_no_length || is_of_hop(name.as_bytes()) || is_error(name) {
            continue;
        }
        fields::write(reply, name.as_bytes(), value);
    }
    if let (Some(pod), Some(_)) = (mesh, said.error)
        && !pod.is_empty()
    {
        fields::write(reply, PEER_HEADER.as_str().as_bytes(), pod.as_bytes());
    }
}

fn write_status(status: u16, reason: &str, reply: &mut Vec<u8>) {
    let digits = [status / 100, status / 10 % 10, status % 10];
    reply.extend_from_slice(b"HTTP/1.1 ");
    reply.extend(digits.iter().map(|digit| b'0' + u8::try_from(*digit).unwrap_or_default()));
    reply.push(b' ');
    reply.extend_from_slice(reason.as_bytes());
    reply.extend_from_slice(b"\r\n");
}

/// Ends the head: with how its body ends, when it was made, if it did not say, and whether it is the last one.
pub(super) fn finish(framing: &Framing, has_date: bool, is_last: bool, reply: &mut Vec<u8>) {
    match framing {
        Framing::Nothing | Framing::Length(_) | Framing::Ended => {}
        Framing::Chunked { .. } | Framing::UntilClose => {
            fields::write(reply, b"transfer-encoding", b"chunked");
        }
    }
    if !has_date {
        // RFC 9110, section 6.6.1.
        write_date(reply);
    }
    if is_last {
        fields::write(reply, b"connection", b"close");
    }
    reply.extend_from_slice(b"\r\n");
}

/// The head of the proxy's own answer; whether it is the last one.
pub(super) fn own(response: &Response<Body>, is_last: bool, reply: &mut Vec<u8>) -> bool {
    reply.clear();
    let status = response.status();
    write_status(status.as_u16(), status.canonical_reason().unwrap_or_default(), reply);
    let is_last = is_last || response.headers().contains_key(CONNECTION);
    for (name, value) in response.headers() {
        if *name != CONNECTION {
            fields::write(reply, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    let length = response.body().size_hint().exact().unwrap_or_default();
    fields::write(reply, b"content-length", length.to_string().as_bytes());
    finish(&Framing::Nothing, false, is_last, reply);
    is_last
}

/// What is written of a head so far, as a map.
pub(super) fn headers(reply: &[u8]) -> Option<HeaderMap> {
    let mut headers = [httparse::EMPTY_HEADER; FIELD_LIMIT];
    let begin = reply.iter().position(|octet| *octet == b'\n')?;
    let mut fields = reply.get(begin + 1..)?.to_vec();
    fields.extend_from_slice(b"\r\n");
    let Status::Complete((_length, found)) = httparse::parse_headers(&fields, &mut headers).ok()?
    else {
        return None;
    };
    let one = |header: &Header<'_>| {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        Some((name, HeaderValue::from_bytes(header.value).ok()?))
    };
    let mut map = HeaderMap::new();
    for (name, value) in found.iter().filter_map(one) {
        map.append(name, value);
    }
    Some(map)
}

fn write_date(reply: &mut Vec<u8>) {
    date(|date| fields::write(reply, b"date", date.as_bytes()));
}

/// The time as a field says it, made once a second at most.
pub(in crate::http) fn date(with: impl FnOnce(&str)) {
    thread_local! {
        static LAST: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    let now = clock::now();
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    LAST.with_borrow_mut(|(second, text)| {
        if *second != since.as_secs() || text.is_empty() {
            (*second, *text) = (since.as_secs(), httpdate::fmt_http_date(now));
        }
        with(text);
    });
}

/// RFC 9110, section 8.6: digits, and nothing else.
fn number(value: &[u8]) -> Option<u64> {
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| is_number)?.parse().ok()
}

/// RFC 9112, section 6.3.
fn has_no_body(status: u16) -> bool {
    matches!(status, 100..=199 | NO_CONTENT | NOT_MODIFIED)
}

const SWITCHING_PROTOCOLS: u16 = 101;
const NO_CONTENT: u16 = 204;
const NOT_MODIFIED: u16 = 304;
/// As many as hyper reads.
const FIELD_LIMIT: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(text: &str, is_head: bool, mesh: Option<&str>) -> (AnswerHead, String) {
        let mut reply = Vec::new();
        let head = read(text.as_bytes(), is_head, mesh, &mut reply).unwrap().unwrap();
        finish(&head.framing, true, !head.is_reusable, &mut reply);
        (head, String::from_utf8(reply).unwrap())
    }

    /// Its name, the answer, whether it is one to HEAD, its framing, whether its connection can be used again, and what the
    /// client gets.
    type Case = (&'static str, &'static str, bool, &'static str, bool, &'static str);

    const CASES: [Case; 9] = [
        (
            "a length",
            "HTTP/1.1 200 Fine\r\nX-A:  b\r\nContent-Length: 4\r\nKeep-Alive: 5\r\n\r\nfour",
            false,
            "Length(4)",
            true,
            "HTTP/1.1 200 Fine\r\nX-A: b\r\nContent-Length: 4\r\n\r\n",
        ),
        (
            "chunks",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n",
            false,
            "Chunked",
            true,
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        ),
        (
            "until it closes",
            "HTTP/1.1 200 OK\r\n\r\n",
            false,
            "UntilClose",
            false,
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n",
        ),
        (
            "an old one",
            "HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
            false,
            "Length(0)",
            false,
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        ),
        (
            "an old one that stays",
            "HTTP/1.0 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive\r\n\r\n",
            false,
            "Length(0)",
            true,
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        ),
        (
            "a length that is named",
            "HTTP/1.1 200 OK\r\nconnection: content-length\r\ncontent-length: 4\r\n\r\nfour",
            false,
            "Length(4)",
            true,
            "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n",
        ),
        (
            "to HEAD",
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n",
            true,
            "Nothing",
            true,
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n",
        ),
        (
            "no content",
            "HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n",
            false,
            "Nothing",
            true,
            "HTTP/1.1 204 No Content\r\n\r\n",
        ),
        (
            "named fields",
            "HTTP/1.1 304 Not Modified\r\nconnection: X-A, close\r\nx-a: 1\r\nx-b: 2\r\n\r\n",
            false,
            "Nothing",
            false,
            "HTTP/1.1 304 Not Modified\r\nx-b: 2\r\nconnection: close\r\n\r\n",
        ),
    ];

    #[test]
    fn what_may_be_forwarded_is_without_what_is_for_one_hop() {
        for (case, text, is_head, framing, is_reusable, expected) in CASES {
            let (head, written) = reply(text, is_head, None);
            assert!(format!("{:?}", head.framing).starts_with(framing), "case: {case}: {head:?}");
            assert_eq!(
                (head.is_reusable, written.as_str()),
                (is_reusable, expected),
                "case: {case}"
            );
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_not_forwarded() {
        for (case, head, expected) in [
            (
                "a length and chunks",
                "content-length: 1\r\ntransfer-encoding: chunked\r\n",
                Fault::LengthAndCoding,
            ),
            ("two lengths", "content-length: 1\r\ncontent-length: 1\r\n", Fault::ContentLength),
            ("a list of lengths", "content-length: 1, 1\r\n", Fault::ContentLength),
            ("another coding", "transfer-encoding: gzip, chunked\r\n", Fault::TransferEncoding),
            (
                "two codings",
                "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
                Fault::TransferEncoding,
            ),
        ] {
            let text = format!("HTTP/1.1 200 OK\r\n{head}\r\n");
            let read = read(text.as_bytes(), false, None, &mut Vec::new());
            let Err(NoHead::Ambiguous(fault)) = read else { panic!("case: {case}: {read:?}") };
            assert_eq!(fault, expected, "case: {case}");
        }
        let switched = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: a\r\n\r\n";
        let read = read(switched, false, None, &mut Vec::new());
        assert!(matches!(read, Err(NoHead::Ambiguous(Fault::UnaskedUpgrade))), "{read:?}");
    }

    #[test]
    fn only_a_proxy_of_the_mesh_tells_of_the_meshs_errors() {
        let text = "HTTP/1.1 503 Service Unavailable\r\nx-heddle-error: connect_timeout\r\n\
            x-heddle-error-source: inbound\r\nx-heddle-error-peer: forged\r\ncontent-length: 0\r\n\r\n";
        let (head, written) = reply(text, false, None);
        assert!(!head.is_of_dead_application);
        assert_eq!(written, "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
        let (head, written) = reply(text, false, Some("api-1"));
        assert!(head.is_of_dead_application);
        let expected = "HTTP/1.1 503 Service Unavailable\r\nx-heddle-error: connect_timeout\r\n\
            x-heddle-error-source: inbound\r\ncontent-length: 0\r\nx-heddle-error-peer: api-1\r\n\r\n";
        assert_eq!(written, expected);
    }

    #[test]
    fn half_a_head_is_waited_for_and_what_is_none_is_told() {
        let text = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        for length in 0..text.len() {
            let read = read(&text[..length], false, None, &mut Vec::new());
            assert!(matches!(read, Ok(None)), "{length}: {read:?}");
        }
        for (case, text) in [
            ("no HTTP", "SSH-2.0-OpenSSH\r\n\r\n"),
            ("no status", "HTTP/1.1 099 OK\r\ncontent-length: 0\r\n\r\n"),
            ("a sign", "HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\n"),
            ("too long", "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n"),
            ("two", "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n"),
            ("old chunks", "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
        ] {
            let read = read(text.as_bytes(), false, None, &mut Vec::new());
            assert!(matches!(read, Err(NoHead::Unreadable(_))), "case: {case}: {read:?}");
        }
    }

    #[test]
    fn what_was_written_is_a_map_for_who_wants_to_know() {
        let (_head, _written) = reply("HTTP/1.1 200 OK\r\nX-A: 1\r\nX-A: 2\r\n\r\n", false, None);
        let mut reply = Vec::new();
        read(b"HTTP/1.1 200 OK\r\nX-A: 1\r\nX-A: 2\r\n\r\n", false, None, &mut reply).unwrap();
        let headers = headers(&reply).unwrap();
        let values: Vec<_> = headers.get_all("x-a").iter().collect();
        assert_eq!(values, ["1", "2"]);
    }
}
