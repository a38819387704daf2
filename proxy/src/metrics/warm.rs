//! How often a connection of the application found a warm one to its endpoint, and how many wait for one.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// `heddle_warm_connections_total`, a counter for each outcome, and `heddle_warm_connections_idle`.
#[derive(Debug)]
pub struct WarmMetrics {
    all: Family<Labels, Counter>,
    /// A warm connection took it on.
    pub reused: Counter,
    /// A new connection was opened for it, and can be used again.
    pub opened: Counter,
    /// A warm connection was asked and did not take it on, so that another had to be found.
    pub lost: Counter,
    /// Warm connections to other proxies that wait for their next turn.
    pub idle: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    outcome: &'static str,
}

impl Default for WarmMetrics {
    fn default() -> Self {
        let all: Family<Labels, Counter> = Family::default();
        let of = |outcome| all.get_or_create_owned(&Labels { outcome });
        let (reused, opened, lost) = (of("reused"), of("opened"), of("lost"));
        Self { all, reused, opened, lost, idle: Gauge::default() }
    }
}

impl WarmMetrics {
    /// Registers them.
    pub fn show(&self, registry: &mut Registry) {
        registry.register(
            "heddle_warm_connections",
            "Connections carried as bytes to other proxies, by whether a warm connection took them on",
            self.all.clone(),
        );
        registry.register(
            "heddle_warm_connections_idle",
            "Connections to other proxies that carry nothing and are kept for connections of the application",
            self.idle.clone(),
        );
    }
}
