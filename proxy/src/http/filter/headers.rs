//! Changes of headers. Compiling refuses those that would change how a message is framed or where
//! its connection goes. Source: Gateway API v1, HTTPHeaderFilter.

use heddle_model::filter::{HeaderChange, NamedValue};
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::uri::Authority;

use crate::http::filter::Unservable;
use crate::http::gate::fields;
use crate::http::gate::request::check_authority;

/// A change whose names and values are valid.
#[derive(Clone, Debug)]
pub(super) struct CompiledHeaders {
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
    remove: Vec<HeaderName>,
}

impl CompiledHeaders {
    /// First what is set, then what is added, then what is removed.
    pub(super) fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
        for name in &self.remove {
            headers.remove(name);
        }
    }
}

/// A request's change, and the host that it sets: HTTP/2 has that in another place.
pub(super) fn of_request(
    change: &HeaderChange,
) -> Result<(CompiledHeaders, Option<Authority>), Unservable> {
    const PART: &str = "requestHeaderModifier";
    let mut headers = compile(change, PART)?;
    let mut host = None;
    for (index, (name, value)) in headers.set.iter().enumerate() {
        if *name == HOST {
            let authority = Authority::try_from(value.as_bytes())
                .ok()
                .filter(|authority| check_authority(authority.as_str().as_bytes()).is_ok())
                .ok_or_else(|| {
                    Unservable::new(format!("{PART}.set[{index}].value"), "it is no host")
                })?;
            host = Some(authority);
        }
    }
    headers.set.retain(|(name, _value)| *name != HOST);
    let not_set = headers.add.iter().map(|(name, _value)| name).chain(&headers.remove);
    if let Some(name) = not_set.into_iter().find(|name| **name == HOST) {
        let reason = format!("{name} can be set only, as a request has exactly one");
        return Err(Unservable::new(PART, reason));
    }
    Ok((headers, host))
}

/// A response's change.
pub(super) fn of_response(change: &HeaderChange) -> Result<CompiledHeaders, Unservable> {
    compile(change, "responseHeaderModifier")
}

fn compile(change: &HeaderChange, part: &str) -> Result<CompiledHeaders, Unservable> {
    let pairs = |pairs: &[NamedValue], action: &str| {
        let compiled = pairs.iter().enumerate().map(|(index, NamedValue { name, value })| {
            let part = format!("{part}.{action}[{index}]");
            let value = HeaderValue::from_str(value.trim()).map_err(|_invalid| {
                Unservable::new(format!("{part}.value"), format!("{value:?} is no header's value"))
            })?;
            Ok((compile_name(name, &format!("{part}.name"))?, value))
        });
        compiled.collect::<Result<Vec<_>, Unservable>>()
    };
    let remove = change.remove.iter().enumerate();
    Ok(CompiledHeaders {
        set: pairs(&change.set, "set")?,
        add: pairs(&change.add, "add")?,
        remove: remove
            .map(|(index, name)| compile_name(name, &format!("{part}.remove[{index}]")))
            .collect::<Result<_, _>>()?,
    })
}

/// A name that a rule, or its sessions, may give a header. Refuses what frames a message, what is for
/// one hop, and what only the mesh says, however it is spelled.
pub fn compile_name(name: &str, part: &str) -> Result<HeaderName, Unservable> {
    let name = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_invalid| Unservable::new(part, format!("{name:?} is not a header's name")))?;
    let is_fixed = FIXED.contains(&name)
        || ["keep-alive", "proxy-connection", "http2-settings"].contains(&name.as_str())
        || fields::is_lookalike(name.as_str().as_bytes());
    if is_fixed {
        return Err(Unservable::new(part, format!("{name} is for the proxies on the way to set")));
    }
    if fields::is_claim(name.as_str().as_bytes()) {
        return Err(Unservable::new(part, format!("{name} is for the mesh alone to say")));
    }
    Ok(name)
}

/// They say how a message is framed, or are for one hop (RFC 9110, section 7.6.1).
const FIXED: [HeaderName; 7] =
    [CONNECTION, CONTENT_LENGTH, EXPECT, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

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

    fn values(pairs: &[(&str, &str)]) -> Vec<NamedValue> {
        let value = |(name, value): &(&str, &str)| NamedValue {
            name: (*name).to_owned(),
            value: (*value).to_owned(),
        };
        pairs.iter().map(value).collect()
    }

    fn change(set: &[(&str, &str)], add: &[(&str, &str)], remove: &[&str]) -> HeaderChange {
        let remove = remove.iter().map(|name| (*name).to_owned()).collect();
        HeaderChange { set: values(set), add: values(add), remove }
    }

    /// The first three are the examples in the Gateway API's documentation of HTTPHeaderFilter.
    #[test]
    fn headers_are_set_added_and_removed() {
        for (case, change, before, after) in [
            (
                "set",
                change(&[("my-header", "bar")], &[], &[]),
                &[("my-header", "foo")][..],
                &[("my-header", "bar")][..],
            ),
            (
                "add",
                change(&[], &[("my-header", "bar,baz")], &[]),
                &[("my-header", "foo")],
                &[("my-header", "foo"), ("my-header", "bar,baz")],
            ),
            (
                "remove",
                change(&[], &[], &["my-header1", "my-header3"]),
                &[("my-header1", "foo"), ("my-header2", "bar"), ("my-header3", "baz")],
                &[("my-header2", "bar")],
            ),
            (
                "set replaces all values",
                change(&[("a", "3")], &[], &[]),
                &[("a", "1"), ("a", "2")],
                &[("a", "3")],
            ),
            ("set what is not there", change(&[("a", "1")], &[], &[]), &[], &[("a", "1")]),
            ("add what is not there", change(&[], &[("a", "1")], &[]), &[], &[("a", "1")]),
            ("remove what is not there", change(&[], &[], &["a"]), &[], &[]),
            (
                "in any case",
                change(&[("X-A", "2")], &[], &["X-B"]),
                &[("x-b", "1")],
                &[("x-a", "2")],
            ),
            ("spaces around a value", change(&[("a", " 1 ")], &[], &[]), &[], &[("a", "1")]),
            (
                "first set, then added, then removed",
                change(&[("a", "1"), ("b", "1")], &[("a", "2")], &["b"]),
                &[("a", "0"), ("b", "0")],
                &[("a", "1"), ("a", "2")],
            ),
        ] {
            let mut headers = map(before);
            of_response(&change).unwrap().apply(&mut headers);
            assert_eq!(headers, map(after), "case: {case}");
            let mut headers = map(before);
            let (request, host) = of_request(&change).unwrap();
            request.apply(&mut headers);
            assert_eq!((headers, host), (map(after), None), "case: {case}, of a request");
        }
    }

    #[test]
    fn a_host_that_is_set_is_told_apart() {
        let (headers, host) = of_request(&change(&[("Host", "a:81")], &[], &[])).unwrap();
        assert_eq!(host.unwrap().as_str(), "a:81");
        assert!(headers.set.is_empty());
    }

    #[test]
    fn what_would_break_a_message_is_refused() {
        for (case, change, part) in [
            ("no name", change(&[("a b", "1")], &[], &[]), "set[0].name"),
            ("no value", change(&[("a", "1\n2")], &[], &[]), "set[0].value"),
            ("framing", change(&[], &[("content-length", "1")], &[]), "add[0].name"),
            ("coding", change(&[], &[], &["a", "Transfer-Encoding"]), "remove[1]"),
            ("one hop", change(&[("keep-alive", "1")], &[], &[]), "set[0].name"),
            ("an identity", change(&[("x-forwarded-client-cert", "x")], &[], &[]), "set[0].name"),
            ("an old spelling", change(&[], &[], &["X_Forwarded_Client_Cert"]), "remove[0]"),
            ("a word of the mesh", change(&[], &[("x-heddle-error", "x")], &[]), "add[0].name"),
            ("and spelled so", change(&[("x_heddle-a", "x")], &[], &[]), "set[0].name"),
            ("nearly framing", change(&[("content_length", "1")], &[], &[]), "set[0].name"),
        ] {
            let refused = of_request(&change).expect_err(case);
            assert_eq!(refused.part, format!("requestHeaderModifier.{part}"), "case: {case}");
            let refused = of_response(&change).expect_err(case);
            assert_eq!(refused.part, format!("responseHeaderModifier.{part}"), "case: {case}");
        }
        for (case, change) in [
            ("added", change(&[], &[("host", "a")], &[])),
            ("removed", change(&[], &[], &["host"])),
            ("with a user", change(&[("host", "me@a")], &[], &[])),
            ("with a port that is none", change(&[("host", "a:0")], &[], &[])),
            ("with a name that is none", change(&[("host", "a%2fb")], &[], &[])),
            ("that is empty", change(&[("host", "")], &[], &[])),
        ] {
            assert!(of_request(&change).is_err(), "case: a host {case}");
        }
    }

    type Pairs = Vec<(String, String)>;

    fn any_pairs() -> impl Strategy<Value = Pairs> {
        proptest::collection::vec(("[aB]", "[1-3]"), 0..4)
    }

    /// What the three actions do to a list of lines, one line after the other.
    fn oracle(before: Pairs, set: &Pairs, add: &Pairs, remove: &[String]) -> Pairs {
        let mut lines: Pairs = before;
        let lower = |name: &str| name.to_lowercase();
        for (name, value) in set {
            lines.retain(|(found, _value)| lower(found) != lower(name));
            lines.push((name.clone(), value.clone()));
        }
        lines.extend(add.iter().cloned());
        lines.retain(|(found, _value)| !remove.iter().any(|name| lower(name) == lower(found)));
        let mut lines: Pairs =
            lines.into_iter().map(|(name, value)| (lower(&name), value)).collect();
        // The order of lines counts only among those of one name.
        lines.sort_by(|one, other| one.0.cmp(&other.0));
        lines
    }

    proptest! {
        #[test]
        fn changes_agree_with_the_oracle(
            before in any_pairs(),
            set in any_pairs(),
            add in any_pairs(),
            remove in proptest::collection::vec("[aB]", 0..2),
        ) {
            let borrowed = |pairs: &Pairs| -> Vec<NamedValue> {
                let named = |(name, value): &(String, String)| NamedValue {
                    name: name.clone(),
                    value: value.clone(),
                };
                pairs.iter().map(named).collect()
            };
            let change = HeaderChange {
                set: borrowed(&set),
                add: borrowed(&add),
                remove: remove.clone(),
            };
            let lines: Vec<(&str, &str)> =
                before.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let mut headers = map(&lines);
            of_response(&change).unwrap().apply(&mut headers);
            let mut found: Pairs = Vec::new();
            for name in ["a", "b"] {
                for value in headers.get_all(name) {
                    found.push((name.to_owned(), value.to_str().unwrap().to_owned()));
                }
            }
            prop_assert_eq!(found, oracle(before, &set, &add, &remove));
        }
    }
}
