//! What is counted of exports.

use heddle_telemetry::batch::Told;
use heddle_telemetry::exporter::Outcome;
use heddle_telemetry::settings::Signal;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// The counters of exports. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct ExportMetrics {
    exports: Family<ExportLabels, Counter>,
    rejected: Family<ReceiverLabels, Counter>,
    dropped: Family<DropLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ExportLabels {
    signal: &'static str,
    receiver: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReceiverLabels {
    receiver: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DropLabels {
    signal: &'static str,
    reason: &'static str,
}

impl ExportMetrics {
    /// The registry appends `_total` to the names of counters.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "heddle_telemetry_exports",
            "Exports, by what became of them",
            self.exports.clone(),
        );
        registry.register(
            "heddle_telemetry_rejected_points",
            "Points that a receiver did not take of exports that it took",
            self.rejected.clone(),
        );
        registry.register(
            "heddle_telemetry_dropped_records",
            "Spans and records of a log that were lost, and why",
            self.dropped.clone(),
        );
    }

    /// Counts an export of metrics to a receiver.
    pub fn count(&self, receiver: &'static str, outcome: Outcome) {
        self.count_export(Signal::Metrics, receiver, outcome);
        if let Outcome::Partial { rejected } = outcome {
            self.rejected.get_or_create(&ReceiverLabels { receiver }).inc_by(rejected);
        }
    }

    /// Counts what became of records, which go to the collector.
    pub fn count_records(&self, signal: Signal, told: Told) {
        match told {
            Told::Export(outcome) => self.count_export(signal, COLLECTOR, outcome),
            Told::Dropped(reason, records) => {
                self.count_dropped(signal, reason.as_str(), records);
            }
        }
    }

    /// Counts records that are lost for a reason.
    pub fn count_dropped(&self, signal: Signal, reason: &'static str, records: u64) {
        let labels = DropLabels { signal: signal.as_str(), reason };
        self.dropped.get_or_create(&labels).inc_by(records);
    }

    /// How many were lost for a reason.
    #[cfg(test)]
    pub(crate) fn dropped(&self, signal: Signal, reason: &'static str) -> u64 {
        let labels = DropLabels { signal: signal.as_str(), reason };
        self.dropped.get_or_create(&labels).get()
    }

    fn count_export(&self, signal: Signal, receiver: &'static str, outcome: Outcome) {
        let (signal, outcome) = (signal.as_str(), outcome.as_str());
        self.exports.get_or_create(&ExportLabels { signal, receiver, outcome }).inc();
    }
}

/// Who is told of records.
const COLLECTOR: &str = "collector";
