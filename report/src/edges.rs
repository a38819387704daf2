//! Edges for machines: the JSON of `meshctl edges -o json`. Its fields are stable. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use heddle_proto::telemetry as wire;
use schemars::JsonSchema;
use serde::Serialize;

/// Who talks to whom.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct EdgesReport {
    /// What was asked for.
    pub window_seconds: u64,
    /// What the counts are of; see `meshctl stat`.
    pub covered_seconds: f64,
    /// By source and destination.
    pub edges: Vec<Edge>,
    /// Control planes that did not answer: what proxies told them is missing.
    pub silent_replicas: Vec<String>,
}

/// One that asks, and one that is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Edge {
    /// Null: it has no proxy, or is not in the mesh.
    pub source: Option<End>,
    /// A workload where the source is null, and else a service with its port, or what is outside of the mesh.
    pub destination: End,
    /// By its certificate; empty: none.
    pub client_identity: String,
    /// Of those that serve; empty: none.
    pub server_identities: Vec<String>,
    /// Whether all of it went over mutual TLS.
    pub secured: bool,
    /// Why not; empty: it did.
    pub reason: String,
    /// Requests.
    pub requests: u64,
    /// Those of them that failed.
    pub failures: u64,
    /// Connections that are carried as bytes, set up in that time.
    pub connections: u64,
    /// Requests and connections without mutual TLS.
    pub plaintext: u64,
}

/// One end of an edge.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct End {
    /// Its namespace; empty outside of the mesh.
    pub namespace: String,
    /// `Deployment` and the like, `Pod`, `Service`, `ServiceAccount`, or `Outside`.
    pub kind: String,
    /// Its name; of services with the port.
    pub name: String,
}

/// What counts of both transports together.
#[derive(Default)]
struct Counted {
    server_identities: BTreeSet<String>,
    requests: u64,
    failures: u64,
    connections: u64,
    plaintext: u64,
    pods: Option<(u32, u32)>,
}

/// Source, destination, identity of the client.
type Ends = (Option<End>, End, String);

impl EdgesReport {
    /// Of what clients and servers told: each edge once, from the client where it told.
    pub fn new(response: wire::QueryResponse, window: Duration) -> Self {
        let told_by_clients: BTreeSet<String> = response
            .groups
            .iter()
            .filter_map(|group| group.key.as_ref())
            .filter(|key| key.side() == wire::Side::Client)
            .map(|key| key.client_identity.clone())
            .collect();
        let mut edges: BTreeMap<Ends, Counted> = BTreeMap::new();
        for group in response.groups {
            let key = group.key.clone().unwrap_or_default();
            let is_repeated =
                key.side() == wire::Side::Server && told_by_clients.contains(&key.client_identity);
            if !is_repeated && let Some(ends) = ends(&key) {
                edges.entry(ends).or_default().add(&key, &group);
            }
        }
        let edges = edges.into_iter().filter(|(_, counted)| counted.all() > 0);
        Self {
            window_seconds: window.as_secs(),
            covered_seconds: response.covered_seconds,
            edges: edges.map(|(ends, counted)| edge(ends, counted)).collect(),
            silent_replicas: response.silent_replicas,
        }
    }
}

impl Counted {
    fn add(&mut self, key: &wire::Key, group: &wire::Group) {
        let requests = group.requests.as_ref().map_or(0, |requests| requests.count);
        let connections = group.tcp.as_ref().map_or(0, |tcp| tcp.connections);
        let failures = group.requests.as_ref().map_or(0, |requests| requests.failures);
        self.requests = self.requests.saturating_add(requests);
        self.failures = self.failures.saturating_add(failures);
        self.connections = self.connections.saturating_add(connections);
        if key.transport() != wire::Transport::Mtls {
            let plaintext = requests.saturating_add(connections);
            self.plaintext = self.plaintext.saturating_add(plaintext);
        }
        if let Some(population) = &group.population {
            self.pods = Some((population.meshed, population.pods));
            self.server_identities.extend(population.identities.iter().cloned());
        }
    }

    fn all(&self) -> u64 {
        self.requests.saturating_add(self.connections)
    }
}

fn edge((source, destination, client_identity): Ends, counted: Counted) -> Edge {
    let reason = match counted.plaintext {
        0 => String::new(),
        plaintext => {
            let why = why_plaintext(source.is_some(), &destination, counted.pods);
            match counted.all() {
                all if all == plaintext => why,
                all => format!("{plaintext} of {all} were not: {why}"),
            }
        }
    };
    Edge {
        source,
        destination,
        client_identity,
        server_identities: counted.server_identities.into_iter().collect(),
        secured: counted.plaintext == 0,
        reason,
        requests: counted.requests,
        failures: counted.failures,
        connections: counted.connections,
        plaintext: counted.plaintext,
    }
}

fn why_plaintext(by_client: bool, destination: &End, pods: Option<(u32, u32)>) -> String {
    if !by_client {
        return "the client has no proxy".to_owned();
    }
    match pods {
        _ if destination.kind == OUTSIDE => "the server is outside of the mesh".to_owned(),
        None | Some((_, 0)) => "it is not known who serves".to_owned(),
        Some((0, _)) => "the server has no proxy".to_owned(),
        Some((meshed, pods)) if meshed < pods => {
            format!("{} of {pods} servers have no proxy", pods - meshed)
        }
        Some(_) => "the server had no proxy then".to_owned(),
    }
}

/// `None`: it says nothing of an edge.
fn ends(key: &wire::Key) -> Option<Ends> {
    let workload = End {
        namespace: key.namespace.clone(),
        kind: key.workload_kind.clone(),
        name: key.workload.clone(),
    };
    match key.side() {
        wire::Side::Unspecified => None,
        wire::Side::Client => {
            Some((Some(workload), destination(&key.backend), key.client_identity.clone()))
        }
        wire::Side::Server => {
            Some((account(&key.client_identity), workload, key.client_identity.clone()))
        }
    }
}

fn destination(backend: &str) -> End {
    match backend.split_once('/') {
        Some((namespace, name)) => End {
            namespace: namespace.to_owned(),
            kind: "Service".to_owned(),
            name: name.to_owned(),
        },
        None => End {
            kind: OUTSIDE.to_owned(),
            name: if backend.is_empty() { "unknown".to_owned() } else { backend.to_owned() },
            ..End::default()
        },
    }
}

/// The account of a SPIFFE ID: all that is known of a client whose own proxy told nothing.
fn account(identity: &str) -> Option<End> {
    let (namespace, account) = short(identity)?;
    Some(End {
        namespace: namespace.to_owned(),
        kind: "ServiceAccount".to_owned(),
        name: account.to_owned(),
    })
}

/// Namespace and account of a SPIFFE ID.
pub fn short(identity: &str) -> Option<(&str, &str)> {
    let (_, path) = identity.strip_prefix("spiffe://")?.split_once("/ns/")?;
    path.split_once("/sa/")
}

impl Edge {
    /// `namespace/kind/name` of the source; `-`: it has no proxy.
    pub fn source_title(&self) -> String {
        self.source.as_ref().map_or("-".to_owned(), End::title)
    }

    /// `namespace/kind/name` of the destination.
    pub fn destination_title(&self) -> String {
        self.destination.title()
    }
}

impl End {
    fn title(&self) -> String {
        if self.kind == OUTSIDE {
            return self.name.clone();
        }
        format!("{}/{}/{}", self.namespace, self.kind.to_lowercase(), self.name)
    }
}

/// A kind of destinations.
const OUTSIDE: &str = "Outside";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_that_is_not_secured_says_why() {
        let of = |name: &str| End {
            namespace: "shop".to_owned(),
            kind: (if name.is_empty() { OUTSIDE } else { "Service" }).to_owned(),
            name: name.to_owned(),
        };
        for (by_client, destination, pods, expected) in [
            (false, of("api:80"), Some((2, 2)), "the client has no proxy"),
            (true, of(""), None, "the server is outside of the mesh"),
            (true, of("api:80"), None, "it is not known who serves"),
            (true, of("api:80"), Some((0, 0)), "it is not known who serves"),
            (true, of("api:80"), Some((0, 3)), "the server has no proxy"),
            (true, of("api:80"), Some((1, 3)), "2 of 3 servers have no proxy"),
            (true, of("api:80"), Some((3, 3)), "the server had no proxy then"),
        ] {
            assert_eq!(why_plaintext(by_client, &destination, pods), expected);
        }
    }
}
