//! The head that a client gets: its first line and its end, and the whole of the proxy's own answers. What is between is written
//! by who has read it (`answer`).

use http::header::CONNECTION;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body::Body as _;
use httparse::{Header, Status};

use crate::http::body::Body;
use crate::http::date;
use crate::http::gate::fields;
use crate::http::lane::framing::Framing;

/// As many as hyper reads.
pub(super) const FIELD_LIMIT: usize = 100;

/// Begins the head.
pub(super) fn write_status(status: u16, reason: &[u8], reply: &mut Vec<u8>) {
    let digits = [status / 100, status / 10 % 10, status % 10];
    let [hundreds, tens, ones] = digits.map(|digit| b'0' + u8::try_from(digit).unwrap_or_default());
    reply.extend_from_slice(b"HTTP/1.1 ");
    reply.extend_from_slice(&[hundreds, tens, ones, b' ']);
    reply.extend_from_slice(reason);
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
        date::now(|date| fields::write(reply, b"date", date.as_bytes()));
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
    let reason = status.canonical_reason().unwrap_or_default();
    write_status(status.as_u16(), reason.as_bytes(), reply);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_a_map_for_who_wants_to_know() {
        let mut reply = Vec::new();
        write_status(200, b"OK", &mut reply);
        fields::write(&mut reply, b"x-a", b"1");
        fields::write(&mut reply, b"x-a", b"2");
        let headers = headers(&reply).unwrap();
        let values: Vec<_> = headers.get_all("x-a").iter().collect();
        assert_eq!(values, ["1", "2"]);
    }
}
