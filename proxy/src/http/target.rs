//! Whom a request is for: gives it the form of target that its next hop expects, a path beside a
//! host, and refuses what two readers could read as two hosts.

use std::net::SocketAddr;

use http::header::{HOST, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Uri, Version};

use crate::http::HttpVersion;
use crate::http::body::Body;
use crate::http::respond::ProxyError;

/// Rewrites the request's target; `original` stands in for a host that it does not name.
pub fn address(
    request: &mut Request<Body>,
    version: HttpVersion,
    original: SocketAddr,
) -> Result<(), ProxyError> {
    if request.headers().get_all(HOST).iter().nth(1).is_some() {
        return Err(bad("it names several hosts"));
    }
    let has_user = |authority: &Authority| authority.as_str().contains('@');
    if request.uri().authority().is_some_and(has_user) {
        return Err(bad("its target names a user"));
    }
    match version {
        HttpVersion::Http1 => address_http1(request, original),
        HttpVersion::Http2 => address_http2(request, original),
    }
}

fn bad(reason: &'static str) -> ProxyError {
    ProxyError::BadRequest { reason }
}

/// RFC 9112, section 3.2: origin-form, and a host that comes from an absolute target if there is
/// one. A client of HTTP/1.0 may name no host at all.
fn address_http1(request: &mut Request<Body>, original: SocketAddr) -> Result<(), ProxyError> {
    *request.version_mut() = Version::HTTP_11;
    if request.method() == Method::CONNECT {
        return Ok(());
    }
    if let Some(authority) = request.uri().authority() {
        let host = HeaderValue::from_str(authority.as_str())
            .map_err(|_invalid| bad("its target's host cannot be a header"))?;
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        request.headers_mut().insert(HOST, host);
    } else if !request.headers().contains_key(HOST) {
        let host = HeaderValue::from_str(&original.to_string())
            .map_err(|_invalid| bad("its host cannot be read"))?;
        request.headers_mut().insert(HOST, host);
    }
    Ok(())
}

/// RFC 9113, section 8.3.1: an authority, which a client may have sent as a host instead; both must
/// name the same.
fn address_http2(request: &mut Request<Body>, original: SocketAddr) -> Result<(), ProxyError> {
    if request.method() == Method::CONNECT {
        return Err(ProxyError::NotSupported { what: "CONNECT over HTTP/2" });
    }
    let host = request.headers().get(HOST);
    if let Some(authority) = request.uri().authority() {
        let is_same = host.is_none_or(|host| names_same(authority.as_str(), host.as_bytes()));
        return if is_same { Ok(()) } else { Err(bad("its host is not its authority")) };
    }
    let authority = match host {
        Some(host) => Authority::try_from(host.as_bytes())
            .ok()
            .filter(|authority| !authority.as_str().contains('@'))
            .ok_or(bad("its host is no authority"))?,
        None => Authority::try_from(original.to_string())
            .map_err(|_invalid| ProxyError::Internal { reason: "an address is no authority" })?,
    };
    let mut parts = request.uri().clone().into_parts();
    parts.authority = Some(authority);
    parts.scheme = parts.scheme.or(Some(Scheme::HTTP));
    parts.path_and_query = parts.path_and_query.or(Some(PathAndQuery::from_static("/")));
    *request.uri_mut() =
        Uri::from_parts(parts).map_err(|_invalid| bad("its target is not valid"))?;
    Ok(())
}

/// The port of HTTP need not be written.
fn names_same(authority: &str, host: &[u8]) -> bool {
    let without_port = |text: &[u8]| text.strip_suffix(b":80").unwrap_or(text).to_ascii_lowercase();
    without_port(authority.as_bytes()) == without_port(host)
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
            ("absolute", HttpVersion::Http1, "http://web/a", Some("api"), "/a", Some("web")),
            ("no host", HttpVersion::Http1, "/a", None, "/a", Some("10.0.0.1:80")),
            ("h2", HttpVersion::Http2, "http://api/a", None, "http://api/a", None),
            ("h2 with a host", HttpVersion::Http2, "/a", Some("api"), "http://api/a", Some("api")),
            (
                "h2 with both",
                HttpVersion::Http2,
                "http://api/a",
                Some("API:80"),
                "http://api/a",
                Some("API:80"),
            ),
            ("h2 without", HttpVersion::Http2, "/a", None, "http://10.0.0.1:80/a", None),
        ] {
            let mut request = request(target, host.as_slice());
            address(&mut request, version, ([10, 0, 0, 1], 80).into()).unwrap();
            assert_eq!(request.uri().to_string(), expected, "case: {case}");
            let found = request.headers().get(HOST).map(|host| host.to_str().unwrap());
            assert_eq!(found, expected_host, "case: {case}");
        }
    }

    #[test]
    fn what_names_no_one_host_is_refused() {
        for (case, version, target, hosts) in [
            ("two hosts", HttpVersion::Http1, "/a", &["a", "b"][..]),
            ("one host twice", HttpVersion::Http1, "/a", &["a", "a"]),
            ("two hosts of h2", HttpVersion::Http2, "/a", &["a", "b"]),
            ("a user", HttpVersion::Http1, "http://user@a/", &["a"]),
            ("a user of h2", HttpVersion::Http2, "http://user@a/", &[]),
            ("a user in a host of h2", HttpVersion::Http2, "/", &["user@a"]),
            ("host and authority", HttpVersion::Http2, "http://a/", &["b"]),
        ] {
            let refused = address(&mut request(target, hosts), version, ([10, 0, 0, 1], 80).into());
            let error = refused.expect_err(case);
            assert_eq!(error.reason(), "bad_request", "case: {case}");
        }
    }

    #[test]
    fn connect_over_http_2_is_not_supported() {
        let mut request = request("http://a/", &[]);
        *request.method_mut() = Method::CONNECT;
        let refused = address(&mut request, HttpVersion::Http2, ([10, 0, 0, 1], 80).into());
        assert_eq!(refused.expect_err("it is refused").reason(), "not_supported");
    }
}
