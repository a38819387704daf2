//! What the injector counts of itself. What each means is told in docs/metrics.md.

use std::time::SystemTime;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::review::Outcome;

/// Counters and gauges. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    admissions: Family<AdmissionLabels, Counter>,
    certificate_expiry: Gauge,
    /// Handshakes that failed.
    pub handshakes_failed: Counter,
    /// Connections, and requests, that were turned away because there were too many.
    pub overloaded: Counter,
    /// Connections that were closed because nothing was asked, or an answer not taken, in time.
    pub connections_overdue: Counter,
    /// Times that the webhook's configuration was given the authority of our certificate.
    pub webhooks_patched: Counter,
    /// Changed settings that could not be taken; the old ones are in force.
    pub settings_refused: Counter,
    pods: Family<FindingLabels, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AdmissionLabels {
    outcome: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FindingLabels {
    reason: &'static str,
}

impl Metrics {
    /// Shows them.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("heddle_injector");
        let counters = [
            ("handshakes_failed", "TLS handshakes that failed", &self.handshakes_failed),
            ("overloaded", "Connections and requests turned away", &self.overloaded),
            (
                "connections_overdue",
                "Connections without a request in time",
                &self.connections_overdue,
            ),
            ("webhooks_patched", "Authorities written to the webhook", &self.webhooks_patched),
            ("settings_refused", "Changed settings not taken", &self.settings_refused),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register("admissions", "Answers to the API server", self.admissions.clone());
        registry.register("pods", "Pods whose owners should know something", self.pods.clone());
        registry.register(
            "certificate_expiry_seconds",
            "When the certificate expires, in seconds since 1970",
            self.certificate_expiry.clone(),
        );
    }

    /// Counts an answer.
    pub fn count_admission(&self, outcome: Outcome) {
        let (outcome, reason) = outcome.labels();
        self.admissions.get_or_create(&AdmissionLabels { outcome, reason }).inc();
    }

    /// Counts a request that got no review for an answer.
    pub fn count_unanswered(&self, reason: &'static str) {
        let outcome = "unanswered";
        self.admissions.get_or_create(&AdmissionLabels { outcome, reason }).inc();
    }

    /// Shows when the certificate expires.
    pub fn set_certificate_expiry(&self, expiry: SystemTime) {
        let seconds = expiry.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        self.certificate_expiry.set(i64::try_from(seconds).unwrap_or(i64::MAX));
    }

    /// Shows how many pods there are of a kind of finding.
    pub fn set_pods(&self, reason: &'static str, count: usize) {
        let gauge = self.pods.get_or_create(&FindingLabels { reason });
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
