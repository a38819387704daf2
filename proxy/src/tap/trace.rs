//! Following one request through the mesh: a request that has no trace is put into one whose id begins with the tap's
//! mark, and one that has keeps it and gets the mark beside it. Applications that pass on `traceparent` and `tracestate`,
//! as W3C Trace Context has it, carry the mark along. Such a trace is never sampled: nothing is recorded of it.

use heddle_model::tap::{Follow, Mark};
use heddle_proto::tap as wire;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use rand::Rng;

use crate::http::body::Body;
use crate::http::call_record::{CallRecord, TraceIds};

/// Where a request is in a trace, as far as it can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Of the trace.
    pub trace: [u8; 16],
    /// Of this proxy's part, if it has one of its own.
    pub span: Option<[u8; 8]>,
    /// Of what this is a part of.
    pub parent: Option<[u8; 8]>,
    is_sampled: bool,
}

/// What the proxy has made of the request's trace, or else what its headers say.
pub fn ids(known: Option<TraceIds>, headers: &HeaderMap) -> Option<Place> {
    match known {
        Some(TraceIds { trace, span, parent, is_sampled }) => {
            Some(Place { trace, span: Some(span), parent, is_sampled })
        }
        None => read(headers),
    }
}

/// Whether a request is of the trace that is followed; makes it one where `begins` says so.
pub fn follow(
    request: &mut Request<Body>,
    mark: Mark,
    begins: impl FnOnce() -> bool,
    random: &mut impl Rng,
) -> bool {
    let known: Option<TraceIds> = request.extensions().get().copied();
    let place = ids(known, request.headers());
    let Some(place) = place else {
        if !begins() {
            return false;
        }
        let mut trace = [0; 16];
        let rest = random.random::<[u8; 8]>();
        let all = mark.into_iter().chain(rest);
        trace.iter_mut().zip(all).for_each(|(place, byte)| *place = byte);
        enter(request, trace, None, random);
        return true;
    };
    if place.trace.starts_with(&mark) {
        // Its proxies nest by ids of their own, unless the proxy gives it one anyway.
        if known.is_none() && !place.is_sampled {
            enter(request, place.trace, place.parent, random);
        }
        return true;
    }
    if has_mark(request.headers(), mark) {
        return true;
    }
    // The trace is the application's own, and stays so.
    let marked = begins();
    if marked {
        add_mark(request.headers_mut(), mark);
    }
    marked
}

/// Whether a request that is over is of the trace.
pub fn is_followed(record: &CallRecord<'_>, follow: Follow) -> bool {
    let Some(place) = place_of(record) else { return false };
    match follow {
        Follow::Trace(trace) => place.trace == trace,
        Follow::Mark(mark) => {
            let headers = record.head.headers.as_ref();
            place.trace.starts_with(&mark) || headers.is_some_and(|all| has_mark(all, mark))
        }
    }
}

/// As it is told.
pub fn told(record: &CallRecord<'_>) -> Option<wire::TraceIds> {
    place_of(record).map(|Place { trace, span, parent, .. }| wire::TraceIds {
        trace: trace.to_vec(),
        span: span.map(|span| span.to_vec()).unwrap_or_default(),
        parent: parent.map(|parent| parent.to_vec()).unwrap_or_default(),
    })
}

fn place_of(record: &CallRecord<'_>) -> Option<Place> {
    let headers = record.head.headers.as_ref();
    ids(record.head.trace, headers.unwrap_or(&HeaderMap::new()))
}

/// Gives the request this proxy's part of a trace, in its headers too.
fn enter(
    request: &mut Request<Body>,
    trace: [u8; 16],
    parent: Option<[u8; 8]>,
    random: &mut impl Rng,
) {
    // All zero means none: once in 2^64.
    let span = Some(random.random::<[u8; 8]>()).filter(|span| *span != [0; 8]).unwrap_or([1; 8]);
    let text = format!("00-{}-{}-00", hex(&trace), hex(&span));
    if let Ok(value) = HeaderValue::from_str(&text) {
        let headers = request.headers_mut();
        headers.insert(TRACEPARENT, value);
        if parent.is_none() {
            // It was of no trace.
            headers.remove(TRACESTATE);
        }
        request.extensions_mut().insert(TraceIds { trace, span, parent, is_sampled: false });
    }
}

/// `00-TRACE-PARENT-FLAGS` and what later versions append. Source: W3C Trace Context, section 3.2.2.
fn read(headers: &HeaderMap) -> Option<Place> {
    let mut all = headers.get_all(TRACEPARENT).iter();
    let (Some(only), None) = (all.next(), all.next()) else { return None };
    let mut parts = only.to_str().ok()?.trim().split('-');
    let version: [u8; 1] = bytes(parts.next()?)?;
    let (trace, parent): ([u8; 16], [u8; 8]) = (bytes(parts.next()?)?, bytes(parts.next()?)?);
    let [flags]: [u8; 1] = bytes(parts.next()?)?;
    let has_more = parts.next().is_some();
    let is_bad = version == [0xff] || (version == [0] && has_more);
    if is_bad || trace == [0; 16] || parent == [0; 8] {
        return None;
    }
    Some(Place { trace, span: None, parent: Some(parent), is_sampled: flags & 1 == 1 })
}

/// In lower case, of just this length.
fn bytes<const LENGTH: usize>(text: &str) -> Option<[u8; LENGTH]> {
    let digits = text.as_bytes();
    if digits.len() != LENGTH * 2 {
        return None;
    }
    let mut bytes = [0; LENGTH];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        for digit in pair {
            let value = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return None,
            };
            *byte = *byte << 4 | value;
        }
    }
    Some(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn has_mark(headers: &HeaderMap, mark: Mark) -> bool {
    let wanted = member(mark);
    let all = headers.get_all(TRACESTATE).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|list| list.split(',')).any(|one| one.trim() == wanted)
}

/// In front, where whoever changes the list puts its own; the last goes if there is no room.
/// Source: W3C Trace Context, sections 3.3.1 and 3.5.
fn add_mark(headers: &mut HeaderMap, mark: Mark) {
    let others = headers.get_all(TRACESTATE).iter().filter_map(|value| value.to_str().ok());
    let others = others.flat_map(|list| list.split(',')).map(str::trim);
    let others = others.filter(|one| !one.is_empty() && !one.starts_with(MEMBER));
    let mut members = vec![member(mark)];
    members.extend(others.take(MEMBERS_LIMIT - 1).map(ToOwned::to_owned));
    if let Ok(value) = HeaderValue::from_str(&members.join(",")) {
        headers.insert(TRACESTATE, value);
    }
}

fn member(mark: Mark) -> String {
    format!("{MEMBER}{}", hex(&mark))
}

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// The mesh's own member of `tracestate`.
const MEMBER: &str = "heddle=";
/// Source: W3C Trace Context, section 3.3.1.1.
const MEMBERS_LIMIT: usize = 32;

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    const MARK: Mark = [0xab; 8];
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const PARENT: &str = "b7ad6b7169203331";

    fn request(headers: &[(&'static str, &str)]) -> Request<Body> {
        let mut request = Request::new(Body::empty());
        for (name, value) in headers {
            request.headers_mut().append(*name, HeaderValue::from_str(value).unwrap());
        }
        request
    }

    fn text(request: &Request<Body>, name: HeaderName) -> String {
        let value = request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        value.unwrap_or_default()
    }

    fn followed(request: &mut Request<Body>, begins: bool) -> bool {
        follow(request, MARK, || begins, &mut SmallRng::seed_from_u64(7))
    }

    #[test]
    fn a_request_of_no_trace_is_put_into_one_where_that_is_wanted() {
        let mut bare = request(&[]);
        assert!(!followed(&mut bare, false));
        assert_eq!(text(&bare, TRACEPARENT), "");
        // What is not understood begins anew.
        for headers in [
            &[][..],
            &[("traceparent", "00-xyz"), ("tracestate", "a=1")],
            &[("traceparent", "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")],
        ] {
            let mut request = request(headers);
            assert!(followed(&mut request, true), "{headers:?}");
            let told = text(&request, TRACEPARENT);
            assert!(told.starts_with("00-abababababababab") && told.ends_with("-00"), "{told}");
            let ids: TraceIds = *request.extensions().get().unwrap();
            assert_eq!((ids.parent, ids.is_sampled), (None, false));
            assert_eq!(told, format!("00-{}-{}-00", hex(&ids.trace), hex(&ids.span)));
            assert_eq!(text(&request, TRACESTATE), "");
        }
    }

    #[test]
    fn hops_of_a_followed_trace_nest() {
        let mut first = request(&[]);
        assert!(followed(&mut first, true));
        let outer: TraceIds = *first.extensions().get().unwrap();
        let header = text(&first, TRACEPARENT);
        let mut second = request(&[("traceparent", &header)]);
        assert!(followed(&mut second, false), "whoever follows finds it");
        let inner: TraceIds = *second.extensions().get().unwrap();
        assert_eq!((inner.trace, inner.parent), (outer.trace, Some(outer.span)));
    }

    #[test]
    fn a_trace_of_the_applications_own_is_kept_and_marked() {
        let header = format!("00-{TRACE}-{PARENT}-01");
        let mut unmarked = request(&[("traceparent", &header)]);
        assert!(!followed(&mut unmarked, false));
        let mut marked = request(&[("traceparent", &header), ("tracestate", "a=1, b=2")]);
        assert!(followed(&mut marked, true));
        assert_eq!(text(&marked, TRACEPARENT), header);
        assert_eq!(text(&marked, TRACESTATE), "heddle=abababababababab,a=1,b=2");
        assert!(marked.extensions().get::<TraceIds>().is_none());
        let state = text(&marked, TRACESTATE);
        let mut passed_on = request(&[("traceparent", &header), ("tracestate", &state)]);
        assert!(followed(&mut passed_on, false));
        let other = follow(&mut passed_on, [1; 8], || false, &mut SmallRng::seed_from_u64(7));
        assert!(!other, "another tap's mark");
    }

    #[test]
    fn a_full_list_keeps_its_first_members() {
        let full: Vec<String> = (0..32).map(|number| format!("k{number}=1")).collect();
        let header = format!("00-{TRACE}-{PARENT}-00");
        let mut request = request(&[("traceparent", &header), ("tracestate", &full.join(","))]);
        assert!(followed(&mut request, true));
        let members = text(&request, TRACESTATE);
        let members: Vec<&str> = members.split(',').collect();
        assert_eq!(members.len(), 32);
        assert_eq!(members.last(), Some(&"k30=1"));
    }

    #[test]
    fn what_is_no_trace_is_none() {
        let good = format!("00-{TRACE}-{PARENT}-01");
        assert!(read(request(&[("traceparent", &good)]).headers()).unwrap().is_sampled);
        let later = format!("01-{TRACE}-{PARENT}-00-more");
        assert!(!read(request(&[("traceparent", &later)]).headers()).unwrap().is_sampled);
        let zero_trace = format!("00-{}-{PARENT}-01", "0".repeat(32));
        let zero_parent = format!("00-{TRACE}-{}-01", "0".repeat(16));
        for (case, headers) in [
            ("none", vec![]),
            ("empty", vec![("traceparent", "")]),
            (
                "upper case",
                vec![("traceparent", "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01")],
            ),
            ("no trace", vec![("traceparent", zero_trace.as_str())]),
            ("no parent", vec![("traceparent", zero_parent.as_str())]),
            (
                "more than there is",
                vec![("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x")],
            ),
            ("too short", vec![("traceparent", "00-0af7-b7ad6b7169203331-01")]),
            ("twice", vec![("traceparent", good.as_str()), ("traceparent", good.as_str())]),
        ] {
            assert_eq!(read(request(&headers).headers()), None, "case: {case}");
        }
    }
}
