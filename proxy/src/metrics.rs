//! What the data path counts, and under which names and labels. Every label set is bounded, and the
//! series of endpoints that are gone are removed. Metrics of discovery are in discovery/metrics.rs.

pub mod calls;
pub mod drawn;
pub mod leased;
pub mod method;
pub mod own_time;
pub mod routes;
pub mod timing;
pub mod warm;

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::balance::ejection::Cause;
use crate::http::grpc::GrpcStatus;
use crate::http::respond::ProxyError;
use crate::metrics::calls::CallTable;
use crate::metrics::leased::LeasedFamily;
use crate::metrics::own_time::OwnTime;
use crate::metrics::routes::RouteMetrics;
use crate::metrics::timing::Timing;
use crate::metrics::warm::WarmMetrics;
use crate::tcp::{ByteCounters, FlowCounter};

/// Everything the data path counts. Clones of the parts share their values.
pub struct Metrics {
    /// `heddle_http_requests_total`: requests answered, also those the proxy answered itself.
    /// `service` is what was called, `backend` what it was routed to, `status` the HTTP status.
    pub requests: LeasedFamily<RequestLabels, Counter>,
    /// Durations and sizes of requests, which drawn.rs shows.
    pub calls: CallTable,
    /// `heddle_http_active_requests`: requests under way, to the last byte of their responses.
    pub active: LeasedFamily<ActiveLabels, Gauge>,
    /// `heddle_queue_duration_seconds`: how long requests and connections waited for a place, of those
    /// that had to.
    pub queued: LeasedFamily<BackendLabels, Timing>,
    /// `heddle_proxy_duration_seconds`: what the proxy itself takes of requests, of one in seventeen.
    pub own_time: OwnTime,
    /// `heddle_http_errors_total`: requests that failed in the proxy, by its own reason.
    pub errors: Family<ReasonLabels, Counter>,
    /// `heddle_http_requests_refused_total`: requests that did not pass the gate, by the rule that
    /// they broke.
    pub requests_refused: Family<RuleLabels, Counter>,
    /// The series of `errors` for responses that broke off after their head was passed on.
    pub response_broken: Counter,
    /// Retries and mirrors.
    pub routes: RouteMetrics,
    /// `heddle_tcp_connections_total`: connections carried as bytes, counted when they are set up.
    pub connections: LeasedFamily<ConnectionLabels, Counter>,
    /// `heddle_tcp_connection_duration_seconds`: how long they were open, counted at their end.
    pub connection_durations: LeasedFamily<ConnectionLabels, Timing>,
    /// `heddle_tcp_open_connections`: connections accepted and not ended, of any protocol.
    pub open: OpenConnections,
    /// `heddle_tcp_bytes_total`: bytes of connections carried as bytes, without what TLS adds.
    bytes: Family<FlowLabels, Counter>,
    /// `heddle_tls_handshakes_total`: handshakes with other proxies, by how they ended.
    pub handshakes: Family<HandshakeLabels, Counter>,
    /// Warm connections to other proxies.
    pub warm: WarmMetrics,
    /// `heddle_connections_refused_total`: connections reset, by reason.
    pub refused: Family<RefusedLabels, Counter>,
    /// `heddle_limits_reached_total`: connections and streams that were accepted and then ended, since
    /// a timer had run out or a budget was spent.
    pub limits: Family<LimitLabels, Counter>,
    /// `heddle_memory_used_bytes`: what the process takes, if anything limits it.
    pub memory_used: Gauge,
    /// `heddle_memory_limit_bytes`: what it may take.
    pub memory_limit: Gauge,
    /// `heddle_protocol_detections_total`: what first bytes were found to be.
    pub detections: Family<DetectionLabels, Counter>,
    /// `heddle_ejections_total`: times that an endpoint was left out since it failed.
    pub ejections: LeasedFamily<EjectionLabels, Counter>,
    /// `heddle_ejected_endpoints`: endpoints left out now.
    pub ejected: LeasedFamily<BackendLabels, Gauge>,
}

/// Open connections of both directions: shown as a metric, and waited for when draining.
#[derive(Clone, Debug, Default)]
pub struct OpenConnections(Family<OpenLabels, Gauge>);

/// Counts one connection as open until it is dropped.
#[derive(Debug)]
pub struct OpenConnection(Gauge);

impl OpenConnections {
    /// One more.
    pub fn begin(&self, direction: Direction) -> OpenConnection {
        let gauge = self.0.get_or_create_owned(&OpenLabels { direction });
        gauge.inc();
        OpenConnection(gauge)
    }

    /// How many are open in one direction.
    pub fn count(&self, direction: Direction) -> usize {
        let open = self.0.get_or_create_owned(&OpenLabels { direction }).get();
        usize::try_from(open).unwrap_or(0)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// Registers every metric.
    pub fn register(registry: &mut Registry) -> Arc<Self> {
        let metrics = Self::new();
        metrics.show(registry);
        metrics.show_ejections(registry);
        Arc::new(metrics)
    }

    fn new() -> Self {
        let errors: Family<ReasonLabels, Counter> = Family::default();
        Self {
            response_broken: errors.get_or_create_owned(&ReasonLabels { reason: RESPONSE_BROKEN }),
            requests: LeasedFamily::new(Counter::default),
            calls: CallTable::default(),
            active: LeasedFamily::new(Gauge::default),
            queued: LeasedFamily::new(Timing::default),
            own_time: OwnTime::default(),
            errors,
            requests_refused: Family::default(),
            routes: RouteMetrics::default(),
            connections: LeasedFamily::new(Counter::default),
            connection_durations: LeasedFamily::new(Timing::default),
            open: OpenConnections::default(),
            bytes: Family::default(),
            handshakes: Family::default(),
            warm: WarmMetrics::default(),
            refused: Family::default(),
            limits: Family::default(),
            memory_used: Gauge::default(),
            memory_limit: Gauge::default(),
            detections: Family::default(),
            ejections: LeasedFamily::new(Counter::default),
            ejected: LeasedFamily::new(Gauge::default),
        }
    }

    /// The registry appends `_total` to the names of counters.
    fn show(&self, registry: &mut Registry) {
        registry.register("heddle_http_requests", REQUESTS, self.requests.family());
        registry.register(
            "heddle_http_active_requests",
            "Requests under way, to the last byte of their responses",
            self.active.family(),
        );
        registry.register(
            "heddle_queue_duration_seconds",
            "How long requests and connections waited for a place, of those that had to",
            self.queued.family(),
        );
        registry.register(
            "heddle_proxy_duration_seconds",
            "What the proxy itself takes from the head of a request to that of the response, of one in seventeen",
            self.own_time.family(),
        );
        registry.register(
            "heddle_http_errors",
            "Requests that failed in the proxy, by its own reason",
            self.errors.clone(),
        );
        registry.register(
            "heddle_http_requests_refused",
            "Requests that did not pass the gate, by the rule that they broke",
            self.requests_refused.clone(),
        );
        self.routes.show(registry);
        self.warm.show(registry);
        self.show_connections(registry);
        registry.register(
            "heddle_memory_used_bytes",
            "Memory that the process takes; 0 if nothing limits it",
            self.memory_used.clone(),
        );
        registry.register(
            "heddle_memory_limit_bytes",
            "Memory that the process may take; 0 if nothing limits it",
            self.memory_limit.clone(),
        );
    }

    fn show_connections(&self, registry: &mut Registry) {
        registry.register(
            "heddle_tcp_connections",
            "Connections carried as bytes, counted when they are set up",
            self.connections.family(),
        );
        registry.register(
            "heddle_tcp_connection_duration_seconds",
            "How long connections carried as bytes were open, counted at their end",
            self.connection_durations.family(),
        );
        registry.register(
            "heddle_tcp_open_connections",
            "Connections accepted and not ended, of any protocol",
            self.open.0.clone(),
        );
        registry.register(
            "heddle_tcp_bytes",
            "Bytes of connections carried as bytes, without what TLS adds",
            self.bytes.clone(),
        );
        registry.register(
            "heddle_tls_handshakes",
            "Handshakes with other proxies, by how they ended",
            self.handshakes.clone(),
        );
        registry.register(
            "heddle_connections_refused",
            "Connections reset, by reason",
            self.refused.clone(),
        );
        registry.register(
            "heddle_limits_reached",
            "Connections and streams ended since a timer had run out or a budget was spent",
            self.limits.clone(),
        );
        registry.register(
            "heddle_protocol_detections",
            "What the first bytes of connections were found to be",
            self.detections.clone(),
        );
    }

    fn show_ejections(&self, registry: &mut Registry) {
        registry.register(
            "heddle_ejections",
            "Times that an endpoint was left out since it failed",
            self.ejections.family(),
        );
        registry.register(
            "heddle_ejected_endpoints",
            "Endpoints left out since they failed",
            self.ejected.family(),
        );
    }

    /// The counters of bytes to and from the server, of one connection of a direction.
    pub fn bytes(&self, direction: Direction) -> ByteCounters {
        let counter = |flow| {
            FlowCounter::new(self.bytes.get_or_create_owned(&FlowLabels { direction, flow }))
        };
        ByteCounters { to_server: counter(Flow::ToServer), to_client: counter(Flow::ToClient) }
    }

    /// Counts a request that failed in the proxy.
    pub fn count_error(&self, error: &ProxyError) {
        if let ProxyError::BadRequest { refusal } = error {
            self.requests_refused.get_or_create(&RuleLabels { rule: refusal.rule() }).inc();
        }
        self.errors.get_or_create(&ReasonLabels { reason: error.reason() }).inc();
    }

    /// Counts a request whose client went away before it was answered.
    pub fn count_cancelled(&self) {
        self.errors.get_or_create(&ReasonLabels { reason: CLIENT_CANCELLED }).inc();
    }

    /// Counts a connection that was reset.
    pub fn count_refused(&self, direction: Direction, reason: &'static str) {
        self.refused.get_or_create(&RefusedLabels { direction, reason }).inc();
    }

    /// Counts a connection or stream that was ended by a timer or a budget.
    pub fn count_limit(&self, direction: Direction, limit: &'static str) {
        self.limits.get_or_create(&LimitLabels { direction, limit }).inc();
    }

    /// Counts a finished handshake; `outcome` is `ok` or the reason of its failure.
    pub fn count_handshake(&self, side: Side, outcome: &'static str) {
        self.handshakes.get_or_create(&HandshakeLabels { side, outcome }).inc();
    }

    /// Counts what a connection's first bytes were found to be.
    pub fn count_detection(&self, protocol: &'static str) {
        self.detections.get_or_create(&DetectionLabels { protocol }).inc();
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// The reason that no [`ProxyError`] has, since no response could tell it any more.
pub(crate) const RESPONSE_BROKEN: &str = "response_broken";
/// As above: nobody is left to be told.
pub(crate) const CLIENT_CANCELLED: &str = "client_cancelled";
const REQUESTS: &str = "Requests answered, also those that the proxy answered itself";

/// A label value from a closed set of words.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$on:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$on])* $variant),+ }

        impl $name {
            /// The word in metrics and logs.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
                EncodeLabelValue::encode(&self.as_str(), encoder)
            }
        }
    };
}
pub(crate) use words;

words! {
    /// Seen from the workload.
    Direction {
        /// To the workload.
        Inbound = "inbound",
        /// From the workload.
        Outbound = "outbound",
    }
}

words! {
    /// How a hop is protected.
    Protection {
        /// Mutual TLS with the peer.
        Mutual = "mtls",
        /// Nothing of the mesh's.
        Plaintext = "plaintext",
    }
}

words! {
    /// Which side of a handshake this proxy was.
    Side {
        /// The one that connected.
        Client = "client",
        /// The one that accepted.
        Server = "server",
    }
}

words! {
    /// Which way bytes flow.
    Flow {
        /// From the side that opened the connection.
        ToServer = "to_server",
        /// To the side that opened the connection.
        ToClient = "to_client",
    }
}

words! {
    /// Why an endpoint is left out.
    EjectionReason {
        /// Responses in a row that blame it.
        Responses = "responses",
        /// Connections in a row that could not be made, or broke.
        Connections = "connections",
    }
}

impl From<Cause> for EjectionReason {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Responses => Self::Responses,
            Cause::Connections => Self::Connections,
        }
    }
}

/// Labels of `heddle_ejections_total`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EjectionLabels {
    /// Whose endpoint it is.
    pub backend: Arc<str>,
    /// Why it was left out.
    pub reason: EjectionReason,
}

/// Labels of what is told of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BackendLabels {
    /// As in `heddle_http_requests_total`.
    pub backend: Arc<str>,
}

/// Labels of `heddle_http_requests_total`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// Seen from the workload.
    pub direction: Direction,
    /// What was called, as `namespace/name:port`; empty for inbound.
    pub service: Arc<str>,
    /// What the request was routed to; empty if it came to none.
    pub backend: Arc<str>,
    /// The pod's name; empty if it came to none.
    pub backend_pod: Arc<str>,
    /// The HTTP status.
    pub status: u16,
    /// How it ended, if it was a call of gRPC.
    pub grpc_status: GrpcStatus,
    /// On the hop between proxies.
    pub tls: Protection,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestOutcome {
    /// The HTTP status.
    pub status: u16,
    /// If it was a call of gRPC.
    pub grpc_status: GrpcStatus,
    /// On the hop between proxies.
    pub tls: Protection,
}

/// Labels of `heddle_http_active_requests`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ActiveLabels {
    /// Seen from the workload.
    pub direction: Direction,
    /// What was called; empty for inbound.
    pub service: Arc<str>,
}

/// Labels of `heddle_tcp_connections_total`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ConnectionLabels {
    /// Seen from the workload.
    pub direction: Direction,
    /// What was called; empty for inbound and for what the mesh does not know.
    pub service: Arc<str>,
    /// What the connection was routed to; `passthrough` for what the mesh does not know.
    pub backend: Arc<str>,
    /// On the hop between proxies.
    pub tls: Protection,
    /// Who called, by its certificate; inbound, and empty if that is not known. Of so many: see
    /// [`CallTable::connection_peer`].
    pub peer_identity: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OpenLabels {
    direction: Direction,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FlowLabels {
    direction: Direction,
    flow: Flow,
}

/// Labels of `heddle_http_errors_total`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabels {
    /// As in the response header `x-heddle-error`.
    pub reason: &'static str,
}

/// Labels of `heddle_http_requests_refused_total`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RuleLabels {
    /// One of [`crate::http::gate::refusal::Refusal`].
    pub rule: &'static str,
}

/// Labels of `heddle_tls_handshakes_total`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct HandshakeLabels {
    /// Which side this proxy was.
    pub side: Side,
    /// `ok`, or why it failed.
    pub outcome: &'static str,
}

/// Labels of `heddle_connections_refused_total`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RefusedLabels {
    /// Seen from the workload.
    pub direction: Direction,
    /// From a closed set of words.
    pub reason: &'static str,
}

/// Labels of `heddle_limits_reached_total`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LimitLabels {
    /// Seen from the workload.
    pub direction: Direction,
    /// Which timer or budget, from a closed set of words.
    pub limit: &'static str,
}

/// Labels of `heddle_protocol_detections_total`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DetectionLabels {
    /// A verdict, or `silent`, `undecided`.
    pub protocol: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_shown_under_their_names() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let open = metrics.open.begin(Direction::Inbound);
        metrics.count_refused(Direction::Outbound, "limit");
        let labels = RequestLabels {
            direction: Direction::Outbound,
            service: "default/api:80".into(),
            backend: "default/api-v2:80".into(),
            backend_pod: "api-v2-0".into(),
            status: 200,
            grpc_status: GrpcStatus::NotGrpc,
            tls: Protection::Mutual,
        };
        let series = metrics.requests.lease(&labels);
        series.metric().inc();
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            r#"heddle_http_requests_total{direction="outbound",service="default/api:80",backend="default/api-v2:80",backend_pod="api-v2-0",status="200",grpc_status="",tls="mtls"} 1"#,
            r#"heddle_tcp_open_connections{direction="inbound"} 1"#,
            r#"heddle_connections_refused_total{direction="outbound",reason="limit"} 1"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in:\n{text}");
        }
        drop(open);
        assert_eq!(metrics.open.count(Direction::Inbound), 0);
    }
}
