//! What a registry shows, as OTLP: every counter and gauge, so that none is forgotten, under names and
//! attributes that are made from those of Prometheus by rule. Histograms are left out: whoever has their
//! recorders exports them as what they are.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::Metric;

use crate::otlp::{About, Span, number, text};
use crate::prometheus::{Family, InvalidMetrics, Kind, families};

/// All counters and gauges whose names begin with `prefix` and an underscore, such as `heddle`; but those
/// named in `without`, which are exported otherwise.
///
/// Fails if the text is none that a registry shows.
pub fn metrics(
    shown: &str,
    prefix: &str,
    without: &[&str],
    span: Span,
) -> Result<Vec<Metric>, InvalidMetrics> {
    let families = families(shown)?;
    let wanted = families.iter().filter(|family| !without.contains(&family.name.as_str()));
    Ok(wanted.filter_map(|family| metric(family, prefix, span)).collect())
}

fn metric(family: &Family, prefix: &str, span: Span) -> Option<Metric> {
    let own = family.name.strip_prefix(prefix)?.strip_prefix('_')?;
    let (name, unit) = name_and_unit(prefix, own, family.kind);
    let about = About { name: &name, unit, description: &family.help };
    let points = family.samples.iter().map(|sample| {
        let labels = sample.labels.iter().filter(|(_, value)| !value.is_empty());
        let attributes = labels.map(|(label, value)| attribute(prefix, label, value)).collect();
        span.point(attributes, sample.value)
    });
    match family.kind {
        Kind::Counter => Some(about.counter(points.collect())),
        Kind::Gauge => Some(about.gauge(points.collect())),
        Kind::Histogram | Kind::Other => None,
    }
}

/// `heddle_tcp_open_connections` is `heddle.tcp.open_connections`: the first word is what it is about. A
/// unit that is a suffix is a unit, but where nothing else would be left, or a counter counts it.
fn name_and_unit(prefix: &str, own: &str, kind: Kind) -> (String, &'static str) {
    let (area, rest) = own.split_once('_').unwrap_or((own, ""));
    let mut unit = "";
    let mut rest = rest;
    for (suffix, name) in [("_seconds", "s"), ("_bytes", "By")] {
        if let Some(stripped) = rest.strip_suffix(suffix) {
            (rest, unit) = (stripped, name);
        }
    }
    if kind == Kind::Counter && rest == "bytes" {
        unit = "By";
    }
    match rest {
        "" => (format!("{prefix}.{area}"), unit),
        rest => (format!("{prefix}.{area}.{rest}"), unit),
    }
}

/// Where semantic conventions have a name for it, that one.
fn attribute(prefix: &str, label: &str, value: &str) -> KeyValue {
    match (label, value.parse()) {
        ("status", Ok(status)) => number("http.response.status_code", status),
        ("grpc_status", _) => text("rpc.response.status_code", value),
        ("reason", _) => text("error.type", value),
        _ => text(&format!("{prefix}.{}", label.replace('_', ".")), value),
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::metrics::v1::metric::Data;

    use super::*;

    #[test]
    fn names_are_made_by_rule() {
        for (own, kind, expected) in [
            ("retries", Kind::Counter, ("heddle.retries", "")),
            ("tcp_bytes", Kind::Counter, ("heddle.tcp.bytes", "By")),
            ("tcp_open_connections", Kind::Gauge, ("heddle.tcp.open_connections", "")),
            ("memory_used_bytes", Kind::Gauge, ("heddle.memory.used", "By")),
            ("certificate_expiry_seconds", Kind::Gauge, ("heddle.certificate.expiry", "s")),
            ("config_version", Kind::Gauge, ("heddle.config.version", "")),
        ] {
            let (name, unit) = name_and_unit("heddle", own, kind);
            assert_eq!((name.as_str(), unit), expected, "case: {own}");
        }
    }

    #[test]
    fn what_a_registry_shows_is_what_is_exported() {
        let shown = "\
# HELP heddle_http_errors Failed.
# TYPE heddle_http_errors counter
heddle_http_errors_total{reason=\"connect\",empty=\"\"} 3
# HELP heddle_http_requests Answered.
# TYPE heddle_http_requests counter
heddle_http_requests_total{status=\"503\",backend_pod=\"a\"} 7
# HELP heddle_load Now.
# TYPE heddle_load gauge
heddle_load 0.5
# HELP heddle_waits Waits.
# TYPE heddle_waits histogram
heddle_waits_sum 1
# TYPE other counter
other_total 9
# TYPE heddle_own gauge
heddle_own 1
# EOF
";
        let found = metrics(shown, "heddle", &["heddle_own"], Span { start: 1, now: 2 }).unwrap();
        let point = |name: &str| {
            let metric = found.iter().find(|metric| metric.name == name).unwrap();
            match metric.data.clone().unwrap() {
                Data::Sum(sum) => (sum.is_monotonic, sum.data_points[0].clone()),
                Data::Gauge(gauge) => (false, gauge.data_points[0].clone()),
                other @ (Data::Histogram(_) | Data::ExponentialHistogram(_) | Data::Summary(_)) => {
                    panic!("{other:?}")
                }
            }
        };
        assert_eq!(found.len(), 3);
        let span = Span { start: 1, now: 2 };
        let errors = span.point(vec![text("error.type", "connect")], 3.0);
        assert_eq!(point("heddle.http.errors"), (true, errors));
        let attributes =
            vec![text("heddle.backend.pod", "a"), number("http.response.status_code", 503)];
        assert_eq!(point("heddle.http.requests"), (true, span.point(attributes, 7.0)));
        assert_eq!(point("heddle.load"), (false, span.point(Vec::new(), 0.5)));
    }
}
