//! Metrics of discovery: connection, versions, outcomes of updates, subscriptions.

use heddle_model::resource::Version;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What discovery counts. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct DiscoveryMetrics {
    connected: Gauge,
    version: Gauge,
    updates: Family<UpdateLabels, Counter>,
    subscriptions: Gauge,
    subscriptions_refused: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpdateLabels {
    outcome: UpdateOutcome,
}

/// What became of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UpdateOutcome {
    /// It is in use.
    Acked,
    /// It was refused.
    Nacked,
    /// It was older than what is in use.
    IgnoredOlder,
}

impl EncodeLabelValue for UpdateOutcome {
    fn encode(
        &self,
        encoder: &mut prometheus_client::encoding::LabelValueEncoder<'_>,
    ) -> Result<(), std::fmt::Error> {
        let text = match self {
            Self::Acked => "acked",
            Self::Nacked => "nacked",
            Self::IgnoredOlder => "ignored_older",
        };
        EncodeLabelValue::encode(&text, encoder)
    }
}

impl DiscoveryMetrics {
    /// Shows them under `/metrics`.
    pub fn register(&self, registry: &mut Registry) {
        // A counter that is there from the start can be subtracted from.
        for outcome in [UpdateOutcome::Acked, UpdateOutcome::Nacked, UpdateOutcome::IgnoredOlder] {
            drop(self.updates.get_or_create(&UpdateLabels { outcome }));
        }
        registry.register(
            "heddle_discovery_connected",
            "Whether the discovery stream to the control plane is open",
            self.connected.clone(),
        );
        registry.register(
            "heddle_config_version",
            "The highest version of configuration in use",
            self.version.clone(),
        );
        registry.register(
            "heddle_config_updates",
            "Configuration updates received, by what became of them",
            self.updates.clone(),
        );
        registry.register(
            "heddle_subscriptions",
            "Destinations subscribed to",
            self.subscriptions.clone(),
        );
        registry.register(
            "heddle_subscriptions_refused",
            "Asks for a destination refused because every subscription was in use",
            self.subscriptions_refused.clone(),
        );
    }

    /// The stream is open, or not.
    pub fn set_connected(&self, connected: bool) {
        self.connected.set(i64::from(connected));
    }

    /// This version is in use.
    pub fn in_use(&self, version: Version) {
        let version = i64::try_from(version.0).unwrap_or(i64::MAX);
        // There is one writer, so nothing can come between.
        if version > self.version.get() {
            self.version.set(version);
        }
    }

    /// An update came.
    pub fn updated(&self, outcome: UpdateOutcome) {
        self.updates.get_or_create(&UpdateLabels { outcome }).inc();
    }

    /// So many destinations are subscribed to.
    pub fn set_subscriptions(&self, count: usize) {
        self.subscriptions.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Somebody asked for a destination and there was no room.
    pub fn subscription_refused(&self) {
        self.subscriptions_refused.inc();
    }
}
