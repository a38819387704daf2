//! Which requests of HTTP/2 are simple, and how they are sent on.

use std::net::{Ipv4Addr, SocketAddr};

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

use crate::http::HttpVersion;
use crate::http::body::Body;
use crate::http::gate::admitted::Admitted;
use crate::http::gate::fields;
use crate::http::gate::request::{BodyLength, Line, Target, judge};
use crate::http::gate::{octets, request};
use crate::http::grpc;
use crate::http::hpack::encoder;
use crate::http::hpack::fields::{FieldRef, Fields};
use crate::http::mux::response::is_regular;

/// What there is to know of a simple request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Simple<'a> {
    pub(super) method: &'a [u8],
    scheme: &'a [u8],
    host: &'a [u8],
    path: &'a [u8],
    /// Of the body, in octets, if it says.
    pub(super) length: Option<u64>,
    pub(super) is_grpc: bool,
}

/// What is to be known of a request, if it is simple: everything else is for the general path to judge. `has_ended`: it
/// has no body.
pub(super) fn simple(fields: &Fields, has_ended: bool) -> Option<Simple<'_>> {
    let mut parts = Pseudo::default();
    let mut regular = fields.iter();
    let mut count = 0;
    while let Some(field) = regular.clone().next().filter(|field| field.name.first() == Some(&b':'))
    {
        parts.add(field)?;
        regular.next();
        count += 1;
    }
    let (method, scheme, path) = (parts.method?, parts.scheme?, parts.path?);
    let is_plain = (1..=METHOD_LIMIT_BYTES).contains(&method.len())
        && method.iter().all(|octet| octets::is_token(*octet))
        && method != b"CONNECT"
        && (scheme == b"http" || scheme == b"https")
        && path.first() == Some(&b'/')
        && path.len() <= PATH_LIMIT_BYTES;
    if !is_plain || fields.is_large() || fields.len() - count > FIELD_LIMIT {
        return None;
    }
    let mut content_type = None;
    let mut has_cookie = false;
    for FieldRef { name, value, .. } in regular.clone() {
        if !is_regular(name, value) {
            return None;
        }
        match name.len() {
            2 if name == b"te" && value != b"trailers" => return None,
            // Crumbs are put together again.
            6 if name == b"cookie" && std::mem::replace(&mut has_cookie, true) => return None,
            12 if name == b"content-type" => content_type = content_type.or(Some(value)),
            _ => {}
        }
    }
    let target = Target { scheme: Some(scheme), authority: parts.authority, path };
    let line = Line { method, target, version: request::Version::Http2 };
    // What is refused is refused by the general path, which tells the client.
    let meaning = judge(line, regular.map(|field| (field.name, field.value))).ok()?;
    let length = match meaning.body {
        BodyLength::None => None,
        BodyLength::Known(length) => Some(length),
        BodyLength::Chunked => return None,
    };
    if meaning.tunnel || meaning.expects || has_ended && length.is_some_and(|length| length > 0) {
        return None;
    }
    let is_grpc = content_type.is_some_and(grpc::is_type_of_grpc);
    Some(Simple { method, scheme, host: meaning.host?, path, length, is_grpc })
}

/// The fields that say whom a request is for: each once, and before all others (RFC 9113, section 8.3).
#[derive(Default)]
struct Pseudo<'a> {
    method: Option<&'a [u8]>,
    scheme: Option<&'a [u8]>,
    authority: Option<&'a [u8]>,
    path: Option<&'a [u8]>,
}

impl<'a> Pseudo<'a> {
    fn add(&mut self, field: FieldRef<'a>) -> Option<()> {
        let place = match field.name {
            b":method" => &mut self.method,
            b":scheme" => &mut self.scheme,
            b":authority" => &mut self.authority,
            b":path" => &mut self.path,
            _ => return None,
        };
        place.replace(field.value).is_none().then_some(())
    }
}

/// The head as it is sent on: as the gate has it, and with `caller`, who asks; empty: that is not told.
pub(super) fn write(fields: &Fields, simple: &Simple<'_>, caller: &[u8], block: &mut Vec<u8>) {
    line((simple.method, simple.scheme, simple.host, simple.path), block);
    for field in fields.iter() {
        let name = field.name;
        // RFC 9113, section 8.3.1: said once is enough.
        let is_left_out = name.first() == Some(&b':') || name == b"host" || fields::is_claim(name);
        if !is_left_out {
            encoder::field(name, field.value, field.static_name, field.is_sensitive, block);
        }
    }
    tell_caller(caller, block);
}

/// The head as those look at it who want to know of requests.
pub(super) fn seen(fields: &Fields, simple: &Simple<'_>, method: &Method) -> Option<Request<Body>> {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::try_from(simple.scheme).ok()?);
    parts.authority = Some(Authority::try_from(simple.host).ok()?);
    parts.path_and_query = Some(PathAndQuery::try_from(simple.path).ok()?);
    let mut request = Request::new(Body::empty());
    *request.method_mut() = method.clone();
    *request.uri_mut() = Uri::from_parts(parts).ok()?;
    *request.version_mut() = Version::HTTP_2;
    for field in fields.iter().filter(|field| field.name.first() != Some(&b':')) {
        let mut value = HeaderValue::from_bytes(field.value).ok()?;
        value.set_sensitive(field.is_sensitive);
        request.headers_mut().append(HeaderName::from_bytes(field.name).ok()?, value);
    }
    // A client of HTTP/2 names its host itself.
    let nobody = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let admitted = Admitted::new(Box::new(request), HttpVersion::Http2, nobody).ok()?;
    Some(*admitted.into_request())
}

/// The same head with what they wrote into it.
pub(super) fn write_seen(
    headers: &HeaderMap,
    simple: &Simple<'_>,
    caller: &[u8],
    block: &mut Vec<u8>,
) {
    line((simple.method, simple.scheme, simple.host, simple.path), block);
    for (name, value) in headers {
        encoder::field(name.as_str().as_bytes(), value.as_bytes(), 0, value.is_sensitive(), block);
    }
    tell_caller(caller, block);
}

fn line((method, scheme, host, path): (&[u8], &[u8], &[u8], &[u8]), block: &mut Vec<u8>) {
    encoder::method(method, block);
    encoder::scheme(scheme, block);
    encoder::authority(host, block);
    encoder::path(path, block);
}

fn tell_caller(caller: &[u8], block: &mut Vec<u8>) {
    if !caller.is_empty() {
        encoder::field(fields::CLIENT_CERTIFICATE.as_bytes(), caller, 0, false, block);
    }
}

/// Longer ones are for others to judge, as are more fields than these.
const METHOD_LIMIT_BYTES: usize = 32;
const PATH_LIMIT_BYTES: usize = 8 * 1024;
const FIELD_LIMIT: usize = 99;

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: &[(&str, &str)]) -> Fields {
        let mut all = Fields::default();
        for (name, value) in fields {
            all.push(name.as_bytes(), value.as_bytes());
        }
        all
    }

    const LINE: [(&str, &str); 4] =
        [(":method", "POST"), (":scheme", "http"), (":authority", "api"), (":path", "/a?b")];

    #[test]
    fn a_request_is_simple_if_nothing_of_it_needs_more_than_to_be_sent_on() {
        let with = |more: &[(&'static str, &'static str)]| [&LINE[..], more].concat();
        for (case, fields, has_ended, expected) in [
            ("a POST", with(&[]), false, true),
            (
                "of gRPC",
                with(&[("content-type", "application/grpc"), ("te", "trailers")]),
                false,
                true,
            ),
            ("a host that is the same", with(&[("host", "api")]), false, true),
            ("another host", with(&[("host", "b")]), false, false),
            ("no authority", [&LINE[..2], &LINE[3..], &[("host", "api")]].concat(), true, true),
            ("nobody", [&LINE[..2], &LINE[3..]].concat(), true, false),
            ("no path", LINE[..3].to_vec(), true, false),
            ("a path twice", with(&[(":path", "/")]), true, false),
            ("a late one", [&LINE[..3], &[("a", "b")], &LINE[3..]].concat(), true, false),
            ("an unknown one", with(&[(":protocol", "websocket")]), true, false),
            ("capital letters", with(&[("A", "b")]), true, false),
            ("of a hop", with(&[("connection", "close")]), true, false),
            ("another coding", with(&[("te", "gzip")]), true, false),
            ("crumbs", with(&[("cookie", "a"), ("cookie", "b")]), true, false),
            ("one cookie", with(&[("cookie", "a")]), true, true),
            ("a length", with(&[("content-length", "3")]), false, true),
            ("a length of nothing", with(&[("content-length", "3")]), true, false),
            (
                "two lengths",
                with(&[("content-length", "3"), ("content-length", "3")]),
                false,
                false,
            ),
            ("a coding", with(&[("transfer-encoding", "chunked")]), false, false),
            ("a body that waits", with(&[("expect", "100-continue")]), false, false),
            ("a line feed", with(&[("a", "b\nc")]), true, false),
            ("dots", [&LINE[..3], &[(":path", "/../a")]].concat(), true, false),
            (
                "another scheme",
                [&LINE[..1], &[(":scheme", "ws")], &LINE[2..]].concat(),
                true,
                false,
            ),
            ("CONNECT", [&[(":method", "CONNECT")], &LINE[1..]].concat(), true, false),
            (
                "of the server",
                [&[(":method", "OPTIONS")], &LINE[1..3], &[(":path", "*")]].concat(),
                true,
                false,
            ),
        ] {
            assert_eq!(simple(&of(&fields), has_ended).is_some(), expected, "case: {case}");
        }
    }

    #[test]
    fn what_is_sent_on_is_what_passed_and_what_the_mesh_says() {
        let more = [
            ("host", "api"),
            ("x-forwarded-client-cert", "forged"),
            ("x_heddle_a", "b"),
            ("x-a", "b"),
        ];
        let fields = of(&[&LINE[..], &more].concat());
        let found = simple(&fields, true).unwrap();
        let mut block = Vec::new();
        write(&fields, &found, b"By=e", &mut block);
        let expected =
            of(&[&LINE[..], &[("x-a", "b"), ("x-forwarded-client-cert", "By=e")]].concat());
        let mut decoded = Fields::default();
        crate::http::hpack::decoder::Decoder::new(0).decode(&block, 1 << 16, &mut decoded).unwrap();
        let pairs = |fields: &Fields| -> Vec<(Vec<u8>, Vec<u8>)> {
            fields.iter().map(|field| (field.name.to_vec(), field.value.to_vec())).collect()
        };
        assert_eq!(pairs(&decoded), pairs(&expected));
        let seen = seen(&fields, &found, &Method::POST).unwrap();
        assert_eq!(seen.uri(), "http://api/a?b");
        assert_eq!(seen.headers().len(), 1);
        let mut again = Vec::new();
        write_seen(seen.headers(), &found, b"By=e", &mut again);
        assert_eq!(again, block);
    }
}
