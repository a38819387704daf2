//! Traffic for machines: the JSON of `meshctl stat -o json`. Its fields are stable. Pure.

use std::time::Duration;

use heddle_proto::telemetry as wire;
use schemars::JsonSchema;
use serde::Serialize;

/// A kind of things that are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// What owns pods: of this kind, or of any.
    Workloads(Option<&'static str>),
    /// Pods.
    Pods,
    /// Services, by port.
    Services,
    /// What services send to.
    Backends,
    /// Routes of services.
    Routes,
}

/// What is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Of this kind.
    pub what: What,
    /// Only this one.
    pub name: Option<String>,
}

impl What {
    /// How it is asked for.
    pub fn grouping(self) -> wire::Grouping {
        match self {
            Self::Workloads(_) => wire::Grouping::Workload,
            Self::Pods => wire::Grouping::Pod,
            Self::Services => wire::Grouping::Service,
            Self::Backends => wire::Grouping::Backend,
            Self::Routes => wire::Grouping::Route,
        }
    }

    /// As in "there is no …".
    pub fn noun(self) -> &'static str {
        match self {
            Self::Workloads(_) => "workload",
            Self::Pods => "pod",
            Self::Services => "service",
            Self::Backends => "backend",
            Self::Routes => "route",
        }
    }
}

/// What was counted.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct StatReport {
    /// What rows are: `workload`, `pod`, `service`, `backend` or `route`.
    pub by: &'static str,
    /// What was asked for.
    pub window_seconds: u64,
    /// What the counts are of: the window, and the ten seconds that it begins in as a whole; less where the memory
    /// does not reach back so far.
    pub covered_seconds: f64,
    /// By namespace and name.
    pub rows: Vec<Row>,
    /// Control planes that did not answer: what proxies told them is missing.
    pub silent_replicas: Vec<String>,
}

/// One workload, pod, service, backend or route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Row {
    /// Its namespace.
    pub namespace: String,
    /// Of workloads and pods: `Deployment` and the like, or `Pod`; else empty.
    pub kind: String,
    /// Of workloads, pods, and of routes (empty: no route), else of the service with its port.
    pub name: String,
    /// Of backends and routes: which service was called, as `namespace/name:port`; else empty.
    pub service: String,
    /// Of backends: what it was sent to, as `namespace/name:port`; else empty.
    pub backend: String,
    /// Pods that serve it; null: not known.
    pub pods: Option<u32>,
    /// Those of them that have a proxy.
    pub meshed: Option<u32>,
    /// Answered, or failed.
    pub requests: u64,
    /// Those that failed.
    pub failures: u64,
    /// From 0 to 1; null: there were none.
    pub success_rate: Option<f64>,
    /// Per second of `covered_seconds`.
    pub requests_per_second: f64,
    /// Null: there were none.
    pub latency_seconds: Option<Percentiles>,
    /// What its own proxies take of a request, of one in seventeen; null but for workloads and pods of which some
    /// were measured.
    pub proxy_seconds: Option<ProxySeconds>,
    /// The share of requests and connections over mutual TLS, from 0 to 1; null: there were none.
    pub mtls_share: Option<f64>,
    /// Connections that are carried as bytes.
    pub tcp: Tcp,
}

/// How long requests took, from their head to the head of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Percentiles {
    /// Half of them at most so long.
    pub p50: f64,
    /// 95 % of them.
    pub p95: f64,
    /// 99 % of them.
    pub p99: f64,
}

/// From the head of a request to that of the answer, without the time between sending it on and being answered.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ProxySeconds {
    /// Of requests to it; null: none was measured.
    pub inbound: Option<Percentiles>,
    /// Of those that it sent; null: none was measured.
    pub outbound: Option<Percentiles>,
}

/// Connections that are carried as bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Tcp {
    /// Set up in that time.
    pub connections: u64,
    /// Open now.
    pub open_connections: u64,
    /// Sent by clients in that time.
    pub to_server_bytes: u64,
    /// Sent by servers in that time.
    pub to_client_bytes: u64,
}

impl StatReport {
    /// What was asked for, of what was answered.
    pub fn new(response: wire::QueryResponse, subject: &Subject, window: Duration) -> Self {
        let covered_seconds = response.covered_seconds;
        let groups = response.groups.into_iter();
        let rows = groups.map(|group| Row::new(group, subject.what, covered_seconds));
        let is_meant = |row: &Row| subject.name.as_ref().is_none_or(|name| row.is_named(name));
        Self {
            by: subject.what.noun(),
            window_seconds: window.as_secs(),
            covered_seconds,
            rows: rows.filter(|row| is_meant(row) && row.is_of_kind(subject.what)).collect(),
            silent_replicas: response.silent_replicas,
        }
    }
}

impl Percentiles {
    /// `None`: nothing was measured.
    fn of(latency: &wire::Latency) -> Option<Self> {
        let (p50, p95) = latency.p50_seconds.zip(latency.p95_seconds)?;
        Some(Self { p50, p95, p99: latency.p99_seconds? })
    }
}

impl Row {
    /// Of a group that was counted over this time.
    #[expect(clippy::cast_precision_loss, reason = "a share or a rate, for people")]
    pub fn new(group: wire::Group, what: What, covered_seconds: f64) -> Self {
        let key = group.key.unwrap_or_default();
        let requests = group.requests.unwrap_or_default();
        let tcp = group.tcp.unwrap_or_default();
        let latency = requests.latency.unwrap_or_default();
        let own_time = group.own_time.unwrap_or_default();
        let inbound = own_time.inbound.as_ref().and_then(Percentiles::of);
        let outbound = own_time.outbound.as_ref().and_then(Percentiles::of);
        let is_measured = inbound.is_some() || outbound.is_some();
        let share = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        let name_of = |service: &str| match service.split_once('/') {
            Some((_, name)) => name.to_owned(),
            None => service.to_owned(),
        };
        let (kind, name) = match what {
            What::Workloads(_) => (key.workload_kind, key.workload),
            What::Pods => ("Pod".to_owned(), key.pod),
            What::Services => (String::new(), name_of(&key.service)),
            What::Backends => (String::new(), name_of(&key.backend)),
            What::Routes => (String::new(), key.route),
        };
        let service = match what {
            What::Workloads(_) | What::Pods | What::Services => String::new(),
            What::Backends | What::Routes => key.service,
        };
        let good = requests.count.saturating_sub(requests.failures);
        Self {
            namespace: key.namespace,
            kind,
            name,
            service,
            backend: key.backend,
            pods: group.population.as_ref().map(|population| population.pods),
            meshed: group.population.as_ref().map(|population| population.meshed),
            requests: requests.count,
            failures: requests.failures,
            success_rate: share(good, requests.count),
            requests_per_second: requests.count as f64 / covered_seconds.max(1.0),
            latency_seconds: Percentiles::of(&latency),
            proxy_seconds: is_measured.then_some(ProxySeconds { inbound, outbound }),
            mtls_share: share(
                requests.mtls.saturating_add(tcp.mtls),
                requests.count.saturating_add(tcp.connections),
            ),
            tcp: Tcp {
                connections: tcp.connections,
                open_connections: tcp.open_connections,
                to_server_bytes: tcp.to_server_bytes,
                to_client_bytes: tcp.to_client_bytes,
            },
        }
    }

    /// As one word: `deployment/api`, `pod/api-1`, `service/api:80`, `route/canary`.
    pub fn title(&self) -> String {
        let kind = match (self.kind.as_str(), self.service.is_empty(), self.backend.is_empty()) {
            ("", true, _) => "service".to_owned(),
            ("", false, false) => "backend".to_owned(),
            ("", false, true) => "route".to_owned(),
            (kind, _, _) => kind.to_lowercase(),
        };
        format!("{kind}/{}", self.name)
    }

    /// Whether it is one of these.
    pub fn is_of_kind(&self, what: What) -> bool {
        match what {
            What::Workloads(Some(kind)) => self.kind == kind,
            What::Workloads(None) | What::Pods | What::Services | What::Backends | What::Routes => {
                true
            }
        }
    }

    /// Whether this is its name; a service's goes without its port, too.
    pub fn is_named(&self, name: &str) -> bool {
        self.name == name || self.name.split_once(':').is_some_and(|(service, _)| service == name)
    }

    /// Something was sent, or is open.
    pub fn is_busy(&self) -> bool {
        self.requests > 0 || self.tcp.connections > 0 || self.tcp.open_connections > 0
    }
}
