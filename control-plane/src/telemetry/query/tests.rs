//! Tests of what is counted together.

use super::*;
use crate::metrics::Metrics;
use crate::telemetry::outcome::Outcome;
use crate::telemetry::point::{Point, Value};

fn at(second: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(second)
}

fn origin(namespace: &str, name: &str, replica: u32) -> Origin {
    Origin {
        pod_uid: format!("{namespace}-{name}-{replica}").parse().unwrap(),
        identity: format!("spiffe://cluster.local/ns/{namespace}/sa/{name}").parse().unwrap(),
        workload: Workload {
            kind: "Deployment".to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        },
        pod: format!("{name}-{replica}"),
    }
}

fn labels(direction: Direction, service: &str, backend: &str, route: &str) -> Labels {
    Labels {
        direction,
        service: service.into(),
        backend: backend.into(),
        route: route.into(),
        peer: "".into(),
        transport: Transport::Mtls,
    }
}

fn inbound(peer: &str) -> Labels {
    let transport = if peer.is_empty() { Transport::Plaintext } else { Transport::Mtls };
    Labels { peer: peer.into(), transport, ..labels(Direction::Inbound, "", "", "") }
}

fn tell(memory: &Memory, origin: &Origin, told: &[(Labels, Outcome, u64)], second: u64) {
    let point = |(labels, outcome, count): &(Labels, Outcome, u64)| {
        let mut fingerprint = [0; 16];
        let text = format!("{labels:?}{outcome:?}");
        for (index, byte) in text.bytes().enumerate() {
            fingerprint[index % 16] = byte.wrapping_mul(31).wrapping_add(fingerprint[index % 16]);
        }
        Point {
            fingerprint,
            labels: labels.clone(),
            start_nanos: (second - 5) * 1_000_000_000,
            time_nanos: second * 1_000_000_000,
            value: Value::Requests(*outcome, Latency::new(3, 0, vec![(-40, *count)]).unwrap()),
        }
    };
    let refused = memory.take(origin.clone(), told.iter().map(point).collect(), at(second));
    assert_eq!(refused, []);
}

/// A frontend of one pod asks an api of two pods, by a route to two versions; somebody without a proxy does, too.
fn shop() -> Memory {
    let memory = Memory::new(at(1000), 1 << 20, Metrics::default());
    let frontend = origin("shop", "frontend", 1);
    let to = |backend| labels(Direction::Outbound, "back/api:80", backend, "canary");
    tell(
        &memory,
        &frontend,
        &[
            (to("back/v1:80"), Outcome::Succeeded, 90),
            (to("back/v1:80"), Outcome::Failed, 2),
            (to("back/v2:80"), Outcome::Succeeded, 8),
            (labels(Direction::Outbound, "", "passthrough", ""), Outcome::Succeeded, 3),
        ],
        1003,
    );
    let peer = "spiffe://cluster.local/ns/shop/sa/frontend";
    for (replica, count) in [(1, 60), (2, 40)] {
        let told =
            [(inbound(peer), Outcome::Succeeded, count), (inbound(""), Outcome::Succeeded, 1)];
        tell(&memory, &origin("back", "api", replica), &told, 1013);
    }
    memory
}

async fn asked(memory: &Memory, grouping: Grouping, namespace: Option<&str>) -> Vec<String> {
    let namespace = namespace.map(str::to_owned);
    let query = Query { steps: 6, grouping, namespace, history: None };
    let counted = count(memory, &query, at(1025)).await;
    let line = |(key, totals): (&Key, &Totals)| {
        let Key { namespace, workload, pod, service, backend, route, edge } = key;
        let edge = edge.as_ref().map(|edge| format!("{:?} {}", edge.told, edge.client_identity));
        let parts = [namespace, &workload.name, pod, service, backend, route];
        let parts: Vec<&str> = parts
            .into_iter()
            .map(String::as_str)
            .chain(edge.as_deref())
            .filter(|part| !part.is_empty())
            .collect();
        let Totals { requests, failures, mtls_requests, .. } = totals;
        format!("{}: {requests} {failures} {mtls_requests}", parts.join(" "))
    };
    counted.groups.iter().map(line).collect()
}

#[tokio::test]
async fn traffic_is_counted_by_what_is_asked_about() {
    let memory = shop();
    for (case, grouping, namespace, expected) in [
        ("workloads", Grouping::Workload, None, vec!["back api: 102 0 100"]),
        ("pods", Grouping::Pod, None, vec!["back api api-1: 61 0 60", "back api api-2: 41 0 40"]),
        ("services", Grouping::Service, None, vec!["back back/api:80: 100 2 100"]),
        ("another namespace", Grouping::Service, Some("shop"), vec![]),
        (
            "backends",
            Grouping::Backend,
            Some("back"),
            vec!["back back/api:80 back/v1:80: 92 2 92", "back back/api:80 back/v2:80: 8 0 8"],
        ),
        ("routes", Grouping::Route, None, vec!["back back/api:80 canary: 100 2 100"]),
        (
            "edges that end there",
            Grouping::Edge,
            Some("back"),
            vec![
                "back api Inbound : 2 0 0",
                "back api Inbound spiffe://cluster.local/ns/shop/sa/frontend: 100 0 100",
                "shop frontend back/v1:80 Outbound spiffe://cluster.local/ns/shop/sa/frontend: 92 2 92",
                "shop frontend back/v2:80 Outbound spiffe://cluster.local/ns/shop/sa/frontend: 8 0 8",
            ],
        ),
        (
            "edges that begin there",
            Grouping::Edge,
            Some("shop"),
            vec![
                "shop frontend back/v1:80 Outbound spiffe://cluster.local/ns/shop/sa/frontend: 92 2 92",
                "shop frontend back/v2:80 Outbound spiffe://cluster.local/ns/shop/sa/frontend: 8 0 8",
                "shop frontend passthrough Outbound spiffe://cluster.local/ns/shop/sa/frontend: 3 0 3",
            ],
        ),
    ] {
        assert_eq!(asked(&memory, grouping, namespace).await, expected, "case: {case}");
    }
}

#[tokio::test]
async fn a_window_begins_with_a_step_and_ends_now() {
    let memory = shop();
    for (case, steps, now, requests, covered, proxies) in [
        ("all", 360, 1025, 102, 25, 3),
        ("the last steps", 1, 1025, 102, 15, 2),
        ("the step that has begun", 0, 1015, 102, 10, 2),
        ("what is too old", 1, 1035, 0, 15, 0),
    ] {
        let query = Query { steps, grouping: Grouping::Workload, namespace: None, history: None };
        let counted = count(&memory, &query, at(now)).await;
        let found: u64 = counted.groups.values().map(|totals| totals.requests).sum();
        assert_eq!(found, requests, "case: {case}");
        assert_eq!(counted.covered, Duration::from_secs(covered), "case: {case}");
        assert_eq!(counted.proxies, proxies, "case: {case}");
    }
}

#[tokio::test]
async fn what_a_proxy_takes_itself_is_told_of_its_workload_and_of_no_edge() {
    let memory = Memory::new(at(1000), 1 << 20, Metrics::default());
    let api = origin("back", "api", 1);
    let own_time = |fingerprint: u8, direction, index| Point {
        fingerprint: [fingerprint; 16],
        labels: Labels { transport: Transport::Plaintext, ..labels(direction, "", "", "") },
        start_nanos: 1_000_000_000_000,
        time_nanos: 1_003_000_000_000,
        value: Value::OwnTime(Latency::new(3, 0, vec![(index, 5)]).unwrap()),
    };
    let points = vec![own_time(1, Direction::Inbound, -80), own_time(2, Direction::Outbound, -72)];
    assert_eq!(memory.take(api.clone(), points, at(1003)), []);
    let to = labels(Direction::Outbound, "back/db:80", "back/db:80", "");
    tell(&memory, &api, &[(to, Outcome::Succeeded, 7)], 1003);
    for (grouping, expected) in [
        (Grouping::Workload, vec![(0, Some(-80), Some(-72))]),
        (Grouping::Pod, vec![(0, Some(-80), Some(-72))]),
        (Grouping::Service, vec![(7, None, None)]),
        (Grouping::Edge, vec![(7, None, None)]),
    ] {
        let query = Query { steps: 6, grouping, namespace: None, history: None };
        let counted = count(&memory, &query, at(1025)).await;
        let first = |latency: &Latency| latency.buckets().first().map(|(index, _)| *index);
        let found = counted.groups.values().map(|totals| {
            let inbound = first(&totals.own_time_inbound);
            (totals.requests, inbound, first(&totals.own_time_outbound))
        });
        assert_eq!(found.collect::<Vec<_>>(), expected, "case: {grouping:?}");
    }
}

#[tokio::test]
async fn a_history_tells_steps_one_by_one_beside_the_window() {
    let memory = shop();
    let peer = "spiffe://cluster.local/ns/shop/sa/frontend";
    let told = [(inbound(peer), Outcome::Failed, 5)];
    tell(&memory, &origin("back", "api", 1), &told, 1033);
    let told = |(step, counted): (&Step, &StepTotals)| (step.0, counted.requests, counted.failures);
    for (case, history, expected) in [
        ("none", None, vec![]),
        ("all", Some(9), vec![(101, 102, 0), (103, 5, 5)]),
        ("the last steps", Some(1), vec![(103, 5, 5)]),
    ] {
        let query = Query { steps: 1, grouping: Grouping::Workload, namespace: None, history };
        let counted = count(&memory, &query, at(1041)).await;
        let totals = counted.groups.values().next().unwrap();
        assert_eq!(totals.requests, 5, "the window is as it was: case: {case}");
        assert_eq!(totals.steps.iter().map(told).collect::<Vec<_>>(), expected, "case: {case}");
        let first = history.map(|steps| (104_u32 - steps).max(memory.floor().0));
        assert_eq!(counted.history, first.map(|first| (Step(first), Step(104))), "case: {case}");
    }
}

#[tokio::test]
async fn what_is_open_is_open_as_long_as_its_proxy_is_heard() {
    let memory = Memory::new(at(1000), 1 << 20, Metrics::default());
    let point = Point {
        fingerprint: [1; 16],
        labels: labels(Direction::Outbound, "shop/db:5432", "shop/db:5432", ""),
        start_nanos: 1,
        time_nanos: 1_003_000_000_000,
        value: Value::OpenConnections(4),
    };
    memory.take(origin("shop", "api", 1), vec![point], at(1003));
    let query = Query { steps: 1, grouping: Grouping::Service, namespace: None, history: None };
    for (now, open) in [(1003, Some(4)), (1100, Some(4)), (1124, None)] {
        let counted = count(&memory, &query, at(now)).await;
        let found = counted.groups.values().next().map(|totals| totals.open_connections);
        assert_eq!(found, open, "case: {now}");
    }
}

#[test]
fn shares_of_replicas_add_up() {
    let share = |requests, index| {
        let latency = Latency::new(3, 0, vec![(index, requests)]).unwrap();
        let totals = Totals { requests, latency, ..Totals::default() };
        Counted {
            groups: Groups::from([(Key::default(), totals)]),
            covered: Duration::from_secs(requests),
            proxies: 1,
            history: None,
        }
    };
    let mut counted = share(10, 1);
    counted.add(share(30, 2));
    let totals = &counted.groups[&Key::default()];
    assert_eq!((totals.requests, totals.latency.buckets()), (40, &[(1, 10), (2, 30)][..]));
    assert_eq!((counted.covered, counted.proxies), (Duration::from_secs(30), 2));
}
