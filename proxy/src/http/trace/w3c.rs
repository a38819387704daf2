//! W3C Trace Context, level 2: `traceparent` and `tracestate`.
//!
//! Source: W3C "Trace Context Level 2", sections 3.2 and 3.3; what a header that is there twice means,
//! from the working group's own tests: the trace begins anew.

use http::header::{GetAll, HeaderMap, HeaderName, HeaderValue};

use crate::http::trace::{Found, Parent, hexadecimal, span_id, trace_id};

/// Where the request is in its trace.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What others keep beside it.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// What `traceparent` says.
pub fn read(headers: &HeaderMap) -> Found<Parent> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    match (values.next(), values.next()) {
        (None, _) => Found::Nothing,
        (Some(value), None) => parse(value.as_bytes()).map_or(Found::Broken, Found::Here),
        (Some(_), Some(_)) => Found::Broken,
    }
}

/// Reads `version-trace-parent-flags`. Of a version that is not known yet, what is known of it is read,
/// and it may go on after another dash.
pub fn parse(value: &[u8]) -> Option<Parent> {
    let value = trimmed(value);
    let version = hexadecimal(value.get(..2)?)?;
    let rest = value.get(LENGTH..)?;
    let fits = match version {
        0 => rest.is_empty(),
        FORBIDDEN_VERSION => false,
        _ => rest.is_empty() || rest.first() == Some(&b'-'),
    };
    let has_dashes = [2, 35, 52].into_iter().all(|place| value.get(place) == Some(&b'-'));
    if !fits || !has_dashes {
        return None;
    }
    let flags = hexadecimal(value.get(53..LENGTH)?)?;
    Some(Parent {
        trace: trace_id(value.get(3..35)?)?,
        span: span_id(value.get(36..52)?)?,
        is_sampled: Some(flags & SAMPLED != 0),
    })
}

/// As version 00 has it. Of the flags, a trace's id is only said to be random by whoever made it so.
pub fn written(parent: &Parent, is_random: bool) -> Option<HeaderValue> {
    let sampled = if parent.is_sampled == Some(true) { SAMPLED } else { 0 };
    let random = if is_random { RANDOM } else { 0 };
    let (trace, span, flags) = (parent.trace, parent.span, sampled | random);
    HeaderValue::try_from(format!("00-{trace:032x}-{span:016x}-{flags:02x}")).ok()
}

/// Whether a `traceparent` that can be read says that the id of its trace is random.
pub fn says_random(value: &[u8]) -> bool {
    let flags = trimmed(value).get(53..LENGTH).and_then(hexadecimal);
    flags.is_some_and(|flags| flags & RANDOM != 0)
}

/// Whether what `tracestate` says may be passed on; that it says nothing may.
pub fn is_good_state(headers: &HeaderMap) -> bool {
    let mut count = 0_usize;
    members(&headers.get_all(TRACESTATE)).all(|member| {
        count += usize::from(!member.is_empty());
        // An empty member is allowed, and is none.
        count <= MEMBER_LIMIT && (member.is_empty() || is_good_member(member))
    })
}

/// What `tracestate` says, for a span, if it is good: members as they are, without what is empty. More than
/// 512 bytes is shortened as section 3.3.1.5 has it: long members go first, then the last ones.
pub fn state(headers: &HeaderMap) -> Option<Box<str>> {
    if !headers.contains_key(TRACESTATE) || !is_good_state(headers) {
        return None;
    }
    let values = headers.get_all(TRACESTATE);
    // Good members are ASCII.
    let mut kept: Vec<&str> =
        members(&values).filter_map(|member| str::from_utf8(member).ok()).collect();
    kept.retain(|member| !member.is_empty());
    let length = |kept: &[&str]| kept.iter().map(|member| member.len() + 1).sum::<usize>();
    // The last one is followed by no comma.
    while length(&kept) > STATE_LIMIT_BYTES + 1 {
        let long = kept.iter().rposition(|member| member.len() > LONG_MEMBER_BYTES);
        kept.remove(long.unwrap_or(kept.len() - 1));
    }
    (!kept.is_empty()).then(|| kept.join(",").into())
}

fn members<'a>(values: &'a GetAll<'a, HeaderValue>) -> impl Iterator<Item = &'a [u8]> {
    let parts = values.iter().flat_map(|value| value.as_bytes().split(|octet| *octet == b','));
    parts.map(trimmed)
}

fn is_good_member(member: &[u8]) -> bool {
    let Some(middle) = member.iter().position(|octet| *octet == b'=') else { return false };
    let (key, value) = member.split_at(middle);
    let value = value.get(1..).unwrap_or_default();
    let begins = key.first().is_some_and(|octet| is_word(*octet));
    let in_key = |octet: &u8| is_word(*octet) || b"_-*/@".contains(octet);
    let in_value = |octet: &u8| matches!(octet, 0x20..=0x7e) && !b",=".contains(octet);
    let is_key = begins && key.len() <= PART_LIMIT_BYTES && key.iter().all(in_key);
    let is_value = !value.is_empty() && value.len() <= PART_LIMIT_BYTES;
    is_key && is_value && value.iter().all(in_value)
}

fn is_word(octet: u8) -> bool {
    octet.is_ascii_lowercase() || octet.is_ascii_digit()
}

/// Without white space around it (RFC 9110, section 5.5): HTTP/2 may carry it.
fn trimmed(value: &[u8]) -> &[u8] {
    let is_space = |octet: &u8| matches!(octet, b' ' | b'\t');
    let begin = value.iter().position(|octet| !is_space(octet)).unwrap_or(value.len());
    let end = value.iter().rposition(|octet| !is_space(octet)).map_or(begin, |last| last + 1);
    value.get(begin..end).unwrap_or_default()
}

/// Of version 00.
const LENGTH: usize = 55;
const FORBIDDEN_VERSION: u128 = 0xff;
const SAMPLED: u128 = 1;
const RANDOM: u128 = 2;
/// Of a list, section 3.3.1.1.
const MEMBER_LIMIT: usize = 32;
/// Of a key, or a value; sections 3.3.1.3.1 and 3.3.1.3.2.
const PART_LIMIT_BYTES: usize = 256;

/// How much of a list is kept, section 3.3.1.5; there it is the least that is to be passed on.
const STATE_LIMIT_BYTES: usize = 512;
/// What is longer goes first, if there is too much; the same section.
const LONG_MEMBER_BYTES: usize = 128;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(name: &HeaderName, values: &[&str]) -> HeaderMap {
        let pair = |value: &&str| (name.clone(), HeaderValue::from_str(value).unwrap());
        values.iter().map(pair).collect()
    }

    #[test]
    fn a_traceparent_is_read_as_the_specification_has_it() {
        let ids = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";
        for (case, value, sampled) in [
            ("sampled", GOOD.to_owned(), Some(true)),
            ("not sampled", format!("00-{ids}-00"), Some(false)),
            ("random, too", format!("00-{ids}-03"), Some(true)),
            ("flags that nobody knows", format!("00-{ids}-fe"), Some(false)),
            ("white space around", format!(" \t{GOOD} "), Some(true)),
            ("a later version", format!("01-{ids}-01"), Some(true)),
            ("a later version with more", format!("cc-{ids}-01-what-the-future"), Some(true)),
            ("a later version with a dash", format!("cc-{ids}-01-"), Some(true)),
            ("a later version with more flags", format!("cc-{ids}-01.what"), None),
            ("more than version 00 has", format!("{GOOD}-x"), None),
            ("a dash after version 00", format!("{GOOD}-"), None),
            ("the forbidden version", format!("ff-{ids}-01"), None),
            ("upper case in the version", format!("0A-{ids}-01"), None),
            ("upper case in the trace", GOOD.replace('b', "B"), None),
            ("upper case in flags", format!("00-{ids}-0A"), None),
            ("a trace of zeros", format!("00-{:032}-00f067aa0ba902b7-01", 0), None),
            ("a span of zeros", format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{:016}-01", 0), None),
            ("no flags", format!("00-{ids}"), None),
            ("flags too short", format!("00-{ids}-1"), None),
            ("a version too short", format!("0-{ids}-011"), None),
            ("no hexadecimal trace", GOOD.replace("4bf9", "4bg9"), None),
            ("no hexadecimal version", format!(".0-{ids}-01"), None),
            ("underscores", GOOD.replace('-', "_"), None),
            ("a sign", format!("+1-{ids}-01"), None),
            ("empty", String::new(), None),
        ] {
            let parent = parse(value.as_bytes());
            assert_eq!(parent.and_then(|parent| parent.is_sampled), sampled, "case: {case}");
            if let Some(parent) = parent {
                assert_eq!(format!("{:032x}-{:016x}", parent.trace, parent.span), ids);
            }
        }
    }

    #[test]
    fn a_traceparent_that_is_there_twice_is_broken() {
        assert_eq!(read(&HeaderMap::new()), Found::Nothing);
        assert!(matches!(read(&headers(&TRACEPARENT, &[GOOD])), Found::Here(_)));
        assert_eq!(read(&headers(&TRACEPARENT, &[GOOD, GOOD])), Found::Broken);
        assert_eq!(read(&headers(&TRACEPARENT, &[""])), Found::Broken);
    }

    #[test]
    fn a_tracestate_is_passed_on_if_each_member_is_good() {
        let many = |count| (0..count).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
        let long = |key: usize, value: usize| format!("{}={}", "a".repeat(key), "v".repeat(value));
        for (case, values, expected) in [
            ("none", vec![], true),
            ("empty", vec![String::new()], true),
            ("one", vec!["a=1".to_owned()], true),
            ("several in several headers", vec!["a=1, b=2".into(), "c=3".into()], true),
            ("white space and empty members", vec![" a=1\t,, b=2 ,".into()], true),
            ("a key of a tenant", vec!["0tenant@system=x y".into()], true),
            ("every sign of a key", vec!["a_-*/@9=1".into()], true),
            ("the same key twice", vec!["a=1,a=2".into()], true),
            ("32 members", vec![many(32)], true),
            ("33 members", vec![many(20), many(13)], false),
            ("the longest", vec![long(256, 256)], true),
            ("a key too long", vec![long(257, 1)], false),
            ("a value too long", vec![long(1, 257)], false),
            ("no value", vec!["a=".into()], false),
            ("no key", vec!["=1".into()], false),
            ("no sign between", vec!["a".into()], false),
            ("upper case in a key", vec!["A=1".into()], false),
            ("a key that begins with a sign", vec!["_a=1".into()], false),
            ("a space in a key", vec!["a =1".into()], false),
            ("a sign in a value", vec!["a=1=2".into()], false),
            ("a tabulator in a value", vec!["a=1\t2".into()], false),
        ] {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            let state = headers(&TRACESTATE, &values);
            assert_eq!(is_good_state(&state), expected, "case: {case}");
        }
    }

    #[test]
    fn a_state_that_is_too_long_for_a_span_loses_long_members_and_then_the_last() {
        let member = |key: char, length: usize| format!("{key}={}", "v".repeat(length - 2));
        let short = |keys: &str| keys.chars().map(|key| member(key, 100)).collect::<Vec<_>>();
        let joined = |all: &[Vec<String>]| all.concat().join(",");
        for (case, values, expected) in [
            ("nothing", vec![], None),
            ("nothing but commas", vec![" , ,".to_owned()], None),
            ("one", vec!["a=1".into()], Some("a=1".to_owned())),
            ("several", vec!["a=1 ,, b=2".into(), "c=x y".into()], Some("a=1,b=2,c=x y".into())),
            ("broken", vec!["a=1,b".into()], None),
            ("as long as it may be", vec![member('a', 200), member('b', 256), member('c', 54)], {
                Some([member('a', 200), member('b', 256), member('c', 54)].join(","))
            }),
            ("one more", vec![joined(&[short("abcde"), vec![member('f', 8)]])], {
                Some(joined(&[short("abcde")]))
            }),
            ("a long one first", vec![joined(&[vec![member('l', 129)], short("abcd")])], {
                Some(joined(&[short("abcd")]))
            }),
            (
                "the last of the long ones",
                { vec![joined(&[vec![member('l', 129), member('m', 129)], short("abc")])] },
                Some(joined(&[vec![member('l', 129)], short("abc")])),
            ),
            (
                "not long enough to go first",
                vec![joined(&[vec![member('l', 128)], short("abcd")])],
                { Some(joined(&[vec![member('l', 128)], short("abc")])) },
            ),
        ] {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            let state = state(&headers(&TRACESTATE, &values));
            assert_eq!(state.as_deref(), expected.as_deref(), "case: {case}");
        }
    }

    proptest! {
        #[test]
        fn a_state_is_good_bounded_and_stays_as_it_is(
            values in proptest::collection::vec("([a-z]{1,3}=[ -~]{1,140}[ ,]{0,2}){0,12}", 0..3)
        ) {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            if let Some(kept) = state(&headers(&TRACESTATE, &values)) {
                prop_assert!(kept.len() <= STATE_LIMIT_BYTES);
                let again = headers(&TRACESTATE, &[&kept]);
                prop_assert!(is_good_state(&again));
                prop_assert_eq!(state(&again), Some(kept));
            }
        }

        #[test]
        fn what_is_written_is_read_alike(trace in 1_u128.., span in 1_u64.., sampled: bool, random: bool) {
            let parent = Parent {
                trace: trace.try_into().unwrap(),
                span: span.try_into().unwrap(),
                is_sampled: Some(sampled),
            };
            let value = written(&parent, random).unwrap();
            prop_assert_eq!(parse(value.as_bytes()), Some(parent));
            prop_assert_eq!(says_random(value.as_bytes()), random);
        }

        #[test]
        fn no_bytes_panic_and_what_is_taken_has_its_length(
            value in proptest::collection::vec(prop_oneof![any::<u8>(), proptest::sample::select(b"0-af \t".to_vec())], 0..80)
        ) {
            if parse(&value).is_some() {
                prop_assert!(value.len() >= LENGTH);
            }
            let _ = says_random(&value);
            let _ = is_good_member(&value);
        }

        #[test]
        fn a_good_one_with_one_octet_changed_is_another_or_none(place in 0_usize..55, octet: u8) {
            let mut value = GOOD.as_bytes().to_vec();
            let before = value[place];
            value[place] = octet;
            let parsed = parse(&value);
            if before == octet {
                prop_assert_eq!(parsed, parse(GOOD.as_bytes()));
            } else if [2, 35, 52].contains(&place) {
                prop_assert_eq!(parsed, None);
            } else if parsed.is_some() {
                prop_assert!(octet.is_ascii_digit() || (b'a'..=b'f').contains(&octet));
            }
        }
    }
}
