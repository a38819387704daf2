//! What becomes of the access log's lines, counted.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// The counters. Clones share them.
#[derive(Clone, Debug)]
pub struct LineMetrics {
    family: Family<OutcomeLabels, Counter>,
    /// They are on standard output.
    pub written: Counter,
    /// There was no room, since standard output is not read fast enough.
    pub dropped: Counter,
    /// Standard output did not take them.
    pub failed: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

impl Default for LineMetrics {
    fn default() -> Self {
        let family: Family<OutcomeLabels, Counter> = Family::default();
        let of = |outcome| family.get_or_create_owned(&OutcomeLabels { outcome });
        let [written, dropped, failed] = ["written", "dropped", "failed"].map(of);
        Self { family, written, dropped, failed }
    }
}

impl LineMetrics {
    /// The registry appends `_total` to the names of counters.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "heddle_access_log_lines",
            "Lines of the access log, by what became of them",
            self.family.clone(),
        );
    }
}
