//! Answers on the wire, and back: what one replica tells another is read as it was counted. Pure.

use std::time::Duration;

use heddle_proto::telemetry as wire;

use crate::telemetry::labels::{Direction, Transport};
use crate::telemetry::latency::Latency;
use crate::telemetry::proxy::Workload;
use crate::telemetry::query::{Counted, Edge, Grouping, Key, Query, StepTotals, Totals};
use crate::telemetry::series::Step;

/// Reads what is asked; the error says what is wrong with it.
pub fn query(request: &wire::QueryRequest) -> Result<Query, String> {
    let grouping = match request.group_by() {
        wire::Grouping::Workload => Grouping::Workload,
        wire::Grouping::Pod => Grouping::Pod,
        wire::Grouping::Service => Grouping::Service,
        wire::Grouping::Backend => Grouping::Backend,
        wire::Grouping::Route => Grouping::Route,
        wire::Grouping::Edge => Grouping::Edge,
        wire::Grouping::Unspecified => return Err("what is to be counted together?".to_owned()),
    };
    let window = request.window_seconds;
    let steps = Query::steps_of(window).ok_or_else(|| {
        format!(
            "the memory is of one hour in steps of 10 s: {window} s is no window (want 10 to 3600)"
        )
    })?;
    let namespace = Some(request.namespace.clone()).filter(|name| !name.is_empty());
    let history = Query::history_of(request.history_seconds)?;
    Ok(Query { steps, grouping, namespace, history })
}

/// The groups as they are counted; what they are of is not added.
pub fn to_wire(counted: Counted) -> wire::QueryResponse {
    let groups = counted.groups.into_iter().map(|(key, totals)| group(key, &totals));
    wire::QueryResponse {
        groups: groups.collect(),
        covered_seconds: counted.covered.as_secs_f64(),
        proxies: counted.proxies,
        silent_replicas: Vec::new(),
        history: counted.history.map(|(first, last)| wire::History {
            first_began_seconds: first.began_seconds(),
            last_began_seconds: last.began_seconds(),
        }),
    }
}

/// What another replica told. Groups that make no sense are left out: it may be of another version.
pub fn from_wire(response: wire::QueryResponse) -> Counted {
    let groups = response.groups.into_iter().filter_map(read_group);
    Counted {
        groups: groups.collect(),
        covered: Duration::try_from_secs_f64(response.covered_seconds).unwrap_or_default(),
        proxies: response.proxies,
        history: response.history.map(|history| {
            (
                Step::of_second(history.first_began_seconds),
                Step::of_second(history.last_began_seconds),
            )
        }),
    }
}

/// A group with its quantiles.
pub fn group(key: Key, totals: &Totals) -> wire::Group {
    wire::Group {
        key: Some(key_to_wire(key)),
        requests: Some(wire::Requests {
            count: totals.requests,
            failures: totals.failures,
            mtls: totals.mtls_requests,
            latency: Some(latency_to_wire(&totals.latency)),
        }),
        tcp: Some(wire::Tcp {
            connections: totals.connections,
            mtls: totals.mtls_connections,
            to_server_bytes: totals.to_server_bytes,
            to_client_bytes: totals.to_client_bytes,
            open_connections: totals.open_connections,
        }),
        population: None,
        own_time: Some(wire::OwnTime {
            inbound: own_time_to_wire(&totals.own_time_inbound),
            outbound: own_time_to_wire(&totals.own_time_outbound),
        }),
        steps: totals.steps.iter().map(|(step, counted)| step_to_wire(*step, *counted)).collect(),
    }
}

fn latency_to_wire(latency: &Latency) -> wire::Latency {
    wire::Latency {
        scale: latency.scale().into(),
        zero_count: latency.zero(),
        indices: latency.buckets().iter().map(|(index, _)| *index).collect(),
        counts: latency.buckets().iter().map(|(_, count)| *count).collect(),
        p50_seconds: latency.quantile(0.5),
        p95_seconds: latency.quantile(0.95),
        p99_seconds: latency.quantile(0.99),
    }
}

fn own_time_to_wire(own_time: &Latency) -> Option<wire::Latency> {
    (!own_time.is_empty()).then(|| latency_to_wire(own_time))
}

fn step_to_wire(step: Step, counted: StepTotals) -> wire::StepCounts {
    wire::StepCounts {
        began_seconds: step.began_seconds(),
        requests: counted.requests,
        failures: counted.failures,
    }
}

/// A group as another replica counted it; `None`: it makes no sense.
pub(super) fn read_group(group: wire::Group) -> Option<(Key, Totals)> {
    let requests = group.requests.unwrap_or_default();
    let tcp = group.tcp.unwrap_or_default();
    let own_time = group.own_time.unwrap_or_default();
    let totals = Totals {
        requests: requests.count,
        failures: requests.failures,
        mtls_requests: requests.mtls,
        latency: read_latency(requests.latency.unwrap_or_default())?,
        own_time_inbound: own_time.inbound.map_or(Some(Latency::default()), read_latency)?,
        own_time_outbound: own_time.outbound.map_or(Some(Latency::default()), read_latency)?,
        connections: tcp.connections,
        mtls_connections: tcp.mtls,
        to_server_bytes: tcp.to_server_bytes,
        to_client_bytes: tcp.to_client_bytes,
        open_connections: tcp.open_connections,
        steps: group.steps.iter().map(read_step).collect(),
    };
    Some((read_key(group.key?)?, totals))
}

fn read_latency(latency: wire::Latency) -> Option<Latency> {
    let in_order = latency.indices.is_sorted_by(|one, next| one < next);
    if latency.indices.len() != latency.counts.len() || !in_order {
        return None;
    }
    let buckets = latency.indices.into_iter().zip(latency.counts).collect();
    Latency::new(i8::try_from(latency.scale).ok()?, latency.zero_count, buckets)
}

fn read_step(told: &wire::StepCounts) -> (Step, StepTotals) {
    let counted = StepTotals { requests: told.requests, failures: told.failures };
    (Step::of_second(told.began_seconds), counted)
}

fn key_to_wire(key: Key) -> wire::Key {
    let Key { namespace, workload, pod, service, backend, route, edge } = key;
    let (side, client_identity, transport) = match edge {
        None => (wire::Side::Unspecified, String::new(), wire::Transport::Unspecified),
        Some(Edge { told, client_identity, transport }) => {
            let side = match told {
                Direction::Outbound => wire::Side::Client,
                Direction::Inbound => wire::Side::Server,
            };
            let transport = match transport {
                Transport::Mtls => wire::Transport::Mtls,
                Transport::Plaintext => wire::Transport::Plaintext,
            };
            (side, client_identity, transport)
        }
    };
    wire::Key {
        workload_kind: workload.kind,
        namespace,
        workload: workload.name,
        pod,
        service,
        backend,
        route,
        side: side.into(),
        client_identity,
        transport: transport.into(),
    }
}

fn read_key(key: wire::Key) -> Option<Key> {
    let told = match key.side() {
        wire::Side::Unspecified => None,
        wire::Side::Client => Some(Direction::Outbound),
        wire::Side::Server => Some(Direction::Inbound),
    };
    let transport = match key.transport() {
        wire::Transport::Mtls => Some(Transport::Mtls),
        wire::Transport::Plaintext => Some(Transport::Plaintext),
        wire::Transport::Unspecified => None,
    };
    let wire::Key {
        workload_kind,
        namespace,
        workload,
        pod,
        service,
        backend,
        route,
        side: _,
        client_identity,
        transport: _,
    } = key;
    let edge = match (told, transport) {
        (None, None) => None,
        (Some(told), Some(transport)) => Some(Edge { told, client_identity, transport }),
        (None, Some(_)) | (Some(_), None) => return None,
    };
    // A workload is in its group's namespace.
    let of_workload = if workload_kind.is_empty() { String::new() } else { namespace.clone() };
    let workload = Workload { kind: workload_kind, namespace: of_workload, name: workload };
    Some(Key { namespace, workload, pod, service, backend, route, edge })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_replica_tells_is_what_another_reads() {
        let workload = Workload {
            kind: "Deployment".to_owned(),
            namespace: "shop".to_owned(),
            name: "api".to_owned(),
        };
        let edge = |told, transport| {
            Some(Edge { told, client_identity: "spiffe://a/ns/b/sa/c".to_owned(), transport })
        };
        let of_workload = |edge| Key {
            namespace: "shop".to_owned(),
            workload: workload.clone(),
            pod: "api-1".to_owned(),
            edge,
            ..Key::default()
        };
        let of_service = Key {
            namespace: "shop".to_owned(),
            service: "shop/api:80".to_owned(),
            backend: "shop/v2:80".to_owned(),
            route: "canary".to_owned(),
            ..Key::default()
        };
        let totals = Totals {
            requests: 7,
            failures: 1,
            mtls_requests: 6,
            latency: Latency::new(2, 1, vec![(-9, 4), (3, 2)]).unwrap(),
            own_time_inbound: Latency::new(2, 0, vec![(-40, 1)]).unwrap(),
            own_time_outbound: Latency::default(),
            connections: 3,
            mtls_connections: 2,
            to_server_bytes: 10,
            to_client_bytes: 20,
            open_connections: 1,
            steps: [(Step(9), StepTotals { requests: 7, failures: 1 })].into(),
        };
        let counted = Counted {
            groups: [
                of_workload(None),
                of_workload(edge(Direction::Inbound, Transport::Plaintext)),
                of_workload(edge(Direction::Outbound, Transport::Mtls)),
                of_service,
            ]
            .map(|key| (key, totals.clone()))
            .into(),
            covered: Duration::from_millis(61_500),
            proxies: 3,
            history: Some((Step(8), Step(11))),
        };
        assert_eq!(from_wire(to_wire(counted.clone())), counted);
    }

    #[test]
    fn a_group_that_makes_no_sense_is_left_out() {
        let latency = |indices: &[i32], counts: &[u64], scale| wire::Latency {
            scale,
            indices: indices.to_vec(),
            counts: counts.to_vec(),
            ..Default::default()
        };
        for (case, latency, side, kept) in [
            ("good", latency(&[1, 2], &[1, 1], 3), wire::Side::Unspecified, 1),
            ("half a bucket", latency(&[1, 2], &[1], 3), wire::Side::Unspecified, 0),
            ("out of order", latency(&[2, 1], &[1, 1], 3), wire::Side::Unspecified, 0),
            ("twice", latency(&[1, 1], &[1, 1], 3), wire::Side::Unspecified, 0),
            ("a scale of no use", latency(&[], &[], 90), wire::Side::Unspecified, 0),
            ("half an edge", latency(&[], &[], 3), wire::Side::Client, 0),
        ] {
            let group = wire::Group {
                key: Some(wire::Key { side: side.into(), ..Default::default() }),
                requests: Some(wire::Requests { latency: Some(latency), ..Default::default() }),
                ..Default::default()
            };
            let response = wire::QueryResponse { groups: vec![group], ..Default::default() };
            assert_eq!(from_wire(response).groups.len(), kept, "case: {case}");
        }
    }

    #[test]
    fn a_question_without_a_grouping_or_with_another_window_is_refused() {
        let ask = |window_seconds, group_by: wire::Grouping| {
            query(&wire::QueryRequest {
                window_seconds,
                group_by: group_by.into(),
                namespace: String::new(),
                history_seconds: 0,
            })
        };
        for (window, expected) in [(10, Some(1)), (60, Some(6)), (65, Some(7)), (3600, Some(360))] {
            let found = ask(window, wire::Grouping::Edge).ok().map(|query| query.steps);
            assert_eq!(found, expected, "case: {window}");
        }
        for window in [0, 9, 3601, u32::MAX] {
            let error = ask(window, wire::Grouping::Pod).unwrap_err();
            assert!(error.contains("want 10 to 3600"), "{error}");
        }
        assert!(ask(60, wire::Grouping::Unspecified).is_err());
        for (history_seconds, expected) in
            [(0, Some(None)), (5, Some(Some(1))), (300, Some(Some(30))), (601, None)]
        {
            let request = wire::QueryRequest {
                window_seconds: 60,
                group_by: wire::Grouping::Pod.into(),
                namespace: String::new(),
                history_seconds,
            };
            let found = query(&request).ok().map(|query| query.history);
            assert_eq!(found, expected, "case: {history_seconds}");
        }
    }
}
