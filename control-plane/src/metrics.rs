//! What the control plane counts of itself.

use std::time::SystemTime;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Counters and gauges. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Certificates issued to workloads.
    pub certificates_issued: Counter,
    certificates_refused: Family<RefusalLabels, Counter>,
    /// Handshakes that failed.
    pub handshakes_failed: Counter,
    /// Connections that were turned away because there were too many.
    pub connections_refused: Counter,
    /// Updates sent to proxies.
    pub updates_sent: Counter,
    /// Updates that proxies took.
    pub updates_acknowledged: Counter,
    /// Updates that proxies refused.
    pub updates_refused: Counter,
    /// Exports of metrics that proxies sent.
    pub telemetry_exports: Counter,
    /// Exports that were not read for what they would have taken.
    pub telemetry_exports_refused: Counter,
    /// Points of them that were not kept.
    pub telemetry_points_refused: Counter,
    /// How often the memory was full, so that its oldest part went.
    pub telemetry_shortened: Counter,
    /// Series in the memory.
    pub telemetry_series: Gauge,
    /// What the memory takes.
    pub telemetry_bytes: Gauge,
    /// Points that the collector did not take of exports that it took.
    pub telemetry_forwarded_points_rejected: Counter,
    telemetry_forwarded_exports: Family<OutcomeLabels, Counter>,
    /// Ports of services that live on their last resort.
    pub last_resort_services: Gauge,
    /// Taps that run.
    pub taps: Gauge,
    /// Exchanges of taps that were passed on.
    pub tap_exchanges: Counter,
    /// Exchanges of taps that were left out, here or by proxies.
    pub tap_left_out: Counter,
    sessions: Gauge,
    leader: Gauge,
    authority_usable: Gauge,
    certificate_expiry: Family<CertificateLabels, Gauge>,
    watch_failing: Family<KindLabels, Gauge>,
}

/// Why a request for a certificate was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Nobody was given its token.
    UnknownToken,
    /// Its token is not good.
    RefusedToken,
    /// Its token's pod does not live.
    NoLivePod,
    /// It came from elsewhere than from that pod.
    OtherAddress,
    /// Too many came from there at once.
    TooMany,
    /// It could not be told now whose the token is.
    Unavailable,
    /// It was for the control plane's own name.
    OwnName,
    /// The request itself is bad.
    BadRequest,
    /// The certificate could not be issued.
    NotIssued,
}

impl Refusal {
    const ALL: [Self; 9] = [
        Self::UnknownToken,
        Self::RefusedToken,
        Self::NoLivePod,
        Self::OtherAddress,
        Self::TooMany,
        Self::Unavailable,
        Self::OwnName,
        Self::BadRequest,
        Self::NotIssued,
    ];
}

impl EncodeLabelValue for Refusal {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        let text = match self {
            Self::UnknownToken => "unknown_token",
            Self::RefusedToken => "refused_token",
            Self::NoLivePod => "no_live_pod",
            Self::OtherAddress => "other_address",
            Self::TooMany => "too_many",
            Self::Unavailable => "unavailable",
            Self::OwnName => "own_name",
            Self::BadRequest => "bad_request",
            Self::NotIssued => "not_issued",
        };
        EncodeLabelValue::encode(&text, encoder)
    }
}

/// A certificate of the authority's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Certificate {
    /// The trust anchor that the issuer is below.
    Root,
    /// The issuer.
    Issuer,
}

impl EncodeLabelValue for Certificate {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        let text = match self {
            Self::Root => "root",
            Self::Issuer => "issuer",
        };
        EncodeLabelValue::encode(&text, encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    reason: Refusal,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CertificateLabels {
    certificate: Certificate,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

/// Counts an open discovery stream until it is dropped.
#[derive(Debug)]
pub struct OpenSession(Gauge);

impl Metrics {
    /// Shows them.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("heddle_control_plane");
        let counters = [
            ("certificates_issued", "Certificates issued to workloads", &self.certificates_issued),
            ("handshakes_failed", "TLS handshakes that failed", &self.handshakes_failed),
            (
                "connections_refused",
                "Connections turned away because there were too many",
                &self.connections_refused,
            ),
            ("updates_sent", "Configuration updates sent to proxies", &self.updates_sent),
            (
                "updates_acknowledged",
                "Configuration updates that proxies took",
                &self.updates_acknowledged,
            ),
            (
                "updates_refused",
                "Configuration updates that proxies refused",
                &self.updates_refused,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        self.register_telemetry(registry);
        self.register_taps(registry);
        registry.register(
            "last_resort_services",
            "Ports of services that no endpoint is ready behind, and pods that are not heard of are used",
            self.last_resort_services.clone(),
        );
        registry.register("sessions", "Open discovery streams", self.sessions.clone());
        for reason in Refusal::ALL {
            drop(self.certificates_refused.get_or_create(&RefusalLabels { reason }));
        }
        registry.register(
            "certificates_refused",
            "Requests for certificates that were refused, by the reason",
            self.certificates_refused.clone(),
        );
        let leader = self.leader.clone();
        registry.register("leader", "1 while this control plane is the one that writes", leader);
        registry.register(
            "authority_usable",
            "1 while the authority that is kept is the one in use",
            self.authority_usable.clone(),
        );
        registry.register(
            "certificate_expiry_seconds",
            "When the authority's certificates expire, in seconds since 1970",
            self.certificate_expiry.clone(),
        );
        registry.register(
            "watch_failing",
            "1 while the API server does not tell of a kind",
            self.watch_failing.clone(),
        );
    }

    /// What became of so many exports that were for the collector.
    pub fn export_forwarded(&self, outcome: &'static str, exports: u64) {
        self.telemetry_forwarded_exports.get_or_create(&OutcomeLabels { outcome }).inc_by(exports);
    }

    /// How many came to this.
    pub fn exports_forwarded(&self, outcome: &'static str) -> u64 {
        self.telemetry_forwarded_exports.get_or_create(&OutcomeLabels { outcome }).get()
    }

    fn register_telemetry(&self, registry: &mut Registry) {
        let counters = [
            ("telemetry_exports", "Exports of metrics by proxies", &self.telemetry_exports),
            (
                "telemetry_exports_refused",
                "Exports that were not read for what they would have taken in memory",
                &self.telemetry_exports_refused,
            ),
            (
                "telemetry_forwarded_points_rejected",
                "Points that the collector did not take of exports that it took",
                &self.telemetry_forwarded_points_rejected,
            ),
            (
                "telemetry_points_refused",
                "Points of exported metrics that were not kept",
                &self.telemetry_points_refused,
            ),
            (
                "telemetry_shortened",
                "Times that the memory of traffic was full, and its oldest part was dropped",
                &self.telemetry_shortened,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register(
            "telemetry_forwarded_exports",
            "Exports of proxies for the collector, by what became of them",
            self.telemetry_forwarded_exports.clone(),
        );
        let series = self.telemetry_series.clone();
        registry.register("telemetry_series", "Series in the memory of traffic", series);
        let bytes = self.telemetry_bytes.clone();
        registry.register("telemetry_bytes", "What the memory of traffic takes, about", bytes);
    }

    fn register_taps(&self, registry: &mut Registry) {
        registry.register("taps", "Taps that run", self.taps.clone());
        let exchanges = self.tap_exchanges.clone();
        registry.register("tap_exchanges", "Exchanges that proxies told for taps", exchanges);
        registry.register(
            "tap_left_out",
            "Exchanges that taps were not told of: more than the rate, or than was read",
            self.tap_left_out.clone(),
        );
    }

    /// A request for a certificate was refused.
    pub fn certificate_refused(&self, reason: Refusal) {
        self.certificates_refused.get_or_create(&RefusalLabels { reason }).inc();
    }

    /// How many were, for any reason.
    pub fn certificates_refused(&self) -> u64 {
        let counts = Refusal::ALL
            .map(|reason| self.certificates_refused.get_or_create(&RefusalLabels { reason }).get());
        counts.iter().sum()
    }

    /// Whether this control plane leads, and whether what is kept of the authority is what is in use.
    pub fn set_keeping(&self, leads: bool, usable: bool) {
        self.leader.set(i64::from(leads));
        self.authority_usable.set(i64::from(usable));
    }

    /// A certificate of the authority's expires then.
    pub fn set_expiry(&self, certificate: Certificate, not_after: SystemTime) {
        let since_1970 = not_after.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX);
        self.certificate_expiry.get_or_create(&CertificateLabels { certificate }).set(seconds);
    }

    /// Whether the watch of a kind fails: 1 or 0.
    pub fn watch_failing(&self, kind: &'static str) -> Gauge {
        self.watch_failing.get_or_create_owned(&KindLabels { kind })
    }

    /// Counts a discovery stream for as long as the answer lives.
    pub fn open_session(&self) -> OpenSession {
        self.sessions.inc();
        OpenSession(self.sessions.clone())
    }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        self.0.dec();
    }
}
