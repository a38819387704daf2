//! A request that has passed: what is routed, authorised and forwarded is this one value, in the
//! form that its next hop expects.

use std::net::SocketAddr;

use http::header::{
    CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING,
};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Uri};
use hyper::ext::Protocol;

use crate::http::HttpVersion;
use crate::http::body::Body;
use crate::http::gate::fields;
use crate::http::gate::refusal::Refusal;
use crate::http::gate::request::{Line, Target, Version, judge};
use crate::http::respond::ProxyError;

/// Made by the gate only, and of one piece: nobody can put another head in the place of its own.
#[derive(Debug)]
pub struct Admitted(Box<Request<Body>>);

impl Admitted {
    /// Lets a request through, or does not. `original` stands in for a host that a client of HTTP/1.0
    /// does not name.
    ///
    /// What HTTP/1 clients send was judged beneath hyper (io.rs), which has left its verdict beside
    /// the request. Of HTTP/2 this is the place.
    pub fn new(
        mut request: Box<Request<Body>>,
        version: HttpVersion,
        original: SocketAddr,
    ) -> Result<Self, ProxyError> {
        if let Some(refusal) = request.extensions_mut().remove::<Refusal>() {
            return Err(ProxyError::BadRequest { refusal });
        }
        match version {
            HttpVersion::Http1 => complete_http1(&mut request, original)?,
            HttpVersion::Http2 => complete_http2(&mut request)?,
        }
        Ok(Self(request))
    }

    /// To be looked at.
    pub fn request(&self) -> &Request<Body> {
        &self.0
    }

    /// What is told of the caller.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        self.0.headers_mut()
    }

    /// The same without a body, and with these headers at most.
    #[must_use]
    pub fn bare(self, headers: &[HeaderName]) -> Self {
        let mut request = (*self.0).map(|_body| Body::empty());
        let passes = |name: &HeaderName| {
            headers.contains(name) && ![CONTENT_LENGTH, TRANSFER_ENCODING, EXPECT].contains(name)
        };
        remove(request.headers_mut(), |name| !passes(name));
        Self(Box::new(request))
    }

    /// To be sent.
    pub fn into_request(self) -> Box<Request<Body>> {
        self.0
    }
}

/// A client of HTTP/1.0 may name no host, and gets its answer as one of HTTP/1.1 would.
fn complete_http1(request: &mut Request<Body>, original: SocketAddr) -> Result<(), ProxyError> {
    *request.version_mut() = http::Version::HTTP_11;
    if !request.headers().contains_key(HOST) {
        let host = HeaderValue::from_str(&original.to_string())
            .map_err(|_invalid| ProxyError::Internal { reason: "an address is no host" })?;
        request.headers_mut().insert(HOST, host);
    }
    Ok(())
}

fn complete_http2(request: &mut Request<Body>) -> Result<(), ProxyError> {
    let authority = authority_of(request).map_err(|refusal| ProxyError::BadRequest { refusal })?;
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    if request.method() == Method::CONNECT {
        // The two forms differ in the path, and which it is, in the protocol.
        if parts.path_and_query.is_some() != request.extensions().get::<Protocol>().is_some() {
            return Err(ProxyError::BadRequest { refusal: Refusal::ConnectOfHttp2 });
        }
    } else {
        parts.scheme = parts.scheme.or(Some(Scheme::HTTP));
        parts.path_and_query = parts.path_and_query.or(Some(PathAndQuery::from_static("/")));
    }
    parts.authority = Some(authority);
    *request.uri_mut() = Uri::from_parts(parts)
        .map_err(|_invalid| ProxyError::BadRequest { refusal: Refusal::Path })?;
    let headers = request.headers_mut();
    // RFC 9113, section 8.3.1: said once is enough.
    headers.remove(HOST);
    remove_claims(headers);
    join_cookies(headers);
    Ok(())
}

/// Judges the request; the authority that it is for.
fn authority_of(request: &Request<Body>) -> Result<Authority, Refusal> {
    let uri = request.uri();
    let target = Target {
        scheme: uri.scheme_str().map(str::as_bytes),
        authority: uri.authority().map(|authority| authority.as_str().as_bytes()),
        path: uri.path_and_query().map_or(b"", |path| path.as_str().as_bytes()),
    };
    let line =
        Line { method: request.method().as_str().as_bytes(), target, version: Version::Http2 };
    let headers = request.headers().iter();
    let headers = headers.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
    let meaning = judge(line, headers)?;
    match uri.authority() {
        Some(authority) => Ok(authority.clone()),
        None => {
            let host = meaning.host.ok_or(Refusal::HostMissing)?;
            Authority::try_from(host).map_err(|_invalid| Refusal::Host)
        }
    }
}

fn remove_claims(headers: &mut HeaderMap) {
    remove(headers, |name| fields::is_claim(name.as_str().as_bytes()));
}

/// Removes the fields that may not come after a body.
pub fn keep_trailers(trailers: &mut HeaderMap) {
    remove(trailers, |name| !fields::may_trail(name.as_str().as_bytes()));
}

/// Headers cannot be filtered in place; there is rarely anything to remove.
fn remove(headers: &mut HeaderMap, is_removed: impl Fn(&HeaderName) -> bool) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| is_removed(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// RFC 9113, section 8.2.3: a client of HTTP/2 may send its cookies one by one, for compression.
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(cookies) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, cookies);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &str, hosts: &[&str]) -> Request<Body> {
        let mut request = Request::get(target);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        request.body(Body::empty()).unwrap()
    }

    #[test]
    fn targets_take_the_form_that_the_next_hop_expects() {
        for (case, version, target, host, expected, expected_host) in [
            ("a path", HttpVersion::Http1, "/a?b", Some("api"), "/a?b", Some("api")),
            ("no host", HttpVersion::Http1, "/a", None, "/a", Some("10.0.0.1:80")),
            ("h2", HttpVersion::Http2, "http://api/a", None, "http://api/a", None),
            ("h2 with a host", HttpVersion::Http2, "/a", Some("api"), "http://api/a", None),
            ("both", HttpVersion::Http2, "http://api/a", Some("API:80"), "http://api/a", None),
        ] {
            let request = request(target, host.as_slice());
            let admitted =
                Admitted::new(Box::new(request), version, ([10, 0, 0, 1], 80).into()).unwrap();
            assert_eq!(admitted.request().uri().to_string(), expected, "case: {case}");
            let found = admitted.request().headers().get(HOST);
            let found = found.map(|host| host.to_str().unwrap());
            assert_eq!(found, expected_host, "case: {case}");
        }
    }

    #[test]
    fn cookies_of_http_2_are_one_again() {
        let mut request = request("http://api/", &[]);
        request.headers_mut().append(COOKIE, HeaderValue::from_static("a=1"));
        request.headers_mut().append(COOKIE, HeaderValue::from_static("b=2"));
        let original = ([10, 0, 0, 1], 80).into();
        let admitted = Admitted::new(Box::new(request), HttpVersion::Http2, original).unwrap();
        let cookies: Vec<_> = admitted.request().headers().get_all(COOKIE).iter().collect();
        assert_eq!(cookies, ["a=1; b=2"]);
    }

    #[test]
    fn connect_of_http_2_is_for_an_authority_or_has_a_protocol() {
        for (case, target, protocol, expected) in [
            ("an authority", "a:80", None, Some("a:80")),
            ("a protocol", "http://a/chat", Some("websocket"), Some("http://a/chat")),
            ("a path without a protocol", "http://a/chat", None, None),
            ("a protocol without a path", "a:80", Some("websocket"), None),
            ("no authority", "/", Some("websocket"), None),
            ("no port", "a", None, None),
        ] {
            let mut request = request(target, &[]);
            *request.method_mut() = Method::CONNECT;
            if let Some(protocol) = protocol {
                request.extensions_mut().insert(Protocol::from_static(protocol));
            }
            let original = ([10, 0, 0, 1], 80).into();
            let admitted = Admitted::new(Box::new(request), HttpVersion::Http2, original);
            let target = admitted.map(|admitted| admitted.request().uri().to_string());
            assert_eq!(target.ok().as_deref(), expected, "case: {case}");
        }
    }

    #[test]
    fn a_verdict_from_beneath_is_final() {
        let mut request = request("/", &["api"]);
        request.extensions_mut().insert(Refusal::BareLineFeed);
        let refused =
            Admitted::new(Box::new(request), HttpVersion::Http1, ([10, 0, 0, 1], 80).into());
        assert_eq!(refused.expect_err("it is refused").reason(), "bad_request");
    }
}
