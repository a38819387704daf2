//! The annotations with which a pod steers its proxy, read strictly: a bad value refuses the pod, since
//! a port that is silently not skipped, or silently skipped, is found out in production. The one list of
//! them is [`KNOWN`]; what of the rest of the pod cannot be is in conflict.rs.

pub mod invalid;
pub mod ports;

use std::collections::BTreeMap;
use std::time::Duration;

use heddle_model::access_log::{AccessLogFormat, AccessLogMode, AccessLogWish};
use heddle_runtime::{duration, logging};
use ipnet::IpNet;

use crate::annotations::invalid::InvalidAnnotation;
use crate::annotations::ports::PortRange;
use crate::quantity::Quantity;
use crate::telemetry::{SecretName, TraceRatio};

/// Whether a pod, or all pods of a namespace, get a proxy: `enabled` or `disabled`.
pub const INJECT: &str = "heddle.dev/inject";
/// Set on every pod that has a proxy, by us alone.
pub const INJECTED: &str = "heddle.dev/injected";
/// Ports of the pod that are not intercepted: `"8086,9000-9010"`.
pub const SKIP_INBOUND_PORTS: &str = "heddle.dev/skip-inbound-ports";
/// Ports of others that are not intercepted.
pub const SKIP_OUTBOUND_PORTS: &str = "heddle.dev/skip-outbound-ports";
/// Networks that the pod reaches past its proxy: `"169.254.169.254,10.0.0.0/8"`.
pub const SKIP_OUTBOUND_NETWORKS: &str = "heddle.dev/skip-outbound-networks";
/// Ports whose bytes the mesh does not read; the control plane reads it.
pub const OPAQUE_PORTS: &str = "heddle.dev/opaque-ports";
/// `strict` or `permissive`; the control plane reads it.
pub const INBOUND_MODE: &str = "heddle.dev/inbound-mode";
/// What the proxy logs: `info`, `heddle_proxy=debug`.
pub const LOG: &str = "heddle.dev/log";
/// Which requests and connections the proxy writes down: `off`, `errors` or `all`. On a pod the control plane
/// reads it, at any time; on a namespace it is what the proxies of new pods begin with.
pub const ACCESS_LOG: &str = "heddle.dev/access-log";
/// How: `text` or `json`. As [`ACCESS_LOG`].
pub const ACCESS_LOG_FORMAT: &str = "heddle.dev/access-log-format";
/// How long connections may take to finish after the proxy's SIGTERM.
pub const DRAIN_GRACE: &str = "heddle.dev/drain-grace";
/// How many of the requests that come without a trace are traced: from 0 to 1.
pub const TRACE_RATIO: &str = "heddle.dev/trace-ratio";
/// The Secret of the pod's namespace whose key `headers` is sent to the collector with each export.
pub const COLLECTOR_HEADERS_SECRET: &str = "heddle.dev/collector-headers-secret";
/// What the scheduler reserves for the proxy.
pub const CPU_REQUEST: &str = "heddle.dev/proxy-cpu-request";
/// What the proxy may take.
pub const CPU_LIMIT: &str = "heddle.dev/proxy-cpu-limit";
/// How many threads of the proxy carry traffic: 1 to 256.
pub const WORKERS: &str = "heddle.dev/proxy-workers";
/// What the scheduler reserves for the proxy.
pub const MEMORY_REQUEST: &str = "heddle.dev/proxy-memory-request";
/// What the proxy may take, before it takes no more connections.
pub const MEMORY_LIMIT: &str = "heddle.dev/proxy-memory-limit";

/// Every annotation of ours that means something on a pod.
pub const KNOWN: [&str; 18] = [
    INJECT,
    INJECTED,
    SKIP_INBOUND_PORTS,
    SKIP_OUTBOUND_PORTS,
    SKIP_OUTBOUND_NETWORKS,
    OPAQUE_PORTS,
    INBOUND_MODE,
    LOG,
    ACCESS_LOG,
    ACCESS_LOG_FORMAT,
    DRAIN_GRACE,
    TRACE_RATIO,
    COLLECTOR_HEADERS_SECRET,
    CPU_REQUEST,
    CPU_LIMIT,
    WORKERS,
    MEMORY_REQUEST,
    MEMORY_LIMIT,
];

/// As many threads as a proxy takes.
pub const WORKERS_LIMIT: u64 = 256;

/// Those that mean something on a namespace.
pub const OF_NAMESPACES: [&str; 2] = [ACCESS_LOG, ACCESS_LOG_FORMAT];

/// Ours, but of services and routes: on a pod they do nothing.
pub const OF_ROUTES: [&str; 5] = [
    "heddle.dev/fault-delay",
    "heddle.dev/fault-delay-percent",
    "heddle.dev/fault-abort",
    "heddle.dev/fault-abort-percent",
    "heddle.dev/fault-abort-grpc-status",
];

/// Everything that begins with this is ours.
pub const PREFIX: &str = "heddle.dev/";

/// What a pod asks of its proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxySettings {
    /// See [`SKIP_INBOUND_PORTS`].
    pub skip_inbound_ports: Vec<PortRange>,
    /// See [`SKIP_OUTBOUND_PORTS`].
    pub skip_outbound_ports: Vec<PortRange>,
    /// See [`SKIP_OUTBOUND_NETWORKS`].
    pub skip_outbound_networks: Vec<IpNet>,
    /// See [`LOG`].
    pub log: Option<String>,
    /// What the namespace says of [`ACCESS_LOG`] and [`ACCESS_LOG_FORMAT`]: the pod's own word can change later.
    pub access_log: AccessLogWish,
    /// See [`DRAIN_GRACE`].
    pub drain_grace: Option<Duration>,
    /// See [`TRACE_RATIO`].
    pub trace_ratio: Option<TraceRatio>,
    /// See [`COLLECTOR_HEADERS_SECRET`].
    pub headers_secret: Option<SecretName>,
    /// See [`CPU_REQUEST`].
    pub cpu_request: Option<Quantity>,
    /// See [`CPU_LIMIT`].
    pub cpu_limit: Option<Quantity>,
    /// See [`WORKERS`].
    pub workers: Option<u64>,
    /// See [`MEMORY_REQUEST`].
    pub memory_request: Option<Quantity>,
    /// See [`MEMORY_LIMIT`].
    pub memory_limit: Option<Quantity>,
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

/// Reads [`INJECT`] from labels or annotations.
pub fn wish(values: &BTreeMap<String, String>) -> Result<Wish, InvalidAnnotation> {
    match values.get(INJECT).map(String::as_str) {
        None => Ok(Wish::Unsaid),
        Some("enabled") => Ok(Wish::Enabled),
        Some("disabled") => Ok(Wish::Disabled),
        Some(other) => Err(InvalidAnnotation::value(INJECT, other, "\"enabled\" or \"disabled\"")),
    }
}

/// Reads what a pod asks of its proxy; every bad annotation is reported, not only the first.
pub fn settings(
    annotations: &BTreeMap<String, String>,
) -> Result<ProxySettings, Vec<InvalidAnnotation>> {
    let mut reader = Reader { annotations, invalid: invalid::misplaced(annotations) };
    let settings = ProxySettings {
        skip_inbound_ports: reader.list(SKIP_INBOUND_PORTS, WANT_RANGES, PortRange::parse),
        skip_outbound_ports: reader.list(SKIP_OUTBOUND_PORTS, WANT_RANGES, PortRange::parse),
        skip_outbound_networks: reader.list(SKIP_OUTBOUND_NETWORKS, WANT_NETWORKS, network),
        log: reader.one(LOG, WANT_LOG, |text| {
            let says = !text.trim().is_empty() && logging::check(text).is_ok();
            says.then(|| text.to_owned())
        }),
        access_log: AccessLogWish::default(),
        drain_grace: reader
            .one(DRAIN_GRACE, "a duration such as \"30s\"", |text| duration::parse(text).ok()),
        trace_ratio: reader.one(
            TRACE_RATIO,
            "a ratio from 0 to 1 such as \"0.1\"",
            TraceRatio::parse,
        ),
        headers_secret: reader.one(COLLECTOR_HEADERS_SECRET, WANT_SECRET, SecretName::parse),
        cpu_request: reader.one(CPU_REQUEST, WANT_CPU, Quantity::cpu),
        cpu_limit: reader.one(CPU_LIMIT, WANT_CPU, Quantity::cpu),
        workers: reader.one(WORKERS, "a number of threads from 1 to 256", |text| {
            text.parse().ok().filter(|workers| (1..=WORKERS_LIMIT).contains(workers))
        }),
        memory_request: reader.one(MEMORY_REQUEST, WANT_MEMORY, Quantity::memory),
        memory_limit: reader.one(MEMORY_LIMIT, WANT_MEMORY_LIMIT, memory_limit),
    };
    // What the control plane reads later is refused now, while somebody is there to be told.
    reader.list(OPAQUE_PORTS, "ports between commas, such as \"5432,6379\"", |text| {
        PortRange::parse(text).filter(PortRange::is_one)
    });
    reader.one(INBOUND_MODE, "\"strict\" or \"permissive\"", |text| {
        matches!(text, "strict" | "permissive").then_some(())
    });
    reader.one(ACCESS_LOG, AccessLogMode::WANT, |text| text.parse::<AccessLogMode>().ok());
    let format = |text: &str| text.parse::<AccessLogFormat>().ok();
    reader.one(ACCESS_LOG_FORMAT, AccessLogFormat::WANT, format);
    reader
        .one(INJECTED, "\"true\", which the injector sets", |text| (text == "true").then_some(()));
    if reader.invalid.is_empty() { Ok(settings) } else { Err(reader.invalid) }
}

/// Reads what a namespace says of the access logs of its pods.
pub fn access_log_of_namespace(
    values: &BTreeMap<String, String>,
) -> Result<AccessLogWish, Vec<InvalidAnnotation>> {
    let mut reader = Reader { annotations: values, invalid: Vec::new() };
    let mode = reader.one(ACCESS_LOG, AccessLogMode::WANT, |text| text.parse().ok());
    let format = reader.one(ACCESS_LOG_FORMAT, AccessLogFormat::WANT, |text| text.parse().ok());
    match reader.invalid.is_empty() {
        true => Ok(AccessLogWish { mode, format }),
        false => Err(reader.invalid.into_iter().map(InvalidAnnotation::of_namespace).collect()),
    }
}

struct Reader<'a> {
    annotations: &'a BTreeMap<String, String>,
    invalid: Vec<InvalidAnnotation>,
}

impl Reader<'_> {
    fn one<T>(
        &mut self,
        name: &'static str,
        want: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.annotations.get(name)?;
        let value = parse(text);
        if value.is_none() {
            self.invalid.push(InvalidAnnotation::value(name, text, want));
        }
        value
    }

    /// An empty text is an empty list: that is how templates leave one out.
    fn list<T>(
        &mut self,
        name: &'static str,
        want: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Vec<T> {
        let all = |text: &str| {
            if text.trim().is_empty() {
                return Some(Vec::new());
            }
            if text.split(',').count() > LIST_LIMIT {
                return None;
            }
            text.split(',').map(|part| parse(part.trim())).collect()
        };
        self.one(name, want, all).unwrap_or_default()
    }
}

/// A network without host bits, or one address.
fn network(text: &str) -> Option<IpNet> {
    let network = match text.parse::<IpNet>() {
        Ok(network) => network,
        Err(_) => IpNet::from(text.parse::<std::net::IpAddr>().ok()?),
    };
    (network == network.trunc()).then_some(network)
}

fn memory_limit(text: &str) -> Option<Quantity> {
    let least = Quantity::memory(MEMORY_LIMIT_MINIMUM)?;
    Quantity::memory(text).filter(|limit| limit.is_at_least(&least))
}

/// As many as `heddle-proxy redirect` takes, whose rules must fit into one message to the kernel.
const LIST_LIMIT: usize = 128;
/// Below this the proxy could not even hold the destinations of a small workload.
const MEMORY_LIMIT_MINIMUM: &str = "16Mi";
const WANT_SECRET: &str =
    "the name of a Secret of the pod's namespace, with the headers under `headers`";
const WANT_RANGES: &str = "at most 128 ports or ranges between commas, such as \"8086,9000-9010\"";
const WANT_NETWORKS: &str =
    "at most 128 addresses or networks between commas, such as \"169.254.169.254,10.0.0.0/8\"";
const WANT_LOG: &str = "a filter such as \"info\" or \"info,heddle_proxy=debug\"";
const WANT_CPU: &str = "an amount of CPU such as \"100m\" or \"0.5\"";
const WANT_MEMORY: &str = "an amount of memory such as \"64Mi\"";
const WANT_MEMORY_LIMIT: &str = "an amount of memory of at least 16Mi, such as \"256Mi\"";

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn one_bad_element_refuses_its_list() {
        for (name, bad) in [
            (SKIP_INBOUND_PORTS, "0"),
            (SKIP_INBOUND_PORTS, "80,"),
            (SKIP_INBOUND_PORTS, "80;81"),
            (SKIP_INBOUND_PORTS, "65536"),
            (SKIP_INBOUND_PORTS, "http"),
            (SKIP_INBOUND_PORTS, "80,-1"),
            (SKIP_OUTBOUND_PORTS, "9010-9000"),
            (SKIP_OUTBOUND_NETWORKS, "10.0.0.1/8"),
            (SKIP_OUTBOUND_NETWORKS, "everything"),
            (OPAQUE_PORTS, "5432-5433"),
            (OPAQUE_PORTS, "redis"),
        ] {
            let error = settings(&annotations(&[(name, bad)])).unwrap_err();
            assert_eq!(error.len(), 1, "case: {name}: {bad}");
            assert_eq!(error[0].name, name, "case: {name}: {bad}");
        }
        let long = vec!["80"; LIST_LIMIT + 1].join(",");
        assert!(settings(&annotations(&[(SKIP_INBOUND_PORTS, &long)])).is_err());
    }

    #[test]
    fn what_is_asked_for_is_read() {
        let given = annotations(&[
            (SKIP_OUTBOUND_PORTS, "25, 587-590"),
            (SKIP_OUTBOUND_NETWORKS, "169.254.169.254,fd00::/8"),
            (SKIP_INBOUND_PORTS, ""),
            (LOG, "info,heddle_proxy=debug"),
            (DRAIN_GRACE, "1m"),
            (TRACE_RATIO, "0.25"),
            (COLLECTOR_HEADERS_SECRET, "key"),
            (MEMORY_LIMIT, "64Mi"),
            (INBOUND_MODE, "strict"),
            (OPAQUE_PORTS, "5432"),
            ("example.com/anything", "goes"),
        ]);
        let read = settings(&given).unwrap();
        let ports: Vec<String> = read.skip_outbound_ports.iter().map(ToString::to_string).collect();
        assert_eq!(ports, ["25", "587-590"]);
        assert_eq!(read.skip_outbound_networks.len(), 2);
        assert_eq!(read.drain_grace, Some(Duration::from_secs(60)));
        assert_eq!(read.headers_secret, SecretName::parse("key"));
        assert_eq!(read.trace_ratio.map(|ratio| ratio.to_string()).as_deref(), Some("0.25"));
        assert!(read.skip_inbound_ports.is_empty());
    }

    #[test]
    fn every_bad_annotation_is_reported_with_its_value_and_what_would_do() {
        let given = annotations(&[
            (SKIP_INBOUND_PORTS, "x"),
            (LOG, ""),
            (DRAIN_GRACE, "5"),
            (TRACE_RATIO, "10%"),
            (COLLECTOR_HEADERS_SECRET, "a/b"),
            (CPU_LIMIT, "fast"),
            (WORKERS, "0"),
            (MEMORY_LIMIT, "1Mi"),
            (INBOUND_MODE, "Strict"),
            (INJECTED, "yes"),
            (ACCESS_LOG, "on"),
            (ACCESS_LOG_FORMAT, "xml"),
            ("heddle.dev/skip-inbound-port", "80"),
            ("heddle.dev/fault-delay", "2s"),
            ("heddle.dev/turbo", "on"),
        ]);
        let mut sentences: Vec<String> =
            settings(&given).unwrap_err().iter().map(ToString::to_string).collect();
        sentences.sort();
        insta::assert_snapshot!(sentences.join("\n"), @r#"
        heddle.dev/access-log-format: "xml" will not do (want "text" or "json")
        heddle.dev/access-log: "on" will not do (want "off", "errors" or "all")
        heddle.dev/collector-headers-secret: "a/b" will not do (want the name of a Secret of the pod's namespace, with the headers under `headers`)
        heddle.dev/drain-grace: "5" will not do (want a duration such as "30s")
        heddle.dev/fault-delay: "2s" does nothing on a pod (want it on a Service, an HTTPRoute or a GRPCRoute)
        heddle.dev/inbound-mode: "Strict" will not do (want "strict" or "permissive")
        heddle.dev/injected: "yes" will not do (want "true", which the injector sets)
        heddle.dev/log: "" will not do (want a filter such as "info" or "info,heddle_proxy=debug")
        heddle.dev/proxy-cpu-limit: "fast" will not do (want an amount of CPU such as "100m" or "0.5")
        heddle.dev/proxy-memory-limit: "1Mi" will not do (want an amount of memory of at least 16Mi, such as "256Mi")
        heddle.dev/proxy-workers: "0" will not do (want a number of threads from 1 to 256)
        heddle.dev/skip-inbound-port: there is no such annotation (did you mean heddle.dev/skip-inbound-ports?)
        heddle.dev/skip-inbound-ports: "x" will not do (want at most 128 ports or ranges between commas, such as "8086,9000-9010")
        heddle.dev/trace-ratio: "10%" will not do (want a ratio from 0 to 1 such as "0.1")
        heddle.dev/turbo: there is no such annotation (there are inject, injected, skip-inbound-ports, skip-outbound-ports, skip-outbound-networks, opaque-ports, inbound-mode, log, access-log, access-log-format, drain-grace, trace-ratio, collector-headers-secret, proxy-cpu-request, proxy-cpu-limit, proxy-workers, proxy-memory-request, proxy-memory-limit)
        "#);
    }

    #[test]
    fn a_wish_is_one_of_two_words() {
        assert_eq!(wish(&annotations(&[(INJECT, "enabled")])), Ok(Wish::Enabled));
        assert_eq!(wish(&annotations(&[])), Ok(Wish::Unsaid));
        assert!(wish(&annotations(&[(INJECT, "true")])).is_err());
    }
}
