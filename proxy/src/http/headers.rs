//! Which headers end at a hop, and who called. Pure functions over a header map.

use heddle_model::identity::SpiffeId;
use http::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::{Method, Request, Version};

use crate::http::gate::fields;

/// Who sent an inbound request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Nobody that is known: the connection was plain.
    Plaintext,
    /// Authenticated by certificate.
    Mutual {
        /// The caller's identity.
        caller: SpiffeId,
        /// Our own.
        own: SpiffeId,
    },
}

impl Caller {
    /// Who it is, if that is known.
    pub fn identity(&self) -> Option<&SpiffeId> {
        match self {
            Self::Plaintext => None,
            Self::Mutual { caller, .. } => Some(caller),
        }
    }
}

/// Whether a request that was admitted asks for the connection itself (RFC 9110, sections 7.8 and
/// 9.3.6), or for a stream of HTTP/2 (RFC 9113, section 8.5; RFC 8441): the gate leaves the wish in
/// it only then.
pub fn wants_tunnel<B>(request: &Request<B>) -> bool {
    request.method() == Method::CONNECT
        || (request.version() < Version::HTTP_2 && request.headers().contains_key(UPGRADE))
}

/// Removes what is meant for this hop only from a request; with `tunnel`, the wish to upgrade goes
/// on. Source: RFC 9110, section 7.6.1.
pub fn strip_request(headers: &mut HeaderMap, tunnel: bool) {
    let upgrade = if tunnel { headers.remove(UPGRADE) } else { None };
    // What a request says about trailers is true of the next hop too (gRPC insists on it).
    let takes_trailers = headers
        .get_all(TE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| coding.trim().eq_ignore_ascii_case("trailers"));
    strip(headers);
    headers.remove(TE);
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    keep_upgrade(headers, upgrade);
}

/// Removes what is meant for this hop only from a response; with `tunnel`, the upgrade goes on.
pub fn strip_response(headers: &mut HeaderMap, tunnel: bool) {
    let upgrade = if tunnel { headers.remove(UPGRADE) } else { None };
    strip(headers);
    keep_upgrade(headers, upgrade);
}

fn keep_upgrade(headers: &mut HeaderMap, upgrade: Option<HeaderValue>) {
    if let Some(upgrade) = upgrade {
        headers.insert(UPGRADE, upgrade);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

fn strip(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> =
            list(headers, CONNECTION).filter_map(|name| name.parse().ok()).collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    for name in [KEEP_ALIVE, PROXY_CONNECTION, HTTP2_SETTINGS, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
}

/// The elements of a header that is a list (RFC 9110, section 5.6.1).
fn list(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|name| !name.is_empty())
}

/// Whether a field is for one hop only, whatever it says (RFC 9110, section 7.6.1); what `connection` names is, too.
pub fn is_of_hop(name: &[u8]) -> bool {
    fields::known(name).is_of_hop()
}

/// Tells what the caller's certificate says of it. What it says of itself did not pass the gate.
pub fn set_caller(headers: &mut HeaderMap, caller: &Caller) {
    match caller {
        Caller::Plaintext => {}
        Caller::Mutual { caller, own } => {
            // A SPIFFE ID is visible ASCII.
            if let Ok(value) = HeaderValue::from_str(&said_of(caller, own)) {
                headers.insert(CLIENT_CERTIFICATE_HEADER, value);
            }
        }
    }
}

/// The same as a line of a head; nothing of who is not known.
pub fn caller_line(caller: &Caller) -> String {
    match caller {
        Caller::Plaintext => String::new(),
        Caller::Mutual { .. } => {
            format!("{}: {}\r\n", fields::CLIENT_CERTIFICATE, caller_field(caller))
        }
    }
}

/// The same without the field's name.
pub fn caller_field(caller: &Caller) -> String {
    match caller {
        Caller::Plaintext => String::new(),
        Caller::Mutual { caller, own } => said_of(caller, own),
    }
}

fn said_of(caller: &SpiffeId, own: &SpiffeId) -> String {
    format!("By={own};URI={caller}")
}

/// Envoy's name, which applications know.
pub const CLIENT_CERTIFICATE_HEADER: HeaderName =
    HeaderName::from_static(fields::CLIENT_CERTIFICATE);
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers
                .append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn what_is_for_one_hop_ends_there() {
        for (case, before, tunnel, after) in [
            ("nothing", &[("host", "a")][..], false, &[("host", "a")][..]),
            (
                "keep-alive",
                &[("connection", "keep-alive"), ("keep-alive", "timeout=5")],
                false,
                &[],
            ),
            (
                "named ones",
                &[("connection", "X-One, x-two"), ("x-one", "1"), ("x-two", "2"), ("x-three", "3")],
                false,
                &[("x-three", "3")],
            ),
            ("trailers", &[("te", "gzip, trailers")], false, &[("te", "trailers")]),
            ("other codings", &[("te", "gzip")], false, &[]),
            (
                "te as named",
                &[("connection", "te"), ("te", "trailers")],
                false,
                &[("te", "trailers")],
            ),
            ("transfer coding", &[("transfer-encoding", "chunked")], false, &[]),
            ("settings of HTTP/2", &[("http2-settings", "AAA")], false, &[]),
            (
                "an upgrade taken",
                &[("connection", "Upgrade, keep-alive"), ("upgrade", "websocket")],
                true,
                &[("connection", "upgrade"), ("upgrade", "websocket")],
            ),
        ] {
            let mut headers = map(before);
            strip_request(&mut headers, tunnel);
            assert_eq!(headers, map(after), "case: {case}");
        }
    }

    #[test]
    fn a_caller_is_told_of_as_its_certificate_says() {
        let mut headers = map(&[]);
        let caller = Caller::Mutual {
            caller: "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap(),
            own: "spiffe://cluster.local/ns/shop/sa/api".parse().unwrap(),
        };
        set_caller(&mut headers, &caller);
        let expected =
            "By=spiffe://cluster.local/ns/shop/sa/api;URI=spiffe://cluster.local/ns/shop/sa/web";
        assert_eq!(headers, map(&[("x-forwarded-client-cert", expected)]));
    }

    proptest! {
        #[test]
        fn stripping_twice_is_stripping_once(
            names in proptest::collection::vec("(te|upgrade|keep-alive|connection|x-[ab]|host)", 0..6),
            values in proptest::collection::vec("(trailers|gzip|x-a, te|upgrade|connection|close)", 6),
            tunnel: bool,
        ) {
            let pairs: Vec<(&str, &str)> =
                names.iter().map(String::as_str).zip(values.iter().map(String::as_str)).collect();
            let mut once = map(&pairs);
            strip_request(&mut once, tunnel);
            let mut twice = once.clone();
            strip_request(&mut twice, tunnel);
            prop_assert_eq!(once, twice);
        }
    }
}
