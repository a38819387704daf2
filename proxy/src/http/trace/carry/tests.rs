//! What goes in, what goes out.

use http::header::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";
const FRESH_TRACE: &str = "0000000000000000000000000000abcd";
const FRESH_SPAN: &str = "00000000000000ef";

fn fresh() -> Fresh {
    Fresh { trace: NonZeroU128::new(0xabcd).unwrap(), span: NonZeroU64::new(0xef).unwrap() }
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let value = HeaderValue::from_str(value).unwrap();
        headers.append(name.parse::<HeaderName>().unwrap(), value);
    }
    headers
}

/// The headers that go out, in order, and whether the request is recorded.
fn through(
    pairs: &[(&str, &str)],
    sampler: Sampler,
    may_force: bool,
) -> (Vec<(String, String)>, Option<bool>) {
    let mut headers = headers(pairs);
    let incoming = read(&headers);
    let carried = decide(&incoming, &sampler, fresh, || may_force);
    if let Some(carried) = &carried {
        carried.write(&mut headers, &incoming);
    }
    let out =
        headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().into()));
    let mut out: Vec<(String, String)> = out.collect();
    out.sort();
    (out, carried.map(|carried| carried.is_sampled))
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut owned: Vec<_> =
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    owned.sort();
    owned
}

fn parent_or(ratio: f64) -> Sampler {
    Sampler { follows_parent: true, ratio }
}

#[test]
fn a_trace_that_is_recorded_goes_on_with_a_span_of_this_hop() {
    let w3c = format!("00-{TRACE}-{SPAN}-01");
    let on = format!("00-{TRACE}-{FRESH_SPAN}-01");
    let single = format!("{TRACE}-{SPAN}-1-05e3ac9a4f6e3b90");
    let single_on = format!("{TRACE}-{FRESH_SPAN}-1-{SPAN}");
    let short = format!("{SPAN}-{SPAN}-d");
    let short_on = format!("{SPAN}-{FRESH_SPAN}-d-{SPAN}");
    let short_w3c = format!("00-{:0>32}-{FRESH_SPAN}-01", SPAN);
    let (random, random_on) =
        (format!("00-{TRACE}-{SPAN}-03"), format!("00-{TRACE}-{FRESH_SPAN}-03"));
    let later = format!("42-{TRACE}-{SPAN}-01-more");
    for (case, before, after) in [
        ("W3C", vec![("traceparent", &*w3c), ("x", "1")], vec![("traceparent", &*on), ("x", "1")]),
        ("a random one", vec![("traceparent", &*random)], vec![("traceparent", &*random_on)]),
        ("a later version", vec![("traceparent", &*later)], vec![("traceparent", &*on)]),
        (
            "with what others keep",
            vec![("traceparent", &*w3c), ("tracestate", "a=1"), ("tracestate", "b=2")],
            vec![("traceparent", &*on), ("tracestate", "a=1"), ("tracestate", "b=2")],
        ),
        (
            "with what nobody can read",
            vec![("traceparent", &*w3c), ("tracestate", "a=1,b")],
            vec![("traceparent", &*on)],
        ),
        ("B3", vec![("b3", &*single)], vec![("traceparent", &*on), ("b3", &*single_on)]),
        ("short", vec![("b3", &*short)], vec![("traceparent", &*short_w3c), ("b3", &*short_on)]),
        (
            "B3 in several headers",
            vec![("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN), ("x-b3-sampled", "1")],
            vec![
                ("traceparent", &*on),
                ("x-b3-traceid", TRACE),
                ("x-b3-spanid", FRESH_SPAN),
                ("x-b3-parentspanid", SPAN),
                ("x-b3-sampled", "1"),
            ],
        ),
        (
            "both, which differ",
            vec![("traceparent", &*w3c), ("b3", "0"), ("tracestate", "a=1")],
            vec![("traceparent", &*on), ("b3", &*single_on), ("tracestate", "a=1")],
        ),
        (
            "both, of which B3 is broken",
            vec![("traceparent", &*w3c), ("b3", "x")],
            vec![("traceparent", &*on), ("b3", &*single_on)],
        ),
        (
            "a state without its trace",
            vec![("b3", &*single), ("tracestate", "a=1")],
            vec![("traceparent", &*on), ("b3", &*single_on)],
        ),
    ] {
        let (out, sampled) = through(&before, parent_or(0.0), true);
        assert_eq!(out, owned(&after), "case: {case}");
        assert_eq!(sampled, Some(true), "case: {case}");
    }
}

#[test]
fn what_is_not_to_be_recorded_goes_on_untouched() {
    let w3c = format!("00-{TRACE}-{SPAN}-00");
    let b3 = format!("{TRACE}-{SPAN}-0");
    for (case, before) in [
        ("W3C", vec![("traceparent", &*w3c), ("tracestate", "broken")]),
        ("B3", vec![("b3", &*b3)]),
        ("B3's decision alone", vec![("b3", "0")]),
        ("in several headers", vec![("x-b3-sampled", "0")]),
    ] {
        for ratio in [0.0, 1.0] {
            let (out, sampled) = through(&before, parent_or(ratio), true);
            assert_eq!((out, sampled), (owned(&before), None), "case: {case}, {ratio}");
        }
    }
    let (out, sampled) = through(&[("a", "1")], parent_or(0.0), true);
    assert_eq!((out, sampled), (owned(&[("a", "1")]), None), "no trace, and none is begun");
}

#[test]
fn a_trace_begins_here_by_ratio_and_where_what_came_is_broken() {
    let begun = |flags: &str| format!("00-{FRESH_TRACE}-{FRESH_SPAN}-{flags}");
    let good = format!("00-{TRACE}-{SPAN}-01");
    let (yes, no) = (begun("03"), begun("02"));
    let b3_no = format!("{FRESH_TRACE}-{FRESH_SPAN}-0");
    for (case, before, ratio, after, sampled) in [
        ("none came", vec![], 1.0, vec![("traceparent", &*yes)], true),
        ("not this one", vec![], 1e-15, vec![("traceparent", &*no)], false),
        ("broken", vec![("traceparent", "x")], 0.0, vec![("traceparent", &*no)], false),
        (
            "broken, with a state",
            vec![("traceparent", "00-x"), ("tracestate", "a=1")],
            1.0,
            vec![("traceparent", &*yes)],
            true,
        ),
        (
            "twice",
            vec![("traceparent", &*good), ("traceparent", &*good)],
            1.0,
            vec![("traceparent", &*yes)],
            true,
        ),
        ("B3 broken", vec![("b3", "x")], 0.0, vec![("traceparent", &*no), ("b3", &*b3_no)], false),
        ("a state alone", vec![("tracestate", "a=1")], 1.0, vec![("traceparent", &*yes)], true),
    ] {
        let (out, is_sampled) = through(&before, parent_or(ratio), false);
        assert_eq!(out, owned(&after), "case: {case}");
        assert_eq!(is_sampled, Some(sampled), "case: {case}");
    }
    let decided = format!("{FRESH_TRACE}-{FRESH_SPAN}-1");
    let (out, sampled) = through(&[("b3", "1")], parent_or(0.0), true);
    assert_eq!(out, owned(&[("traceparent", &yes), ("b3", &decided)]));
    assert_eq!(sampled, Some(true), "B3's decision alone begins a trace");
}

#[test]
fn who_may_not_force_a_trace_has_it_go_on_unrecorded() {
    let always = Sampler { follows_parent: false, ratio: 1.0 };
    let w3c = format!("00-{TRACE}-{SPAN}-01");
    let unsampled = format!("00-{TRACE}-{SPAN}-00");
    let (b3, open) = (format!("{TRACE}-{SPAN}-d"), format!("{TRACE}-{SPAN}"));
    let on = format!("00-{TRACE}-{FRESH_SPAN}-00");
    let b3_on = format!("{TRACE}-{FRESH_SPAN}-0-{SPAN}");
    for (case, before, sampler, after) in [
        ("W3C", ("traceparent", &*w3c), parent_or(0.0), vec![("traceparent", &*on)]),
        ("B3's debug", ("b3", &*b3), parent_or(0.0), vec![("traceparent", &*on), ("b3", &*b3_on)]),
        (
            "by its number",
            ("b3", &*open),
            parent_or(1.0),
            vec![("traceparent", &*on), ("b3", &*b3_on)],
        ),
    ] {
        let (out, sampled) = through(&[before], sampler, false);
        assert_eq!((out, sampled), (owned(&after), Some(false)), "case: {case}");
    }
    let (out, sampled) = through(&[("traceparent", &unsampled)], always, false);
    assert_eq!((out, sampled), (owned(&[("traceparent", &unsampled)]), None));
    let (_, sampled) = through(&[("traceparent", &w3c)], Sampler { ratio: 0.0, ..always }, true);
    assert_eq!(sampled, Some(false), "a sampler that follows nobody");
}

proptest! {
    /// Whatever comes: what goes out can be read, by us too, and says what was decided.
    #[test]
    fn what_goes_out_is_one_good_trace(
        parents in proptest::collection::vec("(00-[0-9a-f]{32}-[0-9a-f]{16}-0[0-3]|[0-9a-fA-F-]{0,60})", 0..3),
        states in proptest::collection::vec("[a-z=, ]{0,12}", 0..2),
        b3s in proptest::collection::vec("(([0-9a-f]{16}){1,2}-[0-9a-f]{16}(-[01d])?|[01dx]|)", 0..2),
        several in proptest::collection::vec(("x-b3-(traceid|spanid|sampled|flags)", "([0-9a-f]{16}){1,2}|[01]"), 0..4),
        ratio in prop_oneof![Just(0.0), Just(1.0), Just(0.5)],
        follows_parent: bool,
        may_force: bool,
    ) {
        let named = |name: &'static str, values: &[String]| {
            values.iter().map(|value| (name.to_owned(), value.clone())).collect::<Vec<_>>()
        };
        let mut pairs = named("traceparent", &parents);
        pairs.extend(named("tracestate", &states));
        pairs.extend(named("b3", &b3s));
        pairs.extend(several);
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let mut headers = headers(&pairs);
        let before = headers.clone();
        let incoming = read(&headers);
        let sampler = Sampler { follows_parent, ratio };
        let Some(carried) = decide(&incoming, &sampler, fresh, || may_force) else {
            prop_assert_eq!(headers, before);
            return Ok(());
        };
        carried.write(&mut headers, &incoming);
        let again = read(&headers);
        let expected = Parent {
            trace: carried.trace, span: carried.span, is_sampled: Some(carried.is_sampled),
        };
        prop_assert_eq!(again.parent, Some(expected));
        prop_assert!(w3c::is_good_state(&headers));
        prop_assert_eq!(again.styles, incoming.styles);
        headers.remove(w3c::TRACEPARENT);
        if incoming.styles != [None, None] {
            prop_assert_eq!(read(&headers).parent, Some(expected), "B3 says the same");
        }
        prop_assert_eq!(carried.from, incoming.parent.map(|parent| parent.span));
        if !may_force && follows_parent && carried.is_sampled {
            prop_assert!(ratio > 0.0 && incoming.parent.is_none());
        }
    }
}
