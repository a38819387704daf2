//! Whom a request is for.

use heddle_model::route::Hostname;
use http::Request;

/// The host of a request, without its port; empty if it names none.
pub fn of<B>(request: &Request<B>) -> &str {
    if let Some(authority) = request.uri().authority() {
        return authority.host();
    }
    let host = request.headers().get(http::header::HOST).and_then(|host| host.to_str().ok());
    without_port(host.unwrap_or_default())
}

/// Whether a connection that the application encrypts is for one of these, by the server name of its ClientHello. Of
/// none, every one is, and one without a name.
pub fn is_named(hostnames: &[Hostname], server_name: Option<&str>) -> bool {
    hostnames.is_empty()
        || server_name.is_some_and(|name| hostnames.iter().any(|hostname| hostname.matches(name)))
}

/// An IPv6 address has colons of its own, and stands in brackets.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        Some(_) | None => host,
    }
}

#[cfg(test)]
mod tests {
    use http::header::HOST;

    use super::*;

    #[test]
    fn a_host_is_read_where_the_version_has_it() {
        for (target, header, expected) in [
            ("/", Some("a"), "a"),
            ("/", Some("a:80"), "a"),
            ("/", Some("[::1]:80"), "[::1]"),
            ("/", Some("[::1]"), "[::1]"),
            ("http://b:80/", Some("a"), "b"),
            ("/", None, ""),
        ] {
            let mut request = Request::get(target);
            if let Some(header) = header {
                request = request.header(HOST, header);
            }
            assert_eq!(of(&request.body(()).unwrap()), expected, "case: {target} {header:?}");
        }
    }
}
