//! The headers that say where a request is in a trace.
//!
//! Bytes are lines, each a letter and a value: `t` is `traceparent`, `s` is `tracestate`, `b` is `b3`, and
//! `i`, `p`, `d` and `f` are the id, the span, the decision and the flags of B3 in several headers.

use heddle_proxy::http::trace::{Found, b3, carry, w3c};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Reading never panics, and what is read is the same when it is written and read again.
pub(crate) fn check(data: &[u8]) {
    let headers: HeaderMap = data.split(|octet| *octet == b'\n').filter_map(header).collect();
    let incoming = carry::read(&headers);
    if let Some(state) = w3c::state(&headers) {
        assert!(w3c::is_good_state(&headers) && state.len() <= 512, "{headers:?}");
    }
    if let Found::Here(parent) = w3c::read(&headers) {
        assert_eq!(incoming.parent, Some(parent), "{headers:?}");
        for is_random in [false, true] {
            let written = w3c::written(&parent, is_random).unwrap_or_else(|| panic!("{parent:?}"));
            assert_eq!(w3c::parse(written.as_bytes()), Some(parent), "{written:?}");
            assert_eq!(w3c::says_random(written.as_bytes()), is_random, "{written:?}");
        }
    }
    let Found::Here(said) = b3::read(&headers) else { return };
    let (Some(place), Some(decision)) = (said.place, said.decision) else { return };
    for style in [b3::Style::Single, b3::Style::Several] {
        let mut again = HeaderMap::new();
        b3::write(&mut again, style, &b3::Written { place, from: None, decision });
        assert_eq!(b3::read(&again), Found::Here(said), "{headers:?}");
    }
}

fn header(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let (letter, value) = line.split_first()?;
    let name = match letter {
        b't' => w3c::TRACEPARENT,
        b's' => w3c::TRACESTATE,
        b'b' => b3::SINGLE,
        b'i' => HeaderName::from_static("x-b3-traceid"),
        b'p' => HeaderName::from_static("x-b3-spanid"),
        b'd' => HeaderName::from_static("x-b3-sampled"),
        b'f' => HeaderName::from_static("x-b3-flags"),
        _ => return None,
    };
    Some((name, HeaderValue::from_bytes(value).ok()?))
}
