//! Which requests are simple, and how they are sent on.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Uri};

use crate::http::body::Body;
use crate::http::gate::fields::{self, Known};
use crate::http::gate::framing::{write_field, write_lines};
use crate::http::gate::head::{Field, Head, Version};
use crate::http::gate::request::{BodyLength, Meaning};
use crate::http::trace::carry;

/// What there is to know of a simple request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Simple {
    /// Of the body, which is there.
    pub(super) body_length: usize,
    /// The client asks for nothing more on this connection.
    pub(super) is_last: bool,
}

/// Why a request is not simple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotSimple {
    /// Not all of its body is there.
    Short,
    /// By what it says, or by what is done to it.
    Other,
}

/// What is to be known of a request, if it is simple. `following` is how much came after its head.
pub(super) fn simple(
    head: &Head<'_>,
    meaning: &Meaning<'_>,
    following: usize,
) -> Result<Simple, NotSimple> {
    let body_length = match meaning.body {
        BodyLength::None => Some(0),
        BodyLength::Known(length) => usize::try_from(length).ok(),
        BodyLength::Chunked => None,
    };
    let body_length = body_length.filter(|length| *length <= BODY_LIMIT_BYTES);
    let body_length = body_length.ok_or(NotSimple::Other)?;
    let is_plain = head.version() == Version::Http11 && !meaning.tunnel && !meaning.expects;
    if !is_plain || !meaning.path.starts_with(b"/") {
        return Err(NotSimple::Other);
    }
    let mut is_last = false;
    for Field { value, known, .. } in head.lines() {
        match known {
            // What of it goes on is for the general path to say.
            Known::Te => return Err(NotSimple::Other),
            Known::Connection if value.eq_ignore_ascii_case(b"close") => is_last = true,
            Known::Connection if value.eq_ignore_ascii_case(b"keep-alive") => {}
            Known::Connection => return Err(NotSimple::Other),
            // Its status is in trailers.
            Known::ContentType if value.starts_with(GRPC) => return Err(NotSimple::Other),
            Known::ContentType
            | Known::Host
            | Known::ContentLength
            | Known::TransferEncoding
            | Known::Upgrade
            | Known::Expect
            | Known::Lookalike
            | Known::Claim
            | Known::Hop
            | Known::Other => {}
        }
    }
    if following < body_length {
        return Err(NotSimple::Short);
    }
    Ok(Simple { body_length, is_last })
}

/// The head as it is sent on: as the gate has it, without what is for one hop, and with `caller`, a line that says who
/// asks. Fields of a trace are those of `traced`, if there is that.
pub(super) fn write(
    head: &Head<'_>,
    meaning: &Meaning<'_>,
    (caller, traced): (&[u8], Option<&HeaderMap>),
    output: &mut Vec<u8>,
) {
    let is_left_out = |field: &Field<'_>| {
        field.known.is_of_hop() || traced.is_some() && carry::is_of_trace(field.name)
    };
    write_lines(head, meaning, is_left_out, output);
    for (name, value) in traced.into_iter().flatten() {
        let name = name.as_str().as_bytes();
        if carry::is_of_trace(name) {
            fields::write(output, name, value.as_bytes());
        }
    }
    output.extend_from_slice(caller);
    output.extend_from_slice(b"\r\n");
}

/// The head as those look at it who want to know of requests.
pub(super) fn seen(
    head: &Head<'_>,
    meaning: &Meaning<'_>,
    method: &Method,
) -> Option<Request<Body>> {
    let mut request = Request::new(Body::empty());
    *request.method_mut() = method.clone();
    *request.uri_mut() = Uri::try_from(meaning.path).ok()?;
    let mut written = Vec::new();
    let mut host = meaning.host;
    for field in head.lines() {
        written.clear();
        write_field(&mut written, &field, meaning, &mut host);
        if written.is_empty() {
            continue;
        }
        let value = match field.known == Known::Host {
            true => meaning.host.unwrap_or(field.value),
            false => field.value,
        };
        let (name, value) = (HeaderName::from_bytes(field.name), HeaderValue::from_bytes(value));
        request.headers_mut().append(name.ok()?, value.ok()?);
    }
    Some(request)
}

const GRPC: &[u8] = b"application/grpc";
/// Of a request that is held as a whole.
const BODY_LIMIT_BYTES: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::gate::framing::understand;
    use crate::http::gate::head::HeadReader;

    fn read(text: &str) -> (HeadReader, usize) {
        let mut reader = HeadReader::default();
        let length = reader.read(text.as_bytes()).unwrap().unwrap();
        (reader, length)
    }

    #[test]
    fn a_request_is_simple_if_all_of_it_is_there_and_nothing_is_done_to_it() {
        let simple_of = |body_length, is_last| Ok(Simple { body_length, is_last });
        for (case, text, expected) in [
            ("a GET", "GET / HTTP/1.1\r\nhost: a\r\n\r\n", simple_of(0, false)),
            (
                "keep-alive",
                "GET / HTTP/1.1\r\nhost: a\r\nconnection: Keep-Alive\r\n\r\n",
                simple_of(0, false),
            ),
            (
                "the last",
                "GET / HTTP/1.1\r\nhost: a\r\nConnection: close\r\n\r\n",
                simple_of(0, true),
            ),
            (
                "a body",
                "PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nfour",
                simple_of(4, false),
            ),
            (
                "followed",
                "PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nfour",
                simple_of(1, false),
            ),
            (
                "half a body",
                "PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nfour",
                Err(NotSimple::Short),
            ),
            (
                "chunks",
                "PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
                Err(NotSimple::Other),
            ),
            ("an old one", "GET / HTTP/1.0\r\nhost: a\r\n\r\n", Err(NotSimple::Other)),
            (
                "an upgrade",
                "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: b\r\n\r\n",
                Err(NotSimple::Other),
            ),
            (
                "a named field",
                "GET / HTTP/1.1\r\nhost: a\r\nconnection: x-a\r\n\r\n",
                Err(NotSimple::Other),
            ),
            ("CONNECT", "CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n", Err(NotSimple::Other)),
            ("of the server", "OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n", Err(NotSimple::Other)),
            (
                "trailers",
                "GET / HTTP/1.1\r\nhost: a\r\nTE: trailers\r\n\r\n",
                Err(NotSimple::Other),
            ),
            (
                "a body that waits",
                "PUT / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\na",
                Err(NotSimple::Other),
            ),
            (
                "gRPC",
                "POST / HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc+proto\r\n\r\n",
                Err(NotSimple::Other),
            ),
        ] {
            let (reader, length) = read(text);
            let head = reader.head(text.as_bytes());
            let meaning = understand(&head).unwrap();
            assert_eq!(simple(&head, &meaning, text.len() - length), expected, "case: {case}");
        }
    }

    #[test]
    fn what_is_sent_on_is_what_passed_and_nothing_of_the_hop_before() {
        let text = "GET http://b/c?d HTTP/1.1\r\nHost: a\r\nX-Two:  2 \r\nconnection: close\r\n\
            Keep-Alive: 5\r\nProxy-Connection: x\r\nUpgrade: h2c\r\nHTTP2-Settings: a\r\n\
            x-forwarded-client-cert: forged\r\nX_Heddle_A: b\r\nTraceParent: old\r\n\r\n";
        let (reader, _length) = read(text);
        let head = reader.head(text.as_bytes());
        let meaning = understand(&head).unwrap();
        let mut output = Vec::new();
        write(&head, &meaning, (b"x-forwarded-client-cert: By=e\r\n", None), &mut output);
        let expected = "GET /c?d HTTP/1.1\r\nHost: b\r\nX-Two: 2\r\nTraceParent: old\r\n\
            x-forwarded-client-cert: By=e\r\n\r\n";
        assert_eq!(String::from_utf8(output).unwrap(), expected);
        let mut seen = seen(&head, &meaning, &Method::GET).unwrap();
        assert_eq!(seen.headers()["host"], "b");
        assert!(!seen.headers().contains_key("x-forwarded-client-cert"));
        seen.headers_mut().insert("traceparent", HeaderValue::from_static("new"));
        let mut output = Vec::new();
        write(&head, &meaning, (b"", Some(seen.headers())), &mut output);
        let expected = "GET /c?d HTTP/1.1\r\nHost: b\r\nX-Two: 2\r\ntraceparent: new\r\n\r\n";
        assert_eq!(String::from_utf8(output).unwrap(), expected);
    }
}
