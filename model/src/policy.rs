//! How a service's endpoints are used, by every proxy that calls it; and how a workload guards itself.
//! Values only, complete: what an object leaves out is filled in by the control plane, from the
//! defaults here.

use std::time::Duration;

use crate::names::Port;

/// How the endpoints behind one port of a service are used. Each proxy applies it by itself, by what it
/// sees of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackendPolicy {
    /// Which endpoint gets a request.
    pub balance: Balance,
    /// Which endpoints are considered at all.
    pub locality: Locality,
    /// How requests of one client stay with one endpoint, where the route does not say.
    pub session: Option<SessionPersistence>,
    /// How long a new endpoint takes to get its full share; `None`: none.
    pub slow_start: Option<Duration>,
    /// When an endpoint that fails is left out.
    pub ejection: Ejection,
    /// What may be under way at once.
    pub limits: CircuitLimits,
    /// How many requests may be repeated.
    pub retry_budget: RetryBudget,
    /// How connections are kept.
    pub keep_alive: KeepAlive,
}

/// Which endpoint gets a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Balance {
    /// The better of two random ones, by the latency seen (with more weight on what was seen last) and
    /// the requests in flight.
    PeakEwma {
        /// How fast what was seen is forgotten.
        decay: Duration,
    },
    /// One after the other.
    RoundRobin,
    /// Any.
    Random,
    /// The same one for the same key, as long as the endpoints stay.
    ConsistentHash(HashKey),
}

impl Default for Balance {
    fn default() -> Self {
        Self::PeakEwma { decay: PEAK_EWMA_DECAY }
    }
}

/// What is hashed. A request without it goes to a random endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// The value of a header.
    Header(String),
    /// The value of a cookie.
    Cookie(String),
    /// The address of the calling workload.
    Source,
}

/// Which endpoints are considered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Locality {
    /// Which ones are close.
    pub preference: Preference,
    /// When fewer of the close ones than this are healthy, in percent, the others are considered too.
    pub minimum_healthy_percent: u8,
}

impl Default for Locality {
    fn default() -> Self {
        Self { preference: Preference::None, minimum_healthy_percent: MINIMUM_HEALTHY_PERCENT }
    }
}

/// Which endpoints are close. Source: Kubernetes, `spec.trafficDistribution` of a Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preference {
    /// All.
    #[default]
    None,
    /// Those of the same zone.
    SameZone,
    /// Those of the same node, or else of the same zone.
    SameNode,
}

/// How requests of one client stay with one endpoint. Source: Gateway API, GEP-1619.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionPersistence {
    /// Of the cookie or header.
    pub name: String,
    /// Where the session is kept.
    pub kind: SessionKind,
    /// How long a session lives at most.
    pub absolute_timeout: Option<Duration>,
    /// How long a session lives without a request.
    pub idle_timeout: Option<Duration>,
}

/// Where a session is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionKind {
    /// In a cookie that ends with the browser's session.
    SessionCookie,
    /// In a cookie that lives as long as the session.
    PermanentCookie,
    /// In a header, which the client sends back.
    Header,
}

/// When an endpoint that fails is left out, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// So many responses in a row that blame the server: 500 and more, and the gRPC statuses that mean
    /// the same. `None`: responses do not count, since an application may mean them.
    pub consecutive_responses: Option<u32>,
    /// So many connections in a row that could not be made, or broke before the response was whole.
    /// `None`: they do not count.
    pub consecutive_connections: Option<u32>,
    /// How long it is left out the first time; each further time is as much longer.
    pub base_duration: Duration,
    /// How long at most.
    pub maximum_duration: Duration,
    /// How many of the endpoints may be left out at once, in percent; one may be always, if others
    /// are left.
    pub maximum_percent: u8,
}

impl Default for Ejection {
    fn default() -> Self {
        Self {
            consecutive_responses: None,
            consecutive_connections: Some(EJECTION_CONSECUTIVE_FAILURES),
            base_duration: EJECTION_BASE_DURATION,
            maximum_duration: EJECTION_MAXIMUM_DURATION,
            maximum_percent: EJECTION_MAXIMUM_PERCENT,
        }
    }
}

/// What one proxy may have under way to the endpoints of one port of a service. More is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CircuitLimits {
    /// Connections open.
    pub connections: u32,
    /// Requests that were sent and are not answered whole.
    pub requests: u32,
    /// Requests that wait until an endpoint is ready, or one of the others has ended; zero: none may.
    pub pending: u32,
    /// How long a request may wait so; zero: not at all.
    pub pending_timeout: Duration,
}

impl Default for CircuitLimits {
    fn default() -> Self {
        Self {
            connections: LIMIT_CONNECTIONS,
            requests: LIMIT_REQUESTS,
            pending: LIMIT_PENDING,
            pending_timeout: PENDING_TIMEOUT,
        }
    }
}

/// How many requests may be repeated, of all that one proxy sends to one port of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    /// Of the requests of the last `interval`, in percent.
    pub percent: u32,
    /// As many are always allowed.
    pub minimum_per_second: u32,
    /// What is looked back on.
    pub interval: Duration,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self {
            percent: RETRY_BUDGET_PERCENT,
            minimum_per_second: RETRY_BUDGET_MINIMUM_PER_SECOND,
            interval: RETRY_BUDGET_INTERVAL,
        }
    }
}

/// How connections to endpoints are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// How long one without a request is kept for the next.
    pub idle_timeout: Duration,
    /// How long nothing may arrive before TCP asks whether the other end is there.
    pub tcp_time: Duration,
    /// How long between two questions.
    pub tcp_interval: Duration,
    /// How many stay unanswered before the connection is given up.
    pub tcp_probes: u32,
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self {
            idle_timeout: KEEP_ALIVE_IDLE_TIMEOUT,
            tcp_time: KEEP_ALIVE_TCP_TIME,
            tcp_interval: KEEP_ALIVE_TCP_INTERVAL,
            tcp_probes: KEEP_ALIVE_TCP_PROBES,
        }
    }
}

/// How many requests a workload takes. More are answered with 429, by its own proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Of this port; `None`: of all ports together.
    pub port: Option<Port>,
    /// As many in each `interval`.
    pub requests: u32,
    /// What `requests` are counted over.
    pub interval: Duration,
    /// As many at once, after a pause.
    pub burst: u32,
    /// Who shares it.
    pub scope: RateLimitScope,
}

/// Who shares a rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateLimitScope {
    /// All callers.
    Workload,
    /// Each caller's identity has its own; all without one share one.
    Caller,
}

/// Linkerd's default (`linkerd-proxy-balance`).
pub const PEAK_EWMA_DECAY: Duration = Duration::from_secs(10);
/// Envoy's overprovisioning factor of 1.4: below 1/1.4 of a locality's endpoints, others are used.
pub const MINIMUM_HEALTHY_PERCENT: u8 = 70;
/// Envoy's default of `consecutive_5xx` and `consecutive_local_origin_failure`.
pub const EJECTION_CONSECUTIVE_FAILURES: u32 = 5;
/// Envoy's default of `base_ejection_time` is 30 s; pods are replaced faster than machines.
pub const EJECTION_BASE_DURATION: Duration = Duration::from_secs(10);
/// Envoy's default of `max_ejection_time`.
pub const EJECTION_MAXIMUM_DURATION: Duration = Duration::from_secs(300);
/// More than Envoy's 10: with three replicas that would be none.
pub const EJECTION_MAXIMUM_PERCENT: u8 = 50;
/// Four times Envoy's default of `max_connections`, which is for proxies with fewer callers.
pub const LIMIT_CONNECTIONS: u32 = 4096;
/// As above, of `max_requests`.
pub const LIMIT_REQUESTS: u32 = 4096;
/// Envoy's default of `max_pending_requests`.
pub const LIMIT_PENDING: u32 = 1024;
/// Linkerd's default of its fail-fast timeout.
pub const PENDING_TIMEOUT: Duration = Duration::from_secs(3);
/// Linkerd's default, and GEP-3388's.
pub const RETRY_BUDGET_PERCENT: u32 = 20;
/// As above.
pub const RETRY_BUDGET_MINIMUM_PER_SECOND: u32 = 10;
/// As above.
pub const RETRY_BUDGET_INTERVAL: Duration = Duration::from_secs(10);
/// Less than proxies keep idle inbound connections for, so that the calling side closes first.
pub const KEEP_ALIVE_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Finds a peer that vanished within a minute: 30 s, and three questions 10 s apart.
pub const KEEP_ALIVE_TCP_TIME: Duration = Duration::from_secs(30);
/// As above.
pub const KEEP_ALIVE_TCP_INTERVAL: Duration = Duration::from_secs(10);
/// As above.
pub const KEEP_ALIVE_TCP_PROBES: u32 = 3;
