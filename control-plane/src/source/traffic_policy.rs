//! The fields of TrafficPolicy, as they are written: how the endpoints of a service are used. What they
//! mean, and their defaults, are in `translate/traffic_policy.rs` and `docs/traffic-policy.md`.
//! Durations are texts such as `5s`.

use gateway_api::experimental::httproutes::HttpRouteRulesSessionPersistence;
use schemars::JsonSchema;
use serde::Deserialize;

/// `spec` of a TrafficPolicy.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrafficPolicySpec {
    /// The services that it is for, in its own namespace.
    #[schemars(length(min = 1, max = 16))]
    pub target_refs: Vec<TargetReference>,
    /// Which endpoint gets a request.
    #[serde(default)]
    pub load_balancing: Option<LoadBalancing>,
    /// As in the rules of an HTTPRoute.
    #[serde(default)]
    pub session_persistence: Option<HttpRouteRulesSessionPersistence>,
    /// Which endpoints are considered.
    #[serde(default)]
    pub locality: Option<Locality>,
    /// How a new endpoint gets its share.
    #[serde(default)]
    pub slow_start: Option<SlowStart>,
    /// When an endpoint that fails is left out.
    #[serde(default)]
    pub outlier_detection: Option<OutlierDetection>,
    /// What may be under way at once.
    #[serde(default)]
    pub circuit_breaker: Option<CircuitBreaker>,
    /// How many requests may be repeated.
    #[serde(default)]
    pub retry_budget: Option<RetryBudget>,
    /// How many requests the pods behind the service take.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub rate_limit: Vec<RateLimit>,
    /// How connections are kept.
    #[serde(default)]
    pub keep_alive: Option<KeepAlive>,
    /// Failures made on purpose.
    #[serde(default)]
    pub fault_injection: Option<FaultInjection>,
}

/// What a policy is for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetReference {
    /// Empty: the core group.
    #[serde(default)]
    pub group: String,
    /// `Service`.
    pub kind: String,
    /// The service's name.
    pub name: String,
    /// The name of one of its ports; absent: all of them.
    #[serde(default)]
    pub section_name: Option<String>,
}

/// Which endpoint gets a request.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LoadBalancing {
    /// The way.
    #[serde(rename = "type", default)]
    pub kind: LoadBalancingType,
    /// How fast latencies are forgotten; for `PeakEWMA`.
    #[serde(default)]
    pub decay: Option<String>,
    /// What is hashed; for `ConsistentHash`.
    #[serde(default)]
    pub consistent_hash: Option<ConsistentHash>,
}

/// A way to choose an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum LoadBalancingType {
    /// The better of two.
    #[default]
    #[serde(rename = "PeakEWMA")]
    PeakEwma,
    /// One after the other.
    RoundRobin,
    /// Any.
    Random,
    /// The same one for the same key.
    ConsistentHash,
}

/// What is hashed; exactly one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConsistentHash {
    /// The value of this header.
    #[serde(default)]
    pub header: Option<String>,
    /// The value of this cookie.
    #[serde(default)]
    pub cookie: Option<String>,
    /// The calling workload.
    #[serde(default)]
    pub source: Option<bool>,
}

/// Which endpoints are considered.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Locality {
    /// Which ones are close.
    #[serde(default)]
    pub preference: Option<LocalityPreference>,
    /// When fewer of those are healthy, others are considered too.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100))]
    pub minimum_healthy_percent: Option<i64>,
}

/// Which endpoints are close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum LocalityPreference {
    /// All.
    None,
    /// Those of the same zone.
    SameZone,
    /// Those of the same node, or else of the same zone.
    SameNode,
}

/// How a new endpoint gets its share.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SlowStart {
    /// How long that takes.
    pub window: String,
}

/// When an endpoint that fails is left out.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OutlierDetection {
    /// Responses in a row that blame the server; absent or zero: they do not count.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub consecutive_responses: Option<i64>,
    /// Connections in a row that failed; zero: they do not count.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub consecutive_connection_failures: Option<i64>,
    /// How long the first time.
    #[serde(default)]
    pub base_ejection_time: Option<String>,
    /// How long at most.
    #[serde(default)]
    pub max_ejection_time: Option<String>,
    /// How many at once.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100))]
    pub max_ejection_percent: Option<i64>,
}

/// What may be under way at once, of each caller.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CircuitBreaker {
    /// Connections.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub max_connections: Option<i64>,
    /// Requests.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub max_requests: Option<i64>,
    /// Requests that wait.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub max_pending_requests: Option<i64>,
    /// How long they wait; zero: not at all.
    #[serde(default)]
    pub pending_timeout: Option<String>,
}

/// How many requests may be repeated.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetryBudget {
    /// Of all requests.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100))]
    pub percent: Option<i64>,
    /// As many always.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub min_retries_per_second: Option<i64>,
    /// What is looked back on.
    #[serde(default)]
    pub interval: Option<String>,
}

/// How many requests a pod takes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateLimit {
    /// As many in each interval.
    #[schemars(range(min = 1))]
    pub requests: i64,
    /// One second if absent.
    #[serde(default)]
    pub interval: Option<String>,
    /// As many at once; `requests` if absent.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub burst: Option<i64>,
    /// A port of the service; absent: all that the policy is for, together.
    #[serde(default)]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i64>,
    /// Who shares it.
    #[serde(default)]
    pub scope: RateLimitScope,
}

/// Who shares a rate limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum RateLimitScope {
    /// All callers.
    #[default]
    Workload,
    /// Each caller's identity has its own.
    Caller,
}

/// How connections are kept.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeepAlive {
    /// How long one without a request is kept.
    #[serde(default)]
    pub idle_timeout: Option<String>,
    /// How long nothing may arrive before TCP asks.
    #[serde(default)]
    pub time: Option<String>,
    /// How long between two questions.
    #[serde(default)]
    pub interval: Option<String>,
    /// How many stay unanswered.
    #[serde(default)]
    #[schemars(range(min = 1, max = 127))]
    pub probes: Option<i64>,
}

/// Failures made on purpose.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FaultInjection {
    /// Requests wait.
    #[serde(default)]
    pub delay: Option<FaultDelay>,
    /// Requests are answered instead of sent.
    #[serde(default)]
    pub abort: Option<FaultAbort>,
}

/// Requests wait.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FaultDelay {
    /// How long.
    pub duration: String,
    /// Of how many; all if absent.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100))]
    pub percent: Option<i64>,
}

/// Requests are answered instead of sent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FaultAbort {
    /// 400 to 599; 503 if absent.
    #[serde(default)]
    #[schemars(range(min = 400, max = 599))]
    pub http_status: Option<i64>,
    /// 1 to 16; 14 (unavailable) if absent.
    #[serde(default)]
    #[schemars(range(min = 1, max = 16))]
    pub grpc_status: Option<i64>,
    /// Of how many; all if absent.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100))]
    pub percent: Option<i64>,
}
