//! The annotations with which a pod steers its proxy, read strictly: a bad value refuses the pod, since
//! a port that is silently not skipped, or silently skipped, is found out in production.

use std::collections::BTreeMap;

use heddle_model::names::Port;

/// Whether a pod, or all pods of a namespace, get a proxy: `enabled` or `disabled`.
pub const INJECT: &str = "heddle.dev/inject";
/// Set on every pod that has a proxy.
pub const INJECTED: &str = "heddle.dev/injected";
/// Ports of the pod that are not intercepted: `"8086,9000"`.
pub const SKIP_INBOUND_PORTS: &str = "heddle.dev/skip-inbound-ports";
/// Ports of others that are not intercepted.
pub const SKIP_OUTBOUND_PORTS: &str = "heddle.dev/skip-outbound-ports";
/// What the proxy logs: `info`, `heddle_proxy=debug`.
pub const LOG: &str = "heddle.dev/log";

/// What a pod asks of its proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxySettings {
    /// See [`SKIP_INBOUND_PORTS`].
    pub skip_inbound_ports: Vec<Port>,
    /// See [`SKIP_OUTBOUND_PORTS`].
    pub skip_outbound_ports: Vec<Port>,
    /// See [`LOG`].
    pub log: Option<String>,
}

/// A pod's own word on injection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// `enabled`.
    Enabled,
    /// `disabled`.
    Disabled,
    /// Nothing said.
    Unsaid,
}

/// An annotation, or label, that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {value:?} is not valid: want {expected}")]
pub struct InvalidAnnotation {
    /// Its key.
    pub name: &'static str,
    /// As it was written.
    pub value: String,
    /// What would do.
    pub expected: &'static str,
}

/// Reads [`INJECT`] from labels or annotations.
pub fn wish(values: &BTreeMap<String, String>) -> Result<Wish, InvalidAnnotation> {
    match values.get(INJECT).map(String::as_str) {
        None => Ok(Wish::Unsaid),
        Some("enabled") => Ok(Wish::Enabled),
        Some("disabled") => Ok(Wish::Disabled),
        Some(other) => Err(InvalidAnnotation {
            name: INJECT,
            value: other.to_owned(),
            expected: "enabled or disabled",
        }),
    }
}

/// Reads what a pod asks of its proxy; every bad annotation is reported, not only the first.
pub fn settings(
    annotations: &BTreeMap<String, String>,
) -> Result<ProxySettings, Vec<InvalidAnnotation>> {
    let mut invalid = Vec::new();
    let mut list = |name: &'static str| {
        let text = annotations.get(name).map_or("", String::as_str);
        ports(text).unwrap_or_else(|| {
            let expected = "ports between commas, such as \"8086,9000\"";
            invalid.push(InvalidAnnotation { name, value: text.to_owned(), expected });
            Vec::new()
        })
    };
    let skip_inbound_ports = list(SKIP_INBOUND_PORTS);
    let skip_outbound_ports = list(SKIP_OUTBOUND_PORTS);
    let log = annotations.get(LOG).cloned();
    if log.as_deref().is_some_and(|text| text.trim().is_empty()) {
        let expected = "a filter such as \"info\"";
        invalid.push(InvalidAnnotation { name: LOG, value: String::new(), expected });
    }
    if invalid.is_empty() {
        Ok(ProxySettings { skip_inbound_ports, skip_outbound_ports, log })
    } else {
        Err(invalid)
    }
}

fn ports(text: &str) -> Option<Vec<Port>> {
    if text.trim().is_empty() {
        return Some(Vec::new());
    }
    text.split(',').map(|part| part.trim().parse().ok().and_then(Port::new)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn one_bad_port_refuses_the_list() {
        for bad in ["0", "80,", "80;81", "65536", "http", "80,-1"] {
            let given = annotations(&[(SKIP_INBOUND_PORTS, bad)]);
            assert!(settings(&given).is_err(), "case: {bad}");
        }
        let given = annotations(&[(SKIP_OUTBOUND_PORTS, "25, 587"), (LOG, "debug")]);
        let read = settings(&given).unwrap();
        let numbers: Vec<u16> = read.skip_outbound_ports.iter().map(|port| port.number()).collect();
        assert_eq!((numbers, read.log.as_deref()), (vec![25, 587], Some("debug")));
    }

    #[test]
    fn every_bad_annotation_is_reported() {
        let given =
            annotations(&[(SKIP_INBOUND_PORTS, "x"), (SKIP_OUTBOUND_PORTS, "y"), (LOG, "")]);
        assert_eq!(settings(&given).unwrap_err().len(), 3);
    }

    #[test]
    fn a_wish_is_one_of_two_words() {
        assert_eq!(wish(&annotations(&[(INJECT, "enabled")])), Ok(Wish::Enabled));
        assert_eq!(wish(&annotations(&[])), Ok(Wish::Unsaid));
        assert!(wish(&annotations(&[(INJECT, "true")])).is_err());
    }
}
