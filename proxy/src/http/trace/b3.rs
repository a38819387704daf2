//! B3, as Zipkin's libraries write it: in one header, or in several.
//!
//! Source: openzipkin's "b3-propagation".

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::http::trace::{Found, Parent, span_id, trace_id};

/// How B3 came in, and goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `b3: trace-span-sampled-parent`.
    Single,
    /// `x-b3-traceid` and so on.
    Several,
}

/// What B3 says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// Where the request is; `None`: only what is decided is said.
    pub place: Option<Place>,
    /// What is decided; `None`: nothing yet.
    pub decision: Option<Decision>,
}

/// Where a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// In its trace.
    pub parent: Parent,
    /// The trace's id is written in 16 digits.
    pub is_short: bool,
}

/// Whether a trace is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is not.
    Deny,
    /// It is.
    Accept,
    /// It is, whatever a sampler says.
    Debug,
}

impl Decision {
    /// Whether it is recorded.
    pub fn is_sampled(self) -> bool {
        match self {
            Self::Deny => false,
            Self::Accept | Self::Debug => true,
        }
    }
}

/// The one header.
pub const SINGLE: HeaderName = HeaderName::from_static("b3");
/// All of them.
pub const ALL: [HeaderName; 6] = [SINGLE, TRACE, SPAN, PARENT, SAMPLED, FLAGS];
const TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");
const SPAN: HeaderName = HeaderName::from_static("x-b3-spanid");
const PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");

/// In which styles there is anything of B3, the one header first.
pub fn styles(headers: &HeaderMap) -> [Option<Style>; 2] {
    let several = [TRACE, SPAN, SAMPLED, FLAGS];
    [
        headers.contains_key(SINGLE).then_some(Style::Single),
        several.iter().any(|name| headers.contains_key(name)).then_some(Style::Several),
    ]
}

/// What the headers say. The one goes before the several, as its specification wants it.
pub fn read(headers: &HeaderMap) -> Found<Said> {
    match styles(headers) {
        [Some(_), _] => match only(headers, &SINGLE) {
            Found::Here(value) => parse(value).map_or(Found::Broken, Found::Here),
            Found::Nothing | Found::Broken => Found::Broken,
        },
        [None, Some(_)] => read_several(headers).map_or(Found::Broken, Found::Here),
        [None, None] => Found::Nothing,
    }
}

/// Reads `trace-span`, `trace-span-sampled`, `trace-span-sampled-parent`, or `sampled` alone.
pub fn parse(value: &[u8]) -> Option<Said> {
    let mut parts = value.split(|octet| *octet == b'-');
    let (first, second) = (parts.next()?, parts.next());
    let Some(span) = second else {
        return Some(Said { place: None, decision: Some(decision(first)?) });
    };
    let decision = match parts.next() {
        Some(text) => Some(decision(text)?),
        None => None,
    };
    if let Some(parent) = parts.next()
        && (parent.len() != SPAN_DIGITS || super::hexadecimal(parent).is_none())
    {
        return None;
    }
    if parts.next().is_some() {
        return None;
    }
    Some(Said { place: Some(place(first, span, decision)?), decision })
}

fn read_several(headers: &HeaderMap) -> Option<Said> {
    let text = |name: &HeaderName| match only(headers, name) {
        Found::Nothing => Ok(None),
        Found::Here(value) => Ok(Some(value)),
        Found::Broken => Err(()),
    };
    let [trace, span, sampled, flags] =
        [text(&TRACE).ok()?, text(&SPAN).ok()?, text(&SAMPLED).ok()?, text(&FLAGS).ok()?];
    let sampled = match sampled {
        None => None,
        // As old libraries write it.
        Some(b"true") => Some(Decision::Accept),
        Some(b"false") => Some(Decision::Deny),
        Some(text) => Some(decision(text).filter(|decision| *decision != Decision::Debug)?),
    };
    // Debug implies the rest.
    let decision = if flags == Some(&b"1"[..]) { Some(Decision::Debug) } else { sampled };
    match (trace, span) {
        (Some(trace), Some(span)) => {
            Some(Said { place: Some(place(trace, span, decision)?), decision })
        }
        (None, None) => Some(Said { place: None, decision }),
        (Some(_), None) | (None, Some(_)) => None,
    }
}

fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Found<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Found::Nothing,
        (Some(value), None) => Found::Here(value.as_bytes().trim_ascii()),
        (Some(_), Some(_)) => Found::Broken,
    }
}

fn place(trace: &[u8], span: &[u8], decision: Option<Decision>) -> Option<Place> {
    let is_short = trace.len() == SHORT_TRACE_DIGITS;
    if (trace.len() != TRACE_DIGITS && !is_short) || span.len() != SPAN_DIGITS {
        return None;
    }
    let is_sampled = decision.map(Decision::is_sampled);
    let parent = Parent { trace: trace_id(trace)?, span: span_id(span)?, is_sampled };
    Some(Place { parent, is_short })
}

fn decision(text: &[u8]) -> Option<Decision> {
    match text {
        b"0" => Some(Decision::Deny),
        b"1" => Some(Decision::Accept),
        b"d" => Some(Decision::Debug),
        _ => None,
    }
}

/// What is written: where the request is now, and what it came from.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    /// Where it is.
    pub place: Place,
    /// The span that it came from.
    pub from: Option<std::num::NonZeroU64>,
    /// What is decided.
    pub decision: Decision,
}

/// Writes it in one style, in place of what was there.
pub fn write(headers: &mut HeaderMap, style: Style, written: &Written) {
    let Written { place: Place { parent, is_short }, from, decision } = written;
    let trace = match is_short {
        true => format!("{:016x}", parent.trace),
        false => format!("{:032x}", parent.trace),
    };
    let span = format!("{:016x}", parent.span);
    let from = from.map(|from| format!("{from:016x}"));
    let digit = match decision {
        Decision::Deny => "0",
        Decision::Accept => "1",
        Decision::Debug => "d",
    };
    match style {
        Style::Single => {
            let parent = from.map_or_else(String::new, |from| format!("-{from}"));
            set(headers, SINGLE, Some(format!("{trace}-{span}-{digit}{parent}")));
        }
        Style::Several => {
            let is_debug = *decision == Decision::Debug;
            set(headers, TRACE, Some(trace));
            set(headers, SPAN, Some(span));
            set(headers, PARENT, from);
            set(headers, SAMPLED, (!is_debug).then(|| digit.to_owned()));
            set(headers, FLAGS, is_debug.then(|| "1".to_owned()));
        }
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: Option<String>) {
    match value.and_then(|value| HeaderValue::try_from(value).ok()) {
        Some(value) => {
            headers.insert(name, value);
        }
        None => {
            headers.remove(name);
        }
    }
}

const TRACE_DIGITS: usize = 32;
/// Of traces with half as many bits.
const SHORT_TRACE_DIGITS: usize = 16;
const SPAN_DIGITS: usize = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    const TRACE_ID: &str = "80f198ee56343ba864fe8b2a57d3eff7";
    const SPAN_ID: &str = "e457b5a2e4d86bd1";

    #[test]
    fn b3_in_one_header_is_read_as_its_specification_has_it() {
        use Decision::{Accept, Debug, Deny};
        let ids = format!("{TRACE_ID}-{SPAN_ID}");
        for (case, value, expected) in [
            ("sampled", format!("{ids}-1"), Some((true, Some(Accept)))),
            ("not sampled", format!("{ids}-0"), Some((true, Some(Deny)))),
            ("debug", format!("{ids}-d"), Some((true, Some(Debug)))),
            ("not decided", ids.clone(), Some((true, None))),
            ("with a parent", format!("{ids}-1-05e3ac9a4f6e3b90"), Some((true, Some(Accept)))),
            ("a short trace", format!("{SPAN_ID}-{SPAN_ID}-1"), Some((true, Some(Accept)))),
            ("the decision alone", "0".to_owned(), Some((false, Some(Deny)))),
            ("another decision alone", "d".to_owned(), Some((false, Some(Debug)))),
            ("a decision that is none", format!("{ids}-2"), None),
            ("a word", "true".to_owned(), None),
            ("upper case", ids.to_uppercase(), None),
            ("a trace of zeros", format!("{:032}-{SPAN_ID}-1", 0), None),
            ("a span of zeros", format!("{TRACE_ID}-{:016}-1", 0), None),
            ("a trace of another length", format!("{TRACE_ID}0-{SPAN_ID}-1"), None),
            ("a parent that is none", format!("{ids}-1-xyz"), None),
            ("too many parts", format!("{ids}-1-05e3ac9a4f6e3b90-1"), None),
            ("empty", String::new(), None),
        ] {
            let said = parse(value.as_bytes());
            let said = said.map(|said| (said.place.is_some(), said.decision));
            assert_eq!(said, expected, "case: {case}");
        }
    }

    #[test]
    fn b3_in_several_headers_is_read_as_its_specification_has_it() {
        let (trace, span) = (("x-b3-traceid", TRACE_ID), ("x-b3-spanid", SPAN_ID));
        for (case, pairs, expected) in [
            ("sampled", vec![trace, span, ("x-b3-sampled", "1")], Some((true, Some(true)))),
            ("an old word", vec![trace, span, ("x-b3-sampled", "true")], Some((true, Some(true)))),
            ("not decided", vec![trace, span], Some((true, None))),
            ("debug", vec![trace, span, ("x-b3-flags", "1")], Some((true, Some(true)))),
            (
                "flags that are not debug",
                vec![trace, span, ("x-b3-flags", "0")],
                Some((true, None)),
            ),
            ("the decision alone", vec![("x-b3-sampled", "0")], Some((false, Some(false)))),
            ("no span", vec![trace], None),
            ("no trace", vec![span], None),
            ("a decision that is none", vec![trace, span, ("x-b3-sampled", "d")], None),
            ("a trace twice", vec![trace, trace, span], None),
        ] {
            let said = match read(&headers(&pairs)) {
                Found::Here(said) => Some(said),
                Found::Broken => None,
                Found::Nothing => panic!("case: {case}"),
            };
            let said =
                said.map(|said| (said.place.is_some(), said.decision.map(Decision::is_sampled)));
            assert_eq!(said, expected, "case: {case}");
        }
        assert_eq!(read(&HeaderMap::new()), Found::Nothing);
        let both = headers(&[("b3", "0"), trace, span, ("x-b3-sampled", "1")]);
        let Found::Here(said) = read(&both) else { panic!("{both:?}") };
        assert_eq!(said.decision, Some(Decision::Deny), "the one header goes before");
        assert_eq!(read(&headers(&[("b3", "0"), ("b3", "0")])), Found::Broken);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_alike_in_both_styles(
            trace in 1_u128.., span in 1_u64.., from: u64, is_short: bool, number in 0_usize..3,
        ) {
            let trace = if is_short { (trace & u128::from(u64::MAX)).max(1) } else { trace };
            let decision = [Decision::Deny, Decision::Accept, Decision::Debug][number];
            let parent = Parent {
                trace: trace.try_into().unwrap(),
                span: span.try_into().unwrap(),
                is_sampled: Some(decision.is_sampled()),
            };
            let place = Place { parent, is_short };
            let written = Written { place, from: from.try_into().ok(), decision };
            for style in [Style::Single, Style::Several] {
                let mut headers = HeaderMap::new();
                write(&mut headers, style, &written);
                let said = Said { place: Some(place), decision: Some(decision) };
                prop_assert_eq!(read(&headers), Found::Here(said));
            }
        }

        #[test]
        fn no_bytes_panic(value in proptest::collection::vec(proptest::sample::select(b"0-adx1 ".to_vec()), 0..80)) {
            let _ = parse(&value);
        }
    }
}
