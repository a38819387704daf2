//! What is counted of taps.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The counters of taps. Clones share them.
#[derive(Clone, Debug)]
pub struct TapMetrics {
    /// Exchanges on their way to whoever asked.
    pub told: Counter,
    /// Exchanges that were more than the rate, or than was taken.
    pub left_out: Counter,
    running: Gauge,
    exchanges: Family<OutcomeLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

impl Default for TapMetrics {
    fn default() -> Self {
        let exchanges = Family::<OutcomeLabels, Counter>::default();
        let told = exchanges.get_or_create(&OutcomeLabels { outcome: "told" }).clone();
        let left_out = exchanges.get_or_create(&OutcomeLabels { outcome: "left_out" }).clone();
        Self { told, left_out, running: Gauge::default(), exchanges }
    }
}

impl TapMetrics {
    /// The registry appends `_total` to the names of counters.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("heddle_taps", "Taps that run", self.running.clone());
        registry.register(
            "heddle_tap_exchanges",
            "Exchanges that a tap asked for, by what became of them",
            self.exchanges.clone(),
        );
    }

    /// So many run.
    pub fn running(&self, taps: usize) {
        self.running.set(i64::try_from(taps).unwrap_or(i64::MAX));
    }
}
