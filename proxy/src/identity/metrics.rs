//! Metrics of this proxy's certificate.

use std::time::SystemTime;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What is counted of certificates. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct IdentityMetrics {
    expiry: Gauge,
    renewals: Family<RenewalLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RenewalLabels {
    outcome: Renewal,
}

/// What became of a request for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Renewal {
    /// A new certificate is in use.
    Succeeded,
    /// The one of before stays.
    Failed,
}

impl EncodeLabelValue for Renewal {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        let text = match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        };
        EncodeLabelValue::encode(&text, encoder)
    }
}

impl IdentityMetrics {
    /// Shows them under `/metrics`.
    pub fn register(&self, registry: &mut Registry) {
        for outcome in [Renewal::Succeeded, Renewal::Failed] {
            drop(self.renewals.get_or_create(&RenewalLabels { outcome }));
        }
        registry.register(
            "heddle_certificate_expiry_seconds",
            "When this proxy's certificate expires, in seconds since 1970",
            self.expiry.clone(),
        );
        registry.register(
            "heddle_certificate_renewals",
            "Certificates asked for, the first one included, by what became of it",
            self.renewals.clone(),
        );
    }

    /// A certificate is in use until then.
    pub fn set_expiry(&self, not_after: SystemTime) {
        let since_1970 = not_after.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.expiry.set(i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX));
    }

    /// A certificate was asked for.
    pub fn renewed(&self, outcome: Renewal) {
        self.renewals.get_or_create(&RenewalLabels { outcome }).inc();
    }
}
