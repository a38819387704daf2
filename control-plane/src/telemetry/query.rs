//! What is asked of the memory, and how its series are counted together. Pure, but for the walk over the proxies.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use crate::telemetry::cumulative::AWAY_LIMIT;
use crate::telemetry::labels::{Direction, Labels, Transport};
use crate::telemetry::latency::Latency;
use crate::telemetry::memory::{self, Memory};
use crate::telemetry::proxy::{Origin, ProxyMemory, Workload};
use crate::telemetry::sample::Sample;
use crate::telemetry::series::{STEP, STEPS, Series, Step};

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// How far back, in steps; the one that has begun comes on top.
    pub steps: u32,
    /// What is counted together.
    pub grouping: Grouping,
    /// Only what is in it; `None`: in all.
    pub namespace: Option<String>,
    /// How many steps are told one by one, beside the one that has begun; `None`: none.
    pub history: Option<u32>,
}

/// What is counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// Inbound, by what owns the pods.
    Workload,
    /// Inbound, by pod.
    Pod,
    /// Outbound, by what was called.
    Service,
    /// Outbound, by what it was sent to.
    Backend,
    /// Outbound, by what decided so.
    Route,
    /// Who called whom, and how.
    Edge,
}

impl Grouping {
    /// Whether what is counted was asked of those who are counted.
    fn is_of_callees(self) -> bool {
        match self {
            Self::Workload | Self::Pod => true,
            Self::Service | Self::Backend | Self::Route | Self::Edge => false,
        }
    }
}

/// Which group; what it is not grouped by is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Of the workload, or else of the service.
    pub namespace: String,
    /// What owns the pods; its namespace is empty where it is not grouped by.
    pub workload: Workload,
    /// The pod.
    pub pod: String,
    /// What was called.
    pub service: String,
    /// What it was sent to.
    pub backend: String,
    /// What decided so.
    pub route: String,
    /// Of edges.
    pub edge: Option<Edge>,
}

/// What tells edges apart beside their ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// Outbound: told by the client; inbound: by the server.
    pub told: Direction,
    /// Empty: none, or not told.
    pub client_identity: String,
    /// How.
    pub transport: Transport,
}

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests answered.
    pub requests: u64,
    /// Those that failed.
    pub failures: u64,
    /// Those over mutual TLS.
    pub mtls_requests: u64,
    /// How long they took.
    pub latency: Latency,
    /// What the workload's own proxy took of a share of those requests; of workloads and pods.
    pub own_time_inbound: Latency,
    /// The same of requests that the workload sent.
    pub own_time_outbound: Latency,
    /// Connections carried as bytes.
    pub connections: u64,
    /// Those over mutual TLS.
    pub mtls_connections: u64,
    /// Bytes from clients.
    pub to_server_bytes: u64,
    /// Bytes to clients.
    pub to_client_bytes: u64,
    /// Connections open now.
    pub open_connections: u64,
    /// What each step of the history had; those without requests are left out.
    pub steps: BTreeMap<Step, StepTotals>,
}

/// What was counted in one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepTotals {
    /// Requests answered.
    pub requests: u64,
    /// Those that failed.
    pub failures: u64,
}

/// Everything that is counted together.
pub type Groups = BTreeMap<Key, Totals>;

/// An answer, or one replica's share of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counted {
    /// By group.
    pub groups: Groups,
    /// What the counts are of.
    pub covered: Duration,
    /// How many proxies told something in that time.
    pub proxies: u32,
    /// The first and the last step that are told one by one.
    pub history: Option<(Step, Step)>,
}

impl Counted {
    /// Adds what another replica counted.
    pub fn add(&mut self, other: Self) {
        for (key, totals) in other.groups {
            self.groups.entry(key).or_default().add(&totals);
        }
        self.covered = self.covered.max(other.covered);
        self.proxies = self.proxies.saturating_add(other.proxies);
        self.history = match (self.history, other.history) {
            (Some(ours), Some(theirs)) => Some((ours.0.min(theirs.0), ours.1.max(theirs.1))),
            (ours, theirs) => ours.or(theirs),
        };
    }
}

/// Counts what this control plane was told.
///
/// Cancel safe: yes.
pub async fn count(memory: &Memory, query: &Query, now: SystemTime) -> Counted {
    let last = Step::at(now);
    let from = last.before(query.steps).max(memory.floor());
    let history = query.history.map(|steps| (last.before(steps).max(memory.floor()), last));
    let mut counted = Counted { covered: covered(from, now), history, ..Counted::default() };
    for (index, proxy) in memory.proxies().into_iter().enumerate() {
        if index % PROXIES_AT_ONCE == PROXIES_AT_ONCE - 1 {
            tokio::task::yield_now().await;
        }
        add_proxy(&mut counted, &memory::lock(&proxy), query, (from, now));
    }
    counted
}

/// From the beginning of a step to now; at least one step, so that a rate means something.
fn covered(from: Step, now: SystemTime) -> Duration {
    now.duration_since(from.began()).unwrap_or_default().max(STEP)
}

fn add_proxy(
    counted: &mut Counted,
    proxy: &ProxyMemory,
    query: &Query,
    (from, now): (Step, SystemTime),
) {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let silent = proxy.heard().map_or(Duration::MAX, |heard| now.saturating_sub(heard));
    if Step::at(SystemTime::UNIX_EPOCH + now.saturating_sub(silent)) >= from {
        counted.proxies = counted.proxies.saturating_add(1);
    }
    for (labels, series) in proxy.series() {
        let Some(key) = key(query, &proxy.origin, labels) else { continue };
        let history = counted.history.map(|(first, _)| first);
        let is_sent = query.grouping.is_of_callees() && labels.direction == Direction::Outbound;
        let mut totals = match is_sent {
            true => own_time_of(series, from),
            false => totals(series, (from, history), labels.transport),
        };
        if query.grouping == Grouping::Edge {
            totals.own_time_inbound = Latency::default();
        }
        if silent <= AWAY_LIMIT && !is_sent {
            totals.open_connections = series.open_connections();
        }
        if totals != Totals::default() {
            counted.groups.entry(key).or_default().add(&totals);
        }
    }
}

fn totals(series: &Series, (from, history): (Step, Option<Step>), transport: Transport) -> Totals {
    let mut totals = Totals::default();
    series.since(history.map_or(from, |first| first.min(from)), |step, sample| {
        if step >= from {
            totals.count(sample, transport);
        }
        if sample.requests > 0 && history.is_some_and(|first| step >= first) {
            let counted = StepTotals { requests: sample.requests, failures: sample.failures };
            totals.steps.entry(step).or_default().add(counted);
        }
    });
    totals
}

/// Of what a workload sends, all that is told of the workload itself.
fn own_time_of(series: &Series, from: Step) -> Totals {
    let mut totals = Totals::default();
    series.since(from, |_, sample| totals.own_time_outbound.merge(&sample.own_time));
    totals
}

impl StepTotals {
    fn add(&mut self, other: Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.failures = self.failures.saturating_add(other.failures);
    }
}

impl Totals {
    /// Adds what was counted in one step of a series.
    pub(super) fn count(&mut self, sample: &Sample, transport: Transport) {
        let (mtls_requests, mtls_connections) = match transport {
            Transport::Mtls => (sample.requests, sample.connections),
            Transport::Plaintext => (0, 0),
        };
        self.requests = self.requests.saturating_add(sample.requests);
        self.failures = self.failures.saturating_add(sample.failures);
        self.mtls_requests = self.mtls_requests.saturating_add(mtls_requests);
        self.latency.merge(&sample.latency);
        self.own_time_inbound.merge(&sample.own_time);
        self.connections = self.connections.saturating_add(sample.connections);
        self.mtls_connections = self.mtls_connections.saturating_add(mtls_connections);
        self.to_server_bytes = self.to_server_bytes.saturating_add(sample.to_server_bytes);
        self.to_client_bytes = self.to_client_bytes.saturating_add(sample.to_client_bytes);
    }

    /// Adds what was counted elsewhere.
    pub(super) fn add(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.failures = self.failures.saturating_add(other.failures);
        self.mtls_requests = self.mtls_requests.saturating_add(other.mtls_requests);
        self.latency.merge(&other.latency);
        self.own_time_inbound.merge(&other.own_time_inbound);
        self.own_time_outbound.merge(&other.own_time_outbound);
        self.connections = self.connections.saturating_add(other.connections);
        self.mtls_connections = self.mtls_connections.saturating_add(other.mtls_connections);
        self.to_server_bytes = self.to_server_bytes.saturating_add(other.to_server_bytes);
        self.to_client_bytes = self.to_client_bytes.saturating_add(other.to_client_bytes);
        self.open_connections = self.open_connections.saturating_add(other.open_connections);
        for (step, counted) in &other.steps {
            self.steps.entry(*step).or_default().add(*counted);
        }
    }
}

/// The group of a series; `None`: it is not asked about.
pub(super) fn key(query: &Query, origin: &Origin, labels: &Labels) -> Option<Key> {
    let (service, backend) = (labels.service.to_string(), labels.backend.to_string());
    let wanted = match query.grouping {
        Grouping::Workload | Grouping::Pod => Some(Direction::Inbound),
        Grouping::Service | Grouping::Backend | Grouping::Route => Some(Direction::Outbound),
        Grouping::Edge => None,
    };
    let may_tell_own_time = query.grouping.is_of_callees() && service.is_empty();
    if wanted.is_some_and(|wanted| wanted != labels.direction) && !may_tell_own_time {
        return None;
    }
    let workload = || origin.workload.clone();
    let of_workload = || origin.workload.namespace.clone();
    let of_service = namespace_of(&service).to_owned();
    let key = match query.grouping {
        Grouping::Workload => {
            Key { namespace: of_workload(), workload: workload(), ..Key::default() }
        }
        Grouping::Pod => Key {
            namespace: of_workload(),
            workload: workload(),
            pod: origin.pod.clone(),
            ..Key::default()
        },
        Grouping::Service => Key { namespace: of_service, service, ..Key::default() },
        Grouping::Backend => Key { namespace: of_service, service, backend, ..Key::default() },
        Grouping::Route => {
            let route = labels.route.to_string();
            Key { namespace: of_service, service, route, ..Key::default() }
        }
        Grouping::Edge => edge_key(origin, labels),
    };
    // A service that is not named is not one of the mesh's.
    let is_named = match query.grouping {
        Grouping::Workload | Grouping::Pod | Grouping::Edge => true,
        Grouping::Service | Grouping::Backend | Grouping::Route => !key.service.is_empty(),
    };
    let ends_in = namespace_of(&key.backend).to_owned();
    let is_in = query.namespace.as_deref().is_none_or(|wanted| {
        key.namespace == wanted || (query.grouping == Grouping::Edge && ends_in == wanted)
    });
    (is_named && is_in).then_some(key)
}

fn edge_key(origin: &Origin, labels: &Labels) -> Key {
    let (backend, client_identity) = match labels.direction {
        Direction::Outbound => (labels.backend.to_string(), origin.identity.to_string()),
        Direction::Inbound => (String::new(), labels.peer.to_string()),
    };
    Key {
        namespace: origin.workload.namespace.clone(),
        workload: origin.workload.clone(),
        backend,
        edge: Some(Edge { told: labels.direction, client_identity, transport: labels.transport }),
        ..Key::default()
    }
}

/// Of `namespace/name:port`; empty for what is no service.
fn namespace_of(service: &str) -> &str {
    service.split_once('/').map_or("", |(namespace, _)| namespace)
}

impl Query {
    /// Of a window of seconds; `None` if it is too short or too long.
    pub fn steps_of(window_seconds: u32) -> Option<u32> {
        let step = u32::try_from(STEP.as_secs()).ok()?;
        (step..=step * STEPS).contains(&window_seconds).then(|| window_seconds.div_ceil(step))
    }

    /// Of a history of seconds, of which there may be none; the error says why it is too long.
    pub fn history_of(history_seconds: u32) -> Result<Option<u32>, String> {
        match history_seconds {
            0 => Ok(None),
            1..=HISTORY_LIMIT_SECONDS => Ok(Self::steps_of(history_seconds.max(10))),
            _ => Err(format!(
                "a history of {history_seconds} s is too long (want at most {HISTORY_LIMIT_SECONDS})"
            )),
        }
    }
}

/// So that a question about all does not keep others waiting.
pub(super) const PROXIES_AT_ONCE: usize = 16;
/// So that ten thousand groups with their history fit into a message between replicas.
const HISTORY_LIMIT_SECONDS: u32 = 600;

#[cfg(test)]
mod tests;
