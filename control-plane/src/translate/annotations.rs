//! Annotations of the mesh. A value that cannot be read rejects the object: a port that is dropped from
//! a list without a word would be encrypted, or read, against its owner's wish.

use std::collections::{BTreeMap, BTreeSet};

use heddle_model::access_log::{AccessLogFormat, AccessLogMode, AccessLogWish};
use heddle_model::names::Port;
use heddle_model::workload::InboundMode;

use crate::translate::Rejected;

/// Set on pods that have a proxy.
pub const INJECTED: &str = "heddle.dev/injected";
/// `strict` or `permissive`, on pods.
pub const INBOUND_MODE: &str = "heddle.dev/inbound-mode";
/// Ports whose bytes the mesh does not read, on services and pods.
pub const OPAQUE_PORTS: &str = "heddle.dev/opaque-ports";
/// `off`, `errors` or `all`, on pods: what their proxies write down.
pub const ACCESS_LOG: &str = "heddle.dev/access-log";
/// `text` or `json`, on pods: how.
pub const ACCESS_LOG_FORMAT: &str = "heddle.dev/access-log-format";

/// What Kubernetes keeps annotations in.
pub type Annotations = Option<BTreeMap<String, String>>;

/// Whether a proxy is beside the pod.
pub fn injected(annotations: &Annotations) -> Result<bool, Rejected> {
    match value(annotations, INJECTED) {
        None => Ok(false),
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(other) => Err(bad(INJECTED, other, "\"true\" or \"false\"")),
    }
}

/// Whether plain connections are served.
pub fn inbound_mode(annotations: &Annotations) -> Result<InboundMode, Rejected> {
    match value(annotations, INBOUND_MODE) {
        None | Some("permissive") => Ok(InboundMode::Permissive),
        Some("strict") => Ok(InboundMode::Strict),
        Some(other) => Err(bad(INBOUND_MODE, other, "\"strict\" or \"permissive\"")),
    }
}

/// What the pod's proxy is to write down, as far as the pod says so.
pub fn access_log(annotations: &Annotations) -> Result<AccessLogWish, Rejected> {
    let mode = value(annotations, ACCESS_LOG)
        .map(|text| text.parse().map_err(|_| bad(ACCESS_LOG, text, AccessLogMode::WANT)));
    let format = value(annotations, ACCESS_LOG_FORMAT)
        .map(|text| text.parse().map_err(|_| bad(ACCESS_LOG_FORMAT, text, AccessLogFormat::WANT)));
    Ok(AccessLogWish { mode: mode.transpose()?, format: format.transpose()? })
}

/// The ports whose bytes the mesh does not read.
pub fn opaque_ports(annotations: &Annotations) -> Result<BTreeSet<Port>, Rejected> {
    let Some(list) = value(annotations, OPAQUE_PORTS) else { return Ok(BTreeSet::new()) };
    let read = |text: &str| text.parse().ok().and_then(Port::new);
    list.split(',')
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .map(|text| {
            read(text).ok_or_else(|| bad(OPAQUE_PORTS, text, "ports such as \"5432,6379\""))
        })
        .collect()
}

/// What one says.
pub fn value<'a>(annotations: &'a Annotations, name: &str) -> Option<&'a str> {
    annotations.as_ref()?.get(name).map(String::as_str)
}

fn bad(name: &str, found: &str, want: &str) -> Rejected {
    Rejected::invalid(
        format!("metadata.annotations.{name}"),
        format!("{found:?} will not do (want {want})"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, value: &str) -> Annotations {
        Some(BTreeMap::from([(name.to_owned(), value.to_owned())]))
    }

    #[test]
    fn ports_are_read_or_refused_as_a_whole() {
        let ports = opaque_ports(&with(OPAQUE_PORTS, "5432, 6379,")).unwrap();
        assert_eq!(ports.into_iter().map(Port::number).collect::<Vec<_>>(), [5432, 6379]);
        for list in ["5432,redis", "0", "70000", "80-90"] {
            assert!(opaque_ports(&with(OPAQUE_PORTS, list)).is_err(), "case: {list}");
        }
    }

    #[test]
    fn other_words_than_the_known_ones_are_refused() {
        assert_eq!(inbound_mode(&with(INBOUND_MODE, "strict")), Ok(InboundMode::Strict));
        assert_eq!(inbound_mode(&None), Ok(InboundMode::Permissive));
        let error = inbound_mode(&with(INBOUND_MODE, "Strict")).unwrap_err();
        insta::assert_snapshot!(error, @r#"metadata.annotations.heddle.dev/inbound-mode: "Strict" will not do (want "strict" or "permissive")"#);
        let all = AccessLogWish { mode: Some(AccessLogMode::All), format: None };
        assert_eq!(access_log(&with(ACCESS_LOG, "all")), Ok(all));
        assert_eq!(access_log(&None), Ok(AccessLogWish::default()));
        let error = access_log(&with(ACCESS_LOG, "on")).unwrap_err();
        insta::assert_snapshot!(error, @r#"metadata.annotations.heddle.dev/access-log: "on" will not do (want "off", "errors" or "all")"#);
        assert!(access_log(&with(ACCESS_LOG_FORMAT, "xml")).is_err());
        assert_eq!(injected(&with(INJECTED, "true")), Ok(true));
        assert!(injected(&with(INJECTED, "yes")).is_err());
    }
}
