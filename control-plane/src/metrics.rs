//! What the control plane counts of itself.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Counters and gauges. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Certificates issued to workloads.
    pub certificates_issued: Counter,
    /// Requests for certificates that were refused.
    pub certificates_refused: Counter,
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
    sessions: Gauge,
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
            (
                "certificates_refused",
                "Requests for certificates that were refused",
                &self.certificates_refused,
            ),
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
        registry.register("sessions", "Open discovery streams", self.sessions.clone());
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
