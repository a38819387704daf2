//! What is counted of exports.

use heddle_telemetry::exporter::Outcome;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// The counters of exports. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct ExportMetrics {
    exports: Family<ExportLabels, Counter>,
    rejected: Family<ReceiverLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ExportLabels {
    receiver: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReceiverLabels {
    receiver: &'static str,
}

impl ExportMetrics {
    /// The registry appends `_total` to the names of counters.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "heddle_telemetry_exports",
            "Exports of metrics, by what became of them",
            self.exports.clone(),
        );
        registry.register(
            "heddle_telemetry_rejected_points",
            "Points that a receiver did not take of exports that it took",
            self.rejected.clone(),
        );
    }

    /// Counts an export to a receiver.
    pub fn count(&self, receiver: &'static str, outcome: Outcome) {
        let word = outcome.as_str();
        self.exports.get_or_create(&ExportLabels { receiver, outcome: word }).inc();
        if let Outcome::Partial { rejected } = outcome {
            self.rejected.get_or_create(&ReceiverLabels { receiver }).inc_by(rejected);
        }
    }
}
