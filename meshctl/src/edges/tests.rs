//! What edges are for machines, by an example that other tests show too.

use std::time::Duration;

use heddle_proto::telemetry as wire;
use heddle_report::edges::EdgesReport;

const FRONTEND: &str = "spiffe://cluster.local/ns/shop/sa/frontend";
const API: &str = "spiffe://cluster.local/ns/shop/sa/api";
const JOB: &str = "spiffe://cluster.local/ns/batch/sa/job";

fn group(
    side: wire::Side,
    (workload, backend, identity): (&str, &str, &str),
    transport: wire::Transport,
    count: u64,
    pods: Option<(u32, u32)>,
) -> wire::Group {
    wire::Group {
        key: Some(wire::Key {
            workload_kind: "Deployment".to_owned(),
            namespace: "shop".to_owned(),
            workload: workload.to_owned(),
            backend: backend.to_owned(),
            side: side.into(),
            client_identity: identity.to_owned(),
            transport: transport.into(),
            ..Default::default()
        }),
        requests: Some(wire::Requests { count, ..Default::default() }),
        tcp: None,
        population: pods.map(|(meshed, pods)| wire::Population {
            pods,
            meshed,
            identities: if meshed > 0 { vec![API.to_owned()] } else { Vec::new() },
        }),
        ..Default::default()
    }
}

pub(crate) fn report() -> EdgesReport {
    use wire::Side::{Client, Server};
    use wire::Transport::{Mtls, Plaintext};
    let response = wire::QueryResponse {
        groups: vec![
            group(Client, ("frontend", "shop/api:80", FRONTEND), Mtls, 100, Some((2, 2))),
            group(Client, ("frontend", "shop/old:80", FRONTEND), Plaintext, 5, Some((0, 1))),
            group(Client, ("frontend", "shop/half:80", FRONTEND), Mtls, 6, Some((1, 2))),
            group(Client, ("frontend", "shop/half:80", FRONTEND), Plaintext, 4, Some((1, 2))),
            group(Client, ("frontend", "passthrough", FRONTEND), Plaintext, 1, None),
            group(Client, ("frontend", "shop/idle:80", FRONTEND), Mtls, 0, Some((1, 1))),
            // The server says the same as the client did.
            group(Server, ("api", "", FRONTEND), Mtls, 100, Some((2, 2))),
            // The client's proxy told nothing, and another client has none.
            group(Server, ("api", "", JOB), Mtls, 7, Some((2, 2))),
            group(Server, ("api", "", ""), Plaintext, 2, Some((2, 2))),
        ],
        covered_seconds: 60.0,
        proxies: 3,
        silent_replicas: Vec::new(),
        history: None,
    };
    EdgesReport::new(response, Duration::from_secs(60))
}

#[test]
fn edges_for_machines_have_stable_fields() {
    insta::assert_snapshot!(crate::output::json(&report(), false).unwrap());
}
