//! What traffic is for machines, by an example that other tests show too.

use std::time::Duration;

use heddle_proto::telemetry as wire;
use heddle_report::stat::{Row, StatReport, Subject, What};

/// A busy deployment of which one pod of three has no proxy, and a silent pod.
pub(crate) fn response() -> wire::QueryResponse {
    let key = |kind: &str, name: &str| wire::Key {
        workload_kind: kind.to_owned(),
        namespace: "shop".to_owned(),
        workload: name.to_owned(),
        ..Default::default()
    };
    let busy = wire::Group {
        key: Some(key("Deployment", "api")),
        requests: Some(wire::Requests {
            count: 1230,
            failures: 3,
            mtls: 1000,
            latency: Some(wire::Latency {
                p50_seconds: Some(0.0042),
                p95_seconds: Some(0.087),
                p99_seconds: Some(1.25),
                ..Default::default()
            }),
        }),
        tcp: Some(wire::Tcp {
            connections: 20,
            mtls: 0,
            to_server_bytes: 2048,
            to_client_bytes: 5_500_000,
            open_connections: 4,
        }),
        population: Some(wire::Population { pods: 3, meshed: 2, identities: Vec::new() }),
        own_time: Some(wire::OwnTime {
            inbound: Some(wire::Latency {
                p50_seconds: Some(0.00012),
                p95_seconds: Some(0.0003),
                p99_seconds: Some(0.0021),
                ..Default::default()
            }),
            outbound: None,
        }),
        ..Default::default()
    };
    let silent = wire::Group {
        key: Some(key("Pod", "client")),
        requests: Some(wire::Requests::default()),
        tcp: Some(wire::Tcp::default()),
        population: Some(wire::Population { pods: 1, meshed: 1, identities: Vec::new() }),
        ..Default::default()
    };
    wire::QueryResponse {
        groups: vec![busy, silent],
        covered_seconds: 61.5,
        proxies: 3,
        silent_replicas: Vec::new(),
        history: None,
    }
}

pub(crate) fn report(what: What, name: Option<&str>) -> StatReport {
    let subject = Subject { what, name: name.map(str::to_owned) };
    StatReport::new(response(), &subject, Duration::from_secs(60))
}

#[test]
fn traffic_for_machines_has_stable_fields() {
    let text = crate::output::json(&report(What::Workloads(None), None), false).unwrap();
    insta::assert_snapshot!(text);
}

#[test]
fn what_is_named_is_shown() {
    for (case, what, name, expected) in [
        ("all", What::Workloads(None), None, vec!["deployment/api", "pod/client"]),
        ("a kind", What::Workloads(Some("Deployment")), None, vec!["deployment/api"]),
        ("a name", What::Workloads(None), Some("client"), vec!["pod/client"]),
        ("nobody's name", What::Workloads(None), Some("cli"), vec![]),
    ] {
        let titles: Vec<_> = report(what, name).rows.iter().map(Row::title).collect();
        assert_eq!(titles, expected, "case: {case}");
    }
}

#[test]
fn services_backends_and_routes_have_names_of_their_own() {
    let key = wire::Key {
        namespace: "shop".to_owned(),
        service: "shop/api:80".to_owned(),
        backend: "shop/v2:80".to_owned(),
        route: "canary".to_owned(),
        ..Default::default()
    };
    let of_service = wire::Key { backend: String::new(), route: String::new(), ..key.clone() };
    let of_backend = wire::Key { route: String::new(), ..key.clone() };
    let of_route = wire::Key { backend: String::new(), ..key };
    for (what, key, title, name) in [
        (What::Services, of_service, "service/api:80", "api"),
        (What::Backends, of_backend, "backend/v2:80", "v2:80"),
        (What::Routes, of_route, "route/canary", "canary"),
    ] {
        let response = wire::QueryResponse {
            groups: vec![wire::Group { key: Some(key), ..Default::default() }],
            ..Default::default()
        };
        let subject = Subject { what, name: Some(name.to_owned()) };
        let report = StatReport::new(response, &subject, Duration::from_secs(60));
        let titles: Vec<_> = report.rows.iter().map(Row::title).collect();
        assert_eq!(titles, [title]);
    }
}
