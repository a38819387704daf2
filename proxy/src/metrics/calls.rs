//! The series of requests: which attributes they have, that there is a bound on how many there are, and
//! that those go that nobody adds to any more. How a request comes to its series is in
//! http/stack/observe.rs; how `/metrics` shows them in drawn.rs, how they are exported in
//! telemetry/calls.rs.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use heddle_runtime::clock;
use heddle_telemetry::recorder::{Quantity, Recorder};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::http::grpc::GrpcStatus;
use crate::metrics::method::Method;
use crate::metrics::{Direction, Protection};

/// What a series' requests have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CallLabels {
    /// The HTTP status.
    pub status: u16,
    /// One of a closed set.
    pub method: Method,
    /// How it ended, if it was a call of gRPC.
    pub grpc_status: GrpcStatus,
    /// On the hop between proxies.
    pub tls: Protection,
    /// Why it failed in this proxy; empty if it did not.
    pub error: &'static str,
    /// Whom they have in common with others of the same backend.
    pub group: CallGroup,
    /// The name of the route's object; empty if there was none.
    pub route: Arc<str>,
    /// Who called, by its certificate; empty outbound, and for nobody known.
    pub peer: Arc<str>,
}

/// What `/metrics` tells durations apart by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CallGroup {
    /// Seen from the workload.
    pub direction: Direction,
    /// What was called, as `namespace/name:port`; empty for inbound.
    pub service: Arc<str>,
    /// What the request was routed to; empty if it came to none.
    pub backend: Arc<str>,
}

/// What is measured of requests that have these labels.
#[derive(Debug)]
pub struct CallSeries {
    /// What they have in common.
    pub labels: CallLabels,
    /// True for the series that stands for all that there was no room for.
    pub is_overflow: bool,
    /// When the first of them ended.
    pub since: SystemTime,
    /// From the head of the request to that of the response.
    pub durations: Recorder,
    /// Of requests' bodies.
    pub request_sizes: Recorder,
    /// Of responses' bodies.
    pub response_sizes: Recorder,
}

impl CallSeries {
    fn new(labels: CallLabels, is_overflow: bool) -> Arc<Self> {
        Arc::new(Self {
            labels,
            is_overflow,
            since: clock::now(),
            durations: Recorder::new(Quantity::Duration),
            request_sizes: Recorder::new(Quantity::Size),
            response_sizes: Recorder::new(Quantity::Size),
        })
    }
}

impl CallLabels {
    /// Whether the server, or what is between it and its client, is to blame.
    pub fn is_failure(&self) -> bool {
        is_failure(self.status, self.grpc_status, self.error)
    }
}

/// Whether the server, or what is between it and its client, is to blame: by the status, or by that of gRPC
/// as [`Code::blames_server`](crate::http::grpc::Code::blames_server) has it. `error` is why it failed in this proxy; empty if it did not.
pub fn is_failure(status: u16, grpc_status: GrpcStatus, error: &str) -> bool {
    match grpc_status {
        GrpcStatus::Broken => true,
        GrpcStatus::Ended(code) => code.blames_server(),
        // What the proxy answers with a status from 400 on, and below 500, is the client's doing.
        GrpcStatus::NotGrpc => status >= 500 || (!error.is_empty() && status < 400),
    }
}

/// The same as [`CallLabels`], not taken hold of.
#[derive(Clone, Copy, Debug)]
pub struct CallKey<'a> {
    /// As in [`CallLabels`].
    pub status: u16,
    /// As in [`CallLabels`].
    pub method: Method,
    /// As in [`CallLabels`].
    pub grpc_status: GrpcStatus,
    /// As in [`CallLabels`].
    pub tls: Protection,
    /// As in [`CallLabels`].
    pub error: &'static str,
    /// As in [`CallGroup`].
    pub direction: Direction,
    /// As in [`CallGroup`].
    pub service: &'a Arc<str>,
    /// As in [`CallGroup`].
    pub backend: &'a Arc<str>,
    /// As in [`CallLabels`].
    pub route: &'a Arc<str>,
    /// As in [`CallLabels`].
    pub peer: &'a Arc<str>,
}

impl CallKey<'_> {
    fn matches(&self, labels: &CallLabels) -> bool {
        let is = |name: &Arc<str>, other: &Arc<str>| Arc::ptr_eq(name, other) || name == other;
        self.status == labels.status
            && self.method == labels.method
            && self.grpc_status == labels.grpc_status
            && self.tls == labels.tls
            && self.error == labels.error
            && self.direction == labels.group.direction
            && is(self.service, &labels.group.service)
            && is(self.backend, &labels.group.backend)
            && is(self.route, &labels.route)
            && is(self.peer, &labels.peer)
    }

    fn to_labels(self) -> CallLabels {
        CallLabels {
            status: self.status,
            method: self.method,
            grpc_status: self.grpc_status,
            tls: self.tls,
            error: self.error,
            group: CallGroup {
                direction: self.direction,
                service: Arc::clone(self.service),
                backend: Arc::clone(self.backend),
            },
            route: Arc::clone(self.route),
            peer: Arc::clone(self.peer),
        }
    }
}

/// All series of requests. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct CallTable(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    groups: HashMap<CallGroup, Group>,
    /// In all groups, without what is in `overflow`.
    size: usize,
    overflow: HashMap<Direction, Arc<CallSeries>>,
    peers: HashSet<Arc<str>>,
    /// Apart, since connections are counted for as long as the application is there, and their names stay.
    connection_peers: HashSet<Arc<str>>,
}

/// The series of a group go together: if one went alone, their sum would be less than before, which
/// reads as a process that began anew.
#[derive(Debug)]
struct Group {
    series: HashMap<CallLabels, Arc<CallSeries>>,
    seen_count: u64,
    seen_at: Instant,
}

impl CallTable {
    /// The series of these labels; if there are too many, the one that stands for all others.
    pub fn series(&self, labels: &CallLabels) -> Arc<CallSeries> {
        let mut table = self.0.lock();
        let Table { groups, size, overflow, .. } = &mut *table;
        if let Some(series) = groups.get(&labels.group).and_then(|group| group.series.get(labels)) {
            return Arc::clone(series);
        }
        if *size >= SERIES_LIMIT {
            let direction = labels.group.direction;
            let made = || CallSeries::new(overflowing(direction), true);
            return Arc::clone(overflow.entry(direction).or_insert_with(made));
        }
        *size += 1;
        let series = CallSeries::new(labels.clone(), false);
        let group = groups.entry(labels.group.clone()).or_insert_with(|| Group {
            series: HashMap::new(),
            seen_count: 0,
            seen_at: Instant::now(),
        });
        group.series.insert(labels.clone(), Arc::clone(&series));
        series
    }

    /// A peer's name as an attribute: of so many, or the word for all others.
    pub fn peer(&self, name: &str) -> Arc<str> {
        told_apart(&mut self.0.lock().peers, name, PEER_LIMIT)
    }

    /// The same of who opens connections that are carried as bytes.
    pub fn connection_peer(&self, name: &str) -> Arc<str> {
        told_apart(&mut self.0.lock().connection_peers, name, CONNECTION_PEER_LIMIT)
    }

    /// All series.
    pub fn all(&self) -> Vec<Arc<CallSeries>> {
        let table = self.0.lock();
        let groups = table.groups.values().flat_map(|group| group.series.values());
        groups.chain(table.overflow.values()).map(Arc::clone).collect()
    }

    /// Takes away what nothing was added to for long.
    pub fn sweep(&self, now: Instant) {
        let mut table = self.0.lock();
        let Table { groups, size, peers, connection_peers, .. } = &mut *table;
        groups.retain(|_, group| {
            let count = group.series.values().map(|series| series.durations.count()).sum();
            if count != group.seen_count {
                (group.seen_count, group.seen_at) = (count, now);
            }
            if now.saturating_duration_since(group.seen_at) < IDLE_LIMIT {
                return true;
            }
            // Whoever holds one is about to add to it.
            let all = std::mem::take(&mut group.series);
            let kept = all.into_iter().filter_map(|(labels, series)| {
                Arc::try_unwrap(series).err().map(|series| (labels, series))
            });
            group.series = kept.collect();
            group.seen_count = group.series.values().map(|one| one.durations.count()).sum();
            !group.series.is_empty()
        });
        *size = groups.values().map(|group| group.series.len()).sum();
        peers.retain(|peer| Arc::strong_count(peer) > 1);
        connection_peers.retain(|peer| Arc::strong_count(peer) > 1);
    }
}

fn told_apart(known: &mut HashSet<Arc<str>>, name: &str, limit: usize) -> Arc<str> {
    if let Some(peer) = known.get(name) {
        return Arc::clone(peer);
    }
    if known.len() >= limit {
        return OTHER_PEERS.into();
    }
    let peer: Arc<str> = name.into();
    known.insert(Arc::clone(&peer));
    peer
}

fn overflowing(direction: Direction) -> CallLabels {
    CallLabels {
        status: 0,
        method: Method::Other,
        grpc_status: GrpcStatus::NotGrpc,
        tls: Protection::Plaintext,
        error: "",
        group: CallGroup { direction, service: "".into(), backend: "".into() },
        route: "".into(),
        peer: "".into(),
    }
}

/// The series that one connection's requests came to, so that the next of the kind is found without
/// hashing, and without a lock that others hold.
#[derive(Debug, Default)]
pub struct RecentSeries(Mutex<Vec<Weak<CallSeries>>>);

impl RecentSeries {
    /// The series of these labels.
    pub fn series(&self, table: &CallTable, key: CallKey<'_>) -> Arc<CallSeries> {
        let mut recent = self.0.lock();
        for weak in recent.iter() {
            if let Some(series) = weak.upgrade()
                && key.matches(&series.labels)
            {
                return series;
            }
        }
        let series = table.series(&key.to_labels());
        if !series.is_overflow {
            if recent.len() >= RECENT_LIMIT {
                recent.clear();
            }
            recent.push(Arc::downgrade(&series));
        }
        series
    }
}

/// How many series of requests there are at most. Source: the default cardinality limit of
/// OpenTelemetry's SDKs.
pub const SERIES_LIMIT: usize = 2000;
/// How many peers are told apart.
const PEER_LIMIT: usize = 200;
/// Of those that open connections carried as bytes.
const CONNECTION_PEER_LIMIT: usize = 50;
/// Whoever is not.
const OTHER_PEERS: &str = "_OTHER";
/// For how long series stay that nothing is added to.
pub const IDLE_LIMIT: Duration = Duration::from_secs(600);
/// How many a connection remembers: a page of a browser has fewer kinds of answers.
const RECENT_LIMIT: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(backend: &str, status: u16) -> CallLabels {
        let mut labels = overflowing(Direction::Outbound);
        labels.group.backend = backend.into();
        CallLabels { status, ..labels }
    }

    #[test]
    fn there_are_no_more_series_than_the_limit_and_no_request_is_lost() {
        let table = CallTable::default();
        for number in 0..SERIES_LIMIT + 100 {
            let series = table.series(&labels(&format!("backend {number}"), 200));
            series.durations.record(1);
        }
        let all = table.all();
        assert_eq!(all.len(), SERIES_LIMIT + 1);
        assert_eq!(all.iter().map(|series| series.durations.count()).sum::<u64>(), 2100);
        let overflow: Vec<_> = all.iter().filter(|series| series.is_overflow).collect();
        assert_eq!(overflow[0].durations.count(), 100);
    }

    #[test]
    fn peers_beyond_the_limit_have_one_name() {
        let table = CallTable::default();
        let held: Vec<_> = (0..PEER_LIMIT).map(|number| table.peer(&number.to_string())).collect();
        assert_eq!(&*table.peer("one more"), OTHER_PEERS);
        assert_eq!(&*table.peer("7"), "7");
        let apart = table.connection_peer("another");
        assert_eq!(
            &*apart, "another",
            "connections take no place of requests, and the other way round"
        );
        drop(held);
        table.sweep(Instant::now());
        assert_eq!(&*table.peer("one more"), "one more");
        let many: Vec<_> = (1..CONNECTION_PEER_LIMIT)
            .map(|number| table.connection_peer(&number.to_string()))
            .collect();
        assert_eq!(&*table.connection_peer("one more"), OTHER_PEERS);
        drop((apart, many));
        table.sweep(Instant::now());
        assert_eq!(&*table.connection_peer("one more"), "one more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_goes_when_nothing_was_added_to_any_of_it_for_long() {
        let table = CallTable::default();
        let recent = RecentSeries::default();
        let empty: Arc<str> = "".into();
        let record = |backend: &str, status| {
            let key = CallKey {
                status,
                method: Method::Other,
                grpc_status: GrpcStatus::NotGrpc,
                tls: Protection::Plaintext,
                error: "",
                direction: Direction::Outbound,
                service: &empty,
                backend: &backend.into(),
                route: &empty,
                peer: &empty,
            };
            recent.series(&table, key).durations.record(1);
        };
        let backends = || -> Vec<_> {
            let mut all: Vec<_> = table
                .all()
                .iter()
                .map(|series| (series.labels.group.backend.to_string(), series.labels.status))
                .collect();
            all.sort();
            all
        };
        record("a", 200);
        record("a", 500);
        record("b", 200);
        table.sweep(Instant::now());
        tokio::time::advance(IDLE_LIMIT / 2).await;
        record("a", 200);
        table.sweep(Instant::now());
        tokio::time::advance(IDLE_LIMIT / 2).await;
        table.sweep(Instant::now());
        assert_eq!(backends(), [("a".to_owned(), 200), ("a".to_owned(), 500)]);
        let held = table.series(&labels("a", 200));
        tokio::time::advance(IDLE_LIMIT).await;
        table.sweep(Instant::now());
        assert_eq!(backends(), [("a".to_owned(), 200)], "one that is held stays");
        drop(held);
        table.sweep(Instant::now());
        assert!(backends().is_empty());
        record("a", 200);
        assert_eq!(table.all()[0].durations.count(), 1, "it begins anew");
    }
}
