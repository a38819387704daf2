//! From what everybody said at two moments to what the screen shows. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::demo::observe::Observation;
use crate::histogram::{self, Bucket};
use heddle_telemetry::prometheus::Sample;

/// The metric of certificates that a proxy asked for, by `outcome`.
pub const CERTIFICATES: &str = "heddle_certificate_renewals_total";
/// The outcome that is a new certificate.
pub const SUCCEEDED: &str = "succeeded";

/// What the mesh sees of the shop.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// In the order of a request's way.
    pub services: Vec<ServiceRow>,
    /// The share of v2 among what the api answered, in percent.
    pub canary_seen: Option<f64>,
    /// Of the certificate authority and the proxies.
    pub certificates: Certificates,
    /// Of the control plane and the proxies.
    pub config: Config,
    /// Requests sent, succeeded and failed, by the load's own count.
    pub load: Option<(u64, u64, u64)>,
}

/// One service, or one of its versions.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceRow {
    /// Its name.
    pub name: &'static str,
    /// Whether it is a part of the service above it.
    pub is_version: bool,
    /// What goes there.
    pub traffic: Traffic,
    /// How much of it is mutual TLS, 0 to 1.
    pub mtls_share: Option<f64>,
}

/// What goes to a service.
#[derive(Clone, Debug, PartialEq)]
pub enum Traffic {
    /// Requests.
    Http {
        /// Requests per second.
        per_second: f64,
        /// Without an error of the server, 0 to 1.
        success_share: Option<f64>,
        /// Half of the answers come within this.
        p50: Option<Duration>,
        /// 99 of 100 answers come within this.
        p99: Option<Duration>,
    },
    /// Bytes that the mesh does not read.
    Tcp {
        /// Connections since the start.
        connections: f64,
    },
}

/// Certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Certificates {
    /// By the control plane.
    pub issued: u64,
    /// By all proxies.
    pub renewals: u64,
    /// The first moment at which one expires, in seconds since 1970.
    pub soonest_expiry: Option<f64>,
}

/// Configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The newest.
    pub version: u64,
    /// Proxies that are connected.
    pub connected: usize,
    /// Updates that were acknowledged.
    pub acknowledged: u64,
    /// Updates that were refused.
    pub refused: u64,
}

/// What changed from one observation to a later one.
pub fn measure(earlier: &Observation, later: &Observation) -> Measured {
    let window = Window { earlier, later };
    let versions = ["api-v1", "api-v2"].map(|name| window.http_row(name, true));
    let [v1, v2] = &versions;
    let canary_seen = share(per_second(v2), per_second(v1) + per_second(v2));
    let mut services = vec![window.http_row("frontend", false), window.http_row("api", false)];
    services.extend(versions);
    services.push(window.tcp_row("store"));
    Measured {
        services,
        canary_seen: canary_seen.map(|share| share * 100.0),
        certificates: certificates(later),
        config: config(later),
        load: later.load.as_ref().map(|load| (load.sent, load.succeeded, load.failed)),
    }
}

/// The sum of the samples that are wanted.
pub fn sum(samples: &[Sample], name: &str, wanted: impl Fn(&Sample) -> bool) -> f64 {
    let matching = samples.iter().filter(|sample| sample.name == name && wanted(sample));
    matching.map(|sample| sample.value).sum()
}

/// A counter's value as a whole number; what is no count is none.
pub fn count(value: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range is checked, and a fraction of a count means nothing"
    )]
    if value.is_finite() && (0.0..9e15).contains(&value) { value.round() as u64 } else { 0 }
}

/// The name in a label that may carry a namespace and a port: `default/api:8080` is `api`.
pub fn short_name(label: &str) -> &str {
    let name = label.rsplit('/').next().unwrap_or(label);
    name.split([':', '.']).next().unwrap_or(name)
}

struct Window<'a> {
    earlier: &'a Observation,
    later: &'a Observation,
}

impl Window<'_> {
    /// Of the proxies that answered both times; a proxy that began anew counts nothing.
    fn increase(&self, name: &str, wanted: impl Fn(&Sample) -> bool) -> f64 {
        let both = self
            .later
            .proxies
            .iter()
            .filter_map(|(workload, later)| Some((self.earlier.proxies.get(workload)?, later)));
        let increases = both.map(|(earlier, later)| {
            (sum(later, name, &wanted) - sum(earlier, name, &wanted)).max(0.0)
        });
        increases.sum()
    }

    fn seconds(&self) -> f64 {
        self.later.at.saturating_duration_since(self.earlier.at).as_secs_f64()
    }

    /// As the callers see it: their proxies balance, wait and retry.
    fn http_row(&self, name: &'static str, is_version: bool) -> ServiceRow {
        let key = if is_version { "backend" } else { "service" };
        let ours = |sample: &Sample| {
            sample.label("direction") == "outbound" && short_name(sample.label(key)) == name
        };
        let requests = |wanted: fn(&Sample) -> bool| {
            self.increase("heddle_http_requests_total", |sample| ours(sample) && wanted(sample))
        };
        let all = requests(|_| true);
        let good = requests(|sample| !sample.label("status").starts_with('5'));
        let mtls = requests(|sample| sample.label("tls") == "mtls");
        let buckets = self.buckets("heddle_http_request_duration_seconds_bucket", ours);
        let traffic = Traffic::Http {
            per_second: share(all, self.seconds()).unwrap_or(0.0),
            success_share: share(good, all),
            p50: histogram::quantile(&buckets, 0.5),
            p99: histogram::quantile(&buckets, 0.99),
        };
        ServiceRow { name, is_version, traffic, mtls_share: share(mtls, all) }
    }

    /// Connections are few and stay open, so these are counted from the start.
    fn tcp_row(&self, name: &'static str) -> ServiceRow {
        let connections = |wanted: fn(&Sample) -> bool| -> f64 {
            let of_one = |samples: &Vec<Sample>| {
                sum(samples, "heddle_tcp_connections_total", |sample| {
                    sample.label("direction") == "outbound"
                        && short_name(sample.label("service")) == name
                        && wanted(sample)
                })
            };
            self.later.proxies.values().map(of_one).sum()
        };
        let all = connections(|_| true);
        let mtls_share = share(connections(|sample| sample.label("tls") == "mtls"), all);
        ServiceRow {
            name,
            is_version: false,
            traffic: Traffic::Tcp { connections: all },
            mtls_share,
        }
    }

    fn buckets(&self, name: &str, wanted: impl Fn(&Sample) -> bool) -> Vec<Bucket> {
        let mut bounds: BTreeMap<String, f64> = BTreeMap::new();
        for sample in self.later.proxies.values().flatten() {
            if sample.name == name && wanted(sample) {
                let bound = sample.label("le");
                let up_to = if bound == "+Inf" { Some(f64::INFINITY) } else { bound.parse().ok() };
                bounds.extend(up_to.map(|up_to| (bound.to_owned(), up_to)));
            }
        }
        let bucket = |(bound, up_to): (String, f64)| {
            let of_bound = |sample: &Sample| wanted(sample) && sample.label("le") == bound;
            Bucket { up_to, count: self.increase(name, of_bound) }
        };
        bounds.into_iter().map(bucket).collect()
    }
}

fn per_second(row: &ServiceRow) -> f64 {
    match row.traffic {
        Traffic::Http { per_second, .. } => per_second,
        Traffic::Tcp { .. } => 0.0,
    }
}

fn share(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

fn certificates(now: &Observation) -> Certificates {
    let authority = now.status.as_ref().and_then(|status| status.authority.as_ref());
    // Each proxy counts its first certificate too, which renews none.
    let of_one = |samples: &Vec<Sample>| {
        count(sum(samples, CERTIFICATES, |sample| sample.label("outcome") == SUCCEEDED))
    };
    let renewals = now.proxies.values().map(|samples| of_one(samples).saturating_sub(1)).sum();
    let expiries = now
        .proxies
        .values()
        .flatten()
        .filter(|sample| sample.name == "heddle_certificate_expiry_seconds" && sample.value > 0.0)
        .map(|sample| sample.value);
    Certificates {
        issued: authority.map_or(0, |authority| authority.certificates_issued),
        renewals,
        soonest_expiry: expiries.min_by(f64::total_cmp),
    }
}

fn config(now: &Observation) -> Config {
    let Some(status) = &now.status else { return Config::default() };
    let connected = status.proxies.iter().filter(|proxy| proxy.connected);
    Config {
        version: status.version,
        connected: connected.count(),
        acknowledged: status.proxies.iter().map(|proxy| proxy.acknowledged_updates).sum(),
        refused: status.proxies.iter().map(|proxy| proxy.refused_updates).sum(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use tokio::time::Instant;

    use super::*;
    use heddle_telemetry::prometheus;

    const EARLIER: &str = r#"
heddle_http_requests_total{direction="outbound",service="default/api:8080",backend="default/api-v1:8080",status="200",tls="mtls"} 100
heddle_http_requests_total{direction="outbound",service="default/api:8080",backend="default/api-v2:8080",status="200",tls="mtls"} 10
heddle_http_request_duration_seconds_bucket{direction="outbound",service="default/api:8080",backend="default/api-v1:8080",le="0.001"} 0
heddle_http_request_duration_seconds_bucket{direction="outbound",service="default/api:8080",backend="default/api-v1:8080",le="0.002"} 100
heddle_http_request_duration_seconds_bucket{direction="outbound",service="default/api:8080",backend="default/api-v1:8080",le="+Inf"} 100
"#;
    const LATER: &str = r#"
heddle_http_requests_total{direction="inbound",service="default/api:8080",status="200",tls="plaintext"} 9999
heddle_http_requests_total{direction="outbound",service="default/api:8080",backend="default/api-v1:8080",status="200",tls="mtls"} 175
heddle_http_requests_total{direction="outbound",service="default/api:8080",backend="default/api-v1:8080",status="503",tls="mtls"} 5
heddle_http_requests_total{direction="outbound",service="default/api:8080",backend="default/api-v2:8080",status="200",tls="plaintext"} 20
heddle_http_requests_total{direction="outbound",service="default/api:8080",backend="default/api-v2:8080",status="200",tls="mtls"} 10
heddle_http_request_duration_seconds_bucket{direction="outbound",service="default/api:8080",backend="default/api-v1:8080",le="0.001"} 0
heddle_http_request_duration_seconds_bucket{direction="outbound",service="default/api:8080",backend="default/api-v1:8080",le="0.002"} 180
heddle_http_request_duration_seconds_bucket{direction="outbound",service="default/api:8080",backend="default/api-v1:8080",le="+Inf"} 180
heddle_tcp_connections_total{direction="outbound",service="default/store:9000",backend="default/store:9000",tls="mtls"} 4
heddle_certificate_renewals_total{outcome="succeeded"} 3
heddle_certificate_renewals_total{outcome="failed"} 1
heddle_certificate_expiry_seconds 1700000030
"#;

    fn observation(at: Instant, text: &str) -> Observation {
        let samples = prometheus::parse(text).unwrap();
        let proxies = BTreeMap::from([("frontend".to_owned(), samples)]);
        Observation { at, proxies, status: None, load: None }
    }

    fn measured() -> Measured {
        let now = Instant::now();
        measure(&observation(now, EARLIER), &observation(now + Duration::from_secs(2), LATER))
    }

    fn row(measured: &Measured, name: &str) -> ServiceRow {
        measured.services.iter().find(|row| row.name == name).unwrap().clone()
    }

    #[test]
    fn a_service_is_measured_by_what_its_callers_saw_in_the_window() {
        let api = row(&measured(), "api");
        let Traffic::Http { per_second, success_share, p50, p99 } = api.traffic else {
            panic!("{api:?}")
        };
        assert_eq!(per_second, 50.0);
        assert_eq!(success_share, Some(0.95));
        assert_eq!(p50, Some(Duration::from_micros(1500)));
        assert_eq!(p99, Some(Duration::from_micros(1990)));
        assert_eq!(api.mtls_share, Some(0.8));
    }

    #[test]
    fn the_canary_is_what_the_backends_got_in_the_window() {
        assert_eq!(measured().canary_seen, Some(20.0));
    }

    #[test]
    fn a_service_on_tcp_counts_connections() {
        let store = row(&measured(), "store");
        assert_eq!(store.traffic, Traffic::Tcp { connections: 4.0 });
        assert_eq!(store.mtls_share, Some(1.0));
    }

    #[test]
    fn a_service_without_traffic_has_no_shares() {
        let frontend = row(&measured(), "frontend");
        let quiet = Traffic::Http { per_second: 0.0, success_share: None, p50: None, p99: None };
        assert_eq!((frontend.traffic, frontend.mtls_share), (quiet, None));
    }

    #[test]
    fn a_proxy_that_is_seen_for_the_first_time_has_no_increase_yet() {
        let now = Instant::now();
        let mut earlier = observation(now, EARLIER);
        earlier.proxies.clear();
        let measured = measure(&earlier, &observation(now + Duration::from_secs(2), LATER));
        assert_eq!(measured.canary_seen, None);
        assert_eq!(measured.certificates.renewals, 2);
    }

    #[test]
    fn labels_are_shortened_to_the_name() {
        for (label, expected) in [
            ("default/api:8080", "api"),
            ("api", "api"),
            ("api.default", "api"),
            ("api:8080", "api"),
            ("", ""),
        ] {
            assert_eq!(short_name(label), expected, "case: {label}");
        }
    }

    #[test]
    fn what_is_no_count_counts_as_none() {
        for (value, expected) in [(3.0, 3), (2.6, 3), (-1.0, 0), (f64::NAN, 0), (f64::INFINITY, 0)]
        {
            assert_eq!(count(value), expected, "case: {value}");
        }
    }
}
