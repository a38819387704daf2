//! The head of a backend's answer: read, held against what may be forwarded, and its fields written anew for the client.

use std::cell::RefCell;
use std::mem::MaybeUninit;

use http::HeaderName;
use http::header::DATE;
use httparse::{Header, ParserConfig, Status};

use crate::balance::ejection::Sign;
use crate::http::gate::fields::{self, Known};
use crate::http::gate::head::{Field, HeadReader};
use crate::http::gate::lines::Lines;
use crate::http::gate::octets::value_length;
use crate::http::gate::response::Fault;
use crate::http::lane::framing::Framing;
use crate::http::lane::reply::{FIELD_LIMIT, write_status};
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

/// What is known of who answers, and what.
#[derive(Clone, Copy)]
struct Asked<'a> {
    is_head: bool,
    mesh: Option<&'a str>,
}

/// The first line of an answer.
struct First<'a> {
    status: u16,
    reason: &'a [u8],
    is_old: bool,
    /// With what ends it.
    length: usize,
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
    thread_local! {
        static READER: RefCell<HeadReader> = RefCell::default();
    }
    let asked = Asked { is_head, mesh };
    let strict = READER.with_borrow_mut(|reader| read_strict(reader, octets, asked, reply));
    match strict {
        Some(read) => read.map(Some),
        None => read_any(octets, asked, reply),
    }
}

/// What keeps to the grammar, as almost every head does, is read by the gate's reader. `None`: it is not all there, or it
/// is for [`read_any`], which takes more.
fn read_strict(
    reader: &mut HeadReader,
    octets: &[u8],
    asked: Asked<'_>,
    reply: &mut Vec<u8>,
) -> Option<Result<AnswerHead, NoHead>> {
    let first = first_line(octets)?;
    let fields = octets.get(first.length..)?;
    reader.reset_to_trailers();
    let length = reader.read(fields).ok()??;
    Some(take(&first, length, (reader.head(fields).lines(), fields), (asked, reply)))
}

/// `None`: not as it is almost always.
fn first_line(octets: &[u8]) -> Option<First<'_>> {
    let rest = octets.strip_prefix(b"HTTP/1.1 ")?;
    let ([hundreds @ b'1'..=b'9', tens @ b'0'..=b'9', ones @ b'0'..=b'9', b' '], rest) =
        rest.split_first_chunk()?
    else {
        return None;
    };
    let digit = |digit: &u8| u16::from(digit - b'0');
    let status = digit(hundreds) * 100 + digit(tens) * 10 + digit(ones);
    let (reason, rest) = rest.split_at_checked(value_length(rest))?;
    let rest = rest.strip_prefix(b"\r\n")?;
    let first = First { status, reason, is_old: false, length: octets.len() - rest.len() };
    reason.is_ascii().then_some(first)
}

/// As hyper reads it.
fn read_any(
    octets: &[u8],
    asked: Asked<'_>,
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
    let first = First {
        status: response.code.unwrap_or_default(),
        reason: response.reason.unwrap_or_default().as_bytes(),
        is_old: response.version != Some(1),
        length: 0,
    };
    let fields = response.headers.iter().map(|Header { name, value }| {
        let name = name.as_bytes();
        Field { name, value, known: fields::known(name), line: 0..0, is_canonical: false }
    });
    take(&first, length, (fields, octets), (asked, reply)).map(Some)
}

/// Judges a head and writes it. `length` is that of what follows the first line; where fields say that their lines are in
/// the one form, they are in `octets`.
fn take<'a>(
    first: &First<'_>,
    length: usize,
    (fields, octets): (impl Iterator<Item = Field<'a>> + Clone, &[u8]),
    (Asked { is_head, mesh }, reply): (Asked<'_>, &mut Vec<u8>),
) -> Result<AnswerHead, NoHead> {
    let First { status, is_old, .. } = *first;
    if status < 100 {
        return Err(NoHead::Unreadable("a status that is none".into()));
    }
    let said = Said::of(fields.clone(), is_old)?;
    if status == SWITCHING_PROTOCOLS {
        return Err(NoHead::Ambiguous(Fault::UnaskedUpgrade));
    }
    if status >= 200 {
        write_status(status, first.reason, reply);
        write_fields(status, (fields, octets), (&said, mesh), reply);
    }
    let framing = match (is_head || has_no_body(status), said.is_chunked, said.length) {
        (true, _, _) => Framing::Nothing,
        (false, true, _) => Framing::chunked(),
        (false, false, Some(length)) => Framing::Length(length),
        (false, false, None) => Framing::UntilClose,
    };
    let is_kept = !said.closes && (!is_old || said.is_kept);
    let is_reusable = is_kept && !matches!(framing, Framing::UntilClose);
    Ok(AnswerHead {
        length: first.length + length,
        status,
        is_reusable,
        framing,
        sign: outcome::of_fields(status, said.content_type, || said.grpc_status),
        is_of_dead_application: mesh.is_some() && said.error.is_some_and(is_of_dead_application),
        has_date: said.has_date,
    })
}

impl<'a> Said<'a> {
    /// Fails for what is not to be forwarded: see gate/response.rs.
    fn of(fields: impl Iterator<Item = Field<'a>>, is_old: bool) -> Result<Self, NoHead> {
        let mut said = Self::default();
        for Field { name, value, known, .. } in fields {
            let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
            match known {
                Known::Connection => said.add_options(value),
                Known::ContentType => said.content_type = Some(value),
                Known::ContentLength => said.add_length(value)?,
                Known::TransferEncoding => {
                    if is_old {
                        return Err(NoHead::Unreadable("chunks of HTTP/1.0".into()));
                    }
                    if said.has_codings || !value.eq_ignore_ascii_case(b"chunked") {
                        return Err(NoHead::Ambiguous(Fault::TransferEncoding));
                    }
                    (said.has_codings, said.is_chunked) = (true, true);
                }
                Known::Claim if is(ERROR_HEADER.as_str()) => said.error = Some(value),
                Known::Other if name.len() == 4 && is(DATE.as_str()) => said.has_date = true,
                Known::Other if name.len() == 11 && is(GRPC_STATUS) => {
                    said.grpc_status = Some(value);
                }
                Known::Host
                | Known::Upgrade
                | Known::Expect
                | Known::Lookalike
                | Known::Claim
                | Known::Te
                | Known::Hop
                | Known::Other => {}
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

fn write_fields<'a>(
    status: u16,
    (fields, octets): (impl Iterator<Item = Field<'a>>, &[u8]),
    (said, mesh): (&Said<'_>, Option<&str>),
    reply: &mut Vec<u8>,
) {
    let is_error = |name: &[u8]| {
        let is = |known: &HeaderName| name.eq_ignore_ascii_case(known.as_str().as_bytes());
        match (mesh, said.error) {
            (None, _) => is(&ERROR_HEADER) || is(&SOURCE_HEADER) || is(&PEER_HEADER),
            (Some(pod), Some(_)) => is(&PEER_HEADER) && !pod.is_empty(),
            (Some(_), None) => false,
        }
    };
    let mut lines = Lines::new(octets, 0..0);
    for field in fields {
        let is_named =
            said.named.iter().any(|named| named.as_bytes().eq_ignore_ascii_case(field.name));
        let has_no_length = status == NO_CONTENT && field.known == Known::ContentLength;
        // All that the mesh says has a name of the mesh's own.
        let is_error = field.known == Known::Claim && is_error(field.name);
        if !is_named && !has_no_length && !field.known.is_of_hop() && !is_error {
            lines.keep(&field, reply);
        }
    }
    lines.flush(reply);
    if let (Some(pod), Some(_)) = (mesh, said.error)
        && !pod.is_empty()
    {
        fields::write(reply, PEER_HEADER.as_str().as_bytes(), pod.as_bytes());
    }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answers() -> impl Strategy<Value = Vec<u8>> {
        let first = "HTTP/1.[01] ([0-9]{3}|204|200)( [ -~\t\u{e9}]{0,5})?\r?\n";
        let field = prop_oneof![
            "[a-zA-Z_-]{0,6}[ ]?:[ \t]{0,2}[ -~\t\u{e9}]{0,8}[ \t]{0,2}\r?\n",
            "(Date|connection|Keep-Alive|content_length|x-a): ?(close|x-a|keep-alive)\r\n",
            "(Content-Length|transfer-encoding): (4|007|chunked)\r\n",
            "(content-type|grpc-status|upgrade): (application/grpc|14)\r\n",
            "x-heddle-(error|error-source|error-peer|other): (connect_timeout|inbound)\r\n",
        ];
        let changed = proptest::option::weighted(0.3, any::<(prop::sample::Index, u8)>());
        let fields = proptest::collection::vec(field, 0..6);
        (first, fields, "(\r\n)?[a-z]{0,4}", changed).prop_map(|(first, fields, end, changed)| {
            let mut head = [first, fields.concat(), end].concat().into_bytes();
            if let Some((at, octet)) = changed {
                let at = at.index(head.len());
                head[at] = octet;
            }
            head
        })
    }

    proptest! {
        #[test]
        fn the_strict_reader_reads_what_it_takes_as_the_other_does(
            octets in answers(),
            is_head in any::<bool>(),
            mesh in proptest::sample::select(vec![None, Some(""), Some("api-1")]),
        ) {
            let (mut found, mut expected) = (Vec::new(), Vec::new());
            let asked = Asked { is_head, mesh };
            let mut reader = HeadReader::default();
            if let Some(read) = read_strict(&mut reader, &octets, asked, &mut found) {
                let any = read_any(&octets, asked, &mut expected);
                prop_assert_eq!(format!("{:?}", read.map(Some)), format!("{any:?}"));
                prop_assert_eq!(found.escape_ascii().to_string(), expected.escape_ascii().to_string());
            }
        }

        #[test]
        fn the_strict_reader_takes_what_servers_send(
            status in 100_u16..600,
            reason in "[A-Za-z ]{0,20}",
            fields in proptest::collection::vec("[a-zA-Z-]{1,16}: ?[ -~]{0,20}\r\n", 0..12),
        ) {
            let text = format!("HTTP/1.1 {status} {reason}\r\n{}\r\nbody", fields.concat());
            let (mut reader, asked) =
                (HeadReader::default(), Asked { is_head: false, mesh: None });
            let read = read_strict(&mut reader, text.as_bytes(), asked, &mut Vec::new());
            prop_assert!(read.is_some());
        }
    }

    fn reply(text: &str, is_head: bool, mesh: Option<&str>) -> (AnswerHead, String) {
        let mut reply = Vec::new();
        let head = read(text.as_bytes(), is_head, mesh, &mut reply).unwrap().unwrap();
        crate::http::lane::reply::finish(&head.framing, true, !head.is_reusable, &mut reply);
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
}
